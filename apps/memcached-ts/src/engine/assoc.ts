/**
 * Hash table: chains of items, in a table that grows by linear hashing.
 *
 * What it is for: finding an item by key. The table has n buckets, 2^k <= n < 2^(k+1): the buckets below n - 2^k are
 * already split by one more bit of the hash. One insertion above the load factor splits one bucket, so growth never
 * stops the server, and both halves of a split share the low bits of the hash, hence the same item lock.
 * Invariant: an item is in the chain of exactly the bucket that `bucketOf` gives for its key's hash.
 * Guard: the item lock of the hash value; W_LOCK_HASH for the growth. Not its job: expiry, LRU, reference counts.
 */
import {
  type CacheMemory,
  I_HASH_NEXT,
  I_KEY_BYTES,
  I_META,
  KEY_SHIFT,
  W_HASH_BUCKETS,
  W_HASH_ITEMS,
  W_HASH_SEED,
  W_LOCK_HASH,
} from './layout.ts';
import type { Locks } from './locks.ts';

/** Items per bucket, in quarters, above which the table grows: 1.5 as in memcached. */
const LOAD_QUARTERS = 6;
const FNV_PRIME = 0x0100_0193;

/** The last step of the hash: every bit of the state reaches every bit of the result. */
export function finishHash(state: number): number {
  let h = state;
  h = Math.imul(h ^ (h >>> 16), 0x85eb_ca6b | 0);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2_ae35 | 0);
  return h ^ (h >>> 16);
}

/** Adds one byte to the hash's state; callers that scan a key byte by byte anyway hash it on the way. */
export function stepHash(state: number, byte: number): number {
  return Math.imul(state ^ byte, FNV_PRIME);
}

export class Assoc {
  /** State to begin a hash with. */
  readonly seed: number;
  private readonly i32: Int32Array;
  private readonly u8: Uint8Array;
  private readonly locks: Locks;
  private readonly hashWord: number;
  private readonly bucketsMax: number;
  private readonly expand: boolean;

  constructor(memory: CacheMemory, locks: Locks) {
    this.i32 = memory.i32;
    this.u8 = memory.u8;
    this.locks = locks;
    this.seed = memory.i32[W_HASH_SEED];
    this.hashWord = memory.layout.hashWord;
    this.bucketsMax = memory.layout.bucketsMax;
    this.expand = memory.config.hashExpand;
  }

  hash(bytes: Uint8Array, start: number, end: number): number {
    let h = this.seed;
    for (let i = start; i < end; i++) h = Math.imul(h ^ bytes[i], FNV_PRIME);
    return finishHash(h);
  }

  /** Index in `i32` of the bucket of a hash value. */
  bucketWord(hash: number): number {
    const buckets = this.i32[W_HASH_BUCKETS];
    const mask = -1 >>> Math.clz32(buckets - 1);
    const bucket = hash & mask;
    return this.hashWord + (bucket < buckets ? bucket : bucket & (mask >>> 1));
  }

  bucketOf(hash: number): number {
    return this.bucketWord(hash) - this.hashWord;
  }

  /** The item with the key bytes[start, end), or 0. */
  find(bytes: Uint8Array, start: number, end: number, hash: number): number {
    const { i32, u8 } = this;
    const nkey = end - start;
    let ref = i32[this.bucketWord(hash)];
    while (ref !== 0) {
      if (i32[ref * 2 + I_META] >>> KEY_SHIFT === nkey) {
        const key = ref * 8 + I_KEY_BYTES;
        let i = 0;
        while (i < nkey && u8[key + i] === bytes[start + i]) i++;
        if (i === nkey) return ref;
      }
      ref = i32[ref * 2 + I_HASH_NEXT];
    }
    return 0;
  }

  insert(ref: number, hash: number): void {
    const { i32 } = this;
    const bucket = this.bucketWord(hash);
    i32[ref * 2 + I_HASH_NEXT] = i32[bucket];
    i32[bucket] = ref;
    const items = this.count(1);
    if (items * 4 > i32[W_HASH_BUCKETS] * LOAD_QUARTERS && this.expand) this.grow();
  }

  /** Puts `fresh`, a copy of the item `ref`, in its place. */
  replace(ref: number, fresh: number, hash: number): void {
    this.i32[this.linkTo(ref, hash)] = fresh;
  }

  /** Index in `i32` of the link that leads to an item. */
  private linkTo(ref: number, hash: number): number {
    const { i32 } = this;
    let at = this.bucketWord(hash);
    while (i32[at] !== ref) {
      const next = i32[at];
      if (next === 0) throw new Error(`hash table: item ${ref} is not in the chain of its bucket`);
      at = next * 2 + I_HASH_NEXT;
    }
    return at;
  }

  remove(ref: number, hash: number): void {
    const { i32 } = this;
    i32[this.linkTo(ref, hash)] = i32[ref * 2 + I_HASH_NEXT];
    i32[ref * 2 + I_HASH_NEXT] = 0;
    this.count(-1);
  }

  private count(change: number): number {
    if (this.locks.striped) return Atomics.add(this.i32, W_HASH_ITEMS, change) + change;
    return (this.i32[W_HASH_ITEMS] = this.i32[W_HASH_ITEMS] + change);
  }

  /** Splits the next bucket in two. Skipped when another thread is at it, or holds the bucket: a later insertion will. */
  private grow(): void {
    const { i32, locks, hashWord } = this;
    if (locks.striped && !locks.tryAcquire(W_LOCK_HASH)) return;
    const buckets = i32[W_HASH_BUCKETS];
    if (buckets < this.bucketsMax) {
      const half = 1 << (31 - Math.clz32(buckets));
      const from = buckets - half;
      // The caller holds the lock of its own item, which may be this bucket's: then tryItem fails, and that is fine.
      if (locks.tryItem(from)) {
        let keep = hashWord + from;
        let move = hashWord + buckets;
        let ref = i32[keep];
        while (ref !== 0) {
          const next = i32[ref * 2 + I_HASH_NEXT];
          if ((this.hashOf(ref) & half) === 0) {
            i32[keep] = ref;
            keep = ref * 2 + I_HASH_NEXT;
          } else {
            i32[move] = ref;
            move = ref * 2 + I_HASH_NEXT;
          }
          ref = next;
        }
        i32[keep] = 0;
        i32[move] = 0;
        i32[W_HASH_BUCKETS] = buckets + 1;
        locks.untryItem(from);
      }
    }
    if (locks.striped) locks.release(W_LOCK_HASH);
  }

  /** The hash of a linked item's key, from its bytes. */
  hashOf(ref: number): number {
    const key = ref * 8 + I_KEY_BYTES;
    return this.hash(this.u8, key, key + (this.i32[ref * 2 + I_META] >>> KEY_SHIFT));
  }
}
