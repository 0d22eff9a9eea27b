/**
 * Maintainer: the background work of the cache, in short steps.
 *
 * What it is for: it keeps the LRU lists of each slab class in shape (HOT and WARM within their share, active items
 * rescued from COLD, expired ones given back), decides when the crawler should look for expired items and when a page
 * should change its class, and runs both.
 * `step` does what is due and says how long nothing will be. How often a class is looked at adapts to how much there was
 * to do: from a millisecond to a second, as memcached does it.
 * Invariant: between two steps it holds no lock, and a step's work is bounded.
 * Not its job: which thread it runs on (../background.ts), what moving an item means (items.ts).
 */
import { Automove } from './automove.ts';
import type { Cache } from './cache.ts';
import { CRAWL_BACKGROUND, Crawler, HISTOGRAM_MINUTES } from './crawler.ts';
import { PULL_CRAWL_BLOCKS } from './items.ts';
import {
  CLASS_MASK,
  COLD_LRU,
  D_HOT_MAX_FACTOR,
  D_MAINTAINER_JUGGLES,
  D_WARM_MAX_FACTOR,
  HOT_LRU,
  I_TIME,
  LRU_LISTS,
  SLAB_CLASSES_MAX,
  TEMP_LRU,
  W_CRAWLER_ENABLED,
  W_CRAWLER_SLEEP,
  W_CRAWLER_TOCRAWL,
  W_LRU_SEGMENTED,
  W_MAINTAINER_ENABLED,
  W_SLAB_AUTOMOVE,
  W_SLAB_REASSIGN,
  W_TEMP_LRU,
  W_TIME,
  WARM_LRU,
} from './layout.ts';
import { Mover } from './mover.ts';
import { MOVE_OK } from './slabs.ts';

const SLEEP_US_MIN = 1000;
const SLEEP_US_MAX = 999_999;
/** Moves of one class in one step. */
const MOVES_MAX = 500;
/** Items between two rests of the crawler. */
const CRAWL_ITEMS = 1000;
/** Chunks of a page that is on its way in one step, and the rest after it. */
const MOVE_CHUNKS = 512;
const MOVE_SLEEP_US = 100;
const CRAWL_WAIT_SECONDS_MAX = 3600;
const CRAWL_RETRY_SECONDS = 5;
/** By segment. */
const LRU_NAMES = ['hot', 'warm', 'cold', 'temp'];

export class Maintainer {
  readonly crawler: Crawler;
  readonly mover: Mover;
  private readonly automove: Automove;
  private readonly cache: Cache;
  private readonly i32: Int32Array;
  private readonly f64: Float64Array;
  private readonly nextUs = new Float64Array(SLAB_CLASSES_MAX);
  private readonly backoffUs = new Float64Array(SLAB_CLASSES_MAX);
  private readonly nextCrawl = new Float64Array(LRU_LISTS);
  private readonly nextCrawlWait = new Float64Array(LRU_LISTS);
  private readonly movesMax: number;
  private readonly easyMovesMax: number;
  /** The class that is looked at next. */
  private turn = 1;
  private lastCrawlCheck = 0;
  private lastAutomove = 0;
  private juggledUs = 0;
  private nextJuggleUs = 0;

  /**
   * `movesMax`: about how many items one step moves, in all classes; what is left is for the next. `easyMovesMax`: likewise, as
   * long as memory is ample. Nothing is evicted for a while then, so it does not matter if WARM holds more than its share, and
   * under a load that warms items all the time moving each of them at once would cost some hundredths of the server.
   */
  constructor(cache: Cache, movesMax = Number.POSITIVE_INFINITY, easyMovesMax = movesMax) {
    this.cache = cache;
    this.movesMax = movesMax;
    this.easyMovesMax = easyMovesMax;
    this.i32 = cache.memory.i32;
    this.f64 = cache.memory.f64;
    this.crawler = new Crawler(cache);
    this.mover = new Mover(cache);
    this.automove = new Automove(cache);
  }

  /** Does what is due at `nowUs` (a monotonic clock, microseconds). Microseconds until it should be called again. */
  step(nowUs: number): number {
    let sleepUs = SLEEP_US_MAX;
    if (this.i32[W_MAINTAINER_ENABLED] !== 0) {
      if (nowUs >= this.nextJuggleUs) {
        const elapsed = Math.max(SLEEP_US_MIN, Math.min(nowUs - this.juggledUs, SLEEP_US_MAX));
        this.juggledUs = nowUs;
        this.nextJuggleUs = nowUs + Math.max(SLEEP_US_MIN, this.juggleAll(elapsed));
      }
      sleepUs = this.nextJuggleUs - nowUs;
      if (this.i32[W_CRAWLER_ENABLED] !== 0 && this.lastCrawlCheck !== this.i32[W_TIME]) {
        this.lastCrawlCheck = this.i32[W_TIME];
        this.considerCrawl();
      }
      if (
        this.i32[W_SLAB_REASSIGN] !== 0 &&
        this.i32[W_SLAB_AUTOMOVE] === 1 &&
        this.lastAutomove !== this.i32[W_TIME] &&
        !this.mover.running
      ) {
        this.automove.decide();
        const { src, dst } = this.automove;
        // What nobody needs goes back to the pool as fast as it can be moved.
        if (dst === 0) sleepUs = SLEEP_US_MIN;
        else this.lastAutomove = this.i32[W_TIME];
        if (src >= 0 && this.cache.slabs.requestMove(src, dst) === MOVE_OK) {
          this.cache.items.log?.system(`type=slab_move src=${src} dst=${dst}`);
        }
      }
    }
    if (this.mover.running) {
      this.mover.step(MOVE_CHUNKS);
      sleepUs = this.mover.running ? MOVE_SLEEP_US : sleepUs;
    }
    if (this.crawler.running === CRAWL_BACKGROUND && this.crawler.step(CRAWL_ITEMS)) {
      sleepUs = Math.min(sleepUs, this.i32[W_CRAWLER_SLEEP]);
    }
    return sleepUs;
  }

  private juggleAll(elapsedUs: number): number {
    const { nextUs, backoffUs } = this;
    this.f64[D_MAINTAINER_JUGGLES] += 1;
    let sleepUs = SLEEP_US_MAX;
    const { slabs } = this.cache;
    let left = slabs.isAmple() ? this.easyMovesMax : this.movesMax;
    const { largest } = slabs;
    for (let clsid = 1; clsid <= largest; clsid++) nextUs[clsid] = Math.max(0, nextUs[clsid] - elapsedUs);
    for (let i = 0; i < largest; i++) {
      const clsid = this.turn;
      if (nextUs[clsid] === 0) {
        // The rest has its turn first in the next step.
        if (left <= 0) return 0;
        let backoff = backoffUs[clsid];
        const moves = this.juggle(clsid, Math.min(left, MOVES_MAX));
        left -= moves;
        if (moves === 0) {
          backoff = backoff === 0 ? SLEEP_US_MIN : Math.min(backoff + backoff / 8, SLEEP_US_MAX);
        } else {
          backoff /= 2;
          if (backoff < SLEEP_US_MIN) backoff = 0;
        }
        backoffUs[clsid] = backoff;
        nextUs[clsid] = backoff;
      }
      if (nextUs[clsid] < sleepUs) sleepUs = nextUs[clsid];
      this.turn = clsid === largest ? 1 : clsid + 1;
    }
    return sleepUs;
  }

  /** Brings the lists of one class nearer to what they should be. How many moves that took. */
  juggle(clsid: number, movesMax = MOVES_MAX): number {
    const { i32, f64 } = this;
    const { lru } = this.cache;
    let moves = 0;
    if (i32[W_TEMP_LRU] !== 0 || lru.count(clsid | TEMP_LRU) !== 0) {
      while (moves < movesMax && this.pull(clsid, TEMP_LRU, 0, 0) > 0) moves++;
    }
    let totalBytes = 0;
    let hotAge = 0;
    let warmAge = 0;
    const segmented = i32[W_LRU_SEGMENTED] !== 0;
    if (segmented) {
      const tail = lru.tail(clsid | COLD_LRU);
      const coldAge = tail === 0 ? 0 : i32[W_TIME] - i32[tail * 2 + I_TIME];
      totalBytes = lru.bytes(clsid | HOT_LRU) + lru.bytes(clsid | WARM_LRU) + lru.bytes(clsid | COLD_LRU);
      hotAge = coldAge * f64[D_HOT_MAX_FACTOR];
      warmAge = coldAge * f64[D_WARM_MAX_FACTOR];
    }
    for (let i = 0; i < movesMax; i++) {
      let more =
        this.pull(clsid, HOT_LRU, totalBytes, hotAge) > 0 || this.pull(clsid, WARM_LRU, totalBytes, warmAge) > 0;
      if (segmented && this.pull(clsid, COLD_LRU, totalBytes, 0) > 0) more = true;
      if (!more) break;
      moves++;
    }
    return moves;
  }

  private pull(clsid: number, segment: number, totalBytes: number, maxAge: number): number {
    const { locks, lru, items } = this.cache;
    if (lru.tail(clsid | segment) === 0) return 0;
    locks.lockCache();
    const moved = items.pullTail(clsid, segment, totalBytes, segment === TEMP_LRU ? 0 : PULL_CRAWL_BLOCKS, maxAge);
    locks.unlockCache();
    return moved;
  }

  /**
   * Starts a crawl of the lists whose turn it is. After a crawl a list waits the longer the fewer of its items are
   * going to expire: a minute more each time that less than a hundredth would within the present wait.
   */
  private considerCrawl(): void {
    const now = this.i32[W_TIME];
    const due: number[] = [];
    let itemsMax = 0;
    for (let list = 1; list < LRU_LISTS; list++) {
      const stats = this.crawler.stats[list]!;
      if (stats.complete) {
        stats.complete = false;
        const enough = Math.floor((stats.seen - stats.noExpiry) / 100) + 1;
        let expiring = 0;
        let wait = this.nextCrawlWait[list];
        for (let minute = 0; minute < HISTOGRAM_MINUTES; minute++) {
          expiring += stats.histogram[minute];
          if (expiring <= enough) continue;
          if (wait < minute * 60) wait += 60;
          else if (wait >= 60) wait -= 60;
          break;
        }
        if (expiring === 0) wait += 60;
        this.nextCrawlWait[list] = Math.min(wait, CRAWL_WAIT_SECONDS_MAX);
        this.nextCrawl[list] = now + this.nextCrawlWait[list] + CRAWL_RETRY_SECONDS;
        this.cache.items.log?.system(
          `type=lru_crawler crawler=${list & CLASS_MASK} lru=${LRU_NAMES[list >> 6]} low_mark=${enough} ` +
            `next_reclaims=${expiring} since_run=${now - stats.endTime} next_run=${this.nextCrawl[list] - now} ` +
            `elapsed=${stats.endTime - stats.startTime} examined=${stats.seen} reclaimed=${stats.reclaimed}`,
        );
      }
      if (now > this.nextCrawl[list]) {
        const count = this.cache.lru.count(list);
        this.nextCrawl[list] = now + CRAWL_RETRY_SECONDS;
        if (count === 0) continue;
        itemsMax = Math.max(itemsMax, count);
        due.push(list);
      }
    }
    if (due.length === 0) return;
    const most = this.i32[W_CRAWLER_TOCRAWL];
    this.crawler.begin(due, most !== 0 && most < itemsMax ? most : itemsMax, CRAWL_BACKGROUND);
  }
}
