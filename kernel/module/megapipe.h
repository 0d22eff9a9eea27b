/* SPDX-License-Identifier: GPL-2.0 */
/*
 * megapipe.ko: what its files share.
 *
 *	main.c		the device: open, setup, enter, mmap, poll, the end of a channel
 *	ring.c		memory shared with user space
 *	ring.h		its use: requests in, completions out, receive buffers
 *	handle.c	the table of handles, and how a socket tells that it is ready
 *	ops.c		the requests
 *	accept.c	accepting, as lwsocket or descriptor
 *	group.c		listening sockets that several channels share by CPU
 *	lwsocket.c	a struct socket without file, dentry or inode
 *
 * Locking, outermost first:
 *
 *	mp_channel.lock (mutex)	   everything of a channel but what is named below. Held by enter while it carries out
 *				   requests, not while it sleeps. Never taken in .mmap or with mmap_lock held: enter
 *				   takes sk_lock under it and page faults (mmap_lock) under that.
 *	mp_group.lock (mutex)	   a group: members, who serves which queue. Two of them are never held together
 *	sk_lock			   the network stack's; bind, listen, accept, sendmsg, recvmsg take it
 *	wait queue of a socket	   taken by the stack, in softirq as well, around mp_socket_wake and mp_queue_wake
 *	mp_queue.lock (spinlock)   which handles serve an accept queue; taken with interrupts off
 *	mp_channel.wait.lock	   waking enter and poll; nothing is taken under it
 *	mp_groups_lock (spinlock)  which group a listening socket has; nothing is taken under it
 *
 * A sk_lock may be held for as long as its user likes (the stack copies from his memory under some). What it keeps waiting are
 * the channel and the group that have that socket, and nobody else: no lock that others need is held over it.
 *
 * Readiness. A socket's wait queue has an entry of ours whose function only marks the handle QUEUED and pushes it on the
 * channel's lock-free list: no request is ever carried out in softirq. enter takes the list, clears QUEUED and then
 * tries; since a request is made visible (mp_handle.wanted) before it is tried, with a full barrier between, an event
 * that comes after the try finds it and queues the handle again.
 *
 * Life of a handle. It ends under the channel's lock: first its entry is taken off the socket's wait queue, which
 * waits for the function if it is running; then nothing can mark it any more, and it is free at once, or, being
 * QUEUED, when its turn in the list comes. The socket goes after that. The struct socket of an lwsocket stays with the
 * handle, and both are kept for the channel's next connection (MP_SPARE_MAX of them). The stack reaches sk->sk_wq under
 * rcu_read_lock() alone, so a wake-up of the former connection may come late and find the next one's entry there: then a
 * handle is tried that has nothing to say. The memory itself comes from a SLAB_TYPESAFE_BY_RCU cache: the wait queue in
 * it is one, and valid, as long as anybody can see it.
 */
#ifndef MEGAPIPE_H
#define MEGAPIPE_H

#include <linux/cpumask.h>
#include <linux/file.h>
#include <linux/hrtimer.h>
#include <linux/llist.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/net.h>
#include <linux/nospec.h>
#include <linux/poll.h>
#include <linux/socket.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <net/sock.h>

#include <linux/megapipe.h>

#include "compat.h"

/* Handles served, and connections accepted for one of them, before the others get their turn. */
#define MP_READY_BUDGET 1024
#define MP_ACCEPT_BUDGET 64
/* Completions that one request, or one ready handle, makes at most: two that are cancelled, and its own. */
#define MP_CQES_MAX 3
/* Channels that share the connections of one CPU. */
#define MP_QUEUE_OWNERS 8
/* Handles, each with the memory of an lwsocket, that a channel keeps for its next connections. KASAN wants to see them freed. */
#define MP_SPARE_MAX (IS_ENABLED(CONFIG_KASAN) ? 4 : 256)

struct mp_group;
struct mp_lwsocket;

/* A request that waits for its socket. opcode 0 (NOP, which never waits): there is none. */
struct mp_op {
	u8 opcode;
	u8 flags;
	u32 op_flags;
	u64 addr;
	u64 len;
	u64 done;
	u64 user_data;
};

enum { MP_QUEUED };

struct mp_handle {
	/* In channel->ready, then in channel->run, while QUEUED. */
	struct llist_node ready;
	unsigned long state;
	struct mp_channel *channel;
	struct socket *sock;
	/* Of a registered descriptor; NULL: an lwsocket. */
	struct file *file;
	/* EPOLL* that the requests below wait for. */
	__poll_t wanted;
	u32 index;
	u32 generation;
	u64 cookie;
	bool listening;
	/* The struct socket is the one in lw: it has no inode (lwsocket.c). */
	bool bare;
	/* Memory for that, once there was need of it. */
	struct mp_lwsocket *lw;
	bool waiting;
	bool dead;
	struct mp_op in;
	struct mp_op out;
	wait_queue_entry_t wait;
	/* A listening socket with a CPU mask: under mp_group.lock. */
	struct mp_group *group;
	struct list_head member;
	cpumask_var_t cpus;
	bool retired;
};

struct mp_slot {
	struct mp_handle *handle;
	/* The last one given out by the kernel. */
	u32 generation;
};

struct mp_user;

struct mp_channel {
	struct mutex lock;
	/* Who may use it. Compared only, so mmgrab is enough. */
	struct mm_struct *mm;
	bool set_up;
	bool dead;
	/* Mappings of the rings; the channel dies with the last. */
	atomic_t maps;
	struct work_struct unmapped;

	/* Memory shared with user space. */
	struct page **pages;
	unsigned long nr_pages;
	unsigned long locked_pages;
	u8 *map;
	u32 *u_sq_head, *u_sq_tail, *u_cq_head, *u_cq_tail, *u_bq_head, *u_bq_tail;
	struct megapipe_sqe *sqes;
	struct megapipe_cqe *cqes;
	u32 *bids;
	/* Our own copies: what user space writes into ours is never read back. */
	u32 sq_head, cq_tail, bq_head;
	/* cq_tail may go up to here, by the last look at cq_head; bq_head likewise, by the last look at bq_tail. */
	u32 cq_limit, bq_limit;
	u32 sq_entries, cq_entries, buffers, buffer_bytes;
	u64 buffer_base;
	/* Of every plain send and receive: what is never set stays 0, and need not be cleared each time. */
	struct msghdr msg;

	/* The table of handles: [0, nr_kernel) is given out here, the rest by user space. */
	struct mp_slot *slots;
	u32 nr_slots, nr_kernel;
	u32 *free;
	u32 nr_free;
	u32 nr_open;
	/* Linked by ready.next. */
	struct llist_node *spare;
	u32 nr_spare;
	struct mp_user *user;

	struct llist_head ready;
	/* What was taken from ready and has not had its turn: first and last, linked by mp_handle.ready. */
	struct llist_node *run_first, *run_last;
	wait_queue_head_t wait;

	struct list_head timeouts;
	u32 nr_timeouts;
	struct hrtimer timer;
	bool timer_fired;
};

/* ring.c */
int mp_ring_create(struct mp_channel *ch, struct megapipe_params *p);
void mp_ring_destroy(struct mp_channel *ch);
int mp_ring_mmap(struct mp_channel *ch, struct vm_area_struct *vma);

/* handle.c */
int mp_table_create(struct mp_channel *ch, u32 handles, u32 chosen);
void mp_table_destroy(struct mp_channel *ch);
struct mp_handle *mp_handle_create(struct mp_channel *ch, u32 index, u32 generation, int *err);
void mp_handle_attach(struct mp_handle *h, struct socket *sock, struct file *file);
void mp_listener_put(struct file *file);
void mp_handle_close(struct mp_handle *h);
void mp_handle_free(struct mp_handle *h);
void mp_handle_wake(struct mp_handle *h);
void mp_handle_requeue(struct mp_handle *h);
bool mp_ready_any(struct mp_channel *ch);
int mp_handle_init(void);
void mp_handle_exit(void);

/* ops.c */
int mp_submit(struct mp_channel *ch, u32 n);
void mp_run_ready(struct mp_channel *ch);
void mp_complete(struct mp_handle *h, struct mp_op *op, s32 res, u32 flags);
int mp_cancel(struct mp_handle *h, u32 which);
void mp_timeouts_run(struct mp_channel *ch);
void mp_timeouts_drop(struct mp_channel *ch);

/* accept.c */
bool mp_try_accept(struct mp_handle *h);

/* group.c */
int mp_group_join(struct mp_handle *h, const struct cpumask *cpus);
int mp_group_retire(struct mp_handle *h);
void mp_group_leave(struct mp_handle *h);
struct socket *mp_group_waiting(struct mp_handle *h, u32 *pending);

/* lwsocket.c */
int mp_lwsocket_accept(struct socket *listener, struct mp_handle *h, struct socket **out);
void mp_lwsocket_release(struct mp_handle *h);
void mp_lwsocket_free(struct mp_lwsocket *lw);
int mp_lwsocket_init(void);
void mp_lwsocket_exit(void);

/* The handle that a request means, or NULL and why. */
static inline struct mp_handle *mp_handle_find(struct mp_channel *ch, u32 index, u32 generation, int *err)
{
	struct mp_handle *h;

	if (index >= ch->nr_slots) {
		*err = -EBADF;
		return NULL;
	}
	h = ch->slots[array_index_nospec(index, ch->nr_slots)].handle;
	if (!h || h->generation != generation) {
		*err = -ESTALE;
		return NULL;
	}
	return h;
}

/* The handle whose turn it is, first come, first served, or NULL. Closed ones on the way are freed. */
static inline struct mp_handle *mp_ready_next(struct mp_channel *ch)
{
	struct llist_node *fresh;
	struct mp_handle *h;

	for (;;) {
		if (unlikely(!ch->run_first)) {
			fresh = llist_del_all(&ch->ready);
			if (!fresh)
				return NULL;
			ch->run_last = fresh;
			ch->run_first = llist_reverse_order(fresh);
		}
		h = llist_entry(ch->run_first, struct mp_handle, ready);
		ch->run_first = h->ready.next;
		if (!ch->run_first)
			ch->run_last = NULL;
		if (likely(!h->dead)) {
			clear_bit(MP_QUEUED, &h->state);
			/* What happened before is seen by the try that follows; what happens after queues it again. */
			smp_mb__after_atomic();
			return h;
		}
		mp_handle_free(h);
	}
}

/* Connections that wait to be accepted. */
static inline u32 mp_queue_length(const struct sock *sk)
{
	return READ_ONCE(sk->sk_ack_backlog);
}

#endif
