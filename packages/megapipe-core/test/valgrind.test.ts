/**
 * The addon under valgrind: making, using and taking down channels neither touches memory that is not its own nor leaves
 * any behind. What valgrind says about Node itself (some, none of it ours) does not count.
 */
import { spawnSync } from 'node:child_process';
import { globSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

function reasonToSkip(): string {
  if (process.env['MEGAPIPE_SANITIZE'] === '1' || process.env['MEGAPIPE_INSIDE_GUEST']) return 'the normal run does it';
  if (process.env['MEGAPIPE_VALGRIND'] !== '1' && process.env['CI'] !== 'true')
    return 'half a minute of CPU: MEGAPIPE_VALGRIND=1 or CI=true runs it';
  const probe = spawnSync('valgrind', ['--version'], { encoding: 'utf8' });
  return probe.error ? 'valgrind is not installed (as root: apt-get install valgrind)' : '';
}

/** Between a report's innermost frame and the addon's: JavaScript that it called, or V8 looking through every word of the stack for pointers. */
const NOT_OURS = /Builtins_JSEntry|IteratePointersInStack/;

let folder = '';
const stripped = (): string => join(folder, 'sources.json');

/** Writes what programs/stripped.mjs reads: the sources of the packages, without their types. */
function strip(): void {
  folder = mkdtempSync(join(tmpdir(), 'megapipe-valgrind-'));
  const files = globSync(fileURLToPath(new URL('../../*/{src,test}/**/*.ts', import.meta.url)));
  const sources = files.map((file) => [pathToFileURL(file).href, stripTypeScriptTypes(readFileSync(file, 'utf8'))]);
  writeFileSync(stripped(), JSON.stringify(Object.fromEntries(sources)));
}

/** Valgrind's reports, one paragraph each, about what the addon did; and what the program printed. */
function reports(kinds: string, ...args: string[]): { ours: string[]; said: string; status: number | null } {
  const program = fileURLToPath(new URL('programs/teardown.ts', import.meta.url));
  const run = spawnSync(
    'valgrind',
    [
      /* V8 writes no code here (below); addons are unloaded before the leak check. */
      '--smc-check=none',
      '--keep-debuginfo=yes',
      '--leak-check=full',
      `--show-leak-kinds=${kinds}`,
      '--num-callers=40',
      realpathSync(process.execPath),
      /* Compiling costs more than it gives here, and single-threaded there is less of Node to look at. */
      '--single-threaded',
      '--max-lazy',
      '--jitless',
      '--import',
      fileURLToPath(new URL('programs/stripped.mjs', import.meta.url)),
      program,
      ...args,
    ],
    { encoding: 'utf8', maxBuffer: 1 << 26, env: { ...process.env, STRIPPED: stripped() } },
  );
  const paragraphs = run.stderr.replace(/^==\d+== ?/gm, '').split(/\n\s*\n/);
  const ours = paragraphs.filter((text) => {
    const addon = text.indexOf('megapipe_native.node');
    return addon >= 0 && !NOT_OURS.test(text.slice(0, addon));
  });
  return { ours, said: run.stdout, status: run.status };
}

const reason = reasonToSkip();
describe.skipIf(reason !== '')(`under valgrind${reason && ` (skipped: ${reason})`}`, () => {
  beforeAll(strip);
  afterAll(() => rmSync(folder, { recursive: true }));

  test('channels come and go without an invalid access or a lost block of the addon', { timeout: 1_200_000 }, () => {
    const { ours, said, status } = reports('definite,indirect,possible');
    expect(said).toBe('done\n');
    expect(ours).toEqual([]);
    expect(status).toBe(0);
  });

  test('a process that skips the clean-up is seen to leave the addon’s memory', { timeout: 1_200_000 }, () => {
    const { ours, said } = reports('all', 'abandon');
    expect(said).toBe('done\n');
    expect(ours.length).toBeGreaterThan(0);
  });
});
