/** Four threads on one small cache, evicting all the time; then the invariants of the whole memory. */
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { createCache } from '../src/engine/cache.ts';
import { checkInvariants } from '../src/engine/check.ts';
import { DEFAULT_CACHE_CONFIG, PAGE_BYTES, W_HASH_BUCKETS } from '../src/engine/layout.ts';
import { L_EVICTED, sumLruCounter, sumThreads, T_TOTAL_ITEMS } from '../src/engine/stats.ts';

const THREADS = 4;
const OPERATIONS = 150_000;

describe.each(['global', 'striped'] as const)('four threads under %s locks', (mode) => {
  it.each([
    { name: 'many keys, evictions and a growing hash table', keys: 50_000 },
    { name: 'few keys, so that all threads are at the same ones', keys: 20 },
  ])('leave a sound cache behind: $name', async ({ keys }) => {
    const config = { ...DEFAULT_CACHE_CONFIG, memoryBytes: 24 * PAGE_BYTES, hashPower: 10 };
    const cache = createCache(config, 'none', 0, 12345);
    const results = await Promise.all(
      Array.from({ length: THREADS }, (_, i) => {
        const workerData = { shared: cache.memory.shared, config, mode, thread: i + 1, operations: OPERATIONS, keys };
        const worker = new Worker(new URL('./stress_worker.ts', import.meta.url), { workerData });
        return new Promise<{ faults: number; hits: number }>((resolve, reject) => {
          worker.once('message', resolve);
          worker.once('error', reject);
        });
      }),
    );
    expect(results.map((result) => result.faults)).toEqual([0, 0, 0, 0]);
    expect(results.every((result) => result.hits > 1000)).toBe(true);
    expect(sumThreads(cache.memory, T_TOTAL_ITEMS)).toBeGreaterThan(100_000);
    if (keys > 1000) {
      expect(sumLruCounter(cache.memory, L_EVICTED)).toBeGreaterThan(1000);
      expect(cache.memory.i32[W_HASH_BUCKETS]).toBeGreaterThan(2000);
    }
    expect(checkInvariants(cache)).toEqual([]);
  });
});
