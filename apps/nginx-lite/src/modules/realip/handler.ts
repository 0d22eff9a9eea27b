/** realip: where a trusted proxy connects, the client's address is the one it names. Holds until the request ends. */

import { Code } from '../../http/codes.ts';
import type { Request } from '../../http/request.ts';
import { addressText, contains, type Network } from '../../net/address.ts';
import { forwardedFromList } from './list.ts';

export function realipHandler(r: Request): number {
  const { realipFrom, realipHeader, realipRecursive } = r.location.conf;
  const c = r.connection;
  if (realipFrom.length === 0 || c.isOverridden()) return Code.Declined;
  const lines = realipHeader === 'proxy_protocol' ? proxyLine(r) : r.headerLines(realipHeader);
  if (lines.length === 0) return Code.Declined;
  const address = r.clientAddressBytes();
  const networks = realipFrom.filter((each): each is Network => each !== 'unix');
  const trusted =
    address === null ? realipFrom.includes('unix') : networks.some((network) => contains(network, address));
  // Who connected decides what the header is worth.
  r.impure();
  if (!trusted) return Code.Declined;
  const isList = realipHeader === 'x-forwarded-for';
  const found = forwardedFromList(isList ? lines : lines.slice(0, 1), networks, realipRecursive);
  if (found === null) return Code.Declined;
  c.override(addressText(found.exact), realipHeader === 'proxy_protocol' ? (c.proxied?.port ?? 0) : found.port);
  return Code.Declined;
}

function proxyLine(r: Request): string[] {
  const { proxied } = r.connection;
  return proxied === null ? [] : [proxied.host];
}
