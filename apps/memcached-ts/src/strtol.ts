/**
 * Numbers in words of rare commands and of the command line, as C's library reads and prints them: memcached's replies to odd ones come
 * from there.
 *
 * A word is latin1. `strto…` are memcached's: the whole word, or what stands before white space, and undefined for anything else; `atoi` and
 * `atof` take what a word begins with. Not its job: the numbers of requests (numbers.ts), which are read in the bytes themselves.
 */
import { Decimal } from './numbers.ts';

const number = new Decimal();
/** White space, a sign, then a hexadecimal number, a decimal one or a word. */
const DOUBLE =
  /^[ \t-\r]*([-+]?)(?:0x([\da-f]*)(?:\.([\da-f]*))?(?:p([-+]?\d+))?|((?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)|(inf(?:inity)?)|(nan(?:\(\w*\))?))/i;
const ENDS = /^(?:$|[ \t-\r])/;
/** The least that is not denormalised: below, C reports a range error. */
const NORMAL_MIN = 2 ** -1022;
const INT64_MAX = 2n ** 63n - 1n;

/** As strtoul and a cast to 32 bits. */
export function strtoul32(text: string): number | undefined {
  const bytes = Buffer.from(text, 'latin1');
  return number.unsigned(bytes, 0, bytes.length) ? number.lo : undefined;
}

/** As strtol and a cast to 32 bits. */
export function strtol32(text: string): number | undefined {
  const bytes = Buffer.from(text, 'latin1');
  return number.signed32(bytes, 0, bytes.length) ? number.lo : undefined;
}

/** As strtod: decimal, hexadecimal, infinite, none. undefined also for what is out of range. */
export function strtod(text: string): number | undefined {
  const match = DOUBLE.exec(text);
  if (match === null || !ENDS.test(text.slice(match[0].length))) return undefined;
  const [, , whole, fraction = '', , decimal] = match;
  if (whole !== undefined && whole + fraction === '') return undefined;
  const value = numberFound(match);
  const digits = whole === undefined ? decimal?.split(/e/i)[0] : whole + fraction;
  const outOfRange = Math.abs(value) < NORMAL_MIN || !Number.isFinite(value);
  return digits !== undefined && /[1-9a-f]/i.test(digits) && outOfRange ? undefined : value;
}

/** As atoi: 0 without digits, and wrapped to 32 bits. */
export function atoi(text: string): number {
  const digits = /^[ \t-\r]*([-+]?\d+)/.exec(text)?.[1];
  if (digits === undefined) return 0;
  const long = BigInt(digits.replace('+', ''));
  const clamped = long > INT64_MAX ? INT64_MAX : long < -INT64_MAX - 1n ? -INT64_MAX - 1n : long;
  return Number(BigInt.asIntN(32, clamped));
}

/** As atof: 0 without a number. */
export function atof(text: string): number {
  const match = DOUBLE.exec(text);
  return match === null ? 0 : numberFound(match);
}

/** The number that DOUBLE found. */
function numberFound([, sign, whole, fraction = '', exponent = '0', decimal, infinite]: RegExpExecArray): number {
  const negative = sign === '-' ? -1 : 1;
  if (infinite !== undefined) return negative * Number.POSITIVE_INFINITY;
  if (decimal !== undefined) return negative * Number(decimal);
  if (whole === undefined) return Number.NaN;
  let value = 0;
  for (const digit of whole + fraction) value = value * 16 + Number.parseInt(digit, 16);
  return negative * value * 2 ** (Number(exponent) - 4 * fraction.length);
}

/** As printf's %.Nf. */
export function toFixed(value: number, digits: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value < 0 ? '-inf' : 'inf';
  // JavaScript changes to an exponent at 10^21.
  return Math.abs(value) < 1e21
    ? value.toFixed(digits)
    : `${BigInt(value)}${digits === 0 ? '' : `.${'0'.repeat(digits)}`}`;
}
