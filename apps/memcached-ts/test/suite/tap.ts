/**
 * Runs one file of memcached's test suite, a Perl program that starts servers by itself, and reads its TAP.
 * Invariant: when `runTap` is done, no process of the test is left, whatever became of it.
 * Not its job: what is expected of it (expected.ts).
 */
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { OURS } from '../servers.ts';

/** Servers end when the test that started them has; until then it is waited for them, milliseconds. */
const LEAVE_MS = 20_000;

export interface Tap {
  /** Numbers of the subtests that failed. */
  failing: number[];
  /** Of all subtests. */
  ran: number;
  /** What went wrong beside failing subtests: killed, another number of subtests than planned. */
  trouble: string | undefined;
  /** Why the file was skipped as a whole. */
  skipped: string | undefined;
  /** stderr: what the failing subtests had to say, and servers. */
  words: string;
  ms: number;
}

/** Reads TAP. `status`: exit status, or the signal that ended it. */
export function readTap(text: string, status: number | string): Pick<Tap, 'failing' | 'ran' | 'trouble' | 'skipped'> {
  const failing: number[] = [];
  let ran = 0;
  let planned: number | undefined;
  let skipped: string | undefined;
  for (const line of text.split('\n')) {
    const result = /^(not )?ok\b(?: (\d+))?(.*)/.exec(line);
    if (result !== null) {
      ran++;
      if (result[1] !== undefined && !/# TODO/i.test(result[3]!)) failing.push(Number(result[2] ?? ran));
      continue;
    }
    const plan = /^1\.\.(\d+)(?:\s*# *skip\S*\s*(.*))?$/i.exec(line);
    if (plan === null) continue;
    planned = Number(plan[1]);
    if (planned === 0) skipped = plan[2] ?? 'without a reason';
  }
  let trouble: string | undefined;
  if (planned === undefined) trouble = `ended with ${status} after ${ran} subtests, without a plan`;
  else if (ran !== planned) trouble = `ended with ${status} after ${ran} of ${planned} subtests`;
  // Test::More ends with the number of those that failed.
  else if (status !== Math.min(failing.length, 254)) trouble = `ended with ${status}`;
  return { failing, ran, trouble, skipped };
}

/** Makes the folder that tests run in: their files, with ours in the place of the server. `threads`: where a test names none. */
export function workFolder(source: string, io: string, threads: number): string {
  const folder = join(source, `../suite-${io}-${threads}`);
  mkdirSync(join(folder, 'bin'), { recursive: true });
  for (const name of ['t', 'timedrun']) {
    rmSync(join(folder, name), { force: true });
    symlinkSync(join(source, name), join(folder, name));
  }
  const program = (name: string, text: string): void => {
    writeFileSync(join(folder, name), `#!/bin/sh\n${text}\n`);
    chmodSync(join(folder, name), 0o755);
  };
  // Before each server that they start, the tests look several times in its help for what it can do.
  writeFileSync(join(folder, 'help'), spawnSync(OURS, ['-h']).stdout);
  program('memcached-debug', `[ "$*" = -h ] && exec cat help\nexec '${OURS}' --io ${io} -t ${threads} "$@"`);
  // The password that binary-sasl.t sets with Cyrus's program once its server runs stands in ours from the start.
  program('bin/saslpasswd2', 'exec cat >/dev/null');
  writeFileSync(join(folder, 'passwords'), 'testuser@memcached.realm:testpass\n');
  return folder;
}

/** What a file needs in its environment. */
function environmentOf(folder: string, file: string): Record<string, string> {
  if (file === 'expirations.t') {
    const hook = `--import=${new URL('debugtime.ts', import.meta.url).href}`;
    return { NODE_OPTIONS: `${hook} --disable-warning=ExperimentalWarning` };
  }
  if (file === 'binary-sasl.t') {
    return {
      RUN_SASL_TESTS: '1',
      MEMCACHED_SASL_PWDB: join(folder, 'passwords'),
      PATH: `${join(folder, 'bin')}:${process.env['PATH']}`,
    };
  }
  return {};
}

function isAlive(group: number): boolean {
  try {
    process.kill(-group, 0);
    return true;
  } catch {
    return false;
  }
}

/** `folder`: see workFolder. `file`: its name in `t/`. */
export async function runTap(folder: string, file: string, secondsMax: number): Promise<Tap> {
  const begun = performance.now();
  const child = spawn('perl', [`t/${file}`], {
    cwd: folder,
    // A group of its own, which its servers belong to.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...environmentOf(folder, file) },
  });
  let text = '';
  let words = '';
  child.stdout.setEncoding('utf8').on('data', (data: string) => (text += data));
  child.stderr.setEncoding('utf8').on('data', (data: string) => (words += data));
  const group = child.pid!;
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    process.kill(-group, 'SIGKILL');
  }, secondsMax * 1000);
  const closed = new Promise((resolve) => child.once('close', resolve));
  const status = await new Promise<number | string>((resolve) =>
    child.once('exit', (code, signal) => resolve(code ?? signal!)),
  );
  clearTimeout(timer);
  const ms = performance.now() - begun;
  const leaveBy = performance.now() + LEAVE_MS;
  while (isAlive(group)) {
    if (performance.now() > leaveBy) process.kill(-group, 'SIGKILL');
    await sleep(20);
  }
  // A daemon of the test's has left the group.
  await Promise.race([closed, sleep(LEAVE_MS)]);
  const tap = readTap(text, status);
  return { ...tap, trouble: late ? `not done within ${secondsMax} s` : tap.trouble, words, ms };
}
