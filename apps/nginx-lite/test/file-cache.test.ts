/** The cache of files under pressure: what it answers is on the disk, memory is bounded, what is asked for often stays. */

import { closeSync, mkdtempSync, readSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FileCache, type FileEntry, FileKind } from '../src/http/file-cache.ts';
import { hashOf, Popularity, RecencyList } from '../src/http/popularity.ts';
import { Prepared } from '../src/http/prepared.ts';

let dir = '';
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'nginx-lite-file-cache-'));
});
afterAll(() => rmSync(dir, { recursive: true }));

const OPTIONS = { regionBytes: 64 * 1024, smallBytes: 9000, entriesMax: 6 };
const SIZES = [0, 1, 100, 3000, 8192, 8193, 20_000, 40_000, 70_000];
const FILES = 12;

/** What would go to a client now: the bytes that are kept, or else those of the file. */
function bytesOf(cache: FileCache, entry: FileEntry): Buffer {
  const kept = cache.view(entry);
  if (kept !== null) return Buffer.from(kept);
  const fd = cache.openFile(entry);
  const bytes = Buffer.alloc(entry.size);
  try {
    let done = 0;
    while (done < entry.size) done += readSync(fd, bytes, done, entry.size - done, done) || entry.size;
  } finally {
    closeSync(fd);
  }
  return bytes;
}

const answer = (bytes: number): Prepared => new Prepared(new Uint8Array(bytes), bytes, 0, null, true, 200, 0);

interface Inside {
  smallFree: number;
  extents: { free: number };
  entries: Map<string, FileEntry>;
  bare: unknown;
  small: unknown;
  medium: unknown;
}

/** Every byte that is lent is somebody's. */
function checkBooks(cache: FileCache, sending: readonly FileEntry[]): void {
  const inside = cache as unknown as Inside;
  let small = 0;
  const placed = new Map<number, number>();
  for (const entry of inside.entries.values()) {
    expect(entry.passes).toBe(false);
    expect(entry.list).toBe(entry.body !== null ? inside.small : entry.offset >= 0 ? inside.medium : inside.bare);
    if (entry.body !== null) small += entry.size;
    if (entry.offset >= 0) placed.set(entry.offset, entry.size);
    for (const { bytes } of entry.prepared.values()) small += bytes.length;
  }
  for (const entry of sending) if (entry.offset >= 0) placed.set(entry.offset, entry.size);
  expect(inside.smallFree).toBe(OPTIONS.smallBytes - small);
  expect(small).toBeLessThanOrEqual(OPTIONS.smallBytes);
  const pages = [...placed.values()].reduce((sum, size) => sum + Math.ceil(size / 4096) * 4096, 0);
  expect(inside.extents.free).toBe(OPTIONS.regionBytes - pages);
  expect(cache.count).toBeLessThanOrEqual(OPTIONS.entriesMax);
}

describe('the cache of files', () => {
  test('gives what is on the disk, keeps its books, and leaves alone what is being sent', () => {
    const file = fc.nat(FILES - 1);
    const step = fc.oneof(
      { weight: 8, arbitrary: fc.record({ what: fc.constant('open' as const), file }) },
      { weight: 4, arbitrary: fc.record({ what: fc.constant('look' as const), file }) },
      {
        weight: 1,
        arbitrary: fc.record({ what: fc.constant('write' as const), file, size: fc.constantFrom(...SIZES) }),
      },
      { weight: 2, arbitrary: fc.record({ what: fc.constant('send' as const), file }) },
      { weight: 2, arbitrary: fc.record({ what: fc.constant('sent' as const), file }) },
      { weight: 2, arbitrary: fc.record({ what: fc.constant('answer' as const), file }) },
    );
    let round = 0;
    fc.assert(
      fc.property(fc.array(step, { minLength: 20, maxLength: 120 }), (steps) => {
        round++;
        const paths = Array.from({ length: FILES }, (_, i) => join(dir, `${round}-${i}`));
        const contents: Buffer[] = [];
        let version = 0;
        const write = (i: number, size: number): void => {
          contents[i] = Buffer.alloc(size, `${i}.${++version} `);
          writeFileSync(paths[i] as string, contents[i] as Buffer);
          // Two versions of one size within a tick of the clock look alike, to any server.
          utimesSync(paths[i] as string, version, version);
        };
        for (let i = 0; i < FILES; i++) write(i, SIZES[i % SIZES.length] as number);
        const cache = new FileCache(OPTIONS);
        const sending: { entry: FileEntry; bytes: Buffer }[] = [];
        let passed: FileEntry | null = null;
        let tick = 0;
        const open = (i: number): FileEntry => {
          const entry = cache.find(paths[i] as string, ++tick, 0, true, false);
          expect(entry.kind).toBe(FileKind.File);
          expect(bytesOf(cache, entry).equals(contents[i] as Buffer)).toBe(true);
          // The bytes of who passed before are gone, and it says so.
          if (passed !== null && passed !== entry && entry.passes && entry.body !== null)
            expect(passed.body).toBeNull();
          if (entry.passes && entry.body !== null) passed = entry;
          return entry;
        };
        for (const one of steps) {
          if (one.what === 'write') write(one.file, one.size);
          else if (one.what === 'look') {
            expect(cache.find(paths[one.file] as string, ++tick, 0, false, false).size).toBe(
              contents[one.file]?.length,
            );
          } else if (one.what === 'sent') {
            const last = sending.pop();
            if (last !== undefined) cache.release(last.entry);
          } else {
            const entry = open(one.file);
            if (one.what === 'send' && entry.offset >= 0) {
              cache.retain(entry);
              sending.push({ entry, bytes: contents[one.file] as Buffer });
            }
            if (one.what === 'answer') {
              const made = answer(300);
              made.dateTick = tick;
              cache.keepAnswer(entry, String(tick), made);
            }
          }
          for (const { entry, bytes } of sending) expect(Buffer.from(cache.view(entry) ?? []).equals(bytes)).toBe(true);
          checkBooks(
            cache,
            sending.map(({ entry }) => entry),
          );
        }
        while (sending.length > 0) cache.release((sending.pop() as { entry: FileEntry }).entry);
        checkBooks(cache, []);
        for (const path of paths) rmSync(path);
      }),
      { numRuns: 150 },
    );
  });

  test('files that are asked for often stay when many others are asked for once', () => {
    const cache = new FileCache({ ...OPTIONS, smallBytes: 16_384, entriesMax: 100 });
    const paths = Array.from({ length: 200 }, (_, i) => join(dir, `scan-${i}`));
    for (const path of paths) writeFileSync(path, 'x'.repeat(4000));
    const hot = paths.slice(0, 3);
    for (let turn = 0; turn < 5; turn++) for (const path of hot) cache.find(path, turn, 0, true, false);
    for (const path of paths) cache.find(path, 10, 0, true, false);
    for (const path of hot) expect(cache.find(path, 11, 0, true, false).passes).toBe(false);
    const cold = paths.slice(3).filter((path) => !cache.find(path, 11, 0, true, false).passes);
    expect(cold.length).toBeLessThanOrEqual(1);
    // One that becomes popular finds its place.
    for (let turn = 0; turn < 20; turn++) cache.find(paths[50] as string, 12, 0, true, false);
    expect(cache.find(paths[50] as string, 12, 0, true, false).passes).toBe(false);
  });

  test('of two that are asked for as often the one leaves that was used longer ago', () => {
    const cache = new FileCache({ ...OPTIONS, smallBytes: 16_000 });
    const [a, b, newcomer] = ['a', 'b', 'newcomer'].map((name) => join(dir, `recent-${name}`)) as [
      string,
      string,
      string,
    ];
    for (const path of [a, b, newcomer]) writeFileSync(path, 'x'.repeat(7000));
    for (const path of [a, b, b, a]) cache.find(path, 1, 0, true, false);
    for (let i = 0; i < 5; i++) cache.find(newcomer, 1, 0, true, false);
    expect([a, b, newcomer].map((path) => cache.find(path, 1, 0, true, false).passes)).toEqual([false, true, false]);
  });

  test('a file whose answers go out from memory counts as used', () => {
    const cache = new FileCache({ ...OPTIONS, smallBytes: 16_384 });
    const paths = Array.from({ length: 3 }, (_, i) => join(dir, `sent-${i}`));
    for (const path of paths) writeFileSync(path, 'x'.repeat(7000));
    const [first, second, newcomer] = paths as [string, string, string];
    const entry = cache.find(first, 1, 0, true, false);
    const made = answer(100);
    expect(cache.keepAnswer(entry, 'a', made)).toBe(true);
    cache.find(second, 1, 0, true, false);
    made.dateTick = 5;
    for (let i = 0; i < 5; i++) cache.find(newcomer, 6, 0, true, false);
    expect(cache.find(first, 7, 0, true, false)).toBe(entry);
    expect(cache.find(newcomer, 7, 0, true, false).passes).toBe(false);
  });
});

describe('popularity', () => {
  test('counts up to a limit, and forgets', () => {
    const popularity = new Popularity();
    for (let i = 0; i < 300; i++) popularity.note(7);
    expect(popularity.of(7)).toBe(255);
    expect(popularity.beats(7, 8)).toBe(true);
    expect(popularity.beats(8, 7)).toBe(false);
    for (let i = 0; i < 1 << 17; i++) popularity.note(9);
    expect(popularity.of(7)).toBe(127);
  });

  test('a list is in the order of use, whatever is used and removed', () => {
    class Member {
      list: RecencyList<Member> | null = null;
      older: Member | null = null;
      newer: Member | null = null;
    }
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(5), fc.boolean(), fc.boolean())), (steps) => {
        const members = Array.from({ length: 6 }, () => new Member());
        const lists = [new RecencyList<Member>(), new RecencyList<Member>()] as const;
        const model: [Member[], Member[]] = [[], []];
        for (const [n, which, use] of steps) {
          const member = members[n] as Member;
          if (!use && member.list === null) continue;
          for (const each of model) if (each.includes(member)) each.splice(each.indexOf(member), 1);
          if (use) {
            lists[which ? 1 : 0].use(member);
            model[which ? 1 : 0].push(member);
          } else member.list?.remove(member);
          for (const [i, list] of lists.entries()) {
            const order: Member[] = [];
            for (let at = list.oldest; at !== null; at = at.newer) order.push(at);
            expect(order.map((each) => members.indexOf(each))).toEqual(
              model[i as 0 | 1].map((each) => members.indexOf(each)),
            );
          }
        }
      }),
    );
  });

  test('a hash is a whole number of 32 bits, and differs between the paths of a site', () => {
    const hashes = new Set(Array.from({ length: 2000 }, (_, i) => hashOf(`/srv/www/f/${i}.html`) & 0xffff));
    expect(hashes.size).toBeGreaterThan(1800);
    fc.assert(fc.property(fc.string(), (text) => (hashOf(text) | 0) === hashOf(text)));
  });
});
