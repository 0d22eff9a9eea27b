/** -R: a connection gives way after that many requests; `conn_yields` counts as Debian's memcached does. */
import { describe, expect, it } from 'vitest';
import { packet } from './packets.ts';
import { ask, Client, DEBIANS, endsWithTest, hasDebians, IO_MODES, type Server, start, startOurs } from './servers.ts';

const serve = async (command: Promise<Server>): Promise<Server> => endsWithTest(await command);

const COMMANDS: Readonly<Record<string, string>> = {
  mn: 'mn\r\n',
  set: 'set a 0 0 1\r\n1\r\n',
  'set noreply': 'set a 0 0 1 noreply\r\n1\r\n',
  hit: 'get a\r\n',
  multiget: 'get a b a\r\n',
  meta: 'mg a v\r\n',
  error: 'nonsense\r\n',
  binary: packet(0x00, { key: 'a' }).toString('latin1'),
};
const QUIT: Readonly<Record<string, string>> = { binary: packet(0x07).toString('latin1') };
/** Around the first and the second turn's end, and more than one piece of received bytes. */
const COUNTS = [1, 5, 6, 7, 8, 11, 12, 13, 100, 900];

/** Yields that n commands and a quit in one write make. */
async function yields(server: Server, name: string, count: number): Promise<number> {
  await ask(server.port, 'stats reset\r\nquit\r\n');
  await ask(server.port, COMMANDS[name]!.repeat(count) + (QUIT[name] ?? 'quit\r\n'));
  const client = await Client.connect(server.port);
  const stats = await client.stats();
  client.close();
  return Number(stats['conn_yields']);
}

/** Of 50,000 requests each. */
const PIECES = 6;

describe.each(IO_MODES)('-R with --io %s', (io) => {
  it.skipIf(!hasDebians)('yields as often as Debian’s memcached', async () => {
    const ours = await serve(startOurs(io, ['-t', '1', '-R', '5']));
    const theirs = await serve(start(DEBIANS, ['-t', '1', '-R', '5']));
    for (const server of [ours, theirs])
      expect(await ask(server.port, `${COMMANDS['set']}quit\r\n`)).toBe('STORED\r\n');
    for (const name of Object.keys(COMMANDS)) {
      for (const count of COUNTS) {
        // A large write may come in several packets, and every one is an event: then the count depends on where it was cut.
        if (COMMANDS[name]!.length * count > 1400) continue;
        const [got, want] = [await yields(ours, name, count), await yields(theirs, name, count)];
        expect(`${name} × ${count}: ${got}`).toBe(`${name} × ${count}: ${want}`);
      }
    }
  });

  it('answers a long pipeline whole and in order, whatever the limit, also when the client ends its side', async () => {
    for (const limit of ['1', '3', '1000']) {
      const server = await serve(startOurs(io, ['-t', '1', '-R', limit]));
      const keys = Array.from({ length: 5000 }, (_, i) => `key-${i}`);
      const stored = await ask(
        server.port,
        keys.map((key, i) => `set ${key} 0 0 4\r\n${1000 + (i % 9000)}\r\n`).join(''),
      );
      expect(stored).toBe('STORED\r\n'.repeat(keys.length));
      const got = await ask(server.port, keys.map((key) => `get ${key}\r\n`).join(''));
      const want = keys.map((key, i) => `VALUE ${key} 0 4\r\n${1000 + (i % 9000)}\r\nEND\r\n`).join('');
      expect(got === want).toBe(true);
      // Binary, with values that are cut.
      const sets = keys.map((key) => packet(0x01, { key, value: 'v'.repeat(50), extras: Buffer.alloc(8) }));
      const answers = await ask(server.port, Buffer.concat([...sets, packet(0x07)]).toString('latin1'));
      expect(answers.length).toBe(24 * (keys.length + 1));
      await server.stop();
    }
  });

  it('lets others in between the requests of an endless pipeline, and keeps no more of that than memcached', async () => {
    const server = await serve(startOurs(io, ['-t', '1', '-R', '1']));
    const flood = await Client.connect(server.port);
    let answered = 0;
    flood.socket.on('data', (text) => (answered += text.length));
    const piece = 'mn\r\n'.repeat(50_000);
    let sent = 0;
    const pump = (): void => {
      if (flood.closed || sent === PIECES) return;
      sent++;
      flood.socket.write(piece, pump);
    };
    pump();
    const other = await Client.connect(server.port);
    for (let i = 0; i < 50; i++) expect(await other.ask('version\r\n')).toBe('VERSION 1.6.45\r\n');
    let kept = 0;
    while (answered < 4 * 50_000 * PIECES) {
      const stats = await other.stats();
      kept = Math.max(kept, Number(stats['read_buf_bytes']) - Number(stats['read_buf_bytes_free']));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(flood.closed).toBe(false);
    expect(kept).toBeLessThan(3 << 20);
    expect(Number((await other.stats())['conn_yields'])).toBeGreaterThan(100_000);
  });
});
