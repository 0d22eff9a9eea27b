/**
 * -Y: the file of name:password lines for the text protocol.
 *
 * Bounds are memcached's: the first eight lines count, of each its first 255 bytes. What is wrong is told in its words.
 * Not its job: the dialogue with a client (proto_auth.ts), reading the file again on SIGHUP (main.ts).
 */
import { readFileSync } from 'node:fs';
import { reason } from './strerror.ts';

export interface Credential {
  user: Uint8Array;
  password: Uint8Array;
}

const ENTRIES_MAX = 8;
/** As C's fgets with room for 256: the rest of a longer line would be the next entry. */
const ENTRY_BYTES_MAX = 255;

export class AuthFileError extends Error {}

/** The credentials of a file. Throws AuthFileError with memcached's words. */
export function readAuthFile(path: string): Credential[] {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    const why = reason(error);
    throw new AuthFileError(`Could not open authfile [${path}] for reading, error ${why}: ${why}`);
  }
  const credentials = parseAuthFile(bytes);
  if (credentials === undefined) {
    throw new AuthFileError(`Authfile [${path}] has a malformed entry. Should be 'user:password': Success`);
  }
  return credentials;
}

/** undefined: a line has no colon. */
export function parseAuthFile(bytes: Buffer): Credential[] | undefined {
  const credentials: Credential[] = [];
  for (let at = 0; at < bytes.length; ) {
    const newline = bytes.indexOf(0x0a, at);
    const lineEnd = newline < 0 ? bytes.length : newline + 1;
    const entry = bytes.subarray(at, Math.min(lineEnd, at + ENTRY_BYTES_MAX));
    at += entry.length;
    const colon = entry.indexOf(0x3a);
    const nul = entry.indexOf(0);
    if (colon < 0 || (nul >= 0 && nul < colon)) return undefined;
    let end = colon + 1;
    while (end < entry.length && entry[end] !== 0x0a && entry[end] !== 0x0d && entry[end] !== 0) end++;
    if (credentials.length < ENTRIES_MAX) {
      credentials.push({
        user: new Uint8Array(entry.subarray(0, colon)),
        password: new Uint8Array(entry.subarray(colon + 1, end)),
      });
    }
  }
  return credentials;
}
