/** Searching in received bytes. Buffer.indexOf has no end: where the byte is not, it goes on to the end of the channel's memory. */

/** Index of the first `byte` in bytes[start, end), or -1. */
export function indexOfByte(bytes: Uint8Array, byte: number, start: number, end: number): number {
  for (let i = start; i < end; i++) if (bytes[i] === byte) return i;
  return -1;
}
