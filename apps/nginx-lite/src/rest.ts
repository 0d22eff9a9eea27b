/**
 * The master comes to rest.
 *
 * What it is for: most of what a Node process holds in memory has served its start only: pages of the program, garbage, free memory of
 * malloc. A process that waits for signals gives it back. Invariant: not before it has had nothing to do for a while. Not its job: the
 * processes that serve, which must not stand still for a collection (generation.ts gives back the program's pages before they begin).
 */

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { trimProcess } from '@megapipe/core';

const REST_AFTER_MS = 2000;

let timer: NodeJS.Timeout | null = null;

/** There is nothing to do at the moment. */
export function rest(): void {
  if (timer === null) timer = setTimeout(giveBack, REST_AFTER_MS).unref();
  else timer.refresh();
}

function giveBack(): void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as (options: object) => void;
  collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  // Last: the collector itself is part of what goes.
  trimProcess();
}
