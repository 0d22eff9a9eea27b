/**
 * Processes come to rest.
 *
 * What it is for: much of what a Node process holds in memory has served its start or a rush only: pages of the program, garbage, free
 * memory of malloc. A process with nothing to do gives it back: the master all of it; one that serves not its garbage, for it must not
 * stand still for a collection. Invariant: not before there has been nothing to do for a while. Not its job: the start of what serves
 * (generation.ts gives back the program's pages before it begins).
 */

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { trimProcess } from '@megapipe/core';

const REST_AFTER_MS = 2000;
/** After fewer requests than these there is little to give back. It takes some milliseconds, and the first requests afterwards one more. */
const RUSH_REQUESTS = 1000;

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

/** For who serves: to be called once a second with how many requests there have been. */
export function afterRush(): (requests: number) => void {
  let before = 0;
  let atRest = 0;
  let quietMs = 0;
  return (requests) => {
    quietMs = requests === before ? quietMs + 1000 : 0;
    before = requests;
    if (quietMs < REST_AFTER_MS || requests - atRest < RUSH_REQUESTS) return;
    atRest = requests;
    trimProcess();
  };
}
