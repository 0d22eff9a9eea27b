/** A cache of one thread, with its commands in terms of strings, for the tests of the engine. */
import { expect } from 'vitest';
import { Cache, createCache } from '../src/engine/cache.ts';
import { checkInvariants } from '../src/engine/check.ts';
import {
  type CacheConfig,
  CacheMemory,
  DEFAULT_CACHE_CONFIG,
  I_CAS_HI,
  I_CAS_LO,
  W_TIME,
} from '../src/engine/layout.ts';

/** Keys stand somewhere in a buffer, not at its start. */
const KEY_AT = 7;

/** A cache with the calls the tests need, in terms of strings. */
export class Fixture {
  readonly cache: Cache;
  private readonly key = Buffer.alloc(KEY_AT + 250);

  /** `shared`: the memory of another fixture with the same configuration, for a second thread of its cache. */
  constructor(
    config: Partial<CacheConfig> = {},
    mode: 'none' | 'global' | 'striped' = 'none',
    thread = 1,
    shared?: SharedArrayBuffer,
  ) {
    const whole = { ...DEFAULT_CACHE_CONFIG, ...config };
    this.cache =
      shared === undefined
        ? createCache(whole, mode, thread, 0x1234_5678)
        : new Cache(new CacheMemory(shared, whole), mode, thread);
  }

  private place(key: string): { end: number; hash: number } {
    const end = KEY_AT + this.key.write(key, KEY_AT, 'latin1');
    return { end, hash: this.cache.assoc.hash(this.key, KEY_AT, end) };
  }

  alloc(key: string, flags: number, exptime: number, value: string): number {
    const { items } = this.cache;
    const { end } = this.place(key);
    const ref = items.alloc(this.key, KEY_AT, end, flags, items.expiry(exptime), value.length + 2);
    if (ref !== 0) this.fill(ref, Buffer.from(`${value}\r\n`, 'latin1'));
    return ref;
  }

  private fill(ref: number, bytes: Buffer): void {
    const { items, memory } = this.cache;
    if (!items.isChunked(ref)) {
      bytes.copy(memory.u8, items.dataAt(ref));
      return;
    }
    let at = 0;
    for (let chunk = items.firstChunk(ref); chunk !== 0; chunk = items.nextChunk(chunk)) {
      bytes.copy(memory.u8, items.chunkAt(chunk), at, at + items.chunkUsed(chunk));
      at += items.chunkUsed(chunk);
    }
  }

  /** -1: no memory. */
  store(mode: number, key: string, flags: number, exptime: number, value: string, cas = 0): number {
    const ref = this.alloc(key, flags, exptime, value);
    if (ref === 0) return -1;
    const { hash } = this.place(key);
    const result = this.cache.items.store(ref, hash, mode, Math.floor(cas / 2 ** 32), cas >>> 0);
    this.cache.items.release(ref);
    return result;
  }

  get(key: string): { flags: number; value: string; cas: number } | undefined {
    const { items, memory } = this.cache;
    const { end, hash } = this.place(key);
    const ref = items.find(this.key, KEY_AT, end, hash);
    if (ref === 0) return undefined;
    items.bump(ref);
    const value = this.valueOf(ref);
    const i32 = memory.i32;
    const cas = (i32[ref * 2 + I_CAS_HI]! >>> 0) * 2 ** 32 + (i32[ref * 2 + I_CAS_LO]! >>> 0);
    return { flags: items.clientFlags(ref), value: value.slice(0, -2), cas };
  }

  /** The bytes of an item's value, CR LF included. */
  valueOf(ref: number): string {
    const { items, memory } = this.cache;
    if (!items.isChunked(ref)) {
      return memory.u8.toString('latin1', items.dataAt(ref), items.dataAt(ref) + items.nbytes(ref));
    }
    let value = '';
    for (let chunk = items.firstChunk(ref); chunk !== 0; chunk = items.nextChunk(chunk)) {
      value += memory.u8.toString('latin1', items.chunkAt(chunk), items.chunkAt(chunk) + items.chunkUsed(chunk));
    }
    return value;
  }

  /** The item of a key, without an access to it; 0 where there is none. */
  ref(key: string): number {
    const { end, hash } = this.place(key);
    return this.cache.assoc.find(this.key, KEY_AT, end, hash);
  }

  delta(key: string, incr: boolean, by: bigint): { result: number; text: string } {
    const { items } = this.cache;
    const { end, hash } = this.place(key);
    const result = items.delta(this.key, KEY_AT, end, hash, incr, Number(by >> 32n), Number(by & 0xffff_ffffn));
    return { result, text: items.numberBytes.toString('latin1', 0, items.numberLength) };
  }

  remove(key: string): boolean {
    const { end, hash } = this.place(key);
    return this.cache.items.remove(this.key, KEY_AT, end, hash) >= 0;
  }

  touch(key: string, exptime: number): boolean {
    const { end, hash } = this.place(key);
    return this.cache.items.touch(this.key, KEY_AT, end, hash, this.cache.items.expiry(exptime)) >= 0;
  }

  tick(seconds: number): void {
    this.cache.memory.i32[W_TIME] += seconds;
  }

  check(held?: Map<number, number>): void {
    expect(checkInvariants(this.cache, held)).toEqual([]);
  }
}
