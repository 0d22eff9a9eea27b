/**
 * Base64 as memcached reads and writes it: characters outside the alphabet are skipped, the rest must be whole groups of
 * four, and what follows the padding is not looked at. Not its job: anything but keys; there is no bound on the output.
 */

const ALPHABET = Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/');
const PAD = 0x3d;
const NONE = 255;
const VALUES = new Uint8Array(256).fill(NONE);
for (let i = 0; i < ALPHABET.length; i++) VALUES[ALPHABET[i]!] = i;
VALUES[PAD] = 0;

/** Decodes bytes[start, end) to the front of `into`: how many bytes it gave, 0 when it is not base64. */
export function decodeBase64(bytes: Uint8Array, start: number, end: number, into: Uint8Array): number {
  let digits = 0;
  for (let i = start; i < end; i++) if (VALUES[bytes[i]] !== NONE) digits++;
  if (digits === 0 || digits % 4 !== 0) return 0;
  let length = 0;
  let group = 0;
  let inGroup = 0;
  let padding = 0;
  for (let i = start; i < end; i++) {
    const value = VALUES[bytes[i]];
    if (value === NONE) continue;
    if (bytes[i] === PAD) padding++;
    group = (group << 6) | value;
    if (++inGroup < 4) continue;
    if (padding > 2) return 0;
    into[length] = group >>> 16;
    into[length + 1] = group >>> 8;
    into[length + 2] = group;
    length += 3 - padding;
    if (padding > 0) return length;
    group = 0;
    inGroup = 0;
  }
  return length;
}

/** Writes bytes[start, end) as base64 at `at` of `into`, returns the offset behind it. */
export function writeBase64(into: Uint8Array, at: number, bytes: Uint8Array, start: number, end: number): number {
  let to = at;
  for (let i = start; i < end; i += 3) {
    const left = end - i;
    const group = (bytes[i] << 16) | (left > 1 ? bytes[i + 1] << 8 : 0) | (left > 2 ? bytes[i + 2] : 0);
    into[to++] = ALPHABET[group >>> 18];
    into[to++] = ALPHABET[(group >>> 12) & 63];
    into[to++] = left > 1 ? ALPHABET[(group >>> 6) & 63] : PAD;
    into[to++] = left > 2 ? ALPHABET[group & 63] : PAD;
  }
  return to;
}
