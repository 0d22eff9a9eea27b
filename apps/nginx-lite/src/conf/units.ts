/**
 * nginx's units: numbers, sizes, times, flags.
 *
 * What it is for: pure functions from a configuration word to a number; null says "invalid", the caller has the words.
 * Invariant: what nginx refuses is refused (`1.5m`, `-1`, `1m1h`), what it takes gives the same number.
 */

/** A plain decimal number, as ngx_atoi: digits only. */
export function parseNumber(text: string): number | null {
  if (!/^[0-9]+$/.test(text)) return null;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : null;
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
  const value = parseNumber(unit < 0 ? text : text.slice(0, -1));
  if (value === null) return null;
  const bytes = value * 1024 ** (unit + 1);
  return Number.isSafeInteger(bytes) ? bytes : null;
}

export function parseFlag(text: string): boolean | null {
  const word = text.toLowerCase();
  return word === 'on' ? true : word === 'off' ? false : null;
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const STEPS: Record<string, { step: number; ms: number }> = {
  y: { step: 1, ms: 365 * DAY },
  M: { step: 2, ms: 30 * DAY },
  w: { step: 3, ms: 7 * DAY },
  d: { step: 4, ms: DAY },
  h: { step: 5, ms: HOUR },
  m: { step: 6, ms: MINUTE },
  s: { step: 7, ms: SECOND },
};
const STEP_MS = 8;
const STEP_LAST = 9;

/** A time in milliseconds: `30s`, `1h30m`, `500ms`, `1d 2h`, a bare number is seconds. Units go from large to small. */
export function parseTimeMs(text: string): number | null {
  return parseTime(text, false);
}

/** A time in whole seconds; `ms` is refused, as nginx does where it counts seconds. */
export function parseTimeSec(text: string): number | null {
  const ms = parseTime(text, true);
  return ms === null ? null : ms / 1000;
}

function parseTime(text: string, secondsOnly: boolean): number | null {
  let total = 0;
  let value = 0;
  let valid = false;
  let step = 0;
  for (let i = 0; i < text.length; i++) {
    const ch = text[i] as string;
    if (ch >= '0' && ch <= '9') {
      value = value * 10 + (ch.charCodeAt(0) - 48);
      valid = true;
      continue;
    }
    if (ch === ' ') {
      if (step >= STEP_LAST || !valid) return null;
      // A number before a blank counts seconds and ends the list of units.
      if (value > 0) {
        total += value * SECOND;
        value = 0;
      }
      continue;
    }
    let unit = STEPS[ch];
    if (unit === undefined || !valid) return null;
    if (ch === 'm' && text[i + 1] === 's') {
      if (secondsOnly) return null;
      unit = { step: STEP_MS, ms: 1 };
      i++;
    }
    if (step >= unit.step) return null;
    step = unit.step;
    total += value * unit.ms;
    value = 0;
  }
  if (!valid) return null;
  total += value * SECOND;
  return Number.isSafeInteger(total) && total <= 0x7fffffffffff ? total : null;
}
