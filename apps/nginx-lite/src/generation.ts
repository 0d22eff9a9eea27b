/**
 * A generation: the child process that serves one configuration.
 *
 * What it is for: starts the workers, each on a thread of its own where there are several, a single one on the thread that is there
 * anyway (a JavaScript engine less); gives up privileges once they are loaded, replaces a thread that dies, obeys the master and
 * the signals of nginx's workers. Invariants: nobody accepts before privileges are gone; the process ends when its last worker
 * is done. A generation whose master is gone finishes and ends: nobody could reload or stop it. Not its job: listening sockets
 * and shared memory, which it inherits.
 */

import { constants } from 'node:os';
import { closeDescriptor, startThread, trimProcess } from '@megapipe/core';
import { applyLimits } from './limits.ts';
import { cpusOf } from './listeners.ts';
import { errnoOf, strerror } from './log/errno.ts';
import { ErrorLogWriter } from './log/error-log.ts';
import { closeLogs, openLogs } from './log/files.ts';
import { Syslog } from './log/syslog.ts';
import type { FromGeneration, FromWorker, GenerationStart, ToGeneration, ToWorker, WorkerStart } from './messages.ts';

interface WorkerState {
  tell: (message: ToWorker) => void;
  index: number;
  loaded: boolean;
  ready: boolean;
  deaf: boolean;
  done: boolean;
  /** Called when the worker uses the reopened logs. */
  reopened: (() => void) | null;
}

const syslog = new Syslog();
const workers = new Set<WorkerState>();
let start: GenerationStart | null = null;
let logFds: number[] = [];
let log = new ErrorLogWriter([], syslog);
let ending: 'stop' | 'quit' | null = null;
let unprivileged = false;
let readySent = false;
let worn = false;

function send(message: FromGeneration): void {
  if (process.connected) process.send?.(message, () => {});
}

function say(level: 'alert' | 'emerg' | 'notice', message: string): void {
  log.write(start?.errorLogs ?? [{ file: -1, level: 'notice' }], level, message);
}

/* ------------------------------------------------------------------ workers */

function begin(message: GenerationStart): void {
  start = message;
  logFds = message.logFds;
  log = new ErrorLogWriter(logFds, syslog);
  process.title = 'nginx: worker process';
  // Before the workers begin: threads take the priority of who made them.
  applyLimits(message.limits, message.workerProcesses, (text) => say('alert', text));
  if (message.workerProcesses === 1) void serveHere(message);
  else for (let index = 0; index < message.workerProcesses; index++) startWorkerThread(message, index);
}

function workerStart(from: GenerationStart, index: number): WorkerStart {
  const { type: _type, files: _files, sockets, workerProcesses, workerAffinity, user: _user, rows, ...common } = from;
  const mine: WorkerStart['sockets'] = [];
  for (const [listen, fds] of sockets.entries()) {
    if (fds.length === 0) continue;
    // Each worker has its own sockets; where there are fewer sockets than workers they share, and none is left out.
    if (fds.length <= workerProcesses) mine.push({ fd: fds[index % fds.length] as number, listen });
    else for (let i = index; i < fds.length; i += workerProcesses) mine.push({ fd: fds[i] as number, listen });
  }
  return {
    ...common,
    logFds,
    index,
    row: rows[index] as number,
    cpus: cpusOf(workerAffinity, index),
    sockets: mine,
  };
}

function newState(index: number, tell: (message: ToWorker) => void): WorkerState {
  const state: WorkerState = { tell, index, loaded: false, ready: false, deaf: false, done: false, reopened: null };
  workers.add(state);
  return state;
}

function startWorkerThread(from: GenerationStart, index: number): void {
  const file = import.meta.url.endsWith('.ts') ? './worker-thread.ts' : './worker-thread.js';
  const thread = startThread(new URL(file, import.meta.url), { workerData: workerStart(from, index) });
  const state = newState(index, (message) => thread.postMessage(message));
  thread.on('message', (message: FromWorker) => fromWorker(state, message));
  thread.on('error', (error: Error) => say('alert', `worker thread ${index} failed: ${error.stack ?? error.message}`));
  thread.on('exit', (code) => workerEnded(state, code));
}

/** The only worker, on this thread. What it throws ends the process, and the master starts another one. */
async function serveHere(from: GenerationStart): Promise<void> {
  process.on('uncaughtExceptionMonitor', (error) => say('alert', `worker failed: ${error.stack ?? error.message}`));
  // Where the workers are threads, this one has no use for what serves.
  const { serve } = await import('./worker.ts');
  if (ending !== null) return;
  const obey = serve(workerStart(from, 0), (message) => {
    fromWorker(state, message);
    if (message.type === 'done') workerEnded(state, 0);
  });
  const state = newState(0, obey);
  fromWorker(state, { type: 'loaded' });
}

function fromWorker(state: WorkerState, message: FromWorker): void {
  switch (message.type) {
    case 'loaded':
      state.loaded = true;
      if (unprivileged) state.tell({ type: 'go' });
      else if ([...workers].every((each) => each.loaded)) {
        // Now, while nobody waits for an answer: it takes some milliseconds.
        trimProcess();
        dropPrivileges(start as GenerationStart);
        for (const each of workers) each.tell({ type: 'go' });
      }
      return;
    case 'ready':
      state.ready = true;
      if (!readySent && [...workers].every((each) => each.ready)) {
        readySent = true;
        send({ type: 'ready', backend: message.backend, reason: message.reason });
      }
      return;
    case 'reopened':
      state.reopened?.();
      return;
    case 'deaf':
      state.deaf = true;
      if ([...workers].every((each) => each.deaf)) closeSockets();
      return;
    case 'done':
      state.done = true;
      return;
    default:
      throw new Error(`generation: unknown message ${JSON.stringify(message)}`);
  }
}

function workerEnded(state: WorkerState, code: number): void {
  workers.delete(state);
  state.reopened?.();
  if (ending !== null) {
    if (workers.size === 0) leave(0);
    return;
  }
  say('alert', `worker thread ${state.index} exited with code ${code}`);
  if (!readySent) {
    leave(1);
    return;
  }
  // A thread that served is replaced here; one that cannot even start needs a new process, with the master's rights.
  if (state.ready && !worn) startWorkerThread(start as GenerationStart, state.index);
  else if (!worn) {
    worn = true;
    send({ type: 'worn', reason: `worker thread ${state.index} could not be started again` });
  }
}

/** From here on files are opened, and requests served, as the configured user. */
function dropPrivileges(from: GenerationStart): void {
  unprivileged = true;
  if (from.user !== null) {
    const { name, uid, gid } = from.user;
    try {
      process.setgid?.(gid);
      // Missing from the type declarations.
      (process as unknown as { initgroups(user: string, group: number): void }).initgroups(name, gid);
      process.setuid?.(uid);
    } catch (error) {
      // Serving as root what was to be served as somebody else is no choice.
      say('emerg', `setuid(${uid}) failed (${strerror(errnoOf(error))})`);
      leave(2);
    }
  }
  if (from.workingDirectory === null) return;
  try {
    process.chdir(Buffer.from(from.workingDirectory, 'latin1').toString('utf8'));
  } catch (error) {
    say('alert', `chdir("${from.workingDirectory}") failed (${strerror(errnoOf(error))})`);
    leave(2);
  }
}

/* ------------------------------------------------------------------ orders */

function quit(abortAfterMs: number): void {
  if (ending !== null) return;
  ending = 'quit';
  say('notice', 'gracefully shutting down');
  process.title = 'nginx: worker process is shutting down';
  for (const each of workers) each.tell({ type: 'quit', abortAfterMs });
  if (workers.size === 0) leave(0);
}

function stop(): void {
  ending = 'stop';
  for (const each of workers) each.tell({ type: 'stop' });
  if (workers.size === 0) leave(0);
}

/** Nothing waits in the queues any more: with our copies closed, an address that nobody wants refuses connections. */
function closeSockets(): void {
  if (start === null) return;
  for (const fds of start.sockets) for (const fd of fds.splice(0)) closeDescriptor(fd);
}

function reopen(): void {
  if (start === null) return;
  say('notice', 'reopening logs');
  let fds: number[];
  try {
    fds = openLogs(start.files);
  } catch (error) {
    say('emerg', (error as Error).message);
    return;
  }
  const old = logFds;
  logFds = fds;
  log = new ErrorLogWriter(fds, syslog);
  const answers = [...workers].map(
    (each) =>
      new Promise<void>((resolve) => {
        each.reopened = resolve;
        each.tell({ type: 'reopen', logFds: fds });
      }),
  );
  void Promise.all(answers).then(() => closeLogs(old));
}

function leave(code: number): void {
  if (ending !== null) for (const word of ['exiting', 'exit']) say('notice', word);
  process.exit(code);
}

/** A signal to this very process; the master sends none but KILL. */
function obey(name: NodeJS.Signals, action: string, act: () => void): void {
  process.on(name, () => {
    say('notice', `signal ${constants.signals[name]} (${name}) received${action}`);
    act();
  });
}

obey('SIGTERM', ', exiting', stop);
obey('SIGINT', ', exiting', stop);
obey('SIGQUIT', ', shutting down', () => quit(0));
obey('SIGUSR1', ', reopening logs', reopen);
obey('SIGHUP', ', ignoring', () => {});
obey('SIGUSR2', ', ignoring', () => {});
process.on('SIGWINCH', () => {
  const background = start?.daemonized === true;
  say('notice', `signal 28 (SIGWINCH) received${background ? ', shutting down' : ''}`);
  if (background) quit(0);
});
process.on('disconnect', () => quit(0));
process.on('message', (message: ToGeneration) => {
  switch (message.type) {
    case 'start':
      begin(message);
      return;
    case 'quit':
      quit(message.abortAfterMs);
      return;
    case 'stop':
      stop();
      return;
    case 'reopen':
      reopen();
      return;
    default:
      throw new Error(`generation: unknown message ${JSON.stringify(message)}`);
  }
});
