// SPDX-License-Identifier: GPL-2.0
/*
 * Partitioned listening: who gets a connection, and that none is lost when channels come and go. A loopback connection is
 * received on the CPU that makes it, so which channel must get it is exactly known.
 */
#include "megapipe.h"

#define EACH 25

static int fd;
static uint16_t port;
static int cpus;

/* A channel that accepts the connections of the CPUs in `mask`. */
static struct channel join(unsigned long mask, int *result)
{
	struct megapipe_params p = default_params();
	struct channel ch;

	p.buffers = 0;
	ch = open_channel_with(p);
	*result = request(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_REGISTER, .fd = fd, .index = chosen(&ch, 0),
						      .generation = 1, .addr = (uintptr_t)&mask, .len = sizeof(mask) }).res;
	if (*result == 0) {
		submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_ACCEPT, .index = chosen(&ch, 0), .generation = 1,
						   .user_data = 1 });
		MUST(enter(&ch, 1, 0, 0) == 1);
	}
	return ch;
}

/* Accepts what there is; how many. Each one is closed again. */
static int drain_now(struct channel *ch)
{
	struct megapipe_cqe cqe;
	int n = 0;

	do {
		MUST(enter(ch, 256, 0, 0) >= 0);
		while (take(ch, &cqe)) {
			if (cqe.user_data != 1 || cqe.res < 0)
				continue;
			n++;
			submit(ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_CLOSE, .flags = MEGAPIPE_SQE_SKIP_SUCCESS,
							  .index = cqe.index, .generation = cqe.generation });
			if (n % 64 == 0)
				break;
		}
	} while (unread(ch) || load(counter(ch, ch->p.sq_tail)) != load(counter(ch, ch->p.sq_head)));
	return n;
}

/*
 * Accepts until there were `want`, on both channels together (the second may be NULL). Handshakes may still be on their way
 * when connect() has returned, so it waits with patience for that many, then looks once more for those that must not be.
 */
static int drain_both(struct channel *a, struct channel *b, int want, int *of_a)
{
	int na = 0, nb = 0, i;

	for (i = 0; i < 60000; i++) {
		na += drain_now(a);
		if (b)
			nb += drain_now(b);
		if (na + nb >= want)
			break;
		usleep(1000);
	}
	usleep(10000);
	na += drain_now(a);
	if (b)
		nb += drain_now(b);
	if (of_a)
		*of_a = na;
	return na + nb;
}

static int drain(struct channel *ch, int want)
{
	return drain_both(ch, NULL, want, NULL);
}

/* n connections from a CPU, held open. */
static void from_cpu(int cpu, int *out, int n)
{
	int i;

	pin(cpu);
	for (i = 0; i < n; i++)
		MUST((out[i] = connect_to(port)) >= 0);
}

static void close_all(int *fds, int n)
{
	while (n-- > 0)
		close(fds[n]);
}

static int plainly_accepted(void)
{
	int n = 0, c;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	while ((c = accept4(fd, NULL, NULL, 0)) >= 0) {
		close(c);
		n++;
	}
	return n;
}

static uint16_t port_of(int fd)
{
	struct sockaddr_in a;
	socklen_t len = sizeof(a);

	MUST(getsockname(fd, (struct sockaddr *)&a, &len) == 0);
	return ntohs(a.sin_port);
}

static int option(int fd, int level, int name)
{
	socklen_t len = sizeof(int);
	int value = -1;

	getsockopt(fd, level, name, &value, &len);
	return value;
}

/* A connection is as if the listening socket itself had accepted it. */
static void inherits(void)
{
	static const struct {
		int level, name, value;
		const char *what;
	} options[] = {
		{ SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE" },
		{ SOL_SOCKET, SO_RCVLOWAT, 7, "SO_RCVLOWAT" },
		{ IPPROTO_IP, IP_TOS, 0x10, "IP_TOS" },
		{ IPPROTO_IP, IP_TTL, 9, "IP_TTL" },
		{ IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY" },
		{ IPPROTO_TCP, TCP_KEEPIDLE, 77, "TCP_KEEPIDLE" },
		{ IPPROTO_TCP, TCP_KEEPINTVL, 7, "TCP_KEEPINTVL" },
		{ IPPROTO_TCP, TCP_KEEPCNT, 5, "TCP_KEEPCNT" },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, 5000, "TCP_USER_TIMEOUT" },
		{ IPPROTO_TCP, TCP_NOTSENT_LOWAT, 9999, "TCP_NOTSENT_LOWAT" },
		{ IPPROTO_TCP, TCP_MAXSEG, 900, "TCP_MAXSEG" },
	};
	struct megapipe_cqe cqe;
	struct channel ch;
	char name[16] = "";
	socklen_t len = sizeof(name);
	int client, r, outer = fd;
	uint16_t outer_port = port;
	size_t i;

	fd = socket(AF_INET, SOCK_STREAM, 0);
	for (i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		MUST(setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int)) == 0);
	MUST(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4) == 0);
	MUST(listen(fd, 16) == 0);
	port = port_of(fd);
	ch = join(1, &r);
	MUST(r == 0);
	submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_CANCEL, .index = chosen(&ch, 0), .generation = 1,
					   .op_flags = MEGAPIPE_CANCEL_READ, .flags = MEGAPIPE_SQE_SKIP_SUCCESS });
	submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_ACCEPT, .index = chosen(&ch, 0), .generation = 1, .len = 1,
					   .op_flags = MEGAPIPE_ACCEPT_FD, .user_data = 2 });
	client = connect_to(port);
	do
		cqe = next(&ch);
	while (cqe.user_data != 2);
	MUST(cqe.res >= 0);
	for (i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		int value = option(cqe.res, options[i].level, options[i].name);

		/* TCP takes its own headers off. */
		CHECK(value == options[i].value || (options[i].name == TCP_MAXSEG && options[i].level == IPPROTO_TCP &&
						    value > 800 && value < options[i].value),
		      "a connection from a group has the listening socket's %s (%d)", options[i].what, value);
	}
	MUST(getsockopt(cqe.res, IPPROTO_TCP, TCP_CONGESTION, name, &len) == 0);
	CHECK(!strcmp(name, "reno"), "and its congestion control (%s)", name);
	close(cqe.res);
	close(client);
	close_channel(&ch);
	close(fd);
	fd = outer;
	port = outer_port;
}

int main(void)
{
	struct channel a, b, c;
	struct pollfd ready = { .events = POLLIN }, two[2];
	int clients[256], other[64], r = 0, i, lost, n;
	pid_t pid;
	int status, on = 1, shared, *progress;
	unsigned long mask;
	int many = times(400);

	cpus = sysconf(_SC_NPROCESSORS_ONLN);
	if (cpus < 2) {
		printf("1..0 # SKIP one CPU cannot be partitioned\n");
		return 0;
	}
	fd = listen_on(&port);

	/* Connections that were there before the group. */
	from_cpu(0, clients, 10);
	settle(fd, 10);
	a = join(1, &r);
	CHECK_EQ(r, 0, "a listening socket with a CPU mask");
	CHECK_EQ(drain(&a, 10), 10, "what waited in its queue before is accepted");
	close_all(clients, 10);
	b = join(2, &r);
	MUST(r == 0);
	from_cpu(0, clients, EACH);
	from_cpu(1, clients + EACH, EACH);
	CHECK_EQ(drain_both(&a, &b, 2 * EACH, &r), 2 * EACH, "two channels accept all connections");
	CHECK_EQ(r, EACH, "each exactly those that its CPU received");
	close_all(clients, 2 * EACH);
	CHECK_EQ(plainly_accepted(), 0, "none comes to the socket itself");
	if (cpus > 2) {
		from_cpu(2, clients, EACH);
		CHECK_EQ(drain_both(&a, &b, EACH, NULL), EACH, "those of a CPU that nobody asked for are accepted, too");
		close_all(clients, EACH);
	}

	/* Three channels, two of them for the same CPU. */
	c = join(2, &r);
	MUST(r == 0);
	from_cpu(1, clients, EACH);
	CHECK_EQ(drain_both(&b, &c, EACH, NULL), EACH, "two channels share the connections of one CPU");
	close_all(clients, EACH);
	/*
	 * Each is woken in turn, so a channel that sleeps meanwhile gets some. (No wake-up is still on its way here: they come on
	 * the CPU that this process runs on.)
	 */
	from_cpu(1, clients, 1);
	two[0] = (struct pollfd){ .fd = b.fd, .events = POLLIN };
	two[1] = (struct pollfd){ .fd = c.fd, .events = POLLIN };
	CHECK_EQ(poll(two, 2, 60000), 1, "one of them is woken for a connection");
	drain_both(&b, &c, 1, NULL);
	close_all(clients, 1);

	/* Leaving, with connections in the queue. */
	from_cpu(1, clients, EACH);
	close_channel(&b);
	close_channel(&c);
	CHECK_EQ(drain(&a, EACH), EACH, "when the channels of a CPU leave, what waited for them goes to another");
	from_cpu(1, clients + EACH, EACH);
	CHECK_EQ(drain(&a, EACH), EACH, "and so do their CPU's connections");
	close_all(clients, 2 * EACH);

	/* Killed, with connections in the queue. */
	fflush(stdout);
	pid = fork();
	MUST(pid >= 0);
	if (pid == 0) {
		struct channel child = join(2, &r);

		(void)child;
		if (r)
			_exit(1);
		raise(SIGSTOP);
		_exit(2);
	}
	MUST(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
	from_cpu(1, clients, EACH);
	ready.fd = a.fd;
	MUST(poll(&ready, 1, 0) == 0);
	kill(pid, SIGKILL);
	MUST(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(poll(&ready, 1, 60000), 1, "when a channel's process is killed, another is woken");
	CHECK_EQ(drain(&a, EACH), EACH, "and gets all that waited there");
	close_all(clients, EACH);

	/* Retiring. */
	CHECK_EQ(request(&a, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_DISCONNECT, .index = chosen(&a, 0), .generation = 1,
						    .op_flags = SHUT_RD }).res, -EINVAL, "the last one cannot retire: EINVAL");
	b = join(3, &r);
	MUST(r == 0);
	from_cpu(0, clients, EACH);
	CHECK_EQ(request(&a, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_DISCONNECT, .index = chosen(&a, 0), .generation = 1,
						    .op_flags = SHUT_RD, .user_data = 9 }).res, 0, "with another, one can");
	from_cpu(0, clients + EACH, EACH);
	CHECK_EQ(drain_both(&a, &b, 2 * EACH, NULL), 2 * EACH, "without losing a connection");
	from_cpu(0, other, EACH);
	CHECK_EQ(drain_both(&a, &b, EACH, &r), EACH, "what comes then is accepted, too");
	CHECK_EQ(r, 0, "but none by the one that retired");
	close_all(clients, 2 * EACH);
	close_all(other, EACH);
	close_channel(&a);
	close_channel(&b);

	/* After the last has left, the socket is as it was. */
	from_cpu(0, clients, 5);
	settle(fd, 5);
	CHECK_EQ(plainly_accepted(), 5, "when the last has left, the socket accepts by itself again");
	close_all(clients, 5);
	a = join(3, &r);
	CHECK_EQ(r, 0, "and can be shared out again");

	/* Channels come and go while clients connect, until there was enough of both: no connection is refused or left behind. */
	progress = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MUST(progress != MAP_FAILED);
	fflush(stdout);
	pid = fork();
	MUST(pid >= 0);
	if (pid == 0) {
		for (i = lost = 0; i < many || __atomic_load_n(progress, __ATOMIC_RELAXED) < many / 10; i++) {
			char byte;
			int s;

			pin(i % 2);
			s = connect_to(port);
			/* Everybody closes what it accepts. */
			if (s < 0 || recv(s, &byte, 1, 0) != 0)
				lost++;
			close(s);
		}
		_exit(lost > 100 ? 100 : lost);
	}
	for (n = 0; waitpid(pid, &status, WNOHANG) == 0; n++) {
		b = join(n % 2 ? 2 : 3, &r);
		MUST(r == 0);
		for (i = 0; i < 5; i++) {
			sched_yield();
			drain_now(&a);
			drain_now(&b);
		}
		close_channel(&b);
		__atomic_store_n(progress, n + 1, __ATOMIC_RELAXED);
	}
	CHECK_EQ(status, 0, "%d connections and more while channels come and go %d times: none is lost", many, n);
	close_channel(&a);

	inherits();

	/* What cannot be shared out. */
	mask = 0;
	a = open_channel();
	CHECK_EQ(request(&a, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_REGISTER, .fd = fd, .index = chosen(&a, 0), .addr = (uintptr_t)&mask,
						    .len = sizeof(mask) }).res, -EINVAL, "an empty mask: EINVAL");
	CHECK_EQ(request(&a, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_REGISTER, .fd = fd, .index = chosen(&a, 0), .addr = 8,
						    .len = sizeof(mask) }).res, -EFAULT, "a mask at an address that is none: EFAULT");
	mask = 1;
	MUST(connect_to(port) >= 0);
	shared = socket(AF_INET, SOCK_STREAM, 0);
	CHECK_EQ(request(&a, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_REGISTER, .fd = shared, .index = chosen(&a, 0),
						    .addr = (uintptr_t)&mask, .len = sizeof(mask) }).res, -EINVAL,
		 "a socket that does not listen: EINVAL");
	MUST(setsockopt(shared, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0 && listen(shared, 5) == 0);
	CHECK_EQ(request(&a, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_REGISTER, .fd = shared, .index = chosen(&a, 0),
						    .addr = (uintptr_t)&mask, .len = sizeof(mask) }).res, -EINVAL,
		 "a socket that is in a SO_REUSEPORT group of its own: EINVAL");
	close_channel(&a);
	return tap_end();
}
