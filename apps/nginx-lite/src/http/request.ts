/**
 * One request: the resumable parser of its head, and what the phases work on.
 *
 * What it is for: `parseLine` and `parseHeaders` go over bytes once, in any cut, and leave offsets (relative to `base`)
 * behind; strings are made when a phase asks. Invariant: a byte is examined once; an accepted head is one that nginx
 * accepts; sizes are bounded by nginx's client_header_buffer_size and large_client_header_buffers, whose filling is
 * counted exactly. Not its job: connections and bodies (connection.ts, body.ts), answers (output.ts).
 */

import type { SrvConf } from '../conf/model.ts';
import { parseAddress } from '../net/address.ts';
import { latin1 } from './bytes.ts';
import type { Connection } from './connection.ts';
import type { FileEntry } from './file-cache.ts';
import { HEADER_IDS, HeaderId, headerId, UNIQUE } from './headers.ts';
import type { RuntimeLocation, RuntimeServer } from './runtime.ts';
import type { BodyFilter } from './stream.ts';

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
} as const;
export type ParseResult = (typeof Parse)[keyof typeof Parse];

export const HTTP_09 = 9;
export const HTTP_10 = 1000;
export const HTTP_11 = 1001;

const CR = 0x0d;
const LF = 0x0a;
const SPACE = 0x20;
const COLON = 0x3a;

/* States of the request line. */
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

/* States of a header line. */
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

/** Redirects inside one request, as nginx counts them. */
const URI_CHANGES_MAX = 11;

export class Request {
  /* Where the head's bytes are; every offset below is relative to `base`. */
  buf: Uint8Array = EMPTY;
  base = 0;
  /** Parsed up to here. */
  pos = 0;
  private state = 0;

  /* Request line. */
  method = 0;
  methodEnd = 0;
  uriStart = 0;
  uriEnd = 0;
  argsStart = -1;
  private schemaStart = 0;
  private schemaEnd = 0;
  private hostStart = -1;
  private hostEnd = -1;
  version = HTTP_10;
  private major = 0;
  private minor = 0;
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
  private nameStart = 0;
  private nameEnd = 0;
  private valueStart = 0;
  private valueEnd = 0;
  private invalidName = false;
  /** Where the body begins; set when parseHeaders is done. */
  headEnd = 0;
  /** Bytes of the whole request, for $request_length. */
  length = 0;

  /* Filling of nginx's header buffers. */
  private limit = 0;
  private largeUsed = 0;

  /* What the phases know. */
  connection: Connection = NO_CONNECTION;
  server: RuntimeServer = NO_SERVER;
  location: RuntimeLocation = NO_LOCATION;
  uri = '';
  args = '';
  /** Host without port, lower case; '' when none was given. */
  host = '';
  hostGiven = false;
  contentLength = -1;
  chunked = false;
  keepalive = false;
  /** 0 none, 1 close, 2 keep-alive. */
  connectionType = 0;
  lingeringClose = false;
  expectTested = false;
  discarding = false;
  internal = false;
  errorPage = false;
  /** The request that this one is a part of (subrequests). */
  parent: Request | null = null;
  /** The head stands in a buffer of its own. */
  detached = false;
  /** Where the request stands in the phases. */
  phase = 0;
  handler = 0;
  /** A rewrite changed the URI: the location is to be looked up again. */
  uriChanged = false;
  /** `satisfy any`: the refusal so far. */
  accessCode = 0;
  /** What auth_basic found out while the request waited. */
  authCode: number | null = null;
  /** Status that auth_request got; 0: not asked, -1: under way. */
  authStatus = 0;
  /** Of a subrequest: who waits for its answer. */
  done: ((sub: Request) => void) | null = null;
  /** Outcome of limit_req and limit_conn, for their variables; '': not asked. */
  limitReqStatus = '';
  limitConnStatus = '';
  secureExpires: string | null = null;
  /** What is to be done when the request ends. */
  cleanups: (() => void)[] = [];
  /** Lines behind the last chunk. */
  trailers: { name: string; value: (r: Request) => string }[] = [];
  /** Value of $limit_rate as `set` gave it. */
  limitRateText: string | null = null;
  /** Values of variables that a configuration defines. */
  found: Map<string, string> | null = null;
  errStatus = 0;
  uriChanges = URI_CHANGES_MAX;
  captures: RegExpExecArray | null = null;
  named: Record<string, string> | null = null;
  startMs = 0;
  id = '';

  /* The answer. */
  status = 0;
  contentType = '';
  contentLengthOut = -1;
  lastModified = -1;
  etag = '';
  /** Value of the Location header, which may be empty; null: none. */
  locationOut: string | null = null;
  allowRanges = false;
  /** Content-Encoding of the answer, or ''. */
  contentEncoding = '';
  /** Behind the type: `; charset=…`. */
  charset = '';
  /** The answer depends on what encodings the client takes. */
  gzipVary = false;
  /** Level, where gzip is the only filter of the body; 0: it is not. */
  gzipLevel = 0;
  /** Filters of the body, first to last. */
  bodyFilters: BodyFilter[] = [];
  /** The body goes out in chunks. */
  chunkedOut = false;
  /** Value of WWW-Authenticate, or ''. */
  challenge = '';
  /** Further header lines: name, value, name, value … */
  extra: string[] = [];
  headerSent = false;
  headerOnly = false;
  body: Uint8Array | null = null;
  file: FileEntry | null = null;
  /** Start, end pairs of a range answer. */
  ranges: number[] = [];
  boundary = '';
  /** Of a multipart answer: what stands before each range's numbers, and the size of the whole. */
  partHeader = '';
  rangeTotal = 0;
  /** A regex location's alias takes the URI behind it (try_files found a file there). */
  addUriToAlias = false;
  bytesSent = 0;
  headerBytes = 0;
  logged = false;

  /* Whether the answer may be kept for requests with the same bytes. */
  pure = true;
  validUntil = PURE_FOREVER;

  /** Makes the object ready for a head that begins at `base` of `buf`. */
  reset(buf: Uint8Array, base: number, connection: Connection, server: RuntimeServer): void {
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
    this.connection = connection;
    this.server = server;
    this.location = server.location;
    this.uri = '';
    this.args = '';
    this.host = '';
    this.hostGiven = false;
    this.contentLength = -1;
    this.chunked = false;
    this.keepalive = false;
    this.connectionType = 0;
    this.lingeringClose = false;
    this.expectTested = false;
    this.discarding = false;
    this.internal = false;
    this.errorPage = false;
    this.addUriToAlias = false;
    this.phase = 0;
    this.handler = 0;
    this.uriChanged = false;
    this.accessCode = 0;
    this.authCode = null;
    this.limitRateText = null;
    this.authStatus = 0;
    this.done = null;
    this.limitReqStatus = '';
    this.limitConnStatus = '';
    this.secureExpires = null;
    this.runCleanups();
    this.found = null;
    this.challenge = '';
    this.parent = null;
    this.detached = false;
    this.errStatus = 0;
    this.uriChanges = URI_CHANGES_MAX;
    this.captures = null;
    this.named = null;
    this.startMs = 0;
    this.id = '';
    this.status = 0;
    this.clearOut();
    this.headerSent = false;
    this.headerOnly = false;
    this.body = null;
    this.file = null;
    this.bytesSent = 0;
    this.headerBytes = 0;
    this.logged = false;
    this.pure = true;
    this.validUntil = PURE_FOREVER;
  }

  /** Drops every header of the answer. */
  clearOut(): void {
    this.contentEncoding = '';
    this.charset = '';
    this.gzipVary = false;
    this.gzipLevel = 0;
    if (this.bodyFilters.length > 0) this.bodyFilters = [];
    this.chunkedOut = false;
    if (this.trailers.length > 0) this.trailers = [];
    this.contentType = '';
    this.contentLengthOut = -1;
    this.lastModified = -1;
    this.etag = '';
    this.locationOut = null;
    this.allowRanges = false;
    if (this.extra.length > 0) this.extra = [];
    if (this.ranges.length > 0) this.ranges = [];
    this.boundary = '';
  }

  /** The answer depends on more than the bytes of the head. */
  impure(): void {
    this.pure = false;
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

  runCleanups(): void {
    if (this.cleanups.length === 0) return;
    for (const cleanup of this.cleanups.splice(0)) cleanup();
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

  /** Bytes of the client's address; null on a Unix socket. */
  clientAddressBytes(): Uint8Array | null {
    return parseAddress(this.connection.remoteAddress());
  }

  /** The method as it is now: an error page turns others into GET. */
  methodName(): string {
    if (this.method === Method.Get) return 'GET';
    return this.method === Method.Head ? 'HEAD' : this.text(0, this.methodEnd);
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

  /** Bytes of the head received so far. */
  available = 0;

  /** Makes the request independent of the buffer that its head stands in. */
  detach(): void {
    if (this.detached) return;
    this.detached = true;
    const size = this.headEnd > 0 ? this.headEnd : this.available;
    this.buf = this.buf.slice(this.base, this.base + size);
    this.base = 0;
  }

  /** nginx's buffer is full in mid-line: the next one, or false when the line (or their number) is too large. */
  private nextBuffer(lineStart: number, inLine: boolean): boolean {
    const conf: SrvConf = this.server.conf;
    const kept = inLine ? this.pos - lineStart : 0;
    if (kept >= conf.largeClientHeaderBufferSize) return false;
    if (this.largeUsed === conf.largeClientHeaderBuffers) return false;
    this.largeUsed++;
    this.limit = this.pos - kept + conf.largeClientHeaderBufferSize;
    return true;
  }

  /** Goes over the request line up to `end` (an index of `buf`). */
  parseLine(end: number): ParseResult {
    const buf = this.buf;
    if (this.state === Start) {
      // Empty lines before a request are skipped, and leave nginx's buffer when it is full.
      let p = this.base;
      while (p < end && (buf[p] === CR || buf[p] === LF)) {
        p++;
        if (--this.limit === 0) this.limit = this.server.conf.clientHeaderBufferSize;
      }
      this.base = p;
    }
    const base = this.base;
    this.available = end - base;
    for (;;) {
      const stop = Math.min(end, base + this.limit);
      const result = this.scanLine(buf, base, stop);
      if (result !== Parse.Again) return result;
      if (this.pos < this.limit) return Parse.Again;
      if (!this.nextBuffer(0, this.state !== Start)) return Parse.LineTooLong;
      if (base + this.pos === end) return Parse.Again;
    }
  }

  private scanLine(buf: Uint8Array, base: number, stop: number): ParseResult {
    let state = this.state;
    let p = base + this.pos;
    for (; p < stop; p++) {
      const ch = buf[p] as number;
      switch (state) {
        case Start:
          if (!isMethodChar(ch)) return Parse.InvalidMethod;
          state = MethodName;
          break;
        case MethodName:
          if (ch === SPACE) {
            this.methodEnd = p - base;
            this.method = methodOf(buf, base, p);
            state = SpacesBeforeUri;
          } else if (!isMethodChar(ch)) return Parse.InvalidMethod;
          break;
        case SpacesBeforeUri:
          if (ch === 0x2f) {
            this.uriStart = p - base;
            state = AfterSlashInUri;
          } else if (isLetter(ch)) {
            this.schemaStart = p - base;
            state = Schema;
          } else if (ch !== SPACE) return Parse.InvalidRequest;
          break;
        case Schema:
          if (isLetter(ch) || isDigit(ch) || ch === 0x2b || ch === 0x2d || ch === 0x2e) break;
          if (ch !== COLON) return Parse.InvalidRequest;
          this.schemaEnd = p - base;
          state = SchemaSlash;
          break;
        case SchemaSlash:
          if (ch !== 0x2f) return Parse.InvalidRequest;
          state = SchemaSlashSlash;
          break;
        case SchemaSlashSlash:
          if (ch !== 0x2f) return Parse.InvalidRequest;
          state = HostStart;
          break;
        case HostStart:
          this.hostStart = p - base;
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
          this.hostEnd = p - base;
          if (ch === COLON) state = Port;
          else if (ch === 0x2f) {
            this.uriStart = p - base;
            state = AfterSlashInUri;
          } else if (ch === 0x3f) {
            this.uriStart = p - base;
            this.argsStart = p + 1 - base;
            this.emptyPathInUri = true;
            state = Uri;
          } else if (ch === SPACE) this.emptyUri();
          else return Parse.InvalidRequest;
          if (ch === SPACE) state = Http09;
          break;
        case HostIpLiteral:
          if (isDigit(ch) || isLetter(ch)) break;
          if (ch === 0x5d) state = HostEnd;
          else if (!isIpLiteralChar(ch)) return Parse.InvalidRequest;
          break;
        case Port:
          if (isDigit(ch)) break;
          if (ch === 0x2f) {
            this.uriStart = p - base;
            state = AfterSlashInUri;
          } else if (ch === 0x3f) {
            this.uriStart = p - base;
            this.argsStart = p + 1 - base;
            this.emptyPathInUri = true;
            state = Uri;
          } else if (ch === SPACE) {
            this.emptyUri();
            state = Http09;
          } else return Parse.InvalidRequest;
          break;
        case AfterSlashInUri:
          switch (ch) {
            case SPACE:
              this.uriEnd = p - base;
              state = Http09;
              break;
            case CR:
              this.uriEnd = p - base;
              this.minor = 9;
              state = AlmostDone;
              break;
            case LF:
              this.uriEnd = p - base;
              this.minor = 9;
              return this.lineDone(p, base);
            case 0x2e:
            case 0x2f:
            case 0x23:
              this.complexUri = true;
              state = Uri;
              break;
            case 0x25:
              this.quotedUri = true;
              state = Uri;
              break;
            case 0x3f:
              this.argsStart = p + 1 - base;
              state = Uri;
              break;
            case 0x2b:
              break;
            default:
              if (ch < 0x20 || ch === 0x7f) return Parse.InvalidRequest;
              state = CheckUri;
          }
          break;
        case CheckUri:
          switch (ch) {
            case SPACE:
              this.uriEnd = p - base;
              state = Http09;
              break;
            case CR:
              this.uriEnd = p - base;
              this.minor = 9;
              state = AlmostDone;
              break;
            case LF:
              this.uriEnd = p - base;
              this.minor = 9;
              return this.lineDone(p, base);
            case 0x2f:
              state = AfterSlashInUri;
              break;
            case 0x25:
              this.quotedUri = true;
              state = Uri;
              break;
            case 0x3f:
              this.argsStart = p + 1 - base;
              state = Uri;
              break;
            case 0x23:
              this.complexUri = true;
              state = Uri;
              break;
            default:
              if (ch < 0x20 || ch === 0x7f) return Parse.InvalidRequest;
          }
          break;
        case Uri:
          switch (ch) {
            case SPACE:
              this.uriEnd = p - base;
              state = Http09;
              break;
            case CR:
              this.uriEnd = p - base;
              this.minor = 9;
              state = AlmostDone;
              break;
            case LF:
              this.uriEnd = p - base;
              this.minor = 9;
              return this.lineDone(p, base);
            case 0x23:
              this.complexUri = true;
              break;
            default:
              if (ch < 0x20 || ch === 0x7f) return Parse.InvalidRequest;
          }
          break;
        case Http09:
          if (ch === SPACE) break;
          if (ch === CR) {
            this.minor = 9;
            state = AlmostDone;
          } else if (ch === LF) {
            this.minor = 9;
            return this.lineDone(p, base);
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
          if (ch !== 0x2f) return Parse.InvalidRequest;
          state = FirstMajorDigit;
          break;
        case FirstMajorDigit:
          if (ch < 0x31 || ch > 0x39) return Parse.InvalidRequest;
          this.major = ch - 0x30;
          if (this.major > 1) return Parse.InvalidVersion;
          state = MajorDigit;
          break;
        case MajorDigit:
          if (ch === 0x2e) {
            state = FirstMinorDigit;
            break;
          }
          if (!isDigit(ch)) return Parse.InvalidRequest;
          this.major = this.major * 10 + ch - 0x30;
          if (this.major > 1) return Parse.InvalidVersion;
          break;
        case FirstMinorDigit:
          if (!isDigit(ch)) return Parse.InvalidRequest;
          this.minor = ch - 0x30;
          state = MinorDigit;
          break;
        case MinorDigit:
          if (ch === CR) {
            this.lineEnd = p - base;
            state = AlmostDone;
          } else if (ch === LF) return this.lineDone(p, base);
          else if (ch === SPACE) {
            this.lineEnd = p - base;
            state = SpacesAfterDigit;
          } else {
            if (!isDigit(ch) || this.minor > 99) return Parse.InvalidRequest;
            this.minor = this.minor * 10 + ch - 0x30;
          }
          break;
        case SpacesAfterDigit:
          if (ch === CR) state = AlmostDone;
          else if (ch === LF) return this.lineDone(p, base);
          else if (ch !== SPACE) return Parse.InvalidRequest;
          break;
        default:
          // AlmostDone
          if (ch !== LF) return Parse.InvalidRequest;
          if (this.lineEnd < 0) this.lineEnd = p - 1 - base;
          return this.lineDone(p, base);
      }
    }
    this.state = state;
    this.pos = p - base;
    return Parse.Again;
  }

  /** `GET http://host HTTP/1.1`: the path is the second slash of the scheme. */
  private emptyUri(): void {
    this.uriStart = this.schemaEnd + 1;
    this.uriEnd = this.schemaEnd + 2;
  }

  private lineDone(lf: number, base: number): ParseResult {
    if (this.lineEnd < 0) this.lineEnd = lf - base;
    this.pos = lf + 1 - base;
    this.state = HeaderStart;
    this.version = this.major * 1000 + this.minor;
    if (this.version === HTTP_09 && this.method !== Method.Get) return Parse.Invalid09Method;
    return Parse.Done;
  }

  /** Bytes of the scheme's host in an absolute URI, or null. */
  absoluteHost(): string | null {
    return this.hostStart >= 0 && this.hostEnd >= 0 ? this.text(this.hostStart, this.hostEnd) : null;
  }

  schema(): string {
    return this.text(this.schemaStart, this.schemaEnd);
  }

  /** Goes over the header lines up to `end` (an index of `buf`). */
  parseHeaders(end: number): ParseResult {
    const base = this.base;
    this.available = end - base;
    for (;;) {
      const stop = Math.min(end, base + this.limit);
      const result = this.scanHeaders(this.buf, base, stop);
      if (result !== Parse.Again) return result;
      if (this.pos < this.limit) return Parse.Again;
      if (!this.nextBuffer(this.nameStart, this.state !== HeaderStart)) return Parse.HeaderTooLarge;
      if (base + this.pos === end) return Parse.Again;
    }
  }

  private scanHeaders(buf: Uint8Array, base: number, stop: number): ParseResult {
    let state = this.state;
    let p = base + this.pos;
    for (; p < stop; p++) {
      let ch = buf[p] as number;
      switch (state) {
        case HeaderStart: {
          this.nameStart = p - base;
          this.invalidName = false;
          if (ch === CR) {
            state = HeadAlmostDone;
            break;
          }
          if (ch === LF) return this.headDone(p, base);
          const kind = NAME_CHAR[ch] as number;
          if (kind === 2 || kind === 3) return Parse.InvalidHeader;
          if (kind === 0 || (kind === 4 && !this.server.conf.underscoresInHeaders)) this.invalidName = true;
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
            this.nameEnd = p - base;
            state = SpaceBeforeValue;
          } else if (kind === 0) this.invalidName = true;
          else if (kind === 4) {
            if (!this.server.conf.underscoresInHeaders) this.invalidName = true;
          } else if (ch === CR) {
            this.nameEnd = p - base;
            this.valueStart = p - base;
            this.valueEnd = p - base;
            state = HeaderAlmostDone;
          } else if (ch === LF) {
            this.nameEnd = p - base;
            this.valueStart = p - base;
            this.valueEnd = p - base;
            const result = this.addHeader(buf, base);
            if (result !== Parse.Done) return result;
            state = HeaderStart;
          } else return Parse.InvalidHeader;
          break;
        }
        case SpaceBeforeValue:
          if (ch === SPACE) break;
          this.valueStart = p - base;
          this.valueEnd = p - base;
          if (ch === CR) state = HeaderAlmostDone;
          else if (ch === LF) {
            const result = this.addHeader(buf, base);
            if (result !== Parse.Done) return result;
            state = HeaderStart;
          } else if (ch === 0) return Parse.InvalidHeader;
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
            this.valueEnd = p - base;
            state = SpaceAfterValue;
          } else if (ch === CR) {
            this.valueEnd = p - base;
            state = HeaderAlmostDone;
          } else if (ch === LF) {
            this.valueEnd = p - base;
            const result = this.addHeader(buf, base);
            if (result !== Parse.Done) return result;
            state = HeaderStart;
          } else if (ch === 0) return Parse.InvalidHeader;
          break;
        case SpaceAfterValue:
          if (ch === SPACE) break;
          if (ch === CR) state = HeaderAlmostDone;
          else if (ch === LF) {
            const result = this.addHeader(buf, base);
            if (result !== Parse.Done) return result;
            state = HeaderStart;
          } else if (ch === 0) return Parse.InvalidHeader;
          else state = Value;
          break;
        case HeaderAlmostDone:
          if (ch === LF) {
            const result = this.addHeader(buf, base);
            if (result !== Parse.Done) return result;
            state = HeaderStart;
          } else if (ch !== CR) return Parse.InvalidHeader;
          break;
        default:
          // HeadAlmostDone
          if (ch !== LF) return Parse.InvalidHeader;
          return this.headDone(p, base);
      }
    }
    this.state = state;
    this.pos = p - base;
    return Parse.Again;
  }

  private headDone(lf: number, base: number): ParseResult {
    this.headEnd = lf + 1 - base;
    this.pos = this.headEnd;
    return Parse.Done;
  }

  /** A header line is complete. */
  private addHeader(buf: Uint8Array, base: number): ParseResult {
    if (this.invalidName && this.server.conf.ignoreInvalidHeaders) return Parse.Done;
    const index = this.headerCount;
    if (index * 4 === this.headers.length) {
      const grown = new Int32Array(this.headers.length * 2);
      grown.set(this.headers);
      this.headers = grown;
    }
    const at = index * 4;
    this.headers[at] = this.nameStart;
    this.headers[at + 1] = this.nameEnd;
    this.headers[at + 2] = this.valueStart;
    this.headers[at + 3] = this.valueEnd;
    this.headerCount = index + 1;
    const id = headerId(buf, base + this.nameStart, base + this.nameEnd);
    if (id === HeaderId.Unknown) return Parse.Done;
    if (id === HeaderId.Connection) this.connectionLine(index);
    if ((this.known[id] as number) >= 0) {
      if (id === HeaderId.Host) return Parse.DuplicateHost;
      if (UNIQUE[id]) return Parse.DuplicateHeader;
      return Parse.Done;
    }
    this.known[id] = index;
    if (id === HeaderId.Host) return this.connection.engine.hostHeader(this) ? Parse.Done : Parse.InvalidHost;
    return Parse.Done;
  }

  /** Each Connection line that has one of the two words decides anew, as in nginx. */
  private connectionLine(index: number): void {
    const value = this.headerValue(index).toLowerCase();
    if (value.includes('close')) this.connectionType = 1;
    else if (value.includes('keep-alive')) this.connectionType = 2;
  }

  /** The header line that was met last, for the error log. */
  lastHeaderLine(): string {
    return this.text(this.nameStart, Math.max(this.nameStart, this.valueEnd));
  }

  /** The bytes of a refused header line, up to where they were refused. */
  refusedHeader(): string {
    return this.text(this.nameStart, Math.min(this.nameStart + 32, this.available));
  }
}

/** `validUntil` of an answer that depends on no file. */
export const PURE_FOREVER = 0x3fffffff;

const EMPTY = new Uint8Array(0);
const NO_CONNECTION = null as unknown as Connection;
const NO_SERVER = null as unknown as RuntimeServer;
const NO_LOCATION = null as unknown as RuntimeLocation;

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
