/**
 * LRU lists: one doubly linked list of items for each slab class and segment.
 *
 * Invariant: every linked item is in exactly the list that its I_META names, and the list's count and bytes are exact.
 * New items enter at the head; an access only marks the item (no lock, no list change), and the mark gives it a second
 * round when it reaches the tail. Guard: the LRU lock of the class; the callers here take it unless told otherwise.
 * Not its job: whether an item may be evicted, and freeing it (items.ts).
 */
import {
  type CacheMemory,
  CLASS_MASK,
  CLASS_SHIFT,
  D_LRU_BYTES,
  I_META,
  I_NEXT,
  I_PREV,
  LRU_COUNT,
  LRU_HEAD,
  LRU_ID_MASK,
  LRU_TAIL,
  LRU_WORDS,
  W_LRU,
} from './layout.ts';
import type { Locks } from './locks.ts';

export class Lru {
  private readonly i32: Int32Array;
  private readonly f64: Float64Array;
  private readonly locks: Locks;

  constructor(memory: CacheMemory, locks: Locks) {
    this.i32 = memory.i32;
    this.f64 = memory.f64;
    this.locks = locks;
  }

  /** Enters an item of `bytes` at the head of its list. */
  link(ref: number, bytes: number): void {
    const list = (this.i32[ref * 2 + I_META] >>> CLASS_SHIFT) & LRU_ID_MASK;
    this.locks.lockLru(list & CLASS_MASK);
    this.linkLocked(ref, list, bytes);
    this.locks.unlockLru(list & CLASS_MASK);
  }

  unlink(ref: number, bytes: number): void {
    const list = (this.i32[ref * 2 + I_META] >>> CLASS_SHIFT) & LRU_ID_MASK;
    this.locks.lockLru(list & CLASS_MASK);
    this.unlinkLocked(ref, list, bytes);
    this.locks.unlockLru(list & CLASS_MASK);
  }

  linkLocked(ref: number, list: number, bytes: number): void {
    const i32 = this.i32;
    const at = W_LRU + list * LRU_WORDS;
    const head = i32[at + LRU_HEAD];
    i32[ref * 2 + I_PREV] = 0;
    i32[ref * 2 + I_NEXT] = head;
    if (head !== 0) i32[head * 2 + I_PREV] = ref;
    else i32[at + LRU_TAIL] = ref;
    i32[at + LRU_HEAD] = ref;
    i32[at + LRU_COUNT] = i32[at + LRU_COUNT] + 1;
    this.f64[D_LRU_BYTES + list] = this.f64[D_LRU_BYTES + list] + bytes;
  }

  unlinkLocked(ref: number, list: number, bytes: number): void {
    const i32 = this.i32;
    const at = W_LRU + list * LRU_WORDS;
    const next = i32[ref * 2 + I_NEXT];
    const prev = i32[ref * 2 + I_PREV];
    if (prev !== 0) i32[prev * 2 + I_NEXT] = next;
    else i32[at + LRU_HEAD] = next;
    if (next !== 0) i32[next * 2 + I_PREV] = prev;
    else i32[at + LRU_TAIL] = prev;
    i32[ref * 2 + I_NEXT] = 0;
    i32[ref * 2 + I_PREV] = 0;
    i32[at + LRU_COUNT] = i32[at + LRU_COUNT] - 1;
    this.f64[D_LRU_BYTES + list] = this.f64[D_LRU_BYTES + list] - bytes;
  }

  tail(list: number): number {
    return this.i32[W_LRU + list * LRU_WORDS + LRU_TAIL];
  }
}
