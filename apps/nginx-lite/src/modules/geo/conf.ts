/**
 * geo: a value by the client's network.
 *
 * What it is for: `geo [$address] $variable { CIDR value; … }` with default, include, delete, proxy, proxy_recursive and
 * ranges. Invariant: the most specific network wins; a later entry replaces an earlier one of the same network (with a warning).
 */

import { Args, Context, type Directive } from '../../conf/directives.ts';
import type { GeoDecl } from '../../conf/model.ts';
import type { ConfContext } from '../../conf/parser.ts';
import type { Request } from '../../http/request.ts';
import { type Getter, getterOf } from '../../http/variables.ts';
import { binaryText, contains, type Network, parseAddress, parseNetwork } from '../../net/address.ts';
import { variableName } from '../map/conf.ts';
import { addressFromList } from '../realip/list.ts';

function setGeo(cf: ConfContext, args: string[]): undefined {
  const source = args.length === 3 ? variableName(cf, args[1] as string) : null;
  if (source !== null) cf.builder.usedVariables.add(source);
  const decl: GeoDecl = {
    kind: 'geo',
    name: variableName(cf, args.at(-1) as string),
    source,
    networks: [],
    ranges: [],
    useRanges: false,
    proxies: [],
    recursive: false,
    fallback: '',
  };
  cf.builder.defineVariable(cf, decl);
  cf.block(cf.level, (inner, words) => geoLine(inner, decl, words));
}

function geoLine(cf: ConfContext, decl: GeoDecl, words: string[]): string | undefined {
  const [key = '', value] = words;
  if (words.length === 1) {
    if (key === 'ranges') {
      if (decl.networks.length > 0) return 'the "ranges" directive must be the first directive inside "geo" block';
      decl.useRanges = true;
      return undefined;
    }
    if (key === 'proxy_recursive') {
      decl.recursive = true;
      return undefined;
    }
  }
  if (words.length !== 2 || value === undefined) return 'invalid number of the geo parameters';
  switch (key) {
    case 'include':
      cf.include(value);
      return undefined;
    case 'proxy': {
      const network = parseNetwork(value);
      if (network === null) return `invalid network "${value}"`;
      decl.proxies.push(network);
      return undefined;
    }
    case 'default':
      decl.fallback = value;
      return undefined;
    default:
      break;
  }
  if (decl.useRanges) return rangeLine(decl, key, value);
  const remove = key === 'delete';
  const text = remove ? value : key;
  const network = parseNetwork(text);
  if (network === null) return `invalid network "${text}"`;
  if (network.lowBits) cf.warn(`low address bits of ${text} are meaningless`);
  const index = decl.networks.findIndex((each) => sameNetwork(each.network, network));
  if (remove) {
    if (index < 0) cf.warn(`no network "${text}" to delete`);
    else decl.networks.splice(index, 1);
    return undefined;
  }
  const known = decl.networks[index];
  if (known === undefined) decl.networks.push({ network, value });
  else {
    cf.warn(`duplicate network "${text}", value: "${value}", old value: "${known.value}"`);
    known.value = value;
  }
  return undefined;
}

function rangeLine(decl: GeoDecl, key: string, value: string): string | undefined {
  const remove = key === 'delete';
  const text = remove ? value : key;
  const [first = '', last = ''] = text.split('-');
  const from = parseAddress(first);
  const to = parseAddress(last);
  if (from?.length !== 4 || to?.length !== 4) return `invalid range "${text}"`;
  const [low, high] = [numberOf(from), numberOf(to)];
  // inet_addr() has no other way to say "none" than the last address.
  if (low > high || low === NONE || high === NONE) return `invalid range "${text}"`;
  // The last one that holds an address decides, so that a later range cuts into an earlier one.
  decl.ranges.push({ low, high, value: remove ? null : value });
  return undefined;
}

const NONE = 0xffffffff;

function sameNetwork(a: Network, b: Network): boolean {
  return a.prefix === b.prefix && a.bytes.join() === b.bytes.join();
}

function numberOf(address: Uint8Array): number {
  const [a = 0, b = 0, c = 0, d = 0] = address;
  return ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
}

export const GEO_DIRECTIVES: Directive[] = [
  {
    name: 'geo',
    contexts: Context.Http,
    args: Args.Take12,
    block: true,
    set: setGeo,
  },
];

export function geoGetter(decl: GeoDecl): (r: Request) => string {
  const source: Getter = getterOf(decl.source ?? 'remote_addr');
  const { fallback, ranges } = decl;
  // Values by the bytes of the network, one table per length of prefix, the longest first.
  const tables: { network: Network; values: Map<string, string> }[] = [];
  for (const { network, value } of decl.networks) {
    let table = tables.find(
      (each) => each.network.prefix === network.prefix && each.network.bytes.length === network.bytes.length,
    );
    if (table === undefined) {
      table = { network, values: new Map() };
      tables.push(table);
    }
    table.values.set(binaryText(Uint8Array.from(network.bytes)), value);
  }
  tables.sort((a, b) => b.network.prefix - a.network.prefix);
  return (r) => {
    let address = parseAddress(source(r) ?? '');
    if (address === null) return fallback;
    if (decl.proxies.length > 0 && decl.proxies.some((each) => contains(each, address as Uint8Array))) {
      address = addressFromList(r.headerLines('x-forwarded-for'), decl.proxies, decl.recursive) ?? address;
    }
    if (decl.useRanges) {
      if (address.length !== 4) return fallback;
      const number = numberOf(address);
      for (let i = ranges.length - 1; i >= 0; i--) {
        const range = ranges[i];
        if (range !== undefined && range.low <= number && number <= range.high) return range.value ?? fallback;
      }
      return fallback;
    }
    for (const { network, values } of tables) {
      if (network.bytes.length !== address.length) continue;
      const value = values.get(binaryText(masked(address, network.prefix)));
      if (value !== undefined) return value;
    }
    return fallback;
  };
}

function masked(address: Uint8Array, prefix: number): Uint8Array {
  return address.map((byte, i) => {
    const bits = Math.min(8, Math.max(0, prefix - i * 8));
    return byte & ((0xff << (8 - bits)) & 0xff);
  });
}
