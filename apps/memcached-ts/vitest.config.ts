import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 120_000,
    hookTimeout: 180_000,
    // Each file runs servers of its own. Two at a time: half of their time is spent waiting for processes and clocks.
    maxWorkers: 2,
    // Loading vitest, fast-check and the engine anew for each of forty files takes longer than many of them.
    isolate: false,
  },
});
