/**
 * Subrequests: another URI asked on behalf of a request, for what it answers.
 *
 * What it is for: a request object of its own that goes through the phases with the head of its parent. Invariants: it never writes
 * to the connection: its answer, whatever way it comes about, goes to `done`; it lives no longer than its parent;
 * the body of an answer is a stream, where somebody wants it.
 * Not its job: what becomes of its body (whoever asked for it).
 */

import { logRequest } from '../modules/log/writer.ts';
import { requestDone } from './closing.ts';
import { Phase, runPhases } from './phases.ts';
import { Method, Request } from './request.ts';

/** What a subrequest has of its parent; by default a GET without arguments. */
export interface SubrequestOptions {
  method?: number;
  args?: string;
  /** Its body is wanted: `bodyStream` of the request that `done` gets, which closes it. */
  body?: boolean;
  /** Body in place of an answer that is an error, of the parent's type. */
  stub?: Uint8Array | null;
  /** Nobody waits for it but the connection, which takes no further request before it ended. */
  background?: boolean;
}

/** Asks for `uri`; `done` gets the request when its answer's header stands. It may be called before this returns. */
export function subrequest(
  parent: Request,
  uri: string,
  done: (sub: Request) => void,
  options: SubrequestOptions = {},
): void {
  const sub = new Request();
  // Variables are the main request's: what one of them sets, the others see.
  parent.named ??= {};
  parent.found ??= new Map();
  const own = {
    parent,
    done,
    method: options.method ?? Method.Get,
    internal: true,
    uri,
    args: options.args ?? '',
    contentLength: -1,
    chunked: false,
    wantsBody: options.body ?? false,
    bodyStream: null,
    stub: options.stub ?? null,
    ssi: null,
    ssiRoot: null,
    background: 0,
    held: false,
    gzipIn: 0,
    gzipOut: 0,
    file: null,
    // The body is the parent's business.
    discarding: true,
    expectTested: true,
    location: parent.server.location,
    captures: null,
    cleanups: [],
    authCode: null,
    authStatus: 0,
    accessCode: 0,
    errStatus: 0,
    status: 0,
    phase: Phase.ServerRewrite,
    handler: 0,
    uriChanged: false,
    locationHolds: true,
    errorPage: false,
    limitReqStatus: parent.limitReqStatus,
    limitConnStatus: parent.limitConnStatus,
  };
  Object.assign(sub, parent, own);
  // Arrays and objects that an answer fills must not be the parent's.
  sub.extra = [];
  sub.ranges = [];
  sub.bodyFilters = [];
  sub.trailers = [];
  sub.challenge = '';
  sub.clearOut();
  if (options.background !== true) {
    runPhases(sub);
    return;
  }
  const main = mainRequest(parent);
  const { serial } = main.connection;
  main.background++;
  sub.done = (ended) => {
    main.background--;
    done(ended);
    // The answer was out before: now the request ends.
    main.connection.engine.resumeRequest(main, serial, () => {
      if (main.held) requestDone(main.connection);
    });
  };
  runPhases(sub);
}

/** The header of a subrequest's answer stands. */
export function answered(sub: Request): void {
  const { done } = sub;
  sub.done = null;
  if (sub.location.conf.logSubrequest) logRequest(sub);
  sub.runCleanups();
  done?.(sub);
}

/** The request that has the connection. */
export function mainRequest(r: Request): Request {
  let main = r;
  while (main.parent !== null) main = main.parent;
  return main;
}
