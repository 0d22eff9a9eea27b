/** `return`: answers with a status, a text or a redirect. Runs in both rewrite phases, with the level's own directive. */

import { latin1Bytes } from '../../http/bytes.ts';
import { Code } from '../../http/codes.ts';
import { finalize, isRedirect, sendText } from '../../http/output.ts';
import type { Request } from '../../http/request.ts';

export function returnHandler(r: Request): number {
  const location = r.location;
  const returns = location.conf.returns;
  if (returns === null) return Code.Declined;
  if (returns.status >= 400 && location.returnText === null) return returns.status;
  const text = location.returnText === null ? '' : location.returnText(r);
  if (isRedirect(returns.status)) {
    if (!r.connection.engine.discardBody(r)) {
      finalize(r, 400);
      return Code.Done;
    }
    r.locationOut = text;
    return returns.status;
  }
  sendText(r, returns.status, latin1Bytes(text));
  return Code.Done;
}
