/**
 * From a status, a text or a file to bytes on their way: special responses, header filters, the header itself.
 *
 * What it is for: nginx's finalisation, special responses and header filter. Invariant: an answer's header is composed
 * once; header lines stand in nginx's order; an answer that follows from the head's bytes alone is given to the engine
 * as Prepared, so that it can be sent again. Not its job: sending (engine.ts).
 */

import { gzip } from 'node:zlib';
import { hidesErrors, isMsie } from '../modules/browser/module.ts';
import { ranged } from '../modules/range/filter.ts';
import { discardBody } from './body-reader.ts';
import { latin1Bytes, writeLatin1 } from './bytes.ts';
import { drop } from './closing.ts';
import { CLOSE_STATUS, Code } from './codes.ts';
import { formatDate } from './date.ts';
import { COPY_MAX, type FileEntry } from './file-cache.ts';
import { HeaderId } from './headers.ts';
import { isCompleted, sentLocation } from './location.ts';
import { internalRedirect, namedRedirect } from './phases.ts';
import { Prepared } from './prepared.ts';
import { HTTP_10, HTTP_11, Method, type Request } from './request.ts';
import { errorPage, MSIE_PADDING, serverToken, statusLine, visibleStatus } from './status.ts';
import { type BodyStream, chunked, chunkOf } from './stream.ts';
import { answered } from './subrequest.ts';
import { escapeRefresh } from './uri.ts';

export type HeaderFilter = (r: Request) => number;

const REDIRECTS = new Set([301, 302, 303, 307, 308]);
/** After these nothing is certain about where the next request begins, or the server is in trouble. */
const CLOSES = new Set([400, 413, 414, 495, 496, 497, 500, 501]);
/** Statuses that mean the client is gone or too slow: there is nobody to answer. */
const SILENT = new Set([CLOSE_STATUS, 408, 499]);
/** Statuses that go with a Last-Modified. */
const WITH_LAST_MODIFIED = new Set([200, 206, 304]);
/** Answers kept with one file; more variants than this are composed anew. */
const VARIANTS_MAX = 8;
const USES_MIN = 2;

export function isSilent(status: number): boolean {
  return SILENT.has(status);
}

export function isRedirect(status: number): boolean {
  return REDIRECTS.has(status);
}

/** Ends a request with a code of a phase handler. */
export function finalize(r: Request, code: number): void {
  if (code === Code.Done || code === Code.Ok) return;
  if (r.stub !== null && r.parent !== null) {
    const { stub } = r;
    r.stub = null;
    r.contentType = r.parent.contentType;
    sendUnmeasured(r, stub);
    return;
  }
  if (SILENT.has(code)) {
    r.status = code;
    drop(r);
    return;
  }
  specialResponse(r, code < 0 ? 500 : code);
}

/** An answer with a configured or built-in page. */
function specialResponse(r: Request, status: number): void {
  r.errStatus = status;
  if (r.keepalive && CLOSES.has(status)) r.keepalive = false;
  if (r.lingeringClose && (status === 400 || status === 497 || status === 495 || status === 496))
    r.lingeringClose = false;
  r.contentType = '';
  const { conf, errorTargets } = r.location;
  if (!r.errorPage && r.uriChanges > 0) {
    const index = conf.errorPages.findIndex((page) => page.status === status);
    if (index >= 0) {
      if (!conf.recursiveErrorPages) r.errorPage = true;
      const page = conf.errorPages[index];
      const target = errorTargets[index];
      if (page !== undefined && target !== undefined) {
        sendErrorPage(r, page.overwrite, target(r));
        return;
      }
    }
  } else if (conf.errorPages.length > 0 && !conf.recursiveErrorPages) r.errorPage = true;
  r.expectTested = true;
  if (!discardBody(r)) r.keepalive = false;
  builtInPage(r, status);
}

function builtInPage(r: Request, status: number): void {
  const { conf } = r.location;
  if (conf.msieRefresh && r.locationOut !== null && (status === 301 || status === 302) && isMsie(r)) {
    refresh(r, r.locationOut);
    return;
  }
  r.errStatus = visibleStatus(status);
  const page = errorPage(status, conf.serverTokens);
  let text = page;
  if (page !== '') {
    if (conf.msiePadding && status >= 400 && r.version >= HTTP_10 && hidesErrors(r)) text += MSIE_PADDING;
    r.contentType = 'text/html';
  }
  r.contentLengthOut = text.length;
  r.clearLastModified();
  r.etag = '';
  r.allowRanges = false;
  send(r, latin1Bytes(text));
}

/** msie_refresh: a page that goes to where others are redirected to. */
function refresh(r: Request, target: string): void {
  const text = `<html><head><meta http-equiv="Refresh" content="0; URL=${escapeRefresh(target)}"></head><body></body></html>\r\n`;
  r.errStatus = 200;
  r.contentType = 'text/html';
  r.locationOut = null;
  r.contentLengthOut = text.length;
  r.clearLastModified();
  r.etag = '';
  r.allowRanges = false;
  send(r, latin1Bytes(text));
}

function sendErrorPage(r: Request, overwrite: number, target: string): void {
  if (overwrite === 0) r.errStatus = 0;
  else if (overwrite > 0) r.errStatus = overwrite;
  // What became a success may still want its body.
  if (overwrite !== 0 && overwrite !== 200) r.expectTested = true;
  if (target.startsWith('/')) {
    if (r.method !== Method.Head) r.method = Method.Get;
    const question = target.indexOf('?');
    internalRedirect(
      r,
      question < 0 ? target : target.slice(0, question),
      question < 0 ? '' : target.slice(question + 1),
    );
    return;
  }
  if (target.startsWith('@')) {
    namedRedirect(r, target);
    return;
  }
  // Any other text is where the client is sent.
  if (!isRedirect(overwrite)) r.errStatus = 302;
  if (!discardBody(r)) r.keepalive = false;
  r.locationOut = target;
  builtInPage(r, r.errStatus);
}

/** `return CODE TEXT`. */
export function sendText(r: Request, status: number, text: Uint8Array, type = contentTypeOf(r)): void {
  if (!discardBody(r)) {
    finalize(r, 400);
    return;
  }
  r.status = status;
  r.contentLengthOut = text.length;
  r.contentType = type;
  send(r, text);
}

/** Text that a module made, with its type set. */
export function sendBytes(r: Request, text: Uint8Array): void {
  r.contentLengthOut = text.length;
  send(r, text);
}

/** The same, where nginx does not know the length beforehand: it goes out in chunks. */
export function sendUnmeasured(r: Request, text: Uint8Array): void {
  r.contentLengthOut = -1;
  send(r, text);
}

/** Type by the extension of the URI. */
export function contentTypeOf(r: Request): string {
  const { uri } = r;
  const slash = uri.lastIndexOf('/');
  const dot = uri.lastIndexOf('.');
  // A dot right behind the slash makes a hidden file, not an extension.
  if (dot > slash + 1) {
    const type = r.location.types.get(uri.slice(dot + 1).toLowerCase());
    if (type !== undefined) return type;
  }
  return r.location.conf.defaultType;
}

/** Sends a file; status, length and validators are set. */
export function sendFile(r: Request, file: FileEntry): void {
  r.file = file;
  send(r, null);
}

/** Runs the header filters, composes the header, hands both parts to the engine. */
function send(r: Request, body: Uint8Array | null): void {
  const engine = r.connection.engine;
  if (r.errStatus !== 0) r.status = r.errStatus;
  // Who asked for a subrequest wants what the location says; most filters are for the client's eyes.
  if (r.done !== null) {
    if (r.wantsBody) r.bodyStream = partOf(r, body);
    answered(r);
    return;
  }
  for (const filter of engine.headerFilters) {
    const code = filter(r);
    if (code === Code.Ok) continue;
    // 412 begins anew; 416 keeps its Content-Range.
    if (code === 412) {
      const { gzipVary } = r;
      r.clearOut();
      r.gzipVary = gzipVary;
    }
    // The page that comes instead has filters of its own.
    r.bodyFilters = [];
    r.gzipLevel = 0;
    r.file = null;
    specialResponse(r, code);
    return;
  }
  const { status } = r;
  // A paced answer is sent by the clock.
  if (r.limitRate !== null || r.location.conf.limitRate !== '0') r.impure();
  r.headerSent = true;
  if (r.version < HTTP_10) {
    // HTTP/0.9 knows no header, and so no answer without a body.
    const stream = r.bodyFilters.length > 0 ? filtered(r, body) : null;
    if (stream === null) engine.sender.emit(r, '', body, true);
    else engine.sender.emitStream(r, '', stream);
    return;
  }
  const withBody = r.method !== Method.Head && status !== 304 && status !== 204;
  if (withBody && (r.contentLengthOut < 0 || r.expectTrailers)) {
    // Nobody knows where the body ends: chunks tell, or the end of the connection. Trailers need chunks.
    if (r.version >= HTTP_11 && r.location.conf.chunkedTransfer) {
      r.chunkedOut = true;
      r.contentLengthOut = -1;
    } else {
      r.trailers = [];
      if (r.contentLengthOut < 0) r.keepalive = false;
    }
  }
  const { before, after } = composeHeader(r, status);
  if (withBody && (r.bodyFilters.length > 0 || r.chunkedOut)) {
    sendFiltered(r, before, after, body);
    return;
  }
  if (r.pure && r.ranges.length === 0 && r.contentLength <= 0 && !r.chunked) {
    const prepared = prepare(r, before, after, status, withBody ? body : null, withBody);
    if (prepared !== null) {
      engine.sender.emitPrepared(r, prepared);
      return;
    }
  }
  engine.sender.emit(r, before + engine.dateText + after, withBody ? body : null, withBody);
}

/** The body of a subrequest, after the filters that work on each part of an answer. */
function partOf(r: Request, body: Uint8Array | null): BodyStream | null {
  const { engine } = r.connection;
  for (const filter of engine.partFilters) filter(r);
  return filtered(r, body);
}

/** The body behind its filters; null where its file cannot be opened any more. */
function filtered(r: Request, body: Uint8Array | null): BodyStream | null {
  let stream = r.connection.engine.sender.sourceOf(r, body);
  if (stream !== null) for (const filter of r.bodyFilters) stream = filter(stream);
  return stream === null || r.ranges.length === 0 ? stream : ranged(r, stream);
}

/** Longest body that is compressed in one go, and longest answer that is kept of those. */
const WHOLE_MAX = 1024 * 1024;
const CHANGED_MAX = 60 * 1024;

/** A body that filters change. */
function sendFiltered(r: Request, before: string, after: string, body: Uint8Array | null): void {
  const engine = r.connection.engine;
  const key = before + after;
  const reusable = r.pure && r.contentLength <= 0 && !r.chunked;
  // Any other filter may leave the header as it is: then it would say nothing of the body.
  const packs = r.bodyFilters.length === 1 && r.gzipLevel > 0 && r.trailers.length === 0;
  const known = packs && reusable ? r.file?.prepared.get(key) : undefined;
  if (known !== undefined) {
    r.gzipIn = known.gzipIn;
    r.gzipOut = known.gzipOut;
    engine.sender.emitPrepared(r, known);
    return;
  }
  const whole = packs ? wholeBody(r, body) : null;
  if (whole !== null && whole.length <= WHOLE_MAX) {
    const { serial } = r.connection;
    engine.suspend(r);
    gzip(whole.slice(), { level: r.gzipLevel }, (error, packed) => {
      engine.resumeRequest(r, serial, () => {
        if (error !== null) throw error;
        r.gzipIn = whole.length;
        r.gzipOut = packed.length;
        sendPacked(r, before, after, packed, reusable);
      });
    });
    return;
  }
  let stream = filtered(r, body);
  if (stream === null) {
    finalize(r, 500);
    return;
  }
  if (r.chunkedOut) stream = chunked(stream, () => trailerLines(r));
  engine.sender.emitStream(r, before + engine.dateText + after, stream);
}

/** A body that is at hand as a whole; null: it is not. The bytes may be overwritten later. */
function wholeBody(r: Request, body: Uint8Array | null): Uint8Array | null {
  return r.file === null ? body : r.connection.engine.files.view(r.file);
}

function trailerLines(r: Request): string {
  let text = '';
  for (const { name, value } of r.trailers) {
    const evaluated = value(r);
    if (evaluated !== '') text += `${name}: ${evaluated}\r\n`;
  }
  return text;
}

/** The compressed body is there: sent, and kept for the next who asks the same. */
function sendPacked(r: Request, before: string, after: string, packed: Uint8Array, reusable: boolean): void {
  const { sender } = r.connection.engine;
  const body = r.chunkedOut ? Buffer.concat([chunkOf(packed), LAST_CHUNK]) : packed;
  const prepared = reusable ? preparePacked(r, before, after, body) : null;
  if (prepared !== null) {
    sender.emitPrepared(r, prepared);
    return;
  }
  r.file = null;
  sender.emit(r, before + r.connection.engine.dateText + after, body, true);
}

/** The same as an answer that can be sent again; null where it is too long, or there is no room for it. */
function preparePacked(r: Request, before: string, after: string, body: Uint8Array): Prepared | null {
  const { engine } = r.connection;
  const header = before + engine.dateText + after;
  if (header.length + body.length > CHANGED_MAX) return null;
  const bytes = new Uint8Array(header.length + body.length);
  writeLatin1(bytes, header, 0);
  bytes.set(body, header.length);
  const prepared = new Prepared(bytes, header.length, before.length, null, r.keepalive, r.status, body.length);
  prepared.dateTick = engine.tick;
  prepared.gzipIn = r.gzipIn;
  prepared.gzipOut = r.gzipOut;
  return r.file === null || engine.files.keepAnswer(r.file, before + after, prepared) ? prepared : null;
}

const LAST_CHUNK = latin1Bytes('0\r\n\r\n');

/** A reusable answer, shared between requests whose header is the same; null where the body is not at hand. */
function prepare(
  r: Request,
  before: string,
  after: string,
  status: number,
  body: Uint8Array | null,
  withBody: boolean,
): Prepared | null {
  const engine = r.connection.engine;
  const file = withBody ? r.file : null;
  // Most files of a large site are asked for once in a while: an answer is kept from the second time on.
  if (file !== null && file.uses < USES_MIN) return null;
  const small = file === null ? body : file.body;
  if (small !== null && small.length > COPY_MAX) return null;
  if (file !== null && file.body === null && file.offset < 0) return null;
  const key = before + after;
  if (file !== null) {
    const known = file.prepared.get(key);
    if (known !== undefined) return known;
    if (file.prepared.size >= VARIANTS_MAX) return null;
  }
  const headerLength = key.length + engine.dateText.length;
  const bytes = new Uint8Array(headerLength + (small?.length ?? 0));
  writeLatin1(bytes, before + engine.dateText + after, 0);
  if (small !== null) bytes.set(small, headerLength);
  const inRegion = file !== null && file.body === null;
  const bodyLength = small?.length ?? (inRegion ? file.size : 0);
  const prepared = new Prepared(
    bytes,
    headerLength,
    before.length,
    inRegion ? file : null,
    r.keepalive,
    status,
    bodyLength,
  );
  prepared.dateTick = engine.tick;
  return file === null || engine.files.keepAnswer(file, key, prepared) ? prepared : null;
}

const composed = { before: '', after: '' };

/** The header, cut where the date goes. */
function composeHeader(r: Request, status: number): { before: string; after: string } {
  const { conf } = r.location;
  // Said as soon as it is known: the request may have waited since its phases looked.
  if (r.connection.engine.exiting) r.keepalive = false;
  composed.before = `${statusLine(status)}Server: ${serverToken(conf.serverTokens)}\r\nDate: `;
  let after = '\r\n';
  if (status !== 204 && r.contentType !== '') after += `Content-Type: ${r.contentType}${r.charset}\r\n`;
  if (status !== 204 && r.contentLengthOut >= 0) after += `Content-Length: ${r.contentLengthOut}\r\n`;
  if (WITH_LAST_MODIFIED.has(status) && r.lastModified >= 0 && r.lastModifiedAt < 0) {
    const text = r.file !== null && r.file.mtime === r.lastModified ? r.file.lastModified : formatDate(r.lastModified);
    after += `Last-Modified: ${text}\r\n`;
  }
  let late = '';
  if (r.locationOut !== null) {
    const location = `Location: ${sentLocation(r)}\r\n`;
    if (isCompleted(r)) after += location;
    else late = location;
  }
  if (r.chunkedOut) after += 'Transfer-Encoding: chunked\r\n';
  if (r.keepalive) {
    after += 'Connection: keep-alive\r\n';
    if (conf.keepaliveHeaderSec > 0) after += `Keep-Alive: timeout=${conf.keepaliveHeaderSec}\r\n`;
  } else after += 'Connection: close\r\n';
  if (r.gzipVary && conf.gzipVary) after += 'Vary: Accept-Encoding\r\n';
  if (r.challenge !== '') after += `WWW-Authenticate: ${r.challenge}\r\n`;
  after += late;
  const { extra } = r;
  for (let i = 0; ; i += 2) {
    if (i === r.etagAt && r.etag !== '') after += `${r.etagName}: ${r.etag}\r\n`;
    if (i >= extra.length) break;
    if (extra[i] !== '') after += `${extra[i]}: ${extra[i + 1]}\r\n`;
  }
  composed.after = `${after}\r\n`;
  // What was not sent has no value for the log.
  if (status === 204) {
    r.contentType = '';
    r.contentLengthOut = -1;
  }
  if (!WITH_LAST_MODIFIED.has(status)) {
    r.lastModified = -1;
    r.lastModifiedAt = -1;
  }
  return composed;
}

/** The interim answer that lets a client send its body. */
export const CONTINUE = latin1Bytes('HTTP/1.1 100 Continue\r\n\r\n');

/** Whether the client waits for 100 before it sends the body. */
export function expectsContinue(r: Request): boolean {
  if (r.expectTested || r.version < HTTP_11) return false;
  r.expectTested = true;
  return r.header(HeaderId.Expect)?.toLowerCase() === '100-continue';
}
