import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { ABI, NET, native, type UringInfo } from '../src/index.ts';

const RING_FLAGS = ABI.SETUP_SUBMIT_ALL | ABI.SETUP_CLAMP | ABI.SETUP_COOP_TASKRUN;

function ring(): UringInfo {
  const info = native.uringCreate(8, 16, RING_FLAGS);
  if (typeof info === 'number') throw new Error(`io_uring is not available here: errno ${-info}`);
  return info;
}

const code = (action: () => unknown): string => {
  try {
    action();
    return 'none';
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
};

const openFds = (): number => readdirSync('/proc/self/fd').length;

describe('memory', () => {
  test('a mapped region is zeroed, writable, and empty after unmap', () => {
    const region = native.memoryMap(8192);
    const bytes = new Uint8Array(region.buffer);
    expect(bytes.length).toBe(8192);
    expect(bytes.every((b) => b === 0)).toBe(true);
    bytes[8191] = 7;
    native.memoryUnmap(region.id);
    expect(bytes.length).toBe(0);
    expect(code(() => native.memoryUnmap(region.id))).toBe('ERR_MEGAPIPE_REGION');
  });

  test('a view on an ordinary ArrayBuffer is refused, one on a SharedArrayBuffer has the same address in a worker', async () => {
    expect(code(() => native.memoryAttach(new Uint8Array(8)))).toBe('ERR_MEGAPIPE_ARGUMENT');
    expect(code(() => native.addressOf(new Uint8Array(8)))).toBe('ERR_MEGAPIPE_ARGUMENT');
    const shared = new SharedArrayBuffer(64);
    const here = native.addressOf(new Uint8Array(shared));
    const index = JSON.stringify(new URL('../src/index.ts', import.meta.url).href);
    const worker = new Worker(
      `import(${index}).then(({ native }) => {
        const { parentPort, workerData } = require('node:worker_threads');
        parentPort.postMessage(native.addressOf(new Uint8Array(workerData)));
      });`,
      { eval: true, workerData: shared },
    );
    const there = await new Promise((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
    await worker.terminate();
    expect(there).toBe(here);
  });
});

describe('memory files', () => {
  test('one in the place of a buffer’s pages keeps what is written there, and a second buffer finds it', () => {
    const file = native.memoryFile(4 << 20);
    const first = new Uint8Array(new SharedArrayBuffer(4 << 20));
    first.fill(1);
    const before = native.memoryBindFile(first, file);
    expect(before).toBeGreaterThanOrEqual(0);
    expect(before).toBeLessThan(4096);
    if (before > 0) expect(first[before - 1]).toBe(1);
    expect([first[before], first[before + 10_000]]).toEqual([0, 0]);
    first.fill(7, before + 5000, before + 6000);
    const second = new Uint8Array(new SharedArrayBuffer(4 << 20));
    const offset = native.memoryBindFile(second, file);
    expect([second[offset + 5000], second[offset + 5999], second[offset + 6000]]).toEqual([7, 7, 0]);
    second[offset + 1] = 9;
    expect(first[before + 1]).toBe(9);
    native.close(file);
    expect(first[before + 1]).toBe(9);
  });

  test('what is no regular file, shorter than the pages, or no shared buffer, is not put there', () => {
    const file = native.memoryFile(4096);
    const view = new Uint8Array(new SharedArrayBuffer(1 << 20));
    expect(() => native.memoryBindFile(view, file)).toThrow(/the file has 4096 bytes/);
    expect(() => native.memoryBindFile(view.subarray(0, 100), file)).toThrow(/no whole page/);
    expect(() => native.memoryBindFile(new Uint8Array(1 << 20), file)).toThrow(/SharedArrayBuffer/);
    const [a, b] = native.socketpair() as [number, number];
    expect(() => native.memoryBindFile(view, a)).toThrow(/no regular file/);
    expect(() => native.memoryBindFile(view, 999_999)).toThrow(/999999/);
    for (const fd of [a, b, file]) native.close(fd);
  });

  test('two mappings of one file are the same memory, zeroed at first', () => {
    const file = native.memoryFile(8192);
    const a = native.memoryMapFile(file, 8192);
    const b = native.memoryMapFile(file, 4096);
    const [one, two] = [new Int32Array(a.buffer), new Int32Array(b.buffer)];
    expect(one[1000]).toBe(0);
    expect(Atomics.add(one, 1000, 7)).toBe(0);
    expect(two[1000]).toBe(7);
    native.memoryUnmap(a.id);
    native.close(file);
    expect(two[1000]).toBe(7);
    native.memoryUnmap(b.id);
  });

  test('what is no memory file, or shorter than asked for, is refused', () => {
    const file = native.memoryFile(4096);
    expect(() => native.memoryMapFile(file, 8192)).toThrow(/8192 bytes of a memory file of 4096/);
    expect(() => native.memoryMapFile(0, 1)).toThrow(/not memory made by memoryFile/);
    expect(() => native.memoryMapFile(999_999, 1)).toThrow(/999999/);
    expect(() => native.memoryFile(0)).toThrow(/1 to 2\^40/);
    native.close(file);
  });
});

describe('sockets', () => {
  const fds: number[] = [];
  afterEach(() => {
    for (const fd of fds.splice(0)) native.close(fd);
  });

  test('bytes cross a socket pair, gathered from two regions', () => {
    const pair = native.socketpair();
    if (typeof pair === 'number') throw new Error(`socketpair: errno ${-pair}`);
    fds.push(...pair);
    const a = native.memoryMap(4096);
    const b = native.memoryAttach(new Uint8Array(new SharedArrayBuffer(16)).fill(66));
    new Uint8Array(a.buffer).fill(65, 0, 4);
    new Int32Array(a.buffer, 64, 8).set([a.id, 0, 0, 4, b.id, 3, 0, 5]);
    expect(native.sendv(pair[0], a.id, 64, 2)).toBe(9);
    expect(native.recv(pair[1], a.id, 128, 100)).toBe(9);
    expect(Buffer.from(a.buffer, 128, 9).toString()).toBe('AAAABBBBB');
    expect(native.recv(pair[1], a.id, 128, 100)).toBe(-11);
    native.memoryRelease(b.id);
    native.memoryUnmap(a.id);
  });

  test('a port in use answers EADDRINUSE, a bad address an error that names it', () => {
    const first = native.socket(NET.AF_INET, NET.SOCK_STREAM);
    const second = native.socket(NET.AF_INET, NET.SOCK_STREAM);
    fds.push(first, second);
    expect(native.bind(first, '127.0.0.1', 0)).toBe(0);
    expect(native.listen(first, 8)).toBe(0);
    const name = native.getsockname(first, 0);
    if (typeof name === 'number') throw new Error('getsockname');
    expect(native.bind(second, '127.0.0.1', name.port)).toBe(-98);
    expect(() => native.bind(second, 'localhost', 1)).toThrow(/"localhost"/);
    expect(() => native.bind(second, '127.0.0.1', 65536)).toThrow(/65536/);
    expect(() => native.bind(second, `/${'x'.repeat(110)}`, 0)).toThrow(/at most 107 bytes/);
  });

  test('the affinity of a thread can be narrowed and widened again', () => {
    const all = native.getAffinity() as number[];
    expect(native.setAffinity([all[0]!])).toBe(0);
    expect(native.getAffinity()).toEqual([all[0]]);
    expect(native.setAffinity(all)).toBe(0);
    expect(native.setAffinity([1023])).toBe(-22);
  });

  test('limits of the process are read and set', () => {
    const RLIMIT_CORE = 4;
    const before = native.getRlimit(RLIMIT_CORE);
    if (typeof before === 'number') throw new Error('getRlimit');
    expect(native.setRlimit(RLIMIT_CORE, 0, before.hard)).toBe(0);
    expect(native.getRlimit(RLIMIT_CORE)).toEqual({ soft: 0, hard: before.hard });
    expect(native.setRlimit(RLIMIT_CORE, before.soft, before.hard)).toBe(0);
    expect(native.getRlimit(99)).toBe(-22);
    expect(native.setRlimit(99, 1, 1)).toBe(-22);
    expect(() => native.setRlimit(RLIMIT_CORE, -2, 0)).toThrow(/soft/);
  });

  test('code that only the start needed is let go of, and is there again when it is to run', () => {
    /* A program on a tmpfs counts as shared memory. */
    const resident = () =>
      [...readFileSync('/proc/self/status', 'latin1').matchAll(/^Rss(?:File|Shmem):\s+(\d+) kB$/gm)]
        .map((match) => Number(match[1]))
        .reduce((sum, kib) => sum + kib, 0);
    const before = resident();
    expect(native.trimProcess()).toBeGreaterThan(1 << 20);
    expect(resident()).toBeLessThan(before);
    expect(new Intl.NumberFormat('de').format(1234.5)).toBe('1.234,5');
  });
});

describe('rings', () => {
  test('a no-op goes down and its completion comes up', () => {
    const info = ring();
    const sqes = new Int32Array(info.sqes);
    const words = new Int32Array(info.ring);
    if (info.sqArray) words[info.sqArray >>> 2] = 0;
    sqes[8] = 0x1234;
    sqes[9] = 0x5678;
    words[info.sqTail >>> 2] = 1;
    expect(native.uringEnter(info.id, 1, 1000)).toBe(1);
    expect(words[info.cqTail >>> 2]).toBe(1);
    expect([...words.subarray(info.cqes >>> 2, (info.cqes >>> 2) + 3)]).toEqual([0x1234, 0x5678, 0]);
    native.uringClose(info.id);
    expect(words.length).toBe(0);
  });

  test('closing gives every descriptor and id back', () => {
    const before = openFds();
    for (let i = 0; i < 300; i++) native.uringClose(ring().id);
    expect(openFds()).toBe(before);
  });

  test('ids of another thread, closed ids and foreign ids are refused', () => {
    const info = ring();
    native.uringClose(info.id);
    expect(code(() => native.uringEnter(info.id, 0, 0))).toBe('ERR_MEGAPIPE_RING');
    expect(code(() => native.uringEnter(99_999, 0, 0))).toBe('ERR_MEGAPIPE_RING');
    expect(code(() => native.uringBufferRing(0, 0, 0, 8, 0, 0))).toBe('ERR_MEGAPIPE_RING');
  });
});

describe('hostile arguments', () => {
  test('any arguments to any verb give a result or a JavaScript error with a code, and never end the process', () => {
    const program = fileURLToPath(new URL('programs/hostile.ts', import.meta.url));
    const run = spawnSync(process.execPath, [program, '20000'], { encoding: 'utf8' });
    expect(run.stderr.replace(/\(node:\d+\).*\n|\(Use `node.*\n/g, '')).toBe('');
    expect([run.status, run.signal]).toEqual([0, null]);
    const [answered, threw] = run.stdout.split(' ').map(Number) as [number, number];
    expect(answered).toBeGreaterThan(1000);
    expect(threw).toBeGreaterThan(1000);
  });

  test('data verbs never touch memory outside a region', () => {
    const pair = native.socketpair() as [number, number];
    const region = native.memoryMap(4096);
    fc.assert(
      fc.property(
        fc.constantFrom('recv', 'send', 'sendv', 'epollWait'),
        fc.array(
          fc.oneof(fc.integer(), fc.constantFrom(-1, 0, 1, 4095, 4096, 4097, 2 ** 31, 2 ** 53, Number.NaN, 'x', null)),
          { minLength: 3, maxLength: 5 },
        ),
        (verb, rest) => {
          const args =
            verb === 'epollWait' ? [pair[0], region.id, ...rest.slice(0, 2), 0] : [pair[0], region.id, ...rest];
          try {
            (native[verb as 'recv'] as (...a: unknown[]) => unknown)(...args);
          } catch (error) {
            expect((error as { code: string }).code).toMatch(/^ERR_MEGAPIPE_/);
          }
        },
      ),
      { numRuns: 5000 },
    );
    expect(code(() => native.recv(pair[0], region.id, 4000, 97))).toBe('ERR_MEGAPIPE_RANGE');
    expect(code(() => native.send(pair[0], region.id, 4097, 0, 0))).toBe('ERR_MEGAPIPE_RANGE');
    expect(code(() => native.recv(pair[0], 99_999, 0, 1))).toBe('ERR_MEGAPIPE_REGION');
    native.memoryUnmap(region.id);
    native.close(pair[0]);
    native.close(pair[1]);
  });
});
