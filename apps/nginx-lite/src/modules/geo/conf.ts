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
import { binaryText, contains, type Network, NONE, parseAddress, parseNetwork } from '../../net/address.ts';
import { variableName } from '../map/conf.ts';
import { addressFromList } from '../realip/list.ts';
import { GeoRanges } from './ranges.ts';

function setGeo(cf: ConfContext, args: string[]): undefined {
  const source = args.length === 3 ? variableName(cf, args[1] as string) : null;
  if (source !== null) cf.builder.namedVariables.add(source);
  const decl: GeoDecl = {
    kind: 'geo',
    name: variableName(cf, args.at(-1) as string),
    source,
    networks: [],
    ranges: [],
    useRanges: false,
    proxies: [],
    recursive: false,
    fallback: null,
  };
  cf.builder.defineVariable(cf, decl);
  const ranges = new GeoRanges();
  cf.block(cf.level, (inner, words) => geoLine(inner, decl, ranges, words));
  decl.ranges = ranges.list();
}

function geoLine(cf: ConfContext, decl: GeoDecl, ranges: GeoRanges, words: string[]): string | undefined {
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
  if (key === 'include') {
    cf.include(value, false);
    return undefined;
  }
  if (key === 'proxy') {
    decl.proxies.push(networkOf(cf, value));
    return undefined;
  }
  if (decl.useRanges) return rangeLine(cf, decl, ranges, key, value);
  if (key === 'default') {
    for (const network of EVERYTHING) addNetwork(cf, decl, key, network, value);
    return undefined;
  }
  if (key !== 'delete') {
    addNetwork(cf, decl, key, networkOf(cf, key), value);
    return undefined;
  }
  const network = networkOf(cf, value);
  const index = decl.networks.findIndex((each) => sameNetwork(each.network, network));
  if (index < 0) cf.warn(`no network "${value}" to delete`);
  else decl.networks.splice(index, 1);
  return undefined;
}

/** Both families. */
const EVERYTHING: Network[] = [4, 16].map((length) => ({ bytes: Array(length).fill(0), prefix: 0, lowBits: false }));

function networkOf(cf: ConfContext, text: string): Network {
  // The one address that nginx does not take elsewhere.
  if (text === NONE) return { bytes: [255, 255, 255, 255], prefix: 32, lowBits: false };
  const network = parseNetwork(text) ?? cf.fail(`invalid network "${text}"`);
  if (network.lowBits) cf.warn(`low address bits of ${text} are meaningless`);
  return network;
}

function addNetwork(cf: ConfContext, decl: GeoDecl, text: string, network: Network, value: string): void {
  const known = decl.networks.find((each) => sameNetwork(each.network, network));
  if (known === undefined) {
    decl.networks.push({ network, value });
    return;
  }
  cf.warn(`duplicate network "${text}", value: "${value}", old value: "${known.value}"`);
  known.value = value;
}

function rangeLine(cf: ConfContext, decl: GeoDecl, ranges: GeoRanges, key: string, value: string): string | undefined {
  if (key === 'default') {
    if (decl.fallback !== null) {
      cf.warn(`duplicate default geo range value: "${value}", old value: "${decl.fallback}"`);
    }
    decl.fallback = value;
    return undefined;
  }
  const remove = key === 'delete';
  const text = remove ? value : key;
  const dash = text.indexOf('-');
  const [first, last] = dash < 0 ? ['', ''] : [text.slice(0, dash), text.slice(dash + 1)];
  const from = first.includes(':') ? null : parseAddress(first);
  const to = last.includes(':') ? null : parseAddress(last);
  if (from === null || to === null || first === NONE || last === NONE) return `invalid range "${text}"`;
  const [low, high] = [numberOf(from), numberOf(to)];
  if (low > high) return `invalid range "${text}"`;
  if (!remove) ranges.add(cf, text, low, high, value);
  else if (!ranges.delete(low, high)) cf.warn(`no address range "${text}" to delete`);
  return undefined;
}

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
  const { ranges } = decl;
  const fallback = decl.fallback ?? '';
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
    let address = parseAddress(source(r) ?? '') ?? NOWHERE;
    if (decl.proxies.length > 0 && decl.proxies.some((each) => contains(each, address as Uint8Array))) {
      address = addressFromList(r.headerLines('x-forwarded-for'), decl.proxies, decl.recursive) ?? address;
    }
    if (decl.useRanges) {
      return rangeAt(ranges, numberOf(address.length === 4 ? address : NOWHERE))?.value ?? fallback;
    }
    for (const { network, values } of tables) {
      if (network.bytes.length !== address.length) continue;
      const value = values.get(binaryText(masked(address, network.prefix)));
      if (value !== undefined) return value;
    }
    return fallback;
  };
}

/** The address of whoever has none. */
const NOWHERE = Uint8Array.of(255, 255, 255, 255);

function rangeAt(ranges: GeoDecl['ranges'], address: number): GeoDecl['ranges'][number] | undefined {
  let [first, end] = [0, ranges.length];
  while (first < end) {
    const middle = (first + end) >> 1;
    const range = ranges[middle] as GeoDecl['ranges'][number];
    if (address < range.low) end = middle;
    else if (address > range.high) first = middle + 1;
    else return range;
  }
  return undefined;
}

function masked(address: Uint8Array, prefix: number): Uint8Array {
  return address.map((byte, i) => {
    const bits = Math.min(8, Math.max(0, prefix - i * 8));
    return byte & ((0xff << (8 - bits)) & 0xff);
  });
}
