// SPDX-License-Identifier: GPL-2.0
/* The memory of channels is charged to the memory cgroup of who opens them, and given back. */
#include <sys/mount.h>
#include <sys/stat.h>

#include "megapipe.h"

#define CHANNELS 100

static char group[64];

static void put(const char *where, const char *name, const char *text)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", where, name);
	fd = open(path, O_WRONLY);
	MUST(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

/* Whether the hierarchy at `root` can account memory. */
static bool accounts_memory(const char *root)
{
	char path[128], controllers[256] = "";
	FILE *f;

	snprintf(path, sizeof(path), "%s/cgroup.controllers", root);
	f = fopen(path, "r");
	MUST(f);
	/* An empty line where there are none. */
	if (!fgets(controllers, sizeof(controllers), f))
		controllers[0] = 0;
	fclose(f);
	return strstr(controllers, "memory");
}

/* Bytes that are charged to the group. */
static long long charged(void)
{
	long long bytes = -1;
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/memory.current", group);
	f = fopen(path, "r");
	MUST(f && fscanf(f, "%lld", &bytes) == 1);
	fclose(f);
	return bytes;
}

int main(void)
{
	char root[] = "/tmp/cgroup-XXXXXX", text[32];
	struct channel ch[CHANNELS];
	struct megapipe_params p = default_params();
	long long before, open, closed;
	size_t rings = 0;
	int i;

	MUST(mkdtemp(root));
	if (mount("cgroup2", root, "cgroup2", 0, NULL)) {
		printf("1..0 # SKIP no cgroup2 here: %s\n", strerror(errno));
		return 0;
	}
	if (!accounts_memory(root)) {
		printf("1..0 # SKIP this kernel has no memory cgroups\n");
		return umount(root) || rmdir(root);
	}
	snprintf(group, sizeof(group), "%s/memory.test", root);
	put(root, "cgroup.subtree_control", "+memory");
	MUST(mkdir(group, 0700) == 0);
	snprintf(text, sizeof(text), "%d", getpid());
	put(group, "cgroup.procs", text);

	p.buffers = 0;
	before = charged();
	for (i = 0; i < CHANNELS; i++) {
		ch[i] = open_channel_with(p);
		rings += ch[i].p.map_bytes;
	}
	open = charged();
	CHECK(open - before >= (long long)rings, "%d channels are charged with no less than their rings: %lld bytes, the rings %zu",
	      CHANNELS, open - before, rings);
	for (i = 0; i < CHANNELS; i++)
		close_channel(&ch[i]);
	/* Some of it stays with the processor for the next charge, or waits for an RCU grace period. */
	for (i = 0; i < 600 && (closed = charged()) - before > (open - before) / 2; i++)
		usleep(100000);
	CHECK(closed - before <= (open - before) / 2, "and that is given back");

	put(root, "cgroup.procs", text);
	MUST(rmdir(group) == 0 && umount(root) == 0 && rmdir(root) == 0);
	return tap_end();
}
