/** Every length and alignment of the reply copy, with what stands before and behind it. */
import { describe, expect, it } from 'vitest';
import { copyReply, SLACK_BYTES } from '../src/copy.ts';

describe('copyReply', () => {
  it('copies every length to every alignment, and touches no more than its slack', () => {
    const source = Buffer.from(new SharedArrayBuffer(4096));
    for (let i = 0; i < source.length; i++) source[i] = (i * 7 + 3) & 0xff;
    const source32 = new Int32Array(source.buffer);
    const memory = new ArrayBuffer(4096);
    const target = Buffer.from(memory);
    const target32 = new Int32Array(memory);
    for (let at = 64; at < 68; at++) {
      for (let count = 1; count < 600; count++) {
        target.fill(0xee);
        copyReply(target, target32, at, source, source32, 10, count);
        const expected = Buffer.concat([Buffer.from('VALU'), source.subarray(40, 40 + count)]);
        expect(target.compare(expected, 0, expected.length, at, at + 4 + count)).toBe(0);
        expect(target.subarray(0, at).every((byte) => byte === 0xee)).toBe(true);
        expect(target.subarray(at + 4 + count + SLACK_BYTES).every((byte) => byte === 0xee)).toBe(true);
      }
    }
  });
});
