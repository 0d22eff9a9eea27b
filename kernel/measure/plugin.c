// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin for QEMU's TCG that counts instructions, apart for who runs: the server, the client, or anybody else; each of them on
 * its own account or in softirq, which runs on the account of whoever happens to be interrupted, or has just sent; and in the
 * kernel or in user space. One virtual CPU. The counts so far are written down whenever the client says so.
 *
 * The guest speaks through instructions that no compiler writes, XCHG of a 16-bit register with itself (client.c):
 *	r13	write the counts down, and what ran since (profile=1)
 *	r15	the task that executes this is the server;	r14	... the client
 *	r12 r11	a bit of a number, 0 or 1, the highest first;	r10	that number is the address of __do_softirq
 *
 * A task is told by its task_struct: __switch_to_asm takes its stack pointer from there, in an instruction that the kernel has
 * only once, and the address of that load is seen. A softirq lasts from __do_softirq to the instruction after its call.
 *
 * A string instruction with a REP prefix counts as one, as the counters of a processor have it; QEMU goes through it as often
 * as it repeats. Debian's QEMU has plugins enabled and ships no header, so what is used of version 1 of their interface
 * (include/qemu/qemu-plugin.h) is declared here.
 *
 *	gcc -shared -fPIC -O2 -o plugin.so plugin.c
 *	qemu-system-x86_64 -plugin ./plugin.so,out=FILE[,profile=1] ...
 *
 * FILE: "mark", then kernel and user instructions of the server, the client, others; the same three again in softirq. After it,
 * with profile=1, "at ADDRESS PART INSTRUCTIONS" for each block of code that ran since the last mark, PART being the place of its
 * pair in that row.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
/* 7.2 takes a load for a store here, so loads alone would never be seen. */
enum qemu_plugin_mem_rw { QEMU_PLUGIN_MEM_RW = 3 };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*cb)(unsigned int, void *),
					  enum qemu_plugin_cb_flags flags, void *userdata);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, void (*cb)(unsigned int, void *),
					    enum qemu_plugin_cb_flags flags, void *userdata);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn,
				      void (*cb)(unsigned int, qemu_plugin_meminfo_t, uint64_t, void *),
				      enum qemu_plugin_cb_flags flags, enum qemu_plugin_mem_rw rw, void *userdata);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = 1;

enum { SERVER, CLIENT, OTHERS, TASKS };
enum { PARTS = 2 * TASKS };

static uint64_t counts[PARTS][2];
/* Which part of them the CPU works for. */
static unsigned int part = OTHERS;
/* Places in task_struct that the stack pointer comes from. */
static uint64_t current, server, client;
static uint64_t number, softirq, softirq_return;
static FILE *out;
static bool profiled;

/* A block of code: it is translated anew now and then, so it is found by where it starts. Never freed. */
static struct block {
	struct block *next;
	uint64_t at, last, end;
	size_t n;
	bool repeats;
	uint64_t ran[PARTS];
} *blocks[1 << 16], *previous;

static struct block *block_at(uint64_t at, uint64_t last, uint64_t end, size_t n, bool repeats)
{
	struct block **chain = &blocks[(at ^ at >> 16) & 0xffff], *b;

	for (b = *chain; b; b = b->next)
		if (b->at == at && b->end == end && b->n == n && b->repeats == repeats)
			return b;
	b = calloc(1, sizeof(*b));
	if (!b)
		abort();
	*b = (struct block){ .next = *chain, .at = at, .last = last, .end = end, .n = n, .repeats = repeats };
	return *chain = b;
}

static void settle_part(void)
{
	part = current == server ? SERVER : current == client ? CLIENT : OTHERS;
	if (softirq_return)
		part += TASKS;
}

static void on_block(unsigned int cpu, void *block)
{
	struct block *b = block;

	(void)cpu;
	if (b->at == softirq_return || (b->at == softirq && softirq)) {
		softirq_return = b->at == softirq && previous ? previous->end : 0;
		settle_part();
	}
	/* The next round of a REP that was counted when it began. */
	if (b->repeats && previous && previous->last == b->at)
		return;
	previous = b;
	counts[part][b->at >> 63 ? 0 : 1] += b->n;
	b->ran[part] += b->n;
}

static void on_switch(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address, void *unused)
{
	(void)cpu;
	(void)info;
	(void)unused;
	current = address;
	settle_part();
}

static void write_profile(void)
{
	struct block *b;
	size_t i;
	int p;

	for (i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++)
		for (b = blocks[i]; b; b = b->next) {
			for (p = 0; p < PARTS && profiled; p++)
				if (b->ran[p])
					fprintf(out, "at %llx %d %llu\n", (unsigned long long)b->at, p, (unsigned long long)b->ran[p]);
			memset(b->ran, 0, sizeof(b->ran));
		}
}

static void write_counts(void)
{
	int p;

	fprintf(out, "mark");
	for (p = 0; p < PARTS; p++)
		fprintf(out, " %llu %llu", (unsigned long long)counts[p][0], (unsigned long long)counts[p][1]);
	fprintf(out, "\n");
	write_profile();
	fflush(out);
}

/* MOVS, STOS and their kin behind a REP prefix. */
static bool repeats(const uint8_t *code, size_t size)
{
	bool rep = false;
	size_t i;

	for (i = 0; i < size; i++) {
		if (code[i] == 0xf2 || code[i] == 0xf3)
			rep = true;
		else if (code[i] != 0x66 && code[i] != 0x67 && (code[i] & 0xf0) != 0x40)
			break;
	}
	return rep && i == size - 1 &&
	       ((code[i] >= 0xa4 && code[i] <= 0xa7) || (code[i] >= 0xaa && code[i] <= 0xaf));
}

/* The register's number is what the guest says. */
static void on_word(unsigned int cpu, void *word)
{
	(void)cpu;
	switch ((uintptr_t)word) {
	case 13:
		write_counts();
		return;
	case 15:
		server = current;
		break;
	case 14:
		client = current;
		break;
	case 12:
	case 11:
		number = number << 1 | ((uintptr_t)word == 11);
		return;
	case 10:
		softirq = number;
	}
	settle_part();
}

/* XCHG of r8w to r15w with itself. */
static unsigned int word_of(const uint8_t *code, size_t size)
{
	if (size != 4 || code[0] != 0x66 || code[1] != 0x45 || code[2] != 0x87 || (code[3] & 0xc0) != 0xc0 ||
	    (code[3] >> 3 & 7) != (code[3] & 7))
		return 0;
	return 8 + (code[3] & 7);
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	static const uint8_t load_stack_pointer[] = { 0x48, 0x8b, 0xa6 }; /* mov rsp, [rsi + disp32] */
	size_t n = qemu_plugin_tb_n_insns(tb), i;
	uint64_t at = qemu_plugin_tb_vaddr(tb), last = at;
	struct qemu_plugin_insn *insn;
	const uint8_t *code;
	size_t size = 0;
	uintptr_t word;

	(void)id;
	for (i = 0; i < n; i++) {
		insn = qemu_plugin_tb_get_insn(tb, i);
		code = qemu_plugin_insn_data(insn);
		size = qemu_plugin_insn_size(insn);
		last = qemu_plugin_insn_vaddr(insn);
		if (at >> 63) {
			if (size == 7 && !memcmp(code, load_stack_pointer, sizeof(load_stack_pointer)))
				qemu_plugin_register_vcpu_mem_cb(insn, on_switch, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW, NULL);
		} else {
			word = word_of(code, size);
			if (word)
				qemu_plugin_register_vcpu_insn_exec_cb(insn, on_word, QEMU_PLUGIN_CB_NO_REGS, (void *)word);
		}
	}
	qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, QEMU_PLUGIN_CB_NO_REGS,
					     block_at(at, last, last + size, n, n == 1 && repeats(code, size)));
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	(void)info;
	for (; argc > 0; argc--, argv++)
		if (!strncmp(argv[0], "out=", 4))
			out = fopen(argv[0] + 4, "w");
		else if (!strcmp(argv[0], "profile=1"))
			profiled = true;
	if (!out)
		return -1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
	return 0;
}
