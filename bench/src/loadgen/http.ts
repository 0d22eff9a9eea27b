/**
 * HTTP/1.1 GET of one path, or of a trace's files in turn, on kept-alive connections.
 *
 * The first response's header is parsed; as long as later ones of the file have the same status line, length and Content-Length
 * they are judged without parsing. Invariant: every response is status 200, has exactly the expected body's length, and no
 * byte follows it. Of each body the bytes that are looked at move on from response to response (`SAMPLES` at a time),
 * so each position is checked again and again at a fraction of the cost; a body that came with a parsed header is
 * compared whole. Not its job: chunked or close-delimited bodies; they are reported as wrong.
 */
import { PERIOD, pattern } from '../payload.ts';
import { type TraceName, traceOf, tracePath } from '../traces.ts';
import {
  byteTable,
  type Exchange,
  excerpt,
  firstDifference,
  type Matcher,
  type Memory,
  memoryOf,
  Verdict,
} from './exchange.ts';

const HEADER_BYTES_MAX = 16_384;
const SAMPLES = 8;
const STATUS = Buffer.from('HTTP/1.1 200');
const CR = 13;
const LF = 10;

export interface HttpOptions {
  host: string;
  path: string;
  /** Bytes of the body, which is `pattern(size)`. */
  size: number;
  /** Files and lengths of connections instead of `path`, `size` and the generator's. */
  trace?: TraceName | undefined;
}

/** A header that was parsed: its bytes, and where in it the digits of Content-Length stand. */
interface KnownHeader {
  bytes: Uint8Array;
  digitsStart: number;
  digitsEnd: number;
}

/** Length of the header including its empty line, or -1 when it is not complete in `bytes[0 … end)`. */
export function headerLength(bytes: Uint8Array, end: number): number {
  for (let i = 3; i < end; i++) {
    if (bytes[i] === LF && bytes[i - 1] === CR && bytes[i - 2] === LF && bytes[i - 3] === CR) return i + 1;
  }
  return -1;
}

/** Whether `bytes[offset, offset + length)` begins with a header like the known one, as far as it matters. */
function looksKnown(header: KnownHeader, bytes: Uint8Array, offset: number, length: number): boolean {
  const known = header.bytes;
  if (length < known.length) return false;
  const end = offset + known.length;
  if (bytes[end - 1] !== LF || bytes[end - 2] !== CR || bytes[end - 3] !== LF || bytes[end - 4] !== CR) return false;
  for (let i = 0; i < STATUS.length; i++) if (bytes[offset + i] !== known[i]) return false;
  // With the character after the digits, which ends the number.
  for (let i = header.digitsStart; i <= header.digitsEnd; i++) if (bytes[offset + i] !== known[i]) return false;
  return true;
}

export class HttpMatcher implements Matcher {
  /** The longest body, or as much of it as comes before it repeats; others are the beginning of it. */
  private readonly body: Memory;
  /** Bytes of the body, by variant. */
  private readonly sizes: ArrayLike<number>;
  /** What is asked for on each connection. */
  private readonly variant: Int32Array;
  /** Bytes of the body received, or -1 while in the header. */
  private readonly bodyGot: Int32Array;
  /** 1: this response's header was parsed, compare its whole body. */
  private readonly whole: Uint8Array;
  /** Header bytes of a response whose header came in pieces, and how many. */
  private readonly carry: (Uint8Array | null)[];
  private readonly carried: Int32Array;
  private readonly complaints: string[];
  /** The accepted header, by variant. */
  private readonly known: (KnownHeader | null)[];
  /** Which bytes of the next body are looked at, by variant. */
  private readonly sample: Int32Array;

  constructor(sizes: ArrayLike<number>, connections: number) {
    let largest = 0;
    for (let i = 0; i < sizes.length; i++) largest = Math.max(largest, sizes[i]!);
    const body = pattern(Math.min(largest, PERIOD));
    const padded = new Uint8Array((body.length + 3) & ~3);
    padded.set(body);
    this.body = memoryOf(padded);
    this.sizes = sizes;
    this.known = new Array<KnownHeader | null>(sizes.length).fill(null);
    this.sample = new Int32Array(sizes.length);
    this.variant = new Int32Array(connections);
    this.bodyGot = new Int32Array(connections).fill(-1);
    this.whole = new Uint8Array(connections);
    this.carry = new Array<Uint8Array | null>(connections).fill(null);
    this.carried = new Int32Array(connections);
    this.complaints = new Array<string>(connections).fill('');
  }

  begin(connection: number, variant: number): void {
    this.variant[connection] = variant;
    this.bodyGot[connection] = -1;
    this.carried[connection] = 0;
  }

  match(connection: number, memory: Memory, offset: number, length: number): Verdict {
    if (this.bodyGot[connection]! >= 0) return this.matchBody(connection, memory, offset, length);
    const known = this.known[this.variant[connection]!]!;
    if (known !== null && this.carried[connection] === 0 && looksKnown(known, memory.bytes, offset, length)) {
      this.bodyGot[connection] = 0;
      this.whole[connection] = 0;
      const header = known.bytes.length;
      return this.matchBody(connection, memory, offset + header, length - header);
    }
    return this.matchHeader(connection, memory, offset, length);
  }

  complaint(connection: number): string {
    return this.complaints[connection]!;
  }

  progress(connection: number): number {
    const size = this.sizes[this.variant[connection]!]!;
    return size === 0 ? 0 : Math.max(0, this.bodyGot[connection]!) / size;
  }

  private matchBody(connection: number, memory: Memory, offset: number, length: number): Verdict {
    const at = this.bodyGot[connection]!;
    const variant = this.variant[connection]!;
    const total = this.sizes[variant]!;
    if (length > total - at) {
      return this.wrong(connection, `${at + length - total} bytes more than the body's ${total}`);
    }
    const expected = this.body.bytes;
    const bytes = memory.bytes;
    const stride = total <= SAMPLES ? 1 : (total / SAMPLES) | 0;
    if (this.whole[connection] === 1) {
      const i = this.difference(memory, offset, at, length);
      if (i >= 0) return this.wrongByte(connection, i, bytes, offset + i - at, offset + length);
    } else {
      // First sampled position at or after `at`.
      const phase = this.sample[variant]!;
      let i = at <= phase ? phase : phase + Math.ceil((at - phase) / stride) * stride;
      for (; i < at + length; i += stride) {
        if (bytes[offset + i - at] !== expected[i < PERIOD ? i : i % PERIOD])
          return this.wrongByte(connection, i, bytes, offset + i - at, offset + length);
      }
    }
    this.bodyGot[connection] = at + length;
    if (at + length < total) return Verdict.More;
    if (++this.sample[variant]! >= stride) this.sample[variant] = 0;
    return Verdict.Done;
  }

  /** Position in the body of the first byte that is not what it should be, or -1. */
  private difference(memory: Memory, offset: number, at: number, length: number): number {
    for (let done = 0; done < length; ) {
      const start = (at + done) % PERIOD;
      const run = Math.min(length - done, PERIOD - start);
      const found = firstDifference(memory, offset + done, this.body, start, run);
      if (found >= 0) return at + done + found;
      done += run;
    }
    return -1;
  }

  private wrongByte(connection: number, i: number, bytes: Uint8Array, at: number, end: number): Verdict {
    const expected = this.body.bytes;
    const start = i % PERIOD;
    return this.wrong(
      connection,
      `byte ${i} of the body: expected ${excerpt(expected, start, Math.min(PERIOD, this.sizes[this.variant[connection]!]!))}, got ${excerpt(bytes, at, end)}`,
    );
  }

  private matchHeader(connection: number, memory: Memory, offset: number, length: number): Verdict {
    const had = this.carried[connection]!;
    let carry = this.carry[connection]!;
    if (carry === null) {
      carry = new Uint8Array(HEADER_BYTES_MAX);
      this.carry[connection] = carry;
    }
    const taken = Math.min(length, HEADER_BYTES_MAX - had);
    carry.set(memory.bytes.subarray(offset, offset + taken), had);
    const end = headerLength(carry, had + taken);
    if (end < 0) {
      if (had + taken === HEADER_BYTES_MAX)
        return this.wrong(connection, `no end of the header in ${had + taken} bytes`);
      this.carried[connection] = had + taken;
      return Verdict.More;
    }
    this.carried[connection] = 0;
    const complaint = this.parseHeader(this.variant[connection]!, carry, end);
    if (complaint !== '') return this.wrong(connection, complaint);
    this.bodyGot[connection] = 0;
    this.whole[connection] = 1;
    return this.matchBody(connection, memory, offset + end - had, had + length - end);
  }

  private parseHeader(variant: number, bytes: Uint8Array, end: number): string {
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, end).toString('latin1');
    if (!/^HTTP\/1\.1 200[ \r]/.test(text)) return `expected HTTP/1.1 200, got ${excerpt(bytes, 0, end)}`;
    if (/\r\ntransfer-encoding:/i.test(text)) return 'Transfer-Encoding: expected a Content-Length';
    const fields = [...text.matchAll(/\r\ncontent-length:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)/gi)];
    const field = fields[0];
    if (field === undefined || fields.length > 1) return `expected one Content-Length, got ${fields.length}`;
    const digits = field[1]!;
    if (!/^\d{1,15}$/.test(digits) || Number(digits) !== this.sizes[variant]) {
      return `Content-Length: expected ${this.sizes[variant]}, got ${JSON.stringify(digits.slice(0, 48))}`;
    }
    const digitsStart = field.index + field[0].indexOf(digits, field[0].indexOf(':'));
    this.known[variant] = { bytes: bytes.slice(0, end), digitsStart, digitsEnd: digitsStart + digits.length };
    return '';
  }

  private wrong(connection: number, complaint: string): Verdict {
    this.complaints[connection] = complaint;
    return Verdict.Wrong;
  }
}

const requestOf = (host: string, path: string): Buffer => Buffer.from(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);

export function httpExchange(options: HttpOptions, connections: number): Exchange {
  const { host, path, size } = options;
  const { trace } = options;
  if (trace === undefined) {
    const requests = byteTable([requestOf(host, path)]);
    return { requests, matcher: new HttpMatcher([size], connections), pick: () => 0 };
  }
  const { sizes, lengths } = traceOf(trace);
  let file = 0;
  let connection = 0;
  return {
    requests: byteTable(Array.from(sizes, (_, i) => requestOf(host, tracePath(trace, i)))),
    matcher: new HttpMatcher(sizes, connections),
    pick() {
      const next = file;
      file = next + 1 === sizes.length ? 0 : next + 1;
      return next;
    },
    connectionLength() {
      const next = connection;
      connection = next + 1 === lengths.length ? 0 : next + 1;
      return lengths[next]!;
    },
  };
}
