/*
 * Attachment to Node's event loop: the channel waits, libuv is its guest.
 *
 * A uv_prepare handle runs just before libuv would block. For the thread's first channel (the primary) it waits in
 * io_uring_enter or epoll_wait itself, for as long as libuv would have, with libuv's own backend descriptor armed in
 * that wait, and calls JavaScript to drain; it goes round until libuv has something to do. An idle handle then makes
 * libuv's own poll return at once.
 *
 * Only one wait can block a thread. A second channel on the same thread is attached through a poll handle on a
 * descriptor (an eventfd registered with its ring, or its epoll set): each of its wake-ups passes through libuv.
 *
 * JavaScript's drain() returns bits: LEAVE (libuv's descriptor fired), MORE (completions are left: do not block).
 * Three words of shared memory save calls between the two:
 *   control[0]  1: requests were queued outside of drain, which must run before the wait
 *   control[1]  what the last wait returned (events, or -errno); -EAGAIN: there was no wait
 *   control[2]  1: libuv's descriptor fired and is not armed. Becomes 2 when libuv had its turn and drain may arm it
 *               again; earlier it would fire for the same events
 *   control[3]  how many of the entries not yet submitted complete while they are, with nothing to be done for it: a wait
 *               that submits them is for one completion more
 */
#include "native.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CONTROL_WORDS 4
#define DRAIN_LEAVE 1
#define DRAIN_MORE 2

struct attachment {
  struct attachment *next;
  struct instance *in;
  uv_prepare_t prepare;
  uv_idle_t idle;
  uv_poll_t poll;
  bool has_poll;
  bool primary;
  bool stopped;
  int open_handles;
  struct ring *ring; /* NULL: epoll */
  int epoll;
  uint32_t *events;
  uint32_t events_max;
  uint32_t region; /* holds control and events; pinned */
  int32_t *control;
  int wake_fd;
  napi_ref drain;
  napi_async_context context;
};

static void on_closed(uv_handle_t *h) {
  struct attachment *at = h->data;
  struct instance *in = at->in;
  if (--at->open_handles == 0) {
    if (at->wake_fd >= 0) close(at->wake_fd);
    free(at);
  }
  if (--in->closing_handles == 0) mp_instance_finish(in);
}

void mp_attachment_stop(struct instance *in, struct attachment *at) {
  if (at->stopped) return;
  at->stopped = true;
  in->regions[at->region].pins--;
  for (struct attachment **p = &in->attachments; *p; p = &(*p)->next)
    if (*p == at) {
      *p = at->next;
      break;
    }
  if (at->ring) {
    at->ring->attachment = NULL;
    if (at->wake_fd >= 0) syscall(427, at->ring->fd, MP_UNREGISTER_EVENTFD, NULL, 0);
  }
  napi_delete_reference(in->env, at->drain);
  napi_async_destroy(in->env, at->context);
  at->open_handles = 2 + at->has_poll;
  in->closing_handles += at->open_handles;
  uv_close((uv_handle_t *)&at->prepare, on_closed);
  uv_close((uv_handle_t *)&at->idle, on_closed);
  if (at->has_poll) uv_close((uv_handle_t *)&at->poll, on_closed);
}

void mp_attachments_close_all(struct instance *in) {
  while (in->attachments) mp_attachment_stop(in, in->attachments);
}

static int wait_for(struct attachment *at, int timeout_ms) {
  if (at->ring) {
    uint32_t prompt = (uint32_t)at->control[3];
    at->control[3] = 0;
    return mp_uring_enter(at->ring, timeout_ms == 0 ? 1 : 1 + prompt, timeout_ms);
  }
  return mp_epoll_wait_into(at->epoll, at->events, at->events_max, timeout_ms);
}

/* Returns drain's bits, or -1 when JavaScript cannot go on (it threw, or the environment is being torn down). */
static int call_drain(struct attachment *at, int waited) {
  struct instance *in = at->in;
  napi_env env = in->env;
  napi_handle_scope scope;
  at->control[1] = waited;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return -1;
  int bits = -1;
  napi_value fn = NULL, recv, result = NULL;
  if (napi_get_reference_value(env, at->drain, &fn) == napi_ok && fn && napi_get_global(env, &recv) == napi_ok) {
    napi_status status = napi_make_callback(env, at->context, recv, fn, 0, NULL, &result);
    if (status == napi_ok) {
      int32_t v;
      bits = napi_get_value_int32(env, result, &v) == napi_ok ? v : DRAIN_LEAVE;
    } else {
      bool pending = false;
      napi_is_exception_pending(env, &pending);
      napi_value error;
      if (pending && napi_get_and_clear_last_exception(env, &error) == napi_ok) {
        /* An 'uncaughtException' listener may keep the process going; then so does the channel, at the next round. */
        napi_fatal_exception(env, error);
      }
    }
  }
  napi_close_handle_scope(env, scope);
  return bits;
}

static bool unsubmitted(const struct attachment *at) {
  return at->control[0] || (at->ring && *at->ring->sq_tail != *at->ring->sq_head);
}

/* A handler of this channel may have queued work on another one of the same thread, whose prepare handle must run. */
static bool others_unsubmitted(const struct attachment *at) {
  for (const struct attachment *other = at->in->attachments; other; other = other->next)
    if (other != at && unsubmitted(other)) return true;
  return false;
}

static void on_idle(uv_idle_t *h) { (void)h; }

static void on_prepare(uv_prepare_t *h) {
  struct attachment *at = h->data;
  uv_loop_t *loop = at->in->loop;
  bool more = false, leave = false;
  uv_idle_stop(&at->idle);
  if (at->control[2] == 1) {
    at->control[2] = 2;
    at->control[0] = 1;
  }
  while (!at->stopped) {
    int bits = 0;
    if (at->control[0]) {
      bits = call_drain(at, -EAGAIN);
      if (bits < 0 || at->stopped) break;
      more = bits & DRAIN_MORE;
      /* libuv's descriptor may have fired in a submission, too; it is not armed then, and nothing else would wake. */
      if (bits & DRAIN_LEAVE) leave = true;
    }
    /* 0: a timer is due, or handles and watchers wait for libuv. -1: it would sleep for ever. */
    int timeout = at->primary ? uv_backend_timeout(loop) : 0;
    /* The drain just made may itself have left work for the next one. */
    int waited = wait_for(at, more || leave || at->control[0] ? 0 : timeout);
    bits = call_drain(at, waited);
    if (bits < 0) break;
    more = bits & DRAIN_MORE;
    if (bits & DRAIN_LEAVE) leave = true;
    uv_update_time(loop);
    if (leave || timeout == 0 || uv_backend_timeout(loop) == 0 || others_unsubmitted(at)) {
      /* Queued during the last callbacks: the kernel gets it before libuv has its turn. */
      if (!at->stopped && unsubmitted(at)) {
        if (at->control[0] && call_drain(at, -EAGAIN) < 0) break;
        at->control[3] = 0;
        if (!at->stopped && at->ring) mp_uring_enter(at->ring, 0, 0);
        more = true;
      }
      break;
    }
  }
  /* A primary leaves only because libuv has work (its poll must not block then); a secondary sleeps in libuv's poll. */
  if (!at->stopped && !at->in->dying && (at->primary || more)) uv_idle_start(&at->idle, on_idle);
}

static void on_poll(uv_poll_t *h, int status, int events) {
  struct attachment *at = h->data;
  (void)status;
  (void)events;
  if (at->wake_fd >= 0) {
    uint64_t n;
    if (read(at->wake_fd, &n, sizeof n) < 0) return;
  }
  /* The prepare handle, which runs before the next block, drains. */
}

VERB(mp_loop_backend_fd) {
  (void)info;
  return mp_i32(env, uv_backend_fd(mp_instance(env)->loop));
}

/*
 * loopAttach(kind, id, drain, region, controlOffset, eventsOffset, eventsMax) -> 1 primary, 0 secondary.
 * kind 0: io_uring, id = ring; kind 1: epoll, id = descriptor, events = room for eventsMax 12-byte events in the region.
 * controlOffset: three 32-bit words in the region (see the top of this file).
 */
VERB(mp_loop_attach) {
  struct instance *in = mp_instance(env);
  napi_value argv[7];
  uint32_t kind, id, region, events_max;
  size_t control, events;
  napi_valuetype type;
  static const char verb[] = "loopAttach";
  if (!mp_args(env, info, 7, argv, verb) || !mp_uint(env, argv[0], &kind, verb, "kind") || !mp_uint(env, argv[1], &id, verb, "id") ||
      !mp_uint(env, argv[3], &region, verb, "region") || !mp_size(env, argv[4], &control, verb, "controlOffset") ||
      !mp_size(env, argv[5], &events, verb, "eventsOffset") || !mp_uint(env, argv[6], &events_max, verb, "eventsMax"))
    return NULL;
  if (napi_typeof(env, argv[2], &type) != napi_ok || type != napi_function)
    return mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "loopAttach: drain must be a function");
  if (control % 4 || events % 4) return mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "loopAttach: offsets must be multiples of 4");
  struct ring *ring = NULL;
  uint8_t *events_at = NULL;
  if (kind == 0) {
    ring = mp_ring(env, in, id, verb);
    if (!ring) return NULL;
    if (ring->attachment) return mp_throw(env, "ERR_MEGAPIPE_ATTACHED", "loopAttach: ring %u is attached already", id);
  } else {
    events_at = mp_range(env, in, region, events, (size_t)events_max * 12, verb);
    if (!events_at) return NULL;
  }
  uint8_t *control_at = mp_range(env, in, region, control, CONTROL_WORDS * 4, verb);
  if (!control_at) return NULL;

  struct attachment *at = calloc(1, sizeof *at);
  if (!at) return mp_throw(env, "ERR_MEGAPIPE_NOMEM", "loopAttach: no memory");
  at->in = in;
  at->ring = ring;
  at->epoll = kind ? (int)id : -1;
  at->events = (uint32_t *)events_at;
  at->events_max = events_max;
  at->control = (int32_t *)control_at;
  at->region = region;
  at->wake_fd = -1;
  at->primary = true;
  for (struct attachment *other = in->attachments; other; other = other->next)
    if (other->primary) at->primary = false;
  int poll_fd = -1;
  if (!at->primary) {
    if (ring && ring->device) {
      poll_fd = ring->fd;
    } else if (ring) {
      at->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
      if (at->wake_fd < 0 || syscall(427, ring->fd, MP_REGISTER_EVENTFD, &at->wake_fd, 1) < 0) {
        int e = errno;
        if (at->wake_fd >= 0) close(at->wake_fd);
        free(at);
        return mp_throw(env, "ERR_MEGAPIPE_SYSTEM", "loopAttach: eventfd for ring %u: %s", id, strerror(e));
      }
      poll_fd = at->wake_fd;
    } else {
      poll_fd = at->epoll;
    }
  }
  napi_value resource, name;
  napi_create_object(env, &resource);
  napi_create_string_utf8(env, "MEGAPIPE", NAPI_AUTO_LENGTH, &name);
  if (napi_create_reference(env, argv[2], 1, &at->drain) != napi_ok ||
      napi_async_init(env, resource, name, &at->context) != napi_ok) {
    if (at->wake_fd >= 0) close(at->wake_fd);
    free(at);
    return mp_throw(env, "ERR_MEGAPIPE_NOMEM", "loopAttach: no async context");
  }
  uv_prepare_init(in->loop, &at->prepare);
  uv_idle_init(in->loop, &at->idle);
  at->prepare.data = at->idle.data = at->poll.data = at;
  uv_prepare_start(&at->prepare, on_prepare);
  uv_unref((uv_handle_t *)&at->idle);
  if (poll_fd >= 0 && uv_poll_init(in->loop, &at->poll, poll_fd) == 0) {
    at->has_poll = true;
    uv_poll_start(&at->poll, UV_READABLE, on_poll);
    uv_unref((uv_handle_t *)&at->poll);
  }
  if (ring) ring->attachment = at;
  in->regions[region].pins++;
  at->next = in->attachments;
  in->attachments = at;
  return mp_i32(env, at->primary);
}

static struct attachment *find(struct instance *in, uint32_t kind, uint32_t id) {
  for (struct attachment *at = in->attachments; at; at = at->next)
    if (kind == 0 ? (at->ring && at->ring == &in->rings[id % MP_MAX_RINGS]) : (!at->ring && at->epoll == (int)id)) return at;
  return NULL;
}

/* loopDetach(kind, id) -> true if it was attached */
VERB(mp_loop_detach) {
  struct instance *in = mp_instance(env);
  napi_value argv[2], out;
  uint32_t kind, id;
  if (!mp_args(env, info, 2, argv, "loopDetach") || !mp_uint(env, argv[0], &kind, "loopDetach", "kind") ||
      !mp_uint(env, argv[1], &id, "loopDetach", "id"))
    return NULL;
  struct attachment *at = find(in, kind, id);
  if (at) mp_attachment_stop(in, at);
  napi_get_boolean(env, at != NULL, &out);
  return out;
}
