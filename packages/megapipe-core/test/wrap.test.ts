/**
 * A channel on a ring whose counters really wrap at 2^32. The kernel starts them at 0, so 4 billion NOPs go through the ring
 * first: some minutes, therefore only with MEGAPIPE_RING_WRAP=1. (test/rings.test.ts has the arithmetic over plain memory.)
 */
import { native } from '@megapipe/native';
import { afterEach, expect, test } from 'vitest';
import { CompletionQueue } from '../src/completion-queue.ts';
import { SubmissionQueue } from '../src/submission-queue.ts';
import { echo, pattern, Rig, take } from './support.ts';

const asked = process.env['MEGAPIPE_RING_WRAP'] === '1';
/** Requests and completions before the wrap: a connection or two has come and gone then. */
const BEFORE = 300;

const create = native.uringCreate;
afterEach(() => {
  native.uringCreate = create;
});

/** Moves both counters of a fresh ring on by `steps`, with NOPs (opcode 0: an entry of zeros). */
function advance(made: Exclude<ReturnType<typeof create>, number>, steps: number): void {
  const { id, sqEntries, cqEntries } = made;
  const [ring, sqes] = [new Int32Array(made.ring), new Int32Array(made.sqes)];
  if (made.sqArray) for (let i = 0; i < sqEntries; i++) ring[(made.sqArray >>> 2) + i] = i;
  const sq = new SubmissionQueue(ring, made.sqHead >>> 2, made.sqTail >>> 2, sqes, sqEntries, 16);
  const cq = new CompletionQueue(ring, made.cqHead >>> 2, made.cqTail >>> 2, made.cqes >>> 2, cqEntries, 4, true);
  for (let left = steps; left > 0; ) {
    for (; left > 0 && sq.room() > 0; left--) sq.push();
    native.uringEnter(id, 0, 0);
    while (cq.ready() > 0) cq.take();
    cq.publish();
  }
}

test.skipIf(!asked)(
  `8: a channel goes on as its ring’s counters wrap${asked ? '' : ' (skipped: minutes long; MEGAPIPE_RING_WRAP=1 runs it)'}`,
  { timeout: 3_600_000 },
  async () => {
    const counters: [Int32Array, number][] = [];
    native.uringCreate = (sqEntries, cqEntries, flags) => {
      const made = create(sqEntries, cqEntries, flags);
      if (typeof made === 'number') return made;
      advance(made, 2 ** 32 - BEFORE);
      const ring = new Int32Array(made.ring);
      for (const at of [made.sqTail, made.sqHead, made.cqTail, made.cqHead]) counters.push([ring, at >>> 2]);
      for (const [words, at] of counters) expect(words[at]).toBe(-BEFORE);
      return made;
    };
    const rig = new Rig({ backend: 'uring' }, echo);
    try {
      for (let n = 0; n < 500; n++) {
        const client = await rig.client();
        const bytes = pattern(1 + ((n * 37) % 9000), n);
        client.write(bytes);
        expect((await take(client, bytes.length)).equals(bytes), `connection ${n}`).toBe(true);
        client.destroy();
      }
      for (const [words, at] of counters) expect(words[at]).toBeGreaterThan(0);
      expect(rig.channel.stats().overflows).toBe(0);
    } finally {
      rig.end();
    }
  },
);
