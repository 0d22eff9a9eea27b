/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What changed in the kernel's own interfaces since 6.1, in one place. Each function says when. Everything else is
 * written for 6.1 and compiles unchanged later.
 */
#ifndef MEGAPIPE_COMPAT_H
#define MEGAPIPE_COMPAT_H

#include <linux/hrtimer.h>
#include <linux/mm.h>
#include <linux/net.h>
#include <linux/version.h>
#include <net/sock.h>

/* 6.3: vm_flags became read-only. */
static inline void mp_vm_flags_set(struct vm_area_struct *vma, unsigned long flags)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_set(vma, flags);
#else
	vma->vm_flags |= flags;
#endif
}

/* 6.10: the arguments of accept went into a structure. */
static inline int mp_ops_accept(struct socket *sock, struct socket *newsock)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
	struct proto_accept_arg arg = { .flags = O_NONBLOCK };

	return sock->ops->accept(sock, newsock, &arg);
#else
	return sock->ops->accept(sock, newsock, O_NONBLOCK, false);
#endif
}

static inline struct sock *mp_proto_accept(struct sock *sk, int *err)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
	struct proto_accept_arg arg = { .flags = O_NONBLOCK, .err = -EINVAL };
	struct sock *newsk = sk->sk_prot->accept(sk, &arg);

	*err = arg.err;
	return newsk;
#else
	return sk->sk_prot->accept(sk, O_NONBLOCK, err, false);
#endif
}

/* 6.13 brought hrtimer_setup, 6.15 took hrtimer_init away. */
static inline void mp_hrtimer_setup(struct hrtimer *timer, enum hrtimer_restart (*function)(struct hrtimer *))
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
	hrtimer_setup(timer, function, CLOCK_MONOTONIC, HRTIMER_MODE_ABS);
#else
	hrtimer_init(timer, CLOCK_MONOTONIC, HRTIMER_MODE_ABS);
	timer->function = function;
#endif
}

/* 6.19: socket addresses are handed to the kernel's own bind as struct sockaddr_unsized. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
#define MP_SOCKADDR(storage) ((struct sockaddr_unsized *)(storage))
#else
#define MP_SOCKADDR(storage) ((struct sockaddr *)(storage))
#endif

#endif
