/**
 * A reporter for vitest: what failed, and how what came differs from what was wanted, to `test-results/failures.txt` in the
 * package's folder. `scripts/test.ts` prints it behind everything else, where whoever sees only the end of a log finds it.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import type { SerializedError } from 'vitest';
import type { Reporter, TestModule } from 'vitest/node';

export const FAILURES_PATH = 'test-results/failures.txt';
/** Lines of one failure, and characters of a line; the rest is with the suite's own output. */
const LINES_MAX = 40;
const LINE_MAX = 300;

export default class FailuresReporter implements Reporter {
  onTestRunStart(): void {
    rmSync(FAILURES_PATH, { force: true });
  }

  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    const failures = unhandled.map((error) => told('outside of any test', error));
    for (const module of modules) {
      for (const error of module.errors()) failures.push(told(module.relativeModuleId, error));
      for (const suite of module.children.allSuites())
        for (const error of suite.errors()) failures.push(told(`${module.relativeModuleId}: ${suite.fullName}`, error));
      for (const test of module.children.allTests('failed'))
        for (const error of test.result().errors ?? [])
          failures.push(told(`${module.relativeModuleId}: ${test.fullName}`, error));
    }
    if (failures.length === 0) return;
    mkdirSync(dirname(FAILURES_PATH), { recursive: true });
    writeFileSync(FAILURES_PATH, failures.join(''));
  }
}

function told(where: string, { message, diff, stack }: SerializedError): string {
  const text = stripVTControlCharacters([message, diff ?? stack ?? ''].join('\n'));
  const lines = text
    .trimEnd()
    .split('\n')
    .filter((line) => !/^\s+at .*node_modules/.test(line));
  if (lines.length > LINES_MAX) lines.splice(LINES_MAX, lines.length, `(and ${lines.length - LINES_MAX} lines more)`);
  return `failed: ${where}\n${lines.map((line) => `    ${line.slice(0, LINE_MAX)}\n`).join('')}`;
}
