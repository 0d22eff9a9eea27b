// SPDX-License-Identifier: GPL-2.0
/* The life of connections: accepted as lwsockets, read into provided buffers, answered, closed. */
#include "megapipe.h"

#define CLIENTS 100
#define ROUNDS 5

int main(void)
{
	struct channel ch = open_channel();
	int clients[CLIENTS], served = 0, accepted = 0, ended = 0, descriptors, i, r;
	struct megapipe_sqe gone[CLIENTS / 2];
	struct megapipe_cqe cqe;
	uint32_t listener = chosen(&ch, 0);
	bool right = true;
	uint16_t port;
	char text[64];
	int fd = listen_on(&port);

	CHECK_EQ(register_fd(&ch, fd, listener, 7, 42), 0, "a listening socket is registered");
	submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_ACCEPT, .index = listener, .generation = 7, .user_data = 1 });
	CHECK_EQ(enter(&ch, 1, 0, 0), 1, "accept waits without blocking the caller");
	for (i = 0; i < CLIENTS; i++)
		MUST((clients[i] = connect_to(port)) >= 0);
	descriptors = open_descriptors();
	while (accepted < CLIENTS) {
		cqe = next(&ch);
		if (cqe.user_data == 1) {
			right &= cqe.res == 0 && cqe.cookie == 42 && (cqe.flags & MEGAPIPE_CQE_MORE) &&
				 cqe.index < ch.p.handles - ch.p.chosen;
			accepted++;
			submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_REGISTER, .flags = MEGAPIPE_SQE_SKIP_SUCCESS,
							   .op_flags = MEGAPIPE_REGISTER_COOKIE, .index = cqe.index,
							   .generation = cqe.generation, .cookie = 1000 + cqe.index });
			submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_READ, .index = cqe.index,
							   .op_flags = MEGAPIPE_READ_PROVIDED | MEGAPIPE_READ_MULTISHOT,
							   .generation = cqe.generation, .user_data = 2 });
		}
	}
	CHECK(right, "each completion of an accept has the listener's cookie, MORE, and a handle of the kernel's");
	CHECK_EQ(open_descriptors(), descriptors, "lwsockets take no descriptor");

	right = true;
	for (r = 0; r < ROUNDS; r++) {
		for (i = 0; i < CLIENTS; i++)
			MUST(send(clients[i], "transaction", 11, 0) == 11);
		for (served = 0; served < CLIENTS;) {
			cqe = next(&ch);
			if (cqe.user_data == 2 && cqe.res == -ENOBUFS) {
				/* All buffers are on their way out: the read ended, and is asked for again. */
				submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_READ, .index = cqe.index,
								   .op_flags = MEGAPIPE_READ_PROVIDED | MEGAPIPE_READ_MULTISHOT,
								   .generation = cqe.generation, .user_data = 2 });
			} else if (cqe.user_data == 2) {
				uint32_t bid = cqe.flags >> MEGAPIPE_CQE_SHIFT;

				right &= cqe.res == 11 && (cqe.flags & MEGAPIPE_CQE_MORE) && (cqe.flags & MEGAPIPE_CQE_BUFFER) &&
					 cqe.cookie == 1000 + cqe.index;
				submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_WRITE, .index = cqe.index,
								   .generation = cqe.generation, .len = cqe.res,
								   .addr = (uintptr_t)ch.buffers + bid * ch.p.buffer_bytes,
								   .user_data = 0x100 | bid });
			} else if (cqe.user_data & 0x100) {
				right &= cqe.res == 11;
				give_buffer(&ch, cqe.user_data & 0xff);
				served++;
			}
		}
		for (i = 0; i < CLIENTS; i++)
			right &= receive_all(clients[i], text, 11) && memcmp(text, "transaction", 11) == 0;
	}
	CHECK(right, "%d connections, %d transactions each, byte for byte, with fewer buffers than connections", CLIENTS, ROUNDS);

	for (i = 0; i < CLIENTS; i += 2)
		shutdown(clients[i], SHUT_WR);
	right = true;
	for (ended = 0; ended < CLIENTS / 2; ended++) {
		cqe = next(&ch);
		right &= cqe.user_data == 2 && cqe.res == 0 && !(cqe.flags & MEGAPIPE_CQE_MORE);
		gone[ended] = (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_CLOSE, .flags = MEGAPIPE_SQE_SKIP_SUCCESS,
						     .index = cqe.index, .generation = cqe.generation };
	}
	CHECK(right, "a peer's end is a completion of 0 bytes, and the last of its read");
	/* Only now: next() may have to wait for an end, and would submit the ones before. */
	for (i = 0; i < CLIENTS / 2; i++)
		submit(&ch, gone[i]);
	CHECK_EQ(enter(&ch, 256, 0, 0), CLIENTS / 2, "closing is a request as any other");
	CHECK_EQ(unread(&ch), 0, "SKIP_SUCCESS leaves no completion");
	for (i = 0, right = true; i < CLIENTS; i += 2)
		right &= recv(clients[i], text, 1, 0) == 0;
	CHECK(right, "the peers of closed lwsockets see the end");
	CHECK(recv(clients[1], text, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN, "and the others do not");

	close_channel(&ch);
	for (i = 1, right = true; i < CLIENTS; i += 2)
		right &= recv(clients[i], text, 1, 0) == 0;
	CHECK(right, "closing the channel closes the rest");
	return tap_end();
}
