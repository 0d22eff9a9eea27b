/**
 * Names of hosts in a configuration.
 *
 * What it is for: addresses of a name, as the C library finds them without a name server: numbers in its odd forms, and the hosts file.
 * Invariant: the configuration is parsed in one go, and a name server that is not up yet does not keep a web server from starting.
 */

import { readFileSync } from 'node:fs';
import { type Network, parseAddress, parseNetwork } from '../net/address.ts';
import type { ConfContext } from './parser.ts';

/** Each address once; none: the name is not known. */
export function addressesOf(name: string): string[] {
  const number = fromNumber(name);
  return number === null ? fromHostsFile(name) : [number];
}

/** As inet_aton: one to four numbers, decimal, octal or hexadecimal, the last of which fills what is left. */
function fromNumber(text: string): string | null {
  const words = text.split('.');
  if (words.length > 4 || !words.every((word) => /^(?:0x[0-9a-f]+|0[0-7]*|[1-9]\d*)$/i.test(word))) return null;
  const numbers = words.map((word) => Number(/^0[0-7]/.test(word) ? `0o${word.slice(1)}` : word));
  const last = numbers.pop() as number;
  const bytes = 4 - numbers.length;
  if (numbers.some((each) => each > 255) || last >= 256 ** bytes) return null;
  for (let at = bytes - 1; at >= 0; at--) numbers.push(Math.floor(last / 256 ** at) % 256);
  return numbers.join('.');
}

function fromHostsFile(name: string): string[] {
  let text: string;
  try {
    text = readFileSync('/etc/hosts', 'latin1');
  } catch {
    return [];
  }
  const found: string[] = [];
  for (const line of text.split('\n')) {
    const [address, ...names] = line.replace(/#.*/, '').trim().split(/\s+/);
    if (address !== undefined && names.includes(name) && !found.includes(address)) found.push(address);
  }
  return found;
}

/** Networks that a directive names: one by its address, or each address of a host. */
export function networksOf(cf: ConfContext, directive: string, text: string): Network[] {
  const network = parseNetwork(text);
  if (network === null) {
    const found = addressesOf(text).flatMap((address) => parseAddress(address) ?? []);
    if (found.length === 0) cf.fail(`host not found in ${directive} "${text}"`);
    return found.map((bytes) => ({ bytes: [...bytes], prefix: bytes.length * 8, lowBits: false }));
  }
  if (network.lowBits) cf.warn(`low address bits of ${text} are meaningless`);
  return [network];
}
