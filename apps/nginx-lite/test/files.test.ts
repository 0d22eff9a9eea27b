/** Files: changes are seen, large ones stream whole, ones that shrink do not hang, types and logs are right. */

import { randomBytes } from 'node:crypto';
import {
  appendFileSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { collect, exchange, get, open, parseResponses, receiveUntil, request } from './support/client.ts';
import { conf, IO_MODES, type Running, startLite, writeUnder } from './support/server.ts';

const pattern = (bytes: number): string => {
  let text = '';
  for (let i = 0; text.length < bytes; i++) text += `${i.toString(36)},`;
  return text.slice(0, bytes);
};
const SIZES = [0, 1, 8191, 8192, 8193, 16_384, 65_535, 65_536, 131_072, 131_073, 1_048_576, 1_048_577, 5_000_001];

/** A process and all below it. */
function descendants(root: number): number[] {
  const children = readdirSync(`/proc/${root}/task`).flatMap((task) =>
    readFileSync(`/proc/${root}/task/${task}/children`, 'latin1').trim().split(' ').filter(Boolean).map(Number),
  );
  return [root, ...children.flatMap(descendants)];
}

/** How many descriptors on a file a server has. */
function openFiles(root: number, path: string): number {
  let count = 0;
  for (const pid of descendants(root)) {
    for (const fd of readdirSync(`/proc/${pid}/fd`)) {
      try {
        if (readlinkSync(`/proc/${pid}/fd/${fd}`) === path) count++;
      } catch {
        // Closed meanwhile.
      }
    }
  }
  return count;
}

/** The first piece of each is 128 KiB: together 88 MiB, and a worker has 64 for them. */
const SLOW_READERS = 700;
const SLOW_BYTES = 8_000_000;

/** The most memory that a process ever had. */
const peakKiB = (pid: number): number =>
  Number(/^VmHWM:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]);

describe.each(IO_MODES)('--io %s', (io) => {
  let server: Running;
  beforeAll(async () => {
    const files: Record<string, string> = { 'html/a.txt': 'one\n' };
    for (const size of SIZES) files[`html/${size}.bin`] = pattern(size);
    server = await startLite(
      conf(
        `types { text/plain txt; } server { listen 127.0.0.1:%PORT%; root html; access_log off;
        location /filtered/ { alias html/; sub_filter one two; sub_filter_types *; }
        location /now/ { alias html/; open_file_cache off; }
        location /long/ { alias html/; open_file_cache max=10; open_file_cache_valid 1h; }
        location /long-errors/ { alias html/; open_file_cache max=10; open_file_cache_valid 1h; open_file_cache_errors on; } }`,
        undefined,
        'worker_connections 1200;',
      ),
      { io, files },
    );
  });
  afterAll(async () => {
    await server?.stop();
    rmSync(server.dir, { recursive: true, force: true });
  });

  test.each(SIZES)('a file of %i bytes arrives whole, again from memory, and in ranges', async (size) => {
    const whole = pattern(size);
    for (let round = 0; round < 2; round++) {
      const response = await get(server.port, `/${size}.bin`);
      expect(response.status).toBe(200);
      expect(response.body === whole).toBe(true);
    }
    if (size < 3) return;
    const middle = size >> 1;
    const part = await get(server.port, `/${size}.bin`, [`Range: bytes=${middle}-`]);
    expect([part.status, part.body === whole.slice(middle)]).toEqual([206, true]);
    const parts = await get(server.port, `/${size}.bin`, [`Range: bytes=0-0,${middle}-${middle + 1},-1`]);
    expect(parts.status).toBe(206);
    expect(parts.body).toContain(
      `Content-Range: bytes ${middle}-${middle + 1}/${size}\r\n\r\n${whole.slice(middle, middle + 2)}\r\n`,
    );
    expect(Number(parts.header('Content-Length'))).toBe(parts.body.length);
  });

  test('pipelined requests for files of every size come back in order', async () => {
    const ask = SIZES.map((size) => `GET /${size}.bin HTTP/1.1\r\nHost: x\r\n\r\n`).join('');
    const responses = parseResponses(await exchange(server.port, ask + ask));
    expect(responses.map((each) => each.body.length)).toEqual([...SIZES, ...SIZES]);
    expect(responses.every((each, i) => each.body === pattern(SIZES[i % SIZES.length] as number))).toBe(true);
  });

  test('with open_file_cache off a change is seen by the next request', async () => {
    const path = join(server.dir, 'html/now.txt');
    for (const text of ['first', 'second one', 'third']) {
      writeFileSync(path, text);
      expect((await get(server.port, '/now/now.txt')).body).toBe(text);
    }
    unlinkSync(path);
    expect((await get(server.port, '/now/now.txt')).status).toBe(404);
  });

  test('without open_file_cache a change is seen within a second or so', async () => {
    const path = join(server.dir, 'html/soon.txt');
    writeFileSync(path, 'old');
    const before = await get(server.port, '/soon.txt');
    expect(before.body).toBe('old');
    writeUnder(server.dir, 'html/soon.new', 'new and longer');
    renameSync(join(server.dir, 'html/soon.new'), path);
    const changed = Date.now();
    while ((await get(server.port, '/soon.txt')).body !== 'new and longer') await sleep(20);
    // A second by design; the rest is for a machine that is busy.
    expect(Date.now() - changed).toBeLessThan(10_000);
    expect((await get(server.port, '/soon.txt')).header('ETag')).not.toBe(before.header('ETag'));
    unlinkSync(path);
    while ((await get(server.port, '/soon.txt')).status !== 404) await sleep(20);
  });

  test('open_file_cache_valid holds what was seen, errors only if asked', async () => {
    const path = join(server.dir, 'html/held.txt');
    expect((await get(server.port, '/long/held.txt')).status).toBe(404);
    writeFileSync(path, 'held');
    expect((await get(server.port, '/long/held.txt')).body).toBe('held');
    writeFileSync(path, 'changed');
    expect((await get(server.port, '/long/held.txt')).body).toBe('held');
    expect((await get(server.port, '/long-errors/late.txt')).status).toBe(404);
    writeUnder(server.dir, 'html/late.txt', 'late');
    expect((await get(server.port, '/long-errors/late.txt')).status).toBe(404);
  });

  test('a file that shrinks while it is sent breaks the connection instead of hanging it', async () => {
    const path = join(server.dir, 'html/shrink.bin');
    writeFileSync(path, Buffer.alloc(40_000_000, 's'));
    const socket = open(server.port);
    socket.pause();
    const text = collect(socket);
    socket.pause();
    socket.write('GET /shrink.bin HTTP/1.1\r\nHost: x\r\n\r\n');
    await new Promise((resolve) => socket.once('readable', resolve));
    truncateSync(path, 1000);
    socket.resume();
    const received = await text;
    expect(received).toContain('Content-Length: 40000000');
    expect(received.length).toBeLessThan(40_000_000);
    const said = await server.logged('error.log', `sendfile() reported that "${path}" was truncated at `);
    expect(said).toMatch(/\[alert\] .* was truncated at \d+ while sending response to client, client: /);
    appendFileSync(path, 'x');
  });

  test('a file that cannot be read breaks the connection, with nginx’s words', async () => {
    // The system tells of 4096 bytes, and refuses to give them.
    const path = '/sys/class/net/lo/speed';
    symlinkSync(path, join(server.dir, 'html/unreadable.bin'));
    for (const _ of [1, 2]) {
      const socket = open(server.port);
      const text = collect(socket);
      socket.write('GET /unreadable.bin HTTP/1.1\r\nHost: x\r\n\r\n');
      expect((await text).split('\r\n\r\n')[1]).toBe('');
    }
    const said = await server.logged('error.log', 'pread() "');
    expect(said).toMatch(
      /\[crit\] .* pread\(\) ".*unreadable.bin" failed \(22: Invalid argument\) while sending response to client, client: /,
    );
  });

  test('clients that leave in the middle of a file leave no descriptor and no memory behind', async () => {
    const path = join(server.dir, 'html/left.bin');
    writeFileSync(path, Buffer.alloc(30_000_000, 'l'));
    for (let round = 0; round < 4; round++) {
      const sockets = Array.from({ length: 25 }, () => open(server.port));
      await Promise.all(
        sockets.map(async (socket, i) => {
          socket.on('error', () => {});
          const begun = receiveUntil(socket, (text) => text.length > 0);
          // Half of them before anything has come: the first read may be under way.
          socket.write('GET /left.bin HTTP/1.1\r\nHost: x\r\n\r\n');
          if (i % 2 === 0) await begun;
          else begun.catch(() => {});
          socket.resetAndDestroy();
        }),
      );
    }
    while (openFiles(server.child.pid as number, path) > 0) await sleep(20);
    expect((await get(server.port, '/left.bin')).body.length).toBe(30_000_000);
    while (openFiles(server.child.pid as number, path) > 0) await sleep(20);
  });

  test('slow readers whose pieces would take more than there is hold bounded memory, fast ones are served beside them', async () => {
    const path = join(server.dir, 'html/slow.bin');
    const content = randomBytes(SLOW_BYTES);
    writeFileSync(path, content);
    const pids = descendants(server.child.pid as number);
    const peak = (): number => pids.reduce((sum, pid) => sum + peakKiB(pid), 0);
    const before = peak();
    const slow = Array.from({ length: SLOW_READERS }, () => open(server.port));
    await Promise.all(
      slow.map(async (socket) => {
        socket.on('error', () => {});
        const begun = receiveUntil(socket, (text) => text.length > 0);
        socket.write('GET /slow.bin HTTP/1.1\r\nHost: x\r\n\r\n');
        await begun;
        socket.pause();
      }),
    );
    expect((await get(server.port, '/slow.bin')).body.length).toBe(SLOW_BYTES);
    // 64 MiB of pieces, and what the connections and a collector that was not in a hurry take.
    expect(peak() - before).toBeLessThan((64 + 96) * 1024);
    // Some of them take it all after all: the rest of it, whole.
    for (const socket of slow.slice(0, 2)) {
      let held = Buffer.alloc(0);
      const end = content.subarray(-1024);
      socket.on('data', (piece: Buffer) => {
        held = Buffer.concat([held, piece]).subarray(-1024);
      });
      socket.resume();
      while (!held.equals(end)) await sleep(20);
      expect(socket.bytesRead).toBeGreaterThan(SLOW_BYTES);
    }
    expect(peak() - before).toBeLessThan((64 + 96) * 1024);
    for (const socket of slow) socket.destroy();
    while (openFiles(server.child.pid as number, path) > 0) await sleep(20);
  });

  test('a file that shrinks behind a body filter breaks the connection, too', async () => {
    const path = join(server.dir, 'html/filtered.txt');
    writeFileSync(path, randomBytes(30_000_000).toString('latin1'), 'latin1');
    const socket = open(server.port);
    const text = collect(socket);
    socket.pause();
    socket.write('GET /filtered/filtered.txt HTTP/1.1\r\nHost: x\r\n\r\n');
    await new Promise((resolve) => socket.once('readable', resolve));
    truncateSync(path, 1000);
    socket.resume();
    const received = await text;
    expect(received).toContain('Transfer-Encoding: chunked');
    expect(received.endsWith('0\r\n\r\n')).toBe(false);
    await server.logged('error.log', `sendfile() reported that "${path}" was truncated at `);
    while (openFiles(server.child.pid as number, path) > 0) await sleep(20);
  });

  test('names with bytes above ASCII are found as they are', async () => {
    writeFileSync(join(server.dir, 'html/grün.txt'), 'green');
    expect((await get(server.port, '/gr%C3%BCn.txt')).body).toBe('green');
    writeFileSync(Buffer.concat([Buffer.from(join(server.dir, 'html/')), Buffer.from([0xff, 0xfe])]), 'raw');
    expect((await get(server.port, '/%ff%fe')).body).toBe('raw');
  });

  test('HEAD has the header of GET and no body', async () => {
    const [full, bare] = [
      await get(server.port, '/8193.bin'),
      await request(server.port, 'HEAD /8193.bin HTTP/1.1\r\nHost: localhost\r\n\r\n'),
    ];
    const withoutDate = (headers: [string, string][]): [string, string][] =>
      headers.filter(([name]) => name !== 'Date');
    expect(withoutDate(bare.headers)).toEqual(withoutDate(full.headers));
    expect(bare.body).toBe('');
  });

  test("the header is nginx's, line by line", async () => {
    const response = await get(server.port, '/a.txt');
    expect(response.statusLine).toBe('HTTP/1.1 200 OK');
    expect(response.headers.map(([name]) => name)).toEqual([
      'Server',
      'Date',
      'Content-Type',
      'Content-Length',
      'Last-Modified',
      'Connection',
      'ETag',
      'Accept-Ranges',
    ]);
    expect(response.header('Content-Type')).toBe('text/plain');
    expect(response.header('ETag')).toMatch(/^"[0-9a-f]+-4"$/);
    expect(Math.abs(Date.parse(response.header('Date') ?? '') - Date.now())).toBeLessThan(10_000);
    const again = await get(server.port, '/a.txt', [`If-None-Match: ${response.header('ETag')}`]);
    expect([again.status, again.body, again.header('Content-Length')]).toEqual([304, '', undefined]);
  });
});
