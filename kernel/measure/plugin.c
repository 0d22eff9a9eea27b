// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin for QEMU's TCG that counts the instructions of one task of the guest, apart for kernel and user space, interrupts and
 * softirqs that come while it runs included, and writes them down whenever the guest asks. For one virtual CPU.
 *
 * Which task runs, it learns at the one place where x86-64 Linux changes stacks, in __switch_to_asm:
 *	mov %rsp, disp(%rdi)
 *	mov disp(%rsi), %rsp
 * The address that the second one reads lies in the next task's task_struct, and tells tasks apart. Two instructions that no
 * compiler writes are the guest's words to the plugin (client.c): "this task is the one" and "write down".
 *
 * Debian's QEMU has plugins enabled and ships no header, so what is used of version 1 of their interface
 * (include/qemu/qemu-plugin.h) is declared here.
 *
 *	gcc -shared -fPIC -O2 -o plugin.so plugin.c
 *	qemu-system-x86_64 -smp 1 -icount shift=0,sleep=off -plugin ./plugin.so,out=FILE ...
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*cb)(unsigned int, void *),
					  enum qemu_plugin_cb_flags flags, void *userdata);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, void (*cb)(unsigned int, void *),
					    enum qemu_plugin_cb_flags flags, void *userdata);
typedef uint32_t qemu_plugin_meminfo_t;
enum qemu_plugin_mem_rw { QEMU_PLUGIN_MEM_R = 1 };
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn, void (*cb)(unsigned int, qemu_plugin_meminfo_t, uint64_t, void *),
				      enum qemu_plugin_cb_flags flags, enum qemu_plugin_mem_rw rw, void *userdata);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = 1;

/* "This task is the one": xchg %r14w, %r14w. "Write down": xchg %r13w, %r13w. */
static const uint8_t chosen[] = { 0x66, 0x45, 0x87, 0xf6 };
static const uint8_t marker[] = { 0x66, 0x45, 0x87, 0xed };
/* mov disp32(%rsi), %rsp */
static const uint8_t next_stack[] = { 0x48, 0x8b, 0xa6 };

static uint64_t current, task, counts[2];
static FILE *out;

static void on_kernel(unsigned int cpu, void *n)
{
	(void)cpu;
	if (current == task)
		counts[0] += (uintptr_t)n;
}

static void on_user(unsigned int cpu, void *n)
{
	(void)cpu;
	if (current == task)
		counts[1] += (uintptr_t)n;
}

static void on_switch(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address, void *unused)
{
	(void)cpu;
	(void)info;
	(void)unused;
	current = address;
}

static void on_chosen(unsigned int cpu, void *unused)
{
	(void)cpu;
	(void)unused;
	task = current;
}

static void on_mark(unsigned int cpu, void *unused)
{
	(void)cpu;
	(void)unused;
	fprintf(out, "mark %llu %llu\n", (unsigned long long)counts[0], (unsigned long long)counts[1]);
	fflush(out);
}

static bool is(const struct qemu_plugin_insn *insn, const uint8_t *bytes, size_t length, size_t size)
{
	return qemu_plugin_insn_size(insn) == size && !memcmp(qemu_plugin_insn_data(insn), bytes, length);
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb), i;
	bool kernel = qemu_plugin_tb_vaddr(tb) >> 63;

	(void)id;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, kernel ? on_kernel : on_user, QEMU_PLUGIN_CB_NO_REGS, (void *)(uintptr_t)n);
	for (i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

		if (kernel && is(insn, next_stack, sizeof(next_stack), 7))
			qemu_plugin_register_vcpu_mem_cb(insn, on_switch, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_R, NULL);
		else if (!kernel && is(insn, chosen, sizeof(chosen), sizeof(chosen)))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_chosen, QEMU_PLUGIN_CB_NO_REGS, NULL);
		else if (!kernel && is(insn, marker, sizeof(marker), sizeof(marker)))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_mark, QEMU_PLUGIN_CB_NO_REGS, NULL);
	}
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	(void)info;
	out = argc > 0 && !strncmp(argv[0], "out=", 4) ? fopen(argv[0] + 4, "w") : NULL;
	if (!out)
		return -1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
	return 0;
}
