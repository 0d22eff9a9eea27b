import { afterEach, describe, expect, it } from 'vitest';
import { proportionalBytes, residentBytes } from '../src/memory.ts';
import { Children, waitForLine } from '../src/process.ts';

const children = new Children();
afterEach(() => children.stopAll());

describe('memory of a process tree', () => {
  it('counts a page that several processes map once in PSS, and each time in RSS', async () => {
    const three = ['/bin/sh', '-c', 'sleep 1000 & sleep 1000 & echo "listening on here:1"; wait'];
    const child = await children.start(three, null);
    await waitForLine(child, 5000);
    const resident = residentBytes(child.pid);
    const proportional = proportionalBytes(child.pid)!;
    expect(proportional).toBeGreaterThan(0);
    // libc's pages alone are the larger part of these three.
    expect(proportional).toBeLessThan(resident / 2);
  });
});
