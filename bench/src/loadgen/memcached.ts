/**
 * memcached's text protocol: GET (and SET) over `keys` keys of our own, every byte of every answer known beforehand.
 *
 * Variants 0 … keys-1 get key i, keys … 2·keys-1 set it to the value it has. `preload` puts all values in place.
 */
import { connect } from 'node:net';
import { pattern } from '../payload.ts';
import { byteTable, type Exchange, TableMatcher } from './exchange.ts';
import { Random } from './random.ts';

const STORED = Buffer.from('STORED\r\n');
/** Sets on their way while preloading. */
const PRELOAD_WINDOW = 64;

export interface MemcachedOptions {
  keys: number;
  valueBytes: number;
  /** Share of SETs, 0 … 1. */
  setShare: number;
}

export const keyOf = (index: number): string => `bench-key-${String(index).padStart(8, '0')}`;

const setRequest = (index: number, valueBytes: number): Uint8Array =>
  Buffer.concat([
    Buffer.from(`set ${keyOf(index)} 0 0 ${valueBytes}\r\n`),
    pattern(valueBytes, index),
    Buffer.from('\r\n'),
  ]);

export function memcachedExchange(options: MemcachedOptions, connections: number): Exchange {
  const { keys, valueBytes } = options;
  const requests: Uint8Array[] = [];
  const responses: Uint8Array[] = [];
  for (let i = 0; i < keys; i++) {
    requests.push(Buffer.from(`get ${keyOf(i)}\r\n`));
    responses.push(
      Buffer.concat([
        Buffer.from(`VALUE ${keyOf(i)} 0 ${valueBytes}\r\n`),
        pattern(valueBytes, i),
        Buffer.from('\r\nEND\r\n'),
      ]),
    );
  }
  // Without SETs their half of the table would only cost memory.
  for (let i = 0; options.setShare > 0 && i < keys; i++) {
    requests.push(setRequest(i, valueBytes));
    responses.push(STORED);
  }
  const random = new Random(0x6d656d63);
  const setsBelow = Math.round(options.setShare * 2 ** 32);
  const pick =
    keys === 1 && setsBelow === 0
      ? () => 0
      : setsBelow === 0
        ? () => random.below(keys)
        : () => (random.next() < setsBelow ? keys : 0) + random.below(keys);
  return { requests: byteTable(requests), matcher: new TableMatcher(byteTable(responses), connections), pick };
}

/** Stores every key; rejects unless the server says STORED to each. */
export function preload(host: string, port: number, options: MemcachedOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    let sent = 0;
    let stored = 0;
    let rest: Buffer = Buffer.alloc(0);
    const send = (): void => {
      while (sent < options.keys && sent - stored < PRELOAD_WINDOW) {
        socket.write(setRequest(sent++, options.valueBytes));
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
