/** Pieces of large files: whatever order reads end in, nothing is lost, leaked or read behind a closed descriptor. */

import { fstatSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import type { EngineChannel } from '../src/http/engine-options.ts';
import { FilePieces, FileReader } from '../src/http/file-pieces.ts';

const FILE_BYTES = 3_000_017;
const EIO = 5;
const dir = mkdtempSync(join(tmpdir(), 'pieces-'));
const path = join(dir, 'file');
const content = Buffer.alloc(FILE_BYTES);
for (let i = 0; i < FILE_BYTES; i++) content[i] = (i * 7 + (i >> 8)) & 255;
writeFileSync(path, content);
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** Reads that end when the test says so; the real file, the real memory. */
class Disk {
  private bytes: Uint8Array = new Uint8Array(0);
  readonly under: { fd: number; position: number; offset: number; length: number; token: number }[] = [];

  registerRegion(memory: SharedArrayBuffer): number {
    this.bytes = new Uint8Array(memory);
    return 3;
  }

  readFile(fd: number, position: number, region: number, offset: number, length: number, token: number): void {
    expect(region).toBe(3);
    expect(offset + length).toBeLessThanOrEqual(this.bytes.length);
    this.under.push({ fd, position, offset, length, token });
  }

  /** Ends one read, whole, shorter than asked for, or with an error. */
  end(pieces: FilePieces, which: number, share: number, errno: number): void {
    const read = this.under.splice(which % this.under.length, 1)[0];
    if (read === undefined) return;
    // Throws where the descriptor was closed too early.
    fstatSync(read.fd);
    const length = Math.max(1, Math.floor(read.length * share));
    const bytes = errno > 0 ? 0 : readSync(read.fd, this.bytes, read.offset, length, read.position);
    pieces.onReadFile(read.token, bytes, errno);
  }
}

const isOpen = (fd: number): boolean => {
  try {
    fstatSync(fd);
    return true;
  } catch {
    return false;
  }
};

describe('FileReader', () => {
  test('gives the bytes of the file in order, and lets go of memory and descriptors, in any order of events', () => {
    const step = fc.record({
      reader: fc.nat(5),
      what: fc.constantFrom('ahead', 'end', 'end', 'end', 'take', 'take', 'close', 'fail'),
      which: fc.nat(5),
      share: fc.constantFrom(1, 1, 1, 0.5, 0.01),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), fc.nat(FILE_BYTES - 1), (steps, start) => {
        const disk = new Disk();
        const pieces = new FilePieces(disk as unknown as EngineChannel);
        const whole = pieces.free;
        const readers = Array.from({ length: 6 }, () => {
          const fd = openSync(path, 'r');
          return {
            fd,
            reader: new FileReader(pieces, fd, path, start, FILE_BYTES, () => {}),
            next: start,
            closed: false,
          };
        });
        const take = (one: (typeof readers)[number]): void => {
          const { at, length, space } = one.reader;
          if (length === 0 || one.closed) return;
          expect(
            Buffer.compare(pieces.bytes.subarray(at, at + length), content.subarray(one.next, one.next + length)),
          ).toBe(0);
          one.next += length;
          one.reader.taken();
          pieces.give(at, space);
        };
        for (const { reader: index, what, which, share } of steps) {
          const one = readers[index] as (typeof readers)[number];
          if (what === 'ahead' && !one.closed) one.reader.ahead(1_000_000);
          else if (what === 'end') disk.end(pieces, which, share, 0);
          else if (what === 'fail') disk.end(pieces, which, 1, EIO);
          else if (what === 'take') take(one);
          else if (what === 'close' && !one.closed) {
            one.closed = true;
            one.reader.close();
          }
        }
        for (const one of readers) if (!one.closed) one.reader.close();
        while (disk.under.length > 0) disk.end(pieces, 0, 1, 0);
        expect(pieces.free).toBe(whole);
        expect(readers.filter(({ fd }) => isOpen(fd))).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });

  test('a file that ends too early, and one that cannot be read, say so once', () => {
    const disk = new Disk();
    const pieces = new FilePieces(disk as unknown as EngineChannel);
    let woken = 0;
    const short = new FileReader(pieces, openSync(path, 'r'), path, FILE_BYTES, FILE_BYTES + 10, () => woken++);
    short.ahead(100);
    disk.end(pieces, 0, 1, 0);
    expect([short.failure, short.length, woken]).toEqual([-1, 0, 1]);
    const bad = new FileReader(pieces, openSync(path, 'r'), path, 0, 10, () => woken++);
    bad.ahead(100);
    disk.end(pieces, 0, 1, EIO);
    bad.ahead(100);
    expect([bad.failure, disk.under.length, woken]).toEqual([EIO, 0, 2]);
    short.close();
    bad.close();
  });

  test('when memory is short pieces are small; without any readers wait their turn, and go on', () => {
    const disk = new Disk();
    const pieces = new FilePieces(disk as unknown as EngineChannel);
    const make = (): FileReader => {
      const reader = new FileReader(pieces, openSync(path, 'r'), path, 0, FILE_BYTES, () => {});
      reader.ahead(1_000_000);
      return reader;
    };
    const early: FileReader[] = [];
    while (pieces.free > 0) early.push(make());
    // Far more than there would be room for at full size.
    expect(early.length).toBeGreaterThan(3000);
    const late = make();
    expect([late.reading, late.at]).toEqual([true, -1]);
    const gone = make();
    gone.close();
    const last = make();
    for (const reader of early) {
      disk.end(pieces, 0, 1, 0);
      reader.close();
    }
    while (disk.under.length > 0) disk.end(pieces, 0, 1, 0);
    expect([late.length > 0, gone.length > 0, last.length > 0]).toEqual([true, false, true]);
    late.close();
    last.close();
  });

  test('where free memory lies in parts, a piece is as large as there is room for in a row', () => {
    const disk = new Disk();
    const pieces = new FilePieces(disk as unknown as EngineChannel);
    const reader = new FileReader(pieces, openSync(path, 'r'), path, 0, FILE_BYTES, () => {});
    const taken: { at: number; space: number }[] = [];
    while (pieces.free > 0) {
      const at = pieces.take(reader, 64 * 1024);
      taken.push({ at, space: reader.space });
    }
    // A page in each 256 KiB stays with somebody who is slow.
    const kept = new Set<number>();
    for (const { at, space } of taken) {
      const part = at >> 18;
      if (kept.has(part)) pieces.give(at, space);
      else kept.add(part);
    }
    expect(pieces.free).toBeGreaterThan(40 << 20);
    expect(pieces.take(reader, 1 << 20)).toBeGreaterThanOrEqual(0);
    expect(reader.space).toBe(128 * 1024);
    reader.close();
  });
});
