// SPDX-License-Identifier: GPL-2.0
/* Bytes in and out: vectors, partial sends, ends, failures, addresses that are none. */
#include <sys/uio.h>

#include "megapipe.h"

#define BIG (4 << 20)

static uint32_t handle;

static struct megapipe_sqe op(int opcode, const void *addr, uint64_t len, uint64_t user_data)
{
	return (struct megapipe_sqe){ .opcode = opcode, .index = handle, .generation = 1, .addr = (uintptr_t)addr, .len = len,
				      .user_data = user_data };
}

static int reader(void *arg)
{
	int fd = *(int *)arg, i, n, bad = 0;
	static uint8_t part[65536];
	long at = 0;

	while ((n = recv(fd, part, sizeof(part), 0)) > 0)
		for (i = 0; i < n; i++, at++)
			bad += part[i] != (uint8_t)(at * 31 + (at >> 12));
	return at == 2 * BIG && bad == 0 ? 0 : 1;
}

int main(void)
{
	struct channel ch = open_channel();
	struct megapipe_params p = default_params();
	int tcp[2], other[2], status, small = 4096;
	struct linger reset = { 1, 0 };
	struct channel none;
	uint8_t *big = malloc(BIG);
	struct megapipe_cqe cqe;
	char text[64] = {};
	struct iovec iov[3];
	bool right;
	pid_t pid;
	long i;

	handle = chosen(&ch, 0);
	tcp_pair(tcp);
	MUST(register_fd(&ch, tcp[0], handle, 1, 0) == 0);

	submit(&ch, op(MEGAPIPE_OP_READ, text, 10, 1));
	CHECK(enter(&ch, 1, 0, 0) == 1 && unread(&ch) == 0, "a read waits while there is nothing");
	CHECK_EQ(request(&ch, op(MEGAPIPE_OP_READ, text, 10, 2)).res, -EBUSY, "a second one meanwhile: EBUSY");
	MUST(send(tcp[1], "hello", 5, 0) == 5);
	cqe = next(&ch);
	CHECK(cqe.user_data == 1 && cqe.res == 5 && memcmp(text, "hello", 5) == 0, "and takes what comes, though less than it has room for");

	iov[0] = (struct iovec){ text, 3 };
	iov[1] = (struct iovec){ text + 20, 4 };
	iov[2] = (struct iovec){ text + 40, 100 };
	MUST(send(tcp[1], "abcdefgh", 8, 0) == 8);
	CHECK(request(&ch, op(MEGAPIPE_OP_READV, iov, 3, 1)).res == 8 && !memcmp(text, "abc", 3) && !memcmp(text + 20, "defg", 4) &&
		      text[40] == 'h', "READV scatters");
	CHECK_EQ(request(&ch, op(MEGAPIPE_OP_WRITEV, (struct iovec[]){ { "one", 3 }, { "", 0 }, { "two", 3 } }, 3, 1)).res, 6,
		 "WRITEV gathers");
	CHECK(receive_all(tcp[1], text, 6) && !memcmp(text, "onetwo", 6), "in order");
	CHECK_EQ(request(&ch, op(MEGAPIPE_OP_WRITE, text, 0, 1)).res, 0, "a write of nothing");
	CHECK_EQ(request(&ch, op(MEGAPIPE_OP_READV, iov, 1025, 1)).res, -EINVAL, "more than 1,024 parts: EINVAL");
	CHECK_EQ(request(&ch, op(MEGAPIPE_OP_WRITE, (void *)16, 8, 1)).res, -EFAULT, "a write from an address that is none: EFAULT");
	CHECK_EQ(request(&ch, op(MEGAPIPE_OP_WRITE, (void *)0xffff888000000000ull, 8, 1)).res, -EFAULT, "from the kernel's half: EFAULT");
	CHECK_EQ(request(&ch, op(MEGAPIPE_OP_WRITEV, (void *)16, 2, 1)).res, -EFAULT, "a vector at an address that is none: EFAULT");
	MUST(send(tcp[1], "kept", 4, 0) == 4);
	CHECK_EQ(request(&ch, op(MEGAPIPE_OP_READ, (void *)16, 8, 1)).res, -EFAULT, "a read to an address that is none: EFAULT");
	CHECK(request(&ch, op(MEGAPIPE_OP_READ, text, 64, 1)).res == 4 && !memcmp(text, "kept", 4), "which loses nothing");
	cqe = request(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_READ, .index = handle, .generation = 1, .op_flags = 4 });
	CHECK_EQ(cqe.res, -EINVAL, "an unknown flag of a read: EINVAL");
	cqe = request(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_LAST });
	CHECK_EQ(cqe.res, -EINVAL, "an unknown operation: EINVAL");
	cqe = request(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_NOP, .reserved2 = { 0, 0, 1 } });
	CHECK_EQ(cqe.res, -EINVAL, "a reserved field that is not 0: EINVAL");
	/* The same of a write, which does not go the way of the others. */
	for (i = 0, right = true; i < 6; i++) {
		struct megapipe_sqe s = op(MEGAPIPE_OP_WRITE, text, 1, 7);

		s.cookie = 1234;
		*(i == 0 ? &s.reserved2[0] : i == 1 ? &s.reserved2[1] : i == 2 ? &s.reserved2[2] : i == 3 ? &s.op_flags : &s.generation) = 9;
		if (i == 5)
			s.index = ~0u;
		cqe = request(&ch, s);
		right &= cqe.res == (i < 4 ? -EINVAL : i == 4 ? -ESTALE : -EBADF) && cqe.user_data == 7 && cqe.cookie == 1234;
	}
	CHECK(right, "a write with a reserved field, a flag, a stale or an impossible handle: EINVAL, EINVAL, ESTALE, EBADF");
	CHECK(recv(tcp[1], text, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN, "and not a byte is sent");
	submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_WRITE, .flags = MEGAPIPE_SQE_SKIP_SUCCESS, .index = handle,
					   .generation = 1, .addr = (uintptr_t)text, .len = 3 });
	CHECK(enter(&ch, 1, 0, 0) == 1 && unread(&ch) == 0 && receive_all(tcp[1], text, 3), "SKIP_SUCCESS: a write in silence");
	CHECK_EQ(request(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_WRITE, .flags = MEGAPIPE_SQE_SKIP_SUCCESS, .index = handle,
						     .generation = 1, .addr = 16, .len = 3 }).res, -EFAULT, "but not its failure");

	/* Far more than the socket's buffer, to a reader that starts late: one completion, for all of it. */
	MUST(setsockopt(tcp[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)) == 0);
	for (i = 0; i < BIG; i++)
		big[i] = i * 31 + (i >> 12);
	submit(&ch, op(MEGAPIPE_OP_WRITE, big, BIG, 1));
	CHECK(enter(&ch, 1, 0, 0) == 1 && unread(&ch) == 0, "a write waits for room");
	CHECK_EQ(request(&ch, op(MEGAPIPE_OP_WRITE, text, 1, 2)).res, -EBUSY, "a second one meanwhile: EBUSY");
	pid = fork();
	if (pid == 0) {
		close(ch.fd);
		close(tcp[0]);
		_exit(reader(&tcp[1]));
	}
	CHECK_EQ(next(&ch).res, BIG, "and completes once, when all of it is out");
	for (i = 0; i < BIG; i++)
		big[i] = (i + BIG) * 31 + ((i + BIG) >> 12);
	iov[0] = (struct iovec){ big, 100000 };
	iov[1] = (struct iovec){ big + 100000, BIG - 100000 };
	CHECK_EQ(request(&ch, op(MEGAPIPE_OP_WRITEV, iov, 2, 1)).res, BIG, "so does WRITEV, over parts of its vector");
	CHECK_EQ(request(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_DISCONNECT, .index = handle, .generation = 1,
						     .op_flags = SHUT_WR }).res, 0, "disconnect ends our side");
	MUST(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(WEXITSTATUS(status), 0, "every byte arrived, in order, and then the end");
	CHECK_EQ(request(&ch, op(MEGAPIPE_OP_WRITE, text, 1, 1)).res, -EPIPE, "a write after disconnect: EPIPE, without a signal");
	MUST(send(tcp[1], "still", 5, 0) == 5);
	CHECK_EQ(request(&ch, op(MEGAPIPE_OP_READ, text, 64, 1)).res, 5, "reading goes on after disconnect");
	shutdown(tcp[1], SHUT_WR);
	CHECK_EQ(request(&ch, op(MEGAPIPE_OP_READ, text, 64, 1)).res, 0, "the peer's end: 0");
	CHECK_EQ(close_handle(&ch, handle, 1), 0, "close");

	/* Failures of the connection. */
	tcp_pair(other);
	MUST(register_fd(&ch, other[0], handle, 1, 0) == 0);
	submit(&ch, op(MEGAPIPE_OP_READ, text, 64, 1));
	enter(&ch, 1, 0, 0);
	MUST(setsockopt(other[1], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) == 0);
	close(other[1]);
	CHECK_EQ(next(&ch).res, -ECONNRESET, "a reset wakes a read: ECONNRESET");
	close_handle(&ch, handle, 1);

	/* Buffers. */
	p.buffers = 2;
	p.buffer_bytes = 16;
	none = open_channel_with(p);
	tcp_pair(other);
	MUST(register_fd(&none, other[0], handle, 1, 0) == 0);
	MUST(send(other[1], "0123456789abcdef0123456789abcdef0123456789", 42, 0) == 42);
	submit(&none, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_READ, .index = handle, .generation = 1, .user_data = 1,
					     .op_flags = MEGAPIPE_READ_PROVIDED | MEGAPIPE_READ_MULTISHOT });
	cqe = next(&none);
	CHECK(cqe.res == 16 && !memcmp(none.buffers + 16 * (cqe.flags >> 16), "0123456789abcdef", 16), "bytes fill one buffer");
	cqe = next(&none);
	CHECK(cqe.res == 16 && (cqe.flags & MEGAPIPE_CQE_MORE), "and the next");
	cqe = next(&none);
	CHECK(cqe.res == -ENOBUFS && !(cqe.flags & MEGAPIPE_CQE_MORE), "without a third the read ends: ENOBUFS");
	give_buffer(&none, 99);
	give_buffer(&none, 1);
	cqe = request(&none, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_READ, .index = handle, .generation = 1,
						    .op_flags = MEGAPIPE_READ_PROVIDED });
	CHECK_EQ(cqe.res, -EFAULT, "a buffer that does not exist is refused: EFAULT");
	cqe = request(&none, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_READ, .index = handle, .generation = 1,
						    .op_flags = MEGAPIPE_READ_PROVIDED });
	CHECK(cqe.res == 10 && cqe.flags >> 16 == 1 && !(cqe.flags & MEGAPIPE_CQE_MORE), "and the next one serves, once");
	store(counter(&none, none.p.bq_tail), none.bq_tail + 1000);
	MUST(send(other[1], "more", 4, 0) == 4);
	cqe = request(&none, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_READ, .index = handle, .generation = 1,
						    .op_flags = MEGAPIPE_READ_PROVIDED });
	CHECK_EQ(cqe.res, -ENOBUFS, "a tail that claims more buffers than there are yields none");
	close_channel(&none);
	close_channel(&ch);
	return tap_end();
}
