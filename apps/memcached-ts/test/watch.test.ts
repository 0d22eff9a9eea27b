/** `watch`: what a worker does is told to watchers on any worker, in memcached's lines. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { deltaExtras, packet } from './packets.ts';
import { Client, DEBIANS, endsWithTest, hasDebians, IO_MODES, play, type Server, start, startOurs } from './servers.ts';

const serve = async (io: string, args: string[] = []): Promise<Server> => endsWithTest(await startOurs(io, args));

/** What changes from run to run: time, number, connection, port. */
function lasting(lines: string): string {
  return (
    lines
      .replace(/ts=\d+\.\d+ gid=\d+ /g, '')
      .replace(/ttl=[1-9]\d*/g, 'ttl=T')
      // Where there is no item, 1.6.18 prints numbers that happen to be there.
      .replace(/(status=too_large .*) clsid=\d+ cfd=-?\d+/g, '$1 clsid=0 cfd=N')
      .replace(/cfd=\d+/g, 'cfd=N')
      .replace(/rip=\S+ rport=\d+/g, 'rip= rport=')
  );
}

/** A counter that a packet begins. */
const BEGINS = packet(5, { key: 'begun', extras: deltaExtras(1n, 5n, 0) });
const COMMANDS =
  'set a 5 100 3\r\nabc\r\nget a\r\nget b\r\ngets a b\r\nset k%20x\xc3\xbc-._~ 0 0 1\r\n1\r\nadd a 0 0 1\r\n1\r\n' +
  'cas a 0 0 1 999\r\n1\r\ncas z 0 0 1 9\r\n1\r\nappend a 0 0 1\r\n1\r\nreplace a 0 0 1\r\n1\r\nprepend q 0 0 1\r\n1\r\n' +
  'ma auto N5 J7\r\nma auto N5\r\nmg viv N30 v\r\nmg viv v\r\n' +
  ['set', 'add', 'append'].map((verb) => `${verb} big 0 100 2000000\r\n${'b'.repeat(2_000_000)}\r\n`).join('') +
  `ms big 2000000 T50\r\n${'b'.repeat(2_000_000)}\r\n` +
  'incr a 1\r\ntouch a 100\r\nmg a v\r\nmg nope v\r\nms m 2 T90\r\nhi\r\nset exp 0 -1 1\r\n1\r\nget exp\r\n' +
  `get ${'k'.repeat(250)}\r\nmn\r\n`;

async function watched(server: Server, kinds: string): Promise<string> {
  const watcher = await Client.connect(server.port);
  expect(await watcher.ask(`watch ${kinds}\r\n`)).toBe('OK\r\n');
  await play(server.port, [BEGINS]);
  const client = await Client.connect(server.port);
  await client.ask(COMMANDS, 'MN\r\n');
  const lines = await watcher.until(`key=${'k'.repeat(250)} status=not_found clsid=0 cfd=`);
  client.close();
  watcher.close();
  return lasting(lines);
}

/** Connections that end each in its way, one after the other: what a watcher is told. */
async function endings(server: Server): Promise<string> {
  const watcher = await Client.connect(server.port);
  expect(await watcher.ask('watch connevents\r\n')).toBe('OK\r\n');
  let told = '';
  for (const request of [
    ...['mn\r\n', 'quit\r\n', 'GET / HTTP/1.1\r\n', 'x'.repeat(3000), 'set a 0 0 10\r\nhalf', 'quit\r\n'].map((text) =>
      Buffer.from(text),
    ),
    ...[packet(0x07), packet(0x17), packet(0x0a, { value: 'x' }), packet(0x00), packet(0x00, { key: 'k'.repeat(251) })],
    Buffer.concat([packet(0x0a), Buffer.alloc(24)]),
  ]) {
    await play(server.port, [request]);
    told += (await watcher.until('conn_close')) + (await watcher.until('\n'));
  }
  watcher.close();
  return lasting(told);
}

describe.each(IO_MODES)('watch with --io %s', (io) => {
  it.skipIf(!hasDebians)('tells of look-ups and stores in the lines of Debian’s memcached', async () => {
    const oracle = await start(DEBIANS, ['-t', '1']);
    endsWithTest(oracle);
    const server = await serve(io, ['-t', '1']);
    expect(await watched(server, 'fetchers mutations')).toBe(await watched(oracle, 'fetchers mutations'));
    expect(await endings(server)).toBe(await endings(oracle));
    // Newer than Debian's.
    const watcher = await Client.connect(server.port);
    expect(await watcher.ask('watch deletions\r\n')).toBe('OK\r\n');
    await play(server.port, [Buffer.from('set x 0 0 1\r\n1\r\nset y 0 0 1\r\n1\r\nmd x\r\nquit\r\n')]);
    await play(server.port, [packet(4, { key: 'y' }), packet(7)]);
    expect(lasting((await watcher.until('\n')) + (await watcher.until('\n')))).toBe(
      'type=deleted key=x cmd=md clsid=1 cfd=N size=1\ntype=deleted key=y cmd=delete clsid=1 cfd=N size=1\n',
    );
  });

  it('reaches watchers on every worker, each with the kinds it asked for, numbered over all workers', async () => {
    const server = await serve(io, ['-t', '4']);
    const watchers = await Promise.all(Array.from({ length: 12 }, () => Client.connect(server.port)));
    for (const [i, watcher] of watchers.entries()) {
      expect(await watcher.ask(`watch ${i % 2 === 0 ? 'deletions' : 'mutations'}\r\n`)).toBe('OK\r\n');
    }
    const clients = await Promise.all(Array.from({ length: 12 }, () => Client.connect(server.port)));
    for (const [i, client] of clients.entries()) {
      expect(await client.ask(`set key${i} 0 0 1\r\n1\r\n`)).toBe('STORED\r\n');
      expect(await client.ask(`delete key${i}\r\n`)).toBe('DELETED\r\n');
    }
    expect((await clients[0]!.stats())['log_watchers']).toBe('12');
    for (const [i, watcher] of watchers.entries()) {
      const seen = new Set<string>();
      const numbers = new Set<string>();
      while (seen.size < clients.length) {
        const line = await watcher.until('\n');
        const match =
          /^ts=\d+\.\d+ gid=(\d+) type=(\w+) key=(\w+) (?:status=stored )?cmd=(\w+) (?:ttl=0 )?clsid=1 cfd=\d+ size=1\n$/.exec(
            line,
          )!;
        expect([match[2], match[4]]).toEqual(i % 2 === 0 ? ['deleted', 'delete'] : ['item_store', 'set']);
        seen.add(match[3]!);
        numbers.add(match[1]!);
      }
      expect(numbers.size).toBe(clients.length);
    }
    for (const watcher of watchers) watcher.close();
    for (;;) {
      if ((await clients[0]!.stats())['log_watchers'] === '0') break;
      await sleep(20);
    }
    const stats = await clients[0]!.stats();
    expect(stats).toMatchObject({ log_worker_dropped: '0', log_watcher_skipped: '0' });
    expect(Number(stats['log_watcher_sent'])).toBe(12 * 12);
    expect(Number(stats['log_worker_written'])).toBe(24);
    // With nobody to watch, nothing is written.
    await clients[0]!.ask('set x 0 0 1\r\n1\r\n');
    expect((await clients[0]!.stats())['log_worker_written']).toBe(stats['log_worker_written']);
  });

  it('tells of connections and evictions', async () => {
    const server = await serve(io, ['-t', '1', '-m', '2', '-I', '1m']);
    const watcher = await Client.connect(server.port);
    expect(await watcher.ask('watch connevents evictions\r\n')).toBe('OK\r\n');
    const client = await Client.connect(server.port);
    expect(await watcher.until('\n')).toMatch(
      new RegExp(
        `^ts=\\d+\\.\\d+ gid=1 type=conn_new rip=127\\.0\\.0\\.1 rport=${client.socket.localPort} transport=tcp cfd=\\d+\\n$`,
      ),
    );
    const value = 'x'.repeat(1000);
    // Some evictions, and fewer than worker_logbuf_size has room for: however late any thread is, no line is dropped behind them.
    for (let i = 0; i < 2200; i++) client.send(`set key${i} 0 ${i % 2 === 0 ? 0 : 500} 1000 noreply\r\n${value}\r\n`);
    await client.ask('mn\r\n');
    expect(await watcher.until('\n')).toMatch(
      /^ts=\d+\.\d+ gid=2 type=eviction key=key\d+ fetch=no ttl=(-1|[45]\d\d) la=\d+ clsid=\d+ size=1000\n$/,
    );
    const { localPort } = client.socket;
    client.socket.resetAndDestroy();
    await watcher.until('type=conn_close');
    expect((await watcher.until('\n')).replace(/cfd=\d+/, 'cfd=N')).toBe(
      ` rip=127.0.0.1 rport=${localPort} transport=tcp reason=error cfd=N\n`,
    );
  });

  it('tells of connections that end in an error: a line without an end', async () => {
    const server = await serve(io, ['-t', '1']);
    const watcher = await Client.connect(server.port);
    expect(await watcher.ask('watch connevents proxyevents\r\n')).toBe('OK\r\n');
    expect(await play(server.port, [Buffer.alloc(3000, 'x')])).toHaveLength(0);
    expect(await watcher.until('reason=')).toContain('type=conn_close');
    expect(await watcher.until(' ')).toBe('error ');
  });

  it('tells of a connection that was idle for too long; who watches is not idle', async () => {
    const server = await serve(io, ['-t', '1', '-o', 'idle_timeout=1']);
    const watcher = await Client.connect(server.port);
    expect(await watcher.ask('watch connevents\r\n')).toBe('OK\r\n');
    const idle = await Client.connect(server.port);
    await idle.until('never');
    await watcher.until('reason=idle_timeout');
    expect(watcher.closed).toBe(false);
  });

  it('is refused behind other commands, for unknown words, and above twenty watchers', async () => {
    const server = await serve(io, ['-t', '1']);
    const other = await Client.connect(server.port);
    expect(await other.ask('mn\r\nwatch\r\n', 'watch\r\n')).toBe(
      'MN\r\nERROR cannot pipeline other commands before watch\r\n',
    );
    expect(await other.ask('watch fetchers foo\r\n')).toBe('ERROR\r\n');
    const watchers: Client[] = [];
    for (let i = 0; i < 20; i++) {
      watchers.push(await Client.connect(server.port));
      expect(await watchers[i]!.ask('watch rawcmds sysevents\r\n')).toBe('OK\r\n');
    }
    expect(await other.ask('watch\r\n')).toBe('WATCHER_TOO_MANY log watcher limit reached\r\n');
    expect(await other.ask('version\r\n')).toBe('VERSION 1.6.45\r\n');
    // What a watcher says is dropped.
    watchers[0]!.send('get a\r\nquit\r\n');
    expect((await other.stats())['log_watchers']).toBe('20');
  });

  it('drops lines above worker_logbuf_size, skips those a deaf watcher has no room for, counts both, and serves on', async () => {
    const server = await serve(io, ['-t', '1', '-o', 'worker_logbuf_size=4']);
    const deaf = await Client.connect(server.port);
    await deaf.ask('watch fetchers\r\n');
    deaf.socket.pause();
    const client = await Client.connect(server.port);
    const gets = `${`get ${'k'.repeat(200)}\r\n`.repeat(300)}mn\r\n`;
    let stats: Record<string, string> = {};
    do {
      await client.ask(gets, 'MN\r\n');
      stats = await client.stats();
    } while (stats['log_worker_dropped'] === '0' || Number(stats['log_worker_written']) < 100);
    expect(await client.ask('version\r\n')).toBe('VERSION 1.6.45\r\n');
    deaf.close();
  });
});

describe('watch', () => {
  // A list is crawled some seconds after it was filled, whatever the mode.
  it('tells of the background work, on a thread of its own or not', async () => {
    const modes = IO_MODES.flatMap((io) => ['1', '2'].map((threads) => ({ io, threads })));
    await Promise.all(
      modes.map(async ({ io, threads }) => {
        const server = await serve(io, ['-t', threads]);
        const watcher = await Client.connect(server.port);
        expect(await watcher.ask('watch sysevents\r\n')).toBe('OK\r\n');
        const client = await Client.connect(server.port);
        await client.ask('set gone 0 1 1\r\n1\r\n');
        await client.ask('set stays 0 0 1\r\n1\r\n');
        // The words of Debian's.
        expect((await watcher.until('\n')).replace(/[\d.]+/g, 'N').replace(/lru=(hot|cold)/, 'lru=L')).toBe(
          'ts=N gid=N type=lru_crawler crawler=N lru=L low_mark=N next_reclaims=N since_run=N next_run=N elapsed=N ' +
            'examined=N reclaimed=N\n',
        );
        for (const one of [watcher, client]) one.close();
      }),
    );
  });
});
