/** secure_link: links that carry a proof, and perhaps an end. $secure_link is `1`, `0` (too late) or not found. */

import { createHash, timingSafeEqual } from 'node:crypto';
import { Args, type Directive, type Handler, HTTP_ALL } from '../../conf/directives.ts';
import type { LocConf } from '../../conf/model.ts';
import type { ConfContext } from '../../conf/parser.ts';
import { loc, word } from '../../conf/setters.ts';
import { decodeBase64 } from '../../http/bytes.ts';
import type { Request } from '../../http/request.ts';

export const SECURE_LINK_DEFAULTS: Pick<LocConf, 'secureLink' | 'secureLinkMd5' | 'secureLinkSecret'> = {
  secureLink: null,
  secureLinkMd5: null,
  secureLinkSecret: '',
};

/** One level is of one style; nginx says so when the file was read. */
function unmixed(key: 'secureLink' | 'secureLinkMd5' | 'secureLinkSecret', set: Handler): Handler {
  return (cf, args) => {
    const { loc: own } = cf.level;
    const others = key === 'secureLinkSecret' ? [own.secureLink, own.secureLinkMd5] : [own.secureLinkSecret];
    if (others.some((each) => each !== undefined)) cf.builder.secureLinksMixed = true;
    return set(cf, args);
  };
}

/** Where the file was read. */
export function checkSecureLinks(cf: ConfContext): void {
  if (cf.builder.secureLinksMixed)
    cf.fail('"secure_link_secret" cannot be mixed with "secure_link" and "secure_link_md5"');
}

export const SECURE_LINK_DIRECTIVES: Directive[] = [
  {
    name: 'secure_link',
    contexts: HTTP_ALL,
    args: Args.Take1,
    set: unmixed(
      'secureLink',
      loc('secureLink', (cf, args) => cf.builder.template(cf, args[1] as string)),
    ),
  },
  {
    name: 'secure_link_md5',
    contexts: HTTP_ALL,
    args: Args.Take1,
    set: unmixed(
      'secureLinkMd5',
      loc('secureLinkMd5', (cf, args) => cf.builder.template(cf, args[1] as string)),
    ),
  },
  {
    name: 'secure_link_secret',
    contexts: HTTP_ALL,
    args: Args.Take1,
    set: unmixed('secureLinkSecret', loc('secureLinkSecret', word)),
  },
];

const DIGEST_BYTES = 16;
const BASE64_MAX = 24;
/** Largest time_t. */
const TIME_MAX = 2 ** 63 - 1;

export function secureLink(r: Request): string | null {
  const { location } = r;
  if (location.conf.secureLinkSecret !== '') return oldStyle(r, location.conf.secureLinkSecret);
  if (location.secureLink === null || location.secureLinkMd5 === null) return null;
  const text = location.secureLink(r);
  const comma = text.indexOf(',');
  const proof = comma < 0 ? text : text.slice(0, comma);
  let expires = 0;
  if (comma >= 0) {
    expires = /^\d+$/.test(text.slice(comma + 1)) ? Number(text.slice(comma + 1)) : 0;
    if (expires <= 0 || expires > TIME_MAX) return null;
    r.secureExpires = text.slice(comma + 1);
  }
  if (proof.length > BASE64_MAX) return null;
  const given = decodeBase64(proof, true);
  if (given === null || given.length !== DIGEST_BYTES) return null;
  const wanted = createHash('md5').update(location.secureLinkMd5(r), 'latin1').digest();
  if (!timingSafeEqual(given, wanted)) return null;
  if (expires === 0) return '1';
  // A link that is good now is not good for ever.
  r.impure();
  return expires < r.connection.engine.nowSeconds() ? '0' : '1';
}

/** `/prefix/HASH/link`, with the hash of link and secret. */
function oldStyle(r: Request, secret: string): string | null {
  const parts = /^\/[^/]*\/([^/]*)\/(.+)$/s.exec(r.text(r.uriStart, r.uriEnd));
  const [, hash = '', link = ''] = parts ?? [];
  if (!/^[0-9a-f]{32}$/i.test(hash)) return null;
  const wanted = createHash('md5')
    .update(link + secret, 'latin1')
    .digest();
  return timingSafeEqual(Buffer.from(hash, 'hex'), wanted) ? link : null;
}
