// SPDX-License-Identifier: GPL-2.0
/*
 * A user can hold the lock of his socket for as long as he likes: here in setsockopt(), which copies under it from a page that does
 * not come. Sharing out that socket has to wait for it. Sharing out another one has not.
 */
#include <linux/filter.h>
#include <linux/userfaultfd.h>
#include <pthread.h>

#include "megapipe.h"

static int held, other;
static void *page;

static void *hold(void *unused)
{
	struct sock_fprog program = { .len = 1, .filter = page };

	(void)unused;
	/* What becomes of the filter is of no interest. */
	setsockopt(held, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
	return NULL;
}

/* Registers a listening socket with a CPU mask, in a channel of its own, and leaves again; 0: it worked. */
static int share_out(int fd)
{
	struct channel ch = open_channel();
	unsigned long mask = ~0ul;

	return request(&ch, (struct megapipe_sqe){ .opcode = MEGAPIPE_OP_REGISTER, .fd = fd, .index = chosen(&ch, 0), .generation = 1,
						   .addr = (uintptr_t)&mask, .len = sizeof(mask) }).res != 0;
}

static pid_t start(int fd)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	MUST(pid >= 0);
	if (pid == 0)
		_exit(share_out(fd));
	return pid;
}

/* What the process does, as /proc has it; 'D': waits for a lock of the kernel's. */
static char state_of(pid_t pid)
{
	char path[64], state = '?';
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	MUST(f && fscanf(f, "%*d %*s %c", &state) == 1);
	fclose(f);
	return state;
}

/* Whether it comes to a wait that does not end by itself. A process may wait for a lock for a moment anywhere. */
static bool gets_stuck(pid_t pid)
{
	int i, stuck = 0;

	for (i = 0; i < 6000 && stuck < 20; i++) {
		usleep(10000);
		stuck = state_of(pid) == 'D' ? stuck + 1 : 0;
	}
	return stuck == 20;
}

/* Its exit status, or -1: it is still running after a minute. */
static int ends(pid_t pid)
{
	int status, i;

	for (i = 0; i < 6000; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
		usleep(10000);
	}
	return -1;
}

int main(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register region = { .range.len = 4096, .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_zeropage zero = { .range.len = 4096 };
	/* Whoever may block on it cannot poll it: POLLERR, at once. */
	int faults = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	struct pollfd fault = { .fd = faults, .events = POLLIN };
	pid_t first, second;
	pthread_t thread;
	uint16_t port;

	if (faults < 0) {
		printf("1..0 # SKIP this kernel has no userfaultfd, which makes a page wait\n");
		return 0;
	}
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	region.range.start = zero.range.start = (uintptr_t)page;
	MUST(page != MAP_FAILED && ioctl(faults, UFFDIO_API, &api) == 0 && ioctl(faults, UFFDIO_REGISTER, &region) == 0);
	held = listen_on(&port);
	other = listen_on(&port);
	MUST(pthread_create(&thread, NULL, hold, NULL) == 0);
	/* Readable: somebody waits for the page. */
	MUST(poll(&fault, 1, 60000) == 1 && fault.revents == POLLIN);

	first = start(held);
	CHECK(gets_stuck(first), "who shares out a socket whose lock is held waits for it");
	second = start(other);
	CHECK_EQ(ends(second), 0, "who shares out another one does not");
	MUST(ioctl(faults, UFFDIO_ZEROPAGE, &zero) == 0);
	pthread_join(thread, NULL);
	CHECK_EQ(ends(first), 0, "and the first goes on when the lock is there");
	kill(second, SIGKILL);
	return tap_end();
}
