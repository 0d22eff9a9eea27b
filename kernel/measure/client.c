// SPDX-License-Identifier: GPL-2.0
/*
 * Starts an echo server and loads it with 64-byte transactions over loopback.
 *
 * Counting: on one CPU, in rounds. Each connection sends its message, then each takes its reply, so the server finds exactly as
 * many messages as there are connections each time, and at the end of a round it has nothing to do. Connections end at
 * different times: in each round as many as in the long run. The plugin (plugin.c) is told who is who, and when to write down
 * its counts.
 *
 * With -a: server and clients on all CPUs, and how many transactions there were in two seconds, after the warm-up.
 *
 * usage: client [-a] CONNECTIONS TRANSACTIONS-PER-CONNECTION WARM-UP TRANSACTIONS SERVER [ARG ...]
 */
#include <sys/epoll.h>

#include "../selftests/megapipe.h"

#define PORT 7000
#define BYTES 64
#define CONNECTIONS_MAX 4096
/* Between rounds: so that what the kernel puts off (freeing after a grace period, above all) is done when nobody counts. */
#define IDLE_US 5000

/* Words to the plugin: XCHG of a register with itself, which no compiler writes. */
#define SAY_MARK __asm__ volatile(".byte 0x66, 0x45, 0x87, 0xed" ::: "memory")
#define SAY_SERVER __asm__ volatile(".byte 0x66, 0x45, 0x87, 0xff" ::: "memory")
#define SAY_CLIENT __asm__ volatile(".byte 0x66, 0x45, 0x87, 0xf6" ::: "memory")
#define SAY_0 __asm__ volatile(".byte 0x66, 0x45, 0x87, 0xe4" ::: "memory")
#define SAY_1 __asm__ volatile(".byte 0x66, 0x45, 0x87, 0xdb" ::: "memory")
#define SAY_SOFTIRQ __asm__ volatile(".byte 0x66, 0x45, 0x87, 0xd2" ::: "memory")

static char message[BYTES] = "sixty-four bytes of a transaction";
static uint64_t *done;

/* Tells the plugin where softirqs begin. */
static void say_softirq(void)
{
	unsigned long long address, found = 0;
	FILE *f = fopen("/proc/kallsyms", "r");
	char line[512], name[256];
	int bit;

	while (f && !found && fgets(line, sizeof(line), f))
		if (sscanf(line, "%llx %*c %255s", &address, name) == 2 && !strcmp(name, "__do_softirq"))
			found = address;
	MUST(found);
	fclose(f);
	for (bit = 63; bit >= 0; bit--)
		if (found >> bit & 1)
			SAY_1;
		else
			SAY_0;
	SAY_SOFTIRQ;
}

/*
 * The kernel's own thread for softirqs is to come before client and server. It is woken now and then, and as long as it waits for
 * its turn, every packet waits with it.
 */
static void softirq_thread_first(void)
{
	char path[64], name[64];
	FILE *f;
	int pid;

	for (pid = 2; pid < 1000; pid++) {
		snprintf(path, sizeof(path), "/proc/%d/comm", pid);
		f = fopen(path, "r");
		if (!f)
			continue;
		if (fscanf(f, "%63s", name) == 1 && !strcmp(name, "ksoftirqd/0"))
			break;
		fclose(f);
	}
	MUST(pid < 1000 && sched_setscheduler(pid, SCHED_FIFO, &(struct sched_param){ .sched_priority = 2 }) == 0);
	fclose(f);
}

/* The client ends first, as clients of such servers do. */
static int reconnect(int fd)
{
	if (fd >= 0)
		close(fd);
	while ((fd = connect_to(PORT)) < 0)
		usleep(1000);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	return fd;
}

static void count(int connections, int each, uint64_t warm_up, uint64_t transactions)
{
	static int fds[CONNECTIONS_MAX], left[CONNECTIONS_MAX];
	uint64_t round, rounds = transactions / connections;
	char reply[BYTES];
	int i;

	MUST(connections <= CONNECTIONS_MAX);
	warm_up /= connections;
	for (i = 0; i < connections; i++) {
		fds[i] = reconnect(-1);
		left[i] = 1 + i * each / connections;
	}
	softirq_thread_first();
	say_softirq();
	SAY_CLIENT;
	for (round = 0; round < warm_up + rounds; round++) {
		if (round == warm_up)
			SAY_MARK;
		for (i = 0; i < connections; i++)
			MUST(send(fds[i], message, BYTES, 0) == BYTES);
		for (i = 0; i < connections; i++)
			MUST(receive_all(fds[i], reply, BYTES));
		usleep(IDLE_US);
		for (i = 0; i < connections; i++)
			if (--left[i] == 0) {
				fds[i] = reconnect(fds[i]);
				left[i] = each;
			}
	}
	SAY_MARK;
	printf("measured %llu transactions\n", (unsigned long long)(rounds * connections));
}

static void load_from(int cpu, int connections, int each)
{
	static int left[65536];
	struct epoll_event events[64], e = { .events = EPOLLIN };
	char reply[BYTES];
	int ep = epoll_create1(0), i, n, fd;

	pin(cpu);
	for (i = 0; i < connections; i++) {
		e.data.fd = fd = reconnect(-1);
		MUST(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) == 0);
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
				e.data.fd = fd = reconnect(fd);
				MUST(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) == 0);
				left[fd] = each;
			}
			MUST(send(fd, message, BYTES, 0) == BYTES);
		}
	}
}

static void saturate(int connections, int each, uint64_t warm_up, pid_t *pids)
{
	int cpus = sysconf(_SC_NPROCESSORS_ONLN), n;
	struct timespec from, to;
	uint64_t start;

	for (n = 0; n < cpus; n++) {
		pids[n] = fork();
		MUST(pids[n] >= 0);
		if (pids[n] == 0)
			load_from(n, connections / cpus, each);
	}
	pin(0);
	while (__atomic_load_n(done, __ATOMIC_RELAXED) < warm_up)
		usleep(10000);
	start = __atomic_load_n(done, __ATOMIC_RELAXED);
	clock_gettime(CLOCK_MONOTONIC, &from);
	sleep(2);
	start = __atomic_load_n(done, __ATOMIC_RELAXED) - start;
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("throughput %.0f a second\n", start / (to.tv_sec - from.tv_sec + (to.tv_nsec - from.tv_nsec) / 1e9));
}

int main(int argc, char **argv)
{
	bool everywhere = argc > 1 && !strcmp(argv[1], "-a");
	int connections, each, i;
	pid_t pids[64] = {};
	uint64_t warm_up;

	if (everywhere) {
		argc--;
		argv++;
	}
	if (argc < 6)
		return 2;
	connections = atoi(argv[1]);
	each = atoi(argv[2]);
	warm_up = strtoull(argv[3], NULL, 0);
	done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	/* On one CPU, who is woken waits for its turn: each side does all it can before the other one does, and no tick comes between. */
	if (!everywhere)
		MUST(sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){ .sched_priority = 1 }) == 0);
	pids[63] = fork();
	MUST(pids[63] >= 0);
	if (pids[63] == 0) {
		SAY_SERVER;
		execv(argv[5], argv + 5);
		_exit(127);
	}
	if (everywhere)
		saturate(connections, each, warm_up, pids);
	else
		count(connections, each, warm_up, strtoull(argv[4], NULL, 0));
	for (i = 0; i < 64; i++)
		if (pids[i]) {
			kill(pids[i], SIGKILL);
			waitpid(pids[i], NULL, 0);
		}
	return 0;
}
