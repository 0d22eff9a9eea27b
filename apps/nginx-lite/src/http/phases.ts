/**
 * The phases of a request, in nginx's order.
 *
 * What it is for: server rewrite, find config, rewrite, (pre)access, precontent, content; redirects within a request;
 * what a handler's answer means. Invariant: a request passes at most ten redirects; a handler answers Declined (go on),
 * Done (someone else goes on) or a status. Not its job: what handlers do (modules), how answers are sent (output.ts).
 */

import { Code } from './codes.ts';
import { finalize } from './output.ts';
import type { Request } from './request.ts';
import type { LocationMatch } from './runtime.ts';

export type PhaseHandler = (r: Request) => number;

/** Handlers by phase; modules/phases.ts fills it in. */
export interface PhaseTable {
  serverRewrite: PhaseHandler[];
  rewrite: PhaseHandler[];
  preaccess: PhaseHandler[];
  access: PhaseHandler[];
  precontent: PhaseHandler[];
  content: PhaseHandler[];
}

const match: LocationMatch = { location: null as unknown as LocationMatch['location'], captures: null, final: false };

/** A request whose head was accepted. */
export function handleRequest(r: Request): void {
  // r.keepalive is refined when the location is known.
  r.keepalive = r.connectionType === 0 ? r.version > 1000 : r.connectionType === 2;
  r.lingeringClose = r.contentLength > 0 || r.chunked;
  runPhases(r);
}

/** From the first phase on, with the server's own configuration. */
function runPhases(r: Request): void {
  const phases = r.connection.engine.phases;
  r.location = r.server.location;
  if (!runPhase(r, phases.serverRewrite)) return;
  match.location = r.server.location;
  match.captures = null;
  match.final = false;
  r.server.location.find(r.uri, match);
  r.location = match.location;
  if (match.captures !== null) takeCaptures(r, match.captures);
  const conf = r.location.conf;
  if (conf.internal && !r.internal) {
    r.impure();
    finalize(r, 404);
    return;
  }
  updateKeepalive(r);
  if (r.contentLength >= 0 && !r.discarding && conf.clientMaxBodySize > 0 && conf.clientMaxBodySize < r.contentLength) {
    r.connection.engine.logError(r, 'error', `client intended to send too large body: ${r.contentLength} bytes`);
    r.expectTested = true;
    r.connection.engine.discardBody(r);
    finalize(r, 413);
    return;
  }
  locationPhases(r);
}

function locationPhases(r: Request): void {
  const phases = r.connection.engine.phases;
  if (!runPhase(r, phases.rewrite)) return;
  if (!runPhase(r, phases.preaccess)) return;
  if (!runPhase(r, phases.access)) return;
  if (!runPhase(r, phases.precontent)) return;
  if (!runPhase(r, phases.content)) return;
  const engine = r.connection.engine;
  if (r.uri.endsWith('/')) {
    engine.logError(r, 'error', `directory index of "${engine.pathOf(r)}" is forbidden`);
    finalize(r, 403);
    return;
  }
  engine.logError(r, 'error', 'no handler found');
  finalize(r, 404);
}

/** True when every handler declined. */
function runPhase(r: Request, handlers: PhaseHandler[]): boolean {
  for (const handler of handlers) {
    const code = handler(r);
    if (code === Code.Declined) continue;
    if (code !== Code.Done) finalize(r, code);
    return false;
  }
  return true;
}

/** What the location says about the connection's future. */
export function updateKeepalive(r: Request): void {
  if (!r.keepalive) return;
  const conf = r.location.conf;
  const c = r.connection;
  if (c.engine.exiting || conf.keepaliveTimeoutMs === 0) r.keepalive = false;
  else if (c.requests >= conf.keepaliveRequests || Date.now() - c.startMs > conf.keepaliveTimeMs) {
    r.keepalive = false;
    r.impure();
  }
}

/** Serves another URI in place of this one. */
export function internalRedirect(r: Request, uri: string, args: string): number {
  r.uriChanges--;
  if (r.uriChanges === 0) {
    r.connection.engine.logError(
      r,
      'error',
      `rewrite or internal redirection cycle while internally redirecting to "${uri}"`,
    );
    finalize(r, 500);
    return Code.Done;
  }
  r.uri = uri;
  r.args = args;
  r.internal = true;
  runPhases(r);
  return Code.Done;
}

/** Goes on in a named location, with the URI as it is. */
export function namedRedirect(r: Request, name: string): number {
  const engine = r.connection.engine;
  r.uriChanges--;
  if (r.uriChanges === 0) {
    engine.logError(r, 'error', `rewrite or internal redirection cycle while redirect to named location "${name}"`);
    finalize(r, 500);
    return Code.Done;
  }
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
  r.location = location;
  updateKeepalive(r);
  locationPhases(r);
  return Code.Done;
}

/** Captures of a location or server name become $1 … and named variables. */
export function takeCaptures(r: Request, captures: RegExpExecArray): void {
  r.captures = captures;
  if (captures.groups === undefined) return;
  const named = (r.named ??= {});
  for (const [name, value] of Object.entries(captures.groups)) named[name.toLowerCase()] = value ?? '';
}
