/**
 * HTTP dates.
 *
 * What it is for: IMF-fixdate out, and in whatever nginx reads: RFC 822, RFC 850, asctime. Invariant: `formatDate` is
 * always DATE_LENGTH bytes, so that a prepared answer can be given a new date in place.
 */

const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

export const DATE_LENGTH = 29;

/** `Sun, 22 Nov 2026 20:44:20 GMT` of seconds since 1970. */
export function formatDate(seconds: number): string {
  const date = new Date(seconds * 1000);
  const year = String(date.getUTCFullYear()).padStart(4, '0').slice(-4);
  return (
    `${DAYS[date.getUTCDay()]}, ${two(date.getUTCDate())} ${MONTHS[date.getUTCMonth()]} ${year} ` +
    `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())} GMT`
  );
}

function two(value: number): string {
  return value < 10 ? `0${value}` : String(value);
}

const IMF = /^[A-Za-z]+, *(\d\d) ([A-Za-z]{3}) (\d{4}) (\d\d):(\d\d):(\d\d)/;
const RFC850 = /^[A-Za-z]+, *(\d\d)-([A-Za-z]{3})-(\d\d) (\d\d):(\d\d):(\d\d)/;
const ASCTIME = /^[A-Za-z]+ ([A-Za-z]{3}) ([ \d]\d) (\d\d):(\d\d):(\d\d) (\d{4})/;

/** Seconds since 1970, or -1 for what is no date. */
export function parseDate(text: string): number {
  let match = IMF.exec(text);
  if (match !== null) return seconds(match[1], match[2], Number(match[3]), match[4], match[5], match[6]);
  match = RFC850.exec(text);
  if (match !== null) {
    const year = Number(match[3]);
    return seconds(match[1], match[2], year + (year < 70 ? 2000 : 1900), match[4], match[5], match[6]);
  }
  match = ASCTIME.exec(text);
  if (match !== null) return seconds(match[2], match[1], Number(match[6]), match[3], match[4], match[5]);
  return -1;
}

function seconds(
  dayText: string | undefined,
  monthText: string | undefined,
  year: number,
  hourText: string | undefined,
  minuteText: string | undefined,
  secondText: string | undefined,
): number {
  const month = MONTHS.indexOf(monthText ?? '');
  const day = Number(dayText);
  const hour = Number(hourText);
  const minute = Number(minuteText);
  const second = Number(secondText);
  if (month < 0 || hour > 23 || minute > 59 || second > 59 || day < 1) return -1;
  const daysInMonth = new Date(Date.UTC(year, month + 1, 0)).getUTCDate();
  if (day > daysInMonth) return -1;
  const value = Date.UTC(year, month, day, hour, minute, second) / 1000;
  return value < 0 ? -1 : value;
}

/** `Sun, 22-Nov-26 20:44:20 GMT` of seconds since 1970, as cookies have it; years that may be taken for others have four digits. */
export function cookieTime(seconds: number): string {
  const [day, date, month, year, time] = formatDate(seconds).split(' ');
  return `${day} ${date}-${month}-${Number(year) > 2037 ? year : year?.slice(2)} ${time} GMT`;
}

/** `22/Nov/2026:20:44:20 +0000`, local time. */
export function formatLogTime(date: Date): string {
  return (
    `${two(date.getDate())}/${MONTHS[date.getMonth()]}/${date.getFullYear()}:` +
    `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())} ${zone(date, '')}`
  );
}

/** `2026-11-22T20:44:20+00:00`, local time. */
export function formatIsoTime(date: Date): string {
  return (
    `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}T` +
    `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}${zone(date, ':')}`
  );
}

function zone(date: Date, separator: string): string {
  const minutes = -date.getTimezoneOffset();
  const absolute = Math.abs(minutes);
  return `${minutes < 0 ? '-' : '+'}${two(Math.floor(absolute / 60))}${separator}${two(absolute % 60)}`;
}
