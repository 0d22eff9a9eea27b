/** Conditional requests: If-Match, If-Unmodified-Since (412); If-None-Match, If-Modified-Since (304). */

import { Code } from '../../http/codes.ts';
import { parseDate } from '../../http/date.ts';
import { HeaderId } from '../../http/headers.ts';
import type { Request } from '../../http/request.ts';
import { clearEncoding } from '../gzip/filter.ts';

export function notModifiedFilter(r: Request): number {
  if (r.status !== 200) return Code.Ok;
  const unmodifiedSince = r.header(HeaderId.IfUnmodifiedSince);
  if (unmodifiedSince !== null && (r.lastModified < 0 || parseDate(unmodifiedSince) < r.lastModified)) return 412;
  const match = r.header(HeaderId.IfMatch);
  if (match !== null && !etagListed(match, r.etag, false)) return 412;
  const modifiedSince = r.header(HeaderId.IfModifiedSince);
  const noneMatch = r.header(HeaderId.IfNoneMatch);
  if (modifiedSince === null && noneMatch === null) return Code.Ok;
  if (modifiedSince !== null && isModified(r, modifiedSince)) return Code.Ok;
  if (noneMatch !== null && !etagListed(noneMatch, r.etag, true)) return Code.Ok;
  r.status = 304;
  r.contentType = '';
  r.contentLengthOut = -1;
  r.allowRanges = false;
  clearEncoding(r);
  return Code.Ok;
}

function isModified(r: Request, value: string): boolean {
  if (r.lastModified < 0) return true;
  const rule = r.location.conf.ifModifiedSince;
  if (rule === 'off') return true;
  const since = parseDate(value);
  if (since === r.lastModified) return false;
  return rule === 'exact' || since < r.lastModified;
}

/** Whether a list of entity tags has ours; weakly for If-None-Match. */
export function etagListed(list: string, etag: string, weak: boolean): boolean {
  if (list === '*') return true;
  if (etag === '') return false;
  const own = weak && etag.startsWith('W/') ? etag.slice(2) : etag;
  let i = 0;
  while (i < list.length) {
    if (weak && list.startsWith('W/', i) && list.length - i > 2) i += 2;
    if (own.length > list.length - i) return false;
    if (list.startsWith(own, i)) {
      i += own.length;
      while (list[i] === ' ' || list[i] === '\t') i++;
      if (i === list.length || list[i] === ',') return true;
    }
    while (i < list.length && list[i] !== ',') i++;
    while (list[i] === ' ' || list[i] === '\t' || list[i] === ',') i++;
  }
  return false;
}
