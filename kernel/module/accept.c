// SPDX-License-Identifier: GPL-2.0
/*
 * Accepting. A connection is taken from the queue only when there is a place for it: a free handle, or a free descriptor,
 * is found first, and nothing that was accepted is ever dropped for want of one. A descriptor is installed last.
 */
#include <linux/fdtable.h>
#include <linux/slab.h>
#include <net/inet_connection_sock.h>

#include "megapipe.h"
#include "ring.h"

/* The socket that has a connection for this handle, or NULL; *pending: how many wait. */
static struct socket *mp_waiting(struct mp_handle *h, u32 *pending)
{
	struct sock *sk = h->sock->sk;
	bool some;

	if (h->group)
		return mp_group_waiting(h, pending);
	if (sk->sk_family == AF_UNIX) {
		some = !skb_queue_empty_lockless(&sk->sk_receive_queue);
		*pending = some ? skb_queue_len_lockless(&sk->sk_receive_queue) : 0;
	} else {
		some = !reqsk_queue_empty(&inet_csk(sk)->icsk_accept_queue);
		*pending = some ? mp_queue_length(sk) : 0;
	}
	/* A listening socket that was shut down has an answer, too: EINVAL. */
	return some || READ_ONCE(sk->sk_state) != TCP_LISTEN ? h->sock : NULL;
}

static int mp_accept_fd(struct socket *listener)
{
	struct socket *sock;
	struct file *file;
	int fd, err;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	sock = sock_alloc();
	if (!sock) {
		put_unused_fd(fd);
		return -ENFILE;
	}
	sock->type = listener->type;
	sock->ops = listener->ops;
	__module_get(sock->ops->owner);
	/* Releases the socket when it fails. */
	file = sock_alloc_file(sock, O_CLOEXEC, NULL);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		return PTR_ERR(file);
	}
	err = mp_ops_accept(listener, sock);
	if (err < 0) {
		fput(file);
		put_unused_fd(fd);
		return err;
	}
	fd_install(fd, file);
	return fd;
}

static int mp_accept_lwsocket(struct mp_handle *listener, struct socket *from, struct mp_handle **out)
{
	struct mp_handle *h;
	struct socket *sock;
	int err = 0;

	h = mp_handle_create(listener->channel, MEGAPIPE_INDEX_ANY, 0, &err);
	if (!h)
		return err;
	err = mp_lwsocket_accept(from, h, &sock);
	if (err) {
		mp_handle_close(h);
		return err;
	}
	mp_handle_attach(h, sock, NULL);
	*out = h;
	return 0;
}

/* True: there may be more, and others had better have their turn first. */
bool mp_try_accept(struct mp_handle *h)
{
	struct mp_channel *ch = h->channel;
	struct mp_op *op = &h->in;
	struct mp_handle *made;
	struct socket *from;
	u32 pending, flags;
	int budget, res;

	for (budget = MP_ACCEPT_BUDGET; budget > 0; budget--) {
		if (!mp_cq_has_room(ch))
			return true;
		from = mp_waiting(h, &pending);
		if (!from)
			return false;
		made = NULL;
		if (op->op_flags & MEGAPIPE_ACCEPT_FD)
			res = mp_accept_fd(from);
		else
			res = mp_accept_lwsocket(h, from, &made);
		/* Gone before it could be taken: by another channel, or by its peer. */
		if (res == -EAGAIN || res == -ECONNABORTED || res == -EPROTO)
			continue;
		if (res < 0) {
			mp_complete(h, op, res, 0);
			return false;
		}
		flags = min_t(u32, pending ? pending - 1 : 0, 0xffff) << MEGAPIPE_CQE_SHIFT;
		if (op->len == 0 || op->len > 1)
			flags |= MEGAPIPE_CQE_MORE;
		mp_post(ch, op->user_data, h->cookie, res, flags, made ? made->index : h->index,
			made ? made->generation : h->generation);
		if (op->len == 1) {
			op->opcode = MEGAPIPE_OP_NOP;
			return false;
		}
		if (op->len)
			op->len--;
	}
	return true;
}
