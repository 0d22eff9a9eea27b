/**
 * Directive of the map module: `map SOURCE $variable { … }`.
 *
 * What it is for: reads the block into a MapDecl. Not its job: looking values up (lookup.ts).
 */

import { Args, Context, type Directive } from '../../conf/directives.ts';
import { hostnameKind } from '../../conf/hostname-keys.ts';
import type { MapDecl, Template } from '../../conf/model.ts';
import type { ConfContext } from '../../conf/parser.ts';
import { accept, number } from '../../conf/setters.ts';

/** Name of the variable that a block defines. */
export function variableName(cf: ConfContext, given: string): string {
  if (!given.startsWith('$') || given.length === 1) cf.fail(`invalid variable name "${given}"`);
  return given.slice(1).toLowerCase();
}

/** A value of a block: text, or text with variables. */
function setMap(cf: ConfContext, args: string[]): undefined {
  const source = cf.builder.template(cf, args[1] as string);
  const name = variableName(cf, args[2] as string);
  const decl: MapDecl = {
    kind: 'map',
    name,
    source,
    hostnames: false,
    volatile: false,
    exact: {},
    heads: {},
    tails: {},
    regexes: [],
    fallback: '',
  };
  cf.builder.defineVariable(cf, decl);
  let hasDefault = false;
  cf.block(cf.level, (inner, words) => {
    const [key = '', value] = words;
    if (words.length === 1 && key === 'hostnames') {
      decl.hostnames = true;
      return undefined;
    }
    if (words.length === 1 && key === 'volatile') {
      decl.volatile = true;
      return undefined;
    }
    if (words.length !== 2 || value === undefined) return 'invalid number of the map parameters';
    if (key === 'include') {
      inner.include(value);
      return undefined;
    }
    const result = inner.builder.template(inner, value);
    if (key === 'default') {
      if (hasDefault) return 'duplicate default map parameter';
      hasDefault = true;
      decl.fallback = result;
      return undefined;
    }
    if (key.startsWith('~')) {
      const caseless = key.startsWith('~*');
      const pattern = key.slice(caseless ? 2 : 1);
      decl.regexes.push({ regex: inner.builder.pattern(inner, pattern, caseless), value: result });
      return undefined;
    }
    addKey(inner, decl, key.startsWith('\\') ? key.slice(1) : key, result);
    return undefined;
  });
}

function addKey(cf: ConfContext, decl: MapDecl, given: string, value: Template): void {
  const key = given.toLowerCase();
  const put = (table: Record<string, Template>, name: string): void => {
    if (Object.hasOwn(table, name)) cf.fail(`conflicting parameter "${key}"`);
    table[name] = value;
  };
  if (!decl.hostnames) {
    put(decl.exact, key);
    return;
  }
  const { kind, base } = hostnameKind(key) ?? cf.fail(`invalid hostname or wildcard "${given}"`);
  if (kind === 'exact' || kind === 'both') put(decl.exact, base);
  if (kind === 'head' || kind === 'both') put(decl.heads, base);
  if (kind === 'tail') put(decl.tails, base);
}

export const MAP_DIRECTIVES: Directive[] = [
  { name: 'map', contexts: Context.Http, args: Args.Take2, block: true, set: setMap },
  { name: 'map_hash_max_size', contexts: Context.Http, args: Args.Take1, set: accept(number) },
  { name: 'map_hash_bucket_size', contexts: Context.Http, args: Args.Take1, set: accept(number) },
];
