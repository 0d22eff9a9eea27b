/**
 * Every check of the repository: types, lint, then the test suites of all packages, two side by side where there are two
 * processors (no test depends on time, and most of them wait). The last line sums the suites up: `N passed, N failed, N skipped`.
 * Exit status 1 when anything failed.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const packages = [
  'packages/megapipe-native',
  'packages/megapipe-core',
  'apps/memcached-ts',
  'apps/nginx-lite',
  'bench',
];

function turbo(...args: string[]): boolean {
  return spawnSync('sh', [join(root, 'scripts/run.sh'), 'turbo', 'run', ...args], { stdio: 'inherit' }).status === 0;
}

/** What vitest's JSON reporter writes, as far as it is read here. */
interface Report {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  numTodoTests: number;
  success: boolean;
}

const result = (name: string): string => join(root, name, 'test-results/vitest.json');
/* A suite that dies must not be counted by the report of an earlier run; turbo brings those of cached runs back. */
for (const name of packages) rmSync(result(name), { force: true });

const checked = turbo('typecheck', 'typecheck:root', 'lint', 'lint:root', '--continue', '--output-logs=new-only');
const lanes = Math.min(2, availableParallelism());
const tested = turbo('test', '--continue', `--concurrency=${lanes}`, '--output-logs=new-only');

/** What the debug kernel needs at most; on a machine that does nothing else it is 3 minutes. */
const DEBUG_SECONDS = 900;

interface Sum {
  passed: number;
  failed: number;
  skipped: number;
}

/** Runs a script whose output is TAP, and counts it. Exit status 77: one skip, with the reason on stderr. */
function tap(kind: string, script: string, args: string[], environment: Record<string, string>): Sum {
  const env = { ...process.env, ...environment };
  const run = spawnSync('sh', [join(root, 'kernel/testbed', script), ...args], { encoding: 'utf8', env });
  const lines = run.stdout.split('\n');
  const ok = lines.filter((line) => /^ok\b/.test(line)).length;
  const notOk = lines.filter((line) => /^not ok\b/.test(line)).length;
  const skips = lines.filter((line) => /^1\.\.0 # SKIP/.test(line));
  if (run.status === 77) skips.push(run.stderr.trim());
  else if (run.status !== 0) process.stderr.write(`${run.stdout}${run.stderr}`);
  const other = run.status !== 0 && run.status !== 77 && notOk === 0 ? 1 : 0;
  console.log(`kernel (${kind}): ${ok} passed, ${notOk + other} failed, ${skips.length} skipped`);
  for (const reason of skips) console.log(`kernel (${kind}): ${reason}`);
  return { passed: ok, failed: notOk + other, skipped: skips.length };
}

/**
 * The kernel module: its self-tests in a QEMU guest on Debian's kernel, and on the debug kernel where one was built; the way of
 * DKMS where that is installed; whether it builds against later headers.
 */
function kernelModule(): Sum[] {
  const sums = [tap('stock', 'run.sh', ['kselftest'], {})];
  const debug = spawnSync('sh', [join(root, 'kernel/testbed/debug-kernel.sh'), '--check'], { encoding: 'utf8' });
  if (debug.status === 0) {
    const environment = { MEGAPIPE_GUEST_KERNEL: 'debug', MEGAPIPE_GUEST_SECONDS: String(DEBUG_SECONDS) };
    sums.push(tap('debug', 'run.sh', ['kselftest'], environment));
  } else console.log(`kernel (debug): not run: ${debug.stderr.trim().replace('testbed: skipped: ', '')}`);
  sums.push(tap('dkms', 'dkms.sh', [], {}), tap('later headers', 'later.sh', [], {}));
  return sums;
}

let passed = 0;
let failed = 0;
let skipped = 0;
console.log();
for (const name of packages) {
  if (!existsSync(result(name))) {
    failed++;
    console.log(`${name}: no result: the suite did not run to its end`);
    continue;
  }
  const report = JSON.parse(readFileSync(result(name), 'utf8')) as Report;
  const skips = report.numPendingTests + report.numTodoTests;
  passed += report.numPassedTests;
  failed += report.numFailedTests;
  skipped += skips;
  if (!report.success && report.numFailedTests === 0) {
    failed++;
    console.log(`${name}: an error outside of any test`);
  }
  console.log(`${name}: ${report.numPassedTests} passed, ${report.numFailedTests} failed, ${skips} skipped`);
}
for (const sum of kernelModule()) {
  passed += sum.passed;
  failed += sum.failed;
  skipped += sum.skipped;
}
if (!checked) {
  failed++;
  console.log('types or lint: failed (see above)');
}
if (!tested && failed === 0) {
  failed++;
  console.log('a build or test task failed (see above)');
}
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exitCode = failed > 0 ? 1 : 0;
