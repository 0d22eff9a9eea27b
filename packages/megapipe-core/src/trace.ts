/**
 * Seeing inside: a trace of every request and completion in words, and diagnostics_channel events.
 *
 * The trace is switched on by the environment, `DEBUG=megapipe` (or any list that names it, or `*`), when a channel is
 * made; it then wraps the backend and the sink. Off, neither wrapper exists, so it costs nothing.
 *
 * diagnostics_channel names, each with one plain object:
 *   megapipe:channel:open    { channel, backend, reason }
 *   megapipe:channel:close   { channel }
 *   megapipe:error           { channel, handle, cookie, operation, errno }: accept and connection failures
 */
import { channel as diagnostics } from 'node:diagnostics_channel';
import type { Sink } from './api.ts';
import type { Backend } from './backend.ts';
import { errnoName } from './errors.ts';
import type { Slots } from './slots.ts';

export const opened = diagnostics('megapipe:channel:open');
export const closed = diagnostics('megapipe:channel:close');
export const failed = diagnostics('megapipe:error');

export function tracing(): boolean {
  return (process.env['DEBUG'] ?? '').split(/[\s,]+/).some((name) => name === 'megapipe' || name === '*');
}

let channels = 0;

/** One line on stderr, at once: a trace must show the last step before a crash. */
export function tracer(): (text: string) => void {
  const id = ++channels;
  return (text) => process.stderr.write(`megapipe ${id} ${performance.now().toFixed(3)} ${text}\n`);
}

const outcome = (errno: number): string => (errno === 0 ? 'ok' : errnoName(errno));

/** Requests in words: `> recv slot 5 gen 2`. */
export function tracedBackend(inner: Backend, slots: () => Slots, line: (text: string) => void): Backend {
  const slotText = (slot: number): string => `slot ${slot} gen ${slots().generation[slot]}`;
  const bySlot =
    (verb: string, call: (slot: number) => void) =>
    (slot: number): void => {
      line(`> ${verb} ${slotText(slot)}`);
      call.call(inner, slot);
    };
  return {
    name: inner.name,
    slots: inner.slots,
    kind: inner.kind,
    id: inner.id,
    features: inner.features,
    openFd(fd, state, accepted) {
      const slot = inner.openFd(fd, state, accepted);
      line(`> register fd ${fd} as slot ${slot}`);
      return slot;
    },
    connect(address, host, port) {
      const slot = inner.connect(address, host, port);
      line(`> connect ${host} port ${port} as slot ${slot}`);
      return slot;
    },
    ...(inner.resetAtClose === undefined ? {} : { resetAtClose: bySlot('reset', inner.resetAtClose) }),
    armAccept: bySlot('accept', inner.armAccept),
    sweepAccept(slot) {
      line(`> accept without waiting ${slotText(slot)}`);
      return inner.sweepAccept(slot);
    },
    armRecv: bySlot('recv', inner.armRecv),
    armInto: bySlot('recv into region', inner.armInto),
    cancelInto: bySlot('cancel recv into region', inner.cancelInto),
    cancelArmed: bySlot('cancel', inner.cancelArmed),
    cancelAll: bySlot('cancel all', inner.cancelAll),
    send(slot) {
      line(`> send ${slotText(slot)} ${slots().outBytes[slot]} bytes`);
      inner.send(slot);
    },
    readFile(fd, position, region, address, offset, length, index) {
      line(`> read file fd ${fd} at ${position} ${length} bytes`);
      inner.readFile(fd, position, region, address, offset, length, index);
    },
    pending: () => inner.pending(),
    shutdownWrite: bySlot('shutdown', inner.shutdownWrite),
    closeSlot: bySlot('close', inner.closeSlot),
    peer: (slot) => inner.peer(slot),
    releaseFd(slot) {
      line(`> release ${slotText(slot)}`);
      return inner.releaseFd(slot);
    },
    closeFd(fd) {
      line(`> close fd ${fd}`);
      inner.closeFd(fd);
    },
    submit() {
      line('> submit');
      inner.submit();
    },
    wait(timeoutMs) {
      const waited = inner.wait(timeoutMs);
      line(`> wait ${timeoutMs} ms: ${waited}`);
      return waited;
    },
    drain: (waited) => inner.drain(waited),
    endRound: (waiting) => inner.endRound?.(waiting),
    armHost(fd) {
      line(`> poll event loop fd ${fd}`);
      inner.armHost(fd);
    },
    disarmHost(fd) {
      line(`> cancel poll of event loop fd ${fd}`);
      inner.disarmHost(fd);
    },
    destroy() {
      line('> destroy');
      inner.destroy();
    },
  };
}

/** Completions in words: `< read handle 5 cookie 7 64 bytes`. */
export function tracedSink(inner: Sink, line: (text: string) => void): Sink {
  const who = (handle: number, cookie: number): string => `handle ${handle} cookie ${cookie}`;
  const traced: Sink = {
    onAccept(cookie, socket, pending) {
      line(`< accept cookie ${cookie} ${socket < 0 ? `lwsocket ${-socket}` : `fd ${socket}`} pending ${pending}`);
      inner.onAccept(cookie, socket, pending);
    },
    onAcceptError(cookie, errno) {
      line(`< accept cookie ${cookie} ${outcome(errno)}`);
      inner.onAcceptError(cookie, errno);
    },
    onRead(handle, cookie, offset, length) {
      line(`< read ${who(handle, cookie)} ${length} bytes`);
      inner.onRead(handle, cookie, offset, length);
    },
    onEnd(handle, cookie, errno) {
      line(`< end ${who(handle, cookie)} ${outcome(errno)}`);
      inner.onEnd(handle, cookie, errno);
    },
    onDrain(handle, cookie) {
      line(`< drain ${who(handle, cookie)}`);
      inner.onDrain(handle, cookie);
    },
    onWritten(handle, cookie, token, errno) {
      line(`< written ${who(handle, cookie)} token ${token} ${outcome(errno)}`);
      inner.onWritten(handle, cookie, token, errno);
    },
    onConnect(handle, cookie, errno) {
      line(`< connect ${who(handle, cookie)} ${outcome(errno)}`);
      inner.onConnect(handle, cookie, errno);
    },
    onTimeout(handle, cookie) {
      line(`< timeout ${who(handle, cookie)}`);
      inner.onTimeout(handle, cookie);
    },
    onClose(handle, cookie) {
      line(`< close ${who(handle, cookie)}`);
      inner.onClose(handle, cookie);
    },
  };
  if (inner.onReadInto)
    traced.onReadInto = (handle, cookie, token, bytes, errno) => {
      line(`< read into region ${who(handle, cookie)} token ${token} ${bytes} bytes ${outcome(errno)}`);
      inner.onReadInto!(handle, cookie, token, bytes, errno);
    };
  if (inner.onReadFile)
    traced.onReadFile = (token, bytes, errno) => {
      line(`< read file token ${token} ${bytes} bytes ${outcome(errno)}`);
      inner.onReadFile!(token, bytes, errno);
    };
  if (inner.onTurn)
    traced.onTurn = (handle, cookie) => {
      line(`onTurn ${handle} cookie ${cookie}`);
      inner.onTurn!(handle, cookie);
    };
  if (inner.onUnregister)
    traced.onUnregister = (handle, cookie, fd) => {
      line(`< unregister ${who(handle, cookie)} fd ${fd}`);
      inner.onUnregister!(handle, cookie, fd);
    };
  return traced;
}
