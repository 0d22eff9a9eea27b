/** Directives of the charset module: naming a charset, and recoding to it. */

import { Args, Context, type Directive, HTTP_ALL, HTTP_ALL_IF } from '../../conf/directives.ts';
import type { LocConf } from '../../conf/model.ts';
import { flag, loc } from '../../conf/setters.ts';
import { setTypes } from '../gzip/conf.ts';
import { setCharsetMap } from './map.ts';

const TYPES = [
  'text/html',
  'text/xml',
  'text/plain',
  'text/vnd.wap.wml',
  'application/javascript',
  'application/rss+xml',
];

export const CHARSET_DEFAULTS: Pick<LocConf, 'charset' | 'sourceCharset' | 'overrideCharset' | 'charsetTypes'> = {
  charset: 'off',
  sourceCharset: 'off',
  overrideCharset: false,
  charsetTypes: TYPES,
};

export const CHARSET_DIRECTIVES: Directive[] = [
  {
    name: 'charset',
    contexts: HTTP_ALL_IF,
    args: Args.Take1,
    set: loc('charset', (cf, args) => cf.builder.template(cf, args[1] as string)),
  },
  {
    name: 'source_charset',
    contexts: HTTP_ALL_IF,
    args: Args.Take1,
    set: loc('sourceCharset', (cf, args) => cf.builder.template(cf, args[1] as string)),
  },
  { name: 'charset_map', contexts: Context.Http, args: Args.Take2, block: true, set: setCharsetMap },
  { name: 'charset_types', contexts: HTTP_ALL, args: Args.OneOrMore, set: setTypes('charsetTypes', ['text/html']) },
  { name: 'override_charset', contexts: HTTP_ALL_IF, args: Args.Flag, set: loc('overrideCharset', flag) },
];
