/**
 * Values of variables.
 *
 * What it is for: one getter per name, null for "not found". Invariant: a variable whose value does not follow from the
 * bytes of the request head and the configuration marks the request impure when an answer uses it, so that no answer made from it is reused.
 */

import { randomBytes } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { hostname } from 'node:os';
import { parseSize } from '../conf/units.ts';
import { CHANGEABLE, OVERRIDABLE, type VariableName } from '../conf/variable-names.ts';
import { errnoOf, strerror } from '../log/errno.ts';
import { credentials } from '../modules/auth-basic/handler.ts';
import { ancientBrowser, isMsie, modernBrowser } from '../modules/browser/module.ts';
import { gzipRatio } from '../modules/gzip/filter.ts';
import { invalidReferer } from '../modules/referer/module.ts';
import { secureLink } from '../modules/secure-link/module.ts';
import { sliceRange } from '../modules/slice/module.ts';
import { uidGot, uidSet } from '../modules/userid/module.ts';
import { binaryText, parseExactly } from '../net/address.ts';
import { VERSION } from '../version.ts';
import { latin1, pathOf } from './bytes.ts';
import type { Connection } from './connection.ts';
import { formatDate, formatIsoTime, formatLogTime } from './date.ts';
import { HeaderId } from './headers.ts';
import { sentLocation } from './location.ts';
import { HTTP_09, HTTP_10, HTTP_11, type Request } from './request.ts';
import { Status } from './status-rows.ts';
import { DEFAULT_TIMEFMT, strftime } from './strftime.ts';
import { mainRequest } from './subrequest.ts';

export type Getter = (r: Request) => string | null;

/** Getter of a name for a word that takes part in the answer. */
export function getterOf(name: string): Getter {
  const get = plainGetter(name);
  const ofClient = CLIENT.get(name as VariableName);
  // The answer is good for any request of a client of whom the same holds.
  if (ofClient !== undefined)
    return (r) => {
      const value = ofClient(r.connection);
      r.guard((connection) => ofClient(connection) === value);
      return get(r);
    };
  if (!CHANGING.has(name)) return get;
  return (r) => {
    r.impure();
    return get(r);
  };
}

/** The same for the access log, which is written when the answer stands. */
export function plainGetter(name: string): Getter {
  if (/^[1-9]$/.test(name)) {
    const index = Number(name);
    return (r) => r.captures?.[index] ?? null;
  }
  const builtIn = GETTERS[name as VariableName];
  const custom = customGetters.get(name);
  if (builtIn !== undefined) {
    if (OVERRIDABLE.has(name)) return overridable(name, builtIn);
    return CHANGEABLE.has(name) && custom !== undefined ? custom : builtIn;
  }
  const get = custom ?? prefixed(name);
  if (get === null) return setNames.has(name) ? setVariable(name) : (r) => r.named?.[name] ?? null;
  // What a request set or captured itself comes first.
  if (setNames.has(name) || captureNames.has(name)) return (r) => r.named?.[name] ?? get(r);
  return get;
}

/** Variables that are named by what they look for. */
function prefixed(name: string): Getter | null {
  if (name.startsWith('arg_')) return argument(name.slice(4));
  if (name.startsWith('http_')) return requestHeader(name.slice(5).replaceAll('_', '-'));
  if (name.startsWith('cookie_')) return cookie(name.slice(7));
  if (name.startsWith('sent_trailer_')) return sentTrailer(name.slice(13).replaceAll('_', '-'));
  if (name.startsWith('sent_http_')) return sentHeader(name.slice(10).replaceAll('_', '-'));
  return null;
}

/* Names of the configuration that this thread serves. */
let customGetters: ReadonlyMap<string, Getter> = new Map();
let setNames: ReadonlySet<string> = new Set();
let captureNames: ReadonlySet<string> = new Set();

/** Called once, before anything is compiled. */
export function defineVariables(
  getters: ReadonlyMap<string, Getter>,
  sets: readonly string[],
  captures: readonly string[],
): void {
  customGetters = getters;
  setNames = new Set(sets);
  captureNames = new Set(captures);
}

/** What the configuration says of the name, where it says something. */
function overridable(name: string, builtIn: Getter): Getter {
  const custom = customGetters.get(name) ?? builtIn;
  return (r) => r.named?.[name] ?? custom(r);
}

/** A variable of `set`; where no `set` was passed, nginx warns and takes it as empty. */
function setVariable(name: string): Getter {
  return (r) => {
    const value = r.named?.[name];
    if (value !== undefined) return value;
    if (r.location.conf.uninitializedWarn) {
      const doing = r.logged ? ' while logging request' : r.fileFound ? ' while sending response to client' : '';
      r.connection.engine.logError(r, 'warn', `using uninitialized "${name}" variable${doing}`);
    }
    // Empty from now on: once a request is enough.
    (r.named ??= {})[name] = '';
    return '';
  };
}

const HOST_NAME = hostname().toLowerCase();

type OfClient = (connection: Connection) => string | number | undefined;

const ADDRESS: OfClient = (connection) => connection.remoteAddress();

/** Names whose value follows from the head's bytes, the configuration and something of the connection that stays as it is, and that. */
const CLIENT: ReadonlyMap<VariableName, OfClient> = new Map<VariableName, OfClient>([
  ['remote_addr', ADDRESS],
  ['binary_remote_addr', ADDRESS],
  ['proxy_add_x_forwarded_for', ADDRESS],
  ['remote_port', (connection) => connection.remotePort()],
  ['realip_remote_addr', (connection) => connection.peerAddress()],
  ['realip_remote_port', (connection) => connection.peerPort()],
  ['connection', (connection) => connection.serial],
  ['proxy_protocol_addr', (connection) => connection.proxied?.host],
  ['proxy_protocol_port', (connection) => connection.proxied?.port],
  ['proxy_protocol_server_addr', (connection) => connection.proxied?.serverHost],
  ['proxy_protocol_server_port', (connection) => connection.proxied?.serverPort],
]);

/** Names whose value follows from more than the head's bytes and the configuration. */
export const CHANGING: ReadonlySet<string> = new Set<VariableName>([
  ...CLIENT.keys(),
  'connections_active',
  'connections_reading',
  'connections_waiting',
  'connections_writing',
  'limit_conn_status',
  'limit_req_status',
  'connection_requests',
  'connection_time',
  'date_gmt',
  'date_local',
  'msec',
  'pipe',
  'realpath_root',
  'request_id',
  'request_time',
  'server_addr',
  'time_iso8601',
  'time_local',
]);

export const GETTERS: Record<VariableName, Getter> = {
  ancient_browser: (r) => ancientBrowser(r),
  // Without any there is no value: `-` in a log.
  args: (r) => r.args || null,
  query_string: (r) => r.args || null,
  is_args: (r) => (r.args === '' ? '' : '?'),
  uri: (r) => uriOf(r),
  document_uri: (r) => uriOf(r),
  request_uri: (r) => (r.uriEnd > r.uriStart && !r.uriRefused ? r.text(r.uriStart, r.uriEnd) : null),
  request: (r) => r.requestLine(),
  // A line that was refused has none.
  request_method: (r) => (r.length > 0 ? mainRequest(r).methodName() : null),
  request_length: (r) => String(r.length),
  request_filename: (r) => r.connection.engine.pathOf(r),
  request_body: (r) => bodyText(r),
  request_body_file: (r) => r.requestBody?.file?.name ?? null,
  request_completion: (r) => (r.headerSent ? 'OK' : ''),
  request_id: (r) => (r.id ||= randomBytes(16).toString('hex')),
  request_time: (r) => seconds(Math.max(0, Date.now() - r.startMs)),
  scheme: () => 'http',
  http2: () => '',
  https: () => '',
  fastcgi_path_info: () => '',
  fastcgi_script_name: (r) => r.uri,
  proxy_add_x_forwarded_for: (r) => forwardedFor(r),
  invalid_referer: (r) => invalidReferer(r),
  limit_conn_status: (r) => r.limitConnStatus || null,
  limit_rate: (r) => String(r.limitRate ?? (r.logged ? parseSize(r.location.limitRate(r)) : null) ?? 0),
  limit_req_status: (r) => r.limitReqStatus || null,
  proxy_protocol_addr: (r) => r.connection.proxied?.host ?? null,
  proxy_protocol_port: (r) => portText(r.connection.proxied?.port),
  proxy_protocol_server_addr: (r) => r.connection.proxied?.serverHost ?? null,
  proxy_protocol_server_port: (r) => portText(r.connection.proxied?.serverPort),
  realip_remote_addr: (r) => r.connection.peerAddress(),
  realip_remote_port: (r) => String(r.connection.peerPort() || ''),
  secure_link: (r) => foundOnce(r, 'secure_link', secureLink),
  secure_link_expires: (r) => foundOnce(r, 'secure_link_expires', (each) => each.secureExpires),
  slice_range: (r) => sliceRange(r),
  connections_active: (r) => String(r.connection.engine.statusSum(Status.Active)),
  connections_reading: (r) => String(r.connection.engine.statusSum(Status.Reading)),
  connections_writing: (r) => String(r.connection.engine.statusSum(Status.Writing)),
  connections_waiting: (r) => String(waiting(r)),
  host: (r) => (r.host !== '' ? r.host : r.server.name),
  hostname: () => HOST_NAME,
  server_name: (r) => r.server.name,
  server_port: (r) => String(r.connection.engine.portOf(r)),
  server_addr: (r) => r.connection.engine.localAddress(r),
  server_protocol: (r) => protocolOf(r) || null,
  remote_addr: (r) => r.connection.remoteAddress(),
  remote_port: (r) => String(r.connection.remotePort() || ''),
  binary_remote_addr: (r) => binaryAddress(r.connection.remoteAddress()),
  remote_user: (r) => credentials(r)?.user ?? null,
  content_length: (r) => r.header(HeaderId.ContentLength) ?? chunkedLength(r),
  content_type: (r) => r.header(HeaderId.ContentType),
  document_root: (r) => r.connection.engine.documentRoot(r),
  realpath_root: (r) => realPath(r),
  status: (r) => String(statusOf(r)).padStart(3, '0'),
  bytes_sent: (r) => String(r.bytesSent),
  body_bytes_sent: (r) => String(Math.max(0, r.bytesSent - r.headerBytes)),
  connection: (r) => String(r.connection.serial),
  connection_requests: (r) => String(r.connection.requests),
  connection_time: (r) => seconds(Math.max(0, Date.now() - r.connection.startMs)),
  modern_browser: (r) => modernBrowser(r),
  msie: (r) => (isMsie(r) ? '1' : ''),
  gzip_ratio: (r) => gzipRatio(r),
  // What the kernel knows of a connection cannot be asked of one without a descriptor.
  tcpinfo_rcv_space: () => null,
  tcpinfo_rtt: () => null,
  tcpinfo_rttvar: () => null,
  tcpinfo_snd_cwnd: () => null,
  uid_got: (r) => uidGot(r),
  uid_reset: () => '',
  uid_set: (r) => uidSet(r),
  msec: () => seconds(Date.now()),
  pid: () => String(process.pid),
  pipe: (r) => (r.pipelined ? 'p' : '.'),
  nginx_version: () => VERSION,
  time_local: () => formatLogTime(new Date()),
  time_iso8601: () => formatIsoTime(new Date()),
  date_local: (r) => strftime(r.ssi?.timefmt ?? DEFAULT_TIMEFMT, Date.now(), false) || null,
  date_gmt: (r) => strftime(r.ssi?.timefmt ?? DEFAULT_TIMEFMT, Date.now(), true) || null,
};

/**
 * The value of a variable that is found once a request, and not anew when it is asked for again (but for `keep` false). One that is
 * asked for while it is being found has none.
 */
export function foundOnce(r: Request, name: string, find: Getter, keep = true): string | null {
  r.found ??= new Map();
  const known = r.found.get(name);
  if (known === BEING_FOUND) {
    r.connection.engine.logError(r, 'error', `cycle while evaluating variable "${name}"`);
    return null;
  }
  if (known !== undefined) return known;
  r.found.set(name, BEING_FOUND);
  const value = find(r);
  if (keep) r.found.set(name, value);
  else r.found.delete(name);
  return value;
}

/** No value of a variable has this byte in front of this word. */
const BEING_FOUND = '\0being found';

/** The status that goes to the log: what was sent, or what was meant to be. */
export function statusOf(r: Request): number {
  if (r.errStatus !== 0) return r.errStatus;
  if (r.status !== 0) return r.status;
  return r.version === HTTP_09 ? HTTP_09 : 0;
}

export function protocolOf(r: Request): string {
  if (r.version === HTTP_11) return 'HTTP/1.1';
  if (r.version === HTTP_10) return 'HTTP/1.0';
  if (r.version === HTTP_09) return '';
  return `HTTP/1.${r.version - HTTP_10}`;
}

/** `1.234` from milliseconds. */
export function seconds(ms: number): string {
  return `${Math.floor(ms / 1000)}.${String(ms % 1000).padStart(3, '0')}`;
}

function argument(name: string): Getter {
  if (name === '') return () => null;
  return (r) => {
    for (const pair of r.args.split('&')) {
      const equals = pair.indexOf('=');
      if (equals >= 0 && pair.slice(0, equals).toLowerCase() === name) return pair.slice(equals + 1);
    }
    return null;
  };
}

/** Several lines of one name are joined, as nginx does since 1.23. */
function requestHeader(name: string): Getter {
  const separator = name === 'cookie' ? '; ' : ', ';
  return (r) => {
    let value: string | null = null;
    for (let i = 0; i < r.headerCount; i++) {
      const length = (r.headers[i * 4 + 1] as number) - (r.headers[i * 4] as number);
      if (length !== name.length) continue;
      if (r.headerName(i).toLowerCase().replaceAll('_', '-') !== name) continue;
      value = value === null ? r.headerValue(i) : value + separator + r.headerValue(i);
    }
    return value;
  };
}

/** Value of a line behind the body. */
function sentTrailer(name: string): Getter {
  return (r) => r.trailers.find((each) => each.name.toLowerCase() === name)?.value(r) ?? null;
}

const COOKIES = requestHeader('cookie');

function cookie(name: string): Getter {
  return (r) => cookieValue(r, name);
}

/** Value of a cookie, up to the next semicolon; names are separated by commas, too. */
export function cookieValue(r: Request, name: string): string | null {
  const text = COOKIES(r) ?? '';
  const wanted = name.toLowerCase();
  let at = 0;
  while (at < text.length) {
    if (text.slice(at, at + name.length).toLowerCase() === wanted) {
      const value = /^ *= *([^;]*)/.exec(text.slice(at + name.length));
      if (value !== null) return value[1] as string;
    }
    const next = text.slice(at).search(/[;,]/);
    if (next < 0) return null;
    at += next + 1;
    while (text[at] === ' ') at++;
  }
  return null;
}

function sentHeader(name: string): Getter {
  return (r) => {
    const { keepaliveHeaderSec } = r.location.conf;
    switch (name) {
      case 'content-type':
        return r.contentType || null;
      case 'content-length':
        return r.contentLengthOut < 0 ? null : String(r.contentLengthOut);
      case 'location':
        return r.headerSent ? sentLocation(r) : r.locationOut;
      case 'connection':
        return promises(r) ? 'keep-alive' : 'close';
      case 'etag':
        return r.etag || null;
      case 'last-modified':
        if (r.lastModifiedAt >= 0) return r.extra[r.lastModifiedAt + 1] as string;
        return r.lastModified < 0 ? null : formatDate(r.lastModified);
      case 'keep-alive':
        return promises(r) && keepaliveHeaderSec > 0 ? `timeout=${keepaliveHeaderSec}` : null;
      case 'transfer-encoding':
        return r.chunkedOut ? 'chunked' : null;
      // Those that may stand in several lines.
      case 'cache-control':
      case 'link':
        return joined(r, name);
      default:
        for (let i = 0; i < r.extra.length; i += 2) {
          if ((r.extra[i] as string).toLowerCase() === name) return r.extra[i + 1] as string;
        }
        return null;
    }
  };
}

/** Whether the connection will be kept: what nginx has promised it has done by the time of the log, and knows no more of it. */
function promises(r: Request): boolean {
  return r.keepalive && !(r.logged && r.headerSent && !r.connection.bodyActive);
}

function joined(r: Request, name: string): string | null {
  const values = r.extra.filter((_, i) => i % 2 === 1 && (r.extra[i - 1] as string).toLowerCase() === name);
  return values.length === 0 ? null : values.join(', ');
}

/** Empty where it could not be normalised, none where there was none. */
function uriOf(r: Request): string | null {
  return r.uri === '' && !r.uriRefused ? null : r.uri;
}

/** 4 or 16 bytes as characters; what a Unix socket's client has instead stands as it is. */
function binaryAddress(address: string): string {
  const bytes = parseExactly(address);
  return bytes === null ? address : binaryText(bytes);
}

/** Of a body in chunks the length is known when it was read; of one that was dropped there is nothing left. */
function chunkedLength(r: Request): string | null {
  if (!r.chunked || r.connection.bodyActive) return null;
  if (r.requestBody !== null) return String(r.requestBody.total);
  return r.discarding ? '0' : null;
}

/** The body, where it was read and lies in memory. */
function bodyText(r: Request): string | null {
  const body = r.requestBody;
  return body === null || !body.complete || body.file !== null ? null : latin1(body.bytes, 0, body.length);
}

const FORWARDED_FOR = requestHeader('x-forwarded-for');

function forwardedFor(r: Request): string {
  const before = FORWARDED_FOR(r);
  const address = r.connection.remoteAddress();
  return before === null ? address : `${before}, ${address}`;
}

function portText(port: number | undefined): string | null {
  return port === undefined ? null : port === 0 ? '' : String(port);
}

function waiting(r: Request): number {
  const { engine } = r.connection;
  const busy = engine.statusSum(Status.Reading) + engine.statusSum(Status.Writing);
  return Math.max(0, engine.statusSum(Status.Active) - busy);
}

function realPath(r: Request): string | null {
  const { engine } = r.connection;
  const path = engine.documentRoot(r);
  try {
    return realpathSync(pathOf(path), 'latin1');
  } catch (error) {
    engine.logError(r, 'crit', `realpath() "${path}" failed (${strerror(errnoOf(error))})`);
    return null;
  }
}
