import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Hardly anything takes half a minute by itself. But beside another suite on two slow cores a server alone may take seconds to start.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    // Each file runs servers of its own. Two at a time: half of their time is spent waiting for processes and clocks.
    maxWorkers: 2,
    // Loading vitest, fast-check and the engine anew for each of forty files takes longer than many of them.
    isolate: false,
  },
});
