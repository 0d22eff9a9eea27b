/**
 * Four threads on one small cache, evicting all the time, and a fifth with the background work at full speed; then the
 * invariants of the whole memory. `STRESS_SECONDS=300` makes each run that long; otherwise it ends once every thread and the
 * background work have done their share.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { createCache } from '../src/engine/cache.ts';
import { checkInvariants } from '../src/engine/check.ts';
import {
  D_CRAWLER_STARTS,
  D_RESCUES,
  D_SLABS_MOVED,
  DEFAULT_CACHE_CONFIG,
  PAGE_BYTES,
  W_BACKGROUND_STOP,
  W_HASH_BUCKETS,
} from '../src/engine/layout.ts';
import {
  L_EVICTED,
  L_MOVES_TO_WARM,
  sumLruCounter,
  sumThreads,
  T_TOTAL_ITEMS,
  threadBase,
} from '../src/engine/stats.ts';

const THREADS = 4;
const STORES_MIN = 200_000;
const SECONDS = Number(process.env['STRESS_SECONDS'] ?? 0);

describe.each(['global', 'striped'] as const)('four threads under %s locks', (mode) => {
  it.each([
    { name: 'many keys, evictions and a growing hash table', keys: 50_000 },
    { name: 'few keys, so that all threads are at the same ones', keys: 20 },
  ])(
    'leave a sound cache behind: $name',
    async ({ keys }) => {
      const lru = { ...DEFAULT_CACHE_CONFIG.lru, temp: true, temporaryTtl: 1, crawlerSleepUs: 0 };
      const config = { ...DEFAULT_CACHE_CONFIG, memoryBytes: 48 * PAGE_BYTES, hashPower: 10, lru };
      const cache = createCache(config, 'none', 0, 12345);
      const { i32, f64, shared } = cache.memory;
      const run = (thread: number, role: string): Promise<{ faults: number; hits: number }> => {
        const workerData = { shared, config, mode, thread, role, keys };
        const worker = new Worker(new URL('./stress_worker.ts', import.meta.url), { workerData });
        return new Promise((resolve, reject) => {
          worker.once('message', resolve);
          worker.once('error', reject);
        });
      };
      const background = run(THREADS + 1, 'background');
      const clients = Array.from({ length: THREADS }, (_, i) => run(i + 1, 'client'));
      /** What is to have happened, each of it often enough. */
      const happened = (): boolean =>
        sumThreads(cache.memory, T_TOTAL_ITEMS) > STORES_MIN &&
        clients.every((_, i) => f64[threadBase(i + 1) + T_TOTAL_ITEMS]! > 10_000) &&
        f64[D_CRAWLER_STARTS]! > 1 &&
        (keys <= 1000 ||
          (f64[D_SLABS_MOVED]! > 5 &&
            f64[D_RESCUES]! > 1000 &&
            sumLruCounter(cache.memory, L_MOVES_TO_WARM) > 1000 &&
            sumLruCounter(cache.memory, L_EVICTED) > 1000 &&
            i32[W_HASH_BUCKETS]! > 2000));
      const end = Date.now() + SECONDS * 1000;
      while (Date.now() < end || !happened()) await sleep(20);
      Atomics.store(i32, W_BACKGROUND_STOP, 1);
      const results = await Promise.all(clients);
      await background;
      expect(results.map((result) => result.faults)).toEqual([0, 0, 0, 0]);
      expect(results.every((result) => result.hits > 1000)).toBe(true);
      const stores = sumThreads(cache.memory, T_TOTAL_ITEMS);
      if (SECONDS > 0)
        console.log(`stress, ${mode}, ${keys} keys: ${stores} stores, ${f64[D_SLABS_MOVED]} pages moved`);
      expect(checkInvariants(cache)).toEqual([]);
    },
    300_000 + SECONDS * 1000,
  );
});
