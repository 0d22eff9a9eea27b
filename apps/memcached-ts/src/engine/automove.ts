/**
 * Automover: decides whether a page should go from one slab class to another. It is asked once a second, and again at once
 * after a page for the pool: what nobody needs goes back as fast as it can be moved.
 *
 * What it is for: `slab_automove` 1. Over a window of seconds it keeps, for each class, how old the tail of COLD is and
 * whether the class evicted, ran out of memory or grew. A class with more than two and a half pages of free chunks, and a
 * quiet window, gives a page to the pool. A class that evicted in more than half of the window, or had more than a quarter
 * of all evictions in it, and whose items live less than `automoveRatio` of the oldest class's, gets a page of that class.
 * As memcached's default algorithm does it.
 * Not its job: moving the page (mover.ts).
 */
import type { Cache } from './cache.ts';
import {
  COLD_LRU,
  D_SLAB_AUTOMOVE_RATIO,
  I_TIME,
  SLAB_CARVE_LEFT,
  SLAB_CLASSES_MAX,
  SLAB_FREE_COUNT,
  SLAB_PAGES,
  SLAB_PER_PAGE,
  SLAB_WORDS,
  W_SLAB_AUTOMOVE_WINDOW,
  W_SLABS,
  W_TIME,
} from './layout.ts';
import { L_EVICTED, L_OUTOFMEMORY, lruCounter } from './stats.ts';

const PAGES_FREE_MIN = 2.5;
const PAGES_FOR_SOURCE_MIN = 2;
const SHARE_MIN = 0.25;

export class Automove {
  /** The last decision: source and destination class (0: the pool), or -1. */
  src = -1;
  dst = -1;
  private readonly cache: Cache;
  private window = 0;
  /** Seconds since the window began to fill. */
  private seconds = 0;
  // Per class and second of the window.
  private ages = new Float64Array(0);
  private dirty = new Uint8Array(0);
  private evicting = new Uint8Array(0);
  /** Of all evictions of that second. */
  private share = new Float64Array(0);
  // Per class, a second ago.
  private readonly evicted = new Float64Array(SLAB_CLASSES_MAX);
  private readonly outOfMemory = new Float64Array(SLAB_CLASSES_MAX);
  private readonly pages = new Int32Array(SLAB_CLASSES_MAX);

  constructor(cache: Cache) {
    this.cache = cache;
  }

  private resize(window: number): void {
    this.window = window;
    this.seconds = 0;
    this.ages = new Float64Array(SLAB_CLASSES_MAX * window);
    this.dirty = new Uint8Array(SLAB_CLASSES_MAX * window);
    this.evicting = new Uint8Array(SLAB_CLASSES_MAX * window);
    this.share = new Float64Array(SLAB_CLASSES_MAX * window);
  }

  /** Takes in what happened since the last call; `src` and `dst` say what should be done now. */
  decide(): void {
    const { cache } = this;
    const { memory, lru } = cache;
    const { i32, f64 } = memory;
    if (this.window !== i32[W_SLAB_AUTOMOVE_WINDOW]) this.resize(i32[W_SLAB_AUTOMOVE_WINDOW]!);
    const { window } = this;
    const slot = ++this.seconds % window;
    this.src = this.dst = -1;
    let oldest = -1;
    let oldestAge = 0;
    let youngest = -1;
    let youngestAge = Number.POSITIVE_INFINITY;
    let youngestEvicts = false;
    let evictions = 0;
    for (let clsid = 1; clsid <= cache.slabs.largest; clsid++) {
      evictions += lruCounter(memory, clsid, L_EVICTED) - this.evicted[clsid]!;
    }
    for (let clsid = 1; clsid <= cache.slabs.largest; clsid++) {
      const at = W_SLABS + clsid * SLAB_WORDS;
      const from = clsid * window;
      const now = from + slot;
      const evicted = lruCounter(memory, clsid, L_EVICTED) - this.evicted[clsid]!;
      const outOfMemory = lruCounter(memory, clsid, L_OUTOFMEMORY);
      const pages = i32[at + SLAB_PAGES]!;
      const evicts = evicted > 0;
      this.evicting[now] = evicts ? 1 : 0;
      this.share[now] = evicts ? evicted / evictions : 0;
      this.dirty[now] = evicts || outOfMemory > this.outOfMemory[clsid]! || pages > this.pages[clsid]! ? 1 : 0;
      const tail = lru.tail(clsid | COLD_LRU);
      this.ages[now] = tail === 0 ? 0 : i32[W_TIME]! - i32[tail * 2 + I_TIME]!;
      this.evicted[clsid]! += evicted;
      this.outOfMemory[clsid] = outOfMemory;
      this.pages[clsid] = pages;
      let age = 0;
      let dirtySeconds = 0;
      let evictingSeconds = 0;
      let share = 0;
      for (let i = from; i < from + window; i++) {
        age += this.ages[i]!;
        dirtySeconds += this.dirty[i]!;
        evictingSeconds += this.evicting[i]!;
        share += this.share[i]!;
      }
      age = Math.floor(age / window);
      share /= window;
      const free = i32[at + SLAB_FREE_COUNT]! + i32[at + SLAB_CARVE_LEFT]!;
      if (this.src < 0 && free > i32[at + SLAB_PER_PAGE]! * PAGES_FREE_MIN && dirtySeconds === 0) {
        this.src = clsid;
        this.dst = 0;
      }
      if (age > oldestAge && pages > PAGES_FOR_SOURCE_MIN) {
        oldest = clsid;
        oldestAge = age;
      }
      if (age < youngestAge && (evictingSeconds > Math.floor(window / 2) || share > SHARE_MIN)) {
        youngest = clsid;
        youngestAge = age;
        youngestEvicts = evicts;
      }
    }
    if (this.src >= 0 || oldest < 0 || youngest < 0 || this.seconds <= window) return;
    if (youngestEvicts && youngestAge < oldestAge * f64[D_SLAB_AUTOMOVE_RATIO]!) {
      this.src = oldest;
      this.dst = youngest;
    }
  }
}
