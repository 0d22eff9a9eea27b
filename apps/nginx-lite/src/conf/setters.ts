/**
 * Handlers for the plain directives: one value, one field.
 *
 * What it is for: nginx's ngx_conf_set_*_slot: parse, refuse duplicates, store. Invariant: the texts are nginx's.
 */

import type { MainSettings } from './builder.ts';
import type { Handler } from './directives.ts';
import type { LocConf, SrvConf } from './model.ts';
import type { ConfContext } from './parser.ts';
import { parseFlag, parseNumber, parseOffset, parseSize, parseTimeMs, parseTimeSec } from './units.ts';

/** Turns a directive's words (its name first) into its value, or rejects them. */
export type Parse<V> = (cf: ConfContext, args: string[]) => V;

function store<T, K extends keyof T>(conf: Partial<T>, key: K, cf: ConfContext, args: string[], parse: Parse<T[K]>) {
  if (conf[key] !== undefined) return 'is duplicate';
  conf[key] = parse(cf, args);
  return undefined;
}

/** Field of the location level. */
export function loc<K extends keyof LocConf>(key: K, parse: Parse<LocConf[K]>): Handler {
  return (cf, args) => store<LocConf, K>(cf.level.loc, key, cf, args, parse);
}

/** Field of the server level. */
export function srv<K extends keyof SrvConf>(key: K, parse: Parse<SrvConf[K]>): Handler {
  return (cf, args) => store<SrvConf, K>(cf.level.srv, key, cf, args, parse);
}

/** Field of main or events. */
export function main<K extends keyof MainSettings>(key: K, parse: Parse<NonNullable<MainSettings[K]>>): Handler {
  return (cf, args) => {
    if (cf.builder.main[key] !== undefined) return 'is duplicate';
    cf.builder.main[key] = parse(cf, args);
    return undefined;
  };
}

/** Parsed and validated, without effect here. */
export function accept(parse: Parse<unknown>): Handler {
  return (cf, args) => {
    const name = args[0] as string;
    if (cf.level.seen.has(name)) return 'is duplicate';
    cf.level.seen.add(name);
    parse(cf, args);
    return undefined;
  };
}

export const flag: Parse<boolean> = (cf, args) => {
  const value = parseFlag(args[1] as string);
  if (value !== null) return value;
  return cf.fail(`invalid value "${args[1]}" in "${args[0]}" directive, it must be "on" or "off"`);
};

export const number: Parse<number> = (cf, args) => parseNumber(args[1] as string) ?? cf.reject('invalid number');
export const size: Parse<number> = (cf, args) => parseSize(args[1] as string) ?? cf.reject('invalid value');
export const offset: Parse<number> = (cf, args) => parseOffset(args[1] as string) ?? cf.reject('invalid value');
export const msec: Parse<number> = (cf, args) => parseTimeMs(args[1] as string) ?? cf.reject('invalid value');
export const sec: Parse<number> = (cf, args) => parseTimeSec(args[1] as string) ?? cf.reject('invalid value');
export const word: Parse<string> = (_cf, args) => args[1] as string;

/** Two words: a count and a size. */
export const buffers: Parse<{ count: number; bytes: number }> = (cf, args) => {
  const count = parseNumber(args[1] as string);
  const bytes = parseSize(args[2] as string);
  if (count === null || count === 0 || bytes === null || bytes === 0) return cf.reject('invalid value');
  return { count, bytes };
};

/** Any of some words, which several lines of one level may add to. */
export function anyOf(key: 'keepaliveDisable' | 'useridFlags' | 'gzipProxied', known: readonly string[]): Handler {
  return (cf, args) => {
    const given = (cf.level.loc[key] ??= []) as string[];
    for (const each of args.slice(1)) {
      const found = known.find((one) => one === each.toLowerCase()) ?? cf.fail(`invalid value "${each}"`);
      if (given.includes(found)) cf.warn(`duplicate value "${each}"`);
      else given.push(found);
    }
    return undefined;
  };
}

export function oneOf<V extends string>(words: readonly V[]): Parse<V> {
  return (cf, args) =>
    words.find((each) => each === (args[1] as string).toLowerCase()) ?? cf.fail(`invalid value "${args[1]}"`);
}
