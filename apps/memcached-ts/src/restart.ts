/**
 * Warm restart (`-e`): a cache whose memory is a file, and that the next process takes over.
 *
 * What it is for: the cache's memory is mapped from a file, best one in a tmpfs; nothing in it is an address, so it is
 * good wherever it is mapped. After a graceful stop (SIGUSR1, `shutdown graceful`) a second file, PATH.meta, says that the
 * first is sound, for which configuration, and holds the few bytes that the mapping does not reach. The next process
 * removes it before it begins, so that a file which its process did not close is never taken for sound: then, as when
 * the configuration differs, the cache starts empty.
 * Invariant: a cache that was taken over has been gone through chunk by chunk (engine/repair.ts): what its last process
 * still held is free again. Not its job: stopping the workers (main.ts).
 */
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { bindMemoryFile } from '@megapipe/core';
import { Cache } from './engine/cache.ts';
import {
  type CacheConfig,
  CacheMemory,
  CLASS_COUNTERS,
  configureCacheMemory,
  D_BUSY_DELETES,
  D_CLASS,
  D_CRAWLER_STARTS,
  D_MAINTAINER_JUGGLES,
  D_SLABS_MOVED,
  D_STARTED,
  D_THREADS,
  initialiseCacheMemory,
  LOCK_STRIDE_WORDS,
  LOG_KINDS_COUNT,
  layoutOf,
  PAGE_BYTES,
  SLAB_CLASSES_MAX,
  THREAD_DOUBLES,
  THREADS_MAX,
  W_ACCEPTING,
  W_BACKGROUND_STOP,
  W_CRAWLER_RUNNING,
  W_CURR_CONNS,
  W_DETAIL,
  W_LOG_COUNTS,
  W_LOG_FLAGS,
  W_LOG_UNDERWAY,
  W_PAGES_LIMIT,
  W_THREAD_CONNS,
  W_THREAD_LOG_COUNTS,
  W_TIME,
} from './engine/layout.ts';
import { repair } from './engine/repair.ts';
import { T_TOTAL_ITEMS, threadBase } from './engine/stats.ts';
import { VERSION } from './replies.ts';
import { reason } from './strerror.ts';

/** Changes with every change of the layout. */
const FORMAT = 2;

interface Meta {
  format: number;
  version: string;
  /** What the memory's shape depends on. */
  shape: string;
  /** Bytes that are in no page of the file: as many from the beginning, in hexadecimal. */
  head: string;
  stoppedAt: number;
}

/** What two configurations must agree on to read each other's memory. */
function shapeOf(config: CacheConfig): string {
  const { itemSizeMax, growthFactor, chunkSizeMin, slabChunkMax, slabSizes, hashPower, hashExpand, useCas } = config;
  const { memoryBytes, memoryBytesMax } = config;
  return JSON.stringify({
    memoryBytes,
    memoryBytesMax,
    itemSizeMax,
    growthFactor,
    chunkSizeMin,
    slabChunkMax,
    slabSizes,
    hashPower,
    hashExpand,
    useCas,
    bytes: layoutOf(config).totalBytes,
  });
}

/** The file cannot be used as memory; the message says what failed, and why. */
export class MemoryFileError extends Error {}

/** What `action` gives. Throws MemoryFileError, which begins with `what`. */
function attempt<T>(what: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw new MemoryFileError(`${what}: ${reason(error)}`);
  }
}

/** What stands beside the file is not what this program writes there. */
export class CorruptMetadata extends Error {}

/** The metadata at `path`, or undefined where there are none. Throws CorruptMetadata. */
function readMeta(path: string): Meta | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
  let meta: unknown;
  try {
    meta = JSON.parse(text);
  } catch {}
  if (typeof meta !== 'object' || meta === null) {
    throw new CorruptMetadata(`[restart] corrupt metadata file ${path} (remove it to begin with an empty cache)`);
  }
  // From here on the file is in use; unless this process closes it, it is not sound.
  rmSync(path);
  return meta as Meta;
}

export class MemoryFile {
  readonly cache: Cache;
  /** Items that were taken over; 0 for an empty cache. */
  readonly items: number = 0;
  /** Why the cache started empty; undefined where it did not. */
  readonly reason: string | undefined;
  /** memcached's words about an empty start, a line each. */
  readonly complaints: readonly string[];
  private readonly path: string;
  private readonly before: number;

  /**
   * Opens `path`, with what the last process left there if that can be used, and otherwise empty. `owner`: number of the
   * calling thread. Throws MemoryFileError where the file cannot be opened or mapped, and CorruptMetadata.
   */
  constructor(path: string, config: CacheConfig, hashSeed: number, owner: number) {
    this.path = path;
    const meta = readMeta(`${path}.meta`);
    const bytes = layoutOf(config).totalBytes;
    const fd = attempt('failed to open file for mmap', () =>
      openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600),
    );
    try {
      const found = fstatSync(fd).size;
      let reason = whyNot(meta, config, found, bytes);
      const memory = new CacheMemory(new SharedArrayBuffer(bytes), config);
      attempt('ftruncate failed', () => {
        if (reason !== undefined) ftruncateSync(fd, 0);
        ftruncateSync(fd, bytes);
      });
      this.before = attempt('failed to mmap, aborting', () => bindMemoryFile(memory.u8, fd));
      const head = Buffer.from(typeof meta?.head === 'string' ? meta.head : '', 'hex');
      if (reason === undefined && head.length !== this.before) {
        reason = 'the memory was mapped at another place in its page';
        ftruncateSync(fd, 0);
        ftruncateSync(fd, bytes);
      }
      this.reason = reason;
      this.complaints = reason === undefined ? [] : complaintsAbout(meta, config);
      if (reason === undefined) head.copy(memory.u8);
      else initialiseCacheMemory(memory, hashSeed);
      this.cache = new Cache(memory, 'none', 0);
      if (reason === undefined) this.items = this.takeOver(config, owner);
      else this.cache.slabs.initialise();
    } finally {
      closeSync(fd);
    }
  }

  /** Makes what another process left the memory of this one. How many items there are. */
  private takeOver(config: CacheConfig, owner: number): number {
    const { memory } = this.cache;
    const { i32, f64 } = memory;
    i32[W_CURR_CONNS] = 0;
    i32.fill(0, W_LOG_FLAGS, W_LOG_COUNTS + LOG_KINDS_COUNT);
    i32[W_LOG_UNDERWAY] = 0;
    i32[W_DETAIL] = 0;
    i32[W_ACCEPTING] = 1;
    for (let thread = 0; thread < THREADS_MAX; thread++) {
      const at = thread * LOCK_STRIDE_WORDS;
      i32.fill(0, W_THREAD_CONNS + at, W_THREAD_LOG_COUNTS + LOG_KINDS_COUNT + at);
    }
    i32[W_BACKGROUND_STOP] = 0;
    i32[W_CRAWLER_RUNNING] = 0;
    i32[W_PAGES_LIMIT] = Math.floor(config.memoryBytes / PAGE_BYTES);
    configureCacheMemory(memory);
    f64.fill(0, D_CLASS, D_CLASS + SLAB_CLASSES_MAX * CLASS_COUNTERS);
    f64.fill(0, D_THREADS, D_THREADS + THREADS_MAX * THREAD_DOUBLES);
    f64[D_CRAWLER_STARTS] = 0;
    f64[D_MAINTAINER_JUGGLES] = 0;
    f64.fill(0, D_SLABS_MOVED, D_BUSY_DELETES + 1);
    // Items keep their ages: the clock goes on from the same beginning.
    i32[W_TIME] = Math.max(i32[W_TIME]!, Math.floor(Date.now() / 1000) - f64[D_STARTED]!);
    const dead = new Set(Array.from({ length: THREADS_MAX - 1 }, (_, i) => i + 1));
    const { kept } = repair(this.cache, { dead, alive: new Set(), lockless: false, background: 0, owner });
    // As in memcached, which stores them anew.
    f64[threadBase(owner) + T_TOTAL_ITEMS] = kept;
    return kept;
  }

  /** Says that the file is sound. No other thread may be using the cache any more. */
  close(): void {
    const { memory } = this.cache;
    const meta: Meta = {
      format: FORMAT,
      version: VERSION,
      shape: shapeOf(memory.config),
      head: memory.u8.toString('hex', 0, this.before),
      stoppedAt: Math.floor(Date.now() / 1000),
    };
    // Whole or not at all.
    writeFileSync(`${this.path}.meta.tmp`, JSON.stringify(meta), { mode: 0o600 });
    renameSync(`${this.path}.meta.tmp`, `${this.path}.meta`);
  }
}

/** Why the memory of the last process cannot be used. */
function whyNot(meta: Meta | undefined, config: CacheConfig, found: number, bytes: number): string | undefined {
  if (meta === undefined) return found === 0 ? 'the file is new' : 'the last process did not stop gracefully';
  if (meta.format !== FORMAT || meta.version !== VERSION) return `it is from version ${meta.version}`;
  if (meta.shape !== shapeOf(config)) return 'the configuration has changed';
  if (found !== bytes) return `the file has ${found} bytes, not ${bytes}`;
  if (typeof meta.head !== 'string') return 'the metadata are damaged';
  if (!(meta.stoppedAt <= Math.floor(Date.now() / 1000))) return 'the clock went back';
  return undefined;
}

/** memcached's names of what two configurations must agree on, in its order. */
const SETTINGS: readonly (readonly [name: string, key: string])[] = [
  ['slab_config', 'growthFactor'],
  ['slab_config', 'slabSizes'],
  ['maxbytes', 'memoryBytes'],
  ['chunk_size', 'chunkSizeMin'],
  ['item_size_max', 'itemSizeMax'],
  ['slab_chunk_size_max', 'slabChunkMax'],
  ['use_cas', 'useCas'],
];

/** What memcached says when it begins with an empty cache. */
function complaintsAbout(meta: Meta | undefined, config: CacheConfig): string[] {
  if (meta === undefined) return ['[restart] no metadata save file, starting with a clean cache'];
  const invalid = '[restart] failed to validate metadata, starting with a clean cache';
  let before: Record<string, unknown>;
  try {
    before = JSON.parse(meta.shape);
  } catch {
    return [invalid];
  }
  const now = JSON.parse(shapeOf(config)) as Record<string, unknown>;
  const differs = SETTINGS.find(([, key]) => JSON.stringify(before?.[key]) !== JSON.stringify(now[key]));
  if (differs === undefined) return [invalid];
  const [name, key] = differs;
  return [
    `[restart] restart incompatible due to setting for [${name}] [old value: ${[before?.[key]].flat().join('-')}]`,
    invalid,
  ];
}
