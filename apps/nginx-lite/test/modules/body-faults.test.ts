/** Request bodies that do not come, or find no place: slow and vanishing clients, a full disk, requests that wait before their body is read. */

import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { collect, exchange, open, parseResponses, receiveUntil } from '../support/client.ts';
import { get, oracleAvailable } from '../support/oracle.ts';
import { conf, IO_MODES, makePrefix, type Running, startDebian, startLite } from '../support/server.ts';

const FILES = { 'html/a.txt': 'hello\n' };
const HTTP = `log_format plain '$request_uri $status $request_length';
  limit_req_zone $http_x_key zone=slow:1m rate=10r/s;
  server { listen 127.0.0.1:%PORT%; root html; access_log logs/plain.log plain; client_max_body_size 0;
  client_body_buffer_size 8k; add_header X-Body $request_body;
  mirror /m; location = /m { return 204; }
  location /hasty/ { alias html/; client_body_timeout 2s; }
  location /full/ { alias html/; client_body_temp_path %DIR%/small; }
  location /late/ { alias html/; limit_req zone=slow burst=50; }
  location /plain/ { alias html/; limit_req zone=slow burst=50; mirror off; }
}`;

const put = (path: string, length: number, ...headers: string[]): string =>
  get(path, `Content-Length: ${length}`, ...headers);

const modes: [string, (config: string, dir: string) => Promise<Running>][] = IO_MODES.map((io) => [
  `--io ${io}`,
  async (config, dir) => await startLite(config, { io, dir }),
]);
// What is expected of us is what nginx does.
if (oracleAvailable) modes.push(['nginx itself', async (config, dir) => await startDebian(config, { dir })]);

describe.each(modes)('%s', (_name, start) => {
  let server: Running;
  let mounted = '';
  beforeAll(async () => {
    const dir = makePrefix(FILES);
    chmodSync(dir, 0o755);
    const small = join(dir, 'small');
    mkdirSync(small);
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', small], { stdio: 'ignore' });
      mounted = small;
    } catch {
      // Only root may; the test says that it is skipped.
    }
    server = await start(conf(HTTP), dir);
  });
  afterAll(async () => {
    await server?.stop();
    if (mounted !== '') execFileSync('umount', [mounted]);
    rmSync(server.dir, { recursive: true, force: true });
  });

  test('a body that does not come in client_body_timeout ends the connection without a word', async () => {
    const socket = open(server.port);
    const received = collect(socket);
    socket.write(`${put('/hasty/a.txt?silent', 10)}abc`);
    expect(await received).toBe('');
    await server.logged('plain.log', '/hasty/a.txt?silent 408 ');
  });

  test('each piece of it gets the whole time', async () => {
    const socket = open(server.port);
    const received = collect(socket);
    socket.write(put('/hasty/a.txt?dripping', 4));
    for (const byte of 'body') {
      await sleep(600);
      socket.write(byte);
    }
    socket.end();
    expect(parseResponses(await received)[0]?.header('X-Body')).toBe('body');
  });

  test('a client that ends or vanishes before the end of the body', async () => {
    expect(await exchange(server.port, `${put('/a.txt?ended', 10)}abc`)).toBe('');
    await server.logged('plain.log', '/a.txt?ended 400 ');
    await server.logged('error.log', 'client prematurely closed connection');
    for (let i = 0; i < 10; i++) {
      const socket = open(server.port);
      socket.on('error', () => {});
      await new Promise<void>((resolve) =>
        socket.write(`${put('/a.txt', 100_000)}${'x'.repeat(20_000)}`, () => resolve()),
      );
      socket.resetAndDestroy();
    }
    expect(await exchange(server.port, get('/a.txt'))).toContain('hello');
  });

  test('no room for a temporary file is 500; the server goes on, and the disk is free again', async (context) => {
    if (mounted === '') {
      console.log('skipped: mounting a small tmpfs needs root');
      context.skip();
      return;
    }
    for (const framing of ['Content-Length: 300000', 'Transfer-Encoding: chunked']) {
      const socket = open(server.port);
      const received = collect(socket);
      socket.write(get('/full/a.txt', framing, 'Expect: 100-continue'));
      await receiveUntil(socket, (text) => text.includes('100 Continue'));
      const chunked = framing.includes('chunked');
      for (let i = 0; i < 30; i++) socket.write(chunked ? `2710\r\n${'x'.repeat(10_000)}\r\n` : 'x'.repeat(10_000));
      socket.end(chunked ? '0\r\n\r\n' : '');
      const answers = parseResponses(await received);
      expect(answers.at(-1)?.statusLine).toBe('HTTP/1.1 500 Internal Server Error');
      expect(answers.at(-1)?.header('Connection')).toBe('close');
      await server.logged(
        'error.log',
        /pwrite\(\) "\S+\/small\/\d{10}" (?:failed \(28: No space left on device\)|has written only)/,
      );
      // nginx lets go of a request when its connection has lingered, and the client may know of the end before.
      while (readdirSync(mounted).length > 0) await sleep(20);
      // What fits is taken again.
      const small = await exchange(server.port, `${put('/full/a.txt', 30_000)}${'x'.repeat(30_000)}`);
      expect(parseResponses(small)[0]?.status).toBe(200);
    }
  });

  test('requests that waited before their body was read, and pipelines of them', async () => {
    for (const path of ['/late/a.txt', '/plain/a.txt']) {
      const key = `X-Key: ${path}`;
      const chunks = get(path, 'Transfer-Encoding: chunked', key);
      // The client does not end its side before: nginx takes that for its end while a request waits.
      const socket = open(server.port);
      const received = receiveUntil(
        socket,
        (text) => text.split('HTTP/1.1 200').length > 7 && text.endsWith('hello\n'),
      );
      const parts = [
        `${put(path, 4, key)}one!`,
        `${put(path, 4, key)}two!${chunks}3\r\nabc\r\n0\r\n\r\n`,
        `${put(path, 6, key)}thr`,
        `ee!${put(path, 20_000, key)}`,
        `${'x'.repeat(20_000)}${chunks}1\r\nz\r\n0\r\n\r\n${get('/a.txt?last')}`,
      ];
      for (const part of parts) await new Promise<void>((resolve) => socket.write(part, () => resolve()));
      const text = await received;
      socket.destroy();
      const answers = parseResponses(text);
      expect(answers.map((each) => each.status)).toEqual([200, 200, 200, 200, 200, 200, 200]);
      if (path.startsWith('/late/')) {
        expect(answers.map((each) => each.header('X-Body') ?? '')).toEqual([
          'one!',
          'two!',
          'abc',
          'three!',
          '',
          'z',
          '',
        ]);
      }
    }
  });

  test('a large body that arrives while its request waits is not lost, and reading goes on', async () => {
    const key = 'X-Key: large';
    const body = 'y'.repeat(1_000_000);
    const text = await exchange(server.port, [
      `${put('/late/a.txt', 3, key)}abc`,
      put('/late/a.txt?large', body.length, key),
      body,
      get('/a.txt'),
    ]);
    expect(parseResponses(text).map((each) => each.status)).toEqual([200, 200, 200]);
    await server.logged('plain.log', /\/late\/a\.txt\?large 200 10000\d\d/);
  });

  test('a refused chunked body is answered, however much of it comes', async () => {
    const socket = open(server.port);
    const received = collect(socket);
    socket.write(get('/a.txt', 'Transfer-Encoding: chunked'));
    socket.write('5\r\nhello\r\nzz\r\n');
    for (let i = 0; i < 20; i++) socket.write('b'.repeat(50_000));
    socket.end();
    expect((await received).slice(0, 24)).toBe('HTTP/1.1 400 Bad Request');
  });
});
