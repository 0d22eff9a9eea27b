/**
 * Slab allocator: pages of 1 MiB cut into chunks of a class's size, as memcached cuts them.
 *
 * Invariant: every chunk of every page is exactly one of: in its class's free list, in the uncut rest of the class's
 * newest page, or in use. A page is cut lazily, so memory is touched as it is needed.
 * Guard: W_LOCK_SLABS in striped mode. Not its job: what is in a chunk, and making room (lru.ts).
 */
import {
  type CacheConfig,
  type CacheMemory,
  CHUNK_ALIGN_BYTES,
  CLASS_SHIFT,
  I_META,
  I_NEXT,
  ITEM_SLABBED,
  MC_ITEM_HEADER_BYTES,
  PAGE_BYTES,
  SLAB_CARVE_LEFT,
  SLAB_CARVE_REF,
  SLAB_CLASSES_MAX,
  SLAB_FREE_COUNT,
  SLAB_FREE_HEAD,
  SLAB_PAGES,
  SLAB_PER_PAGE,
  SLAB_SIZE,
  SLAB_WORDS,
  W_LOCK_SLABS,
  W_PAGE_CLASS,
  W_PAGES_LIMIT,
  W_PAGES_USED,
  W_SLABS,
} from './layout.ts';
import type { Locks } from './locks.ts';

/** Chunk sizes of the classes 1, 2, … for a configuration: memcached's, number for number. */
export function slabSizes(config: CacheConfig): number[] {
  const sizes: number[] = [];
  let size = MC_ITEM_HEADER_BYTES + config.chunkSizeMin;
  while (sizes.length < SLAB_CLASSES_MAX - 2 && size < config.slabChunkMax / config.growthFactor) {
    size = Math.ceil(size / CHUNK_ALIGN_BYTES) * CHUNK_ALIGN_BYTES;
    sizes.push(size);
    size = Math.floor(size * config.growthFactor);
  }
  sizes.push(config.slabChunkMax);
  return sizes;
}

export class Slabs {
  /** The class of the largest chunks. */
  readonly largest: number;
  private readonly i32: Int32Array;
  private readonly locks: Locks;
  private readonly pagesByte: number;
  private readonly pagesMax: number;
  private readonly sizes: Int32Array;

  constructor(memory: CacheMemory, locks: Locks) {
    this.i32 = memory.i32;
    this.locks = locks;
    this.pagesByte = memory.layout.pagesByte;
    this.pagesMax = memory.layout.pagesMax;
    const sizes = slabSizes(memory.config);
    this.largest = sizes.length;
    this.sizes = Int32Array.of(0, ...sizes);
  }

  /** Writes the classes into fresh cache memory: once, by the main thread. */
  initialise(): void {
    for (let clsid = 1; clsid <= this.largest; clsid++) {
      const at = W_SLABS + clsid * SLAB_WORDS;
      this.i32[at + SLAB_SIZE] = this.sizes[clsid];
      this.i32[at + SLAB_PER_PAGE] = Math.floor(PAGE_BYTES / this.sizes[clsid]);
    }
  }

  /** The smallest class whose chunks hold `bytes`; the largest class for everything above. */
  classFor(bytes: number): number {
    const sizes = this.sizes;
    let low = 1;
    let high = this.largest;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sizes[middle] < bytes) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  sizeOf(clsid: number): number {
    return this.sizes[clsid];
  }

  /** Takes a chunk of the class. 0: there is none, and the memory limit allows no further page. */
  allocate(clsid: number): number {
    this.locks.lockFine(W_LOCK_SLABS);
    const ref = this.take(clsid);
    this.locks.unlockFine(W_LOCK_SLABS);
    return ref;
  }

  private take(clsid: number): number {
    const i32 = this.i32;
    const at = W_SLABS + clsid * SLAB_WORDS;
    const head = i32[at + SLAB_FREE_HEAD];
    if (head !== 0) {
      i32[at + SLAB_FREE_HEAD] = i32[head * 2 + I_NEXT];
      i32[at + SLAB_FREE_COUNT] = i32[at + SLAB_FREE_COUNT] - 1;
      i32[head * 2 + I_META] = 0;
      return head;
    }
    if (i32[at + SLAB_CARVE_LEFT] === 0 && !this.addPage(clsid)) return 0;
    const ref = i32[at + SLAB_CARVE_REF];
    i32[at + SLAB_CARVE_REF] = ref + i32[at + SLAB_SIZE] / CHUNK_ALIGN_BYTES;
    i32[at + SLAB_CARVE_LEFT] = i32[at + SLAB_CARVE_LEFT] - 1;
    return ref;
  }

  private addPage(clsid: number): boolean {
    const i32 = this.i32;
    const at = W_SLABS + clsid * SLAB_WORDS;
    const used = i32[W_PAGES_USED];
    // A class that has no page yet gets one even above the limit, or nothing of its size could ever be stored.
    if (used >= this.pagesMax || (used >= i32[W_PAGES_LIMIT] && i32[at + SLAB_PAGES] !== 0)) return false;
    i32[W_PAGES_USED] = used + 1;
    i32[W_PAGE_CLASS + used] = clsid;
    i32[at + SLAB_PAGES] = i32[at + SLAB_PAGES] + 1;
    i32[at + SLAB_CARVE_REF] = (this.pagesByte + used * PAGE_BYTES) / CHUNK_ALIGN_BYTES;
    i32[at + SLAB_CARVE_LEFT] = i32[at + SLAB_PER_PAGE];
    return true;
  }

  /** Gives a chunk back to its class. */
  free(ref: number, clsid: number): void {
    const i32 = this.i32;
    const at = W_SLABS + clsid * SLAB_WORDS;
    this.locks.lockFine(W_LOCK_SLABS);
    i32[ref * 2 + I_META] = ITEM_SLABBED | (clsid << CLASS_SHIFT);
    i32[ref * 2 + I_NEXT] = i32[at + SLAB_FREE_HEAD];
    i32[at + SLAB_FREE_HEAD] = ref;
    i32[at + SLAB_FREE_COUNT] = i32[at + SLAB_FREE_COUNT] + 1;
    this.locks.unlockFine(W_LOCK_SLABS);
  }
}
