// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/megapipe: the device. An open file is a channel. Locking and the rest of the rules: megapipe.h.
 *
 * enter carries out requests and completes them, all in the calling task and under the channel's lock; it sleeps without
 * it. Nothing else touches the rings, so nothing happens behind the back of the process that owns the channel, and
 * nothing is left to cancel when it dies: when the last mapping of its rings goes, a work item closes every handle. (Not
 * the unmapping itself: it holds mmap_lock, which comes after the channel's lock.) This also unties the knot of a Unix
 * socket that is registered in the channel whose descriptor it carries, which the collector of such cycles cannot see.
 */
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "megapipe.h"
#include "ring.h"

/* Ends channels; our own, since the end of one may wait for its user's sockets. */
static struct workqueue_struct *mp_ends;

static enum hrtimer_restart mp_timer(struct hrtimer *timer)
{
	struct mp_channel *ch = container_of(timer, struct mp_channel, timer);

	WRITE_ONCE(ch->timer_fired, true);
	if (wq_has_sleeper(&ch->wait))
		wake_up_poll(&ch->wait, EPOLLIN | EPOLLRDNORM);
	return HRTIMER_NORESTART;
}

/* ---- the life of a channel */

/* Closes every handle; later calls get ESHUTDOWN. */
static void mp_channel_end(struct mp_channel *ch)
{
	mutex_lock(&ch->lock);
	WRITE_ONCE(ch->dead, true);
	mp_timeouts_drop(ch);
	hrtimer_cancel(&ch->timer);
	mp_table_destroy(ch);
	mutex_unlock(&ch->lock);
	wake_up_poll(&ch->wait, EPOLLIN | EPOLLHUP);
}

static void mp_unmapped(struct work_struct *work)
{
	mp_channel_end(container_of(work, struct mp_channel, unmapped));
}

static int mp_open(struct inode *inode, struct file *file)
{
	struct mp_channel *ch;

	if (!current->mm)
		return -EINVAL;
	ch = kzalloc(sizeof(*ch), GFP_KERNEL_ACCOUNT);
	if (!ch)
		return -ENOMEM;
	mutex_init(&ch->lock);
	init_waitqueue_head(&ch->wait);
	init_llist_head(&ch->ready);
	INIT_LIST_HEAD(&ch->timeouts);
	INIT_WORK(&ch->unmapped, mp_unmapped);
	mp_hrtimer_setup(&ch->timer, mp_timer);
	mmgrab(current->mm);
	ch->mm = current->mm;
	file->private_data = ch;
	return nonseekable_open(inode, file);
}

static int mp_release(struct inode *inode, struct file *file)
{
	struct mp_channel *ch = file->private_data;

	flush_work(&ch->unmapped);
	mp_channel_end(ch);
	mp_ring_destroy(ch);
	mmdrop(ch->mm);
	kfree(ch);
	return 0;
}

static bool mp_power_of_two(u32 n, u32 from, u32 to)
{
	return n >= from && n <= to && (n & (n - 1)) == 0;
}

static int mp_setup(struct mp_channel *ch, struct megapipe_params __user *arg)
{
	struct megapipe_params p;
	int err;

	if (copy_from_user(&p, arg, sizeof(p)))
		return -EFAULT;
	if (!mp_power_of_two(p.sq_entries, 1, MEGAPIPE_SQ_ENTRIES_MAX) ||
	    !mp_power_of_two(p.cq_entries, MEGAPIPE_CQ_ENTRIES_MIN, MEGAPIPE_CQ_ENTRIES_MAX) || p.handles < 2 ||
	    p.handles > MEGAPIPE_HANDLES_MAX || p.chosen > p.handles || p.flags ||
	    memchr_inv(p.reserved, 0, sizeof(p.reserved)))
		return -EINVAL;
	if (p.buffers && (!mp_power_of_two(p.buffers, 1, MEGAPIPE_BUFFERS_MAX) || p.buffer_bytes < 1 ||
			  p.buffer_bytes > MEGAPIPE_BUFFER_BYTES_MAX ||
			  !access_ok(u64_to_user_ptr(p.buffer_base), (u64)p.buffers * p.buffer_bytes)))
		return -EINVAL;
	if (ch->set_up)
		return -EBUSY;
	p.abi = MEGAPIPE_ABI;
	err = mp_table_create(ch, p.handles, p.chosen);
	if (!err)
		err = mp_ring_create(ch, &p);
	if (!err && copy_to_user(arg, &p, sizeof(p)))
		err = -EFAULT;
	if (err) {
		mp_table_destroy(ch);
		mp_ring_destroy(ch);
		return err;
	}
	/* Pairs with mmap and poll, which look without the lock. */
	smp_store_release(&ch->set_up, true);
	return 0;
}

/* ---- mmap */

static void mp_vma_open(struct vm_area_struct *vma)
{
	struct mp_channel *ch = vma->vm_file->private_data;

	atomic_inc(&ch->maps);
}

/* The mapping's reference to the file goes only after this, so release finds the work queued and waits for it. */
static void mp_vma_close(struct vm_area_struct *vma)
{
	struct mp_channel *ch = vma->vm_file->private_data;

	if (atomic_dec_and_test(&ch->maps)) {
		WRITE_ONCE(ch->dead, true);
		queue_work(mp_ends, &ch->unmapped);
	}
}

static const struct vm_operations_struct mp_vm_ops = {
	.open = mp_vma_open,
	.close = mp_vma_close,
};

static int mp_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct mp_channel *ch = file->private_data;
	int err;

	/* No lock: what is read here does not change once set_up is seen. */
	if (!smp_load_acquire(&ch->set_up))
		return -EBADFD;
	if (READ_ONCE(ch->dead))
		return -ESHUTDOWN;
	if (current->mm != ch->mm)
		return -EPERM;
	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	/* Not in children: they could not use it, and it would keep the channel alive. */
	mp_vm_flags_set(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP);
	err = mp_ring_mmap(ch, vma);
	if (err)
		return err;
	vma->vm_ops = &mp_vm_ops;
	atomic_inc(&ch->maps);
	return 0;
}

/* ---- enter */

static bool mp_work(struct mp_channel *ch)
{
	return mp_ready_any(ch) || READ_ONCE(ch->timer_fired) || READ_ONCE(ch->dead);
}

/* Sleeps until there is work, a signal, the time, or the host descriptor (then *host is set). */
static int mp_sleep(struct mp_channel *ch, const ktime_t *until, struct file *host_file, bool *host)
{
	struct poll_wqueues table;
	poll_table *pt = NULL;
	DEFINE_WAIT(wait);
	ktime_t expires;
	int err = 0;

	if (host_file) {
		poll_initwait(&table);
		table.pt._key = EPOLLIN | EPOLLERR | EPOLLHUP;
		pt = &table.pt;
	}
	for (;;) {
		if (host_file) {
			/* Registers us there the first time, wakes this task from then on. */
			table.triggered = 0;
			*host = vfs_poll(host_file, pt) & (EPOLLIN | EPOLLERR | EPOLLHUP);
			pt = NULL;
			if (*host)
				break;
			err = table.error;
			if (err)
				break;
		}
		prepare_to_wait(&ch->wait, &wait, TASK_INTERRUPTIBLE);
		if (mp_work(ch))
			break;
		if (signal_pending(current)) {
			err = -EINTR;
			break;
		}
		if (host_file && READ_ONCE(table.triggered)) {
			__set_current_state(TASK_RUNNING);
			continue;
		}
		if (until) {
			expires = *until;
			if (!schedule_hrtimeout_range(&expires, current->timer_slack_ns, HRTIMER_MODE_ABS)) {
				err = -ETIME;
				break;
			}
		} else {
			schedule();
		}
	}
	finish_wait(&ch->wait, &wait);
	if (host_file)
		poll_freewait(&table);
	return err;
}

static int mp_wait(struct mp_channel *ch, const struct megapipe_enter *e, bool *host)
{
	ktime_t until, *limit = NULL;
	struct file *host_file = NULL;
	int err = 0;
	u32 min;

	if (e->timeout_ns >= 0) {
		until = e->timeout_ns;
		if (!(e->flags & MEGAPIPE_ENTER_ABSOLUTE) && e->timeout_ns > 0)
			until = ktime_add_safe(ktime_get(), e->timeout_ns);
		limit = &until;
	}
	for (;;) {
		mp_timeouts_run(ch);
		mp_run_ready(ch);
		min = min(e->min_complete, ch->cq_entries);
		/* With the ring full nothing more can happen until user space takes some. */
		if (mp_cq_unread(ch) >= min || !mp_cq_has_room(ch))
			break;
		if (mp_work(ch)) {
			if (READ_ONCE(ch->dead)) {
				err = -ESHUTDOWN;
				break;
			}
			if (signal_pending(current)) {
				err = -EINTR;
				break;
			}
			cond_resched();
			continue;
		}
		if (limit && (e->timeout_ns == 0 || ktime_get() >= until))
			break;
		if (e->host_fd >= 0 && !host_file) {
			host_file = fget(e->host_fd);
			if (!host_file) {
				err = -EBADF;
				break;
			}
		}
		mp_publish(ch);
		mutex_unlock(&ch->lock);
		err = mp_sleep(ch, limit, host_file, host);
		mutex_lock(&ch->lock);
		if (err == -ETIME)
			err = 0;
		else if (err || *host)
			/* Whatever came together with it is still delivered. */
			mp_run_ready(ch);
		if (err || *host)
			break;
	}
	if (host_file)
		fput(host_file);
	return err;
}

static int mp_look(int fd, bool *host)
{
	struct file *file = fget(fd);

	if (!file)
		return -EBADF;
	*host = vfs_poll(file, NULL) & (EPOLLIN | EPOLLERR | EPOLLHUP);
	fput(file);
	return 0;
}

static long mp_enter(struct mp_channel *ch, struct megapipe_enter __user *arg)
{
	struct megapipe_enter e;
	bool host = false;
	int taken = 0, err = 0;
	u32 before;

	if (copy_from_user(&e, arg, sizeof(e)))
		return -EFAULT;
	if ((e.flags & ~MEGAPIPE_ENTER_ABSOLUTE) || e.reserved || e.host_fd < -1)
		return -EINVAL;
	if (mutex_lock_killable(&ch->lock))
		return -EINTR;
	if (!ch->set_up || ch->dead) {
		err = ch->dead ? -ESHUTDOWN : -EBADFD;
		goto out;
	}
	before = ch->cq_tail;
	/* What was known of user space's counters is of the last call. */
	ch->cq_limit = ch->cq_tail;
	ch->bq_limit = ch->bq_head;
	taken = mp_submit(ch, e.to_submit);
	if (taken < 0)
		err = taken;
	else
		err = mp_wait(ch, &e, &host);
	mp_publish(ch);
	/* A channel that is never idle never sleeps; its host is to have its turn nevertheless. */
	if (e.host_fd >= 0 && !host && !err)
		err = mp_look(e.host_fd, &host);
	/* An interruption is no news when something was done: it was, and is reported. */
	if (err == -EINTR && (taken > 0 || ch->cq_tail != before))
		err = 0;
out:
	mutex_unlock(&ch->lock);
	if (e.host_fd >= 0 && put_user((u32)host, &arg->host_events) && !err)
		err = -EFAULT;
	return err ?: taken;
}

/* ---- the other calls */

static int mp_name(struct mp_channel *ch, struct megapipe_name __user *arg)
{
	struct sockaddr_storage address = {};
	struct megapipe_name name;
	struct mp_handle *h;
	int len, err;

	if (copy_from_user(&name, arg, sizeof(name)))
		return -EFAULT;
	if (name.peer > 1)
		return -EINVAL;
	if (!ch->set_up || ch->dead)
		return ch->dead ? -ESHUTDOWN : -EBADFD;
	h = mp_handle_find(ch, name.index, name.generation, &err);
	if (!h)
		return err;
	if (name.peer)
		len = kernel_getpeername(h->sock, (struct sockaddr *)&address);
	else
		len = kernel_getsockname(h->sock, (struct sockaddr *)&address);
	if (len < 0)
		return len;
	if (copy_to_user(u64_to_user_ptr(name.addr), &address, min_t(u32, len, name.len)) ||
	    put_user((u32)len, &arg->len))
		return -EFAULT;
	return 0;
}

static long mp_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct mp_channel *ch = file->private_data;
	long result;

	/* Addresses in requests are the opener's. */
	if (current->mm != ch->mm)
		return -EPERM;
	if (cmd == MEGAPIPE_IOC_ENTER)
		return mp_enter(ch, (struct megapipe_enter __user *)arg);
	if (mutex_lock_killable(&ch->lock))
		return -EINTR;
	if (cmd == MEGAPIPE_IOC_SETUP)
		result = mp_setup(ch, (struct megapipe_params __user *)arg);
	else if (cmd == MEGAPIPE_IOC_NAME)
		result = mp_name(ch, (struct megapipe_name __user *)arg);
	else
		result = -ENOTTY;
	mutex_unlock(&ch->lock);
	return result;
}

/* Readable: completions to take, or something that the next enter would do. Writable: room for requests. */
static __poll_t mp_poll(struct file *file, poll_table *wait)
{
	struct mp_channel *ch = file->private_data;
	__poll_t events = 0;
	u32 unread;

	poll_wait(file, &ch->wait, wait);
	/* Pairs with the barrier in wq_has_sleeper(). */
	smp_mb();
	if (!smp_load_acquire(&ch->set_up))
		return EPOLLERR;
	if (READ_ONCE(ch->dead))
		return EPOLLHUP | EPOLLIN | EPOLLRDNORM;
	unread = READ_ONCE(ch->cq_tail) - READ_ONCE(*ch->u_cq_head);
	if (unread || mp_work(ch))
		events |= EPOLLIN | EPOLLRDNORM;
	if (READ_ONCE(*ch->u_sq_tail) - READ_ONCE(ch->sq_head) < ch->sq_entries)
		events |= EPOLLOUT | EPOLLWRNORM;
	return events;
}

static void mp_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct mp_channel *ch = file->private_data;

	if (!smp_load_acquire(&ch->set_up))
		return;
	seq_printf(m, "handles:\t%u of %u\n", READ_ONCE(ch->nr_open), READ_ONCE(ch->nr_slots));
	seq_printf(m, "timeouts:\t%u\n", READ_ONCE(ch->nr_timeouts));
	seq_printf(m, "sq:\t%u taken\n", READ_ONCE(ch->sq_head));
	seq_printf(m, "cq:\t%u posted\n", READ_ONCE(ch->cq_tail));
	seq_printf(m, "dead:\t%d\n", READ_ONCE(ch->dead));
}

static const struct file_operations mp_fops = {
	.owner = THIS_MODULE,
	.open = mp_open,
	.release = mp_release,
	.unlocked_ioctl = mp_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = mp_mmap,
	.poll = mp_poll,
	.show_fdinfo = mp_show_fdinfo,
};

static struct miscdevice mp_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "megapipe",
	.fops = &mp_fops,
	.mode = 0600,
};

static int __init mp_init(void)
{
	int err;

	err = mp_handle_init();
	if (err)
		return err;
	err = mp_lwsocket_init();
	if (err)
		goto handles;
	mp_ends = alloc_workqueue("megapipe", WQ_UNBOUND, 0);
	if (!mp_ends) {
		err = -ENOMEM;
		goto lwsockets;
	}
	err = misc_register(&mp_device);
	if (err)
		goto workqueue;
	return 0;
workqueue:
	destroy_workqueue(mp_ends);
lwsockets:
	mp_lwsocket_exit();
handles:
	mp_handle_exit();
	return err;
}

/* No channel is open any more: each holds a reference to the module. */
static void __exit mp_exit(void)
{
	misc_deregister(&mp_device);
	destroy_workqueue(mp_ends);
	mp_lwsocket_exit();
	mp_handle_exit();
}

module_init(mp_init);
module_exit(mp_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("MegaPipe: channels for message-oriented network I/O");
MODULE_AUTHOR("The MegaPipe authors");
MODULE_ALIAS("devname:megapipe");
