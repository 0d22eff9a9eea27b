/*
 * Memory the kernel may be pointed at: regions, named by id. MAPPED regions are mappings (anonymous, or of
 * a memory file that several processes share) handed to JavaScript as an ArrayBuffer; SHARED regions are the caller's SharedArrayBuffers, which can neither move nor be
 * detached, so their address stays true as long as the reference held here. Ordinary ArrayBuffers are refused: they
 * can be transferred away under the kernel's feet.
 */
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int free_region(struct instance *in) {
  for (int i = 0; i < MP_MAX_REGIONS; i++)
    if (in->regions[i].kind == REGION_FREE) return i;
  return -1;
}

uint8_t *mp_range(napi_env env, struct instance *in, uint32_t id, size_t offset, size_t length, const char *verb) {
  if (id >= MP_MAX_REGIONS || in->regions[id].kind == REGION_FREE) {
    mp_throw(env, "ERR_MEGAPIPE_REGION", "%s: there is no region %u on this thread", verb, id);
    return NULL;
  }
  struct region *r = &in->regions[id];
  if (offset > r->length || length > r->length - offset) {
    mp_throw(env, "ERR_MEGAPIPE_RANGE", "%s: bytes %zu+%zu are outside region %u of %zu bytes", verb, offset, length, id, r->length);
    return NULL;
  }
  return r->base + offset;
}

napi_value mp_wrap_memory(napi_env env, void *base, size_t length, napi_ref *ref) {
  napi_value buffer;
  if (napi_create_external_arraybuffer(env, base, length, NULL, NULL, &buffer) != napi_ok) return NULL;
  if (napi_create_reference(env, buffer, 0, ref) != napi_ok) {
    napi_detach_arraybuffer(env, buffer);
    return NULL;
  }
  return buffer;
}

void mp_detach_memory(napi_env env, napi_ref *ref) {
  if (!*ref) return;
  napi_value buffer = NULL;
  if (napi_get_reference_value(env, *ref, &buffer) == napi_ok && buffer) napi_detach_arraybuffer(env, buffer);
  mp_drop_reference(env, ref);
}

void mp_drop_reference(napi_env env, napi_ref *ref) {
  if (*ref) napi_delete_reference(env, *ref);
  *ref = NULL;
}

/* A fresh mapping becomes a region: { id, buffer, address }. `fd` < 0: anonymous and private, else that file's bytes, shared. */
static napi_value map_region(napi_env env, struct instance *in, size_t bytes, int fd, const char *verb) {
  if (bytes == 0 || bytes > (1ull << 40)) return mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "%s: bytes must be 1 to 2^40, got %zu", verb, bytes);
  int id = free_region(in);
  if (id < 0) return mp_throw(env, "ERR_MEGAPIPE_REGION", "%s: all %d regions of this thread are in use", verb, MP_MAX_REGIONS);
  int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED;
  void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (base == MAP_FAILED) return mp_throw(env, "ERR_MEGAPIPE_NOMEM", "%s: mmap of %zu bytes: %s", verb, bytes, strerror(errno));
  struct region *r = &in->regions[id];
  napi_value buffer = mp_wrap_memory(env, base, bytes, &r->buffer);
  if (!buffer) {
    munmap(base, bytes);
    return mp_throw(env, "ERR_MEGAPIPE_NOMEM", "%s: no ArrayBuffer over %zu bytes", verb, bytes);
  }
  r->kind = REGION_MAPPED;
  r->base = base;
  r->length = bytes;
  napi_value out;
  napi_create_object(env, &out);
  mp_set(env, out, "id", mp_i32(env, id));
  mp_set(env, out, "buffer", buffer);
  mp_set(env, out, "address", mp_number(env, (double)(uintptr_t)base));
  return out;
}

/* memoryMap(bytes) -> { id, buffer, address }. Zeroed, and touched only as used. */
VERB(mp_memory_map) {
  struct instance *in = mp_instance(env);
  napi_value argv[1];
  size_t bytes;
  if (!mp_args(env, info, 1, argv, "memoryMap") || !mp_size(env, argv[0], &bytes, "memoryMap", "bytes")) return NULL;
  return map_region(env, in, bytes, -1, "memoryMap");
}

/* memoryFile(bytes) -> descriptor or -errno: zeroed memory without a name, for several processes to map. It cannot shrink. */
VERB(mp_memory_file) {
  napi_value argv[1];
  size_t bytes;
  if (!mp_args(env, info, 1, argv, "memoryFile") || !mp_size(env, argv[0], &bytes, "memoryFile", "bytes")) return NULL;
  if (bytes == 0 || bytes > (1ull << 40)) return mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "memoryFile: bytes must be 1 to 2^40, got %zu", bytes);
  int fd = memfd_create("megapipe", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return mp_i32(env, -errno);
  if (ftruncate(fd, (off_t)bytes) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) < 0) {
    int failed = errno;
    close(fd);
    return mp_i32(env, -failed);
  }
  return mp_i32(env, fd);
}

/*
 * memoryMapFile(fd, bytes) -> { id, buffer, address }: shared with every process that maps it. Only a memoryFile is taken:
 * one that somebody shortens would answer an access with SIGBUS.
 */
VERB(mp_memory_map_file) {
  struct instance *in = mp_instance(env);
  napi_value argv[2];
  uint32_t fd;
  size_t bytes;
  if (!mp_args(env, info, 2, argv, "memoryMapFile") || !mp_uint(env, argv[0], &fd, "memoryMapFile", "fd") ||
      !mp_size(env, argv[1], &bytes, "memoryMapFile", "bytes"))
    return NULL;
  int seals = fd > INT32_MAX ? -1 : fcntl((int)fd, F_GET_SEALS);
  struct stat st;
  if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat((int)fd, &st) < 0)
    return mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "memoryMapFile: descriptor %u is not memory made by memoryFile", fd);
  if (bytes > (uint64_t)st.st_size)
    return mp_throw(env, "ERR_MEGAPIPE_RANGE", "memoryMapFile: %zu bytes of a memory file of %lld", bytes, (long long)st.st_size);
  return map_region(env, in, bytes, (int)fd, "memoryMapFile");
}

/* memoryUnmap(id): the ArrayBuffer is detached first. The caller has made sure that the kernel is done with it. */
VERB(mp_memory_unmap) {
  struct instance *in = mp_instance(env);
  napi_value argv[1];
  uint32_t id;
  if (!mp_args(env, info, 1, argv, "memoryUnmap") || !mp_uint(env, argv[0], &id, "memoryUnmap", "id")) return NULL;
  if (id >= MP_MAX_REGIONS || in->regions[id].kind != REGION_MAPPED)
    return mp_throw(env, "ERR_MEGAPIPE_REGION", "memoryUnmap: there is no mapped region %u on this thread", id);
  struct region *r = &in->regions[id];
  if (r->pins) return mp_throw(env, "ERR_MEGAPIPE_REGION", "memoryUnmap: region %u is in use by an attached channel: detach it first", id);
  mp_detach_memory(env, &r->buffer);
  munmap(r->base, r->length);
  memset(r, 0, sizeof *r);
  return NULL;
}

static bool shared_view(napi_env env, napi_value view, uint8_t **base, size_t *length, const char *verb) {
  bool typed = false, plain = true;
  napi_value buffer;
  size_t elements, offset;
  napi_typedarray_type type;
  void *data;
  if (napi_is_typedarray(env, view, &typed) != napi_ok || !typed ||
      napi_get_typedarray_info(env, view, &type, &elements, &data, &buffer, &offset) != napi_ok || type != napi_uint8_array) {
    mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "%s: expected a Uint8Array over a SharedArrayBuffer", verb);
    return false;
  }
  if (napi_is_arraybuffer(env, buffer, &plain) != napi_ok || plain) {
    mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "%s: the view stands on an ArrayBuffer, which could be transferred away while the kernel uses it; use a SharedArrayBuffer", verb);
    return false;
  }
  *base = data;
  *length = elements;
  return true;
}

/* memoryAttach(view) -> { id, address }: a Uint8Array over a SharedArrayBuffer becomes a region. */
VERB(mp_memory_attach) {
  struct instance *in = mp_instance(env);
  napi_value argv[1];
  uint8_t *base;
  size_t length;
  if (!mp_args(env, info, 1, argv, "memoryAttach") || !shared_view(env, argv[0], &base, &length, "memoryAttach")) return NULL;
  int id = free_region(in);
  if (id < 0) return mp_throw(env, "ERR_MEGAPIPE_REGION", "memoryAttach: all %d regions of this thread are in use", MP_MAX_REGIONS);
  struct region *r = &in->regions[id];
  if (napi_create_reference(env, argv[0], 1, &r->buffer) != napi_ok)
    return mp_throw(env, "ERR_MEGAPIPE_NOMEM", "memoryAttach: no reference to the view");
  r->kind = REGION_SHARED;
  r->base = base;
  r->length = length;
  napi_value out;
  napi_create_object(env, &out);
  mp_set(env, out, "id", mp_i32(env, id));
  mp_set(env, out, "address", mp_number(env, (double)(uintptr_t)base));
  return out;
}

/*
 * memoryBindFile(view, fd) -> bytes of the view before its first whole page, or -errno. Puts the file's bytes, from its
 * beginning, in the place of the whole pages of a SharedArrayBuffer, shared with the file from then on: what the buffer
 * held there is gone. The buffer's memory stays the buffer's, so that it is unmapped with it. The file must reach to the
 * end of the pages; whoever shortens it later ends this process with SIGBUS.
 */
VERB(mp_memory_bind_file) {
  napi_value argv[2];
  uint8_t *base;
  size_t length;
  uint32_t fd;
  if (!mp_args(env, info, 2, argv, "memoryBindFile") || !shared_view(env, argv[0], &base, &length, "memoryBindFile") ||
      !mp_uint(env, argv[1], &fd, "memoryBindFile", "fd"))
    return NULL;
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  size_t before = (page - (uintptr_t)base % page) % page;
  if (length < before + page)
    return mp_throw(env, "ERR_MEGAPIPE_RANGE", "memoryBindFile: the view of %zu bytes has no whole page", length);
  size_t bytes = (length - before) / page * page;
  struct stat st;
  if (fd > INT32_MAX || fstat((int)fd, &st) < 0 || !S_ISREG(st.st_mode))
    return mp_throw(env, "ERR_MEGAPIPE_ARGUMENT", "memoryBindFile: descriptor %u is no regular file", fd);
  if ((uint64_t)st.st_size < bytes)
    return mp_throw(env, "ERR_MEGAPIPE_RANGE", "memoryBindFile: the file has %lld bytes, the view's pages %zu", (long long)st.st_size, bytes);
  if (mmap(base + before, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, (int)fd, 0) == MAP_FAILED) return mp_i32(env, -errno);
  return mp_i32(env, (int32_t)before);
}

/* memoryRelease(id): gives up a SHARED region. */
VERB(mp_memory_release) {
  struct instance *in = mp_instance(env);
  napi_value argv[1];
  uint32_t id;
  if (!mp_args(env, info, 1, argv, "memoryRelease") || !mp_uint(env, argv[0], &id, "memoryRelease", "id")) return NULL;
  if (id >= MP_MAX_REGIONS || in->regions[id].kind != REGION_SHARED)
    return mp_throw(env, "ERR_MEGAPIPE_REGION", "memoryRelease: there is no attached region %u on this thread", id);
  napi_delete_reference(env, in->regions[id].buffer);
  memset(&in->regions[id], 0, sizeof in->regions[id]);
  return NULL;
}

/* addressOf(view): where a Uint8Array over a SharedArrayBuffer stands; the same number in every thread. */
VERB(mp_address_of) {
  napi_value argv[1];
  uint8_t *base;
  size_t length;
  if (!mp_args(env, info, 1, argv, "addressOf") || !shared_view(env, argv[0], &base, &length, "addressOf")) return NULL;
  return mp_number(env, (double)(uintptr_t)base);
}
