/**
 * userid: a cookie that tells clients apart.
 *
 * What it is for: reads the identifier a client has, gives one to those who have none (or one that is to be renewed). Invariant: identifiers are
 * nginx's: the service or the server's address, the time, the worker, a number that goes on. The fast way: never (each client
 * gets another one).
 */

import { threadId } from 'node:worker_threads';
import { Args, type Directive, HTTP_ALL } from '../../conf/directives.ts';
import type { LocConf } from '../../conf/model.ts';
import { anyOf, loc, number, oneOf, word } from '../../conf/setters.ts';
import { parseTimeSec } from '../../conf/units.ts';
import { Code } from '../../http/codes.ts';
import { cookieTime } from '../../http/date.ts';
import type { Request } from '../../http/request.ts';
import { cookieValue, plainGetter } from '../../http/variables.ts';
import { parseAddress } from '../../net/address.ts';

/** `userid_expires max`. */
const FOREVER = 2_145_916_555;
const FLAGS = ['off', 'secure', 'httponly', 'samesite=strict', 'samesite=lax', 'samesite=none'];
/** Characters of an identifier in a cookie, without what fills base64 up. */
const TEXT_LENGTH = 22;
const BYTES = 16;

export const USERID_DEFAULTS: Pick<
  LocConf,
  | 'userid'
  | 'useridService'
  | 'useridName'
  | 'useridDomain'
  | 'useridPath'
  | 'useridP3p'
  | 'useridExpires'
  | 'useridMark'
  | 'useridFlags'
> = {
  userid: 'off',
  useridService: null,
  useridName: 'uid',
  useridDomain: 'none',
  useridPath: '/',
  useridP3p: 'none',
  useridExpires: 0,
  useridMark: 'off',
  useridFlags: [],
};

export const USERID_DIRECTIVES: Directive[] = [
  { name: 'userid', contexts: HTTP_ALL, args: Args.Take1, set: loc('userid', oneOf(['off', 'log', 'v1', 'on'])) },
  { name: 'userid_service', contexts: HTTP_ALL, args: Args.Take1, set: loc('useridService', number) },
  { name: 'userid_name', contexts: HTTP_ALL, args: Args.Take1, set: loc('useridName', word) },
  { name: 'userid_domain', contexts: HTTP_ALL, args: Args.Take1, set: loc('useridDomain', word) },
  { name: 'userid_path', contexts: HTTP_ALL, args: Args.Take1, set: loc('useridPath', word) },
  { name: 'userid_p3p', contexts: HTTP_ALL, args: Args.Take1, set: loc('useridP3p', word) },
  {
    name: 'userid_expires',
    contexts: HTTP_ALL,
    args: Args.Take1,
    set: loc('useridExpires', (cf, args) => {
      if (args[1] === 'max') return FOREVER;
      if (args[1] === 'off') return 0;
      return parseTimeSec(args[1] as string) ?? cf.reject('invalid value');
    }),
  },
  {
    name: 'userid_mark',
    contexts: HTTP_ALL,
    args: Args.Take1,
    set: loc('useridMark', (cf, args) => {
      const mark = args[1] as string;
      return /^(?:off|[0-9A-Za-z=])$/.test(mark)
        ? mark
        : cf.reject('value must be "off" or a single letter, digit or "="');
    }),
  },
  { name: 'userid_flags', contexts: HTTP_ALL, args: Args.Take123, set: anyOf('useridFlags', FLAGS) },
];

/** What is known of a request's identifier; four numbers, the last one 0: there is none. */
export interface UserId {
  cookie: string;
  got: Uint32Array;
  set: Uint32Array;
  /** It is sent again, with the mark it lacked. */
  kept: boolean;
}

const NUMBERS = BYTES / 4;
/** Of this worker: microseconds and process, as nginx has them; threads of a process differ by their number. */
const startValue =
  (((Math.floor((performance.now() * 1000) / 20) & 0xffff) << 16) | ((process.pid + (threadId << 8)) & 0xffff)) >>> 0;
let sequenceV1 = 1;
let sequenceV2 = 0x03030302;

function identify(r: Request): UserId {
  if (r.userId !== null) return r.userId;
  r.impure();
  const found: UserId = { cookie: '', got: new Uint32Array(NUMBERS), set: new Uint32Array(NUMBERS), kept: false };
  r.userId = found;
  const cookie = cookieValue(r, r.location.conf.useridName);
  if (cookie === null) return found;
  found.cookie = cookie;
  // As nginx has it: the line it came in.
  const complain = (what: string): void => {
    const doing = r.fileFound ? ' while sending response to client' : '';
    r.connection.engine.logError(
      r,
      'error',
      `client sent ${what} userid cookie "${plainGetter('http_cookie')(r)}"${doing}`,
    );
  };
  if (cookie.length < TEXT_LENGTH) {
    complain('too short');
    return found;
  }
  const text = cookie.slice(0, TEXT_LENGTH);
  if (!/^[A-Za-z0-9+/]*$/.test(text)) {
    complain('invalid');
    return found;
  }
  new Uint8Array(found.got.buffer).set(Buffer.from(text, 'base64'));
  return found;
}

export function useridFilter(r: Request): number {
  const { conf } = r.location;
  if (r.parent !== null || (conf.userid !== 'on' && conf.userid !== 'v1')) return Code.Ok;
  r.impure();
  const id = identify(r);
  give(r, id);
  if (id.set[3] === 0) return Code.Ok;
  const mark = markOf(r);
  let value = id.kept ? id.cookie : Buffer.from(id.set.buffer, 0, BYTES).toString('base64');
  if (mark !== '') value = `${value.slice(0, TEXT_LENGTH)}${mark}=`;
  let cookie = `${conf.useridName}=${value}`;
  if (conf.useridExpires === FOREVER) cookie += '; expires=Thu, 31-Dec-37 23:55:55 GMT';
  else if (conf.useridExpires !== 0)
    cookie += `; expires=${cookieTime(r.connection.engine.nowSeconds() + conf.useridExpires)}`;
  if (conf.useridDomain !== 'none') cookie += `; domain=${conf.useridDomain}`;
  cookie += `; path=${conf.useridPath}`;
  for (const each of ['secure', 'httponly']) if (conf.useridFlags.includes(each)) cookie += `; ${each}`;
  // Of several the first holds; `off` beside others means nothing.
  const sameSite = conf.useridFlags.find((each) => each.startsWith('samesite='));
  if (sameSite !== undefined) cookie += `; ${sameSite}`;
  r.extra.push('Set-Cookie', cookie);
  if (conf.useridP3p !== 'none' && conf.useridP3p !== '') r.extra.push('P3P', conf.useridP3p);
  return Code.Ok;
}

function markOf(r: Request): string {
  const { useridMark } = r.location.conf;
  return useridMark === 'off' ? '' : useridMark;
}

/** Gives an identifier to who has none, or whose is to be marked or renewed; once a request. */
function give(r: Request, id: UserId): void {
  if (id.set[3] !== 0) return;
  if (id.got[3] !== 0) {
    const reset = plainGetter('uid_reset')(r) ?? '';
    if (reset === '' || reset === '0') {
      const mark = markOf(r);
      if (mark === '' || id.cookie.slice(TEXT_LENGTH, TEXT_LENGTH + 2) === `${mark}=`) return;
      id.set.set(id.got);
      id.kept = true;
      return;
    }
    if (reset === 'log') {
      const { useridName } = r.location.conf;
      r.connection.engine.logError(r, 'notice', `userid cookie "${named(useridName, id.got)}" was reset`);
    }
  }
  create(r, id.set);
}

/** A new identifier. */
function create(r: Request, id: Uint32Array): void {
  const { conf } = r.location;
  const now = r.connection.engine.nowSeconds();
  if (conf.userid === 'v1') {
    id.set([conf.useridService ?? 0, now, startValue, sequenceV1]);
    sequenceV1 = (sequenceV1 + 0x100) >>> 0;
    return;
  }
  const bytes = new DataView(id.buffer);
  if (conf.useridService !== null) bytes.setUint32(0, conf.useridService);
  else {
    const address = parseAddress(r.connection.engine.localAddress(r));
    if (address !== null) new Uint8Array(id.buffer).set(address.slice(-4));
  }
  bytes.setUint32(4, now);
  bytes.setUint32(8, startValue);
  bytes.setUint32(12, sequenceV2);
  sequenceV2 = (sequenceV2 + 0x100) >>> 0;
  if (sequenceV2 < 0x03030302) sequenceV2 = 0x03030302;
}

function named(name: string, id: Uint32Array): string {
  const digits = [...id].map((each) => each.toString(16).toUpperCase().padStart(8, '0'));
  return `${name}=${digits.join('')}`;
}

export function uidGot(r: Request): string | null {
  if (r.location.conf.userid === 'off') return null;
  const { got } = identify(r);
  return got[3] === 0 ? null : named(r.location.conf.useridName, got);
}

export function uidSet(r: Request): string | null {
  const { userid, useridName } = r.location.conf;
  if (userid !== 'on' && userid !== 'v1') return null;
  const id = identify(r);
  give(r, id);
  return id.set[3] === 0 ? null : named(useridName, id.set);
}
