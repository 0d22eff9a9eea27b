/** Clients that misbehave, and machines that run out: a clear answer or line in the log, and everyone else is served. */

import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { collect, exchange, get, latin1, open, parseResponses, receiveUntil } from './support/client.ts';
import {
  BIN,
  conf,
  freePort,
  IO_MODES,
  makePrefix,
  type Running,
  runLite,
  startLite,
  writeUnder,
} from './support/server.ts';

const REQUEST = 'GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n';
const HELLO = 'hello, world\n';
const FILES = {
  'html/a.txt': HELLO,
  'html/big.bin': 'x'.repeat(900_000),
  'html/huge.bin': Buffer.alloc(20_000_000, 'h'),
};

async function stillServes(port: number): Promise<void> {
  const response = await get(port, '/a.txt');
  expect([response.status, response.body]).toEqual([200, HELLO]);
}

describe.each(IO_MODES)('--io %s', (io) => {
  let server: Running;
  /** The port of those who are given little time. Others have enough of it, however slow the machine is. */
  let hasty = 0;
  beforeAll(async () => {
    hasty = await freePort();
    server = await startLite(
      conf(
        `root html; access_log logs/access.log; server { listen 127.0.0.1:%PORT%; }
        server { listen 127.0.0.1:${hasty}; client_header_timeout 2s; send_timeout 1s; keepalive_timeout 1s; lingering_timeout 1s; lingering_time 2s; }`,
        'worker_processes 2;',
        'worker_connections 1024;',
      ),
      { io, files: FILES },
    );
  });
  afterAll(async () => {
    await server?.stop();
    rmSync(server.dir, { recursive: true, force: true });
  });

  test('a request that comes one byte at a time is answered like any other', async () => {
    const text = await exchange(server.port, [...REQUEST].concat([...REQUEST]));
    expect(parseResponses(text).map((each) => each.body)).toEqual([HELLO, HELLO]);
  });

  test('a head that does not arrive in client_header_timeout ends the connection, however the bytes trickle', async () => {
    const socket = open(hasty);
    const received = collect(socket);
    socket.write('GET /trickle HTTP/1.1\r\nHost: x\r\n');
    const drip = setInterval(() => socket.write('A: b\r\n', () => {}), 100);
    expect(await received).toBe('');
    clearInterval(drip);
    await server.logged('access.log', '"GET /trickle HTTP/1.1" 408 0');
    await stillServes(server.port);
  });

  test('a connection that says nothing is closed without a word', async () => {
    expect(await collect(open(hasty))).toBe('');
  });

  test('an idle keep-alive connection is closed after keepalive_timeout', async () => {
    const socket = open(hasty);
    const received = collect(socket);
    socket.write(REQUEST);
    expect(parseResponses(await received).map((each) => each.body)).toEqual([HELLO]);
  });

  test('a client that never reads is cut off after send_timeout, and others are served meanwhile', async () => {
    const socket = open(hasty);
    socket.pause();
    socket.on('error', () => {});
    socket.write('GET /huge.bin HTTP/1.1\r\nHost: x\r\n\r\n');
    await stillServes(server.port);
    await server.logged('error.log', 'client timed out (110: Connection timed out) while sending response to client');
    await stillServes(server.port);
    socket.destroy();
  });

  test('a client that asks again and again without reading is bounded and cut off', async () => {
    const socket = open(hasty);
    socket.pause();
    socket.on('error', () => {});
    const closed = new Promise((resolve) => socket.once('close', resolve));
    for (let i = 0; i < 300; i++) socket.write('GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n');
    await stillServes(server.port);
    // Written as long as the server takes it; the end is the server's.
    const pump = setInterval(() => socket.write('GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n'), 5);
    await closed;
    clearInterval(pump);
    await stillServes(server.port);
  });

  test('a client that vanishes in the middle of a head, a body or an answer leaves nothing behind', async () => {
    const starts = [
      'GET /a.t',
      'GET /a.txt HTTP/1.1\r\nHos',
      'POST /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc',
      'POST /a.txt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc',
      'GET /huge.bin HTTP/1.1\r\nHost: x\r\n\r\n',
    ];
    for (const start of starts) {
      for (let i = 0; i < 20; i++) {
        const socket = open(server.port);
        socket.on('error', () => {});
        await new Promise<void>((resolve) => socket.write(start, () => resolve()));
        socket.resetAndDestroy();
      }
    }
    await stillServes(server.port);
  });

  test('an unread body of a refused request does not become a reset', async () => {
    const socket = open(server.port);
    const received = collect(socket);
    socket.write('POST /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n');
    for (let i = 0; i < 30; i++) socket.write(Buffer.alloc(100_000, 'b'));
    socket.end();
    expect((await received).slice(0, 37)).toBe('HTTP/1.1 413 Request Entity Too Large');
  });

  test('a body longer than the answer waits for is dropped, and the next request is found', async () => {
    const body = 'b'.repeat(700_000);
    const text = await exchange(server.port, [
      `POST /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n`,
      body,
      REQUEST,
    ]);
    expect(parseResponses(text).map((each) => each.status)).toEqual([405, 200]);
  });

  test('paths that try to leave the root get 400 or 404, never a file outside', async () => {
    writeUnder(server.dir, 'secret.txt', 'TOP SECRET');
    const ups = [
      '../',
      '..%2f',
      '%2e%2e/',
      '%2e%2e%2f',
      '.%2e/',
      '..//',
      '.././',
      '..\\',
      '%2e%2e%5c',
      '..%00/',
      '....//',
      '%252e%252e/',
    ];
    for (const up of ups) {
      for (const depth of [1, 2, 3]) {
        for (const prefix of ['/', '//', '/./', '/x/', '/%2f']) {
          const response = await get(server.port, `${prefix}${up.repeat(depth)}secret.txt`);
          expect([400, 404]).toContain(response.status);
          expect(response.body).not.toContain('TOP SECRET');
        }
      }
    }
  });

  test('control bytes in a request cannot forge a line of the logs', async () => {
    await exchange(server.port, 'GET /x HTTP/1.1\r\nHost: x\r\nUser-Agent: a"\x01\x80b\\\r\n\r\n');
    const log = await server.logged('access.log', 'a\\x22');
    expect(log).toContain('"GET /x HTTP/1.1" 404');
    expect(log).toContain('"a\\x22\\x01\\x80b\\x5C"');
  });
});

describe.each(IO_MODES)('limits of the machine, --io %s', (io) => {
  test('10,000 connections at once are kept, and each is served', { timeout: 240_000 }, async () => {
    const server = await startLite(
      conf(
        'server { listen 127.0.0.1:%PORT% backlog=4096; root html; access_log off; keepalive_timeout 600s; client_header_timeout 600s; }',
        'worker_processes 2;',
        'worker_connections 12000;',
      ),
      { io, files: { 'html/a.txt': HELLO } },
    );
    const sockets: Socket[] = [];
    try {
      for (let batch = 0; batch < 50; batch++) {
        const opening = Array.from({ length: 200 }, () => {
          const socket = open(server.port);
          sockets.push(socket);
          return new Promise<void>((resolve, reject) => {
            socket.once('connect', () => resolve());
            socket.once('error', reject);
          });
        });
        await Promise.all(opening);
      }
      expect(sockets.length).toBe(10_000);
      let served = 0;
      for (let at = 0; at < sockets.length; at += 500) {
        const answers = sockets.slice(at, at + 500).map(async (socket) => {
          const answer = receiveUntil(socket, (text) => text.endsWith(HELLO));
          socket.write(REQUEST);
          if ((await answer).startsWith('HTTP/1.1 200 OK\r\n')) served++;
        });
        await Promise.all(answers);
      }
      expect(served).toBe(10_000);
    } finally {
      for (const socket of sockets) socket.destroy();
      await server.stop();
      rmSync(server.dir, { recursive: true, force: true });
    }
  });

  test('above worker_connections idle connections give way, and the log says so when none is idle', async () => {
    const server = await startLite(
      conf(
        'server { listen 127.0.0.1:%PORT%; root html; access_log off; }',
        'worker_processes 1;',
        'worker_connections 20;',
      ),
      { io, files: { 'html/a.txt': HELLO } },
    );
    const sockets: Socket[] = [];
    try {
      // Idle after a request: these are given up for newcomers.
      for (let i = 0; i < 40; i++) {
        const socket = open(server.port);
        sockets.push(socket);
        const answer = receiveUntil(socket, (text) => text.endsWith(HELLO));
        socket.write(REQUEST);
        await answer;
      }
      for (const socket of sockets) socket.destroy();
      sockets.length = 0;
      // In the middle of a request: these are not.
      for (let i = 0; i < 40; i++) {
        const socket = open(server.port);
        socket.on('error', () => {});
        sockets.push(socket);
        socket.write('GET /a');
      }
      await server.logged('error.log', /\[alert\] .*20 worker_connections are not enough/);
      for (const socket of sockets) socket.destroy();
      sockets.length = 0;
    } finally {
      for (const socket of sockets) socket.destroy();
      await server.stop();
      rmSync(server.dir, { recursive: true, force: true });
    }
  });

  test('an unreadable file or root is 403, with a line in error.log', async () => {
    const dir = makePrefix({ 'html/a.txt': HELLO, 'html/secret.txt': 'no', 'closed/index.html': 'no' });
    chmodSync(join(dir, 'html/secret.txt'), 0o000);
    chmodSync(join(dir, 'closed'), 0o000);
    for (const each of ['', 'logs']) chmodSync(join(dir, each), 0o777);
    const config = conf(
      'server { listen 127.0.0.1:%PORT%; root html; access_log off; location /closed/ { root %DIR%; } }',
    );
    // Root may read everything, so the server runs as somebody else then.
    const nobody = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
    const server = await startLite(config, { io, dir, ...nobody });
    try {
      const file = await get(server.port, '/secret.txt');
      expect(file.status).toBe(403);
      expect(file.body).toContain('<h1>403 Forbidden</h1>');
      expect((await get(server.port, '/closed/')).status).toBe(403);
      expect((await get(server.port, '/closed/index.html')).status).toBe(403);
      await server.logged('error.log', `open() "${dir}/html/secret.txt" failed (13: Permission denied), client: `);
      await server.logged('error.log', `"${dir}/closed/index.html" is forbidden (13: Permission denied), client: `);
      await stillServes(server.port);
    } finally {
      await server.stop();
      chmodSync(join(dir, 'closed'), 0o755);
      rmSync(dir, { recursive: true, force: true });
    }
  });

  test("a port in use: five tries and nginx's words, exit code 1", async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const { port } = taken.address() as { port: number };
    const dir = makePrefix();
    writeFileSync(join(dir, 'n.conf'), conf(`server { listen 127.0.0.1:${port}; }`));
    const result = await runLite(['-p', dir, '-c', 'n.conf', '--io', io]);
    taken.close();
    const bind = `nginx: [emerg] bind() to 127.0.0.1:${port} failed (98: Address already in use)\n`;
    expect(result.code).toBe(1);
    expect(result.stderr).toBe(`${bind.repeat(5)}nginx: [emerg] still could not bind()\n`);
    // The start-up log has them with their time, and says what was done about it.
    expect(readFileSync(join(dir, 'logs/error.log'), 'latin1')).toContain('[notice]');
    rmSync(dir, { recursive: true, force: true });
  });
});

test('without descriptors left, --io epoll says so, keeps what it has and recovers', async () => {
  const dir = makePrefix({ 'html/a.txt': HELLO });
  const port = await freePort();
  writeFileSync(
    join(dir, 'n.conf'),
    conf(
      `server { listen 127.0.0.1:${port} backlog=512; root html; access_log off; }`,
      'worker_processes 1;',
      'worker_connections 500;',
    ),
  );
  const child = spawn('sh', ['-c', `ulimit -n 80; exec ${BIN} -p ${dir} -c n.conf --io epoll`], { stdio: 'ignore' });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const sockets: Socket[] = [];
  const server = { log: join(dir, 'logs/error.log') };
  try {
    const { readFile } = await import('node:fs/promises');
    const { setTimeout: sleep } = await import('node:timers/promises');
    const until = async (file: string, text: string): Promise<void> => {
      while (!(await readFile(file, 'latin1').catch(() => '')).includes(text)) {
        if (child.exitCode !== null) throw new Error('the server ended');
        await sleep(20);
      }
    };
    await until(join(dir, 'logs/nginx.pid'), '\n');
    const first = open(port);
    sockets.push(first);
    const answer = receiveUntil(first, (text) => text.endsWith(HELLO));
    first.write(REQUEST);
    await answer;
    for (let i = 0; i < 120; i++) {
      const socket = open(port);
      socket.on('error', () => {});
      sockets.push(socket);
    }
    await until(server.log, '[crit]');
    await until(server.log, 'accept4() failed (24: Too many open files)');
    const again = receiveUntil(first, (text) => text.endsWith(HELLO));
    first.write(REQUEST);
    expect(await again).toContain('HTTP/1.1 200 OK');
    for (const socket of sockets.splice(1)) socket.destroy();
    await stillServes(port);
  } finally {
    for (const socket of sockets) socket.destroy();
    child.kill('SIGTERM');
    await ended;
    rmSync(dir, { recursive: true, force: true });
  }
});

test('connections of --io megapipe need no descriptors', async () => {
  const dir = makePrefix({ 'html/a.txt': HELLO });
  mkdirSync(join(dir, 'run'));
  const port = await freePort();
  writeFileSync(
    join(dir, 'n.conf'),
    conf(
      `server { listen 127.0.0.1:${port} backlog=512; root html; access_log off; }`,
      'worker_processes 1;',
      'worker_connections 400;',
    ),
  );
  // The kernel allows as many direct descriptors as ordinary ones, and they are counted apart.
  const child = spawn('sh', ['-c', `ulimit -n 500; exec ${BIN} -p ${dir} -c n.conf --io megapipe`], {
    stdio: 'ignore',
  });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const sockets: Socket[] = [];
  try {
    const { readFile, readdir } = await import('node:fs/promises');
    const { setTimeout: sleep } = await import('node:timers/promises');
    while ((await readFile(join(dir, 'logs/nginx.pid'), 'latin1').catch(() => '')) === '') {
      if (child.exitCode !== null) throw new Error('the server ended');
      await sleep(20);
    }
    // Those of the process that serves, when it has served one.
    const ask = async (): Promise<void> => {
      const socket = open(port);
      sockets.push(socket);
      const answer = receiveUntil(socket, (text) => text.endsWith(HELLO));
      socket.write(latin1(REQUEST));
      await answer;
    };
    await ask();
    const [worker] = (await readFile(`/proc/${child.pid}/task/${child.pid}/children`, 'latin1')).trim().split(' ');
    const descriptors = async (): Promise<number> => (await readdir(`/proc/${worker}/fd`)).length;
    const before = await descriptors();
    for (let i = 1; i < 350; i++) await ask();
    expect((await descriptors()) - before).toBeLessThan(20);
  } finally {
    for (const socket of sockets) socket.destroy();
    child.kill('SIGTERM');
    await ended;
    rmSync(dir, { recursive: true, force: true });
  }
});
