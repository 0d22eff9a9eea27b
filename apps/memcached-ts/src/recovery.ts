/**
 * What happens when threads of the server die: of an error, or ended by something.
 *
 * What it is for: the cache is made sound (engine/repair.ts says what stays and what is forgotten), the connections of the
 * dead are taken off the count, one line goes to stderr, and the caller starts another thread in each one's place. The
 * other threads serve on; who waits for a lock of the dead has it within milliseconds.
 * Not its job: starting threads (main.ts).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cache } from './engine/cache.ts';
import { LOCK_STRIDE_WORDS, W_CURR_CONNS, W_THREAD_CONNS } from './engine/layout.ts';
import { Repair } from './engine/repair.ts';
import { complain } from './fail.ts';

/** How long an attempt waits for a thread that seems to live, and the next attempt for news of it. */
const ATTEMPT_MS = 200;
const NEWS_MS = 10;

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
      const connections = W_THREAD_CONNS + thread * LOCK_STRIDE_WORDS;
      Atomics.sub(i32, W_CURR_CONNS, i32[connections]!);
      i32[connections] = 0;
    }
    const forgotten = `${report.forgotten} of ${report.kept + report.forgotten} items forgotten`;
    for (const line of lines) complain(`${line}: ${forgotten}, starting another`);
    for (const start of again) start();
  }
}
