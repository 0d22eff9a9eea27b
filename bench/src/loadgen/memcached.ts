/**
 * memcached's text and binary protocols over `keys` keys of our own, every byte of every answer known beforehand.
 *
 * `single`: variants 0 … keys-1 get key i, keys … 2·keys-1 set it to the value it has. The other shapes ask for `batch` keys
 * at once, in one of a few prepared requests: `multiget` names them in one get, `pipeline` sends as many gets in one go,
 * `getkq` as many quiet binary gets with a noop at their end. `preload` puts all values in place.
 * Invariant: a hit that is missing, doubled, out of place or changed by a byte is seen.
 */
import { connect } from 'node:net';
import { pattern, patternSeed, patternStep, patternWord } from '../payload.ts';
import { type ByteTable, byteTable, type Exchange, type Memory, TableMatcher, Verdict } from './exchange.ts';
import { Random, Zipf } from './random.ts';

const STORED = Buffer.from('STORED\r\n');
/** Sets on their way while preloading, and how many go out in one write. */
const PRELOAD_WINDOW = 2048;
const PRELOAD_BATCH = 256;
/** Different requests of the shapes that ask for many keys; a power of two. */
const BATCHES = 64;
const SEED = 0x6d656d63;

export const SHAPES = ['single', 'multiget', 'pipeline', 'getkq'] as const;
export type Shape = (typeof SHAPES)[number];

export interface MemcachedOptions {
  keys: number;
  valueBytes: number;
  /** Share of SETs, 0 … 1; `single` only. */
  setShare: number;
  /** Exponent of Zipf's law that keys are drawn by; 0: uniformly. */
  zipf: number;
  shape: Shape;
  /** Keys of one request of the other shapes. */
  batch: number;
  /** `single` only: a get may find nothing, since the server evicts. */
  misses: boolean;
}

export const keyOf = (index: number): string => `bench-key-${String(index).padStart(8, '0')}`;

/** Four decimal digits of 0 … 9999, the first in the lowest byte. */
function digits4(value: number): number {
  const high = (value * 5243) >>> 19;
  const low = value - high * 100;
  const a = (high * 103) >>> 10;
  const c = (low * 103) >>> 10;
  return (0x3030_3030 + a + ((high - a * 10) << 8) + (c << 16) + ((low - c * 10) << 24)) | 0;
}

/** Word `at` of a text, as it stands in memory; what lies beyond its end is 0. */
const wordOf = (text: string, at: number): number => {
  const word = Buffer.alloc(4);
  word.write(text.slice(at * 4, at * 4 + 4), 'latin1');
  return word.readInt32LE();
};

const GET_PREFIX = 'get bench-key-';
const GET_BYTES = GET_PREFIX.length + 8 + 2;
const [GET_0, GET_1, GET_2, GET_3] = [0, 1, 2, 3].map((at) => wordOf(GET_PREFIX, at)) as [
  number,
  number,
  number,
  number,
];
const CRLF_HIGH = 0x0a0d_0000;

/** Words of `get <key>\r\n`: the digits begin in the middle of the fourth. */
function composeGet(variant: number, words: Uint32Array, word: number): void {
  const upper = (variant / 10_000) | 0;
  const high = digits4(upper);
  const low = digits4(variant - upper * 10_000);
  words[word] = GET_0;
  words[word + 1] = GET_1;
  words[word + 2] = GET_2;
  words[word + 3] = GET_3 | (high << 16);
  words[word + 4] = (high >>> 16) | (low << 16);
  words[word + 5] = (low >>> 16) | CRLF_HIGH;
}

const VALUE_PREFIX = 'VALUE bench-key-';
const [VALUE_0, VALUE_1, VALUE_2, VALUE_3] = [0, 1, 2, 3].map((at) => wordOf(VALUE_PREFIX, at)) as [
  number,
  number,
  number,
  number,
];
const TRAILER = '\r\nEND\r\n';
const [TRAILER_0, TRAILER_1] = [0, 1].map((at) => wordOf(TRAILER, at)) as [number, number];
/** Up to this many bytes making a value costs less than fetching it from a table. */
const MADE_VALUE_BYTES_MAX = 512;

/**
 * Responses to single gets. One that came in one piece is compared, every byte of it, with words that are made on the spot:
 * the table of all values is larger than the processor's cache, and reading it would be a tenth of the client's time. What is
 * in pieces, or is not what it should be, is judged by the table.
 */
class GetMatcher extends TableMatcher {
  private readonly keys: number;
  /** Length of the whole response; 0: lengths that are not made. */
  private readonly wholeBytes: number;
  private readonly valueWords: number;
  /** Words between the key's digits and the value; of the last one only what stands before the value. */
  private readonly lead: Int32Array;
  /** Where in a word the value begins, bits. */
  private readonly shift: number;
  /** Of the response's last word. */
  private readonly lastMask: number;

  constructor(expected: ByteTable, connections: number, miss: number, keys: number, valueBytes: number) {
    super(expected, connections, miss);
    const lead = ` 0 ${valueBytes}\r\n`;
    const made = valueBytes <= MADE_VALUE_BYTES_MAX && valueBytes % 4 === 0;
    this.keys = keys;
    this.wholeBytes = made ? VALUE_PREFIX.length + 8 + lead.length + valueBytes + TRAILER.length : 0;
    this.valueWords = valueBytes >>> 2;
    this.lead = Int32Array.from({ length: (lead.length >>> 2) + 1 }, (_, at) => wordOf(lead, at));
    this.shift = (lead.length & 3) << 3;
    const rest = this.wholeBytes & 3;
    this.lastMask = rest === 0 ? -1 : (1 << (rest << 3)) - 1;
  }

  override match(connection: number, memory: Memory, offset: number, length: number): Verdict {
    if (
      length === this.wholeBytes &&
      (offset & 3) === 0 &&
      this.got[connection] === 0 &&
      this.isWhole(memory.words, offset >>> 2, this.variant[connection]!)
    ) {
      this.got[connection] = length;
      return Verdict.Done;
    }
    return super.match(connection, memory, offset, length);
  }

  /** Whether the words from `word` on are the response to variant `variant`, from its first byte to its last. */
  private isWhole(words: Uint32Array, word: number, variant: number): boolean {
    if (variant >= this.keys) return false;
    const upper = (variant / 10_000) | 0;
    // Differences are gathered, so that there is one branch and not one for each word.
    let wrong =
      (words[word]! ^ VALUE_0) |
      (words[word + 1]! ^ VALUE_1) |
      (words[word + 2]! ^ VALUE_2) |
      (words[word + 3]! ^ VALUE_3) |
      (words[word + 4]! ^ digits4(upper)) |
      (words[word + 5]! ^ digits4(variant - upper * 10_000));
    const lead = this.lead;
    const last = lead.length - 1;
    let at = word + 6;
    for (let i = 0; i < last; i++) wrong |= words[at++]! ^ lead[i]!;
    // The value stands `shift` bits off from the words of memory: each of those has the rest of one word and the begin of the next.
    const shift = this.shift;
    let carried = lead[last]!;
    let state = patternSeed(variant);
    for (let i = this.valueWords; i > 0; i--) {
      state = patternStep(state);
      const value = patternWord(state);
      wrong |= words[at++]! ^ (carried | (value << shift));
      carried = shift === 0 ? 0 : value >>> (32 - shift);
    }
    wrong |= words[at++]! ^ (carried | (TRAILER_0 << shift));
    carried = shift === 0 ? 0 : TRAILER_0 >>> (32 - shift);
    const tail = carried | (TRAILER_1 << shift);
    // The trailer's seven bytes end in this word, or, behind three bytes of the value, in the next.
    if (shift < 16) return (wrong | ((words[at]! ^ tail) & this.lastMask)) === 0;
    wrong |= words[at++]! ^ tail;
    return (wrong | ((words[at]! ^ (TRAILER_1 >>> (32 - shift))) & this.lastMask)) === 0;
  }
}

const setRequest = (index: number, valueBytes: number): Uint8Array =>
  Buffer.concat([
    Buffer.from(`set ${keyOf(index)} 0 0 ${valueBytes}\r\n`),
    pattern(valueBytes, index),
    Buffer.from('\r\n'),
  ]);

const valueReply = (index: number, valueBytes: number): Uint8Array =>
  Buffer.concat([
    Buffer.from(`VALUE ${keyOf(index)} 0 ${valueBytes}\r\n`),
    pattern(valueBytes, index),
    Buffer.from('\r\n'),
  ]);

const END = Buffer.from('END\r\n');

const GETKQ = 0x0d;
const NOOP = 0x0a;
const HEADER_BYTES = 24;
const BODY_LENGTH_AT = 8;
const CAS_AT = 16;
const CAS_BYTES = 8;

/** A binary packet; `opaque` comes back in the response. */
function packet(magic: number, opcode: number, opaque: number, extras: Uint8Array, key: string, value: Uint8Array) {
  const header = Buffer.alloc(HEADER_BYTES);
  header[0] = magic;
  header[1] = opcode;
  header.writeUInt16BE(key.length, 2);
  header[4] = extras.length;
  header.writeUInt32BE(extras.length + key.length + value.length, 8);
  header.writeUInt32BE(opaque, 12);
  return Buffer.concat([header, extras, Buffer.from(key), value]);
}

const NOTHING = new Uint8Array(0);

function batchRequest(shape: Shape, indexes: readonly number[]): Uint8Array {
  if (shape === 'multiget') return Buffer.from(`get ${indexes.map(keyOf).join(' ')}\r\n`);
  if (shape === 'pipeline') return Buffer.from(indexes.map((index) => `get ${keyOf(index)}\r\n`).join(''));
  const gets = indexes.map((index, i) => packet(0x80, GETKQ, i, NOTHING, keyOf(index), NOTHING));
  return Buffer.concat([...gets, packet(0x80, NOOP, indexes.length, NOTHING, '', NOTHING)]);
}

function batchReply(shape: Shape, indexes: readonly number[], valueBytes: number): Uint8Array {
  const values = (): Uint8Array[] => indexes.map((index) => valueReply(index, valueBytes));
  if (shape === 'multiget') return Buffer.concat([...values(), END]);
  if (shape === 'pipeline') return Buffer.concat(values().flatMap((value) => [value, END]));
  const flags = new Uint8Array(4);
  const hits = indexes.map((index, i) => packet(0x81, GETKQ, i, flags, keyOf(index), pattern(valueBytes, index)));
  return Buffer.concat([...hits, packet(0x81, NOOP, indexes.length, NOTHING, '', NOTHING)]);
}

/** How keys are chosen. */
function chooser(options: MemcachedOptions): () => number {
  const { keys, zipf } = options;
  if (keys === 1) return () => 0;
  if (zipf > 0) {
    const ranks = new Zipf(keys, zipf, SEED);
    return () => ranks.next();
  }
  const random = new Random(SEED);
  return () => random.below(keys);
}

export interface MemcachedExchange extends Exchange {
  responses: ByteTable;
}

export function memcachedExchange(options: MemcachedOptions, connections: number): MemcachedExchange {
  const { keys, valueBytes, setShare, shape } = options;
  const key = chooser(options);
  const requests: Uint8Array[] = [];
  const responses: Uint8Array[] = [];
  let pick: () => number;
  if (shape === 'single') {
    for (let i = 0; i < keys; i++) {
      requests.push(Buffer.from(`get ${keyOf(i)}\r\n`));
      responses.push(Buffer.concat([valueReply(i, valueBytes), END]));
    }
    // Without SETs their half of the table would only cost memory.
    for (let i = 0; setShare > 0 && i < keys; i++) {
      requests.push(setRequest(i, valueBytes));
      responses.push(STORED);
    }
    const random = new Random(SEED + 1);
    const setsBelow = Math.round(setShare * 2 ** 32);
    pick = setsBelow === 0 ? key : () => (random.next() < setsBelow ? keys : 0) + key();
  } else {
    for (let i = 0; i < BATCHES; i++) {
      const indexes = Array.from({ length: options.batch }, key);
      requests.push(batchRequest(shape, indexes));
      responses.push(batchReply(shape, indexes, valueBytes));
    }
    let turn = 0;
    pick = () => turn++ & (BATCHES - 1);
  }
  // The matcher's last entry, which no request has.
  const miss = options.misses ? responses.push(END) - 1 : -1;
  const table = byteTable(responses);
  const shared = { requests: byteTable(requests), responses: table, pick };
  if (shape !== 'single') return { ...shared, matcher: new TableMatcher(table, connections, miss) };
  return {
    ...shared,
    matcher: new GetMatcher(table, connections, miss, keys, valueBytes),
    composed: { count: keys, bytes: GET_BYTES, compose: composeGet },
  };
}

/** Stores every key from number `first` on; rejects unless the server says STORED to each. */
export function preload(
  host: string,
  port: number,
  options: Pick<MemcachedOptions, 'keys' | 'valueBytes'>,
  first = 0,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    let sent = first;
    let stored = first;
    let rest: Buffer = Buffer.alloc(0);
    const batch = Math.max(1, Math.min(PRELOAD_BATCH, Math.floor(2 ** 20 / options.valueBytes)));
    const send = (): void => {
      while (sent < options.keys && sent - stored <= PRELOAD_WINDOW - batch) {
        const sets: Uint8Array[] = [];
        while (sets.length < batch && sent < options.keys) sets.push(setRequest(sent++, options.valueBytes));
        socket.write(Buffer.concat(sets));
      }
    };
    socket.setTimeout(60_000, () => socket.destroy(new Error(`preload: no answer in a minute after ${stored} keys`)));
    socket.on('connect', send);
    socket.on('data', (data: Buffer) => {
      rest = rest.length === 0 ? data : Buffer.concat([rest, data]);
      let at = 0;
      for (; rest.length - at >= STORED.length; at += STORED.length) {
        if (rest.compare(STORED, 0, STORED.length, at, at + STORED.length) !== 0) {
          const got = JSON.stringify(rest.toString('latin1', at, at + 48));
          socket.destroy(new Error(`preload: expected STORED for ${keyOf(stored)}, got ${got}`));
          return;
        }
        stored++;
      }
      rest = rest.subarray(at);
      if (stored === options.keys) {
        socket.end();
        resolve();
      } else {
        send();
      }
    });
    socket.on('error', reject);
    socket.on('close', () => {
      if (stored < options.keys)
        reject(new Error(`preload: the server closed after ${stored} of ${options.keys} keys`));
    });
  });
}

/**
 * For `getkq`: asks each request once and writes the CAS values of the answer into the expected response, since the server
 * chooses them; from then on they must stay as they are, for nothing is stored any more.
 */
export async function learnCas(host: string, port: number, exchange: MemcachedExchange): Promise<void> {
  const { requests, responses } = exchange;
  const socket = connect({ host, port });
  socket.setTimeout(60_000, () => socket.destroy(new Error('no answer to binary gets in a minute')));
  const chunks = socket[Symbol.asyncIterator]();
  let rest: Buffer = Buffer.alloc(0);
  for (let i = 0; i < requests.start.length; i++) {
    const expected = responses.buffer.subarray(responses.start[i]!, responses.start[i]! + responses.length[i]!);
    socket.write(requests.buffer.subarray(requests.start[i]!, requests.start[i]! + requests.length[i]!));
    while (rest.length < expected.length) {
      const { value, done } = await chunks.next();
      if (done) throw new Error(`the server closed after ${rest.length} bytes of ${expected.length}`);
      rest = Buffer.concat([rest, value as Buffer]);
    }
    for (let at = 0; at < expected.length; at += HEADER_BYTES + expected.readUInt32BE(at + BODY_LENGTH_AT)) {
      rest.copy(expected, at + CAS_AT, at + CAS_AT, at + CAS_AT + CAS_BYTES);
    }
    // What differs otherwise is reported by the matcher, with its place.
    rest = rest.subarray(expected.length);
  }
  socket.destroy();
}
