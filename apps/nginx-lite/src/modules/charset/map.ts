/**
 * Directive `charset_map FROM TO { byte target; … }`.
 *
 * What it is for: reads the block into a CharsetMap, and checks that every pair of charsets that a location recodes between has one.
 */

import type { CharsetMap, LocConf } from '../../conf/model.ts';
import type { ConfContext } from '../../conf/parser.ts';
import { isUtf8 } from './recode.ts';

const hex = (text: string): number | null => (/^[0-9a-f]+$/i.test(text) ? Number.parseInt(text, 16) : null);

export function setCharsetMap(cf: ConfContext, args: string[]): undefined {
  const [, from = '', to = ''] = args.map((each) => each.toLowerCase());
  if (from === to) cf.fail(`"charset_map" between the same charsets "${args[1]}" and "${args[2]}"`);
  const { charsetMaps } = cf.builder;
  if (charsetMaps.some((each) => (each.from === from && each.to === to) || (each.from === to && each.to === from)))
    cf.fail(`duplicate "charset_map" between "${args[1]}" and "${args[2]}"`);
  const map: CharsetMap = { from, to, rows: [] };
  const utf8 = isUtf8(to);
  charsetMaps.push(map);
  cf.block(cf.level, (inner, words) => {
    if (words.length !== 2) return 'invalid parameters number';
    const [source = '', target = ''] = words;
    const bad = (text: string): never => inner.fail(`invalid value "${text}"`);
    const byte = hex(source);
    if (byte === null || byte > 255) return bad(source);
    const value = hex(target);
    if (value === null || (!utf8 && value > 255) || (utf8 && target.length % 2 === 1)) return bad(target);
    const bytes = utf8 ? [...Buffer.from(target, 'hex')] : [value];
    if (utf8 && !isCharacter(bytes)) return bad(target);
    map.rows.push({ byte, target: bytes });
    return undefined;
  });
}

/** Whether a sequence is one character, of those that nginx has tables for. */
function isCharacter(sequence: readonly number[]): boolean {
  const text = Buffer.from(sequence).toString('utf8');
  return text.length === 1 && text !== '\ufffd';
}

/** The pair of constant charsets that a location recodes between without a table; null: all is well. */
export function missingMap(maps: readonly CharsetMap[], conf: LocConf): [string, string] | null {
  const { charset, sourceCharset } = conf;
  if (typeof charset !== 'string' || typeof sourceCharset !== 'string') return null;
  if (charset === 'off' || sourceCharset === 'off' || charset.toLowerCase() === sourceCharset.toLowerCase())
    return null;
  const [from, to] = [sourceCharset.toLowerCase(), charset.toLowerCase()];
  const known = maps.some((each) => (each.from === from && each.to === to) || (each.from === to && each.to === from));
  return known ? null : [sourceCharset, charset];
}
