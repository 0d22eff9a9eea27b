/**
 * The bookkeeping of the rings, over plain memory and with counters that start just below the value where they wrap,
 * against a model of the other side. A real kernel starts its counters at 0: it would take 4 billion requests to come here
 * (test/wrap.test.ts does that with a real ring, where asked for).
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BufferRing } from '../src/buffer-ring.ts';
import { CompletionQueue } from '../src/completion-queue.ts';
import { SubmissionQueue } from '../src/submission-queue.ts';

/** A counter's first value: within 40 steps of a wrap of the unsigned, or of the signed, 32-bit integer; or anything. */
const start = fc.oneof(
  fc.integer({ min: -40, max: 0 }),
  fc.integer({ min: 0, max: 40 }).map((n) => (0x7fff_ffff - n) | 0),
  fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
);
const rows = fc.constantFrom(1, 2, 8, 32);
const rowWords = fc.constantFrom(4, 16);
/** How many one side and then the other handle, in turn. */
const turns = fc.array(fc.tuple(fc.nat(40), fc.nat(40)), { minLength: 1, maxLength: 40 });

test('every submission is taken once and in order, and none is overwritten before, across a wrap of the counters', () => {
  fc.assert(
    fc.property(start, rows, rowWords, turns, (first, count, words, steps) => {
      const [head, tail] = [3, 7];
      const ring = new Int32Array(16);
      ring[head] = first;
      ring[tail] = first;
      const entries = new Int32Array(count * words);
      const queue = new SubmissionQueue(ring, head, tail, entries, count, words);
      const waiting: number[] = [];
      let next = 1;
      for (const [write, takeAtMost] of steps) {
        for (let i = 0; i < write && queue.room() > 0; i++) {
          const at = queue.next();
          entries.fill(next, at, at + words);
          queue.push();
          waiting.push(next++);
        }
        expect(queue.room()).toBe(count - waiting.length);
        /* The kernel: unsigned counters, row = counter & mask. */
        for (let i = 0; i < takeAtMost && ring[head] !== ring[tail]; i++) {
          const row = ((ring[head]! >>> 0) % count) * words;
          const expected = waiting.shift();
          for (let w = 0; w < words; w++) expect(entries[row + w]).toBe(expected);
          ring[head] = (ring[head]! + 1) | 0;
        }
        expect(queue.room()).toBe(count - waiting.length);
      }
    }),
    { numRuns: 500 },
  );
});

test('every completion is taken once and in order, and its row is given back only by publish, across a wrap of the counters', () => {
  fc.assert(
    fc.property(start, rows, rowWords, turns, fc.boolean(), (first, count, words, steps, acquire) => {
      const [head, tail, base] = [1, 2, 8];
      const ring = new Int32Array(base + count * words);
      ring[head] = first;
      ring[tail] = first;
      const queue = new CompletionQueue(ring, head, tail, base, count, words, acquire);
      const posted: number[] = [];
      let next = 1;
      for (const [post, takeAtMost] of steps) {
        /* The kernel posts only into rows that were given back: those before the published head. */
        for (let i = 0; i < post && ((ring[tail]! - ring[head]!) | 0) < count; i++) {
          const row = base + ((ring[tail]! >>> 0) % count) * words;
          ring.fill(next, row, row + words);
          ring[tail] = (ring[tail]! + 1) | 0;
          posted.push(next++);
        }
        expect(queue.ready()).toBe(posted.length);
        const published = ring[head]!;
        const taken = Math.min(takeAtMost, queue.ready());
        for (let i = 0; i < taken; i++) {
          const at = queue.take();
          const expected = posted.shift();
          for (let w = 0; w < words; w++) expect(ring[at + w]).toBe(expected);
          expect(ring[head]).toBe(published);
        }
        queue.publish();
        expect(ring[head]).toBe((published + taken) | 0);
        expect(queue.ready()).toBe(posted.length);
      }
    }),
    { numRuns: 500 },
  );
});

test('a provided buffer is never in the kernel’s hands twice nor lost, across a wrap of the u16 tail and of 4 GiB', () => {
  const bytes = 256;
  fc.assert(
    fc.property(
      fc.constantFrom(8, 32),
      fc.oneof(fc.integer({ min: 65_400, max: 65_535 }), fc.nat(65_535)),
      fc.integer({ min: 0, max: 64 }),
      fc.array(fc.tuple(fc.nat(40), fc.nat(40)), { minLength: 1, maxLength: 60 }),
      (count, first, below, steps) => {
        const [ringAt, buffersAt, tailAt] = [64, 2048, 14];
        const memory = new ArrayBuffer(4096);
        const [words, halfwords] = [new Int32Array(memory), new Uint16Array(memory)];
        halfwords[(ringAt + tailAt) >>> 1] = first;
        const address = 0x7f_0000_0000 - buffersAt - below * bytes;
        const ring = new BufferRing(words, halfwords, address, ringAt, tailAt, buffersAt, count, bytes);
        /* The kernel has its own, private head, and looks at the tail when it wants a buffer. */
        let head = first;
        const held: number[] = [];
        let free = 0;
        const view = new DataView(memory);
        expect(halfwords[(ringAt + tailAt) >>> 1]).toBe(first);
        ring.publish();
        free = count;
        for (const [pick, giveBack] of steps) {
          for (let i = 0; i < pick && head !== halfwords[(ringAt + tailAt) >>> 1]; i++) {
            const row = ringAt + (head % count) * 16;
            const id = view.getUint16(row + 12, true);
            expect(view.getBigUint64(row, true)).toBe(BigInt(address + buffersAt + id * bytes));
            expect(view.getUint32(row + 8, true)).toBe(bytes);
            expect(ring.offset(id)).toBe(buffersAt + id * bytes);
            expect(id < count && !held.includes(id)).toBe(true);
            held.push(id);
            head = (head + 1) & 0xffff;
            free--;
          }
          expect((halfwords[(ringAt + tailAt) >>> 1]! - head) & 0xffff).toBe(free);
          const returned = Math.min(giveBack, held.length);
          for (let i = 0; i < returned; i++) ring.takeBack(held.splice((i * 7) % held.length, 1)[0]!);
          /* Not published yet: the kernel sees no more than before. */
          expect((halfwords[(ringAt + tailAt) >>> 1]! - head) & 0xffff).toBe(free);
          ring.publish();
          free += returned;
        }
        expect(held.length + free).toBe(count);
      },
    ),
    { numRuns: 500 },
  );
});
