/**
 * Recoding between charsets by the tables of `charset_map`.
 *
 * What it is for: bytes to bytes, bytes to UTF-8, UTF-8 to bytes, piece by piece. Invariant: the result does not depend on where the
 * text was cut. What a table does not name: ASCII stays, a byte becomes `?`, a character becomes `&#number;`, and what is no UTF-8 becomes `?`,
 * as in nginx.
 */

import type { CharsetMap } from '../../conf/model.ts';

const QUESTION = 0x3f;
const ASCII_END = 0x80;
/** Longest sequence of a character. */
const SEQUENCE_MAX = 4;

export interface Recoder {
  take(piece: Uint8Array): Uint8Array;
  end(): Uint8Array;
}

export const isUtf8 = (charset: string): boolean => charset.toLowerCase() === 'utf-8';

/** What recodes from one charset to another; null where no table of `maps` is between them. */
export function recoderMaker(maps: readonly CharsetMap[], from: string, to: string): (() => Recoder) | null {
  for (const map of maps) {
    const forward = map.from === from && map.to === to;
    if (!forward && (map.from !== to || map.to !== from)) continue;
    if (!isUtf8(map.to) && !isUtf8(map.from)) {
      const table = byteTable(map, forward);
      return () => new ByteRecoder(table);
    }
    // Its rows are bytes of the other charset and sequences of UTF-8, whichever was named first.
    if (isUtf8(to)) {
      const table = map.rows.reduce((all, { byte, target }) => all.with(byte, Uint8Array.from(target)), UNKNOWN);
      return () => new ToUtf8(table);
    }
    const bytes = new Map(map.rows.map(({ byte, target }) => [codePoint(target), byte]));
    return () => new FromUtf8(bytes);
  }
  return null;
}

const UNKNOWN: readonly Uint8Array[] = Array.from({ length: 256 }, (_, byte) =>
  Uint8Array.of(byte < ASCII_END ? byte : QUESTION),
);

function byteTable(map: CharsetMap, forward: boolean): Uint8Array {
  const table = Uint8Array.from({ length: 256 }, (_, byte) => (byte < ASCII_END ? byte : QUESTION));
  for (const { byte, target } of map.rows) {
    if (forward) table[byte] = target[0] as number;
    else table[target[0] as number] = byte;
  }
  return table;
}

function codePoint(sequence: readonly number[]): number {
  return Buffer.from(sequence).toString('utf8').codePointAt(0) ?? 0;
}

const NOTHING = new Uint8Array(0);

class ByteRecoder implements Recoder {
  private readonly table: Uint8Array;

  constructor(table: Uint8Array) {
    this.table = table;
  }

  take(piece: Uint8Array): Uint8Array {
    const { table } = this;
    return piece.slice().map((byte) => table[byte] as number);
  }

  end(): Uint8Array {
    return NOTHING;
  }
}

class ToUtf8 implements Recoder {
  private readonly table: readonly Uint8Array[];

  constructor(table: readonly Uint8Array[]) {
    this.table = table;
  }

  take(piece: Uint8Array): Uint8Array {
    const out = new Uint8Array(piece.length * SEQUENCE_MAX);
    let at = 0;
    for (const byte of piece) {
      const sequence = this.table[byte] as Uint8Array;
      out.set(sequence, at);
      at += sequence.length;
    }
    return out.subarray(0, at);
  }

  end(): Uint8Array {
    return NOTHING;
  }
}

class FromUtf8 implements Recoder {
  private readonly bytes: ReadonlyMap<number, number>;
  /** A sequence that has not come whole. */
  private held: number[] = [];

  constructor(bytes: ReadonlyMap<number, number>) {
    this.bytes = bytes;
  }

  take(piece: Uint8Array): Uint8Array {
    const out: number[] = [];
    for (const byte of piece) {
      if (this.held.length === 0 && byte < ASCII_END) out.push(byte);
      else this.more(byte, out);
    }
    return Uint8Array.from(out);
  }

  /** As nginx decodes: a sequence is looked at when it has its length, and a wrong byte within it goes with what was before it. */
  private more(byte: number, out: number[]): void {
    this.held.push(byte);
    const sequence = this.held;
    const length = sequenceLength(sequence[0] as number);
    if (sequence.length < length) return;
    this.held = [];
    const wrong = sequence.findIndex((each, i) => i > 0 && each < ASCII_END);
    if (length === 0 || wrong >= 0) {
      out.push(QUESTION);
      for (const each of sequence.slice(Math.max(1, wrong + 1))) {
        if (this.held.length === 0 && each < ASCII_END) out.push(each);
        else this.more(each, out);
      }
      return;
    }
    const code = decode(sequence);
    const known = this.bytes.get(code);
    if (known !== undefined) out.push(known);
    else if (code === 0) out.push(QUESTION);
    else for (const char of `&#${code};`) out.push(char.charCodeAt(0));
  }

  /** What was cut off by the end of the text is left out. */
  end(): Uint8Array {
    return NOTHING;
  }
}

/** The character of a sequence that has its length; 0: it is longer than it needs to be, or no character. */
function decode(sequence: readonly number[]): number {
  const least = [0, 0, 0x80, 0x800, 0x10000][sequence.length] as number;
  let code = (sequence[0] as number) & (0xff >> (sequence.length + 1));
  for (const byte of sequence.slice(1)) code = (code << 6) | (byte & 0x3f);
  return code < least || code > 0x10ffff ? 0 : code;
}

/** By its first byte; 0: it begins none. */
function sequenceLength(first: number): number {
  if (first >= 0xc2 && first < 0xe0) return 2;
  if (first >= 0xe0 && first < 0xf0) return 3;
  return first >= 0xf0 ? SEQUENCE_MAX : 0;
}
