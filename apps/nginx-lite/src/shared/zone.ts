/**
 * A zone: a table of keys in memory that all workers of all generations share.
 *
 * What it is for: limit_req and limit_conn. A hash table with chains and a list in order of use, all integers in the
 * zone. Invariants: nothing is read or written without the lock; a lock whose holder died is taken over; a full zone gives up
 * its least recently used entry, if the user of the zone allows it. Not its job: what the numbers mean.
 *
 * Layout: 16 Int32 (lock, buckets, entries, used, free list, oldest, newest), buckets (Int32: entry + 1), entries of 128
 * bytes. New memory is zeroed, which is an empty table once `buckets` is set.
 */

import { createHash } from 'node:crypto';
import { latin1Bytes } from '../http/bytes.ts';

const HEADER_WORDS = 16;
const LOCK = 0;
const BUCKETS = 1;
const ENTRIES = 2;
const USED = 3;
const FREE = 4;
const OLDEST = 5;
const NEWEST = 6;

const ENTRY_BYTES = 128;
const ENTRY_WORDS = ENTRY_BYTES / 4;
const HASH = 0;
const CHAIN = 1;
const OLDER = 2;
const NEWER = 3;
const KEY_LENGTH = 4;
/** Words that belong to the user of the zone. */
export const VALUE = 5;
/** A Float64 of the user's, in words from the entry's begin (even). */
const TIME = 8;
const KEY_AT = 40;
const KEY_MAX = ENTRY_BYTES - KEY_AT;

const SPINS = 200;
const SLEEP_MS = 0.05;
/** Nobody holds the lock for longer than some microseconds: after this much the holder is looked for. */
const PATIENCE_MS = 50;
const sleeper = new Int32Array(new SharedArrayBuffer(4));

export class Zone {
  readonly name: string;
  private readonly words: Int32Array;
  private readonly bytes: Uint8Array;
  private readonly times: Float64Array;
  private readonly entriesAt: number;
  private readonly buckets: number;

  constructor(name: string, memory: ArrayBufferLike) {
    this.name = name;
    this.words = new Int32Array(memory);
    this.bytes = new Uint8Array(memory);
    this.times = new Float64Array(memory, 0, Math.floor(memory.byteLength / 8));
    // One bucket an entry; both from the size alone, so that every process finds them in the same place.
    const entries = Math.floor((memory.byteLength - HEADER_WORDS * 4) / (ENTRY_BYTES + 4)) - 1;
    this.buckets = entries;
    this.entriesAt = Math.ceil((HEADER_WORDS + entries) / ENTRY_WORDS) * ENTRY_WORDS;
    this.lock();
    if (this.words[BUCKETS] === 0) {
      this.words[BUCKETS] = entries;
      this.words[ENTRIES] = Math.floor((this.words.length - this.entriesAt) / ENTRY_WORDS);
    }
    this.unlock();
  }

  lock(): void {
    const { words } = this;
    let since = 0;
    for (let spin = 0; ; spin++) {
      if (Atomics.compareExchange(words, LOCK, 0, process.pid) === 0) return;
      if (spin < SPINS) continue;
      Atomics.wait(sleeper, 0, 0, SLEEP_MS);
      const now = performance.now();
      if (since === 0) since = now;
      if (now - since < PATIENCE_MS) continue;
      since = now;
      const holder = Atomics.load(words, LOCK);
      if (holder !== 0 && !isAlive(holder)) Atomics.compareExchange(words, LOCK, holder, 0);
    }
  }

  unlock(): void {
    Atomics.store(this.words, LOCK, 0);
  }

  /** Index of the entry of a key, which becomes the newest, or -1. Between lock and unlock, like all below. */
  find(key: Uint8Array): number {
    const hash = hashOf(key);
    for (let entry = (this.words[this.bucketAt(hash)] as number) - 1; entry >= 0; entry = this.get(entry, CHAIN) - 1) {
      if (this.get(entry, HASH) !== hash || !this.hasKey(entry, key)) continue;
      this.unlink(entry);
      this.linkNewest(entry);
      return entry;
    }
    return -1;
  }

  /** A new entry for a key that is not there; -1: the zone is full. */
  add(key: Uint8Array): number {
    const { words } = this;
    let entry = (words[FREE] as number) - 1;
    if (entry >= 0) words[FREE] = this.get(entry, CHAIN);
    else if ((words[USED] as number) < (words[ENTRIES] as number)) {
      entry = words[USED] as number;
      words[USED] = entry + 1;
    } else return -1;
    const hash = hashOf(key);
    const bucket = this.bucketAt(hash);
    const base = this.at(entry);
    words.fill(0, base, base + ENTRY_WORDS);
    this.set(entry, HASH, hash);
    this.set(entry, CHAIN, words[bucket] as number);
    words[bucket] = entry + 1;
    this.set(entry, KEY_LENGTH, key.length);
    this.bytes.set(key, base * 4 + KEY_AT);
    this.linkNewest(entry);
    return entry;
  }

  remove(entry: number): void {
    const { words } = this;
    const bucket = this.bucketAt(this.get(entry, HASH));
    if (words[bucket] === entry + 1) words[bucket] = this.get(entry, CHAIN);
    else {
      for (let at = (words[bucket] as number) - 1; at >= 0; at = this.get(at, CHAIN) - 1) {
        if (this.get(at, CHAIN) !== entry + 1) continue;
        this.set(at, CHAIN, this.get(entry, CHAIN));
        break;
      }
    }
    this.unlink(entry);
    this.set(entry, CHAIN, words[FREE] as number);
    words[FREE] = entry + 1;
  }

  /** The least recently used entry, or -1. */
  oldest(): number {
    return (this.words[OLDEST] as number) - 1;
  }

  get(entry: number, word: number): number {
    return this.words[this.at(entry) + word] as number;
  }

  set(entry: number, word: number, value: number): void {
    this.words[this.at(entry) + word] = value;
  }

  time(entry: number): number {
    return this.times[(this.at(entry) + TIME) / 2] as number;
  }

  setTime(entry: number, ms: number): void {
    this.times[(this.at(entry) + TIME) / 2] = ms;
  }

  private at(entry: number): number {
    return this.entriesAt + entry * ENTRY_WORDS;
  }

  private bucketAt(hash: number): number {
    return HEADER_WORDS + ((hash >>> 0) % this.buckets);
  }

  private hasKey(entry: number, key: Uint8Array): boolean {
    if (this.get(entry, KEY_LENGTH) !== key.length) return false;
    const at = this.at(entry) * 4 + KEY_AT;
    for (let i = 0; i < key.length; i++) if (this.bytes[at + i] !== key[i]) return false;
    return true;
  }

  private linkNewest(entry: number): void {
    const { words } = this;
    const newest = words[NEWEST] as number;
    this.set(entry, OLDER, newest);
    this.set(entry, NEWER, 0);
    if (newest === 0) words[OLDEST] = entry + 1;
    else this.set(newest - 1, NEWER, entry + 1);
    words[NEWEST] = entry + 1;
  }

  private unlink(entry: number): void {
    const { words } = this;
    const older = this.get(entry, OLDER);
    const newer = this.get(entry, NEWER);
    if (older === 0) words[OLDEST] = newer;
    else this.set(older - 1, NEWER, newer);
    if (newer === 0) words[NEWEST] = older;
    else this.set(newer - 1, OLDER, older);
  }
}

/** A key as it stands in a zone: its bytes, or their digest where they are too many. */
export function zoneKey(text: string): Uint8Array {
  const bytes = latin1Bytes(text);
  return bytes.length <= KEY_MAX ? bytes : createHash('sha256').update(bytes).digest();
}

/** FNV-1a. */
function hashOf(key: Uint8Array): number {
  let hash = 0x811c9dc5 | 0;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ (key[i] as number), 0x01000193);
  return hash;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}
