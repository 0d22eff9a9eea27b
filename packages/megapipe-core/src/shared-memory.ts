/**
 * Memory that several processes share: counters, zones; and memory that outlives its process.
 *
 * What it is for: a master makes it, children inherit its descriptor and map it; it lives as long as somebody holds
 * either. `Atomics` work on it across processes (all but `wait` and `notify`, which want a SharedArrayBuffer). Not its
 * job: what stands in it, and locks.
 */
import { native } from '@megapipe/native';
import { systemError } from './errors.ts';

/** Descriptor of `bytes` (1 … 2^40) of zeroed memory. Throws with the errno's code. */
export function createSharedMemory(bytes: number): number {
  const fd = native.memoryFile(bytes);
  if (fd < 0) throw systemError('memfd_create', -fd, `${bytes} bytes`);
  return fd;
}

/** Maps the first `bytes` of what createSharedMemory made. The mapping stays until the thread ends. */
export function mapSharedMemory(fd: number, bytes: number): ArrayBuffer {
  return native.memoryMapFile(fd, bytes).buffer;
}

/**
 * Puts a file in the place of the whole pages of a SharedArrayBuffer: what is written there is in the file, also when this
 * process is gone. The view starts as the file is. The file must be as long as the view. Returns how many bytes at the
 * view's beginning, before its first whole page, are not in the file; as many at its end are not either. Throws with the
 * errno's code.
 */
export function bindMemoryFile(view: Uint8Array, fd: number): number {
  const before = native.memoryBindFile(view, fd);
  if (before < 0) throw systemError('mmap', -before, `${view.length} bytes of descriptor ${fd}`);
  return before;
}
