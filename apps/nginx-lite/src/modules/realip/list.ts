/** Which address of a list of forwarded ones is the client's: the last that is not a trusted proxy's. */

import { contains, type Network, NONE, parseAddress, parseExactly } from '../../net/address.ts';

/** An address of a header: its bytes for rules, and as it is shown, where IPv4 in IPv6 clothes stays what it is. */
interface Forwarded {
  address: Uint8Array;
  exact: Uint8Array;
  port: number;
}

/** `host`, `v4:port`, `[v6]:port`. */
export function parseForwarded(text: string): Forwarded | null {
  // inet_addr() cannot tell this one from a failure.
  if (text === NONE) return null;
  const whole = both(text, 0);
  if (whole !== null) return whole;
  const withPort = /^(?:\[([^\]]+)\]|([^:]+)):0*([1-9]\d{0,4})$/.exec(text);
  if (withPort === null) return null;
  const port = Number(withPort[3]);
  return port > 65_535 ? null : both((withPort[1] ?? withPort[2]) as string, port);
}

function both(text: string, port: number): Forwarded | null {
  const [address, exact] = [parseAddress(text), parseExactly(text)];
  return address === null || exact === null ? null : { address, exact, port };
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
): Forwarded | null {
  const words = lines.flatMap(wordsOf);
  let found: Forwarded | null = null;
  for (let i = words.length - 1; i >= 0; i--) {
    const parsed = parseForwarded(words[i] as string);
    if (parsed === null) break;
    found = parsed;
    if (!recursive || !proxies.some((each) => contains(each, parsed.address))) break;
  }
  return found;
}

/** An empty line counts, and a comma right before the first word belongs to it: nginx looks at neither. */
function wordsOf(line: string): string[] {
  const words = line.split(/[ ,]+/).filter((word) => word !== '');
  if (words.length === 0) return [''];
  if (/^,[^ ,]/.test(line)) words[0] = `,${words[0]}`;
  return words;
}
