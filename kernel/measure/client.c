// SPDX-License-Identifier: GPL-2.0
/*
 * Starts an echo server on the last CPU, loads it from all the others (or, where there is one, from there) with 64-byte transactions over loopback, and has the
 * counting plugin (plugin.c) take its counts before and after.
 *
 * With -a: server and clients on all CPUs, and how many transactions there were in two seconds, after the warm-up.
 *
 * usage: client [-a] CONNECTIONS TRANSACTIONS-PER-CONNECTION WARM-UP TRANSACTIONS SERVER [ARG ...]
 */
#include <sys/epoll.h>

#include "../selftests/megapipe.h"

#define PORT 7000
#define BYTES 64

/* An instruction that no compiler writes: the plugin knows it. */
static void mark(void)
{
	__asm__ volatile(".byte 0x66, 0x45, 0x87, 0xed" ::: "memory");
}

static uint64_t *done;

static int reconnect(int ep, int fd)
{
	struct epoll_event e = { .events = EPOLLIN };
	/* The client ends first, as clients of such servers do. */
	if (fd >= 0)
		close(fd);
	do
		fd = connect_to(PORT);
	while (fd < 0);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	e.data.fd = fd;
	MUST(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) == 0);
	return fd;
}

static void load_from(int cpu, int connections, int each)
{
	static int left[65536];
	struct epoll_event events[64];
	char message[BYTES] = "sixty-four bytes of a transaction", reply[BYTES];
	int ep = epoll_create1(0), i, n, fd;

	pin(cpu);
	for (i = 0; i < connections; i++) {
		fd = reconnect(ep, -1);
		/* Not all at once: at any time as many connections begin and end as in the long run. */
		left[fd] = 1 + i * each / connections;
		MUST(send(fd, message, BYTES, 0) == BYTES);
	}
	for (;;) {
		n = epoll_wait(ep, events, 64, -1);
		for (i = 0; i < n; i++) {
			fd = events[i].data.fd;
			MUST(receive_all(fd, reply, BYTES));
			__atomic_fetch_add(done, 1, __ATOMIC_RELAXED);
			if (--left[fd] == 0) {
				fd = reconnect(ep, fd);
				left[fd] = each;
			}
			MUST(send(fd, message, BYTES, 0) == BYTES);
		}
	}
}

int main(int argc, char **argv)
{
	int cpus = sysconf(_SC_NPROCESSORS_ONLN), i, n = 0;
	uint64_t warm_up, transactions, start;
	bool everywhere = argc > 1 && !strcmp(argv[1], "-a");
	struct timespec from, to;
	pid_t pids[64];

	if (everywhere) {
		argc--;
		argv++;
	}
	if (argc < 6)
		return 2;
	/* On one CPU, who is woken waits for its turn: each side does all it can before the other one does. */
	if (cpus == 1)
		MUST(sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){}) == 0);
	warm_up = strtoull(argv[3], NULL, 0);
	transactions = strtoull(argv[4], NULL, 0);
	done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pids[n] = fork();
	if (pids[n++] == 0) {
		if (!everywhere && cpus > 1)
			pin(cpus - 1);
		execv(argv[5], argv + 5);
		_exit(127);
	}
	if (!everywhere && cpus > 1)
		cpus--;
	for (i = 0; i < cpus; i++) {
		pids[n] = fork();
		if (pids[n++] == 0)
			load_from(i, atoi(argv[1]) / cpus, atoi(argv[2]));
	}
	if (!everywhere)
		pin(0);
	while (__atomic_load_n(done, __ATOMIC_RELAXED) < warm_up)
		usleep(10000);
	start = __atomic_load_n(done, __ATOMIC_RELAXED);
	if (everywhere) {
		clock_gettime(CLOCK_MONOTONIC, &from);
		sleep(2);
		transactions = __atomic_load_n(done, __ATOMIC_RELAXED) - start;
		clock_gettime(CLOCK_MONOTONIC, &to);
		printf("throughput %.0f a second\n",
		       transactions / (to.tv_sec - from.tv_sec + (to.tv_nsec - from.tv_nsec) / 1e9));
	} else {
		mark();
		while (__atomic_load_n(done, __ATOMIC_RELAXED) < start + transactions)
			usleep(10000);
		mark();
		printf("measured %llu transactions\n",
		       (unsigned long long)(__atomic_load_n(done, __ATOMIC_RELAXED) - start));
	}
	while (n-- > 0) {
		kill(pids[n], SIGKILL);
		waitpid(pids[n], NULL, 0);
	}
	return 0;
}
