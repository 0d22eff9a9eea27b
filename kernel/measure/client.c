// SPDX-License-Identifier: GPL-2.0
/*
 * Starts an echo server, loads it with 64-byte transactions over loopback, and has the counting plugin (plugin.c) take the
 * server's counts before and after.
 *
 * usage: client CONNECTIONS TRANSACTIONS-PER-CONNECTION WARM-UP TRANSACTIONS SERVER [ARG ...]
 */
#include <sys/epoll.h>

#include "../selftests/megapipe.h"

#define PORT 7000
#define BYTES 64

/* Instructions that no compiler writes: the plugin knows them. */
static void choose(void)
{
	__asm__ volatile(".byte 0x66, 0x45, 0x87, 0xf6" ::: "memory");
}

static void mark(void)
{
	__asm__ volatile(".byte 0x66, 0x45, 0x87, 0xed" ::: "memory");
}

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

static void load_it(int connections, int each, uint64_t warm_up, uint64_t transactions)
{
	static int left[65536];
	struct epoll_event events[64];
	char message[BYTES] = "sixty-four bytes of a transaction", reply[BYTES];
	int ep = epoll_create1(0), i, n, fd;
	uint64_t done = 0;

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
			if (++done == warm_up)
				mark();
			if (done == warm_up + transactions) {
				mark();
				_exit(0);
			}
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
	uint64_t warm_up, transactions;
	pid_t server, client;
	int status;

	if (argc < 6)
		return 2;
	warm_up = strtoull(argv[3], NULL, 0);
	transactions = strtoull(argv[4], NULL, 0);
	server = fork();
	if (server == 0) {
		choose();
		execv(argv[5], argv + 5);
		_exit(127);
	}
	client = fork();
	if (client == 0)
		load_it(atoi(argv[1]), atoi(argv[2]), warm_up, transactions);
	MUST(waitpid(client, &status, 0) == client);
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	MUST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	printf("measured %llu transactions\n", (unsigned long long)transactions);
	return 0;
}
