// SPDX-License-Identifier: GPL-2.0
/* Unix stream sockets: carried as TCP is, and no knot of references keeps anything alive after its process. */
#include "megapipe.h"

/* Puts the channel's own descriptor into a Unix socket that is registered in that channel. */
static int knot(void *arg)
{
	struct channel ch = open_channel();
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {};
	struct iovec iov = { "x", 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int pair[2];

	(void)arg;
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	if (register_fd(&ch, pair[0], chosen(&ch, 0), 1, 0) || register_fd(&ch, pair[1], chosen(&ch, 1), 1, 0))
		return 1;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &ch.fd, sizeof(int));
	if (sendmsg(pair[1], &msg, 0) != 1)
		return 2;
	return 0;
}

static long modules_users(void)
{
	char line[256];
	long size, users = -1;
	FILE *f = fopen("/proc/modules", "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "megapipe %ld %ld", &size, &users) == 2)
			break;
	if (f)
		fclose(f);
	return users;
}

int main(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "\0megapipe-selftest" };
	socklen_t len = sizeof(sa_family_t) + 18;
	struct channel ch = open_channel();
	int fd, client, pair[2], i;
	struct megapipe_cqe cqe, made;
	static char big[1 << 20];
	char text[16];
	long got;

	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	MUST(bind(fd, (struct sockaddr *)&a, len) == 0 && listen(fd, 10) == 0);
	CHECK_EQ(register_fd(&ch, fd, chosen(&ch, 0), 1, 0), 0, "a listening Unix socket");
	submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_ACCEPT, .index = chosen(&ch, 0), .generation = 1 });
	MUST(enter(&ch, 1, 0, 0) == 1);
	client = socket(AF_UNIX, SOCK_STREAM, 0);
	MUST(connect(client, (struct sockaddr *)&a, len) == 0);
	made = next(&ch);
	CHECK_EQ(made.res, 0, "accepts as an lwsocket");
	submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_READ, .index = made.index, .generation = made.generation,
					   .addr = (uintptr_t)text, .len = sizeof(text), .user_data = 5 });
	MUST(enter(&ch, 1, 0, 0) == 1 && send(client, "unix", 4, 0) == 4);
	cqe = next(&ch);
	CHECK(cqe.user_data == 5 && cqe.res == 4 && !memcmp(text, "unix", 4), "which reads");
	submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_WRITE, .index = made.index, .generation = made.generation,
					   .addr = (uintptr_t)big, .len = sizeof(big), .user_data = 6 });
	MUST(enter(&ch, 1, 0, 0) == 1 && unread(&ch) == 0);
	for (got = 0; got < (long)sizeof(big);) {
		i = recv(client, big, sizeof(big), MSG_DONTWAIT);
		if (i > 0)
			got += i;
		MUST(enter(&ch, 0, 0, 0) == 0);
	}
	CHECK_EQ(next(&ch).res, sizeof(big), "and writes, over many turns");
	CHECK_EQ(close_handle(&ch, made.index, made.generation), 0, "and closes");
	CHECK_EQ(recv(client, text, 1, 0), 0, "as its peer sees");
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	CHECK_EQ(register_fd(&ch, pair[0], chosen(&ch, 1), 1, 0), 0, "one end of a socket pair");
	close_channel(&ch);

	CHECK_EQ(in_child(knot, NULL), 0, "a channel whose descriptor is inside a socket that it holds itself");
	for (i = 0; i < 600 && modules_users() > 0; i++)
		usleep(100000);
	CHECK_EQ(modules_users(), 0, "goes with its process");
	return tap_end();
}
