// SPDX-License-Identifier: GPL-2.0
/*
 * lwsockets: the paper's sockets that only their channel can name. A TCP lwsocket is a struct socket from a cache of our
 * own: no file, no dentry, no inode of any file system.
 *
 * sk->sk_socket must not be NULL (tcp_sendmsg sets a flag in it), and sock_i_uid() and sock_i_ino(), which /proc/net/tcp,
 * ss and SO_REUSEPORT use, reach for the inode that stands behind every struct socket. So ours have the memory of one
 * behind them, of which only i_uid, i_ino and i_mode are ever set.
 *
 * Rules, and why:
 *  - sock_graft() is not called: its LSM hook takes the inode to be a real one.
 *  - sk_wq and sk_socket are set under sk_callback_lock, as sock_graft() does. Its callers hold lock_sock() as well, for what
 *    they do besides; here nothing else happens, and softirq, which does not heed it, finds either nothing or all of it.
 *  - The end is ops->release(), never sock_release(), which would put the inode.
 *  - The memory is type-safe under RCU: sock_def_readable() and its kin use sk_wq under rcu_read_lock() alone. So the wait
 *    queue is initialised once, when the memory is made, and never again; "Life of a handle" in megapipe.h says what a late
 *    wake-up does.
 *  - No exported path asks security_socket_accept(); device permissions decide who may accept here.
 *
 * Unix sockets get a struct socket with an inode, though no file: accepting them grafts inside net/unix.
 */
#include <linux/fs.h>
#include <linux/slab.h>
#include <net/inet_common.h>
#include <net/inet_connection_sock.h>
#include <net/tcp.h>

#include "megapipe.h"

struct mp_lwsocket {
	struct socket_alloc alloc;
};

static struct kmem_cache *mp_lwsockets;

/* What is set later stands in mp_accept_bare; all else stays as it is made here, the empty wait queue above all. */
static void mp_lwsocket_made(void *p)
{
	struct mp_lwsocket *lw = p;

	memset(lw, 0, sizeof(*lw));
	init_waitqueue_head(&lw->alloc.socket.wq.wait);
	lw->alloc.vfs_inode.i_mode = S_IFSOCK | 0600;
}

int mp_lwsocket_init(void)
{
	mp_lwsockets = kmem_cache_create("mp_lwsocket", sizeof(struct mp_lwsocket), 0,
					 SLAB_ACCOUNT | SLAB_HWCACHE_ALIGN | SLAB_TYPESAFE_BY_RCU, mp_lwsocket_made);
	return mp_lwsockets ? 0 : -ENOMEM;
}

void mp_lwsocket_exit(void)
{
	kmem_cache_destroy(mp_lwsockets);
}

void mp_lwsocket_free(struct mp_lwsocket *lw)
{
	if (lw)
		kmem_cache_free(mp_lwsockets, lw);
}

static int mp_accept_bare(struct socket *listener, struct mp_handle *h, struct socket **out)
{
	struct socket *sock;
	struct inode *inode;
	struct sock *sk;
	int err = 0;

	if (!h->lw) {
		h->lw = kmem_cache_alloc(mp_lwsockets, GFP_KERNEL);
		if (!h->lw)
			return -ENOMEM;
	}
	sk = mp_proto_accept(listener->sk, &err);
	if (!sk)
		return err ?: -EAGAIN;
	sock = &h->lw->alloc.socket;
	sock->type = SOCK_STREAM;
	sock->state = SS_CONNECTED;
	sock->flags = 0;
	sock->ops = listener->ops;
	sock->sk = sk;
	__module_get(sock->ops->owner);
	inode = &h->lw->alloc.vfs_inode;
	inode->i_uid = current_fsuid();
	inode->i_gid = current_fsgid();
	inode->i_ino = get_next_ino();

	write_lock_bh(&sk->sk_callback_lock);
	rcu_assign_pointer(sk->sk_wq, &sock->wq);
	/* tcp_check_space() looks at it with nothing but the socket's spinlock. */
	smp_wmb();
	sk_set_socket(sk, sock);
	sk->sk_uid = inode->i_uid;
	write_unlock_bh(&sk->sk_callback_lock);
	h->bare = true;
	*out = sock;
	return 0;
}

/* Takes a connection from the queue: EAGAIN when there is none. */
int mp_lwsocket_accept(struct socket *listener, struct mp_handle *h, struct socket **out)
{
	struct socket *sock;
	int err;

	/* Plain TCP only; what wraps it (kTLS, a sockmap) wraps accept, too. */
	if (listener->sk->sk_family != AF_UNIX && listener->sk->sk_prot->accept == tcp_prot.accept)
		return mp_accept_bare(listener, h, out);
	err = sock_create_lite(listener->sk->sk_family, listener->type, listener->sk->sk_protocol, &sock);
	if (err)
		return err;
	err = mp_ops_accept(listener, sock);
	if (err) {
		sock_release(sock);
		return err;
	}
	sock->ops = listener->ops;
	__module_get(sock->ops->owner);
	*out = sock;
	return 0;
}

/* Never waits: a channel may have thousands to close, and may be closing them for a process that was killed. */
void mp_lwsocket_release(struct mp_handle *h)
{
	struct socket *sock = h->sock;
	struct sock *sk = sock->sk;
	struct module *owner;

	/* SO_LINGER with a time waits for the peer. With 0 it asks for a reset, and that it gets. */
	if (sk && sock_flag(sk, SOCK_LINGER) && sk->sk_lingertime) {
		lock_sock(sk);
		sock_reset_flag(sk, SOCK_LINGER);
		release_sock(sk);
	}

	if (!h->bare) {
		sock_release(sock);
		return;
	}
	owner = sock->ops->owner;
	sock->ops->release(sock);
	sock->ops = NULL;
	module_put(owner);
}
