/** split_clients: shares of clients, by a hash of a text. */

import { Args, Context, type Directive } from '../../conf/directives.ts';
import type { SplitDecl } from '../../conf/model.ts';
import type { Request } from '../../http/request.ts';
import { compileTemplate } from '../../http/template.ts';
import { variableName } from '../map/conf.ts';

/** Hundredths of a percent in the whole. */
const WHOLE = 10_000;
const HASH_MAX = 0xffffffff;

export const SPLIT_CLIENTS_DIRECTIVES: Directive[] = [
  {
    name: 'split_clients',
    contexts: Context.Http,
    args: Args.Take2,
    block: true,
    set(cf, args) {
      const source = cf.builder.template(cf, args[1] as string);
      const decl: SplitDecl = { kind: 'split', name: variableName(cf, args[2] as string), source, parts: [] };
      cf.builder.defineVariable(cf, decl);
      const shares: { percent: number; value: string }[] = [];
      // A row without a value has that of the row before: nginx does not count its words, and finds what was there.
      let value = args[1] as string;
      cf.block(cf.level, (inner, words) => {
        const share = words[0] ?? '';
        const percent = share === '*' ? 0 : (percentOf(share) ?? inner.fail(`invalid percent value "${share}"`));
        value = words[1] ?? value;
        shares.push({ percent, value });
        return undefined;
      });
      let sum = 0;
      let last = 0;
      for (const { percent, value } of shares) {
        sum = percent === 0 ? WHOLE : sum + percent;
        if (sum > WHOLE) cf.fail('percent total is greater than 100%');
        if (percent > 0) last += Math.floor((percent * HASH_MAX) / WHOLE);
        decl.parts.push({ below: percent === 0 ? -1 : last, value });
      }
      return undefined;
    },
  },
];

/** `12.34%` in hundredths; null: it is none, or nothing. */
function percentOf(text: string): number | null {
  const digits = /^(\d*)(?:\.(\d{0,2}))?%$/.exec(text);
  if (digits === null) return null;
  const percent = Number(digits[1]) * 100 + Number((digits[2] ?? '').padEnd(2, '0'));
  return percent === 0 || !Number.isSafeInteger(percent) ? null : percent;
}

export function splitGetter(decl: SplitDecl): (r: Request) => string {
  const source = compileTemplate(decl.source);
  return (r) => {
    const hash = murmurHash2(source(r));
    for (const part of decl.parts) if (part.below < 0 || hash < part.below) return part.value;
    return '';
  };
}

/** MurmurHash2 (Austin Appleby) with nginx's seed, of latin1 text; unsigned. */
export function murmurHash2(text: string): number {
  const M = 0x5bd1e995;
  let left = text.length;
  let hash = 0 ^ left;
  let at = 0;
  while (left >= 4) {
    let k =
      text.charCodeAt(at) |
      (text.charCodeAt(at + 1) << 8) |
      (text.charCodeAt(at + 2) << 16) |
      (text.charCodeAt(at + 3) << 24);
    k = Math.imul(k, M);
    k ^= k >>> 24;
    k = Math.imul(k, M);
    hash = Math.imul(hash, M) ^ k;
    at += 4;
    left -= 4;
  }
  if (left >= 3) hash ^= text.charCodeAt(at + 2) << 16;
  if (left >= 2) hash ^= text.charCodeAt(at + 1) << 8;
  if (left >= 1) hash = Math.imul(hash ^ text.charCodeAt(at), M);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, M);
  return (hash ^ (hash >>> 15)) >>> 0;
}
