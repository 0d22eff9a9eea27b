/**
 * Bytes and latin1 strings.
 *
 * What it is for: one string char is one byte everywhere in this server, so that any byte a client or a file name has
 * survives. Invariant: these work on plain Uint8Arrays, so that hot loops see one kind of array.
 */

interface Latin1Methods {
  latin1Slice(this: Uint8Array, start: number, end: number): string;
  latin1Write(this: Uint8Array, text: string, offset: number, length: number): number;
}

const methods = Buffer.prototype as unknown as Latin1Methods;

export function latin1(bytes: Uint8Array, start: number, end: number): string {
  return methods.latin1Slice.call(bytes, start, end);
}

/** Writes `text` at `offset`; the caller made room. */
export function writeLatin1(bytes: Uint8Array, text: string, offset: number): number {
  return methods.latin1Write.call(bytes, text, offset, text.length);
}

export function latin1Bytes(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  writeLatin1(bytes, text, 0);
  return bytes;
}

/** Bytes of base64 (`url`: in the letters of URLs), which ends at the first `=`; null: it has other letters, or a length that none has. */
export function decodeBase64(given: string, url = false): Buffer | null {
  const text = given.split('=', 1)[0] as string;
  // Node.js takes the letters of either for those of the other, and passes over all others.
  if (!(url ? BASE64_URL : BASE64).test(text) || text.length % 4 === 1) return null;
  return Buffer.from(text, url ? 'base64url' : 'base64');
}

const BASE64 = /^[A-Za-z0-9+/]*$/;
const BASE64_URL = /^[A-Za-z0-9_-]*$/;

/** A path as the file system calls want it: bytes above 0x7f must not be taken for UTF-16. */
export function pathOf(path: string): string | Buffer {
  return NON_ASCII.test(path) ? Buffer.from(path, 'latin1') : path;
}

const NON_ASCII = /[\x80-\xff]/;

/** Lower case of ASCII letters only: other bytes are no letters. */
export function lowerCase(text: string): string {
  return NON_ASCII.test(text) ? text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase()) : text.toLowerCase();
}
