/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The use of the memory that a channel shares with user space: requests in, completions out, receive buffers. Inline, since each
 * transaction comes here several times.
 *
 * All of it is hostile: any thread may write anywhere in it at any time. So every word is read once, into a local, and
 * checked there; what the kernel itself publishes (sq_head, cq_tail, bq_head) is kept in the channel and only ever
 * written here. Indices are masked, and the masks are the channel's own. A cq_head that makes no sense is taken as "no
 * room", a bq_tail that makes none as "no buffers", an sq_tail is refused with EINVAL.
 */
#ifndef MEGAPIPE_RING_H
#define MEGAPIPE_RING_H

#include "megapipe.h"

/* The next request, every word of which is to be read once, or NULL; an error when user space is not playing fair. */
static inline const struct megapipe_sqe *mp_sqe_next(struct mp_channel *ch)
{
	u32 waiting = smp_load_acquire(ch->u_sq_tail) - ch->sq_head;

	if (waiting == 0)
		return NULL;
	if (waiting > ch->sq_entries)
		return ERR_PTR(-EINVAL);
	return &ch->sqes[ch->sq_head & (ch->sq_entries - 1)];
}

/* All of a request; its first word was read before. */
static inline void mp_sqe_copy(struct megapipe_sqe *to, const struct megapipe_sqe *from, u64 first)
{
	const u64 *in = (const u64 *)from;
	u64 *out = (u64 *)to;

	BUILD_BUG_ON(sizeof(*to) != 8 * sizeof(u64));
	out[0] = first;
	out[1] = READ_ONCE(in[1]);
	out[2] = READ_ONCE(in[2]);
	out[3] = READ_ONCE(in[3]);
	out[4] = READ_ONCE(in[4]);
	out[5] = READ_ONCE(in[5]);
	out[6] = READ_ONCE(in[6]);
	out[7] = READ_ONCE(in[7]);
}

static inline void mp_sqe_taken(struct mp_channel *ch)
{
	smp_store_release(ch->u_sq_head, ++ch->sq_head);
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

/* The caller has made sure of room (MP_CQES_MAX). Seen by user space after mp_cq_publish. */
static inline void mp_post(struct mp_channel *ch, u64 user_data, u64 cookie, s32 res, u32 flags, u32 index, u32 generation)
{
	struct megapipe_cqe *cqe = &ch->cqes[ch->cq_tail++ & (ch->cq_entries - 1)];

	cqe->user_data = user_data;
	cqe->cookie = cookie;
	cqe->res = res;
	cqe->flags = flags;
	cqe->index = index;
	cqe->generation = generation;
}

static inline void mp_cq_publish(struct mp_channel *ch)
{
	smp_store_release(ch->u_cq_tail, ch->cq_tail);
}

static inline void mp_buffer_take(struct mp_channel *ch)
{
	smp_store_release(ch->u_bq_head, ++ch->bq_head);
}

/* The next receive buffer: its number and address. It stays in the ring until mp_buffer_take. */
static inline int mp_buffer_peek(struct mp_channel *ch, u32 *bid, u64 *address)
{
	u32 there = smp_load_acquire(ch->u_bq_tail) - ch->bq_head;

	if (there == 0 || there > ch->buffers)
		return -ENOBUFS;
	*bid = READ_ONCE(ch->bids[ch->bq_head & (ch->buffers - 1)]);
	if (*bid >= ch->buffers) {
		mp_buffer_take(ch);
		return -EFAULT;
	}
	*address = ch->buffer_base + (u64)*bid * ch->buffer_bytes;
	return 0;
}

#endif
