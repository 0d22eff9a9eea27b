/**
 * The head of a request: where its bytes are, and what the parsers found in them.
 *
 * What it is for: offsets (relative to `base`) of the request line's parts and of the header lines; text is made when somebody
 * asks for it. Invariant: offsets stay valid when the head moves to a buffer of its own (`detach`). Not its job: finding the offsets
 * (request-line.ts, header-lines.ts), what the phases make of them (request.ts).
 */

import { printable } from '../log/error-log.ts';
import { latin1 } from './bytes.ts';
import { HEADER_IDS } from './headers.ts';
import type { RuntimeServer } from './runtime.ts';

export const Method = {
  Unknown: 0,
  Get: 1,
  Head: 2,
  Post: 4,
  Put: 8,
  Delete: 16,
  Options: 32,
  Trace: 64,
  Connect: 128,
  Other: 256,
} as const;

/** Outcome of the parser. Errors are nginx's, told apart for the error log. */
export const Parse = {
  Again: 0,
  Done: 1,
  InvalidMethod: 2,
  InvalidRequest: 3,
  InvalidVersion: 4,
  Invalid09Method: 5,
  InvalidHeader: 6,
  LineTooLong: 7,
  HeaderTooLarge: 8,
  DuplicateHost: 9,
  DuplicateHeader: 10,
  InvalidHost: 11,
  TooManyHeaders: 12,
} as const;
export type ParseResult = (typeof Parse)[keyof typeof Parse];

export const HTTP_09 = 9;
export const HTTP_10 = 1000;
export const HTTP_11 = 1001;

export const CR = 0x0d;
export const LF = 0x0a;
export const SPACE = 0x20;
export const COLON = 0x3a;

/** A request's head; `server` decides how it is parsed, and changes with the Host header. */
export abstract class Head {
  /* Where the head's bytes are; every offset below is relative to `base`. */
  buf: Uint8Array = EMPTY;
  base = 0;
  /** Parsed up to here. */
  pos = 0;
  /** State of the parser that is at work. */
  state = 0;
  /** The byte that is no part of a header line. */
  refusedAt = 0;

  /* Request line. */
  method = 0;
  methodEnd = 0;
  uriStart = 0;
  uriEnd = 0;
  argsStart = -1;
  schemaStart = 0;
  schemaEnd = 0;
  hostStart = -1;
  hostEnd = -1;
  version = HTTP_10;
  major = 0;
  minor = 0;
  /** End of the request line without its line break; -1 until it is known. */
  lineEnd = -1;
  complexUri = false;
  quotedUri = false;
  emptyPathInUri = false;

  /* Header lines: name start, name end, value start, value end, four integers each. */
  headers = new Int32Array(4 * 32);
  headerCount = 0;
  /** Index of the first header of each HeaderId, or -1. */
  readonly known = new Int16Array(HEADER_IDS);
  nameStart = 0;
  nameEnd = 0;
  valueStart = 0;
  valueEnd = 0;
  invalidName = false;
  /** Where the body begins; set when parseHeaders is done. */
  headEnd = 0;
  /** Bytes of the whole request, for $request_length. */
  length = 0;

  /* Filling of nginx's header buffers. */
  limit = 0;
  largeUsed = 0;

  server: RuntimeServer = NO_SERVER;
  /** What the Connection header says: 0 nothing, 1 close, 2 keep-alive. */
  connectionType = 0;
  /** Bytes of the head received so far. */
  available = 0;
  /** The head stands in a buffer of its own. */
  detached = false;

  /** The Host header was met; false refuses it. */
  abstract hostHeader(): boolean;
  /** The line that was just read has a name that is none, and is left out. */
  abstract ignoredHeader(): void;

  /** Ready for a head that begins at `base` of `buf`. */
  protected resetHead(buf: Uint8Array, base: number, server: RuntimeServer): void {
    this.buf = buf;
    this.base = base;
    this.pos = 0;
    this.state = 0;
    this.method = 0;
    this.methodEnd = 0;
    this.uriStart = 0;
    this.uriEnd = 0;
    this.argsStart = -1;
    this.hostStart = -1;
    this.hostEnd = -1;
    this.version = HTTP_10;
    this.major = 0;
    this.minor = 0;
    this.lineEnd = -1;
    this.complexUri = false;
    this.quotedUri = false;
    this.emptyPathInUri = false;
    this.headerCount = 0;
    this.known.fill(-1);
    this.invalidName = false;
    this.headEnd = 0;
    this.length = 0;
    this.limit = server.conf.clientHeaderBufferSize;
    this.largeUsed = 0;
    this.server = server;
    this.connectionType = 0;
    this.detached = false;
  }

  /** Text of the head between two offsets. */
  text(start: number, end: number): string {
    return latin1(this.buf, this.base + start, this.base + end);
  }

  /** Value of a header by HeaderId, or null. */
  header(id: number): string | null {
    const index = this.known[id] as number;
    return index < 0 ? null : this.headerValue(index);
  }

  headerValue(index: number): string {
    return this.text(this.headers[index * 4 + 2] as number, this.headers[index * 4 + 3] as number);
  }

  headerName(index: number): string {
    return this.text(this.headers[index * 4] as number, this.headers[index * 4 + 1] as number);
  }

  /** Whether the client's URI had `%XX` or `+` in its path. */
  hasEscapes(): boolean {
    if (this.quotedUri) return true;
    return this.text(this.uriStart, this.argsStart < 0 ? this.uriEnd : this.argsStart).includes('+');
  }

  /** Values of every header line of a name (lower case), in order. */
  headerLines(name: string): string[] {
    const lines: string[] = [];
    for (let i = 0; i < this.headerCount; i++) {
      const length = (this.headers[i * 4 + 1] as number) - (this.headers[i * 4] as number);
      if (length === name.length && this.headerName(i).toLowerCase() === name) lines.push(this.headerValue(i));
    }
    return lines;
  }

  /** The request line as nginx logs it: what there is of it, where it could not be parsed. */
  requestLine(): string {
    if (this.lineEnd >= 0) return this.text(0, this.lineEnd);
    let end = 0;
    const available = this.available;
    while (end < available) {
      const ch = this.buf[this.base + end];
      if (ch === CR || ch === LF) break;
      end++;
    }
    return this.text(0, end);
  }

  /** Makes the request independent of the buffer that its head stands in. */
  detach(): void {
    if (this.detached) return;
    this.detached = true;
    const size = this.headEnd > 0 ? this.headEnd : this.available;
    this.buf = this.buf.slice(this.base, this.base + size);
    this.base = 0;
  }

  /** nginx's buffer is full in mid-line: the next one, or false when the line (or their number) is too large. */
  nextBuffer(lineStart: number, inLine: boolean): boolean {
    const { conf } = this.server;
    const kept = inLine ? this.pos - lineStart : 0;
    if (kept >= conf.largeClientHeaderBufferSize) return false;
    if (this.largeUsed === conf.largeClientHeaderBuffers) return false;
    this.largeUsed++;
    this.limit = this.pos - kept + conf.largeClientHeaderBufferSize;
    return true;
  }

  /** Bytes of the scheme's host in an absolute URI, or null. */
  absoluteHost(): string | null {
    return this.hostStart >= 0 && this.hostEnd >= 0 ? this.text(this.hostStart, this.hostEnd) : null;
  }

  schema(): string {
    return this.text(this.schemaStart, this.schemaEnd);
  }

  /** A refused header line, up to the byte that was refused. */
  refusedHeader(): string {
    const byte = (this.buf[this.base + this.refusedAt] as number).toString(16).padStart(2, '0');
    return `${printable(this.text(this.nameStart, this.refusedAt))}\\x${byte}`;
  }

  /** As much of a header line that is too long as nginx shows. */
  longHeader(): string {
    return printable(this.text(this.nameStart, Math.min(this.nameStart + SHOWN_MAX, this.available)));
  }
}

/** Bytes that nginx shows of a header line that is too long. */
const SHOWN_MAX = 1748;
const EMPTY = new Uint8Array(0);
const NO_SERVER = null as unknown as RuntimeServer;
