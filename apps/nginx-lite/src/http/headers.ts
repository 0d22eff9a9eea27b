/**
 * Request header names that the server itself acts on.
 *
 * What it is for: from the bytes of a name to a small number, by length and last letter, then a full comparison
 * without regard to case. Invariant: a name that is not exactly one of these is Unknown.
 */

import { latin1Bytes } from './bytes.ts';

export const HeaderId = {
  Unknown: -1,
  Host: 0,
  Connection: 1,
  ContentLength: 2,
  TransferEncoding: 3,
  IfModifiedSince: 4,
  IfUnmodifiedSince: 5,
  IfMatch: 6,
  IfNoneMatch: 7,
  IfRange: 8,
  Range: 9,
  Expect: 10,
  UserAgent: 11,
  Referer: 12,
  ContentType: 13,
  Authorization: 14,
  AcceptEncoding: 15,
  Via: 16,
  ContentRange: 17,
} as const;
export const HEADER_IDS = 18;

/** By HeaderId. */
export const HEADER_NAMES = [
  'host',
  'connection',
  'content-length',
  'transfer-encoding',
  'if-modified-since',
  'if-unmodified-since',
  'if-match',
  'if-none-match',
  'if-range',
  'range',
  'expect',
  'user-agent',
  'referer',
  'content-type',
  'authorization',
  'accept-encoding',
  'via',
  'content-range',
] as const;

/** Headers that a request may have once only: a second one is answered with 400. */
export const UNIQUE: readonly boolean[] = HEADER_NAMES.map((name) =>
  [
    'host',
    'content-length',
    'transfer-encoding',
    'if-modified-since',
    'if-unmodified-since',
    'if-match',
    'if-none-match',
    'if-range',
    'content-range',
    'expect',
    'authorization',
    'content-range',
  ].includes(name),
);

const NAME_BYTES: readonly Uint8Array[] = HEADER_NAMES.map(latin1Bytes);
const LENGTH_MAX = Math.max(...HEADER_NAMES.map((name) => name.length));
/** (length << 5 | last letter's low bits) → candidate + 1; a test checks that no two names share a place. */
const CANDIDATE = new Int8Array((LENGTH_MAX + 1) << 5);
for (const [id, bytes] of NAME_BYTES.entries()) CANDIDATE[placeOf(bytes.length, bytes.at(-1) as number)] = id + 1;

/** Place in the table of candidates. */
export function placeOf(length: number, last: number): number {
  return (length << 5) | (last & 0x1f);
}

/** The HeaderId of `buf[start, end)`. */
export function headerId(buf: Uint8Array, start: number, end: number): number {
  const length = end - start;
  if (length > LENGTH_MAX || length === 0) return HeaderId.Unknown;
  const id = (CANDIDATE[placeOf(length, buf[end - 1] as number)] as number) - 1;
  if (id < 0) return HeaderId.Unknown;
  const name = NAME_BYTES[id] as Uint8Array;
  for (let i = 0; i < length; i++) {
    const ch = buf[start + i] as number;
    const lower = ch >= 0x41 && ch <= 0x5a ? ch | 0x20 : ch;
    if (lower !== name[i]) return HeaderId.Unknown;
  }
  return id;
}
