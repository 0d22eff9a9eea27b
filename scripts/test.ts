/**
 * Every check of the repository: types, lint, then the test suites of all packages, two side by side where there are two
 * processors (no test depends on time, and most of them wait), then the kernel module's. The last lines say what failed, and sum
 * the suites up: `N passed, N failed, N skipped`. Exit status 1 when anything failed.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { kernelSuites } from './kernel-suites.ts';

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
  testResults: { assertionResults: { status: string; fullName: string; failureMessages: string[] }[] }[];
}

const result = (name: string): string => join(root, name, 'test-results/vitest.json');
/* A suite that dies must not be counted by the report of an earlier run; turbo brings those of cached runs back. */
for (const name of packages) rmSync(result(name), { force: true });

const checked = turbo('typecheck', 'typecheck:root', 'lint', 'lint:root', '--continue', '--output-logs=new-only');
const lanes = Math.min(2, availableParallelism());
const tested = turbo('test', '--continue', `--concurrency=${lanes}`, '--output-logs=new-only');

let passed = 0;
let failed = 0;
let skipped = 0;
const failures: string[] = [];
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
  for (const { assertionResults } of report.testResults)
    for (const { status, fullName, failureMessages } of assertionResults)
      if (status === 'failed') failures.push(`${name}: ${fullName}: ${failureMessages[0]?.split('\n')[0] ?? ''}`);
  console.log(`${name}: ${report.numPassedTests} passed, ${report.numFailedTests} failed, ${skips} skipped`);
}
for (const sum of await kernelSuites()) {
  passed += sum.passed;
  failed += sum.failures.length;
  skipped += sum.skipped;
  for (const failure of sum.failures) failures.push(`kernel (${sum.kind}): ${failure}`);
  console.log(`kernel (${sum.kind}): ${sum.passed} passed, ${sum.failures.length} failed, ${sum.skipped} skipped`);
}
if (!checked) {
  failed++;
  console.log('types or lint: failed (see above)');
}
if (!tested && failed === 0) {
  failed++;
  console.log('a build or test task failed (see above)');
}
for (const failure of failures) console.log(`failed: ${failure}`);
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exitCode = failed > 0 ? 1 : 0;
