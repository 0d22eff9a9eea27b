/** Whether a client may be sent gzip: ngx_http_gzip_ok. Follows from the head and the answer's own header alone. */

import { parseDate } from '../../http/date.ts';
import { HeaderId } from '../../http/headers.ts';
import type { Request } from '../../http/request.ts';

export function acceptsGzip(r: Request): boolean {
  // What becomes a part of another answer has to be plain.
  if (r.parent !== null) return false;
  const accepted = r.header(HeaderId.AcceptEncoding);
  if (accepted === null || accepted.length < 4) return false;
  if (!accepted.startsWith('gzip,') && !listsGzip(accepted)) return false;
  const { conf } = r.location;
  if (r.version < conf.gzipHttpVersion) return false;
  if (r.header(HeaderId.Via) !== null && !proxied(r)) return false;
  if (conf.gzipDisable.length === 0) return true;
  const agent = r.header(HeaderId.UserAgent);
  return agent === null || !conf.gzipDisable.some((pattern) => pattern.test(agent));
}

/** `gzip` in a list, and not with a weight of zero. */
export function listsGzip(text: string): boolean {
  for (let at = text.toLowerCase().indexOf('gzip'); at >= 0; at = text.toLowerCase().indexOf('gzip', at + 4)) {
    if (at > 0 && text[at - 1] !== ',' && text[at - 1] !== ' ') continue;
    const rest = text.slice(at + 4);
    if (rest === '' || rest.startsWith(',')) return true;
    const weight = /^ *(;| *$| *,)(.*)$/.exec(rest);
    if (weight === null) {
      if (rest.startsWith(' ')) return true;
      continue;
    }
    if (weight[1] !== ';' || /^ *$/.test(weight[2] as string)) return true;
    const value = /^ *[qQ]=([01](?:\.[0-9]{0,3})?)(?:[ ,]|$)/.exec(weight[2] as string);
    if (value === null) return false;
    const quality = Number(value[1]);
    return quality > 0 && quality <= 1;
  }
  return false;
}

/** Answers to a proxy (it sent Via). */
function proxied(r: Request): boolean {
  const rules = r.location.conf.gzipProxied;
  if (rules.includes('off')) return false;
  if (rules.includes('any')) return true;
  if (rules.includes('auth') && r.header(HeaderId.Authorization) !== null) return true;
  const out = (name: string): string[] =>
    r.extra.filter((_, i) => i % 2 === 1 && r.extra[i - 1]?.toLowerCase() === name);
  const [expires] = out('expires');
  if (expires !== undefined) {
    if (!rules.includes('expired')) return false;
    const at = parseDate(expires);
    return at >= 0 && at < r.connection.engine.nowSeconds();
  }
  const control = out('cache-control').join(',').toLowerCase();
  if (control !== '') {
    return (['no-cache', 'no-store', 'private'] as const).some(
      (word) => rules.includes(word) && control.includes(word),
    );
  }
  // A file's own date does not count: nginx has it as a number only.
  if (rules.includes('no_last_modified') && out('last-modified').length > 0) return false;
  return !(rules.includes('no_etag') && r.etag !== '');
}
