/** The protocol without sockets: bytes cut anywhere, output that is full at any moment, and what 1.6.45 does differently. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CONN_CLOSING, Conn, PROTOCOL_UNKNOWN } from '../src/conn.ts';
import { type Cache, createCache } from '../src/engine/cache.ts';
import { checkInvariants } from '../src/engine/check.ts';
import { DEFAULT_CACHE_CONFIG, PAGE_BYTES } from '../src/engine/layout.ts';
import { Prefixes } from '../src/prefixes.ts';
import { type Host, ProtoText } from '../src/proto_text.ts';
import type { Output } from '../src/values.ts';
import { fraction } from './arbitraries.ts';

const ROOM = 256 * 1024;

/** An output that has `limit` bytes of room until it is drained; -1: always. */
class FakeOutput implements Output {
  readonly memory = new Uint8Array(ROOM);
  readonly sent: Buffer[] = [];
  readonly written: number[] = [];
  limit = -1;
  private at = 64;
  private readonly cache: () => Uint8Array;

  constructor(cache: () => Uint8Array) {
    this.cache = cache;
  }

  private full(): boolean {
    return this.limit === 0;
  }

  private take(bytes: number): void {
    if (this.limit > 0) this.limit = Math.max(0, this.limit - bytes);
  }

  reserve(_handle: number, bytes: number): number {
    if (this.full()) return -1;
    if (this.at + bytes + 64 > ROOM) this.at = 64;
    // What stands behind the room must stay as it is.
    this.memory.fill(0xaa, this.at, this.at + bytes + 32);
    this.reserved = bytes;
    return this.at;
  }
  private reserved = 0;

  commit(_handle: number, bytes: number): void {
    expect(bytes).toBeLessThanOrEqual(this.reserved);
    for (let i = 0; i < 32; i++) expect(this.memory[this.at + this.reserved + i]).toBe(0xaa);
    this.sent.push(Buffer.from(this.memory.slice(this.at, this.at + bytes)));
    this.at += bytes;
    this.take(bytes);
  }

  writeCopy(_handle: number, source: Uint8Array, start: number, end: number): number {
    if (this.full()) return 2;
    this.sent.push(Buffer.from(source.slice(start, end)));
    this.take(end - start);
    return 0;
  }

  write(_handle: number, _region: number, offset: number, length: number, token: number): number {
    if (this.full()) return 2;
    this.sent.push(Buffer.from(this.cache().slice(offset, offset + length)));
    this.written.push(token);
    this.take(length);
    return 0;
  }
}

/** The caller of the protocol, as worker.ts is, with an output whose limits the test chooses. */
class Session {
  readonly cache: Cache;
  readonly out: FakeOutput;
  readonly proto: ProtoText;
  readonly conn = new Conn();
  private readonly host: Host = {
    region: 0,
    requestsPerEvent: 1_000_000,
    flushEnabled: true,
    dumpEnabled: true,
    kick: () => {},
    prefixes: new Prefixes(createCache(DEFAULT_CACHE_CONFIG, 'none', 1, 1).memory, ':'),
    watchEnabled: false,
    watch: () => false,
    shutdownEnabled: false,
    shutdown: () => {},
    stats: (_conn, subcommand) =>
      subcommand === '' ? 'STAT a 1\r\nEND\r\n' : subcommand === 'reset' ? 'RESET' : undefined,
    log: () => {},
    note: () => {},
    number: () => 1,
  };

  constructor(cache?: Cache) {
    this.cache =
      cache ?? createCache({ ...DEFAULT_CACHE_CONFIG, memoryBytes: 64 * PAGE_BYTES, hashPower: 10 }, 'none', 1, 1);
    this.out = new FakeOutput(() => this.cache.memory.u8);
    this.proto = new ProtoText(this.cache, this.out, this.host);
    this.conn.open(1, PROTOCOL_UNKNOWN, 0, 0);
  }

  receive(piece: Buffer): void {
    const { conn, proto } = this;
    // At an odd place of a larger buffer, as received bytes are.
    const buffer = Buffer.concat([Buffer.from('get '), piece, Buffer.from('\r\nget \r\n')]);
    if (conn.carryLength === 0 && !conn.blocked) {
      const at = proto.run(conn, buffer, 4, 4 + piece.length);
      if (at < 4 + piece.length && conn.state !== CONN_CLOSING) conn.keep(buffer, at, 4 + piece.length);
      return;
    }
    conn.keep(buffer, 4, 4 + piece.length);
    if (!conn.blocked) this.runKept();
  }

  private runKept(): void {
    const { conn, proto } = this;
    conn.dropKept(proto.run(conn, conn.carry ?? Buffer.alloc(0), 0, conn.carryLength));
  }

  /** Makes room again, as often as it takes, each time the next of `limits` bytes. */
  drain(limits: readonly number[]): void {
    for (let i = 0; this.conn.blocked && i < 10_000; i++) {
      this.out.limit = limits.length === 0 ? -1 : limits[i % limits.length]!;
      this.conn.blocked = false;
      this.runKept();
    }
  }

  release(): void {
    for (const token of this.out.written.splice(0)) this.proto.written(token);
  }

  text(): string {
    return Buffer.concat(this.out.sent).toString('latin1');
  }
}

function answer(text: string): string {
  const session = new Session();
  session.receive(Buffer.from(text, 'latin1'));
  return session.text();
}

const key = fc.integer({ min: 0, max: 4 }).map((n) => `k${n}`);
const value = fc.oneof(
  { weight: 6, arbitrary: fc.string({ unit: 'binary-ascii', maxLength: 50 }) },
  { weight: 1, arbitrary: fc.constantFrom(200, 400, 5000, 33_000, 70_000).map((n) => 'v'.repeat(n)) },
  { weight: 1, arbitrary: fc.constantFrom(600_000, 1_040_000, 1_048_576).map((n) => 'large'.repeat(n / 5)) },
);
const command = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .record({ name: fc.constantFrom('set', 'append', 'add'), key, value, noreply: fc.constantFrom('', ' noreply') })
      .map((c) => `${c.name} ${c.key} 7 0 ${c.value.length}${c.noreply}\r\n${c.value}\r\n`),
  },
  { weight: 4, arbitrary: key.map((k) => `get ${k}\r\n`) },
  {
    weight: 4,
    arbitrary: fc
      .record({ name: fc.constantFrom('get', 'gets', 'gat 0'), keys: fc.array(key, { minLength: 1, maxLength: 8 }) })
      .map((c) => `${c.name} ${c.keys.join(' ')}\r\n`),
  },
  { weight: 3, arbitrary: key.map((k) => `incr ${k} 18446744073709551615\r\n`) },
  {
    weight: 3,
    arbitrary: fc
      .record({
        key,
        value,
        flags: fc.constantFrom('', ' c k Oab', ' MA N0 s c', ' q', ' I C5 k', ' MP s q', ' z', ' E77 c', ' b k'),
      })
      .map((c) => `ms ${c.key} ${c.value.length}${c.flags}\r\n${c.value}\r\n`),
  },
  {
    weight: 4,
    arbitrary: fc
      .record({ key, flags: fc.constantFrom('v', 'v', 'k v', 's t c f h l', 'N0 v E9 c', 'q', 'R30', 'T50', 'z') })
      .map((c) => `mg ${c.key} ${c.flags}\r\n`),
  },
  {
    weight: 3,
    arbitrary: fc
      .record({
        key,
        command: fc.constantFrom('md %', 'md % q', 'md % I T30', 'md % x', 'ma % N0 J9 v', 'ma % q', 'me %'),
      })
      .map((c) => `${c.command.replace('%', c.key)}\r\n`),
  },
  { weight: 1, arbitrary: key.map((k) => `delete ${k}\r\n`) },
  { weight: 1, arbitrary: key.map((k) => `set ${k} x 0 5\r\nabcde\r\n`) },
  {
    weight: 2,
    arbitrary: fc.constantFrom(
      'version\r\n',
      'stats\r\n',
      'foo\r\n',
      '\r\n',
      'set k0 0 0 1\r\nxyz\r\n',
      'touch k1 0\r\n',
    ),
  },
);

describe('the text protocol', () => {
  it('answers the same whatever the packets, and whenever the output is full', () => {
    fc.assert(
      fc.property(
        fc.array(command, { minLength: 1, maxLength: 25 }),
        fc.array(fraction, { maxLength: 30 }),
        fc.array(fc.integer({ min: 1, max: 200_000 }), { maxLength: 6 }),
        (commands, cuts, limits) => {
          const bytes = Buffer.from(commands.join(''), 'latin1');
          const whole = new Session();
          whole.receive(bytes);
          whole.release();
          const session = new Session();
          if (limits.length > 0) session.out.limit = limits[0]!;
          const places = [0, ...cuts.map((cut) => Math.floor(cut * bytes.length)), bytes.length].sort((a, b) => a - b);
          for (let i = 1; i < places.length; i++) {
            session.receive(bytes.subarray(places[i - 1], places[i]));
            // Now and then the output drains late, after more has come in.
            if (i % 3 !== 0) session.drain(limits);
          }
          session.drain(limits);
          session.drain([]);
          session.release();
          if (session.text() !== whole.text()) expect(session.text().slice(0, 3000)).toBe(whole.text().slice(0, 3000));
          expect(session.conn.carry).toBeNull();
          expect(checkInvariants(session.cache)).toEqual([]);
        },
      ),
      { numRuns: 250 },
    );
  });

  it('lets go of everything when a connection vanishes at any moment', () => {
    fc.assert(
      fc.property(
        fc.array(command, { minLength: 1, maxLength: 12 }),
        fraction,
        fc.integer({ min: -1, max: 100_000 }),
        (commands, end, limit) => {
          const bytes = Buffer.from(commands.join(''), 'latin1');
          const session = new Session();
          session.out.limit = limit;
          session.receive(bytes.subarray(0, Math.floor(end * bytes.length)));
          session.proto.close(session.conn);
          session.release();
          expect(checkInvariants(session.cache)).toEqual([]);
        },
      ),
      { numRuns: 150 },
    );
  });

  it('survives any bytes', () => {
    const alphabet = [
      'get ',
      'set ',
      'k',
      ' ',
      '\r\n',
      '\n',
      '\r',
      '\0',
      '0',
      '-1',
      '9'.repeat(25),
      'noreply',
      '\xff',
      'incr ',
      'gat ',
    ];
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...alphabet), { maxLength: 200 }), (parts) => {
        const session = new Session();
        session.receive(Buffer.from(parts.join(''), 'latin1'));
        session.proto.close(session.conn);
        expect(checkInvariants(session.cache)).toEqual([]);
      }),
      { numRuns: 500 },
    );
  });

  it('swallows the payload of a bad store line, as 1.6.45 does', () => {
    const bad = 'CLIENT_ERROR bad command line format\r\n';
    expect(answer('set a x 0 5\r\nget a\r\nversion\r\n')).toBe(`${bad}VERSION 1.6.45\r\n`);
    expect(answer('set a 0 x 5\r\nget a\r\nversion\r\n')).toBe(`${bad}VERSION 1.6.45\r\n`);
    expect(answer(`set ${'k'.repeat(251)} 0 0 5\r\nget a\r\nversion\r\n`)).toBe(`${bad}VERSION 1.6.45\r\n`);
    expect(answer('cas a 0 0 5 x\r\nget a\r\nversion\r\n')).toBe(`${bad}VERSION 1.6.45\r\n`);
    expect(answer('set a x 0 5 noreply\r\nget a\r\nversion\r\n')).toBe('VERSION 1.6.45\r\n');
    // Without a length there is nothing to swallow.
    expect(answer('set a 0 0 x\r\nversion\r\n')).toBe(`${bad}VERSION 1.6.45\r\n`);
    expect(answer('set a 0 0 -1\r\nversion\r\n')).toBe(`${bad}VERSION 1.6.45\r\n`);
  });

  it('ignores further numbers after delete, as 1.6.45 does', () => {
    expect(answer('set a 0 0 1\r\n1\r\ndelete a 0 5\r\nget a\r\n')).toBe('STORED\r\nDELETED\r\nEND\r\n');
    expect(answer('delete a 5 noreply\r\ndelete a 7\r\n')).toBe('NOT_FOUND\r\n');
  });

  it('removes the old value when a set is too large, and keeps it when an append is', () => {
    const large = 'x'.repeat(1_048_576);
    expect(answer(`set a 0 0 1\r\n1\r\nset a 0 0 1048576\r\n${large}\r\nget a\r\n`)).toBe(
      'STORED\r\nSERVER_ERROR object too large for cache\r\nEND\r\n',
    );
    expect(answer(`set a 0 0 1\r\n1\r\nappend a 0 0 1048576\r\n${large}\r\nget a\r\n`)).toBe(
      'STORED\r\nSERVER_ERROR object too large for cache\r\nVALUE a 0 1\r\n1\r\nEND\r\n',
    );
  });

  it('says out of memory even to noreply, and swallows the payload', () => {
    const cache = createCache({ ...DEFAULT_CACHE_CONFIG, memoryBytes: 2 * PAGE_BYTES, evictions: false }, 'none', 1, 1);
    const session = new Session(cache);
    const one = (i: number): Buffer => Buffer.from(`set key${i} 0 0 9 noreply\r\nversion\r\n\r\n`);
    for (let i = 0; i < 30_000; i++) session.receive(one(i));
    const text = session.text();
    expect(text.startsWith('SERVER_ERROR out of memory storing object\r\n')).toBe(true);
    expect(text.replaceAll('SERVER_ERROR out of memory storing object\r\n', '')).toBe('');
  });
});
