/** stub_status: the server's counters as a page. Content of the location; never from memory. */

import { Args, Context, type Directive } from '../../conf/directives.ts';
import type { LocConf } from '../../conf/model.ts';
import { discardBody } from '../../http/body-reader.ts';
import { latin1Bytes } from '../../http/bytes.ts';
import { Code } from '../../http/codes.ts';
import { finalize, sendBytes } from '../../http/output.ts';
import { Method, type Request } from '../../http/request.ts';
import { Status } from '../../http/status-rows.ts';

export const STUB_STATUS_DEFAULTS: Pick<LocConf, 'stubStatus'> = { stubStatus: false };

export const STUB_STATUS_DIRECTIVES: Directive[] = [
  {
    name: 'stub_status',
    contexts: Context.Server | Context.Location,
    args: Args.None | Args.Take1,
    set(cf) {
      cf.level.loc.stubStatus = true;
      return undefined;
    },
  },
];

export function stubStatusHandler(r: Request): number {
  if (!r.location.conf.stubStatus) return Code.Declined;
  r.impure();
  if (!(r.method & (Method.Get | Method.Head))) return 405;
  const engine = r.connection.engine;
  if (!discardBody(r)) {
    finalize(r, 400);
    return Code.Done;
  }
  const sum = (field: number): number => engine.statusSum(field);
  const [active, reading, writing] = [sum(Status.Active), sum(Status.Reading), sum(Status.Writing)];
  const text =
    `Active connections: ${active} \nserver accepts handled requests\n` +
    ` ${sum(Status.Accepted)} ${sum(Status.Handled)} ${sum(Status.Requests)} \n` +
    `Reading: ${reading} Writing: ${writing} Waiting: ${Math.max(0, active - reading - writing)} \n`;
  r.status = 200;
  r.contentType = 'text/plain';
  sendBytes(r, latin1Bytes(text));
  return Code.Done;
}
