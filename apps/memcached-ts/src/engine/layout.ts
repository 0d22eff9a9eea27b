/**
 * Where everything stands in the one SharedArrayBuffer that is the cache.
 *
 * What it is for: the offsets of every global word, lock, counter and item field, and the views over them.
 * Invariant: all state of the cache is in this memory, as integers and doubles, so any thread that maps it serves every
 * key. An item or chunk is named by a *ref*: its byte offset divided by 8 (0 = none), which keeps refs small integers
 * up to 16 GiB. Not its job: behaviour.
 *
 *   | words | item locks | LRU locks | slab classes | LRU lists | doubles | thread stats | page table | hash table | sizes | pages |
 */

/** Chunks and items start on multiples of this, and a ref counts in units of it. */
export const CHUNK_ALIGN_BYTES = 8;
export const PAGE_BYTES = 1024 * 1024;
/** Most that item memory can be: what refs can name, less the rest of the layout. */
export const MEMORY_BYTES_MAX = 15 * 1024 * PAGE_BYTES;
export const SLAB_CLASSES_MAX = 64;
/** LRU lists: slab class | segment << 6. */
export const LRU_LISTS = 256;
export const HOT_LRU = 0;
export const WARM_LRU = 64;
export const COLD_LRU = 128;
export const TEMP_LRU = 192;
export const KEY_BYTES_MAX = 250;
/** Threads at most, the main thread (0) included. */
export const THREADS_MAX = 128;

// Global words. Those written often by several threads have a cache line (16 words) of their own.
export const W_TIME = 0;
export const W_OLDEST_LIVE = 1;
export const W_VERBOSITY = 2;
export const W_HASH_SEED = 3;
export const W_ACCEPTING = 4;
export const W_PAGES_USED = 5;
export const W_PAGES_LIMIT = 6;
/** `watch`: kinds of log lines that somebody wants (a bit each), how many watch, how many watch each kind. */
export const W_LOG_FLAGS = 7;
export const W_LOG_WATCHERS = 8;
export const W_LOG_COUNTS = 9;
export const W_HASH_BUCKETS = 16;
export const W_HASH_ITEMS = 32;
export const W_CURR_CONNS = 48;
/** Number of the last log line. */
export const W_LOG_GID = 49;
/** Workers that have yet to take the background thread's last log lines. */
export const W_LOG_UNDERWAY = 50;
export const W_LOCK_CACHE = 64;
export const W_LOCK_SLABS = 80;
export const W_LOCK_CAS = 96;
export const W_LOCK_HASH = 112;
/** Written seldom, read everywhere: what `lru`, `lru_crawler`, `slabs` and `cache_memlimit` change. */
export const W_LRU_SEGMENTED = 128;
/** Items that live at most this many seconds, an unsigned number, go to TEMP while W_TEMP_LRU is not 0. */
export const W_TEMPORARY_TTL = 129;
export const W_HOT_LRU_PCT = 130;
export const W_WARM_LRU_PCT = 131;
export const W_TAIL_REPAIR_TIME = 132;
export const W_CRAWLER_ENABLED = 133;
/** Microseconds of rest after every thousand items. */
export const W_CRAWLER_SLEEP = 134;
/** Items of each list that one crawl looks at; 0: all. */
export const W_CRAWLER_TOCRAWL = 135;
export const W_MAINTAINER_ENABLED = 136;
/** `slabs reassign` and the automover may move pages. */
export const W_SLAB_REASSIGN = 137;
/** 0: off; 1: by age and free chunks, over a window of seconds; 2: with every eviction. */
export const W_SLAB_AUTOMOVE = 138;
export const W_SLAB_AUTOMOVE_WINDOW = 139;
/** Counts of item sizes are kept (`stats sizes`). */
export const W_SIZES_ENABLED = 140;
/** `stats detail` counts; how often its counts were reset. */
export const W_DETAIL = 141;
export const W_DETAIL_EPOCH = 142;
export const W_TEMP_LRU = 143;
/** A line of its own for what the background work and those who ask it for something write. */
export const W_CRAWLER_RUNNING = 144;
/** Counts requests to the background work; it sleeps on this word. */
export const W_BACKGROUND_WAKE = 145;
/** What the running crawl has left: items of each list. */
export const W_CRAWL_LEFT = 146;
/** 1: the background thread shall end. */
export const W_BACKGROUND_STOP = 147;
/** 1 while a page is on its way, minus a thread's number while that one asks for it; from which class to which (0: the pool), and which page it is. */
export const W_MOVE_RUNNING = 148;
export const W_MOVE_SRC = 149;
export const W_MOVE_DST = 150;
export const W_MOVE_PAGE = 151;
/** Pages that no class owns: in the pool, and given back to the system because the limit was lowered. */
export const W_PAGES_POOL = 152;
export const W_PAGES_RELEASED = 153;
export const W_ITEM_LOCKS = 160;
export const ITEM_LOCKS = 1024;
export const LOCK_STRIDE_WORDS = 16;
export const W_LRU_LOCKS = W_ITEM_LOCKS + ITEM_LOCKS * LOCK_STRIDE_WORDS;
export const W_SLABS = W_LRU_LOCKS + SLAB_CLASSES_MAX * LOCK_STRIDE_WORDS;

// One slab class: SLAB_WORDS words from W_SLABS + clsid * SLAB_WORDS.
export const SLAB_WORDS = 8;
/** Chunk size in bytes, 0 where the class does not exist. */
export const SLAB_SIZE = 0;
export const SLAB_PER_PAGE = 1;
/** First free chunk; free chunks are linked through I_NEXT. */
export const SLAB_FREE_HEAD = 2;
export const SLAB_FREE_COUNT = 3;
/** The untouched rest of the newest page: next chunk, and how many are left. */
export const SLAB_CARVE_REF = 4;
export const SLAB_CARVE_LEFT = 5;
export const SLAB_PAGES = 6;

export const W_LRU = W_SLABS + SLAB_CLASSES_MAX * SLAB_WORDS;
export const LRU_WORDS = 4;
export const LRU_HEAD = 0;
export const LRU_TAIL = 1;
export const LRU_COUNT = 2;
/** Next item of the running crawl, 0 where it is through; moves on when that item leaves the list. */
export const LRU_CURSOR = 3;

/** The item that each thread is storing, and the one that it is taking out, on a line of its own: see repair.ts. */
export const W_STORING = W_LRU + LRU_LISTS * LRU_WORDS;
export const W_UNLINKING = W_STORING + 1;
/** Connections that each thread has open. */
export const W_THREAD_CONNS = W_STORING + 2;
/** 1: this thread has connections that wait for a place among -c, and so took itself out of W_ACCEPTING. */
export const W_THREAD_PARKS = W_STORING + 3;
/** Of W_LOG_WATCHERS and, for each kind of lines, of W_LOG_COUNTS, what is this thread's. */
export const W_THREAD_WATCHERS = W_STORING + 4;
export const W_THREAD_LOG_COUNTS = W_STORING + 5;
export const LOG_KINDS_COUNT = 7;
/** The references that each thread holds beyond one command: an open hash table of refs for each. */
export const W_HELD = W_STORING + THREADS_MAX * LOCK_STRIDE_WORDS;
export const HELD_WORDS = 4096;

const WORDS_END = W_HELD + THREADS_MAX * HELD_WORDS;

// Doubles: exact integers up to 2^53. Indices into `f64`.
export const D_BASE = (WORDS_END + 1) >> 1;
export const D_CAS = D_BASE;
export const D_OLDEST_CAS = D_BASE + 1;
export const D_STARTED = D_BASE + 2;
/** An item idle for longer than COLD's age times this leaves HOT (WARM) for COLD. */
export const D_HOT_MAX_FACTOR = D_BASE + 3;
export const D_WARM_MAX_FACTOR = D_BASE + 4;
export const D_CRAWLER_STARTS = D_BASE + 5;
export const D_MAINTAINER_JUGGLES = D_BASE + 6;
export const D_SLAB_AUTOMOVE_RATIO = D_BASE + 7;
export const D_SLAB_AUTOMOVE_FREERATIO = D_BASE + 8;
/** Counters of the page mover, which one thread at a time writes. */
export const D_SLABS_MOVED = D_BASE + 9;
export const D_RESCUES = D_BASE + 10;
export const D_CHUNK_RESCUES = D_BASE + 11;
export const D_EVICTIONS_NOMEM = D_BASE + 12;
export const D_INLINE_RECLAIM = D_BASE + 13;
export const D_BUSY_ITEMS = D_BASE + 14;
export const D_BUSY_DELETES = D_BASE + 15;
/** Items with a smaller CAS are not among the counted sizes. */
export const D_SIZES_CAS_MIN = D_BASE + 16;
/** Bytes of the items in each LRU list. */
export const D_LRU_BYTES = D_BASE + 24;
/** Counters of each slab class that its LRU lock guards: see stats.ts. */
export const D_CLASS = D_LRU_BYTES + LRU_LISTS;
export const CLASS_COUNTERS = 16;
/** Counters of each thread, written by that thread alone: see stats.ts. */
export const D_THREADS = D_CLASS + SLAB_CLASSES_MAX * CLASS_COUNTERS;
export const THREAD_COUNTERS = 64;
export const THREAD_CLASS_COUNTERS = 8;
/** The last part of a thread's counters: get hits of each LRU list. */
export const THREAD_LRU_HITS = THREAD_COUNTERS + SLAB_CLASSES_MAX * THREAD_CLASS_COUNTERS;
export const THREAD_DOUBLES = THREAD_LRU_HITS + LRU_LISTS;
const D_END = D_THREADS + THREADS_MAX * THREAD_DOUBLES;

/** Slab class of each page, one word a page; or PAGE_POOL, or PAGE_RELEASED. */
export const PAGE_POOL = 0;
export const PAGE_RELEASED = -1;
export const W_PAGE_CLASS = D_END * 2;

// Item: words from ref * 2. The key stands at a fixed place, at an offset that is 2 modulo 4: with "VALUE " before it, a
// reply that starts on a word boundary has the same alignment as the item, so it is copied by whole words.
/** Hash chain. */
export const I_HASH_NEXT = 0;
/** LRU list towards the tail; next free chunk of a free one. */
export const I_NEXT = 1;
/**
 * LRU list towards the head. While an item or chunk is in no list: minus the number of the thread that it belongs to,
 * which took it and has not linked it yet, or is giving it back (repair.ts tells why).
 */
export const I_PREV = 2;
/** Last access and expiry, seconds since start; expiry 0 = never. */
export const I_TIME = 3;
export const I_EXPTIME = 4;
/** Bytes of the value with its CR LF. */
export const I_NBYTES = 5;
/** 1 for being linked, 1 for each holder. */
export const I_REFCOUNT = 6;
/** flags (11 bits) | suffix bytes << 11 (5) | slab class << 16 (6) | segment << 22 (2) | key bytes << 24 (8). */
export const I_META = 7;
export const I_CAS_LO = 8;
export const I_CAS_HI = 9;
/** Bytes 40 and 41 always hold "E ": the end of "VALUE " in a reply that is copied from byte 40 on. */
export const I_LEAD_BYTES = 40;
export const I_KEY_BYTES = 42;
export const VALUE_LEAD = 0x20_45;

export const ITEM_LINKED = 1;
export const ITEM_CAS = 2;
/** In its class's free list. */
export const ITEM_SLABBED = 4;
export const ITEM_FETCHED = 8;
export const ITEM_ACTIVE = 16;
/** The value is in a chain of chunks. */
export const ITEM_CHUNKED = 32;
/** This is such a chunk. */
export const ITEM_CHUNK = 64;
/** Somebody was told to fetch it anew (W): the others are told so (Z). */
export const ITEM_TOKEN_SENT = 128;
/** Marked as out of date by `md I`, or stored under an older CAS with `ms I`. */
export const ITEM_STALE = 256;
/** The meta protocol stored it under a base64 key, and names it so. */
export const ITEM_KEY_BINARY = 512;
/** A client chose its CAS, so that says nothing about when it was stored. */
export const ITEM_CHOSEN_CAS = 1024;
export const ITEM_FLAGS_MASK = 0x7ff;
export const SUFFIX_SHIFT = 11;
export const SUFFIX_MASK = 31;
export const CLASS_SHIFT = 16;
export const CLASS_MASK = 63;
export const LRU_ID_MASK = 255;
export const KEY_SHIFT = 24;

// A chunked item ends, after its suffix and on a word boundary, with these words (see items.ts).
export const T_FIRST_CHUNK = 0;
export const T_HEADER_CLASS = 1;
export const TRAILER_BYTES = 8;

// Chunk of a chunked item: words from ref * 2. I_META is where an item has it.
export const C_NEXT = 0;
export const C_USED = 1;
export const C_CAPACITY = 2;
export const C_HEAD = 3;
export const CHUNK_DATA_BYTES = 32;

/** Sizes of memcached's own structures, which decide what fits and which class holds it. */
export const MC_ITEM_HEADER_BYTES = 48;
export const MC_CAS_BYTES = 8;

/** Item sizes are counted in steps of this. */
export const SIZES_BUCKET_BYTES = 32;

/** How items age. All of it but `maintainer` can be changed while the cache works. */
export interface LruConfig {
  /** -o lru_maintainer: background work keeps HOT and WARM within their bounds. */
  maintainer: boolean;
  /** HOT, WARM and COLD; otherwise COLD alone, and an item moves to its head once a minute at most. */
  segmented: boolean;
  /** Percent of a class's bytes that HOT (WARM) may hold. */
  hotPct: number;
  warmPct: number;
  hotMaxFactor: number;
  warmMaxFactor: number;
  /** Items that live at most `temporaryTtl` seconds, an unsigned number, go to TEMP, which is never evicted. */
  temp: boolean;
  temporaryTtl: number;
  /** -o lru_crawler, lru_crawler_sleep (microseconds), lru_crawler_tocrawl (items of each list, 0: all). */
  crawler: boolean;
  crawlerSleepUs: number;
  crawlerToCrawl: number;
  /** Seconds after which an item at the tail that somebody still holds is taken from him; 0: never. */
  tailRepairTime: number;
}

/** How pages go from one slab class to another. All of it can be changed while the cache works. */
export interface SlabConfig {
  /** -o slab_reassign */
  reassign: boolean;
  /** -o slab_automove: 0, 1 or 2. */
  automove: number;
  /** A class gets a page when its items live less than this share of the oldest class's. */
  automoveRatio: number;
  automoveFreeratio: number;
  /** Seconds that a decision looks back on. */
  automoveWindow: number;
}

/** What the cache's shape depends on. Plain data: it crosses to the worker threads. */
export interface CacheConfig {
  /** -m in bytes. */
  memoryBytes: number;
  /** What `cache_memlimit` can raise it to: addresses that cost nothing until they are used. */
  memoryBytesMax: number;
  /** -o slab_sizes: chunk sizes in bytes instead of growthFactor and chunkSizeMin; empty: not given. */
  slabSizes: number[];
  /** Without -o no_hashexpand. */
  hashExpand: boolean;
  /** -o track_sizes */
  trackSizes: boolean;
  /** -I in bytes. */
  itemSizeMax: number;
  /** -f */
  growthFactor: number;
  /** -n in bytes. */
  chunkSizeMin: number;
  /** Largest chunk in bytes; larger items are chains of chunks. */
  slabChunkMax: number;
  /** Hash table starts with 2^hashPower buckets. */
  hashPower: number;
  /** Without -C. */
  useCas: boolean;
  /** Without -M. */
  evictions: boolean;
  lru: LruConfig;
  slabs: SlabConfig;
}

export const DEFAULT_CACHE_CONFIG: CacheConfig = {
  memoryBytes: 64 * PAGE_BYTES,
  memoryBytesMax: 0,
  slabSizes: [],
  hashExpand: true,
  trackSizes: false,
  itemSizeMax: PAGE_BYTES,
  growthFactor: 1.25,
  chunkSizeMin: 48,
  slabChunkMax: PAGE_BYTES / 2,
  hashPower: 16,
  useCas: true,
  evictions: true,
  lru: {
    maintainer: true,
    segmented: true,
    hotPct: 20,
    warmPct: 40,
    hotMaxFactor: 0.2,
    warmMaxFactor: 2,
    temp: false,
    temporaryTtl: 61,
    crawler: true,
    crawlerSleepUs: 100,
    crawlerToCrawl: 0,
    tailRepairTime: 0,
  },
  slabs: { reassign: true, automove: 1, automoveRatio: 0.8, automoveFreeratio: 0.01, automoveWindow: 30 },
};

/** Byte offsets of the parts whose size depends on the configuration. */
export interface Layout {
  pagesMax: number;
  /** Index of the first bucket in `i32`. */
  hashWord: number;
  bucketsMax: number;
  /** Index in `i32` of the counts of item sizes, one for every SIZES_BUCKET_BYTES. */
  sizesWord: number;
  sizesBuckets: number;
  pagesByte: number;
  totalBytes: number;
}

/** Nothing stands in the last bytes: a memory file does not have them (restart.ts). */
export const SPARE_BYTES = 4096;

export function layoutOf(config: CacheConfig): Layout {
  // Every class may take its first page above the limit, as memcached's do.
  const bytes = Math.max(config.memoryBytes, config.memoryBytesMax);
  const pagesMax = Math.max(1, Math.ceil(bytes / PAGE_BYTES)) + SLAB_CLASSES_MAX;
  const hashWord = (W_PAGE_CLASS + pagesMax + 15) & ~15;
  // Room for one bucket per smallest item; untouched buckets cost address space, not memory.
  const itemsMax = (pagesMax * PAGE_BYTES) / 96;
  const bucketsMax = 2 ** Math.min(28, Math.max(config.hashPower, Math.ceil(Math.log2(itemsMax))));
  const sizesWord = hashWord + bucketsMax;
  const sizesBuckets = Math.ceil(config.itemSizeMax / SIZES_BUCKET_BYTES) + 1;
  const pagesByte = Math.ceil((sizesWord + sizesBuckets) / 1024) * 4096;
  return {
    pagesMax,
    hashWord,
    bucketsMax,
    sizesWord,
    sizesBuckets,
    pagesByte,
    totalBytes: pagesByte + pagesMax * PAGE_BYTES,
  };
}

/** One thread's views over the cache's memory. */
export class CacheMemory {
  readonly shared: SharedArrayBuffer;
  readonly config: CacheConfig;
  readonly layout: Layout;
  readonly i32: Int32Array;
  /** A Buffer, as all byte views on the hot path are: its `copy` is the fastest for more than a few hundred bytes. */
  readonly u8: Buffer;
  readonly f64: Float64Array;

  constructor(shared: SharedArrayBuffer, config: CacheConfig) {
    this.shared = shared;
    this.config = config;
    this.layout = layoutOf(config);
    if (shared.byteLength !== this.layout.totalBytes) {
      throw new RangeError(
        `cache memory is ${shared.byteLength} bytes, its configuration asks for ${this.layout.totalBytes}`,
      );
    }
    this.i32 = new Int32Array(shared);
    this.u8 = Buffer.from(shared);
    this.f64 = new Float64Array(shared, 0, D_END);
  }
}

/** Seconds that stand on the clock at start, so that time - 1 is never negative and 0 can mean "never". */
export const TIME_AT_START = 62;

/** Allocates and initialises the memory of a new cache: called once, by the main thread. */
export function createCacheMemory(config: CacheConfig, hashSeed: number): CacheMemory {
  const memory = new CacheMemory(new SharedArrayBuffer(layoutOf(config).totalBytes), config);
  initialiseCacheMemory(memory, hashSeed);
  return memory;
}

/** Makes zeroed memory that of an empty cache, but for its slab classes. */
export function initialiseCacheMemory(memory: CacheMemory, hashSeed: number): void {
  const { i32, f64, config } = memory;
  i32[W_TIME] = TIME_AT_START;
  i32[W_HASH_SEED] = hashSeed | 0;
  i32[W_HASH_BUCKETS] = 2 ** config.hashPower;
  i32[W_PAGES_LIMIT] = Math.floor(config.memoryBytes / PAGE_BYTES);
  f64[D_STARTED] = Math.floor(Date.now() / 1000) - TIME_AT_START;
  i32[W_MOVE_PAGE] = -1;
  configureCacheMemory(memory);
}

/** What the command line says about a cache's behaviour, and commands may change later. */
export function configureCacheMemory({ i32, f64, config }: CacheMemory): void {
  const { lru, slabs } = config;
  i32[W_ACCEPTING] = 1;
  i32[W_MAINTAINER_ENABLED] = lru.maintainer ? 1 : 0;
  i32[W_LRU_SEGMENTED] = lru.segmented ? 1 : 0;
  i32[W_TEMP_LRU] = lru.temp ? 1 : 0;
  i32[W_TEMPORARY_TTL] = lru.temporaryTtl;
  i32[W_HOT_LRU_PCT] = lru.hotPct;
  i32[W_WARM_LRU_PCT] = lru.warmPct;
  i32[W_TAIL_REPAIR_TIME] = lru.tailRepairTime;
  i32[W_CRAWLER_ENABLED] = lru.crawler ? 1 : 0;
  i32[W_CRAWLER_SLEEP] = lru.crawlerSleepUs;
  i32[W_CRAWLER_TOCRAWL] = lru.crawlerToCrawl;
  f64[D_HOT_MAX_FACTOR] = lru.hotMaxFactor;
  f64[D_WARM_MAX_FACTOR] = lru.warmMaxFactor;
  i32[W_SIZES_ENABLED] = config.trackSizes && config.useCas ? 1 : 0;
  i32[W_SLAB_REASSIGN] = slabs.reassign ? 1 : 0;
  i32[W_SLAB_AUTOMOVE] = slabs.automove;
  i32[W_SLAB_AUTOMOVE_WINDOW] = slabs.automoveWindow;
  f64[D_SLAB_AUTOMOVE_RATIO] = slabs.automoveRatio;
  f64[D_SLAB_AUTOMOVE_FREERATIO] = slabs.automoveFreeratio;
}
