/**
 * The JavaScript heap of a thread, once it has started.
 *
 * What it is for: loading modules leaves sources, syntax trees and dead copies behind, about 5 MB in each thread, which V8
 * would keep until it is idle for long. Not its job: garbage of requests; there is next to none.
 */

type Collect = (options: { type: 'major'; flavor: 'last-resort' }) => void;

/** Gives back what starting left. Takes some 10 ms; does nothing in a process without --expose-gc (bin/memcached-ts has it). */
export function collectStartGarbage(): void {
  (globalThis as { gc?: Collect }).gc?.({ type: 'major', flavor: 'last-resort' });
}
