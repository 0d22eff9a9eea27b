/**
 * A worker of a generation: one channel, one engine, on the thread that calls `serve`.
 *
 * What it is for: builds both from what it was given, keeps the clock, obeys go, quit, stop and reopen.
 * Invariants: nothing is accepted before "go"; "done" is the last message, after it nothing of this worker is in use.
 * Not its job: signals (generation.ts gets them), opening sockets and logs, which thread it is (worker-thread.ts).
 */

import { Channel, type Handle, MegapipeError, mapSharedMemory, setAffinity } from '@megapipe/core';
import { Engine } from './http/engine.ts';
import { ErrorLogWriter } from './log/error-log.ts';
import { Syslog } from './log/syslog.ts';
import type { FromWorker, ToWorker, WorkerStart } from './messages.ts';
import { AccessLogs } from './modules/log/writer.ts';
import { HEADER_FILTERS, PART_FILTERS, PHASES } from './modules/phases.ts';
import { afterRush } from './rest.ts';

/** Connections and listening sockets, and the two that a channel needs to turn one away. */
const HANDLES_SPARE = 64;
const HANDLES_MIN = 256;
const HANDLES_MAX = 500_000;

/** Starts a worker on this thread, which is ready for "go" when this returns: what obeys the messages to it. */
export function serve(start: WorkerStart, send: (message: FromWorker) => void): (message: ToWorker) => void {
  if (start.cpus.length > 0) setAffinity(start.cpus);

  const syslog = new Syslog();
  const errorLog = new ErrorLogWriter(start.logFds, syslog);
  let lastLogError = 0;
  const accessLogs = new AccessLogs(start.logFds, start.http.logFormats, syslog, (file, error) => {
    // Once a second at most: a full disk fails every write.
    const now = Date.now();
    if (now - lastLogError < 1000) return;
    lastLogError = now;
    errorLog.write(start.errorLogs, 'alert', `write() to log ${file} failed: ${(error as Error).message}`);
  });

  let channel: Channel | null = null;
  const engine = new Engine(
    {
      http: start.http,
      phases: PHASES,
      headerFilters: HEADER_FILTERS,
      partFilters: PART_FILTERS,
      prefix: start.prefix,
      confPrefix: start.confPrefix,
      errorLog,
      mainErrorLogs: start.errorLogs,
      accessLogs,
      workerConnections: start.workerConnections,
      status: mapSharedMemory(start.status.fd, start.status.bytes),
      statusRow: start.row,
      zones: start.zones.map((zone) => mapSharedMemory(zone.fd, zone.bytes)),
      peerOf: (handle) => peerOf(handle),
      localOf: (handle) => localOf(handle),
      boundTo: start.boundTo,
      onDeaf: () => send({ type: 'deaf' }),
      onIdle: () => finish(),
    },
    (sink) => {
      const handles = start.workerConnections + start.sockets.length + HANDLES_SPARE;
      channel = new Channel(sink, {
        backend: start.io === 'epoll' ? 'epoll' : start.backend,
        maxHandles: Math.min(HANDLES_MAX, Math.max(HANDLES_MIN, handles)),
        maxConnects: 0,
        /* Every line of the error log names the client. */
        peerNames: true,
      });
      return channel;
    },
  );

  function peerOf(handle: Handle): { host: string; port: number } {
    try {
      const peer = (channel as Channel).peerAddress(handle);
      return peer.family === 'Unix' ? { host: 'unix:', port: 0 } : { host: peer.host, port: peer.port };
    } catch (error) {
      if (!(error instanceof MegapipeError)) throw error;
      /* First asked for when the connection was gone already: the kernel no longer knows. */
      return { host: '-', port: 0 };
    }
  }

  function localOf(handle: Handle): string {
    try {
      return (channel as Channel).localAddress(handle).host;
    } catch (error) {
      if (!(error instanceof MegapipeError)) throw error;
      return '';
    }
  }

  let ended = false;

  function finish(): void {
    if (ended) return;
    ended = true;
    // Not from within the channel's own callbacks.
    setImmediate(() => {
      clearTimeout(clock);
      accessLogs.close();
      syslog.close();
      (channel as Channel).destroy();
      send({ type: 'done' });
    });
  }

  let clock: NodeJS.Timeout;
  const restAfterRush = afterRush();
  function everySecond(): void {
    const now = Date.now();
    engine.setTime(now);
    restAfterRush(engine.requestsServed());
    clock = setTimeout(everySecond, 1000 - (now % 1000));
  }
  everySecond();

  const attached = channel as unknown as Channel;

  const obey = (message: ToWorker): void => {
    switch (message.type) {
      case 'go':
        for (const { fd, listen } of start.sockets) engine.listen(fd, listen);
        send({ type: 'ready', backend: attached.backend, reason: attached.backendReason });
        return;
      case 'quit':
        if (message.abortAfterMs > 0) setTimeout(() => engine.abortAll(), message.abortAfterMs).unref();
        engine.quit();
        return;
      case 'stop':
        finish();
        return;
      case 'reopen':
        accessLogs.close();
        accessLogs.fds = message.logFds;
        errorLog.fds = message.logFds;
        send({ type: 'reopened' });
        return;
      default:
        throw new Error(`worker: unknown message ${JSON.stringify(message)}`);
    }
  };

  attached.attach();
  return obey;
}
