// SPDX-License-Identifier: GPL-2.0
/* Namespaces and credentials: sockets stay in theirs, and rights are the descriptor's. */
#include <net/if.h>

#include "megapipe.h"

static bool up(void)
{
	struct ifreq r = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	bool ok = ioctl(fd, SIOCSIFFLAGS, &r) == 0;

	close(fd);
	return ok;
}

static int join(struct channel *ch, int fd, uint32_t n)
{
	unsigned long mask = ~0ul;

	return request(ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_REGISTER, .fd = fd, .index = chosen(ch, n), .generation = 1,
						  .addr = (uintptr_t)&mask, .len = sizeof(mask) }).res;
}

static bool serves(struct channel *ch, uint32_t n, uint16_t port)
{
	int client;

	submit(ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_ACCEPT, .index = chosen(ch, n), .generation = 1, .len = 1 });
	MUST(enter(ch, 1, 0, 0) == 1);
	client = connect_to(port);
	return client >= 0 && next(ch).res == 0;
}

static int bind_low(uint16_t port, int family)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = { htonl(INADDR_ANY) } };
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int fd = socket(family, SOCK_STREAM, 0);

	MUST(fd >= 0);
	MUST(bind(fd, family == AF_INET ? (struct sockaddr *)&a : (struct sockaddr *)&a6, family == AF_INET ? sizeof(a) : sizeof(a6)) == 0);
	MUST(listen(fd, 16) == 0);
	return fd;
}

int main(void)
{
	struct channel ch = open_channel();
	int low = bind_low(81, AF_INET), six = bind_low(82, AF_INET6), inside, home;
	uint16_t port;

	home = open("/proc/self/ns/net", O_RDONLY);
	MUST(unshare(CLONE_NEWNET) == 0 && up());
	inside = listen_on(&port);
	CHECK_EQ(join(&ch, inside, 0), 0, "a listening socket of another network namespace");
	CHECK(serves(&ch, 0, port), "serves there");
	MUST(setns(home, CLONE_NEWNET) == 0);
	CHECK(connect_to(port) < 0 && errno == ECONNREFUSED, "and not here");
	CHECK_EQ(join(&ch, six, 2), 0, "an IPv6 socket on ::");
	CHECK(serves(&ch, 2, 82), "serves IPv4, too, as it did before");

	/* A server opens its port as root, then gives that up. */
	MUST(setgid(65534) == 0 && setuid(65534) == 0);
	CHECK_EQ(join(&ch, low, 1), 0, "a privileged port that was bound before privileges were dropped");
	CHECK(serves(&ch, 1, 81), "serves");
	close_channel(&ch);
	return tap_end();
}
