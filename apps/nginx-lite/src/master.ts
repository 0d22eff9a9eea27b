/**
 * The master: a small privileged process that owns listening sockets, logs, the pid file and shared memory.
 *
 * What it is for: one child process (generation.ts) per configuration serves; the master starts it, replaces it when it
 * dies, hands over to the next one on reload, and to a new binary on USR2. Invariants: the pid file is there only
 * while every listener listens; a reload that fails changes nothing; an old generation is told to quit only after the
 * new one is ready; listening sockets are kept by address and never closed in between. Not its job: requests.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import { closeDescriptor, createSharedMemory, mapSharedMemory } from '@megapipe/core';
import { type Loaded, loadConfiguration } from './conf/compile.ts';
import { ConfError, type LogLevelName } from './conf/errors.ts';
import type { Model, Zone } from './conf/model.ts';
import { foldRow, ROWS, STATUS_BYTES } from './http/status-rows.ts';
import { INHERITED_ENV } from './inherited.ts';
import { tooFewDescriptors } from './limits.ts';
import { Listeners } from './listeners.ts';
import { errnoOf, strerror } from './log/errno.ts';
import { ErrorLogWriter } from './log/error-log.ts';
import { closeLogs, giveLogs, openLogs } from './log/files.ts';
import { Syslog } from './log/syslog.ts';
import type { FromGeneration, GenerationStart, IoMode, MegapipeBackend, SharedFile, ToGeneration } from './messages.ts';
import { servingOptions } from './node-options.ts';
import { rest } from './rest.ts';
import { makeTempPaths } from './temp-paths.ts';

/** A child that dies sooner than this after its start is not replaced at once. */
const SHORT_LIFE_MS = 1000;
/** A child that does not obey "stop" by then is killed. */
const STOP_PATIENCE_MS = 3000;
/** First descriptor of a child behind the standard ones and the channel to its parent. */
const FIRST_FD = 4;

const syslog = new Syslog();

export interface MasterOptions {
  prefix: string;
  confFile: string;
  globals: string;
  errorLog: string;
  io: IoMode;
  backend: MegapipeBackend;
  /** How this program was started: for USR2. */
  command: { file: string; args: readonly string[] };
  /** Text of INHERITED_ENV: this is the new binary. */
  inherited: string | null;
  /** It runs in the background: WINCH means something. */
  daemonized: boolean;
  /** Start-up messages. */
  say(level: LogLevelName, message: string): void;
}

interface Child {
  process: ChildProcess;
  generation: number;
  startedMs: number;
  rows: number[];
  ready: boolean;
  quitting: boolean;
  /** worker_shutdown_timeout of the configuration that it serves; 0: none. */
  shutdownTimeoutMs: number;
}

interface SharedZone extends SharedFile {
  zone: Zone;
}

export class Master {
  private readonly options: MasterOptions;
  private readonly listeners: Listeners;
  private model: Model | null = null;
  private generation = 0;
  /** The pid file is written; from now on the log is where messages go. */
  private started = false;
  private readonly children = new Set<Child>();
  private logFds: number[] = [];
  private log: ErrorLogWriter = new ErrorLogWriter([], syslog);
  private readonly status: SharedFile;
  private readonly statusView: ArrayBuffer;
  private readonly freeRows: number[] = Array.from({ length: ROWS }, (_, row) => ROWS - 1 - row);
  private zones = new Map<string, SharedZone>();
  private ending: 'stop' | 'quit' | null = null;
  private reloading = false;
  private reloadWanted = false;
  /** WINCH: nobody accepts until HUP, or until the new binary is gone. */
  private silent = false;
  private newBinary: ChildProcess | null = null;
  /** Whose child this process was at first: the older binary, while it lives. */
  private readonly parent = process.ppid;
  /** Waiting for a child: resolved with false when it dies first. */
  private readyWaiter: { child: Child; resolve: (ok: boolean) => void } | null = null;

  constructor(options: MasterOptions) {
    this.options = options;
    this.listeners = new Listeners(options.io, (level, message) => this.report(level, message));
    this.status = { fd: createSharedMemory(STATUS_BYTES), bytes: STATUS_BYTES };
    this.statusView = mapSharedMemory(this.status.fd, STATUS_BYTES);
  }

  /** Opens, binds, starts. False when it could not; the reason was said. */
  async start(loaded: Loaded): Promise<boolean> {
    const { model } = loaded;
    const { inherited } = this.options;
    if (inherited !== null) {
      this.listeners.adopt(inherited);
      this.listeners.keepFiles = true;
    }
    try {
      makeTempPaths(model.tempPaths, model.user);
      this.logFds = openLogs(model.files);
      this.log = new ErrorLogWriter(this.logFds, syslog);
      await this.listeners.open(model);
    } catch (error) {
      if (!(error instanceof ConfError)) throw error;
      this.options.say(error.level, error.message);
      return false;
    }
    this.listeners.closeOthers(model);
    this.model = model;
    this.warnOfDescriptors(model);
    this.zones = this.zonesFor(model);
    this.installSignals();
    process.title = ['nginx: master process', this.options.command.file, ...this.options.command.args].join(' ');
    this.generation = 1;
    if (inherited !== null) this.notice(`using inherited sockets from "${inherited}"`);
    if ((await this.startChild(model, this.generation)) === null) {
      if (this.ending === null) this.options.say('emerg', 'the worker process did not start');
      return false;
    }
    if (!this.writePid(model.pid)) {
      for (const child of this.children) child.process.kill('SIGTERM');
      return false;
    }
    this.started = true;
    // Listening for signals alone does not keep Node running: a master without children waits for them all the same.
    setInterval(() => {}, 2 ** 30);
    this.notice('start worker processes');
    rest();
    return true;
  }

  private writePid(path: string): boolean {
    try {
      writeFileSync(Buffer.from(path, 'latin1'), `${process.pid}\n`);
      return true;
    } catch (error) {
      this.report('emerg', `open() "${path}" failed (${strerror(errnoOf(error))})`);
      return false;
    }
  }

  /* ------------------------------------------------------------------ shared memory */

  /**
   * Memory for each zone of the configuration. What is there under the same name, of the same kind and size is kept: its
   * contents outlive a generation.
   */
  private zonesFor(model: Model): Map<string, SharedZone> {
    const zones = new Map<string, SharedZone>();
    for (const zone of model.http?.zones ?? []) {
      const known = this.zones.get(zone.name);
      const keep = known !== undefined && known.zone.kind === zone.kind && known.bytes === zone.bytes;
      if (keep && JSON.stringify(known.zone.key) !== JSON.stringify(zone.key)) {
        for (const each of zones.values()) if (this.zones.get(each.zone.name) !== each) closeDescriptor(each.fd);
        throw new ConfError(
          `${zone.kind} "${zone.name}" uses the "${zone.keyText}" key while previously it used the "${known.zone.keyText}" key`,
        );
      }
      zones.set(zone.name, keep ? known : { zone, fd: createSharedMemory(zone.bytes), bytes: zone.bytes });
    }
    return zones;
  }

  private keepZones(zones: Map<string, SharedZone>): void {
    for (const [name, old] of this.zones) if (zones.get(name) !== old) closeDescriptor(old.fd);
    this.zones = zones;
  }

  /* ------------------------------------------------------------------ children */

  /** Starts a generation; null when it died before every worker of it accepted. */
  private async startChild(model: Model, generation: number, zones = this.zones): Promise<Child | null> {
    const http = model.http;
    if (http === null) return null;
    const rows: number[] = [];
    for (let i = 0; i < model.workerProcesses; i++) rows.push(this.freeRows.pop() ?? 0);
    const inherit: number[] = [];
    const pass = (fd: number): number => FIRST_FD + inherit.push(fd) - 1;
    const start: GenerationStart = {
      type: 'start',
      io: this.options.io,
      backend: this.options.backend,
      http,
      prefix: model.prefix,
      confPrefix: model.confPrefix,
      errorLogs: model.errorLogs,
      files: model.files,
      logFds: this.logFds.map(pass),
      sockets: http.listens.map((listen) => this.listeners.get(listen).fds.map(pass)),
      boundTo: http.listens.map((listen) => {
        const { host, port } = this.listeners.get(listen);
        return { host, port };
      }),
      workerProcesses: model.workerProcesses,
      workerAffinity: model.workerAffinity,
      limits: model.limits,
      daemonized: this.options.daemonized,
      workingDirectory: model.workingDirectory,
      workerConnections: model.workerConnections,
      user: model.user,
      rows,
      status: { ...this.status, fd: pass(this.status.fd) },
      zones: http.zones.map((zone) => {
        const { fd, bytes } = zones.get(zone.name) as SharedZone;
        return { fd: pass(fd), bytes };
      }),
    };
    const file = fileURLToPath(
      new URL(import.meta.url.endsWith('.ts') ? './generation.ts' : './generation.js', import.meta.url),
    );
    const child: Child = {
      process: spawn(process.execPath, [...servingOptions(process.execArgv), file], {
        stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...inherit],
        serialization: 'advanced',
        env: environmentOf(model),
      }),
      generation,
      startedMs: Date.now(),
      rows,
      ready: false,
      quitting: false,
      shutdownTimeoutMs: model.workerShutdownTimeoutMs,
    };
    this.children.add(child);
    child.process.on('message', (message: FromGeneration) => this.fromChild(child, message));
    child.process.on('error', (error) => {
      // Only a process that never began ends here; others report their end with "exit".
      this.report('alert', `spawn() failed (${strerror(errnoOf(error))})`);
      if (child.process.pid === undefined) this.childEnded(child, 1, null);
    });
    child.process.on('exit', (code, signal) => this.childEnded(child, code, signal));
    this.tell(child, start);
    const ok = await new Promise<boolean>((resolve) => {
      this.readyWaiter = { child, resolve };
    });
    return ok ? child : null;
  }

  private tell(child: Child, message: ToGeneration): void {
    // A child that is about to end no longer listens; its "exit" tells.
    if (child.process.connected) child.process.send(message, () => {});
  }

  private fromChild(child: Child, message: FromGeneration): void {
    switch (message.type) {
      case 'ready':
        child.ready = true;
        if (this.options.io === 'megapipe' && message.backend === 'epoll') this.sayBackend(message.reason);
        if (this.readyWaiter?.child === child) {
          const { resolve } = this.readyWaiter;
          this.readyWaiter = null;
          resolve(true);
        }
        return;
      case 'worn':
        this.message('alert', `worker process ${child.process.pid}: ${message.reason}`);
        void this.replace(child);
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

  private childEnded(child: Child, code: number | null, signal: NodeJS.Signals | null): void {
    if (!this.children.delete(child)) return;
    for (const row of child.rows) foldRow(this.statusView, row);
    this.freeRows.push(...child.rows);
    const how = signal === null ? `exited with code ${code}` : `exited on signal ${constants.signals[signal]}`;
    this.message(code === 0 ? 'notice' : 'alert', `worker process ${child.process.pid} ${how}`);
    const waiter = this.readyWaiter;
    if (waiter?.child === child) {
      this.readyWaiter = null;
      waiter.resolve(false);
    } else if (!child.quitting && this.ending === null && child.generation === this.generation)
      void this.replace(child);
    if (this.ending !== null && this.children.size === 0) this.exit(0);
  }

  /** The serving generation died or is worn out: another one with the same configuration. The listeners never noticed. */
  private async replace(child: Child): Promise<void> {
    // A reload that is under way brings a new generation anyway, or calls this again when it fails.
    if (this.reloading || this.model === null) return;
    this.reloading = true;
    const life = Date.now() - child.startedMs;
    if (life < SHORT_LIFE_MS) await new Promise((resolve) => setTimeout(resolve, SHORT_LIFE_MS - life));
    let replacement: Child | null = null;
    while (this.ending === null && !this.silent && replacement === null) {
      replacement = await this.startChild(this.model, this.generation);
      if (replacement === null && this.ending === null)
        await new Promise((resolve) => setTimeout(resolve, SHORT_LIFE_MS));
    }
    if (this.children.has(child)) this.retire(child);
    await this.reloadDone();
  }

  private serving(): boolean {
    for (const each of this.children) if (each.ready && !each.quitting) return true;
    return false;
  }

  private retire(child: Child): void {
    if (child.quitting) return;
    child.quitting = true;
    this.tell(child, { type: 'quit', abortAfterMs: child.shutdownTimeoutMs });
  }

  /* ------------------------------------------------------------------ signals */

  private installSignals(): void {
    process.removeAllListeners('SIGUSR1');
    process.on('SIGUSR1', () => this.reopen());
    process.on('SIGTERM', () => this.stop('15 (SIGTERM)'));
    process.on('SIGINT', () => this.stop('2 (SIGINT)'));
    process.on('SIGQUIT', () => this.quit());
    process.on('SIGHUP', () => void this.reload());
    process.on('SIGWINCH', () => this.silence());
    process.on('SIGUSR2', () => this.upgrade());
  }

  private stop(name: string): void {
    this.notice(`signal ${name} received, exiting`);
    const first = this.ending !== 'stop';
    this.ending = 'stop';
    if (this.children.size === 0) this.exit(0);
    if (!first) return;
    for (const each of this.children) this.tell(each, { type: 'stop' });
    setTimeout(() => {
      for (const each of this.children) each.process.kill('SIGKILL');
      this.exit(0);
    }, STOP_PATIENCE_MS);
  }

  private quit(): void {
    if (this.ending !== null) return;
    this.notice('signal 3 (SIGQUIT) received, shutting down');
    this.ending = 'quit';
    if (this.children.size === 0) this.exit(0);
    for (const each of this.children) this.retire(each);
    this.listeners.closeAll();
  }

  /** WINCH. In the foreground a window that changes its size must not end the service. */
  private silence(): void {
    const { daemonized } = this.options;
    this.notice(`signal 28 (SIGWINCH) received${daemonized ? ', stop accepting connections' : ''}`);
    if (!daemonized) return;
    if (this.ending !== null) return;
    this.silent = true;
    for (const each of this.children) this.retire(each);
  }

  /** HUP: the new configuration takes over, or nothing changes. */
  private async reload(): Promise<void> {
    this.notice('signal 1 (SIGHUP) received, reconfiguring');
    // One that comes while another is at work is not lost: the file may have changed since it was read.
    this.reloadWanted = true;
    if (this.reloading) return;
    this.reloading = true;
    await this.reloadDone();
  }

  /** Ends a reload or a replacement: with those that were wanted in the meantime. */
  private async reloadDone(): Promise<void> {
    while (this.reloadWanted && this.ending === null) {
      this.reloadWanted = false;
      try {
        // While a new binary runs, the old one comes back with what it served.
        if (this.newBinary !== null && this.silent) await this.resume();
        else await this.reconfigure();
      } catch (error) {
        if (!(error instanceof ConfError)) throw error;
        this.message(error.level, error.message);
      }
    }
    this.reloading = false;
    rest();
    // A generation that died while another was being tried.
    if (this.ending === null && !this.silent && this.model?.http && !this.serving()) await this.resume();
  }

  private async resume(): Promise<void> {
    this.silent = false;
    if (this.model === null) return;
    this.generation++;
    this.reloading = true;
    await this.startChild(this.model, this.generation);
    await this.reloadDone();
  }

  private async reconfigure(): Promise<void> {
    this.notice('reconfiguring');
    const { prefix, confFile, globals, errorLog } = this.options;
    const onMessage = (level: LogLevelName, message: string): void => this.message(level, message);
    const { model } = loadConfiguration({ prefix, confFile, globals, errorLog, onMessage });
    const zones = this.zonesFor(model);
    makeTempPaths(model.tempPaths, model.user);
    const logFds = openLogs(model.files);
    let made: string[];
    try {
      made = await this.listeners.open(model);
    } catch (error) {
      closeLogs(logFds);
      throw error;
    }
    const old = [...this.children];
    const oldFds = this.logFds;
    const oldModel = this.model;
    this.logFds = logFds;
    const generation = this.generation + 1;
    const child = model.http === null ? null : await this.startChild(model, generation, zones);
    const failed = child === null && model.http !== null;
    if (failed || this.ending !== null) {
      if (child !== null) this.retire(child);
      this.listeners.close(made);
      this.logFds = oldFds;
      closeLogs(logFds);
      if (this.ending === null)
        throw new ConfError('the new worker process did not start, the old one goes on', 'alert');
      return;
    }
    this.silent = false;
    this.generation = generation;
    this.model = model;
    this.keepZones(zones);
    this.log = new ErrorLogWriter(logFds, syslog);
    this.warnOfDescriptors(model);
    closeLogs(oldFds);
    for (const each of old) this.retire(each);
    this.listeners.closeOthers(model);
    if (oldModel !== null && oldModel.pid !== model.pid) {
      rmSync(Buffer.from(oldModel.pid, 'latin1'), { force: true });
      this.writePid(model.pid);
    }
  }

  /** USR1: log files that were moved away are made anew. */
  private reopen(): void {
    this.notice('signal 10 (SIGUSR1) received, reopening logs');
    this.notice('reopening logs');
    const model = this.model;
    if (model === null) return;
    let fds: number[];
    try {
      fds = openLogs(model.files);
      giveLogs(fds, model.user);
    } catch (error) {
      this.message('emerg', (error as Error).message);
      return;
    }
    closeLogs(this.logFds);
    this.logFds = fds;
    this.log = new ErrorLogWriter(fds, syslog);
    for (const each of this.children) this.tell(each, { type: 'reopen' });
  }

  /* ------------------------------------------------------------------ a new binary */

  /** USR2: starts this program anew, with the listening sockets; this one goes on until it is told to quit. */
  private upgrade(): void {
    const { model } = this;
    // In the new binary, while the old one lives; in the old one, while the new one lives; in the foreground.
    const ignored = process.ppid === this.parent || this.newBinary !== null;
    this.notice(`signal 12 (SIGUSR2) received, ${ignored ? 'ignoring' : 'changing binary'}`);
    if (ignored) {
      this.message(
        'crit',
        "the changing binary signal is ignored: you should shutdown or terminate before either old or new binary's process",
      );
      return;
    }
    if (model === null || this.ending !== null) return;
    this.notice('changing binary');
    const old = `${model.pid}.oldbin`;
    try {
      renameSync(Buffer.from(model.pid, 'latin1'), Buffer.from(old, 'latin1'));
    } catch (error) {
      this.message(
        'alert',
        `rename() ${model.pid} to ${old} failed (${strerror(errnoOf(error))}) before executing new binary process "${this.options.command.file}"`,
      );
      return;
    }
    const { fds, text } = this.listeners.handOver(3);
    const child = spawn(
      process.execPath,
      [...process.execArgv, this.options.command.file, ...this.options.command.args],
      {
        stdio: ['ignore', 'inherit', 'inherit', ...fds],
        env: { ...process.env, [INHERITED_ENV]: text },
      },
    );
    this.newBinary = child;
    this.listeners.keepFiles = true;
    child.once('error', (error) => {
      this.message('alert', `spawn() failed (${strerror(errnoOf(error))})`);
      if (child.pid === undefined) this.binaryEnded();
    });
    child.once('exit', (code, signal) => {
      this.message('notice', `new binary process ${child.pid} exited with ${signal ?? `code ${code}`}`);
      this.binaryEnded();
    });
    if (child.pid !== undefined) this.notice(`start new binary process ${child.pid}`);
  }

  /** The new binary is gone: this one is the server again. */
  private binaryEnded(): void {
    this.newBinary = null;
    this.listeners.keepFiles = false;
    const { model } = this;
    if (model === null || this.ending !== null) return;
    try {
      renameSync(Buffer.from(`${model.pid}.oldbin`, 'latin1'), Buffer.from(model.pid, 'latin1'));
    } catch (error) {
      this.message('alert', `rename() ${model.pid}.oldbin back to ${model.pid} failed (${strerror(errnoOf(error))})`);
    }
    if (this.silent && !this.reloading) void this.resume();
  }

  /* ------------------------------------------------------------------ the end */

  private exit(code: number): void {
    this.notice('exit');
    const { model } = this;
    if (model !== null) {
      rmSync(Buffer.from(this.newBinary === null ? model.pid : `${model.pid}.oldbin`, 'latin1'), { force: true });
    }
    // A binary that takes over serves on; so does the older one when the new one is sent home.
    this.listeners.keepFiles =
      this.newBinary !== null || (this.options.inherited !== null && process.ppid === this.parent);
    this.listeners.closeAll();
    process.exit(code);
  }

  /** nginx says so, and so do we, though most connections here need no descriptor. */
  private warnOfDescriptors(model: Model): void {
    const text = tooFewDescriptors(model.workerConnections, model.limits.descriptors);
    if (text !== null) this.message('warn', text);
  }

  private notice(message: string): void {
    this.message('notice', message);
  }

  private message(level: LogLevelName, message: string): void {
    this.log.write(this.model?.errorLogs ?? [{ file: -1, level: 'notice' }], level, message);
  }

  /** What goes wrong at the start is said on the terminal, too. */
  private report(level: LogLevelName, message: string): void {
    if (this.started) this.message(level, message);
    else this.options.say(level, message);
  }
}

/** Beside the time zone: what the channel library itself looks at. */
const KEPT_ENV = ['TZ', 'DEBUG', 'MEGAPIPE_ADDON', 'NODE_COMPILE_CACHE', 'LD_PRELOAD', 'ASAN_OPTIONS'];

/** What children see of the environment: little, and what `env` names. */
function environmentOf(model: Model): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = {};
  for (const each of [...KEPT_ENV, ...model.env]) {
    const equals = each.indexOf('=');
    const name = equals < 0 ? each : each.slice(0, equals);
    const value = equals < 0 ? process.env[name] : each.slice(equals + 1);
    if (value !== undefined) env[name] = value;
  }
  return env;
}
