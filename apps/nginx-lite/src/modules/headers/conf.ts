/** Directives of the headers module: `add_header`, `expires`. add_header is inherited only where a level sets none. */

import { Args, type Directive, HTTP_ALL_IF } from '../../conf/directives.ts';
import type { Expires, LocConf } from '../../conf/model.ts';
import type { ConfContext } from '../../conf/parser.ts';
import { loc } from '../../conf/setters.ts';
import { parseTimeSec } from '../../conf/units.ts';

export const HEADERS_DEFAULTS: Pick<LocConf, 'addHeaders' | 'addTrailers' | 'expires'> = {
  addTrailers: [],
  addHeaders: [],
  expires: { kind: 'off' },
};

function parseExpires(cf: ConfContext, args: string[]): Expires {
  const modified = args.length === 3;
  if (modified && args[1] !== 'modified') cf.reject('invalid value');
  const text = args.at(-1) as string;
  if (text.startsWith('@')) {
    const seconds = parseTimeSec(text.slice(1));
    if (seconds === null || modified) cf.reject('invalid value');
    return seconds > 86400 ? cf.reject('daily time value must be less than 24 hours') : { kind: 'daily', seconds };
  }
  if (!modified && (text === 'off' || text === 'epoch' || text === 'max')) return { kind: text };
  const sign = text.startsWith('-') ? -1 : 1;
  const seconds = parseTimeSec(/^[-+]/.test(text) ? text.slice(1) : text);
  if (seconds === null) cf.reject('invalid value');
  return { kind: modified ? 'modified' : 'access', seconds: sign * seconds };
}

export const HEADERS_DIRECTIVES: Directive[] = [
  { name: 'expires', contexts: HTTP_ALL_IF, args: Args.Take12, set: loc('expires', parseExpires) },
  {
    name: 'add_trailer',
    contexts: HTTP_ALL_IF,
    args: Args.Take23,
    set(cf, args) {
      if (args.length === 4 && args[3] !== 'always') cf.fail(`invalid parameter "${args[3]}"`);
      (cf.level.loc.addTrailers ??= []).push({
        name: args[1] as string,
        value: cf.builder.template(cf, args[2] as string),
        always: args.length === 4,
      });
      return undefined;
    },
  },
  {
    name: 'add_header',
    contexts: HTTP_ALL_IF,
    args: Args.Take23,
    set(cf, args) {
      if (args.length === 4 && args[3] !== 'always') cf.fail(`invalid parameter "${args[3]}"`);
      (cf.level.loc.addHeaders ??= []).push({
        name: args[1] as string,
        value: cf.builder.template(cf, args[2] as string),
        always: args.length === 4,
      });
      return undefined;
    },
  },
];
