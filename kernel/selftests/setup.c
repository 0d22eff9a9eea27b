// SPDX-License-Identifier: GPL-2.0
/* Making a channel: permissions, parameters, limits, mappings, and who may use it. */
#include <sys/stat.h>

#include "megapipe.h"

static int setup(struct megapipe_params p)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC), r;

	MUST(fd >= 0);
	r = ioctl(fd, MEGAPIPE_IOC_SETUP, &p);
	r = r < 0 ? -errno : r;
	close(fd);
	return r;
}

#define WITH(...) setup(({ struct megapipe_params p_ = default_params(); p_.buffers = 0; __VA_ARGS__; p_; }))

static int as_nobody(void *arg)
{
	(void)arg;
	MUST(setgid(65534) == 0 && setuid(65534) == 0);
	return open(DEVICE, O_RDWR) < 0 ? errno : 0;
}

static int in_forked_child(void *arg)
{
	struct channel *ch = arg;
	struct megapipe_enter e = { .host_fd = -1 };

	if (ioctl(ch->fd, MEGAPIPE_IOC_ENTER, &e) == 0 || errno != EPERM)
		return 1;
	if (mmap(NULL, ch->p.map_bytes, PROT_READ, MAP_SHARED, ch->fd, 0) != MAP_FAILED || errno != EPERM)
		return 2;
	/* The mapping itself did not come along: touching it is the end. */
	*(volatile uint8_t *)ch->map = 1;
	return 3;
}

/* Without capabilities a table may not be larger than RLIMIT_NOFILE, nor the rings than RLIMIT_MEMLOCK. */
static int limited(void *arg)
{
	struct rlimit few = { 100, 100 }, none = { 4096, 4096 };
	struct megapipe_params p = default_params();
	int fd[3], i;

	(void)arg;
	p.buffers = 0;
	p.handles = 101;
	for (i = 0; i < 3; i++)
		MUST((fd[i] = open(DEVICE, O_RDWR)) >= 0);
	MUST(setrlimit(RLIMIT_NOFILE, &few) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
	if (ioctl(fd[0], MEGAPIPE_IOC_SETUP, &p) == 0 || errno != EMFILE)
		return 1;
	p.handles = 100;
	if (ioctl(fd[0], MEGAPIPE_IOC_SETUP, &p) != 0)
		return 2;
	MUST(setrlimit(RLIMIT_MEMLOCK, &none) == 0);
	if (ioctl(fd[1], MEGAPIPE_IOC_SETUP, &p) == 0 || errno != ENOMEM)
		return 3;
	return 0;
}

int main(void)
{
	struct megapipe_params p = default_params();
	struct stat status;
	struct channel ch;
	void *second;
	int fd;

	MUST(stat(DEVICE, &status) == 0);
	CHECK_EQ(status.st_mode & 0777, 0600, "the device is its owner's only");
	CHECK_EQ(in_child(as_nobody, NULL), EACCES, "another user cannot open it");

	CHECK_EQ(WITH(), 0, "a channel with sensible parameters");
	CHECK_EQ(WITH(p_.sq_entries = 0), -EINVAL, "no submission entries: EINVAL");
	CHECK_EQ(WITH(p_.sq_entries = 3), -EINVAL, "3 submission entries, no power of two: EINVAL");
	CHECK_EQ(WITH(p_.sq_entries = 2 * MEGAPIPE_SQ_ENTRIES_MAX), -EINVAL, "too many submission entries: EINVAL");
	CHECK_EQ(WITH(p_.cq_entries = MEGAPIPE_CQ_ENTRIES_MIN / 2), -EINVAL, "too few completion entries: EINVAL");
	CHECK_EQ(WITH(p_.cq_entries = 2 * MEGAPIPE_CQ_ENTRIES_MAX), -EINVAL, "too many completion entries: EINVAL");
	CHECK_EQ(WITH(p_.handles = 1), -EINVAL, "too few handles: EINVAL");
	CHECK_EQ(WITH(p_.handles = MEGAPIPE_HANDLES_MAX + 1), -EINVAL, "too many handles: EINVAL");
	CHECK_EQ(WITH(p_.chosen = p_.handles + 1), -EINVAL, "more chosen handles than handles: EINVAL");
	CHECK_EQ(WITH(p_.flags = 1), -EINVAL, "a flag that does not exist: EINVAL");
	CHECK_EQ(WITH(p_.reserved[2] = 1), -EINVAL, "a reserved field that is not 0: EINVAL");
	CHECK_EQ(WITH(p_.buffers = 3, p_.buffer_bytes = 64), -EINVAL, "3 buffers, no power of two: EINVAL");
	CHECK_EQ(WITH(p_.buffers = 4), 0, "buffers of the default size at address 0 are accepted: the fault comes on use");
	CHECK_EQ(WITH(p_.buffers = 4, p_.buffer_base = 0xffff800000000000ull), -EINVAL, "buffers in the kernel's half: EINVAL");
	CHECK_EQ(WITH(p_.buffers = 4, p_.buffer_base = ~0ull - 4096), -EINVAL, "buffers that wrap around: EINVAL");

	fd = open(DEVICE, O_RDWR);
	CHECK(ioctl(fd, MEGAPIPE_IOC_SETUP, NULL) < 0 && errno == EFAULT, "parameters at NULL: EFAULT");
	CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EBADFD, "mmap before setup: EBADFD");
	CHECK(ioctl(fd, MEGAPIPE_IOC_ENTER, &(struct megapipe_enter){ .host_fd = -1 }) < 0 && errno == EBADFD,
	      "enter before setup: EBADFD");
	CHECK(ioctl(fd, 0x1234, NULL) < 0 && errno == ENOTTY, "an unknown ioctl: ENOTTY");
	close(fd);

	ch = open_channel();
	CHECK_EQ(ch.p.abi, MEGAPIPE_ABI, "the module tells its ABI");
	CHECK(ioctl(ch.fd, MEGAPIPE_IOC_SETUP, &p) < 0 && errno == EBUSY, "a second setup: EBUSY");
	CHECK(mmap(NULL, ch.p.map_bytes, PROT_READ, MAP_PRIVATE, ch.fd, 0) == MAP_FAILED && errno == EINVAL,
	      "a private mapping: EINVAL");
	CHECK(mmap(NULL, ch.p.map_bytes + 4096, PROT_READ, MAP_SHARED, ch.fd, 0) == MAP_FAILED && errno == EINVAL,
	      "a mapping that is too long: EINVAL");
	CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, ch.fd, 4096) == MAP_FAILED && errno == EINVAL,
	      "a mapping with an offset: EINVAL");
	second = mmap(NULL, ch.p.map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ch.fd, 0);
	CHECK(second != MAP_FAILED, "a second mapping");
	munmap(second, ch.p.map_bytes);
	CHECK_EQ(request(&ch, (struct megapipe_sqe){ .user_data = 9 }).user_data, 9, "the channel lives on without the second");
	CHECK_EQ(in_child(in_forked_child, &ch), -SIGSEGV, "a forked child can neither use nor map it, nor has it the mapping");
	CHECK_EQ(request(&ch, (struct megapipe_sqe){ .user_data = 8 }).user_data, 8, "and leaves it whole");
	munmap(ch.map, ch.p.map_bytes);
	CHECK_EQ(enter(&ch, 0, 0, 0), -ESHUTDOWN, "without any mapping the channel is dead: ESHUTDOWN");
	CHECK(mmap(NULL, ch.p.map_bytes, PROT_READ, MAP_SHARED, ch.fd, 0) == MAP_FAILED && errno == ESHUTDOWN,
	      "and cannot be mapped again");
	close(ch.fd);
	CHECK_EQ(in_child(limited, NULL), 0, "RLIMIT_NOFILE and RLIMIT_MEMLOCK bound a channel");
	return tap_end();
}
