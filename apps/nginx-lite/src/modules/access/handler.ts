/** allow and deny: the first rule that holds for the client's address decides. */

import type { LocConf } from '../../conf/model.ts';
import { Code } from '../../http/codes.ts';
import type { Request } from '../../http/request.ts';
import { contains } from '../../net/address.ts';

export function accessHandler(r: Request): number {
  const { conf } = r.location;
  if (conf.accessRules.length === 0) return Code.Declined;
  const rules = conf.accessRules;
  const allowed = verdict(rules, r.clientAddressBytes());
  if (allowed === false) {
    r.impure();
    if (conf.satisfy === 'all') r.connection.engine.logError(r, 'error', 'access forbidden by rule');
    return 403;
  }
  // The next client with the same head gets the same, if the rules say so.
  r.guard((connection) => verdict(rules, connection.remoteAddressParsed()) === allowed);
  return allowed === null ? Code.Declined : Code.Ok;
}

/** What the first rule that holds for an address says; null: none does. */
function verdict(rules: LocConf['accessRules'], address: Uint8Array | null): boolean | null {
  for (const { deny, network } of rules) {
    const holds =
      network === 'all' || (network === 'unix' ? address === null : address !== null && contains(network, address));
    if (holds) return !deny;
  }
  return null;
}
