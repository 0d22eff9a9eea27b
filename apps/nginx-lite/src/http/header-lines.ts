/**
 * The parser of header lines, as strict as nginx's.
 *
 * What it is for: goes over bytes once, in any cut, and notes where names and values stand. Invariant: a byte is examined once (but
 * for a bare LF, which ends a line in the state that it leads to); an accepted head is one that nginx accepts, within client_header_buffer_size and large_client_header_buffers. Not its job: what
 * headers mean, but for Host (it decides the server, and so how the rest is parsed) and Connection.
 */

import { COLON, CR, type Head, LF, Parse, type ParseResult, SPACE } from './head.ts';
import { HeaderId, headerId, UNIQUE } from './headers.ts';

/* States. */
const HeaderStart = 0;
const Name = 1;
const SpaceBeforeValue = 2;
const Value = 3;
const SpaceAfterValue = 4;
const HeaderAlmostDone = 5;
const HeadAlmostDone = 6;

/** Bytes of a header name: 1 = plain, 0 = makes the name invalid (the line is dropped), 2 = refused. */
const NAME_CHAR = new Uint8Array(256);
for (const ch of '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-') NAME_CHAR[ch.charCodeAt(0)] = 1;
for (let ch = 0; ch <= 0x20; ch++) NAME_CHAR[ch] = 2;
NAME_CHAR[0x7f] = 2;
NAME_CHAR[COLON] = 3;
NAME_CHAR[0x5f] = 4;

/** Goes over the header lines up to `end` (an index of `buf`). */
export function parseHeaders(head: Head, end: number): ParseResult {
  const base = head.base;
  head.available = end - base;
  for (;;) {
    const stop = Math.min(end, base + head.limit);
    const result = scanHeaders(head, head.buf, base, stop);
    if (result !== Parse.Again) return result;
    if (head.pos < head.limit) return Parse.Again;
    if (!head.nextBuffer(head.nameStart, head.state !== HeaderStart)) return Parse.HeaderTooLarge;
    if (base + head.pos === end) return Parse.Again;
  }
}

function scanHeaders(head: Head, buf: Uint8Array, base: number, stop: number): ParseResult {
  let state = head.state;
  let p = base + head.pos;
  for (; p < stop; p++) {
    let ch = buf[p] as number;
    switch (state) {
      case HeaderStart: {
        head.nameStart = p - base;
        head.invalidName = false;
        if (ch === CR) {
          state = HeadAlmostDone;
          break;
        }
        if (ch === LF) return headDone(head, p, base);
        const kind = NAME_CHAR[ch] as number;
        if (kind === 2 || kind === 3) return refused(head, p - base);
        if (kind === 0 || (kind === 4 && !head.server.conf.underscoresInHeaders)) head.invalidName = true;
        state = Name;
        break;
      }
      case Name: {
        let kind = NAME_CHAR[ch] as number;
        while (kind === 1) {
          if (++p === stop) break;
          ch = buf[p] as number;
          kind = NAME_CHAR[ch] as number;
        }
        if (kind === 1) {
          // The bytes ended within the name.
          p--;
          break;
        }
        if (kind === 3) {
          head.nameEnd = p - base;
          state = SpaceBeforeValue;
        } else if (kind === 0) head.invalidName = true;
        else if (kind === 4) {
          if (!head.server.conf.underscoresInHeaders) head.invalidName = true;
        } else if (ch === CR || ch === LF) {
          head.nameEnd = p - base;
          head.valueStart = p - base;
          head.valueEnd = p - base;
          state = HeaderAlmostDone;
          if (ch === LF) p--;
        } else return refused(head, p - base);
        break;
      }
      case SpaceBeforeValue:
        if (ch === SPACE) break;
        head.valueStart = p - base;
        head.valueEnd = p - base;
        if (ch === CR || ch === LF) {
          state = HeaderAlmostDone;
          if (ch === LF) p--;
        } else if (ch === 0) return refused(head, p - base);
        else state = Value;
        break;
      case Value:
        while (ch > SPACE) {
          if (++p === stop) break;
          ch = buf[p] as number;
        }
        if (p === stop) {
          p--;
          break;
        }
        if (ch === SPACE) {
          head.valueEnd = p - base;
          state = SpaceAfterValue;
        } else if (ch === CR || ch === LF) {
          head.valueEnd = p - base;
          state = HeaderAlmostDone;
          if (ch === LF) p--;
        } else if (ch === 0) return refused(head, p - base);
        break;
      case SpaceAfterValue:
        if (ch === SPACE) break;
        if (ch === CR || ch === LF) {
          state = HeaderAlmostDone;
          if (ch === LF) p--;
        } else if (ch === 0) return refused(head, p - base);
        else state = Value;
        break;
      case HeaderAlmostDone:
        if (ch === LF) {
          const result = addHeader(head, buf, base);
          if (result !== Parse.Done) {
            head.pos = p + 1 - base;
            return result;
          }
          state = HeaderStart;
        } else if (ch !== CR) return refused(head, head.valueEnd);
        break;
      default:
        // HeadAlmostDone
        if (ch !== LF) return refused(head, p - base);
        return headDone(head, p, base);
    }
  }
  head.state = state;
  head.pos = p - base;
  return Parse.Again;
}

/** The byte at `at` has no place in a header line. */
function refused(head: Head, at: number): ParseResult {
  head.refusedAt = at;
  return Parse.InvalidHeader;
}

function headDone(head: Head, lf: number, base: number): ParseResult {
  head.headEnd = lf + 1 - base;
  head.pos = head.headEnd;
  return Parse.Done;
}

/** A header line is complete. */
function addHeader(head: Head, buf: Uint8Array, base: number): ParseResult {
  if (head.invalidName && head.server.conf.ignoreInvalidHeaders) {
    head.ignoredHeader();
    return Parse.Done;
  }
  const index = head.headerCount;
  if (index >= head.server.conf.maxHeaders) return Parse.TooManyHeaders;
  if (index * 4 === head.headers.length) {
    const grown = new Int32Array(head.headers.length * 2);
    grown.set(head.headers);
    head.headers = grown;
  }
  const at = index * 4;
  head.headers[at] = head.nameStart;
  head.headers[at + 1] = head.nameEnd;
  head.headers[at + 2] = head.valueStart;
  head.headers[at + 3] = head.valueEnd;
  head.headerCount = index + 1;
  const id = headerId(buf, base + head.nameStart, base + head.nameEnd);
  if (id === HeaderId.Unknown) return Parse.Done;
  if (id === HeaderId.Connection) connectionLine(head, index);
  if ((head.known[id] as number) >= 0) {
    if (id === HeaderId.Host) return Parse.DuplicateHost;
    if (UNIQUE[id]) return Parse.DuplicateHeader;
    return Parse.Done;
  }
  head.known[id] = index;
  if (id === HeaderId.Host) return head.hostHeader() ? Parse.Done : Parse.InvalidHost;
  return Parse.Done;
}

/** Each Connection line that has one of the two words decides anew, as in nginx. */
function connectionLine(head: Head, index: number): void {
  const value = head.headerValue(index).toLowerCase();
  if (value.includes('close')) head.connectionType = 1;
  else if (value.includes('keep-alive')) head.connectionType = 2;
}
