/**
 * The bytes that travel: deterministic, printable, different for each index, so that a response that belongs to
 * another request, was cut, or came twice is seen. Both ends of an experiment build them from here. Bytes of more than PERIOD repeat:
 * so a GiB is written and compared without a GiB of memory.
 */

/** Prime, so that a server that errs by a page, a buffer or a MiB is found out. */
export const PERIOD = 1_048_583;

/** Fills `target[start … end)` with the pattern of `index`. */
export function fillPattern(target: Uint8Array, start: number, end: number, index: number): void {
  let state = (index + 1) * 0x9e3779b1;
  for (let at = start; at < end; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    // '0' … 'o': printable, without CR, LF, blanks or markup.
    target[at] = 48 + ((state >>> 24) & 63);
  }
}

/** `size` bytes of pattern `index`. */
export function pattern(size: number, index = 0): Uint8Array {
  const bytes = new Uint8Array(size);
  fillPattern(bytes, 0, Math.min(size, PERIOD), index);
  for (let at = PERIOD; at < size; at += PERIOD) bytes.copyWithin(at, 0, Math.min(PERIOD, size - at));
  return bytes;
}
