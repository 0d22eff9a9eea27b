/*
 * Echo server on io_uring, with the features that Channel's `uring` backend uses and no library in between.
 *
 * What it is for: the floor that JavaScript is compared with. Direct descriptors from a multishot accept, multishot
 * receive into a ring of provided buffers, one send per connection from the buffers its bytes were received in, one
 * io_uring_enter per batch, closes that complete in silence. And the measurement of what each optional feature of
 * io_uring gives: options leave one out that Channel uses, or add one that it does not (USAGE below).
 * Invariants: one send in flight per connection (two could complete out of order); a slot is closed only when its
 * receive has ended and its output is out, so no completion can reach a later user of the slot; a buffer goes back
 * into the ring when neither the kernel nor a piece of output refers to it.
 * Not its job: protecting connections from one that never reads (it holds buffers that others then wait for),
 * several threads, limits, statistics.
 *
 *   cc -O2 -o echo_uring echo_uring.c && ./echo_uring -p 7000
 */
#define _GNU_SOURCE
#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "listen.h"

/* Newer than the headers of 6.1: Linux 6.6, 6.10, 6.12, 6.12. */
#ifndef IORING_SETUP_NO_SQARRAY
#define IORING_SETUP_NO_SQARRAY (1U << 16)
#endif
#ifndef IORING_RECVSEND_BUNDLE
#define IORING_RECVSEND_BUNDLE (1U << 4)
#endif
#define BUFFER_RING_INCREMENTAL 2U
#define CQE_BUFFER_MORE (1U << 4)

#define USAGE                                                                                     \
  "Features left out: --no-direct (up to Linux 6.12 closing a direct descriptor waits for idle ones)\n" \
  "                   --no-defer-taskrun --sq-array --no-multishot-accept --no-multishot-receive\n" \
  "Features added:    --zero-copy --bundles --incremental\n"                                         \
  "Larger buffers, as much memory in all: --buffers-16k"

enum {
  SQ_ENTRIES = 1024,
  CQ_ENTRIES = 16384,
  SLOTS_MAX = 16384,
  BUFFERS_MAX = 512, /* a power of two */
  BUFFER_BYTES = 4096,
  INCREMENTAL_BUFFERS = 32, /* as much memory, in buffers that several receives fill one after the other */
  PIECES = 8192,
  GATHER_MAX = 16,
  NONE = 0xffff,
};

enum operation { ACCEPT, RECEIVE, SEND, CLOSE };

/* Received bytes on their way out. */
struct piece {
  char *at;
  uint32_t length;
  uint16_t buffer, next;
};

struct connection {
  uint16_t first, last; /* pieces, oldest first; NONE: none */
  bool ended;           /* the receive is over: end of stream or failure */
};

/* What one send reads from; with zero-copy, the buffers are held until the kernel's notification. */
struct message {
  struct msghdr header;
  struct iovec vectors[GATHER_MAX];
  uint16_t buffers[GATHER_MAX];
  unsigned count;
};

static bool direct = true; /* connections are direct descriptors: in the ring's table only */
static bool defer_taskrun = true, sq_array = false, multishot_accept = true, multishot_receive = true;
static bool zero_copy = false, bundles = false, incremental = false, buffers_16k = false;

static int ring_fd;
static struct io_uring_sqe *sqes;
static uint32_t *sq_head, *sq_tail_shared, sq_mask, sq_entries, sq_tail;
static uint32_t *cq_head_shared, *cq_tail, cq_mask;
static struct io_uring_cqe *cqes;

static struct io_uring_buf_ring *buffer_ring;
static uint16_t buffer_tail;
static unsigned buffers_held; /* taken out of the ring and not given back */
static char *buffers;
static unsigned buffer_count = BUFFERS_MAX;
static uint32_t buffer_bytes = BUFFER_BYTES;
static uint32_t buffer_used[BUFFERS_MAX]; /* incremental: bytes that the kernel has filled */
static uint16_t buffer_uses[BUFFERS_MAX]; /* pieces and messages that refer to it, and 1 while the kernel may fill it */
/* Bundles: which buffer stands where in the ring, and where each stands. */
static uint16_t ring_order[BUFFERS_MAX], ring_position[BUFFERS_MAX];

static struct piece pieces[PIECES];
static uint16_t piece_free;
static struct message messages[SLOTS_MAX];
static uint32_t message_free[SLOTS_MAX], messages_free = 0;

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

static struct io_uring_sqe *entry(uint8_t opcode, enum operation operation, uint32_t message, uint32_t slot) {
  while (sq_tail - __atomic_load_n(sq_head, __ATOMIC_ACQUIRE) == sq_entries) enter(0);
  struct io_uring_sqe *sqe = &sqes[sq_tail++ & sq_mask];
  memset(sqe, 0, sizeof *sqe);
  sqe->opcode = opcode;
  sqe->user_data = (uint64_t)operation << 56 | (uint64_t)message << 32 | slot;
  return sqe;
}

static void arm_accept(void) {
  struct io_uring_sqe *sqe = entry(IORING_OP_ACCEPT, ACCEPT, 0, 0);
  sqe->fd = listener;
  sqe->ioprio = multishot_accept ? IORING_ACCEPT_MULTISHOT : 0;
  if (direct) sqe->file_index = IORING_FILE_INDEX_ALLOC;
}

static void arm_receive(uint32_t slot) {
  struct io_uring_sqe *sqe = entry(IORING_OP_RECV, RECEIVE, 0, slot);
  sqe->fd = (int)slot;
  sqe->flags = (direct ? IOSQE_FIXED_FILE : 0) | IOSQE_BUFFER_SELECT;
  sqe->ioprio = (multishot_receive ? IORING_RECV_MULTISHOT : 0) | (bundles ? IORING_RECVSEND_BUNDLE : 0);
  sqe->buf_group = 0;
}

/* One SEND where there is one piece, else one SENDMSG over as many as it takes. */
static void send_pieces(uint32_t slot) {
  if (messages_free == 0) fail("messages on their way", ENOBUFS);
  uint32_t index = message_free[--messages_free];
  struct message *message = &messages[index];
  message->count = 0;
  for (uint16_t p = connections[slot].first; p != NONE && message->count < GATHER_MAX; p = pieces[p].next) {
    message->vectors[message->count].iov_base = pieces[p].at;
    message->vectors[message->count].iov_len = pieces[p].length;
    message->buffers[message->count++] = pieces[p].buffer;
    if (zero_copy) buffer_uses[pieces[p].buffer]++;
  }
  bool one = message->count == 1;
  uint8_t opcode = one ? (zero_copy ? IORING_OP_SEND_ZC : IORING_OP_SEND)
                       : (zero_copy ? IORING_OP_SENDMSG_ZC : IORING_OP_SENDMSG);
  struct io_uring_sqe *sqe = entry(opcode, SEND, index, slot);
  sqe->fd = (int)slot;
  sqe->flags = direct ? IOSQE_FIXED_FILE : 0;
  sqe->msg_flags = MSG_WAITALL | MSG_NOSIGNAL;
  if (one) {
    sqe->addr = (uint64_t)(uintptr_t)message->vectors[0].iov_base;
    sqe->len = (uint32_t)message->vectors[0].iov_len;
  } else {
    message->header = (struct msghdr){.msg_iov = message->vectors, .msg_iovlen = message->count};
    sqe->addr = (uint64_t)(uintptr_t)&message->header;
    sqe->len = 1;
  }
}

static void close_slot(uint32_t slot) {
  struct io_uring_sqe *sqe = entry(IORING_OP_CLOSE, CLOSE, 0, slot);
  sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
  if (direct)
    sqe->file_index = slot + 1;
  else
    sqe->fd = (int)slot;
  if (accept_waits) {
    accept_waits = false;
    arm_accept();
  }
}

/* Seen by the kernel once the tail is published, at the end of the batch. */
static void give_back(uint16_t id) {
  uint16_t position = buffer_tail++ & (uint16_t)(buffer_count - 1);
  struct io_uring_buf *slot = &buffer_ring->bufs[position];
  slot->addr = (uint64_t)(uintptr_t)(buffers + (size_t)id * buffer_bytes);
  slot->len = buffer_bytes;
  slot->bid = id;
  ring_order[position] = id;
  ring_position[id] = position;
  buffer_used[id] = 0;
  buffers_held--;
}

static void drop_buffer(uint16_t id) {
  if (--buffer_uses[id] == 0) give_back(id);
}

static void append(struct connection *connection, uint16_t buffer, char *at, uint32_t length) {
  uint16_t p = piece_free;
  if (p == NONE) fail("pieces of output", ENOBUFS);
  piece_free = pieces[p].next;
  pieces[p] = (struct piece){.at = at, .length = length, .buffer = buffer, .next = NONE};
  buffer_uses[buffer]++;
  if (connection->first == NONE) {
    connection->first = p;
  } else {
    pieces[connection->last].next = p;
  }
  connection->last = p;
}

static void on_accept(int result, bool more) {
  if (result >= SLOTS_MAX) {
    close(result);
  } else if (result >= 0) {
    connections[result] = (struct connection){.first = NONE, .last = NONE};
    arm_receive((uint32_t)result);
  } else if (result == -ENFILE || result == -EMFILE) {
    accept_waits = !more;
    return;
  } else if (result != -ECONNABORTED && result != -EINTR && result != -EAGAIN) {
    fail("accept", -result);
  }
  if (!more) arm_accept();
}

/* `bytes` were received, into the buffer `id` or, as a bundle, into that and those behind it in the ring. */
static void take_bytes(struct connection *connection, uint16_t id, uint32_t bytes, bool kernel_goes_on) {
  if (incremental) {
    if (buffer_used[id] == 0) buffer_uses[id] = 1;
    append(connection, id, buffers + (size_t)id * buffer_bytes + buffer_used[id], bytes);
    buffer_used[id] += bytes;
    if (!kernel_goes_on) {
      buffers_held++;
      drop_buffer(id);
    }
    return;
  }
  for (uint16_t position = ring_position[id]; bytes > 0; position++) {
    uint16_t each = ring_order[position & (buffer_count - 1)];
    uint32_t length = bytes < buffer_bytes ? bytes : buffer_bytes;
    buffers_held++;
    buffer_uses[each] = 0;
    append(connection, each, buffers + (size_t)each * buffer_bytes, length);
    bytes -= length;
  }
}

static void on_receive(uint32_t slot, int result, uint32_t flags) {
  struct connection *connection = &connections[slot];
  if (flags & IORING_CQE_F_BUFFER) {
    uint16_t id = (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT);
    if (result > 0) {
      bool idle = connection->first == NONE;
      take_bytes(connection, id, (uint32_t)result, flags & CQE_BUFFER_MORE);
      if (idle) send_pieces(slot);
    } else if (!(flags & CQE_BUFFER_MORE)) {
      buffers_held++;
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
    if (connection->first == NONE) close_slot(slot);
  }
}

/* The kernel reads the buffers of a message no more. */
static void message_done(uint32_t index) {
  if (zero_copy)
    for (unsigned i = 0; i < messages[index].count; i++) drop_buffer(messages[index].buffers[i]);
  message_free[messages_free++] = index;
}

static void on_send(uint32_t slot, uint32_t message, int result, uint32_t flags) {
  if (flags & IORING_CQE_F_NOTIF) {
    message_done(message);
    return;
  }
  if (!(flags & IORING_CQE_F_MORE)) message_done(message);
  struct connection *connection = &connections[slot];
  bool failed = result <= 0;
  uint32_t left = failed ? 0 : (uint32_t)result;
  /* After a failure the rest is dropped; the receive fails by itself and leads to the close. */
  while (connection->first != NONE && (failed || left > 0)) {
    struct piece *piece = &pieces[connection->first];
    if (!failed && piece->length > left) {
      piece->at += left;
      piece->length -= left;
      break;
    }
    left -= failed ? 0 : piece->length;
    uint16_t done = connection->first;
    connection->first = piece->next;
    drop_buffer(piece->buffer);
    piece->next = piece_free;
    piece_free = done;
  }
  if (connection->first != NONE) {
    send_pieces(slot);
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
  unsigned all = IORING_SETUP_SINGLE_ISSUER | (defer_taskrun ? IORING_SETUP_DEFER_TASKRUN : 0) |
                 (sq_array ? 0 : IORING_SETUP_NO_SQARRAY);
  unsigned feature_sets[] = {all, all & ~IORING_SETUP_NO_SQARRAY, IORING_SETUP_SINGLE_ISSUER, 0};
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

  if (incremental) buffer_count = INCREMENTAL_BUFFERS;
  if (buffers_16k) buffer_count = BUFFERS_MAX / 4;
  buffer_bytes = BUFFER_BYTES * (BUFFERS_MAX / buffer_count);
  buffers = map((size_t)buffer_count * buffer_bytes, -1, 0);
  buffer_ring = map(buffer_count * sizeof(struct io_uring_buf), -1, 0);
  struct io_uring_buf_reg registration = {
      .ring_addr = (uint64_t)(uintptr_t)buffer_ring,
      .ring_entries = buffer_count,
      .bgid = 0,
  };
  /* The field is called `pad` in older headers. */
  uint16_t ring_flags = incremental ? BUFFER_RING_INCREMENTAL : 0;
  memcpy((char *)&registration + offsetof(struct io_uring_buf_reg, bgid) + sizeof registration.bgid, &ring_flags, 2);
  register_with_ring(IORING_REGISTER_PBUF_RING, &registration, 1, "io_uring_register: buffer ring");
  buffers_held = buffer_count;
  for (uint16_t id = 0; id < buffer_count; id++) give_back(id);
  __atomic_store_n(&buffer_ring->tail, buffer_tail, __ATOMIC_RELEASE);

  for (uint16_t p = 0; p < PIECES; p++) pieces[p].next = p + 1 < PIECES ? (uint16_t)(p + 1) : NONE;
  for (uint32_t i = SLOTS_MAX; i > 0; i--) message_free[messages_free++] = i - 1;
}

/* Takes the options of features out of the command line. */
static int read_features(int argc, char **argv) {
  struct {
    const char *name;
    bool *feature, value;
  } options[] = {
      {"--no-direct", &direct, false},
      {"--no-defer-taskrun", &defer_taskrun, false},
      {"--sq-array", &sq_array, true},
      {"--no-multishot-accept", &multishot_accept, false},
      {"--no-multishot-receive", &multishot_receive, false},
      {"--zero-copy", &zero_copy, true},
      {"--bundles", &bundles, true},
      {"--incremental", &incremental, true},
      {"--buffers-16k", &buffers_16k, true},
  };
  int left = 1;
  for (int i = 1; i < argc; i++) {
    size_t option = 0, count = sizeof options / sizeof *options;
    while (option < count && strcmp(argv[i], options[option].name) != 0) option++;
    if (option < count) {
      *options[option].feature = options[option].value;
    } else if (strncmp(argv[i], "--", 2) == 0) {
      fprintf(stderr, "%s: unknown option %s\n" USAGE, argv[0], argv[i]);
      exit(2);
    } else {
      argv[left++] = argv[i];
    }
  }
  if (bundles + incremental + buffers_16k > 1) {
    fprintf(stderr, "%s: --bundles, --incremental and --buffers-16k are measured one at a time\n", argv[0]);
    exit(2);
  }
  return left;
}

int main(int argc, char **argv) {
  listener = listen_from_arguments(read_features(argc, argv), argv, 0);
  set_up_ring();
  arm_accept();
  for (;;) {
    enter(1);
    uint32_t head = *cq_head_shared, tail = __atomic_load_n(cq_tail, __ATOMIC_ACQUIRE);
    for (; head != tail; head++) {
      const struct io_uring_cqe *cqe = &cqes[head & cq_mask];
      uint32_t slot = (uint32_t)cqe->user_data;
      switch ((enum operation)(cqe->user_data >> 56)) {
      case ACCEPT:
        on_accept(cqe->res, cqe->flags & IORING_CQE_F_MORE);
        break;
      case RECEIVE:
        on_receive(slot, cqe->res, cqe->flags);
        break;
      case SEND:
        on_send(slot, (uint32_t)(cqe->user_data >> 32) & 0xffffff, cqe->res, cqe->flags);
        break;
      case CLOSE:
        fail("close", -cqe->res);
      }
    }
    __atomic_store_n(cq_head_shared, head, __ATOMIC_RELEASE);
    __atomic_store_n(&buffer_ring->tail, buffer_tail, __ATOMIC_RELEASE);
    if (starved_count > 0 && buffers_held < buffer_count) {
      unsigned count = starved_count;
      starved_count = 0;
      for (unsigned i = 0; i < count; i++) arm_receive(starved[i]);
    }
  }
}
