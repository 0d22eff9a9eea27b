/** charset: names it behind the type of the answer, and recodes the body to it. */

import { Code } from '../../http/codes.ts';
import type { Request } from '../../http/request.ts';
import { MapStream } from '../../http/stream.ts';
import { typeIs } from '../gzip/filter.ts';
import { isUtf8 } from './recode.ts';

export function charsetFilter(r: Request): number {
  const { location } = r;
  if (location.conf.charset === 'off' || r.contentType === '' || r.contentEncoding !== '') return Code.Ok;
  if (!typeIs(r, location.conf.charsetTypes)) return Code.Ok;
  // Browsers of old took a redirect's charset for the next page's.
  if (r.status === 301 || r.status === 302) return Code.Ok;
  const name = location.charset(r);
  // A type may name its charset itself.
  if (name === '' || name === 'off' || r.contentType.includes(';')) return Code.Ok;
  r.charset = `; charset=${name}`;
  const source = location.sourceCharset(r);
  if (source !== 'off' && source.toLowerCase() !== name.toLowerCase()) recode(r, source, name);
  return Code.Ok;
}

function recode(r: Request, source: string, name: string): void {
  const make = r.connection.engine.recoder(source.toLowerCase(), name.toLowerCase());
  if (make === null) {
    r.connection.engine.logError(r, 'error', `no "charset_map" between the charsets "${source}" and "${name}"`);
    return;
  }
  // Ranges would be those of the file.
  r.allowRanges = false;
  if (isUtf8(source) || isUtf8(name)) r.contentLengthOut = -1;
  r.gzipLevel = 0;
  r.bodyFilters.push((upstream) => {
    const recoder = make();
    return new MapStream(
      upstream,
      (piece) => recoder.take(piece),
      () => recoder.end(),
    );
  });
}
