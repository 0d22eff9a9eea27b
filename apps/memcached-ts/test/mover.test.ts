/** Pages that change their slab class: nothing that is alive is lost, and no chunk of any page either. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Automove } from '../src/engine/automove.ts';
import { STORE_SET, STORED } from '../src/engine/items.ts';
import {
  D_BUSY_DELETES,
  D_CHUNK_RESCUES,
  D_EVICTIONS_NOMEM,
  D_INLINE_RECLAIM,
  D_RESCUES,
  D_SLABS_MOVED,
  DEFAULT_CACHE_CONFIG,
  PAGE_BYTES,
  SLAB_PAGES,
  SLAB_WORDS,
  W_MOVE_DST,
  W_MOVE_RUNNING,
  W_MOVE_SRC,
  W_PAGES_POOL,
  W_PAGES_RELEASED,
  W_PAGES_USED,
  W_SLABS,
} from '../src/engine/layout.ts';
import { Maintainer } from '../src/engine/maintainer.ts';
import { Mover } from '../src/engine/mover.ts';
import { MOVE_BADCLASS, MOVE_NOSPARE, MOVE_OK, MOVE_RUNNING, MOVE_SAME } from '../src/engine/slabs.ts';
import { Fixture } from './fixture.ts';

function pagesOf(fixture: Fixture, clsid: number): number {
  return fixture.cache.memory.i32[W_SLABS + clsid * SLAB_WORDS + SLAB_PAGES]!;
}

/** Moves one page to the end. */
function move(fixture: Fixture, src: number, dst: number): void {
  expect(fixture.cache.slabs.requestMove(src, dst)).toBe(MOVE_OK);
  const mover = new Mover(fixture.cache);
  for (let steps = 0; mover.step(1000); steps++) if (steps > 100_000) throw new Error('the page does not move');
}

describe.each(['none', 'global', 'striped'] as const)('the page mover with %s locks', (mode) => {
  it('rescues every item of a page while its class has room, and says what it did', () => {
    const fixture = new Fixture({}, mode);
    const text = 'x'.repeat(1000);
    const clsid = fixture.cache.slabs.classFor(1070);
    for (let i = 0; i < 2500; i++) fixture.store(STORE_SET, `key${i}`, i, 0, text + i);
    for (let i = 0; i < 2500; i += 2) fixture.remove(`key${i}`);
    const pages = pagesOf(fixture, clsid);
    expect(pages).toBeGreaterThan(2);
    move(fixture, clsid, 5);
    expect([pagesOf(fixture, clsid), pagesOf(fixture, 5)]).toEqual([pages - 1, 1]);
    const { f64 } = fixture.cache.memory;
    expect(f64[D_SLABS_MOVED]).toBe(1);
    expect(f64[D_RESCUES]).toBeGreaterThan(300);
    expect(f64[D_EVICTIONS_NOMEM]).toBe(0);
    for (let i = 1; i < 2500; i += 2) expect(fixture.get(`key${i}`)).toMatchObject({ flags: i, value: text + i });
    fixture.check();
  });

  it('evicts where there is no room, and reclaims what has expired', () => {
    const fixture = new Fixture({}, mode);
    const text = 'x'.repeat(10_000);
    const clsid = fixture.cache.slabs.classFor(10_070);
    for (let i = 0; i < 282; i++) fixture.store(STORE_SET, `key${i}`, 0, i % 2 === 0 ? 5 : 0, text + i);
    fixture.tick(6);
    move(fixture, clsid, 0);
    expect(fixture.cache.memory.f64[D_INLINE_RECLAIM]).toBeGreaterThan(30);
    move(fixture, clsid, 0);
    expect(fixture.cache.memory.f64[D_EVICTIONS_NOMEM]).toBeGreaterThan(30);
    expect(fixture.cache.memory.i32[W_PAGES_POOL]).toBe(2);
    expect(pagesOf(fixture, clsid)).toBe(1);
    fixture.check();
    // The pool serves any class.
    const used = fixture.cache.memory.i32[W_PAGES_USED];
    fixture.store(STORE_SET, 'small', 0, 0, 'x');
    expect(fixture.cache.memory.i32[W_PAGES_POOL]).toBe(1);
    expect(fixture.cache.memory.i32[W_PAGES_USED]).toBe(used);
    fixture.check();
  });

  it('moves the chunks and the headers of large items', () => {
    const fixture = new Fixture({ memoryBytes: 128 * PAGE_BYTES }, mode);
    const { slabs } = fixture.cache;
    const value = (i: number): string => `${i}`.padEnd(900_000, 'abcdefghij');
    for (let i = 0; i < 40; i++) fixture.store(STORE_SET, `big${i}`, 0, 0, value(i));
    for (let i = 0; i < 40; i += 2) fixture.remove(`big${i}`);
    const header = slabs.classFor(60);
    // Pages of the headers' class, so that there is one to move.
    for (let i = 0; pagesOf(fixture, header) < 3; i++) fixture.store(STORE_SET, `small${i}`, 0, 0, 'x');
    for (let i = 0; i < 30_000; i += 2) fixture.remove(`small${i}`);
    move(fixture, slabs.largest, 1 + header);
    move(fixture, slabs.largest, 1 + header);
    move(fixture, header, 1 + header);
    expect(fixture.cache.memory.f64[D_CHUNK_RESCUES]).toBeGreaterThan(0);
    expect(fixture.cache.memory.f64[D_RESCUES]).toBeGreaterThan(0);
    for (let i = 1; i < 40; i += 2) expect(fixture.get(`big${i}`)?.value === value(i)).toBe(true);
    fixture.check();
  });

  it('waits for what somebody holds, and in the end takes it out of the cache', () => {
    const fixture = new Fixture({}, mode);
    const text = 'x'.repeat(400_000);
    const { slabs, items, memory } = fixture.cache;
    for (let i = 0; i < 4; i++) fixture.store(STORE_SET, `key${i}`, 0, 0, text + i);
    const clsid = slabs.largest;
    const held = fixture.ref('key0');
    items.retain(held);
    expect(slabs.requestMove(clsid, 1)).toBe(MOVE_OK);
    const mover = new Mover(fixture.cache);
    for (let i = 0; i < 100; i++) expect(mover.step(1000)).toBe(true);
    expect(fixture.valueOf(held) === `${text}0\r\n`).toBe(true);
    for (let i = 0; i < 2000; i++) mover.step(1000);
    expect(memory.f64[D_BUSY_DELETES]).toBe(1);
    expect(fixture.get('key0')).toBeUndefined();
    expect(fixture.valueOf(held) === `${text}0\r\n`).toBe(true);
    expect(memory.f64[D_SLABS_MOVED]).toBe(0);
    items.release(held);
    while (mover.step(1000));
    expect(memory.f64[D_SLABS_MOVED]).toBe(1);
    fixture.check();
  });

  it('can be stopped half way: everything goes back to its class', () => {
    const fixture = new Fixture({}, mode);
    for (let i = 0; i < 30_000; i++) fixture.store(STORE_SET, `key${i}`, 0, 0, 'x');
    for (let i = 0; i < 30_000; i += 3) fixture.remove(`key${i}`);
    expect(fixture.cache.slabs.requestMove(1, 2)).toBe(MOVE_OK);
    const mover = new Mover(fixture.cache);
    mover.step(3000);
    mover.stop();
    fixture.check();
    for (let i = 1; i < 30_000; i += 3) expect(fixture.get(`key${i}`)?.value).toBe('x');
  });

  it('loses nothing whatever happens between its steps', () => {
    const operation = fc.record({
      op: fc.constantFrom('set', 'set', 'set', 'get', 'delete', 'hold', 'release', 'step', 'step', 'move'),
      key: fc.integer({ min: 0, max: 400 }),
      size: fc.constantFrom(1, 200, 9000, 9000, 200_000, 700_000),
      src: fc.integer({ min: 0, max: 3 }),
      dst: fc.integer({ min: 0, max: 3 }),
    });
    fc.assert(
      fc.property(fc.array(operation, { minLength: 50, maxLength: 300 }), (operations) => {
        const fixture = new Fixture({ memoryBytes: 64 * PAGE_BYTES }, mode);
        const { slabs, items } = fixture.cache;
        const classes = [0, slabs.classFor(260), slabs.classFor(9070), slabs.largest];
        const mover = new Mover(fixture.cache);
        const map = new Map<string, string>();
        const held = new Map<number, { count: number; value: string }>();
        for (const o of operations) {
          const key = `key${o.key}`;
          switch (o.op) {
            case 'set': {
              const value = String(o.key).padEnd(o.size, 'v');
              expect(fixture.store(STORE_SET, key, 0, 0, value)).toBe(STORED);
              map.set(key, value);
              break;
            }
            case 'get': {
              // It may have been evicted by a move, but it is never another's value.
              const got = fixture.get(key);
              if (got !== undefined) expect(got.value === map.get(key)).toBe(true);
              break;
            }
            case 'delete':
              fixture.remove(key);
              map.delete(key);
              break;
            case 'hold': {
              const ref = fixture.ref(key);
              if (ref === 0) break;
              items.retain(ref);
              const entry = held.get(ref) ?? { count: 0, value: fixture.valueOf(ref) };
              entry.count++;
              held.set(ref, entry);
              break;
            }
            case 'release':
              for (const [ref, entry] of held) {
                expect(fixture.valueOf(ref) === entry.value).toBe(true);
                items.release(ref);
                if (--entry.count === 0) held.delete(ref);
                break;
              }
              break;
            case 'step':
              mover.step(200);
              break;
            case 'move':
              slabs.requestMove(classes[o.src]!, classes[o.dst]!);
              break;
          }
        }
        mover.stop();
        fixture.check(new Map([...held].map(([ref, entry]) => [ref, entry.count])));
        for (const [ref, entry] of held) for (let i = 0; i < entry.count; i++) items.release(ref);
        fixture.check();
      }),
      { numRuns: 40 },
    );
  });
});

describe('slabs reassign', () => {
  it('refuses what cannot be, as memcached does', () => {
    const fixture = new Fixture();
    const { slabs } = fixture.cache;
    expect(slabs.requestMove(1, 1)).toBe(MOVE_SAME);
    expect(slabs.requestMove(1, 2)).toBe(MOVE_NOSPARE);
    expect(slabs.requestMove(99, 2)).toBe(MOVE_BADCLASS);
    expect(slabs.requestMove(1, 99)).toBe(MOVE_BADCLASS);
    expect(slabs.requestMove(-1, 2)).toBe(MOVE_BADCLASS);
    expect(slabs.requestMove(0, 2)).toBe(MOVE_NOSPARE);
    for (let i = 0; i < 30_000; i++) fixture.store(STORE_SET, `key${i}`, 0, 0, 'x');
    expect(slabs.requestMove(-1, 2)).toBe(MOVE_OK);
    expect(slabs.requestMove(1, 3)).toBe(MOVE_RUNNING);
  });
});

describe('the memory limit', () => {
  it('can be lowered and raised while the cache works; pages of the pool go back to the system', () => {
    const fixture = new Fixture({ memoryBytes: 16 * PAGE_BYTES, memoryBytesMax: 32 * PAGE_BYTES });
    const { slabs, memory } = fixture.cache;
    const text = 'x'.repeat(1000);
    const clsid = slabs.classFor(1070);
    for (let i = 0; i < 20_000; i++) fixture.store(STORE_SET, `key${i}`, 0, 0, text);
    expect(slabs.mallocedPages()).toBe(16);
    expect(slabs.setLimit(12 * PAGE_BYTES)).toBe(true);
    move(fixture, clsid, 0);
    move(fixture, clsid, 0);
    expect(slabs.mallocedPages()).toBe(14);
    expect(memory.i32[W_PAGES_RELEASED]).toBe(2);
    expect(memory.i32[W_PAGES_POOL]).toBe(0);
    fixture.check();
    expect(slabs.setLimit(20 * PAGE_BYTES)).toBe(true);
    for (let i = 0; i < 30_000; i++) fixture.store(STORE_SET, `more${i}`, 0, 0, text);
    expect(slabs.mallocedPages()).toBe(20);
    expect(memory.i32[W_PAGES_RELEASED]).toBe(0);
    expect(slabs.setLimit(33 * PAGE_BYTES)).toBe(false);
    fixture.check();
  });
});

describe('the automover', () => {
  it('gives pages that are free for a whole window to the pool', () => {
    const fixture = new Fixture();
    const automove = new Automove(fixture.cache);
    const text = 'x'.repeat(1000);
    for (let i = 0; i < 5000; i++) fixture.store(STORE_SET, `key${i}`, 0, 0, text);
    for (let i = 0; i < 5000; i++) fixture.remove(`key${i}`);
    const clsid = fixture.cache.slabs.classFor(1070);
    const moves: number[] = [];
    for (let second = 0; second < 80; second++) {
      fixture.tick(1);
      automove.decide();
      if (automove.src < 0) continue;
      expect([automove.src, automove.dst]).toEqual([clsid, 0]);
      moves.push(second);
      move(fixture, automove.src, automove.dst);
    }
    expect(moves.length).toBeGreaterThan(1);
    // Two and a half pages stay free.
    expect(pagesOf(fixture, clsid)).toBe(2);
    fixture.check();
  });

  it('at level 2 asks for a page with every eviction', () => {
    const fixture = new Fixture({
      memoryBytes: 4 * PAGE_BYTES,
      slabs: { ...DEFAULT_CACHE_CONFIG.slabs, automove: 2 },
    });
    const { slabs, memory } = fixture.cache;
    const [small, large] = [slabs.classFor(1070), slabs.classFor(100_070)];
    for (let i = 0; i < 3000; i++) fixture.store(STORE_SET, `key${i}`, 0, 0, 'x'.repeat(1000));
    for (let i = 0; i < 12; i++) fixture.store(STORE_SET, `large${i}`, 0, 0, 'x'.repeat(100_000));
    expect(pagesOf(fixture, large)).toBe(1);
    expect([memory.i32[W_MOVE_RUNNING], memory.i32[W_MOVE_SRC], memory.i32[W_MOVE_DST]]).toEqual([1, small, large]);
    const mover = new Mover(fixture.cache);
    while (mover.step(1000));
    expect(pagesOf(fixture, large)).toBe(2);
    fixture.check();
  });

  it('takes from the class whose items are oldest for one that evicts young ones', () => {
    const fixture = new Fixture({ memoryBytes: 16 * PAGE_BYTES });
    const automove = new Automove(fixture.cache);
    const { slabs } = fixture.cache;
    const old = 'o'.repeat(1000);
    const young = 'y'.repeat(5000);
    for (let i = 0; i < 10_000; i++) fixture.store(STORE_SET, `old${i}`, 0, 0, old);
    for (let i = 0; i < 10; i++) slabs.requestMove(0, 1);
    let n = 0;
    let moved = 0;
    for (let second = 0; second < 100; second++) {
      fixture.tick(1);
      for (let i = 0; i < 900; i++) fixture.store(STORE_SET, `young${n++}`, 0, 0, young);
      // What the maintainer does: HOT flows to COLD, so that the classes have an age.
      fixture.cache.items.pullTail(slabs.classFor(1070), 0, 0, 0, 0);
      fixture.cache.items.pullTail(slabs.classFor(5070), 0, 0, 0, 0);
      automove.decide();
      if (automove.src < 0) continue;
      expect([automove.src, automove.dst]).toEqual([slabs.classFor(1070), slabs.classFor(5070)]);
      move(fixture, automove.src, automove.dst);
      moved++;
    }
    expect(moved).toBeGreaterThan(3);
    fixture.check();
  });

  it('returns page after page to the pool, without waiting for the next second', () => {
    const fixture = new Fixture({
      memoryBytes: 32 * PAGE_BYTES,
      slabs: { ...DEFAULT_CACHE_CONFIG.slabs, automoveWindow: 3 },
    });
    const maintainer = new Maintainer(fixture.cache);
    const text = 'x'.repeat(11_000);
    for (let i = 0; i < 2000; i++) fixture.store(STORE_SET, `key${i}`, 0, 0, text);
    for (let i = 0; i < 2000; i++) if (i % 8 !== 0) fixture.remove(`key${i}`);
    const clsid = fixture.cache.slabs.classFor(11_070);
    const before = pagesOf(fixture, clsid);
    let now = 0;
    // The window of three seconds must be quiet first; the fourth second is enough for all the rest.
    for (let second = 0; second < 4; second++) {
      fixture.tick(1);
      for (let step = 0; step < 5000; step++) maintainer.step((now += 100));
    }
    expect(before).toBeGreaterThan(20);
    // An eighth of the chunks is in use, and two and a half pages stay free.
    expect(pagesOf(fixture, clsid)).toBeLessThan(before / 8 + 5);
    fixture.check();
  });
});
