/** The segmented LRU, its maintainer and its crawler: against a model of the lists, and against Debian's memcached. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CRAWL_BACKGROUND, Crawler, parseLists } from '../src/engine/crawler.ts';
import { STORE_SET, STORED } from '../src/engine/items.ts';
import {
  COLD_LRU,
  DEFAULT_CACHE_CONFIG,
  HOT_LRU,
  I_NEXT,
  I_REFCOUNT,
  LRU_HEAD,
  LRU_WORDS,
  type LruConfig,
  PAGE_BYTES,
  TEMP_LRU,
  W_LRU,
  W_LRU_SEGMENTED,
  WARM_LRU,
} from '../src/engine/layout.ts';
import { Maintainer } from '../src/engine/maintainer.ts';
import {
  L_CRAWLER_RECLAIMED,
  L_MOVES_TO_COLD,
  L_MOVES_TO_WARM,
  L_TAILREPAIRS,
  sumLruCounter,
} from '../src/engine/stats.ts';
import { Fixture } from './fixture.ts';
import { Client, DEBIANS, endsWithTest, hasDebians, IO_MODES, start, startOurs } from './servers.ts';

function fixtureWith(lru: Partial<LruConfig>, memoryBytes = 64 * PAGE_BYTES): Fixture {
  return new Fixture({ memoryBytes, lru: { ...DEFAULT_CACHE_CONFIG.lru, ...lru } });
}

/** Keys of a list from head to tail. */
function keysOf(fixture: Fixture, list: number): string[] {
  const { memory, items } = fixture.cache;
  const keys: string[] = [];
  for (let ref = memory.i32[W_LRU + list * LRU_WORDS + LRU_HEAD]!; ref !== 0; ref = memory.i32[ref * 2 + I_NEXT]!) {
    keys.push(memory.u8.toString('latin1', items.keyAt(ref), items.keyAt(ref) + items.keyBytes(ref)));
  }
  return keys;
}

describe('the segmented LRU', () => {
  it('takes new items into HOT, and the second access to one in COLD brings it to WARM', () => {
    const fixture = fixtureWith({});
    fixture.store(STORE_SET, 'a', 0, 0, '1');
    fixture.store(STORE_SET, 'b', 0, 0, '1');
    expect(keysOf(fixture, 1 | HOT_LRU)).toEqual(['b', 'a']);
    new Maintainer(fixture.cache).juggle(1);
    // 20 % of two items is less than one: both go.
    expect(keysOf(fixture, 1 | COLD_LRU)).toEqual(['b', 'a']);
    fixture.get('a');
    expect(keysOf(fixture, 1 | COLD_LRU)).toEqual(['b', 'a']);
    fixture.get('a');
    expect(keysOf(fixture, 1 | WARM_LRU)).toEqual(['a']);
    expect(sumLruCounter(fixture.cache.memory, L_MOVES_TO_COLD)).toBe(2);
    expect(sumLruCounter(fixture.cache.memory, L_MOVES_TO_WARM)).toBe(1);
    fixture.check();
  });

  it('keeps HOT and WARM within their share of the class', () => {
    const fixture = fixtureWith({});
    for (let i = 0; i < 1000; i++) fixture.store(STORE_SET, `key${String(i).padStart(4, '0')}`, 0, 0, 'x');
    for (let i = 0; i < 800; i++) for (const _ of 'xx') fixture.get(`key${String(i).padStart(4, '0')}`);
    const maintainer = new Maintainer(fixture.cache);
    for (let round = 0; round < 20; round++) maintainer.juggle(1);
    const { lru } = fixture.cache;
    expect(lru.count(1 | HOT_LRU)).toBe(200);
    expect(lru.count(1 | WARM_LRU)).toBeGreaterThan(0);
    expect(lru.count(1 | WARM_LRU)).toBeLessThanOrEqual(400);
    fixture.check();
  });

  it.each([
    ['takes its time while memory is ample', 64, 10],
    ['does more once memory is short', 1, 300],
  ])('%s', (_name, pages, most) => {
    const fixture = fixtureWith({}, pages * PAGE_BYTES);
    for (let i = 0; i < 1000; i++) fixture.store(STORE_SET, `key${String(i).padStart(4, '0')}`, 0, 0, 'x');
    const maintainer = new Maintainer(fixture.cache, 300, 10);
    const moves = (): number => sumLruCounter(fixture.cache.memory, L_MOVES_TO_COLD);
    maintainer.step(0);
    expect(moves()).toBe(most);
    for (let ms = 1; ms < 200; ms++) maintainer.step(ms * 1000);
    expect(fixture.cache.lru.count(1 | HOT_LRU)).toBe(200);
    expect(moves()).toBe(800);
    fixture.check();
  });

  it('keeps what is short-lived in TEMP, where expiry alone takes it', () => {
    const fixture = fixtureWith({ temp: true, temporaryTtl: 61 }, 2 * PAGE_BYTES);
    const text = 'x'.repeat(1000);
    for (let i = 0; i < 200; i++) fixture.store(STORE_SET, `temp${i}`, 0, 61, text);
    fixture.store(STORE_SET, 'longer', 0, 62, text);
    const clsid = fixture.cache.slabs.classFor(1100);
    expect(fixture.cache.lru.count(clsid | TEMP_LRU)).toBe(200);
    expect(fixture.cache.lru.count(clsid | HOT_LRU)).toBe(1);
    for (let i = 0; i < 5000; i++) expect(fixture.store(STORE_SET, `key${i}`, 0, 0, text)).toBe(STORED);
    expect(fixture.cache.lru.count(clsid | TEMP_LRU)).toBe(200);
    expect(fixture.get('longer')).toBeUndefined();
    fixture.tick(61);
    new Maintainer(fixture.cache).juggle(clsid);
    expect(fixture.cache.lru.count(clsid | TEMP_LRU)).toBe(0);
    fixture.check();
  });

  it('takes all for short-lived when that is what the longest time says', () => {
    const fixture = fixtureWith({ temp: true, temporaryTtl: -1 });
    for (const ttl of [0, 10, 100_000]) fixture.store(STORE_SET, `key${ttl}`, 0, ttl, 'x');
    expect(fixture.cache.lru.count(1 | TEMP_LRU)).toBe(3);
  });

  it('drains into COLD when it is made flat while it works', () => {
    const fixture = fixtureWith({});
    for (let i = 0; i < 100; i++) fixture.store(STORE_SET, `key${i}`, 0, 0, 'x');
    for (let i = 0; i < 100; i += 3) for (const _ of 'xxx') fixture.get(`key${i}`);
    fixture.tick(2);
    fixture.cache.memory.i32[W_LRU_SEGMENTED] = 0;
    const maintainer = new Maintainer(fixture.cache);
    for (let round = 0; round < 5; round++) maintainer.juggle(1);
    expect(fixture.cache.lru.count(1 | COLD_LRU)).toBe(100);
    fixture.store(STORE_SET, 'new', 0, 0, 'x');
    expect(fixture.cache.lru.count(1 | COLD_LRU)).toBe(101);
    fixture.check();
  });

  it('with tail_repair_time takes an item from a holder who never gives it back', () => {
    const fixture = fixtureWith({ tailRepairTime: 10 }, 2 * PAGE_BYTES);
    const text = 'x'.repeat(100_000);
    fixture.store(STORE_SET, 'held', 0, 0, text);
    fixture.cache.items.retain(fixture.ref('held'));
    fixture.tick(11);
    for (let i = 0; i < 40; i++) expect(fixture.store(STORE_SET, `key${i}`, 0, 0, text)).toBe(STORED);
    expect(sumLruCounter(fixture.cache.memory, L_TAILREPAIRS)).toBe(1);
    expect(fixture.get('held')).toBeUndefined();
    fixture.check();
  });

  it('moves items as a model of four lists does, whatever happens to them', () => {
    const name = fc.integer({ min: 0, max: 30 }).map((n) => `key${String(n).padStart(3, '0')}`);
    const operation = fc.oneof(
      {
        weight: 4,
        arbitrary: fc.record({ op: fc.constant('set' as const), name, ttl: fc.constantFrom(0, 0, 0, 30, 100) }),
      },
      { weight: 6, arbitrary: fc.record({ op: fc.constant('get' as const), name }) },
      { weight: 1, arbitrary: fc.record({ op: fc.constant('delete' as const), name }) },
      { weight: 2, arbitrary: fc.record({ op: fc.constant('juggle' as const) }) },
      {
        weight: 1,
        arbitrary: fc.record({ op: fc.constant('tick' as const), seconds: fc.integer({ min: 1, max: 40 }) }),
      },
    );
    type Entry = { name: string; expires: number; time: number; fetched: boolean; active: boolean };
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 200 }), (operations) => {
        const fixture = fixtureWith({ temp: true, temporaryTtl: 60 });
        const maintainer = new Maintainer(fixture.cache);
        const lists: Record<number, Entry[]> = { [HOT_LRU]: [], [WARM_LRU]: [], [COLD_LRU]: [], [TEMP_LRU]: [] };
        let now = 62;
        const where = (wanted: string): [Entry[], Entry] | undefined => {
          for (const list of Object.values(lists)) {
            const entry = list.find((candidate) => candidate.name === wanted);
            if (entry !== undefined) return [list, entry];
          }
          return undefined;
        };
        const drop = (list: Entry[], entry: Entry): void => {
          list.splice(list.indexOf(entry), 1);
        };
        const expired = (entry: Entry): boolean => entry.expires !== 0 && entry.expires <= now;
        /** One look at a tail, as memcached's: true when something moved. */
        const pull = (segment: number, total: number, age: number): boolean => {
          const list = lists[segment]!;
          let moved = false;
          for (let tries = 5; tries > 0 && list.length > 0; tries--) {
            const entry = list.at(-1)!;
            if (expired(entry)) {
              list.pop();
              moved = true;
              continue;
            }
            if (segment === TEMP_LRU) return moved;
            if (segment === COLD_LRU) return moved;
            if (entry.active) {
              entry.active = false;
              list.pop();
              lists[WARM_LRU]!.unshift(entry);
              moved = true;
              if (segment === HOT_LRU) return true;
              continue;
            }
            if (list.length > (total * (segment === HOT_LRU ? 20 : 40)) / 100 || now - entry.time > age) {
              list.pop();
              lists[COLD_LRU]!.unshift(entry);
              return true;
            }
            return moved;
          }
          return moved;
        };
        for (const o of operations) {
          switch (o.op) {
            case 'set': {
              const old = where(o.name);
              if (old !== undefined) drop(...old);
              fixture.store(STORE_SET, o.name, 0, o.ttl, 'v');
              const entry = {
                name: o.name,
                expires: o.ttl === 0 ? 0 : now + o.ttl,
                time: now,
                fetched: false,
                active: false,
              };
              lists[o.ttl === 30 ? TEMP_LRU : HOT_LRU]!.unshift(entry);
              break;
            }
            case 'get': {
              const found = where(o.name);
              const got = fixture.get(o.name);
              if (found === undefined || expired(found[1])) {
                expect(got).toBeUndefined();
                if (found !== undefined) drop(...found);
                break;
              }
              expect(got?.value).toBe('v');
              const [list, entry] = found;
              if (entry.active) break;
              if (!entry.fetched) entry.fetched = true;
              else if (list === lists[COLD_LRU]) {
                drop(list, entry);
                lists[WARM_LRU]!.unshift(entry);
                entry.time = now;
              } else {
                entry.active = true;
                entry.time = now;
              }
              break;
            }
            case 'delete': {
              const found = where(o.name);
              if (found !== undefined) drop(...found);
              fixture.remove(o.name);
              break;
            }
            case 'juggle': {
              while (pull(TEMP_LRU, 0, 0));
              const cold = lists[COLD_LRU]!.at(-1);
              const coldAge = cold === undefined ? 0 : now - cold.time;
              const total = lists[HOT_LRU]!.length + lists[WARM_LRU]!.length + lists[COLD_LRU]!.length;
              for (;;) {
                let more = pull(HOT_LRU, total, coldAge * 0.2) || pull(WARM_LRU, total, coldAge * 2);
                if (pull(COLD_LRU, total, 0)) more = true;
                if (!more) break;
              }
              maintainer.juggle(1);
              break;
            }
            case 'tick':
              now += o.seconds;
              fixture.tick(o.seconds);
              break;
          }
          for (const segment of [HOT_LRU, WARM_LRU, COLD_LRU, TEMP_LRU]) {
            expect(keysOf(fixture, 1 | segment)).toEqual(lists[segment]!.map((entry) => entry.name));
          }
        }
        fixture.check();
      }),
      { numRuns: 200 },
    );
  });
});

describe('the crawler', () => {
  it('names lists as memcached does', () => {
    expect(parseLists('all')).toHaveLength(63 * 4);
    expect(parseLists('1,3')).toEqual([1, 65, 129, 193, 3, 67, 131, 195]);
    for (const bad of ['0', '64', 'x', '1,x', '-1', '1.5']) expect(parseLists(bad)).toBeUndefined();
  });

  it('takes out what has expired, wherever it is in its list, and nothing else', () => {
    const fixture = fixtureWith({});
    for (let i = 0; i < 3000; i++) fixture.store(STORE_SET, `key${i}`, 0, i % 3 === 0 ? 5 : i % 3 === 1 ? 500 : 0, 'x');
    fixture.tick(6);
    const crawler = new Crawler(fixture.cache);
    expect(crawler.begin(parseLists('all')!, 0, CRAWL_BACKGROUND)).toBe(true);
    expect(crawler.begin(parseLists('all')!, 0, CRAWL_BACKGROUND)).toBe(false);
    let steps = 0;
    while (crawler.step(100)) {
      steps++;
      // What it stands at may go at any time.
      fixture.remove(`key${3000 - steps * 50 + 1}`);
    }
    expect(steps).toBeGreaterThan(20);
    expect(sumLruCounter(fixture.cache.memory, L_CRAWLER_RECLAIMED)).toBeGreaterThan(900);
    for (let i = 0; i < 3000; i += 3) expect(fixture.ref(`key${i}`)).toBe(0);
    const stats = crawler.stats[1 | HOT_LRU]!;
    expect(stats.complete).toBe(true);
    expect(stats.histogram[8]).toBeGreaterThan(900);
    expect(stats.seen - stats.noExpiry).toBe(stats.histogram.reduce((sum, count) => sum + count));
    // The next one counts anew.
    const alive = fixture.cache.lru.count(1 | HOT_LRU);
    expect(crawler.begin([1], 0, CRAWL_BACKGROUND)).toBe(true);
    while (crawler.step(100));
    expect([stats.seen, stats.reclaimed]).toEqual([alive, 0]);
    expect(stats.histogram.reduce((sum, count) => sum + count)).toBe(stats.seen - stats.noExpiry);
    expect(crawler.begin([1], 0, CRAWL_BACKGROUND)).toBe(true);
    crawler.end();
    fixture.check();
  });

  it('is started by the maintainer, again and again, and less often where little expires', () => {
    const fixture = fixtureWith({});
    // At the tail of COLD, so that nothing behind it is reclaimed from there.
    fixture.store(STORE_SET, 'stays', 0, 0, 'x');
    for (let i = 0; i < 500; i++) fixture.store(STORE_SET, `key${i}`, 0, 30, 'x');
    const maintainer = new Maintainer(fixture.cache);
    let clock = 0;
    for (let second = 0; second < 120; second++) {
      for (let i = 0; i < 20; i++) maintainer.step((clock += 50_000));
      fixture.tick(1);
    }
    expect(sumLruCounter(fixture.cache.memory, L_CRAWLER_RECLAIMED)).toBeGreaterThan(0);
    expect(fixture.cache.memory.i32[fixture.ref('stays') * 2 + I_REFCOUNT]).toBe(1);
    let left = 0;
    for (let i = 0; i < 500; i++) if (fixture.ref(`key${i}`) !== 0) left++;
    expect(left).toBe(0);
    fixture.check();
  });
});

/** The keys that survive more same-size items than memory has room for. */
async function survivors(port: number): Promise<{ alive: number[]; stats: Record<string, string>; items: object }> {
  const client = await Client.connect(port);
  const value = 'v'.repeat(4000);
  const total = 2500;
  for (let i = 0; i < total; i++) {
    client.send(`set key${i} 0 ${i % 3 === 0 ? 500 : 0} 4000 noreply\r\n${value}\r\n`);
    // Some are evicted after they were fetched.
    if (i % 5 === 0) client.send(`get key${i}\r\n`);
  }
  await client.ask('mn\r\n', 'MN\r\n');
  const alive: number[] = [];
  for (let i = 0; i < total; i += 100) {
    const names = Array.from({ length: 100 }, (_, j) => `key${i + j}`).join(' ');
    const text = await client.ask(`get ${names}\r\n`, 'END\r\n');
    for (const match of text.matchAll(/VALUE key(\d+)/g)) alive.push(Number(match[1]));
  }
  const stats = await client.stats();
  // Without what depends on the second, and on replies that memcached has not sent yet.
  const items = Object.entries(await client.stats('items')).filter(
    ([name]) => !/:(age|evicted_time|lrutail_reflocked)$/.test(name),
  );
  client.close();
  return { alive, stats, items: Object.fromEntries(items) };
}

describe.skipIf(!hasDebians)("evictions compared with Debian's memcached (skipped where it is not installed)", () => {
  it('a flat LRU evicts the same items in the same order', async () => {
    const args = ['-t', '1', '-m', '8', '-o', 'no_lru_maintainer'];
    const theirs = await start(DEBIANS, [...args, '-U', '0']);
    endsWithTest(theirs);
    const wanted = await survivors(theirs.port);
    expect(Number(wanted.stats['evictions'])).toBeGreaterThan(500);
    for (const io of IO_MODES) {
      const ours = await startOurs(io, args);
      endsWithTest(ours);
      const got = await survivors(ours.port);
      expect(got.alive).toEqual(wanted.alive);
      expect(got.items).toEqual(wanted.items);
      for (const name of ['evictions', 'curr_items', 'bytes', 'evicted_unfetched']) {
        expect([name, got.stats[name]]).toEqual([name, wanted.stats[name]]);
      }
    }
  });

  it('stats items has the same keys, and the lists come to about the same counts', async () => {
    const fill = async (port: number): Promise<Record<string, string>> => {
      const client = await Client.connect(port);
      for (let i = 0; i < 5000; i++) client.send(`set key${i} 0 0 100 noreply\r\n${'v'.repeat(100)}\r\n`);
      for (let i = 0; i < 1000; i++) client.send(`get key${i}\r\nget key${i}\r\n`);
      await client.ask('mn\r\n', 'MN\r\n');
      for (;;) {
        const stats = await client.stats('items');
        // Wait for the maintainer: HOT shrinks to 20 %.
        if (Number(stats['items:4:number_hot']) <= 1000) {
          client.close();
          return stats;
        }
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    };
    const theirs = await start(DEBIANS, ['-t', '1', '-U', '0']);
    endsWithTest(theirs);
    const wanted = await fill(theirs.port);
    for (const threads of ['1', '2']) {
      const ours = await startOurs('megapipe', ['-t', threads]);
      endsWithTest(ours);
      const got = await fill(ours.port);
      expect(Object.keys(got)).toEqual(Object.keys(wanted));
      for (const name of ['number', 'mem_requested', 'evicted']) {
        expect([name, got[`items:4:${name}`]]).toEqual([name, wanted[`items:4:${name}`]]);
      }
      const cold = Number(got['items:4:number_cold']);
      expect(cold).toBeGreaterThan(2000);
      expect(Number(got['items:4:moves_to_cold'])).toBeGreaterThanOrEqual(cold);
    }
  });
});
