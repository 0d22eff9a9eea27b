/**
 * Repair: makes the cache sound again after a thread died in the middle of anything.
 *
 * What is guaranteed: nobody waits for a dead thread's locks; no chunk is lost; no item is half changed. Items that the
 * dead thread may have been changing are forgotten: those under the item locks that it held (1 in 1,024 of all keys for
 * each), or all of them where it held the cache's one lock. Everything else stays, and what others hold stays theirs.
 * How: everything that a lock guards is written so that it can be read forwards at any moment (lists by their next
 * links, chains by theirs). First the LRU and slab locks of the dead are taken over, the lists under them put right, and
 * let go, so that whoever waits for them in the middle of an operation can end it. Then all locks are taken, in the
 * order in which everybody takes them; now nobody is in an operation on a linked item, and every chunk is judged anew
 * from its own marks: who took it, who holds it, whether it is linked. Tables, lists and counts are made from that.
 * Not its job: noticing that a thread died (main.ts).
 */
import type { Cache } from './cache.ts';
import { CRAWL_BACKGROUND, CRAWL_OWNER_SHIFT } from './crawler.ts';
import {
  C_HEAD,
  D_LRU_BYTES,
  D_SIZES_CAS_MIN,
  HELD_WORDS,
  I_HASH_NEXT,
  I_META,
  I_NEXT,
  I_PREV,
  I_REFCOUNT,
  ITEM_CHUNK,
  ITEM_CHUNKED,
  ITEM_LINKED,
  ITEM_LOCKS,
  ITEM_SLABBED,
  LOCK_STRIDE_WORDS,
  LRU_COUNT,
  LRU_CURSOR,
  LRU_HEAD,
  LRU_LISTS,
  LRU_TAIL,
  LRU_WORDS,
  PAGE_BYTES,
  PAGE_POOL,
  PAGE_RELEASED,
  SIZES_BUCKET_BYTES,
  SLAB_CARVE_LEFT,
  SLAB_CARVE_REF,
  SLAB_CLASSES_MAX,
  SLAB_FREE_COUNT,
  SLAB_FREE_HEAD,
  SLAB_PAGES,
  SLAB_PER_PAGE,
  SLAB_SIZE,
  SLAB_WORDS,
  W_CRAWLER_RUNNING,
  W_HASH_BUCKETS,
  W_HASH_ITEMS,
  W_HELD,
  W_ITEM_LOCKS,
  W_LOCK_CACHE,
  W_LOCK_CAS,
  W_LOCK_HASH,
  W_LOCK_SLABS,
  W_LRU,
  W_LRU_LOCKS,
  W_MOVE_PAGE,
  W_MOVE_RUNNING,
  W_PAGE_CLASS,
  W_PAGES_POOL,
  W_PAGES_RELEASED,
  W_PAGES_USED,
  W_SIZES_ENABLED,
  W_SLABS,
  W_STORING,
  W_UNLINKING,
} from './layout.ts';
import { WAITERS } from './locks.ts';
import { SET_ASIDE } from './slabs.ts';

/** What happened to a cache, for the log. */
export interface RepairReport {
  kept: number;
  forgotten: number;
  /** Chunks that were in nobody's hands any more. */
  reclaimed: number;
}

// What a chunk turns out to be.
const UNKNOWN = 0;
const UNCUT = 1;
const KEPT = 2;
/** In the hands of a thread that lives. */
const HELD = 3;
const FREE = 4;
// Where a linked item was found, beside its state.
const IN_HASH = 16;
const IN_LRU = 32;
const WRONG_LIST = 64;
const STATE = 15;

const WAIT_MS = 1;

export interface RepairOptions {
  /** Threads that are gone. More may be added between two attempts. */
  dead: Set<number>;
  /** Threads that go on; what carries another's mark is free. */
  alive: Set<number>;
  /** No locks are used (one worker): then a dead one may have been changing anything. */
  lockless: boolean;
  /** The thread of the background work, which goes on with its crawl and its move where it is alive. */
  background: number;
  /** This thread's number as an owner of locks: of no other thread. */
  owner: number;
}

/** Repairs the cache after the death of threads, however long that takes. The caller must not hold a lock. */
export function repair(cache: Cache, options: RepairOptions): RepairReport {
  return new Repair(cache, options).attempt(Number.POSITIVE_INFINITY)!;
}

export class Repair {
  private readonly cache: Cache;
  private readonly options: RepairOptions;
  private readonly i32: Int32Array;
  /** Item locks that the dead held. */
  private readonly lostStripes = new Set<number>();
  private lostAll: boolean;
  /** Words that this thread has locked, in order; of each whether it was a dead thread's. */
  private readonly taken = new Map<number, boolean>();
  private giveUpAt = 0;
  /** One byte for each possible chunk of each page that a class owns. */
  private readonly states: (Uint8Array | undefined)[] = [];
  private readonly deadRefs = new Map<number, number>();
  private readonly storing = new Set<number>();
  private readonly unlinking = new Set<number>();

  constructor(cache: Cache, options: RepairOptions) {
    this.cache = cache;
    this.options = options;
    this.i32 = cache.memory.i32;
    this.lostAll = options.lockless;
  }

  /**
   * Repairs the cache. Undefined where somebody who is thought to live did not let go of a lock for `waitMs`: perhaps he
   * has died meanwhile, and the caller will learn of it. Then everybody else can go on, and it is to be tried again.
   */
  attempt(waitMs: number): RepairReport | undefined {
    this.giveUpAt = performance.now() + waitMs;
    this.takeOver();
    if (!this.stop()) {
      for (const [word, deads] of [...this.taken].reverse()) {
        if (deads) continue;
        this.let(word);
        this.taken.delete(word);
      }
      return undefined;
    }
    const report = this.rebuild();
    for (const word of [...this.taken.keys()].reverse()) this.let(word);
    this.taken.clear();
    return report;
  }

  // ---- locks -----------------------------------------------------------------------------------------------------

  private ownerOf(word: number): number {
    return Atomics.load(this.i32, word) & ~WAITERS;
  }

  private isDeads(word: number): boolean {
    const owner = this.ownerOf(word);
    return owner !== 0 && this.options.dead.has(owner);
  }

  private let(word: number): void {
    Atomics.store(this.i32, word, 0);
    Atomics.notify(this.i32, word);
  }

  /** Locks of the dead that somebody may wait for in the middle of an operation: the lists under them, then the lock. */
  private takeOver(): void {
    for (let clsid = 1; clsid < SLAB_CLASSES_MAX; clsid++) {
      const word = W_LRU_LOCKS + clsid * LOCK_STRIDE_WORDS;
      if (!this.isDeads(word)) continue;
      for (let list = clsid; list < LRU_LISTS; list += SLAB_CLASSES_MAX) this.straightenList(list);
      this.let(word);
    }
    if (this.isDeads(W_LOCK_SLABS)) {
      for (let clsid = 1; clsid <= this.cache.slabs.largest; clsid++) this.straightenClass(clsid);
      this.let(W_LOCK_SLABS);
    }
    if (this.isDeads(W_LOCK_CAS)) this.let(W_LOCK_CAS);
  }

  /** A list whose next links are whole: back links, tail, counts. */
  private straightenList(list: number): void {
    const { i32, cache } = this;
    const at = W_LRU + list * LRU_WORDS;
    let prev = 0;
    let count = 0;
    let bytes = 0;
    let cursor = 0;
    for (let ref = i32[at + LRU_HEAD]!; ref !== 0; ref = i32[ref * 2 + I_NEXT]!) {
      i32[ref * 2 + I_PREV] = prev;
      if (ref === i32[at + LRU_CURSOR]) cursor = ref;
      prev = ref;
      count++;
      bytes += cache.items.totalBytes(ref);
    }
    i32[at + LRU_TAIL] = prev;
    i32[at + LRU_COUNT] = count;
    i32[at + LRU_CURSOR] = cursor;
    cache.memory.f64[D_LRU_BYTES + list] = bytes;
  }

  /** The free list, the count of pages, and the page that is being cut, of one class. */
  private straightenClass(clsid: number): void {
    const { i32, cache } = this;
    const at = W_SLABS + clsid * SLAB_WORDS;
    let prev = 0;
    let count = 0;
    for (let ref = i32[at + SLAB_FREE_HEAD]!; ref !== 0; ref = i32[ref * 2 + I_NEXT]!) {
      i32[ref * 2 + I_PREV] = prev;
      prev = ref;
      count++;
    }
    i32[at + SLAB_FREE_COUNT] = count;
    let pages = 0;
    let left = 0;
    const words = i32[at + SLAB_SIZE]! / 8;
    for (let page = 0; page < i32[W_PAGES_USED]!; page++) {
      if (i32[W_PAGE_CLASS + page] !== clsid) continue;
      pages++;
      const cut = (i32[at + SLAB_CARVE_REF]! - cache.slabs.pageStart(page)) / words;
      if (i32[at + SLAB_CARVE_LEFT]! > 0 && cut >= 0 && cut < i32[at + SLAB_PER_PAGE]!) {
        left = Math.min(i32[at + SLAB_CARVE_LEFT]!, i32[at + SLAB_PER_PAGE]! - cut);
      }
    }
    i32[at + SLAB_PAGES] = pages;
    i32[at + SLAB_CARVE_LEFT] = left;
  }

  /** Takes a lock, from the dead at once, from the living when they are done. False: that took too long. */
  private take(word: number): boolean {
    if (this.taken.has(word)) return true;
    for (;;) {
      const held = Atomics.load(this.i32, word);
      const owner = held & ~WAITERS;
      const deads = owner !== 0 && this.options.dead.has(owner);
      if (owner === 0 || deads) {
        if (Atomics.compareExchange(this.i32, word, held, this.options.owner) !== held) continue;
        this.taken.set(word, deads);
        return true;
      }
      if (performance.now() > this.giveUpAt) return false;
      Atomics.wait(this.i32, word, held, WAIT_MS);
    }
  }

  /** Takes every lock, in the order in which everybody takes them. False: somebody did not let go. */
  private stop(): boolean {
    if (this.options.lockless) return true;
    if (!this.take(W_LOCK_CACHE)) return false;
    if (this.taken.get(W_LOCK_CACHE) === true) this.lostAll = true;
    for (let stripe = 0; stripe < ITEM_LOCKS; stripe++) {
      const word = W_ITEM_LOCKS + stripe * LOCK_STRIDE_WORDS;
      if (!this.take(word)) return false;
      if (this.taken.get(word) === true) this.lostStripes.add(stripe);
    }
    for (let clsid = 0; clsid < SLAB_CLASSES_MAX; clsid++) {
      if (!this.take(W_LRU_LOCKS + clsid * LOCK_STRIDE_WORDS)) return false;
    }
    return this.take(W_LOCK_HASH) && this.take(W_LOCK_SLABS) && this.take(W_LOCK_CAS);
  }

  // ---- chunks ----------------------------------------------------------------------------------------------------

  private pageOf(ref: number): number {
    return Math.floor((ref * 8 - this.cache.memory.layout.pagesByte) / PAGE_BYTES);
  }

  /** Place of a chunk in its page, or -1 where `ref` names none. */
  private indexOf(ref: number): number {
    const { i32 } = this;
    const page = this.pageOf(ref);
    if (page < 0 || page >= i32[W_PAGES_USED]! || this.states[page] === undefined) return -1;
    const at = W_SLABS + i32[W_PAGE_CLASS + page]! * SLAB_WORDS;
    const index = (ref - this.cache.slabs.pageStart(page)) / (i32[at + SLAB_SIZE]! / 8);
    return Number.isInteger(index) && index < i32[at + SLAB_PER_PAGE]! ? index : -1;
  }

  private stateOf(ref: number): number {
    const index = this.indexOf(ref);
    return index < 0 ? -1 : this.states[this.pageOf(ref)]![index]!;
  }

  private setState(ref: number, state: number): void {
    this.states[this.pageOf(ref)]![this.indexOf(ref)] = state;
  }

  /** Calls `visit` for every chunk of every page that a class owns, but for what is uncut. */
  private eachChunk(visit: (ref: number, state: number, clsid: number) => void): void {
    const { i32 } = this;
    for (const [page, states] of this.states.entries()) {
      if (states === undefined) continue;
      const clsid = i32[W_PAGE_CLASS + page]!;
      const words = i32[W_SLABS + clsid * SLAB_WORDS + SLAB_SIZE]! / 8;
      const first = this.cache.slabs.pageStart(page);
      for (let i = 0; i < states.length; i++) {
        if ((states[i]! & STATE) !== UNCUT) visit(first + i * words, states[i]!, clsid);
      }
    }
  }

  /** References that the dead hold. */
  private countDeadRefs(): void {
    const { i32 } = this;
    for (const thread of this.options.dead) {
      const from = W_HELD + thread * HELD_WORDS;
      for (let i = from; i < from + HELD_WORDS; i++) {
        const ref = i32[i]!;
        if (ref > 0) this.deadRefs.set(ref, (this.deadRefs.get(ref) ?? 0) + 1);
        i32[i] = 0;
      }
      // It was storing this one: where that has been linked, the reference of its `alloc` is still to be given back.
      // It was taking this one out: where that is in no list any more, the cache's own reference is.
      for (const at of [W_STORING, W_UNLINKING]) {
        const ref = i32[at + thread * LOCK_STRIDE_WORDS]!;
        i32[at + thread * LOCK_STRIDE_WORDS] = 0;
        if (ref > 0) (at === W_STORING ? this.storing : this.unlinking).add(ref);
      }
    }
  }

  private rebuild(): RepairReport {
    const { i32, cache, options } = this;
    const { items, assoc, slabs, memory } = cache;
    const backgroundAlive = options.alive.has(options.background);
    this.preparePages();
    this.countDeadRefs();
    if (!backgroundAlive && Atomics.load(i32, W_MOVE_RUNNING) === 1) {
      i32[W_MOVE_PAGE] = -1;
      Atomics.store(i32, W_MOVE_RUNNING, 0);
    }
    if (options.dead.has(-Atomics.load(i32, W_MOVE_RUNNING))) Atomics.store(i32, W_MOVE_RUNNING, 0);
    const crawl = Atomics.load(i32, W_CRAWLER_RUNNING);
    if (crawl === CRAWL_BACKGROUND ? !backgroundAlive : options.dead.has(crawl >> CRAWL_OWNER_SHIFT)) {
      Atomics.store(i32, W_CRAWLER_RUNNING, 0);
    }

    const isNoItem = (ref: number): boolean => (i32[ref * 2 + I_META]! & (ITEM_SLABBED | ITEM_CHUNK)) !== 0;
    // What is linked is in a chain, and in the list that it names. Others that are met were on their way in or out.
    const buckets = i32[W_HASH_BUCKETS]!;
    // One bucket more: the one that a split which did not end was filling.
    for (let bucket = 0; bucket <= Math.min(buckets, memory.layout.bucketsMax - 1); bucket++) {
      for (let ref = i32[memory.layout.hashWord + bucket]!; ref !== 0; ref = i32[ref * 2 + I_HASH_NEXT]!) {
        const state = this.stateOf(ref);
        if (state < 0 || (state & IN_HASH) !== 0 || isNoItem(ref)) break;
        this.setState(ref, state | IN_HASH);
      }
    }
    for (let list = 0; list < LRU_LISTS; list++) {
      for (let ref = i32[W_LRU + list * LRU_WORDS + LRU_HEAD]!; ref !== 0; ref = i32[ref * 2 + I_NEXT]!) {
        const state = this.stateOf(ref);
        if (state < 0 || (state & IN_LRU) !== 0 || isNoItem(ref)) break;
        this.setState(ref, state | IN_LRU | (items.listOf(ref) === list ? 0 : WRONG_LIST));
      }
    }
    const report: RepairReport = { kept: 0, forgotten: 0, reclaimed: 0 };
    const heldStill: number[] = [];
    this.eachChunk((ref, state) => {
      const meta = i32[ref * 2 + I_META]!;
      if ((state & (IN_HASH | IN_LRU)) === 0) return;
      const lost = this.lostAll || this.lostStripes.has(assoc.hashOf(ref) & (ITEM_LOCKS - 1));
      const gone = (this.deadRefs.get(ref) ?? 0) + (this.storing.has(ref) ? 1 : 0);
      if (!lost && (meta & ITEM_LINKED) !== 0 && (state & ~STATE) === (IN_HASH | IN_LRU)) {
        this.setState(ref, state | KEPT);
        this.takeRefs(ref, gone, 1);
        report.kept++;
        return;
      }
      report.forgotten++;
      i32[ref * 2 + I_META] = meta & ~ITEM_LINKED;
      const left = this.takeRefs(ref, gone + 1, 0);
      this.setState(ref, state | (left > 0 ? HELD : FREE));
      // Its links are needed until the lists have been made anew.
      if (left > 0) heldStill.push(ref);
    });

    // Everything else that is not in a free list: whose is it?
    this.eachChunk((ref, state) => {
      const meta = i32[ref * 2 + I_META]!;
      if ((state & STATE) !== UNKNOWN || (meta & ITEM_CHUNK) !== 0) return;
      if ((meta & ITEM_SLABBED) !== 0) {
        const aside = (meta & SET_ASIDE) === SET_ASIDE && backgroundAlive;
        this.setState(ref, aside ? HELD : FREE);
        return;
      }
      const mark = i32[ref * 2 + I_PREV]!;
      let stays: boolean;
      if (mark < 0) stays = options.alive.has(-mark);
      else if (meta === 0) stays = false;
      else {
        // The cache's own reference is left where the dead was taking it out, or had just put a copy in its place (mover.ts).
        const linked = (meta & ITEM_LINKED) !== 0;
        if (linked) i32[ref * 2 + I_META] = meta & ~ITEM_LINKED;
        // What it stored may have been taken out by another thread before it gave back the reference of its `alloc`.
        const own = (this.storing.has(ref) ? 1 : 0) + (linked || this.unlinking.has(ref) ? 1 : 0);
        const gone = (this.deadRefs.get(ref) ?? 0) + own;
        // Where none of the dead's is among them, the living who have them will give it back, perhaps at this moment.
        stays = options.alive.size > 0 && (gone === 0 || this.takeRefs(ref, gone, 0) > 0);
      }
      this.setState(ref, stays ? HELD : FREE);
      if (!stays) report.reclaimed++;
    });
    // Chunks of chunked items go with their heads.
    this.eachChunk((ref, state) => {
      if ((state & STATE) !== KEPT || (i32[ref * 2 + I_META]! & ITEM_CHUNKED) === 0) return;
      for (let chunk = items.firstChunk(ref); chunk !== 0; chunk = items.nextChunk(chunk)) this.setState(chunk, KEPT);
    });
    this.eachChunk((ref, state) => {
      if ((state & STATE) !== UNKNOWN) return;
      const head = i32[ref * 2 + C_HEAD]!;
      const stays = this.indexOf(head) >= 0 && (this.stateOf(head) & STATE) === HELD;
      this.setState(ref, stays ? HELD : FREE);
      if (!stays) report.reclaimed++;
    });

    this.relink();
    for (const ref of heldStill) {
      i32[ref * 2 + I_NEXT] = 0;
      // Not the mark of one who is giving it back at this moment.
      const prev = i32[ref * 2 + I_PREV]!;
      if (prev > 0) Atomics.compareExchange(i32, ref * 2 + I_PREV, prev, 0);
    }
    for (let clsid = 1; clsid <= slabs.largest; clsid++) {
      i32[W_SLABS + clsid * SLAB_WORDS + SLAB_FREE_HEAD] = 0;
      i32[W_SLABS + clsid * SLAB_WORDS + SLAB_FREE_COUNT] = 0;
    }
    this.eachChunk((ref, state, clsid) => {
      if ((state & STATE) === FREE) slabs.freeLocked(ref, clsid);
    });
    return report;
  }

  /**
   * Takes `gone` references of an item away; how many are left. The living give theirs back at the same time, without a
   * lock. Where nobody lives, `least` are left.
   */
  private takeRefs(ref: number, gone: number, least: number): number {
    const at = ref * 2 + I_REFCOUNT;
    if (this.options.alive.size === 0) return (this.i32[at] = least);
    return gone === 0 ? this.i32[at]! : Atomics.sub(this.i32, at, gone) - gone;
  }

  /** Counts the pages, and makes room for what their chunks turn out to be. */
  private preparePages(): void {
    const { i32, cache } = this;
    let pool = 0;
    let released = 0;
    for (let page = 0; page < i32[W_PAGES_USED]!; page++) {
      const clsid = i32[W_PAGE_CLASS + page]!;
      if (clsid === PAGE_POOL) pool++;
      else if (clsid === PAGE_RELEASED) released++;
      this.states[page] = clsid > 0 ? new Uint8Array(i32[W_SLABS + clsid * SLAB_WORDS + SLAB_PER_PAGE]!) : undefined;
    }
    i32[W_PAGES_POOL] = pool;
    i32[W_PAGES_RELEASED] = released;
    for (let clsid = 1; clsid <= cache.slabs.largest; clsid++) {
      this.straightenClass(clsid);
      const at = W_SLABS + clsid * SLAB_WORDS;
      for (let i = 0; i < i32[at + SLAB_CARVE_LEFT]!; i++) {
        this.setState(i32[at + SLAB_CARVE_REF]! + (i * i32[at + SLAB_SIZE]!) / 8, UNCUT);
      }
    }
  }

  /** Makes the lists and the hash table of the items that are kept. */
  private relink(): void {
    const { i32, cache } = this;
    const { assoc, items, memory } = cache;
    const { layout } = memory;
    const counting = i32[W_SIZES_ENABLED] !== 0;
    if (counting) {
      i32.fill(0, layout.sizesWord, layout.sizesWord + layout.sizesBuckets);
      // All are counted below, those too that were there before somebody asked for it.
      memory.f64[D_SIZES_CAS_MIN] = 0;
    }
    for (let list = 0; list < LRU_LISTS; list++) {
      const at = W_LRU + list * LRU_WORDS;
      const cursor = i32[at + LRU_CURSOR]!;
      let nextCursor = 0;
      let prev = 0;
      let count = 0;
      let bytes = 0;
      let ref = i32[at + LRU_HEAD]!;
      i32[at + LRU_HEAD] = 0;
      while (ref !== 0) {
        const state = this.stateOf(ref);
        // As far as the list was read before, and no item twice.
        if (state < 0 || (state & IN_LRU) === 0) break;
        this.setState(ref, state & ~IN_LRU);
        const next = i32[ref * 2 + I_NEXT]!;
        if ((state & STATE) === KEPT) {
          i32[ref * 2 + I_PREV] = prev;
          i32[ref * 2 + I_NEXT] = 0;
          if (prev === 0) i32[at + LRU_HEAD] = ref;
          else i32[prev * 2 + I_NEXT] = ref;
          prev = ref;
          count++;
          const size = items.totalBytes(ref);
          bytes += size;
          const bucket = Math.min(Math.ceil(size / SIZES_BUCKET_BYTES), layout.sizesBuckets - 1);
          if (counting) i32[layout.sizesWord + bucket] = i32[layout.sizesWord + bucket]! + 1;
        }
        // Where the crawl stood, or the next item towards the head.
        if (ref === cursor) nextCursor = prev;
        ref = next;
      }
      i32[at + LRU_TAIL] = prev;
      i32[at + LRU_COUNT] = count;
      i32[at + LRU_CURSOR] = Atomics.load(i32, W_CRAWLER_RUNNING) === 0 ? 0 : nextCursor;
      memory.f64[D_LRU_BYTES + list] = bytes;
    }
    i32.fill(0, layout.hashWord, layout.hashWord + Math.min(i32[W_HASH_BUCKETS]! + 1, layout.bucketsMax));
    let count = 0;
    this.eachChunk((ref, state) => {
      if ((state & STATE) !== KEPT || (i32[ref * 2 + I_META]! & ITEM_CHUNK) !== 0) return;
      const bucket = layout.hashWord + assoc.bucketOf(assoc.hashOf(ref));
      i32[ref * 2 + I_HASH_NEXT] = i32[bucket]!;
      i32[bucket] = ref;
      count++;
    });
    i32[W_HASH_ITEMS] = count;
  }
}
