/**
 * What happens when threads of the server die: of an error, or ended by something.
 *
 * What it is for: the cache is made sound (engine/repair.ts says what stays and what is forgotten), the connections of the
 * dead are taken off the count (and so are its watchers, and clients that waited for a place), one line goes to stderr, and the caller starts another thread in each one's place. The
 * other threads serve on; who waits for a lock of the dead has it within milliseconds.
 * Not its job: starting threads (main.ts).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cache } from './engine/cache.ts';
import {
  LOCK_STRIDE_WORDS,
  LOG_KINDS_COUNT,
  W_ACCEPTING,
  W_CURR_CONNS,
  W_LOG_COUNTS,
  W_LOG_FLAGS,
  W_LOG_WATCHERS,
  W_THREAD_CONNS,
  W_THREAD_LOG_COUNTS,
  W_THREAD_PARKS,
  W_THREAD_WATCHERS,
} from './engine/layout.ts';
import { Repair } from './engine/repair.ts';
import { clearGauges } from './engine/stats.ts';
import { complain } from './fail.ts';

/** How long an attempt waits for a thread that seems to live, and the next attempt for news of it. */
const ATTEMPT_MS = 200;
const NEWS_MS = 10;

/** Takes what a dead thread had, at `own`, from what all have; gives what is left of that. */
function takeBack(i32: Int32Array, own: number, all: number): number {
  const count = i32[own]!;
  i32[own] = 0;
  return Atomics.sub(i32, all, count) - count;
}

export class Recovery {
  private readonly cache: Cache;
  private readonly workers: number;
  private repairing: { dead: Set<number>; alive: Set<number>; lines: string[]; again: (() => void)[] } | undefined;

  /** `workers`: their number; they are the threads 1 … workers, and the next is the background thread. */
  constructor(cache: Cache, workers: number) {
    this.cache = cache;
    this.workers = workers;
  }

  /** Cleans up after `thread`, then calls `again`. `alive`: numbers of the threads that go on. */
  died(thread: number, alive: Iterable<number>, why: string, again: () => void): void {
    const name = thread > this.workers ? 'background thread' : `worker thread ${thread}`;
    const line = `${name} died (${why})`;
    if (this.repairing === undefined) {
      this.repairing = { dead: new Set([thread]), alive: new Set(alive), lines: [line], again: [again] };
      void this.repair();
      return;
    }
    // Another one, before the cache was sound again.
    this.repairing.dead.add(thread);
    this.repairing.alive.delete(thread);
    this.repairing.lines.push(line);
    this.repairing.again.push(again);
  }

  private async repair(): Promise<void> {
    const { dead, alive, lines, again } = this.repairing!;
    const background = this.workers + 1;
    // The one worker of -t 1 takes no locks, so nobody knows what it was changing.
    const lockless = this.workers === 1;
    const repair = new Repair(this.cache, { dead, alive, lockless, background, owner: background + 1 });
    let report = repair.attempt(ATTEMPT_MS);
    while (report === undefined) {
      await sleep(NEWS_MS);
      report = repair.attempt(ATTEMPT_MS);
    }
    this.repairing = undefined;
    const { i32 } = this.cache.memory;
    for (const thread of dead) {
      const at = thread * LOCK_STRIDE_WORDS;
      takeBack(i32, W_THREAD_CONNS + at, W_CURR_CONNS);
      // It no longer keeps anybody waiting, and nobody watches there.
      Atomics.add(i32, W_ACCEPTING, i32[W_THREAD_PARKS + at]!);
      i32[W_THREAD_PARKS + at] = 0;
      takeBack(i32, W_THREAD_WATCHERS + at, W_LOG_WATCHERS);
      for (let kind = 0; kind < LOG_KINDS_COUNT; kind++) {
        if (takeBack(i32, W_THREAD_LOG_COUNTS + at + kind, W_LOG_COUNTS + kind) === 0) {
          Atomics.and(i32, W_LOG_FLAGS, ~(1 << kind));
        }
      }
      clearGauges(this.cache.memory, thread);
    }
    const forgotten = `${report.forgotten} of ${report.kept + report.forgotten} items forgotten`;
    for (const line of lines) complain(`${line}: ${forgotten}, starting another`);
    for (const start of again) start();
  }
}
