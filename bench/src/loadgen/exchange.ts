/**
 * What a protocol is to the load generator: a table of requests, and a matcher that judges the responses.
 *
 * Invariant: a connection has one request outstanding. Its response may arrive cut anywhere; the matcher keeps how far
 * each connection has come and answers `Done` exactly at the last byte. A byte that is wrong or too many is `Wrong`.
 * Nothing here allocates per transaction. Not its job: sockets, time, choosing how often to send.
 */

/** Byte strings, one after the other, each starting at a multiple of four (so that words can be compared). */
export interface ByteTable extends Memory {
  /** Where entry i starts, and its length. */
  start: Int32Array;
  length: Int32Array;
}

export function byteTable(entries: readonly Uint8Array[]): ByteTable {
  const start = new Int32Array(entries.length);
  const length = new Int32Array(entries.length);
  let end = 0;
  for (const [i, entry] of entries.entries()) {
    start[i] = end;
    length[i] = entry.length;
    end += (entry.length + 3) & ~3;
  }
  const bytes = new Uint8Array(end);
  for (const [i, entry] of entries.entries()) bytes.set(entry, start[i]!);
  return { ...memoryOf(bytes), start, length };
}

export const Verdict = { More: 0, Done: 1, Wrong: 2 } as const;
export type Verdict = (typeof Verdict)[keyof typeof Verdict];

/** Memory that responses arrive in, as bytes, as words, and for the C library's comparison. */
export interface Memory {
  bytes: Uint8Array;
  words: Uint32Array;
  buffer: Buffer;
}

export function memoryOf(bytes: Uint8Array): Memory {
  return {
    bytes,
    words: new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 2),
    buffer: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
  };
}

/** From this length on one call of memcmp costs less than a loop here. */
const COMPARE_BYTES_MIN = 256;

export interface Matcher {
  /** Request `variant` is about to go out on `connection`. */
  begin(connection: number, variant: number): void;
  /** `length` bytes arrived at `memory[offset …]`. */
  match(connection: number, memory: Memory, offset: number, length: number): Verdict;
  /** Why the last `Wrong` of this connection was wrong. */
  complaint(connection: number): string;
  /** How much of the outstanding response has come, 0 … 1. Only where responses are so long that a window ends amid them. */
  progress?(connection: number): number;
}

export interface Exchange {
  requests: ByteTable;
  matcher: Matcher;
  /** Chooses the next request's variant: an index into `requests`. */
  pick(connection: number): number;
  /** Transactions that the next connection carries; absent: as many as the plan says. */
  connectionLength?(): number;
  /**
   * Requests of the variants below `count`, made where they are needed: a table of thousands that are drawn at random is read
   * from far down in the memory hierarchy. `words` is the output's memory; `bytes` is the length of each.
   */
  composed?: { count: number; bytes: number; compose(variant: number, words: Uint32Array, word: number): void };
}

/** Index of the first byte that differs, or -1. Whole words where both sides stand at a multiple of four. */
export function firstDifference(a: Memory, aStart: number, b: Memory, bStart: number, length: number): number {
  let i = 0;
  if (length >= COMPARE_BYTES_MIN) {
    if (a.buffer.compare(b.buffer, bStart, bStart + length, aStart, aStart + length) === 0) return -1;
  }
  if (((aStart | bStart) & 3) === 0) {
    const aWords = a.words;
    const bWords = b.words;
    const aWord = aStart >>> 2;
    const bWord = bStart >>> 2;
    const words = length >>> 2;
    let word = 0;
    while (word < words && aWords[aWord + word] === bWords[bWord + word]) word++;
    i = word << 2;
  }
  const aBytes = a.bytes;
  const bBytes = b.bytes;
  for (; i < length; i++) if (aBytes[aStart + i] !== bBytes[bStart + i]) return i;
  return -1;
}

/** Printable excerpt of hostile bytes, for error texts. */
export function excerpt(bytes: Uint8Array, start: number, end: number): string {
  const text = JSON.stringify(Buffer.from(bytes.subarray(start, Math.min(end, start + 48))).toString('latin1'));
  return end - start > 48 ? `${text} …` : text;
}

/**
 * Pieces from this length on are looked at in part, or comparing them would make the client the limit: both ends, which
 * show bytes that are missing or too many, and between them a stretch that moves on from piece to piece.
 */
const PIECE_BYTES_LONG = 16 * 1024;
const END_BYTES = 256;
const STRETCH_BYTES = 1024;

/** Responses that are known byte for byte: echo, and memcached with keys and values of our own. */
export class TableMatcher implements Matcher {
  private readonly expected: ByteTable;
  protected readonly variant: Int32Array;
  protected readonly got: Int32Array;
  private readonly complaints: string[];
  private stretch = 0;
  private readonly miss: number;

  /**
   * `miss`: the entry that may come instead of any other, or -1. It is told by its first byte, so no other response may
   * begin with that one.
   */
  constructor(expected: ByteTable, connections: number, miss = -1) {
    this.expected = expected;
    this.miss = miss;
    this.variant = new Int32Array(connections);
    this.got = new Int32Array(connections);
    this.complaints = new Array<string>(connections).fill('');
  }

  begin(connection: number, variant: number): void {
    this.variant[connection] = variant;
    this.got[connection] = 0;
  }

  match(connection: number, memory: Memory, offset: number, length: number): Verdict {
    const expected = this.expected;
    const at = this.got[connection]!;
    const miss = this.miss;
    if (miss >= 0 && at === 0 && memory.bytes[offset] === expected.bytes[expected.start[miss]!]) {
      this.variant[connection] = miss;
    }
    const variant = this.variant[connection]!;
    const total = expected.length[variant]!;
    if (length > total - at) {
      this.complaints[connection] = `${at + length - total} bytes more than the ${total} expected`;
      return Verdict.Wrong;
    }
    const start = expected.start[variant]! + at;
    const difference =
      length < PIECE_BYTES_LONG
        ? firstDifference(memory, offset, expected, start, length)
        : this.sampledDifference(memory, offset, start, length);
    if (difference >= 0) {
      this.complaints[connection] =
        `byte ${at + difference} of ${total}: expected ` +
        `${excerpt(expected.bytes, start + difference, start + length)}, ` +
        `got ${excerpt(memory.bytes, offset + difference, offset + length)}`;
      return Verdict.Wrong;
    }
    this.got[connection] = at + length;
    return at + length === total ? Verdict.Done : Verdict.More;
  }

  complaint(connection: number): string {
    return this.complaints[connection]!;
  }

  private sampledDifference(memory: Memory, offset: number, start: number, length: number): number {
    this.stretch += STRETCH_BYTES;
    if (this.stretch > length - STRETCH_BYTES) this.stretch = 0;
    for (const [at, bytes] of [
      [0, END_BYTES],
      [this.stretch, STRETCH_BYTES],
      [length - END_BYTES, END_BYTES],
    ] as const) {
      const difference = firstDifference(memory, offset + at, this.expected, start + at, bytes);
      if (difference >= 0) return at + difference;
    }
    return -1;
  }
}
