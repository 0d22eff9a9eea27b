/*
 * What the addon's files share: argument checking, errors, the per-thread instance.
 *
 * Rule of the whole addon: a caller may pass anything, and gets a JavaScript error with a code, never a crash.
 * Memory is named by region id + offset + length and checked here; rings by id. Ids belong to the thread
 * (Node environment) that made them.
 */
#ifndef MEGAPIPE_NATIVE_H
#define MEGAPIPE_NATIVE_H

#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "abi.h"

#define MP_MAX_REGIONS 4096
#define MP_MAX_RINGS 256

enum region_kind { REGION_FREE = 0, REGION_MAPPED, REGION_SHARED };

struct region {
  enum region_kind kind;
  uint8_t *base;
  size_t length;
  int pins;        /* attachments that use it: it cannot be unmapped */
  napi_ref buffer; /* MAPPED: the ArrayBuffer, weak; SHARED: the view, strong */
};

struct ring {
  bool used;
  bool device; /* a channel of /dev/megapipe (device.c), not io_uring */
  int host_fd; /* device: ends the next wait when it is readable; -1: none */
  int fd;
  uint32_t features;
  uint32_t setup_flags;
  uint8_t *ring_mem;
  size_t ring_bytes;
  uint8_t *sqe_mem;
  size_t sqe_bytes;
  uint32_t *sq_head, *sq_tail, *cq_head, *cq_tail;
  napi_ref ring_buffer, sqe_buffer;
  struct attachment *attachment;
};

struct instance {
  napi_env env;
  uv_loop_t *loop;
  struct region regions[MP_MAX_REGIONS];
  struct ring rings[MP_MAX_RINGS];
  struct attachment *attachments; /* list; the first that can block is the primary */
  int closing_handles;
  napi_async_cleanup_hook_handle cleanup;
  bool dying;
};

struct instance *mp_instance(napi_env env);
/* Frees a dying instance once its last loop handle is closed. */
void mp_instance_finish(struct instance *in);

/* Throws ERR_MEGAPIPE_… (code, message) and returns NULL, so that verbs can `return mp_throw(...)`. */
napi_value mp_throw(napi_env env, const char *code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Reads exactly `want` arguments; throws and returns false when there are fewer. */
bool mp_args(napi_env env, napi_callback_info info, size_t want, napi_value *argv, const char *verb);
bool mp_int(napi_env env, napi_value v, int32_t *out, const char *verb, const char *name);
bool mp_uint(napi_env env, napi_value v, uint32_t *out, const char *verb, const char *name);
/* A whole number 0 … 2^53-1, for sizes and offsets. */
bool mp_size(napi_env env, napi_value v, size_t *out, const char *verb, const char *name);
/* A string of at most cap-1 bytes. */
bool mp_string(napi_env env, napi_value v, char *out, size_t cap, const char *verb, const char *name);
/* `length` bytes at `offset` of region `id`, or NULL with an error thrown. */
uint8_t *mp_range(napi_env env, struct instance *in, uint32_t id, size_t offset, size_t length, const char *verb);
struct ring *mp_ring(napi_env env, struct instance *in, uint32_t id, const char *verb);
/* A place for a new one, or NULL with an error thrown. */
struct ring *mp_ring_free_slot(napi_env env, struct instance *in, const char *verb);

napi_value mp_number(napi_env env, double v);
napi_value mp_i32(napi_env env, int32_t v);
void mp_set(napi_env env, napi_value object, const char *name, napi_value v);
/* An ArrayBuffer over memory that this addon owns; `ref` lets it be detached before the memory goes. */
napi_value mp_wrap_memory(napi_env env, void *base, size_t length, napi_ref *ref);
void mp_detach_memory(napi_env env, napi_ref *ref);
/* Without detaching: JavaScript will not run again. */
void mp_drop_reference(napi_env env, napi_ref *ref);

/* Descriptors that this environment closes when it goes away (socket.c). */
void mp_fd_own(struct instance *in, int fd);
void mp_fd_disown(int fd);
void mp_fd_close_owned(struct instance *in);

int mp_epoll_wait_into(int epoll, uint32_t *words, uint32_t max, int timeout_ms);

/* socket.c: { family, host, port } */
struct sockaddr_storage;
napi_value mp_address_object(napi_env env, const struct sockaddr_storage *address, uint32_t length);

int mp_device_enter(struct ring *ring, uint32_t min_complete, int timeout_ms);

/* uring.c, used by loop.c and the clean-up; for both kinds of rings */
int mp_uring_enter(struct ring *ring, uint32_t min_complete, int timeout_ms);
void mp_ring_free(napi_env env, struct instance *in, struct ring *ring);
void mp_attachment_stop(struct instance *in, struct attachment *at);
void mp_attachments_close_all(struct instance *in);

#define VERB(name) napi_value name(napi_env env, napi_callback_info info)
VERB(mp_memory_map);
VERB(mp_memory_file);
VERB(mp_memory_map_file);
VERB(mp_memory_unmap);
VERB(mp_memory_attach);
VERB(mp_memory_release);
VERB(mp_memory_bind_file);
VERB(mp_address_of);
VERB(mp_uring_create);
VERB(mp_uring_close);
VERB(mp_uring_enter_verb);
VERB(mp_uring_files);
VERB(mp_uring_file_range);
VERB(mp_uring_file_update);
VERB(mp_uring_buffer_ring);
VERB(mp_uring_probe);
VERB(mp_uring_cancel_all);
VERB(mp_device_open);
VERB(mp_device_host);
VERB(mp_device_name);
VERB(mp_epoll_create);
VERB(mp_epoll_ctl);
VERB(mp_epoll_wait);
VERB(mp_pread);
VERB(mp_recv);
VERB(mp_send);
VERB(mp_sendv);
VERB(mp_accept);
VERB(mp_socket);
VERB(mp_socketpair);
VERB(mp_bind);
VERB(mp_listen);
VERB(mp_connect);
VERB(mp_shutdown);
VERB(mp_close);
VERB(mp_dup);
VERB(mp_set_blocking);
VERB(mp_setsockopt);
VERB(mp_getsockopt);
VERB(mp_listen_queue);
VERB(mp_getsockname);
VERB(mp_sockaddr_parse);
VERB(mp_sockaddr);
VERB(mp_reuseport_steer);
VERB(mp_set_affinity);
VERB(mp_get_affinity);
VERB(mp_get_rlimit);
VERB(mp_set_rlimit);
VERB(mp_lock_memory);
VERB(mp_advise_huge_pages);
VERB(mp_discard_memory);
VERB(mp_trim_process);
VERB(mp_file_stat);
VERB(mp_file_load);
VERB(mp_loop_backend_fd);
VERB(mp_loop_attach);
VERB(mp_loop_detach);
VERB(mp_abi_table);

#endif
