/**
 * LRU crawler: goes along LRU lists from tail to head, takes out what has expired, and counts when the rest will.
 *
 * What it is for: `lru_crawler crawl`, the maintainer's own crawls, and `metadump`. There is one crawl at a time in a
 * cache, whoever runs it: W_CRAWLER_RUNNING is its owner, the cursors stand in the LRU lists.
 * Invariant: a step looks at a bounded number of items and holds no lock when it returns.
 * Not its job: when to crawl (maintainer.ts), what a dump looks like (dump.ts).
 */
import { strtoul32 } from '../strtol.ts';
import type { Cache } from './cache.ts';
import {
  CLASS_MASK,
  D_CRAWLER_STARTS,
  I_EXPTIME,
  LRU_CURSOR,
  LRU_LISTS,
  LRU_TAIL,
  LRU_WORDS,
  SLAB_CLASSES_MAX,
  W_BACKGROUND_WAKE,
  W_CRAWL_LEFT,
  W_CRAWLER_RUNNING,
  W_LRU,
  W_TIME,
} from './layout.ts';

/** W_CRAWLER_RUNNING: nobody crawls. Otherwise one of these, and the thread that it depends on << CRAWL_OWNER_SHIFT. */
const IDLE = 0;
/** Somebody set a crawl up that the background work shall run. */
export const CRAWL_BACKGROUND = 1;
/** A dump runs on a worker. */
export const CRAWL_DUMP = 2;
/** A crawl is being set up. */
const CRAWL_BEGINS = 3;
export const CRAWL_OWNER_SHIFT = 8;

/** Minutes that the histogram of expiries tells apart. */
export const HISTOGRAM_MINUTES = 60;
const ALL_ITEMS = 0x7fff_ffff;

/** The lists that `all` or a list of slab classes (`1,2,5`) names, or undefined where one of them cannot be. */
export function parseLists(text: string): number[] | undefined {
  const lists: number[] = [];
  const classes =
    text === 'all' ? Array.from({ length: SLAB_CLASSES_MAX - 1 }, (_, i) => String(i + 1)) : text.split(',');
  for (const name of classes) {
    if (name === '') continue;
    const clsid = strtoul32(name) ?? 0;
    if (clsid < 1 || clsid >= SLAB_CLASSES_MAX) return undefined;
    for (let list = clsid; list < LRU_LISTS; list += SLAB_CLASSES_MAX) lists.push(list);
  }
  return lists;
}

/** What a crawl found in one list. */
export interface CrawlerStats {
  /** Items that expire in each of the next minutes. */
  histogram: Float64Array;
  seen: number;
  noExpiry: number;
  reclaimed: number;
  /** Seconds on the cache's clock. */
  startTime: number;
  /** Seconds on the cache's clock; `complete` until the maintainer has drawn its conclusions. */
  endTime: number;
  complete: boolean;
}

export class Crawler {
  /** By list; of the crawls that ran on this thread. */
  readonly stats: CrawlerStats[] = Array.from({ length: LRU_LISTS }, () => ({
    histogram: new Float64Array(HISTOGRAM_MINUTES + 1),
    seen: 0,
    noExpiry: 0,
    reclaimed: 0,
    startTime: 0,
    endTime: 0,
    complete: false,
  }));
  private readonly cache: Cache;
  private readonly i32: Int32Array;

  constructor(cache: Cache) {
    this.cache = cache;
    this.i32 = cache.memory.i32;
  }

  /** Puts the cursors at the tails of these lists. False: a crawl is running already. */
  begin(lists: readonly number[], itemsMax: number, kind: number): boolean {
    const { cache, i32 } = this;
    const owner = cache.thread << CRAWL_OWNER_SHIFT;
    if (Atomics.compareExchange(i32, W_CRAWLER_RUNNING, IDLE, CRAWL_BEGINS | owner) !== IDLE) return false;
    cache.locks.lockCache();
    for (const list of lists) {
      const at = W_LRU + list * LRU_WORDS;
      cache.locks.lockLru(list & CLASS_MASK);
      i32[at + LRU_CURSOR] = i32[at + LRU_TAIL];
      cache.locks.unlockLru(list & CLASS_MASK);
      const stats = this.stats[list]!;
      stats.histogram.fill(0);
      stats.seen = 0;
      stats.noExpiry = 0;
      stats.reclaimed = 0;
      stats.complete = false;
      stats.startTime = i32[W_TIME]!;
    }
    cache.memory.f64[D_CRAWLER_STARTS] += 1;
    cache.locks.unlockCache();
    i32[W_CRAWL_LEFT] = itemsMax === 0 ? ALL_ITEMS : itemsMax;
    Atomics.store(i32, W_CRAWLER_RUNNING, kind === CRAWL_BACKGROUND ? kind : kind | owner);
    if (kind === CRAWL_BACKGROUND) {
      Atomics.add(i32, W_BACKGROUND_WAKE, 1);
      Atomics.notify(i32, W_BACKGROUND_WAKE);
    }
    return true;
  }

  get running(): number {
    return Atomics.load(this.i32, W_CRAWLER_RUNNING);
  }

  /** Ends the crawl, wherever it is. */
  end(): void {
    const { cache, i32 } = this;
    cache.locks.lockCache();
    for (let list = 0; list < LRU_LISTS; list++) {
      const at = W_LRU + list * LRU_WORDS + LRU_CURSOR;
      if (i32[at] === 0) continue;
      cache.locks.lockLru(list & CLASS_MASK);
      i32[at] = 0;
      cache.locks.unlockLru(list & CLASS_MASK);
    }
    cache.locks.unlockCache();
    Atomics.store(i32, W_CRAWLER_RUNNING, IDLE);
  }

  /** Looks at up to `itemsMax` items, one of each list in turn. False: the crawl is through. */
  step(itemsMax: number): boolean {
    const { cache, i32 } = this;
    const { items, locks } = cache;
    let left = itemsMax;
    while (left > 0) {
      let busy = false;
      for (let list = 0; list < LRU_LISTS; list++) {
        if (i32[W_LRU + list * LRU_WORDS + LRU_CURSOR] === 0) continue;
        busy = true;
        left--;
        locks.lockCache();
        const found = items.crawlNext(list, true);
        if (found > 2) {
          this.count(list, found);
          items.crawlDone(found);
        } else if (found === 2) {
          this.stats[list]!.reclaimed++;
        }
        const through = i32[W_LRU + list * LRU_WORDS + LRU_CURSOR] === 0;
        locks.unlockCache();
        if (through) this.complete(list);
      }
      if (!busy || --i32[W_CRAWL_LEFT] <= 0) {
        for (let list = 0; list < LRU_LISTS; list++) {
          if (i32[W_LRU + list * LRU_WORDS + LRU_CURSOR] !== 0) this.complete(list);
        }
        this.end();
        return false;
      }
    }
    return true;
  }

  private complete(list: number): void {
    const stats = this.stats[list]!;
    stats.endTime = this.i32[W_TIME];
    stats.complete = true;
  }

  private count(list: number, ref: number): void {
    const stats = this.stats[list]!;
    const exptime = this.i32[ref * 2 + I_EXPTIME];
    stats.seen++;
    if (exptime === 0) stats.noExpiry++;
    else {
      const minute = Math.floor((exptime - this.i32[W_TIME]) / 60);
      stats.histogram[Math.min(minute, HISTOGRAM_MINUTES)]! += 1;
    }
  }
}
