// SPDX-License-Identifier: GPL-2.0
/*
 * Groups: a listening socket that several channels share by CPU, the paper's partitioned listening.
 *
 * The first channel that registers a listening socket with a CPU mask makes the group: one listening socket for each
 * CPU that is online, all on the address of the original, in one SO_REUSEPORT group that a classic BPF program steers by the
 * CPU a SYN was received on. The original is unhashed, so new connections no longer reach it (handshakes that it had
 * begun still do, so its queue is served as well); it is hashed again before the last of the others goes.
 *
 * Channels do not own sockets, they serve queues. When one comes or goes, only the table of who serves what changes:
 * no socket closes, so no connection is lost, whether accepted, waiting or half open, also when a channel's process is
 * killed. And the program is attached once and never replaced (up to Linux 6.1 and beyond, replacing a classic program
 * frees the old one without a grace period, while packets may be running it).
 *
 * Everything of a group is under its own lock, except what the wake-up of a queue needs (mp_queue.lock) and the look of an
 * accepting channel at the queues: those live as long as the group has members, and a channel is one as long as it looks.
 * A look at the owners without the lock may see an old table: then one more channel tries accept, and one of them gets
 * EAGAIN; the new owners are woken after the change.
 *
 * The original's lock_sock() is its user's to hold, for as long as a page of his memory takes to come: it is taken under the
 * group's lock, and so concerns only those who share that socket. mp_groups_lock finds a socket's group, and nobody sleeps
 * under it. A group may be unmade by its last member and made again by the next, who was waiting for its lock: it goes when
 * nobody is left who found it. So there is never more than one for a socket.
 *
 * The sockets are made with the credentials of the original's file: whoever was given that descriptor may accept from it,
 * and need not be allowed to bind the port anew. They belong to its network namespace, and hold a reference to it.
 */
#include <linux/bpf.h>
#include <linux/cred.h>
#include <linux/filter.h>
#include <linux/in6.h>
#include <linux/slab.h>
#include <net/inet_connection_sock.h>
#include <net/inet_sock.h>
#include <net/ipv6.h>
#include <net/sock_reuseport.h>
#include <net/tcp.h>

#include "megapipe.h"

struct mp_queue {
	struct socket *sock;
	/* CPU whose connections come here; nr_cpu_ids: the original's queue, which nothing new is steered to. */
	unsigned int cpu;
	wait_queue_entry_t wait;
	spinlock_t lock;
	struct mp_handle *owners[MP_QUEUE_OWNERS];
	unsigned int nr_owners;
	unsigned int next;
};

struct mp_group {
	/* Under mp_groups_lock: place in mp_groups; members, and who is about to become one. */
	struct list_head link;
	unsigned int users;
	/* The original, and the file that keeps it. */
	struct file *file;
	struct socket *original;
	struct mutex lock;
	struct list_head members;
	unsigned int nr_members;
	/* NULL: nothing is shared out now. */
	struct mp_queue *queues;
	unsigned int nr_queues;
};

static LIST_HEAD(mp_groups);
static DEFINE_SPINLOCK(mp_groups_lock);

static int mp_queue_wake(wait_queue_entry_t *wait, unsigned int mode, int sync, void *key)
{
	struct mp_queue *q = container_of(wait, struct mp_queue, wait);
	unsigned long flags;

	spin_lock_irqsave(&q->lock, flags);
	/* Several that share a CPU take turns. */
	if (q->nr_owners)
		mp_handle_wake(q->owners[q->next++ % q->nr_owners]);
	spin_unlock_irqrestore(&q->lock, flags);
	return 1;
}

/* A queue of this member's with a connection in it, or NULL. Called with its channel's lock only. */
struct socket *mp_group_waiting(struct mp_handle *h, u32 *pending)
{
	struct mp_group *g = h->group;
	unsigned int i, k;

	for (i = 0; i < g->nr_queues; i++) {
		struct mp_queue *q = &g->queues[i];
		struct sock *sk = q->sock->sk;

		if (reqsk_queue_empty(&inet_csk(sk)->icsk_accept_queue))
			continue;
		for (k = 0; k < READ_ONCE(q->nr_owners) && k < MP_QUEUE_OWNERS; k++)
			if (READ_ONCE(q->owners[k]) == h) {
				*pending = mp_queue_length(sk);
				return q->sock;
			}
	}
	return NULL;
}

static void mp_queue_serve(struct mp_queue *q, struct mp_handle **owners, unsigned int nr)
{
	unsigned long flags;
	unsigned int i;

	spin_lock_irqsave(&q->lock, flags);
	WRITE_ONCE(q->nr_owners, 0);
	for (i = 0; i < nr; i++)
		WRITE_ONCE(q->owners[i], owners[i]);
	WRITE_ONCE(q->nr_owners, nr);
	/* What waits already was announced to somebody else. */
	if (nr && !reqsk_queue_empty(&inet_csk(q->sock->sk)->icsk_accept_queue))
		for (i = 0; i < nr; i++)
			mp_handle_wake(owners[i]);
	spin_unlock_irqrestore(&q->lock, flags);
}

/* Settles anew who serves which queue. */
static void mp_group_share_out(struct mp_group *g)
{
	struct mp_handle *owners[MP_QUEUE_OWNERS];
	unsigned int i, nr, active = 0, skip;
	struct mp_handle *h;
	bool all;

	lockdep_assert_held(&g->lock);
	list_for_each_entry(h, &g->members, member)
		active += !h->retired;
	/* Only retired ones are left: better they than nobody. */
	all = active == 0;
	if (all)
		active = g->nr_members;
	for (i = 0; i < g->nr_queues; i++) {
		struct mp_queue *q = &g->queues[i];

		nr = 0;
		list_for_each_entry(h, &g->members, member)
			if ((all || !h->retired) && q->cpu < nr_cpu_ids && cpumask_test_cpu(q->cpu, h->cpus) &&
			    nr < MP_QUEUE_OWNERS)
				owners[nr++] = h;
		if (!nr && active) {
			/* Nobody asked for this CPU: one after the other gets such a queue. */
			skip = i % active;
			list_for_each_entry(h, &g->members, member)
				if ((all || !h->retired) && skip-- == 0) {
					owners[nr++] = h;
					break;
				}
		}
		mp_queue_serve(q, owners, nr);
	}
}

/* What an accepted connection inherits from its listening socket, and what decides how it is bound. */
static void mp_copy_options(struct sock *to, struct sock *from)
{
	lock_sock(to);
	to->sk_reuseport = 1;
	/*
	 * The original and its connections are where this one is to be bound. That is meant, so the check for conflicts is
	 * left out, as the stack itself does it to restore connections; the user's choice comes back afterwards.
	 */
	to->sk_reuse = SK_FORCE_REUSE;
	to->sk_bound_dev_if = from->sk_bound_dev_if;
	to->sk_mark = from->sk_mark;
	to->sk_priority = from->sk_priority;
	to->sk_sndbuf = READ_ONCE(from->sk_sndbuf);
	to->sk_rcvbuf = READ_ONCE(from->sk_rcvbuf);
	to->sk_userlocks = from->sk_userlocks & (SOCK_SNDBUF_LOCK | SOCK_RCVBUF_LOCK);
	to->sk_rcvlowat = from->sk_rcvlowat;
	sock_valbool_flag(to, SOCK_KEEPOPEN, sock_flag(from, SOCK_KEEPOPEN));
	sock_valbool_flag(to, SOCK_LINGER, sock_flag(from, SOCK_LINGER));
	to->sk_lingertime = from->sk_lingertime;
	inet_sk(to)->tos = inet_sk(from)->tos;
	inet_sk(to)->uc_ttl = inet_sk(from)->uc_ttl;
	tcp_sk(to)->nonagle = tcp_sk(from)->nonagle;
	tcp_sk(to)->keepalive_time = tcp_sk(from)->keepalive_time;
	tcp_sk(to)->keepalive_intvl = tcp_sk(from)->keepalive_intvl;
	tcp_sk(to)->keepalive_probes = tcp_sk(from)->keepalive_probes;
	tcp_sk(to)->rx_opt.user_mss = tcp_sk(from)->rx_opt.user_mss;
	tcp_sk(to)->notsent_lowat = tcp_sk(from)->notsent_lowat;
	inet_csk(to)->icsk_user_timeout = inet_csk(from)->icsk_user_timeout;
	inet_csk(to)->icsk_accept_queue.rskq_defer_accept = inet_csk(from)->icsk_accept_queue.rskq_defer_accept;
#if IS_ENABLED(CONFIG_IPV6)
	if (to->sk_family == AF_INET6) {
		to->sk_ipv6only = from->sk_ipv6only;
		inet6_sk(to)->tclass = inet6_sk(from)->tclass;
	}
#endif
	release_sock(to);
}

/* ... and what takes more than setting a field. */
static int mp_copy_rest(struct socket *to, struct sock *from)
{
	int fastopen = READ_ONCE(inet_csk(from)->icsk_accept_queue.fastopenq.max_qlen);
	char congestion[TCP_CA_NAME_MAX];
	int err = 0;

	if (fastopen)
		err = to->ops->setsockopt(to, SOL_TCP, TCP_FASTOPEN, KERNEL_SOCKPTR(&fastopen), sizeof(fastopen));
	if (err || !inet_csk(from)->icsk_ca_setsockopt)
		return err;
	rcu_read_lock();
	strscpy(congestion, READ_ONCE(inet_csk(from)->icsk_ca_ops)->name, sizeof(congestion));
	rcu_read_unlock();
	return to->ops->setsockopt(to, SOL_TCP, TCP_CONGESTION, KERNEL_SOCKPTR(congestion), strlen(congestion));
}

static int mp_make_socket(struct mp_group *g, struct mp_queue *q)
{
	struct sockaddr_storage address = {};
	struct sock *original = g->original->sk;
	int len, err;

	/* As a process would make it (kern 0): security modules are asked, the namespace is held. */
	err = __sock_create(sock_net(original), original->sk_family, SOCK_STREAM, IPPROTO_TCP, &q->sock, 0);
	if (err)
		return err;
	mp_copy_options(q->sock->sk, original);
	len = kernel_getsockname(g->original, (struct sockaddr *)&address);
	if (len < 0)
		return len;
	err = kernel_bind(q->sock, MP_SOCKADDR(&address), len);
	if (err)
		return err;
	err = kernel_listen(q->sock, READ_ONCE(original->sk_max_ack_backlog));
	lock_sock(q->sock->sk);
	q->sock->sk->sk_reuse = original->sk_reuse;
	release_sock(q->sock->sk);
	return err ?: mp_copy_rest(q->sock, original);
}

/* The program: CPU -> place in the group. A CPU that came online later gets a number that none has: the hash decides. */
static int mp_attach_program(struct mp_group *g)
{
	struct sock *any = g->queues[0].sock->sk;
	struct sock_reuseport *reuse;
	struct sock_fprog_kern fprog;
	struct sock_filter *code;
	struct bpf_prog *prog;
	unsigned int i, k, n = 0;
	int err;

	/* CPU numbers are compared as 32-bit constants; the jumps span one instruction. */
	code = kvcalloc(2 * g->nr_queues + 2, sizeof(*code), GFP_KERNEL_ACCOUNT);
	if (!code)
		return -ENOMEM;
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_CPU);
	rcu_read_lock();
	reuse = rcu_dereference(any->sk_reuseport_cb);
	for (i = 0; i < g->nr_queues && reuse; i++)
		for (k = 0; k < READ_ONCE(reuse->num_socks); k++)
			if (g->queues[i].cpu < nr_cpu_ids && reuse->socks[k] == g->queues[i].sock->sk) {
				code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, g->queues[i].cpu, 0, 1);
				code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, k);
			}
	rcu_read_unlock();
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0xffff);
	fprog.filter = code;
	fprog.len = n;
	err = n > BPF_MAXINSNS ? -E2BIG : bpf_prog_create(&prog, &fprog);
	kvfree(code);
	if (err)
		return err;
	err = reuseport_attach_prog(any, prog);
	if (err)
		bpf_prog_destroy(prog);
	return err;
}

static void mp_original_hide(struct sock *sk)
{
	lock_sock(sk);
	sk->sk_prot->unhash(sk);
	release_sock(sk);
}

static void mp_original_show(struct sock *sk)
{
	lock_sock(sk);
	/* Unless it was shut down meanwhile. */
	if (sk->sk_state == TCP_LISTEN && sk_unhashed(sk))
		sk->sk_prot->hash(sk);
	release_sock(sk);
}

/* Also undoes a making that failed half way. */
static void mp_group_unmake(struct mp_group *g)
{
	unsigned int i;

	mp_original_show(g->original->sk);
	for (i = 0; i < g->nr_queues; i++) {
		struct mp_queue *q = &g->queues[i];

		if (q->wait.func)
			remove_wait_queue(&q->sock->wq.wait, &q->wait);
		if (q->sock && q->sock != g->original)
			sock_release(q->sock);
	}
	kvfree(g->queues);
	g->queues = NULL;
	g->nr_queues = 0;
}

/* Makes the sockets, and lets them take the original's place. */
static int mp_group_make(struct mp_group *g)
{
	unsigned int cpu, i, nr = num_online_cpus() + 1;
	struct sock *sk = g->original->sk;
	const struct cred *old;
	int err = 0;

	/* One that has SO_REUSEPORT is in a group of its user's making. */
	if (READ_ONCE(sk->sk_state) != TCP_LISTEN || sk->sk_reuseport)
		return -EINVAL;
	g->queues = kvcalloc(nr, sizeof(*g->queues), GFP_KERNEL_ACCOUNT);
	if (!g->queues)
		return -ENOMEM;
	old = override_creds(g->file->f_cred);
	/* Room was made for so many; what comes online meanwhile is left to the hash. */
	for_each_online_cpu(cpu) {
		if (g->nr_queues == nr - 1)
			break;
		spin_lock_init(&g->queues[g->nr_queues].lock);
		g->queues[g->nr_queues].cpu = cpu;
		err = mp_make_socket(g, &g->queues[g->nr_queues++]);
		if (err)
			break;
	}
	revert_creds(old);
	if (err)
		goto failed;
	spin_lock_init(&g->queues[g->nr_queues].lock);
	g->queues[g->nr_queues].cpu = nr_cpu_ids;
	g->queues[g->nr_queues++].sock = g->original;
	for (i = 0; i < g->nr_queues; i++) {
		struct mp_queue *q = &g->queues[i];

		init_waitqueue_func_entry(&q->wait, mp_queue_wake);
		add_wait_queue(&q->sock->wq.wait, &q->wait);
	}
	/* From here on connections arrive at the new sockets, until the program is there by hash. */
	mp_original_hide(sk);
	err = mp_attach_program(g);
	if (err)
		goto failed;
	return 0;
failed:
	mp_group_unmake(g);
	return err;
}

/* The socket's group, new or not; mp_group_put must follow. */
static struct mp_group *mp_group_get(struct file *file, struct socket *original)
{
	struct mp_group *fresh = kzalloc(sizeof(*fresh), GFP_KERNEL_ACCOUNT), *g;

	if (!fresh)
		return NULL;
	mutex_init(&fresh->lock);
	INIT_LIST_HEAD(&fresh->members);
	fresh->original = original;
	spin_lock(&mp_groups_lock);
	list_for_each_entry(g, &mp_groups, link)
		if (g->original == original)
			goto found;
	g = fresh;
	g->file = get_file(file);
	list_add(&g->link, &mp_groups);
found:
	g->users++;
	spin_unlock(&mp_groups_lock);
	if (g != fresh)
		kfree(fresh);
	return g;
}

static void mp_group_put(struct mp_group *g)
{
	bool last;

	spin_lock(&mp_groups_lock);
	last = --g->users == 0;
	if (last)
		list_del(&g->link);
	spin_unlock(&mp_groups_lock);
	if (!last)
		return;
	mp_listener_put(g->file);
	kfree(g);
}

/* h->sock, h->file: the listening socket. On failure the handle is no member. */
int mp_group_join(struct mp_handle *h, const struct cpumask *cpus)
{
	struct mp_group *g;
	int err = 0;

	if (!zalloc_cpumask_var(&h->cpus, GFP_KERNEL_ACCOUNT))
		return -ENOMEM;
	cpumask_copy(h->cpus, cpus);
	g = mp_group_get(h->file, h->sock);
	if (!g) {
		err = -ENOMEM;
		goto failed;
	}
	mutex_lock(&g->lock);
	if (!g->queues)
		err = mp_group_make(g);
	if (!err) {
		h->group = g;
		g->nr_members++;
		list_add_tail(&h->member, &g->members);
		mp_group_share_out(g);
	}
	mutex_unlock(&g->lock);
	if (!err)
		return 0;
	mp_group_put(g);
failed:
	free_cpumask_var(h->cpus);
	return err;
}

/* Hands this member's queues to the others. */
int mp_group_retire(struct mp_handle *h)
{
	struct mp_group *g = h->group;
	struct mp_handle *other;
	int err = -EINVAL;

	mutex_lock(&g->lock);
	list_for_each_entry(other, &g->members, member)
		if (other != h && !other->retired)
			err = 0;
	if (!err) {
		h->retired = true;
		mp_group_share_out(g);
	}
	mutex_unlock(&g->lock);
	return err;
}

void mp_group_leave(struct mp_handle *h)
{
	struct mp_group *g = h->group;

	mutex_lock(&g->lock);
	list_del(&h->member);
	g->nr_members--;
	/* After this no queue names the handle, and no wake-up will. */
	mp_group_share_out(g);
	if (!g->nr_members)
		mp_group_unmake(g);
	mutex_unlock(&g->lock);
	mp_group_put(g);
	h->group = NULL;
	free_cpumask_var(h->cpus);
}
