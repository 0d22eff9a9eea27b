import { afterEach, describe, expect, it } from 'vitest';
import { proportionalBytes, residentBytes } from '../src/memory.ts';
import { Children, waitForLine } from '../src/process.ts';
import { processTree, readStat } from '../src/procstat.ts';

const children = new Children();
afterEach(() => children.stopAll());

describe('memory of a process tree', () => {
  it('counts a page that several processes map once in PSS, and each time in RSS', async () => {
    const three = ['/bin/sh', '-c', 'sleep 1000 & sleep 1000 & echo "listening on here:1"; wait'];
    const child = await children.start(three, null);
    await waitForLine(child, 60_000);
    // What was forked is a second shell until it is the program that it was made for.
    const sleeping = (): number => processTree(child.pid).filter((pid) => readStat(pid)?.name === 'sleep').length;
    while (sleeping() < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    const resident = residentBytes(child.pid);
    const proportional = proportionalBytes(child.pid)!;
    expect(proportional).toBeGreaterThan(0);
    // libc's pages alone are the larger part of these three.
    expect(proportional).toBeLessThan(resident / 2);
  });
});
