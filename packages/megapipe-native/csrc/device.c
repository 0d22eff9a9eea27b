/*
 * /dev/megapipe: set-up, mapping, enter. As with io_uring, TypeScript writes the entries through the ArrayBuffer that
 * deviceOpen returns, and such a channel is a ring among the others: uringEnter's place is taken by deviceEnter, the loop
 * attachment knows no difference but here. megapipe-uapi.h is a copy of kernel/include/uapi/linux/megapipe.h; a test
 * compares the two.
 */
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "megapipe-uapi.h"

/* What deviceEnter adds to its result when the host's descriptor is readable. */
#define HOST_FIRED 0x40000000

int mp_device_enter(struct ring *r, uint32_t min_complete, int timeout_ms) {
  struct megapipe_enter e = {
      .to_submit = *r->sq_tail - __atomic_load_n(r->sq_head, __ATOMIC_ACQUIRE),
      .min_complete = min_complete,
      .timeout_ns = timeout_ms < 0 ? -1 : timeout_ms * 1000000ll,
      .host_fd = min_complete > 0 ? r->host_fd : -1,
  };
  int taken = ioctl(r->fd, MEGAPIPE_IOC_ENTER, &e);
  if (taken < 0) return -errno;
  if (e.host_fd < 0 || !e.host_events) return taken;
  r->host_fd = -1;
  return taken | HOST_FIRED;
}

/*
 * deviceOpen(sqEntries, cqEntries, handles, chosen, buffers, bufferBytes, region, bufferOffset)
 *   -> { id, fd, ring, handles, sqEntries, cqEntries, sqHead …: offsets } or -errno
 */
VERB(mp_device_open) {
  struct instance *in = mp_instance(env);
  napi_value argv[8];
  struct megapipe_params p = {0};
  uint32_t region;
  size_t offset;
  static const char verb[] = "deviceOpen";
  if (!mp_args(env, info, 8, argv, verb) || !mp_uint(env, argv[0], &p.sq_entries, verb, "sqEntries") ||
      !mp_uint(env, argv[1], &p.cq_entries, verb, "cqEntries") || !mp_uint(env, argv[2], &p.handles, verb, "handles") ||
      !mp_uint(env, argv[3], &p.chosen, verb, "chosen") || !mp_uint(env, argv[4], &p.buffers, verb, "buffers") ||
      !mp_uint(env, argv[5], &p.buffer_bytes, verb, "bufferBytes") || !mp_uint(env, argv[6], &region, verb, "region") ||
      !mp_size(env, argv[7], &offset, verb, "bufferOffset"))
    return NULL;
  uint8_t *buffers = mp_range(env, in, region, offset, (size_t)p.buffers * p.buffer_bytes, verb);
  if (!buffers) return NULL;
  p.buffer_base = (uintptr_t)buffers;
  struct ring *r = mp_ring_free_slot(env, in, verb);
  if (!r) return NULL;
  int fd = open("/dev/megapipe", O_RDWR | O_CLOEXEC);
  if (fd < 0) return mp_i32(env, -errno);
  uint8_t *memory = MAP_FAILED;
  if (ioctl(fd, MEGAPIPE_IOC_SETUP, &p) == 0) {
    if (p.abi != MEGAPIPE_ABI) errno = ENOSYS;
    else memory = mmap(NULL, p.map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  if (memory == MAP_FAILED) {
    int e = errno;
    close(fd);
    return mp_i32(env, -e);
  }
  memset(r, 0, sizeof *r);
  r->used = true;
  r->device = true;
  r->host_fd = -1;
  r->fd = fd;
  r->ring_mem = memory;
  r->ring_bytes = p.map_bytes;
  r->sq_head = (uint32_t *)(memory + p.sq_head);
  r->sq_tail = (uint32_t *)(memory + p.sq_tail);
  r->cq_head = (uint32_t *)(memory + p.cq_head);
  r->cq_tail = (uint32_t *)(memory + p.cq_tail);
  napi_value buffer = mp_wrap_memory(env, memory, p.map_bytes, &r->ring_buffer);
  if (!buffer) {
    mp_ring_free(env, in, r);
    return mp_throw(env, "ERR_MEGAPIPE_NOMEM", "deviceOpen: no ArrayBuffer over the rings");
  }
  napi_value out;
  napi_create_object(env, &out);
  mp_set(env, out, "id", mp_i32(env, (int32_t)(r - in->rings)));
  mp_set(env, out, "fd", mp_i32(env, fd));
  mp_set(env, out, "ring", buffer);
  mp_set(env, out, "sqHead", mp_number(env, p.sq_head));
  mp_set(env, out, "sqTail", mp_number(env, p.sq_tail));
  mp_set(env, out, "cqHead", mp_number(env, p.cq_head));
  mp_set(env, out, "cqTail", mp_number(env, p.cq_tail));
  mp_set(env, out, "bqTail", mp_number(env, p.bq_tail));
  mp_set(env, out, "sqes", mp_number(env, p.sqes));
  mp_set(env, out, "cqes", mp_number(env, p.cqes));
  mp_set(env, out, "bids", mp_number(env, p.bids));
  return out;
}

static struct ring *device(napi_env env, struct instance *in, uint32_t id, const char *verb) {
  struct ring *r = mp_ring(env, in, id, verb);
  if (r && !r->device) {
    mp_throw(env, "ERR_MEGAPIPE_RING", "%s: ring %u is io_uring's", verb, id);
    return NULL;
  }
  return r;
}

/* deviceHost(id, fd): the descriptor whose readiness ends the next waits, once; -1: none. */
VERB(mp_device_host) {
  struct instance *in = mp_instance(env);
  napi_value argv[2];
  uint32_t id;
  int32_t fd;
  if (!mp_args(env, info, 2, argv, "deviceHost") || !mp_uint(env, argv[0], &id, "deviceHost", "id") ||
      !mp_int(env, argv[1], &fd, "deviceHost", "fd"))
    return NULL;
  struct ring *r = device(env, in, id, "deviceHost");
  if (r) r->host_fd = fd < 0 ? -1 : fd;
  return NULL;
}

/* deviceName(id, index, generation, peer) -> { family, host, port } or -errno, as getsockname does it for descriptors */
VERB(mp_device_name) {
  struct instance *in = mp_instance(env);
  napi_value argv[4];
  uint32_t id, index, generation, peer;
  static const char verb[] = "deviceName";
  if (!mp_args(env, info, 4, argv, verb) || !mp_uint(env, argv[0], &id, verb, "id") || !mp_uint(env, argv[1], &index, verb, "index") ||
      !mp_uint(env, argv[2], &generation, verb, "generation") || !mp_uint(env, argv[3], &peer, verb, "peer"))
    return NULL;
  struct ring *r = device(env, in, id, verb);
  if (!r) return NULL;
  struct sockaddr_storage address = {0};
  struct megapipe_name name = {
      .index = index, .generation = generation, .peer = peer, .len = sizeof address, .addr = (uintptr_t)&address};
  if (ioctl(r->fd, MEGAPIPE_IOC_NAME, &name) < 0) return mp_i32(env, -errno);
  return mp_address_object(env, &address, name.len);
}
