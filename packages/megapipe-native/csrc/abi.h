/*
 * The kernel interface that MegaPipe uses, in one place: io_uring's structures and numbers as the kernel's
 * user-space ABI fixes them (include/uapi/linux/io_uring.h), pinned by static assertions.
 *
 * Own definitions rather than the system's header, because the header of the build machine may be older than the
 * kernel it runs on (Debian 12 builds with 6.1's). src/abi.ts holds the same table for TypeScript; test/abi.test.ts
 * compares the two through abiTable().
 */
#ifndef MEGAPIPE_ABI_H
#define MEGAPIPE_ABI_H

#include <stddef.h>
#include <stdint.h>

struct mp_sqe {
  uint8_t opcode;
  uint8_t flags;
  uint16_t ioprio;
  int32_t fd;
  uint64_t off;  /* addr2 */
  uint64_t addr; /* splice_off_in */
  uint32_t len;
  uint32_t op_flags; /* msg_flags, accept_flags, poll32_events, cancel_flags … */
  uint64_t user_data;
  uint16_t buf_group; /* buf_index */
  uint16_t personality;
  int32_t file_index; /* splice_fd_in */
  uint64_t addr3;
  uint64_t pad2;
};
_Static_assert(sizeof(struct mp_sqe) == 64, "io_uring_sqe is 64 bytes");
_Static_assert(offsetof(struct mp_sqe, fd) == 4, "sqe.fd");
_Static_assert(offsetof(struct mp_sqe, off) == 8, "sqe.off");
_Static_assert(offsetof(struct mp_sqe, addr) == 16, "sqe.addr");
_Static_assert(offsetof(struct mp_sqe, len) == 24, "sqe.len");
_Static_assert(offsetof(struct mp_sqe, op_flags) == 28, "sqe.op_flags");
_Static_assert(offsetof(struct mp_sqe, user_data) == 32, "sqe.user_data");
_Static_assert(offsetof(struct mp_sqe, buf_group) == 40, "sqe.buf_group");
_Static_assert(offsetof(struct mp_sqe, file_index) == 44, "sqe.file_index");

struct mp_cqe {
  uint64_t user_data;
  int32_t res;
  uint32_t flags;
};
_Static_assert(sizeof(struct mp_cqe) == 16, "io_uring_cqe is 16 bytes");
_Static_assert(offsetof(struct mp_cqe, res) == 8, "cqe.res");
_Static_assert(offsetof(struct mp_cqe, flags) == 12, "cqe.flags");

struct mp_sq_offsets {
  uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, resv1;
  uint64_t user_addr;
};
_Static_assert(sizeof(struct mp_sq_offsets) == 40, "io_sqring_offsets is 40 bytes");

struct mp_cq_offsets {
  uint32_t head, tail, ring_mask, ring_entries, overflow, cqes, flags, resv1;
  uint64_t user_addr;
};
_Static_assert(sizeof(struct mp_cq_offsets) == 40, "io_cqring_offsets is 40 bytes");

struct mp_uring_params {
  uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, resv[3];
  struct mp_sq_offsets sq_off;
  struct mp_cq_offsets cq_off;
};
_Static_assert(sizeof(struct mp_uring_params) == 120, "io_uring_params is 120 bytes");
_Static_assert(offsetof(struct mp_uring_params, sq_off) == 40, "params.sq_off");

struct mp_getevents_arg {
  uint64_t sigmask;
  uint32_t sigmask_sz;
  uint32_t min_wait_usec;
  uint64_t ts;
};
_Static_assert(sizeof(struct mp_getevents_arg) == 24, "io_uring_getevents_arg is 24 bytes");

struct mp_rsrc_register {
  uint32_t nr, flags;
  uint64_t resv2, data, tags;
};
_Static_assert(sizeof(struct mp_rsrc_register) == 32, "io_uring_rsrc_register is 32 bytes");

struct mp_files_update {
  uint32_t offset, resv;
  uint64_t fds;
};
_Static_assert(sizeof(struct mp_files_update) == 16, "io_uring_rsrc_update is 16 bytes");

struct mp_file_index_range {
  uint32_t off, len;
  uint64_t resv;
};
_Static_assert(sizeof(struct mp_file_index_range) == 16, "io_uring_file_index_range is 16 bytes");

struct mp_buf_reg {
  uint64_t ring_addr;
  uint32_t ring_entries;
  uint16_t bgid, flags;
  uint64_t resv[3];
};
_Static_assert(sizeof(struct mp_buf_reg) == 40, "io_uring_buf_reg is 40 bytes");

struct mp_buf {
  uint64_t addr;
  uint32_t len;
  uint16_t bid;
  uint16_t resv; /* entry 0 only: the ring's tail */
};
_Static_assert(sizeof(struct mp_buf) == 16, "io_uring_buf is 16 bytes");
_Static_assert(offsetof(struct mp_buf, bid) == 12, "buf.bid");
_Static_assert(offsetof(struct mp_buf, resv) == 14, "the buffer ring's tail overlays buf[0].resv");

struct mp_probe_op {
  uint8_t op, resv;
  uint16_t flags;
  uint32_t resv2;
};
struct mp_probe {
  uint8_t last_op, ops_len;
  uint16_t resv;
  uint32_t resv2[3];
  struct mp_probe_op ops[256];
};
_Static_assert(offsetof(struct mp_probe, ops) == 16, "io_uring_probe.ops");

struct mp_sync_cancel {
  uint64_t addr;
  int32_t fd;
  uint32_t flags;
  struct {
    int64_t tv_sec, tv_nsec;
  } timeout;
  uint8_t opcode, pad[7];
  uint64_t pad2[3];
};
_Static_assert(sizeof(struct mp_sync_cancel) == 64, "io_uring_sync_cancel_reg is 64 bytes");

/* io_uring_setup flags */
#define MP_SETUP_CQSIZE (1u << 3)
#define MP_SETUP_CLAMP (1u << 4)
#define MP_SETUP_SUBMIT_ALL (1u << 7)
#define MP_SETUP_COOP_TASKRUN (1u << 8)
#define MP_SETUP_TASKRUN_FLAG (1u << 9)
#define MP_SETUP_SINGLE_ISSUER (1u << 12)
#define MP_SETUP_DEFER_TASKRUN (1u << 13)
#define MP_SETUP_NO_SQARRAY (1u << 16)

#define MP_FEAT_SINGLE_MMAP (1u << 0)
#define MP_FEAT_NODROP (1u << 1)
#define MP_FEAT_EXT_ARG (1u << 8)

#define MP_FEAT_RECVSEND_BUNDLE (1u << 14)
#define MP_PBUF_RING_INC 2

#define MP_ENTER_GETEVENTS (1u << 0)
#define MP_ENTER_EXT_ARG (1u << 3)

#define MP_OFF_SQ_RING 0ull
#define MP_OFF_SQES 0x10000000ull

#define MP_SQ_CQ_OVERFLOW (1u << 1)

/* io_uring_register opcodes */
#define MP_REGISTER_EVENTFD 4
#define MP_UNREGISTER_EVENTFD 5
#define MP_REGISTER_FILES_UPDATE 6
#define MP_REGISTER_PROBE 8
#define MP_REGISTER_FILES2 13
#define MP_REGISTER_PBUF_RING 22
#define MP_UNREGISTER_PBUF_RING 23
#define MP_REGISTER_SYNC_CANCEL 24
#define MP_REGISTER_FILE_ALLOC_RANGE 25
#define MP_RSRC_REGISTER_SPARSE (1u << 0)

/* opcodes */
#define MP_OP_NOP 0
#define MP_OP_POLL_ADD 6
#define MP_OP_SENDMSG 9
#define MP_OP_TIMEOUT 11
#define MP_OP_ACCEPT 13
#define MP_OP_ASYNC_CANCEL 14
#define MP_OP_CONNECT 16
#define MP_OP_CLOSE 19
#define MP_OP_READ 22
#define MP_OP_WRITE 23
#define MP_OP_SEND 26
#define MP_OP_RECV 27
#define MP_OP_SHUTDOWN 34
#define MP_OP_SOCKET 45
#define MP_OP_URING_CMD 46
#define MP_OP_SEND_ZC 47

/* sqe flags, per-operation flags, cqe flags */
#define MP_SQE_FIXED_FILE (1u << 0)
#define MP_SQE_IO_LINK (1u << 2)
#define MP_SQE_ASYNC (1u << 4)
#define MP_SQE_BUFFER_SELECT (1u << 5)
#define MP_SQE_CQE_SKIP_SUCCESS (1u << 6)
#define MP_ACCEPT_MULTISHOT (1u << 0)
#define MP_ACCEPT_DONTWAIT (1u << 1)
#define MP_RECV_MULTISHOT (1u << 1)
#define MP_POLL_ADD_MULTI (1u << 0)
#define MP_CANCEL_ALL (1u << 0)
#define MP_CANCEL_FD (1u << 1)
#define MP_CANCEL_ANY (1u << 2)
#define MP_CANCEL_FD_FIXED (1u << 3)
#define MP_CANCEL_USERDATA (1u << 4)
#define MP_CQE_F_BUFFER (1u << 0)
#define MP_CQE_F_MORE (1u << 1)
#define MP_FILE_INDEX_ALLOC 0xffffffffu
/* cmd_op of OP_URING_CMD on a socket (Linux 6.7) */
#define MP_SOCKET_GETSOCKOPT 2
#define MP_SOCKET_SETSOCKOPT 3

#endif
