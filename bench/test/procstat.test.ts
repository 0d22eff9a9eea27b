import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cpuSeconds, parseStat, processTree, readStat } from '../src/procstat.ts';

/** A line as the kernel writes it: 52 fields, of which these are looked at. */
function line(pid: number, name: string, parent: number, times: [number, number, number, number]): string {
  const before = `${pid} (${name}) S ${parent} 1 1 0 -1 4194560 100 200 0 0`;
  return `${before} ${times.join(' ')} 20 0 1 0 12345 1000000 300 18446744073709551615\n`;
}

describe('parseStat', () => {
  it('adds user and system time, and keeps reaped children apart', () => {
    expect(parseStat(line(42, 'nginx', 7, [10, 20, 3, 4]))).toEqual({
      pid: 42,
      parent: 7,
      name: 'nginx',
      ownTicks: 30,
      reapedTicks: 7,
      startTicks: 12345,
    });
  });

  it('finds the end of a name with blanks, parentheses and line ends', () => {
    for (const name of ['tmux: server', ') R 1 2 3', '((', 'a) S 9 9', 'x\ny', '']) {
      expect(parseStat(line(1, name, 2, [1, 2, 3, 4]))).toMatchObject({ name, parent: 2, ownTicks: 3, reapedTicks: 7 });
    }
  });

  it('reads back any name and any times', () => {
    const ticks = fc.nat(2 ** 40);
    fc.assert(
      fc.property(
        fc.nat(),
        fc.string({ maxLength: 15 }),
        fc.nat(),
        fc.tuple(ticks, ticks, ticks, ticks),
        (pid, name, parent, times) => {
          const stat = parseStat(line(pid, name, parent, times));
          expect(stat).toEqual({
            pid,
            name,
            parent,
            ownTicks: times[0] + times[1],
            reapedTicks: times[2] + times[3],
            startTicks: 12345,
          });
        },
      ),
    );
  });

  it('refuses what is no such line, and quotes it', () => {
    for (const text of [
      '',
      '42',
      '42 (nginx)',
      '42 (nginx) S 7 1 1',
      'x (nginx) S 7',
      '42 nginx S 1 2 3 4 5 6 7 8 9 10 11 12 13',
    ]) {
      expect(() => parseStat(text)).toThrow(/expected "PID \(NAME\)/);
    }
  });

  it('agrees with the kernel about this process', () => {
    const stat = parseStat(readFileSync('/proc/self/stat', 'latin1'));
    expect(stat.pid).toBe(process.pid);
    expect(stat.parent).toBe(process.ppid);
    const used = process.cpuUsage();
    expect(Math.abs(stat.ownTicks / 100 - (used.user + used.system) / 1e6)).toBeLessThan(0.5);
  });
});

describe('process trees', () => {
  it('holds children and grandchildren, and counts what they used', async () => {
    const child = spawn('/bin/sh', ['-c', 'sh -c "while :; do :; done" & wait'], { stdio: 'ignore' });
    const root = child.pid!;
    let tree: number[] = [];
    try {
      // No time decides: the loop ends when the grandchild has used CPU, the test's own timeout if it never does.
      while (tree.length < 2 || cpuSeconds(tree) < 0.03) {
        await new Promise((resolve) => setTimeout(resolve, 10));
        tree = processTree(root);
      }
      expect(tree[0]).toBe(root);
      expect(readStat(root)!.ownTicks).toBeLessThan(cpuSeconds(tree) * 100);
    } finally {
      for (const pid of tree.toReversed()) process.kill(pid, 'SIGKILL');
      if (tree.length === 0) child.kill('SIGKILL');
    }
    await new Promise((resolve) => child.once('close', resolve));
    expect(readStat(root)).toBeNull();
    expect(() => cpuSeconds([root])).toThrow(/ended/);
  });
});
