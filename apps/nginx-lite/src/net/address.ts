/**
 * IP addresses as bytes, and networks of them.
 *
 * What it is for: access rules, geo, realip. Invariant: an IPv4-mapped IPv6 address is the IPv4 address it stands for,
 * so that a rule holds whichever socket a client came through. Not its job: names.
 */

import { isIPv6 } from 'node:net';

/** 4 or 16 bytes; null when the text is no address. */
export function parseAddress(text: string): Uint8Array | null {
  const bytes = parseExactly(text);
  return bytes === null ? null : unmapped(bytes);
}

/** The same, but an IPv4-mapped address has 16 bytes. */
export function parseExactly(text: string): Uint8Array | null {
  return parseV4(text) ?? (isIPv6(text) && !text.includes('%') ? parseV6(text) : null);
}

/** As ngx_inet_addr: three dots, numbers up to 255 in decimal, where none is written it is 0. */
function parseV4(text: string): Uint8Array | null {
  if (!/^\d*\.\d*\.\d*\.\d*$/.test(text)) return null;
  const numbers = text.split('.').map(Number);
  return numbers.every((each) => each <= 255) ? Uint8Array.from(numbers) : null;
}

function parseV6(text: string): Uint8Array {
  const bytes = new Uint8Array(16);
  const [head = '', tail] = text.split('::');
  const front = groups(head);
  const back = tail === undefined ? [] : groups(tail);
  for (const [i, value] of front.entries()) bytes[i] = value;
  for (const [i, value] of back.entries()) bytes[16 - back.length + i] = value;
  return bytes;
}

function groups(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((group) => {
    if (group.includes('.')) return group.split('.').map(Number);
    const value = Number.parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
}

/** As nginx prints it: the longest run of at least two zero groups is left out, and what may be IPv4 at the end is shown so. */
export function addressText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  const words: number[] = [];
  for (let i = 0; i < 16; i += 2) words.push(((bytes[i] as number) << 8) | (bytes[i + 1] as number));
  let [start, count] = [-1, 1];
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && words[end] === 0) end++;
    if (end - i > count) [start, count] = [i, end - i];
    if (end > i) i = end;
  }
  const looksMapped =
    start === 0 &&
    ((count === 5 && words[5] === 0xffff) || count === 6 || (count === 7 && bytes[14] !== 0 && bytes[15] !== 1));
  const groups = words.map((word) => word.toString(16));
  if (start < 0) return groups.join(':');
  const tail = groups.slice(start + count, looksMapped ? 6 : 8);
  if (looksMapped) tail.push(bytes.subarray(12).join('.'));
  return `${groups.slice(0, start).join(':')}::${tail.join(':')}`;
}

function unmapped(bytes: Uint8Array): Uint8Array {
  for (let i = 0; i < 10; i++) if (bytes[i] !== 0) return bytes;
  return bytes[10] === 0xff && bytes[11] === 0xff ? bytes.slice(12) : bytes;
}

export interface Network {
  /** Lowest address, 4 or 16 bytes. */
  bytes: number[];
  /** Bits that count. */
  prefix: number;
  /** Bits below the prefix were given and dropped. */
  lowBits: boolean;
}

/** The last address is how nginx says "none". */
export const NONE = '255.255.255.255';

/** Whether a socket that is bound to it takes what comes to any address. */
export function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}

/** `a.b.c.d`, `a.b.c.d/24`, `v6/prefix`; null when it is neither. */
export function parseNetwork(text: string): Network | null {
  const slash = text.indexOf('/');
  const host = slash < 0 ? text : text.slice(0, slash);
  const bytes = isIPv6(host) && !host.includes('%') ? parseV6(host) : parseV4(host);
  if (bytes === null || bytes.join('.') === NONE) return null;
  const bits = bytes.length * 8;
  const given = slash < 0 ? String(bits) : text.slice(slash + 1);
  if (!/^\d+$/.test(given) || Number(given) > bits) return null;
  const prefix = Number(given);
  const masked = Array.from(bytes, (byte, i) => byte & maskAt(prefix, i));
  return { bytes: masked, prefix, lowBits: masked.some((byte, i) => byte !== bytes[i]) };
}

function maskAt(prefix: number, index: number): number {
  const bits = Math.min(8, Math.max(0, prefix - index * 8));
  return (0xff << (8 - bits)) & 0xff;
}

export function contains(network: Network, address: Uint8Array): boolean {
  const { bytes, prefix } = network;
  if (bytes.length !== address.length) return false;
  for (let i = 0; i * 8 < prefix; i++) if (((address[i] as number) & maskAt(prefix, i)) !== bytes[i]) return false;
  return true;
}

/** The bytes, one character each: $binary_remote_addr. */
export function binaryText(address: Uint8Array): string {
  return String.fromCharCode(...address);
}
