/**
 * auth_request: another location decides whether a request may go on.
 *
 * What it is for: 2xx lets it pass, 401 and 403 are its answer too, anything else is a failure of ours (500).
 * The fast way: never (who decides may change its mind).
 */

import { Args, type Directive, HTTP_ALL } from '../../conf/directives.ts';
import type { LocConf } from '../../conf/model.ts';
import { loc } from '../../conf/setters.ts';
import { Code } from '../../http/codes.ts';
import { isSilent } from '../../http/output.ts';
import { runPhases } from '../../http/phases.ts';
import type { Request } from '../../http/request.ts';
import { subrequest } from '../../http/subrequest.ts';
import { settable } from '../rewrite/conf.ts';
import { assign } from '../rewrite/handler.ts';

export const AUTH_REQUEST_DEFAULTS: Pick<LocConf, 'authRequest' | 'authRequestSets'> = {
  authRequest: '',
  authRequestSets: [],
};

export const AUTH_REQUEST_DIRECTIVES: Directive[] = [
  {
    name: 'auth_request',
    contexts: HTTP_ALL,
    args: Args.Take1,
    set: loc('authRequest', (_cf, args) => (args[1] === 'off' ? '' : (args[1] as string))),
  },
  {
    name: 'auth_request_set',
    contexts: HTTP_ALL,
    args: Args.Take2,
    set(cf, args) {
      const name = settable(cf, args[1] as string, cf.builder.captureNames);
      (cf.level.loc.authRequestSets ??= []).push({ name, value: cf.builder.template(cf, args[2] as string) });
      return undefined;
    },
  },
];

/** Value of `authStatus` while the answer is awaited. */
const WAITING = -1;

export function authRequestHandler(r: Request): number {
  const { location } = r;
  const { authRequest } = location.conf;
  if (authRequest === '') return Code.Declined;
  r.impure();
  if (r.authStatus === 0) {
    const engine = r.connection.engine;
    const { serial } = r.connection;
    let waits = false;
    r.authStatus = WAITING;
    engine.suspend(r);
    subrequest(r, authRequest, (sub) => {
      r.authStatus = sub.status;
      // One of auth_basic stands before it.
      if (sub.status === 401 && sub.challenge !== '')
        r.challenge = r.challenge === '' ? sub.challenge : `${r.challenge}\r\nWWW-Authenticate: ${sub.challenge}`;
      // Set on the values that the subrequest left.
      for (const { name, value } of location.authRequestSets) assign(r, name, value(sub));
      if (waits) engine.resumeRequest(r, serial, runPhases);
    });
    waits = true;
  }
  const status = r.authStatus;
  if (status === WAITING) return Code.Again;
  r.authStatus = 0;
  if (status >= 200 && status < 300) return Code.Ok;
  if (status === 401 || status === 403 || isSilent(status)) return status;
  r.connection.engine.logError(r, 'error', `auth request unexpected status: ${status}`);
  return 500;
}
