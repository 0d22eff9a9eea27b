import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { nodeServer, referenceProgram } from '../src/peers.ts';
import { Children, freePort, type RunningProcess, waitForLine, waitForPort } from '../src/process.ts';
import { processTree, readStat } from '../src/procstat.ts';
import { echo } from './servers.ts';

const shell = (script: string): string[] => ['/bin/sh', '-c', script];
/** What comes anyway may take as long on a machine that has no time. */
const PATIENCE_MS = 60_000;
const children = new Children();
afterEach(() => children.stopAll());

/** Sends `bytes`, ends the sending side, and answers all that came back. */
function exchange(port: number, bytes: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
    socket.on('data', (part: Buffer) => parts.push(part));
    socket.on('end', () => resolve(Buffer.concat(parts)));
    socket.on('error', reject);
    socket.end(bytes);
  });
}

describe('Children', () => {
  it('ends what it started, with the processes below', async () => {
    const child = await children.start(shell('sleep 1000 & echo "listening on here:1"; wait'), null);
    await waitForLine(child, PATIENCE_MS);
    const tree = processTree(child.pid);
    expect(tree).toHaveLength(2);
    await children.stop(child);
    expect(child.exit()).toMatchObject({ signal: 'SIGTERM' });
    while (readStat(tree[1]!) !== null) await new Promise((resolve) => setTimeout(resolve, 5));
  });

  it('ends one that ignores SIGTERM', async () => {
    const child = await children.start(
      shell('trap "" TERM; echo "listening on here:1"; while :; do sleep 1; done'),
      null,
    );
    await waitForLine(child, PATIENCE_MS);
    await children.stop(child);
    expect(child.exit()).toEqual({ code: null, signal: 'SIGKILL' });
  });

  it('names a program that cannot be started', async () => {
    await expect(children.start(['/nonexistent/program'], null)).rejects.toThrow(/cannot start \/nonexistent\/program/);
  });

  it('pins to the core it is told', async () => {
    const child = await children.start(shell('grep Cpus_allowed_list /proc/self/status'), 0);
    await child.ended;
    expect(child.stdout()).toBe('Cpus_allowed_list:\t0\n');
  });
});

describe('waiting for a server', () => {
  it('reads the port of the first line', async () => {
    const child = await children.start(shell('echo "listening on 0.0.0.0:4711"; exec sleep 1000'), null);
    expect(await waitForLine(child, PATIENCE_MS)).toBe(4711);
  });

  it('says what a server that ended had to say', async () => {
    const child = await children.start(shell('echo "bind: address in use" >&2; exit 3'), null);
    await expect(waitForLine(child, PATIENCE_MS)).rejects.toThrow('sh ended with status 3: bind: address in use');
    const other = await children.start(shell('kill -9 $$'), null);
    await expect(waitForPort(other, await freePort(), PATIENCE_MS)).rejects.toThrow('ended with SIGKILL');
  });

  it('gives up after the time allowed', async () => {
    const child = await children.start(shell('exec sleep 1000'), null);
    await expect(waitForLine(child, 50)).rejects.toThrow(/no line "listening on/);
    await expect(waitForPort(child, await freePort(), 50)).rejects.toThrow(/refuses after 50 ms/);
  });

  it('sees a port that is open', async () => {
    const server = await echo();
    const child = await children.start(shell('exec sleep 1000'), null);
    await waitForPort(child, server.port, PATIENCE_MS);
    await server.close();
  });
});

type Program = [name: string, command: () => readonly string[]];
const programs: Program[] = [
  ['echo_uring.c', () => [referenceProgram('echo_uring'), '-p', '0']],
  ...[
    '--no-defer-taskrun',
    '--sq-array',
    '--no-multishot-accept',
    '--no-multishot-receive',
    '--zero-copy',
    '--bundles',
    '--incremental',
    '--buffers-16k',
  ].map((option): Program => [`echo_uring.c ${option}`, () => [referenceProgram('echo_uring'), '-p', '0', option]]),
  ['echo_epoll.c', () => [referenceProgram('echo_epoll'), '-p', '0']],
  ['echo-node.ts', () => nodeServer('echo-node.ts').command],
  ['echo-channel.ts uring', () => nodeServer('echo-channel.ts', '--backend', 'uring').command],
  ['echo-channel.ts epoll', () => nodeServer('echo-channel.ts', '--backend', 'epoll').command],
];

describe.each(programs)('%s', (_name, command) => {
  let child: RunningProcess;

  it('echoes messages of any size in order, to many at once, and outlives who breaks off', async () => {
    child = await children.start(command(), null);
    const port = await waitForLine(child, PATIENCE_MS);
    const bytes = (length: number, seed: number): Buffer =>
      Buffer.from(Uint8Array.from({ length }, (_, i) => (i * seed) >> 3));
    for (const length of [1, 63, 64, 4095, 4096, 4097]) {
      expect((await exchange(port, bytes(length, 7))).equals(bytes(length, 7))).toBe(true);
    }
    // More than sockets and output limits hold: the server has to wait for its readers.
    const sent = Array.from({ length: 8 }, (_, i) => bytes(2_000_000, 11 + i));
    const received = await Promise.all(sent.map((one) => exchange(port, one)));
    for (const [i, one] of received.entries()) expect(one.equals(sent[i]!)).toBe(true);
    for (let i = 0; i < 20; i++) {
      await new Promise<void>((resolve) => {
        const socket = connect({ host: '127.0.0.1', port });
        socket.on('error', () => {});
        socket.on('connect', () => socket.write(bytes(100_000, 3), () => socket.resetAndDestroy()));
        socket.on('close', () => resolve());
      });
    }
    expect((await exchange(port, Buffer.from('still here'))).toString()).toBe('still here');
    expect(child.exit()).toBeNull();
  });

  it.each([[['-p', 'x']], [['--no-such']]])('refuses %j', async (wrong) => {
    const [program, ...args] = command();
    const broken = await children.start([program!, ...args, ...wrong], null);
    const exit = await broken.ended;
    expect(exit.code).not.toBe(0);
    expect(broken.stdout()).toBe('');
  });
});

describe('http-node.ts', () => {
  it('answers with a body of the size asked for', async () => {
    const child = await children.start(nodeServer('http-node.ts', '--size', '1000').command, null);
    const port = await waitForLine(child, PATIENCE_MS);
    const response = await fetch(`http://127.0.0.1:${port}/any`);
    expect(response.headers.get('content-length')).toBe('1000');
    expect(await response.text()).toHaveLength(1000);
  });
});

it('build-reference.sh is what the build script runs', () => {
  expect(referenceProgram('echo_uring')).toBe(fileURLToPath(new URL('../build/reference/echo_uring', import.meta.url)));
});
