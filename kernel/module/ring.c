// SPDX-License-Identifier: GPL-2.0
/*
 * The memory that a channel shares with user space.
 *
 * All of it is hostile: any thread may write anywhere in it at any time. So every word is read once, into a local, and
 * checked there; what the kernel itself publishes (sq_head, cq_tail, bq_head) is kept in the channel and only ever
 * written here. Indices are masked, and the masks are the channel's own. A cq_head that makes no sense is taken as "no
 * room", a bq_tail that makes none as "no buffers", an sq_tail is refused with EINVAL.
 *
 * The pages are charged to the memory cgroup (GFP_KERNEL_ACCOUNT) and counted against RLIMIT_MEMLOCK.
 */
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "megapipe.h"

/* Counters of the two sides on lines of their own. */
enum { SQ_HEAD = 0, SQ_TAIL = 64, CQ_HEAD = 128, CQ_TAIL = 192, BQ_HEAD = 256, BQ_TAIL = 320, FIRST_ENTRY = 384 };

int mp_ring_create(struct mp_channel *ch, struct megapipe_params *p)
{
	unsigned long bytes;
	unsigned long i;
	int err;

	p->sq_head = SQ_HEAD;
	p->sq_tail = SQ_TAIL;
	p->cq_head = CQ_HEAD;
	p->cq_tail = CQ_TAIL;
	p->bq_head = BQ_HEAD;
	p->bq_tail = BQ_TAIL;
	p->sqes = FIRST_ENTRY;
	p->cqes = p->sqes + p->sq_entries * sizeof(struct megapipe_sqe);
	p->bids = p->cqes + p->cq_entries * sizeof(struct megapipe_cqe);
	bytes = PAGE_ALIGN(p->bids + p->buffers * sizeof(u32));
	p->map_bytes = bytes;

	ch->nr_pages = bytes >> PAGE_SHIFT;
	err = account_locked_vm(ch->mm, ch->nr_pages, true);
	if (err)
		return err;
	ch->locked_pages = ch->nr_pages;
	ch->pages = kvcalloc(ch->nr_pages, sizeof(*ch->pages), GFP_KERNEL_ACCOUNT);
	if (!ch->pages)
		return -ENOMEM;
	for (i = 0; i < ch->nr_pages; i++) {
		ch->pages[i] = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
		if (!ch->pages[i])
			return -ENOMEM;
	}
	ch->map = vmap(ch->pages, ch->nr_pages, VM_MAP, PAGE_KERNEL);
	if (!ch->map)
		return -ENOMEM;
	ch->u_sq_head = (u32 *)(ch->map + p->sq_head);
	ch->u_sq_tail = (u32 *)(ch->map + p->sq_tail);
	ch->u_cq_head = (u32 *)(ch->map + p->cq_head);
	ch->u_cq_tail = (u32 *)(ch->map + p->cq_tail);
	ch->u_bq_head = (u32 *)(ch->map + p->bq_head);
	ch->u_bq_tail = (u32 *)(ch->map + p->bq_tail);
	ch->sqes = (struct megapipe_sqe *)(ch->map + p->sqes);
	ch->cqes = (struct megapipe_cqe *)(ch->map + p->cqes);
	ch->bids = (u32 *)(ch->map + p->bids);
	ch->sq_entries = p->sq_entries;
	ch->cq_entries = p->cq_entries;
	ch->buffers = p->buffers;
	ch->buffer_bytes = p->buffer_bytes;
	ch->buffer_base = p->buffer_base;
	return 0;
}

/* Also undoes a creation that failed half way. Mappings of user space hold the pages on their own. */
void mp_ring_destroy(struct mp_channel *ch)
{
	unsigned long i;

	vunmap(ch->map);
	ch->map = NULL;
	if (ch->pages)
		for (i = 0; i < ch->nr_pages; i++)
			if (ch->pages[i])
				__free_page(ch->pages[i]);
	kvfree(ch->pages);
	ch->pages = NULL;
	if (ch->locked_pages)
		account_locked_vm(ch->mm, ch->locked_pages, false);
	ch->locked_pages = 0;
}

int mp_ring_mmap(struct mp_channel *ch, struct vm_area_struct *vma)
{
	if (vma->vm_pgoff != 0 || vma_pages(vma) != ch->nr_pages)
		return -EINVAL;
	return vm_map_pages_zero(vma, ch->pages, ch->nr_pages);
}

/* Requests that user space wrote and the kernel has not taken; more than fit means that it is not playing fair. */
u32 mp_sq_waiting(struct mp_channel *ch)
{
	return smp_load_acquire(ch->u_sq_tail) - ch->sq_head;
}

/* 1: a request was copied out. 0: there is none. */
int mp_sqe_next(struct mp_channel *ch, struct megapipe_sqe *sqe)
{
	const u64 *from;
	u64 *to = (u64 *)sqe;
	u32 waiting = mp_sq_waiting(ch);

	if (waiting > ch->sq_entries)
		return -EINVAL;
	if (waiting == 0)
		return 0;
	from = (const u64 *)&ch->sqes[ch->sq_head & (ch->sq_entries - 1)];
	BUILD_BUG_ON(sizeof(*sqe) != 8 * sizeof(u64));
	to[0] = READ_ONCE(from[0]);
	to[1] = READ_ONCE(from[1]);
	to[2] = READ_ONCE(from[2]);
	to[3] = READ_ONCE(from[3]);
	to[4] = READ_ONCE(from[4]);
	to[5] = READ_ONCE(from[5]);
	to[6] = READ_ONCE(from[6]);
	to[7] = READ_ONCE(from[7]);
	smp_store_release(ch->u_sq_head, ++ch->sq_head);
	return 1;
}

/* Completions that user space has not taken, by its own account; never more than there is room for. */
u32 mp_cq_unread(struct mp_channel *ch)
{
	u32 unread = ch->cq_tail - smp_load_acquire(ch->u_cq_head);

	return min(unread, ch->cq_entries);
}

u32 mp_cq_room(struct mp_channel *ch)
{
	return ch->cq_entries - mp_cq_unread(ch);
}

/* The caller has made sure of room (MP_CQES_MAX). Seen by user space after mp_cq_publish. */
void mp_post(struct mp_channel *ch, u64 user_data, u64 cookie, s32 res, u32 flags, u32 index, u32 generation)
{
	struct megapipe_cqe *cqe = &ch->cqes[ch->cq_tail++ & (ch->cq_entries - 1)];

	cqe->user_data = user_data;
	cqe->cookie = cookie;
	cqe->res = res;
	cqe->flags = flags;
	cqe->index = index;
	cqe->generation = generation;
}

void mp_cq_publish(struct mp_channel *ch)
{
	smp_store_release(ch->u_cq_tail, ch->cq_tail);
}

/* The next receive buffer: its number and address. It stays in the ring until mp_buffer_take. */
int mp_buffer_peek(struct mp_channel *ch, u32 *bid, u64 *address)
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

void mp_buffer_take(struct mp_channel *ch)
{
	smp_store_release(ch->u_bq_head, ++ch->bq_head);
}
