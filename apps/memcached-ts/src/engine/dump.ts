/**
 * Dumps of the cache's keys: `lru_crawler metadump` and `mgdump`.
 *
 * What it is for: one dump, line by line, over the LRU lists (with the crawler's cursors, one item of each list in turn)
 * or over the hash table. `next` gives the next line, and holds no lock when it returns, so a dump lasts as long as its
 * reader takes and hurts nobody.
 * Invariant: a dump of the hash table has every item that is there from beginning to end, once, also while the table
 * grows: it goes by the low bits of the hash, which a split does not change. A dump of LRU lists has, as memcached's, every
 * such item that no client fetches meanwhile; one that moves to another list may come twice.
 * Not its job: sending the lines.
 */
import type { Cache } from './cache.ts';
import { CRAWL_DUMP, Crawler } from './crawler.ts';
import {
  D_STARTED,
  I_CAS_HI,
  I_CAS_LO,
  I_EXPTIME,
  I_HASH_NEXT,
  I_META,
  I_TIME,
  ITEM_FETCHED,
  ITEM_KEY_BINARY,
  LRU_CURSOR,
  LRU_LISTS,
  LRU_WORDS,
  W_HASH_BUCKETS,
  W_LRU,
  W_TIME,
} from './layout.ts';

/** No line is longer: a key of 250 bytes, each written as three, and the rest. */
export const DUMP_LINE_BYTES_MAX = 1024;

/** A key as memcached writes it into one word: letters, digits and -._~ as they are, the rest as %XX. */
export function uriEncode(bytes: Uint8Array, start: number, end: number): string {
  let text = '';
  for (let i = start; i < end; i++) {
    const c = bytes[i]!;
    const plain =
      (c >= 0x30 && c <= 0x39) ||
      (c >= 0x41 && c <= 0x5a) ||
      (c >= 0x61 && c <= 0x7a) ||
      c === 0x2d ||
      c === 0x2e ||
      c === 0x5f ||
      c === 0x7e;
    text += plain ? String.fromCharCode(c) : `%${c.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return text;
}

export class Dump {
  private readonly cache: Cache;
  private readonly mgdump: boolean;
  private readonly crawler: Crawler | undefined;
  private list = 0;
  /** Hash table: lines of the present residue, the residue, and how many there are. */
  private lines: string[] = [];
  private residue = 0;
  private readonly residues: number;

  private constructor(cache: Cache, mgdump: boolean, crawler: Crawler | undefined) {
    this.cache = cache;
    this.mgdump = mgdump;
    this.crawler = crawler;
    this.residues = 1 << (31 - Math.clz32(cache.memory.i32[W_HASH_BUCKETS]!));
  }

  /** A dump of these LRU lists; undefined while another crawl is running. */
  static ofLists(cache: Cache, mgdump: boolean, lists: readonly number[]): Dump | undefined {
    const crawler = new Crawler(cache);
    return crawler.begin(lists, 0, CRAWL_DUMP) ? new Dump(cache, mgdump, crawler) : undefined;
  }

  /** A dump of the hash table. */
  static ofHash(cache: Cache, mgdump: boolean): Dump {
    return new Dump(cache, mgdump, undefined);
  }

  /** What follows the last line. */
  get end(): string {
    return this.mgdump ? 'EN\r\n' : 'END\r\n';
  }

  /** The next line, or undefined at the end. */
  next(): string | undefined {
    return this.crawler === undefined ? this.nextOfHash() : this.nextOfLists();
  }

  /** Ends it before it is through. */
  stop(): void {
    this.crawler?.end();
  }

  private nextOfLists(): string | undefined {
    const { items, locks, memory } = this.cache;
    for (let idle = 0; idle < LRU_LISTS; idle++) {
      const list = this.list;
      this.list = (list + 1) % LRU_LISTS;
      if (memory.i32[W_LRU + list * LRU_WORDS + LRU_CURSOR] === 0) continue;
      idle = -1;
      locks.lockCache();
      const ref = items.crawlNext(list, false);
      let line: string | undefined;
      if (ref > 2) {
        line = this.line(ref);
        items.crawlDone(ref);
      }
      locks.unlockCache();
      if (line !== undefined) return line;
    }
    this.crawler!.end();
    return undefined;
  }

  private nextOfHash(): string | undefined {
    const { items, locks, memory } = this.cache;
    const { i32, layout } = memory;
    while (this.lines.length === 0 && this.residue < this.residues) {
      const residue = this.residue++;
      // Every bucket with these low bits has this item lock.
      locks.lockItem(residue);
      const now = i32[W_TIME]!;
      for (let bucket = residue; bucket < i32[W_HASH_BUCKETS]!; bucket += this.residues) {
        for (let ref = i32[layout.hashWord + bucket]!; ref !== 0; ref = i32[ref * 2 + I_HASH_NEXT]!) {
          const exptime = i32[ref * 2 + I_EXPTIME]!;
          if ((exptime === 0 || exptime > now) && !items.isFlushed(ref, now)) this.lines.push(this.line(ref));
        }
      }
      locks.unlockItem(residue);
      this.lines.reverse();
    }
    return this.lines.pop();
  }

  /** The line of one item, under its lock. */
  private line(ref: number): string {
    const { memory, items } = this.cache;
    const { i32, u8, f64 } = memory;
    const word = ref * 2;
    const key = items.keyAt(ref);
    const end = key + items.keyBytes(ref);
    const meta = i32[word + I_META]!;
    if (this.mgdump) {
      return (meta & ITEM_KEY_BINARY) !== 0
        ? `mg ${u8.toString('base64', key, end)} b\r\n`
        : `mg ${u8.toString('latin1', key, end)}\r\n`;
    }
    const started = f64[D_STARTED]!;
    const exptime = i32[word + I_EXPTIME]!;
    const cas = (BigInt(i32[word + I_CAS_HI]! >>> 0) << 32n) | BigInt(i32[word + I_CAS_LO]! >>> 0);
    return (
      `key=${uriEncode(u8, key, end)} exp=${exptime === 0 ? -1 : exptime + started} la=${i32[word + I_TIME]! + started}` +
      ` cas=${cas} fetch=${(meta & ITEM_FETCHED) === 0 ? 'no' : 'yes'} cls=${items.clsid(ref)}` +
      ` size=${items.totalBytes(ref)} flags=${items.clientFlags(ref)}\n`
    );
  }
}
