/**
 * A channel on a ring whose counters really wrap at 2^32. The kernel starts them at 0, so 4 billion NOPs go through the ring
 * first: some minutes, therefore only with MEGAPIPE_RING_WRAP=1. (test/rings.test.ts has the arithmetic over plain memory.)
 */
import { native, type UringInfo } from '@megapipe/native';
import { expect, test, vi } from 'vitest';
import { CompletionQueue } from '../src/completion-queue.ts';
import { SubmissionQueue } from '../src/submission-queue.ts';
import { echo, pattern, Rig, take } from './support.ts';

const asked = process.env['MEGAPIPE_RING_WRAP'] === '1';
/** Requests and completions before the wrap: a connection or two has come and gone then. */
const BEFORE = 300;

/** Rings that a test made, each as it came from the kernel; called before the channel sees it. */
const made = vi.hoisted(() => ({ hook: (_ring: unknown): void => {} }));
/* The addon is the real one; only the moment between making a ring and using it is the test's. */
vi.mock('@megapipe/native', async (original) => {
  const real = await original<typeof import('@megapipe/native')>();
  const uringCreate: typeof native.uringCreate = (sqEntries, cqEntries, flags) => {
    const ring = real.native.uringCreate(sqEntries, cqEntries, flags);
    if (typeof ring !== 'number') made.hook(ring);
    return ring;
  };
  return { ...real, native: { ...real.native, uringCreate } };
});

/** Moves both counters of a fresh ring on by `steps`, with NOPs (opcode 0: an entry of zeros). */
function advance(info: UringInfo, steps: number): void {
  const { id, sqEntries, cqEntries } = info;
  const [ring, sqes] = [new Int32Array(info.ring), new Int32Array(info.sqes)];
  if (info.sqArray) for (let i = 0; i < sqEntries; i++) ring[(info.sqArray >>> 2) + i] = i;
  const sq = new SubmissionQueue(ring, info.sqHead >>> 2, info.sqTail >>> 2, sqes, sqEntries, 16);
  const cq = new CompletionQueue(ring, info.cqHead >>> 2, info.cqTail >>> 2, info.cqes >>> 2, cqEntries, 4, true);
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
    made.hook = (ring): void => {
      const info = ring as UringInfo;
      advance(info, 2 ** 32 - BEFORE);
      const words = new Int32Array(info.ring);
      for (const at of [info.sqTail, info.sqHead, info.cqTail, info.cqHead]) {
        counters.push([words, at >>> 2]);
        expect(words[at >>> 2]).toBe(-BEFORE);
      }
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
