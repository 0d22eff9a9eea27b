/** `stats detail`: the same counts as Debian's memcached, in text and binary, over all workers. */
import { describe, expect, it } from 'vitest';
import { deltaExtras, packet, u32 } from './packets.ts';
import { ask, Client, DEBIANS, endsWithTest, hasDebians, IO_MODES, type Server, start, startOurs } from './servers.ts';

const serve = async (command: Promise<Server>): Promise<Server> => endsWithTest(await command);

/** The order of prefixes is that of a hash table. */
function sorted(dump: string): string {
  return dump
    .split(/(?<=\r\n)/)
    .sort()
    .join('');
}

const TEXT = [
  'get p:a nop p:b q:c\r\n',
  'gets p:a\r\n',
  'gat 0 p:a\r\n',
  'set p:a 0 0 1\r\n1\r\nget p:a p:zz\r\ngats 0 p:a\r\n',
  `set big:a 0 0 200000\r\n${'x'.repeat(200_000)}\r\nget big:a\r\n`,
  'set p:a 0 0 1 noreply\r\n1\r\n',
  'add p:a 0 0 1\r\n1\r\n',
  'replace p:miss 0 0 1\r\n1\r\n',
  'append p:a 0 0 1\r\n1\r\n',
  'cas p:a 0 0 1 99\r\n1\r\n',
  `set p:a 0 0 2000000\r\n${'x'.repeat(2_000_000)}\r\n`,
  'set p:a x 0 1\r\n',
  'incr p:a 1\r\ndecr p:no 1\r\n',
  'touch p:a 0\r\n',
  'delete p:a\r\ndelete p:a\r\n',
  'mg p:a v\r\nms p:a 1\r\n1\r\nmd p:a\r\nma p:n N0\r\nme p:n\r\n',
  'set abc 0 0 1\r\n1\r\nget abc\r\n',
  'set :x 0 0 1\r\n1\r\nget :x\r\nset x: 0 0 1\r\n1\r\nget x:\r\n',
  'set a:b:c 0 0 1\r\n1\r\n',
  'flush_all\r\n',
];
const BINARY = [
  packet(0x01, { key: 'p:a', value: 'v', extras: u32(0, 0) }),
  packet(0x00, { key: 'p:a' }),
  packet(0x0c, { key: 'p:a' }),
  packet(0x00, { key: 'p:zz' }),
  packet(0x09, { key: 'p:zz' }),
  packet(0x02, { key: 'p:a', value: 'v', extras: u32(0, 0) }),
  packet(0x0e, { key: 'p:a', value: 'v' }),
  packet(0x1c, { key: 'p:a', extras: u32(0) }),
  packet(0x1d, { key: 'p:zz', extras: u32(0) }),
  packet(0x05, { key: 'p:n', extras: deltaExtras(1n, 1n, 0) }),
  packet(0x04, { key: 'p:a' }),
  packet(0x04, { key: 'p:a' }),
];
const QUIT = packet(0x07);
const stat = (key: string): string => Buffer.concat([packet(0x10, { key }), QUIT]).toString('latin1');

describe('stats detail', () => {
  it.skipIf(!hasDebians)('counts what Debian’s memcached counts, after each command', async () => {
    const servers = [await serve(start(DEBIANS, ['-t', '2']))];
    for (const io of IO_MODES) servers.push(await serve(startOurs(io)));
    const tell = (text: string): Promise<string[]> => Promise.all(servers.map(({ port }) => ask(port, text)));
    const compare = async (text: string): Promise<string> => {
      const [want, ...got] = (await tell(text)).map(sorted);
      for (const answer of got) expect(answer, text.slice(0, 100)).toBe(want);
      return want!;
    };
    await compare('stats detail\r\nstats detail foo\r\nstats detail dump\r\nget p:a\r\nstats detail dump\r\nquit\r\n');
    await compare('stats detail on\r\nstats detail on x\r\nquit\r\n');
    await compare(
      'stats detail off\r\nget q:a\r\nstats detail on\r\nget p:b\r\nget p:c\r\nstats detail dump\r\nquit\r\n',
    );
    let seen = '';
    for (const command of TEXT) {
      // What a newer release answers to it is not compared here, only what is counted.
      await tell(`stats reset\r\n${command}quit\r\n`);
      seen += await compare('stats detail dump\r\nquit\r\n');
    }
    expect(seen).toContain('PREFIX big get 1 hit 1 set 1 del 0');
    for (const key of ['detail', 'detail foo', 'detail  on', 'detail onx', 'detailx', 'detail on'])
      await compare(stat(key));
    for (const command of BINARY) {
      await tell('stats reset\r\nquit\r\n');
      await tell(Buffer.concat([command, QUIT]).toString('latin1'));
      await compare(stat('detail dump'));
    }
    await compare(stat('detail off'));
    await compare('get p:a\r\nstats detail dump\r\nquit\r\n');
    for (const { port } of servers) {
      const client = await Client.connect(port);
      expect((await client.stats('settings'))['detail_enabled']).toBe('no');
      client.close();
    }
  });
});

describe.each(IO_MODES)('stats detail with --io %s', (io) => {
  it('-D turns it on with another delimiter; the workers’ counts are put together; a pipeline keeps its order', async () => {
    const server = await serve(startOurs(io, ['-t', '4', '-D', '/']));
    const clients = await Promise.all(Array.from({ length: 16 }, () => Client.connect(server.port)));
    for (const [i, client] of clients.entries()) {
      expect(await client.ask(`set a/${i} 0 0 1\r\n1\r\n`)).toBe('STORED\r\n');
      expect(await client.ask(`get a/${i} a/no a:b\r\n`, 'END\r\n')).toMatch(/^VALUE/);
    }
    const client = clients[0]!;
    expect((await client.stats('settings'))['detail_enabled']).toBe('yes');
    expect(await client.ask('version\r\nstats detail dump\r\nmn\r\n', 'MN\r\n')).toBe(
      'VERSION 1.6.45\r\nPREFIX a get 32 hit 16 set 16 del 0\r\nEND\r\nMN\r\n',
    );
    await client.ask('stats reset\r\n');
    for (const other of clients) expect(await other.ask('stats detail dump\r\n', 'END\r\n')).toBe('END\r\n');
    for (const other of clients) other.close();
  });

  it('-X forbids it; prefixes that a client invents are bounded', async () => {
    const without = await serve(startOurs(io, ['-t', '1', '-X']));
    const refused = 'CLIENT_ERROR stats detail not allowed\r\n';
    expect(await ask(without.port, 'stats detail on\r\nstats detail\r\nquit\r\n')).toBe(refused.repeat(2));
    const server = await serve(startOurs(io, ['-t', '1', '-D', ':']));
    const client = await Client.connect(server.port);
    for (let i = 0; i < 70_000; i += 1000) {
      await client.ask(`get ${Array.from({ length: 1000 }, (_, k) => `p${i + k}:x`).join(' ')}\r\n`, 'END\r\n');
    }
    const dump = await client.ask('stats detail dump\r\n', '\r\nEND\r\n');
    expect(dump.split('\r\n').length - 2).toBe(65_536);
    client.close();
  });
});
