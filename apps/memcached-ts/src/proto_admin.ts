/**
 * Commands for operators: `slabs`, `lru`, `lru_crawler`, `cache_memlimit`, and the `stats` that look at items.
 *
 * What it is for: memcached's words, checks and replies for them. They change words of the cache's memory, which every
 * thread reads, or ask the background work for something.
 * Invariant: a command's reply is at most ADMIN_REPLY_BYTES_MAX long, so the caller can make sure of room before it is
 * carried out. Dumps go out line by line, as the client reads.
 * Not its job: cutting lines into words, sending (proto_text.ts); the work itself (engine/).
 */
import type { Cache } from './engine/cache.ts';
import { CRAWL_BACKGROUND, Crawler, parseLists } from './engine/crawler.ts';
import { Dump } from './engine/dump.ts';
import {
  COLD_LRU,
  D_CAS,
  D_HOT_MAX_FACTOR,
  D_SIZES_CAS_MIN,
  D_SLAB_AUTOMOVE_FREERATIO,
  D_SLAB_AUTOMOVE_RATIO,
  D_STARTED,
  D_WARM_MAX_FACTOR,
  I_EXPTIME,
  I_META,
  I_NEXT,
  ITEM_KEY_BINARY,
  LRU_HEAD,
  LRU_WORDS,
  PAGE_BYTES,
  SIZES_BUCKET_BYTES,
  SLAB_CLASSES_MAX,
  W_CRAWLER_ENABLED,
  W_CRAWLER_SLEEP,
  W_CRAWLER_TOCRAWL,
  W_HOT_LRU_PCT,
  W_LRU,
  W_LRU_SEGMENTED,
  W_MAINTAINER_ENABLED,
  W_SIZES_ENABLED,
  W_SLAB_AUTOMOVE,
  W_SLAB_AUTOMOVE_WINDOW,
  W_SLAB_REASSIGN,
  W_TEMP_LRU,
  W_TEMPORARY_TTL,
  W_TIME,
  W_VERBOSITY,
  W_WARM_LRU_PCT,
} from './engine/layout.ts';
import { MOVE_BADCLASS, MOVE_NOSPARE, MOVE_OK, MOVE_RUNNING, MOVE_SAME } from './engine/slabs.ts';
import type { Trace } from './protocol.ts';
import { strtod, strtol32, strtoul32 } from './strtol.ts';

/** What stands before a reply that is not to be sent. */
export const SILENT = 'NOREPLY ';
/** Room for any reply but dumps and statistics. */
export const ADMIN_REPLY_BYTES_MAX = 80;
/** `stats cachedump` stops here, as memcached does. */
const CACHEDUMP_BYTES_MAX = 2 * 1024 * 1024;
const MEMLIMIT_MB_MIN = 8;
const WINDOW_MAX = 3600;
const INT_MAX = 0x7fff_ffff;

const OK = 'OK\r\n';
const ERROR = 'ERROR\r\n';
const BAD_FORMAT = 'CLIENT_ERROR bad command line format\r\n';
const CRAWLER_DISABLED = 'CLIENT_ERROR lru crawler disabled\r\n';
const CRAWLER_BUSY = 'BUSY currently processing crawler request\r\n';
const CRAWLER_BADCLASS = 'BADCLASS invalid class id\r\n';

const MOVE_REPLIES: Record<number, string> = {
  [MOVE_OK]: OK,
  [MOVE_RUNNING]: 'BUSY currently processing reassign request\r\n',
  [MOVE_BADCLASS]: 'BADCLASS invalid src or dst class id\r\n',
  [MOVE_NOSPARE]: 'NOSPARE source class has no spare pages\r\n',
  [MOVE_SAME]: 'SAME src and dst class are identical\r\n',
};

/** The first words of the commands that `command` knows. */
const COMMANDS = new Set(['slabs', 'lru', 'lru_crawler', 'cache_memlimit', 'refresh_certs']);

/** Whether a command line that begins so is one for this module. */
export function isAdminCommand(word: string): boolean {
  return COMMANDS.has(word);
}

export class ProtoAdmin {
  private readonly trace: Trace;
  private readonly cache: Cache;
  private readonly i32: Int32Array;
  private readonly f64: Float64Array;
  private readonly crawler: Crawler;

  constructor(cache: Cache, trace: Trace) {
    this.cache = cache;
    this.trace = trace;
    this.i32 = cache.memory.i32;
    this.f64 = cache.memory.f64;
    this.crawler = new Crawler(cache);
  }

  /** Carries out a command line, as words. Its reply, behind SILENT where the command asked for silence; or a dump to send. */
  command(words: readonly string[], pipelined: boolean, dumpEnabled: boolean): string | Dump {
    switch (words[0]) {
      case 'slabs':
        return this.slabs(words);
      case 'lru':
        return quiet(words, this.lru(words));
      case 'lru_crawler':
        return this.lruCrawler(words, pipelined, dumpEnabled);
      case 'refresh_certs':
        return 'Error TLS not enabled\r\n';
      default:
        return quiet(words, this.memoryLimit(words));
    }
  }

  private slabs(words: readonly string[]): string {
    const [, subcommand, first = '', second = ''] = words;
    if (words.length === 4 && subcommand === 'reassign') {
      if (this.i32[W_SLAB_REASSIGN] === 0) return 'CLIENT_ERROR slab reassignment disabled\r\n';
      const src = strtol32(first);
      const dst = strtol32(second);
      if (src === undefined || dst === undefined) return BAD_FORMAT;
      return MOVE_REPLIES[this.cache.slabs.requestMove(src, dst)]!;
    }
    if (words.length >= 3 && subcommand === 'automove') return quiet(words, this.automove(words));
    return ERROR;
  }

  private automove(words: readonly string[]): string {
    const [, , what = '', value = ''] = words;
    const { i32, f64 } = this;
    if (what === 'ratio' || what === 'freeratio') {
      const ratio = words.length < 4 ? undefined : strtod(value);
      if (ratio === undefined) return ERROR;
      f64[what === 'ratio' ? D_SLAB_AUTOMOVE_RATIO : D_SLAB_AUTOMOVE_FREERATIO] = ratio;
      return OK;
    }
    if (what === 'window') {
      const seconds = words.length < 4 ? undefined : strtoul32(value);
      if (seconds === undefined) return ERROR;
      if (seconds < 1 || seconds > WINDOW_MAX) return 'CLIENT_ERROR automove window too low or too high\r\n';
      i32[W_SLAB_AUTOMOVE_WINDOW] = seconds;
      return OK;
    }
    const level = strtoul32(what);
    if (level === undefined) return BAD_FORMAT;
    if (level > 2) return ERROR;
    i32[W_SLAB_AUTOMOVE] = level;
    return OK;
  }

  private lru(words: readonly string[]): string {
    const [, subcommand, value = ''] = words;
    const { i32, f64 } = this;
    if (subcommand === 'tune' && words.length >= 6) {
      const [hot, warm] = [strtoul32(words[2]!), strtoul32(words[3]!)];
      const [hotFactor, warmFactor] = [strtod(words[4]!), strtod(words[5]!)];
      if (hot === undefined || warm === undefined || hotFactor === undefined || warmFactor === undefined) return ERROR;
      if (hot + warm > 80) return 'ERROR hot and warm pcts must not exceed 80\r\n';
      if (hotFactor <= 0 || warmFactor <= 0) return 'ERROR hot/warm age factors must be greater than 0\r\n';
      i32[W_HOT_LRU_PCT] = hot;
      i32[W_WARM_LRU_PCT] = warm;
      f64[D_HOT_MAX_FACTOR] = hotFactor;
      f64[D_WARM_MAX_FACTOR] = warmFactor;
      return OK;
    }
    if (words.length < 3 || i32[W_MAINTAINER_ENABLED] === 0) return ERROR;
    if (subcommand === 'mode') {
      if (value !== 'flat' && value !== 'segmented') return ERROR;
      i32[W_LRU_SEGMENTED] = value === 'segmented' ? 1 : 0;
      return OK;
    }
    if (subcommand === 'temp_ttl') {
      const seconds = strtol32(value);
      if (seconds === undefined) return ERROR;
      i32[W_TEMP_LRU] = seconds < 0 ? 0 : 1;
      if (seconds >= 0) i32[W_TEMPORARY_TTL] = seconds;
      return OK;
    }
    return ERROR;
  }

  private lruCrawler(words: readonly string[], pipelined: boolean, dumpEnabled: boolean): string | Dump {
    const [, subcommand, value = ''] = words;
    const { i32 } = this;
    if (words.length === 2 && subcommand === 'enable') {
      if (i32[W_CRAWLER_ENABLED] !== 0) return 'ERROR failed to start lru crawler thread\r\n';
      i32[W_CRAWLER_ENABLED] = 1;
      return OK;
    }
    if (words.length === 2 && subcommand === 'disable') {
      i32[W_CRAWLER_ENABLED] = 0;
      return OK;
    }
    if (words.length !== 3) return ERROR;
    switch (subcommand) {
      case 'crawl': {
        if (i32[W_CRAWLER_ENABLED] === 0) return CRAWLER_DISABLED;
        // As memcached says it: a whole table is for dumps.
        if (value === 'hash') return 'ERROR an unknown error happened\r\n';
        const lists = parseLists(value);
        if (lists === undefined) return CRAWLER_BADCLASS;
        const most = i32[W_CRAWLER_TOCRAWL]!;
        return this.crawler.begin(lists, most, CRAWL_BACKGROUND) ? OK : CRAWLER_BUSY;
      }
      case 'metadump':
      case 'mgdump': {
        if (i32[W_CRAWLER_ENABLED] === 0) return CRAWLER_DISABLED;
        if (!dumpEnabled) return `ERROR ${subcommand === 'mgdump' ? 'key dump' : subcommand} not allowed\r\n`;
        if (pipelined) return `ERROR cannot pipeline other commands before ${subcommand}\r\n`;
        const mgdump = subcommand === 'mgdump';
        if (value === 'hash') return Dump.ofHash(this.cache, mgdump);
        const lists = parseLists(value);
        if (lists === undefined) return CRAWLER_BADCLASS;
        return Dump.ofLists(this.cache, mgdump, lists) ?? CRAWLER_BUSY;
      }
      case 'tocrawl': {
        const items = strtoul32(value);
        if (items === undefined) return BAD_FORMAT;
        i32[W_CRAWLER_TOCRAWL] = Math.min(items, INT_MAX);
        return OK;
      }
      case 'sleep': {
        const microseconds = strtoul32(value);
        if (microseconds === undefined) return BAD_FORMAT;
        if (microseconds > 1_000_000) return 'CLIENT_ERROR sleep must be one second or less\r\n';
        i32[W_CRAWLER_SLEEP] = microseconds;
        return OK;
      }
      default:
        return ERROR;
    }
  }

  private memoryLimit(words: readonly string[]): string {
    const megabytes = words.length < 2 || words.length > 3 ? undefined : strtoul32(words[1]!);
    if (megabytes === undefined) return ERROR;
    if (megabytes < MEMLIMIT_MB_MIN) return 'MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n';
    if (megabytes > 1_000_000_000) return NOT_BYTES;
    if (!this.cache.slabs.setLimit(megabytes * PAGE_BYTES)) {
      return 'MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n';
    }
    if (this.i32[W_VERBOSITY] > 0) this.trace.note(`maxbytes adjusted to ${megabytes}m`);
    return OK;
  }

  /** `stats` of these words, or undefined where it is none of this module's. Multi-line, and free to take again. */
  stats(words: readonly string[], dumpEnabled: boolean): string | undefined {
    switch (words[1]) {
      case 'cachedump':
        return this.cachedump(words, dumpEnabled);
      case 'sizes':
        return this.sizes();
      case 'sizes_enable':
        return this.setSizes(true);
      case 'sizes_disable':
        return this.setSizes(false);
      default:
        return undefined;
    }
  }

  private cachedump(words: readonly string[], dumpEnabled: boolean): string {
    const { cache, i32, f64 } = this;
    const { items, memory, locks } = cache;
    if (!dumpEnabled) return 'CLIENT_ERROR stats cachedump not allowed\r\n';
    if (words.length < 4) return 'CLIENT_ERROR bad command line\r\n';
    const clsid = strtoul32(words[2]!);
    const most = strtoul32(words[3]!);
    if (clsid === undefined || most === undefined) return BAD_FORMAT;
    if (clsid >= SLAB_CLASSES_MAX) return 'CLIENT_ERROR Illegal slab id\r\n';
    const now = i32[W_TIME]!;
    let text = '';
    let shown = 0;
    locks.lockCache();
    locks.lockLru(clsid);
    let ref = i32[W_LRU + (clsid | COLD_LRU) * LRU_WORDS + LRU_HEAD]!;
    for (
      ;
      ref !== 0 && (most === 0 || shown < most) && text.length < CACHEDUMP_BYTES_MAX;
      ref = i32[ref * 2 + I_NEXT]!
    ) {
      const exptime = i32[ref * 2 + I_EXPTIME]!;
      if ((exptime !== 0 && exptime <= now) || items.isFlushed(ref, now)) continue;
      // A line could not tell a binary key from its text.
      if ((i32[ref * 2 + I_META]! & ITEM_KEY_BINARY) !== 0) continue;
      const key = memory.u8.toString('latin1', items.keyAt(ref), items.keyAt(ref) + items.keyBytes(ref));
      text += `ITEM ${key} [${items.nbytes(ref) - 2} b; ${exptime === 0 ? 0 : exptime + f64[D_STARTED]!} s]\r\n`;
      shown++;
    }
    locks.unlockLru(clsid);
    locks.unlockCache();
    return `${text}END\r\n`;
  }

  private sizes(): string {
    const { i32 } = this;
    const { layout } = this.cache.memory;
    if (i32[W_SIZES_ENABLED] === 0) return 'STAT sizes_status disabled\r\nEND\r\n';
    let text = '';
    for (let bucket = 0; bucket < layout.sizesBuckets; bucket++) {
      const count = i32[layout.sizesWord + bucket]!;
      if (count !== 0) text += `STAT ${bucket * SIZES_BUCKET_BYTES} ${count}\r\n`;
    }
    return `${text}END\r\n`;
  }

  private setSizes(enable: boolean): string {
    const { i32, f64, cache } = this;
    const { layout, config } = cache.memory;
    if (enable && !config.useCas) return 'STAT sizes_status error\r\nSTAT sizes_error cas_support_disabled\r\n';
    if (enable !== (i32[W_SIZES_ENABLED] !== 0)) {
      // Items that are in the cache already are not counted; their CAS tells them apart.
      if (enable) {
        i32.fill(0, layout.sizesWord, layout.sizesWord + layout.sizesBuckets);
        f64[D_SIZES_CAS_MIN] = f64[D_CAS]! + 1;
      }
      Atomics.store(i32, W_SIZES_ENABLED, enable ? 1 : 0);
    }
    return `STAT sizes_status ${enable ? 'enabled' : 'disabled'}\r\n`;
  }
}

const NOT_BYTES = 'MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n';

/** Nothing where the last word asks for silence. */
function quiet(words: readonly string[], reply: string): string {
  return words.at(-1) === 'noreply' ? SILENT + reply : reply;
}
