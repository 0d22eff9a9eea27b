/**
 * Binary packets to Debian's memcached and to both io modes: the same bytes must come back.
 *
 * | what                                    | 1.6.18                          | here                          |
 * | --------------------------------------- | ------------------------------- | ----------------------------- |
 * | unknown opcode with key or extras       | swallows their length once more | swallows the body: left out   |
 * | touch, gat, stat with a value           | reads it as the next packet     | Invalid arguments: left out   |
 * | append and prepend with a wrong CAS     | Data exists for key.            | Not stored. (1.6.45): left out |
 * | VERSION's number                        | its own                         | 1.6.45: left out              |
 */
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { fraction } from './arbitraries.ts';
import { expectSame, ORACLE_RUNS, oracleServers } from './oracles.ts';
import { deltaExtras, packet, readPackets, u32 } from './packets.ts';
import { pieces, stages } from './pieces.ts';
import { hasDebians, play, playStages } from './servers.ts';

const key = fc.oneof(
  { weight: 9, arbitrary: fc.integer({ min: 0, max: 4 }).map((n) => `key${n}`) },
  { weight: 1, arbitrary: fc.constantFrom('k'.repeat(250), 'a b', '\r\n', '\0', 'Ü\xff') },
);
const value = fc
  .oneof(
    {
      weight: 6,
      arbitrary: fc.string({ unit: 'binary', maxLength: 30 }).map((v) => Buffer.from(v).toString('latin1')),
    },
    { weight: 6, arbitrary: fc.bigInt({ min: 0n, max: 2n ** 64n + 3n }).map(String) },
    { weight: 1, arbitrary: fc.constantFrom('', 'GET', '\x80') },
    {
      weight: 1,
      arbitrary: fc.constantFrom(2000, 33_000, 70_000, 600_000, 1_048_500, 1_048_576).map((n) => 'v'.repeat(n)),
    },
  )
  // Of a value of nothing but white space, memcached's incr reads on into the memory behind it.
  .filter((text) => !/^[\t-\r ]+$/.test(text));
const opaque = fc.constantFrom(0, 1, 0xffffffff, 0x80818081);
const cas = fc.oneof(
  { weight: 3, arbitrary: fc.constant(0n) },
  { weight: 1, arbitrary: fc.bigInt({ min: 1n, max: 30n }) },
  { weight: 1, arbitrary: fc.constantFrom(2n ** 64n - 1n, 2n ** 32n) },
);
const exptime = fc.constantFrom(0, 0, 100, 2_000_000_000, 0xffffffff, 2_592_001);
const u64 = fc.oneof(fc.constantFrom(0n, 1n, 2n ** 32n, 2n ** 64n - 1n), fc.bigInt({ min: 0n, max: 100n }));

const command = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .record({ op: fc.constantFrom(1, 2, 3, 0x11, 0x12, 0x13, 1), key, value, cas, opaque, flags: opaque, exptime })
      .map((c) => packet(c.op, { ...c, extras: u32(c.flags, c.exptime) })),
  },
  {
    weight: 2,
    arbitrary: fc
      .record({ op: fc.constantFrom(0x0e, 0x0f, 0x19, 0x1a), key, value, opaque })
      .map((c) => packet(c.op, c)),
  },
  {
    weight: 6,
    arbitrary: fc.record({ op: fc.constantFrom(0, 9, 0x0c, 0x0d), key, opaque, cas }).map((c) => packet(c.op, c)),
  },
  {
    weight: 2,
    arbitrary: fc
      .record({ op: fc.constantFrom(0x1c, 0x1d, 0x1e, 0x23, 0x24), key, opaque, exptime })
      .map((c) => packet(c.op, { ...c, extras: u32(c.exptime) })),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constantFrom(4, 0x14), key, opaque, cas }).map((c) => packet(c.op, c)) },
  {
    weight: 4,
    arbitrary: fc
      .record({ op: fc.constantFrom(5, 6, 0x15, 0x16), key, opaque, cas, by: u64, initial: u64, exptime })
      .map((c) => packet(c.op, { ...c, extras: deltaExtras(c.by, c.initial, c.exptime) })),
  },
  { weight: 2, arbitrary: opaque.map((o) => packet(0x0a, { opaque: o })) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      packet(8),
      packet(0x18),
      packet(8, { extras: u32(0) }),
      packet(0x10, { key: 'nope' }),
      packet(0x10, { key: 'reset' }),
      packet(0x10, { key: 'sizes' }),
      packet(0x10, { key: 'conns' }),
      packet(0x10, { key: 'cachedump 1 0' }),
      packet(0x10, { key: 'itemsx' }),
      packet(0x10, { key: 'Items' }),
      packet(0x20),
      packet(0x21, { key: 'PLAIN', value: '\0user\0password' }),
      packet(0x22, { key: 'PLAIN', value: 'x' }),
      packet(0x1b),
      packet(0x3f, { value: 'xyz' }),
      packet(0xff),
    ),
  },
);
/** Packets after which the server closes. */
const last = fc.constantFrom(
  ...[7, 0x17].map((op) => packet(op)),
  packet(7, { key: 'x' }),
  packet(0),
  packet(0, { key: 'key0', extras: u32(0) }),
  packet(0, { key: 'key0', bodyLength: 0 }),
  packet(0, { key: 'k'.repeat(251) }),
  packet(1, { key: 'key0', value: 'x' }),
  packet(1, { value: 'x', extras: u32(0, 0) }),
  packet(4, { key: 'key0', value: 'x' }),
  packet(5, { key: 'key0', extras: u32(0) }),
  packet(8, { key: 'key0' }),
  packet(0x0a, { value: 'x' }),
  packet(0x0b, { value: 'x' }),
  packet(0x0e, { value: 'x' }),
  packet(0x10, { extras: u32(1) }),
  packet(0x1c, { key: 'key0' }),
  packet(0x20, { value: 'x' }),
  packet(0x21, { value: 'x' }),
);
const READS = new Set([0, 9, 0x0c, 0x0d, 0x1d, 0x1e, 0x23, 0x24]);
const COUNTS = new Set([5, 6, 0x15, 0x16]);
const exchange = fc.record({
  commands: fc.array(command, { minLength: 1, maxLength: 40 }),
  last: fc.option(last, { nil: packet(0x0a) }),
  cuts: fc.array(fraction, { maxLength: 25 }),
});

describe.skipIf(!hasDebians)("Debian's memcached as oracle of the binary protocol", () => {
  const oracle = oracleServers();

  it('answers every exchange with the same bytes, CAS numbers included', async () => {
    await fc.assert(
      fc.asyncProperty(exchange, async ({ commands, last: end, cuts }) => {
        const parts = stages(
          [packet(8), ...commands],
          (command) => READS.has(command[1]!),
          (command) => COUNTS.has(command[1]!),
        ).map((stage) => pieces(stage, cuts));
        // Not cut: a server that closes at its head would reset a client that still writes its rest.
        parts.push([end]);
        // Whoever used up a CAS number where the other did not is found out at once.
        const probe = packet(1, { key: 'probe', extras: u32(0, 0) });
        await expectSame(
          oracle,
          async ({ port }) => Buffer.concat([await playStages(port, parts), await play(port, [probe])]),
          (got, want) => [readPackets(got), readPackets(want)],
        );
      }),
      { numRuns: ORACLE_RUNS },
    );
  });
});
