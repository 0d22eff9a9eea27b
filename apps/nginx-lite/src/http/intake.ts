/**
 * Heads of requests: parsed on, checked as nginx checks them, and refused with nginx's words.
 *
 * What it is for: from bytes to a request whose server, URI and body length are certain. Invariant: what passes is what nginx lets
 * pass; a refused head ends the connection, since nothing behind it can be trusted to be a request. Not its job: scanning
 * (request-line.ts, header-lines.ts), handling (phases.ts).
 */

import { printable } from '../log/error-log.ts';
import { beginBody } from './body.ts';
import { lowerCase } from './bytes.ts';
import { type Connection, State } from './connection.ts';
import { HTTP_10, HTTP_11, Method, Parse, type ParseResult } from './head.ts';
import { parseHeaders } from './header-lines.ts';
import { HeaderId, headerId } from './headers.ts';
import { finalize } from './output.ts';
import { takeCaptures } from './phases.ts';
import type { Request } from './request.ts';
import { parseLine } from './request-line.ts';
import { normalized, normalizeUri } from './uri.ts';

const hostParts = { host: '' };
const captured: { captures: RegExpExecArray | null } = { captures: null };

/** Parses on; true when the request was handled (or refused), false when more bytes are needed. */
export function readHead(c: Connection, r: Request, end: number): boolean {
  if (c.state === State.Line) {
    const result = parseLine(r, end);
    if (result === Parse.Again) return false;
    if (result !== Parse.Done) return refuse(c, r, end, result);
    r.length = r.pos;
    if (!requestLine(r)) return refuse(c, r, end, Parse.InvalidRequest);
    const host = r.absoluteHost();
    if (host !== null) {
      if (!takeHost(r, host)) {
        r.connection.engine.logError(r, 'info', 'client sent invalid host in request line');
        return refuseWith(c, r, end, 400, true);
      }
    }
    if (r.version < HTTP_10) {
      if (!r.hostGiven) serverWithoutHost(r);
      r.headEnd = r.pos;
      c.engine.serve(c, r, end);
      return true;
    }
    c.state = State.Headers;
  }
  const result = parseHeaders(r, end);
  if (result === Parse.Again) return false;
  if (result !== Parse.Done) return refuse(c, r, end, result);
  r.length = r.headEnd;
  const status = checkHead(r);
  if (status !== 0) return refuseWith(c, r, end, status, false);
  c.engine.serve(c, r, end);
  return true;
}

/** URI and arguments from the request line. */
function requestLine(r: Request): boolean {
  const base = r.base;
  if (r.complexUri || r.quotedUri || r.emptyPathInUri) {
    const ok = normalizeUri(r.buf, base + r.uriStart, base + r.uriEnd, r.server.conf.mergeSlashes, r.emptyPathInUri);
    if (!ok) {
      r.uriRefused = true;
      return false;
    }
    r.uri = normalized.path;
    r.args = normalized.args;
    return true;
  }
  if (r.argsStart < 0) r.uri = r.text(r.uriStart, r.uriEnd);
  else {
    r.uri = r.text(r.uriStart, r.argsStart - 1);
    if (r.uriEnd > r.argsStart) r.args = r.text(r.argsStart, r.uriEnd);
  }
  return true;
}

/** The Host header; called by the parser. */
export function hostHeader(r: Request): boolean {
  const given = r.hostGiven;
  const value = r.header(HeaderId.Host) ?? '';
  if (!validHost(value, hostParts)) return false;
  return given ? true : takeHost(r, value);
}

/** A line with a name that is none; called by the parser. A client that always sends it costs nothing more where nobody wants to know. */
export function ignoredHeader(r: Request): void {
  const { engine } = r.connection;
  if (!engine.wantsLine(r, 'info')) return;
  const line = printable(r.text(r.nameStart, r.valueEnd));
  engine.logError(r, 'info', `client sent invalid header line: "${line}"${READING}`);
}

function takeHost(r: Request, text: string): boolean {
  if (!validHost(text, hostParts)) return false;
  r.host = hostParts.host;
  r.hostGiven = true;
  captured.captures = null;
  r.server = r.connection.virtual.find(r.host, captured);
  r.location = r.server.location;
  if (captured.captures !== null) takeCaptures(r, captured.captures);
  return true;
}

/** A server may have the empty name for clients that name none. */
function serverWithoutHost(r: Request): void {
  r.server = r.connection.virtual.find('', captured);
  r.location = r.server.location;
}

/** Largest Content-Length, as in nginx, and digits that are less in any case. */
const LENGTH_MAX = 2n ** 63n - 1n;
const LENGTH_DIGITS = 18;

function validLength(text: string): boolean {
  return /^[0-9]+$/.test(text) && (text.length <= LENGTH_DIGITS || BigInt(text) <= LENGTH_MAX);
}

const READING = ' while reading client request headers';

/** What must hold of a complete head; the status to refuse it with, or 0. */
function checkHead(r: Request): number {
  if (!r.hostGiven) serverWithoutHost(r);
  if ((r.known[HeaderId.Host] as number) < 0 && r.version > HTTP_10) {
    r.connection.engine.logError(r, 'info', `client sent HTTP/1.1 request without "Host" header${READING}`);
    return 400;
  }
  const length = r.header(HeaderId.ContentLength);
  if (length !== null) {
    const value = validLength(length) ? Number(length) : -1;
    if (value < 0) {
      r.connection.engine.logError(r, 'info', `client sent invalid "Content-Length" header${READING}`);
      return 400;
    }
    // Nobody lives to see the difference.
    r.contentLength = Math.min(value, Number.MAX_SAFE_INTEGER);
  }
  const encoding = r.header(HeaderId.TransferEncoding);
  if (encoding !== null) {
    if (r.version < HTTP_11) {
      r.connection.engine.logError(r, 'info', `client sent HTTP/1.0 request with "Transfer-Encoding" header${READING}`);
      return 400;
    }
    if (encoding.toLowerCase() !== 'chunked') {
      r.connection.engine.logError(
        r,
        'info',
        `client sent unknown "Transfer-Encoding": "${printable(encoding)}"${READING}`,
      );
      return 501;
    }
    if (length !== null) {
      r.connection.engine.logError(
        r,
        'info',
        `client sent "Content-Length" and "Transfer-Encoding" headers at the same time${READING}`,
      );
      return 400;
    }
    r.contentLength = -1;
    r.chunked = true;
  }
  if (r.method === Method.Trace || r.method === Method.Connect) {
    r.connection.engine.logError(
      r,
      'info',
      `client sent ${r.method === Method.Trace ? 'TRACE' : 'CONNECT'} method${READING}`,
    );
    return 405;
  }
  return 0;
}

/** The parser refused the head. */
function refuse(c: Connection, r: Request, end: number, result: ParseResult): boolean {
  const inHeaders = c.state === State.Headers;
  // Lines that were read count, also the one that was too much.
  if (inHeaders) r.length = UNFINISHED.has(result) ? r.nameStart : r.pos;
  const where = inHeaders ? READING : ` while reading client ${r.pipelined ? 'pipelined ' : ''}request line`;
  r.connection.engine.logError(
    r,
    'info',
    `${REFUSALS[result] ?? 'client sent invalid request'}${refusedDetail(r, result)}${where}`,
  );
  return refuseWith(c, r, end, STATUS_OF[result] ?? 400, true);
}

function refuseWith(c: Connection, r: Request, end: number, status: number, unread: boolean): boolean {
  c.restBuf = r.buf;
  // Nothing behind a refused head can be trusted to be a request; the connection ends here.
  c.restStart = Math.min(end, r.base + Math.max(r.headEnd, r.pos));
  c.restEnd = end;
  c.state = State.Busy;
  r.impure();
  beginBody(c, 0, false);
  c.closeLinger = unread;
  finalize(r, status);
  return true;
}

/** Refused within a line. */
const UNFINISHED: ReadonlySet<ParseResult> = new Set([Parse.InvalidHeader, Parse.HeaderTooLarge]);

const REFUSALS: Record<number, string> = {
  [Parse.InvalidMethod]: 'client sent invalid method',
  [Parse.InvalidRequest]: 'client sent invalid request',
  [Parse.InvalidVersion]: 'client sent invalid version',
  [Parse.Invalid09Method]: 'client sent invalid method in HTTP/0.9 request',
  [Parse.InvalidHeader]: 'client sent invalid header line',
  [Parse.LineTooLong]: 'client sent too long URI',
  [Parse.HeaderTooLarge]: 'client sent too long header line',
  [Parse.DuplicateHost]: 'client sent duplicate host header',
  [Parse.DuplicateHeader]: 'client sent duplicate header line',
  [Parse.InvalidHost]: 'client sent invalid host header',
  [Parse.TooManyHeaders]: 'client sent too many header lines',
};

const STATUS_OF: Record<number, number> = {
  [Parse.InvalidVersion]: 505,
  [Parse.LineTooLong]: 414,
  [Parse.HeaderTooLarge]: 494,
  [Parse.TooManyHeaders]: 494,
};

function refusedDetail(r: Request, result: ParseResult): string {
  if (result === Parse.InvalidHeader) return `: "${r.refusedHeader()}..."`;
  if (result === Parse.HeaderTooLarge) return `: "${r.longHeader()}..."`;
  if (result !== Parse.DuplicateHost && result !== Parse.DuplicateHeader) return '';
  const last = r.headerCount - 1;
  const id = headerId(r.buf, r.base + r.nameStart, r.base + r.nameEnd);
  return `: "${lineOf(r, last)}", previous value: "${lineOf(r, r.known[id] as number)}"`;
}

function lineOf(r: Request, index: number): string {
  return printable(`${r.headerName(index)}: ${r.headerValue(index)}`);
}

/** Checks a host as nginx does; its name, lower case and without port, goes to `out`. */
export function validHost(text: string, out: { host: string }): boolean {
  let end = text.length;
  let dot = text.length;
  let literal = false;
  let rest = false;
  for (let i = 0; i < text.length; i++) {
    const ch = text.charCodeAt(i);
    if (ch === 0x2e) {
      if (dot === i - 1) return false;
      dot = i;
    } else if (ch === 0x3a) {
      if (!literal && !rest) {
        end = i;
        rest = true;
      }
    } else if (ch === 0x5b) {
      if (i === 0) literal = true;
    } else if (ch === 0x5d) {
      if (literal) {
        end = i + 1;
        literal = false;
        rest = true;
      }
    } else if (ch <= 0x20 || ch === 0x7f || ch === 0x2f) return false;
  }
  if (dot === end - 1) end--;
  if (end <= 0) return false;
  out.host = lowerCase(text.slice(0, end));
  return true;
}
