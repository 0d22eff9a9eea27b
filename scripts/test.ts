/**
 * Every check of the repository: types, lint, then the test suites of all packages, one after the other (two suites at
 * once would only measure each other's noise). The last line sums the suites up: `N passed, N failed, N skipped`.
 * Exit status 1 when anything failed.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const packages = ['packages/megapipe-native', 'packages/megapipe-core', 'apps/memcached-ts', 'apps/nginx-lite', 'bench'];

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

const checked = turbo('typecheck', 'lint', '--continue', '--output-logs=new-only');
const tested = turbo('test', '--continue', '--concurrency=1', '--output-logs=new-only');

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
