// SPDX-License-Identifier: GPL-2.0
/*
 * Ends that come together with bytes. Regression: a multishot read took a buffer that was not full for the sign that the
 * socket is empty, and never saw an end that had arrived with the last bytes.
 */
#include "megapipe.h"

static void run(struct channel *ch, const char *what, int pair[2], uint32_t n, bool half_closed)
{
	struct megapipe_cqe cqe;
	int bytes = 0;

	MUST(register_fd(ch, pair[0], chosen(ch, n), 1, 0) == 0);
	submit(ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_READ, .index = chosen(ch, n), .generation = 1, .user_data = 1,
					  .op_flags = MEGAPIPE_READ_PROVIDED | MEGAPIPE_READ_MULTISHOT });
	if (half_closed)
		submit(ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_DISCONNECT, .flags = MEGAPIPE_SQE_SKIP_SUCCESS,
						  .index = chosen(ch, n), .generation = 1, .op_flags = SHUT_WR });
	MUST(enter(ch, 2, 0, 0) >= 1);
	MUST(send(pair[1], "last words", 10, 0) == 10);
	close(pair[1]);
	/* All of it is there before the channel looks. */
	MUST(poll(&(struct pollfd){ .fd = pair[0], .events = POLLRDHUP }, 1, 60000) == 1);
	do {
		cqe = next(ch);
		bytes += cqe.res > 0 ? cqe.res : 0;
	} while (cqe.res > 0);
	CHECK(bytes == 10 && cqe.res == 0, "%s: ten bytes, then the end", what);
	close_handle(ch, chosen(ch, n), 1);
}

int main(void)
{
	struct channel ch = open_channel();
	int pair[2];

	tcp_pair(pair);
	run(&ch, "TCP", pair, 0, false);
	tcp_pair(pair);
	run(&ch, "TCP after our own half close", pair, 1, true);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	run(&ch, "a Unix socket", pair, 2, false);
	close_channel(&ch);
	return tap_end();
}
