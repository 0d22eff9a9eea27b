/**
 * The parser of request lines, as strict as nginx's.
 *
 * What it is for: goes over bytes once, in any cut. Invariant: a byte is examined once; an accepted line is one that nginx accepts;
 * its size is bounded by client_header_buffer_size and large_client_header_buffers, whose filling is counted exactly. Not its job:
 * what the URI means (uri.ts).
 */

import { latin1 } from './bytes.ts';
import { COLON, CR, type Head, HTTP_09, LF, Method, Parse, type ParseResult, SPACE } from './head.ts';

/* States. */
const Start = 0;
const MethodName = 1;
const SpacesBeforeUri = 2;
const Schema = 3;
const SchemaSlash = 4;
const SchemaSlashSlash = 5;
const HostStart = 6;
const Host = 7;
const HostEnd = 8;
const HostIpLiteral = 9;
const Port = 10;
const AfterSlashInUri = 11;
const CheckUri = 12;
const Uri = 13;
const Http09 = 14;
const HttpH = 15;
const HttpHT = 16;
const HttpHTT = 17;
const HttpHTTP = 18;
const FirstMajorDigit = 19;
const MajorDigit = 20;
const FirstMinorDigit = 21;
const MinorDigit = 22;
const SpacesAfterDigit = 23;
const AlmostDone = 24;

const HASH = 0x23;
const PERCENT = 0x25;
const PLUS = 0x2b;
const DOT = 0x2e;
const SLASH = 0x2f;
const QUESTION = 0x3f;
const DEL = 0x7f;

const METHODS: Record<string, number> = {
  GET: Method.Get,
  HEAD: Method.Head,
  POST: Method.Post,
  PUT: Method.Put,
  DELETE: Method.Delete,
  OPTIONS: Method.Options,
  TRACE: Method.Trace,
  CONNECT: Method.Connect,
};

/** Goes over the request line up to `end` (an index of `buf`). */
export function parseLine(head: Head, end: number): ParseResult {
  const buf = head.buf;
  if (head.state === Start) {
    // Empty lines before a request are skipped, and leave nginx's buffer when it is full.
    let p = head.base;
    while (p < end && (buf[p] === CR || buf[p] === LF)) {
      p++;
      if (--head.limit === 0) head.limit = head.server.conf.clientHeaderBufferSize;
    }
    head.base = p;
  }
  const base = head.base;
  head.available = end - base;
  for (;;) {
    const stop = Math.min(end, base + head.limit);
    const result = scanLine(head, buf, base, stop);
    if (result !== Parse.Again) return result;
    if (head.pos < head.limit) return Parse.Again;
    if (!head.nextBuffer(0, head.state !== Start)) return Parse.LineTooLong;
    if (base + head.pos === end) return Parse.Again;
  }
}

function scanLine(head: Head, buf: Uint8Array, base: number, stop: number): ParseResult {
  let state = head.state;
  let p = base + head.pos;
  for (; p < stop; p++) {
    const ch = buf[p] as number;
    switch (state) {
      case Start:
        if (!isMethodChar(ch)) return Parse.InvalidMethod;
        state = MethodName;
        break;
      case MethodName:
        if (ch === SPACE) {
          head.methodEnd = p - base;
          head.method = methodOf(buf, base, p);
          state = SpacesBeforeUri;
        } else if (!isMethodChar(ch)) return Parse.InvalidMethod;
        break;
      case SpacesBeforeUri:
        if (ch === SLASH) {
          head.uriStart = p - base;
          state = AfterSlashInUri;
        } else if (isLetter(ch)) {
          head.schemaStart = p - base;
          state = Schema;
        } else if (ch !== SPACE) return Parse.InvalidRequest;
        break;
      case Schema:
        if (isLetter(ch) || isDigit(ch) || ch === 0x2b || ch === 0x2d || ch === 0x2e) break;
        if (ch !== COLON) return Parse.InvalidRequest;
        head.schemaEnd = p - base;
        state = SchemaSlash;
        break;
      case SchemaSlash:
        if (ch !== SLASH) return Parse.InvalidRequest;
        state = SchemaSlashSlash;
        break;
      case SchemaSlashSlash:
        if (ch !== SLASH) return Parse.InvalidRequest;
        state = HostStart;
        break;
      case HostStart:
        head.hostStart = p - base;
        if (ch === 0x5b) {
          state = HostIpLiteral;
          break;
        }
        // The byte is examined again in the state it leads to.
        state = Host;
        p--;
        break;
      case Host:
        if (isLetter(ch) || isDigit(ch) || ch === 0x2e || ch === 0x2d) break;
        state = HostEnd;
        p--;
        break;
      case HostEnd:
        head.hostEnd = p - base;
        state = ch === COLON ? Port : afterHost(head, ch, p - base);
        if (state < 0) return Parse.InvalidRequest;
        break;
      case HostIpLiteral:
        if (isDigit(ch) || isLetter(ch)) break;
        if (ch === 0x5d) state = HostEnd;
        else if (!isIpLiteralChar(ch)) return Parse.InvalidRequest;
        break;
      case Port:
        if (isDigit(ch)) break;
        state = afterHost(head, ch, p - base);
        if (state < 0) return Parse.InvalidRequest;
        break;
      case AfterSlashInUri:
      case CheckUri:
      case Uri:
        if (ch > SPACE && ch !== DEL) state = inUri(head, state, ch, p - base);
        else if (ch === SPACE) {
          head.uriEnd = p - base;
          state = Http09;
        } else if (ch === CR || ch === LF) {
          head.uriEnd = p - base;
          head.minor = 9;
          if (ch === LF) return lineDone(head, p, base);
          state = AlmostDone;
        } else return Parse.InvalidRequest;
        break;
      case Http09:
        if (ch === SPACE) break;
        if (ch === CR) {
          head.minor = 9;
          state = AlmostDone;
        } else if (ch === LF) {
          head.minor = 9;
          return lineDone(head, p, base);
        } else if (ch === 0x48) state = HttpH;
        else return Parse.InvalidRequest;
        break;
      case HttpH:
        if (ch !== 0x54) return Parse.InvalidRequest;
        state = HttpHT;
        break;
      case HttpHT:
        if (ch !== 0x54) return Parse.InvalidRequest;
        state = HttpHTT;
        break;
      case HttpHTT:
        if (ch !== 0x50) return Parse.InvalidRequest;
        state = HttpHTTP;
        break;
      case HttpHTTP:
        if (ch !== SLASH) return Parse.InvalidRequest;
        state = FirstMajorDigit;
        break;
      case FirstMajorDigit:
        if (ch < 0x31 || ch > 0x39) return Parse.InvalidRequest;
        head.major = ch - 0x30;
        if (head.major > 1) return Parse.InvalidVersion;
        state = MajorDigit;
        break;
      case MajorDigit:
        if (ch === 0x2e) {
          state = FirstMinorDigit;
          break;
        }
        if (!isDigit(ch)) return Parse.InvalidRequest;
        head.major = head.major * 10 + ch - 0x30;
        if (head.major > 1) return Parse.InvalidVersion;
        break;
      case FirstMinorDigit:
        if (!isDigit(ch)) return Parse.InvalidRequest;
        head.minor = ch - 0x30;
        state = MinorDigit;
        break;
      case MinorDigit:
        if (ch === CR) {
          head.lineEnd = p - base;
          state = AlmostDone;
        } else if (ch === LF) return lineDone(head, p, base);
        else if (ch === SPACE) {
          head.lineEnd = p - base;
          state = SpacesAfterDigit;
        } else {
          if (!isDigit(ch) || head.minor > 99) return Parse.InvalidRequest;
          head.minor = head.minor * 10 + ch - 0x30;
        }
        break;
      case SpacesAfterDigit:
        if (ch === CR) state = AlmostDone;
        else if (ch === LF) return lineDone(head, p, base);
        else if (ch !== SPACE) return Parse.InvalidRequest;
        break;
      default:
        // AlmostDone
        if (ch !== LF) return Parse.InvalidRequest;
        if (head.lineEnd < 0) head.lineEnd = p - 1 - base;
        return lineDone(head, p, base);
    }
  }
  head.state = state;
  head.pos = p - base;
  return Parse.Again;
}

/** The state that a visible byte of the URI leads to. */
function inUri(head: Head, state: number, ch: number, at: number): number {
  if (ch === HASH) {
    head.complexUri = true;
    return Uri;
  }
  if (state === Uri) return Uri;
  if (ch === QUESTION) {
    head.argsStart = at + 1;
    return Uri;
  }
  if (ch === PERCENT) {
    head.quotedUri = true;
    return Uri;
  }
  if (state === CheckUri) return ch === SLASH ? AfterSlashInUri : CheckUri;
  if (ch === DOT || ch === SLASH) {
    head.complexUri = true;
    return Uri;
  }
  return ch === PLUS ? AfterSlashInUri : CheckUri;
}

/** The state that what stands behind the host of an absolute URI leads to; -1: it may not stand there. */
function afterHost(head: Head, ch: number, at: number): number {
  if (ch === SLASH) {
    head.uriStart = at;
    return AfterSlashInUri;
  }
  if (ch === QUESTION) {
    head.uriStart = at;
    head.argsStart = at + 1;
    head.emptyPathInUri = true;
    return Uri;
  }
  if (ch !== SPACE) return -1;
  // `GET http://host HTTP/1.1`: the path is the second slash of the scheme.
  head.uriStart = head.schemaEnd + 1;
  head.uriEnd = head.schemaEnd + 2;
  return Http09;
}

function lineDone(head: Head, lf: number, base: number): ParseResult {
  if (head.lineEnd < 0) head.lineEnd = lf - base;
  head.pos = lf + 1 - base;
  // The first state of a header line.
  head.state = 0;
  head.version = head.major * 1000 + head.minor;
  if (head.version === HTTP_09 && head.method !== Method.Get) return Parse.Invalid09Method;
  return Parse.Done;
}

function isMethodChar(ch: number): boolean {
  return (ch >= 0x41 && ch <= 0x5a) || ch === 0x5f || ch === 0x2d;
}

function isLetter(ch: number): boolean {
  const lower = ch | 0x20;
  return lower >= 0x61 && lower <= 0x7a;
}

function isDigit(ch: number): boolean {
  return ch >= 0x30 && ch <= 0x39;
}

/** unreserved, sub-delims and `:` of an IP literal, beside letters and digits. */
function isIpLiteralChar(ch: number): boolean {
  return ":-._~!$&'()*+,;=".includes(String.fromCharCode(ch));
}

function methodOf(buf: Uint8Array, start: number, end: number): number {
  if (end - start === 3 && buf[start] === 0x47 && buf[start + 1] === 0x45 && buf[start + 2] === 0x54) return Method.Get;
  return METHODS[latin1(buf, start, end)] ?? Method.Other;
}
