/*
 * The BSD-sockets way, for the epoll backend: one system call per verb, data in regions, -errno as the result.
 * These run once per event, so arguments are read by the cheapest call that is safe.
 */
#include "native.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* epoll_event is packed on x86-64 only; the typed array always gets triples of 32-bit words: events, data low, data high. */
#define EVENT_WORDS 3
#define EVENTS_MAX 4096

/* epollCreate() -> descriptor or -errno */
VERB(mp_epoll_create) {
  (void)info;
  int fd = epoll_create1(EPOLL_CLOEXEC);
  if (fd >= 0) mp_fd_own(mp_instance(env), fd);
  return mp_i32(env, fd < 0 ? -errno : fd);
}

/* epollCtl(epoll, op, fd, events, dataLow, dataHigh) -> 0 or -errno. op: 1 add, 2 delete, 3 modify. */
VERB(mp_epoll_ctl) {
  napi_value argv[6];
  int32_t ep, op, fd;
  uint32_t events, lo, hi;
  static const char verb[] = "epollCtl";
  if (!mp_args(env, info, 6, argv, verb) || !mp_int(env, argv[0], &ep, verb, "epoll") || !mp_int(env, argv[1], &op, verb, "op") ||
      !mp_int(env, argv[2], &fd, verb, "fd") || !mp_uint(env, argv[3], &events, verb, "events") ||
      !mp_uint(env, argv[4], &lo, verb, "dataLow") || !mp_uint(env, argv[5], &hi, verb, "dataHigh"))
    return NULL;
  struct epoll_event ev = {.events = events, .data.u64 = (uint64_t)hi << 32 | lo};
  return mp_i32(env, epoll_ctl(ep, op, fd, &ev) < 0 ? -errno : 0);
}

int mp_epoll_wait_into(int ep, uint32_t *words, uint32_t max, int timeout_ms) {
  static _Thread_local struct epoll_event events[EVENTS_MAX];
  int n = epoll_wait(ep, events, (int)(max > EVENTS_MAX ? EVENTS_MAX : max), timeout_ms);
  if (n < 0) return -errno;
  for (int i = 0; i < n; i++) {
    words[i * EVENT_WORDS] = events[i].events;
    words[i * EVENT_WORDS + 1] = (uint32_t)events[i].data.u64;
    words[i * EVENT_WORDS + 2] = (uint32_t)(events[i].data.u64 >> 32);
  }
  return n;
}

/* epollWait(epoll, region, offset, maxEvents, timeoutMs) -> count or -errno; 12 bytes an event, 4-aligned */
VERB(mp_epoll_wait) {
  struct instance *in = mp_instance(env);
  napi_value argv[5];
  int32_t ep, timeout;
  uint32_t region, max;
  size_t offset;
  static const char verb[] = "epollWait";
  if (!mp_args(env, info, 5, argv, verb) || !mp_int(env, argv[0], &ep, verb, "epoll") || !mp_uint(env, argv[1], &region, verb, "region") ||
      !mp_size(env, argv[2], &offset, verb, "offset") || !mp_uint(env, argv[3], &max, verb, "maxEvents") ||
      !mp_int(env, argv[4], &timeout, verb, "timeoutMs"))
    return NULL;
  if (offset % 4) return mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "epollWait: offset must be a multiple of 4, got %zu", offset);
  uint8_t *words = mp_range(env, in, region, offset, (size_t)max * EVENT_WORDS * 4, verb);
  if (!words) return NULL;
  return mp_i32(env, mp_epoll_wait_into(ep, (uint32_t *)words, max, timeout));
}

/* Hot verbs: int32 arguments straight from V8's small integers; anything else fails the checks that follow. */
static bool hot(napi_env env, napi_callback_info info, size_t want, int32_t *out, const char *verb) {
  napi_value argv[6];
  if (!mp_args(env, info, want, argv, verb)) return false;
  for (size_t i = 0; i < want; i++)
    if (napi_get_value_int32(env, argv[i], &out[i]) != napi_ok || (i > 0 && out[i] < 0)) {
      mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "%s: argument %zu must be a 31-bit whole number", verb, i);
      return false;
    }
  return true;
}

/* recv(fd, region, offset, length) -> bytes (0 = end) or -errno. Falls back to read() for pipes. */
/* pread(fd, region, offset, length, position) -> bytes or -errno */
VERB(mp_pread) {
  napi_value argv[5];
  int32_t fd, length;
  uint32_t region;
  size_t offset, position;
  static const char verb[] = "pread";
  if (!mp_args(env, info, 5, argv, verb) || !mp_int(env, argv[0], &fd, verb, "fd") || !mp_uint(env, argv[1], &region, verb, "region") ||
      !mp_size(env, argv[2], &offset, verb, "offset") || !mp_int(env, argv[3], &length, verb, "length") ||
      !mp_size(env, argv[4], &position, verb, "position"))
    return NULL;
  if (length < 0) return mp_throw(env, "ERR_MEGAPIPE_RANGE", "pread: length must not be negative, got %d", length);
  uint8_t *p = mp_range(env, mp_instance(env), region, offset, (size_t)length, verb);
  if (!p) return NULL;
  ssize_t n = pread(fd, p, (size_t)length, (off_t)position);
  return mp_i32(env, n < 0 ? -errno : (int32_t)n);
}

VERB(mp_recv) {
  napi_value argv[4];
  int32_t fd, length;
  uint32_t region;
  size_t offset;
  static const char verb[] = "recv";
  if (!mp_args(env, info, 4, argv, verb) || !mp_int(env, argv[0], &fd, verb, "fd") || !mp_uint(env, argv[1], &region, verb, "region") ||
      !mp_size(env, argv[2], &offset, verb, "offset") || !mp_int(env, argv[3], &length, verb, "length"))
    return NULL;
  if (length < 0) return mp_throw(env, "ERR_MEGAPIPE_RANGE", "recv: length must not be negative, got %d", length);
  uint8_t *p = mp_range(env, mp_instance(env), region, offset, (size_t)length, verb);
  if (!p) return NULL;
  ssize_t n = recv(fd, p, (size_t)length, MSG_DONTWAIT);
  if (n < 0 && errno == ENOTSOCK) n = read(fd, p, (size_t)length);
  return mp_i32(env, n < 0 ? -errno : (int32_t)n);
}

/* send(fd, region, offset, length, flags) -> bytes or -errno. Offsets may pass 2^31: large regions. */
VERB(mp_send) {
  struct instance *in = mp_instance(env);
  napi_value argv[5];
  int32_t fd, flags;
  uint32_t region;
  size_t offset, length;
  static const char verb[] = "send";
  if (!mp_args(env, info, 5, argv, verb) || !mp_int(env, argv[0], &fd, verb, "fd") || !mp_uint(env, argv[1], &region, verb, "region") ||
      !mp_size(env, argv[2], &offset, verb, "offset") || !mp_size(env, argv[3], &length, verb, "length") ||
      !mp_int(env, argv[4], &flags, verb, "flags"))
    return NULL;
  uint8_t *p = mp_range(env, in, region, offset, length, verb);
  if (!p) return NULL;
  ssize_t n = send(fd, p, length, MSG_DONTWAIT | MSG_NOSIGNAL | flags);
  if (n < 0 && errno == ENOTSOCK) n = write(fd, p, length);
  return mp_i32(env, n < 0 ? -errno : (int32_t)n);
}

#define SENDV_MAX 64
/*
 * sendv(fd, region, offset, count) -> bytes or -errno. At region+offset stand `count` (1 … 64) segments of four
 * 32-bit words each: region, offset low, offset high, length. 4-aligned.
 */
VERB(mp_sendv) {
  struct instance *in = mp_instance(env);
  int32_t a[4];
  if (!hot(env, info, 4, a, "sendv")) return NULL;
  if (a[3] < 1 || a[3] > SENDV_MAX || a[2] % 4)
    return mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "sendv: count must be 1 to %d and offset a multiple of 4", SENDV_MAX);
  const uint8_t *segs = mp_range(env, in, (uint32_t)a[1], (size_t)a[2], (size_t)a[3] * 16, "sendv");
  if (!segs) return NULL;
  struct iovec iov[SENDV_MAX];
  for (int i = 0; i < a[3]; i++) {
    const uint32_t *w = (const uint32_t *)(segs + i * 16);
    iov[i].iov_base = mp_range(env, in, w[0], (size_t)w[2] << 32 | w[1], w[3], "sendv");
    if (!iov[i].iov_base) return NULL;
    iov[i].iov_len = w[3];
  }
  struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)a[3]};
  ssize_t n = sendmsg(a[0], &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n < 0 && errno == ENOTSOCK) n = writev(a[0], iov, a[3]);
  return mp_i32(env, n < 0 ? -errno : (int32_t)n);
}

/* accept(fd) -> descriptor (non-blocking, close-on-exec) or -errno */
VERB(mp_accept) {
  int32_t a[1];
  if (!hot(env, info, 1, a, "accept")) return NULL;
  int fd = accept4(a[0], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd >= 0) mp_fd_own(mp_instance(env), fd);
  return mp_i32(env, fd < 0 ? -errno : fd);
}
