/** What -v and -vv print: every line that Debian's memcached prints for the same exchanges, and its table of slab classes. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { deltaExtras, packet, u32 } from './packets.ts';
import { DEBIANS, endsWithTest, hasDebians, IO_MODES, play, type Server, start, startOurs } from './servers.ts';

if (!hasDebians) console.warn(`skipped: ${DEBIANS} is not installed, so there is nothing to compare with`);

const LONG_KEY = 'k'.repeat(251);
const GET = packet(0x00, { key: 'a' });
const SET = packet(0x01, { key: 'a', value: 'x', extras: u32(0, 0) });

const text = (...lines: string[]): Buffer => Buffer.from(lines.map((line) => `${line}\r\n`).join(''), 'latin1');

/** Each on a connection of its own. */
const EXCHANGES: Readonly<Record<string, Buffer>> = {
  'text, gets': text(
    ...['set a 0 0 1', 'x', 'set b 5 0 2', 'yz', 'get a', 'get a c b', 'gets b a', 'gat 0 a', 'get c', 'get'],
  ),
  'text, values of several pieces': text('set big 0 0 700000', 'v'.repeat(700_000), 'get big a big', 'gets big'),
  'text, stores': text(
    ...['add a 0 0 1', 'y', 'add a 0 0 1 noreply', 'y', 'replace zz 0 0 1', 'y', 'append a 0 0 1', 'z'],
    ...['set a 0 0 1 noreply', 'y', 'prepend zz 0 0 1 noreply', 'y', 'cas a 0 0 1 999', 'z', 'cas zz 0 0 1 1', 'z'],
    ...['cas a 0 0 1 18446744073709551615 noreply', 'z', 'set a 0 0 1', 'xyz'],
  ),
  'text, the rest': text(
    ...['set n 0 0 1', '5', 'incr n 3', 'incr n 3 noreply', 'decr n 1', 'incr a 1', 'incr a 1 noreply', 'incr zz 1'],
    ...['decr zz 1 noreply', 'incr n x', 'delete n', 'delete n', 'delete n noreply', 'touch a 100', 'touch zz 1'],
    ...['touch a 100 noreply', 'touch a x', 'flush_all', 'flush_all noreply', 'flush_all x', 'stats', 'stats items'],
    ...[
      'stats nope',
      'stats reset',
      'stats detail on',
      'stats detail off',
      'stats detail',
      'foo',
      '',
      '   ',
      'set a b c',
    ],
    ...['set a 0 0 -1', 'mn', 'quit'],
  ),
  'text, for operators': text(
    ...[
      'lru_crawler crawl all',
      'slabs reassign 1 2',
      'slabs automove 1',
      'lru mode flat',
      'lru mode segmented noreply',
    ],
    ...['lru tune 10 20 0.1 2', 'lru_crawler sleep x', 'cache_memlimit 64', 'cache_memlimit 65 noreply'],
    ...['cache_memlimit 1', 'watch foo', 'verbosity', 'lru_crawler metadump all'],
  ),
  'text, keys too long': text(
    `get ${LONG_KEY}`,
    `get a ${LONG_KEY}`,
    `touch ${LONG_KEY} 1 noreply`,
    `incr ${LONG_KEY} 1`,
  ),
  // Without the end of its value: what is said before the client goes.
  'text, a value too large': text('set large 0 0 2000000'),
  'text, a value too large, in silence': text('set large 0 0 2000000 noreply'),
  'text, silence for a while': text('verbosity 0', 'get a', 'nonsense', 'verbosity 2', 'get a'),
  meta: text(
    ...['ms a 1', 'x', 'mg a v', 'mg a', 'mg zz', 'mg zz q', 'mn', 'ms a 1 q', 'x', 'ma a', 'ms n 1', '5', 'ma n v q'],
    ...['ma zz', 'md a', 'md a', 'md n q', 'me a', 'me zz', 'mg', 'mg a zz', 'ms n 1', '5', 'ms n 1 C99', 'x', 'mx'],
  ),
  'binary, gets': Buffer.concat([
    ...[SET, GET, packet(0x00, { key: 'zz' }), packet(0x0c, { key: 'zz' }), packet(0x0c, { key: 'a' })],
    ...[
      packet(0x09, { key: 'a' }),
      packet(0x09, { key: 'zz' }),
      packet(0x0d, { key: 'a' }),
      packet(0x0d, { key: 'zz' }),
    ],
    ...[0x1c, 0x1d, 0x1e, 0x23, 0x24].flatMap((opcode) =>
      ['a', 'zz'].map((key) => packet(opcode, { key, extras: u32(0) })),
    ),
    packet(0x07),
  ]),
  'binary, stores': Buffer.concat([
    ...[0x02, 0x12, 0x03, 0x13, 0x01, 0x11].flatMap((opcode) =>
      ['a', 'zz'].map((key) => packet(opcode, { key, value: 'xy', extras: u32(7, 0) })),
    ),
    ...[0x0e, 0x19, 0x0f, 0x1a].flatMap((opcode) => ['a', 'y'].map((key) => packet(opcode, { key, value: '12' }))),
    packet(0x01, { key: 'a', value: 'x', cas: 99n, extras: u32(0, 0) }),
    packet(0x01, { key: 'nothing', value: 'x', cas: 0xffff_ffff_ffffn, extras: u32(0, 0) }),
    packet(0x17),
  ]),
  'binary, the rest': Buffer.concat([
    ...[0x05, 0x15, 0x06, 0x16].map((opcode) => packet(opcode, { key: 'n', extras: deltaExtras(1n, 5n, 0) })),
    packet(0x05, { key: 'a', extras: deltaExtras(0xffff_ffff_ffff_ffffn, 5n, 7) }),
    packet(0x06, { key: 'nn', extras: deltaExtras(1n, 0xffff_ffff_ffff_ffffn, 0xffff_ffff) }),
    ...[packet(0x04, { key: 'a', cas: 99n }), packet(0x04, { key: 'a' }), packet(0x04, { key: 'a' })],
    ...[packet(0x14, { key: 'n' }), packet(0x14, { key: 'n' }), packet(0x0a), packet(0x0b), packet(0x20), packet(0x77)],
    ...['', 'items', 'nope', 'detail on', 'detail off', 'detail dump', 'reset'].map((key) => packet(0x10, { key })),
    ...[packet(0x08), packet(0x18), packet(0x08, { extras: u32(1) })],
  ]),
  'binary, a body where there must be none': packet(0x0a, { value: 'x' }),
  'binary, no key': packet(0x09),
  'binary, a key too long': packet(0x00, { key: LONG_KEY }),
  'binary, a body shorter than its key': packet(0x00, { key: 'abc', bodyLength: 1 }),
  'binary, a value too large': packet(0x01, { key: 'big', extras: u32(0, 0), bodyLength: 3_000_000 }),
  'binary, no magic': Buffer.concat([packet(0x0a), packet(0x0a, { magic: 0x7f })]),
};

/** Without what names a connection, a version, or our way into the kernel. */
function words(stderr: string): string {
  return (
    stderr
      .replace(/^serving with .*\n/gm, '')
      // Of its crawler's thread, whenever that comes to it; with the bits of its own items.
      .replace(/^LRU crawler found an expired item .*\n/gm, '')
      .replace(/^([<>])\d+ /gm, '$1N ')
      .replace(/^\d+(: Client using)/gm, 'N$1')
      .replace(/(, close connection) \d+$/gm, '$1 N')
  );
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(5);
}

/** What it says to each exchange, and to its own end. */
async function transcript(server: Server, closed: string): Promise<Record<string, string>> {
  const said: Record<string, string> = {};
  let before = server.stderr().length;
  for (const [name, bytes] of Object.entries(EXCHANGES)) {
    await play(server.port, [bytes]);
    // The client may know of the end before it is told here.
    if (closed !== '') await until(() => server.stderr().includes(closed, before));
    said[name] = words(server.stderr().slice(before));
    before = server.stderr().length;
  }
  await server.stop();
  said['end'] = words(server.stderr().slice(before));
  return said;
}

describe.skipIf(!hasDebians)('the words of -v', () => {
  it('are Debian’s memcached’s for every exchange of -vv', async () => {
    const args = ['-vv', '-t', '1', '-m', '64'];
    const servers = await Promise.all([start(DEBIANS, args), ...IO_MODES.map((io) => startOurs(io, args))]);
    const table = servers.map((server) => words(endsWithTest(server).stderr()));
    const [want, ...got] = await Promise.all(servers.map((server) => transcript(server, 'connection closed.\n')));
    expect(want!['binary, gets']).toContain('<N GET zz\n>N Writing an error: Not found\n>N Writing bin response:\n');
    for (const [i, io] of IO_MODES.entries()) {
      expect({ io, table: table[i + 1], said: got[i] }).toEqual({ io, table: table[0], said: want });
    }
  });

  it('are Debian’s memcached’s for what -v alone tells', async () => {
    const args = ['-v', '-t', '1', '-m', '64'];
    const servers = await Promise.all([start(DEBIANS, args), ...IO_MODES.map((io) => startOurs(io, args))]);
    for (const server of servers) endsWithTest(server);
    const transcripts = await Promise.all(servers.map((server) => transcript(server, '')));
    // Not when: nothing there tells that a connection has ended.
    const [want, ...got] = transcripts.map((said) => Object.values(said).join(''));
    expect(want).toContain('Invalid magic:  7f\n');
    expect(got).toEqual([want, want]);
  });

  it.each([
    [['-f', '1.07']],
    [['-f', '2', '-n', '100']],
    [['-n', '700', '-I', '2m']],
    [['-I', '8m', '-m', '256', '-C']],
    [['-I', '128k', '-o', 'slab_chunk_max=16384']],
    [['-o', 'slab_sizes=100-1000-5000-100000']],
  ])('begin with the slab classes of %j', async (options) => {
    const args = ['-vv', '-t', '1', ...options];
    const [theirs, ours] = await Promise.all([start(DEBIANS, args), startOurs('epoll', args)]);
    for (const server of [theirs, ours]) await endsWithTest(server).stop();
    expect(words(theirs.stderr())).toContain('slab class   1: chunk size ');
    expect(words(ours.stderr())).toBe(words(theirs.stderr()));
  });
});
