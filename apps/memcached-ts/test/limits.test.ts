/** Bounds on connections and on memory: -c with and without maxconns_fast, read_buf_mem_limit, resp_obj_mem_limit. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Client, endsWithTest, IO_MODES, type Server, startOurs } from './servers.ts';

const serve = async (io: string, args: string[] = []): Promise<Server> => endsWithTest(await startOurs(io, args));

describe.each(IO_MODES)('memcached-ts --io %s', (io) => {
  it('without maxconns_fast has clients above -c wait, and tells so in its stats', async () => {
    const server = await serve(io, ['-c', '3', '-t', '2', '-o', 'no_maxconns_fast']);
    const clients: Client[] = [];
    for (let i = 0; i < 3; i++) {
      clients.push(await Client.connect(server.port));
      expect(await clients[i]!.ask('version\r\n')).toBe('VERSION 1.6.45\r\n');
    }
    const waiting = await Promise.all([Client.connect(server.port), Client.connect(server.port)]);
    for (const client of waiting) client.send('version\r\n');
    let stats = await clients[0]!.stats();
    while (stats['accepting_conns'] === '1') stats = await clients[0]!.stats();
    // Once more: the text begins with others of them.
    stats = await clients[0]!.stats();
    expect(stats['curr_connections']).toBe('3');
    // Nobody is turned away; so memcached does not tell how many.
    expect(stats).not.toHaveProperty('rejected_connections');
    expect(Number(stats['listen_disabled_num'])).toBeGreaterThanOrEqual(1);
    clients[1]!.close();
    clients[2]!.close();
    for (const client of waiting) expect(await client.until('\r\n')).toBe('VERSION 1.6.45\r\n');
    for (;;) {
      stats = await clients[0]!.stats();
      if (stats['accepting_conns'] === '1') break;
      await sleep(10);
    }
    stats = await clients[0]!.stats();
    expect(Number(stats['time_in_listen_disabled_us'])).toBeGreaterThan(0);
    expect(stats['curr_connections']).toBe('3');
  });

  it('has nobody wait for a client that has left before its turn', async () => {
    const server = await serve(io, ['-c', '1', '-t', '1', '-o', 'no_maxconns_fast']);
    const first = await Client.connect(server.port);
    expect(await first.ask('mn\r\n')).toBe('MN\r\n');
    const waiting = await Promise.all([1, 2, 3].map(() => Client.connect(server.port)));
    while ((await first.stats())['accepting_conns'] !== '0') await sleep(5);
    waiting[0]!.socket.resetAndDestroy();
    waiting[1]!.close();
    first.close();
    expect(await waiting[2]!.ask('mn\r\n')).toBe('MN\r\n');
    await expect
      .poll(() => waiting[2]!.stats(), { timeout: 60_000 })
      .toMatchObject({ curr_connections: '1', accepting_conns: '1' });
  });

  it('holds read_buf_mem_limit: who makes it keep more is told so and closed, the others are served', async () => {
    const server = await serve(io, ['-t', '1', '-o', 'read_buf_mem_limit=2']);
    const other = await Client.connect(server.port);
    const before = await other.stats();
    // Half of the limit is for receiving.
    expect(Number(before['read_buf_bytes'])).toBeLessThanOrEqual(2 << 20);
    const greedy: Client[] = [];
    let answer = '';
    // A client that is closed while it still sends may be reset before it has read the answer: then others come.
    while (answer === '') {
      const more = await Promise.all(Array.from({ length: 6 }, () => Client.connect(server.port)));
      for (const client of more) client.send(`get ${'key '.repeat(200_000)}`);
      answer = await Promise.race(more.map((client) => client.until('\r\n')));
      greedy.push(...more);
    }
    expect(answer).toBe('SERVER_ERROR out of memory reading request\r\n');
    const stats = await other.stats();
    expect(Number(stats['read_buf_oom'])).toBeGreaterThanOrEqual(1);
    expect(Number(stats['read_buf_bytes'])).toBeLessThanOrEqual(5 << 20);
    expect(await other.ask('version\r\n')).toBe('VERSION 1.6.45\r\n');
    for (const client of greedy) client.close();
    for (;;) {
      const now = await other.stats();
      if (now['read_buf_bytes'] === before['read_buf_bytes'] && now['read_buf_count'] === before['read_buf_count'])
        break;
      await sleep(10);
    }
    // Counters go back to 0, and what is stays.
    await other.ask('stats reset\r\n');
    expect(await other.stats()).toMatchObject({ read_buf_oom: '0', read_buf_bytes: before['read_buf_bytes']! });
  });

  it('with a small resp_obj_mem_limit answers everybody all the same, one after the other', async () => {
    const server = await serve(io, ['-t', '1', '-o', 'resp_obj_mem_limit=1']);
    const clients = await Promise.all(Array.from({ length: 12 }, () => Client.connect(server.port)));
    const value = 'v'.repeat(20_000);
    await clients[0]!.ask(`set a 0 0 ${value.length}\r\n${value}\r\n`);
    const want = `VALUE a 0 ${value.length}\r\n${value}\r\nEND\r\n`.repeat(40);
    for (const client of clients) client.send(`${'get a\r\n'.repeat(40)}mn\r\n`);
    for (const client of clients) expect((await client.until('MN\r\n')) === `${want}MN\r\n`).toBe(true);
  });

  it('holds resp_obj_mem_limit while clients do not read: they wait, and others are served', async () => {
    const server = await serve(io, ['-t', '1', '-o', 'resp_obj_mem_limit=1']);
    const other = await Client.connect(server.port);
    const value = 'v'.repeat(20_000);
    await other.ask(`set a 0 0 ${value.length}\r\n${value}\r\n`);
    const slow = await Promise.all(Array.from({ length: 12 }, () => Client.connect(server.port)));
    // 40 MB for each: more than the system's buffers take.
    for (const { socket } of slow) {
      socket.pause();
      socket.write('get a\r\n'.repeat(2000));
    }
    let stats: Record<string, string> = {};
    for (let beyond = 0; beyond < 50; beyond += stats['response_obj_oom'] === '0' ? 0 : 1) {
      stats = await other.stats();
      expect(Number(stats['response_obj_bytes'])).toBeLessThanOrEqual(1 << 20);
    }
    for (const { socket } of slow) socket.destroy();
    while (stats['response_obj_bytes'] !== '0') stats = await other.stats();
    expect(await other.ask('get a\r\n', 'END\r\n')).toBe(`VALUE a 0 20000\r\n${value}\r\nEND\r\n`);
  });
});
