/**
 * sub_filter: replaces strings in the body, whatever their case.
 *
 * What it is for: works on pieces, holding back only what may be the beginning of a match. Invariant: the result does not
 * depend on where the body was cut. The fast way: the answer follows from head and file (words with other variables mark the
 * request themselves).
 */

import { Args, type Directive, HTTP_ALL } from '../../conf/directives.ts';
import type { LocConf } from '../../conf/model.ts';
import { flag, loc } from '../../conf/setters.ts';
import { latin1Bytes, lowerCase } from '../../http/bytes.ts';
import { Code } from '../../http/codes.ts';
import type { Request } from '../../http/request.ts';
import { MapStream } from '../../http/stream.ts';
import { setTypes } from '../gzip/conf.ts';
import { bodyChanges, typeIs } from '../gzip/filter.ts';

export const SUB_FILTER_DEFAULTS: Pick<
  LocConf,
  'subFilters' | 'subFilterTypes' | 'subFilterOnce' | 'subFilterLastModified'
> = { subFilters: [], subFilterTypes: ['text/html'], subFilterOnce: true, subFilterLastModified: false };

export const SUB_FILTER_DIRECTIVES: Directive[] = [
  {
    name: 'sub_filter',
    contexts: HTTP_ALL,
    args: Args.Take2,
    set(cf, args) {
      const [, search = '', replacement = ''] = args;
      if (search === '') cf.fail('empty search pattern');
      (cf.level.loc.subFilters ??= []).push({
        search: cf.builder.template(cf, search),
        replacement: cf.builder.template(cf, replacement),
      });
      return undefined;
    },
  },
  {
    name: 'sub_filter_types',
    contexts: HTTP_ALL,
    args: Args.OneOrMore,
    set: setTypes('subFilterTypes', ['text/html']),
  },
  { name: 'sub_filter_once', contexts: HTTP_ALL, args: Args.Flag, set: loc('subFilterOnce', flag) },
  { name: 'sub_filter_last_modified', contexts: HTTP_ALL, args: Args.Flag, set: loc('subFilterLastModified', flag) },
];

export function subFilter(r: Request): number {
  const { location } = r;
  const { conf } = location;
  if (location.subFilters.length === 0 || r.contentLengthOut === 0 || !typeIs(r, conf.subFilterTypes)) return Code.Ok;
  const pairs = location.subFilters
    .map((each) => ({ search: each.search(r), replacement: each.replacement(r) }))
    .filter((pair) => pair.search !== '');
  // Variables may leave nothing to look for.
  if (pairs.length === 0) return Code.Ok;
  if (conf.subFilterLastModified) bodyChanges(r);
  else {
    bodyChanges(r);
    r.clearLastModified();
    r.etag = '';
  }
  const once = conf.subFilterOnce;
  r.gzipLevel = 0;
  r.bodyFilters.push((upstream) => {
    const replacer = new Replacer(pairs, once);
    return new MapStream(
      upstream,
      (piece) =>
        latin1Bytes(replacer.take(Buffer.from(piece.buffer, piece.byteOffset, piece.length).toString('latin1'))),
      () => latin1Bytes(replacer.end()),
    );
  });
  return Code.Ok;
}

export interface Pair {
  search: string;
  replacement: string;
}

/**
 * Replaces in a text that comes in pieces: the leftmost match first, and of those the pair that was named first. As in nginx, a text
 * that ends within one pair is not searched any further for those that were named behind it.
 */
export class Replacer {
  private readonly pairs: { search: string; replacement: string; used: boolean }[];
  private readonly once: boolean;
  private readonly shortest: number;
  private held = '';

  constructor(pairs: readonly Pair[], once: boolean) {
    this.pairs = pairs.map((pair) => ({ ...pair, search: lowerCase(pair.search), used: false }));
    this.shortest = Math.min(...pairs.map((pair) => pair.search.length));
    this.once = once;
  }

  take(piece: string): string {
    return this.run(this.held + piece);
  }

  /** What was held back: every place of it is looked at, in nginx's order. */
  end(): string {
    const text = this.held;
    const lower = lowerCase(text);
    let out = '';
    let done = 0;
    for (let at = 0; lower.length - at >= this.shortest; at++) {
      const pair = this.pairs.find(
        (each) => !(this.once && each.used) && each.search.startsWith(lower.slice(at, at + each.search.length)),
      );
      if (pair === undefined) continue;
      if (pair.search.length > lower.length - at) break;
      out += text.slice(done, at) + pair.replacement;
      pair.used = true;
      done = at + pair.search.length;
      at = done - 1;
    }
    return out + text.slice(done);
  }

  private run(text: string): string {
    const lower = lowerCase(text);
    let out = '';
    let at = 0;
    for (;;) {
      const open = this.pairs.filter((pair) => !this.once || !pair.used);
      let found = -1;
      let winner: (typeof open)[number] | null = null;
      for (const pair of open) {
        const index = lower.indexOf(pair.search, at);
        if (index >= 0 && (found < 0 || index < found)) {
          found = index;
          winner = pair;
        }
      }
      // A match that has not come whole yet may begin before the one that was found.
      const unsure = Math.max(at, lower.length - longest(open) + 1);
      if (winner === null || found >= unsure) {
        const stop = Math.min(lower.length, winner === null ? unsure : Math.min(unsure, found));
        out += text.slice(at, stop);
        this.held = text.slice(stop);
        return out;
      }
      out += text.slice(at, found) + winner.replacement;
      winner.used = true;
      at = found + winner.search.length;
    }
  }
}

function longest(pairs: readonly Pair[]): number {
  return pairs.reduce((most, pair) => Math.max(most, pair.search.length), 1);
}
