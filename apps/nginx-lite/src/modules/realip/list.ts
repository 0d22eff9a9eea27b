/** Which address of a list of forwarded ones is the client's: the last that is not a trusted proxy's. */

import { contains, type Network, parseAddress } from '../../net/address.ts';

/** `host`, `host:port`, `[v6]:port` → its bytes. */
export function parseForwarded(text: string): { address: Uint8Array; port: number } | null {
  // inet_addr() cannot tell this one from a failure.
  if (text === '255.255.255.255') return null;
  const plain = parseAddress(text);
  if (plain !== null) return { address: plain, port: 0 };
  const withPort = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(text);
  if (withPort === null) return null;
  const address = parseAddress((withPort[1] ?? withPort[2]) as string);
  const port = Number(withPort[3] ?? 0);
  return address === null || port > 65_535 ? null : { address, port };
}

/** Walks the lines of X-Forwarded-For from the right; null: nothing usable stands there. */
export function addressFromList(
  lines: readonly string[],
  proxies: readonly Network[],
  recursive: boolean,
): Uint8Array | null {
  return forwardedFromList(lines, proxies, recursive)?.address ?? null;
}

export function forwardedFromList(
  lines: readonly string[],
  proxies: readonly Network[],
  recursive: boolean,
): { address: Uint8Array; port: number; text: string } | null {
  const words = lines.flatMap((line) => line.split(/[ ,]+/)).filter((word) => word !== '');
  let found: { address: Uint8Array; port: number; text: string } | null = null;
  for (let i = words.length - 1; i >= 0; i--) {
    const text = words[i] as string;
    const parsed = parseForwarded(text);
    if (parsed === null) break;
    const { address } = parsed;
    found = { ...parsed, text };
    if (!recursive || !proxies.some((each) => contains(each, address))) break;
  }
  return found;
}
