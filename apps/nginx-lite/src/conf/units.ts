/**
 * nginx's units: numbers, sizes, times, flags.
 *
 * What it is for: pure functions from a configuration word to a number; null says "invalid", the caller has the words.
 * Invariant: what nginx refuses is refused (`1.5m`, `-1`, `1m1h`, more than 63 bits), what it takes gives the same number, or the largest
 * that we can count.
 */

/** Of nginx's signed words of 64 bits. */
const INT_MAX = 2n ** 63n - 1n;

/** A plain decimal number, as ngx_atoi: digits only. */
export function parseNumber(text: string): number | null {
  return countable(whole(text));
}

function whole(text: string): bigint | null {
  if (!/^[0-9]+$/.test(text)) return null;
  const value = BigInt(text);
  return value > INT_MAX ? null : value;
}

/** Beyond what a number holds exactly, nothing is ever counted. */
function countable(value: bigint | null): number | null {
  return value === null ? null : Math.min(Number(value), Number.MAX_SAFE_INTEGER);
}

/** A size: digits with an optional k or m. */
export function parseSize(text: string): number | null {
  return scaled(text, 'km');
}

/** An offset: digits with an optional k, m or g. */
export function parseOffset(text: string): number | null {
  return scaled(text, 'kmg');
}

function scaled(text: string, units: string): number | null {
  const last = text.slice(-1).toLowerCase();
  const unit = last === '' ? -1 : units.indexOf(last);
  const value = whole(unit < 0 ? text : text.slice(0, -1));
  const scale = 1024n ** BigInt(unit + 1);
  return value === null || value > INT_MAX / scale ? null : countable(value * scale);
}

export function parseFlag(text: string): boolean | null {
  const word = text.toLowerCase();
  return word === 'on' ? true : word === 'off' ? false : null;
}

const MINUTE = 60n;
const HOUR = 60n * MINUTE;
const DAY = 24n * HOUR;
/** Units go from large to small: `step` is their place. */
const STEPS: Record<string, { step: number; seconds: bigint }> = {
  y: { step: 1, seconds: 365n * DAY },
  M: { step: 2, seconds: 30n * DAY },
  w: { step: 3, seconds: 7n * DAY },
  d: { step: 4, seconds: DAY },
  h: { step: 5, seconds: HOUR },
  m: { step: 6, seconds: MINUTE },
  s: { step: 7, seconds: 1n },
};
const STEP_MONTH = 2;
const STEP_SECOND = 7;
const STEP_MS = 8;
const STEP_LAST = 9;
/** Longest time that timers count. */
const MS_MAX = 0x7fffffffffff;

/**
 * A time in milliseconds: `30s`, `1h30m`, `500ms`, `1d 2h`, a bare number is seconds; years and months are not known here. Units go
 * from large to small.
 */
export function parseTimeMs(text: string): number | null {
  const ms = parseTime(text, false);
  return ms === null ? null : Math.min(ms, MS_MAX);
}

/** A time in whole seconds, from years on; `ms` is refused, as nginx does where it counts seconds. */
export function parseTimeSec(text: string): number | null {
  return parseTime(text, true);
}

function parseTime(text: string, secondsOnly: boolean): number | null {
  const scale = secondsOnly ? 1n : 1000n;
  let total = 0n;
  let value = 0n;
  let valid = false;
  let step = secondsOnly ? 0 : STEP_MONTH;
  for (let i = 0; i < text.length; i++) {
    const ch = text[i] as string;
    if (ch >= '0' && ch <= '9') {
      value = value * 10n + BigInt(ch);
      valid = true;
      if (value > INT_MAX) return null;
      continue;
    }
    let unit: bigint;
    if (ch === ' ') {
      // A number before a blank counts seconds and ends the list of units.
      if (step >= STEP_SECOND) return null;
      step = STEP_LAST;
      unit = scale;
    } else if (ch === 'm' && text[i + 1] === 's') {
      if (secondsOnly || step >= STEP_MS) return null;
      step = STEP_MS;
      unit = 1n;
      i++;
    } else {
      const found = STEPS[ch];
      if (found === undefined || step >= found.step) return null;
      step = found.step;
      unit = found.seconds * scale;
    }
    total += value * unit;
    if (total > INT_MAX) return null;
    value = 0n;
    while (text[i + 1] === ' ') i++;
  }
  total += value * scale;
  return valid && total <= INT_MAX ? countable(total) : null;
}
