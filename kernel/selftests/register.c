// SPDX-License-Identifier: GPL-2.0
/* What can be registered, by which name, and what names mean later. */
#include "megapipe.h"

int main(void)
{
	struct channel ch = open_channel();
	struct megapipe_cqe cqe, other;
	uint32_t a = chosen(&ch, 0), b = chosen(&ch, 1);
	int pipes[2], pair[2], udp, file, tcp[2];
	char byte;

	MUST(pipe(pipes) == 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
	udp = socket(AF_INET, SOCK_DGRAM, 0);
	file = open("/proc/self/exe", O_RDONLY);
	tcp_pair(tcp);

	CHECK_EQ(register_fd(&ch, pipes[0], a, 1, 0), -ENOTSOCK, "a pipe: ENOTSOCK");
	CHECK_EQ(register_fd(&ch, file, a, 1, 0), -ENOTSOCK, "a file: ENOTSOCK");
	CHECK_EQ(register_fd(&ch, ch.fd, a, 1, 0), -ENOTSOCK, "the channel itself: ENOTSOCK");
	CHECK_EQ(register_fd(&ch, udp, a, 1, 0), -EPROTONOSUPPORT, "a UDP socket: EPROTONOSUPPORT");
	CHECK_EQ(register_fd(&ch, pair[0], a, 1, 0), -EPROTONOSUPPORT, "a Unix datagram socket: EPROTONOSUPPORT");
	CHECK_EQ(register_fd(&ch, 999, a, 1, 0), -EBADF, "no descriptor: EBADF");
	CHECK_EQ(register_fd(&ch, -1, a, 1, 0), -EBADF, "descriptor -1: EBADF");
	CHECK_EQ(register_fd(&ch, tcp[0], 0, 1, 0), -EBADF, "an index that is the kernel's to give: EBADF");
	CHECK_EQ(register_fd(&ch, tcp[0], ch.p.handles, 1, 0), -EBADF, "an index beyond the table: EBADF");
	CHECK_EQ(register_fd(&ch, tcp[0], a, 5, 77), 0, "a TCP socket");
	CHECK_EQ(register_fd(&ch, tcp[1], a, 6, 0), -EBUSY, "its index again: EBUSY");
	CHECK_EQ(register_fd(&ch, tcp[0], b, 1, 0), 0, "the same socket under a second name");

	cqe = request(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_REGISTER, .fd = tcp[1], .index = MEGAPIPE_INDEX_ANY });
	CHECK(cqe.res == 0 && cqe.index < ch.p.handles - ch.p.chosen && cqe.generation != 0, "an index of the kernel's choice");
	CHECK_EQ(close_handle(&ch, cqe.index, cqe.generation), 0, "is closed");
	other = request(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_REGISTER, .fd = tcp[1], .index = MEGAPIPE_INDEX_ANY });
	CHECK(other.index == cqe.index && other.generation != cqe.generation, "and comes back with another generation");
	CHECK_EQ(close_handle(&ch, cqe.index, cqe.generation), -ESTALE, "the old name does not reach the new owner: ESTALE");

	CHECK_EQ(request(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_POLL, .index = a, .generation = 5, .op_flags = POLLOUT,
						     .user_data = 1 }).cookie, 77, "the cookie comes back");
	CHECK_EQ(request(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_REGISTER, .op_flags = MEGAPIPE_REGISTER_COOKIE,
						     .index = a, .generation = 5, .cookie = 78 }).res, 0, "and can be changed");
	CHECK_EQ(request(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_POLL, .index = a, .generation = 5, .op_flags = POLLOUT })
			 .cookie, 78, "as is seen");
	CHECK_EQ(request(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_POLL, .index = a, .generation = 4 }).res, -ESTALE,
		 "a wrong generation: ESTALE");
	CHECK_EQ(request(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_READ, .index = ch.p.handles + 5 }).res, -EBADF,
		 "an index beyond the table: EBADF");

	/* A read that waits is cancelled by unregister; the descriptor stays as it was. */
	submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_READ, .index = a, .generation = 5, .addr = (uintptr_t)&byte,
					   .len = 1, .user_data = 11 });
	submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_UNREGISTER, .index = a, .generation = 5, .user_data = 12 });
	cqe = next(&ch);
	CHECK(cqe.user_data == 11 && cqe.res == -ECANCELED, "unregister cancels what is pending");
	cqe = next(&ch);
	CHECK(cqe.user_data == 12 && cqe.res == 0, "and completes after it");
	MUST(send(tcp[1], "x", 1, 0) == 1);
	CHECK(receive_all(tcp[0], &byte, 1) && byte == 'x', "the descriptor goes on as an ordinary one");
	close_channel(&ch);
	return tap_end();
}
