/**
 * When a request's body is read, and by whom.
 *
 * What it is for: a body is either dropped (`discardBody`) or collected (`readBody`) while the client sends it, with its deadline and
 * its end. Invariant: what comes behind the body stays where the next request is looked for; a body is gone over once. Not its
 * job: framing (body.ts), keeping bytes (request-body.ts).
 */

import { strerror } from '../log/errno.ts';
import { beginBody, dropBody } from './body.ts';
import { close, cutOff, finishLog } from './closing.ts';
import { Code } from './codes.ts';
import type { Connection } from './connection.ts';
import { expectsContinue, finalize } from './output.ts';
import { runPhases } from './phases.ts';
import type { Request } from './request.ts';
import { type BodyHost, RequestBody } from './request-body.ts';

/**
 * The body will not be read by anyone. Drops what is there of it; false when its framing is broken (answer 400).
 */
export function discardBody(r: Request): boolean {
  if (r.discarding) return true;
  const c = r.connection;
  if (expectsContinue(r)) {
    // nginx answers 100 even where no body was announced.
    r.impure();
    c.engine.sender.interim(c);
  }
  if (r.contentLength <= 0 && !r.chunked) return true;
  r.discarding = true;
  beginBody(c, r.contentLength, r.chunked);
  c.lingerUntilMs = 0;
  restOfInput(c);
  const pos = dropBody(c, c.restBuf, c.restStart, c.restEnd);
  if (pos < 0) {
    c.engine.logError(r, 'error', 'client sent invalid chunked body');
    c.bodyActive = false;
    // Nothing is known of it any more.
    r.chunked = false;
    return false;
  }
  // What is dropped does not count in $request_length, as in nginx.
  inputTaken(c, pos);
  if (c.bodyActive) r.lingeringClose = false;
  return true;
}

/**
 * Reads the request's body into `r.requestBody`. Ok: it is there (or there is none). Again: it is under way, and runPhases will be
 * called. Any other code is the status to answer.
 */
export function readBody(r: Request): number {
  if (r.parent !== null || r.requestBody !== null || r.discarding) return Code.Ok;
  const c = r.connection;
  const { engine } = c;
  r.impure();
  if (expectsContinue(r)) engine.sender.interim(c);
  const body = new RequestBody(r.location.conf, hostOf(r), r.chunked);
  r.requestBody = body;
  if (r.contentLength < 0 && !r.chunked) return Code.Ok;
  // There will be nothing to discard.
  r.discarding = true;
  beginBody(c, r.contentLength, r.chunked);
  restOfInput(c);
  const pos = body.begin(c, c.restBuf, c.restStart, c.restEnd, Math.max(0, r.limit - r.headEnd));
  // Nor do the first bytes of a body that is refused for them.
  if (body.status === 0) r.length += pos - c.restStart;
  inputTaken(c, pos);
  if (body.complete) return Code.Ok;
  if (body.status !== 0) return failed(r, body.status);
  c.reader = body;
  if (c.ended) queueMicrotask(() => c.reader === body && bodyEnded(c, 0));
  else if (!c.reading) {
    c.reading = true;
    engine.channel.read(c.handle);
  }
  engine.suspend(r);
  return Code.Again;
}

/** More of a body that is being read, `c.restBuf[restStart, restEnd)`; false when still more is needed. */
export function readMore(c: Connection, body: RequestBody): boolean {
  const r = c.request as Request;
  const at = body.take(c, c.restBuf, c.restStart, c.restEnd);
  r.length += at - c.restStart;
  c.restStart = at;
  if (!body.complete && body.status === 0) {
    c.engine.channel.setDeadline(c.handle, r.location.conf.clientBodyTimeoutMs);
    return false;
  }
  c.reader = null;
  c.engine.channel.setDeadline(c.handle, 0);
  c.engine.guarded(r, body.complete ? runPhases : () => finalize(r, failed(r, body.status)));
  return true;
}

/** The client is gone before its body was. */
export function bodyEnded(c: Connection, errno: number): void {
  const r = c.request as Request;
  c.reader = null;
  const text = errno === 0 ? 'client prematurely closed connection' : `recv() failed (${strerror(errno)})`;
  c.engine.logError(r, 'info', text);
  r.status = 400;
  finishLog(r);
  close(c);
}

/** client_body_timeout passed without a byte. */
export function bodyTimedOut(c: Connection): void {
  const r = c.request as Request;
  c.reader = null;
  r.status = 408;
  finishLog(r);
  if (r.location.conf.resetTimedoutConnection) cutOff(c);
  else close(c);
}

/** The rest of a body that failed is read by nobody. */
function failed(r: Request, status: number): number {
  r.connection.bodyActive = false;
  r.connection.closeLinger = true;
  r.keepalive = false;
  return status;
}

/** The bytes behind the head: within `run` those that it goes over, later what was kept. */
function restOfInput(c: Connection): void {
  if (c.inRun) return;
  const carry = c.carry;
  if (carry !== null) c.restBuf = carry;
  c.restStart = carry === null ? 0 : c.carryStart;
  c.restEnd = carry === null ? 0 : c.carryEnd;
}

function inputTaken(c: Connection, pos: number): void {
  c.restStart = pos;
  if (!c.inRun && c.carry !== null) c.save(c.carry, pos, c.restEnd);
}

function hostOf(r: Request): BodyHost {
  const { engine } = r.connection;
  return {
    nextTempNumber: (collision) => engine.nextTempNumber(collision),
    log: (level, message) => engine.logError(r, level, message),
  };
}
