/*
 * Entry point: argument checking, errors, the instance of one Node environment, the table of verbs.
 */
#include "native.h"
#include "megapipe-uapi.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct instance *mp_instance(napi_env env) {
  void *data = NULL;
  napi_get_instance_data(env, &data);
  return data;
}

napi_value mp_throw(napi_env env, const char *code, const char *fmt, ...) {
  char text[512];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  napi_value c, m, error;
  if (napi_create_string_utf8(env, code, NAPI_AUTO_LENGTH, &c) == napi_ok &&
      napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &m) == napi_ok && napi_create_type_error(env, c, m, &error) == napi_ok)
    napi_throw(env, error);
  return NULL;
}

bool mp_args(napi_env env, napi_callback_info info, size_t want, napi_value *argv, const char *verb) {
  size_t argc = want;
  if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != napi_ok || argc < want) {
    mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "%s: expected %zu arguments, got %zu", verb, want, argc);
    return false;
  }
  return true;
}

/* napi_get_value_int32 wraps out-of-range numbers silently, so the double is what gets checked. */
static bool whole(napi_env env, napi_value v, double lo, double hi, double *out, const char *verb, const char *name) {
  double d;
  if (napi_get_value_double(env, v, &d) != napi_ok || !(d >= lo && d <= hi) || d != (double)(int64_t)d) {
    mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "%s: %s must be a whole number from %.0f to %.0f", verb, name, lo, hi);
    return false;
  }
  *out = d;
  return true;
}

bool mp_int(napi_env env, napi_value v, int32_t *out, const char *verb, const char *name) {
  double d;
  if (!whole(env, v, INT32_MIN, INT32_MAX, &d, verb, name)) return false;
  *out = (int32_t)d;
  return true;
}

bool mp_uint(napi_env env, napi_value v, uint32_t *out, const char *verb, const char *name) {
  double d;
  if (!whole(env, v, 0, UINT32_MAX, &d, verb, name)) return false;
  *out = (uint32_t)d;
  return true;
}

bool mp_size(napi_env env, napi_value v, size_t *out, const char *verb, const char *name) {
  double d;
  if (!whole(env, v, 0, 9007199254740991.0, &d, verb, name)) return false;
  *out = (size_t)d;
  return true;
}

bool mp_string(napi_env env, napi_value v, char *out, size_t cap, const char *verb, const char *name) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, v, NULL, 0, &length) != napi_ok) {
    mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "%s: %s must be a string", verb, name);
    return false;
  }
  if (length >= cap) {
    mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "%s: %s has %zu bytes, at most %zu fit", verb, name, length, cap - 1);
    return false;
  }
  napi_get_value_string_utf8(env, v, out, cap, &length);
  if (strlen(out) != length) {
    mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "%s: %s contains a NUL character", verb, name);
    return false;
  }
  return true;
}

napi_value mp_number(napi_env env, double v) {
  napi_value out = NULL;
  napi_create_double(env, v, &out);
  return out;
}

napi_value mp_i32(napi_env env, int32_t v) {
  napi_value out = NULL;
  napi_create_int32(env, v, &out);
  return out;
}

void mp_set(napi_env env, napi_value object, const char *name, napi_value v) {
  if (v) napi_set_named_property(env, object, name, v);
}

#define ROW(name, value) {name, (double)(value)}
static const struct {
  const char *name;
  double value;
} abi_rows[] = {
    ROW("SQE_SIZE", sizeof(struct mp_sqe)),
    ROW("SQE_OPCODE", offsetof(struct mp_sqe, opcode)),
    ROW("SQE_FLAGS", offsetof(struct mp_sqe, flags)),
    ROW("SQE_IOPRIO", offsetof(struct mp_sqe, ioprio)),
    ROW("SQE_FD", offsetof(struct mp_sqe, fd)),
    ROW("SQE_OFF", offsetof(struct mp_sqe, off)),
    ROW("SQE_ADDR", offsetof(struct mp_sqe, addr)),
    ROW("SQE_LEN", offsetof(struct mp_sqe, len)),
    ROW("SQE_OP_FLAGS", offsetof(struct mp_sqe, op_flags)),
    ROW("SQE_USER_DATA", offsetof(struct mp_sqe, user_data)),
    ROW("SQE_BUF_GROUP", offsetof(struct mp_sqe, buf_group)),
    ROW("SQE_FILE_INDEX", offsetof(struct mp_sqe, file_index)),
    ROW("CQE_SIZE", sizeof(struct mp_cqe)),
    ROW("CQE_RES", offsetof(struct mp_cqe, res)),
    ROW("CQE_FLAGS", offsetof(struct mp_cqe, flags)),
    ROW("BUF_SIZE", sizeof(struct mp_buf)),
    ROW("BUF_LEN", offsetof(struct mp_buf, len)),
    ROW("BUF_BID", offsetof(struct mp_buf, bid)),
    ROW("BUF_RING_TAIL", offsetof(struct mp_buf, resv)),
    ROW("SETUP_CQSIZE", MP_SETUP_CQSIZE),
    ROW("SETUP_CLAMP", MP_SETUP_CLAMP),
    ROW("SETUP_SUBMIT_ALL", MP_SETUP_SUBMIT_ALL),
    ROW("SETUP_COOP_TASKRUN", MP_SETUP_COOP_TASKRUN),
    ROW("SETUP_TASKRUN_FLAG", MP_SETUP_TASKRUN_FLAG),
    ROW("SETUP_SINGLE_ISSUER", MP_SETUP_SINGLE_ISSUER),
    ROW("SETUP_DEFER_TASKRUN", MP_SETUP_DEFER_TASKRUN),
    ROW("SETUP_NO_SQARRAY", MP_SETUP_NO_SQARRAY),
    ROW("FEAT_RECVSEND_BUNDLE", MP_FEAT_RECVSEND_BUNDLE),
    ROW("PBUF_RING_INC", MP_PBUF_RING_INC),
    ROW("SQ_CQ_OVERFLOW", MP_SQ_CQ_OVERFLOW),
    ROW("OP_NOP", MP_OP_NOP),
    ROW("OP_POLL_ADD", MP_OP_POLL_ADD),
    ROW("OP_SENDMSG", MP_OP_SENDMSG),
    ROW("OP_TIMEOUT", MP_OP_TIMEOUT),
    ROW("OP_ACCEPT", MP_OP_ACCEPT),
    ROW("OP_ASYNC_CANCEL", MP_OP_ASYNC_CANCEL),
    ROW("OP_CONNECT", MP_OP_CONNECT),
    ROW("OP_CLOSE", MP_OP_CLOSE),
    ROW("OP_READ", MP_OP_READ),
    ROW("OP_WRITE", MP_OP_WRITE),
    ROW("OP_SEND", MP_OP_SEND),
    ROW("OP_RECV", MP_OP_RECV),
    ROW("OP_SHUTDOWN", MP_OP_SHUTDOWN),
    ROW("OP_SOCKET", MP_OP_SOCKET),
    ROW("OP_URING_CMD", MP_OP_URING_CMD),
    ROW("OP_SEND_ZC", MP_OP_SEND_ZC),
    ROW("IOSQE_FIXED_FILE", MP_SQE_FIXED_FILE),
    ROW("IOSQE_IO_LINK", MP_SQE_IO_LINK),
    ROW("IOSQE_ASYNC", MP_SQE_ASYNC),
    ROW("IOSQE_BUFFER_SELECT", MP_SQE_BUFFER_SELECT),
    ROW("IOSQE_CQE_SKIP_SUCCESS", MP_SQE_CQE_SKIP_SUCCESS),
    ROW("ACCEPT_MULTISHOT", MP_ACCEPT_MULTISHOT),
    ROW("ACCEPT_DONTWAIT", MP_ACCEPT_DONTWAIT),
    ROW("RECV_MULTISHOT", MP_RECV_MULTISHOT),
    ROW("POLL_ADD_MULTI", MP_POLL_ADD_MULTI),
    ROW("CANCEL_ALL", MP_CANCEL_ALL),
    ROW("CANCEL_FD", MP_CANCEL_FD),
    ROW("CANCEL_ANY", MP_CANCEL_ANY),
    ROW("CANCEL_FD_FIXED", MP_CANCEL_FD_FIXED),
    ROW("CANCEL_USERDATA", MP_CANCEL_USERDATA),
    ROW("CQE_F_BUFFER", MP_CQE_F_BUFFER),
    ROW("CQE_F_MORE", MP_CQE_F_MORE),
    ROW("FILE_INDEX_ALLOC", MP_FILE_INDEX_ALLOC),
    ROW("SOCKET_GETSOCKOPT", MP_SOCKET_GETSOCKOPT),
    ROW("SOCKET_SETSOCKOPT", MP_SOCKET_SETSOCKOPT),
    ROW("EPOLL_EVENT_SIZE", 12),
    ROW("DEV_SQE_SIZE", sizeof(struct megapipe_sqe)),
    ROW("DEV_SQE_AT_OPCODE", offsetof(struct megapipe_sqe, opcode)),
    ROW("DEV_SQE_AT_FLAGS", offsetof(struct megapipe_sqe, flags)),
    ROW("DEV_SQE_AT_FD", offsetof(struct megapipe_sqe, fd)),
    ROW("DEV_SQE_AT_INDEX", offsetof(struct megapipe_sqe, index)),
    ROW("DEV_SQE_AT_GENERATION", offsetof(struct megapipe_sqe, generation)),
    ROW("DEV_SQE_AT_ADDR", offsetof(struct megapipe_sqe, addr)),
    ROW("DEV_SQE_AT_LEN", offsetof(struct megapipe_sqe, len)),
    ROW("DEV_SQE_AT_USER_DATA", offsetof(struct megapipe_sqe, user_data)),
    ROW("DEV_SQE_AT_COOKIE", offsetof(struct megapipe_sqe, cookie)),
    ROW("DEV_SQE_AT_OP_FLAGS", offsetof(struct megapipe_sqe, op_flags)),
    ROW("DEV_CQE_SIZE", sizeof(struct megapipe_cqe)),
    ROW("DEV_CQE_AT_USER_DATA", offsetof(struct megapipe_cqe, user_data)),
    ROW("DEV_CQE_AT_COOKIE", offsetof(struct megapipe_cqe, cookie)),
    ROW("DEV_CQE_AT_RES", offsetof(struct megapipe_cqe, res)),
    ROW("DEV_CQE_AT_FLAGS", offsetof(struct megapipe_cqe, flags)),
    ROW("DEV_CQE_AT_INDEX", offsetof(struct megapipe_cqe, index)),
    ROW("DEV_CQE_AT_GENERATION", offsetof(struct megapipe_cqe, generation)),
    ROW("DEV_OP_NOP", MEGAPIPE_OP_NOP),
    ROW("DEV_OP_REGISTER", MEGAPIPE_OP_REGISTER),
    ROW("DEV_OP_UNREGISTER", MEGAPIPE_OP_UNREGISTER),
    ROW("DEV_OP_ACCEPT", MEGAPIPE_OP_ACCEPT),
    ROW("DEV_OP_READ", MEGAPIPE_OP_READ),
    ROW("DEV_OP_READV", MEGAPIPE_OP_READV),
    ROW("DEV_OP_WRITE", MEGAPIPE_OP_WRITE),
    ROW("DEV_OP_WRITEV", MEGAPIPE_OP_WRITEV),
    ROW("DEV_OP_POLL", MEGAPIPE_OP_POLL),
    ROW("DEV_OP_DISCONNECT", MEGAPIPE_OP_DISCONNECT),
    ROW("DEV_OP_CLOSE", MEGAPIPE_OP_CLOSE),
    ROW("DEV_OP_CANCEL", MEGAPIPE_OP_CANCEL),
    ROW("DEV_OP_TIMEOUT", MEGAPIPE_OP_TIMEOUT),
    ROW("DEV_SQE_SKIP_SUCCESS", MEGAPIPE_SQE_SKIP_SUCCESS),
    ROW("DEV_REGISTER_COOKIE", MEGAPIPE_REGISTER_COOKIE),
    ROW("DEV_ACCEPT_FD", MEGAPIPE_ACCEPT_FD),
    ROW("DEV_READ_PROVIDED", MEGAPIPE_READ_PROVIDED),
    ROW("DEV_READ_MULTISHOT", MEGAPIPE_READ_MULTISHOT),
    ROW("DEV_CANCEL_READ", MEGAPIPE_CANCEL_READ),
    ROW("DEV_CANCEL_WRITE", MEGAPIPE_CANCEL_WRITE),
    ROW("DEV_CANCEL_TIMEOUT", MEGAPIPE_CANCEL_TIMEOUT),
    ROW("DEV_CQE_MORE", MEGAPIPE_CQE_MORE),
    ROW("DEV_CQE_BUFFER", MEGAPIPE_CQE_BUFFER),
    ROW("DEV_CQE_SHIFT", MEGAPIPE_CQE_SHIFT),
};

VERB(mp_abi_table) {
  (void)info;
  napi_value table;
  if (napi_create_object(env, &table) != napi_ok) return NULL;
  for (size_t i = 0; i < sizeof abi_rows / sizeof abi_rows[0]; i++) mp_set(env, table, abi_rows[i].name, mp_number(env, abi_rows[i].value));
  return table;
}

void mp_instance_finish(struct instance *in) {
  if (!in->dying || !in->cleanup) return;
  napi_async_cleanup_hook_handle handle = in->cleanup;
  free(in);
  napi_remove_async_cleanup_hook(handle);
}

/*
 * Runs when the environment goes away: a worker that ends or is terminated, or a clean process end. JavaScript can no
 * longer run, so what a channel's destroy() would have done happens here: loop handles stop, the kernel is told to
 * cancel what is in flight, and only then is memory given back.
 */
static void cleanup(napi_async_cleanup_hook_handle handle, void *arg) {
  struct instance *in = arg;
  in->dying = true;
  in->cleanup = handle;
  mp_attachments_close_all(in);
  for (int i = 0; i < MP_MAX_RINGS; i++) {
    if (!in->rings[i].used) continue;
    mp_drop_reference(in->env, &in->rings[i].ring_buffer);
    mp_drop_reference(in->env, &in->rings[i].sqe_buffer);
    mp_ring_free(in->env, in, &in->rings[i]);
  }
  for (int i = 0; i < MP_MAX_REGIONS; i++) {
    mp_drop_reference(in->env, &in->regions[i].buffer);
    if (in->regions[i].kind == REGION_MAPPED) munmap(in->regions[i].base, in->regions[i].length);
  }
  mp_fd_close_owned(in);
  if (in->closing_handles == 0) mp_instance_finish(in);
}

#define MP_VERB(name, fn) {name, NULL, fn, NULL, NULL, NULL, napi_enumerable, NULL}

static napi_value init(napi_env env, napi_value exports) {
  struct instance *in = calloc(1, sizeof *in);
  if (!in) return mp_throw(env, "ERR_MEGAPIPE_NOMEM", "megapipe-native: no memory for %zu bytes", sizeof *in);
  in->env = env;
  if (napi_get_uv_event_loop(env, &in->loop) != napi_ok) {
    free(in);
    return mp_throw(env, "ERR_MEGAPIPE_LOOP", "megapipe-native: this environment has no libuv loop");
  }
  napi_set_instance_data(env, in, NULL, NULL);
  napi_add_async_cleanup_hook(env, cleanup, in, NULL);
  const napi_property_descriptor verbs[] = {
      MP_VERB("memoryMap", mp_memory_map),
      MP_VERB("memoryFile", mp_memory_file),
      MP_VERB("memoryMapFile", mp_memory_map_file),
      MP_VERB("memoryUnmap", mp_memory_unmap),
      MP_VERB("memoryAttach", mp_memory_attach),
      MP_VERB("memoryRelease", mp_memory_release),
      MP_VERB("memoryBindFile", mp_memory_bind_file),
      MP_VERB("addressOf", mp_address_of),
      MP_VERB("uringCreate", mp_uring_create),
      MP_VERB("uringClose", mp_uring_close),
      MP_VERB("uringEnter", mp_uring_enter_verb),
      MP_VERB("uringFiles", mp_uring_files),
      MP_VERB("uringFileRange", mp_uring_file_range),
      MP_VERB("uringFileUpdate", mp_uring_file_update),
      MP_VERB("uringBufferRing", mp_uring_buffer_ring),
      MP_VERB("uringProbe", mp_uring_probe),
      MP_VERB("uringCancelAll", mp_uring_cancel_all),
      MP_VERB("deviceOpen", mp_device_open),
      MP_VERB("deviceHost", mp_device_host),
      MP_VERB("deviceName", mp_device_name),
      MP_VERB("epollCreate", mp_epoll_create),
      MP_VERB("epollCtl", mp_epoll_ctl),
      MP_VERB("epollWait", mp_epoll_wait),
      MP_VERB("pread", mp_pread),
      MP_VERB("recv", mp_recv),
      MP_VERB("send", mp_send),
      MP_VERB("sendv", mp_sendv),
      MP_VERB("accept", mp_accept),
      MP_VERB("socket", mp_socket),
      MP_VERB("socketpair", mp_socketpair),
      MP_VERB("bind", mp_bind),
      MP_VERB("listen", mp_listen),
      MP_VERB("connect", mp_connect),
      MP_VERB("shutdown", mp_shutdown),
      MP_VERB("close", mp_close),
      MP_VERB("dup", mp_dup),
      MP_VERB("setBlocking", mp_set_blocking),
      MP_VERB("setsockopt", mp_setsockopt),
      MP_VERB("getsockopt", mp_getsockopt),
      MP_VERB("listenQueue", mp_listen_queue),
      MP_VERB("getsockname", mp_getsockname),
      MP_VERB("sockaddr", mp_sockaddr),
      MP_VERB("sockaddrParse", mp_sockaddr_parse),
      MP_VERB("reuseportSteer", mp_reuseport_steer),
      MP_VERB("setAffinity", mp_set_affinity),
      MP_VERB("getAffinity", mp_get_affinity),
      MP_VERB("getRlimit", mp_get_rlimit),
      MP_VERB("setRlimit", mp_set_rlimit),
      MP_VERB("lockMemory", mp_lock_memory),
      MP_VERB("adviseHugePages", mp_advise_huge_pages),
      MP_VERB("discardMemory", mp_discard_memory),
      MP_VERB("trimProcess", mp_trim_process),
      MP_VERB("fileStat", mp_file_stat),
      MP_VERB("fileLoad", mp_file_load),
      MP_VERB("loopBackendFd", mp_loop_backend_fd),
      MP_VERB("loopAttach", mp_loop_attach),
      MP_VERB("loopDetach", mp_loop_detach),
      MP_VERB("abiTable", mp_abi_table),
  };
  napi_define_properties(env, exports, sizeof verbs / sizeof verbs[0], verbs);
  return exports;
}

NAPI_MODULE_INIT() { return init(env, exports); }
