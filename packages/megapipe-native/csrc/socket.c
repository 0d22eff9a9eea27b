/*
 * Sockets, options, addresses, affinity: what is needed to set a connection up. Cold verbs.
 */
#include "native.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/*
 * Which environment closes a descriptor when it goes away, one word per descriptor for the whole process: threads
 * share descriptor numbers, so a private list would close a stranger's after the number was reused.
 */
#define FD_TABLE (1 << 20)
static _Atomic(struct instance *) fd_owner[FD_TABLE];

void mp_fd_own(struct instance *in, int fd) {
  if (fd >= 0 && fd < FD_TABLE) atomic_store_explicit(&fd_owner[fd], in, memory_order_relaxed);
}

void mp_fd_disown(int fd) { mp_fd_own(NULL, fd); }

void mp_fd_close_owned(struct instance *in) {
  for (int fd = 0; fd < FD_TABLE; fd++)
    if (atomic_load_explicit(&fd_owner[fd], memory_order_relaxed) == in) {
      mp_fd_disown(fd);
      close(fd);
    }
}

static napi_value result(napi_env env, struct instance *in, int fd) {
  if (fd < 0) return mp_i32(env, -errno);
  mp_fd_own(in, fd);
  return mp_i32(env, fd);
}

/* socket(domain, type) -> non-blocking, close-on-exec descriptor or -errno. domain 1 Unix, 2 IPv4, 10 IPv6; type 1 stream, 2 datagram. */
VERB(mp_socket) {
  napi_value argv[2];
  int32_t domain, type;
  if (!mp_args(env, info, 2, argv, "socket") || !mp_int(env, argv[0], &domain, "socket", "domain") || !mp_int(env, argv[1], &type, "socket", "type"))
    return NULL;
  return result(env, mp_instance(env), socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

/* socketpair() -> [fd, fd] (Unix stream, non-blocking) or -errno */
VERB(mp_socketpair) {
  (void)info;
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0) return mp_i32(env, -errno);
  napi_value out;
  napi_create_array_with_length(env, 2, &out);
  for (int i = 0; i < 2; i++) napi_set_element(env, out, (uint32_t)i, result(env, mp_instance(env), pair[i]));
  return out;
}

/* host: an IPv4 or IPv6 literal, or an absolute path (or "@name", abstract) of a Unix socket */
static bool address(napi_env env, napi_value host_v, napi_value port_v, struct sockaddr_storage *ss, socklen_t *len, const char *verb) {
  char host[128];
  uint32_t port;
  if (!mp_string(env, host_v, host, sizeof host, verb, "host") || !mp_uint(env, port_v, &port, verb, "port")) return false;
  if (port > 65535) {
    mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "%s: port must be 0 to 65535, got %u", verb, port);
    return false;
  }
  memset(ss, 0, sizeof *ss);
  struct sockaddr_in *v4 = (struct sockaddr_in *)ss;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ss;
  struct sockaddr_un *un = (struct sockaddr_un *)ss;
  if (host[0] == '/' || host[0] == '@') {
    size_t n = strlen(host);
    if (n >= sizeof un->sun_path) {
      mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "%s: a Unix socket's path has at most %zu bytes, got %zu", verb, sizeof un->sun_path - 1, n);
      return false;
    }
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, host, n);
    *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (host[0] == '/'));
    if (host[0] == '@') un->sun_path[0] = 0;
    return true;
  }
  if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons((uint16_t)port);
    *len = sizeof *v4;
    return true;
  }
  if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons((uint16_t)port);
    *len = sizeof *v6;
    return true;
  }
  mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "%s: host must be an IPv4 or IPv6 address or an absolute path, got \"%s\"", verb, host);
  return false;
}

typedef int (*address_call)(int, const struct sockaddr *, socklen_t);

static napi_value with_address(napi_env env, napi_callback_info info, address_call call, const char *verb) {
  napi_value argv[3];
  int32_t fd;
  struct sockaddr_storage ss;
  socklen_t len;
  if (!mp_args(env, info, 3, argv, verb) || !mp_int(env, argv[0], &fd, verb, "fd") || !address(env, argv[1], argv[2], &ss, &len, verb)) return NULL;
  return mp_i32(env, call(fd, (struct sockaddr *)&ss, len) < 0 ? -errno : 0);
}

/* bind(fd, host, port) -> 0 or -errno */
VERB(mp_bind) { return with_address(env, info, bind, "bind"); }

/* connect(fd, host, port) -> 0 or -errno (-EINPROGRESS on a non-blocking TCP socket) */
VERB(mp_connect) { return with_address(env, info, connect, "connect"); }

/* sockaddr(region, offset, host, port) -> length: writes the kernel's form of an address (at most 128 bytes) into a region */
VERB(mp_sockaddr) {
  napi_value argv[4];
  uint32_t region;
  size_t offset;
  struct sockaddr_storage ss;
  socklen_t len;
  if (!mp_args(env, info, 4, argv, "sockaddr") || !mp_uint(env, argv[0], &region, "sockaddr", "region") ||
      !mp_size(env, argv[1], &offset, "sockaddr", "offset") || !address(env, argv[2], argv[3], &ss, &len, "sockaddr"))
    return NULL;
  uint8_t *p = mp_range(env, mp_instance(env), region, offset, sizeof ss, "sockaddr");
  if (!p) return NULL;
  memcpy(p, &ss, sizeof ss);
  return mp_i32(env, (int32_t)len);
}

static napi_value two_ints(napi_env env, napi_callback_info info, int (*call)(int, int), const char *verb) {
  napi_value argv[2];
  int32_t fd, n;
  if (!mp_args(env, info, 2, argv, verb) || !mp_int(env, argv[0], &fd, verb, "fd") || !mp_int(env, argv[1], &n, verb, "second argument")) return NULL;
  return mp_i32(env, call(fd, n) < 0 ? -errno : 0);
}

/* listen(fd, backlog), shutdown(fd, how: 0 read, 1 write, 2 both) -> 0 or -errno */
VERB(mp_listen) { return two_ints(env, info, listen, "listen"); }
VERB(mp_shutdown) { return two_ints(env, info, shutdown, "shutdown"); }

/* close(fd) -> 0 or -errno */
VERB(mp_close) {
  napi_value argv[1];
  int32_t fd;
  if (!mp_args(env, info, 1, argv, "close") || !mp_int(env, argv[0], &fd, "close", "fd")) return NULL;
  mp_fd_disown(fd);
  return mp_i32(env, close(fd) < 0 ? -errno : 0);
}

/*
 * dup(fd, mode) -> descriptor or -errno. mode 0: a duplicate, owned (closed at the end) by this thread. 1: the same
 * fd, now owned by this thread. 2: the same fd, owned by nobody: it was closed, or handed away.
 */
VERB(mp_dup) {
  napi_value argv[2];
  int32_t fd, mode;
  if (!mp_args(env, info, 2, argv, "dup") || !mp_int(env, argv[0], &fd, "dup", "fd") || !mp_int(env, argv[1], &mode, "dup", "mode")) return NULL;
  if (mode == 2) {
    mp_fd_disown(fd);
    return mp_i32(env, fd);
  }
  if (mode == 1) return result(env, mp_instance(env), fcntl(fd, F_GETFD) < 0 ? -1 : fd);
  return result(env, mp_instance(env), fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

/* setBlocking(fd, on: 0 | 1) -> what it was: 1 non-blocking, 0 blocking; or -errno */
VERB(mp_set_blocking) {
  napi_value argv[2];
  int32_t fd, on;
  if (!mp_args(env, info, 2, argv, "setBlocking") || !mp_int(env, argv[0], &fd, "setBlocking", "fd") || !mp_int(env, argv[1], &on, "setBlocking", "on"))
    return NULL;
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, on ? flags & ~O_NONBLOCK : flags | O_NONBLOCK) < 0) return mp_i32(env, -errno);
  return mp_i32(env, (flags & O_NONBLOCK) != 0);
}

/* setsockopt(fd, level, name, value) -> 0 or -errno, for integer options; SO_LINGER (13) takes seconds, -1 turns it off */
VERB(mp_setsockopt) {
  napi_value argv[4];
  int32_t fd, level, name, value;
  static const char verb[] = "setsockopt";
  if (!mp_args(env, info, 4, argv, verb) || !mp_int(env, argv[0], &fd, verb, "fd") || !mp_int(env, argv[1], &level, verb, "level") ||
      !mp_int(env, argv[2], &name, verb, "name") || !mp_int(env, argv[3], &value, verb, "value"))
    return NULL;
  struct linger linger = {.l_onoff = value >= 0, .l_linger = value < 0 ? 0 : value};
  bool is_linger = level == SOL_SOCKET && name == SO_LINGER;
  const void *p = is_linger ? (const void *)&linger : (const void *)&value;
  return mp_i32(env, setsockopt(fd, level, name, p, is_linger ? sizeof linger : sizeof value) < 0 ? -errno : 0);
}

/* getsockopt(fd, level, name) -> the integer value; throws on failure */
VERB(mp_getsockopt) {
  napi_value argv[3];
  int32_t fd, level, name;
  int value = 0;
  socklen_t len = sizeof value;
  static const char verb[] = "getsockopt";
  if (!mp_args(env, info, 3, argv, verb) || !mp_int(env, argv[0], &fd, verb, "fd") || !mp_int(env, argv[1], &level, verb, "level") ||
      !mp_int(env, argv[2], &name, verb, "name"))
    return NULL;
  if (getsockopt(fd, level, name, &value, &len) < 0)
    return mp_throw(env, "ERR_MEGAPIPE_SYSTEM", "getsockopt(%d, %d, %d): %s", fd, level, name, strerror(errno));
  return mp_i32(env, value);
}

/* listenQueue(fd) -> connections that wait to be accepted (TCP_INFO's tcpi_unacked of a listening socket), 0 if unknown */
VERB(mp_listen_queue) {
  napi_value argv[1];
  int32_t fd;
  if (!mp_args(env, info, 1, argv, "listenQueue") || !mp_int(env, argv[0], &fd, "listenQueue", "fd")) return NULL;
  struct tcp_info ti;
  socklen_t len = sizeof ti;
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) < 0) return mp_i32(env, 0);
  return mp_i32(env, (int32_t)ti.tcpi_unacked);
}

napi_value mp_address_object(napi_env env, const struct sockaddr_storage *ss, uint32_t len) {
  char host[sizeof(struct sockaddr_un)] = "";
  int port = 0;
  if (ss->ss_family == AF_INET) {
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)ss;
    inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
    port = ntohs(v4->sin_port);
  } else if (ss->ss_family == AF_INET6) {
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)ss;
    inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
    port = ntohs(v6->sin6_port);
  } else if (ss->ss_family == AF_UNIX && len > offsetof(struct sockaddr_un, sun_path)) {
    const struct sockaddr_un *un = (const struct sockaddr_un *)ss;
    size_t n = len - offsetof(struct sockaddr_un, sun_path);
    memcpy(host, un->sun_path, n);
    if (host[0] == 0) host[0] = '@';
    host[n < sizeof host ? n : sizeof host - 1] = 0;
  }
  napi_value out, text;
  napi_create_object(env, &out);
  napi_create_string_utf8(env, host, NAPI_AUTO_LENGTH, &text);
  mp_set(env, out, "family", mp_i32(env, ss->ss_family));
  mp_set(env, out, "host", text);
  mp_set(env, out, "port", mp_i32(env, port));
  return out;
}

/* getsockname(fd, peer: 0 | 1) -> { family, host, port } or -errno */
VERB(mp_getsockname) {
  napi_value argv[2];
  int32_t fd, peer;
  if (!mp_args(env, info, 2, argv, "getsockname") || !mp_int(env, argv[0], &fd, "getsockname", "fd") ||
      !mp_int(env, argv[1], &peer, "getsockname", "peer"))
    return NULL;
  struct sockaddr_storage ss = {0};
  socklen_t len = sizeof ss;
  if ((peer ? getpeername : getsockname)(fd, (struct sockaddr *)&ss, &len) < 0) {
    /* A connection that was reset has no peer any more; its address is still known. IPv4's length first: what is cut off shows. */
    if (!peer || errno != ENOTCONN) return mp_i32(env, -errno);
    len = sizeof(struct sockaddr_in);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERNAME, &ss, &len) < 0) return mp_i32(env, -ENOTCONN);
    if (ss.ss_family == AF_INET6) {
      len = sizeof(struct sockaddr_in6);
      if (getsockopt(fd, SOL_SOCKET, SO_PEERNAME, &ss, &len) < 0) return mp_i32(env, -ENOTCONN);
    }
  }
  return mp_address_object(env, &ss, len);
}

/* sockaddrParse(region, offset) -> { family, host, port } of the 28 bytes there (IPv4, IPv6; else an empty host) */
VERB(mp_sockaddr_parse) {
  napi_value argv[2];
  uint32_t region;
  size_t offset;
  if (!mp_args(env, info, 2, argv, "sockaddrParse") || !mp_uint(env, argv[0], &region, "sockaddrParse", "region") ||
      !mp_size(env, argv[1], &offset, "sockaddrParse", "offset"))
    return NULL;
  const uint8_t *p = mp_range(env, mp_instance(env), region, offset, sizeof(struct sockaddr_in6), "sockaddrParse");
  if (!p) return NULL;
  struct sockaddr_storage ss = {0};
  memcpy(&ss, p, sizeof(struct sockaddr_in6));
  return mp_address_object(env, &ss, offsetof(struct sockaddr_un, sun_path));
}

/* An array of whole numbers 0 … 1023 (CPU numbers) */
static bool cpu_list(napi_env env, napi_value list, uint32_t *out, uint32_t cap, uint32_t *count, const char *verb) {
  bool is_array = false;
  if (napi_is_array(env, list, &is_array) != napi_ok || !is_array || napi_get_array_length(env, list, count) != napi_ok || *count == 0 ||
      *count > cap) {
    mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "%s: expected an array of 1 to %u CPU numbers", verb, cap);
    return false;
  }
  for (uint32_t i = 0; i < *count; i++) {
    napi_value v;
    if (napi_get_element(env, list, i, &v) != napi_ok || !mp_uint(env, v, &out[i], verb, "CPU number")) return false;
    if (out[i] >= CPU_SETSIZE) {
      mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "%s: CPU numbers go to %d, got %u", verb, CPU_SETSIZE - 1, out[i]);
      return false;
    }
  }
  return true;
}

#define STEER_MAX 256

/* Appends: for A = i, return targets[i]. */
static uint32_t jump_table(struct sock_filter *code, uint32_t n, const uint32_t *keys, const uint32_t *targets, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, keys ? keys[i] : i, 0, 1);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, targets[i]);
  }
  return n;
}

/*
 * reuseportSteer(fd, cpus, targets) -> 0 or -errno. Replaces the program that picks a socket of fd's SO_REUSEPORT group:
 * a connection that CPU cpus[i] received goes to the group's socket number targets[i] (they are numbered as they began
 * to listen; when one leaves, the last takes its number). Other CPUs are folded onto the targets. With cpus empty,
 * targets are picked at random. 1 … 256 targets.
 */
VERB(mp_reuseport_steer) {
  napi_value argv[3];
  int32_t fd;
  uint32_t cpus[STEER_MAX], targets[STEER_MAX], cpu_count = 0, count = 0;
  static const char verb[] = "reuseportSteer";
  bool is_array = false;
  if (!mp_args(env, info, 3, argv, verb) || !mp_int(env, argv[0], &fd, verb, "fd")) return NULL;
  if (napi_is_array(env, argv[1], &is_array) != napi_ok || !is_array || napi_get_array_length(env, argv[1], &cpu_count) != napi_ok)
    return mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "reuseportSteer: cpus must be an array");
  if (cpu_count > 0 && !cpu_list(env, argv[1], cpus, STEER_MAX, &cpu_count, verb)) return NULL;
  if (!cpu_list(env, argv[2], targets, STEER_MAX, &count, verb)) return NULL;
  if (cpu_count > 0 && cpu_count != count)
    return mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "reuseportSteer: %u cpus for %u targets", cpu_count, count);
  struct sock_filter code[4 * STEER_MAX + 4];
  uint32_t n = 0;
  code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + (cpu_count ? SKF_AD_CPU : SKF_AD_RANDOM)));
  if (cpu_count) n = jump_table(code, n, cpus, targets, count);
  code[n++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, count);
  n = jump_table(code, n, NULL, targets, count);
  code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, targets[0]);
  struct sock_fprog prog = {.len = (unsigned short)n, .filter = code};
  return mp_i32(env, setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &prog, sizeof prog) < 0 ? -errno : 0);
}

/* setAffinity(cpus) -> 0 or -errno: the calling thread */
VERB(mp_set_affinity) {
  napi_value argv[1];
  uint32_t cpus[512], count;
  if (!mp_args(env, info, 1, argv, "setAffinity") || !cpu_list(env, argv[0], cpus, 512, &count, "setAffinity")) return NULL;
  cpu_set_t set;
  CPU_ZERO(&set);
  for (uint32_t i = 0; i < count; i++) CPU_SET(cpus[i], &set);
  return mp_i32(env, sched_setaffinity(0, sizeof set, &set) < 0 ? -errno : 0);
}

/* getAffinity() -> array of CPU numbers of the calling thread, or -errno */
VERB(mp_get_affinity) {
  (void)info;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) < 0) return mp_i32(env, -errno);
  napi_value out;
  napi_create_array(env, &out);
  for (uint32_t cpu = 0, n = 0; cpu < CPU_SETSIZE; cpu++)
    if (CPU_ISSET(cpu, &set)) napi_set_element(env, out, n++, mp_i32(env, (int32_t)cpu));
  return out;
}
