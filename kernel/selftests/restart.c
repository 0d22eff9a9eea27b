// SPDX-License-Identifier: GPL-2.0
/*
 * A server is killed, and its successor wants the port at once: when the dead process has been waited for, nothing of it listens
 * any more.
 */
#include "megapipe.h"

#define CLIENTS 8

/* Listens at the port, 0: any, which is then known; the error. */
static int listen_at(uint16_t *port, int *fd)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) }, .sin_port = htons(*port) };
	socklen_t len = sizeof(a);
	int on = 1;

	*fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	MUST(*fd >= 0 && setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0);
	if (bind(*fd, (struct sockaddr *)&a, sizeof(a)) || listen(*fd, 64))
		return errno;
	MUST(getsockname(*fd, (struct sockaddr *)&a, &len) == 0);
	*port = ntohs(a.sin_port);
	return 0;
}

/* Accepts from the port until it is killed; 2: the port is taken. */
static int serve(uint16_t port, bool shared, int tell)
{
	struct channel ch = open_channel();
	struct megapipe_cqe cqe;
	unsigned long mask = ~0ul;
	int fd;

	if (listen_at(&port, &fd))
		return 2;
	MUST(request(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_REGISTER, .fd = fd, .index = chosen(&ch, 0),
						 .addr = (uintptr_t)&mask, .len = shared ? sizeof(mask) : 0 }).res == 0);
	submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_ACCEPT, .index = chosen(&ch, 0) });
	MUST(enter(&ch, 1, 0, 0) == 1 && write(tell, "r", 1) == 1);
	for (;;)
		cqe = next(&ch);
	return cqe.res;
}

static void restarts(uint16_t port, bool shared)
{
	int taken = 0, served = 0, n = times(100), ready[2], clients[CLIENTS], status, i, k;
	char byte;
	pid_t pid;

	for (i = 0; i < n; i++) {
		MUST(pipe2(ready, O_CLOEXEC) == 0);
		fflush(stdout);
		pid = fork();
		MUST(pid >= 0);
		if (pid == 0)
			_exit(serve(port, shared, ready[1]));
		close(ready[1]);
		if (read(ready[0], &byte, 1) == 1) {
			for (k = 0; k < CLIENTS; k++)
				served += (clients[k] = connect_to(port)) >= 0;
			kill(pid, SIGKILL);
			while (k-- > 0)
				close(clients[k]);
		}
		MUST(waitpid(pid, &status, 0) == pid);
		taken += WIFEXITED(status) && WEXITSTATUS(status) == 2;
		close(ready[0]);
	}
	CHECK_EQ(taken, 0, "%d servers, each killed, its port taken over at once%s", n, shared ? ", from a group" : "");
	CHECK_EQ(served, CLIENTS * n, "and each was there for its clients");
}

int main(void)
{
	uint16_t port = 0;
	int fd;

	MUST(listen_at(&port, &fd) == 0);
	close(fd);
	restarts(port, false);
	restarts(port, true);
	return tap_end();
}
