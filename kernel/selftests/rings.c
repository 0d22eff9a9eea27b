// SPDX-License-Identifier: GPL-2.0
/* The rings as hostile memory, and full ones: nothing lost, nothing done twice. */
#include "megapipe.h"

/* No request of the noise has it: this bit is always 0 there. */
#define LAST (1ull << 63 | 4321)

int main(void)
{
	struct megapipe_params p = default_params();
	struct channel ch, tiny;
	struct megapipe_cqe cqe;
	int tcp[2], i, posted;
	uint32_t tail, h;
	bool right;

	ch = open_channel();
	tail = load(counter(&ch, ch.p.sq_tail));
	store(counter(&ch, ch.p.sq_tail), tail + ch.p.sq_entries + 1);
	CHECK_EQ(enter(&ch, 1, 0, 0), -EINVAL, "a tail that is more than the ring ahead: EINVAL");
	store(counter(&ch, ch.p.sq_tail), tail - 1);
	CHECK_EQ(enter(&ch, 1, 0, 0), -EINVAL, "a tail behind the head: EINVAL");
	store(counter(&ch, ch.p.sq_tail), tail);
	store(counter(&ch, ch.p.sq_head), 12345);
	CHECK_EQ(request(&ch, (struct megapipe_sqe){ .user_data = 1 }).user_data, 1, "the kernel does not read its own head back");
	CHECK_EQ(load(counter(&ch, ch.p.sq_head)), 1, "and puts it right");
	store(counter(&ch, ch.p.cq_tail), 999999);
	submit(&ch, (struct megapipe_sqe){ .user_data = 2 });
	MUST(enter(&ch, 1, 0, 0) == 1);
	CHECK_EQ(load(counter(&ch, ch.p.cq_tail)), 2, "nor its own tail");
	MUST(take(&ch, &cqe));
	CHECK_EQ(cqe.user_data, 2, "the completion is where it belongs");
	store(counter(&ch, ch.p.cq_head), 77777);
	submit(&ch, (struct megapipe_sqe){ .user_data = 3 });
	CHECK_EQ(enter(&ch, 1, 1, 0), 0, "a head of completions that makes no sense means: no room");
	store(counter(&ch, ch.p.cq_head), 2);
	CHECK_EQ(next(&ch).user_data, 3, "when it is right again, things go on");
	MUST(mprotect(ch.map, ch.p.map_bytes, PROT_READ) == 0);
	CHECK_EQ(enter(&ch, 0, 0, 0), 0, "the kernel does not need user space's mapping");
	MUST(mprotect(ch.map, ch.p.map_bytes, PROT_READ | PROT_WRITE) == 0);
	for (i = 0, right = true; i < 5000; i++)
		right &= request(&ch, (struct megapipe_sqe){ .user_data = i }).user_data == (uint64_t)i;
	CHECK(right, "rings go round many times");
	close_channel(&ch);

	/* Room for 16 completions, 60 requests. */
	p.cq_entries = 16;
	p.sq_entries = 64;
	tiny = open_channel_with(p);
	for (i = 0; i < 60; i++)
		submit(&tiny, (struct megapipe_sqe){ .user_data = i });
	posted = enter(&tiny, 60, 0, 0);
	CHECK(posted >= 14 && posted <= 16, "requests are taken as far as there is room for outcomes (%d)", posted);
	CHECK_EQ(enter(&tiny, 60, 16, 10 * SECOND), 0, "a full ring does not wait for what cannot come");
	for (i = 0, right = true; i < 60; i++)
		right &= next(&tiny).user_data == (uint64_t)i;
	CHECK(right && unread(&tiny) == 0, "all sixty complete, once each, in order");

	/* A multishot read with more arriving than the ring has room for. */
	tcp_pair(tcp);
	h = chosen(&tiny, 0);
	MUST(register_fd(&tiny, tcp[0], h, 1, 0) == 0);
	submit(&tiny, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_READ, .index = h, .generation = 1, .user_data = 500,
					     .op_flags = MEGAPIPE_READ_PROVIDED | MEGAPIPE_READ_MULTISHOT });
	for (i = 0; i < 40; i++)
		submit(&tiny, (struct megapipe_sqe){ .user_data = i });
	MUST(send(tcp[1], "z", 1, 0) == 1);
	enter(&tiny, 41, 1, PATIENCE);
	for (i = 0, posted = 0, right = true; i < 41; i++) {
		cqe = next(&tiny);
		if (cqe.user_data == 500)
			posted += cqe.res;
	}
	CHECK_EQ(posted, 1, "and readiness waits for room, too");

	/* Everything of an entry is the user's to write, at any time: the kernel takes a copy. Any bytes will do. */
	for (i = 0; i < 20000; i++) {
		struct megapipe_sqe wild;
		unsigned int k;

		for (k = 0; k < sizeof(wild); k++)
			((uint8_t *)&wild)[k] = rand() % 4 ? 0 : rand();
		if (i % 2)
			wild.reserved = wild.reserved2[0] = wild.reserved2[1] = wild.reserved2[2] = wild.flags = 0;
		wild.user_data &= ~(1ull << 63);
		wild.opcode = rand() % (MEGAPIPE_OP_LAST + 2);
		if (wild.opcode == MEGAPIPE_OP_REGISTER)
			wild.fd = rand() % 8;
		submit(&tiny, wild);
		enter(&tiny, 1, 0, 0);
		while (take(&tiny, &cqe))
			;
	}
	/* What some of them asked for may still come meanwhile, timeouts above all. */
	submit(&tiny, (struct megapipe_sqe){ .user_data = LAST });
	do
		cqe = next(&tiny);
	while (cqe.user_data != LAST);
	CHECK_EQ(cqe.res, 0, "after twenty thousand entries of noise the channel still works");
	close_channel(&tiny);
	return tap_end();
}
