/** readFile: files read into regions, on each backend. */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { Channel, type ChannelOptions, type Sink } from '../src/index.ts';
import { BACKENDS, dispatchUntil, pattern, sink } from './support.ts';

const ENOENT = 2;
const EBADF = 9;
const EISDIR = 21;
const ECANCELED = 125;
const FILE_BYTES = 300_001;
const REGION_BYTES = 1 << 16;

const folder = mkdtempSync(join(tmpdir(), 'megapipe-files-'));
const path = join(folder, 'file');
const content = pattern(FILE_BYTES, 3);
writeFileSync(path, content);
const fd = openSync(path, 'r');
afterAll(() => {
  closeSync(fd);
  rmSync(folder, { recursive: true });
});

interface Outcome {
  token: number;
  bytes: number;
  errno: number;
}

function make(options: ChannelOptions, parts: Partial<Sink> = {}) {
  const outcomes: Outcome[] = [];
  const channel = new Channel(
    sink({ onReadFile: (token, bytes, errno) => void outcomes.push({ token, bytes, errno }), ...parts }),
    options,
  );
  const memory = new SharedArrayBuffer(REGION_BYTES);
  return { channel, outcomes, memory: Buffer.from(memory), region: channel.registerRegion(memory) };
}

describe.each(BACKENDS)('readFile on %s', (backend) => {
  it('brings exactly the bytes of the file, wherever they stand and wherever they go', () => {
    const { channel, outcomes, memory, region } = make({ backend });
    const read = fc.record({
      position: fc.nat(FILE_BYTES + 10),
      offset: fc.nat(REGION_BYTES - 1),
      length: fc.integer({ min: 1, max: REGION_BYTES }),
    });
    fc.assert(
      fc.property(read, ({ position, offset, length }) => {
        const room = Math.min(length, REGION_BYTES - offset);
        memory.fill(0xee);
        outcomes.length = 0;
        channel.readFile(fd, position, region, offset, room, 7);
        dispatchUntil(channel, () => outcomes.length > 0);
        const expected = content.subarray(position, position + room);
        expect(outcomes).toEqual([{ token: 7, bytes: expected.length, errno: 0 }]);
        expect(memory.subarray(offset, offset + expected.length).equals(expected)).toBe(true);
        expect(memory.subarray(0, offset).every((byte) => byte === 0xee)).toBe(true);
        expect(memory.subarray(offset + room).every((byte) => byte === 0xee)).toBe(true);
      }),
      { numRuns: 200 },
    );
    channel.destroy();
  });

  it('serves thousands of reads at a time, each exactly once', () => {
    const { channel, outcomes, memory, region } = make({ backend, sqEntries: 64, cqEntries: 256 });
    const count = 4096;
    for (let token = 0; token < count; token++) channel.readFile(fd, token * 64, region, token * 16, 16, token);
    dispatchUntil(channel, () => outcomes.length === count);
    expect(new Set(outcomes.map(({ token }) => token)).size).toBe(count);
    for (const { token, bytes, errno } of outcomes) {
      expect([bytes, errno]).toEqual([16, 0]);
      const expected = content.subarray(token * 64, token * 64 + 16);
      expect(memory.subarray(token * 16, token * 16 + 16).equals(expected)).toBe(true);
    }
    channel.destroy();
  });

  it('reports the end of the file, a descriptor that is none and a folder', () => {
    const { channel, outcomes, region } = make({ backend });
    const directory = openSync(folder, 'r');
    channel.readFile(fd, FILE_BYTES, region, 0, 10, 1);
    channel.readFile(2 ** 30, 0, region, 0, 10, 2);
    channel.readFile(directory, 0, region, 0, 10, 3);
    dispatchUntil(channel, () => outcomes.length === 3);
    closeSync(directory);
    expect(outcomes.toSorted((a, b) => a.token - b.token)).toEqual([
      { token: 1, bytes: 0, errno: 0 },
      { token: 2, bytes: 0, errno: EBADF },
      { token: 3, bytes: 0, errno: EISDIR },
    ]);
    channel.destroy();
  });

  it('refuses what lies outside a region, and holds the region while a read is under way', () => {
    const { channel, outcomes, region } = make({ backend });
    expect(() => channel.readFile(fd, 0, region, REGION_BYTES - 1, 2, 1)).toThrow(/outside region/);
    expect(() => channel.readFile(fd, 0, region + 1, 0, 2, 1)).toThrow(/there is no region/);
    expect(() => channel.readFile(fd, -1, region, 0, 2, 1)).toThrow(/a position and a length above 0/);
    expect(() => channel.readFile(-1, 0, region, 0, 2, 1)).toThrow(/expected a descriptor/);
    expect(() => channel.readFile(fd, 0, region, 0, 0, 1)).toThrow(/a length above 0/);
    channel.readFile(fd, 0, region, 0, 2, 1);
    expect(() => channel.unregisterRegion(region)).toThrow(/1 requests on region/);
    dispatchUntil(channel, () => outcomes.length === 1);
    channel.unregisterRegion(region);
    channel.destroy();
    const without = new Channel(sink({}), { backend });
    expect(() => without.readFile(fd, 0, 0, 0, 1, 1)).toThrow(/no method onReadFile/);
    without.destroy();
  });

  it('ends each read that was under way with ECANCELED when the channel is destroyed', () => {
    const { channel, outcomes, region } = make({ backend });
    for (let token = 0; token < 10; token++) channel.readFile(fd, 0, region, 0, 16, token);
    channel.destroy();
    expect(outcomes).toEqual(Array.from({ length: 10 }, (_, token) => ({ token, bytes: 0, errno: ECANCELED })));
  });

  it('reports what is known at once also to a sink that asks inside its own methods, with nothing else to wake the loop', () => {
    const program = join(import.meta.dirname, 'programs/inside.ts');
    const run = spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', program, backend, path], {
      encoding: 'utf8',
      timeout: 200_000,
    });
    expect([run.stderr, run.stdout, run.status]).toEqual(['', `errno ${ENOENT}\n`, 0]);
  });
});
