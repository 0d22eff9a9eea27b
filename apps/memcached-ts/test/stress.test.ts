/**
 * Four threads on one small cache, evicting all the time, and a fifth with the background work at full speed; then the
 * invariants of the whole memory. `STRESS_SECONDS=300` makes each run that long instead of a fixed number of operations.
 */
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
import { L_EVICTED, L_MOVES_TO_WARM, sumLruCounter, sumThreads, T_TOTAL_ITEMS } from '../src/engine/stats.ts';

const THREADS = 4;
const OPERATIONS = 150_000;
const SECONDS = Number(process.env['STRESS_SECONDS'] ?? 0);

describe.each(['global', 'striped'] as const)('four threads under %s locks', (mode) => {
  it.each([
    { name: 'many keys, evictions and a growing hash table', keys: 50_000 },
    { name: 'few keys, so that all threads are at the same ones', keys: 20 },
  ])(
    'leave a sound cache behind: $name',
    async ({ keys }) => {
      const lru = { ...DEFAULT_CACHE_CONFIG.lru, temporaryTtl: 1, crawlerSleepUs: 0 };
      const config = { ...DEFAULT_CACHE_CONFIG, memoryBytes: 48 * PAGE_BYTES, hashPower: 10, lru };
      const cache = createCache(config, 'none', 0, 12345);
      const run = (thread: number, role: string): Promise<{ faults: number; hits: number }> => {
        const { shared } = cache.memory;
        const workerData = { shared, config, mode, thread, role, operations: OPERATIONS, seconds: SECONDS, keys };
        const worker = new Worker(new URL('./stress_worker.ts', import.meta.url), { workerData });
        return new Promise((resolve, reject) => {
          worker.once('message', resolve);
          worker.once('error', reject);
        });
      };
      const background = run(THREADS + 1, 'background');
      const results = await Promise.all(Array.from({ length: THREADS }, (_, i) => run(i + 1, 'client')));
      Atomics.store(cache.memory.i32, W_BACKGROUND_STOP, 1);
      await background;
      expect(results.map((result) => result.faults)).toEqual([0, 0, 0, 0]);
      expect(results.every((result) => result.hits > 1000)).toBe(true);
      expect(sumThreads(cache.memory, T_TOTAL_ITEMS)).toBeGreaterThan(100_000);
      expect(cache.memory.f64[D_CRAWLER_STARTS]).toBeGreaterThan(1);
      if (keys > 1000) {
        expect(cache.memory.f64[D_SLABS_MOVED]).toBeGreaterThan(5);
        expect(cache.memory.f64[D_RESCUES]).toBeGreaterThan(1000);
        expect(sumLruCounter(cache.memory, L_MOVES_TO_WARM)).toBeGreaterThan(1000);
        expect(sumLruCounter(cache.memory, L_EVICTED)).toBeGreaterThan(1000);
        expect(cache.memory.i32[W_HASH_BUCKETS]).toBeGreaterThan(2000);
      }
      expect(checkInvariants(cache)).toEqual([]);
    },
    60_000 + SECONDS * 1000,
  );
});
