/**
 * Decimal numbers in bytes, both ways, without strings and without BigInt.
 *
 * What it is for: the numbers of the text protocol, read exactly as C's strtol family reads them (leading white space,
 * a sign, wrapping and range rules), because memcached's replies to odd numbers come from there.
 * A 64-bit number is two unsigned 32-bit halves, `hi` and `lo`. Not its job: the protocol.
 */

/** Result of the last parse of this instance: one instance per thread. */
export class Decimal {
  hi = 0;
  lo = 0;
  private negative = false;
  private overflow = false;

  /** Reads digits; false without any, or when neither the end nor white space follows them. */
  private scan(bytes: Uint8Array, start: number, end: number): boolean {
    let i = start;
    while (i < end && isSpace(bytes[i])) i++;
    this.negative = false;
    this.overflow = false;
    if (i < end && (bytes[i] === 0x2d || bytes[i] === 0x2b)) {
      this.negative = bytes[i] === 0x2d;
      i++;
    }
    const digits = i;
    let hi = 0;
    let lo = 0;
    for (; i < end; i++) {
      const digit = bytes[i] - 0x30;
      if (digit < 0 || digit > 9) break;
      lo = lo * 10 + digit;
      const carry = Math.floor(lo / 0x1_0000_0000);
      lo -= carry * 0x1_0000_0000;
      hi = hi * 10 + carry;
      if (hi > 0xffff_ffff) {
        this.overflow = true;
        hi = 0xffff_ffff;
      }
    }
    this.hi = hi;
    this.lo = lo;
    return i > digits && (i === end || isSpace(bytes[i]));
  }

  /** As strtoull does: a negative number is wrapped. False when out of range, or negative and still huge. */
  unsigned(bytes: Uint8Array, start: number, end: number): boolean {
    if (!this.scan(bytes, start, end) || this.overflow) return false;
    if (this.negative) {
      this.lo = -this.lo >>> 0;
      this.hi = (~this.hi + (this.lo === 0 ? 1 : 0)) >>> 0;
    }
    if (this.hi < 0x8000_0000) return true;
    for (let i = start; i < end; i++) if (bytes[i] === 0x2d) return false;
    return true;
  }

  /** As strtol and a cast to 32 bits do; the number is in `lo`, signed. */
  signed32(bytes: Uint8Array, start: number, end: number): boolean {
    if (!this.scan(bytes, start, end) || this.overflow) return false;
    if (this.hi >= 0x8000_0000 && !(this.negative && this.hi === 0x8000_0000 && this.lo === 0)) return false;
    this.lo = (this.negative ? -this.lo : this.lo) | 0;
    return true;
  }
}

function isSpace(byte: number): boolean {
  return byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);
}

/** Digits of an unsigned 32-bit number. */
export function digitsOf(value: number): number {
  if (value < 10) return 1;
  if (value < 100) return 2;
  if (value < 1000) return 3;
  if (value < 10_000) return 4;
  if (value < 100_000) return 5;
  if (value < 1_000_000) return 6;
  if (value < 10_000_000) return 7;
  if (value < 100_000_000) return 8;
  return value < 1_000_000_000 ? 9 : 10;
}

/** Writes an unsigned 32-bit number, returns the offset behind it. */
export function writeU32(bytes: Uint8Array, at: number, value: number): number {
  const end = at + digitsOf(value);
  let rest = value;
  let i = end;
  do {
    const tenth = Math.floor(rest / 10);
    bytes[--i] = 0x30 + rest - tenth * 10;
    rest = tenth;
  } while (rest !== 0);
  return end;
}

/** Writes a 64-bit number, returns the offset behind it. */
export function writeU64(bytes: Uint8Array, at: number, hi: number, lo: number): number {
  if (hi === 0) return writeU32(bytes, at, lo);
  // Four limbs of 16 bits, divided by 10^4 again and again: five groups of four digits at most.
  let a = hi >>> 16;
  let b = hi & 0xffff;
  let c = lo >>> 16;
  let d = lo & 0xffff;
  let groups = 0;
  let low = 0;
  let high = 0;
  let top = 0;
  while ((a | b | c | d) !== 0) {
    let rest = a;
    a = Math.floor(rest / 10_000);
    rest = (rest - a * 10_000) * 0x1_0000 + b;
    b = Math.floor(rest / 10_000);
    rest = (rest - b * 10_000) * 0x1_0000 + c;
    c = Math.floor(rest / 10_000);
    rest = (rest - c * 10_000) * 0x1_0000 + d;
    d = Math.floor(rest / 10_000);
    rest -= d * 10_000;
    if (groups < 2) low += groups === 0 ? rest : rest * 10_000;
    else if (groups < 4) high += groups === 2 ? rest : rest * 10_000;
    else top = rest;
    groups++;
  }
  // top · 10^16 + high · 10^8 + low
  let end = at;
  if (top !== 0) {
    end = writeU32(bytes, end, top);
    end = writePadded8(bytes, end, high);
  } else {
    end = writeU32(bytes, end, high);
  }
  return writePadded8(bytes, end, low);
}

function writePadded8(bytes: Uint8Array, at: number, value: number): number {
  let rest = value;
  for (let i = at + 7; i >= at; i--) {
    const tenth = Math.floor(rest / 10);
    bytes[i] = 0x30 + rest - tenth * 10;
    rest = tenth;
  }
  return at + 8;
}
