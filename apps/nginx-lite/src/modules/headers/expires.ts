/**
 * Words of `expires`, in the configuration and, where a variable has them, of each answer.
 *
 * Invariant: what is no time is an error with nginx's words; of an answer it means that nothing is added.
 */

import type { Expires } from '../../conf/model.ts';
import { parseTimeSec } from '../../conf/units.ts';

const DAY_SECONDS = 86_400;

/** `modified`: the word stood before it. */
export function parseExpiresText(given: string, modified: boolean): Expires | { error: string } {
  if (!modified && (given === 'off' || given === 'epoch' || given === 'max')) return { kind: given };
  const sign = given.startsWith('-') ? -1 : 1;
  const daily = given.startsWith('@');
  if (daily && modified) return { error: 'daily time cannot be used with "modified" parameter' };
  const seconds = parseTimeSec(/^[-+@]/.test(given) ? given.slice(1) : given);
  if (seconds === null) return { error: 'invalid value' };
  if (!daily) return { kind: modified ? 'modified' : 'access', seconds: sign * seconds };
  return seconds > DAY_SECONDS ? { error: 'daily time value must be less than 24 hours' } : { kind: 'daily', seconds };
}
