// SPDX-License-Identifier: GPL-2.0
/*
 * The requests. Each is carried out by the task that calls enter, with MSG_DONTWAIT, straight from and to its memory; what
 * would have to wait is kept in the handle (one request that reads or accepts, one that writes or polls) and tried again
 * when the socket says so. So a channel needs no memory for requests beyond its handles.
 *
 * LSM: sock_recvmsg and sock_sendmsg ask security modules as the system calls do. shutdown and accept have no exported
 * path that does.
 */
#include <linux/nospec.h>
#include <linux/slab.h>
#include <linux/uio.h>
#include <net/inet_connection_sock.h>
#include <net/tcp.h>

#include "megapipe.h"
#include "ring.h"

#define MP_IN (EPOLLIN | EPOLLRDNORM | EPOLLRDHUP | EPOLLHUP | EPOLLERR)
/* No result of any send. */
#define MP_WAITS LONG_MIN
#define MP_OUT (EPOLLOUT | EPOLLWRNORM | EPOLLHUP | EPOLLERR)

/* Answers a request of a handle; it is no longer pending unless flags has MORE. */
void mp_complete(struct mp_handle *h, struct mp_op *op, s32 res, u32 flags)
{
	if (!(flags & MEGAPIPE_CQE_MORE))
		op->opcode = MEGAPIPE_OP_NOP;
	if (res < 0 || !(op->flags & MEGAPIPE_SQE_SKIP_SUCCESS))
		mp_post(h->channel, op->user_data, h->cookie, res, flags, h->index, h->generation);
}

/*
 * The channel's own message, for a plain send or receive. One for all of them: a send or receive of one piece without address and
 * control data leaves nothing behind in it that the next one would have to clear.
 */
static __always_inline struct msghdr *mp_message(struct mp_channel *ch, unsigned int direction, u64 address, u64 len)
{
	iov_iter_ubuf(&ch->msg.msg_iter, direction, u64_to_user_ptr(address), len);
	ch->msg.msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL;
	return &ch->msg;
}

static int mp_read_once(struct mp_handle *h, u64 address, u64 len)
{
	len = min_t(u64, len, MAX_RW_COUNT);
	if (!access_ok(u64_to_user_ptr(address), len))
		return -EFAULT;
	return sock_recvmsg(h->sock, mp_message(h->channel, READ, address, len), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Whether counters of the stream mean what they mean to TCP (with kTLS, for one, they do not). IPv6 has the same function here. */
static __always_inline bool mp_plain_tcp(const struct sock *sk)
{
	return READ_ONCE(sk->sk_prot)->recvmsg == tcp_prot.recvmsg;
}

enum mp_stream { MP_QUIET, MP_ENDED, MP_SOMETHING };

/*
 * What a receive would find, without the socket's lock. Half of all receives of a server are asked for just after the last bytes
 * were taken: nothing, and what arrives after this look wakes the handle. And every connection ends once: with the end of the
 * stream and nothing before it. That pairs with the release in tcp_set_state(): the peer's FIN is counted in rcv_nxt before, and
 * nothing follows it. It stays in the queue, where closing expects it.
 */
static __always_inline enum mp_stream mp_stream(const struct sock *sk)
{
	const struct tcp_sock *tp = tcp_sk(sk);
	int state;
	u32 there;

	if (!mp_plain_tcp(sk))
		return MP_SOMETHING;
	state = smp_load_acquire(&sk->sk_state);
	there = READ_ONCE(tp->rcv_nxt) - READ_ONCE(tp->copied_seq);
	if (there > 1 || READ_ONCE(sk->sk_err))
		return MP_SOMETHING;
	if (there == 1)
		return state == TCP_CLOSE_WAIT ? MP_ENDED : MP_SOMETHING;
	if (((1 << state) & (TCPF_ESTABLISHED | TCPF_FIN_WAIT1 | TCPF_FIN_WAIT2)) &&
	    !(READ_ONCE(sk->sk_shutdown) & RCV_SHUTDOWN))
		return MP_QUIET;
	return MP_SOMETHING;
}

/* Whether a receive that found bytes left more behind, or the end; if that comes after this look, it wakes the handle. */
static __always_inline bool mp_left(const struct sock *sk)
{
	const struct tcp_sock *tp = tcp_sk(sk);

	return READ_ONCE(tp->rcv_nxt) != READ_ONCE(tp->copied_seq) || (READ_ONCE(sk->sk_shutdown) & RCV_SHUTDOWN);
}

/* Receives into the next buffer: the number of bytes, or what came instead. */
static __always_inline int mp_receive(struct mp_channel *ch, struct mp_handle *h, u32 *bid)
{
	int got = mp_buffer_peek(ch, bid);

	if (unlikely(got))
		return got;
	got = sock_recvmsg(h->sock, mp_message(ch, READ, mp_buffer_address(ch, *bid), ch->buffer_bytes), MSG_DONTWAIT | MSG_NOSIGNAL);
	if (likely(got > 0))
		mp_buffer_take(ch);
	return got;
}

/* True: there is more to be had at once. */
static bool mp_try_provided(struct mp_handle *h)
{
	u32 bid, flags = 0;
	int got;

	got = mp_receive(h->channel, h, &bid);
	if (got == -EAGAIN)
		return false;
	if (got > 0) {
		flags = MEGAPIPE_CQE_BUFFER | (bid << MEGAPIPE_CQE_SHIFT);
		if (h->in.op_flags & MEGAPIPE_READ_MULTISHOT)
			flags |= MEGAPIPE_CQE_MORE;
	}
	mp_complete(h, &h->in, got, flags);
	/* What came together with these bytes has woken us already. */
	return (flags & MEGAPIPE_CQE_MORE) && (!mp_plain_tcp(h->sock->sk) || mp_left(h->sock->sk));
}

static ssize_t mp_readv_once(struct mp_handle *h, const struct mp_op *op)
{
	struct iovec fast[UIO_FASTIOV], *iov = fast;
	struct msghdr msg = { .msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL };
	ssize_t got;

	got = import_iovec(READ, u64_to_user_ptr(op->addr), op->len, UIO_FASTIOV, &iov, &msg.msg_iter);
	if (got < 0)
		return got;
	got = sock_recvmsg(h->sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	kfree(iov);
	return got;
}

/* True: there is more to be had at once. */
static noinline bool mp_try_read(struct mp_handle *h)
{
	struct mp_op *op = &h->in;
	ssize_t got;

	switch (mp_stream(h->sock->sk)) {
	case MP_QUIET:
		return false;
	case MP_ENDED:
		mp_complete(h, op, 0, 0);
		return false;
	case MP_SOMETHING:
		break;
	}
	if (op->opcode == MEGAPIPE_OP_READ) {
		if (op->op_flags & MEGAPIPE_READ_PROVIDED)
			return mp_try_provided(h);
		got = mp_read_once(h, op->addr, op->len);
	} else {
		got = mp_readv_once(h, op);
	}
	if (got != -EAGAIN)
		mp_complete(h, op, got, 0);
	return false;
}

/* Sends as much of the message as the socket takes; the last send's result. */
static ssize_t mp_send(struct mp_handle *h, struct msghdr *msg, u64 total, u64 *done)
{
	ssize_t sent;

	do {
		msg->msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL;
		sent = sock_sendmsg(h->sock, msg);
		if (sent > 0)
			*done += sent;
	} while (sent > 0 && *done < total);
	return sent;
}

/*
 * Sends bytes from *done on. Like a blocking send, a write is done only when all of it is out: MP_WAITS, or the result.
 */
static ssize_t mp_write_once(struct mp_handle *h, u64 address, u64 len, u64 *done)
{
	u64 total = min_t(u64, len, MAX_RW_COUNT);
	ssize_t sent;

	if (!access_ok(u64_to_user_ptr(address + *done), total - *done))
		return *done ?: -EFAULT;
	sent = mp_send(h, mp_message(h->channel, WRITE, address + *done, total - *done), total, done);
	if (likely(*done >= total))
		return total;
	return sent == -EAGAIN ? MP_WAITS : *done ?: sent;
}

static ssize_t mp_writev_once(struct mp_handle *h, struct mp_op *op)
{
	struct iovec fast[UIO_FASTIOV], *iov = fast;
	struct msghdr msg = {};
	ssize_t total, sent;

	total = import_iovec(WRITE, u64_to_user_ptr(op->addr), op->len, UIO_FASTIOV, &iov, &msg.msg_iter);
	if (total < 0)
		return op->done ?: total;
	/* The list may be another one than at the last try; then it is over. */
	if (op->done > total) {
		kfree(iov);
		return op->done;
	}
	iov_iter_advance(&msg.msg_iter, op->done);
	sent = mp_send(h, &msg, total, &op->done);
	kfree(iov);
	if (op->done >= total)
		return total;
	return sent == -EAGAIN ? MP_WAITS : op->done ?: sent;
}

static void mp_try_write(struct mp_handle *h)
{
	struct mp_op *op = &h->out;
	ssize_t sent;

	if (op->opcode == MEGAPIPE_OP_WRITE)
		sent = mp_write_once(h, op->addr, op->len, &op->done);
	else
		sent = mp_writev_once(h, op);
	if (sent != MP_WAITS)
		mp_complete(h, op, sent, 0);
}

static void mp_try_poll(struct mp_handle *h)
{
	__poll_t events = h->sock->ops->poll(h->file, h->sock, NULL);

	events &= (__force __poll_t)h->out.op_flags | EPOLLERR | EPOLLHUP;
	if (events)
		mp_complete(h, &h->out, (__force s32)events, 0);
}

static void mp_try_in(struct mp_handle *h)
{
	if (h->in.opcode == MEGAPIPE_OP_ACCEPT ? mp_try_accept(h) : mp_try_read(h))
		mp_handle_requeue(h);
}

static void mp_try_out(struct mp_handle *h)
{
	if (h->out.opcode == MEGAPIPE_OP_POLL)
		mp_try_poll(h);
	else
		mp_try_write(h);
}

/* Makes what is pending visible to mp_socket_wake, before it is tried. */
static void mp_want(struct mp_handle *h)
{
	__poll_t wanted = 0;

	if (h->in.opcode)
		wanted |= MP_IN;
	if (h->out.opcode == MEGAPIPE_OP_POLL)
		wanted |= MP_OUT | MP_IN;
	else if (h->out.opcode)
		wanted |= MP_OUT;
	/* What stays as it is has been visible all the time. */
	if (wanted != h->wanted)
		smp_store_mb(h->wanted, wanted);
}

/* Tries what is pending. */
static noinline void mp_try(struct mp_handle *h)
{
	u8 in = h->in.opcode, out = h->out.opcode;

	if (in)
		mp_try_in(h);
	if (out)
		mp_try_out(h);
	/* A read that goes on waits for what it waited for; a handle that waits for nothing may still say otherwise. */
	if (out || !in || h->in.opcode != in)
		mp_want(h);
}

/*
 * What nearly every ready handle is about: bytes for a multishot read of a TCP connection, and nothing else to try. False: it is
 * something else. (Two bytes and more of the stream's numbers are not only a FIN.)
 */
static __always_inline bool mp_try_usual(struct mp_channel *ch, struct mp_handle *h)
{
	const struct sock *sk = h->sock->sk;
	const struct tcp_sock *tp = tcp_sk(sk);
	u32 bid;
	int got;

	if (h->in.opcode != MEGAPIPE_OP_READ || h->in.flags ||
	    h->in.op_flags != (MEGAPIPE_READ_PROVIDED | MEGAPIPE_READ_MULTISHOT) || h->out.opcode || !mp_plain_tcp(sk) ||
	    READ_ONCE(tp->rcv_nxt) - READ_ONCE(tp->copied_seq) < 2)
		return false;
	got = mp_receive(ch, h, &bid);
	if (unlikely(got <= 0)) {
		if (got != -EAGAIN) {
			mp_complete(h, &h->in, got, 0);
			mp_want(h);
		}
		return true;
	}
	mp_post(ch, h->in.user_data, h->cookie, got, MEGAPIPE_CQE_MORE | MEGAPIPE_CQE_BUFFER | (bid << MEGAPIPE_CQE_SHIFT),
		h->index, h->generation);
	if (unlikely(mp_left(sk)))
		mp_handle_requeue(h);
	return true;
}

/* Gives handles that are ready their turn, as far as there is room for what comes of it. */
void mp_run_ready(struct mp_channel *ch)
{
	struct mp_handle *h;
	int budget;

	for (budget = MP_READY_BUDGET; budget > 0 && mp_cq_has_room(ch); budget--) {
		h = mp_ready_next(ch);
		if (!h)
			return;
		if (!mp_try_usual(ch, h))
			mp_try(h);
		if ((budget & 63) == 0)
			cond_resched();
	}
}

/* Answers the pending requests that `which` selects with ECANCELED; how many. Room: MP_CQES_MAX. */
int mp_cancel(struct mp_handle *h, u32 which)
{
	int n = 0;

	if ((which & MEGAPIPE_CANCEL_READ) && h->in.opcode) {
		mp_complete(h, &h->in, -ECANCELED, 0);
		n++;
	}
	if ((which & MEGAPIPE_CANCEL_WRITE) && h->out.opcode) {
		mp_complete(h, &h->out, h->out.done ?: -ECANCELED, 0);
		n++;
	}
	return n;
}

/* ---- timeouts */

struct mp_timeout {
	struct list_head link;
	ktime_t at;
	u64 user_data;
	u8 flags;
};

static void mp_timer_arm(struct mp_channel *ch)
{
	struct mp_timeout *first = list_first_entry_or_null(&ch->timeouts, struct mp_timeout, link);

	if (first)
		hrtimer_start(&ch->timer, first->at, HRTIMER_MODE_ABS);
	else
		hrtimer_try_to_cancel(&ch->timer);
}

static int mp_timeout_add(struct mp_channel *ch, const struct megapipe_sqe *sqe)
{
	struct mp_timeout *t, *other;
	struct list_head *after = &ch->timeouts;

	if (ch->nr_timeouts >= MEGAPIPE_TIMEOUTS_MAX)
		return -ENOSPC;
	if (sqe->addr > KTIME_MAX)
		return -EINVAL;
	t = kmalloc(sizeof(*t), GFP_KERNEL_ACCOUNT);
	if (!t)
		return -ENOMEM;
	t->at = ktime_add_safe(ktime_get(), sqe->addr);
	t->user_data = sqe->user_data;
	t->flags = sqe->flags;
	/* In order of time; most are the latest. */
	list_for_each_entry_reverse(other, &ch->timeouts, link)
		if (other->at <= t->at) {
			after = &other->link;
			break;
		}
	list_add(&t->link, after);
	ch->nr_timeouts++;
	if (ch->timeouts.next == &t->link)
		mp_timer_arm(ch);
	return 0;
}

static void mp_timeout_end(struct mp_channel *ch, struct mp_timeout *t, s32 res)
{
	mp_post(ch, t->user_data, 0, res, 0, 0, 0);
	list_del(&t->link);
	ch->nr_timeouts--;
	kfree(t);
}

void mp_timeouts_run(struct mp_channel *ch)
{
	struct mp_timeout *t, *next;
	ktime_t now;

	if (!READ_ONCE(ch->timer_fired))
		return;
	WRITE_ONCE(ch->timer_fired, false);
	now = ktime_get();
	list_for_each_entry_safe(t, next, &ch->timeouts, link) {
		if (t->at > now)
			break;
		if (mp_cq_room(ch) < 1) {
			WRITE_ONCE(ch->timer_fired, true);
			return;
		}
		mp_timeout_end(ch, t, -ETIME);
	}
	mp_timer_arm(ch);
}

static int mp_timeout_cancel(struct mp_channel *ch, u64 user_data)
{
	struct mp_timeout *t;

	list_for_each_entry(t, &ch->timeouts, link)
		if (t->user_data == user_data) {
			mp_timeout_end(ch, t, -ECANCELED);
			mp_timer_arm(ch);
			return 1;
		}
	return -ENOENT;
}

void mp_timeouts_drop(struct mp_channel *ch)
{
	struct mp_timeout *t, *next;

	list_for_each_entry_safe(t, next, &ch->timeouts, link) {
		list_del(&t->link);
		kfree(t);
	}
	ch->nr_timeouts = 0;
}

/* ---- registering */

/* 0: a socket that a channel can carry. */
static int mp_check_socket(struct file *file, struct socket **out)
{
	struct socket *sock = sock_from_file(file);
	struct sock *sk;

	if (!sock)
		return -ENOTSOCK;
	sk = sock->sk;
	if (sock->type != SOCK_STREAM)
		return -EPROTONOSUPPORT;
	if (sk->sk_family == AF_UNIX || ((sk->sk_family == AF_INET || sk->sk_family == AF_INET6) &&
					 sk->sk_protocol == IPPROTO_TCP)) {
		*out = sock;
		return 0;
	}
	return -EPROTONOSUPPORT;
}

static int mp_copy_mask(const struct megapipe_sqe *sqe, struct cpumask *cpus)
{
	u64 len = min_t(u64, sqe->len, cpumask_size());

	cpumask_clear(cpus);
	if (copy_from_user(cpumask_bits(cpus), u64_to_user_ptr(sqe->addr), len))
		return -EFAULT;
	cpumask_and(cpus, cpus, cpu_possible_mask);
	return cpumask_empty(cpus) ? -EINVAL : 0;
}

static int mp_register(struct mp_channel *ch, const struct megapipe_sqe *sqe, struct mp_handle **out)
{
	cpumask_var_t cpus;
	struct mp_handle *h;
	struct socket *sock;
	struct file *file;
	bool partition;
	int err = 0;

	if (sqe->op_flags & MEGAPIPE_REGISTER_COOKIE) {
		h = mp_handle_find(ch, sqe->index, sqe->generation, &err);
		if (!h)
			return err;
		h->cookie = sqe->cookie;
		*out = h;
		return 0;
	}
	file = fget(sqe->fd);
	if (!file)
		return -EBADF;
	err = mp_check_socket(file, &sock);
	if (err)
		goto put;
	partition = sqe->len != 0;
	if (partition && (sock->sk->sk_family == AF_UNIX || READ_ONCE(sock->sk->sk_state) != TCP_LISTEN)) {
		err = -EINVAL;
		goto put;
	}
	if (!zalloc_cpumask_var(&cpus, GFP_KERNEL_ACCOUNT)) {
		err = -ENOMEM;
		goto put;
	}
	if (partition)
		err = mp_copy_mask(sqe, cpus);
	if (err)
		goto free;
	h = mp_handle_create(ch, sqe->index, sqe->generation, &err);
	if (!h)
		goto free;
	h->cookie = sqe->cookie;
	h->listening = READ_ONCE(sock->sk->sk_state) == TCP_LISTEN;
	if (partition) {
		h->sock = sock;
		h->file = file;
		err = mp_group_join(h, cpus);
		if (err) {
			mp_handle_close(h);
			/* It has put the file. */
			free_cpumask_var(cpus);
			return err;
		}
	}
	mp_handle_attach(h, sock, file);
	free_cpumask_var(cpus);
	*out = h;
	return 0;
free:
	free_cpumask_var(cpus);
put:
	fput(file);
	return err;
}

/* ---- requests */

/* op_flags that a request may have. */
static const u32 mp_op_flags[MEGAPIPE_OP_LAST] = {
	[MEGAPIPE_OP_REGISTER] = MEGAPIPE_REGISTER_COOKIE,
	[MEGAPIPE_OP_ACCEPT] = MEGAPIPE_ACCEPT_FD,
	[MEGAPIPE_OP_READ] = MEGAPIPE_READ_PROVIDED | MEGAPIPE_READ_MULTISHOT,
	[MEGAPIPE_OP_POLL] = 0xffff,
	[MEGAPIPE_OP_DISCONNECT] = 3,
	[MEGAPIPE_OP_CANCEL] = MEGAPIPE_CANCEL_READ | MEGAPIPE_CANCEL_WRITE | MEGAPIPE_CANCEL_TIMEOUT,
};

static bool mp_well_formed(const struct megapipe_sqe *sqe)
{
	if (sqe->opcode >= MEGAPIPE_OP_LAST ||
	    ((sqe->flags & ~MEGAPIPE_SQE_FLAGS) | sqe->reserved | sqe->reserved2[0] | sqe->reserved2[1] | sqe->reserved2[2]))
		return false;
	return !(sqe->op_flags & ~mp_op_flags[array_index_nospec(sqe->opcode, MEGAPIPE_OP_LAST)]);
}

static void mp_op_set(struct mp_op *op, const struct megapipe_sqe *sqe)
{
	op->opcode = sqe->opcode;
	op->flags = sqe->flags;
	op->op_flags = sqe->op_flags;
	op->addr = sqe->addr;
	op->len = sqe->len;
	op->done = 0;
	op->user_data = sqe->user_data;
}

/* Puts a request in its place and tries it. Returns an error for the request, or 0: it answers for itself. */
static int mp_start(struct mp_handle *h, const struct megapipe_sqe *sqe)
{
	struct mp_channel *ch = h->channel;
	struct mp_op *op = &h->in;

	switch (sqe->opcode) {
	case MEGAPIPE_OP_ACCEPT:
		if (!h->listening)
			return -EINVAL;
		break;
	case MEGAPIPE_OP_READ:
		if ((sqe->op_flags & MEGAPIPE_READ_MULTISHOT) && !(sqe->op_flags & MEGAPIPE_READ_PROVIDED))
			return -EINVAL;
		if ((sqe->op_flags & MEGAPIPE_READ_PROVIDED) && !ch->buffers)
			return -ENOBUFS;
		break;
	case MEGAPIPE_OP_READV:
		if (sqe->len > UIO_MAXIOV)
			return -EINVAL;
		break;
	case MEGAPIPE_OP_WRITEV:
		if (sqe->len > UIO_MAXIOV)
			return -EINVAL;
		fallthrough;
	default: /* POLL */
		op = &h->out;
	}
	if (op->opcode)
		return -EBUSY;
	mp_op_set(op, sqe);
	mp_want(h);
	/* The other one, if there is, waits for a word from the socket. */
	if (op == &h->in)
		mp_try_in(h);
	else
		mp_try_out(h);
	return 0;
}

static int mp_disconnect(struct mp_handle *h, u32 how)
{
	if (h->group)
		return mp_group_retire(h);
	if (how > SHUT_RDWR)
		return -EINVAL;
	return kernel_sock_shutdown(h->sock, how);
}

/* Carries out one request. The caller has made sure of room for MP_CQES_MAX completions. (Inline, it would slow the writes down.) */
static noinline void mp_request(struct mp_channel *ch, const struct megapipe_sqe *sqe)
{
	u32 index = sqe->index, generation = sqe->generation;
	u64 cookie = sqe->cookie;
	struct mp_handle *h = NULL;
	int res = 0;

	if (!mp_well_formed(sqe)) {
		res = -EINVAL;
		goto post;
	}
	/* Nearly all requests. */
	if (sqe->opcode >= MEGAPIPE_OP_ACCEPT && sqe->opcode <= MEGAPIPE_OP_POLL) {
		h = mp_handle_find(ch, index, generation, &res);
		if (h) {
			cookie = h->cookie;
			res = mp_start(h, sqe);
			if (!res)
				return;
		}
		goto post;
	}
	switch (sqe->opcode) {
	case MEGAPIPE_OP_NOP:
		goto post;
	case MEGAPIPE_OP_REGISTER:
		res = mp_register(ch, sqe, &h);
		if (!res) {
			index = h->index;
			generation = h->generation;
		}
		goto post;
	case MEGAPIPE_OP_TIMEOUT:
		res = mp_timeout_add(ch, sqe);
		if (res)
			goto post;
		return;
	case MEGAPIPE_OP_CANCEL:
		if (sqe->op_flags & MEGAPIPE_CANCEL_TIMEOUT) {
			res = mp_timeout_cancel(ch, sqe->addr);
			goto post;
		}
	}
	h = mp_handle_find(ch, index, generation, &res);
	if (!h)
		goto post;
	cookie = h->cookie;
	switch (sqe->opcode) {
	case MEGAPIPE_OP_UNREGISTER:
		if (!h->file) {
			res = -EOPNOTSUPP;
			break;
		}
		fallthrough;
	case MEGAPIPE_OP_CLOSE:
		mp_cancel(h, MEGAPIPE_CANCEL_READ | MEGAPIPE_CANCEL_WRITE);
		mp_handle_close(h);
		break;
	case MEGAPIPE_OP_CANCEL:
		res = mp_cancel(h, sqe->op_flags) ?: -ENOENT;
		mp_want(h);
		break;
	case MEGAPIPE_OP_DISCONNECT:
		res = mp_disconnect(h, sqe->op_flags);
	}
post:
	if (res < 0 || !(sqe->flags & MEGAPIPE_SQE_SKIP_SUCCESS))
		mp_post(ch, sqe->user_data, cookie, res, 0, index, generation);
}

/* A request that takes the long way: checked as a copy, which user space cannot change any more. */
static noinline void mp_request_copy(struct mp_channel *ch, const struct megapipe_sqe *from)
{
	struct megapipe_sqe sqe;

	mp_sqe_copy(&sqe, from);
	mp_request(ch, &sqe);
}

/* A WRITE of which nothing, or only a part, could be sent at once. */
static noinline void mp_write_rest(struct mp_handle *h, u64 addr, u64 len, u8 flags, u64 user_data, int sent)
{
	h->out = (struct mp_op){ .opcode = MEGAPIPE_OP_WRITE, .flags = flags, .addr = addr, .len = len, .user_data = user_data };
	if (sent > 0)
		h->out.done = sent;
	if (sent < 0 && sent != -EAGAIN) {
		mp_complete(h, &h->out, sent, 0);
		return;
	}
	mp_want(h);
	mp_try_out(h);
}

/*
 * A WRITE, straight from the ring: half of what a server asks for, and nearly always done at once, with nothing to remember. False:
 * nothing was done, and the request is to go the long way, which finds out what is the matter, by what it reads of it.
 */
static __always_inline bool mp_write_usual(struct mp_channel *ch, const struct megapipe_sqe *from)
{
	const u64 *words = (const u64 *)from;
	u32 index, generation;
	struct mp_handle *h;
	u64 head, addr, len;
	int sent, err;

	/* Opcode, flags and what is reserved beside them; op_flags and the rest that is reserved. */
	head = READ_ONCE(words[0]);
	if ((u32)(head & ~((u64)MEGAPIPE_SQE_SKIP_SUCCESS << 8)) != MEGAPIPE_OP_WRITE || (READ_ONCE(words[6]) | READ_ONCE(words[7])))
		return false;
	index = READ_ONCE(from->index);
	generation = READ_ONCE(from->generation);
	h = mp_handle_find(ch, index, generation, &err);
	if (unlikely(!h || h->out.opcode))
		return false;
	addr = READ_ONCE(from->addr);
	len = READ_ONCE(from->len);
	if (unlikely(len > MAX_RW_COUNT || !access_ok(u64_to_user_ptr(addr), len)))
		return false;
	sent = sock_sendmsg(h->sock, mp_message(ch, WRITE, addr, len));
	if (unlikely(sent != (s64)len))
		mp_write_rest(h, addr, len, head >> 8, READ_ONCE(from->user_data), sent);
	else if (!(head & MEGAPIPE_SQE_SKIP_SUCCESS << 8))
		mp_post(ch, READ_ONCE(from->user_data), h->cookie, sent, 0, h->index, h->generation);
	return true;
}

/* Takes requests from the ring, as far as there is room for their outcomes. How many, or an error. */
int mp_submit(struct mp_channel *ch, u32 n)
{
	const struct megapipe_sqe *from;
	int waiting = mp_sq_waiting(ch);
	u32 head = ch->sq_head, end;

	if (waiting < 0 || !n)
		return n ? waiting : 0;
	for (end = head + min_t(u32, n, waiting); head != end && mp_cq_has_room(ch);) {
		from = &ch->sqes[head & (ch->sq_entries - 1)];
		if (!mp_write_usual(ch, from))
			mp_request_copy(ch, from);
		if ((++head & 63) == 0)
			cond_resched();
	}
	n = head - ch->sq_head;
	mp_sq_taken(ch, head);
	return n;
}
