/** allow and deny: the first rule that holds for the client's address decides. */

import { Code } from '../../http/codes.ts';
import type { Request } from '../../http/request.ts';
import { contains } from '../../net/address.ts';

export function accessHandler(r: Request): number {
  const { conf } = r.location;
  if (conf.accessRules.length === 0) return Code.Declined;
  // What the next client with the same head is told depends on who it is.
  r.impure();
  const address = r.clientAddressBytes();
  for (const { deny, network } of conf.accessRules) {
    const holds =
      network === 'all' || (network === 'unix' ? address === null : address !== null && contains(network, address));
    if (!holds) continue;
    if (!deny) return Code.Ok;
    if (conf.satisfy === 'all') r.connection.engine.logError(r, 'error', 'access forbidden by rule');
    return 403;
  }
  return Code.Declined;
}
