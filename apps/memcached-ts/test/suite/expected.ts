/**
 * What is expected of each file of memcached's test suite where that is not simply to pass, with the reason, and the verdict.
 * Invariant: a file that is expected to fail and passes, or fails in another subtest, fails this suite.
 * Not its job: running them (tap.ts).
 */
import type { Tap } from './tap.ts';

/** Subtests of a file that fail here, and pass with memcached 1.6.18. */
export interface Expected {
  subtests: readonly number[];
  because: string;
}

export const EXPECTED: Readonly<Record<string, Expected>> = {
  'issue_3.t': {
    subtests: [2, 4],
    because: '`delete` with a number behind the key is refused by 1.6.18 and, as newer releases do, obeyed here',
  },
  'shutdown.t': {
    subtests: [1],
    because: '`shutdown` without -A is answered as newer releases do, with SERVER_ERROR: in front',
  },
  '64bit.t': {
    subtests: [3, 5],
    because:
      'it has memcached pretend, by an environment variable for tests, that 4 GB were allocated before the start',
  },
  'binary-sasl.t': {
    subtests: [6],
    because: 'PLAIN is the only mechanism here, and CRAM-MD5 another one of Cyrus’s',
  },
  'conn-limits.t': {
    subtests: [1, 2, 3, 4],
    because:
      'a get of 500 keys that are not there takes 500 response objects in memcached, and runs out of them; none here',
  },
};

export interface Verdict {
  verdict: 'passed' | 'failed' | 'skipped';
  /** What there is to say about it; empty for a file that simply passes. */
  words: string;
}

export function judge(file: string, tap: Tap): Verdict {
  const { failing, skipped } = tap;
  if (skipped !== undefined && tap.trouble === undefined) return { verdict: 'skipped', words: skipped };
  const expected = EXPECTED[file];
  const found = [...(failing.length > 0 ? [`${list(failing)} failed`] : []), tap.trouble ?? []].flat().join('; ');
  if (expected === undefined) return { verdict: found === '' ? 'passed' : 'failed', words: found };
  const wanted = `${list(expected.subtests)} of it should fail: ${expected.because}`;
  if (found === '') return { verdict: 'failed', words: `passed, but ${wanted}` };
  if (tap.trouble !== undefined || failing.join() !== expected.subtests.join()) {
    return { verdict: 'failed', words: `${found}; ${wanted}` };
  }
  return { verdict: 'passed', words: `${found}, as it should: ${expected.because}` };
}

function list(subtests: readonly number[]): string {
  const shown = subtests.length > 20 ? [...subtests.slice(0, 20), '…'] : subtests;
  return `${subtests.length === 1 ? 'subtest' : 'subtests'} ${shown.join(', ')}`;
}
