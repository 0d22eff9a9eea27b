/**
 * Hostile clients: valid commands of the text, meta and binary protocols, mutated (cut, repeated, reordered, bytes changed,
 * lengths that lie, huge numbers, NULs), in pieces, to live servers of both io modes. After each group of cases a fresh
 * connection must be answered over all three protocols; at the end the counters add up, no connection is left over, and the
 * invariant checker walks the whole memory.
 * Each case goes to both io modes; what it answers must agree between them (numbers apart) when it is played alone. The
 * others also go by UDP, a datagram each.
 *
 * `FUZZ_CASES` (default 2,000; a million for a night), `FUZZ_SEED` to repeat a run; a failure prints seed and case.
 */
import { createSocket, type Socket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fraction } from './arbitraries.ts';
import { deltaExtras, packet, u32 } from './packets.ts';
import { pieces } from './pieces.ts';
import { ask, Client, connect, IO_MODES, play, type Server, startChecked } from './servers.ts';

const CASES = Number(process.env['FUZZ_CASES'] ?? 2000);
const SEED = Number(process.env['FUZZ_SEED'] ?? Date.now() % 2 ** 31);
/** Cases that are played at once; then the server is asked how it is. */
const GROUP = 32;
/** The group to begin with: FUZZ_FROM, to see a failure again. */
const FROM = Number(process.env['FUZZ_FROM'] ?? 0);
/** One group in so many is played case by case and compared between the io modes. */
const COMPARED = 8;
const CASE_MS_MAX = 60_000;

const key = fc.oneof(
  { weight: 9, arbitrary: fc.integer({ min: 0, max: 30 }).map((n) => `k${n}`) },
  { weight: 1, arbitrary: fc.constantFrom('k'.repeat(250), 'k'.repeat(251), '\0', 'a\0b', '', '\x80', 'noreply') },
);
const huge = fc.constantFrom(
  '0',
  '1',
  '-1',
  '2147483647',
  '2147483648',
  '4294967295',
  '4294967296',
  '9007199254740993',
  '18446744073709551615',
  '18446744073709551616',
  '9'.repeat(400),
  '-9223372036854775809',
  '1e9',
  '0x10',
  '\0',
);
const number = fc.oneof({ weight: 3, arbitrary: fc.nat(200).map(String) }, { weight: 1, arbitrary: huge });
const CRLF = Buffer.from('\r\n');
/** Values are pieces of these, and no strings: to make those of a megabyte anew took most of a run's time. */
const [vs, ws] = [Buffer.alloc(20_000, 'v'), Buffer.alloc(1_048_576, 'w')];
const value = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.string({ unit: 'binary-ascii', maxLength: 80 }).map((text) => Buffer.from(text, 'latin1')),
  },
  { weight: 2, arbitrary: fc.nat(vs.length).map((n) => vs.subarray(0, n)) },
  { weight: 1, arbitrary: fc.constantFrom(600_000, 1_048_000, ws.length).map((n) => ws.subarray(0, n)) },
);
const withValue = (line: string, v: Buffer): Buffer => Buffer.concat([Buffer.from(`${line}\r\n`, 'latin1'), v, CRLF]);
const tail = fc.constantFrom('', '', '', ' noreply', ' 0', ' x y z');

const text = fc
  .oneof(
    fc
      .tuple(fc.constantFrom('set', 'add', 'replace', 'append', 'prepend', 'cas'), key, number, number, value, tail)
      .map(([verb, k, f, e, v, t]) =>
        withValue(`${verb} ${k} ${f} ${e} ${v.length}${verb === 'cas' ? ' 1' : ''}${t}`, v),
      ),
    // Lengths that lie.
    fc.tuple(fc.constantFrom('set', 'ms'), key, number, value).map(([verb, k, n, v]) => {
      return withValue(verb === 'ms' ? `ms ${k} ${n} T0` : `set ${k} 0 0 ${n}`, v);
    }),
    fc
      .tuple(fc.constantFrom('get', 'gets', 'gat 0', 'gats 100', 'gat'), fc.array(key, { maxLength: 60 }))
      .map(([verb, keys]) => `${verb} ${keys.join(' ')}\r\n`),
    fc
      .tuple(fc.constantFrom('incr', 'decr', 'touch', 'delete', 'verbosity', 'flush_all'), key, number, tail)
      .map(([verb, k, n, t]) => `${verb} ${k} ${n}${t}\r\n`),
    fc
      .tuple(
        fc.constantFrom('mg', 'md', 'ma', 'me', 'ms'),
        key,
        fc.array(fc.tuple(fc.constantFrom(...'bcCfhklOqstuvENRTIxMJDFSZ!\0'), fc.oneof(fc.constant(''), number)), {
          maxLength: 24,
        }),
        value,
      )
      .map(([verb, k, flags, v]) => {
        const written = flags.map(([flag, token]) => ` ${flag}${token}`).join('');
        return verb === 'ms' ? withValue(`ms ${k} ${v.length}${written}`, v) : `${verb} ${k}${written}\r\n`;
      }),
    fc.constantFrom(
      'version\r\n',
      'mn\r\n',
      'stats\r\n',
      'stats items\r\n',
      'stats slabs\r\n',
      'stats settings\r\n',
      'stats sizes\r\n',
      'stats conns\r\n',
      'stats detail on\r\n',
      'stats detail dump\r\n',
      'stats cachedump 1 10\r\n',
      'stats cachedump 99 -1\r\n',
      'verbosity 0\r\n',
      'slabs reassign 1 2\r\n',
      'slabs reassign -1 99\r\n',
      'slabs automove 1\r\n',
      'lru mode segmented\r\n',
      'lru tune 10 25 0.1 2.0\r\n',
      'lru_crawler crawl all\r\n',
      'lru_crawler metadump all\r\n',
      'lru_crawler metadump 1,2,99\r\n',
      'lru_crawler mgdump hash\r\n',
      'lru_crawler disable\r\n',
      'lru_crawler enable\r\n',
      'lru_crawler sleep 100\r\n',
      'lru_crawler tocrawl 10\r\n',
      'lru mode flat\r\n',
      'lru temp_ttl 10\r\n',
      'lru temp_ttl -1\r\n',
      'slabs automove 2\r\n',
      'slabs automove window 3\r\n',
      'watch fetchers mutations evictions connevents\r\n',
      'watch deletions rawcmds sysevents foo\r\n',
      'stats reset\r\n',
      'stats sizes_enable\r\n',
      'stats sizes_disable\r\n',
      'stats detail off\r\n',
      'extstore free_memchunks 1 1\r\n',
      'misbehave\r\n',
      'refresh_certs\r\n',
      'cache_memlimit 64\r\n',
      'cache_memlimit 1\r\n',
      'shutdown\r\n',
      'quit\r\n',
      '\r\n',
      '\n',
      ' \r\n',
      'x'.repeat(5000),
      // Of a key that nobody stores: thousands of large values would be gigabytes.
      `get ${'q '.repeat(4000)}\r\n`,
    ),
  )
  .map((line) => (typeof line === 'string' ? Buffer.from(line, 'latin1') : line));

const lie = fc.constantFrom(undefined, undefined, undefined, 0, 1, 250, 251, 65_535);
const bodyLie = fc.constantFrom(undefined, undefined, undefined, 0, 3, 2 ** 20, 2 ** 31, 2 ** 32 - 1);
const binary = fc
  .record({
    opcode: fc.oneof({ weight: 6, arbitrary: fc.nat(0x24) }, { weight: 1, arbitrary: fc.nat(255) }),
    key,
    value,
    extras: fc.oneof(
      fc.constant(Buffer.alloc(0)),
      fc.constant(u32(0)),
      fc.constant(u32(5, 0)),
      fc.constant(deltaExtras(1n, 5n, 0)),
      fc.constant(deltaExtras(2n ** 64n - 1n, 2n ** 64n - 1n, 0xffffffff)),
      fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
    ),
    cas: fc.constantFrom(0n, 0n, 1n, 2n ** 64n - 1n),
    opaque: fc.nat(),
    keyLength: lie,
    bodyLength: bodyLie,
    valued: fc.boolean(),
  })
  .map(({ opcode, valued, keyLength, bodyLength, value: v, ...parts }) =>
    packet(opcode, {
      ...parts,
      ...(valued ? { value: v } : {}),
      ...(keyLength === undefined ? {} : { keyLength }),
      ...(bodyLength === undefined ? {} : { bodyLength }),
    }),
  );

/** Changes bytes in a stream: at a place, a number of bytes, by something else. */
const mutation = fc.record({
  kind: fc.constantFrom('cut', 'drop', 'repeat', 'flip', 'insert', 'digits'),
  at: fraction,
  length: fc.oneof(fc.nat(4), fc.nat(200)),
  bytes: fc.oneof(
    fc
      .constantFrom('\0', '\x80', '\x81', '\r\n', '\n', '\r', ' ', '9'.repeat(30), '-', '\xff\xff\xff\xff')
      .map((s) => Buffer.from(s, 'latin1')),
    fc.uint8Array({ maxLength: 12 }).map((bytes) => Buffer.from(bytes)),
  ),
});
type Mutation = { kind: string; at: number; length: number; bytes: Buffer };

function mutated(stream: Buffer, { kind, at, length, bytes }: Mutation): Buffer {
  const place = Math.floor(at * stream.length);
  const before = stream.subarray(0, place);
  const after = stream.subarray(place);
  switch (kind) {
    case 'cut':
      return before;
    case 'drop':
      return Buffer.concat([before, after.subarray(length)]);
    case 'repeat':
      return Buffer.concat([before, after.subarray(0, length), after]);
    case 'flip': {
      const copy = Buffer.from(stream);
      if (copy.length > 0) copy[place % copy.length]! ^= 1 << (length & 7);
      return copy;
    }
    case 'insert':
      return Buffer.concat([before, bytes, after]);
    default: {
      // The next number becomes a huge one.
      const digits = /\d+/.exec(after.subarray(0, 400).toString('latin1'));
      if (digits === null) return stream;
      const end = digits.index + digits[0].length;
      return Buffer.concat([
        before,
        after.subarray(0, digits.index),
        Buffer.from('9'.repeat(length % 40)),
        after.subarray(end),
      ]);
    }
  }
}

const fuzzCase = fc
  .record({
    commands: fc.oneof(
      { weight: 3, arbitrary: fc.array(text, { minLength: 1, maxLength: 12 }) },
      { weight: 2, arbitrary: fc.array(binary, { minLength: 1, maxLength: 12 }) },
      { weight: 1, arbitrary: fc.array(fc.oneof(text, binary), { minLength: 1, maxLength: 8 }) },
    ),
    mutations: fc.array(mutation, { maxLength: 4 }),
    cuts: fc.array(fraction, { maxLength: 6 }),
  })
  .map(({ commands, mutations, cuts }) => pieces(mutations.reduce(mutated, Buffer.concat(commands)), cuts));

/** Numbers are times, CAS values and counters, which may differ; what stands around them may not. So the CAS of packets, too. */
function shape(answer: Buffer): string {
  const bytes = Buffer.from(answer);
  let at = 0;
  while (at + 24 <= bytes.length && bytes[at] === 0x81) {
    bytes.fill(0, at + 16, at + 24);
    at += 24 + bytes.readUInt32BE(at + 8);
  }
  return bytes.toString('latin1').replace(/\d+/g, 'N');
}
/** What tells about a whole server or about time, and so may differ. */
const ABOUT_SERVER = /stat|watch|\x80\x10|me |mg |ma |lru|slabs|cache_memlimit|flush|verbosity|shutdown|conns/i;

/** A server that closes while bytes are unread resets the connection, and the reset may overtake the last of its answer. */
const agree = (a: string, b: string): boolean => a.startsWith(b) || b.startsWith(a);

function within<T>(promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end of ${what}`)), CASE_MS_MAX);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A fresh connection is answered, in each protocol. */
async function healthy(server: Server): Promise<void> {
  expect(await within(ask(server.port, 'version\r\nmn\r\nquit\r\n'), 'a version')).toMatch(
    /^VERSION 1\.6\.\d+\r\nMN\r\n$/,
  );
  const socket = await connect(server.port);
  const answer = within(
    new Promise<Buffer>((resolve, reject) => {
      socket.once('data', resolve);
      socket.once('close', () => reject(new Error('closed instead of a noop')));
    }),
    'a noop',
  );
  socket.write(packet(0x0a));
  expect((await answer).subarray(0, 8).toString('hex')).toBe('810a000000000000');
  socket.destroy();
}

/** A case as one request by UDP, as much of it as fits; most have the header that they need. */
function sendDatagram(socket: Socket, port: number, one: readonly Buffer[]): number {
  const length = one.reduce((sum, piece) => sum + piece.length, 0);
  const bytes = Buffer.concat(one, Math.min(length, 1392));
  const header = Buffer.from([0, 7, 0, 0, 0, 1, 0, 0]);
  // Every eighth, by its length, lies about how many datagrams there are, or ends in its header.
  if (bytes.length % 16 === 3) header[5] = 2;
  socket.send(bytes.length % 16 === 11 ? bytes.subarray(0, 8) : Buffer.concat([header, bytes]), port, '127.0.0.1');
  return 1;
}

/** Whether datagrams to this port have yet to be read. */
function isWaiting(port: number): boolean {
  const local = `:${port.toString(16).toUpperCase().padStart(4, '0')} `;
  const sockets = readFileSync('/proc/net/udp', 'latin1')
    .split('\n')
    .filter((line) => line.includes(local));
  expect(sockets.length).toBeGreaterThan(0);
  return sockets.some((line) => !/ [0-9A-F]{8}:00000000 /.test(line));
}

describe(`a fuzzer of text, meta and binary (seed ${SEED})`, () => {
  const servers: Awaited<ReturnType<typeof startChecked>>[] = [];
  const udp = createSocket('udp4');

  beforeAll(async () => {
    // The second thread and the small memory: races and evictions belong to it.
    for (const io of IO_MODES) servers.push(await startChecked(io, ['-m', '32', '-U', '-1']));
  });
  afterAll(async () => {
    udp.close();
    for (const server of servers) await server.stop();
  });

  it(`${CASES} cases leave both servers sound`, { timeout: CASES * 60 + 300_000 }, async () => {
    let compared = 0;
    let datagrams = 0;
    let group = FROM;
    for (let done = FROM * GROUP; done < CASES; done += GROUP, group++) {
      const cases = fc.sample(fuzzCase, { numRuns: GROUP, seed: SEED + group });
      try {
        if (group % COMPARED === 0) {
          for (const one of cases) {
            const bytes = Buffer.concat(one).toString('latin1');
            let answers: string[] = [];
            // Again, when something expired or was evicted in one of them only.
            for (let turn = 0; turn < 4; turn++) {
              // A flush does not reach an item with a chosen CAS before its second is over, and each server has its own seconds.
              if (turn > 0) await sleep(1100);
              for (const server of servers) await ask(server.port, 'flush_all\r\nquit\r\n');
              const both = await Promise.all(servers.map((server) => within(play(server.port, one), 'a case')));
              answers = both.map(shape);
              if (agree(answers[0]!, answers[1]!) || ABOUT_SERVER.test(bytes)) break;
            }
            if (ABOUT_SERVER.test(bytes)) continue;
            if (!agree(answers[0]!, answers[1]!)) expect(answers[0], bytes.slice(0, 2000)).toBe(answers[1]);
            compared++;
          }
        } else {
          // Also as a datagram each, of which nobody can say when it is carried out: the checker tells what came of it.
          for (const { udpPort } of servers) for (const one of cases) datagrams += sendDatagram(udp, udpPort!, one);
          await Promise.all(
            servers.flatMap((server) => cases.map((one, i) => within(play(server.port, one), `case ${i}`))),
          );
          // None may be left for the cases that are compared.
          for (const { udpPort } of servers) while (isWaiting(udpPort!)) await sleep(5);
        }
        for (const server of servers) await healthy(server);
      } catch (error) {
        const list = cases.map((one) => JSON.stringify(Buffer.concat(one).toString('latin1').slice(0, 300)));
        throw new Error(`FUZZ_SEED=${SEED}, group ${group} (fc seed ${SEED + group}):\n${list.join('\n')}`, {
          cause: error,
        });
      }
      if (group % 500 === 499) console.log(`fuzz: ${done + GROUP} cases, ${compared} compared`);
    }
    for (const server of servers) {
      const client = await Client.connect(server.port);
      await expect
        .poll(async () => Number((await client.stats())['curr_connections']), { timeout: 30_000 })
        .toBeLessThan(5);
      const stats = await client.stats();
      expect(Number(stats['bytes'])).toBeLessThanOrEqual(Number(stats['limit_maxbytes']));
      expect(Number(stats['curr_items'])).toBeGreaterThanOrEqual(0);
      client.close();
      const said = await server.verdict();
      // A case may have raised the verbosity: then all that the clients said stands before it. No thread may have died.
      expect(said.slice(-200)).toMatch(/^CHECK ok\n$/m);
      expect(said).not.toMatch(/^(worker|background) thread.* died/m);
    }
    if (FROM > 0) return;
    expect(datagrams).toBeGreaterThan(CASES / 2);
    expect(compared).toBeGreaterThan(CASES / COMPARED / 100);
  });
});
