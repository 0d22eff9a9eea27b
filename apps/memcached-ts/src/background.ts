/**
 * Where the cache's background work (engine/maintainer.ts) runs.
 *
 * With several workers it has a thread of its own, this file's, which sleeps on a word of the cache's memory until
 * something is due or somebody asks for something, and takes the same locks as the workers.
 * With one worker there are no locks, so that a request costs nothing for work that others might do; then the worker does
 * the background work itself, in slices between two batches, from a timer (`BackgroundTimer`).
 * Not its job: what is done.
 */
import { createRequire } from 'node:module';
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { Cache } from './engine/cache.ts';
import { CacheMemory, W_BACKGROUND_STOP, W_BACKGROUND_WAKE, W_LOG_FLAGS, W_LOG_UNDERWAY } from './engine/layout.ts';
import { Maintainer } from './engine/maintainer.ts';
import { collectStartGarbage } from './heap.ts';
import { Logger, type LogLines, type WatcherOutput } from './logger.ts';
import type { Settings } from './settings.ts';
import type { WorkerMessage } from './worker.ts';

/** What main.ts hands to the background thread. */
export interface BackgroundInput {
  shared: SharedArrayBuffer;
  settings: Settings;
  /** Its number among the cache's threads: the one after the last worker. */
  thread: number;
}

/**
 * Least time between two slices on a worker, and items that one moves, about 0.1 ms: requests come first. While memory is ample
 * 20,000 a second are enough, also where a thread of its own does it, a slice each millisecond.
 */
const SLICE_MS_MIN = 5;
const SLICE_MOVES_MAX = 500;
const EASY_MOVES_MAX = 100;
const EASY_THREAD_MOVES_MAX = 20;

/** Does the background work on the thread that made it. */
export class BackgroundTimer {
  private readonly cache: Cache;
  private readonly logger: Logger;
  private readonly maintainer: Maintainer;
  private readonly i32: Int32Array;
  private timer: NodeJS.Timeout;
  private seen = 0;

  /** `logger`: that of the worker, which what is done here is told to. */
  constructor(cache: Cache, logger: Logger) {
    this.cache = cache;
    this.logger = logger;
    this.maintainer = new Maintainer(cache, SLICE_MOVES_MAX, EASY_MOVES_MAX);
    this.i32 = cache.memory.i32;
    this.timer = setTimeout(this.run, SLICE_MS_MIN);
  }

  /** To be called after a command that asks for background work. */
  kick(): void {
    if (this.i32[W_BACKGROUND_WAKE] === this.seen) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(this.run, 0);
  }

  stop(): void {
    clearTimeout(this.timer);
  }

  private readonly run = (): void => {
    this.seen = this.i32[W_BACKGROUND_WAKE];
    this.cache.items.log = this.i32[W_LOG_FLAGS] === 0 ? null : this.logger;
    const sleepUs = this.maintainer.step(performance.now() * 1000);
    this.timer = setTimeout(this.run, Math.max(SLICE_MS_MIN, sleepUs / 1000));
  };
}

/** Tells the background thread to end; it does within the step that it is in. */
export function stopBackground(memory: CacheMemory): void {
  Atomics.store(memory.i32, W_BACKGROUND_STOP, 1);
  Atomics.add(memory.i32, W_BACKGROUND_WAKE, 1);
  Atomics.notify(memory.i32, W_BACKGROUND_WAKE);
}

/** Nobody watches on the background thread. */
const NO_WATCHERS: WatcherOutput = { room: () => 0, write: () => false };

function runThread({ shared, settings, thread }: BackgroundInput, port: MessagePort): void {
  const memory = new CacheMemory(shared, settings.cache);
  const send = (log: LogLines, bytes: number): void => {
    Atomics.store(i32, W_LOG_UNDERWAY, settings.threads);
    port.postMessage({ type: 'relay', message: { type: 'log', from: thread, bytes, log } } satisfies WorkerMessage);
  };
  const cache = new Cache(memory, settings.lock, thread);
  cache.slabs.discard = (offset, bytes) => {
    // Seldom needed, and megabytes in a thread that needs nothing else of it. At once: this thread never turns its event loop.
    const core = createRequire(import.meta.url)('@megapipe/core') as typeof import('@megapipe/core');
    core.discardMemory(shared, offset, bytes);
  };
  const maintainer = new Maintainer(cache, Number.POSITIVE_INFINITY, EASY_THREAD_MOVES_MAX);
  const { i32 } = memory;
  const logger = new Logger(cache, settings.workerLogbufBytes, send, NO_WATCHERS, false);
  Atomics.store(i32, W_LOG_UNDERWAY, 0);
  collectStartGarbage();
  while (Atomics.load(i32, W_BACKGROUND_STOP) === 0) {
    const seen = Atomics.load(i32, W_BACKGROUND_WAKE);
    cache.items.log = i32[W_LOG_FLAGS] === 0 ? null : logger;
    const sleepUs = maintainer.step(performance.now() * 1000);
    // This thread hears no messages. So one of its own is under way at a time; then nothing is, as far as the logger knows.
    if (cache.items.log !== null && Atomics.load(i32, W_LOG_UNDERWAY) <= 0) {
      logger.flush();
      logger.taken(Number.POSITIVE_INFINITY);
    }
    Atomics.wait(memory.i32, W_BACKGROUND_WAKE, seen, sleepUs / 1000);
  }
}

if (parentPort !== null && (workerData as { background?: BackgroundInput } | null)?.background !== undefined) {
  runThread((workerData as { background: BackgroundInput }).background, parentPort);
}
