import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts', 'src/**/*.test.ts'],
    // Servers start in a second or so, and in many on a machine that has other things to do.
    testTimeout: 60_000,
    hookTimeout: 180_000,
    // Each file runs servers of its own; a few at a time keep small machines responsive.
    maxWorkers: 2,
  },
});
