/** charset: names it behind the type of the answer, and recodes the body to it. */

import { Code } from '../../http/codes.ts';
import type { Request } from '../../http/request.ts';
import { MapStream } from '../../http/stream.ts';
import { mainRequest } from '../../http/subrequest.ts';
import { typeIs } from '../gzip/filter.ts';
import { isUtf8 } from './recode.ts';

/** What an answer's charset is written behind. */
const SUFFIX = '; charset=';

export function charsetFilter(r: Request): number {
  const { location } = r;
  const { charset, charsetTypes, overrideCharset } = location.conf;
  if (charset === 'off' || r.contentType === '') return Code.Ok;
  // What has a charset of its own (a listing in JSON) is not asked for its type.
  if (r.charset === '' ? !typeIs(r, charsetTypes) : !overrideCharset) return Code.Ok;
  applyCharset(r, r.charset.slice(SUFFIX.length), location.charset(r));
  return Code.Ok;
}

/** A part of an answer is recoded to the charset of the whole, whatever its own type. */
export function charsetPartFilter(r: Request): number {
  const { charset } = mainRequest(r);
  if (charset !== '') applyCharset(r, '', charset.slice(SUFFIX.length));
  return Code.Ok;
}

/** Makes the answer `name`; `own`: what it is in, where it says so by itself. */
function applyCharset(r: Request, own: string, name: string): void {
  const source = own !== '' ? own : r.location.conf.sourceCharset === 'off' ? name : r.location.sourceCharset(r);
  if (source.toLowerCase() !== name.toLowerCase()) {
    // Nobody can read what is packed.
    if (r.contentEncoding !== '' || !recode(r, source, name)) return;
  }
  // Browsers of old took a redirect's charset for the next page's.
  const named = name !== '' && r.status !== 301 && r.status !== 302;
  if (r.parent === null) r.charset = named ? SUFFIX + name : '';
}

/** False where no table is between the two. */
function recode(r: Request, source: string, name: string): boolean {
  const make = r.connection.engine.recoder(source.toLowerCase(), name.toLowerCase());
  if (make === null) {
    r.connection.engine.logError(r, 'error', `no "charset_map" between the charsets "${source}" and "${name}"`);
    return false;
  }
  if (r.parent === null && (isUtf8(source) || isUtf8(name))) r.contentLengthOut = -1;
  r.gzipLevel = 0;
  r.bodyFilters.push((upstream) => {
    const recoder = make();
    return new MapStream(
      upstream,
      (piece) => recoder.take(piece),
      () => recoder.end(),
    );
  });
  return true;
}
