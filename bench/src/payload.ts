/**
 * The bytes that travel: deterministic, printable, different for each index, so that a response that belongs to
 * another request, was cut, or came twice is seen. Both ends of an experiment build them from here. Bytes of more than PERIOD repeat:
 * so a GiB is written and compared without a GiB of memory.
 */

/** Prime, so that a server that errs by a page, a buffer or a MiB is found out. */
export const PERIOD = 1_048_583;

/** What the four bytes of a pattern are made of, one word after another. */
export function patternSeed(index: number): number {
  return Math.imul(index + 1, 0x9e37_79b1);
}

export function patternStep(state: number): number {
  return (Math.imul(state, 1664525) + 1013904223) | 0;
}

/** Four bytes, the lowest first: '0' … 'o', printable, without CR, LF, blanks or markup. */
export function patternWord(state: number): number {
  return ((state >>> 2) & 0x3f3f_3f3f) + 0x3030_3030;
}

/** Fills `target[start … end)` with the pattern of `index`. */
export function fillPattern(target: Uint8Array, start: number, end: number, index: number): void {
  let state = patternSeed(index);
  for (let at = start; at < end; at += 4) {
    state = patternStep(state);
    const word = patternWord(state);
    const bytes = Math.min(4, end - at);
    for (let i = 0; i < bytes; i++) target[at + i] = word >>> (i << 3);
  }
}

/** `size` bytes of pattern `index`. */
export function pattern(size: number, index = 0): Uint8Array {
  const bytes = new Uint8Array(size);
  fillPattern(bytes, 0, Math.min(size, PERIOD), index);
  for (let at = PERIOD; at < size; at += PERIOD) bytes.copyWithin(at, 0, Math.min(PERIOD, size - at));
  return bytes;
}
