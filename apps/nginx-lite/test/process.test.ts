/** Processes: start, pid file, signals, reload, log files. */

import { constants, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { collect, exchange, get, open, parseResponses, receiveUntil } from './support/client.ts';
import { conf, freePort, IO_MODES, isAlive, makePrefix, runLite, startLite, writeUnder } from './support/server.ts';

const FILES = { 'html/a.txt': 'one\n', 'html/big.bin': Buffer.alloc(30_000_000, 'x') };
const SERVER = 'server { listen 127.0.0.1:%PORT%; root html; access_log logs/access.log; %EXTRA% }';

describe.each(IO_MODES)('--io %s', (io) => {
  test.each(['SIGTERM', 'SIGINT'] as const)(
    '%s ends the server at once: exit code 0, no pid file, lines flushed',
    async (signal) => {
      const server = await startLite(conf(SERVER.replace('%EXTRA%', ''), 'worker_processes 2;'), { io, files: FILES });
      expect(readFileSync(join(server.dir, 'logs/nginx.pid'), 'latin1')).toBe(`${server.child.pid}\n`);
      const idle = collect(open(server.port));
      expect((await get(server.port, '/a.txt')).body).toBe('one\n');
      expect(await server.stop(signal)).toBe(0);
      await idle;
      expect(existsSync(join(server.dir, 'logs/nginx.pid'))).toBe(false);
      expect(server.log('access.log')).toContain('"GET /a.txt HTTP/1.1" 200 4');
      rmSync(server.dir, { recursive: true, force: true });
    },
  );

  test('QUIT lets an answer finish, closes idle connections, refuses new ones', async () => {
    const extra =
      'lingering_close off; location /m { alias html/a.txt; mirror /n; } location = /n { internal; return 204; }';
    const server = await startLite(conf(SERVER.replace('%EXTRA%', extra)), { io, files: FILES });
    // A request whose body is waited for.
    const waiting = open(server.port);
    const answer = collect(waiting);
    const reading = receiveUntil(waiting, (text) => text.includes(' 100 '));
    waiting.write('GET /m HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n');
    await reading;
    const idle = collect(open(server.port));
    const slow = open(server.port);
    slow.pause();
    slow.write('GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n');
    await new Promise((resolve) => slow.once('readable', resolve));
    const ended = server.stop('SIGQUIT');
    expect(await idle).toBe('');
    await server.logged('error.log', 'signal 3 (SIGQUIT) received, shutting down');
    waiting.write('x');
    expect(await answer).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*Connection: close\r\n[\s\S]*one\n$/m);
    const text = await collect(slow);
    const [response] = parseResponses(text);
    expect(response?.body.length).toBe(30_000_000);
    expect(await ended).toBe(0);
    expect(existsSync(join(server.dir, 'logs/nginx.pid'))).toBe(false);
    rmSync(server.dir, { recursive: true, force: true });
  });

  test('worker_shutdown_timeout cuts off who is still there: the one of the configuration that a worker began with', async () => {
    const main = 'worker_processes 1; worker_shutdown_timeout 300ms;';
    const server = await startLite(conf(SERVER.replace('%EXTRA%', ''), main), { io, files: FILES });
    /** A client that stops reading in the middle of its answer. */
    const stuck = async (): Promise<void> => {
      const socket = open(server.port);
      socket.write('GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n');
      await new Promise((resolve) => socket.once('readable', resolve));
      socket.once('error', () => {});
    };
    const reload = async (text: string, count: number): Promise<void> => {
      const config = conf(SERVER.replace('%EXTRA%', ''), text).replaceAll('%PORT%', String(server.port));
      writeFileSync(join(server.dir, `nginx-${server.port}.conf`), config);
      server.child.kill('SIGHUP');
      await server.logged('error.log', new RegExp(`(worker process \\d+ exited with code 0[\\s\\S]*){${count}}`));
    };
    await stuck();
    await reload('worker_processes 1;', 1);
    expect(server.log('access.log')).toMatch(/"GET \/big\.bin HTTP\/1\.1" 200 \d+ /);
    await reload(main, 2);
    await stuck();
    expect(await server.stop('SIGQUIT')).toBe(0);
    expect(server.log('access.log').split('\n')).toHaveLength(3);
    rmSync(server.dir, { recursive: true, force: true });
  });

  test('HUP takes the new configuration without losing a request; a broken one changes nothing', async () => {
    const base = (text: string): string =>
      conf(`${SERVER.replace('%EXTRA%', `location /v { return 200 "${text}"; }`)}`, 'worker_processes 2;');
    const server = await startLite(base('first'), { io, files: FILES });
    const file = join(server.dir, `nginx-${server.port}.conf`);
    const write = (config: string): void => writeFileSync(file, config.replaceAll('%PORT%', String(server.port)));
    let wrong = 0;
    let done = false;
    const clients = Array.from({ length: 4 }, async () => {
      while (!done) {
        const response = await get(server.port, '/a.txt').catch(() => null);
        if (response?.body !== 'one\n') wrong++;
      }
    });
    expect((await get(server.port, '/v')).body).toBe('first');
    for (const text of ['second', 'third', 'fourth']) {
      write(base(text));
      server.child.kill('SIGHUP');
      while ((await get(server.port, '/v')).body !== text) await sleep(10);
    }
    write('nonsense;');
    server.child.kill('SIGHUP');
    await server.logged('error.log', `[emerg]`);
    expect(server.log('error.log')).toContain(`unknown directive "nonsense" in ${file}:1`);
    expect((await get(server.port, '/v')).body).toBe('fourth');
    done = true;
    await Promise.all(clients);
    expect(wrong).toBe(0);
    expect(await server.stop()).toBe(0);
    rmSync(server.dir, { recursive: true, force: true });
  });

  test.each([1, 3])(
    'the pipe of stderr stays as blocking as it came, for all who share it: %i workers',
    async (count) => {
      const config = conf(SERVER.replace('%EXTRA%', ''), `worker_processes ${count};`);
      const server = await startLite(config.replace('logs/error.log', 'stderr'), { io, files: FILES });
      await get(server.port, '/nobody-has-this');
      // What a worker has to say comes through it nevertheless.
      while (!server.stderr().includes('nobody-has-this')) await sleep(20);
      const { pid } = server.child;
      const worker = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim();
      expect(worker).toMatch(/^[0-9]+$/);
      for (const each of [pid, worker]) {
        const flags = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/${each}/fdinfo/2`, 'latin1'))?.[1] as string;
        expect(Number.parseInt(flags, 8) & constants.O_NONBLOCK).toBe(0);
      }
      expect(await server.stop()).toBe(0);
      rmSync(server.dir, { recursive: true, force: true });
    },
  );

  test('USR1 reopens the logs', async () => {
    const server = await startLite(conf(SERVER.replace('%EXTRA%', ''), 'worker_processes 2;'), { io, files: FILES });
    await get(server.port, '/a.txt?before');
    await server.logged('access.log', '?before');
    renameSync(join(server.dir, 'logs/access.log'), join(server.dir, 'logs/access.old'));
    server.child.kill('SIGUSR1');
    while (!existsSync(join(server.dir, 'logs/access.log'))) await sleep(10);
    // The workers may still be writing to the old file; in the end lines stand in the new one.
    while (!server.log('access.log').includes('?after')) await get(server.port, '/a.txt?after');
    expect(server.log('access.log')).not.toContain('?before');
    expect(server.log('access.old')).toContain('?before');
    await server.stop();
    rmSync(server.dir, { recursive: true, force: true });
  });
});

test('-s finds the master by its pid file and signals it', async () => {
  const server = await startLite(conf(SERVER.replace('%EXTRA%', '')), { files: FILES });
  const file = join(server.dir, `nginx-${server.port}.conf`);
  const ended = new Promise((resolve) => server.child.once('exit', resolve));
  const reopened = await runLite(['-p', server.dir, '-c', file, '-e', 'logs/start.log', '-s', 'reopen']);
  expect(reopened).toEqual({ code: 0, stdout: '', stderr: '' });
  expect(server.log('start.log')).toMatch(/ \[notice\] \d+#\d+: signal process started\n$/);
  await server.logged('error.log', 'reopening logs');
  expect((await runLite(['-p', server.dir, '-c', file, '-sreload'])).code).toBe(0);
  await server.logged('error.log', 'reconfiguring');
  expect((await runLite(['-p', server.dir, '-c', file, '-s', 'stop'])).code).toBe(0);
  expect(await ended).toBe(0);
  const late = await runLite(['-p', server.dir, '-c', file, '-s', 'stop']);
  expect(late).toEqual({
    code: 1,
    stdout: '',
    stderr: `nginx: [error] open() "${server.dir}/logs/nginx.pid" failed (2: No such file or directory)\n`,
  });
  // Digits and ends of lines; what stands there is never taken for another process.
  for (const pid of ['', '1 ', ' 1', '-1', '+1', '0x1', '1\n2'] as const) {
    writeUnder(server.dir, 'logs/nginx.pid', pid);
    const refused = `nginx: [error] invalid PID number "${pid}" in "${server.dir}/logs/nginx.pid"\n`;
    expect(await runLite(['-p', server.dir, '-c', file, '-s', 'stop'])).toEqual({
      code: 1,
      stdout: '',
      stderr: refused,
    });
  }
  rmSync(server.dir, { recursive: true, force: true });
});

test('daemon on: the command ends when the server serves, and fails with it', async () => {
  const dir = makePrefix(FILES);
  const port = await freePort();
  const config = (main: string): string =>
    conf(SERVER.replace('%EXTRA%', '').replace('%PORT%', String(port))).replace('daemon off;', main);
  writeUnder(dir, 'n.conf', config('daemon on;'));
  expect(await runLite(['-p', dir, '-c', 'n.conf'])).toEqual({ code: 0, stdout: '', stderr: '' });
  expect((await get(port, '/a.txt')).body).toBe('one\n');
  const second = await runLite(['-p', dir, '-c', 'n.conf']);
  expect(second.code).toBe(1);
  expect(second.stderr).toContain('nginx: [emerg] still could not bind()\n');
  const pid = Number(readFileSync(join(dir, 'logs/nginx.pid'), 'latin1'));
  expect((await runLite(['-p', dir, '-c', 'n.conf', '-s', 'quit'])).code).toBe(0);
  while (isAlive(pid)) await sleep(20);
  rmSync(dir, { recursive: true, force: true });
});

test('a start that fails leaves no pid file and says why', async () => {
  const dir = makePrefix();
  writeUnder(dir, 'n.conf', conf('server { listen 127.0.0.1:1; access_log nowhere/a.log; }'));
  const result = await runLite(['-p', dir, '-c', 'n.conf']);
  expect(result.code).toBe(1);
  expect(result.stderr).toContain(
    `nginx: [emerg] open() "${dir}/nowhere/a.log" failed (2: No such file or directory)\n`,
  );
  expect(existsSync(join(dir, 'logs/nginx.pid'))).toBe(false);
  rmSync(dir, { recursive: true, force: true });
});

test('listens on IPv6, on a Unix socket, and on an address beside the wildcard of its port', async () => {
  const http = `server { listen [::1]:%PORT%; return 200 v6; }
    server { listen unix:%DIR%/s.sock; return 200 "unix $remote_addr"; }
    server { listen %PORT%; return 200 any; }
    server { listen 127.0.0.2:%PORT%; return 200 two; }`;
  for (const io of IO_MODES) {
    const server = await startLite(conf(http, 'worker_processes 2;'), { io });
    const { connect } = await import('node:net');
    const ask = async (host: string): Promise<string> => {
      const socket = connect(server.port, host);
      const text = collect(socket);
      socket.end('GET / HTTP/1.0\r\n\r\n');
      return parseResponses(await text)[0]?.body ?? '';
    };
    expect(await ask('::1')).toBe('v6');
    expect(await ask('127.0.0.1')).toBe('any');
    expect(await ask('127.0.0.2')).toBe('two');
    const unix = parseResponses(await exchange(join(server.dir, 's.sock'), 'GET / HTTP/1.0\r\n\r\n'))[0];
    expect(unix?.status).toBe(200);
    expect(await server.stop()).toBe(0);
    expect(existsSync(join(server.dir, 's.sock'))).toBe(false);
    rmSync(server.dir, { recursive: true, force: true });
  }
});

test.each(IO_MODES)('$server_addr on a wildcard listener is the address that was reached: --io %s', async (io) => {
  const server = await startLite(conf('server { listen %PORT%; return 200 $server_addr:$server_port; }'), { io });
  const { connect } = await import('node:net');
  for (const host of ['127.0.0.1', '127.0.0.3']) {
    const socket = connect(server.port, host);
    const text = collect(socket);
    socket.end('GET / HTTP/1.0\r\n\r\n');
    expect(parseResponses(await text)[0]?.body).toBe(`${host}:${server.port}`);
  }
  await server.stop();
  rmSync(server.dir, { recursive: true, force: true });
});

test('every worker of a partitioned listener answers', async () => {
  const server = await startLite(
    conf(
      'log_format p "$connection"; server { listen 127.0.0.1:%PORT%; access_log logs/p.log p; return 200 ok; }',
      'worker_processes 4;',
    ),
  );
  const sockets = Array.from({ length: 64 }, () => open(server.port));
  const bodies = await Promise.all(
    sockets.map((socket) => {
      const answer = receiveUntil(socket, (text) => text.endsWith('ok'));
      socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
      return answer;
    }),
  );
  expect(bodies.every((each) => each.startsWith('HTTP/1.1 200'))).toBe(true);
  for (const socket of sockets) socket.destroy();
  await server.stop();
  // Connections are numbered over all workers.
  const numbers = server.log('p.log').trim().split('\n').map(Number);
  expect(new Set(numbers).size).toBe(64);
  rmSync(server.dir, { recursive: true, force: true });
});
