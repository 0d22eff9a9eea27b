// SPDX-License-Identifier: GPL-2.0
/*
 * Handles: the table, and how a socket says that it is ready. The rules are at the top of megapipe.h.
 *
 * A handle is named by index and generation. Indices below nr_kernel are given out here, with a generation that moves on
 * each time; the others, and their generations, are user space's to choose. Either way a request that still means the
 * former owner of an index is answered with ESTALE.
 *
 * lwsockets are not counted by RLIMIT_NOFILE, so tables are: a channel may not have more handles than its opener could
 * have descriptors, and all channels of a user not more than max_user_handles. CAP_SYS_RESOURCE lifts both.
 */
#include <linux/nospec.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "megapipe.h"

static unsigned int max_user_handles = 1 << 20;
module_param(max_user_handles, uint, 0644);
MODULE_PARM_DESC(max_user_handles, "handles that the channels of one user may have together (CAP_SYS_RESOURCE: no limit)");

struct mp_user {
	struct list_head link;
	kuid_t uid;
	u32 channels;
	u64 handles;
};

static LIST_HEAD(mp_users);
static DEFINE_MUTEX(mp_users_lock);
static struct kmem_cache *mp_handles;

int mp_handle_init(void)
{
	mp_handles = KMEM_CACHE(mp_handle, SLAB_ACCOUNT | SLAB_HWCACHE_ALIGN);
	return mp_handles ? 0 : -ENOMEM;
}

void mp_handle_exit(void)
{
	kmem_cache_destroy(mp_handles);
}

static int mp_user_charge(struct mp_channel *ch, u32 handles)
{
	kuid_t uid = current_uid();
	struct mp_user *user;
	int err = 0;

	mutex_lock(&mp_users_lock);
	list_for_each_entry(user, &mp_users, link)
		if (uid_eq(user->uid, uid))
			goto found;
	user = kzalloc(sizeof(*user), GFP_KERNEL_ACCOUNT);
	if (!user) {
		err = -ENOMEM;
		goto out;
	}
	user->uid = uid;
	list_add(&user->link, &mp_users);
found:
	if (user->handles + handles > READ_ONCE(max_user_handles) && !capable(CAP_SYS_RESOURCE)) {
		err = -EMFILE;
		if (!user->channels) {
			list_del(&user->link);
			kfree(user);
		}
		goto out;
	}
	user->channels++;
	user->handles += handles;
	ch->user = user;
out:
	mutex_unlock(&mp_users_lock);
	return err;
}

static void mp_user_uncharge(struct mp_channel *ch)
{
	struct mp_user *user = ch->user;

	if (!user)
		return;
	mutex_lock(&mp_users_lock);
	user->handles -= ch->nr_slots;
	if (--user->channels == 0) {
		list_del(&user->link);
		kfree(user);
	}
	mutex_unlock(&mp_users_lock);
	ch->user = NULL;
}

int mp_table_create(struct mp_channel *ch, u32 handles, u32 chosen)
{
	u32 i;
	int err;

	if (handles > rlimit(RLIMIT_NOFILE) && !capable(CAP_SYS_RESOURCE))
		return -EMFILE;
	err = mp_user_charge(ch, handles);
	if (err)
		return err;
	ch->nr_slots = handles;
	ch->nr_kernel = handles - chosen;
	ch->slots = kvcalloc(handles, sizeof(*ch->slots), GFP_KERNEL_ACCOUNT);
	ch->free = kvmalloc_array(ch->nr_kernel ?: 1, sizeof(*ch->free), GFP_KERNEL_ACCOUNT);
	if (!ch->slots || !ch->free)
		return -ENOMEM;
	for (i = 0; i < ch->nr_kernel; i++)
		ch->free[i] = ch->nr_kernel - 1 - i;
	ch->nr_free = ch->nr_kernel;
	return 0;
}

/* Closes what is open. Nothing is posted: whoever calls has seen to it that nobody reads any more. */
void mp_table_destroy(struct mp_channel *ch)
{
	struct mp_handle *h;
	u32 i;

	for (i = 0; ch->slots && i < ch->nr_slots; i++) {
		h = ch->slots[i].handle;
		if (h)
			mp_handle_close(h);
		if (i % 256 == 0)
			cond_resched();
	}
	/* Closed ones are freed as they come. */
	while (mp_ready_next(ch))
		;
	while (ch->spare) {
		h = llist_entry(ch->spare, struct mp_handle, ready);
		ch->spare = h->ready.next;
		mp_lwsocket_free(h->lw);
		kmem_cache_free(mp_handles, h);
	}
	ch->nr_spare = 0;
	kvfree(ch->slots);
	kvfree(ch->free);
	ch->slots = NULL;
	ch->free = NULL;
	ch->nr_free = 0;
	mp_user_uncharge(ch);
	ch->nr_slots = 0;
	ch->nr_kernel = 0;
}

/* All zeros, but for the memory of an lwsocket that it may bring along. */
static struct mp_handle *mp_handle_alloc(struct mp_channel *ch)
{
	struct mp_lwsocket *lw;
	struct mp_handle *h;

	if (!ch->spare)
		return kmem_cache_zalloc(mp_handles, GFP_KERNEL);
	h = llist_entry(ch->spare, struct mp_handle, ready);
	ch->spare = h->ready.next;
	ch->nr_spare--;
	lw = h->lw;
	memset(h, 0, sizeof(*h));
	h->lw = lw;
	return h;
}

void mp_handle_free(struct mp_handle *h)
{
	struct mp_channel *ch = h->channel;

	if (ch->nr_spare < MP_SPARE_MAX && !READ_ONCE(ch->dead)) {
		h->ready.next = ch->spare;
		ch->spare = &h->ready;
		ch->nr_spare++;
		return;
	}
	mp_lwsocket_free(h->lw);
	kmem_cache_free(mp_handles, h);
}

/* A handle without a socket yet; mp_handle_attach or mp_handle_close must follow. */
struct mp_handle *mp_handle_create(struct mp_channel *ch, u32 index, u32 generation, int *err)
{
	struct mp_slot *slot;
	struct mp_handle *h;

	if (index == MEGAPIPE_INDEX_ANY) {
		if (!ch->nr_free) {
			*err = -ENFILE;
			return NULL;
		}
		index = ch->free[ch->nr_free - 1];
	} else if (index >= ch->nr_slots || index < ch->nr_kernel) {
		*err = -EBADF;
		return NULL;
	} else if (ch->slots[array_index_nospec(index, ch->nr_slots)].handle) {
		*err = -EBUSY;
		return NULL;
	}
	h = mp_handle_alloc(ch);
	if (!h) {
		*err = -ENOMEM;
		return NULL;
	}
	slot = &ch->slots[array_index_nospec(index, ch->nr_slots)];
	h->channel = ch;
	h->index = index;
	h->generation = generation;
	INIT_LIST_HEAD(&h->member);
	if (index < ch->nr_kernel) {
		ch->nr_free--;
		/* 0 is left out, so that a request full of zeros names nobody. */
		if (++slot->generation == 0)
			slot->generation = 1;
		h->generation = slot->generation;
	}
	slot->handle = h;
	ch->nr_open++;
	return h;
}

/* Runs in softirq as often as not, with the wait queue's lock held. */
static int mp_socket_wake(wait_queue_entry_t *wait, unsigned int mode, int sync, void *key)
{
	struct mp_handle *h = container_of(wait, struct mp_handle, wait);
	__poll_t events = key_to_poll(key);

	if (events && !(events & READ_ONCE(h->wanted)))
		return 0;
	mp_handle_wake(h);
	return 1;
}

void mp_handle_attach(struct mp_handle *h, struct socket *sock, struct file *file)
{
	h->sock = sock;
	h->file = file;
	if (h->group)
		return;
	init_waitqueue_func_entry(&h->wait, mp_socket_wake);
	add_wait_queue(&sock->wq.wait, &h->wait);
	h->waiting = true;
}

/* Any context. The handle cannot go away meanwhile: see "Life of a handle". */
void mp_handle_wake(struct mp_handle *h)
{
	struct mp_channel *ch = h->channel;

	if (test_and_set_bit(MP_QUEUED, &h->state))
		return;
	/* Whoever found the list empty wakes for all that follow. Pairs with the barrier in prepare_to_wait() and poll_wait(). */
	if (llist_add(&h->ready, &ch->ready) && wq_has_sleeper(&ch->wait))
		wake_up_poll(&ch->wait, EPOLLIN | EPOLLRDNORM);
}

/* At the end of the line, under the channel's lock: the handle could go on, but others are to have their turn. */
void mp_handle_requeue(struct mp_handle *h)
{
	struct mp_channel *ch = h->channel;

	if (test_and_set_bit(MP_QUEUED, &h->state))
		return;
	h->ready.next = NULL;
	if (ch->run_last)
		ch->run_last->next = &h->ready;
	else
		ch->run_first = &h->ready;
	ch->run_last = &h->ready;
}

bool mp_ready_any(struct mp_channel *ch)
{
	return READ_ONCE(ch->run_first) || !llist_empty(&ch->ready);
}

/*
 * Puts the file of a listening socket. When a process is killed it is a thread of the kernel that does this, and there fput()
 * leaves the closing to yet another one, a tick later: by then the process has been waited for, and its successor finds
 * the port taken. Closing a listening socket needs nothing that could wait for this thread.
 */
void mp_listener_put(struct file *file)
{
	if (current->flags & PF_KTHREAD)
		__fput_sync(file);
	else
		fput(file);
}

/* Takes the handle off the table and its socket. Pending requests were answered by the caller, or nobody listens. */
void mp_handle_close(struct mp_handle *h)
{
	struct mp_channel *ch = h->channel;

	if (h->group)
		mp_group_leave(h);
	if (h->waiting)
		remove_wait_queue(&h->sock->wq.wait, &h->wait);
	ch->slots[h->index].handle = NULL;
	ch->nr_open--;
	if (h->index < ch->nr_kernel)
		ch->free[ch->nr_free++] = h->index;
	if (h->file && h->listening)
		mp_listener_put(h->file);
	else if (h->file)
		fput(h->file);
	else if (h->sock)
		mp_lwsocket_release(h);
	h->sock = NULL;
	h->file = NULL;
	h->dead = true;
	if (!test_bit(MP_QUEUED, &h->state))
		mp_handle_free(h);
}
