/** charset: names it behind the type of the answer. */

import { Code } from '../../http/codes.ts';
import type { Request } from '../../http/request.ts';
import { typeIs } from '../gzip/filter.ts';

export function charsetFilter(r: Request): number {
  const { location } = r;
  if (location.conf.charset === 'off' || r.contentType === '' || r.contentEncoding !== '') return Code.Ok;
  if (!typeIs(r, location.conf.charsetTypes)) return Code.Ok;
  // Browsers of old took a redirect's charset for the next page's.
  if (r.status === 301 || r.status === 302) return Code.Ok;
  const name = location.charset(r);
  // A type may name its charset itself.
  if (name !== '' && name !== 'off' && !r.contentType.includes(';')) r.charset = `; charset=${name}`;
  return Code.Ok;
}
