/**
 * Numbers in words of rare commands, as C's library reads and prints them: memcached's replies to odd ones come from there.
 *
 * A word is latin1. Reading is memcached's: the whole word, or what stands before white space, and undefined for anything else.
 * Not its job: the numbers of requests (numbers.ts), which are read in the bytes themselves.
 */
import { Decimal } from './numbers.ts';

const number = new Decimal();
/** White space, a sign, then a hexadecimal number, a decimal one or a word. */
const DOUBLE =
  /^[ \t-\r]*([-+]?)(?:0x([\da-f]*)(?:\.([\da-f]*))?(?:p([-+]?\d+))?|((?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)|(inf(?:inity)?)|(nan(?:\(\w*\))?))(?=$|[ \t-\r])/i;
/** The least that is not denormalised: below, C reports a range error. */
const NORMAL_MIN = 2 ** -1022;

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
  if (match === null) return undefined;
  const [, sign, whole, fraction = '', exponent = '0', decimal, infinite] = match;
  const negative = sign === '-' ? -1 : 1;
  if (infinite !== undefined) return negative * Number.POSITIVE_INFINITY;
  let value = Number.NaN;
  let zero = false;
  if (decimal !== undefined) {
    value = Number(decimal);
    zero = !/[1-9]/.test(decimal.split(/e/i)[0]!);
  } else if (whole !== undefined) {
    if (whole + fraction === '') return undefined;
    value = 0;
    for (const digit of whole + fraction) value = value * 16 + Number.parseInt(digit, 16);
    zero = value === 0;
    value *= 2 ** (Number(exponent) - 4 * fraction.length);
  } else {
    return value;
  }
  if (!zero && (value < NORMAL_MIN || value === Number.POSITIVE_INFINITY)) return undefined;
  return negative * value;
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
