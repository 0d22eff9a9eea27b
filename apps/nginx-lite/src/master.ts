/**
 * The master: listening sockets, logs, pid file, workers, signals.
 *
 * What it is for: opens everything before it starts anything, keeps it over reloads, ends it in order. Invariants: the
 * pid file is there only while every listener listens; a reload that fails changes nothing; old workers are told to
 * quit only after the new ones are ready; listening sockets are kept by address and never closed in between.
 * Not its job: requests.
 */

import { closeSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { closeDescriptor, listenGroup, listenTcp, listenUnix, localAddress } from '@megapipe/core';
import { type Loaded, loadConfiguration } from './conf/compile.ts';
import { ConfError, type LogLevelName } from './conf/errors.ts';
import type { Listen, Model } from './conf/model.ts';
import { COUNTERS } from './http/engine.ts';
import { EADDRINUSE, errnoOf, strerror } from './log/errno.ts';
import { ErrorLogWriter } from './log/error-log.ts';
import type { FromWorker, IoMode, ToWorker, WorkerStart } from './messages.ts';

const BIND_TRIES = 5;
const BIND_PAUSE_MS = 500;
/** A worker that dies is started again, but not for ever. */
const RESPAWNS_PER_MINUTE = 10;
/** A worker that does not obey "stop" by then is cut off with the process. */
const STOP_PATIENCE_MS = 3000;

export interface MasterOptions {
  prefix: string;
  confFile: string;
  globals: string;
  errorLog: string;
  io: IoMode;
  /** Start-up messages. */
  say(level: LogLevelName, message: string): void;
}

/** Sockets of one address. */
interface Bound {
  listen: Listen;
  fds: number[];
  host: string;
  port: number;
}

interface WorkerState {
  thread: Worker;
  index: number;
  generation: number;
  ready: boolean;
  quitting: boolean;
  done: boolean;
  /** Called when the worker uses the reopened logs. */
  reopened: (() => void) | null;
}

export class Master {
  private readonly options: MasterOptions;
  private model: Model | null = null;
  private generation = 0;
  private readonly workers = new Set<WorkerState>();
  private readonly bound = new Map<string, Bound>();
  /** Descriptors of log files by path. */
  private logFds = new Map<string, number>();
  private readonly counters = new Int32Array(new SharedArrayBuffer(COUNTERS * 4));
  private log: ErrorLogWriter = new ErrorLogWriter([]);
  private ending: 'stop' | 'quit' | null = null;
  private reloading = false;
  private reloadWanted = false;
  private reopenWanted = false;
  private respawns: number[] = [];
  /** Waiting for the workers of a generation: resolved with false when one of them dies first. */
  private readyWaiter: { generation: number; resolve: (ok: boolean) => void } | null = null;

  constructor(options: MasterOptions) {
    this.options = options;
  }

  /** Opens, binds, starts. False when it could not; the reason was said. */
  async start(loaded: Loaded): Promise<boolean> {
    const { model } = loaded;
    try {
      const logs = this.openLogs(model);
      this.logFds = logs;
      this.log = new ErrorLogWriter(fdsOf(model, logs));
      await this.openListeners(model);
    } catch (error) {
      if (!(error instanceof ConfError)) throw error;
      this.options.say(error.level, error.message);
      return false;
    }
    this.model = model;
    this.installSignals();
    this.generation = 1;
    if (!(await this.startWorkers(model, this.generation))) return false;
    if (!this.writePid(model.pid)) return false;
    this.notice('start worker processes');
    return true;
  }

  /* ------------------------------------------------------------------ files and sockets */

  private openLogs(model: Model): Map<string, number> {
    const logs = new Map<string, number>();
    try {
      for (const path of model.files) logs.set(path, openLog(path));
    } catch (error) {
      for (const fd of logs.values()) closeSync(fd);
      throw error;
    }
    return logs;
  }

  /** Makes what is not there yet; on failure what was made is closed again. Returns the addresses made. */
  private async openListeners(model: Model): Promise<string[]> {
    const made: string[] = [];
    let failed = false;
    let tries = BIND_TRIES;
    for (;;) {
      failed = false;
      for (const listen of model.http?.listens ?? []) {
        if (this.bound.has(listen.text)) continue;
        try {
          this.bound.set(listen.text, this.bind(listen, model));
          made.push(listen.text);
        } catch (error) {
          const errno = errnoOf(error);
          const call = (error as { syscall?: string }).syscall ?? 'bind';
          this.options.say('emerg', `${call}() to ${listen.text} failed (${strerror(errno)})`);
          if (errno !== EADDRINUSE) {
            this.unbind(made);
            throw new ConfError(`${call}() to ${listen.text} failed (${strerror(errno)})`, 'emerg');
          }
          failed = true;
        }
      }
      if (!failed) return made;
      if (--tries === 0) break;
      this.options.say('notice', `try again to bind() after ${BIND_PAUSE_MS}ms`);
      await new Promise((resolve) => setTimeout(resolve, BIND_PAUSE_MS));
    }
    this.unbind(made);
    throw new ConfError('still could not bind()');
  }

  private bind(listen: Listen, model: Model): Bound {
    if (listen.family === 'Unix') {
      const fd = listenUnix({ path: listen.host, backlog: listen.backlog, mode: 0o666 });
      return { listen, fds: [fd], host: `unix:${listen.host}`, port: 0 };
    }
    const { host, port, backlog, ipv6Only } = listen;
    // An address and the wildcard of its port are two sockets here; only SO_REUSEPORT lets both listen.
    const overlaps = (model.http?.listens ?? []).some((other) => other !== listen && other.port === port);
    const common = { host, port, backlog, ipv6Only };
    const partitioned = this.options.io === 'megapipe' && model.workerProcesses > 1;
    let fds: number[];
    if (overlaps) {
      const count = partitioned ? model.workerProcesses : 1;
      fds = [];
      try {
        for (let i = 0; i < count; i++) fds.push(listenTcp({ ...common, reusePort: true }));
      } catch (error) {
        for (const fd of fds) closeDescriptor(fd);
        throw error;
      }
    } else if (partitioned) {
      const cpus = steeringOf(model);
      fds = listenGroup({ ...common, count: model.workerProcesses, ...(cpus === null ? {} : { cpus }) });
    } else fds = [listenTcp(common)];
    const at = localAddress(fds[0] as number);
    return { listen, fds, host: at.host, port: at.port };
  }

  private unbind(addresses: readonly string[]): void {
    for (const text of addresses) {
      const bound = this.bound.get(text);
      this.bound.delete(text);
      if (bound === undefined) continue;
      for (const fd of bound.fds) closeDescriptor(fd);
      if (bound.listen.family === 'Unix' && bound.listen.host.startsWith('/'))
        rmSync(bound.listen.host, { force: true });
    }
  }

  private writePid(path: string): boolean {
    try {
      writeFileSync(Buffer.from(path, 'latin1'), `${process.pid}\n`);
      return true;
    } catch (error) {
      this.options.say('emerg', `open() "${path}" failed (${strerror(errnoOf(error))})`);
      return false;
    }
  }

  /* ------------------------------------------------------------------ workers */

  /** Starts one generation; true when every worker of it accepts connections. */
  private async startWorkers(model: Model, generation: number): Promise<boolean> {
    if (model.http === null) return true;
    const ready = new Promise<boolean>((resolve) => {
      this.readyWaiter = { generation, resolve };
    });
    for (let index = 0; index < model.workerProcesses; index++) this.startWorker(model, index, generation);
    return await ready;
  }

  private startWorker(model: Model, index: number, generation: number): void {
    const http = model.http;
    if (http === null) return;
    const sockets: WorkerStart['sockets'] = [];
    const boundTo: WorkerStart['boundTo'] = [];
    for (const [listenIndex, listen] of http.listens.entries()) {
      const bound = this.bound.get(listen.text) as Bound;
      boundTo.push({ host: bound.host, port: bound.port });
      // Each worker has its own sockets; where there are fewer sockets than workers they share, and none is left out.
      const { fds } = bound;
      const count = model.workerProcesses;
      if (fds.length <= count) sockets.push({ fd: fds[index % fds.length] as number, listen: listenIndex });
      else for (let i = index; i < fds.length; i += count) sockets.push({ fd: fds[i] as number, listen: listenIndex });
    }
    const workerData: WorkerStart = {
      index,
      io: this.options.io,
      http,
      prefix: model.prefix,
      errorLogs: model.errorLogs,
      logFds: fdsOf(model, this.logFds),
      sockets,
      boundTo,
      workerConnections: model.workerConnections,
      cpus: cpusOf(model, index),
      counters: this.counters,
    };
    const file = import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js';
    const thread = new Worker(new URL(file, import.meta.url), { workerData });
    const state: WorkerState = {
      thread,
      index,
      generation,
      ready: false,
      quitting: false,
      done: false,
      reopened: null,
    };
    this.workers.add(state);
    thread.on('message', (message: FromWorker) => this.fromWorker(state, message));
    thread.on('error', (error: Error) => {
      this.message('alert', `worker thread ${index} failed: ${error.stack ?? error.message}`);
    });
    thread.on('exit', (code) => this.workerEnded(state, code));
  }

  private fromWorker(state: WorkerState, message: FromWorker): void {
    switch (message.type) {
      case 'ready':
        state.ready = true;
        if (this.options.io === 'megapipe' && message.backend !== 'uring') this.sayBackend(message.reason);
        this.checkReady();
        return;
      case 'reopened':
        state.reopened?.();
        return;
      case 'done':
        state.done = true;
        return;
      default:
        throw new Error(`master: unknown message ${JSON.stringify(message)}`);
    }
  }

  private backendSaid = false;

  private sayBackend(reason: string): void {
    if (this.backendSaid) return;
    this.backendSaid = true;
    this.options.say('warn', `--io megapipe is not possible here: ${reason}`);
  }

  private checkReady(): void {
    const waiter = this.readyWaiter;
    if (waiter === null) return;
    for (const each of this.workers) if (each.generation === waiter.generation && !each.ready) return;
    this.readyWaiter = null;
    waiter.resolve(true);
  }

  private workerEnded(state: WorkerState, code: number): void {
    this.workers.delete(state);
    state.reopened?.();
    const expected = state.quitting || this.ending !== null;
    if (!expected) this.message('alert', `worker thread ${state.index} exited with code ${code}`);
    const waiter = this.readyWaiter;
    if (waiter !== null && waiter.generation === state.generation && !state.ready) {
      this.readyWaiter = null;
      waiter.resolve(false);
    } else if (!expected && state.generation === this.generation) this.respawn(state);
    if (this.ending !== null && this.workers.size === 0) this.exit(0);
  }

  private respawn(state: WorkerState): void {
    const now = Date.now();
    this.respawns = this.respawns.filter((at) => now - at < 60_000);
    this.respawns.push(now);
    if (this.respawns.length > RESPAWNS_PER_MINUTE) {
      this.message('alert', `worker thread ${state.index} ended too often and is not started again`);
      if (this.workers.size === 0) this.exit(1);
      return;
    }
    if (this.model !== null) this.startWorker(this.model, state.index, state.generation);
  }

  private tell(state: WorkerState, message: ToWorker): void {
    state.thread.postMessage(message);
  }

  /* ------------------------------------------------------------------ signals */

  private installSignals(): void {
    process.removeAllListeners('SIGUSR1');
    process.on('SIGUSR1', () => this.reopen());
    process.on('SIGTERM', () => this.stop('SIGTERM'));
    process.on('SIGINT', () => this.stop('SIGINT'));
    process.on('SIGQUIT', () => this.quit());
    process.on('SIGHUP', () => void this.reload());
    process.on('SIGWINCH', () => {
      // Only a daemon may lose its workers by a window's change of size; this master has nothing to do then.
    });
  }

  private stop(name: string): void {
    this.notice(`signal ${name} received, exiting`);
    const first = this.ending !== 'stop';
    this.ending = 'stop';
    if (this.workers.size === 0) this.exit(0);
    if (!first) return;
    for (const each of this.workers) this.tell(each, { type: 'stop' });
    setTimeout(() => this.exit(0), STOP_PATIENCE_MS);
  }

  private quit(): void {
    if (this.ending !== null) return;
    this.notice('signal SIGQUIT received, shutting down');
    this.ending = 'quit';
    if (this.workers.size === 0) this.exit(0);
    for (const each of this.workers) this.retire(each);
    this.unbind([...this.bound.keys()]);
  }

  private retire(state: WorkerState): void {
    state.quitting = true;
    this.tell(state, { type: 'quit', abortAfterMs: this.model?.workerShutdownTimeoutMs ?? 0 });
  }

  /** HUP: the new configuration takes over, or nothing changes. */
  private async reload(): Promise<void> {
    this.notice('signal SIGHUP received, reconfiguring');
    // One that comes while another is at work is not lost: the file may have changed since it was read.
    this.reloadWanted = true;
    if (this.reloading) return;
    this.reloading = true;
    while (this.reloadWanted && this.ending === null) {
      this.reloadWanted = false;
      try {
        await this.reconfigure();
      } catch (error) {
        if (!(error instanceof ConfError)) throw error;
        this.message(error.level, error.message);
      }
    }
    this.reloading = false;
    if (this.reopenWanted) this.reopen();
  }

  private async reconfigure(): Promise<void> {
    const { prefix, confFile, globals, errorLog } = this.options;
    const { model, warnings } = loadConfiguration({ prefix, confFile, globals, errorLog });
    for (const warning of warnings) this.message('warn', warning);
    const logs = this.openLogs(model);
    let made: string[];
    try {
      made = await this.openListeners(model);
    } catch (error) {
      for (const fd of logs.values()) closeSync(fd);
      throw error;
    }
    const old = [...this.workers];
    const oldLogs = this.logFds;
    const oldModel = this.model;
    this.logFds = logs;
    const generation = this.generation + 1;
    const started = await this.startWorkers(model, generation);
    if (!started || this.ending !== null) {
      for (const each of this.workers) if (each.generation === generation) this.retire(each);
      this.unbind(made);
      this.logFds = oldLogs;
      for (const fd of logs.values()) closeSync(fd);
      if (this.ending === null)
        throw new ConfError('new worker threads could not be started, the old ones go on', 'alert');
      return;
    }
    this.generation = generation;
    this.model = model;
    this.log = new ErrorLogWriter(fdsOf(model, logs));
    for (const each of old) this.retire(each);
    const wanted = new Set(model.http?.listens.map((listen) => listen.text) ?? []);
    this.unbind([...this.bound.keys()].filter((text) => !wanted.has(text)));
    if (oldModel !== null && oldModel.pid !== model.pid) {
      rmSync(Buffer.from(oldModel.pid, 'latin1'), { force: true });
      this.writePid(model.pid);
    }
    // The old workers' descriptors stay open until the last of them is gone.
    void Promise.all(old.map((each) => new Promise((resolve) => each.thread.once('exit', resolve)))).then(() => {
      for (const fd of oldLogs.values()) closeSync(fd);
    });
  }

  /** USR1: log files that were moved away are made anew. */
  private reopen(): void {
    const model = this.model;
    if (model === null) return;
    this.reopenWanted = this.reloading;
    if (this.reloading) return;
    this.notice('signal SIGUSR1 received, reopening logs');
    let logs: Map<string, number>;
    try {
      logs = this.openLogs(model);
    } catch (error) {
      this.message('emerg', (error as Error).message);
      return;
    }
    const old = this.logFds;
    this.logFds = logs;
    const fds = fdsOf(model, logs);
    this.log = new ErrorLogWriter(fds);
    const current = [...this.workers].filter((each) => each.generation === this.generation);
    const answers = current.map(
      (each) =>
        new Promise<void>((resolve) => {
          each.reopened = resolve;
          this.tell(each, { type: 'reopen', logFds: fds });
        }),
    );
    void Promise.all(answers).then(() => {
      for (const fd of old.values()) closeSync(fd);
    });
  }

  /* ------------------------------------------------------------------ the end */

  private exit(code: number): void {
    this.notice('exit');
    if (this.model !== null) rmSync(Buffer.from(this.model.pid, 'latin1'), { force: true });
    for (const bound of this.bound.values()) {
      if (bound.listen.family === 'Unix' && bound.listen.host.startsWith('/'))
        rmSync(bound.listen.host, { force: true });
    }
    process.exit(code);
  }

  private notice(message: string): void {
    this.message('notice', message);
  }

  private message(level: LogLevelName, message: string): void {
    this.log.write(this.model?.errorLogs ?? [{ file: -1, level: 'notice' }], level, message);
  }
}

function openLog(path: string): number {
  try {
    return openSync(Buffer.from(path, 'latin1'), 'a', 0o644);
  } catch (error) {
    throw new ConfError(`open() "${path}" failed (${strerror(errnoOf(error))})`);
  }
}

/** CPUs of a worker; the last mask holds for all further ones. */
function cpusOf(model: Model, index: number): number[] {
  const { workerAffinity } = model;
  return workerAffinity[Math.min(index, workerAffinity.length - 1)] ?? [];
}

/** Where each worker has one CPU to itself, connections go to the worker of the CPU that received them. */
function steeringOf(model: Model): number[] | null {
  const cpus = Array.from({ length: model.workerProcesses }, (_, index) => cpusOf(model, index));
  if (cpus.some((each) => each.length !== 1)) return null;
  const flat = cpus.map((each) => each[0] as number);
  return new Set(flat).size === flat.length ? flat : null;
}

/** Descriptors in the order of Model.files. */
function fdsOf(model: Model, logs: ReadonlyMap<string, number>): number[] {
  return model.files.map((path) => logs.get(path) ?? 2);
}
