// SPDX-License-Identifier: GPL-2.0
/* Accepting: counts, what still waits, descriptors, limits that leave connections where they are. */
#include "megapipe.h"

static struct megapipe_sqe accept_request(uint32_t index, uint64_t count, uint32_t flags)
{
	return (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_ACCEPT, .index = index, .generation = 1, .len = count,
				      .op_flags = flags, .user_data = 3 };
}

int main(void)
{
	struct megapipe_params p = default_params();
	struct rlimit limit, tight;
	struct channel ch, small;
	struct megapipe_cqe cqe, first;
	struct megapipe_name name;
	struct sockaddr_in peer, own;
	socklen_t len = sizeof(own);
	int clients[20], i, fd, extra[3];
	uint32_t listener;
	uint16_t port;
	bool right;
	char byte = 'x';

	/* On one CPU, so that connections come in the order in which they are made. */
	pin(0);
	ch = open_channel();
	listener = chosen(&ch, 0);
	fd = listen_on(&port);
	MUST(register_fd(&ch, fd, listener, 1, 5) == 0);
	for (i = 0; i < 10; i++)
		MUST((clients[i] = connect_to(port)) >= 0);
	settle(fd, 10);

	submit(&ch, accept_request(listener, 3, 0));
	for (i = 0, right = true; i < 3; i++) {
		cqe = next(&ch);
		if (i == 0)
			first = cqe;
		right &= cqe.res == 0 && cqe.flags >> MEGAPIPE_CQE_SHIFT == 9u - i &&
			 !!(cqe.flags & MEGAPIPE_CQE_MORE) == (i < 2);
	}
	CHECK(right, "accept of 3: three completions, each with the number that still waits; the last without MORE");
	CHECK(enter(&ch, 0, 0, 0) == 0 && unread(&ch) == 0, "and no fourth");

	name = (struct megapipe_name){ .index = first.index, .generation = first.generation, .peer = 1, .len = sizeof(peer),
				       .addr = (uintptr_t)&peer };
	MUST(getsockname(clients[0], (struct sockaddr *)&own, &len) == 0);
	CHECK(ioctl(ch.fd, MEGAPIPE_IOC_NAME, &name) == 0 && peer.sin_port == own.sin_port, "an lwsocket tells its peer's address");

	submit(&ch, accept_request(listener, 1, MEGAPIPE_ACCEPT_FD));
	cqe = next(&ch);
	CHECK(cqe.res > 2 && fcntl(cqe.res, F_GETFD) == FD_CLOEXEC, "with ACCEPT_FD: a descriptor, close-on-exec");
	CHECK(send(cqe.res, &byte, 1, 0) == 1 && receive_all(clients[3], &byte, 1), "which is a socket as any other");
	close(cqe.res);

	/* No descriptor left: the connection stays in the queue. */
	MUST(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	tight = (struct rlimit){ 0, limit.rlim_max };
	MUST(setrlimit(RLIMIT_NOFILE, &tight) == 0);
	submit(&ch, accept_request(listener, 0, MEGAPIPE_ACCEPT_FD));
	cqe = next(&ch);
	CHECK(cqe.res == -EMFILE && !(cqe.flags & MEGAPIPE_CQE_MORE), "without a descriptor: EMFILE, and accepting ends");
	MUST(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	submit(&ch, accept_request(listener, 1, MEGAPIPE_ACCEPT_FD));
	cqe = next(&ch);
	CHECK(cqe.res >= 0 && send(cqe.res, &byte, 1, 0) == 1 && receive_all(clients[4], &byte, 1),
	      "the connection was left in the queue");

	submit(&ch, accept_request(listener, 0, 0));
	submit(&ch, accept_request(listener, 0, 0));
	for (i = 0, right = true; i < 6; i++) {
		cqe = next(&ch);
		right &= i < 5 ? cqe.res == 0 : cqe.res == -EBUSY;
	}
	CHECK(right, "accept without a count takes all there is; a second one meanwhile: EBUSY");
	submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_CANCEL, .index = listener, .generation = 1,
					   .op_flags = MEGAPIPE_CANCEL_READ, .user_data = 4 });
	cqe = next(&ch);
	CHECK(cqe.user_data == 3 && cqe.res == -ECANCELED, "and is cancelled");
	CHECK_EQ(next(&ch).res, 1, "which counts 1");
	CHECK_EQ(request(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_ACCEPT, .index = first.index,
						     .generation = first.generation }).res, -EINVAL,
		 "accept from what does not listen: EINVAL");

	/* A table of 4 handles, one of them the listener's. */
	p.handles = 4;
	p.chosen = 1;
	p.buffers = 0;
	small = open_channel_with(p);
	MUST(register_fd(&small, fd, chosen(&small, 0), 1, 0) == 0);
	for (i = 10; i < 14; i++)
		MUST((clients[i] = connect_to(port)) >= 0);
	settle(fd, 4);
	submit(&small, accept_request(chosen(&small, 0), 0, 0));
	for (i = 0, right = true; i < 3; i++) {
		cqe = next(&small);
		right &= cqe.res == 0;
		extra[i] = cqe.generation;
	}
	cqe = next(&small);
	CHECK(right && cqe.res == -ENFILE && !(cqe.flags & MEGAPIPE_CQE_MORE), "a full table: ENFILE, and accepting ends");
	MUST(close_handle(&small, 2, extra[2]) == 0);
	submit(&small, accept_request(chosen(&small, 0), 1, 0));
	cqe = next(&small);
	CHECK(cqe.res == 0 && cqe.index == 2, "the connection was left in the queue, and gets the place that became free");
	submit(&small, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_WRITE, .index = cqe.index, .generation = cqe.generation,
					      .addr = (uintptr_t)&byte, .len = 1 });
	CHECK(next(&small).res == 1 && receive_all(clients[13], &byte, 1), "it was the fourth");
	close_channel(&small);

	shutdown(fd, SHUT_RDWR);
	submit(&ch, accept_request(listener, 0, 0));
	CHECK_EQ(next(&ch).res, -EINVAL, "a listening socket that was shut down: EINVAL");
	close_channel(&ch);
	return tap_end();
}
