/**
 * How a request ends, and a connection.
 *
 * What it is for: after the last byte of an answer either the next request, or the end as nginx ends: lingering, closing, cutting
 * off. Invariants: a request is logged once; a connection that is Closing hears nothing more but onClose; a client that
 * still sends is lingered for, so that our close does not turn its answer into a reset. Not its job: what leads to the end.
 */

import { logRequest } from '../modules/log/writer.ts';
import { type Connection, State } from './connection.ts';
import type { Request } from './request.ts';
import { answered } from './subrequest.ts';

/** How long a worker that ends waits for the first request of a connection. */
export const LAST_REQUEST_MS = 1000;

/** How long a connection waits for its next request. */
export function keepaliveMs(c: Connection): number {
  const { keepaliveTimeoutMs, keepaliveMinTimeoutMs } = c.location.conf;
  if (!c.engine.exiting) return keepaliveTimeoutMs;
  return Math.min(Math.max(LAST_REQUEST_MS, keepaliveMinTimeoutMs), keepaliveTimeoutMs);
}

/** Every byte of the answer was taken. */
export function requestDone(c: Connection): void {
  const r = c.request;
  // Within `run` the bytes behind the request are run's; later they are what was kept.
  const unread = c.inRun ? c.restStart < c.restEnd : c.carry !== null;
  if (r !== null && r.background > 0) {
    r.held = true;
    c.engine.channel.setDeadline(c.handle, 0);
    return;
  }
  if (r !== null) {
    c.request = null;
    finishLog(r);
    c.closeLinger ||= r.lingeringClose && !c.bodyActive && !r.keepalive;
    c.engine.giveBack(r);
  }
  if (c.bodyActive) {
    c.state = State.Body;
    c.engine.channel.setDeadline(c.handle, lingerMs(c));
  } else afterRequest(c, unread);
  if (!c.inRun) c.engine.resume(c);
}

/** The answer is out and the request's body is read: the next request, or the end. */
export function afterRequest(c: Connection, unread: boolean): void {
  if (c.keepalive) {
    c.state = State.Idle;
    c.closeLinger = false;
    c.engine.channel.setDeadline(c.handle, keepaliveMs(c));
  } else endConnection(c, unread);
}

/** The last answer is out. A client that still sends would turn a plain close into a reset, so linger. */
export function endConnection(c: Connection, unread: boolean): void {
  const { lingeringClose } = c.location.conf;
  const patient = lingeringClose === 'always' || (lingeringClose === 'on' && (c.closeLinger || unread));
  c.closeLinger = false;
  if (patient && !c.ended) linger(c);
  else close(c);
}

/** Shuts our side, and reads and drops what still comes. */
export function linger(c: Connection): void {
  c.state = State.Linger;
  c.lingerUntilMs = Date.now() + c.location.conf.lingeringTimeMs;
  c.engine.channel.disconnect(c.handle);
  c.engine.channel.setDeadline(c.handle, c.location.conf.lingeringTimeoutMs);
  if (!c.reading) {
    c.reading = true;
    c.engine.channel.read(c.handle);
  }
}

/** Time until the next bytes of an unwanted body must have come. */
export function lingerMs(c: Connection): number {
  const conf = c.location.conf;
  const now = Date.now();
  if (c.lingerUntilMs === 0) c.lingerUntilMs = now + conf.lingeringTimeMs;
  return Math.max(1, Math.min(conf.lingeringTimeoutMs, c.lingerUntilMs - now));
}

/** `return 444`: not a byte. */
export function drop(r: Request): void {
  if (r.done !== null) {
    answered(r);
    return;
  }
  finishLog(r);
  if (r.location.conf.resetTimedoutConnection) cutOff(r.connection);
  else close(r.connection);
}

/** Closes when the output is out, which the client has send_timeout for. */
export function close(c: Connection): void {
  if (c.state === State.Closing || c.state === State.Free) return;
  c.state = State.Closing;
  c.carry = null;
  c.engine.channel.setDeadline(c.handle, c.location.conf.sendTimeoutMs);
  c.engine.channel.close(c.handle);
}

/** Cuts the connection off; output that waits is dropped. */
export function abort(c: Connection): void {
  if (c.state === State.Free) return;
  c.state = State.Closing;
  c.carry = null;
  // The line of the request that ends here names the client, and nobody can be asked for it afterwards.
  c.peerAddress();
  c.engine.channel.abort(c.handle);
}

/** Cuts off a client that was too slow: with reset_timedout_connection so that the kernel forgets it at once. */
export function cutOff(c: Connection): void {
  if (c.state !== State.Free && c.location.conf.resetTimedoutConnection) c.engine.channel.reset(c.handle);
  abort(c);
}

/** The access log's line and the clean-ups of a request, once. */
export function finishLog(r: Request): void {
  if (r.logged) return;
  r.logged = true;
  logRequest(r);
  r.connection.restore();
  r.runCleanups();
  r.requestBody?.close();
}
