/**
 * memcached's text and binary protocols over `keys` keys of our own, every byte of every answer known beforehand.
 *
 * `single`: variants 0 … keys-1 get key i, keys … 2·keys-1 set it to the value it has. The other shapes ask for `batch` keys
 * at once, in one of a few prepared requests: `multiget` names them in one get, `pipeline` sends as many gets in one go,
 * `getkq` as many quiet binary gets with a noop at their end. `preload` puts all values in place.
 * Invariant: a hit that is missing, doubled, out of place or changed by a byte is seen.
 */
import { connect } from 'node:net';
import { pattern } from '../payload.ts';
import { type ByteTable, byteTable, type Exchange, TableMatcher } from './exchange.ts';
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
  return { requests: byteTable(requests), responses: table, matcher: new TableMatcher(table, connections, miss), pick };
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
    socket.setTimeout(10_000, () => socket.destroy(new Error(`preload: no answer in 10 s after ${stored} keys`)));
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
  socket.setTimeout(10_000, () => socket.destroy(new Error('no answer to binary gets in 10 s')));
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
