/**
 * The addon's verbs with their types. No policy here: each verb is one system call or one step of memory bookkeeping,
 * checks its arguments (a TypeError with a code comes back, never a crash), and answers -errno where the kernel refused.
 *
 * Ids of regions and rings belong to the thread that made them.
 */
import { createRequire } from 'node:module';

export { ABI, DEV, NET } from './abi.ts';

/** A ring's geometry; offsets are bytes into `ring`. */
export interface UringInfo {
  id: number;
  fd: number;
  features: number;
  flags: number;
  sqEntries: number;
  cqEntries: number;
  ring: ArrayBuffer;
  sqes: ArrayBuffer;
  sqHead: number;
  sqTail: number;
  sqFlags: number;
  sqDropped: number;
  /** 0 where the ring has no index array (SETUP_NO_SQARRAY). */
  sqArray: number;
  cqHead: number;
  cqTail: number;
  cqOverflow: number;
  cqes: number;
}

/** A channel of /dev/megapipe: offsets are bytes into `ring`. `uringEnter` and `uringClose` take its id, too. */
export interface DeviceInfo {
  id: number;
  fd: number;
  ring: ArrayBuffer;
  sqHead: number;
  sqTail: number;
  cqHead: number;
  cqTail: number;
  bqTail: number;
  sqes: number;
  cqes: number;
  bids: number;
}

export interface MappedRegion {
  id: number;
  buffer: ArrayBuffer;
  address: number;
}

export interface Native {
  memoryMap(bytes: number): MappedRegion;
  /** A descriptor, or -errno. */
  memoryFile(bytes: number): number;
  memoryMapFile(fd: number, bytes: number): MappedRegion;
  memoryUnmap(id: number): void;
  memoryAttach(view: Uint8Array): { id: number; address: number };
  memoryRelease(id: number): void;
  memoryBindFile(view: Uint8Array, fd: number): number;
  addressOf(view: Uint8Array): number;

  uringCreate(sqEntries: number, cqEntries: number, flags: number): UringInfo | number;
  uringClose(id: number): void;
  uringEnter(id: number, minComplete: number, timeoutMs: number): number;
  uringFiles(id: number, count: number): number;
  uringFileRange(id: number, offset: number, count: number): number;
  uringFileUpdate(id: number, slot: number, fd: number): number;
  uringBufferRing(id: number, region: number, offset: number, entries: number, group: number, flags: number): number;
  uringProbe(id: number): number;
  uringCancelAll(id: number, timeoutMs: number): number;

  deviceOpen(
    sqEntries: number,
    cqEntries: number,
    handles: number,
    chosen: number,
    buffers: number,
    bufferBytes: number,
    region: number,
    bufferOffset: number,
  ): DeviceInfo | number;
  deviceHost(id: number, fd: number): void;
  deviceName(
    id: number,
    index: number,
    generation: number,
    peer: 0 | 1,
  ): { family: number; host: string; port: number } | number;

  epollCreate(): number;
  epollCtl(epoll: number, op: number, fd: number, events: number, dataLow: number, dataHigh: number): number;
  epollWait(epoll: number, region: number, offset: number, maxEvents: number, timeoutMs: number): number;
  pread(fd: number, region: number, offset: number, length: number, position: number): number;
  recv(fd: number, region: number, offset: number, length: number): number;
  send(fd: number, region: number, offset: number, length: number, flags: number): number;
  sendv(fd: number, region: number, offset: number, count: number): number;
  accept(fd: number): number;

  socket(domain: number, type: number): number;
  socketpair(): [number, number] | number;
  bind(fd: number, host: string, port: number): number;
  listen(fd: number, backlog: number): number;
  connect(fd: number, host: string, port: number): number;
  shutdown(fd: number, how: number): number;
  close(fd: number): number;
  dup(fd: number, mode: 0 | 1 | 2): number;
  setBlocking(fd: number, on: 0 | 1): number;
  setsockopt(fd: number, level: number, name: number, value: number): number;
  getsockopt(fd: number, level: number, name: number): number;
  listenQueue(fd: number): number;
  getsockname(fd: number, peer: 0 | 1): { family: number; host: string; port: number } | number;
  sockaddr(region: number, offset: number, host: string, port: number): number;
  sockaddrParse(region: number, offset: number): { family: number; host: string; port: number };
  reuseportSteer(fd: number, cpus: number[], targets: number[]): number;
  setAffinity(cpus: number[]): number;
  getAffinity(): number[] | number;

  /** Of RLIMIT_…; -1 is unlimited. */
  getRlimit(resource: number): { soft: number; hard: number } | number;
  setRlimit(resource: number, soft: number, hard: number): number;
  lockMemory(region: number, offset: number, length: number): number;
  adviseHugePages(region: number, offset: number, length: number): number;
  discardMemory(region: number, offset: number, length: number): number;
  /** Bytes of code and constants let go of, or -errno. */
  trimProcess(): number;

  /** What `path` (a character is a byte) holds, into `record`: see csrc/file.c for its eight places. 0 or -errno. */
  fileStat(path: string, record: Float64Array): number;
  /** The same, with the bytes of a regular file that fits into `body`. */
  fileLoad(path: string, record: Float64Array, body: Uint8Array): number;

  loopBackendFd(): number;
  loopAttach(
    kind: 0 | 1,
    id: number,
    drain: () => number,
    region: number,
    controlOffset: number,
    eventsOffset: number,
    eventsMax: number,
  ): number;
  loopDetach(kind: 0 | 1, id: number): boolean;

  abiTable(): Record<string, number>;
}

function load(): Native {
  const require = createRequire(import.meta.url);
  /* MEGAPIPE_ADDON: another build of it, as scripts/sanitize.sh makes one. */
  const path = process.env['MEGAPIPE_ADDON'] ?? '../build/Release/megapipe_native.node';
  try {
    return require(path) as Native;
  } catch (cause) {
    const error = new Error(
      `ERR_MEGAPIPE_ADDON: the native addon could not be loaded (${(cause as Error).message}). It is built by 'npm run build'; it needs Linux on x64 or arm64.`,
      { cause },
    );
    throw Object.assign(error, { code: 'ERR_MEGAPIPE_ADDON' });
  }
}

export const native: Native = load();
