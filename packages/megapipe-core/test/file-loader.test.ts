/** What FileLoader tells of a path is what Node's own calls tell of it. */
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  readSync,
  rmSync,
  type Stats,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FileLoader, isDirectory, isRegularFile } from '../src/index.ts';

const ROOM = 1000;
const [ENOENT, ENOTDIR, ENXIO, ELOOP, ENAMETOOLONG] = [2, 20, 6, 40, 36];

let dir = '';
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'megapipe-file-loader-'));
});
afterAll(() => rmSync(dir, { recursive: true }));

function expectState(loader: FileLoader, stat: Stats): void {
  const { size, mode, modified, changed, inode } = loader;
  expect({ size, mode, modified, changed, inode }).toEqual({
    size: stat.size,
    mode: stat.mode,
    modified: stat.mtimeMs,
    changed: stat.ctimeMs,
    inode: stat.ino,
  });
  expect(isRegularFile(loader)).toBe(stat.isFile());
  expect(isDirectory(loader)).toBe(stat.isDirectory());
}

describe('FileLoader', () => {
  test('has the state and the bytes of any file, and leaves open what has no room', () => {
    const loader = new FileLoader(ROOM);
    const name = fc.string({
      unit: fc
        .integer({ min: 1, max: 255 })
        .filter((c) => c !== 47)
        .map((c) => String.fromCharCode(c)),
      minLength: 1,
      maxLength: 100,
    });
    const size = fc.oneof(fc.nat(2 * ROOM), fc.constantFrom(0, ROOM - 1, ROOM, ROOM + 1));
    const time = fc.double({ min: 0, max: 4e9, noNaN: true });
    fc.assert(
      fc.property(name, size, time, fc.infiniteStream(fc.nat(255)), (suffix, bytes, modified, stream) => {
        const path = `${dir}/f${suffix}`;
        const file = Buffer.from(path, 'latin1');
        const content = Uint8Array.from(stream.take(bytes));
        writeFileSync(file, content);
        utimesSync(file, modified, modified);
        expect(loader.stat(path)).toBe(0);
        expectState(loader, statSync(file));
        expect(loader.load(path)).toBe(0);
        expectState(loader, statSync(file));
        if (bytes <= ROOM) {
          expect([loader.whole, loader.descriptor]).toEqual([true, -1]);
          expect(Buffer.compare(loader.body.subarray(0, bytes), content)).toBe(0);
        } else {
          expect(loader.whole).toBe(false);
          const read = new Uint8Array(bytes);
          expect(readSync(loader.descriptor, read, 0, bytes, 0)).toBe(bytes);
          closeSync(loader.descriptor);
          expect(Buffer.compare(read, content)).toBe(0);
        }
        rmSync(file);
      }),
      { numRuns: 300 },
    );
  });

  test('directories and devices are looked at, not read, and nothing waits for a FIFO’s writer', () => {
    const loader = new FileLoader(ROOM);
    mkdirSync(`${dir}/d`);
    execFileSync('mkfifo', [`${dir}/fifo`]);
    for (const path of [`${dir}/d`, `${dir}/fifo`, '/dev/zero']) {
      expect(loader.load(path)).toBe(0);
      expectState(loader, statSync(path));
      expect([loader.whole, loader.descriptor]).toEqual([false, -1]);
    }
  });

  test('what the kernel refuses is an errno and the call', () => {
    const loader = new FileLoader(ROOM);
    writeFileSync(`${dir}/file`, 'x');
    execFileSync('ln', ['-s', 'loop', `${dir}/loop`]);
    execFileSync(process.execPath, [
      '-e',
      `require('net').createServer().listen(${JSON.stringify(`${dir}/socket`)}, () => process.exit())`,
    ]);
    for (const [path, looked, loaded] of [
      ['', ENOENT, ENOENT],
      [`${dir}/nowhere`, ENOENT, ENOENT],
      [`${dir}/file/`, ENOTDIR, ENOTDIR],
      [`${dir}/loop`, ELOOP, ELOOP],
      [`${dir}/socket`, 0, ENXIO],
      [`/${'x'.repeat(256)}`, ENAMETOOLONG, ENAMETOOLONG],
      [`${'./'.repeat(2047)}n`, ENOENT, ENOENT],
      ['./'.repeat(2048), ENAMETOOLONG, ENAMETOOLONG],
      ['./'.repeat(20_000), ENAMETOOLONG, ENAMETOOLONG],
    ] as const) {
      expect([path.length, loader.stat(path)]).toEqual([path.length, looked]);
      expect([path.length, loader.load(path), loader.failedCall]).toEqual([path.length, loaded, 'open']);
      expect(loader.descriptor).toBe(-1);
    }
  });

  test('a file that is shorter than it said, or cannot be read, is not whole', () => {
    const loader = new FileLoader(65_536);
    expect(loader.load('/sys/devices/system/cpu/online')).toBe(0);
    expect([loader.size > 0, loader.whole, loader.descriptor]).toEqual([true, false, -1]);
    // The system has no speed for this one, and an error in its place.
    expect(loader.load('/sys/class/net/lo/speed')).toBe(0);
    expect([loader.size > 0, loader.whole, loader.descriptor]).toEqual([true, false, -1]);
  });

  test('a NUL in a path is an error, not the end of it', () => {
    const loader = new FileLoader(ROOM);
    for (const call of ['stat', 'load'] as const)
      expect(() => loader[call](`${dir}/file\0.txt`)).toThrow(
        expect.objectContaining({ code: 'ERR_MEGAPIPE_ARGUMENT' }),
      );
  });

  test('a descriptor is passed on to no child', () => {
    const loader = new FileLoader(0);
    expect(loader.load(process.execPath)).toBe(0);
    const { descriptor } = loader;
    expect(fstatSync(descriptor).size).toBe(loader.size);
    expect(
      execFileSync('sh', ['-c', `[ -e /proc/self/fd/${descriptor} ] && echo there || echo gone`], {
        encoding: 'latin1',
      }),
    ).toBe('gone\n');
    closeSync(descriptor);
  });
});
