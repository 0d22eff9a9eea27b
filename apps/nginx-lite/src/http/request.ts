/**
 * One request: what the phases know of it and what they decide about its answer.
 *
 * What it is for: plain fields behind the head's, reset for each request of a connection. Invariant: an answer that depends on more
 * than the bytes of the head is not `pure`. Not its job: parsing (head.ts), connections and bodies (connection.ts, body.ts),
 * answers (output.ts).
 */

import type { SsiContext, SsiRoot } from '../modules/ssi/context.ts';
import type { UserId } from '../modules/userid/module.ts';
import type { Connection } from './connection.ts';
import type { FileEntry } from './file-cache.ts';
import { Head, Method } from './head.ts';
import { hostHeader, ignoredHeader } from './intake.ts';
import type { RequestBody } from './request-body.ts';
import type { RuntimeLocation, RuntimeServer } from './runtime.ts';
import type { BodyFilter, BodyStream } from './stream.ts';

export { HTTP_09, HTTP_10, HTTP_11, Method } from './head.ts';

/** Redirects inside one request, as nginx counts them. */
const URI_CHANGES_MAX = 11;

export class Request extends Head {
  /* What the phases know. */
  connection: Connection = NO_CONNECTION;
  location: RuntimeLocation = NO_LOCATION;
  uri = '';
  args = '';
  /** Its first bytes came while the one before was served. */
  pipelined = false;
  /** The URI could not be normalised. */
  uriRefused = false;
  /** Host without port, lower case; '' when none was given. */
  host = '';
  hostGiven = false;
  contentLength = -1;
  chunked = false;
  keepalive = false;
  lingeringClose = false;
  expectTested = false;
  discarding = false;
  /** The body, where somebody reads it. */
  requestBody: RequestBody | null = null;
  internal = false;
  errorPage = false;
  /** The request that this one is a part of (subrequests). */
  parent: Request | null = null;
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
  /** Of a subrequest: whether its body is wanted, and the body. */
  wantsBody = false;
  bodyStream: BodyStream | null = null;
  /** Of a subrequest: what is sent in place of an error. */
  stub: Uint8Array | null = null;
  /** What SSI knows of this document, and of all documents of the client's request. */
  ssi: SsiContext | null = null;
  ssiRoot: SsiRoot | null = null;
  /** Outcome of limit_req and limit_conn, for their variables; '': not asked. */
  limitReqStatus = '';
  limitConnStatus = '';
  secureExpires: string | null = null;
  /** What userid knows; null: nobody asked. */
  userId: UserId | null = null;
  /** Bytes that gzip got, and made of them. */
  gzipIn = 0;
  gzipOut = 0;
  /** Subrequests under way that only the connection waits for; whether it does. */
  background = 0;
  held = false;
  /** What is to be done when the request ends. */
  cleanups: (() => void)[] = [];
  /** An answer to this request was to have lines behind the last chunk: any other is sent in chunks, too, as in nginx. */
  expectTrailers = false;
  /** Lines behind the last chunk. */
  trailers: { name: string; value: (r: Request) => string }[] = [];
  /** Bytes a second that `set $limit_rate` gave; null: the configuration says. */
  limitRate: number | null = null;
  /** Values of variables that a configuration defines. */
  found: Map<string, string | null> | null = null;
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
  /** Name of its line, and the place among the further ones before which it stands. */
  etagName = 'ETag';
  etagAt = 0;
  /** Place of a Last-Modified that the configuration gave among the further lines; -1: none. */
  lastModifiedAt = -1;
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
  /** The header goes out with the first of the body: where the body cannot be made, nothing is sent. */
  headerWaits = false;
  /** The body goes out in chunks. */
  chunkedOut = false;
  /** Value of WWW-Authenticate, or ''. */
  challenge = '';
  /** Further header lines: name, value, name, value …; one that was taken away again has no name. */
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
  /** The location is that of the URI: an alias knows what it stands for. */
  locationHolds = true;
  /** A regex location's alias takes the URI behind it (try_files found a file there). */
  addUriToAlias = false;
  bytesSent = 0;
  headerBytes = 0;
  logged = false;
  /** The answer is a file: what the error log says is said while it is sent. */
  fileFound = false;

  /* Whether the answer may be kept for requests with the same bytes. */
  pure = true;
  /** What must hold for a client that is to get the same answer. */
  guards: ((connection: Connection) => boolean)[] = [];
  validUntil = PURE_FOREVER;

  /** Makes the object ready for a head that begins at `base` of `buf`. */
  reset(buf: Uint8Array, base: number, connection: Connection, server: RuntimeServer): void {
    this.resetHead(buf, base, server);
    this.connection = connection;
    this.location = server.location;
    this.uri = '';
    this.args = '';
    this.uriRefused = false;
    this.pipelined = false;
    this.host = '';
    this.hostGiven = false;
    this.contentLength = -1;
    this.chunked = false;
    this.keepalive = false;
    this.lingeringClose = false;
    this.expectTested = false;
    this.discarding = false;
    this.requestBody = null;
    this.internal = false;
    this.errorPage = false;
    this.addUriToAlias = false;
    this.phase = 0;
    this.handler = 0;
    this.uriChanged = false;
    this.accessCode = 0;
    this.authCode = null;
    this.limitRate = null;
    this.authStatus = 0;
    this.done = null;
    this.ssi = null;
    this.ssiRoot = null;
    this.limitReqStatus = '';
    this.limitConnStatus = '';
    this.secureExpires = null;
    this.userId = null;
    this.gzipIn = 0;
    this.gzipOut = 0;
    this.runCleanups();
    this.background = 0;
    this.held = false;
    this.found = null;
    this.expectTrailers = false;
    this.challenge = '';
    this.parent = null;
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
    this.fileFound = false;
    this.pure = true;
    if (this.guards.length > 0) this.guards = [];
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
    this.lastModifiedAt = -1;
    this.etag = '';
    this.etagName = 'ETag';
    this.etagAt = 0;
    this.headerWaits = false;
    this.locationOut = null;
    this.allowRanges = false;
    if (this.extra.length > 0) this.extra = [];
    if (this.ranges.length > 0) this.ranges = [];
    this.boundary = '';
  }

  /** The tag of a file. One that was there before, of the file that this one replaces, becomes a line among others, as in nginx. */
  addEtag(etag: string): void {
    if (this.etag !== '') {
      this.extra.splice(this.etagAt, 0, this.etagName, this.etag);
      if (this.lastModifiedAt >= this.etagAt) this.lastModifiedAt += 2;
    }
    this.etag = etag;
    this.etagName = 'ETag';
    this.etagAt = this.extra.length;
  }

  /** Takes Last-Modified away, whoever gave it. */
  clearLastModified(): void {
    this.lastModified = -1;
    if (this.lastModifiedAt >= 0) this.extra[this.lastModifiedAt] = '';
    this.lastModifiedAt = -1;
  }

  /** The answer depends on the client, too, but is the same for all for whom `holds` is true. */
  guard(holds: (connection: Connection) => boolean): void {
    this.guards.push(holds);
  }

  /** The answer depends on more than the bytes of the head. */
  impure(): void {
    this.pure = false;
  }

  runCleanups(): void {
    if (this.cleanups.length === 0) return;
    for (const cleanup of this.cleanups.splice(0)) cleanup();
  }

  override hostHeader(): boolean {
    return hostHeader(this);
  }

  override ignoredHeader(): void {
    ignoredHeader(this);
  }

  /** Bytes of the client's address; null on a Unix socket. */
  clientAddressBytes(): Uint8Array | null {
    return this.connection.remoteAddressParsed();
  }

  /** The method as it is now: an error page turns others into GET. */
  methodName(): string {
    if (this.method === Method.Get) return 'GET';
    return this.method === Method.Head ? 'HEAD' : this.text(0, this.methodEnd);
  }
}

/** `validUntil` of an answer that depends on no file. */
export const PURE_FOREVER = 0x3fffffff;
const NO_CONNECTION = null as unknown as Connection;
const NO_LOCATION = null as unknown as RuntimeLocation;
