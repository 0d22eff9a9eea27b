/**
 * LRU lists: one doubly linked list of items for each slab class and segment.
 *
 * Invariant: every linked item is in exactly the list that its I_META names, and the list's count and bytes are exact.
 * Lists are entered at the head. A running crawl goes along a list from tail to head and keeps its place in
 * LRU_CURSOR, which moves on when the item there leaves the list.
 * Guard: the LRU lock of the class; the callers here take it unless told otherwise.
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
  LRU_CURSOR,
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
    if (i32[at + LRU_CURSOR] === ref) i32[at + LRU_CURSOR] = prev;
    i32[ref * 2 + I_NEXT] = 0;
    i32[ref * 2 + I_PREV] = 0;
    i32[at + LRU_COUNT] = i32[at + LRU_COUNT] - 1;
    this.f64[D_LRU_BYTES + list] = this.f64[D_LRU_BYTES + list] - bytes;
  }

  /** From one list of a class to another's head, or to the head of the same. */
  moveLocked(ref: number, from: number, to: number, bytes: number): void {
    const word = ref * 2 + I_META;
    this.unlinkLocked(ref, from, bytes);
    this.i32[word] = (this.i32[word] & ~(LRU_ID_MASK << CLASS_SHIFT)) | (to << CLASS_SHIFT);
    this.linkLocked(ref, to, bytes);
  }

  /** Puts `fresh`, a copy of the item `ref`, in its place. */
  replace(ref: number, fresh: number): void {
    const i32 = this.i32;
    const list = (i32[ref * 2 + I_META] >>> CLASS_SHIFT) & LRU_ID_MASK;
    const at = W_LRU + list * LRU_WORDS;
    this.locks.lockLru(list & CLASS_MASK);
    const next = i32[ref * 2 + I_NEXT];
    const prev = i32[ref * 2 + I_PREV];
    // The neighbours may have changed since the copy was made.
    i32[fresh * 2 + I_NEXT] = next;
    i32[fresh * 2 + I_PREV] = prev;
    if (prev !== 0) i32[prev * 2 + I_NEXT] = fresh;
    else i32[at + LRU_HEAD] = fresh;
    if (next !== 0) i32[next * 2 + I_PREV] = fresh;
    else i32[at + LRU_TAIL] = fresh;
    if (i32[at + LRU_CURSOR] === ref) i32[at + LRU_CURSOR] = fresh;
    this.locks.unlockLru(list & CLASS_MASK);
  }

  tail(list: number): number {
    return this.i32[W_LRU + list * LRU_WORDS + LRU_TAIL];
  }

  count(list: number): number {
    return this.i32[W_LRU + list * LRU_WORDS + LRU_COUNT];
  }

  bytes(list: number): number {
    return this.f64[D_LRU_BYTES + list];
  }
}
