// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin for QEMU's TCG that counts the instructions of each virtual CPU, apart for kernel and user space, and writes them down
 * whenever the guest executes the marker (client.c). Debian's QEMU has plugins enabled and ships no header, so what is used of
 * version 1 of their interface (include/qemu/qemu-plugin.h) is declared here.
 *
 *	gcc -shared -fPIC -O2 -o plugin.so plugin.c
 *	qemu-system-x86_64 -plugin ./plugin.so,out=FILE ...
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
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);

#define EXPORT __attribute__((visibility("default")))
#define CPUS 16

EXPORT int qemu_plugin_version = 1;

static uint64_t counts[CPUS][2];
static const uint8_t marker[] = { 0x66, 0x45, 0x87, 0xed };
static FILE *out;

static void on_kernel(unsigned int cpu, void *n)
{
	counts[cpu % CPUS][0] += (uintptr_t)n;
}

static void on_user(unsigned int cpu, void *n)
{
	counts[cpu % CPUS][1] += (uintptr_t)n;
}

static void on_mark(unsigned int cpu, void *unused)
{
	int i;

	(void)cpu;
	(void)unused;
	fprintf(out, "mark");
	for (i = 0; i < CPUS; i++)
		fprintf(out, " %llu %llu", (unsigned long long)counts[i][0], (unsigned long long)counts[i][1]);
	fprintf(out, "\n");
	fflush(out);
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb), i;
	bool kernel = qemu_plugin_tb_vaddr(tb) >> 63;

	(void)id;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, kernel ? on_kernel : on_user, QEMU_PLUGIN_CB_NO_REGS, (void *)(uintptr_t)n);
	for (i = 0; !kernel && i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

		if (qemu_plugin_insn_size(insn) == sizeof(marker) && !memcmp(qemu_plugin_insn_data(insn), marker, sizeof(marker)))
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
