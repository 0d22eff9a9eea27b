// SPDX-License-Identifier: GPL-2.0
/* Waiting: time, signals, poll(), a host descriptor, timeouts, threads. */
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/time.h>

#include "megapipe.h"

static volatile sig_atomic_t alarms;

static void on_alarm(int signal)
{
	(void)signal;
	alarms++;
}

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * SECOND + t.tv_nsec;
}

/* Signals from now on, again and again: one that came before the wait began would end nothing. 0: no more. */
static void alarms_every(int us)
{
	struct itimerval every = { { 0, us }, { 0, us } };

	MUST(setitimer(ITIMER_REAL, &every, NULL) == 0);
}

static bool readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1 && (p.revents & POLLIN);
}

static int enter_raw(struct channel *ch, struct megapipe_enter *e)
{
	int r = ioctl(ch->fd, MEGAPIPE_IOC_ENTER, e);

	return r < 0 ? -errno : r;
}

static void *send_later(void *arg)
{
	usleep(300000);
	MUST(send(*(int *)arg, "late", 4, 0) == 4);
	return NULL;
}

static void *unmap_later(void *arg)
{
	struct channel *ch = arg;

	usleep(300000);
	munmap(ch->map, ch->p.map_bytes);
	return NULL;
}

int main(void)
{
	struct channel ch = open_channel();
	struct sigaction action = { .sa_handler = on_alarm };
	struct epoll_event event = { .events = EPOLLIN };
	struct megapipe_enter e;
	struct megapipe_cqe cqe;
	int tcp[2], pipes[2], ep, i, r;
	uint32_t h = chosen(&ch, 0);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	pthread_t thread;
	int64_t start;
	uint16_t port;
	char text[16];

	tcp_pair(tcp);
	MUST(pipe(pipes) == 0 && register_fd(&ch, tcp[0], h, 1, 0) == 0);
	sigaction(SIGALRM, &action, NULL);

	start = now();
	CHECK_EQ(enter(&ch, 0, 1, SECOND / 5), 0, "a wait whose time is up is no error");
	CHECK(now() - start >= SECOND / 5, "and has lasted that long");
	e = (struct megapipe_enter){ .min_complete = 1, .timeout_ns = now() + SECOND / 5, .flags = MEGAPIPE_ENTER_ABSOLUTE,
				     .host_fd = -1 };
	CHECK(enter_raw(&ch, &e) == 0 && now() >= e.timeout_ns, "an absolute time, likewise");
	e.flags = 2;
	CHECK_EQ(enter_raw(&ch, &e), -EINVAL, "an unknown flag: EINVAL");

	alarms_every(200000);
	CHECK_EQ(enter(&ch, 0, 1, PATIENCE), -EINTR, "a signal ends a wait: EINTR");
	submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_READ, .index = h, .generation = 1, .addr = (uintptr_t)text,
					   .len = 16, .user_data = 1 });
	CHECK_EQ(enter(&ch, 1, 1, PATIENCE), 1, "but what was taken before it counts");
	alarms_every(0);
	CHECK(alarms >= 2, "(%d came)", (int)alarms);
	MUST(pthread_create(&thread, NULL, send_later, &tcp[1]) == 0);
	CHECK_EQ(next(&ch).res, 4, "bytes that arrive end a wait");
	pthread_join(thread, NULL);

	/* poll and epoll. */
	CHECK(!readable(ch.fd, 0), "poll: nothing to do");
	submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_READ, .index = h, .generation = 1, .addr = (uintptr_t)text,
					   .len = 16, .user_data = 1 });
	MUST(enter(&ch, 1, 0, 0) == 1);
	CHECK(!readable(ch.fd, 0), "nor while a request waits");
	MUST(send(tcp[1], "poll", 4, 0) == 4);
	CHECK(readable(ch.fd, 60000), "readable, since the next enter would complete it");
	MUST(enter(&ch, 0, 0, 0) == 0);
	CHECK(unread(&ch) == 1 && readable(ch.fd, 0), "readable, since there is a completion to take");
	MUST(take(&ch, &cqe));
	CHECK(!readable(ch.fd, 0), "and then no more");
	ep = epoll_create1(0);
	MUST(epoll_ctl(ep, EPOLL_CTL_ADD, ch.fd, &event) == 0);
	submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_READ, .index = h, .generation = 1, .addr = (uintptr_t)text,
					   .len = 16, .user_data = 1 });
	MUST(enter(&ch, 1, 0, 0) == 1);
	MUST(pthread_create(&thread, NULL, send_later, &tcp[1]) == 0);
	CHECK_EQ(epoll_wait(ep, &event, 1, 60000), 1, "epoll wakes for it");
	pthread_join(thread, NULL);
	CHECK_EQ(next(&ch).res, 4, "as told");

	/* The host's descriptor. An epoll set that holds the channel itself must not tie a knot. */
	e = (struct megapipe_enter){ .min_complete = 1, .timeout_ns = PATIENCE, .host_fd = pipes[0] };
	MUST(write(pipes[1], "h", 1) == 1);
	CHECK(enter_raw(&ch, &e) == 0 && e.host_events == 1, "a readable host descriptor ends the wait, and is reported");
	MUST(read(pipes[0], text, 1) == 1);
	e.timeout_ns = SECOND / 10;
	CHECK(enter_raw(&ch, &e) == 0 && e.host_events == 0, "one that is not does not");
	e.timeout_ns = PATIENCE;
	MUST((r = fork()) >= 0);
	if (r == 0) {
		usleep(300000);
		_exit(write(pipes[1], "h", 1) != 1);
	}
	CHECK(enter_raw(&ch, &e) == 0 && e.host_events == 1, "one that becomes readable does");
	waitpid(r, NULL, 0);
	e = (struct megapipe_enter){ .min_complete = 1, .timeout_ns = SECOND / 10, .host_fd = ep };
	CHECK(enter_raw(&ch, &e) == 0 && e.host_events == 0, "an epoll set with the channel in it, which is idle");
	e.host_fd = 999;
	CHECK_EQ(enter_raw(&ch, &e), -EBADF, "a host descriptor that is none: EBADF");

	/* Timeouts. */
	start = now();
	submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_TIMEOUT, .addr = 2 * SECOND, .user_data = 52 });
	submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_TIMEOUT, .addr = SECOND / 4, .user_data = 51 });
	submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_TIMEOUT, .addr = 3600 * SECOND, .user_data = 53 });
	MUST(enter(&ch, 3, 0, 0) == 3);
	CHECK(readable(ch.fd, 60000), "a timeout makes the channel readable");
	cqe = next(&ch);
	CHECK(cqe.user_data == 51 && cqe.res == -ETIME && now() - start >= SECOND / 4, "timeouts complete with ETIME, the shorter first");
	cqe = next(&ch);
	CHECK(cqe.user_data == 52 && now() - start >= 2 * SECOND, "then the longer");
	submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_CANCEL, .op_flags = MEGAPIPE_CANCEL_TIMEOUT, .addr = 53, .user_data = 54 });
	cqe = next(&ch);
	CHECK(cqe.user_data == 53 && cqe.res == -ECANCELED, "a cancelled one with ECANCELED");
	CHECK_EQ(next(&ch).res, 1, "which counts 1");
	CHECK_EQ(request(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_CANCEL, .op_flags = MEGAPIPE_CANCEL_TIMEOUT, .addr = 53 }).res,
		 -ENOENT, "and is gone: ENOENT");
	CHECK_EQ(request(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_CANCEL, .index = h, .generation = 1, .op_flags = 3 }).res,
		 -ENOENT, "cancel of nothing: ENOENT");
	for (i = 0; i < MEGAPIPE_TIMEOUTS_MAX; i++) {
		submit(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_TIMEOUT, .addr = 3600 * SECOND + rand() });
		MUST(enter(&ch, 1, 0, 0) == 1);
	}
	CHECK_EQ(request(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_TIMEOUT, .addr = 1 }).res, -ENOSPC, "their number is bounded: ENOSPC");

	/* The outcome of connect(), by POLL. */
	close(listen_on(&port));
	a.sin_port = htons(port);
	r = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	(void)!connect(r, (struct sockaddr *)&a, sizeof(a));
	MUST(register_fd(&ch, r, chosen(&ch, 1), 1, 0) == 0);
	cqe = request(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_POLL, .index = chosen(&ch, 1), .generation = 1, .op_flags = POLLOUT });
	CHECK(cqe.res > 0 && (cqe.res & POLLERR), "POLL tells of a connect that was refused");

	/* The rings are taken away under a waiting thread. */
	MUST(pthread_create(&thread, NULL, unmap_later, &ch) == 0);
	CHECK_EQ(enter(&ch, 0, ch.p.cq_entries, PATIENCE), -ESHUTDOWN, "unmapping the rings ends a wait: ESHUTDOWN");
	pthread_join(thread, NULL);
	close(ch.fd);
	return tap_end();
}
