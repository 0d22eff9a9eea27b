/**
 * The quick files of memcached's own test suite, by turns against one io mode and the other; `npm run test:suite` runs all of
 * them against both. Where the suite cannot be had, they are skipped and say why.
 */
import { describe, expect, it } from 'vitest';
import { IO_MODES } from './servers.ts';
import { judge } from './suite/expected.ts';
import { sourceEntries, suiteSource, Unavailable } from './suite/source.ts';
import { readTap, runTap, workFolder } from './suite/tap.ts';

/** Those that take about two seconds, start few servers, and give none of them a time in which to answer. */
const QUICK = [
  'ascii-auth.t',
  'binary-get.t',
  'bogus-commands.t',
  'dash-M.t',
  'evictions.t',
  'flags.t',
  'incrdecr.t',
  'issue_104.t',
  'issue_108.t',
  'issue_14.t',
  'issue_152.t',
  'issue_22.t',
  'issue_29.t',
  'issue_3.t',
  'issue_41.t',
  'issue_42.t',
  'issue_61.t',
  'issue_68.t',
  'issue_70.t',
  'line-lengths.t',
  'lru.t',
  'multiversioning.t',
  'noreply.t',
  'stats.t',
  'stats-detail.t',
  'touch.t',
  'unixsocket.t',
  'watcher_connid.t',
];
/** For a machine that does much else meanwhile. */
const SECONDS_MAX = 280;

let source: string | undefined;
try {
  source = suiteSource();
} catch (error) {
  if (!(error instanceof Unavailable)) throw error;
  console.warn(`skipped: memcached's own test suite: ${error.message}`);
}

describe.skipIf(source === undefined)('memcached’s own test suite', () => {
  // Two threads start in half the time of four. Each file has one io mode: what it tests is above both.
  const folders = source === undefined ? [] : IO_MODES.map((io) => workFolder(source, io, 2));
  const runs = QUICK.map((file, i) => ({ file, io: IO_MODES[i % 2]!, folder: folders[i % 2]! }));

  it.concurrent.each(runs)('$file with --io $io', async ({ file, folder }) => {
    const tap = await runTap(folder, file, SECONDS_MAX);
    const { verdict, words } = judge(file, tap);
    expect({ verdict, words, said: verdict === 'passed' ? '' : tap.words }).toMatchObject({
      verdict: 'passed',
      said: '',
    });
  });
});

describe('running memcached’s test suite', () => {
  it('asks apt for the sources of Debian alone, as it asks for packages', () => {
    const entries = sourceEntries([
      {
        name: '/etc/apt/sources.list.d/debian.sources',
        text: `Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main

Types: deb deb-src
URIs: http://mirror.example/debian/
Suites: sid

Types: deb-src
URIs: http://mirror.example/debian
Suites: trixie

Types: deb
Enabled: no
URIs: http://mirror.example/debian
Suites: off

Types: deb
URIs: http://mirror.example/other
Suites: stable
`,
      },
      {
        name: '/etc/apt/sources.list',
        text: '',
      },
      {
        name: '/etc/apt/sources.list.d/old.list',
        text: '# deb http://mirror.example/debian off main\ndeb [trusted=no] http://mirror.example/debian bookworm main\ndeb http://mirror.example/x y z\n',
      },
    ]);
    expect(entries).toEqual({
      stanzas: [
        'Types: deb-src\n# a comment\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\nComponents: main',
        'Types: deb-src\nURIs: http://mirror.example/debian/\nSuites: sid',
      ],
      lines: ['deb-src [trusted=no] http://mirror.example/debian bookworm main'],
    });
  });

  it('reads TAP, and what is wrong with it', () => {
    expect(readTap('1..3\nok 1 - a\nwords\nnot ok 2 - b\nok 3 # skip c\n', 1)).toEqual({
      failing: [2],
      ran: 3,
      trouble: undefined,
      skipped: undefined,
    });
    expect(readTap('ok 1\nnot ok 2 # TODO later\n1..2\n', 0)).toMatchObject({
      failing: [],
      ran: 2,
      trouble: undefined,
    });
    expect(readTap('1..0 # SKIP no reason\n', 0)).toMatchObject({ ran: 0, skipped: 'no reason', trouble: undefined });
    expect(readTap('1..2\nok 1\n', 255).trouble).toBe('ended with 255 after 1 of 2 subtests');
    expect(readTap('1..1\nok 1\n', 'SIGSEGV').trouble).toBe('ended with SIGSEGV');
    expect(readTap('ok 1\n', 0).trouble).toBe('ended with 0 after 1 subtests, without a plan');
    expect(readTap('1..0 # SKIP no reason\n', 3).trouble).toBe('ended with 3');
  });

  it('takes nothing but the expected failure for it', () => {
    const tap = { failing: [], ran: 8, trouble: undefined, skipped: undefined, words: '', ms: 0 };
    expect(judge('quit.t', tap)).toEqual({ verdict: 'passed', words: '' });
    expect(judge('quit.t', { ...tap, failing: [1] }).verdict).toBe('failed');
    expect(judge('quit.t', { ...tap, trouble: 'killed' }).verdict).toBe('failed');
    expect(judge('quit.t', { ...tap, skipped: 'reason' })).toEqual({ verdict: 'skipped', words: 'reason' });
    expect(judge('issue_3.t', { ...tap, failing: [2, 4] }).verdict).toBe('passed');
    expect(judge('issue_3.t', { ...tap, failing: [2] }).verdict).toBe('failed');
    expect(judge('issue_3.t', { ...tap, failing: [2, 4, 5] }).verdict).toBe('failed');
    expect(judge('issue_3.t', { ...tap, failing: [2, 4], trouble: 'killed' }).verdict).toBe('failed');
    expect(judge('issue_3.t', tap)).toMatchObject({ verdict: 'failed', words: expect.stringMatching(/^passed, but/) });
  });
});
