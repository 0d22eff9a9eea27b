/*
 * Echo server on io_uring, with the features that Channel's `uring` backend uses and no library in between.
 *
 * What it is for: the floor that JavaScript is compared with. Direct descriptors from a multishot accept, multishot
 * receive into a ring of provided buffers, one SEND per message from the buffer it was received in, one
 * io_uring_enter per batch, closes that complete in silence.
 * Invariants: one send in flight per connection (two could complete out of order); a slot is closed only when its
 * receive has ended and its output is out, so no completion can reach a later user of the slot.
 * Not its job: protecting connections from one that never reads (it holds buffers that others then wait for),
 * several threads, limits, statistics.
 *
 *   cc -O2 -o echo_uring echo_uring.c && ./echo_uring -p 7000
 */
#define _GNU_SOURCE
#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "listen.h"

/* Linux 6.6; the headers of 6.1 lack it. */
#ifndef IORING_SETUP_NO_SQARRAY
#define IORING_SETUP_NO_SQARRAY (1U << 16)
#endif

enum {
  SQ_ENTRIES = 1024,
  CQ_ENTRIES = 16384,
  SLOTS_MAX = 16384,
  BUFFERS = 512, /* a power of two */
  BUFFER_BYTES = 4096,
  NO_BUFFER = 0xffff,
};

enum operation { ACCEPT, RECEIVE, SEND, CLOSE };

struct connection {
  uint16_t first, last; /* received buffers on their way out, oldest first; NO_BUFFER: none */
  bool ended;           /* the receive is over: end of stream or failure */
};

static int ring_fd;
static struct io_uring_sqe *sqes;
static uint32_t *sq_head, *sq_tail_shared, sq_mask, sq_entries, sq_tail;
static uint32_t *cq_head_shared, *cq_tail, cq_mask;
static struct io_uring_cqe *cqes;

static struct io_uring_buf_ring *buffer_ring;
static uint16_t buffer_tail;
static unsigned buffers_held; /* taken out of the ring and not given back */
static char *buffers;
static uint16_t buffer_next[BUFFERS];
static uint32_t buffer_length[BUFFERS], buffer_sent[BUFFERS];

static struct connection connections[SLOTS_MAX];
static uint32_t starved[SLOTS_MAX]; /* slots whose receive ended because the buffer ring was empty */
static unsigned starved_count;
static int listener;
static bool accept_waits; /* the slot table or the process was out of descriptors: accept again after a close */

static void enter(unsigned wait) {
  __atomic_store_n(sq_tail_shared, sq_tail, __ATOMIC_RELEASE);
  unsigned submit = sq_tail - __atomic_load_n(sq_head, __ATOMIC_ACQUIRE);
  long done = syscall(__NR_io_uring_enter, ring_fd, submit, wait, wait ? IORING_ENTER_GETEVENTS : 0U, NULL, 0);
  /* EBUSY, EAGAIN: completions have to be taken first, the loop does that next. */
  if (done < 0 && errno != EINTR && errno != EBUSY && errno != EAGAIN) fail("io_uring_enter", errno);
}

static struct io_uring_sqe *entry(uint8_t opcode, enum operation operation, uint32_t slot) {
  while (sq_tail - __atomic_load_n(sq_head, __ATOMIC_ACQUIRE) == sq_entries) enter(0);
  struct io_uring_sqe *sqe = &sqes[sq_tail++ & sq_mask];
  memset(sqe, 0, sizeof *sqe);
  sqe->opcode = opcode;
  sqe->user_data = (uint64_t)operation << 32 | slot;
  return sqe;
}

static void arm_accept(void) {
  struct io_uring_sqe *sqe = entry(IORING_OP_ACCEPT, ACCEPT, 0);
  sqe->fd = listener;
  sqe->ioprio = IORING_ACCEPT_MULTISHOT;
  sqe->file_index = IORING_FILE_INDEX_ALLOC;
}

static void arm_receive(uint32_t slot) {
  struct io_uring_sqe *sqe = entry(IORING_OP_RECV, RECEIVE, slot);
  sqe->fd = (int)slot;
  sqe->flags = IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
  sqe->ioprio = IORING_RECV_MULTISHOT;
  sqe->buf_group = 0;
}

static void send_first(uint32_t slot) {
  uint16_t id = connections[slot].first;
  struct io_uring_sqe *sqe = entry(IORING_OP_SEND, SEND, slot);
  sqe->fd = (int)slot;
  sqe->flags = IOSQE_FIXED_FILE;
  sqe->addr = (uint64_t)(uintptr_t)(buffers + (size_t)id * BUFFER_BYTES + buffer_sent[id]);
  sqe->len = buffer_length[id] - buffer_sent[id];
  sqe->msg_flags = MSG_WAITALL | MSG_NOSIGNAL;
}

static void close_slot(uint32_t slot) {
  struct io_uring_sqe *sqe = entry(IORING_OP_CLOSE, CLOSE, slot);
  sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
  sqe->file_index = slot + 1;
  if (accept_waits) {
    accept_waits = false;
    arm_accept();
  }
}

/* Seen by the kernel once the tail is published, at the end of the batch. */
static void give_back(uint16_t id) {
  struct io_uring_buf *slot = &buffer_ring->bufs[buffer_tail++ & (BUFFERS - 1)];
  slot->addr = (uint64_t)(uintptr_t)(buffers + (size_t)id * BUFFER_BYTES);
  slot->len = BUFFER_BYTES;
  slot->bid = id;
  buffers_held--;
}

static void on_accept(int result, bool more) {
  if (result >= 0) {
    connections[result] = (struct connection){.first = NO_BUFFER, .last = NO_BUFFER};
    arm_receive((uint32_t)result);
  } else if (result == -ENFILE || result == -EMFILE) {
    accept_waits = !more;
    return;
  } else if (result != -ECONNABORTED && result != -EINTR && result != -EAGAIN) {
    fail("accept", -result);
  }
  if (!more) arm_accept();
}

static void on_receive(uint32_t slot, int result, uint32_t flags) {
  struct connection *connection = &connections[slot];
  if (flags & IORING_CQE_F_BUFFER) {
    uint16_t id = (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT);
    buffers_held++;
    if (result > 0) {
      buffer_length[id] = (uint32_t)result;
      buffer_sent[id] = 0;
      buffer_next[id] = NO_BUFFER;
      if (connection->first == NO_BUFFER) {
        connection->first = connection->last = id;
        send_first(slot);
      } else {
        buffer_next[connection->last] = id;
        connection->last = id;
      }
    } else {
      give_back(id);
    }
  }
  if (flags & IORING_CQE_F_MORE) return;
  if (result > 0) {
    arm_receive(slot);
  } else if (result == -ENOBUFS) {
    starved[starved_count++] = slot;
  } else {
    connection->ended = true;
    if (connection->first == NO_BUFFER) close_slot(slot);
  }
}

static void on_send(uint32_t slot, int result) {
  struct connection *connection = &connections[slot];
  uint16_t id = connection->first;
  if (result > 0) {
    buffer_sent[id] += (uint32_t)result;
    if (buffer_sent[id] < buffer_length[id]) {
      send_first(slot);
      return;
    }
  }
  /* After a failure the rest is dropped; the receive fails by itself and leads to the close. */
  do {
    connection->first = buffer_next[id];
    give_back(id);
    id = connection->first;
  } while (result <= 0 && id != NO_BUFFER);
  if (id != NO_BUFFER) {
    send_first(slot);
  } else if (connection->ended) {
    close_slot(slot);
  }
}

static void *map(size_t length, int fd, off_t offset) {
  int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED | MAP_POPULATE;
  void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, fd, offset);
  if (memory == MAP_FAILED) fail("mmap", errno);
  return memory;
}

static void register_with_ring(unsigned opcode, const void *argument, unsigned count, const char *what) {
  if (syscall(__NR_io_uring_register, ring_fd, opcode, argument, count) < 0) fail(what, errno);
}

static void set_up_ring(void) {
  /* Newest first; a kernel that does not know a flag answers EINVAL. */
  static const unsigned feature_sets[] = {
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_NO_SQARRAY,
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
      IORING_SETUP_SINGLE_ISSUER,
      0,
  };
  struct io_uring_params parameters;
  ring_fd = -1;
  for (size_t i = 0; ring_fd < 0 && i < sizeof feature_sets / sizeof *feature_sets; i++) {
    memset(&parameters, 0, sizeof parameters);
    parameters.flags = IORING_SETUP_CQSIZE | feature_sets[i];
    parameters.cq_entries = CQ_ENTRIES;
    ring_fd = (int)syscall(__NR_io_uring_setup, SQ_ENTRIES, &parameters);
    if (ring_fd < 0 && errno != EINVAL) break;
  }
  if (ring_fd < 0) fail("io_uring_setup", errno);
  if (!(parameters.features & IORING_FEAT_SINGLE_MMAP)) fail("io_uring: one mapping for both rings", ENOTSUP);

  size_t sq_bytes = parameters.sq_off.array + parameters.sq_entries * sizeof(uint32_t);
  size_t cq_bytes = parameters.cq_off.cqes + parameters.cq_entries * sizeof(struct io_uring_cqe);
  char *rings = map(sq_bytes > cq_bytes ? sq_bytes : cq_bytes, ring_fd, IORING_OFF_SQ_RING);
  sqes = map(parameters.sq_entries * sizeof *sqes, ring_fd, IORING_OFF_SQES);
  sq_head = (uint32_t *)(rings + parameters.sq_off.head);
  sq_tail_shared = (uint32_t *)(rings + parameters.sq_off.tail);
  sq_mask = *(uint32_t *)(rings + parameters.sq_off.ring_mask);
  sq_entries = parameters.sq_entries;
  cq_head_shared = (uint32_t *)(rings + parameters.cq_off.head);
  cq_tail = (uint32_t *)(rings + parameters.cq_off.tail);
  cq_mask = *(uint32_t *)(rings + parameters.cq_off.ring_mask);
  cqes = (struct io_uring_cqe *)(rings + parameters.cq_off.cqes);
  if (!(parameters.flags & IORING_SETUP_NO_SQARRAY)) {
    uint32_t *array = (uint32_t *)(rings + parameters.sq_off.array);
    for (uint32_t i = 0; i < sq_entries; i++) array[i] = i;
  }

  /* The table may not be larger than the descriptor limit. */
  struct rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) < 0) fail("getrlimit", errno);
  struct io_uring_rsrc_register table = {
      .nr = files.rlim_cur < SLOTS_MAX ? (uint32_t)files.rlim_cur : SLOTS_MAX,
      .flags = IORING_RSRC_REGISTER_SPARSE,
  };
  register_with_ring(IORING_REGISTER_FILES2, &table, sizeof table, "io_uring_register: sparse file table");

  buffers = map((size_t)BUFFERS * BUFFER_BYTES, -1, 0);
  buffer_ring = map(BUFFERS * sizeof(struct io_uring_buf), -1, 0);
  struct io_uring_buf_reg registration = {
      .ring_addr = (uint64_t)(uintptr_t)buffer_ring,
      .ring_entries = BUFFERS,
      .bgid = 0,
  };
  register_with_ring(IORING_REGISTER_PBUF_RING, &registration, 1, "io_uring_register: buffer ring");
  buffers_held = BUFFERS;
  for (uint16_t id = 0; id < BUFFERS; id++) give_back(id);
  __atomic_store_n(&buffer_ring->tail, buffer_tail, __ATOMIC_RELEASE);
}

int main(int argc, char **argv) {
  listener = listen_from_arguments(argc, argv, 0);
  set_up_ring();
  arm_accept();
  for (;;) {
    enter(1);
    uint32_t head = *cq_head_shared, tail = __atomic_load_n(cq_tail, __ATOMIC_ACQUIRE);
    for (; head != tail; head++) {
      const struct io_uring_cqe *cqe = &cqes[head & cq_mask];
      uint32_t slot = (uint32_t)cqe->user_data;
      switch ((enum operation)(cqe->user_data >> 32)) {
      case ACCEPT:
        on_accept(cqe->res, cqe->flags & IORING_CQE_F_MORE);
        break;
      case RECEIVE:
        on_receive(slot, cqe->res, cqe->flags);
        break;
      case SEND:
        on_send(slot, cqe->res);
        break;
      case CLOSE:
        fail("close", -cqe->res);
      }
    }
    __atomic_store_n(cq_head_shared, head, __ATOMIC_RELEASE);
    __atomic_store_n(&buffer_ring->tail, buffer_tail, __ATOMIC_RELEASE);
    if (starved_count > 0 && buffers_held < BUFFERS) {
      unsigned count = starved_count;
      starved_count = 0;
      for (unsigned i = 0; i < count; i++) arm_receive(starved[i]);
    }
  }
}
