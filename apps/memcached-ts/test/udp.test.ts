/** UDP: text and binary commands in datagrams, replies of several datagrams, hostile datagrams; beside Debian's memcached. */

import { spawn } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packet, readPackets } from './packets.ts';
import { ask, Client, DEBIANS, hasDebians, IO_MODES, OURS } from './servers.ts';

interface UdpServer {
  tcp: number;
  udp: number;
  stop(): Promise<void>;
}

async function startUdp(command: string, args: string[]): Promise<UdpServer> {
  const folder = mkdtempSync(join(tmpdir(), 'memcached-ts-'));
  const portFile = join(folder, 'port');
  const child = spawn(command, [...args, '-l', '127.0.0.1', '-p', '-1', '-U', '-1', '-u', 'root', '-t', '2'], {
    env: { ...process.env, MEMCACHED_PORT_FILENAME: portFile },
    stdio: 'ignore',
  });
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  while (!existsSync(portFile)) await sleep(10);
  const lines = readFileSync(portFile, 'latin1');
  rmSync(folder, { recursive: true });
  return {
    tcp: Number(/TCP INET: (\d+)/.exec(lines)![1]),
    udp: Number(/UDP INET: (\d+)/.exec(lines)![1]),
    stop: () => {
      child.kill('SIGTERM');
      return exited;
    },
  };
}

/** A client that puts the datagrams of each reply together. */
class UdpClient {
  readonly socket: Socket = createSocket('udp4');
  private readonly port: number;
  private id = 0;
  private readonly waiting = new Map<
    number,
    { parts: Map<number, Buffer>; sizes: number[]; done: (reply: Buffer) => void }
  >();
  /** Of the datagrams of the last reply that was whole. */
  sizes: number[] = [];

  constructor(port: number) {
    this.port = port;
    this.socket.on('message', (datagram) => {
      const entry = this.waiting.get(datagram.readUInt16BE(0));
      if (entry === undefined) return;
      entry.sizes.push(datagram.length);
      expect(datagram.readUInt16BE(6)).toBe(0);
      entry.parts.set(datagram.readUInt16BE(2), datagram.subarray(8));
      const total = datagram.readUInt16BE(4);
      if (entry.parts.size < total) return;
      this.sizes = entry.sizes;
      entry.done(Buffer.concat(Array.from({ length: total }, (_, i) => entry.parts.get(i)!)));
    });
  }

  send(id: number, request: Buffer, header: readonly number[] = [0, 1, 0]): void {
    const bytes = Buffer.alloc(8);
    for (const [i, word] of [id, ...header].entries()) bytes.writeUInt16BE(word, i * 2);
    this.socket.send(Buffer.concat([bytes, request]), this.port, '127.0.0.1');
  }

  ask(request: string | Buffer): Promise<Buffer> {
    const id = ++this.id;
    return new Promise((done) => {
      this.waiting.set(id, { parts: new Map(), sizes: [], done });
      this.send(id, Buffer.isBuffer(request) ? request : Buffer.from(request, 'latin1'));
    });
  }

  close(): void {
    this.socket.close();
  }
}

describe.each(IO_MODES)('memcached-ts --io %s by UDP', (io) => {
  let server: UdpServer;
  let client: UdpClient;
  beforeAll(async () => {
    server = await startUdp(OURS, ['--io', io]);
    client = new UdpClient(server.udp);
  });
  afterAll(async () => {
    client?.close();
    await server?.stop();
  });

  it('answers text commands, and shares the cache with TCP', async () => {
    expect((await client.ask('set a 5 0 3\r\nabc\r\n')).toString()).toBe('STORED\r\n');
    expect((await client.ask('get a\r\n')).toString()).toBe('VALUE a 5 3\r\nabc\r\nEND\r\n');
    expect(await ask(server.tcp, 'get a\r\n')).toBe('VALUE a 5 3\r\nabc\r\nEND\r\n');
    expect((await client.ask('mg a v\r\n')).toString()).toBe('VA 3\r\nabc\r\n');
    expect((await client.ask('get a b a\r\n')).toString()).toBe('VALUE a 5 3\r\nabc\r\nVALUE a 5 3\r\nabc\r\nEND\r\n');
    expect((await client.ask('foo\r\n')).toString()).toBe('ERROR\r\n');
    expect((await client.ask('stats settings\r\n')).toString()).toContain(`STAT udpport -1\r\n`);
  });

  it('gathers what all workers know: stats conns, stats detail dump, in text and binary, in their place among others', async () => {
    const port = (socket: Socket): number => socket.address().port;
    const clients = await Promise.all(Array.from({ length: 8 }, () => Client.connect(server.tcp)));
    for (const one of clients) await one.ask('mn\r\n');
    const conns = (await client.ask('version\r\nstats conns\r\nmn\r\n')).toString();
    expect(conns).toMatch(/^VERSION 1\.6\.45\r\n(STAT \d+:\w+ \S+\r\n)+END\r\nMN\r\n$/);
    for (const one of clients) expect(conns).toContain(`:addr tcp:127.0.0.1:${one.socket.localPort}\r\n`);
    const asking =
      `STAT (\\d+):UDP UDP\r\nSTAT \\1:addr udp:127.0.0.1:${port(client.socket)}\r\n` +
      `STAT \\1:listen_addr udp:127.0.0.1:${server.udp}\r\nSTAT \\1:state conn_parse_cmd\r\n`;
    expect(conns).toMatch(new RegExp(asking));
    // As TCP tells it, nobody is asking there.
    const idle = `STAT (\\d+):UDP UDP\r\nSTAT \\1:addr udp:127.0.0.1:${server.udp}\r\nSTAT \\1:state conn_read\r\n`;
    expect(await clients[0]!.ask('stats conns\r\n', 'END\r\n')).toMatch(new RegExp(idle));

    expect((await client.ask('stats detail on\r\n')).toString()).toBe('OK\r\n');
    for (const [i, one] of clients.entries()) await one.ask(`set p:${i} 0 0 1\r\n1\r\n`);
    const dump = 'PREFIX p get 0 hit 0 set 8 del 0\r\nEND\r\n';
    expect((await client.ask('mn\r\nstats detail dump\r\nmn\r\n')).toString()).toBe(`MN\r\n${dump}MN\r\n`);
    const [packetOfDump, end] = readPackets(await client.ask(packet(0x10, { key: 'detail dump' })));
    expect(packetOfDump).toContain(`detailed ${dump}`);
    expect(end).toMatch(/^10 0 /);
    // Many at once: each has its own answer, or is refused.
    const many = await Promise.all(Array.from({ length: 100 }, () => client.ask('stats detail dump\r\n')));
    for (const answer of many) expect([dump, 'ERROR\r\n']).toContain(answer.toString());
    expect(many.filter((answer) => answer.toString() === dump).length).toBeGreaterThan(0);
    expect((await client.ask('stats detail off\r\nstats reset\r\n')).toString()).toBe('OK\r\nRESET\r\n');
    for (const [i, one] of clients.entries()) expect(await one.ask(`delete p:${i}\r\n`)).toBe('DELETED\r\n');
    for (const one of clients) one.close();
  });

  it('refuses to watch and to dump all keys', async () => {
    expect((await client.ask('watch\r\n')).toString()).toBe('WATCHER_FAILED failed to add log watcher\r\n');
    expect((await client.ask('lru_crawler metadump all\r\n')).toString()).toBe('ERROR metadump not allowed\r\n');
    expect((await client.ask('lru_crawler mgdump hash\r\n')).toString()).toBe('ERROR key dump not allowed\r\n');
  });

  it('answers with as many datagrams of 1,400 bytes as a value takes', async () => {
    // Of 1367 and 2759 bytes: just one datagram, and two.
    for (const length of [1300, 1367, 1373, 1374, 2759, 3000, 40_000, 80_000]) {
      const value = 'v'.repeat(length);
      await ask(server.tcp, `set big 0 0 ${length}\r\n${value}\r\n`);
      const want = `VALUE big 0 ${length}\r\n${value}\r\nEND\r\n`;
      // A burst can overrun the receiver's buffer: then some of it is lost, and asked for again.
      let reply: Buffer | undefined;
      while (reply === undefined) reply = await Promise.race([client.ask('get big\r\n'), sleep(2000, undefined)]);
      expect(reply.toString()).toBe(want);
      expect(Math.max(...client.sizes)).toBeLessThanOrEqual(1400);
      expect(client.sizes.length).toBe(Math.ceil(want.length / 1392));
    }
  });

  it('answers binary packets', async () => {
    await client.ask('set bin 0 0 5\r\nvalue\r\n');
    const reply = await client.ask(packet(0x00, { key: 'bin' }));
    expect(reply.readUInt16BE(6)).toBe(0);
    expect(reply.subarray(28).toString()).toBe('value');
    expect((await client.ask(packet(0x0b))).subarray(24).toString()).toBe('1.6.45');
  });

  it('drops what is no whole request, and goes on', async () => {
    client.send(60_000, Buffer.from('get a\r\n'), [0, 2, 0]);
    client.send(60_001, Buffer.alloc(0));
    client.send(60_002, Buffer.from('get a'));
    client.send(60_003, Buffer.from('set part 0 0 100\r\nonly a part'));
    client.send(60_004, Buffer.from([0x80, 1, 2]));
    client.send(60_005, Buffer.from('set huge 0 0 900000\r\n'));
    for (let i = 0; i < 50; i++)
      client.send(60_010 + i, Buffer.from(Array.from({ length: 60 }, (_, j) => (i * 37 + j * 101) & 0xff)));
    expect((await client.ask('get part huge\r\n')).toString()).toBe('END\r\n');
    expect((await client.ask('version\r\n')).toString()).toBe('VERSION 1.6.45\r\n');
    // What those had begun is free again.
    const slabs = await ask(server.tcp, 'flush_all\r\nget big a bin\r\nstats slabs\r\n');
    const used = [...slabs.matchAll(/used_chunks (\d+)/g)].map((match) => Number(match[1]));
    expect(used.reduce((sum, count) => sum + count, 0)).toBe(0);
  });

  it.each(['ascii', 'binary'])('speaks both protocols also with -B %s, as memcached', async (protocol) => {
    const one = ['-B', protocol];
    for (const other of [
      await startUdp(OURS, ['--io', io, ...one]),
      ...(hasDebians ? [await startUdp(DEBIANS, one)] : []),
    ]) {
      const asker = new UdpClient(other.udp);
      expect((await asker.ask('mn\r\n')).toString()).toBe('MN\r\n');
      expect(readPackets(await asker.ask(packet(0x0a)))).toHaveLength(1);
      expect((await asker.ask('get a\r\n')).toString()).toBe('END\r\n');
      asker.close();
      await other.stop();
    }
  });

  it.skipIf(!hasDebians)('answers as Debian’s memcached does, one command a datagram', async () => {
    const oracle = await startUdp(DEBIANS, []);
    const theirs = new UdpClient(oracle.udp);
    for (const request of [
      'flush_all\r\n',
      'set x 1 0 2\r\nhi\r\n',
      'get x\r\n',
      'gets x\r\n',
      'add x 0 0 1\r\n1\r\n',
      'append x 0 0 1\r\n!\r\n',
      'get x\r\n',
      'delete x\r\n',
      'delete x\r\n',
      'incr x 1\r\n',
      'set n 0 0 1\r\n9\r\n',
      'incr n 1\r\n',
      'touch n 10\r\n',
      'gat 0 n\r\n',
      'mn\r\n',
      'ms m 2 c\r\nhi\r\n',
      'mg m v c\r\n',
      'verbosity 0\r\n',
      '\r\n',
      'bogus\r\n',
    ]) {
      const want = (await theirs.ask(request)).toString();
      const got = (await client.ask(request)).toString();
      expect(`${request}${got.replace(/( c| )\d+\r\n/, '$1N\r\n')}`).toBe(
        `${request}${want.replace(/( c| )\d+\r\n/, '$1N\r\n')}`,
      );
    }
    theirs.close();
    await oracle.stop();
  });
});
