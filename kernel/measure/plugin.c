// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin for QEMU's TCG that counts the instructions of each virtual CPU, apart for kernel and user space, and writes them down
 * whenever the guest executes the marker (client.c). With profile=CPU it also writes, after each mark, what that CPU executed
 * since the last one: a line "at ADDRESS INSTRUCTIONS" for each block of code that ran. A string instruction with a REP prefix
 * counts as one, as the counters of a processor have it; QEMU goes through it as often as it repeats. Debian's QEMU has plugins enabled and ships no header, so what is used of
 * version 1 of their interface (include/qemu/qemu-plugin.h) is declared here.
 *
 *	gcc -shared -fPIC -O2 -o plugin.so plugin.c
 *	qemu-system-x86_64 -plugin ./plugin.so,out=FILE[,profile=CPU] ...
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
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
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);

#define EXPORT __attribute__((visibility("default")))
#define CPUS 16

EXPORT int qemu_plugin_version = 1;

static uint64_t counts[CPUS][2];
/* Address of the last instruction of the block that each CPU executed last. */
static uint64_t last[CPUS];
static const uint8_t marker[] = { 0x66, 0x45, 0x87, 0xed };
static FILE *out;

/* A block of code: it is translated anew now and then, so it is found by where it starts. Never freed. */
static struct block {
	struct block *next;
	uint64_t at, end;
	size_t n;
	bool repeats;
	/* Instructions that the profiled CPU executed here since the last mark. */
	uint64_t profiled;
} *blocks[1 << 16];
static int profiled = -1;

static struct block *block_at(uint64_t at, uint64_t end, size_t n, bool repeats)
{
	struct block **chain = &blocks[(at ^ at >> 16) & 0xffff], *b;

	for (b = *chain; b; b = b->next)
		if (b->at == at && b->end == end && b->n == n && b->repeats == repeats)
			return b;
	b = calloc(1, sizeof(*b));
	if (!b)
		abort();
	*b = (struct block){ *chain, at, end, n, repeats, 0 };
	return *chain = b;
}

static void on_block(unsigned int cpu, void *block)
{
	struct block *b = block;

	/* The next round of a REP that was counted when it began. */
	if (b->repeats && last[cpu % CPUS] == b->at)
		return;
	last[cpu % CPUS] = b->end;
	counts[cpu % CPUS][b->at >> 63 ? 0 : 1] += b->n;
	if ((int)cpu == profiled)
		b->profiled += b->n;
}

static void write_profile(void)
{
	struct block *b;
	size_t i;

	for (i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++)
		for (b = blocks[i]; b; b = b->next) {
			if (b->profiled)
				fprintf(out, "at %llx %llu\n", (unsigned long long)b->at, (unsigned long long)b->profiled);
			b->profiled = 0;
		}
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

static void on_mark(unsigned int cpu, void *unused)
{
	int i;

	(void)cpu;
	(void)unused;
	fprintf(out, "mark");
	for (i = 0; i < CPUS; i++)
		fprintf(out, " %llu %llu", (unsigned long long)counts[i][0], (unsigned long long)counts[i][1]);
	fprintf(out, "\n");
	write_profile();
	fflush(out);
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb), i;
	struct qemu_plugin_insn *first = qemu_plugin_tb_get_insn(tb, 0);
	bool kernel = qemu_plugin_tb_vaddr(tb) >> 63;
	uint64_t at = qemu_plugin_tb_vaddr(tb), end = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, n - 1));

	(void)id;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, QEMU_PLUGIN_CB_NO_REGS,
					     block_at(at, end, n, n == 1 && repeats(qemu_plugin_insn_data(first),
										     qemu_plugin_insn_size(first))));
	for (i = 0; !kernel && i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

		if (qemu_plugin_insn_size(insn) == sizeof(marker) && !memcmp(qemu_plugin_insn_data(insn), marker, sizeof(marker)))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_mark, QEMU_PLUGIN_CB_NO_REGS, NULL);
	}
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	(void)info;
	for (; argc > 0; argc--, argv++)
		if (!strncmp(argv[0], "out=", 4))
			out = fopen(argv[0] + 4, "w");
		else if (!strncmp(argv[0], "profile=", 8))
			profiled = atoi(argv[0] + 8);
	if (!out)
		return -1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
	return 0;
}
