/** Directives of the charset module: naming a charset, and recoding to it. */

import { Args, Context, type Directive, HTTP_ALL, HTTP_ALL_IF } from '../../conf/directives.ts';
import type { LocConf, Template } from '../../conf/model.ts';
import { flag, loc, type Parse } from '../../conf/setters.ts';
import { setTypes } from '../gzip/conf.ts';
import { variableName } from '../map/conf.ts';
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

/** A name, or all of it one variable. */
const charsetName: Parse<Template> = (cf, args) => {
  const text = args[1] as string;
  if (!text.startsWith('$')) return text;
  const name = variableName(cf, text);
  cf.builder.namedVariables.add(name);
  return [{ name }];
};

export const CHARSET_DIRECTIVES: Directive[] = [
  {
    name: 'charset',
    contexts: HTTP_ALL_IF,
    args: Args.Take1,
    set: loc('charset', charsetName),
  },
  {
    name: 'source_charset',
    contexts: HTTP_ALL_IF,
    args: Args.Take1,
    set: loc('sourceCharset', charsetName),
  },
  { name: 'charset_map', contexts: Context.Http, args: Args.Take2, block: true, set: setCharsetMap },
  { name: 'charset_types', contexts: HTTP_ALL, args: Args.OneOrMore, set: setTypes('charsetTypes', ['text/html']) },
  { name: 'override_charset', contexts: HTTP_ALL_IF, args: Args.Flag, set: loc('overrideCharset', flag) },
];
