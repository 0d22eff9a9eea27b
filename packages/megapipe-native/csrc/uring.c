/*
 * io_uring: set-up, mapping, registration, enter. The entries themselves are written and read by TypeScript through
 * the ArrayBuffers that uringCreate returns.
 */
#include "native.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef __NR_io_uring_setup
#define __NR_io_uring_setup 425
#define __NR_io_uring_enter 426
#define __NR_io_uring_register 427
#endif

/* The kernel clamps it to the size of the completion queue. */
#define POLL_BATCH 1024

static int sys_register(int fd, unsigned op, const void *arg, unsigned nr) {
  return syscall(__NR_io_uring_register, fd, op, arg, nr) < 0 ? -errno : 0;
}

struct ring *mp_ring(napi_env env, struct instance *in, uint32_t id, const char *verb) {
  if (id >= MP_MAX_RINGS || !in->rings[id].used) {
    mp_throw(env, "ERR_MEGAPIPE_RING", "%s: there is no ring %u on this thread", verb, id);
    return NULL;
  }
  return &in->rings[id];
}

struct ring *mp_ring_free_slot(napi_env env, struct instance *in, const char *verb) {
  for (int i = 0; i < MP_MAX_RINGS; i++)
    if (!in->rings[i].used) return &in->rings[i];
  mp_throw(env, "ERR_MEGAPIPE_RING", "%s: all %d rings of this thread are in use", verb, MP_MAX_RINGS);
  return NULL;
}

int mp_uring_enter(struct ring *ring, uint32_t min_complete, int timeout_ms) {
  if (ring->device) return mp_device_enter(ring, min_complete, timeout_ms);
  /* Published by this same thread: a plain read of our own tail, an acquire read of the kernel's head. */
  uint32_t submit = *ring->sq_tail - __atomic_load_n(ring->sq_head, __ATOMIC_ACQUIRE);
  unsigned flags = MP_ENTER_GETEVENTS;
  /*
   * A poll (timeout 0) asks for many: since Linux 6.13 one call runs at most max(20, min_complete) items of deferred
   * work, and an eventfd is not signalled again for what it left.
   */
  if (timeout_ms == 0 && min_complete > 0) min_complete = POLL_BATCH;
  if (timeout_ms < 0 || min_complete == 0) {
    long r = syscall(__NR_io_uring_enter, ring->fd, submit, min_complete, flags, NULL, 8);
    return r < 0 ? -errno : (int)r;
  }
  struct {
    int64_t sec, nsec;
  } ts = {timeout_ms / 1000, (timeout_ms % 1000) * 1000000ll};
  struct mp_getevents_arg arg = {.sigmask = 0, .sigmask_sz = 8, .ts = (uint64_t)(uintptr_t)&ts};
  long r = syscall(__NR_io_uring_enter, ring->fd, submit, min_complete, flags | MP_ENTER_EXT_ARG, &arg, sizeof arg);
  return r < 0 ? -errno : (int)r;
}

/* uringCreate(sqEntries, cqEntries, flags) -> { id, fd, features, flags, sqEntries, cqEntries, ring, sqes, sq…: offsets } or -errno */
VERB(mp_uring_create) {
  struct instance *in = mp_instance(env);
  napi_value argv[3];
  uint32_t sq, cq, flags;
  if (!mp_args(env, info, 3, argv, "uringCreate") || !mp_uint(env, argv[0], &sq, "uringCreate", "sqEntries") ||
      !mp_uint(env, argv[1], &cq, "uringCreate", "cqEntries") || !mp_uint(env, argv[2], &flags, "uringCreate", "flags"))
    return NULL;
  struct ring *r = mp_ring_free_slot(env, in, "uringCreate");
  if (!r) return NULL;

  struct mp_uring_params p = {.flags = flags | MP_SETUP_CQSIZE, .cq_entries = cq};
  int fd = (int)syscall(__NR_io_uring_setup, sq, &p);
  if (fd < 0) return mp_i32(env, -errno);
  if (!(p.features & MP_FEAT_SINGLE_MMAP) || !(p.features & MP_FEAT_EXT_ARG) || !(p.features & MP_FEAT_NODROP)) {
    close(fd);
    return mp_i32(env, -ENOSYS);
  }
  size_t sq_bytes = (p.flags & MP_SETUP_NO_SQARRAY) ? 0 : p.sq_off.array + p.sq_entries * sizeof(uint32_t);
  size_t cq_bytes = p.cq_off.cqes + p.cq_entries * sizeof(struct mp_cqe);
  size_t ring_bytes = sq_bytes > cq_bytes ? sq_bytes : cq_bytes;
  size_t sqe_bytes = p.sq_entries * sizeof(struct mp_sqe);
  uint8_t *ring_mem = mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, MP_OFF_SQ_RING);
  if (ring_mem == MAP_FAILED) {
    int e = errno;
    close(fd);
    return mp_i32(env, -e);
  }
  uint8_t *sqe_mem = mmap(NULL, sqe_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, (off_t)MP_OFF_SQES);
  if (sqe_mem == MAP_FAILED) {
    int e = errno;
    munmap(ring_mem, ring_bytes);
    close(fd);
    return mp_i32(env, -e);
  }
  memset(r, 0, sizeof *r);
  r->used = true;
  r->fd = fd;
  r->features = p.features;
  r->setup_flags = p.flags;
  r->ring_mem = ring_mem;
  r->ring_bytes = ring_bytes;
  r->sqe_mem = sqe_mem;
  r->sqe_bytes = sqe_bytes;
  r->sq_head = (uint32_t *)(ring_mem + p.sq_off.head);
  r->sq_tail = (uint32_t *)(ring_mem + p.sq_off.tail);
  r->cq_head = (uint32_t *)(ring_mem + p.cq_off.head);
  r->cq_tail = (uint32_t *)(ring_mem + p.cq_off.tail);
  napi_value ring_ab = mp_wrap_memory(env, ring_mem, ring_bytes, &r->ring_buffer);
  napi_value sqe_ab = mp_wrap_memory(env, sqe_mem, sqe_bytes, &r->sqe_buffer);
  if (!ring_ab || !sqe_ab) {
    mp_ring_free(env, in, r);
    return mp_throw(env, "ERR_MEGAPIPE_NOMEM", "uringCreate: no ArrayBuffer over the rings");
  }
  napi_value out;
  napi_create_object(env, &out);
  mp_set(env, out, "id", mp_i32(env, (int32_t)(r - in->rings)));
  mp_set(env, out, "fd", mp_i32(env, fd));
  mp_set(env, out, "features", mp_number(env, p.features));
  mp_set(env, out, "flags", mp_number(env, p.flags));
  mp_set(env, out, "sqEntries", mp_number(env, p.sq_entries));
  mp_set(env, out, "cqEntries", mp_number(env, p.cq_entries));
  mp_set(env, out, "ring", ring_ab);
  mp_set(env, out, "sqes", sqe_ab);
  mp_set(env, out, "sqHead", mp_number(env, p.sq_off.head));
  mp_set(env, out, "sqTail", mp_number(env, p.sq_off.tail));
  mp_set(env, out, "sqFlags", mp_number(env, p.sq_off.flags));
  mp_set(env, out, "sqDropped", mp_number(env, p.sq_off.dropped));
  mp_set(env, out, "sqArray", mp_number(env, (p.flags & MP_SETUP_NO_SQARRAY) ? 0 : p.sq_off.array));
  mp_set(env, out, "cqHead", mp_number(env, p.cq_off.head));
  mp_set(env, out, "cqTail", mp_number(env, p.cq_off.tail));
  mp_set(env, out, "cqOverflow", mp_number(env, p.cq_off.overflow));
  mp_set(env, out, "cqes", mp_number(env, p.cq_off.cqes));
  return out;
}

static int cancel_all(struct ring *r, int timeout_ms) {
  struct mp_sync_cancel c = {.flags = MP_CANCEL_ANY | MP_CANCEL_ALL, .fd = -1};
  c.timeout.tv_sec = timeout_ms / 1000;
  c.timeout.tv_nsec = (timeout_ms % 1000) * 1000000ll;
  return sys_register(r->fd, MP_REGISTER_SYNC_CANCEL, &c, 1);
}

void mp_ring_free(napi_env env, struct instance *in, struct ring *r) {
  if (!r->used) return;
  if (r->attachment) mp_attachment_stop(in, r->attachment);
  /* Nothing may still write to memory that is given back below: cancel, and let deferred work run. */
  if (!r->device) {
    cancel_all(r, 1000);
    for (int i = 0; i < 4; i++) mp_uring_enter(r, 0, 0);
  }
  mp_detach_memory(env, &r->ring_buffer);
  mp_detach_memory(env, &r->sqe_buffer);
  munmap(r->ring_mem, r->ring_bytes);
  if (r->sqe_mem) munmap(r->sqe_mem, r->sqe_bytes);
  close(r->fd);
  memset(r, 0, sizeof *r);
}

/* uringClose(id): cancels what is in flight, detaches the ring's ArrayBuffers, closes it. */
VERB(mp_uring_close) {
  struct instance *in = mp_instance(env);
  napi_value argv[1];
  uint32_t id;
  if (!mp_args(env, info, 1, argv, "uringClose") || !mp_uint(env, argv[0], &id, "uringClose", "id")) return NULL;
  struct ring *r = mp_ring(env, in, id, "uringClose");
  if (r) mp_ring_free(env, in, r);
  return NULL;
}

/*
 * uringEnter(id, minComplete, timeoutMs) -> entries submitted or -errno. timeoutMs < 0 waits for ever. For a ring of
 * deviceOpen as well: 2^30 is added when the descriptor of deviceHost is readable.
 */
VERB(mp_uring_enter_verb) {
  struct instance *in = mp_instance(env);
  napi_value argv[3];
  uint32_t id, min;
  int32_t timeout;
  if (!mp_args(env, info, 3, argv, "uringEnter") || !mp_uint(env, argv[0], &id, "uringEnter", "id") ||
      !mp_uint(env, argv[1], &min, "uringEnter", "minComplete") || !mp_int(env, argv[2], &timeout, "uringEnter", "timeoutMs"))
    return NULL;
  struct ring *r = mp_ring(env, in, id, "uringEnter");
  return r ? mp_i32(env, mp_uring_enter(r, min, timeout)) : NULL;
}

/* uringFiles(id, count) -> 0 or -errno: a sparse table of direct descriptors. */
VERB(mp_uring_files) {
  struct instance *in = mp_instance(env);
  napi_value argv[2];
  uint32_t id, count;
  if (!mp_args(env, info, 2, argv, "uringFiles") || !mp_uint(env, argv[0], &id, "uringFiles", "id") ||
      !mp_uint(env, argv[1], &count, "uringFiles", "count"))
    return NULL;
  struct ring *r = mp_ring(env, in, id, "uringFiles");
  if (!r) return NULL;
  struct mp_rsrc_register reg = {.nr = count, .flags = MP_RSRC_REGISTER_SPARSE};
  return mp_i32(env, sys_register(r->fd, MP_REGISTER_FILES2, &reg, sizeof reg));
}

/* uringFileRange(id, offset, count) -> 0 or -errno: where the kernel places descriptors it allocates. */
VERB(mp_uring_file_range) {
  struct instance *in = mp_instance(env);
  napi_value argv[3];
  uint32_t id, off, len;
  if (!mp_args(env, info, 3, argv, "uringFileRange") || !mp_uint(env, argv[0], &id, "uringFileRange", "id") ||
      !mp_uint(env, argv[1], &off, "uringFileRange", "offset") || !mp_uint(env, argv[2], &len, "uringFileRange", "count"))
    return NULL;
  struct ring *r = mp_ring(env, in, id, "uringFileRange");
  if (!r) return NULL;
  struct mp_file_index_range range = {.off = off, .len = len};
  return mp_i32(env, sys_register(r->fd, MP_REGISTER_FILE_ALLOC_RANGE, &range, 0));
}

/* uringFileUpdate(id, slot, fd) -> 1 or -errno: puts a descriptor (or -1) into the table. */
VERB(mp_uring_file_update) {
  struct instance *in = mp_instance(env);
  napi_value argv[3];
  uint32_t id, slot;
  int32_t fd;
  if (!mp_args(env, info, 3, argv, "uringFileUpdate") || !mp_uint(env, argv[0], &id, "uringFileUpdate", "id") ||
      !mp_uint(env, argv[1], &slot, "uringFileUpdate", "slot") || !mp_int(env, argv[2], &fd, "uringFileUpdate", "fd"))
    return NULL;
  struct ring *r = mp_ring(env, in, id, "uringFileUpdate");
  if (!r) return NULL;
  struct mp_files_update up = {.offset = slot, .fds = (uint64_t)(uintptr_t)&fd};
  return mp_i32(env, sys_register(r->fd, MP_REGISTER_FILES_UPDATE, &up, 1));
}

/*
 * uringBufferRing(id, region, offset, entries, group, flags) -> 0 or -errno. The ring takes entries * 16 bytes, page-aligned.
 * entries 0 gives the group up. flags: 2 = buffers are used up piece by piece (PBUF_RING_INC, Linux 6.12).
 */
VERB(mp_uring_buffer_ring) {
  struct instance *in = mp_instance(env);
  napi_value argv[6];
  uint32_t id, region, entries, group, flags;
  size_t offset;
  static const char verb[] = "uringBufferRing";
  if (!mp_args(env, info, 6, argv, verb) || !mp_uint(env, argv[0], &id, verb, "id") || !mp_uint(env, argv[1], &region, verb, "region") ||
      !mp_size(env, argv[2], &offset, verb, "offset") || !mp_uint(env, argv[3], &entries, verb, "entries") ||
      !mp_uint(env, argv[4], &group, verb, "group") || !mp_uint(env, argv[5], &flags, verb, "flags"))
    return NULL;
  struct ring *r = mp_ring(env, in, id, verb);
  if (!r) return NULL;
  uint8_t *base = mp_range(env, in, region, offset, (size_t)entries * sizeof(struct mp_buf), verb);
  if (!base) return NULL;
  struct mp_buf_reg reg = {.ring_addr = (uint64_t)(uintptr_t)base, .ring_entries = entries, .bgid = (uint16_t)group, .flags = (uint16_t)flags};
  if (entries == 0) reg.ring_addr = 0;
  return mp_i32(env, sys_register(r->fd, entries ? MP_REGISTER_PBUF_RING : MP_UNREGISTER_PBUF_RING, &reg, 1));
}

/* uringProbe(id) -> the highest opcode that the kernel knows, or -errno */
VERB(mp_uring_probe) {
  struct instance *in = mp_instance(env);
  napi_value argv[1];
  uint32_t id;
  if (!mp_args(env, info, 1, argv, "uringProbe") || !mp_uint(env, argv[0], &id, "uringProbe", "id")) return NULL;
  struct ring *r = mp_ring(env, in, id, "uringProbe");
  if (!r) return NULL;
  struct mp_probe *probe = calloc(1, sizeof *probe);
  if (!probe) return mp_i32(env, -ENOMEM);
  int e = sys_register(r->fd, MP_REGISTER_PROBE, probe, 256);
  int last = probe->last_op;
  free(probe);
  return mp_i32(env, e < 0 ? e : last);
}

/* uringCancelAll(id, timeoutMs) -> 0 or -errno (-ENOENT: nothing was in flight) */
VERB(mp_uring_cancel_all) {
  struct instance *in = mp_instance(env);
  napi_value argv[2];
  uint32_t id;
  int32_t timeout;
  if (!mp_args(env, info, 2, argv, "uringCancelAll") || !mp_uint(env, argv[0], &id, "uringCancelAll", "id") ||
      !mp_int(env, argv[1], &timeout, "uringCancelAll", "timeoutMs"))
    return NULL;
  struct ring *r = mp_ring(env, in, id, "uringCancelAll");
  return r ? mp_i32(env, cancel_all(r, timeout < 0 ? 1000 : timeout)) : NULL;
}
