/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the self-tests of /dev/megapipe share: TAP, a channel on the raw device, sockets. No library stands between a
 * test and the module. A test program is a main() of CHECKs, in the manner of the kernel's own kselftest.
 *
 * Time decides nothing. A machine under load delivers what was sent, or the end of a connection, when a thread of the kernel has
 * had its turn, and may stop for a second anywhere. So what is to have arrived is waited for (next(), settle(), poll(), with
 * PATIENCE), and only then is it counted. next() submits all that is queued while it waits. What must not come is looked for
 * where it could not come late, and may at worst be missed.
 */
#ifndef SELFTESTS_MEGAPIPE_H
#define SELFTESTS_MEGAPIPE_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/megapipe.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DEVICE "/dev/megapipe"
#define SECOND 1000000000ll
/* Waits that must not end by time: long enough for an emulated machine under load. */
#define PATIENCE (60 * SECOND)

/* ---- TAP */

static int tap_count, tap_failures;

static inline void __attribute__((format(printf, 2, 3))) tap(bool ok, const char *fmt, ...)
{
	va_list ap;

	printf("%s %d - ", ok ? "ok" : "not ok", ++tap_count);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	if (!ok)
		tap_failures++;
}

static inline int tap_end(void)
{
	printf("1..%d\n", tap_count);
	return tap_failures ? 1 : 0;
}

/* A behaviour, in words. */
#define CHECK(condition, ...)                                                       \
	do {                                                                        \
		bool ok_ = (condition);                                             \
		tap(ok_, __VA_ARGS__);                                              \
		if (!ok_)                                                           \
			printf("# %s:%d: %s\n", __FILE__, __LINE__, #condition);    \
	} while (0)

#define CHECK_EQ(got, want, ...)                                                                            \
	do {                                                                                                \
		long long got_ = (got), want_ = (want);                                                     \
		tap(got_ == want_, __VA_ARGS__);                                                            \
		if (got_ != want_)                                                                          \
			printf("# %s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #got, got_, want_);   \
	} while (0)

/* What a test stands on: without it, it cannot go on. */
#define MUST(condition)                                                                          \
	do {                                                                                     \
		if (!(condition)) {                                                              \
			printf("Bail out! %s:%d: %s (%s)\n", __FILE__, __LINE__, #condition,     \
			       strerror(errno));                                                 \
			exit(1);                                                                 \
		}                                                                                \
	} while (0)

/* ---- a channel */

struct channel {
	int fd;
	struct megapipe_params p;
	uint8_t *map;
	uint8_t *buffers;
	uint32_t bq_tail;
};

static inline uint32_t *counter(struct channel *ch, uint32_t at)
{
	return (uint32_t *)(ch->map + at);
}

static inline uint32_t load(uint32_t *at)
{
	return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}

static inline void store(uint32_t *at, uint32_t value)
{
	__atomic_store_n(at, value, __ATOMIC_RELEASE);
}

static inline void give_buffer(struct channel *ch, uint32_t bid)
{
	((uint32_t *)(ch->map + ch->p.bids))[ch->bq_tail++ & (ch->p.buffers - 1)] = bid;
	store(counter(ch, ch->p.bq_tail), ch->bq_tail);
}

static inline struct channel open_channel_with(struct megapipe_params p)
{
	struct channel ch = { .p = p };
	uint32_t i;

	ch.fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	MUST(ch.fd >= 0);
	if (p.buffers) {
		ch.buffers = mmap(NULL, (size_t)p.buffers * p.buffer_bytes, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		MUST(ch.buffers != MAP_FAILED);
		ch.p.buffer_base = (uintptr_t)ch.buffers;
	}
	MUST(ioctl(ch.fd, MEGAPIPE_IOC_SETUP, &ch.p) == 0);
	ch.map = mmap(NULL, ch.p.map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ch.fd, 0);
	MUST(ch.map != MAP_FAILED);
	for (i = 0; i < p.buffers; i++)
		give_buffer(&ch, i);
	return ch;
}

static inline struct megapipe_params default_params(void)
{
	return (struct megapipe_params){
		.sq_entries = 256, .cq_entries = 1024, .handles = 1024, .chosen = 64, .buffers = 64, .buffer_bytes = 2048,
	};
}

static inline struct channel open_channel(void)
{
	return open_channel_with(default_params());
}

static inline void close_channel(struct channel *ch)
{
	munmap(ch->map, ch->p.map_bytes);
	if (ch->buffers)
		munmap(ch->buffers, (size_t)ch->p.buffers * ch->p.buffer_bytes);
	close(ch->fd);
}

/* The first handle that user space may choose. */
static inline uint32_t chosen(struct channel *ch, uint32_t n)
{
	return ch->p.handles - ch->p.chosen + n;
}

static inline __attribute__((always_inline)) void submit(struct channel *ch, struct megapipe_sqe sqe)
{
	uint32_t tail = load(counter(ch, ch->p.sq_tail));

	((struct megapipe_sqe *)(ch->map + ch->p.sqes))[tail & (ch->p.sq_entries - 1)] = sqe;
	store(counter(ch, ch->p.sq_tail), tail + 1);
}

static inline int enter(struct channel *ch, uint32_t n, uint32_t min, int64_t timeout_ns)
{
	struct megapipe_enter e = { .to_submit = n, .min_complete = min, .timeout_ns = timeout_ns, .host_fd = -1 };
	int r = ioctl(ch->fd, MEGAPIPE_IOC_ENTER, &e);

	return r < 0 ? -errno : r;
}

static inline uint32_t unread(struct channel *ch)
{
	return load(counter(ch, ch->p.cq_tail)) - load(counter(ch, ch->p.cq_head));
}

static inline bool take(struct channel *ch, struct megapipe_cqe *out)
{
	uint32_t head = load(counter(ch, ch->p.cq_head));

	if (load(counter(ch, ch->p.cq_tail)) == head)
		return false;
	*out = ((struct megapipe_cqe *)(ch->map + ch->p.cqes))[head & (ch->p.cq_entries - 1)];
	store(counter(ch, ch->p.cq_head), head + 1);
	return true;
}

/* The next completion, waiting for it with patience. */
static inline struct megapipe_cqe next(struct channel *ch)
{
	struct megapipe_cqe cqe = {};
	int r;

	while (!take(ch, &cqe)) {
		r = enter(ch, ch->p.sq_entries, 1, PATIENCE);
		if (r < 0 && r != -EINTR) {
			printf("Bail out! enter: %s\n", strerror(-r));
			exit(1);
		}
		if (r >= 0 && !unread(ch)) {
			printf("Bail out! no completion in a minute\n");
			exit(1);
		}
	}
	return cqe;
}

/* One request and its completion, when nothing else is going on. */
static inline struct megapipe_cqe request(struct channel *ch, struct megapipe_sqe sqe)
{
	submit(ch, sqe);
	return next(ch);
}

static inline int register_fd(struct channel *ch, int fd, uint32_t index, uint32_t generation, uint64_t cookie)
{
	return request(ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_REGISTER, .fd = fd, .index = index,
						  .generation = generation, .cookie = cookie }).res;
}

static inline int close_handle(struct channel *ch, uint32_t index, uint32_t generation)
{
	struct megapipe_cqe cqe;

	submit(ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_CLOSE, .index = index, .generation = generation,
					  .user_data = 0xc105e });
	do
		cqe = next(ch);
	while (cqe.user_data != 0xc105e);
	return cqe.res;
}

/* ---- sockets */

/* -1 where that fails: for the random driver, whose threads close each other's descriptors. */
static inline int try_listen(uint16_t *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 1024) || getsockname(fd, (struct sockaddr *)&a, &len)) {
		close(fd);
		return -1;
	}
	*port = ntohs(a.sin_port);
	return fd;
}

static inline int listen_on(uint16_t *port)
{
	int fd = try_listen(port);

	MUST(fd >= 0);
	return fd;
}

static inline int connect_to(uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* A connected TCP pair. */
static inline void tcp_pair(int out[2])
{
	uint16_t port;
	int listener = listen_on(&port);

	out[0] = connect_to(port);
	out[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	MUST(out[0] >= 0 && out[1] >= 0);
	close(listener);
}

/* Receives exactly n bytes, or fails. */
static inline bool receive_all(int fd, void *to, size_t n)
{
	return recv(fd, to, n, MSG_WAITALL) == (ssize_t)n;
}

static inline void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	MUST(sched_setaffinity(0, sizeof(set), &set) == 0);
}

/*
 * Waits until n connections are in a listening socket's queue: connect() returns when the peer's half of the handshake is
 * there, and ours may still be on its way.
 */
static inline void settle(int listener, uint32_t n)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	do {
		MUST(getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &len) == 0);
		usleep(1000);
	} while (info.tcpi_unacked < n);
}

/* How often to do something that is worth doing often: a tenth of it on a kernel that checks itself, which takes as long. */
static inline int times(int n)
{
	return access("/sys/kernel/debug/kmemleak", F_OK) == 0 ? n / 10 : n;
}

/* Descriptors that this process has open. */
static inline int open_descriptors(void)
{
	int i, n = 0;

	for (i = 0; i < 4096; i++)
		n += fcntl(i, F_GETFD) >= 0;
	return n;
}

/* Runs in a child; its exit status, or -signal. */
static inline int in_child(int (*body)(void *), void *arg)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	MUST(pid >= 0);
	if (pid == 0)
		_exit(body(arg));
	MUST(waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

#endif
