// SPDX-License-Identifier: GPL-2.0
/* Ends: thousands of requests in flight and a kill, an exec, a module that is in use. */
#include <sys/syscall.h>

#include "megapipe.h"

#define CONNECTIONS_MAX 2000

static int connections;

/* lwsockets that the kernel has right now, over all channels. */
static long lwsockets(void)
{
	char line[256];
	long active = -1, a, b;
	int shrink = open("/sys/kernel/slab/mp_lwsocket/shrink", O_WRONLY);
	FILE *f;

	/* What lies ready on a CPU counts as in use until then. */
	if (shrink >= 0 && write(shrink, "1", 1) == 1)
		close(shrink);
	f = fopen("/proc/slabinfo", "r");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "mp_lwsocket %ld %ld", &a, &b) == 2)
			active = a;
	if (f)
		fclose(f);
	return active;
}

static int module_unload(void)
{
	return syscall(SYS_delete_module, "megapipe", O_NONBLOCK) < 0 ? errno : 0;
}

/* Serves that many lwsockets with a read each in flight, and every sixteenth with a blocked write; then waits to be killed. */
static int victim(int listener, int tell, bool with_group)
{
	struct megapipe_params p = default_params();
	unsigned long mask = ~0ul;
	struct megapipe_cqe cqe;
	static char big[4 << 20];
	struct channel ch;
	int n = 0;

	p.handles = 4096;
	p.cq_entries = 16384;
	p.sq_entries = 8192;
	ch = open_channel_with(p);
	MUST(request(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_REGISTER, .fd = listener, .index = chosen(&ch, 0),
						 .addr = (uintptr_t)&mask, .len = with_group ? sizeof(mask) : 0 }).res == 0);
	submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_ACCEPT, .index = chosen(&ch, 0), .user_data = 1 });
	submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_TIMEOUT, .addr = 3600 * SECOND, .user_data = 2 });
	while (n < connections) {
		cqe = next(&ch);
		if (cqe.user_data != 1)
			continue;
		MUST(cqe.res == 0);
		submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_READ, .index = cqe.index, .generation = cqe.generation,
						   .op_flags = MEGAPIPE_READ_PROVIDED | MEGAPIPE_READ_MULTISHOT, .user_data = 3 });
		if (n % 16 == 0)
			submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_WRITE, .index = cqe.index, .user_data = 4,
							   .generation = cqe.generation, .addr = (uintptr_t)big, .len = sizeof(big) });
		n++;
	}
	enter(&ch, p.sq_entries, 0, 0);
	MUST(write(tell, "r", 1) == 1);
	enter(&ch, 0, p.cq_entries, PATIENCE);
	return 1;
}

static void kill_one(bool with_group)
{
	struct rlimit many = { 8192, 8192 };
	int ready[2], listener, status, i, ends = 0, small = 16384;
	static int clients[CONNECTIONS_MAX];
	uint16_t port;
	char byte;
	pid_t pid;

	setrlimit(RLIMIT_NOFILE, &many);
	listener = listen_on(&port);
	/* A blocked write leaves little behind that somebody has to read. */
	MUST(setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)) == 0);
	MUST(pipe(ready) == 0);
	fflush(stdout);
	pid = fork();
	MUST(pid >= 0);
	if (pid == 0)
		_exit(victim(listener, ready[1], with_group));
	for (i = 0; i < connections; i++)
		MUST((clients[i] = connect_to(port)) >= 0);
	MUST(read(ready[0], &byte, 1) == 1);
	CHECK(lwsockets() >= connections || lwsockets() < 0, "%d lwsockets with reads and writes in flight%s", connections,
	      with_group ? ", and a share of a group" : "");
	CHECK_EQ(module_unload(), EAGAIN, "the module cannot be unloaded meanwhile");
	kill(pid, SIGKILL);
	MUST(waitpid(pid, &status, 0) == pid);
	for (i = 0; i < connections; i++) {
		static char part[65536];
		int r;

		while ((r = recv(clients[i], part, sizeof(part), 0)) > 0)
			;
		ends += r == 0 || errno == ECONNRESET;
		close(clients[i]);
	}
	CHECK_EQ(ends, connections, "after kill -9 every peer sees the end");
	/* Closed sockets take their time. */
	for (i = 0; i < 600 && lwsockets() > 0; i++)
		usleep(100000);
	CHECK(lwsockets() <= 0, "and no lwsocket is left (%ld)", lwsockets());
	i = connect_to(port);
	CHECK(i >= 0, "the listening socket, which another process has as well, goes on");
	close(i);
	close(listener);
	close(ready[0]);
	close(ready[1]);
}

static int execs(void *arg)
{
	struct channel *ch = arg;

	fcntl(ch->fd, F_SETFD, 0);
	execl("/proc/self/exe", "teardown", "after-exec", NULL);
	return 9;
}

int main(int argc, char **argv)
{
	struct channel ch;
	int tcp[2], i, n;
	char byte;

	(void)argv;
	if (argc > 1)
		_exit(0);
	connections = times(CONNECTIONS_MAX);
	kill_one(false);
	kill_one(true);

	/* A child that inherits the descriptor does not keep the channel alive. */
	ch = open_channel();
	tcp_pair(tcp);
	MUST(register_fd(&ch, tcp[0], chosen(&ch, 0), 1, 0) == 0);
	close(tcp[0]);
	fflush(stdout);
	if ((n = fork()) == 0) {
		munmap(ch.buffers, 1);
		pause();
		_exit(0);
	}
	CHECK(recv(tcp[1], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN, "a child has the descriptor, the connection stands");
	munmap(ch.map, ch.p.map_bytes);
	CHECK_EQ(recv(tcp[1], &byte, 1, 0), 0, "when its owner has unmapped the rings, the connection ends nevertheless");
	kill(n, SIGKILL);
	waitpid(n, NULL, 0);
	close(ch.fd);
	ch = open_channel();
	CHECK_EQ(in_child(execs, &ch), 0, "an exec with the descriptor open");
	close_channel(&ch);

	for (i = n = 0; i < times(2000); i++) {
		int fd = open(DEVICE, O_RDWR);
		struct megapipe_params p = default_params();

		p.buffers = 0;
		n += fd >= 0 && ioctl(fd, MEGAPIPE_IOC_SETUP, &p) == 0;
		close(fd);
	}
	CHECK_EQ(n, times(2000), "%d channels, one after the other", times(2000));
	return tap_end();
}
