// SPDX-License-Identifier: GPL-2.0
/*
 * The memory that a channel shares with user space: how it is made, mapped and freed. ring.h is how it is used.
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
