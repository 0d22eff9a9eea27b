/** Directives of the headers module: `add_header`, `expires`. add_header is inherited only where a level sets none. */

import { Args, type Directive, HTTP_ALL_IF } from '../../conf/directives.ts';
import type { AddHeader, Expires, ExpiresTemplate, LocConf } from '../../conf/model.ts';
import type { ConfContext } from '../../conf/parser.ts';
import { loc } from '../../conf/setters.ts';
import { parseExpiresText } from './expires.ts';

export const HEADERS_DEFAULTS: Pick<LocConf, 'addHeaders' | 'addTrailers' | 'expires'> = {
  addTrailers: [],
  addHeaders: [],
  expires: { kind: 'off' },
};

function parseExpires(cf: ConfContext, args: string[]): Expires | ExpiresTemplate {
  const modified = args.length === 3;
  if (modified && args[1] !== 'modified') cf.reject('invalid value');
  const text = cf.builder.template(cf, args.at(-1) as string);
  if (typeof text !== 'string') return { kind: 'variable', modified, text };
  const expires = parseExpiresText(text, modified);
  return 'error' in expires ? cf.reject(expires.error) : expires;
}

/** `NAME VALUE [always]`. */
function headerOf(cf: ConfContext, args: string[]): AddHeader {
  const [, name = '', text = '', always] = args;
  const value = cf.builder.template(cf, text);
  if (always !== undefined && always !== 'always') cf.fail(`invalid parameter "${always}"`);
  return { name, value, always: always !== undefined };
}

export const HEADERS_DIRECTIVES: Directive[] = [
  { name: 'expires', contexts: HTTP_ALL_IF, args: Args.Take12, set: loc('expires', parseExpires) },
  {
    name: 'add_trailer',
    contexts: HTTP_ALL_IF,
    args: Args.Take23,
    set(cf, args) {
      (cf.level.loc.addTrailers ??= []).push(headerOf(cf, args));
      return undefined;
    },
  },
  {
    name: 'add_header',
    contexts: HTTP_ALL_IF,
    args: Args.Take23,
    set(cf, args) {
      (cf.level.loc.addHeaders ??= []).push(headerOf(cf, args));
      return undefined;
    },
  },
];
