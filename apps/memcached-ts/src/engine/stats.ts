/**
 * Counters: where each stands, and the sums over threads.
 *
 * Invariant: a thread writes only its own block, as plain doubles, so counting costs a load, an addition and a store; a
 * reader sums the blocks. Counters of a class's LRU are shared and guarded by that LRU's lock.
 * Not its job: the names and order of the `stats` commands (stats_text.ts).
 */
import {
  type CacheMemory,
  CLASS_COUNTERS,
  D_CLASS,
  D_THREADS,
  LRU_LISTS,
  SLAB_CLASSES_MAX,
  THREAD_CLASS_COUNTERS,
  THREAD_COUNTERS,
  THREAD_DOUBLES,
  THREAD_LRU_HITS,
  THREADS_MAX,
  W_DETAIL_EPOCH,
} from './layout.ts';

// Per thread.
export const T_GET_MISSES = 0;
export const T_GET_EXPIRED = 1;
export const T_GET_FLUSHED = 2;
export const T_TOUCH_CMDS = 3;
export const T_TOUCH_MISSES = 4;
export const T_DELETE_MISSES = 5;
export const T_INCR_MISSES = 6;
export const T_DECR_MISSES = 7;
export const T_CAS_MISSES = 8;
export const T_BYTES_READ = 9;
export const T_BYTES_WRITTEN = 10;
export const T_FLUSH_CMDS = 11;
export const T_CONN_YIELDS = 12;
export const T_STORE_TOO_LARGE = 13;
export const T_STORE_NO_MEMORY = 14;
export const T_TOTAL_ITEMS = 15;
export const T_TOTAL_CONNS = 16;
export const T_REJECTED_CONNS = 17;
export const T_META_CMDS = 18;
export const T_ACCEPT_ERRORS = 19;
export const T_IDLE_KICKS = 20;
export const T_AUTH_CMDS = 21;
export const T_AUTH_ERRORS = 22;
export const T_LRU_BUMPS_DROPPED = 23;
export const T_LOG_DROPPED = 24;
export const T_LOG_WRITTEN = 25;
export const T_LOG_SKIPPED = 26;
export const T_LOG_SENT = 27;
export const T_LISTEN_DISABLED = 28;
export const T_LISTEN_DISABLED_US = 29;
export const T_READ_BUF_OOM = 30;
export const T_RESPONSE_OOM = 31;
/** From here on: what is, not what was counted. `stats reset` leaves it alone. */
export const T_GAUGES = 56;
export const T_KEPT_BUFFERS = 56;
export const T_KEPT_BYTES = 57;
/** Pieces of output memory in use, their bytes, and what was ever allocated for connections. */
export const T_RESPONSES = 58;
export const T_RESPONSE_BYTES = 59;
export const T_CONN_STRUCTURES = 60;

// Per thread and slab class.
export const S_SET_CMDS = 0;
export const S_TOUCH_HITS = 2;
export const S_DELETE_HITS = 3;
export const S_INCR_HITS = 4;
export const S_DECR_HITS = 5;
export const S_CAS_HITS = 6;
export const S_CAS_BADVAL = 7;

// Per slab class, under its LRU lock.
export const L_EVICTED = 0;
export const L_EVICTED_NONZERO = 1;
export const L_EVICTED_TIME = 2;
export const L_RECLAIMED = 3;
export const L_OUTOFMEMORY = 4;
export const L_EXPIRED_UNFETCHED = 5;
export const L_EVICTED_UNFETCHED = 6;
export const L_EVICTED_ACTIVE = 7;
export const L_REFLOCKED = 8;
export const L_MOVES_WITHIN_LRU = 9;
export const L_DIRECT_RECLAIMS = 10;
export const L_MOVES_TO_COLD = 11;
export const L_MOVES_TO_WARM = 12;
export const L_TAILREPAIRS = 13;
export const L_CRAWLER_RECLAIMED = 14;
export const L_CRAWLER_ITEMS_CHECKED = 15;

/** Index in `f64` of a thread's block. */
export function threadBase(thread: number): number {
  return D_THREADS + thread * THREAD_DOUBLES;
}

/** Index in `f64` of a thread's counters of slab class 0. */
export function threadClassBase(thread: number): number {
  return threadBase(thread) + THREAD_COUNTERS;
}

/** Index in `f64` of a thread's get hits of LRU list 0. */
export function threadLruHits(thread: number): number {
  return threadBase(thread) + THREAD_LRU_HITS;
}

/** Get hits of one LRU list. */
export function sumListHits(memory: CacheMemory, list: number): number {
  let sum = 0;
  for (let thread = 0; thread < THREADS_MAX; thread++) sum += memory.f64[threadLruHits(thread) + list];
  return sum;
}

/** Get hits of a slab class. */
export function sumClassHits(memory: CacheMemory, clsid: number): number {
  let sum = 0;
  for (let list = clsid; list < LRU_LISTS; list += SLAB_CLASSES_MAX) sum += sumListHits(memory, list);
  return sum;
}

/** Sum of one thread counter. */
export function sumThreads(memory: CacheMemory, counter: number): number {
  let sum = 0;
  for (let thread = 0; thread < THREADS_MAX; thread++) sum += memory.f64[threadBase(thread) + counter];
  return sum;
}

/** Sum of one per-class counter of one slab class. */
export function sumClass(memory: CacheMemory, clsid: number, counter: number): number {
  let sum = 0;
  for (let thread = 0; thread < THREADS_MAX; thread++) {
    sum += memory.f64[threadClassBase(thread) + clsid * THREAD_CLASS_COUNTERS + counter];
  }
  return sum;
}

/** Sum of one per-class counter of all slab classes. */
export function sumClasses(memory: CacheMemory, counter: number): number {
  let sum = 0;
  for (let clsid = 0; clsid < SLAB_CLASSES_MAX; clsid++) sum += sumClass(memory, clsid, counter);
  return sum;
}

export function lruCounter(memory: CacheMemory, clsid: number, counter: number): number {
  return memory.f64[D_CLASS + clsid * CLASS_COUNTERS + counter];
}

export function sumLruCounter(memory: CacheMemory, counter: number): number {
  let sum = 0;
  for (let clsid = 0; clsid < SLAB_CLASSES_MAX; clsid++) sum += lruCounter(memory, clsid, counter);
  return sum;
}

/** A thread is gone: what is no more, as against what was counted, is no more its. */
export function clearGauges(memory: CacheMemory, thread: number): void {
  memory.f64.fill(0, threadBase(thread) + T_GAUGES, threadBase(thread) + THREAD_COUNTERS);
}

/** `stats reset`: counts of other threads that fall into this very moment may survive it. */
export function resetStats(memory: CacheMemory): void {
  Atomics.add(memory.i32, W_DETAIL_EPOCH, 1);
  memory.f64.fill(0, D_CLASS, D_CLASS + SLAB_CLASSES_MAX * CLASS_COUNTERS);
  for (let thread = 0; thread < THREADS_MAX; thread++) {
    const base = threadBase(thread);
    memory.f64.fill(0, base, base + T_GAUGES);
    memory.f64.fill(0, base + THREAD_COUNTERS, base + THREAD_DOUBLES);
  }
}
