/**
 * The phases of a request, in nginx's order, as one resumable walk.
 *
 * What it is for: `runPhases` goes on where a request stands (`r.phase`, `r.handler`); redirects within a request; what
 * a handler's answer means. Invariants: a request passes at most ten redirects; a handler answers Declined (go on), Ok (this
 * phase is done; in the access phase: I allow it), Again (it will call `runPhases` itself, and is then asked once more),
 * Done (the answer is under way) or a status. Not its job: what handlers do (modules), how answers are sent (output.ts).
 */

import { keepsBadly } from '../modules/browser/module.ts';
import { discardBody } from './body-reader.ts';
import { Code } from './codes.ts';
import { finalize } from './output.ts';
import type { Request } from './request.ts';
import type { LocationMatch, RuntimeLocation } from './runtime.ts';

export type PhaseHandler = (r: Request) => number;

/** Handlers by phase; modules/phases.ts fills it in. */
export interface PhaseTable {
  postRead: PhaseHandler[];
  serverRewrite: PhaseHandler[];
  rewrite: PhaseHandler[];
  preaccess: PhaseHandler[];
  access: PhaseHandler[];
  precontent: PhaseHandler[];
  content: PhaseHandler[];
}

/** In the order they run. */
export const Phase = {
  PostRead: 0,
  ServerRewrite: 1,
  FindConfig: 2,
  Rewrite: 3,
  PostRewrite: 4,
  Preaccess: 5,
  Access: 6,
  PostAccess: 7,
  Precontent: 8,
  Content: 9,
  End: 10,
} as const;

/** The same handlers by Phase; null: the phase is this file's own business. */
export function handlersByPhase(table: PhaseTable): (PhaseHandler[] | null)[] {
  return [
    table.postRead,
    table.serverRewrite,
    null,
    table.rewrite,
    null,
    table.preaccess,
    table.access,
    null,
    table.precontent,
    table.content,
    null,
  ];
}

const match: LocationMatch = { location: null as unknown as LocationMatch['location'], captures: null, final: false };

/** A request whose head was accepted. */
export function handleRequest(r: Request): void {
  // r.keepalive is refined when the location is known.
  r.keepalive = r.connectionType === 0 ? r.version > 1000 : r.connectionType === 2;
  r.lingeringClose = r.contentLength > 0 || r.chunked;
  r.location = r.server.location;
  r.locationHolds = true;
  r.phase = Phase.PostRead;
  r.handler = 0;
  runPhases(r);
}

/** Goes on from where the request stands. */
export function runPhases(r: Request): void {
  const { handlers } = r.connection.engine;
  for (;;) {
    const list = handlers[r.phase];
    if (list === undefined) return;
    if (list === null) {
      if (!ownPhase(r)) return;
      continue;
    }
    const handler = list[r.handler];
    // Who may ask was settled for the request itself: its subrequests are not asked again, as in nginx.
    if (handler === undefined || (r.phase === Phase.Access && r.parent !== null)) {
      r.phase++;
      r.handler = 0;
      continue;
    }
    const code = handler(r);
    if (code === Code.Declined) r.handler++;
    else if (code === Code.Again || code === Code.Done) return;
    else if (r.phase === Phase.Access) {
      if (!accessAnswer(r, code)) return;
    } else if (code === Code.Ok) {
      r.phase++;
      r.handler = 0;
    } else {
      finalize(r, code);
      return;
    }
  }
}

/** `satisfy all`: everybody must allow it. `satisfy any`: the first who does is enough. */
function accessAnswer(r: Request, code: number): boolean {
  if (r.location.conf.satisfy === 'all') {
    if (code === Code.Ok) r.handler++;
    else {
      refuse(r, code);
      return false;
    }
    return true;
  }
  if (code === Code.Ok) {
    r.accessCode = 0;
    // A challenge that another module has prepared is void.
    r.challenge = '';
    r.phase++;
    r.handler = 0;
    return true;
  }
  if (code === 403 || code === 401) {
    if (r.accessCode !== 401) r.accessCode = code;
    r.handler++;
    return true;
  }
  finalize(r, code);
  return false;
}

/** Access is refused; whoever guesses passwords waits for auth_delay. */
function refuse(r: Request, code: number): void {
  const { authDelayMs } = r.location.conf;
  if (code !== 401 || authDelayMs === 0) {
    finalize(r, code);
    return;
  }
  const { engine, serial } = r.connection;
  engine.logError(r, 'info', 'delaying unauthorized request');
  engine.suspend(r);
  setTimeout(() => engine.resumeRequest(r, serial, () => finalize(r, code)), authDelayMs);
}

/** Phases without modules. False: the request is answered. */
function ownPhase(r: Request): boolean {
  switch (r.phase) {
    case Phase.FindConfig:
      return findConfig(r);
    case Phase.PostRewrite:
      r.handler = 0;
      if (!r.uriChanged) {
        r.phase++;
        return true;
      }
      r.uriChanged = false;
      if (!countChange(r, 'while processing', r.uri)) return false;
      r.location = r.server.location;
      r.phase = Phase.FindConfig;
      return true;
    case Phase.PostAccess:
      r.phase++;
      r.handler = 0;
      if (r.accessCode === 0) return true;
      {
        const code = r.accessCode;
        r.accessCode = 0;
        if (code === 403) r.connection.engine.logError(r, 'error', 'access forbidden by rule');
        refuse(r, code);
        return false;
      }
    default:
      nobody(r);
      return false;
  }
}

function findConfig(r: Request): boolean {
  match.location = r.server.location;
  match.captures = null;
  match.final = false;
  r.server.location.find(r.uri, match);
  r.location = match.location;
  if (match.captures !== null) takeCaptures(r, match.captures);
  const { conf } = limited(r);
  r.phase++;
  r.handler = 0;
  r.uriChanged = false;
  if (conf.internal && !r.internal) {
    r.impure();
    finalize(r, 404);
    return false;
  }
  updateKeepalive(r);
  if (r.contentLength >= 0 && !r.discarding && conf.clientMaxBodySize > 0 && conf.clientMaxBodySize < r.contentLength) {
    r.connection.engine.logError(r, 'error', `client intended to send too large body: ${r.contentLength} bytes`);
    r.expectTested = true;
    discardBody(r);
    finalize(r, 413);
    return false;
  }
  return true;
}

/** limit_except: the other configuration of the location, for methods that are not listed. */
function limited(r: Request): RuntimeLocation {
  const limit = r.location.conf.limitExcept;
  if (limit !== null && !limit.methods.includes(r.methodName()))
    r.location = r.connection.engine.locationAt(limit.location);
  return r.location;
}

/** No content handler took the request. */
function nobody(r: Request): void {
  const engine = r.connection.engine;
  if (r.uri.endsWith('/')) {
    engine.logError(r, 'error', `directory index of "${engine.pathOf(r)}" is forbidden`);
    finalize(r, 403);
    return;
  }
  engine.logError(r, 'error', 'no handler found');
  finalize(r, 404);
}

/** What the location says about the connection's future. */
export function updateKeepalive(r: Request): void {
  if (!r.keepalive) return;
  const conf = r.location.conf;
  const c = r.connection;
  if (c.engine.exiting || conf.keepaliveTimeoutMs === 0 || keepsBadly(r, conf.keepaliveDisable)) r.keepalive = false;
  else if (c.requests >= conf.keepaliveRequests || Date.now() - c.startMs > conf.keepaliveTimeMs) {
    r.keepalive = false;
    r.impure();
  }
}

/** One more change of the URI; false (and an answer) when it was one too many. */
function countChange(r: Request, what: string, uri: string): boolean {
  r.uriChanges--;
  if (r.uriChanges > 0) return true;
  r.connection.engine.logError(r, 'error', `rewrite or internal redirection cycle ${what} "${uri}"`);
  finalize(r, 500);
  return false;
}

/** Serves another URI in place of this one. */
export function internalRedirect(r: Request, uri: string, args: string): number {
  if (!countChange(r, 'while internally redirecting to', uri)) return Code.Done;
  r.uri = uri;
  r.args = args;
  r.internal = true;
  r.uriChanged = false;
  r.location = r.server.location;
  r.locationHolds = true;
  r.phase = Phase.ServerRewrite;
  r.handler = 0;
  runPhases(r);
  return Code.Done;
}

/** Goes on in a named location, with the URI as it is. */
export function namedRedirect(r: Request, name: string): number {
  const engine = r.connection.engine;
  if (!countChange(r, 'while redirect to named location', name)) return Code.Done;
  if (r.uri === '') {
    engine.logError(r, 'error', `empty URI in redirect to named location "${name}"`);
    finalize(r, 500);
    return Code.Done;
  }
  const location = r.server.named.get(name);
  if (location === undefined) {
    engine.logError(r, 'error', `could not find named location "${name}"`);
    finalize(r, 500);
    return Code.Done;
  }
  r.internal = true;
  r.uriChanged = false;
  r.location = location;
  limited(r);
  updateKeepalive(r);
  r.phase = Phase.Rewrite;
  r.handler = 0;
  runPhases(r);
  return Code.Done;
}

/** Captures of a location or server name become $1 … and named variables. */
export function takeCaptures(r: Request, captures: RegExpExecArray): void {
  r.captures = captures;
  if (captures.groups === undefined) return;
  const named = (r.named ??= {});
  for (const [name, value] of Object.entries(captures.groups)) named[name.toLowerCase()] = value ?? '';
}
