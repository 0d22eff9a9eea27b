/*
 * What a path holds: its state, and the bytes of a small file, in one call. Node.js takes four for that, each of them dearer than the
 * system call under it.
 *
 * A path is a string of bytes: each character is one (0 to 255), as it came from the network. Views are enough here, since nothing
 * is used after the call.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "native.h"

/* Places in the record. */
enum { SIZE, MODE, MODIFIED, CHANGED, INODE, FAILED, LOADED, DESCRIPTOR, RECORD_LENGTH };
/* What FAILED names. */
enum { CALL_OPEN, CALL_FSTAT };

/* The path without its end; 0, or the errno that the kernel would have for it; -1 with an exception. */
static int path_arg(napi_env env, napi_value v, char out[PATH_MAX], const char *verb) {
  size_t length = 0;
  if (napi_get_value_string_latin1(env, v, out, PATH_MAX, &length) != napi_ok) {
    mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "%s: path must be a string", verb);
    return -1;
  }
  if (memchr(out, 0, length)) {
    mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "%s: path contains a NUL character", verb);
    return -1;
  }
  /* Cut off, or exactly as long as fits: both are more than the kernel takes but for one length, which napi cannot tell. */
  if (length < PATH_MAX - 1) return 0;
  napi_get_value_string_latin1(env, v, NULL, 0, &length);
  return length < PATH_MAX ? 0 : ENAMETOOLONG;
}

static double *record_arg(napi_env env, napi_value v, const char *verb) {
  napi_typedarray_type type;
  size_t length;
  void *data;
  if (napi_get_typedarray_info(env, v, &type, &length, &data, NULL, NULL) == napi_ok && type == napi_float64_array && length >= RECORD_LENGTH)
    return data;
  mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "%s: record must be a Float64Array of at least %d numbers", verb, RECORD_LENGTH);
  return NULL;
}

static double milliseconds(struct timespec t) {
  return (double)t.tv_sec * 1000 + (double)t.tv_nsec / 1e6;
}

static void describe(const struct stat *st, double *record) {
  record[SIZE] = (double)st->st_size;
  record[MODE] = st->st_mode;
  record[MODIFIED] = milliseconds(st->st_mtim);
  record[CHANGED] = milliseconds(st->st_ctim);
  record[INODE] = (double)st->st_ino;
}

/* fileStat(path, record) -> 0 or -errno: fills SIZE to INODE. */
VERB(mp_file_stat) {
  napi_value argv[2];
  char path[PATH_MAX];
  double *record;
  struct stat st;
  static const char verb[] = "fileStat";
  if (!mp_args(env, info, 2, argv, verb) || !(record = record_arg(env, argv[1], verb))) return NULL;
  int failed = path_arg(env, argv[0], path, verb);
  if (failed < 0) return NULL;
  if (failed == 0 && stat(path, &st) < 0) failed = errno;
  if (failed == 0) describe(&st, record);
  return mp_i32(env, -failed);
}

/* Reads `size` bytes, or as many as can be had. */
static size_t read_whole(int fd, uint8_t *into, size_t size) {
  size_t done = 0;
  while (done < size) {
    ssize_t n = read(fd, into + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    done += (size_t)n;
  }
  return done;
}

/*
 * fileLoad(path, record, body) -> 0 or -errno: opens the path for reading without waiting for anybody (a FIFO's other end), fills the
 * record, and reads a regular file that fits whole into `body`. LOADED: bytes read, less than SIZE when the file became shorter
 * meanwhile or cannot be read; -1: nothing was to be read, it is longer or no file. A longer file stays open, its DESCRIPTOR is the
 * caller's; else that is -1. Failed: FAILED is the call, and nothing stays open.
 */
VERB(mp_file_load) {
  napi_value argv[3];
  char path[PATH_MAX];
  double *record;
  napi_typedarray_type type;
  size_t room;
  void *body;
  struct stat st;
  static const char verb[] = "fileLoad";
  if (!mp_args(env, info, 3, argv, verb) || !(record = record_arg(env, argv[1], verb))) return NULL;
  if (napi_get_typedarray_info(env, argv[2], &type, &room, &body, NULL, NULL) != napi_ok || type != napi_uint8_array)
    return mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "%s: body must be a Uint8Array", verb);
  int failed = path_arg(env, argv[0], path, verb);
  if (failed < 0) return NULL;
  record[FAILED] = CALL_OPEN;
  record[LOADED] = record[DESCRIPTOR] = -1;
  if (failed) return mp_i32(env, -failed);
  int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return mp_i32(env, -errno);
  if (fstat(fd, &st) < 0) {
    failed = errno;
    record[FAILED] = CALL_FSTAT;
  } else {
    describe(&st, record);
    if (S_ISREG(st.st_mode) && (uint64_t)st.st_size > room) {
      record[DESCRIPTOR] = fd;
      return mp_i32(env, 0);
    }
    if (S_ISREG(st.st_mode)) record[LOADED] = (double)read_whole(fd, body, (size_t)st.st_size);
  }
  close(fd);
  return mp_i32(env, -failed);
}
