/**
 * Slab allocator: pages of 1 MiB cut into chunks of a class's size, as memcached cuts them.
 *
 * Invariant: every chunk of every page that a class owns is exactly one of: in its class's free list, in the uncut rest
 * of the class's newest page, set aside for the page mover, or in use. A page is cut lazily, so memory is touched as it is
 * needed. A page that no class owns is in the pool, or was given back because the limit was lowered.
 * Guard: W_LOCK_SLABS in striped mode. Not its job: what is in a chunk, making room (items.ts), moving pages (mover.ts).
 */
import {
  type CacheConfig,
  type CacheMemory,
  CHUNK_ALIGN_BYTES,
  CLASS_SHIFT,
  I_META,
  I_NEXT,
  I_PREV,
  ITEM_FETCHED,
  ITEM_SLABBED,
  MC_ITEM_HEADER_BYTES,
  PAGE_BYTES,
  PAGE_POOL,
  PAGE_RELEASED,
  SLAB_CARVE_LEFT,
  SLAB_CARVE_REF,
  SLAB_CLASSES_MAX,
  SLAB_FREE_COUNT,
  SLAB_FREE_HEAD,
  SLAB_PAGES,
  SLAB_PER_PAGE,
  SLAB_SIZE,
  SLAB_WORDS,
  W_BACKGROUND_WAKE,
  W_LOCK_SLABS,
  W_MOVE_DST,
  W_MOVE_PAGE,
  W_MOVE_RUNNING,
  W_MOVE_SRC,
  W_PAGE_CLASS,
  W_PAGES_LIMIT,
  W_PAGES_POOL,
  W_PAGES_RELEASED,
  W_PAGES_USED,
  W_SLABS,
} from './layout.ts';
import type { Locks } from './locks.ts';

/** Chunk sizes of the classes 1, 2, … for a configuration: memcached's, number for number. */
export function slabSizes(config: CacheConfig): number[] {
  const sizes: number[] = [...config.slabSizes];
  if (sizes.length > 0) return [...sizes.slice(0, SLAB_CLASSES_MAX - 2), config.slabChunkMax];
  let size = MC_ITEM_HEADER_BYTES + config.chunkSizeMin;
  while (sizes.length < SLAB_CLASSES_MAX - 2 && size < config.slabChunkMax / config.growthFactor) {
    size = Math.ceil(size / CHUNK_ALIGN_BYTES) * CHUNK_ALIGN_BYTES;
    sizes.push(size);
    size = Math.floor(size * config.growthFactor);
  }
  sizes.push(config.slabChunkMax);
  return sizes;
}

/** Marks of a chunk that the page mover has taken out of its class. */
export const SET_ASIDE = ITEM_SLABBED | ITEM_FETCHED;

/** What `requestMove` answers. */
export const MOVE_OK = 0;
export const MOVE_RUNNING = 1;
export const MOVE_BADCLASS = 2;
export const MOVE_NOSPARE = 3;
export const MOVE_SAME = 4;

export class Slabs {
  /** The class of the largest chunks. */
  readonly largest: number;
  /** Gives memory that nobody uses back to the system: offset and bytes. */
  discard: (offset: number, bytes: number) => void = () => {};
  private readonly i32: Int32Array;
  private readonly locks: Locks;
  private readonly pagesByte: number;
  private readonly pagesMax: number;
  private readonly sizes: Int32Array;
  private turn = 0;

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
    const free = this.takeOwned(clsid);
    return free !== 0 || !this.addPage(clsid) ? free : this.takeOwned(clsid);
  }

  /** A chunk of a page that the class has already; 0: there is none. Under the slabs lock. */
  takeOwned(clsid: number): number {
    const i32 = this.i32;
    const at = W_SLABS + clsid * SLAB_WORDS;
    const head = i32[at + SLAB_FREE_HEAD];
    if (head !== 0) {
      const next = i32[head * 2 + I_NEXT];
      i32[at + SLAB_FREE_HEAD] = next;
      if (next !== 0) i32[next * 2 + I_PREV] = 0;
      i32[at + SLAB_FREE_COUNT] = i32[at + SLAB_FREE_COUNT] - 1;
      i32[head * 2 + I_META] = 0;
      i32[head * 2 + I_PREV] = -this.locks.owner;
      return head;
    }
    if (i32[at + SLAB_CARVE_LEFT] === 0) return 0;
    const ref = i32[at + SLAB_CARVE_REF];
    // The page may have held other things before: until it is marked as something, a chunk is nothing.
    i32[ref * 2 + I_META] = 0;
    i32[ref * 2 + I_PREV] = -this.locks.owner;
    i32[at + SLAB_CARVE_LEFT] = i32[at + SLAB_CARVE_LEFT] - 1;
    i32[at + SLAB_CARVE_REF] = ref + i32[at + SLAB_SIZE] / CHUNK_ALIGN_BYTES;
    return ref;
  }

  private addPage(clsid: number): boolean {
    const i32 = this.i32;
    let page = this.pageOf(PAGE_POOL, W_PAGES_POOL);
    if (page < 0) {
      // A class that has no page yet gets one even above the limit, or nothing of its size could ever be stored.
      if (this.mallocedPages() >= i32[W_PAGES_LIMIT] && i32[W_SLABS + clsid * SLAB_WORDS + SLAB_PAGES] !== 0)
        return false;
      page = this.pageOf(PAGE_RELEASED, W_PAGES_RELEASED);
      if (page < 0) {
        page = i32[W_PAGES_USED];
        if (page >= this.pagesMax) return false;
        i32[W_PAGES_USED] = page + 1;
      }
    }
    this.givePage(page, clsid);
    return true;
  }

  /** Takes a page that is counted at `word` and marked as `kind`; -1: there is none. */
  private pageOf(kind: number, word: number): number {
    const i32 = this.i32;
    if (i32[word] === 0) return -1;
    for (let page = 0; page < i32[W_PAGES_USED]; page++) {
      if (i32[W_PAGE_CLASS + page] !== kind) continue;
      i32[word] = i32[word] - 1;
      return page;
    }
    throw new Error(`page table: ${i32[word]} pages of kind ${kind} are counted and none is there`);
  }

  /** Makes a page that nobody owns the one that a class cuts next. Under the slabs lock. */
  givePage(page: number, clsid: number): void {
    const i32 = this.i32;
    const at = W_SLABS + clsid * SLAB_WORDS;
    // What is left uncut of the page before goes to the free list.
    const step = i32[at + SLAB_SIZE] / CHUNK_ALIGN_BYTES;
    while (i32[at + SLAB_CARVE_LEFT] > 0) {
      this.freeLocked(i32[at + SLAB_CARVE_REF], clsid);
      i32[at + SLAB_CARVE_REF] = i32[at + SLAB_CARVE_REF] + step;
      i32[at + SLAB_CARVE_LEFT] = i32[at + SLAB_CARVE_LEFT] - 1;
    }
    i32[W_PAGE_CLASS + page] = clsid;
    i32[at + SLAB_PAGES] = i32[at + SLAB_PAGES] + 1;
    i32[at + SLAB_CARVE_REF] = (this.pagesByte + page * PAGE_BYTES) / CHUNK_ALIGN_BYTES;
    i32[at + SLAB_CARVE_LEFT] = i32[at + SLAB_PER_PAGE];
  }

  /** Gives every class its first page. False: the memory limit allows less. Before anybody stores. */
  preallocate(): boolean {
    for (let clsid = 1; clsid <= this.largest; clsid++)
      if (this.mallocedPages() >= this.i32[W_PAGES_LIMIT] || !this.addPage(clsid)) return false;
    return true;
  }

  /** Pages that count against the memory limit. */
  mallocedPages(): number {
    return this.i32[W_PAGES_USED] - this.i32[W_PAGES_RELEASED];
  }

  /** Whether a sixteenth of the memory at least is in no class yet. */
  isAmple(): boolean {
    const limit = this.i32[W_PAGES_LIMIT];
    return (limit - this.mallocedPages() + this.i32[W_PAGES_POOL]) * 16 >= limit;
  }

  /** Gives pages of the pool back to the system while there are more pages than the limit allows. */
  releasePool(): void {
    const i32 = this.i32;
    while (this.mallocedPages() > i32[W_PAGES_LIMIT]) {
      const page = this.pageOf(PAGE_POOL, W_PAGES_POOL);
      if (page < 0) return;
      i32[W_PAGE_CLASS + page] = PAGE_RELEASED;
      i32[W_PAGES_RELEASED] = i32[W_PAGES_RELEASED] + 1;
      this.discard(this.pagesByte + page * PAGE_BYTES, PAGE_BYTES);
    }
  }

  /** `cache_memlimit`, in bytes. False: there are no addresses for that much. */
  setLimit(bytes: number): boolean {
    const pages = Math.floor(bytes / PAGE_BYTES);
    if (pages > this.pagesMax - SLAB_CLASSES_MAX) return false;
    this.locks.lockCache();
    this.locks.lockFine(W_LOCK_SLABS);
    this.i32[W_PAGES_LIMIT] = pages;
    this.releasePool();
    this.locks.unlockFine(W_LOCK_SLABS);
    this.locks.unlockCache();
    return true;
  }

  /** Gives a chunk back to its class. */
  free(ref: number, clsid: number): void {
    this.locks.lockFine(W_LOCK_SLABS);
    this.freeLocked(ref, clsid);
    this.locks.unlockFine(W_LOCK_SLABS);
  }

  /** As `free`, under the slabs lock. */
  freeLocked(ref: number, clsid: number): void {
    const i32 = this.i32;
    const moving = i32[W_MOVE_PAGE];
    if (moving >= 0 && ref >= this.pageStart(moving) && ref < this.pageStart(moving + 1)) {
      this.setAside(ref, clsid);
      return;
    }
    const at = W_SLABS + clsid * SLAB_WORDS;
    const head = i32[at + SLAB_FREE_HEAD];
    i32[ref * 2 + I_META] = ITEM_SLABBED | (clsid << CLASS_SHIFT);
    i32[ref * 2 + I_NEXT] = head;
    i32[ref * 2 + I_PREV] = 0;
    if (head !== 0) i32[head * 2 + I_PREV] = ref;
    i32[at + SLAB_FREE_HEAD] = ref;
    i32[at + SLAB_FREE_COUNT] = i32[at + SLAB_FREE_COUNT] + 1;
  }

  /** Marks a chunk of the page that is on its way: it is not the class's any more. */
  setAside(ref: number, clsid: number): void {
    this.i32[ref * 2 + I_META] = SET_ASIDE | (clsid << CLASS_SHIFT);
  }

  /** Takes one certain chunk out of its class's free list. Under the slabs lock. */
  unfree(ref: number, clsid: number): void {
    const i32 = this.i32;
    const at = W_SLABS + clsid * SLAB_WORDS;
    const next = i32[ref * 2 + I_NEXT];
    const prev = i32[ref * 2 + I_PREV];
    if (prev !== 0) i32[prev * 2 + I_NEXT] = next;
    else i32[at + SLAB_FREE_HEAD] = next;
    if (next !== 0) i32[next * 2 + I_PREV] = prev;
    i32[at + SLAB_FREE_COUNT] = i32[at + SLAB_FREE_COUNT] - 1;
  }

  pageStart(page: number): number {
    return (this.pagesByte + page * PAGE_BYTES) / CHUNK_ALIGN_BYTES;
  }

  /**
   * Asks for a page of class `src` (0: the pool; -1: any) to go to `dst` (0: the pool). The background work does it; one
   * at a time.
   */
  requestMove(src: number, dst: number): number {
    const { i32 } = this;
    if (src === dst) return MOVE_SAME;
    if (Atomics.compareExchange(i32, W_MOVE_RUNNING, 0, -this.locks.owner) !== 0) return MOVE_RUNNING;
    const from = src === -1 ? this.anySource(dst) : src;
    let result = MOVE_OK;
    if (from < 0 || from > this.largest || dst < 0 || dst > this.largest) result = MOVE_BADCLASS;
    else if ((from === PAGE_POOL ? i32[W_PAGES_POOL] : i32[W_SLABS + from * SLAB_WORDS + SLAB_PAGES]) < 2) {
      result = MOVE_NOSPARE;
    }
    if (result === MOVE_OK) {
      i32[W_MOVE_SRC] = from;
      i32[W_MOVE_DST] = dst;
      i32[W_MOVE_PAGE] = -1;
    }
    Atomics.store(i32, W_MOVE_RUNNING, result === MOVE_OK ? 1 : 0);
    if (result === MOVE_OK) {
      Atomics.add(i32, W_BACKGROUND_WAKE, 1);
      Atomics.notify(i32, W_BACKGROUND_WAKE);
    }
    return result;
  }

  /** The next class with a page to spare, in turn. */
  private anySource(dst: number): number {
    for (let tries = this.largest; tries > 0; tries--) {
      this.turn = this.turn >= this.largest ? 1 : this.turn + 1;
      if (this.turn !== dst && this.i32[W_SLABS + this.turn * SLAB_WORDS + SLAB_PAGES] > 1) return this.turn;
    }
    return -1;
  }
}
