/** stats, diagnostics_channel, the trace, and what is said when io_uring is not to be had. */
import { spawnSync } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { release } from 'node:os';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { Channel } from '../src/index.ts';
import { BACKENDS, echo, Rig, sink, take, until } from './support.ts';

describe.each(BACKENDS)('%s', (backend) => {
  test('stats count completions, batches, bytes and what is open', async () => {
    const r = new Rig({ backend }, echo);
    const client = await r.client();
    client.write('0123456789');
    await take(client, 10);
    await until(() => r.channel.stats().bytesWritten === 10);
    const stats = r.channel.stats();
    expect(stats).toMatchObject({ backend, accepts: 1, open: 2, bytesRead: 10, bytesWritten: 10, stale: 0 });
    expect(stats.completions).toBeGreaterThanOrEqual(2);
    expect(stats.meanBatch).toBeCloseTo(stats.completions / stats.batches);
    r.end();
  });

  test('diagnostics_channel tells of opening, closing and failures', async () => {
    const seen: Record<string, unknown>[] = [];
    const listen = (message: unknown, name: string | symbol): void => void seen.push({ name, ...(message as object) });
    const names = ['megapipe:channel:open', 'megapipe:channel:close', 'megapipe:error'];
    for (const name of names) subscribe(name, listen);
    const r = new Rig({ backend }, echo);
    const client = await r.client();
    client.write('x');
    await take(client, 1);
    client.resetAndDestroy();
    await until(() => seen.length === 2);
    r.end();
    for (const name of names) unsubscribe(name, listen);
    expect(seen.map((event) => event['name'])).toEqual([
      'megapipe:channel:open',
      'megapipe:error',
      'megapipe:channel:close',
    ]);
    expect(seen[0]).toMatchObject({ backend, reason: expect.stringMatching(/^asked for/), channel: r.channel });
    expect(seen[1]).toMatchObject({ operation: 'connection', errno: 104 });
  });

  test('DEBUG=megapipe writes every request and completion in words', () => {
    const program = fileURLToPath(new URL('programs/traced.ts', import.meta.url));
    const run = spawnSync(process.execPath, [program, backend], {
      env: { ...process.env, DEBUG: 'megapipe' },
      encoding: 'utf8',
    });
    expect(run.stdout).toBe('pong');
    for (const text of [
      /> accept slot/,
      /> connect 127\.0\.0\.1/,
      /< accept cookie 0/,
      /< connect handle \d+ cookie 9 ok/,
      /> send slot \d+ gen \d+ 4 bytes/,
      /< read .* 4 bytes/,
      /> close slot/,
      /< close handle/,
    ])
      expect(run.stderr).toMatch(text);
    const quiet = spawnSync(process.execPath, [program, backend], {
      env: { ...process.env, DEBUG: '' },
      encoding: 'utf8',
    });
    expect(quiet.stderr).toBe('');
  });
});

test('features of the kernel are named, used and unused; epoll has none', () => {
  const uring = new Channel(sink({}), { backend: 'uring' });
  expect(uring.features!.used).toMatchObject({ multishotAccept: true, multishotRecv: true, bufferRing: true });
  const [major, minor] = release().split('.').map(Number) as [number, number];
  const since = (a: number, b: number): boolean => major > a || (major === a && minor >= b);
  expect(uring.features!.used.noSqArray).toBe(since(6, 6));
  expect(uring.features!.used.lwsockets).toBe(since(6, 13));
  expect(uring.features!.unused).toEqual({
    sendZc: since(6, 0),
    bundles: since(6, 10),
    incrementalBuffers: since(6, 12),
  });
  uring.destroy();
  const epoll = new Channel(sink({}), { backend: 'epoll' });
  expect(epoll.features).toBe(null);
  epoll.destroy();
});

describe('io_uring forbidden', () => {
  /* A seccomp filter, as container runtimes install it: io_uring_setup answers EPERM. */
  const program = fileURLToPath(new URL('programs/without_uring.py', import.meta.url));
  const backendTest = fileURLToPath(new URL('programs/backend.ts', import.meta.url));
  const run = (errno: string, backend: string): { stdout: string; status: number | null; stderr: string } =>
    spawnSync('python3', [program, errno, process.execPath, backendTest, backend], { encoding: 'utf8' });

  test('auto falls back to epoll, and says why and what would help', () => {
    const { stdout, stderr } = run('1', 'auto');
    expect(stderr).toBe('');
    expect(stdout).toMatch(
      /^epoll ERR_MEGAPIPE_URING_BLOCKED: io_uring_setup: EPERM\. .*(seccomp|io_uring_disabled).* Using epoll/,
    );
    expect(run('38', 'auto').stdout).toMatch(/^epoll ERR_MEGAPIPE_URING_UNAVAILABLE: io_uring_setup: ENOSYS/);
  });

  test('a backend asked for by name is never replaced', () => {
    expect(run('1', 'uring').stdout).toMatch(/^thrown ERR_MEGAPIPE_URING_BLOCKED/);
    expect(run('1', 'epoll').stdout).toMatch(/^epoll asked for/);
  });

  test('where it is allowed, auto takes it', () => {
    const channel = new Channel(sink({}), { backend: 'auto' });
    expect(channel.backend).toBe('uring');
    expect(channel.backendReason).toMatch(/^io_uring is available/);
    expect(channel.backendReason.includes('without lwsockets')).toBe(!channel.features!.used.lwsockets);
    channel.destroy();
  });
});
