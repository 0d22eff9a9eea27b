/**
 * memcached's own test suite (`t/*.t` of Debian's source package) against memcached-ts, in both io modes.
 *
 *   npm run test:suite                          # from the workspace or from here; some minutes
 *   npm run test:suite -- --io epoll stats.t    # one io mode, some files
 *
 * A line for each file and io mode, with what there is to say about it; the last one sums up: `N passed, N failed, N skipped`.
 * Exit status 1 when anything failed. What each file is expected to do: expected.ts. Every file has servers of its own, with
 * four threads unless it says otherwise, as memcached has.
 */
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { IO_MODES } from '../servers.ts';
import { judge, type Verdict } from './expected.ts';
import { suiteSource, Unavailable } from './source.ts';
import { runTap, workFolder } from './tap.ts';

const THREADS = 4;
/** For a file. The longest takes a minute by itself. */
const SECONDS_MAX = 600;
/** Most of them sleep most of their time. */
const LANES = 2 * availableParallelism();
/** Files that give a server two or five seconds, or listen on ports of fixed numbers: at the end, one by one. */
const ALONE = new Set(['binary.t', 'issue_50.t', 'issue_67.t', 'malicious-commands.t', 'quit.t']);

const { values, positionals } = parseArgs({
  options: { io: { type: 'string', multiple: true } },
  allowPositionals: true,
});
const modes = values.io ?? IO_MODES;
for (const io of modes) {
  if (!(IO_MODES as readonly string[]).includes(io)) throw new Error(`--io ${io}: expected ${IO_MODES.join(' or ')}`);
}

function sum(verdicts: readonly Verdict[]): string {
  const count = (verdict: Verdict['verdict']): number => verdicts.filter((each) => each.verdict === verdict).length;
  return `${count('passed')} passed, ${count('failed')} failed, ${count('skipped')} skipped`;
}

async function run(source: string): Promise<Verdict[]> {
  const all = readdirSync(join(source, 't')).filter((name) => name.endsWith('.t'));
  const files = positionals.length === 0 ? all : positionals.map((name) => name.replace(/^t\//, ''));
  for (const file of files) if (!all.includes(file)) throw new Error(`${file}: there is no such file in the suite`);
  const folders = new Map(modes.map((io) => [io, workFolder(source, io, THREADS)]));
  const runs = files.flatMap((file) => modes.map((io) => ({ file, io })));
  const verdicts: Verdict[] = [];
  const lane = async (queue: typeof runs): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const { file, io } = next;
      const tap = await runTap(folders.get(io)!, file, SECONDS_MAX);
      const verdict = judge(file, tap);
      verdicts.push(verdict);
      const words = verdict.words === '' ? `${tap.ran} subtests` : verdict.words;
      console.log(`${verdict.verdict} ${file} --io ${io} (${(tap.ms / 1000).toFixed(1)} s): ${words}`);
      if (verdict.verdict === 'failed') console.log(tap.words.trimEnd().replace(/^/gm, '    '));
    }
  };
  const together = runs.filter(({ file }) => !ALONE.has(file));
  await Promise.all(Array.from({ length: LANES }, () => lane(together)));
  await lane(runs.filter(({ file }) => ALONE.has(file)));
  return verdicts;
}

let verdicts: Verdict[];
try {
  verdicts = await run(suiteSource());
} catch (error) {
  if (!(error instanceof Unavailable)) throw error;
  verdicts = [{ verdict: 'skipped', words: error.message }];
  console.log(`skipped: memcached's test suite: ${error.message}`);
}
console.log(sum(verdicts));
process.exitCode = verdicts.some(({ verdict }) => verdict === 'failed') ? 1 : 0;
