/**
 * memcached-ts: the main thread.
 *
 * What it is for: reads the command line, opens the listening sockets, makes the cache's memory, starts the workers, keeps
 * the clock, carries messages between workers, and ends everything on a signal. Not its job: any connection, any command.
 *
 *   memcached-ts -p 11211 -m 64 -t 2 --io megapipe
 */
import { rmSync } from 'node:fs';
import type { Worker } from 'node:worker_threads';
import { closeDescriptor, startThread, trimProcess } from '@megapipe/core';
import { AuthFileError, type Credential, readAuthFile } from './auth_file.ts';
import { type BackgroundInput, stopBackground } from './background.ts';
import { isDaemonChild, reportReady, startDaemon } from './daemon.ts';
import { type Cache, createCache } from './engine/cache.ts';
import {
  type CacheConfig,
  D_STARTED,
  MEMORY_BYTES_MAX,
  PAGE_BYTES,
  W_DETAIL,
  W_LOG_UNDERWAY,
  W_TIME,
  W_VERBOSITY,
} from './engine/layout.ts';
import { slabSizes } from './engine/slabs.ts';
import { complain, fail } from './fail.ts';
import { collectStartGarbage } from './heap.ts';
import { HELP, LICENSE, VERSION_LINE } from './help.ts';
import { useLargePages } from './large_pages.ts';
import { openSockets, writePortFile } from './listen.ts';
import { EX_OSERR, parseCommandLine, UsageError } from './options.ts';
import { removePidFile, writePidFile } from './pid_file.ts';
import { applyLimits, dropPrivileges, lockCacheMemory } from './privileges.ts';
import { Recovery } from './recovery.ts';
import { CorruptMetadata, MemoryFile, MemoryFileError } from './restart.ts';
import type { Settings } from './settings.ts';
import { reason } from './strerror.ts';
import type { ToWorker, WorkerInput, WorkerMessage } from './worker.ts';

const TICK_MS = 250;
/** How long clients may take for the command that they are in the middle of. */
const DRAIN_MS = 5000;
/** A worker in a long operation must not keep the process. */
const STOP_MS = 10_000;
/** A place's next thread may die this many times before it begins to serve. */
const STARTS_MAX = 2;
/** What a limit that is raised may reach at least. */
const RESERVE_BYTES_MIN = 1024 * PAGE_BYTES;

/** The module of a thread, as source or as what it is compiled to. */
function threadModule(name: string): URL {
  return new URL(import.meta.url.endsWith('.ts') ? `./${name}.ts` : `./${name}.js`, import.meta.url);
}

/** The threads that use the cache, and what passes between the workers and this thread. */
class Workers {
  private readonly workers: Worker[] = [];
  private background: Worker | undefined;
  private credentials: Credential[] | undefined;
  /** Threads that were started and have not ended; those of them that have begun to serve. */
  private readonly alive = new Set<number>();
  private readonly serving = new Set<number>();
  /** Starts in a row that came to nothing, of threads that replace one. */
  private readonly failedStarts = new Map<number, number>();
  private stopping = false;
  private onShutdown: (graceful: boolean) => void = () => {};
  private onStop: () => void = () => {};
  private recovery: Recovery | undefined;
  private i32: Int32Array | undefined;
  /** Bytes of log lines that a worker has yet to take, by the numbers of both: `to from`. */
  private readonly logUnderway = new Map<string, number>();

  /** Starts one; gives its message once it accepts. */
  start(input: WorkerInput): Promise<Extract<WorkerMessage, { type: 'ready' }>> {
    // One that takes a dead one's place knows what was told to that.
    const workerData: WorkerInput = { ...input, credentials: this.credentials ?? input.credentials };
    const worker = startThread(threadModule('worker'), { workerData, name: `worker ${input.thread}` });
    this.workers[input.thread - 1] = worker;
    this.watch(worker, input.thread, `worker thread ${input.thread}`, () => void this.start(input));
    return new Promise((resolve) => {
      worker.on('message', (message: WorkerMessage) => {
        if (message.type === 'ready') {
          this.serving.add(input.thread);
          resolve(message);
        } else if (message.type === 'failed') {
          // One that was still starting when the server was told to end finds its sockets closed.
          if (!this.stopping) fail(message.message, EX_OSERR);
        } else if (message.type === 'shutdown') this.onShutdown(message.graceful);
        else this.relay(message.message, message.to, input.thread);
      });
    });
  }

  /** Starts the thread that does the cache's background work. */
  startBackground(input: BackgroundInput): void {
    const worker = startThread(threadModule('background'), { workerData: { background: input } });
    this.background = worker;
    worker.once('online', () => this.serving.add(input.thread));
    worker.on('message', (message: WorkerMessage) => {
      if (message.type === 'relay') this.relay(message.message, message.to, input.thread);
    });
    this.watch(worker, input.thread, 'background thread', () => this.startBackground(input));
  }

  /**
   * One that dies is replaced. The first of its place that cannot even begin takes the server with it, and so does the
   * third in a row of those that were to replace one.
   */
  private watch(worker: Worker, thread: number, name: string, again: () => void): void {
    this.alive.add(thread);
    let why = 'it was ended';
    worker.once('error', (error) => {
      why = error instanceof Error ? (error.stack ?? error.message) : String(error);
    });
    worker.once('exit', () => {
      this.alive.delete(thread);
      if (this.stopping) return;
      this.silence(thread);
      const beganAfter = this.serving.delete(thread) ? 0 : (this.failedStarts.get(thread) ?? STARTS_MAX) + 1;
      if (beganAfter > STARTS_MAX) fail(`${name} failed: ${why}`, EX_OSERR);
      this.failedStarts.set(thread, beganAfter);
      this.recovery!.died(thread, this.alive, why, again);
    });
  }

  /** Is called when the workers are told to stop. */
  setOnStop(onStop: () => void): void {
    this.onStop = onStop;
  }

  /** Who cleans up after a thread that dies while the server serves; `i32`: the cache's memory. */
  setRecovery(recovery: Recovery, i32: Int32Array): void {
    this.recovery = recovery;
    this.i32 = i32;
  }

  /** A message of one thread for another or for all. Whoever waits for an answer of a thread that is gone is told so. */
  private relay(message: ToWorker, to: number | undefined, from: number): void {
    const { logUnderway } = this;
    if (message.type === 'logTaken') {
      const key = `${from} ${to}`;
      logUnderway.set(key, (logUnderway.get(key) ?? 0) - message.bytes);
      this.logTaken(to!, message.bytes);
      return;
    }
    this.tell(message, to);
    if (message.type !== 'ask' && message.type !== 'log') return;
    for (let thread = 1; thread <= this.workers.length; thread++) {
      const alive = this.alive.has(thread);
      if (message.type === 'ask') {
        if (!alive) this.tell({ type: 'died', thread }, message.from);
      } else if (alive) {
        const key = `${thread} ${message.from}`;
        logUnderway.set(key, (logUnderway.get(key) ?? 0) + message.bytes);
      } else {
        this.logTaken(message.from, message.bytes);
      }
    }
  }

  /** A worker has taken log lines of that thread. */
  private logTaken(thread: number, bytes: number): void {
    if (thread > this.workers.length) Atomics.sub(this.i32!, W_LOG_UNDERWAY, 1);
    else this.tell({ type: 'logTaken', bytes }, thread);
  }

  /** A thread is gone: nobody is to wait for it. */
  private silence(thread: number): void {
    this.tell({ type: 'died', thread });
    for (const [key, bytes] of this.logUnderway) {
      const [to, from] = key.split(' ').map(Number) as [number, number];
      if (to !== thread && from !== thread) continue;
      this.logUnderway.delete(key);
      if (to === thread && from !== thread && bytes > 0) this.logTaken(from, bytes);
    }
  }

  /** To one worker (1 … threads), or to all. */
  tell(message: ToWorker, thread?: number): void {
    if (message.type === 'credentials') this.credentials = message.credentials;
    if (thread !== undefined) this.workers[thread - 1]!.postMessage(message);
    else for (const worker of this.workers) worker.postMessage(message);
  }

  /** The command `shutdown` was given. */
  setOnShutdown(onShutdown: (graceful: boolean) => void): void {
    this.onShutdown = onShutdown;
  }

  /** Has all of them close what they serve (`graceful`: once that is between two commands) and end. Whether they have in time. */
  async stop(graceful: boolean): Promise<boolean> {
    this.stopping = true;
    const threads = this.background === undefined ? this.workers : [...this.workers, this.background];
    const gone = threads.map((thread) => new Promise((resolve) => thread.once('exit', resolve)));
    this.tell({ type: 'stop', graceful });
    this.onStop();
    const whole = Promise.all(gone).then(() => true);
    const within = (ms: number): Promise<boolean> =>
      Promise.race([whole, new Promise<boolean>((resolve) => setTimeout(resolve, ms, false).unref())]);
    if (graceful) {
      if (await within(DRAIN_MS)) return true;
      // Who is still in the middle of a command is cut off, as memcached does at once; what is stored is sound all the same.
      this.tell({ type: 'stop', graceful: false });
    }
    return within(STOP_MS);
  }
}

/** Ends the process on SIGINT, SIGTERM, SIGUSR1 and the command `shutdown`, from now on. */
function stopOnSignals(
  settings: Settings,
  workers: Workers,
  shared: readonly number[],
  onStopped: (graceful: boolean, whole: boolean) => void,
): void {
  // Workers accept from duplicates of these. As long as one is open, the system takes connections that nobody serves.
  const closeListeners = (): void => {
    for (const fd of shared) closeDescriptor(fd);
  };
  let stopping = false;
  const stop = async (graceful: boolean): Promise<void> => {
    if (stopping) return;
    stopping = true;
    if (graceful) complain('Gracefully stopping');
    closeListeners();
    const whole = await workers.stop(graceful);
    onStopped(graceful, whole);
    if (settings.socketPath !== undefined) rmSync(settings.socketPath, { force: true });
    if (!graceful && settings.verbosity > 0) complain('Exiting normally');
    process.exit(0);
  };
  process.on('SIGINT', () => void stop(false));
  process.on('SIGTERM', () => void stop(false));
  process.on('SIGUSR1', () => void stop(true));
  workers.setOnShutdown((graceful) => void stop(graceful));
}

/** -Y: the file's lines, and those of each SIGHUP to the workers; a file that is wrong then leaves the old lines in force. */
function watchAuthFile(settings: Settings, workers: Workers): Credential[] | undefined {
  const path = settings.authFile;
  const read = (): Credential[] | undefined => (path === undefined ? undefined : readAuthFile(path));
  process.on('SIGHUP', () => {
    try {
      const credentials = read();
      if (credentials !== undefined) workers.tell({ type: 'credentials', credentials });
    } catch (error) {
      complain(`SIGHUP: ${error instanceof Error ? error.message : String(error)}`);
    }
  });
  try {
    return read();
  } catch (error) {
    if (error instanceof AuthFileError) fail(error.message, 1);
    throw error;
  }
}

/** -vv, as memcached begins. */
function describeClasses(config: CacheConfig): void {
  for (const [i, size] of slabSizes(config).entries()) {
    const [id, bytes, count] = [`${i + 1}`, `${size}`, `${Math.floor(PAGE_BYTES / size)}`] as const;
    complain(`slab class ${id.padStart(3)}: chunk size ${bytes.padStart(9)} perslab ${count.padStart(7)}`);
  }
}

async function serve(settings: Settings): Promise<void> {
  if (isDaemonChild() && !settings.coreDumps) process.chdir('/');
  const workers = new Workers();
  const sharedFds: number[] = [];
  let memoryFile: MemoryFile | undefined;
  stopOnSignals(settings, workers, sharedFds, (graceful, whole) => {
    if (memoryFile === undefined || !graceful) return;
    if (whole) memoryFile.close();
    else complain(`${settings.memoryFile}: not saved, a thread did not stop in time`);
  });
  applyLimits(settings);
  dropPrivileges(settings);
  const credentials = watchAuthFile(settings, workers);
  const { listeners, portLines, udp } = await openSockets(settings);
  sharedFds.push(...new Set(listeners.flat().map((listener) => listener.fd)));
  let cache: Cache | undefined;
  const seed = (Math.random() * 2 ** 32) | 0;
  // Addresses for `cache_memlimit` to grow into; they cost nothing until they are used, but -k would use them.
  if (!settings.lockMemory) {
    settings.cache.memoryBytesMax = Math.min(
      MEMORY_BYTES_MAX,
      Math.max(4 * settings.cache.memoryBytes, RESERVE_BYTES_MIN),
    );
  }
  if (settings.memoryFile !== undefined) {
    try {
      memoryFile = new MemoryFile(settings.memoryFile, settings.cache, seed, settings.threads + 2);
    } catch (error) {
      const known = error instanceof CorruptMetadata || error instanceof MemoryFileError;
      return fail(known ? error.message : `failed to mmap, aborting: ${reason(error)}`, 1);
    }
    for (const words of memoryFile.complaints) complain(words);
    const found = memoryFile.reason === undefined ? `${memoryFile.items} items` : `empty: ${memoryFile.reason}`;
    if (settings.verbosity > 0) complain(`memory file ${settings.memoryFile}: ${found}`);
    cache = memoryFile.cache;
  }
  try {
    cache ??= createCache(settings.cache, 'none', 0, seed);
  } catch {
    settings.cache.memoryBytesMax = 0;
  }
  try {
    cache ??= createCache(settings.cache, 'none', 0, seed);
  } catch {
    return fail(`failed to allocate ${settings.cache.memoryBytes} bytes of item memory`, EX_OSERR);
  }
  const whole = cache;
  workers.setOnStop(() => stopBackground(whole.memory));
  const { i32, f64, shared } = cache.memory;
  workers.setRecovery(new Recovery(whole, settings.threads), i32);
  lockCacheMemory(settings, shared);
  if (settings.largePages) useLargePages(shared, settings.verbosity);
  if (settings.verbosity > 1) describeClasses(settings.cache);
  if (
    settings.largePages &&
    (memoryFile === undefined || memoryFile.reason !== undefined) &&
    !whole.slabs.preallocate()
  ) {
    complain('Error while preallocating slab memory!');
    fail(`If using -L or other prealloc options, max memory must be at least ${whole.slabs.largest} megabytes.`, 1);
  }
  i32[W_VERBOSITY] = settings.verbosity;
  i32[W_DETAIL] = settings.detailEnabled ? 1 : 0;
  // A worker may have clients before the last one serves.
  setInterval(() => {
    // Seconds since start, from the clock rather than from counting ticks: a suspended machine must not keep items alive.
    const seconds = Math.floor(Date.now() / 1000) - f64[D_STARTED];
    if (seconds > i32[W_TIME]) Atomics.store(i32, W_TIME, seconds);
  }, TICK_MS);
  if (settings.pidFile !== undefined) {
    // As soon as somebody may connect, for whoever looks for it then.
    const path = settings.pidFile;
    writePidFile(path);
    process.once('exit', () => removePidFile(path));
  }
  const ready = listeners.map((list, i) =>
    workers.start({ shared, settings, credentials, thread: i + 1, listeners: list, udp: i === 0 ? udp : [] }),
  );
  if (settings.threads > 1) {
    workers.startBackground({ shared, settings, thread: settings.threads + 1 });
  }
  const { backend, reason: why, udpPortLines } = (await Promise.all(ready))[0]!;
  portLines.push(...udpPortLines);
  if (settings.io === 'megapipe' && backend === 'epoll') complain(`--io megapipe is not possible here: ${why}`);
  else if (settings.verbosity > 0) complain(`serving with ${backend}: ${why}`);
  writePortFile(portLines);
  collectStartGarbage();
  trimProcess();
  if (isDaemonChild()) reportReady(settings);
}

const warnings: string[] = [];
function sayWarnings(): void {
  if (!isDaemonChild()) for (const warning of warnings) complain(warning);
}

try {
  const parsed = parseCommandLine(process.argv.slice(2), warnings);
  sayWarnings();
  if (parsed.action === 'help') process.stdout.write(HELP);
  else if (parsed.action === 'license') process.stdout.write(LICENSE);
  else if (parsed.action === 'version') process.stdout.write(VERSION_LINE);
  else if (parsed.settings.daemon && !isDaemonChild()) startDaemon(parsed.settings);
  else await serve(parsed.settings);
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  sayWarnings();
  fail(error.message, error.exitCode);
}
