/** expires and add_header. */

import type { Expires } from '../../conf/model.ts';
import { Code } from '../../http/codes.ts';
import { formatDate, parseDate } from '../../http/date.ts';
import type { Request } from '../../http/request.ts';
import { parseExpiresText } from './expires.ts';

/** Statuses to which headers are added without `always`. */
const SAFE = new Set([200, 201, 204, 206, 301, 302, 303, 304, 307, 308]);

const MAX_SECONDS = 315_360_000;

export function headersFilter(r: Request): number {
  const location = r.location;
  const safe = SAFE.has(r.status);
  const { expires } = location.conf;
  if (safe && expires.kind === 'variable') {
    const own = parseExpiresText(location.expiresText(r), expires.modified);
    if (!('error' in own) && own.kind !== 'off') addExpires(r, own);
  } else if (safe && expires.kind !== 'off' && expires.kind !== 'variable') addExpires(r, expires);
  for (const header of location.addHeaders) {
    if (!safe && !header.always) continue;
    const value = header.value(r);
    const name = header.name.toLowerCase();
    if (name === 'etag') setEtag(r, header.name, value);
    else if (name === 'last-modified') setLastModified(r, header.name, value);
    else if (value !== '') r.extra.push(header.name, value);
  }
  if (location.addTrailers.length > 0) {
    r.trailers = location.addTrailers.filter((each) => safe || each.always);
    r.expectTrailers ||= r.trailers.length > 0;
  }
  return Code.Ok;
}

/** There is one tag: a further one takes the place of the one before, an empty one takes it away. */
function setEtag(r: Request, name: string, value: string): void {
  if (r.etag === '') r.etagAt = r.extra.length;
  r.etagName = name;
  r.etag = value;
}

/** The same for the time; conditions and ranges go by it, too. */
function setLastModified(r: Request, name: string, value: string): void {
  if (value === '') {
    r.clearLastModified();
    return;
  }
  if (r.lastModifiedAt < 0) r.lastModifiedAt = r.extra.length;
  r.extra[r.lastModifiedAt] = name;
  r.extra[r.lastModifiedAt + 1] = value;
  r.lastModified = parseDate(value);
}

function addExpires(r: Request, expires: Expires): void {
  // Times count from now, so the answer holds for this second only.
  const engine = r.connection.engine;
  r.validUntil = Math.min(r.validUntil, engine.tick + 1);
  const now = engine.nowSeconds();
  switch (expires.kind) {
    case 'epoch':
      r.extra.push('Expires', 'Thu, 01 Jan 1970 00:00:01 GMT', 'Cache-Control', 'no-cache');
      return;
    case 'max':
      r.extra.push('Expires', 'Thu, 31 Dec 2037 23:55:55 GMT', 'Cache-Control', `max-age=${MAX_SECONDS}`);
      return;
    case 'off':
      return;
    default: {
      let at: number;
      if (expires.kind === 'daily') at = nextDaily(now, expires.seconds);
      else if (expires.kind === 'modified' && r.lastModified >= 0) at = r.lastModified + expires.seconds;
      else at = now + expires.seconds;
      const age = at - now;
      if (expires.kind !== 'daily' && expires.seconds === 0) {
        r.extra.push('Expires', formatDate(now), 'Cache-Control', 'max-age=0');
        return;
      }
      const noCache = expires.seconds < 0 || age < 0;
      r.extra.push('Expires', formatDate(at), 'Cache-Control', noCache ? 'no-cache' : `max-age=${age}`);
    }
  }
}

/** The next time of day `seconds` after local midnight. */
function nextDaily(now: number, seconds: number): number {
  const midnight = new Date(now * 1000);
  midnight.setHours(0, 0, 0, 0);
  const today = Math.floor(midnight.getTime() / 1000) + seconds;
  if (today > now) return today;
  midnight.setDate(midnight.getDate() + 1);
  return Math.floor(midnight.getTime() / 1000) + seconds;
}
