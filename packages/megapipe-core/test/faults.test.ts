/**
 * System calls that fail on demand (strace -e inject) in an echo server process: every connection that the kernel did
 * establish is served to its last byte, whatever fails in between.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import net from 'node:net';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { pattern, take, until } from './support.ts';

const probe = spawnSync('strace', ['-e', 'inject=getppid:error=EPERM', 'true'], { encoding: 'utf8' });
const missing =
  probe.error || probe.status !== 0
    ? `strace cannot trace here: ${probe.error?.message ?? probe.stderr.trim()}`
    : process.env['MEGAPIPE_SANITIZE'] === '1'
      ? 'not under the sanitizers'
      : '';

/* backend, system call, error, which calls fail (strace's when=first+step) */
const faults: [string, string, string, string][] = [
  ['epoll', 'accept4', 'EMFILE', '3+7'],
  ['epoll', 'accept4', 'ECONNABORTED', '2+3'],
  ['epoll', 'accept4', 'ENOMEM', '5+9'],
  ['epoll', 'accept4', 'EINTR', '2+2'],
  ['epoll', 'recvfrom', 'EINTR', '2+2'],
  ['epoll', 'recvfrom', 'ENOMEM', '3+5'],
  ['epoll', 'recvfrom', 'ENOBUFS', '3+5'],
  ['epoll', 'sendto', 'EAGAIN', '2+2'],
  ['epoll', 'sendto', 'EINTR', '2+2'],
  ['epoll', 'sendto', 'ENOBUFS', '3+5'],
  ['epoll', 'sendto', 'ENOMEM', '3+5'],
  ['epoll', 'epoll_wait', 'EINTR', '2+2'],
  ['uring', 'io_uring_enter', 'EINTR', '40+3'],
  ['uring', 'io_uring_enter', 'EAGAIN', '40+3'],
  ['uring', 'io_uring_enter', 'EBUSY', '40+3'],
  ['uring', 'io_uring_enter', 'ENOMEM', '40+7'],
];

describe.skipIf(missing)(`injected failures${missing && ` (skipped: ${missing})`}`, () => {
  const children: ChildProcess[] = [];
  afterEach(() => {
    for (const child of children.splice(0)) {
      /* strace is the parent of the server, and lets go of it when it is told to end. */
      spawnSync('pkill', ['-KILL', '-P', String(child.pid)]);
      child.kill('SIGKILL');
    }
  });

  test.each(faults)('%s: %s answers %s (calls %s)', async (backend, call, error, when) => {
    const program = fileURLToPath(new URL('programs/server.ts', import.meta.url));
    const child = spawn(
      'strace',
      [
        '-f',
        '-qq',
        '-o',
        '/dev/null',
        '-e',
        `trace=${call}`,
        '-e',
        `inject=${call}:error=${error}:when=${when}`,
        process.execPath,
        program,
        backend,
        'plain',
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    children.push(child);
    let output = '';
    child.stdout.on('data', (data: Buffer) => {
      output += data.toString();
    });
    await until(() => output.includes('\n'));
    const port = Number.parseInt(output, 10);
    let next = 0;
    const worker = async (): Promise<void> => {
      for (let n = next++; n < 60; n = next++) {
        const client = net.connect(port, '127.0.0.1');
        client.on('error', () => {});
        await once(client, 'connect');
        for (let i = 0; i < 3; i++) {
          const bytes = pattern(300, n * 3 + i);
          client.write(bytes);
          const got = await take(client, bytes.length);
          expect(got.equals(bytes), `connection ${n}, message ${i}: ${got.length} bytes came back`).toBe(true);
        }
        client.destroy();
      }
    };
    await Promise.all([worker(), worker(), worker(), worker()]);
    expect(child.exitCode).toBe(null);
  });

  test('epoll_ctl without memory fails one connection with its errno, and no other', async () => {
    const program = fileURLToPath(new URL('programs/server.ts', import.meta.url));
    const child = spawn(
      'strace',
      [
        '-f',
        '-qq',
        '-o',
        '/dev/null',
        '-e',
        'trace=epoll_ctl',
        '-e',
        'inject=epoll_ctl:error=ENOMEM:when=30+4',
        process.execPath,
        program,
        'epoll',
        'plain',
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    children.push(child);
    let output = '';
    child.stdout.on('data', (data: Buffer) => {
      output += data.toString();
    });
    await until(() => output.includes('\n'));
    let served = 0;
    let refused = 0;
    for (let n = 0; n < 60; n++) {
      const client = net.connect(Number.parseInt(output, 10), '127.0.0.1');
      client.on('error', () => {});
      await once(client, 'connect');
      client.write('abc');
      if ((await take(client, 3)).toString() === 'abc') served++;
      else refused++;
      client.destroy();
    }
    expect(served + refused).toBe(60);
    expect(refused).toBeGreaterThan(0);
    expect(served).toBeGreaterThan(30);
    expect(child.exitCode).toBe(null);
  });
});

/* uring with a multishot accept into descriptors; lwsockets have no descriptors to run out of. */
test.each(['uring', 'epoll'])(
  '%s: with every descriptor in use, clients wait and are served later',
  async (backend) => {
    const program = fileURLToPath(new URL('programs/server.ts', import.meta.url));
    const server = spawn(
      'sh',
      ['-c', 'ulimit -n 64; exec "$0" "$@"', process.execPath, program, backend, 'descriptors'],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    try {
      let output = '';
      server.stdout.on('data', (data: Buffer) => {
        output += data.toString();
      });
      await until(() => output.includes('\n'));
      let served = 0;
      const clients = Array.from({ length: 120 }, () => net.connect(Number.parseInt(output, 10), '127.0.0.1'));
      const talks = clients.map(async (client, n) => {
        client.on('error', () => {});
        await once(client, 'connect');
        client.write(pattern(100, n));
        expect((await take(client, 100)).equals(pattern(100, n)), `connection ${n}`).toBe(true);
        served++;
      });
      /* Some have to wait: there are fewer descriptors than clients. */
      await until(() => served >= 20);
      expect(readdirSync(`/proc/${server.pid}/fd`).length).toBeLessThan(70);
      /* In whatever order they were accepted: each makes room for one that waits. */
      await Promise.all(talks.map((talk, n) => talk.then(() => clients[n]!.destroy())));
      expect(served).toBe(120);
      expect(server.exitCode).toBe(null);
    } finally {
      server.kill('SIGKILL');
    }
  },
);
