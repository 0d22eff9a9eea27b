/**
 * Options of Node for the processes that serve.
 *
 * What it is for: bin/nginx-lite starts the master with options that keep it small and would make a server slow; its children are
 * started like it, but for those. Not its job: what users add (NODE_OPTIONS does not reach the children).
 */

/** Of the master alone. */
const SMALL = new Set(['--jitless', '--single-threaded', '--v8-pool-size=1']);

/**
 * What is hot is compiled by the optimizing compiler in the end; the two compilers before it would keep 8 MB for what runs rarely, and
 * make nothing faster that runs often. Little is young here for long: answers from memory allocate nothing (MiB a half).
 */
const SERVING = ['--no-maglev', '--no-sparkplug', '--max-semi-space-size=2'];

export function servingOptions(execArgv: readonly string[]): string[] {
  return [...execArgv.filter((option) => !SMALL.has(option)), ...SERVING];
}
