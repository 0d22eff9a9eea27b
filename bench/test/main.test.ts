import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { Children } from '../src/process.ts';
import { processTree, readStat } from '../src/procstat.ts';
import type { Results } from '../src/results.ts';

const MAIN = fileURLToPath(new URL('../src/main.ts', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'megapipe-test-'));
const children = new Children();
afterAll(async () => {
  await children.stopAll();
  rmSync(folder, { recursive: true });
});

/** Where the runs put what they need while they run. */
const scratch = join(folder, 'scratch');
mkdirSync(scratch);

const start = (...args: string[]) =>
  children.start([process.execPath, MAIN, ...args, '--out', folder], null, { TMPDIR: scratch });

describe('main.ts', () => {
  it('measures an experiment and ends with the path of its report', { timeout: 900_000 }, async () => {
    const child = await start('--only', 'echo', '--rounds', '1', '--seconds', '0.05');
    const exit = await child.ended;
    expect(child.stderr()).toBe('');
    expect(exit.code).toBe(0);
    const path = child.stdout().trimEnd().split('\n').at(-1)!;
    expect(dirname(path)).toBe(folder);
    const results = JSON.parse(readFileSync(path.replace(/html$/, 'json'), 'utf8')) as Results;
    expect(results.experiments[0]!.samples).toHaveLength(15);
    expect(results.experiments[0]!.samples.filter((sample) => sample.errors > 0)).toEqual([]);
    const html = readFileSync(path, 'utf8');
    for (const { label } of results.experiments[0]!.servers) expect(html).toContain(label);
  });

  it('gets the bytes that a configuration is to answer with, from both programs', { timeout: 900_000 }, async () => {
    const child = await start('--only', 'nginx-return', '--rounds', '1', '--seconds', '0.05');
    const exit = await child.ended;
    expect(child.stdout()).not.toMatch(/errors/);
    expect(exit.code).toBe(0);
  });

  it('leaves no process and no folder behind when it is interrupted', async () => {
    const child = await start('--only', 'echo');
    while (!child.stdout().includes('warming up')) {
      expect(child.exit()).toBeNull();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    expect(readdirSync(scratch)).not.toEqual([]);
    const tree = processTree(child.pid);
    expect(tree.length).toBeGreaterThan(5);
    process.kill(child.pid, 'SIGINT');
    expect(await child.ended).toEqual({ code: 130, signal: null });
    for (const pid of tree) while (readStat(pid) !== null) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(readdirSync(scratch)).toEqual([]);
  });

  it.each([
    [['--only', 'nothing'], /no experiment "nothing"/],
    [['--rounds', '0'], /--rounds: expected a whole number above 0, got "0"/],
    [['--seconds', 'x'], /--seconds/],
    [['--quick', '--full'], /exclude each other/],
    [['--fast'], /--fast/],
    [['--server-cpu', '-1'], /--server-cpu/],
  ])('refuses %j with the usage', async (args, message) => {
    const child = await start(...args);
    expect((await child.ended).code).toBe(2);
    expect(child.stderr()).toMatch(message);
    expect(child.stderr()).toContain('usage: ');
  });
});
