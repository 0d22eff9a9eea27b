/**
 * Options that forbid something or take it away: each line gets the answer of Debian's memcached under the same options.
 * The two io modes take turns; what is answered here does not depend on them. Left out, because 1.6.45 differs from 1.6.18
 * and proto.test.ts and detail.test.ts have it: `stats detail` with -X, and what a `set … noreply` that finds no memory is told.
 */
import { describe, expect, it } from 'vitest';
import { deltaExtras, packet, readPackets, u32 } from './packets.ts';
import { ask, Client, DEBIANS, endsWithTest, hasDebians, IO_MODES, type Server, start, startOurs } from './servers.ts';

interface Variant {
  args: string[];
  /** In this order, each on a connection of its own. */
  lines: string[];
}

const binary = (...packets: Buffer[]): string => Buffer.concat([...packets, packet(0x07)]).toString('latin1');
const stored = u32(0, 0);
/** Small and large items until there is no memory, so that every kind of store finds none. */
const FULL = [
  ...Array.from({ length: 24 }, (_, i) => `set fill${i} 0 0 400000\r\n${'f'.repeat(400_000)}\r\n`),
  'set n 0 0 2\r\n99\r\n',
  `set small 0 0 100\r\n${'s'.repeat(100)}\r\n`,
];
const big = 'b'.repeat(400_000);
const store = (line: string): string => `${line}\r\n${big}\r\n`;

const VARIANTS: Variant[] = [
  {
    args: ['-F'],
    lines: [
      'flush_all\r\n',
      'flush_all 10\r\n',
      'flush_all x\r\n',
      'flush_all noreply\r\nmn\r\n',
      binary(packet(0x08)),
      binary(packet(0x18)),
    ],
  },
  {
    args: ['-X'],
    lines: [
      'stats cachedump 1 0\r\n',
      'stats cachedump\r\n',
      'lru_crawler metadump all\r\n',
      'lru_crawler metadump x\r\n',
      binary(packet(0x10, { key: 'cachedump 1 0' })),
    ],
  },
  { args: ['-W'], lines: ['watch\r\n', 'watch foo\r\n', 'mn\r\nwatch\r\n', 'set a 0 0 1\r\n1\r\nwatch fetchers\r\n'] },
  {
    args: ['-C'],
    lines: [
      'set a 0 0 1\r\n1\r\n',
      'gets a\r\n',
      'cas a 0 0 1 0\r\n2\r\n',
      'cas a 0 0 1 5\r\n2\r\n',
      'cas none 0 0 1 5\r\n2\r\n',
      'incr a 1\r\n',
      'gets a b a\r\n',
      'mg a c v\r\n',
      'ms a 1 c\r\n1\r\n',
      'ms a 1 C0\r\n1\r\n',
      'ms a 1 C5\r\n1\r\n',
      'ma a c\r\n',
      'md a C5\r\n',
      'stats sizes_enable\r\n',
      'stats sizes\r\n',
      binary(packet(0x01, { key: 'b', extras: stored, value: 'v' }), packet(0x00, { key: 'b' })),
      binary(packet(0x01, { key: 'b', extras: stored, value: 'v', cas: 5n })),
      binary(packet(0x04, { key: 'b', cas: 5n })),
      // Nothing but the second tells what was stored before a flush: also what comes after it in that second is gone, so nothing does.
      'set f 0 0 1\r\n1\r\nflush_all\r\nget f\r\n',
      binary(packet(0x01, { key: 'f', extras: stored, value: 'v' }), packet(0x08), packet(0x00, { key: 'f' })),
    ],
  },
  {
    args: ['-o', 'no_slab_reassign'],
    lines: ['slabs reassign 1 2\r\n', 'slabs reassign x 2\r\n', 'slabs automove 1\r\n', 'slabs automove 0 noreply\r\n'],
  },
  {
    args: ['-o', 'no_lru_maintainer,no_lru_crawler'],
    lines: [
      'lru mode flat\r\n',
      'lru mode x\r\n',
      'lru temp_ttl 5\r\n',
      'lru tune 10 20 0.1 2\r\n',
      'lru tune 10 20 0.1\r\n',
      'lru_crawler crawl all\r\n',
      'lru_crawler metadump all\r\n',
      'lru_crawler sleep 5\r\n',
      'lru_crawler enable\r\n',
      'lru_crawler enable\r\n',
    ],
  },
  {
    args: ['-B', 'ascii'],
    lines: ['mn\r\n', '\x80mn\r\nmn\r\n', binary(packet(0x0a))],
  },
  { args: ['-B', 'binary'], lines: ['mn\r\n', binary(packet(0x0a)), 'version\r\n'] },
  {
    args: ['-M', '-m', '8', '-I', '512k', '-n', '48'],
    lines: [
      ...FULL,
      `set large 0 0 600000\r\n${'l'.repeat(600_000)}\r\n`,
      ...['set', 'add', 'replace', 'append', 'prepend'].map((verb) => store(`${verb} fill0 0 0 ${big.length}`)),
      store(`cas fill1 0 0 ${big.length} 1`),
      store(`set fill1 0 0 ${big.length}`),
      store(`add new 0 0 ${big.length}`),
      store(`ms new ${big.length} k Oq`),
      store(`ms fill2 ${big.length} MA`),
      'get fill0 fill1 fill2\r\n',
      'append fill3 0 0 1\r\n1\r\n',
      'incr n 1\r\n',
      'incr n 100000\r\n',
      'get n\r\n',
      'gat 0 small\r\n',
      binary(packet(0x01, { key: 'new', extras: stored, value: big })),
      binary(packet(0x0e, { key: 'small', value: 'x' })),
      binary(packet(0x05, { key: 'n', extras: deltaExtras(1n, 1n, 0) })),
      'delete fill5\r\n',
      store(`set again 0 0 ${big.length}`),
      store(`set again2 0 0 ${big.length}`),
    ],
  },
  {
    args: ['-o', 'slab_chunk_max=1024'],
    lines: [
      ...[900, 975, 976, 1024, 2000, 5000, 100_000, 1_000_000, 1_048_000, 1_048_576].flatMap((bytes) => [
        `set a 7 0 ${bytes}\r\n${'a'.repeat(bytes)}\r\n`,
        'get a\r\n',
        `append a 0 0 300\r\n${'b'.repeat(300)}\r\n`,
        'mg a s v\r\n',
      ]),
    ],
  },
  {
    args: ['-I', '2m'],
    lines: [
      ...[1_500_000, 2_097_000, 2_097_092, 2_097_093, 2_097_152].flatMap((bytes) => [
        `set a 0 0 ${bytes}\r\n${'a'.repeat(bytes)}\r\n`,
        'gat 0 a\r\n',
        'mg a h\r\n',
      ]),
      `set a 5 0 1000000\r\n${'a'.repeat(1_000_000)}\r\n`,
      `append a 0 0 1200000\r\n${'b'.repeat(1_200_000)}\r\n`,
      `prepend a 0 0 900000\r\n${'b'.repeat(900_000)}\r\n`,
      `ms a 2097152 k\r\n${'a'.repeat(2_097_152)}\r\n`,
      'mg a s f\r\n',
      binary(packet(0x01, { key: 'a', extras: stored, value: 'v'.repeat(2_097_152) })),
      binary(packet(0x00, { key: 'a' })),
      // A fetch over either protocol shows.
      'set b 0 0 1\r\n1\r\n',
      binary(packet(0x00, { key: 'b' })),
      'mg b h\r\n',
    ],
  },
];

/** What the lines counted, but for what depends on when the background work came to it. */
async function counts({ port }: Server): Promise<Record<string, string>> {
  const client = await Client.connect(port);
  const stats = Object.entries(await client.stats());
  client.close();
  return Object.fromEntries(
    stats.filter(([name]) =>
      /^(cmd_|get_(?:hits|misses)|delete_|incr_|decr_|cas_|touch_|store_|evictions$|total_items$|auth_)/.test(name),
    ),
  );
}

/** Packets in words, where it is packets. */
const readable = (answer: string): string | string[] =>
  answer.startsWith('\x81') ? readPackets(Buffer.from(answer, 'latin1')) : answer;

describe.skipIf(!hasDebians)("Debian's memcached as oracle of options (skipped where it is not installed)", () => {
  it.each(VARIANTS.map((variant, i) => ({ ...variant, io: IO_MODES[i % 2]!, name: variant.args.join(' ') })))(
    '$name: --io $io answers every line alike',
    async ({ args, lines, io }) => {
      const [theirs, ours] = await Promise.all([
        start(DEBIANS, ['-t', '1', ...args]),
        startOurs(io, ['-t', '1', ...args]),
      ]);
      for (const server of [theirs, ours]) endsWithTest(server);
      for (const line of lines) {
        const [want, got] = await Promise.all([ask(theirs.port, line), ask(ours.port, line)]);
        expect([line.slice(0, 80), readable(got)]).toEqual([line.slice(0, 80), readable(want)]);
      }
      if (args.includes('binary')) return;
      const [want, got] = await Promise.all([theirs, ours].map(counts));
      expect(got).toEqual(want);
    },
  );
});
