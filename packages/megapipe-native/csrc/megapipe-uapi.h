/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * /dev/megapipe: what user space and megapipe.ko say to each other.
 *
 * Opening the device makes a channel. MEGAPIPE_IOC_SETUP gives it its rings, one mmap() of params.map_bytes at offset 0
 * shows them, and from then on MEGAPIPE_IOC_ENTER is the one system call: it hands over requests (struct megapipe_sqe)
 * and waits for completions (struct megapipe_cqe). Heads and tails are 32-bit counters that run freely; the index of an
 * entry is counter & (entries - 1). User space writes sq_tail, cq_head and bq_tail with release semantics, the kernel the
 * other three.
 *
 * A channel belongs to the process that set it up: others may inherit the descriptor, but get EPERM from every call. When
 * the last mapping of the rings goes (munmap, exec, the end of the process in whatever way), every connection of the
 * channel is closed and the channel is dead (ESHUTDOWN).
 */
#ifndef _UAPI_LINUX_MEGAPIPE_H
#define _UAPI_LINUX_MEGAPIPE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/** MEGAPIPE_ABI - version of this interface; params.abi tells the module's. */
#define MEGAPIPE_ABI 1

/* Limits that MEGAPIPE_IOC_SETUP enforces with EINVAL. */
#define MEGAPIPE_SQ_ENTRIES_MAX 32768
#define MEGAPIPE_CQ_ENTRIES_MIN 16
#define MEGAPIPE_CQ_ENTRIES_MAX 65536
#define MEGAPIPE_HANDLES_MAX (1u << 20)
#define MEGAPIPE_BUFFERS_MAX 32768
#define MEGAPIPE_BUFFER_BYTES_MAX (1u << 20)
/** MEGAPIPE_TIMEOUTS_MAX - MEGAPIPE_OP_TIMEOUT requests that may be pending in a channel (then ENOSPC). */
#define MEGAPIPE_TIMEOUTS_MAX 1024
/** MEGAPIPE_INDEX_ANY - in sqe.index of a REGISTER: the kernel chooses the handle's index, and its generation. */
#define MEGAPIPE_INDEX_ANY 0xffffffffu

/**
 * struct megapipe_params - the argument of MEGAPIPE_IOC_SETUP
 * @sq_entries: in: submission entries, a power of two, 1 to 32,768
 * @cq_entries: in: completion entries, a power of two, 16 to 65,536
 * @handles: in: handles at most, 2 to 2^20. Bounded by RLIMIT_NOFILE (EMFILE), since lwsockets are no descriptors
 *	that it could count, and by the module's parameter max_user_handles over all channels of a user
 * @chosen: in: how many of @handles get an index that user space chooses (0 to @handles): the last ones. The first
 *	@handles - @chosen are given out by the kernel: to accepted lwsockets and MEGAPIPE_INDEX_ANY
 * @buffers: in: receive buffers that MEGAPIPE_READ_PROVIDED takes from, a power of two up to 32,768, or 0
 * @buffer_bytes: in: bytes of each, 1 to 2^20
 * @buffer_base: in: address of buffer 0; the others follow without a gap
 * @flags: in: 0
 * @abi: out: MEGAPIPE_ABI of the module
 * @map_bytes: out: length to mmap()
 * @sq_head: out: offset in the mapping of the counter of requests that the kernel took
 * @sq_tail: out: ... of requests that user space wrote
 * @cq_head: out: ... of completions that user space took
 * @cq_tail: out: ... of completions that the kernel wrote
 * @bq_head: out: ... of buffers that the kernel took
 * @bq_tail: out: ... of buffers that user space gave (back)
 * @sqes: out: offset of the submission entries
 * @cqes: out: offset of the completion entries
 * @bids: out: offset of the ring of buffer numbers, a __u32 each, @buffers entries
 * @reserved: 0
 */
struct megapipe_params {
	__u32 sq_entries;
	__u32 cq_entries;
	__u32 handles;
	__u32 chosen;
	__u32 buffers;
	__u32 buffer_bytes;
	__u64 buffer_base;
	__u32 flags;
	__u32 abi;
	__u32 map_bytes;
	__u32 sq_head;
	__u32 sq_tail;
	__u32 cq_head;
	__u32 cq_tail;
	__u32 bq_head;
	__u32 bq_tail;
	__u32 sqes;
	__u32 cqes;
	__u32 bids;
	__u32 reserved[4];
};

/**
 * enum megapipe_op - what a request does; the fields of struct megapipe_sqe it uses are named. Unnamed ones are 0.
 * @MEGAPIPE_OP_NOP: completes with 0
 * @MEGAPIPE_OP_REGISTER: brings a socket into the channel: @fd a stream socket, TCP or Unix, connected, connecting or
 *	listening; @index and @generation name it from then on, or MEGAPIPE_INDEX_ANY; @cookie comes back in each of its
 *	completions. For a listening TCP socket, @addr and @len may give a CPU mask (@len bytes, as sched_setaffinity
 *	takes it): the channel gets the connections that these CPUs receive (struct megapipe_sqe says more).
 *	ENOTSOCK: a pipe, a file. EPROTONOSUPPORT: another kind of socket. EBUSY: the index is in use. ENFILE: none is
 *	left. With MEGAPIPE_REGISTER_COOKIE, @fd is not used: the handle's cookie becomes @cookie
 * @MEGAPIPE_OP_UNREGISTER: takes the handle out of the channel; the descriptor stays as it is. What is pending
 *	completes with ECANCELED. EOPNOTSUPP for an lwsocket, which is nowhere else
 * @MEGAPIPE_OP_ACCEPT: accepts @len connections (0: until cancelled) from a listening handle. One completion each, in
 *	order: @index and @generation of the new lwsocket, or with MEGAPIPE_ACCEPT_FD a descriptor in res. The upper half
 *	of flags counts the connections that still wait (65,535: at least that many). MEGAPIPE_CQE_MORE: more will come.
 *	EBUSY: an ACCEPT is pending. ENFILE, EMFILE, ENOMEM end it and leave the connection in the queue
 * @MEGAPIPE_OP_READ: receives up to @len bytes at @addr, once; or, with MEGAPIPE_READ_PROVIDED, into a buffer that the
 *	completion names in the upper half of its flags, again and again with MEGAPIPE_READ_MULTISHOT until the end (res
 *	0), a failure, ENOBUFS or a cancellation. EBUSY: another READ, READV is pending
 * @MEGAPIPE_OP_READV: receives into the @len struct iovec at @addr (1,024 at most), which must stay until completion
 * @MEGAPIPE_OP_WRITE: sends @len bytes at @addr, all of them unless an error stops it; res is what was sent. Without
 *	SIGPIPE. EBUSY: another WRITE, WRITEV is pending
 * @MEGAPIPE_OP_WRITEV: sends from the @len struct iovec at @addr, likewise
 * @MEGAPIPE_OP_POLL: waits once for events of poll(2) in @op_flags (POLLERR and POLLHUP always count); res is what there
 *	is. It takes the place of a WRITE. Tells the end of a connect() that was in progress
 * @MEGAPIPE_OP_DISCONNECT: shutdown(2) with @op_flags SHUT_RD, SHUT_WR or SHUT_RDWR. For a listening socket with a CPU
 *	mask: its CPUs go to the other channels of the group, with what waits there; EINVAL when there is no other. The
 *	handle stays
 * @MEGAPIPE_OP_CLOSE: closes the handle; what is pending completes with ECANCELED before
 * @MEGAPIPE_OP_CANCEL: ends the pending requests of a handle that @op_flags select (MEGAPIPE_CANCEL_*), each with
 *	ECANCELED; with MEGAPIPE_CANCEL_TIMEOUT the timeout whose user_data is @addr. res: how many; ENOENT: none
 * @MEGAPIPE_OP_TIMEOUT: completes with ETIME after @addr nanoseconds
 * @MEGAPIPE_OP_LAST: the number of operations
 */
enum megapipe_op {
	MEGAPIPE_OP_NOP,
	MEGAPIPE_OP_REGISTER,
	MEGAPIPE_OP_UNREGISTER,
	MEGAPIPE_OP_ACCEPT,
	MEGAPIPE_OP_READ,
	MEGAPIPE_OP_READV,
	MEGAPIPE_OP_WRITE,
	MEGAPIPE_OP_WRITEV,
	MEGAPIPE_OP_POLL,
	MEGAPIPE_OP_DISCONNECT,
	MEGAPIPE_OP_CLOSE,
	MEGAPIPE_OP_CANCEL,
	MEGAPIPE_OP_TIMEOUT,
	MEGAPIPE_OP_LAST,
};

/* sqe.flags */
/** MEGAPIPE_SQE_SKIP_SUCCESS - no completion unless the request fails (res < 0). */
#define MEGAPIPE_SQE_SKIP_SUCCESS 0x01
#define MEGAPIPE_SQE_FLAGS MEGAPIPE_SQE_SKIP_SUCCESS

/* sqe.op_flags */
#define MEGAPIPE_REGISTER_COOKIE 0x01
#define MEGAPIPE_ACCEPT_FD 0x01
#define MEGAPIPE_READ_PROVIDED 0x01
#define MEGAPIPE_READ_MULTISHOT 0x02
/** MEGAPIPE_CANCEL_READ - the pending READ, READV or ACCEPT. */
#define MEGAPIPE_CANCEL_READ 0x01
/** MEGAPIPE_CANCEL_WRITE - the pending WRITE, WRITEV or POLL. */
#define MEGAPIPE_CANCEL_WRITE 0x02
#define MEGAPIPE_CANCEL_TIMEOUT 0x04

/**
 * struct megapipe_sqe - a request
 * @opcode: enum megapipe_op
 * @flags: MEGAPIPE_SQE_*; others are EINVAL
 * @reserved: 0
 * @fd: descriptor (REGISTER)
 * @index: the handle: its place in the channel's table
 * @generation: and which of those that had that place. ESTALE when it is another by now
 * @addr: see enum megapipe_op
 * @len: see enum megapipe_op
 * @user_data: comes back in the completion
 * @cookie: REGISTER: comes back in every completion of the handle
 * @op_flags: see enum megapipe_op
 * @reserved2: 0
 *
 * A listening TCP socket that is registered with a CPU mask, by any number of channels, becomes a group: the module makes
 * one listening socket for each CPU, all bound where the given one is, and takes the given one out of the game until the
 * last channel has left. A connection goes to the CPU that received its SYN, and from there to the channel whose
 * mask has that CPU. A CPU that nobody asked for is served by one of the channels. When a channel leaves, in whatever
 * way, others take over its CPUs with all that waits there.
 */
struct megapipe_sqe {
	__u8 opcode;
	__u8 flags;
	__u16 reserved;
	__s32 fd;
	__u32 index;
	__u32 generation;
	__u64 addr;
	__u64 len;
	__u64 user_data;
	__u64 cookie;
	__u32 op_flags;
	__u32 reserved2[3];
};

/* cqe.flags, lower half */
/** MEGAPIPE_CQE_MORE - this request goes on: further completions will come. */
#define MEGAPIPE_CQE_MORE 0x01
/** MEGAPIPE_CQE_BUFFER - the bytes are in the buffer whose number is in the upper half. It is user space's now. */
#define MEGAPIPE_CQE_BUFFER 0x02
/** MEGAPIPE_CQE_SHIFT - where the upper half starts: a buffer's number, or the connections that still wait. */
#define MEGAPIPE_CQE_SHIFT 16

/**
 * struct megapipe_cqe - a completion
 * @user_data: of the request
 * @cookie: of the handle (of the listening one, for an ACCEPT)
 * @res: >= 0: the outcome; < 0: -errno
 * @flags: MEGAPIPE_CQE_*
 * @index: the handle; of an ACCEPT that made an lwsocket: the new one
 * @generation: likewise
 */
struct megapipe_cqe {
	__u64 user_data;
	__u64 cookie;
	__s32 res;
	__u32 flags;
	__u32 index;
	__u32 generation;
};

/** MEGAPIPE_ENTER_ABSOLUTE - timeout_ns is a time of CLOCK_MONOTONIC: an interrupted wait can be repeated as it was. */
#define MEGAPIPE_ENTER_ABSOLUTE 0x01

/**
 * struct megapipe_enter - the argument of MEGAPIPE_IOC_ENTER
 * @to_submit: take up to this many requests
 * @min_complete: wait until this many completions are in the ring (or it is full, or the time is up)
 * @timeout_ns: how long at most; < 0: for ever, 0: not at all
 * @flags: MEGAPIPE_ENTER_*
 * @host_fd: a descriptor that ends the wait when it becomes readable, or -1
 * @host_events: out, when host_fd >= 0: 1 if it is readable, 0 if not
 * @reserved: 0
 *
 * The ioctl's result is the number of requests taken; the others stay in the ring, as when the completion ring has no
 * room for outcomes. EINTR: a signal came before anything was taken or completed. Each request is carried out in the
 * order of the ring, by the caller, at once; what would have to wait is tried again in later calls.
 */
struct megapipe_enter {
	__u32 to_submit;
	__u32 min_complete;
	__s64 timeout_ns;
	__u32 flags;
	__s32 host_fd;
	__u32 host_events;
	__u32 reserved;
};

/**
 * struct megapipe_name - the argument of MEGAPIPE_IOC_NAME: where a handle is bound, or connected to
 * @index: the handle
 * @generation: likewise
 * @peer: 0 getsockname(2), 1 getpeername(2)
 * @len: in: room at @addr; out: length of the address
 * @addr: where the struct sockaddr goes
 */
struct megapipe_name {
	__u32 index;
	__u32 generation;
	__u32 peer;
	__u32 len;
	__u64 addr;
};

#define MEGAPIPE_IOC_MAGIC 'M'
/** MEGAPIPE_IOC_SETUP - once for each channel. EINVAL, ENOMEM (RLIMIT_MEMLOCK), EMFILE, EBUSY (it is set up). */
#define MEGAPIPE_IOC_SETUP _IOWR(MEGAPIPE_IOC_MAGIC, 0x40, struct megapipe_params)
#define MEGAPIPE_IOC_ENTER _IOWR(MEGAPIPE_IOC_MAGIC, 0x41, struct megapipe_enter)
#define MEGAPIPE_IOC_NAME _IOWR(MEGAPIPE_IOC_MAGIC, 0x42, struct megapipe_name)

#if defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define MEGAPIPE_PIN(type, field, at) \
	_Static_assert(__builtin_offsetof(struct type, field) == (at), #type "." #field)
_Static_assert(sizeof(struct megapipe_params) == 96, "megapipe_params");
MEGAPIPE_PIN(megapipe_params, sq_entries, 0);
MEGAPIPE_PIN(megapipe_params, cq_entries, 4);
MEGAPIPE_PIN(megapipe_params, handles, 8);
MEGAPIPE_PIN(megapipe_params, chosen, 12);
MEGAPIPE_PIN(megapipe_params, buffers, 16);
MEGAPIPE_PIN(megapipe_params, buffer_bytes, 20);
MEGAPIPE_PIN(megapipe_params, buffer_base, 24);
MEGAPIPE_PIN(megapipe_params, flags, 32);
MEGAPIPE_PIN(megapipe_params, abi, 36);
MEGAPIPE_PIN(megapipe_params, map_bytes, 40);
MEGAPIPE_PIN(megapipe_params, sq_head, 44);
MEGAPIPE_PIN(megapipe_params, sq_tail, 48);
MEGAPIPE_PIN(megapipe_params, cq_head, 52);
MEGAPIPE_PIN(megapipe_params, cq_tail, 56);
MEGAPIPE_PIN(megapipe_params, bq_head, 60);
MEGAPIPE_PIN(megapipe_params, bq_tail, 64);
MEGAPIPE_PIN(megapipe_params, sqes, 68);
MEGAPIPE_PIN(megapipe_params, cqes, 72);
MEGAPIPE_PIN(megapipe_params, bids, 76);
MEGAPIPE_PIN(megapipe_params, reserved, 80);
_Static_assert(sizeof(struct megapipe_sqe) == 64, "megapipe_sqe");
MEGAPIPE_PIN(megapipe_sqe, opcode, 0);
MEGAPIPE_PIN(megapipe_sqe, flags, 1);
MEGAPIPE_PIN(megapipe_sqe, reserved, 2);
MEGAPIPE_PIN(megapipe_sqe, fd, 4);
MEGAPIPE_PIN(megapipe_sqe, index, 8);
MEGAPIPE_PIN(megapipe_sqe, generation, 12);
MEGAPIPE_PIN(megapipe_sqe, addr, 16);
MEGAPIPE_PIN(megapipe_sqe, len, 24);
MEGAPIPE_PIN(megapipe_sqe, user_data, 32);
MEGAPIPE_PIN(megapipe_sqe, cookie, 40);
MEGAPIPE_PIN(megapipe_sqe, op_flags, 48);
MEGAPIPE_PIN(megapipe_sqe, reserved2, 52);
_Static_assert(sizeof(struct megapipe_cqe) == 32, "megapipe_cqe");
MEGAPIPE_PIN(megapipe_cqe, user_data, 0);
MEGAPIPE_PIN(megapipe_cqe, cookie, 8);
MEGAPIPE_PIN(megapipe_cqe, res, 16);
MEGAPIPE_PIN(megapipe_cqe, flags, 20);
MEGAPIPE_PIN(megapipe_cqe, index, 24);
MEGAPIPE_PIN(megapipe_cqe, generation, 28);
_Static_assert(sizeof(struct megapipe_enter) == 32, "megapipe_enter");
MEGAPIPE_PIN(megapipe_enter, to_submit, 0);
MEGAPIPE_PIN(megapipe_enter, min_complete, 4);
MEGAPIPE_PIN(megapipe_enter, timeout_ns, 8);
MEGAPIPE_PIN(megapipe_enter, flags, 16);
MEGAPIPE_PIN(megapipe_enter, host_fd, 20);
MEGAPIPE_PIN(megapipe_enter, host_events, 24);
MEGAPIPE_PIN(megapipe_enter, reserved, 28);
_Static_assert(sizeof(struct megapipe_name) == 24, "megapipe_name");
MEGAPIPE_PIN(megapipe_name, index, 0);
MEGAPIPE_PIN(megapipe_name, generation, 4);
MEGAPIPE_PIN(megapipe_name, peer, 8);
MEGAPIPE_PIN(megapipe_name, len, 12);
MEGAPIPE_PIN(megapipe_name, addr, 16);
#undef MEGAPIPE_PIN
#endif

#endif /* _UAPI_LINUX_MEGAPIPE_H */
