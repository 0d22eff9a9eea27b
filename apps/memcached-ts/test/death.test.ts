/**
 * Threads that are killed at any moment: the others go on, and after the repair the cache is sound to the last chunk.
 * `DEATHS=500` for a long run.
 */
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { type Cache, createCache } from '../src/engine/cache.ts';
import { checkInvariants } from '../src/engine/check.ts';
import { STORE_SET } from '../src/engine/items.ts';
import {
  DEFAULT_CACHE_CONFIG,
  LOCK_STRIDE_WORDS,
  PAGE_BYTES,
  W_BACKGROUND_STOP,
  W_LOCK_SLABS,
  W_UNLINKING,
} from '../src/engine/layout.ts';
import { Locks } from '../src/engine/locks.ts';
import { repair } from '../src/engine/repair.ts';
import { sumThreads, T_TOTAL_ITEMS } from '../src/engine/stats.ts';
import { Fixture } from './fixture.ts';

const THREADS = 3;
const BACKGROUND = THREADS + 1;
const OWNER = 120;
const DEATHS = Number(process.env['DEATHS'] ?? 12);

/** Repairs what the threads in `dead` left behind. */
function bury(cache: Cache, dead: number[], alive: number[], lockless = false): ReturnType<typeof repair> {
  return repair(cache, {
    dead: new Set(dead),
    alive: new Set(alive),
    lockless,
    background: BACKGROUND,
    owner: OWNER,
  });
}

describe.each(['global', 'striped'] as const)('threads under %s locks', (mode) => {
  it(
    'that are killed again and again leave a sound cache, and the others never stop',
    async () => {
      const lru = { ...DEFAULT_CACHE_CONFIG.lru, temp: true, temporaryTtl: 1, crawlerSleepUs: 0 };
      const config = { ...DEFAULT_CACHE_CONFIG, memoryBytes: 24 * PAGE_BYTES, hashPower: 10, lru };
      const cache = createCache(config, 'none', 0, 4711);
      const running = new Map<number, Worker>();
      const results: Promise<{ faults: number; hits: number }>[] = [];
      const begin = async (thread: number): Promise<void> => {
        const role = thread === BACKGROUND ? 'background' : 'client';
        const { shared } = cache.memory;
        const workerData = { shared, config, mode, thread, role, keys: 20_000 };
        const worker = new Worker(new URL('./stress_worker.ts', import.meta.url), { workerData });
        running.set(thread, worker);
        const result = new Promise<{ faults: number; hits: number }>((resolve, reject) => {
          worker.once('message', resolve);
          worker.once('error', reject);
        });
        results[thread] = result;
        await new Promise<void>((resolve) => worker.once('online', resolve));
      };
      const threads = Array.from({ length: BACKGROUND }, (_, i) => i + 1);
      await Promise.all(threads.map(begin));
      let forgotten = 0;
      let kept = 0;
      for (let death = 0; death < DEATHS; death++) {
        const victim = threads[(death * 7 + 3) % BACKGROUND]!;
        const before = sumThreads(cache.memory, T_TOTAL_ITEMS);
        // Not before it has begun to work, and then at any moment.
        while (sumThreads(cache.memory, T_TOTAL_ITEMS) < before + 200)
          await new Promise((resolve) => setTimeout(resolve, 1));
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 3));
        await running.get(victim)!.terminate();
        running.delete(victim);
        const report = bury(cache, [victim], [...running.keys()]);
        forgotten += report.forgotten;
        kept += report.kept;
        // The others work on, with no lock in their way.
        const after = sumThreads(cache.memory, T_TOTAL_ITEMS);
        while (sumThreads(cache.memory, T_TOTAL_ITEMS) <= after) await new Promise((resolve) => setTimeout(resolve, 1));
        await begin(victim);
      }
      Atomics.store(cache.memory.i32, W_BACKGROUND_STOP, 1);
      for (const { faults } of (await Promise.all(results)).filter((result) => result !== undefined))
        expect(faults).toBe(0);
      expect(checkInvariants(cache)).toEqual([]);
      expect(kept).toBeGreaterThan(1000);
      if (mode === 'striped') expect(forgotten).toBeLessThan(kept / 4);
    },
    300_000 + DEATHS * 2000,
  );
});

describe('the repair', () => {
  it('lets go of a dead thread’s locks, forgets what it was changing, and keeps the rest', () => {
    const fixture = new Fixture({}, 'striped');
    for (let i = 0; i < 5000; i++) fixture.store(STORE_SET, `key${i}`, 0, 0, `value${i}`);
    fixture.store(STORE_SET, 'big', 0, 0, 'b'.repeat(900_000));
    const dead = new Locks(fixture.cache.memory, 'striped', 2);
    const hash = fixture.cache.assoc.hashOf(fixture.ref('key7'));
    dead.lockItem(hash);
    dead.lockLru(1);
    dead.acquire(W_LOCK_SLABS);
    // It had taken a chunk and had not marked it yet.
    const free = fixture.cache.slabs.takeOwned(1);
    fixture.cache.memory.i32[free * 2 + 2] = -2;
    const report = bury(fixture.cache, [2], [1]);
    expect(report.reclaimed).toBe(1);
    expect(report.forgotten).toBeGreaterThan(0);
    expect(report.forgotten).toBeLessThan(50);
    expect(report.kept + report.forgotten).toBe(5001);
    expect(fixture.get('key7')).toBeUndefined();
    let alive = 0;
    for (let i = 0; i < 5000; i++) if (fixture.get(`key${i}`)?.value === `value${i}`) alive++;
    expect(alive + (fixture.get('big') === undefined ? 0 : 1)).toBe(report.kept);
    fixture.check();
  });

  it('gives back what a dead thread held, and leaves the others theirs', () => {
    const fixture = new Fixture({}, 'striped');
    fixture.store(STORE_SET, 'theirs', 0, 0, 'v');
    fixture.store(STORE_SET, 'mine', 0, 0, 'w');
    const { shared, config } = fixture.cache.memory;
    const other = new Fixture(config, 'striped', 2, shared);
    other.cache.items.hold(fixture.ref('theirs'));
    other.cache.items.hold(fixture.ref('theirs'));
    fixture.cache.items.hold(fixture.ref('theirs'));
    fixture.cache.items.hold(fixture.ref('mine'));
    // One being filled by each.
    other.alloc('new', 0, 0, 'x'.repeat(700_000));
    const mine = fixture.alloc('new', 0, 0, 'y'.repeat(700_000));
    const [theirsRef, mineRef] = [fixture.ref('theirs'), fixture.ref('mine')];
    const report = bury(fixture.cache, [2], [1]);
    expect(report).toMatchObject({ kept: 2, forgotten: 0 });
    expect(report.reclaimed).toBeGreaterThan(1);
    fixture.check(
      new Map([
        [theirsRef, 1],
        [mineRef, 1],
        [mine, 1],
      ]),
    );
    fixture.cache.items.releaseHeld(theirsRef);
    fixture.cache.items.releaseHeld(mineRef);
    fixture.cache.items.release(mine);
    fixture.check();
  });

  it('gives back the reference of a dead thread to what it had stored and another thread has deleted', () => {
    for (const mode of ['global', 'striped'] as const) {
      const fixture = new Fixture({}, mode);
      const { shared, config } = fixture.cache.memory;
      const other = new Fixture(config, mode, 2, shared);
      const ref = other.alloc('short-lived', 0, 0, 'v');
      other.cache.items.store(ref, other.cache.assoc.hashOf(ref), STORE_SET, 0, 0);
      expect(fixture.remove('short-lived')).toBe(true);
      // It dies before it can give back the reference of its `alloc`.
      expect(bury(fixture.cache, [2], [1])).toMatchObject({ kept: 0, forgotten: 0, reclaimed: 1 });
      fixture.check();
    }
  });

  it('frees the chunk from which a dead mover had just moved an item', () => {
    const fixture = new Fixture({}, 'striped');
    fixture.store(STORE_SET, 'moved', 0, 0, 'v');
    fixture.store(STORE_SET, 'stays', 0, 0, 'w');
    const { memory, assoc, slabs, lru, items } = fixture.cache;
    const ref = fixture.ref('moved');
    const hash = assoc.hashOf(ref);
    new Locks(memory, 'striped', 2).lockItem(hash);
    const clsid = items.clsid(ref);
    const fresh = slabs.allocate(clsid);
    memory.i32[W_UNLINKING + 2 * LOCK_STRIDE_WORDS] = fresh;
    memory.u8.copyWithin(fresh * 8, ref * 8, ref * 8 + slabs.sizeOf(clsid));
    lru.replace(ref, fresh);
    assoc.replace(ref, fresh, hash);
    // It dies before the old chunk is set aside.
    expect(bury(fixture.cache, [2], [1])).toEqual({ kept: 1, forgotten: 1, reclaimed: 1 });
    fixture.check();
  });

  it('forgets everything where the one lock of all was held, and where there are no locks', () => {
    for (const lockless of [false, true]) {
      const fixture = new Fixture({}, lockless ? 'none' : 'global');
      for (let i = 0; i < 3000; i++) fixture.store(STORE_SET, `key${i}`, 0, 0, `value${i}`);
      if (!lockless) new Locks(fixture.cache.memory, 'global', 2).lockItem(0);
      expect(bury(fixture.cache, [2], lockless ? [] : [1], lockless)).toMatchObject({ kept: 0, forgotten: 3000 });
      fixture.check();
      for (let i = 0; i < 3000; i++) fixture.store(STORE_SET, `key${i}`, 0, 0, `value${i}`);
      fixture.check();
    }
  });
});
