/**
 * Coming to rest after the start.
 *
 * What it is for: most of what a Node process holds in memory has served its start only: pages of the program, modules' source text,
 * garbage. A server that waits for its next connection gives it back. Not its job: deciding when (master.ts, generation.ts).
 */

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { trimProcess } from '@megapipe/core';

/** What ends with the start has ended then. */
const REST_AFTER_MS = 200;

/** Soon, what the start took goes back to the system. */
export function rest(): void {
  setTimeout(() => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as (options: object) => void;
    collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
    // Last: the collector itself is part of what goes.
    trimProcess();
  }, REST_AFTER_MS).unref();
}
