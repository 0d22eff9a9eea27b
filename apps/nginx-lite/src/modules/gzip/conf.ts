/** Directives of the gzip, gzip_static and gunzip modules. */

import { Args, type Directive, HTTP_ALL, HTTP_ALL_IF } from '../../conf/directives.ts';
import type { GzipProxied, LocConf } from '../../conf/model.ts';
import type { ConfContext } from '../../conf/parser.ts';
import { accept, anyOf, buffers, flag, loc, oneOf, size } from '../../conf/setters.ts';
import { parseNumber } from '../../conf/units.ts';

export const GZIP_DEFAULTS: Pick<
  LocConf,
  | 'gzip'
  | 'gzipTypes'
  | 'gzipMinLength'
  | 'gzipCompLevel'
  | 'gzipHttpVersion'
  | 'gzipVary'
  | 'gzipProxied'
  | 'gzipDisable'
  | 'gzipStatic'
  | 'gunzip'
> = {
  gzip: false,
  gzipTypes: ['text/html'],
  gzipMinLength: 20,
  gzipCompLevel: 1,
  gzipHttpVersion: 1001,
  gzipVary: false,
  gzipProxied: ['off'],
  gzipDisable: [],
  gzipStatic: 'off',
  gunzip: false,
};

const PROXIED: GzipProxied[] = [
  'off',
  'expired',
  'no-cache',
  'no-store',
  'private',
  'no_last_modified',
  'no_etag',
  'auth',
  'any',
];

/** MIME types of a filter: `text/html` is always one of them; `*` stands for all. */
export function setTypes(
  key: 'gzipTypes' | 'charsetTypes' | 'additionTypes' | 'subFilterTypes' | 'ssiTypes',
  defaults: readonly string[],
) {
  return (cf: ConfContext, args: string[]): undefined => {
    const types = (cf.level.loc[key] ??= [...defaults]);
    for (const word of args.slice(1)) {
      const type = word.toLowerCase();
      // All the rest is said with it.
      if (types.includes('*')) return;
      if (type === '*') {
        types.push('*');
        return;
      }
      if (types.includes(type)) cf.warn(`duplicate MIME type "${type}"`);
      else types.push(type);
    }
  };
}

/** Sizes that zlib takes: a power of two. */
function powerOfTwo(words: string) {
  return (cf: ConfContext, args: string[]): number => {
    const bytes = size(cf, args);
    const most = words.endsWith('32k') ? 32 * 1024 : 128 * 1024;
    const known = bytes >= 512 && bytes <= most && (bytes & (bytes - 1)) === 0;
    return known ? bytes : cf.reject(`must be ${words}`);
  };
}

function setDisable(cf: ConfContext, args: string[]): undefined {
  const patterns = (cf.level.loc.gzipDisable ??= []);
  for (const word of args.slice(1)) {
    if (word === 'msie6') patterns.push(/MSIE [4-6]\.(?!.*SV1)/);
    else patterns.push(cf.builder.pattern(cf, word, true));
  }
}

export const GZIP_DIRECTIVES: Directive[] = [
  { name: 'gzip', contexts: HTTP_ALL_IF, args: Args.Flag, set: loc('gzip', flag) },
  { name: 'gzip_types', contexts: HTTP_ALL, args: Args.OneOrMore, set: setTypes('gzipTypes', ['text/html']) },
  { name: 'gzip_min_length', contexts: HTTP_ALL, args: Args.Take1, set: loc('gzipMinLength', size) },
  {
    name: 'gzip_comp_level',
    contexts: HTTP_ALL,
    args: Args.Take1,
    set: loc('gzipCompLevel', (cf, args) => {
      const level = parseNumber(args[1] as string) ?? cf.reject('invalid number');
      return level < 1 || level > 9 ? cf.fail('value must be between 1 and 9') : level;
    }),
  },
  {
    name: 'gzip_http_version',
    contexts: HTTP_ALL,
    args: Args.Take1,
    set: loc('gzipHttpVersion', (cf, args) => (oneOf(['1.0', '1.1'])(cf, args) === '1.0' ? 1000 : 1001)),
  },
  { name: 'gzip_vary', contexts: HTTP_ALL, args: Args.Flag, set: loc('gzipVary', flag) },
  { name: 'gzip_proxied', contexts: HTTP_ALL, args: Args.OneOrMore, set: anyOf('gzipProxied', PROXIED) },
  { name: 'gzip_disable', contexts: HTTP_ALL, args: Args.OneOrMore, set: setDisable },
  // Memory of the compressor is Node's business.
  { name: 'gzip_buffers', contexts: HTTP_ALL, args: Args.Take2, set: accept(buffers) },
  {
    name: 'gzip_window',
    contexts: HTTP_ALL,
    args: Args.Take1,
    set: accept(powerOfTwo('512, 1k, 2k, 4k, 8k, 16k, or 32k')),
  },
  {
    name: 'gzip_hash',
    contexts: HTTP_ALL,
    args: Args.Take1,
    set: accept(powerOfTwo('512, 1k, 2k, 4k, 8k, 16k, 32k, 64k, or 128k')),
  },
  { name: 'postpone_gzipping', contexts: HTTP_ALL, args: Args.Take1, set: accept(size) },
  { name: 'gzip_no_buffer', contexts: HTTP_ALL, args: Args.Flag, set: accept(flag) },
  { name: 'gzip_static', contexts: HTTP_ALL, args: Args.Take1, set: loc('gzipStatic', oneOf(['off', 'on', 'always'])) },
  { name: 'gunzip', contexts: HTTP_ALL, args: Args.Flag, set: loc('gunzip', flag) },
  { name: 'gunzip_buffers', contexts: HTTP_ALL, args: Args.Take2, set: accept(buffers) },
];
