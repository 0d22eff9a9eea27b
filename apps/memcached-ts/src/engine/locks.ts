/**
 * Locks between the worker threads, as words of the cache's memory.
 *
 * What it is for: mutual exclusion around items, LRU lists, slab classes and the hash table. A thread spins briefly,
 * then sleeps in Atomics.wait; the wait is bounded, so a lost wake-up costs milliseconds, never a hang.
 * Order: item lock, then LRU lock, then slabs, CAS or hash lock; a second item lock only by `tryItem`.
 * Invariant: a lock word is 0 (free) or the owner's number, plus WAITERS when somebody may sleep on it.
 * Modes: `none` (one thread: nothing to exclude), `global` (memcached's old cache lock: one lock around each
 * operation) and `striped` (one lock per group of hash values, one per slab class's LRU).
 * Not its job: what the locks protect.
 */
import { type CacheMemory, ITEM_LOCKS, LOCK_STRIDE_WORDS, W_ITEM_LOCKS, W_LOCK_CACHE, W_LRU_LOCKS } from './layout.ts';

export type LockMode = 'none' | 'global' | 'striped';

export const WAITERS = 1 << 30;
const SPINS = 200;
const WAIT_MS = 5;

export class Locks {
  readonly mode: LockMode;
  /** One lock around whole operations. */
  readonly global: boolean;
  /** Fine locks; reference counts are atomic. */
  readonly striped: boolean;
  private readonly i32: Int32Array;
  readonly owner: number;

  /** `owner`: this thread's number, 1 … 127. */
  constructor(memory: CacheMemory, mode: LockMode, owner: number) {
    this.i32 = memory.i32;
    this.mode = mode;
    this.global = mode === 'global';
    this.striped = mode === 'striped';
    this.owner = owner;
  }

  /** Locks the word at `index`, whatever the mode. */
  acquire(index: number): void {
    if (Atomics.compareExchange(this.i32, index, 0, this.owner) !== 0) this.acquireSlowly(index);
  }

  private acquireSlowly(index: number): void {
    const { i32, owner } = this;
    for (let spin = 0; spin < SPINS; spin++) {
      if (Atomics.load(i32, index) === 0 && Atomics.compareExchange(i32, index, 0, owner) === 0) return;
    }
    for (;;) {
      const held = Atomics.load(i32, index);
      if (held === 0) {
        // Others may sleep on this word still, and only one of them was woken: keep the mark.
        if (Atomics.compareExchange(i32, index, 0, owner | WAITERS) === 0) return;
        continue;
      }
      const marked = held | WAITERS;
      if (held !== marked && Atomics.compareExchange(i32, index, held, marked) !== held) continue;
      Atomics.wait(i32, index, marked, WAIT_MS);
    }
  }

  tryAcquire(index: number): boolean {
    return Atomics.compareExchange(this.i32, index, 0, this.owner) === 0;
  }

  release(index: number): void {
    if ((Atomics.exchange(this.i32, index, 0) & WAITERS) !== 0) Atomics.notify(this.i32, index, 1);
  }

  /** Excludes every other operation on keys of this hash value. */
  lockItem(hash: number): void {
    if (this.striped) this.acquire(W_ITEM_LOCKS + (hash & (ITEM_LOCKS - 1)) * LOCK_STRIDE_WORDS);
    else if (this.global) this.acquire(W_LOCK_CACHE);
  }

  unlockItem(hash: number): void {
    if (this.striped) this.release(W_ITEM_LOCKS + (hash & (ITEM_LOCKS - 1)) * LOCK_STRIDE_WORDS);
    else if (this.global) this.release(W_LOCK_CACHE);
  }

  /** A second item lock while one may be held. In the other modes the caller excludes everybody already. */
  tryItem(hash: number): boolean {
    return !this.striped || this.tryAcquire(W_ITEM_LOCKS + (hash & (ITEM_LOCKS - 1)) * LOCK_STRIDE_WORDS);
  }

  untryItem(hash: number): void {
    if (this.striped) this.release(W_ITEM_LOCKS + (hash & (ITEM_LOCKS - 1)) * LOCK_STRIDE_WORDS);
  }

  /** Around an operation that has no hash value yet (allocation, release of a reference). */
  lockCache(): void {
    if (this.global) this.acquire(W_LOCK_CACHE);
  }

  unlockCache(): void {
    if (this.global) this.release(W_LOCK_CACHE);
  }

  lockLru(clsid: number): void {
    if (this.striped) this.acquire(W_LRU_LOCKS + clsid * LOCK_STRIDE_WORDS);
  }

  tryLru(clsid: number): boolean {
    return !this.striped || this.tryAcquire(W_LRU_LOCKS + clsid * LOCK_STRIDE_WORDS);
  }

  unlockLru(clsid: number): void {
    if (this.striped) this.release(W_LRU_LOCKS + clsid * LOCK_STRIDE_WORDS);
  }

  /** One of the single locks (W_LOCK_SLABS, W_LOCK_CAS, W_LOCK_HASH), needed in striped mode alone. */
  lockFine(index: number): void {
    if (this.striped) this.acquire(index);
  }

  unlockFine(index: number): void {
    if (this.striped) this.release(index);
  }
}
