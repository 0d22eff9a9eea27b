import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    // No test depends on time: these are for what hangs, on a machine that has no time.
    testTimeout: 240_000,
    hookTimeout: 120_000,
    // Programs that the tests start begin in a third of the time when what type stripping made is remembered.
    env: { NODE_COMPILE_CACHE: join(import.meta.dirname, 'node_modules/.cache/node') },
  },
});
