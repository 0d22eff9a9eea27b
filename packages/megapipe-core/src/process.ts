/**
 * What a server sets for its process before it serves: descriptors, core files, locked memory; memory that goes back; threads
 * that leave stdout and stderr as they are.
 * Not its job: deciding on them, and whose identity the process has (Node.js has calls for that).
 */
import { writeSync } from 'node:fs';
import { Worker, type WorkerOptions } from 'node:worker_threads';
import { native } from '@megapipe/native';
import { systemError } from './errors.ts';

const RLIMIT_CORE = 4;
const RLIMIT_NOFILE = 7;
const UNLIMITED = -1;

/** Limits of a resource. */
function limitOf(resource: number, name: string): { soft: number; hard: number } {
  const limit = native.getRlimit(resource);
  if (typeof limit === 'number') throw systemError('getrlimit', -limit, name);
  return limit;
}

/** Sees to it that this process may have `count` descriptors open. Throws EPERM where that needs a privilege. */
export function ensureDescriptors(count: number): void {
  const { soft, hard } = limitOf(RLIMIT_NOFILE, 'RLIMIT_NOFILE');
  if (soft === UNLIMITED || soft >= count) return;
  const result = native.setRlimit(RLIMIT_NOFILE, count, hard === UNLIMITED || hard > count ? hard : count);
  if (result < 0) throw systemError('setrlimit', -result, `RLIMIT_NOFILE to ${count}`);
}

/** Descriptors that this process may have open; Infinity: any number. */
export function descriptorLimit(): number {
  const { soft } = limitOf(RLIMIT_NOFILE, 'RLIMIT_NOFILE');
  return soft === UNLIMITED ? Number.POSITIVE_INFINITY : soft;
}

/** Limits this process to `count` open descriptors. Gives 0, or the errno: EPERM where more needs a privilege. */
export function limitDescriptors(count: number): number {
  return -native.setRlimit(RLIMIT_NOFILE, count, count);
}

/** Limits core files to `bytes`. Gives 0, or the errno: EPERM where more needs a privilege. */
export function limitCoreFiles(bytes: number): number {
  return -native.setRlimit(RLIMIT_CORE, bytes, bytes);
}

/** Lets core files be as large as the system allows. False where it allows none. */
export function ensureCoreFiles(): boolean {
  if (native.setRlimit(RLIMIT_CORE, UNLIMITED, UNLIMITED) < 0) {
    const { hard } = limitOf(RLIMIT_CORE, 'RLIMIT_CORE');
    native.setRlimit(RLIMIT_CORE, hard, hard);
  }
  return limitOf(RLIMIT_CORE, 'RLIMIT_CORE').soft !== 0;
}

/**
 * Gives the whole pages among `bytes` of shared memory from `offset` on back to the system; they read as zeros from then on.
 * False where it keeps them (they are locked).
 */
export function discardMemory(shared: SharedArrayBuffer, offset: number, bytes: number): boolean {
  const { id } = native.memoryAttach(new Uint8Array(shared));
  const result = native.discardMemory(id, offset, bytes);
  native.memoryRelease(id);
  return result === 0;
}

/**
 * Gives back what only the start needed: free memory of the C library, and pages of code and constants, which come back from the
 * page cache when they are used again. For a server that has just begun to serve: it takes some milliseconds.
 */
export function trimProcess(): void {
  native.trimProcess();
}

/** Keeps the pages of shared memory in RAM. Throws EPERM, ENOMEM. */
export function lockMemory(shared: SharedArrayBuffer): void {
  const { id } = native.memoryAttach(new Uint8Array(shared));
  const result = native.lockMemory(id, 0, shared.byteLength);
  native.memoryRelease(id);
  if (result < 0) throw systemError('mlock', -result, `${shared.byteLength} bytes`);
}

/** Asks for large pages under shared memory that is not a file's, as far as the system has them. Throws EINVAL where its kernel knows of none. */
export function adviseHugePages(shared: SharedArrayBuffer): void {
  const { id } = native.memoryAttach(new Uint8Array(shared));
  const result = native.adviseHugePages(id, 0, shared.byteLength);
  native.memoryRelease(id);
  if (result < 0) throw systemError('madvise', -result, `${shared.byteLength} bytes`);
}

/**
 * A thread whose output does not go through `process.stdout` and `process.stderr`. Those make what they write to non-blocking, for
 * everybody who has the same pipe or terminal open: the shell, or the supervisor that started the server, loses output with EAGAIN.
 */
export function startThread(url: URL, options: WorkerOptions): Worker {
  const worker = new Worker(url, { ...options, stdout: true, stderr: true });
  for (const [stream, fd] of [
    [worker.stdout, 1],
    [worker.stderr, 2],
  ] as const) {
    stream.on('data', (chunk: Buffer) => {
      try {
        writeSync(fd, chunk);
      } catch {
        // Nobody listens any more, or not now: a server does not stop for that.
      }
    });
  }
  return worker;
}
