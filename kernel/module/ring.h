/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The use of the memory that a channel shares with user space: requests in, completions out, receive buffers. Inline, since each
 * transaction comes here several times.
 *
 * All of it is hostile: any thread may write anywhere in it at any time. So every word is read once, into a local, and
 * checked there; what the kernel itself publishes (sq_head, cq_tail, bq_head) is kept in the channel and only ever
 * written here, once a batch. Indices are masked, and the masks are the channel's own. A cq_head that makes no sense is taken as "no
 * room", a bq_tail that makes none as "no buffers", an sq_tail is refused with EINVAL.
 */
#ifndef MEGAPIPE_RING_H
#define MEGAPIPE_RING_H

#include "megapipe.h"

/* Requests that wait to be taken; an error when user space is not playing fair. */
static inline int mp_sq_waiting(struct mp_channel *ch)
{
	u32 waiting = smp_load_acquire(ch->u_sq_tail) - ch->sq_head;

	return waiting > ch->sq_entries ? -EINVAL : waiting;
}

/* A request, each word of which is read once. */
static inline void mp_sqe_copy(struct megapipe_sqe *to, const struct megapipe_sqe *from)
{
	const u64 *in = (const u64 *)from;
	u64 *out = (u64 *)to;

	BUILD_BUG_ON(sizeof(*to) != 8 * sizeof(u64));
	out[0] = READ_ONCE(in[0]);
	out[1] = READ_ONCE(in[1]);
	out[2] = READ_ONCE(in[2]);
	out[3] = READ_ONCE(in[3]);
	out[4] = READ_ONCE(in[4]);
	out[5] = READ_ONCE(in[5]);
	out[6] = READ_ONCE(in[6]);
	out[7] = READ_ONCE(in[7]);
}

/* All requests before `head` have been carried out: user space may write there again. */
static inline void mp_sq_taken(struct mp_channel *ch, u32 head)
{
	WRITE_ONCE(ch->sq_head, head);
	smp_store_release(ch->u_sq_head, head);
}

/* Completions that user space has not taken, by its own account; never more than there is room for. */
static inline u32 mp_cq_unread(struct mp_channel *ch)
{
	u32 unread = ch->cq_tail - smp_load_acquire(ch->u_cq_head);

	return min(unread, ch->cq_entries);
}

static inline u32 mp_cq_room(struct mp_channel *ch)
{
	return ch->cq_entries - mp_cq_unread(ch);
}

/* Whether there is room for MP_CQES_MAX. What user space took since the last look is looked up only when it matters. */
static inline bool mp_cq_has_room(struct mp_channel *ch)
{
	if (likely((s32)(ch->cq_limit - ch->cq_tail) >= MP_CQES_MAX))
		return true;
	ch->cq_limit = ch->cq_tail + mp_cq_room(ch);
	return ch->cq_limit - ch->cq_tail >= MP_CQES_MAX;
}

/* The caller has made sure of room (MP_CQES_MAX). Seen by user space after mp_publish. */
static __always_inline void mp_post(struct mp_channel *ch, u64 user_data, u64 cookie, s32 res, u32 flags, u32 index, u32 generation)
{
	struct megapipe_cqe *cqe = &ch->cqes[ch->cq_tail++ & (ch->cq_entries - 1)];

	cqe->user_data = user_data;
	cqe->cookie = cookie;
	cqe->res = res;
	cqe->flags = flags;
	cqe->index = index;
	cqe->generation = generation;
}

/* Shows user space what came of its requests, and which buffers were taken for that. */
static inline void mp_publish(struct mp_channel *ch)
{
	smp_store_release(ch->u_bq_head, ch->bq_head);
	smp_store_release(ch->u_cq_tail, ch->cq_tail);
}

/* The next receive buffer: its number. It stays in the ring until mp_buffer_take. How many there are is looked up only when it matters. */
static __always_inline int mp_buffer_peek(struct mp_channel *ch, u32 *bid)
{
	if (unlikely(ch->bq_head == ch->bq_limit)) {
		ch->bq_limit = smp_load_acquire(ch->u_bq_tail);
		if (ch->bq_limit - ch->bq_head > ch->buffers)
			ch->bq_limit = ch->bq_head;
		if (ch->bq_head == ch->bq_limit)
			return -ENOBUFS;
	}
	*bid = READ_ONCE(ch->bids[ch->bq_head & (ch->buffers - 1)]);
	if (unlikely(*bid >= ch->buffers)) {
		ch->bq_head++;
		return -EFAULT;
	}
	return 0;
}

static __always_inline void mp_buffer_take(struct mp_channel *ch)
{
	ch->bq_head++;
}

/* Its address; mp_setup has made sure that all buffers are user space's. */
static __always_inline u64 mp_buffer_address(const struct mp_channel *ch, u32 bid)
{
	return ch->buffer_base + (u64)bid * ch->buffer_bytes;
}

#endif
