/** What every command counts in `stats`, `stats items` and `stats slabs`: the same as in Debian's memcached, command by command. */
import { describe, expect, it } from 'vitest';
import { deltaExtras, packet, u32 } from './packets.ts';
import { ask, Client, DEBIANS, endsWithTest, hasDebians, IO_MODES, start, startOurs } from './servers.ts';

/**
 * Not compared: what is no count of commands, and what the two differ in. memcached finds items held by replies that it has
 * not sent yet (lrutail_reflocked), counts listening sockets among its connections, and its buffers are others.
 */
const APART =
  /^(pid|uptime|time|version|rusage_\w+|(curr|total)_connections|connection_structures|(response_obj|read_buf)_\w+|bytes_(read|written)|lrutail_reflocked|hash_bytes)$/;

const large = 'x'.repeat(2_000_000);
const set = (key: string, value: string, exptime = 0): string =>
  `set ${key} 0 ${exptime} ${value.length}\r\n${value}\r\n`;
const TEXT = [
  set('a', '1'),
  'set b 5 100 3\r\nabc\r\n',
  'get a\r\n',
  'get a b c\r\n',
  'gets a c\r\n',
  'get none\r\n',
  'add a 0 0 1\r\n2\r\n',
  'add d 0 0 1\r\n2\r\n',
  'replace a 0 0 1\r\n3\r\n',
  'replace none 0 0 1\r\n3\r\n',
  'append a 0 0 1\r\n4\r\n',
  'append none 0 0 1\r\n4\r\n',
  'prepend b 0 0 1\r\n4\r\n',
  'cas a 0 0 1 1\r\n5\r\n',
  'cas none 0 0 1 1\r\n5\r\n',
  'cas d 0 0 1 3\r\n5\r\n',
  'incr a 5\r\n',
  'incr none 5\r\n',
  'decr a 1\r\n',
  'decr none 1\r\n',
  'incr b 1\r\n',
  'touch a 100\r\n',
  'touch none 100\r\n',
  'gat 100 a none\r\n',
  'gats 0 a\r\n',
  'delete d\r\n',
  'delete d\r\n',
  // Expired before any access, then each kind of access.
  ...['get e', 'gat 0 e', 'touch e 0', 'delete e', 'incr e 1', 'mg e v', 'mg e T30', 'md e', 'ma e', 'me e'].map(
    (command) => `${set('e', '1', -1)}${command}\r\n`,
  ),
  `${set('e', '1', -1)}add e 0 0 1\r\n1\r\n`,
  set('big', large),
  `append a 0 0 ${large.length}\r\n${large}\r\n`,
  `add big 0 0 ${large.length} noreply\r\n${large}\r\n`,
  `ms big ${large.length}\r\n${large}\r\n`,
  // A large value after a gat of another connection, whose place this one may have.
  set('chunks', 'y'.repeat(700_000)),
  'get chunks\r\n',
  'gat 0 chunks\r\n',
  'get chunks\r\n',
  'mg chunks v\r\n',
  'incr chunks 1\r\n',
  'set bad 0 0 1\r\nxx\r\n\r\n',
  'set bad x 0 1\r\n\r\n',
  'mg a v\r\n',
  'mg a\r\n',
  'mg none v\r\n',
  'mg a t T30\r\n',
  'mg none T30\r\n',
  'ms m 2\r\nhi\r\n',
  'ms m 2 C1\r\nhi\r\n',
  'ms none 2 C1\r\nhi\r\n',
  'ms m 2 MA\r\nhi\r\n',
  'ms none 2 MR\r\nhi\r\n',
  'ms none 2 ME\r\nhi\r\n',
  'ms none 2 ME\r\nhi\r\n',
  'md m\r\n',
  'md m\r\n',
  'md a C1\r\n',
  'md none I\r\n',
  'mg none v\r\n',
  'ma a\r\n',
  'ma missing\r\n',
  'ma missing MD\r\n',
  'ma n N0 J5\r\n',
  'ma n MD\r\n',
  'ma a C1\r\n',
  'me a\r\n',
  'me missing\r\n',
  'mn\r\n',
  'mg vivified N30 v\r\n',
  'mg vivified v\r\n',
  'mg b q\r\n',
  'mg missing q v\r\nmn\r\n',
  'ms b 2 q\r\nhi\r\nmn\r\n',
  'mg bad !\r\n',
  'ms bad 2 !\r\nhi\r\n',
  'verbosity 0\r\n',
  'bogus\r\n',
  `get ${'k'.repeat(251)}\r\n`,
  set('f', '1'),
  set('g', '1'),
  'set f 0 0 1 noreply\r\n1\r\n',
  'flush_all\r\n',
  'get f\r\n',
  'delete g\r\n',
  'touch a 0\r\n',
  'incr a 1\r\n',
  'mg b v\r\n',
  // A flat LRU gives back what was flushed at its tail before it takes new memory.
  'add b 0 0 1\r\n1\r\n',
  'flush_all 0\r\n',
  set('z', '1'),
  'cas z 0 0 1 5\r\n1\r\n',
];
const stored = u32(0, 0);
const BINARY = [
  packet(0x01, { key: 'k', extras: stored, value: 'v' }),
  packet(0x00, { key: 'k' }),
  packet(0x00, { key: 'no' }),
  packet(0x09, { key: 'no' }),
  packet(0x0c, { key: 'k' }),
  packet(0x0c, { key: 'no' }),
  packet(0x02, { key: 'k', extras: stored, value: 'v' }),
  packet(0x03, { key: 'k', extras: stored, value: 'v' }),
  packet(0x03, { key: 'no', extras: stored, value: 'v' }),
  packet(0x0e, { key: 'k', value: 'x' }),
  packet(0x0e, { key: 'no', value: 'x' }),
  packet(0x01, { key: 'k', extras: stored, value: 'v', cas: 99_999n }),
  packet(0x01, { key: 'no', extras: stored, value: 'v', cas: 9n }),
  ...[0x1c, 0x1d, 0x1e, 0x23, 0x24].flatMap((opcode) => [
    packet(opcode, { key: 'k', extras: u32(0) }),
    packet(opcode, { key: 'no', extras: u32(0) }),
  ]),
  packet(0x05, { key: 'count', extras: deltaExtras(1n, 5n, 0) }),
  packet(0x05, { key: 'count', extras: deltaExtras(1n, 5n, 0) }),
  packet(0x06, { key: 'count', extras: deltaExtras(1n, 5n, 0) }),
  packet(0x05, { key: 'no', extras: deltaExtras(1n, 5n, 0xffff_ffff) }),
  packet(0x06, { key: 'no', extras: deltaExtras(1n, 5n, 0xffff_ffff) }),
  packet(0x05, { key: 'k', extras: deltaExtras(1n, 5n, 0) }),
  packet(0x05, { key: 'count', extras: deltaExtras(1n, 5n, 0), cas: 77n }),
  packet(0x04, { key: 'k', cas: 5n }),
  packet(0x04, { key: 'k' }),
  packet(0x04, { key: 'k' }),
  packet(0x14, { key: 'k' }),
  packet(0x08),
  packet(0x00, { key: 'count' }),
  packet(0x0a),
  packet(0x99),
  packet(0x21, { key: 'PLAIN', value: '\0a\0b' }),
].map((one) => Buffer.concat([one, packet(0x07)]).toString('latin1'));

describe.skipIf(!hasDebians)("counters compared with Debian's memcached (skipped where it is not installed)", () => {
  it('every command counts the same', async () => {
    // No background work: what it does depends on when.
    const args = ['-t', '1', '-m', '64', '-o', 'no_lru_maintainer,no_lru_crawler'];
    const servers = await Promise.all([start(DEBIANS, args), ...IO_MODES.map((io) => startOurs(io, args))]);
    const clients = await Promise.all(servers.map((server) => Client.connect(endsWithTest(server).port)));
    /** What a command adds to each count. */
    const effect = async (i: number, command: string): Promise<Record<string, number>> => {
      const before = await clients[i]!.stats();
      await ask(servers[i]!.port, command);
      const after = await clients[i]!.stats();
      const changed = Object.keys(after).filter((name) => !APART.test(name) && after[name] !== before[name]);
      return Object.fromEntries(changed.map((name) => [name, Number(after[name]) - Number(before[name])]));
    };
    for (const command of [...TEXT, ...BINARY]) {
      const [want, ...got] = await Promise.all(servers.map((_, i) => effect(i, command)));
      for (const [i, counts] of got.entries()) {
        expect({ io: IO_MODES[i], command: command.slice(0, 60), counts }).toEqual({
          io: IO_MODES[i],
          command: command.slice(0, 60),
          counts: want,
        });
      }
    }
    // In each slab class, too; but where a large item has its header is each one's own choice.
    const counts = async (client: Client): Promise<[string, string][]> =>
      Object.entries(await client.stats('slabs')).filter(
        ([name, n]) => /(_hits|_badval|cmd_set)$/.test(name) && n !== '0',
      );
    const [theirs, ...ours] = await Promise.all(clients.map(counts));
    expect(theirs!.length).toBeGreaterThan(8);
    for (const slabs of ours) expect(slabs).toEqual(theirs);
  });
});
