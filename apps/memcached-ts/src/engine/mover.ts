/**
 * Page mover: empties a page of one slab class, so that another class, or the pool, can have it.
 *
 * What it is for: `slabs reassign` and the automover. A page is gone over again and again, a few chunks a step: free chunks
 * are taken out of the free list, and what is freed meanwhile does not go back there; an item that nobody holds moves with everything that points to it to another chunk of
 * its class, or is evicted when there is none. What somebody holds waits for the next round, and is taken out of the
 * cache after many, so that it is freed when its holder is done.
 * Invariants: a chunk is moved only under its item's lock and while the cache's own reference is the only one, so no
 * reader ever sees it half moved; between two steps no lock is held. Not its job: which page goes where (automove.ts).
 */
import type { Cache } from './cache.ts';
import {
  C_HEAD,
  C_NEXT,
  CHUNK_ALIGN_BYTES,
  CLASS_SHIFT,
  D_BUSY_DELETES,
  D_BUSY_ITEMS,
  D_CHUNK_RESCUES,
  D_EVICTIONS_NOMEM,
  D_INLINE_RECLAIM,
  D_RESCUES,
  D_SLABS_MOVED,
  I_EXPTIME,
  I_META,
  I_REFCOUNT,
  ITEM_CHUNK,
  ITEM_CHUNKED,
  ITEM_FETCHED,
  ITEM_LINKED,
  ITEM_SLABBED,
  LOCK_STRIDE_WORDS,
  PAGE_BYTES,
  PAGE_POOL,
  SLAB_CARVE_LEFT,
  SLAB_CARVE_REF,
  SLAB_PAGES,
  SLAB_PER_PAGE,
  SLAB_SIZE,
  SLAB_WORDS,
  T_FIRST_CHUNK,
  W_LOCK_SLABS,
  W_MOVE_DST,
  W_MOVE_PAGE,
  W_MOVE_RUNNING,
  W_MOVE_SRC,
  W_PAGE_CLASS,
  W_PAGES_POOL,
  W_PAGES_USED,
  W_SLABS,
  W_TIME,
  W_UNLINKING,
} from './layout.ts';
import { SET_ASIDE } from './slabs.ts';

/** Rounds over a page before items that are held all the time are taken out of the cache. */
const PATIENCE_ROUNDS = 1000;

export class Mover {
  private readonly cache: Cache;
  private readonly i32: Int32Array;
  private readonly f64: Float64Array;
  /** Place in the page, chunks done in this round, and rounds that got nowhere. */
  private next = 0;
  private done = 0;
  private rounds = 0;

  constructor(cache: Cache) {
    this.cache = cache;
    this.i32 = cache.memory.i32;
    this.f64 = cache.memory.f64;
  }

  get running(): boolean {
    return Atomics.load(this.i32, W_MOVE_RUNNING) === 1;
  }

  /** Looks at up to `chunksMax` chunks. False: there is nothing (more) to move. */
  step(chunksMax: number): boolean {
    if (!this.running) return false;
    const { i32, cache } = this;
    const { slabs, locks } = cache;
    const src = i32[W_MOVE_SRC];
    if (i32[W_MOVE_PAGE] < 0 && !this.begin(src)) return false;
    const page = i32[W_MOVE_PAGE];
    if (src === PAGE_POOL) return this.finish(page, src);
    const perPage = i32[W_SLABS + src * SLAB_WORDS + SLAB_PER_PAGE];
    const words = i32[W_SLABS + src * SLAB_WORDS + SLAB_SIZE] / CHUNK_ALIGN_BYTES;
    const first = slabs.pageStart(page);
    for (let i = 0; i < chunksMax; i++) {
      locks.lockCache();
      if (this.empty(first + this.next * words, src, page)) this.done++;
      locks.unlockCache();
      if (++this.next < perPage) continue;
      if (this.done === perPage) return this.finish(page, src);
      this.next = 0;
      this.done = 0;
      this.rounds++;
      // What is left is held by somebody, or there is no room for it: give others the time to change that.
      return true;
    }
    return true;
  }

  /** Chooses the page: any but the one that the class is cutting. */
  private begin(src: number): boolean {
    const { i32, cache } = this;
    this.next = 0;
    this.done = 0;
    this.rounds = 0;
    cache.locks.lockCache();
    cache.locks.lockFine(W_LOCK_SLABS);
    const at = W_SLABS + src * SLAB_WORDS;
    let chosen = -1;
    if (src === PAGE_POOL || i32[at + SLAB_PAGES] > 1) {
      for (let page = 0; page < i32[W_PAGES_USED] && chosen < 0; page++) {
        if (i32[W_PAGE_CLASS + page] !== src) continue;
        const first = cache.slabs.pageStart(page);
        const cutting = i32[at + SLAB_CARVE_REF] - first;
        if (
          src !== PAGE_POOL &&
          i32[at + SLAB_CARVE_LEFT] > 0 &&
          cutting >= 0 &&
          cutting < PAGE_BYTES / CHUNK_ALIGN_BYTES
        ) {
          continue;
        }
        chosen = page;
      }
    }
    i32[W_MOVE_PAGE] = chosen;
    if (chosen < 0) Atomics.store(i32, W_MOVE_RUNNING, 0);
    cache.locks.unlockFine(W_LOCK_SLABS);
    cache.locks.unlockCache();
    return chosen >= 0;
  }

  /** Nothing of the class is in the page any more: it changes hands. */
  private finish(page: number, src: number): false {
    const { i32, cache } = this;
    const { slabs, locks } = cache;
    const dst = i32[W_MOVE_DST];
    // Nobody knows this memory now; it shall not keep what clients stored.
    if (src !== PAGE_POOL) {
      const start = slabs.pageStart(page) * CHUNK_ALIGN_BYTES;
      cache.memory.u8.fill(0, start, start + PAGE_BYTES);
    }
    locks.lockCache();
    locks.lockFine(W_LOCK_SLABS);
    if (src === PAGE_POOL) i32[W_PAGES_POOL] = i32[W_PAGES_POOL] - 1;
    else i32[W_SLABS + src * SLAB_WORDS + SLAB_PAGES] = i32[W_SLABS + src * SLAB_WORDS + SLAB_PAGES] - 1;
    if (dst === PAGE_POOL) {
      i32[W_PAGE_CLASS + page] = PAGE_POOL;
      i32[W_PAGES_POOL] = i32[W_PAGES_POOL] + 1;
      slabs.releasePool();
    } else {
      slabs.givePage(page, dst);
    }
    i32[W_MOVE_PAGE] = -1;
    locks.unlockFine(W_LOCK_SLABS);
    locks.unlockCache();
    this.f64[D_SLABS_MOVED] += 1;
    Atomics.store(i32, W_MOVE_RUNNING, 0);
    return false;
  }

  /** Gives up: what was taken out of the page goes back to its class. */
  private abandon(page: number, src: number): void {
    const { i32, cache } = this;
    const at = W_SLABS + src * SLAB_WORDS;
    const words = i32[at + SLAB_SIZE] / CHUNK_ALIGN_BYTES;
    cache.locks.lockFine(W_LOCK_SLABS);
    i32[W_MOVE_PAGE] = -1;
    cache.locks.unlockFine(W_LOCK_SLABS);
    for (let i = 0, ref = cache.slabs.pageStart(page); i < i32[at + SLAB_PER_PAGE]; i++, ref += words) {
      if (i32[ref * 2 + I_META] === (SET_ASIDE | (src << CLASS_SHIFT))) cache.slabs.free(ref, src);
    }
    Atomics.store(i32, W_MOVE_RUNNING, 0);
  }

  /** Ends a move that is under way, before it is through: for a cache that comes to rest. */
  stop(): void {
    const { i32, cache } = this;
    if (!this.running) return;
    cache.locks.lockCache();
    if (i32[W_MOVE_PAGE] >= 0 && i32[W_MOVE_SRC] !== PAGE_POOL) this.abandon(i32[W_MOVE_PAGE], i32[W_MOVE_SRC]);
    else Atomics.store(i32, W_MOVE_RUNNING, 0);
    cache.locks.unlockCache();
  }

  /** Makes one chunk of the page free of use. False: not now. */
  private empty(ref: number, src: number, page: number): boolean {
    const { i32, cache } = this;
    const { locks, slabs, assoc } = cache;
    locks.lockFine(W_LOCK_SLABS);
    // Under the slabs lock a chunk is neither allocated nor freed.
    const meta = i32[ref * 2 + I_META];
    if ((meta & ITEM_SLABBED) !== 0) {
      if ((meta & ITEM_FETCHED) === 0) {
        slabs.unfree(ref, src);
        slabs.setAside(ref, src);
      }
      locks.unlockFine(W_LOCK_SLABS);
      return true;
    }
    const item = (meta & ITEM_CHUNK) === 0 ? ref : i32[ref * 2 + C_HEAD];
    if (meta === 0 || (i32[item * 2 + I_META] & ITEM_LINKED) === 0) {
      locks.unlockFine(W_LOCK_SLABS);
      this.f64[D_BUSY_ITEMS] += 1;
      return false;
    }
    const hash = assoc.hashOf(item);
    if (!locks.tryItem(hash)) {
      locks.unlockFine(W_LOCK_SLABS);
      this.f64[D_BUSY_ITEMS] += 1;
      return false;
    }
    // It may have been taken out of the cache before we had its lock. If not, it stays for as long as we hold that.
    const linked = (i32[item * 2 + I_META] & ITEM_LINKED) !== 0;
    locks.unlockFine(W_LOCK_SLABS);
    const emptied = linked && this.rescue(ref, item, hash, src, page);
    locks.untryItem(hash);
    return emptied;
  }

  /** For a chunk of a linked item, under the item's lock. */
  private rescue(ref: number, item: number, hash: number, src: number, page: number): boolean {
    const { i32, f64, cache } = this;
    const { items, assoc, lru } = cache;
    const now = i32[W_TIME];
    const exptime = i32[item * 2 + I_EXPTIME];
    if ((exptime !== 0 && exptime <= now) || items.isFlushed(item, now)) {
      f64[D_INLINE_RECLAIM] += 1;
      items.unlink(item, hash);
      return false;
    }
    if (i32[item * 2 + I_REFCOUNT] > 1) {
      f64[D_BUSY_ITEMS] += 1;
      if (this.rounds > PATIENCE_ROUNDS) {
        f64[D_BUSY_DELETES] += 1;
        items.unlink(item, hash);
      }
      return false;
    }
    const fresh = this.allocateElsewhere(src, page);
    if (fresh === 0) {
      if (cache.memory.config.evictions) {
        f64[D_EVICTIONS_NOMEM] += 1;
        items.unlink(item, hash);
      }
      return false;
    }
    const from = ref * CHUNK_ALIGN_BYTES;
    // Should this thread die now, the copy is nobody's.
    const copying = W_UNLINKING + cache.thread * LOCK_STRIDE_WORDS;
    i32[copying] = fresh;
    cache.memory.u8.copyWithin(fresh * CHUNK_ALIGN_BYTES, from, from + cache.slabs.sizeOf(src));
    if (ref !== item) {
      let link = items.trailerWord(item) + T_FIRST_CHUNK;
      while (i32[link] !== ref) link = i32[link] * 2 + C_NEXT;
      i32[link] = fresh;
      f64[D_CHUNK_RESCUES] += 1;
    } else {
      if ((i32[ref * 2 + I_META] & ITEM_CHUNKED) !== 0) {
        for (let chunk = items.firstChunk(fresh); chunk !== 0; chunk = items.nextChunk(chunk)) {
          i32[chunk * 2 + C_HEAD] = fresh;
        }
      }
      lru.replace(ref, fresh);
      assoc.replace(ref, fresh, hash);
      f64[D_RESCUES] += 1;
    }
    cache.slabs.setAside(ref, src);
    i32[copying] = 0;
    return true;
  }

  /** A chunk of the class in another page; 0: there is none. */
  private allocateElsewhere(src: number, page: number): number {
    const { i32, cache } = this;
    const first = cache.slabs.pageStart(page);
    const end = first + PAGE_BYTES / CHUNK_ALIGN_BYTES;
    const { locks, slabs } = cache;
    locks.lockFine(W_LOCK_SLABS);
    let ref = slabs.takeOwned(src);
    while (ref >= first && ref < end) {
      slabs.setAside(ref, src);
      ref = slabs.takeOwned(src);
    }
    locks.unlockFine(W_LOCK_SLABS);
    if (ref !== 0) i32[ref * 2 + I_META] = 0;
    return ref;
  }
}
