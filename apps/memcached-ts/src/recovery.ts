/**
 * What happens when a thread of the server dies: of an error, or ended by something.
 *
 * What it is for: the cache is made sound (engine/repair.ts says what stays and what is forgotten), the connections of the
 * dead are taken off the count, one line goes to stderr, and the caller starts another thread in its place. The other
 * threads serve on; who waits for a lock of the dead has it within milliseconds.
 * Not its job: starting threads (main.ts).
 */
import type { Cache } from './engine/cache.ts';
import { LOCK_STRIDE_WORDS, W_CURR_CONNS, W_THREAD_CONNS } from './engine/layout.ts';
import { repair } from './engine/repair.ts';
import { complain } from './fail.ts';
import type { Settings } from './settings.ts';

/** Cleans up after `thread`. `alive`: numbers of the threads that go on. */
export function recover(cache: Cache, settings: Settings, thread: number, alive: readonly number[], why: string): void {
  const { i32 } = cache.memory;
  const background = settings.threads + 1;
  const report = repair(cache, {
    dead: new Set([thread]),
    alive: new Set(alive),
    // The one worker of -t 1 takes no locks, so nobody knows what it was changing.
    lockless: settings.threads === 1,
    backgroundAlive: alive.includes(background),
    owner: background + 1,
  });
  const connections = W_THREAD_CONNS + thread * LOCK_STRIDE_WORDS;
  Atomics.sub(i32, W_CURR_CONNS, i32[connections]!);
  i32[connections] = 0;
  const name = thread === background ? 'background thread' : `worker thread ${thread}`;
  complain(
    `${name} died (${why}): ${report.forgotten} of ${report.kept + report.forgotten} items forgotten, starting another`,
  );
}
