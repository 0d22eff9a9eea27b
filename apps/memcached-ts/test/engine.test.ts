/** The engine against a plain Map, single-threaded, with the invariant checker after every run. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkInvariants } from '../src/engine/check.ts';
import {
  DELTA_NON_NUMERIC,
  DELTA_NOT_FOUND,
  DELTA_OK,
  EXISTS,
  NOT_FOUND,
  NOT_STORED,
  STORE_ADD,
  STORE_APPEND,
  STORE_CAS,
  STORE_PREPEND,
  STORE_REPLACE,
  STORE_SET,
  STORED,
} from '../src/engine/items.ts';
import {
  DEFAULT_CACHE_CONFIG,
  I_TIME,
  PAGE_BYTES,
  W_HASH_BUCKETS,
  W_LOCK_CACHE,
  W_TIME,
} from '../src/engine/layout.ts';
import { slabSizes } from '../src/engine/slabs.ts';
import { L_EVICTED, L_RECLAIMED, sumLruCounter } from '../src/engine/stats.ts';
import { Fixture } from './fixture.ts';

describe('the invariant checker', () => {
  it('sees a lost chunk, a broken chain, a wrong count and a forgotten reference', () => {
    const faultsAfter = (damage: (fixture: Fixture, ref: number) => void): string => {
      const fixture = new Fixture();
      for (let i = 0; i < 10; i++) fixture.store(STORE_SET, `key${i}`, 0, 0, 'value');
      const bytes = Buffer.from('key5');
      const ref = fixture.cache.items.find(bytes, 0, 4, fixture.cache.assoc.hash(bytes, 0, 4));
      fixture.check();
      damage(fixture, ref);
      return checkInvariants(fixture.cache).join('\n');
    };
    expect(faultsAfter((f) => f.cache.slabs.allocate(3))).toMatch(/chunk \d+ of class 3 is lost/);
    expect(faultsAfter((f, ref) => f.cache.items.retain(ref))).toMatch(/has 2 references, expected 1/);
    expect(
      faultsAfter((f, ref) => f.cache.memory.u8.fill(0x41, f.cache.items.keyAt(ref), f.cache.items.keyAt(ref) + 4)),
    ).toMatch(/is in bucket \d+ and belongs to/);
    expect(faultsAfter((f, ref) => f.cache.lru.unlink(ref, f.cache.items.totalBytes(ref)))).toMatch(
      /and in no LRU list/,
    );
    expect(faultsAfter((f, ref) => f.cache.assoc.remove(ref, f.cache.assoc.hashOf(ref)))).toMatch(
      /in an LRU list and in no bucket/,
    );
    expect(faultsAfter((f) => f.cache.locks.acquire(W_LOCK_CACHE))).toMatch(/cache lock is held by thread 1/);
  });
});

describe('slab classes', () => {
  it('have the sizes that memcached prints for its defaults', () => {
    expect(slabSizes(DEFAULT_CACHE_CONFIG)).toEqual([
      96, 120, 152, 192, 240, 304, 384, 480, 600, 752, 944, 1184, 1480, 1856, 2320, 2904, 3632, 4544, 5680, 7104, 8880,
      11104, 13880, 17352, 21696, 27120, 33904, 42384, 52984, 66232, 82792, 103496, 129376, 161720, 202152, 252696,
      315872, 394840, 524288,
    ]);
  });

  it('have the sizes that memcached prints for -f 1.07 -n 100, -f 2 and -f 1.08', () => {
    const fine = slabSizes({ ...DEFAULT_CACHE_CONFIG, growthFactor: 1.07, chunkSizeMin: 100 });
    expect(fine.slice(0, 6)).toEqual([152, 168, 184, 200, 216, 232]);
    expect(fine.slice(-3)).toEqual([11296, 12088, 524288]);
    expect(fine).toHaveLength(63);
    const coarse = [96, 192, 384, 768, 1536, 3072, 6144, 12288, 24576, 49152, 98304, 196608, 524288];
    expect(slabSizes({ ...DEFAULT_CACHE_CONFIG, growthFactor: 2 })).toEqual(coarse);
    expect(slabSizes({ ...DEFAULT_CACHE_CONFIG, growthFactor: 1.08 }).slice(-2)).toEqual([13800, 524288]);
  });
});

type Operation =
  | { op: 'store'; mode: number; key: string; flags: number; exptime: number; value: string; cas: boolean }
  | { op: 'get' | 'remove'; key: string }
  | { op: 'delta'; key: string; incr: boolean; by: bigint }
  | { op: 'touch'; key: string; exptime: number }
  | { op: 'tick'; seconds: number }
  | { op: 'flush' };

const key = fc.oneof(
  fc.integer({ min: 0, max: 12 }).map((n) => `k${n}`),
  fc.integer({ min: 0, max: 3 }).map((n) => `${n}`.repeat(250)),
);
const value = fc.oneof(
  { weight: 6, arbitrary: fc.string({ unit: 'grapheme-ascii', maxLength: 40 }) },
  { weight: 4, arbitrary: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(String) },
  { weight: 2, arbitrary: fc.integer({ min: 0, max: 9000 }).map((n) => 'v'.repeat(n)) },
  { weight: 1, arbitrary: fc.integer({ min: 500_000, max: 1_040_000 }).map((n) => 'big'.repeat(n / 3)) },
);
const exptime = fc.oneof(
  { weight: 5, arbitrary: fc.constant(0) },
  { weight: 2, arbitrary: fc.integer({ min: -2, max: 20 }) },
);
const flags = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff_ffff }));
const operation: fc.Arbitrary<Operation> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      op: fc.constant('store' as const),
      mode: fc.constantFrom(STORE_SET, STORE_SET, STORE_ADD, STORE_REPLACE, STORE_APPEND, STORE_PREPEND, STORE_CAS),
      key,
      flags,
      exptime,
      value,
      cas: fc.boolean(),
    }),
  },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('get' as const), key }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('remove' as const), key }) },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant('delta' as const),
      key,
      incr: fc.boolean(),
      by: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('touch' as const), key, exptime }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('tick' as const), seconds: fc.integer({ min: 1, max: 9 }) }) },
  { weight: 1, arbitrary: fc.constant({ op: 'flush' as const }) },
);

/** What the cache should hold: memcached's rules on a Map. */
class Model {
  readonly map = new Map<string, { flags: number; value: string; expires: number; cas: number }>();
  now = 62;

  live(name: string): { flags: number; value: string; expires: number; cas: number } | undefined {
    const entry = this.map.get(name);
    if (entry !== undefined && entry.expires !== 0 && entry.expires <= this.now) {
      this.map.delete(name);
      return undefined;
    }
    return entry;
  }

  expiry(seconds: number): number {
    return seconds === 0 ? 0 : seconds < 0 ? 1 : this.now + seconds;
  }
}

describe.each(['none', 'global', 'striped'] as const)('the engine with %s locks', (mode) => {
  it('does what a Map with expiry, CAS and arithmetic does, and loses no chunk', () => {
    fc.assert(
      fc.property(fc.array(operation, { minLength: 1, maxLength: 120 }), (operations) => {
        const fixture = new Fixture({ memoryBytes: 256 * PAGE_BYTES, hashPower: 10 }, mode);
        const model = new Model();
        for (const o of operations) {
          switch (o.op) {
            case 'store': {
              const old = model.live(o.key);
              // The right CAS, none, or a wrong one.
              const cas = old !== undefined && o.cas ? old.cas : o.value.length % 2 === 0 ? 0 : 1e15;
              const size = (text: string): number => 57 + o.key.length + text.length + 2 + 4;
              const got = fixture.store(o.mode, o.key, o.flags, o.exptime, o.value, cas);
              let expected = STORED;
              let next = { flags: o.flags, value: o.value, expires: model.expiry(o.exptime), cas: 0 };
              if (old === undefined) {
                if (o.mode === STORE_CAS) expected = NOT_FOUND;
                else if (o.mode !== STORE_SET && o.mode !== STORE_ADD) expected = NOT_STORED;
              } else if (o.mode === STORE_ADD) expected = NOT_STORED;
              else if (o.mode === STORE_CAS && cas !== old.cas) expected = EXISTS;
              else if ((o.mode === STORE_APPEND || o.mode === STORE_PREPEND) && cas !== 0 && cas !== old.cas)
                expected = NOT_STORED;
              else if (o.mode === STORE_APPEND) next = { ...old, value: old.value + o.value };
              else if (o.mode === STORE_PREPEND) next = { ...old, value: o.value + old.value };
              if (expected === STORED && size(next.value) - (next.flags === 0 ? 4 : 0) > PAGE_BYTES)
                expected = NOT_STORED;
              expect(got).toBe(expected);
              if (expected === STORED) {
                next.cas = fixture.get(o.key)?.cas ?? (model.expiry(o.exptime) === 1 ? 0 : -1);
                model.map.set(o.key, next);
              }
              break;
            }
            case 'get': {
              const want = model.live(o.key);
              const got = fixture.get(o.key);
              expect(got?.value).toBe(want?.value);
              expect(got?.flags).toBe(want?.flags);
              break;
            }
            case 'remove':
              expect(fixture.remove(o.key)).toBe(model.live(o.key) !== undefined);
              model.map.delete(o.key);
              break;
            case 'delta': {
              const entry = model.live(o.key);
              const got = fixture.delta(o.key, o.incr, o.by);
              if (entry === undefined) {
                expect(got.result).toBe(DELTA_NOT_FOUND);
                break;
              }
              const digits = /^[\t-\r ]*\+?(\d+)(?=$|[\t-\r ])/.exec(entry.value);
              const number = digits === null ? -1n : BigInt(digits[1]!);
              if (number < 0n || number >= 2n ** 64n || (number >= 2n ** 63n && entry.value.includes('-'))) {
                // A minus sign wraps in C, so only the clear cases are compared.
                if (!entry.value.includes('-')) expect(got.result).toBe(DELTA_NON_NUMERIC);
                if (got.result === DELTA_OK) model.map.set(o.key, { ...entry, value: fixture.get(o.key)!.value });
                break;
              }
              let result = o.incr ? (number + o.by) % 2n ** 64n : number - o.by;
              if (result < 0n) result = 0n;
              expect(got).toEqual({ result: DELTA_OK, text: String(result) });
              model.map.set(o.key, {
                ...entry,
                value: String(result).padEnd(String(result).length > entry.value.length ? 0 : entry.value.length),
                cas: fixture.get(o.key)!.cas,
              });
              break;
            }
            case 'touch': {
              const entry = model.live(o.key);
              expect(fixture.touch(o.key, o.exptime)).toBe(entry !== undefined);
              if (entry !== undefined) entry.expires = model.expiry(o.exptime);
              break;
            }
            case 'tick':
              fixture.tick(o.seconds);
              model.now += o.seconds;
              break;
            case 'flush':
              fixture.cache.items.flushAll(0);
              model.map.clear();
              break;
          }
        }
        for (const name of model.map.keys()) expect(fixture.get(name)?.value).toBe(model.live(name)?.value);
        fixture.check();
      }),
      { numRuns: 150 },
    );
  });

  it('evicts the least recently used items when memory is full, and never more than memory holds', () => {
    const fixture = new Fixture({ memoryBytes: 4 * PAGE_BYTES }, mode);
    const text = 'x'.repeat(1000);
    for (let i = 0; i < 20_000; i++) {
      expect(fixture.store(STORE_SET, `key${i}`, 0, 0, text)).toBe(STORED);
      // Used again and again, so it outlives everything else.
      if (i % 50 === 0) {
        if (i === 0) fixture.store(STORE_SET, 'hot', 0, 0, text);
        expect(fixture.get('hot')?.value).toBe(text);
      }
    }
    expect(sumLruCounter(fixture.cache.memory, L_EVICTED)).toBeGreaterThan(10_000);
    expect(fixture.get('key19999')?.value).toBe(text);
    expect(fixture.get('key0')).toBeUndefined();
    fixture.check();
  });

  it('reclaims expired items before it evicts, and refuses with evictions off', () => {
    const fixture = new Fixture({ memoryBytes: 2 * PAGE_BYTES, evictions: false }, mode);
    const text = 'x'.repeat(10_000);
    let stored = 0;
    while (fixture.store(STORE_SET, `key${stored}`, 0, 5, text) === STORED) stored++;
    expect(fixture.cache.items.tooLarge).toBe(false);
    fixture.tick(6);
    for (let i = 0; i < stored; i++) expect(fixture.store(STORE_SET, `new${i}`, 0, 0, text)).toBe(STORED);
    expect(sumLruCounter(fixture.cache.memory, L_RECLAIMED)).toBe(stored);
    expect(fixture.store(STORE_SET, 'one more', 0, 0, text)).toBe(-1);
    fixture.check();
  });

  it('evicts chunked items for chunked items, and one that is held keeps its memory', () => {
    const fixture = new Fixture({ memoryBytes: 8 * PAGE_BYTES }, mode);
    const text = 'y'.repeat(900_000);
    expect(fixture.store(STORE_SET, 'held', 3, 0, `${text}held`)).toBe(STORED);
    const bytes = Buffer.from('held');
    const ref = fixture.cache.items.find(bytes, 0, 4, fixture.cache.assoc.hash(bytes, 0, 4));
    fixture.cache.items.retain(ref);
    for (let i = 0; i < 40; i++) expect(fixture.store(STORE_SET, `big${i}`, 0, 0, text + i)).toBe(STORED);
    expect(fixture.get('big39')?.value === `${text}39`).toBe(true);
    // As in memcached it may be evicted like any other; but its memory is its holder's.
    expect(fixture.get('held')).toBeUndefined();
    expect(fixture.valueOf(ref) === `${text}held\r\n`).toBe(true);
    fixture.check(new Map([[ref, 1]]));
    fixture.cache.items.release(ref);
    fixture.check();
  });

  it('grows its hash table while it fills', () => {
    const fixture = new Fixture({ hashPower: 10 }, mode);
    for (let i = 0; i < 20_000; i++) fixture.store(STORE_SET, `key${i}`, 0, 0, String(i));
    expect(fixture.cache.memory.i32[W_HASH_BUCKETS]).toBeGreaterThan(12_000);
    for (let i = 0; i < 20_000; i++) expect(fixture.get(`key${i}`)?.value).toBe(String(i));
    fixture.check();
  });

  it('forgets with a delayed flush_all everything stored before its time', () => {
    const fixture = new Fixture({}, mode);
    fixture.store(STORE_SET, 'old', 0, 0, '1');
    fixture.cache.items.flushAll(10);
    fixture.tick(3);
    fixture.store(STORE_SET, 'between', 0, 0, '2');
    expect(fixture.get('old')?.value).toBe('1');
    fixture.tick(9);
    fixture.store(STORE_SET, 'new', 0, 0, '3');
    expect([fixture.get('old'), fixture.get('between'), fixture.get('new')?.value]).toEqual([
      undefined,
      undefined,
      '3',
    ]);
    fixture.check();
  });

  it('counts as the last access also an add that finds the item, and arithmetic', () => {
    const fixture = new Fixture({}, mode);
    const { i32 } = fixture.cache.memory;
    fixture.store(STORE_SET, 'n', 0, 0, '5');
    const age = (): number => i32[W_TIME]! - i32[fixture.ref('n') * 2 + I_TIME]!;
    fixture.tick(5);
    expect(age()).toBe(5);
    expect(fixture.store(STORE_ADD, 'n', 0, 0, '6')).toBe(NOT_STORED);
    expect(age()).toBe(0);
    fixture.tick(5);
    expect(fixture.delta('n', true, 1n).result).toBe(DELTA_OK);
    expect(age()).toBe(0);
  });

  it('says too large, and only then, for what -I forbids', () => {
    const fixture = new Fixture({}, mode);
    const most = PAGE_BYTES - 57 - 3 - 2;
    expect(fixture.store(STORE_SET, 'key', 0, 0, 'z'.repeat(most))).toBe(STORED);
    expect(fixture.store(STORE_SET, 'key', 0, 0, 'z'.repeat(most + 1))).toBe(-1);
    expect(fixture.cache.items.tooLarge).toBe(true);
    fixture.check();
  });
});
