/**
 * Clients that are slow, many, half there, or gone: the server goes on serving others, what it holds for each of them is
 * bounded, and the invariant checker finds the whole cache sound afterwards.
 */
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Channel } from '@megapipe/core';
import { describe, expect, it } from 'vitest';
import { packet } from './packets.ts';
import { ask, Client, connect, IO_MODES, residentBytes, startChecked } from './servers.ts';

const CONNECTIONS = 20_000;
const CONNECTION_BYTES_MAX = 4096;
/** One channel of the test has no room for all. */
const CLIENT_CHANNELS = 2;
/** What RLIMIT_NOFILE may be raised to: as memcached does, the server refuses a -c above it. */
const DESCRIPTORS = Number(
  /^Max open files\s+\d+\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1] ?? 1024,
);
const many = Math.min(CONNECTIONS, DESCRIPTORS - 1000);

type Checked = Awaited<ReturnType<typeof startChecked>>;

async function connections(server: Checked): Promise<number> {
  const client = await Client.connect(server.port);
  const { curr_connections: count } = await client.stats();
  client.close();
  return Number(count);
}

/** Opens connections as lwsockets on several channels, each asks `mn` once and stays; ends when all are answered. */
function openMany(port: number, total: number): { channels: Channel[]; failures: string[] } {
  const failures: string[] = [];
  let answered = 0;
  const ignore = (): void => {};
  const request = Buffer.from('mn\r\n');
  const open = (): Channel => {
    const channel: Channel = new Channel(
      {
        onAccept: ignore,
        onAcceptError: ignore,
        onDrain: ignore,
        onWritten: ignore,
        onTimeout: ignore,
        onClose: ignore,
        onConnect: (handle, cookie, errno) => {
          if (errno !== 0) {
            failures.push(`connection ${cookie}: errno ${errno}`);
            return;
          }
          channel.read(handle);
          channel.writeCopy(handle, request);
        },
        onRead: (_handle, cookie, offset, length) => {
          answered++;
          const text = Buffer.from(channel.memory.subarray(offset, offset + length)).toString('latin1');
          if (text !== 'MN\r\n') failures.push(`connection ${cookie}: ${text}`);
        },
        onEnd: (_handle, cookie) => failures.push(`connection ${cookie} was ended`),
      },
      { maxHandles: 16, maxConnects: Math.ceil(total / CLIENT_CHANNELS) },
    );
    return channel;
  };
  const channels = Array.from({ length: CLIENT_CHANNELS }, open);
  let started = 0;
  for (const end = Date.now() + 240_000; answered < total && failures.length < 10 && Date.now() < end; ) {
    // No more at once than a listen queue holds.
    while (started < total && started - answered < 400) {
      channels[started % CLIENT_CHANNELS]!.connect('127.0.0.1', port, started);
      started++;
    }
    for (const channel of channels) channel.dispatch(5);
  }
  if (answered < total) failures.push(`${answered} of ${total} were answered`);
  return { channels, failures };
}

/** Everything that comes until the server closes, counted only. */
function countBytes(socket: Socket): { bytes: () => number; closed: Promise<void> } {
  let bytes = 0;
  socket.on('data', (data) => (bytes += data.length));
  return { bytes: () => bytes, closed: new Promise((resolve) => socket.once('close', () => resolve())) };
}

describe.each(IO_MODES)('--io %s', (io) => {
  if (many < CONNECTIONS)
    console.warn(`--io ${io}: ${many} connections instead of ${CONNECTIONS}: RLIMIT_NOFILE is ${DESCRIPTORS}`);

  it(`serves ${many} connections at once, at little memory for each`, { timeout: 400_000 }, async () => {
    const server = await startChecked(io, ['-c', String(many + 500)]);
    try {
      // What compiling and the first buffers cost is nobody's.
      for (const channel of openMany(server.port, 500).channels) channel.destroy();
      const before = residentBytes(server.pid);
      const { channels, failures } = openMany(server.port, many);
      expect(failures).toEqual([]);
      const each = (residentBytes(server.pid) - before) / many;
      expect(each).toBeLessThan(CONNECTION_BYTES_MAX);
      expect(await connections(server)).toBeGreaterThanOrEqual(many);
      expect(await ask(server.port, 'set a 0 0 1\r\n1\r\nget a\r\nquit\r\n')).toBe(
        'STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n',
      );
      for (const channel of channels) channel.destroy();
      await expect.poll(() => connections(server), { timeout: 60_000 }).toBe(1);
      console.log(`--io ${io}: ${Math.round(each)} bytes of RSS for each of ${many} connections`);
      expect(await server.verdict()).toBe('CHECK ok\n');
    } finally {
      await server.stop();
    }
  });

  it('holds a bounded output for clients that do not read, and sends them all once they do', async () => {
    const server = await startChecked(io, ['-m', '64']);
    try {
      // One that is copied into the output, one that is sent from the cache's own memory.
      const values = [20_000, 40_000].map((bytes) => 'v'.repeat(bytes));
      for (const [i, value] of values.entries())
        expect(await ask(server.port, `set big${i} 0 0 ${value.length}\r\n${value}\r\nquit\r\n`)).toBe('STORED\r\n');
      const replies = values.map((value, i) => `VALUE big${i} 0 ${value.length}\r\n${value}\r\nEND\r\n`.length);
      const gets = 2000;
      const before = residentBytes(server.pid);
      const slow = await Promise.all(Array.from({ length: 40 }, () => connect(server.port)));
      for (const [i, socket] of slow.entries()) {
        socket.pause();
        socket.write(`get big${i % 2}\r\n`.repeat(gets));
      }
      // Others are served meanwhile; and by the time that many were, the slow ones' output is as long as it gets.
      for (let i = 0; i < 200; i++) expect(await ask(server.port, 'mn\r\nquit\r\n')).toBe('MN\r\n');
      // 2.4 GB are asked for. A connection may hold 256 KiB and a value.
      expect(residentBytes(server.pid) - before).toBeLessThan(96 << 20);
      const [first, second, ...rest] = slow;
      for (const [i, socket] of [first!, second!].entries()) {
        const count = countBytes(socket);
        socket.resume();
        socket.end();
        await count.closed;
        expect(count.bytes()).toBe(gets * replies[i]!);
      }
      for (const socket of rest) socket.resetAndDestroy();
      await expect.poll(() => connections(server), { timeout: 60_000 }).toBe(1);
      // Nothing keeps the values of those who vanished while they were sent.
      expect(await ask(server.port, 'delete big0\r\ndelete big1\r\nquit\r\n')).toBe('DELETED\r\nDELETED\r\n');
      const used = [...(await ask(server.port, 'stats slabs\r\nquit\r\n')).matchAll(/:used_chunks (\d+)\r$/gm)];
      expect(used.map(([, count]) => count)).toEqual(['0', '0']);
      expect(await server.verdict()).toBe('CHECK ok\n');
    } finally {
      await server.stop();
    }
  });

  it('waits for clients that send a byte at a time, and forgets those that vanish in a value', async () => {
    const server = await startChecked(io, ['-m', '64']);
    try {
      const slow = Array.from({ length: 50 }, async (_, i) => {
        const socket = await connect(server.port);
        const answer: Buffer[] = [];
        const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
        socket.on('data', (data: Buffer) => answer.push(data));
        for (const byte of Buffer.from(`set slow${i} 0 0 5\r\nhello\r\nget slow${i}\r\nquit\r\n`)) {
          socket.write(Buffer.from([byte]));
          await sleep(1);
        }
        await closed;
        return Buffer.concat(answer).toString();
      });
      // Half a value, half a line, half a packet, and a reply that nobody will take.
      const halves = [
        'set left 0 0 900000\r\nxxx',
        'ms left 1000\r\nx',
        'get aaa',
        '\x80\x01\x00\x03',
        'set a 0 0 1\r\n1\r',
      ];
      for (let round = 0; round < 20; round++) {
        const gone = await Promise.all(halves.map(() => connect(server.port)));
        await Promise.all(
          gone.map((socket, i) => new Promise((resolve) => socket.write(Buffer.from(halves[i]!, 'latin1'), resolve))),
        );
        for (const [i, socket] of gone.entries()) i % 2 === round % 2 ? socket.resetAndDestroy() : socket.destroy();
      }
      for (const [i, answer] of (await Promise.all(slow)).entries()) {
        expect(answer).toBe(`STORED\r\nVALUE slow${i} 0 5\r\nhello\r\nEND\r\n`);
      }
      await expect.poll(() => connections(server), { timeout: 60_000 }).toBe(1);
      // What was begun and never finished is free again: this needs nearly all of the memory.
      for (let i = 0; i < 40; i++) {
        const bytes = 1_000_000;
        expect(await ask(server.port, `set full${i} 0 0 ${bytes}\r\n${'f'.repeat(bytes)}\r\nquit\r\n`)).toBe(
          'STORED\r\n',
        );
      }
      expect(await server.verdict()).toBe('CHECK ok\n');
    } finally {
      await server.stop();
    }
  });

  it('gives back every value that it was in the middle of sending when its client vanished', async () => {
    const server = await startChecked(io, ['-m', '64', '-t', '1']);
    try {
      // Sent from the cache in one piece, which is held before there is room for it; and in chunks. The kernel takes some
      // off, not all.
      const get = (key: string): Buffer => Buffer.from(`get ${key}\r\n`.repeat(2000));
      const gets = (key: string): Buffer => Buffer.from(`gets ${`${key} `.repeat(2000)}\r\n`);
      const mg = (key: string): Buffer => Buffer.from(`mg ${key} v\r\n`.repeat(2000));
      const binary = (key: string): Buffer => Buffer.concat(new Array(2000).fill(packet(0x00, { key })));
      const asks = [
        // Copied into the output.
        { bytes: 20_000, ask: get },
        ...[get, gets].map((ask) => ({ bytes: 40_000, ask })),
        ...[get, gets, mg, binary].map((ask) => ({ bytes: 700_000, ask })),
      ];
      const keys = asks.map((_, i) => `half${i}`);
      for (const [i, { bytes }] of asks.entries())
        expect(await ask(server.port, `set ${keys[i]} 0 0 ${bytes}\r\n${'v'.repeat(bytes)}\r\nquit\r\n`)).toBe(
          'STORED\r\n',
        );
      const clients = await Promise.all(asks.map(() => connect(server.port)));
      for (const [i, socket] of clients.entries()) {
        socket.pause();
        socket.write(asks[i]!.ask(keys[i]!));
      }
      const blocked = async (): Promise<number> =>
        [...(await ask(server.port, 'stats conns\r\nquit\r\n')).matchAll(/:state conn_mwrite\r$/gm)].length;
      await expect.poll(blocked, { timeout: 60_000 }).toBe(asks.length);
      for (const [i, socket] of clients.entries()) i % 2 === 0 ? socket.resetAndDestroy() : socket.destroy();
      await expect.poll(() => connections(server), { timeout: 60_000 }).toBe(1);
      expect(await ask(server.port, `${keys.map((key) => `delete ${key}\r\n`).join('')}quit\r\n`)).toBe(
        'DELETED\r\n'.repeat(asks.length),
      );
      const used = [...(await ask(server.port, 'stats slabs\r\nquit\r\n')).matchAll(/:used_chunks (\d+)\r$/gm)];
      expect(used.length).toBeGreaterThanOrEqual(2);
      expect(used.map(([, count]) => count)).toEqual(used.map(() => '0'));
      expect(await server.verdict()).toBe('CHECK ok\n');
    } finally {
      await server.stop();
    }
  });

  it('answers a client that has ended its side, down to the last byte', async () => {
    const server = await startChecked(io, ['-t', '1']);
    try {
      const value = 'h'.repeat(500_000);
      await ask(server.port, `set half 0 0 ${value.length}\r\n${value}\r\nquit\r\n`);
      const socket = await connect(server.port);
      const count = countBytes(socket);
      socket.end('get half\r\n'.repeat(10));
      await count.closed;
      expect(count.bytes()).toBe(10 * Buffer.byteLength(`VALUE half 0 ${value.length}\r\n${value}\r\nEND\r\n`));
      expect(await server.verdict()).toBe('CHECK ok\n');
    } finally {
      await server.stop();
    }
  });
});
