/** The addon under AddressSanitizer and UndefinedBehaviorSanitizer: both packages' suites once more, in CI. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { native } from '../src/index.ts';

const inside = process.env['MEGAPIPE_SANITIZE'] === '1';
const wanted = process.env['CI'] === 'true' || process.env['MEGAPIPE_SANITIZERS'] === '1';

test.runIf(inside)('the sanitized addon is the one in use (a test for inside scripts/sanitize.sh)', () => {
  expect(native.addressOf(new Uint8Array(new SharedArrayBuffer(8)))).toBeGreaterThan(0);
  const maps = readFileSync('/proc/self/maps', 'utf8');
  expect(maps).toMatch(/libasan/);
  expect(maps).toMatch(/sanitize\/megapipe_native\.node/);
});

test.skipIf(inside || !wanted)(
  `the suites pass under the sanitizers (${wanted ? 'CI' : 'run in CI, or with MEGAPIPE_SANITIZERS=1'})`,
  { timeout: 1_600_000 },
  ({ skip }) => {
    const script = fileURLToPath(new URL('../scripts/sanitize.sh', import.meta.url));
    const run = spawnSync('sh', [script], { encoding: 'utf8', env: { ...process.env, NO_COLOR: '1' } });
    if (run.status === 77) skip(run.stderr.trim());
    expect(`${run.stdout}\n${run.stderr}`).not.toMatch(/AddressSanitizer|runtime error/);
    expect(run.status, run.stdout.slice(-5000)).toBe(0);
  },
);
