// SPDX-License-Identifier: GPL-2.0
/*
 * The random driver: processes with threads that send random requests, scribble over the rings, close, unmap, fork and are
 * killed at any moment, for as long as is asked for. It judges nothing but that the machine stands it: that every process
 * can be killed and that no channel is left; what the kernel complains of, the test bed sees in its log.
 *
 * usage: random [SECONDS] [SEED]      (5; the time: printed, so that a run can be repeated as far as threads allow)
 */
#include <pthread.h>

#include "megapipe.h"

#define PROCESSES 3
#define THREADS 3
#define SOCKETS 48
#define GROUND (64 * 1024)

static struct channel ch;
static int sockets[SOCKETS];
static uint16_t ports[2];
static uint8_t *ground;

/* xorshift; each thread its own. */
static _Thread_local uint64_t state;

static uint32_t any(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state >> 16;
}

static uint32_t below(uint32_t n)
{
	return any() % n;
}

static bool one_in(uint32_t n)
{
	return below(n) == 0;
}

/* An address: mostly good, sometimes hostile. */
static uint64_t address(void)
{
	switch (below(12)) {
	case 0:
		return below(4096);
	case 1:
		return 0xffff888000000000ull + any();
	case 2:
		return (uintptr_t)ch.map + below(ch.p.map_bytes);
	case 3:
		return (uint64_t)any() << 32 | any();
	case 4:
		return (uintptr_t)ground + GROUND - below(64);
	default:
		return (uintptr_t)ground + below(GROUND / 2);
	}
}

static uint64_t length(void)
{
	switch (below(8)) {
	case 0:
		return 0;
	case 1:
		return (uint64_t)any() << 32 | any();
	case 2:
		return 0x7fffffff;
	default:
		return below(GROUND / 2);
	}
}

/* Handles that exist and others: accepted ones come back in completions, and land here. */
static struct {
	uint32_t index, generation;
} known[64];

static void fill_iovec(void)
{
	struct iovec {
		uint64_t base, len;
	} *iov = (void *)ground;
	int i;

	for (i = 0; i < 16; i++)
		iov[i] = (struct iovec){ address(), one_in(6) ? length() : below(2000) };
}

static struct megapipe_sqe request_of_any_kind(void)
{
	uint32_t k = below(64);
	struct megapipe_sqe s = {
		.opcode = one_in(50) ? any() : below(MEGAPIPE_OP_LAST),
		.flags = one_in(4),
		.fd = one_in(10) ? (int)below(64) : sockets[below(SOCKETS)],
		.index = known[k].index,
		.generation = known[k].generation,
		.addr = address(),
		.len = length(),
		.user_data = any(),
		.cookie = any(),
	};

	switch (s.opcode) {
	case MEGAPIPE_OP_REGISTER:
		s.index = one_in(2) ? MEGAPIPE_INDEX_ANY : chosen(&ch, below(ch.p.chosen + 1));
		s.generation = below(3);
		if (s.index != MEGAPIPE_INDEX_ANY)
			known[k] = (typeof(known[0])){ s.index, s.generation };
		s.op_flags = one_in(8);
		if (one_in(3)) {
			*(uint64_t *)ground = any();
			s.addr = (uintptr_t)ground;
			s.len = 8;
		} else {
			s.len = 0;
		}
		break;
	case MEGAPIPE_OP_ACCEPT:
		s.op_flags = one_in(2);
		s.len = below(5);
		break;
	case MEGAPIPE_OP_READ:
		s.op_flags = below(4);
		break;
	case MEGAPIPE_OP_READV:
	case MEGAPIPE_OP_WRITEV:
		fill_iovec();
		s.addr = one_in(8) ? address() : (uintptr_t)ground;
		s.len = one_in(8) ? length() : below(17);
		break;
	case MEGAPIPE_OP_POLL:
		s.op_flags = below(0x10000);
		break;
	case MEGAPIPE_OP_DISCONNECT:
		s.op_flags = below(4);
		break;
	case MEGAPIPE_OP_CANCEL:
		s.op_flags = below(8);
		break;
	case MEGAPIPE_OP_TIMEOUT:
		s.addr = one_in(3) ? ~0ull >> below(3) : below(20000000);
		break;
	}
	if (one_in(20))
		s.op_flags = any();
	if (one_in(30))
		s.index = any();
	return s;
}

static int fresh_socket(void)
{
	int pair[2];

	switch (below(7)) {
	case 0:
		return socket(AF_INET, SOCK_STREAM, 0);
	case 1:
		return socket(AF_INET, SOCK_DGRAM, 0);
	case 2:
		if (pipe(pair))
			return -1;
		close(pair[1]);
		return pair[0];
	case 3:
		return try_listen(&ports[below(2)]);
	case 4:
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
			return -1;
		close(sockets[0]);
		sockets[0] = pair[1];
		return pair[0];
	default:
		return connect_to(ports[below(2)]);
	}
}

static void scribble(void)
{
	static const uint32_t places[] = { 0, 64, 128, 192, 256, 320 };
	uint32_t at = one_in(3) ? below(ch.p.map_bytes / 4) * 4 : places[below(6)];

	if (one_in(2))
		*(volatile uint32_t *)(ch.map + at) += below(5) - 2;
	else
		*(volatile uint32_t *)(ch.map + at) = any();
}

/* Puts the ring's counters back, so that requests get through between two scribbles. */
static void mend(void)
{
	ch.bq_tail = load(counter(&ch, ch.p.bq_head)) + ch.p.buffers / 2;
	store(counter(&ch, ch.p.bq_tail), ch.bq_tail);
	store(counter(&ch, ch.p.sq_tail), load(counter(&ch, ch.p.sq_head)));
	store(counter(&ch, ch.p.cq_head), load(counter(&ch, ch.p.cq_tail)));
}

static void *thread(void *seed)
{
	struct megapipe_enter e;
	struct megapipe_cqe cqe;
	struct pollfd p;
	char part[512];
	int i, k;

	state = (uintptr_t)seed;
	for (;;) {
		for (i = below(20); i > 0; i--)
			submit(&ch, request_of_any_kind());
		e = (struct megapipe_enter){ .to_submit = below(40), .min_complete = one_in(3) ? below(4) : 0,
					     .timeout_ns = one_in(20) ? (int64_t)any() << below(32) : (int64_t)below(2000000),
					     .flags = one_in(30) ? any() : 0,
					     .host_fd = one_in(4) ? (one_in(4) ? ch.fd : sockets[below(SOCKETS)]) : -1 };
		ioctl(ch.fd, MEGAPIPE_IOC_ENTER, &e);
		for (i = 0; i < 64 && take(&ch, &cqe); i++)
			if (cqe.res >= 0)
				known[below(64)] = (typeof(known[0])){ cqe.index, cqe.generation };
		switch (below(16)) {
		case 0:
			scribble();
			break;
		case 1:
			mend();
			break;
		case 2:
			k = below(SOCKETS);
			close(sockets[k]);
			sockets[k] = fresh_socket();
			break;
		case 3:
		case 4:
			send(sockets[below(SOCKETS)], ground, below(8000), MSG_DONTWAIT | MSG_NOSIGNAL);
			break;
		case 5:
			recv(sockets[below(SOCKETS)], part, sizeof(part), MSG_DONTWAIT);
			break;
		case 6:
			shutdown(sockets[below(SOCKETS)], below(3));
			break;
		case 7:
			p = (struct pollfd){ .fd = ch.fd, .events = any() };
			poll(&p, 1, 0);
			break;
		case 8:
			ioctl(ch.fd, MEGAPIPE_IOC_NAME, &(struct megapipe_name){ .index = known[below(64)].index, .generation = below(3),
										 .peer = below(3), .len = below(200), .addr = address() });
			break;
		case 9:
			if (one_in(40)) {
				pid_t pid = fork();

				if (pid == 0) {
					ioctl(ch.fd, MEGAPIPE_IOC_ENTER, &e);
					_exit(0);
				}
				if (pid > 0)
					waitpid(pid, NULL, 0);
			}
			break;
		case 10:
			if (one_in(60)) {
				void *second = mmap(NULL, ch.p.map_bytes, PROT_READ, MAP_SHARED, ch.fd, 0);

				if (second != MAP_FAILED)
					munmap(second, ch.p.map_bytes);
			}
			break;
		case 11:
			if (one_in(400))
				_exit(0);
			if (one_in(400)) {
				/* The end of the channel, with the others still at it. */
				mmap(ch.map, ch.p.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
				usleep(10000);
				_exit(0);
			}
			break;
		}
	}
	return NULL;
}

static void process(uint64_t seed)
{
	struct rlimit few = { 256, 256 };
	struct megapipe_params p = {};
	pthread_t id;
	int i;

	signal(SIGPIPE, SIG_IGN);
	state = seed | 1;
	MUST(setrlimit(RLIMIT_NOFILE, &few) == 0);
	p.sq_entries = 1u << below(9);
	p.cq_entries = 16u << below(7);
	p.handles = 2 + below(200);
	p.chosen = below(p.handles);
	p.buffers = one_in(4) ? 0 : 1u << below(7);
	p.buffer_bytes = 1 + below(3000);
	ground = mmap(NULL, GROUND, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(ground != MAP_FAILED);
	ch = open_channel_with(p);
	sockets[0] = listen_on(&ports[0]);
	sockets[1] = listen_on(&ports[1]);
	for (i = 2; i < SOCKETS; i++)
		sockets[i] = fresh_socket();
	for (i = 1; i < THREADS; i++)
		MUST(pthread_create(&id, NULL, thread, (void *)(uintptr_t)(any() | 1)) == 0);
	thread((void *)(uintptr_t)(any() | 1));
}

int main(int argc, char **argv)
{
	int seconds = argc > 1 ? atoi(argv[1]) : 5, runs = 0, odd = 0, i, status;
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)time(NULL);
	pid_t pids[PROCESSES] = {};
	time_t end = time(NULL) + seconds;
	bool last;

	printf("# seed %llu\n", (unsigned long long)seed);
	do {
		last = time(NULL) >= end;
		for (i = 0; i < PROCESSES; i++) {
			if (pids[i]) {
				kill(pids[i], SIGKILL);
				MUST(waitpid(pids[i], &status, 0) == pids[i]);
				/* Its own end, or ours; 1 is a MUST that failed. A fault of its own may come of its scribbling. */
				odd += WIFEXITED(status) && WEXITSTATUS(status) != 0;
				pids[i] = 0;
				runs++;
			}
			if (last)
				continue;
			seed = seed * 6364136223846793005ull + 1442695040888963407ull;
			fflush(stdout);
			pids[i] = fork();
			MUST(pids[i] >= 0);
			if (pids[i] == 0)
				process(seed);
			usleep(seed >> 40 & 0x3ffff);
		}
	} while (!last);
	printf("# %d processes\n", runs);
	CHECK_EQ(odd, 0, "processes that do anything with a channel can always be killed");
	CHECK(runs > 0, "there were some");
	return tap_end();
}
