/*
 * Limits of the process: what a server sets once, before it serves. Node.js has no call for any of them.
 * A limit of -1 means unlimited.
 */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "native.h"

static bool limit_arg(napi_env env, napi_value v, rlim_t *out, const char *name) {
  double d;
  if (napi_get_value_double(env, v, &d) == napi_ok && d == -1) {
    *out = RLIM_INFINITY;
    return true;
  }
  size_t size;
  if (!mp_size(env, v, &size, "setRlimit", name)) return false;
  *out = size;
  return true;
}

static napi_value limit_number(napi_env env, rlim_t limit) {
  return mp_number(env, limit == RLIM_INFINITY ? -1 : (double)limit);
}

/* getRlimit(resource) -> { soft, hard } or -errno */
VERB(mp_get_rlimit) {
  napi_value argv[1], out;
  uint32_t resource;
  struct rlimit limit;
  if (!mp_args(env, info, 1, argv, "getRlimit") || !mp_uint(env, argv[0], &resource, "getRlimit", "resource")) return NULL;
  if (getrlimit((int)resource, &limit) < 0) return mp_i32(env, -errno);
  napi_create_object(env, &out);
  mp_set(env, out, "soft", limit_number(env, limit.rlim_cur));
  mp_set(env, out, "hard", limit_number(env, limit.rlim_max));
  return out;
}

/* setRlimit(resource, soft, hard) -> 0 or -errno */
VERB(mp_set_rlimit) {
  napi_value argv[3];
  uint32_t resource;
  struct rlimit limit;
  if (!mp_args(env, info, 3, argv, "setRlimit") || !mp_uint(env, argv[0], &resource, "setRlimit", "resource") ||
      !limit_arg(env, argv[1], &limit.rlim_cur, "soft") || !limit_arg(env, argv[2], &limit.rlim_max, "hard"))
    return NULL;
  return mp_i32(env, setrlimit((int)resource, &limit) < 0 ? -errno : 0);
}

/* Argument (region, offset, length): its first byte, or NULL with an exception. */
static uint8_t *range_args(napi_env env, napi_callback_info info, const char *verb, size_t *length) {
  napi_value argv[3];
  uint32_t region;
  size_t offset;
  if (!mp_args(env, info, 3, argv, verb) || !mp_uint(env, argv[0], &region, verb, "region") ||
      !mp_size(env, argv[1], &offset, verb, "offset") || !mp_size(env, argv[2], length, verb, "length"))
    return NULL;
  return mp_range(env, mp_instance(env), region, offset, *length, verb);
}

/* The same, but only the whole pages among these bytes: *length is 0 where there is none. */
static uint8_t *whole_pages_args(napi_env env, napi_callback_info info, const char *verb, size_t *length) {
  uint8_t *base = range_args(env, info, verb, length);
  if (!base) return NULL;
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  uintptr_t from = ((uintptr_t)base + page - 1) & ~(page - 1), to = ((uintptr_t)base + *length) & ~(page - 1);
  *length = from < to ? to - from : 0;
  return (uint8_t *)from;
}

/*
 * lockMemory(region, offset, length) -> 0 or -errno: these pages stay in memory. Not mlockall: V8 gives pages back with
 * madvise, which fails on locked ones, and V8 aborts then.
 */
VERB(mp_lock_memory) {
  size_t length;
  uint8_t *base = range_args(env, info, "lockMemory", &length);
  if (!base) return NULL;
  return mp_i32(env, mlock(base, length) < 0 ? -errno : 0);
}

/* adviseHugePages(region, offset, length) -> 0 or -errno: the whole pages among these bytes are large ones where the system has them. */
VERB(mp_advise_huge_pages) {
  size_t length;
  uint8_t *base = whole_pages_args(env, info, "adviseHugePages", &length);
  if (!base) return NULL;
  return mp_i32(env, length > 0 && madvise(base, length, MADV_HUGEPAGE) < 0 ? -errno : 0);
}

/*
 * discardMemory(region, offset, length) -> 0 or -errno: the whole pages among these bytes go back to the system, and read as
 * zeros from then on. Of a file, its space, too.
 */
VERB(mp_discard_memory) {
  size_t length;
  uint8_t *base = whole_pages_args(env, info, "discardMemory", &length);
  if (!base) return NULL;
  /* A private mapping has nothing to be removed from: EINVAL. */
  if (length == 0 || madvise(base, length, MADV_REMOVE) == 0) return mp_i32(env, 0);
  return mp_i32(env, madvise(base, length, MADV_DONTNEED) < 0 ? -errno : 0);
}

/*
 * trimProcess() -> bytes of code and constants let go of, or -errno. What malloc keeps free goes back to the system, and so do mapped
 * pages of programs' and libraries' code and constants: most of them only the start needed, and one that is used again comes back from
 * the page cache. What was written to (a debugger's breakpoint, a relocation) is a private copy, which would be lost: then the mapping
 * is left alone.
 */
VERB(mp_trim_process) {
  (void)info;
#ifdef __GLIBC__
  malloc_trim(0);
#endif
  FILE *maps = fopen("/proc/self/smaps", "re");
  if (!maps) return mp_i32(env, -errno);
  char line[4096 + 128];
  unsigned long from = 0, to = 0, first, end, resident = 0, copied;
  bool code = false;
  double freed = 0;
  while (fgets(line, sizeof line, maps)) {
    char permissions[5], path = 0;
    if (sscanf(line, "%lx-%lx %4s %*x %*x:%*x %*u %c", &first, &end, permissions, &path) >= 3) {
      from = first;
      to = end;
      code = path == '/' && (strcmp(permissions, "r-xp") == 0 || strcmp(permissions, "r--p") == 0);
    } else if (code && sscanf(line, "Rss: %lu kB", &resident) != 1 && sscanf(line, "Anonymous: %lu kB", &copied) == 1 && copied == 0 &&
               madvise((void *)from, to - from, MADV_DONTNEED) == 0)
      freed += resident * 1024.0;
  }
  fclose(maps);
  return mp_number(env, freed);
}
