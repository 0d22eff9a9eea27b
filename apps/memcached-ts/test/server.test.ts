/** The real server process under bad and hostile clients: each gets its answer, and every other connection goes on. */
import type { Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { packet, readPackets, u32 } from './packets.ts';
import {
  ask,
  Client,
  connect,
  DEBIANS,
  endsWithTest,
  hasDebians,
  IO_MODES,
  OURS,
  residentBytes,
  runToEnd,
  type Server,
  start,
  startOurs,
} from './servers.ts';

const serve = async (io: string, args: string[] = []): Promise<Server> => endsWithTest(await startOurs(io, args));

/** Asks for stats until they are as wanted. */
async function statsUntil(
  client: Client,
  wanted: (stats: Record<string, string>) => boolean,
): Promise<Record<string, string>> {
  for (;;) {
    const stats = await client.stats();
    if (wanted(stats)) return stats;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function usedChunks(client: Client): Promise<number> {
  const counts = Object.entries(await client.stats('slabs')).filter(([name]) => name.endsWith(':used_chunks'));
  return counts.reduce((sum, [, count]) => sum + Number(count), 0);
}

describe.each(IO_MODES)('memcached-ts --io %s', (io) => {
  /** Of the tests that ask for no option and count nothing. */
  let server: Server;
  beforeAll(async () => {
    server = await startOurs(io);
  });
  afterAll(() => server?.stop());

  it('serves others while a client sends one byte after the other', async () => {
    const slow = await Client.connect(server.port);
    const quick = await Client.connect(server.port);
    for (const byte of 'set slow 0 0 4\r\nbyte\r\nget slow\r\n') {
      slow.send(byte);
      expect(await quick.ask('version\r\n')).toBe('VERSION 1.6.45\r\n');
    }
    expect(await slow.until('END\r\n')).toBe('STORED\r\nVALUE slow 0 4\r\nbyte\r\nEND\r\n');
  });

  it('mixes up no two connections whose commands come a byte at a time, by turns', async () => {
    const server = await serve(io, ['-t', '1']);
    const extras = u32(7, 0);
    const requests = [
      'set a 0 0 4 noreply\r\nbyte\r\nset a 0 0 4\r\nbyte\r\nget a\r\ncas b 0 0 2 9\r\nxx\r\nquit\r\n',
      'ms c 4 k s Oab\r\nbyte\r\nms c 1 q k\r\n1\r\nms d 1 MR Oz\r\n1\r\nmg c v k\r\nquit\r\n',
      ...[1, 2].map((opaque) =>
        Buffer.concat([
          packet(0x11, { key: `quiet${opaque}`, value: 'byte', extras, opaque }),
          packet(0x01, { key: `loud${opaque}`, value: 'bytes', extras, opaque: opaque + 10 }),
          packet(0x12, { key: `quiet${opaque}`, value: 'x', extras, opaque: opaque + 20 }),
          packet(0x0c, { key: `quiet${opaque}`, opaque }),
          packet(0x07, { opaque }),
        ]).toString('latin1'),
      ),
    ];
    const readable = (text: string): string[] =>
      text.startsWith('\x81')
        ? readPackets(Buffer.from(text, 'latin1')).map((words) => words.replace(/cas=\d+/, ''))
        : text.split('\r\n');
    const wanted = [];
    for (const request of requests) wanted.push(readable(await ask(server.port, request)));
    // Their turns differ in length, so that each is once in every place while another is in any.
    const clients = await Promise.all(requests.map(() => Client.connect(server.port)));
    const answers = clients.map((client) => client.until('never'));
    const watch = await Client.connect(server.port);
    for (let at = 0; at < Math.max(...requests.map((request) => request.length)); at++) {
      for (const [i, client] of clients.entries()) if (at < requests[i]!.length) client.send(requests[i]![at]!);
      await watch.ask('mn\r\n');
    }
    expect((await Promise.all(answers)).map(readable)).toEqual(wanted);
  });

  it('answers a thousand pipelined gets in order', async () => {
    let stores = '';
    let gets = '';
    let want = '';
    for (let i = 0; i < 1000; i++) {
      const value = String(i).repeat(1 + (i % 100));
      stores += `set k${i} ${i} 0 ${value.length} noreply\r\n${value}\r\n`;
      gets += `get k${i}\r\n`;
      want += `VALUE k${i} ${i} ${value.length}\r\n${value}\r\nEND\r\n`;
    }
    expect(await ask(server.port, stores + gets)).toBe(want);
  });

  it('stops at a client that never reads, keeps its memory bounded, and answers it all the same', async () => {
    const server = await serve(io, ['-t', '1', '-I', '2m']);
    const other = await Client.connect(server.port);
    const value = 'v'.repeat(100_000);
    const small = 's'.repeat(1000);
    await other.ask(`set big 0 0 ${value.length}\r\n${value}\r\n`);
    await other.ask(`set small 0 0 ${small.length}\r\n${small}\r\n`);
    const before = residentBytes(server.pid);
    // 400 MB of replies asked for by 20 clients, and none of them reads.
    const deaf: Socket[] = [];
    const rounds = 200;
    for (let i = 0; i < 20; i++) {
      const socket = await connect(server.port);
      socket.pause();
      socket.on('error', () => {});
      socket.write('get big small\r\nget small\r\n'.repeat(rounds));
      deaf.push(socket);
    }
    for (let i = 0; i < 200; i++) expect(await other.ask('get small\r\n', 'END\r\n')).toContain(small);
    expect(residentBytes(server.pid) - before).toBeLessThan(60 << 20);
    // One of them begins to read: nothing is missing.
    const late = deaf[0]!;
    let received = 0;
    const want =
      rounds *
      (`VALUE big 0 100000\r\n${value}\r\nEND\r\n`.length + 2 * `VALUE small 0 1000\r\n${small}\r\n`.length + 5);
    await new Promise<void>((resolve) => {
      late.on('data', (data) => {
        received += data.length;
        if (received >= want) resolve();
      });
      late.resume();
    });
    expect(received).toBe(want);
    for (const socket of deaf) socket.destroy();
    await statsUntil(other, (stats) => stats['curr_connections'] === '1');
    // What was being sent to them is free again: the item's memory can be used for others.
    expect(await other.ask('delete big\r\n')).toBe('DELETED\r\n');
    await expect.poll(() => usedChunks(other), { timeout: 60_000 }).toBe(1);
  });

  it('frees what a client that vanishes in mid-value had begun', async () => {
    const server = await serve(io, ['-t', '1', '-m', '64']);
    const other = await Client.connect(server.port);
    for (let round = 0; round < 10; round++) {
      const sockets = await Promise.all(Array.from({ length: 20 }, () => connect(server.port)));
      for (const socket of sockets) {
        socket.on('error', () => {});
        socket.write(`set vanish 0 0 ${round % 2 === 0 ? 400_000 : 900_000}\r\nhalf of it`);
      }
      // Their lines have arrived once their items are there: one chunk each, or a header and two.
      const chunks = round % 2 === 0 ? 20 : 60;
      while ((await usedChunks(other)) < chunks) await new Promise((resolve) => setImmediate(resolve));
      for (const socket of sockets) socket.destroy();
      await statsUntil(other, (stats) => stats['curr_connections'] === '1');
      // A page that the mover takes to another class meanwhile has its chunks counted as used until it is there.
      await expect.poll(() => usedChunks(other), { timeout: 60_000 }).toBe(0);
    }
    expect(await other.ask('get vanish\r\n', 'END\r\n')).toBe('END\r\n');
  });

  it('closes a connection whose line does not end, and only that one', async () => {
    const other = await Client.connect(server.port);
    const endless = await Client.connect(server.port);
    endless.send('x'.repeat(3000));
    expect(await endless.until('never')).toBe('');
    expect(endless.closed).toBe(true);
    // The keys of a get may be longer, up to a megabyte.
    const keys = await Client.connect(server.port);
    keys.send(`get ${'key '.repeat(200_000)}`);
    expect(await other.ask('version\r\n')).toBe('VERSION 1.6.45\r\n');
    expect(await keys.ask('\r\n')).toBe('END\r\n');
    keys.send(`get ${'key '.repeat(400_000)}`);
    expect(await keys.until('never')).toBe('');
    expect(await other.ask('version\r\n')).toBe('VERSION 1.6.45\r\n');
  });

  it('refuses connections above -c in words, and serves again once there is room', async () => {
    const server = await serve(io, ['-c', '5', '-t', '2']);
    const clients: Client[] = [];
    for (let i = 0; i < 5; i++) {
      clients.push(await Client.connect(server.port));
      expect(await clients[i]!.ask('version\r\n')).toBe('VERSION 1.6.45\r\n');
    }
    const refused = await Client.connect(server.port);
    expect(await refused.until('never')).toBe('ERROR Too many open connections\r\n');
    const stats = await clients[0]!.stats();
    expect(stats).toMatchObject({ max_connections: '5', curr_connections: '5', rejected_connections: '1' });
    clients[4]!.close();
    await statsUntil(clients[0]!, (now) => now['curr_connections'] === '4');
    const next = await Client.connect(server.port);
    expect(await next.ask('version\r\n')).toBe('VERSION 1.6.45\r\n');
  });

  it('goes on when descriptors run out', async () => {
    const server = await start(OURS, ['--io', io, '-t', '1', '-c', '80'], 80);
    endsWithTest(server);
    const first = await Client.connect(server.port);
    expect(await first.ask('version\r\n')).toBe('VERSION 1.6.45\r\n');
    const clients = await Promise.all(Array.from({ length: 120 }, () => Client.connect(server.port)));
    for (const client of clients) client.send('version\r\n');
    // Some wait in the listen queue (an lwsocket takes no descriptor, but the ring's table has no more entries than
    // descriptors are allowed), and the log says why.
    while (!server.stderr().includes('accept(): Too many open files')) await first.ask('version\r\n');
    for (const client of clients.slice(0, 100)) client.close();
    for (const client of clients.slice(100)) expect(await client.until('\r\n')).toBe('VERSION 1.6.45\r\n');
    expect(await first.ask('version\r\n')).toBe('VERSION 1.6.45\r\n');
  });

  it('shows every worker thread the same cache', async () => {
    const server = await serve(io, ['-t', '4']);
    const clients = await Promise.all(Array.from({ length: 32 }, () => Client.connect(server.port)));
    for (const [i, client] of clients.entries()) {
      expect(await client.ask(`set k${i} 0 0 2\r\n${10 + i}\r\n`)).toBe('STORED\r\n');
    }
    for (const [i, client] of clients.entries()) {
      const j = (i + 17) % clients.length;
      expect(await client.ask(`get k${j}\r\n`, 'END\r\n')).toBe(`VALUE k${j} 0 2\r\n${10 + j}\r\nEND\r\n`);
    }
    await clients[0]!.ask('set n 0 0 1\r\n0\r\n');
    await Promise.all(
      clients.map(async (client) => {
        for (let i = 0; i < 50; i++) await client.ask('incr n 1\r\n');
      }),
    );
    expect(await clients[0]!.ask('get n\r\n', 'END\r\n')).toContain(`\r\n${32 * 50}\r\n`);
    const stats = await clients[0]!.stats();
    expect(stats).toMatchObject({ incr_hits: '1600', cmd_set: '33', curr_items: '33', threads: '4' });
    expect(stats['total_connections']).toBe('32');
  });

  it('says that its port is in use, and exits with 71', async () => {
    for (const threads of ['1', '2']) {
      const args = ['--io', io, '-t', threads, '-u', 'root', '-l', '127.0.0.1', '-p', String(server.port)];
      expect(await runToEnd(OURS, args)).toEqual({
        code: 71,
        stdout: '',
        stderr: 'failed to listen on one of interface(s) 127.0.0.1: Address already in use\n',
      });
    }
    expect(await ask(server.port, 'version\r\n')).toBe('VERSION 1.6.45\r\n');
  });

  it('closes connections that are idle for longer than idle_timeout: not who is in the middle of a value, but who sends a line without its end, as memcached does', async () => {
    const args = ['-t', '1', '-o', 'idle_timeout=1'];
    const server = await serve(io, args);
    const servers = [server];
    if (hasDebians) servers.push(endsWithTest(await start(DEBIANS, args)));
    await Promise.all(
      servers.map(async ({ port }) => {
        // At once: who has said nothing yet may be idle for too long before its turn has come.
        const begin = async (text: string): Promise<Client> => {
          const client = await Client.connect(port);
          client.send(text);
          return client;
        };
        const [value, swallowed, line, idle] = await Promise.all(
          ['set a 0 0 10\r\nhalf', 'set a 0 0 2000000\r\nhalf', 'get ', 'mn\r\n'].map(begin),
        );
        expect(await idle!.until('\r\n')).toBe('MN\r\n');
        // Nor who has yet to take replies, 30 MB: more than the system's buffers hold. memcached spares only who is in one of them.
        const gets = port === server.port ? 1500 : 30;
        const reply = 'x'.repeat(30_000_000 / gets);
        expect(await ask(port, `set reply 0 0 ${reply.length}\r\n${reply}\r\nquit\r\n`)).toBe('STORED\r\n');
        const deaf = await connect(port);
        deaf.pause();
        deaf.write('get reply\r\n'.repeat(gets));
        const drip = setInterval(() => line!.send('a'), 100);
        await Promise.all([line!.until('never'), idle!.until('never')]);
        clearInterval(drip);
        expect(value!.closed || swallowed!.closed).toBe(false);
        expect(await value!.ask('of it.\r\n')).toBe('STORED\r\n');
        swallowed!.send('x'.repeat(2_000_000 - 4));
        expect(await swallowed!.ask('\r\n')).toBe('SERVER_ERROR object too large for cache\r\n');
        let received = 0;
        const want = gets * `VALUE reply 0 ${reply.length}\r\n${reply}\r\nEND\r\n`.length;
        await new Promise<void>((resolve) => {
          deaf.on('data', (data) => {
            received += data.length;
            if (received >= want) resolve();
          });
          deaf.once('close', () => resolve()).on('error', () => {});
          deaf.resume();
        });
        expect(received).toBe(want);
        deaf.destroy();
        // Idle by now.
        await Promise.all([value!.until('never'), swallowed!.until('never')]);
        for (const one of [value!, swallowed!, line!, idle!]) one.close();
      }),
    );
    // Asked anew until the closes are counted; on a slow machine an asker may itself be idle for too long.
    await vi.waitFor(
      async () => {
        const client = await Client.connect(server.port);
        const stats = await client.stats();
        client.close();
        expect(Number(stats['idle_kicks'])).toBeGreaterThanOrEqual(4);
        expect(stats['curr_connections']).toBe('1');
      },
      { timeout: 60_000, interval: 50 },
    );
  });

  it('keeps within -m while it evicts', async () => {
    const server = await serve(io, ['-m', '16', '-t', '2']);
    const client = await Client.connect(server.port);
    const value = 'x'.repeat(1000);
    for (let round = 0; round < 40; round++) {
      let text = '';
      for (let i = 0; i < 1000; i++) text += `set k${round * 1000 + i} 0 0 1000 noreply\r\n${value}\r\n`;
      client.send(text);
      expect(await client.ask('mn\r\n')).toBe('MN\r\n');
    }
    const stats = await client.stats();
    expect(Number(stats['evictions'])).toBeGreaterThan(20_000);
    expect(Number(stats['bytes'])).toBeLessThanOrEqual(16 * 1024 * 1024);
    expect(Number(stats['curr_items']) + Number(stats['evictions'])).toBe(40_000);
    expect(Number((await client.stats('slabs'))['total_malloced'])).toBeLessThanOrEqual(16 * 1024 * 1024);
  });
});
