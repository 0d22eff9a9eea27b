/**
 * strftime(3) in the C locale, for `$date_local` and `$date_gmt`.
 *
 * What it is for: the formats that glibc knows, with its flags and widths. Invariant: what is no conversion stands in the result as it
 * was written. Not its job: dates of HTTP and of logs (date.ts).
 */

import { readFileSync } from 'node:fs';

/** What `$date_local` and `$date_gmt` are where nobody says otherwise. */
export const DEFAULT_TIMEFMT = '%A, %d-%b-%Y %H:%M:%S %Z';
/** Longest result: nginx has a buffer of 2 KiB, with the end of the string in it. */
const RESULT_MAX = 2047;
/** No field is wider than any result may be. */
const WIDTH_MAX = 4096;

const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
const MONTHS = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
];

const CONVERSION = /%([_\-0^#]*)(\d*)([EO]?)([A-Za-z%])/g;
/** Other names for the same in other locales: which conversions refuse to have one. */
const REFUSING: Record<string, string> = { E: 'aAbBhdDeFgGHIjklmMSUVwW%', O: 'aAcCDFxXY%' };
/** Conversions that are short for others. */
const COMPOSED: Record<string, string> = {
  c: '%a %b %e %H:%M:%S %Y',
  D: '%m/%d/%y',
  F: '%Y-%m-%d',
  R: '%H:%M',
  r: '%I:%M:%S %p',
  T: '%H:%M:%S',
  X: '%H:%M:%S',
  x: '%m/%d/%y',
};

/** The time `ms` as `format` wants it, in UTC or in local time; '' also where the result would be too long. */
export function strftime(format: string, ms: number, utc: boolean): string {
  // As nginx: this one alone is the clock, which the other conversions take from broken-down time.
  if (format === '%s') return String(Math.floor(ms / 1000));
  const offset = utc ? 0 : -new Date(ms).getTimezoneOffset();
  // The fields of local time are those of UTC some minutes later.
  const time = { at: new Date(ms + offset * 60_000), ms, offset, utc };
  const text = format.replaceAll(CONVERSION, (all, flags: string, width: string, modifier: string, name: string) => {
    if (modifier !== '' && (REFUSING[modifier] as string).includes(name)) return all;
    const found = convert(time, name);
    if (found === null) return all;
    return shaped(found, flags, Math.min(Number(width), WIDTH_MAX));
  });
  return text.length > RESULT_MAX ? '' : text;
}

interface Time {
  /** Its UTC fields are those to show. */
  at: Date;
  ms: number;
  /** Minutes east of Greenwich. */
  offset: number;
  utc: boolean;
}

interface Converted {
  text: string;
  /** What fills it up to its width; '': neither has it one of its own. */
  pad: '0' | ' ' | '';
  width: number;
  /** `#` makes it lower case. */
  lowers?: true;
}

const number = (value: number, width: number, pad: '0' | ' ' = '0'): Converted => ({ text: String(value), pad, width });
const word = (text: string): Converted => ({ text, pad: '', width: 0 });

function convert(time: Time, name: string): Converted | null {
  const { at } = time;
  const year = at.getUTCFullYear();
  const day = at.getUTCDay();
  const hour = at.getUTCHours();
  const yearDay = Math.floor((at.getTime() - Date.UTC(year, 0, 1)) / 86_400_000);
  const composed = COMPOSED[name];
  if (composed !== undefined)
    return word(
      composed.replaceAll(/%([A-Za-z])/g, (_all, each: string) => shaped(convert(time, each) as Converted, '', 0)),
    );
  switch (name) {
    case 'a':
      return word((DAYS[day] as string).slice(0, 3));
    case 'A':
      return word(DAYS[day] as string);
    case 'b':
    case 'h':
      return word((MONTHS[at.getUTCMonth()] as string).slice(0, 3));
    case 'B':
      return word(MONTHS[at.getUTCMonth()] as string);
    case 'C':
      return number(Math.floor(year / 100), 2);
    case 'd':
      return number(at.getUTCDate(), 2);
    case 'e':
      return number(at.getUTCDate(), 2, ' ');
    case 'g':
      return number(isoWeek(year, yearDay, day).year % 100, 2);
    case 'G':
      return number(isoWeek(year, yearDay, day).year, 1);
    case 'H':
      return number(hour, 2);
    case 'I':
      return number(hour % 12 || 12, 2);
    case 'j':
      return number(yearDay + 1, 3);
    case 'k':
      return number(hour, 2, ' ');
    case 'l':
      return number(hour % 12 || 12, 2, ' ');
    case 'm':
      return number(at.getUTCMonth() + 1, 2);
    case 'M':
      return number(at.getUTCMinutes(), 2);
    case 'n':
      return word('\n');
    case 'p':
      return { ...word(hour < 12 ? 'AM' : 'PM'), lowers: true };
    case 'P':
      return word(hour < 12 ? 'am' : 'pm');
    case 's': {
      // The C library takes broken-down time for local time, also where it was made as UTC.
      const local = time.utc ? new Date(time.ms).getTimezoneOffset() * 60 : 0;
      return number(Math.floor(time.ms / 1000) + local, 1);
    }
    case 'S':
      return number(at.getUTCSeconds(), 2);
    case 't':
      return word('\t');
    case 'u':
      return number(day || 7, 1);
    case 'U':
      return number(Math.floor((yearDay + 7 - day) / 7), 2);
    case 'V':
      return number(isoWeek(year, yearDay, day).week, 2);
    case 'w':
      return number(day, 1);
    case 'W':
      return number(Math.floor((yearDay + 7 - ((day + 6) % 7)) / 7), 2);
    case 'y':
      return number(year % 100, 2);
    case 'Y':
      return number(year, 1);
    case 'z': {
      const minutes = Math.abs(time.offset);
      const digits = String(Math.floor(minutes / 60) * 100 + (minutes % 60)).padStart(4, '0');
      return word(`${time.offset < 0 ? '-' : '+'}${digits}`);
    }
    case 'Z':
      return { ...word(time.utc ? 'GMT' : zoneName(time.ms, time.offset)), lowers: true };
    case '%':
      return word('%');
    default:
      return null;
  }
}

function shaped(found: Converted, flags: string, width: number): string {
  let pad: string = found.pad;
  let bare = false;
  let { text } = found;
  for (const flag of flags) {
    if (flag === '^') text = text.toUpperCase();
    else if (flag === '#') text = found.lowers ? text.toLowerCase() : text.toUpperCase();
    else if (flag === '-') bare = true;
    else pad = flag === '_' ? ' ' : '0';
  }
  if (width > 0) return text.padStart(width, pad === '' || bare ? ' ' : pad);
  return bare || found.width === 0 ? text : text.padStart(found.width, pad);
}

/** Week 1 is the one with the year's first Thursday; days before it belong to the year before. */
function isoWeek(year: number, yearDay: number, weekDay: number): { year: number; week: number } {
  const thursday = new Date(Date.UTC(year, 0, yearDay + 1 - ((weekDay + 6) % 7) + 3));
  const ofYear = thursday.getUTCFullYear();
  return { year: ofYear, week: Math.floor((thursday.getTime() - Date.UTC(ofYear, 0, 1)) / 604_800_000) + 1 };
}

/* ------------------------------------------------------------------ names of time zones */

/** Transitions of the local zone, in order: when (seconds), minutes east, name. */
type Transition = [at: number, offset: number, name: string];
let transitions: Transition[] | null = null;

/** `CET` or the like: what the zone's file calls the offset that holds at the time. */
function zoneName(ms: number, offset: number): string {
  transitions ??= readZone();
  let name = '';
  for (const [at, minutes, each] of transitions) {
    if (minutes !== offset) continue;
    // The file ends before time does: the last name of the offset holds.
    if (name !== '' && at > ms / 1000) break;
    name = each;
  }
  return name || (offset === 0 ? 'UTC' : '');
}

/** RFC 8536, version 2 or later. No file: no transitions. */
function readZone(): Transition[] {
  const zone = process.env['TZ']?.replace(/^:/, '');
  const path =
    zone === undefined ? '/etc/localtime' : zone.startsWith('/') ? zone : `/usr/share/zoneinfo/${zone || 'UTC'}`;
  try {
    return parseZone(readFileSync(path));
  } catch {
    return [];
  }
}

const ZONE_HEADER = 44;

export function parseZone(file: Buffer): Transition[] {
  const counts = (at: number): number[] => [20, 24, 28, 32, 36, 40].map((field) => file.readUInt32BE(at + field));
  const [utc = 0, standard = 0, leaps = 0, times = 0, kinds = 0, chars = 0] = counts(0);
  // The first block has 32-bit times, and is for old readers.
  const second = ZONE_HEADER + times * 5 + kinds * 6 + chars + leaps * 8 + standard + utc;
  const [, , , count = 0, types = 0] = counts(second);
  const timesAt = second + ZONE_HEADER;
  const typesAt = timesAt + count * 9;
  const kind = (index: number, at: number): Transition => {
    const row = typesAt + index * 6;
    const nameAt = typesAt + types * 6 + file.readUInt8(row + 5);
    return [at, Math.round(file.readInt32BE(row) / 60), file.toString('latin1', nameAt, file.indexOf(0, nameAt))];
  };
  const found = [kind(0, Number.NEGATIVE_INFINITY)];
  for (let i = 0; i < count; i++)
    found.push(kind(file.readUInt8(timesAt + count * 8 + i), Number(file.readBigInt64BE(timesAt + i * 8))));
  return found;
}
