/**
 * Items: what memcached's commands do to the cache.
 *
 * What it is for: allocation (with eviction when memory is full), lookup with lazy expiry, linking, replacing, CAS,
 * arithmetic, flushing. An item is header, key, suffix (" flags bytes\r\n"), data and "\r\n" in a row, so what a get
 * answers is one stretch of memory. A value that no chunk can hold is a chain of chunks behind a small header chunk.
 * Invariants: a linked item is never changed but for its times, marks, CAS and in-place arithmetic, all under its item
 * lock; a chunk is freed exactly when its reference count falls to 0, so evicting an item that somebody still holds
 * takes it from the cache at once and gives its memory back when he is done.
 * Not its job: the wire (proto_text.ts); which thread runs.
 */

import { type Decimal, digitsOf, writeU32, writeU64 } from '../numbers.ts';
import type { Assoc } from './assoc.ts';
import {
  C_CAPACITY,
  C_HEAD,
  C_NEXT,
  C_USED,
  type CacheMemory,
  CHUNK_DATA_BYTES,
  CLASS_COUNTERS,
  CLASS_MASK,
  CLASS_SHIFT,
  COLD_LRU,
  D_CAS,
  D_CLASS,
  D_OLDEST_CAS,
  D_SIZES_CAS_MIN,
  D_STARTED,
  HELD_WORDS,
  HOT_LRU,
  I_CAS_HI,
  I_CAS_LO,
  I_EXPTIME,
  I_HASH_NEXT,
  I_KEY_BYTES,
  I_META,
  I_NBYTES,
  I_NEXT,
  I_PREV,
  I_REFCOUNT,
  I_TIME,
  ITEM_ACTIVE,
  ITEM_CAS,
  ITEM_CHOSEN_CAS,
  ITEM_CHUNK,
  ITEM_CHUNKED,
  ITEM_FETCHED,
  ITEM_LINKED,
  ITEM_STALE,
  ITEM_TOKEN_SENT,
  KEY_SHIFT,
  LOCK_STRIDE_WORDS,
  LRU_CURSOR,
  LRU_ID_MASK,
  LRU_WORDS,
  MC_CAS_BYTES,
  MC_ITEM_HEADER_BYTES,
  SIZES_BUCKET_BYTES,
  SUFFIX_MASK,
  SUFFIX_SHIFT,
  T_FIRST_CHUNK,
  T_HEADER_CLASS,
  TEMP_LRU,
  THREAD_CLASS_COUNTERS,
  TRAILER_BYTES,
  VALUE_LEAD,
  W_HELD,
  W_HOT_LRU_PCT,
  W_LOCK_CAS,
  W_LRU,
  W_LRU_SEGMENTED,
  W_OLDEST_LIVE,
  W_SIZES_ENABLED,
  W_SLAB_AUTOMOVE,
  W_STORING,
  W_TAIL_REPAIR_TIME,
  W_TEMP_LRU,
  W_TEMPORARY_TTL,
  W_TIME,
  W_WARM_LRU_PCT,
  WARM_LRU,
} from './layout.ts';
import type { Locks } from './locks.ts';
import type { Lru } from './lru.ts';
import type { Slabs } from './slabs.ts';
import {
  L_CRAWLER_ITEMS_CHECKED,
  L_CRAWLER_RECLAIMED,
  L_DIRECT_RECLAIMS,
  L_EVICTED,
  L_EVICTED_ACTIVE,
  L_EVICTED_NONZERO,
  L_EVICTED_TIME,
  L_EVICTED_UNFETCHED,
  L_EXPIRED_UNFETCHED,
  L_MOVES_TO_COLD,
  L_MOVES_TO_WARM,
  L_MOVES_WITHIN_LRU,
  L_OUTOFMEMORY,
  L_RECLAIMED,
  L_REFLOCKED,
  L_TAILREPAIRS,
  S_CAS_BADVAL,
  S_CAS_HITS,
  S_DECR_HITS,
  S_INCR_HITS,
  T_CAS_MISSES,
  T_DECR_MISSES,
  T_GET_EXPIRED,
  T_GET_FLUSHED,
  T_INCR_MISSES,
  T_LRU_BUMPS_DROPPED,
  T_TOTAL_ITEMS,
  threadBase,
  threadClassBase,
} from './stats.ts';

/** What `store` is asked for and what it answers. */
export const STORE_SET = 0;
export const STORE_ADD = 1;
export const STORE_REPLACE = 2;
export const STORE_APPEND = 3;
export const STORE_PREPEND = 4;
export const STORE_CAS = 5;
/** append and prepend that store the item where there is none yet. */
export const STORE_APPEND_VIVIFY = 6;
export const STORE_PREPEND_VIVIFY = 7;

export const STORED = 0;
export const NOT_STORED = 1;
export const EXISTS = 2;
export const NOT_FOUND = 3;

export const DELTA_OK = 0;
export const DELTA_NON_NUMERIC = 1;
export const DELTA_NO_MEMORY = 2;
export const DELTA_NOT_FOUND = 3;
export const DELTA_EXISTS = 4;

/** Largest relative expiry; above it is a date. */
export const REALTIME_MAXDELTA = 60 * 60 * 24 * 30;
/** The last second that an expiry can name. */
const EXPIRY_MAX = 0x7fff_ffff;
const HELD_MASK = HELD_WORDS - 1;
const HELD_TRIES = 64;
const ALLOCATION_TRIES = 10;
const TAIL_TRIES = 5;
/** `pullTail`: evict from COLD; leave a list alone while a crawl has its tail before it. */
export const PULL_EVICT = 1;
export const PULL_CRAWL_BLOCKS = 2;
const SEGMENT_MASK = 0xc0;
/** Without segments an item moves to the head of its list at most this often. */
const FLAT_UPDATE_SECONDS = 60;
const DIGITS_U64_MAX = 20;

/** What hears of each look-up, store, eviction and deletion, under the item's lock (logger.ts). `ref` 0: none. */
export interface ItemLog {
  get(bytes: Buffer, start: number, end: number, status: string, ref: number): void;
  store(ref: number, result: number, mode: number): void;
  refused(bytes: Buffer, start: number, end: number, status: string, mode: number): void;
  eviction(ref: number): void;
  deletion(ref: number, command: string): void;
  /** Of the background work; no lock is held. */
  system(text: string): void;
}

export class Items {
  readonly memory: CacheMemory;
  readonly locks: Locks;
  readonly assoc: Assoc;
  /** Answer of the last `alloc` that gave 0: the item can never fit, whatever is evicted. */
  tooLarge = false;
  /** Digits of the last successful `delta`: `numberBytes[0, numberLength)`. */
  readonly numberBytes = Buffer.alloc(24);
  numberLength = 0;
  /** The CAS that the next stored item gets instead of a fresh one; the caller sets it and takes it back. */
  explicitCas = false;
  explicitCasHi = 0;
  explicitCasLo = 0;
  /** Whether `store` accepts a CAS that is too old, and marks the item as stale then. As above. */
  allowStale = false;
  /** CAS of the item that the last store with another CAS found. */
  refusedCasHi = 0;
  refusedCasLo = 0;
  /** CAS and size of the value (CR LF included) of what was linked last. */
  linkedCasHi = 0;
  linkedCasLo = 0;
  linkedBytes = 0;
  /** That item: valid under its item lock. */
  linkedRef = 0;
  /** Told of what is done, while somebody watches. */
  log: ItemLog | null = null;
  /** The item that the last successful `deltaLocked` left in the cache: valid under its item lock. */
  deltaRef = 0;
  private readonly i32: Int32Array;
  private readonly u8: Buffer;
  private readonly f64: Float64Array;
  private readonly slabs: Slabs;
  private readonly lru: Lru;
  private readonly decimal: Decimal;
  private readonly useCas: boolean;
  private readonly evictions: boolean;
  private readonly itemSizeMax: number;
  private readonly slabChunkMax: number;
  private readonly stats: number;
  private readonly classStats: number;
  /** The item that a command makes room for, under its lock: as if that were held by another, it is passed over. */
  private busy = 0;
  /** This thread's words: the item that it stores, and its table of references. */
  private readonly storing: number;
  private readonly held: number;

  constructor(
    memory: CacheMemory,
    locks: Locks,
    assoc: Assoc,
    slabs: Slabs,
    lru: Lru,
    decimal: Decimal,
    thread: number,
  ) {
    this.memory = memory;
    this.locks = locks;
    this.assoc = assoc;
    this.i32 = memory.i32;
    this.u8 = memory.u8;
    this.f64 = memory.f64;
    this.slabs = slabs;
    this.lru = lru;
    this.decimal = decimal;
    this.useCas = memory.config.useCas;
    this.evictions = memory.config.evictions;
    this.itemSizeMax = memory.config.itemSizeMax;
    this.slabChunkMax = memory.config.slabChunkMax;
    this.stats = threadBase(thread);
    this.classStats = threadClassBase(thread);
    this.storing = W_STORING + thread * LOCK_STRIDE_WORDS;
    this.held = W_HELD + thread * HELD_WORDS;
  }

  // ---- reading an item -------------------------------------------------------------------------------------------

  keyBytes(ref: number): number {
    return this.i32[ref * 2 + I_META] >>> KEY_SHIFT;
  }

  suffixBytes(ref: number): number {
    return (this.i32[ref * 2 + I_META] >>> SUFFIX_SHIFT) & SUFFIX_MASK;
  }

  clsid(ref: number): number {
    return (this.i32[ref * 2 + I_META] >>> CLASS_SHIFT) & CLASS_MASK;
  }

  isChunked(ref: number): boolean {
    return (this.i32[ref * 2 + I_META] & ITEM_CHUNKED) !== 0;
  }

  /** Offset in `u8` of the key. */
  keyAt(ref: number): number {
    return ref * 8 + I_KEY_BYTES;
  }

  /** Offset in `u8` of the value, of an item that is not chunked. */
  dataAt(ref: number): number {
    return ref * 8 + I_KEY_BYTES + this.keyBytes(ref) + this.suffixBytes(ref);
  }

  nbytes(ref: number): number {
    return this.i32[ref * 2 + I_NBYTES];
  }

  clientFlags(ref: number): number {
    let at = ref * 8 + I_KEY_BYTES + this.keyBytes(ref) + 1;
    let flags = 0;
    for (let c = this.u8[at]; c !== 0x20; c = this.u8[++at]) flags = flags * 10 + c - 0x30;
    return flags;
  }

  /** Size as memcached counts it: decides the slab class and what `stats` says. */
  totalBytes(ref: number): number {
    const nkey = this.keyBytes(ref);
    const at = ref * 8 + I_KEY_BYTES + nkey + 1;
    const flagless = this.u8[at] === 0x30 && this.u8[at + 1] === 0x20;
    return this.sizeOf(nkey, flagless, this.nbytes(ref));
  }

  private sizeOf(nkey: number, flagless: boolean, nbytes: number): number {
    return MC_ITEM_HEADER_BYTES + (this.useCas ? MC_CAS_BYTES : 0) + nkey + 1 + (flagless ? 0 : 4) + nbytes;
  }

  // ---- chunks of a chunked item ----------------------------------------------------------------------------------

  /** Index in `i32` of the words behind the suffix of a chunked item. */
  trailerWord(ref: number): number {
    return (ref * 8 + I_KEY_BYTES + this.keyBytes(ref) + this.suffixBytes(ref) + 3) >> 2;
  }

  firstChunk(ref: number): number {
    return this.i32[this.trailerWord(ref) + T_FIRST_CHUNK];
  }

  nextChunk(chunk: number): number {
    return this.i32[chunk * 2 + C_NEXT];
  }

  chunkAt(chunk: number): number {
    return chunk * 8 + CHUNK_DATA_BYTES;
  }

  /** Bytes of the value that this chunk holds. */
  chunkUsed(chunk: number): number {
    return this.i32[chunk * 2 + C_USED];
  }

  // ---- time ------------------------------------------------------------------------------------------------------

  /** Expiry as the cache keeps it, from a command's: 0 never, negative already expired, above 30 days a date. */
  expiry(exptime: number): number {
    if (exptime === 0) return 0;
    const seconds = exptime < 0 ? REALTIME_MAXDELTA + 1 : exptime;
    if (seconds > REALTIME_MAXDELTA) {
      const started = this.f64[D_STARTED];
      return seconds <= started ? 1 : Math.min(seconds - started, EXPIRY_MAX);
    }
    return this.i32[W_TIME] + seconds;
  }

  /** Whether a flush_all has come over an item. */
  isFlushed(ref: number, now: number): boolean {
    const oldestLive = this.i32[W_OLDEST_LIVE];
    if (oldestLive === 0 || oldestLive > now) return false;
    if (this.i32[ref * 2 + I_TIME] <= oldestLive) return true;
    const oldestCas = this.f64[D_OLDEST_CAS];
    if (oldestCas === 0 || (this.i32[ref * 2 + I_META] & ITEM_CHOSEN_CAS) !== 0) return false;
    const cas = (this.i32[ref * 2 + I_CAS_HI] >>> 0) * 0x1_0000_0000 + (this.i32[ref * 2 + I_CAS_LO] >>> 0);
    return cas !== 0 && cas < oldestCas;
  }

  /** `flush_all`: everything stored up to now (exptime 0 or negative), or up to then, is gone. */
  flushAll(exptime: number): void {
    this.locks.lockCache();
    const now = this.i32[W_TIME];
    let oldestLive = exptime > 0 ? this.expiry(exptime) : now;
    // The CAS tells what of this second was stored before. Without it, what is stored in the rest of the second goes, too.
    if (this.useCas) {
      oldestLive -= 1;
      if (oldestLive <= now) this.f64[D_OLDEST_CAS] = this.nextCas();
    }
    this.i32[W_OLDEST_LIVE] = oldestLive;
    this.locks.unlockCache();
  }

  private nextCas(): number {
    this.locks.lockFine(W_LOCK_CAS);
    const cas = (this.f64[D_CAS] = this.f64[D_CAS] + 1);
    this.locks.unlockFine(W_LOCK_CAS);
    return cas;
  }

  /** A new CAS for an item, under its lock. */
  renewCas(ref: number): void {
    if (!this.useCas) return;
    if (this.explicitCas) {
      this.i32[ref * 2 + I_META] = this.i32[ref * 2 + I_META] | ITEM_CHOSEN_CAS;
      this.i32[ref * 2 + I_CAS_LO] = this.explicitCasLo | 0;
      this.i32[ref * 2 + I_CAS_HI] = this.explicitCasHi | 0;
      return;
    }
    const cas = this.nextCas();
    const meta = this.i32[ref * 2 + I_META];
    if ((meta & ITEM_CHOSEN_CAS) !== 0) this.i32[ref * 2 + I_META] = meta & ~ITEM_CHOSEN_CAS;
    this.i32[ref * 2 + I_CAS_LO] = cas | 0;
    this.i32[ref * 2 + I_CAS_HI] = Math.floor(cas / 0x1_0000_0000) | 0;
  }

  // ---- allocation ------------------------------------------------------------------------------------------------

  /**
   * A new item, not linked, with one reference: the caller's. The key is bytes[start, end); `nbytes` counts the value's
   * CR LF. 0: see `tooLarge`. The caller fills in the value, then calls `store` or `release`.
   */
  alloc(bytes: Buffer, start: number, end: number, flags: number, exptime: number, nbytes: number): number {
    this.locks.lockCache();
    const ref = this.allocLocked(bytes, start, end, flags, exptime, nbytes);
    this.locks.unlockCache();
    return ref;
  }

  private allocLocked(
    bytes: Buffer,
    start: number,
    end: number,
    flags: number,
    exptime: number,
    nbytes: number,
  ): number {
    const nkey = end - start;
    const size = this.sizeOf(nkey, flags === 0, nbytes);
    this.tooLarge = size > this.itemSizeMax;
    if (this.tooLarge) return 0;
    const suffix = 4 + digitsOf(flags) + digitsOf(nbytes - 2);
    const ownSize = I_KEY_BYTES + nkey + suffix + nbytes;
    const chunkBytes = Math.max(ownSize, size);
    const chunked = chunkBytes > this.slabChunkMax;
    const clsid = this.slabs.classFor(chunkBytes);
    const headerClass = chunked ? this.slabs.classFor(I_KEY_BYTES + nkey + suffix + 3 + TRAILER_BYTES) : clsid;
    const ref = this.pull(headerClass, clsid);
    if (ref === 0) return 0;
    const { i32, u8 } = this;
    const word = ref * 2;
    i32[word + I_HASH_NEXT] = 0;
    i32[word + I_NEXT] = 0;
    i32[word + I_TIME] = i32[W_TIME];
    i32[word + I_EXPTIME] = exptime;
    i32[word + I_NBYTES] = nbytes;
    i32[word + I_REFCOUNT] = 1;
    i32[word + I_META] =
      (this.useCas ? ITEM_CAS : 0) |
      (chunked ? ITEM_CHUNKED : 0) |
      (suffix << SUFFIX_SHIFT) |
      ((clsid | this.segmentFor(exptime)) << CLASS_SHIFT) |
      (nkey << KEY_SHIFT);
    i32[word + I_CAS_LO] = 0;
    i32[word + I_CAS_HI] = 0;
    let at = ref * 8 + I_KEY_BYTES;
    // The word before the key: "E ", then the key's first two bytes, which the loop writes next.
    i32[(at - 2) >> 2] = VALUE_LEAD;
    for (let i = start; i < end; i++) u8[at++] = bytes[i];
    u8[at++] = 0x20;
    at = writeU32(u8, at, flags);
    u8[at++] = 0x20;
    at = writeU32(u8, at, nbytes - 2);
    u8[at++] = 0x0d;
    u8[at++] = 0x0a;
    if (chunked) {
      const trailer = this.trailerWord(ref);
      i32[trailer + T_FIRST_CHUNK] = 0;
      i32[trailer + T_HEADER_CLASS] = headerClass;
      if (!this.addChunks(ref, nbytes)) {
        this.freeItem(ref);
        return 0;
      }
    }
    return ref;
  }

  /** The list that a new item enters. */
  private segmentFor(exptime: number): number {
    const { i32 } = this;
    // In unsigned numbers, as in memcached: what never expires, or has already, has a long time left.
    if (i32[W_TEMP_LRU] !== 0 && (exptime - i32[W_TIME]) >>> 0 <= i32[W_TEMPORARY_TTL] >>> 0) return TEMP_LRU;
    return i32[W_LRU_SEGMENTED] !== 0 ? HOT_LRU : COLD_LRU;
  }

  private addChunks(ref: number, nbytes: number): boolean {
    const { i32, slabs } = this;
    let link = this.trailerWord(ref) + T_FIRST_CHUNK;
    let left = nbytes;
    while (left > 0) {
      let clsid = slabs.largest;
      if (left + CHUNK_DATA_BYTES < this.slabChunkMax) clsid = slabs.classFor(left + CHUNK_DATA_BYTES);
      let chunk = this.pull(clsid, slabs.largest);
      if (chunk === 0 && clsid !== slabs.largest) {
        clsid = slabs.largest;
        chunk = this.pull(clsid, clsid);
      }
      if (chunk === 0) return false;
      const capacity = slabs.sizeOf(clsid) - CHUNK_DATA_BYTES;
      const used = Math.min(left, capacity);
      const word = chunk * 2;
      // First whose it is: until then it carries this thread's mark, where its capacity comes to stand (repair.ts).
      i32[word + C_HEAD] = ref;
      i32[word + I_META] = ITEM_CHUNK | (clsid << CLASS_SHIFT);
      i32[word + C_NEXT] = 0;
      i32[word + C_USED] = used;
      i32[word + C_CAPACITY] = capacity;
      i32[link] = chunk;
      link = word + C_NEXT;
      left -= used;
    }
    return true;
  }

  /**
   * A chunk of `clsid`; when there is none, room is made at the tails of its LRU lists, or of `otherClass`'s where its
   * own have nothing to give.
   */
  private pull(clsid: number, otherClass: number): number {
    let ref = 0;
    let tries = 0;
    for (; tries < ALLOCATION_TRIES; tries++) {
      // Nobody else looks at the tails of a flat LRU: what has expired there serves first.
      if (this.i32[W_LRU_SEGMENTED] === 0) this.pullTail(clsid, COLD_LRU, 0, 0, 0);
      ref = this.slabs.allocate(clsid);
      if (ref !== 0) break;
      if (!this.makeRoom(clsid) && (otherClass === clsid || !this.makeRoom(otherClass))) break;
    }
    if (tries === 0) return ref;
    this.locks.lockLru(clsid);
    if (ref === 0) this.f64[D_CLASS + clsid * CLASS_COUNTERS + L_OUTOFMEMORY] += 1;
    else this.f64[D_CLASS + clsid * CLASS_COUNTERS + L_DIRECT_RECLAIMS] += tries;
    this.locks.unlockLru(clsid);
    return ref;
  }

  /** Evicts from COLD; where that is empty, lets HOT and WARM flow into it. */
  private makeRoom(clsid: number): boolean {
    if (this.pullTail(clsid, COLD_LRU, 0, PULL_EVICT, 0) > 0) return true;
    const moved = this.pullTail(clsid, HOT_LRU, 0, 0, 0);
    return moved > 0 || this.pullTail(clsid, WARM_LRU, 0, 0, 0) > 0;
  }

  /**
   * Looks at the tail of one list, and at the few items before it where that one is locked: gives expired and flushed
   * items back, sends an active one where it may stay (WARM), an inactive one of HOT or WARM to COLD when its list holds
   * more than its share of `totalBytes` or when it was idle for more than `maxAge` seconds, and with PULL_EVICT evicts
   * one from COLD. With TEMP only what has expired goes. How many items it moved or gave back.
   */
  pullTail(clsid: number, segment: number, totalBytes: number, flags: number, maxAge: number): number {
    const { i32, f64, lru, locks, assoc } = this;
    const list = clsid | segment;
    const counters = D_CLASS + clsid * CLASS_COUNTERS;
    const now = i32[W_TIME];
    let removed = 0;
    if (lru.tail(list) === 0) return 0;
    locks.lockLru(clsid);
    let ref = lru.tail(list);
    if ((flags & PULL_CRAWL_BLOCKS) !== 0 && ref !== 0 && i32[W_LRU + list * LRU_WORDS + LRU_CURSOR] === ref) {
      locks.unlockLru(clsid);
      return 0;
    }
    for (let tries = TAIL_TRIES, done = false; tries > 0 && ref !== 0 && !done; tries--) {
      const item = ref;
      const word = item * 2;
      ref = i32[word + I_PREV];
      const hash = assoc.hashOf(item);
      if (item === this.busy || !locks.tryItem(hash)) continue;
      const meta = i32[word + I_META];
      const exptime = i32[word + I_EXPTIME];
      const active = (meta & ITEM_ACTIVE) !== 0;
      if (i32[word + I_REFCOUNT] > 1) {
        f64[counters + L_REFLOCKED] += 1;
        const repair = i32[W_TAIL_REPAIR_TIME];
        if (repair !== 0 && i32[word + I_TIME] + repair < now) {
          // Whoever holds it has leaked his reference, or so the operator who set the option believes.
          f64[counters + L_TAILREPAIRS] += 1;
          i32[word + I_REFCOUNT] = 1;
          this.unlinkFromList(item, list, hash);
          locks.untryItem(hash);
          removed++;
          continue;
        }
      }
      if ((exptime !== 0 && exptime <= now) || this.isFlushed(item, now)) {
        f64[counters + L_RECLAIMED] += 1;
        if ((meta & ITEM_FETCHED) === 0) f64[counters + L_EXPIRED_UNFETCHED] += 1;
        this.unlinkFromList(item, list, hash);
        removed++;
      } else if (segment === TEMP_LRU) {
        done = true;
      } else if (segment === COLD_LRU) {
        done = true;
        if ((flags & PULL_EVICT) !== 0) {
          if (this.evictions) {
            f64[counters + L_EVICTED] += 1;
            f64[counters + L_EVICTED_TIME] = now - i32[word + I_TIME];
            if (exptime !== 0) f64[counters + L_EVICTED_NONZERO] += 1;
            if ((meta & ITEM_FETCHED) === 0) f64[counters + L_EVICTED_UNFETCHED] += 1;
            if (active) f64[counters + L_EVICTED_ACTIVE] += 1;
            if (this.log !== null) this.log.eviction(item);
            this.unlinkFromList(item, list, hash);
            removed++;
            if (i32[W_SLAB_AUTOMOVE] === 2) this.slabs.requestMove(-1, clsid);
          }
        } else if (active && i32[W_LRU_SEGMENTED] !== 0) {
          f64[counters + L_MOVES_TO_WARM] += 1;
          i32[word + I_META] = meta & ~ITEM_ACTIVE;
          lru.moveLocked(item, list, clsid | WARM_LRU, this.totalBytes(item));
          removed++;
        }
      } else {
        const percent = i32[segment === HOT_LRU ? W_HOT_LRU_PCT : W_WARM_LRU_PCT];
        if (active) {
          i32[word + I_META] = meta & ~ITEM_ACTIVE;
          f64[counters + (segment === WARM_LRU ? L_MOVES_WITHIN_LRU : L_MOVES_TO_WARM)] += 1;
          lru.moveLocked(item, list, clsid | WARM_LRU, this.totalBytes(item));
          removed++;
          // The tail of HOT went on its way; in WARM the next one is looked at.
          done = segment === HOT_LRU;
        } else {
          done = true;
          if (lru.bytes(list) > (totalBytes * percent) / 100 || now - i32[word + I_TIME] > maxAge) {
            f64[counters + L_MOVES_TO_COLD] += 1;
            lru.moveLocked(item, list, clsid | COLD_LRU, this.totalBytes(item));
            removed++;
          }
        }
      }
      locks.untryItem(hash);
    }
    locks.unlockLru(clsid);
    return removed;
  }

  /** Removes a linked item from the cache for who holds its item lock and its class's LRU lock. */
  private unlinkFromList(ref: number, list: number, hash: number): void {
    const bytes = this.totalBytes(ref);
    this.i32[this.storing + 1] = ref;
    this.lru.unlinkLocked(ref, list, bytes);
    if (this.i32[W_SIZES_ENABLED] !== 0) this.countSize(ref, bytes, -1);
    this.assoc.remove(ref, hash);
    this.i32[ref * 2 + I_META] = this.i32[ref * 2 + I_META] & ~ITEM_LINKED;
    this.releaseLocked(ref);
  }

  /**
   * The running crawl's next item of a list is looked at: 0 the list is through, 1 the item was locked and is passed
   * over, 2 it has expired and, with `reclaim`, is gone; otherwise its ref, and its item lock is held: `crawlDone` lets
   * go of it.
   */
  crawlNext(list: number, reclaim: boolean): number {
    const { i32, f64, locks, assoc } = this;
    const clsid = list & CLASS_MASK;
    const at = W_LRU + list * LRU_WORDS + LRU_CURSOR;
    locks.lockLru(clsid);
    const ref = i32[at];
    if (ref === 0) {
      locks.unlockLru(clsid);
      return 0;
    }
    i32[at] = i32[ref * 2 + I_PREV];
    const hash = assoc.hashOf(ref);
    if (!locks.tryItem(hash)) {
      locks.unlockLru(clsid);
      return 1;
    }
    const counters = D_CLASS + clsid * CLASS_COUNTERS;
    f64[counters + L_CRAWLER_ITEMS_CHECKED] += 1;
    const now = i32[W_TIME];
    const exptime = i32[ref * 2 + I_EXPTIME];
    let result = ref;
    if ((exptime !== 0 && exptime <= now) || this.isFlushed(ref, now)) {
      if (reclaim) {
        f64[counters + L_CRAWLER_RECLAIMED] += 1;
        if ((i32[ref * 2 + I_META] & ITEM_FETCHED) === 0) f64[counters + L_EXPIRED_UNFETCHED] += 1;
        this.unlinkFromList(ref, list, hash);
      }
      locks.untryItem(hash);
      result = 2;
    }
    locks.unlockLru(clsid);
    return result;
  }

  crawlDone(ref: number): void {
    this.locks.untryItem(this.assoc.hashOf(ref));
  }

  private freeItem(ref: number): void {
    if (!this.isChunked(ref)) {
      this.slabs.free(ref, this.clsid(ref));
      return;
    }
    const headerClass = this.i32[this.trailerWord(ref) + T_HEADER_CLASS];
    let chunk = this.firstChunk(ref);
    while (chunk !== 0) {
      const next = this.nextChunk(chunk);
      this.slabs.free(chunk, this.clsid(chunk));
      chunk = next;
    }
    this.slabs.free(ref, headerClass);
  }

  // ---- references ------------------------------------------------------------------------------------------------

  /** Holds an item: until `release` it keeps its memory, linked or not. Under its item lock. */
  retain(ref: number): void {
    if (this.locks.striped) Atomics.add(this.i32, ref * 2 + I_REFCOUNT, 1);
    else this.i32[ref * 2 + I_REFCOUNT] = this.i32[ref * 2 + I_REFCOUNT] + 1;
  }

  /** One more reference for somebody who has one already, outside the item lock. */
  retainHeld(ref: number): void {
    this.locks.lockCache();
    this.hold(ref);
    this.locks.unlockCache();
  }

  /**
   * As `retain`, for a reference that this thread could take with it into death: it is written down, at a moment at which
   * a thread cannot be stopped (that happens at calls and loops).
   */
  hold(ref: number): void {
    const { i32, held } = this;
    let at = ref & HELD_MASK;
    let tries = HELD_TRIES;
    while (tries > 0 && i32[held + at] > 0) {
      at = (at + 1) & HELD_MASK;
      tries--;
    }
    const count = ref * 2 + I_REFCOUNT;
    // Where the table is full, the reference is lost should this thread die.
    if (tries > 0) i32[held + at] = ref;
    if (this.locks.striped) Atomics.add(i32, count, 1);
    else i32[count] = i32[count] + 1;
  }

  /** Gives back a reference of `hold` or `retainHeld`. */
  releaseHeld(ref: number): void {
    this.locks.lockCache();
    this.releaseHeldLocked(ref);
    this.locks.unlockCache();
  }

  private releaseHeldLocked(ref: number): void {
    const { i32, held } = this;
    let at = ref & HELD_MASK;
    let tries = HELD_TRIES;
    while (tries > 0 && i32[held + at] !== ref && i32[held + at] !== 0) {
      at = (at + 1) & HELD_MASK;
      tries--;
    }
    const slot = tries > 0 && i32[held + at] === ref ? held + at : -1;
    const word = ref * 2 + I_REFCOUNT;
    let count: number;
    // As in `releaseLocked`. Not 0: what stands behind it in the table must still be found.
    if (slot >= 0) i32[slot] = -1;
    if (this.locks.striped) count = Atomics.sub(i32, word, 1) - 1;
    else count = i32[word] = i32[word] - 1;
    if (count !== 0) return;
    i32[ref * 2 + I_PREV] = -this.locks.owner;
    this.freeItem(ref);
  }

  /** Gives back the reference of `alloc`. */
  release(ref: number): void {
    this.locks.lockCache();
    this.releaseLocked(ref);
    this.locks.unlockCache();
  }

  /** As `release`, for who holds the item's lock, or for `global` the cache's. */
  releaseLocked(ref: number): void {
    const at = ref * 2 + I_REFCOUNT;
    const own = this.storing;
    let count: number;
    // From here to the end of the counting there is nothing at which a thread can be stopped.
    if (this.i32[own] === ref) this.i32[own] = 0;
    if (this.i32[own + 1] === ref) this.i32[own + 1] = 0;
    if (this.locks.striped) count = Atomics.sub(this.i32, at, 1) - 1;
    else count = this.i32[at] = this.i32[at] - 1;
    if (count !== 0) return;
    this.i32[ref * 2 + I_PREV] = -this.locks.owner;
    this.freeItem(ref);
  }

  // ---- linking: under the item lock of `hash` ---------------------------------------------------------------------

  private link(ref: number, hash: number): void {
    const word = ref * 2;
    this.i32[this.storing] = ref;
    this.i32[word + I_META] = this.i32[word + I_META] | ITEM_LINKED;
    this.i32[word + I_TIME] = this.i32[W_TIME];
    this.renewCas(ref);
    this.linkedCasHi = this.i32[word + I_CAS_HI] >>> 0;
    this.linkedCasLo = this.i32[word + I_CAS_LO] >>> 0;
    this.linkedBytes = this.i32[word + I_NBYTES];
    this.linkedRef = ref;
    this.retain(ref);
    this.assoc.insert(ref, hash);
    const bytes = this.totalBytes(ref);
    this.lru.link(ref, bytes);
    if (this.i32[W_SIZES_ENABLED] !== 0) this.countSize(ref, bytes, 1);
    this.f64[this.stats + T_TOTAL_ITEMS] += 1;
  }

  unlink(ref: number, hash: number): void {
    const word = ref * 2;
    if ((this.i32[word + I_META] & ITEM_LINKED) === 0) return;
    this.i32[this.storing + 1] = ref;
    this.i32[word + I_META] = this.i32[word + I_META] & ~ITEM_LINKED;
    const bytes = this.totalBytes(ref);
    this.lru.unlink(ref, bytes);
    if (this.i32[W_SIZES_ENABLED] !== 0) this.countSize(ref, bytes, -1);
    this.assoc.remove(ref, hash);
    this.releaseLocked(ref);
  }

  /** For `stats sizes`: an item that was linked before the counting began is not counted, by its CAS. */
  private countSize(ref: number, bytes: number, change: number): void {
    const { i32 } = this;
    const { layout } = this.memory;
    if (change < 0) {
      const cas = (i32[ref * 2 + I_CAS_HI] >>> 0) * 0x1_0000_0000 + (i32[ref * 2 + I_CAS_LO] >>> 0);
      if (cas < this.f64[D_SIZES_CAS_MIN]) return;
    }
    const bucket = Math.min(Math.ceil(bytes / SIZES_BUCKET_BYTES), layout.sizesBuckets - 1);
    Atomics.add(i32, layout.sizesWord + bucket, change);
  }

  /** The live item of a key, or 0. One that has expired, or was flushed, is removed on the way. */
  find(bytes: Buffer, start: number, end: number, hash: number): number {
    const ref = this.assoc.find(bytes, start, end, hash);
    if (ref === 0) {
      if (this.log !== null) this.log.get(bytes, start, end, 'not_found', 0);
      return 0;
    }
    const i32 = this.i32;
    const now = i32[W_TIME];
    const exptime = i32[ref * 2 + I_EXPTIME];
    if (i32[W_OLDEST_LIVE] !== 0 && this.isFlushed(ref, now)) {
      this.unlink(ref, hash);
      this.f64[this.stats + T_GET_FLUSHED] += 1;
      if (this.log !== null) this.log.get(bytes, start, end, 'flushed', 0);
      return 0;
    }
    if (exptime !== 0 && exptime <= now) {
      this.unlink(ref, hash);
      this.f64[this.stats + T_GET_EXPIRED] += 1;
      if (this.log !== null) this.log.get(bytes, start, end, 'expired', 0);
      return 0;
    }
    if (this.log !== null) this.log.get(bytes, start, end, 'found', ref);
    return ref;
  }

  /**
   * Marks an access, under the item lock: the first one as fetched, the second as active, which keeps the item in WARM
   * or brings it there. An active item, which is what busy ones are, costs one load.
   */
  bump(ref: number): void {
    const meta = this.i32[ref * 2 + I_META];
    if ((meta & ITEM_ACTIVE) === 0) this.bumpInactive(ref, meta);
  }

  private bumpInactive(ref: number, meta: number): void {
    const { i32, lru, locks } = this;
    const word = ref * 2;
    const list = (meta >>> CLASS_SHIFT) & LRU_ID_MASK;
    const clsid = list & CLASS_MASK;
    const now = i32[W_TIME];
    i32[word + I_META] = meta | ITEM_FETCHED;
    if (i32[W_LRU_SEGMENTED] === 0) {
      if ((meta & ITEM_LINKED) === 0 || i32[word + I_TIME] >= now - FLAT_UPDATE_SECONDS) return;
      locks.lockLru(clsid);
      i32[word + I_TIME] = now;
      lru.moveLocked(ref, list, list, this.totalBytes(ref));
      locks.unlockLru(clsid);
      return;
    }
    if ((meta & ITEM_FETCHED) === 0) return;
    if ((list & SEGMENT_MASK) !== COLD_LRU || (meta & ITEM_LINKED) === 0) {
      i32[word + I_META] = meta | ITEM_ACTIVE;
      i32[word + I_TIME] = now;
    } else if (locks.tryLru(clsid)) {
      i32[word + I_TIME] = now;
      lru.moveLocked(ref, list, clsid | WARM_LRU, this.totalBytes(ref));
      this.f64[D_CLASS + clsid * CLASS_COUNTERS + L_MOVES_TO_WARM] += 1;
      locks.unlockLru(clsid);
    } else {
      // Its time comes with the next access: a reader waits for nobody who evicts.
      this.f64[this.stats + T_LRU_BUMPS_DROPPED] += 1;
    }
  }

  /** An access that fetched nothing: it counts as a use, and not as a hit. */
  private touchTime(ref: number): void {
    this.i32[ref * 2 + I_TIME] = this.i32[W_TIME];
  }

  setExpiry(ref: number, exptime: number): void {
    this.i32[ref * 2 + I_EXPTIME] = exptime;
  }

  // ---- commands ---------------------------------------------------------------------------------------------------

  /**
   * Stores an item that `alloc` gave and the caller filled. `casHi:casLo` is what STORE_CAS compares with.
   * The caller's reference stays the caller's.
   */
  store(ref: number, hash: number, mode: number, casHi: number, casLo: number): number {
    this.locks.lockItem(hash);
    const result = this.storeLocked(ref, hash, mode, casHi, casLo);
    this.locks.unlockItem(hash);
    return result;
  }

  /** As `store`, under the item lock. */
  storeLocked(ref: number, hash: number, mode: number, casHi: number, casLo: number): number {
    const result = this.storeUnlogged(ref, hash, mode, casHi, casLo);
    if (this.log !== null) this.log.store(result === STORED ? this.linkedRef : ref, result, mode);
    return result;
  }

  private storeUnlogged(ref: number, hash: number, mode: number, casHi: number, casLo: number): number {
    const { i32, f64, u8 } = this;
    const key = this.keyAt(ref);
    const old = this.find(u8, key, key + this.keyBytes(ref), hash);
    if (old === 0) {
      if (mode === STORE_CAS) {
        f64[this.stats + T_CAS_MISSES] += 1;
        return NOT_FOUND;
      }
      if (mode === STORE_REPLACE || mode === STORE_APPEND || mode === STORE_PREPEND) return NOT_STORED;
      this.link(ref, hash);
      return STORED;
    }
    switch (mode) {
      case STORE_ADD:
        this.touchTime(old);
        return NOT_STORED;
      case STORE_CAS: {
        const compared = this.compareCas(old, casHi, casLo);
        // 0 is no item's, not even with -C, where all have it.
        const given = casHi !== 0 || casLo !== 0;
        const stale = given && compared < 0 && this.allowStale;
        const matches = stale || (given && compared === 0);
        f64[this.classStats + this.clsid(old) * THREAD_CLASS_COUNTERS + (matches ? S_CAS_HITS : S_CAS_BADVAL)] += 1;
        if (!matches) {
          this.refusedCasHi = i32[old * 2 + I_CAS_HI];
          this.refusedCasLo = i32[old * 2 + I_CAS_LO];
          return EXISTS;
        }
        if (stale) {
          i32[ref * 2 + I_EXPTIME] = i32[old * 2 + I_EXPTIME];
          i32[ref * 2 + I_META] = i32[ref * 2 + I_META] | ITEM_STALE | (i32[old * 2 + I_META] & ITEM_TOKEN_SENT);
        }
        break;
      }
      case STORE_APPEND:
      case STORE_PREPEND:
      case STORE_APPEND_VIVIFY:
      case STORE_PREPEND_VIVIFY: {
        if ((casHi !== 0 || casLo !== 0) && this.compareCas(old, casHi, casLo) !== 0) return NOT_STORED;
        const append = mode === STORE_APPEND || mode === STORE_APPEND_VIVIFY;
        const joined = this.join(append ? old : ref, append ? ref : old, old);
        if (joined === 0) return NOT_STORED;
        this.unlink(old, hash);
        this.link(joined, hash);
        this.releaseLocked(joined);
        return STORED;
      }
    }
    this.unlink(old, hash);
    this.link(ref, hash);
    return STORED;
  }

  /** Below 0, 0, above 0: how hi:lo compares with the item's CAS. */
  compareCas(ref: number, hi: number, lo: number): number {
    const ownHi = this.i32[ref * 2 + I_CAS_HI] >>> 0;
    return hi !== ownHi ? hi - ownHi : lo - (this.i32[ref * 2 + I_CAS_LO] >>> 0);
  }

  /**
   * Stores `source[0, length)` under a key whose item lock is held, in place of what is there. Gives the new item, which
   * the cache alone holds, or 0 when there is no memory for it.
   */
  createLocked(
    bytes: Buffer,
    start: number,
    end: number,
    hash: number,
    flags: number,
    exptime: number,
    source: Buffer,
    length: number,
  ): number {
    const ref = this.allocLocked(bytes, start, end, flags, exptime, length + 2);
    if (ref === 0) return 0;
    const data = this.dataAt(ref);
    source.copy(this.u8, data, 0, length);
    this.u8[data + length] = 0x0d;
    this.u8[data + length + 1] = 0x0a;
    const old = this.assoc.find(bytes, start, end, hash);
    if (old !== 0) this.unlink(old, hash);
    this.link(ref, hash);
    this.releaseLocked(ref);
    return ref;
  }

  /** As `createLocked` for a number that a command counts from, which memcached's log has as an `add`. */
  createCounterLocked(
    bytes: Buffer,
    start: number,
    end: number,
    hash: number,
    exptime: number,
    source: Buffer,
    length: number,
  ): number {
    const ref = this.createLocked(bytes, start, end, hash, 0, exptime, source, length);
    if (this.log !== null && ref !== 0) {
      this.log.get(bytes, start, end, 'not_found', 0);
      this.log.store(ref, STORED, STORE_ADD);
    }
    return ref;
  }

  /** A new item with the value of `first` followed by that of `second`, and the key, flags and expiry of `model`. */
  private join(first: number, second: number, model: number): number {
    const key = this.keyAt(model);
    const nbytes = this.nbytes(first) + this.nbytes(second) - 2;
    const exptime = this.i32[model * 2 + I_EXPTIME];
    // The model may not be evicted to make room for its own successor.
    this.hold(model);
    this.busy = model;
    const ref = this.allocLocked(this.u8, key, key + this.keyBytes(model), this.clientFlags(model), exptime, nbytes);
    this.busy = 0;
    if (ref !== 0) {
      this.copyValue(first, ref, 0, this.nbytes(first) - 2);
      this.copyValue(second, ref, this.nbytes(first) - 2, this.nbytes(second));
    }
    this.releaseHeldLocked(model);
    return ref;
  }

  /** Copies the first `length` bytes of one item's value into another's, from `position` on. */
  private copyValue(from: number, to: number, position: number, length: number): void {
    const u8 = this.u8;
    let source = this.isChunked(from) ? this.firstChunk(from) : 0;
    let sourceAt = source === 0 ? this.dataAt(from) : this.chunkAt(source);
    let sourceLeft = source === 0 ? length : this.chunkUsed(source);
    let target = this.isChunked(to) ? this.firstChunk(to) : 0;
    let skip = position;
    while (target !== 0 && skip >= this.chunkUsed(target)) {
      skip -= this.chunkUsed(target);
      target = this.nextChunk(target);
    }
    let targetAt = (target === 0 ? this.dataAt(to) : this.chunkAt(target)) + skip;
    let targetLeft = target === 0 ? length : this.chunkUsed(target) - skip;
    let left = length;
    while (left > 0) {
      const step = Math.min(left, sourceLeft, targetLeft);
      u8.copy(u8, targetAt, sourceAt, sourceAt + step);
      left -= step;
      sourceAt += step;
      sourceLeft -= step;
      targetAt += step;
      targetLeft -= step;
      if (left > 0 && sourceLeft === 0) {
        source = this.nextChunk(source);
        sourceAt = this.chunkAt(source);
        sourceLeft = this.chunkUsed(source);
      }
      if (left > 0 && targetLeft === 0) {
        target = this.nextChunk(target);
        targetAt = this.chunkAt(target);
        targetLeft = this.chunkUsed(target);
      }
    }
  }

  /** `incr` (or `decr`) by deltaHi:deltaLo. The digits of the result are in `numberBytes`. */
  delta(
    bytes: Buffer,
    start: number,
    end: number,
    hash: number,
    incr: boolean,
    deltaHi: number,
    deltaLo: number,
  ): number {
    this.locks.lockItem(hash);
    const result = this.deltaLocked(bytes, start, end, hash, incr, deltaHi, deltaLo, 0, 0);
    this.locks.unlockItem(hash);
    if (result === DELTA_NOT_FOUND) this.countDeltaMiss(incr);
    return result;
  }

  /** For who does not create the number that `deltaLocked` did not find. */
  countDeltaMiss(incr: boolean): void {
    this.f64[this.stats + (incr ? T_INCR_MISSES : T_DECR_MISSES)] += 1;
  }

  /**
   * As `delta`, under the item lock, and where a CAS is given (not 0) only when it is the item's. A number that is not
   * there is not counted.
   */
  deltaLocked(
    bytes: Buffer,
    start: number,
    end: number,
    hash: number,
    incr: boolean,
    deltaHi: number,
    deltaLo: number,
    casHi: number,
    casLo: number,
  ): number {
    const { u8, f64, decimal } = this;
    const ref = this.find(bytes, start, end, hash);
    if (ref === 0) return DELTA_NOT_FOUND;
    const nbytes = this.nbytes(ref);
    if (nbytes <= 2 || this.isChunked(ref)) return DELTA_NON_NUMERIC;
    if ((casHi !== 0 || casLo !== 0) && this.compareCas(ref, casHi, casLo) !== 0) return DELTA_EXISTS;
    const at = this.dataAt(ref);
    if (!decimal.unsigned(u8, at, at + nbytes - 2)) return DELTA_NON_NUMERIC;
    this.touchTime(ref);
    f64[this.classStats + this.clsid(ref) * THREAD_CLASS_COUNTERS + (incr ? S_INCR_HITS : S_DECR_HITS)] += 1;
    let { hi, lo } = decimal;
    if (incr) {
      const sum = lo + deltaLo;
      hi = (hi + deltaHi + (sum > 0xffff_ffff ? 1 : 0)) >>> 0;
      lo = sum >>> 0;
    } else if (deltaHi > hi || (deltaHi === hi && deltaLo > lo)) {
      hi = 0;
      lo = 0;
    } else {
      hi = hi - deltaHi - (lo < deltaLo ? 1 : 0);
      lo = (lo - deltaLo) >>> 0;
    }
    const digits = writeU64(this.numberBytes, 0, hi, lo);
    this.numberLength = digits;
    if (digits > DIGITS_U64_MAX) throw new Error(`arithmetic gave ${digits} digits`);
    if (digits + 2 <= nbytes && this.i32[ref * 2 + I_REFCOUNT] === 1) {
      // Nobody else holds it: overwrite in place, padded with spaces as memcached does.
      this.renewCas(ref);
      this.deltaRef = ref;
      this.numberBytes.copy(u8, at, 0, digits);
      u8.fill(0x20, at + digits, at + nbytes - 2);
      return DELTA_OK;
    }
    const key = this.keyAt(ref);
    const exptime = this.i32[ref * 2 + I_EXPTIME];
    this.hold(ref);
    this.busy = ref;
    const fresh = this.allocLocked(u8, key, key + this.keyBytes(ref), this.clientFlags(ref), exptime, digits + 2);
    this.busy = 0;
    if (fresh !== 0) {
      const data = this.dataAt(fresh);
      this.numberBytes.copy(u8, data, 0, digits);
      u8[data + digits] = 0x0d;
      u8[data + digits + 1] = 0x0a;
      this.unlink(ref, hash);
      this.link(fresh, hash);
      this.releaseLocked(fresh);
      this.deltaRef = fresh;
    }
    this.releaseHeldLocked(ref);
    return fresh === 0 ? DELTA_NO_MEMORY : DELTA_OK;
  }

  /** Removes the item of a key. Its slab class, or -1 where there is none. */
  remove(bytes: Buffer, start: number, end: number, hash: number): number {
    this.locks.lockItem(hash);
    const ref = this.find(bytes, start, end, hash);
    const clsid = ref === 0 ? -1 : this.clsid(ref);
    if (ref !== 0) {
      if (this.log !== null) this.log.deletion(ref, 'delete');
      this.unlink(ref, hash);
    }
    this.locks.unlockItem(hash);
    return clsid;
  }

  /** Gives the item of a key a new expiry. Its slab class, or -1 where there is none. */
  touch(bytes: Buffer, start: number, end: number, hash: number, exptime: number): number {
    this.locks.lockItem(hash);
    const ref = this.find(bytes, start, end, hash);
    const clsid = ref === 0 ? -1 : this.clsid(ref);
    if (ref !== 0) {
      this.bump(ref);
      this.setExpiry(ref, exptime);
    }
    this.locks.unlockItem(hash);
    return clsid;
  }

  /** List that an item is in. */
  listOf(ref: number): number {
    return (this.i32[ref * 2 + I_META] >>> CLASS_SHIFT) & LRU_ID_MASK;
  }
}
