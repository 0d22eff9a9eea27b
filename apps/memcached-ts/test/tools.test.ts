/** The command-line tools of libmemcached, over both protocols where they have the choice, against both io modes. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Client, IO_MODES, runToEnd, type Server, startOurs } from './servers.ts';

const present = existsSync('/usr/bin/memcslap');
if (!present) console.warn("skipped: memcslap and its kind are not installed (Debian's libmemcached-tools)");

describe.skipIf(!present).each(IO_MODES)('libmemcached’s tools against --io %s', (io) => {
  let server: Server;
  const folder = mkdtempSync(join(tmpdir(), 'memcached-ts-tools-'));
  const run = (tool: string, ...args: string[]) => runToEnd(tool, [`--servers=127.0.0.1:${server.port}`, ...args]);

  beforeAll(async () => {
    server = await startOurs(io);
  });
  afterAll(async () => {
    await server.stop();
    rmSync(folder, { recursive: true });
  });

  it('memcping and memcstat find the server', async () => {
    expect((await run('memcping')).code).toBe(0);
    const stat = await run('memcstat');
    expect(stat.stdout).toMatch(/version: 1\.6\.\d+/);
    expect(stat.stdout).toMatch(/curr_items: \d+/);
    expect(stat.code).toBe(0);
  });

  it.each([[[]], [['--binary']]])(
    'memccp, memccat, memcexist, memctouch and memcrm agree with files %j',
    async (protocol) => {
      const path = join(folder, `file${protocol.length}`);
      writeFileSync(path, Buffer.alloc(100_000, 'what the file holds\n'));
      const name = `file${protocol.length}`;
      expect(await run('memccp', ...protocol, path)).toMatchObject({ code: 0 });
      const copy = join(folder, 'copy');
      expect(await run('memccat', ...protocol, `--file=${copy}`, name)).toMatchObject({ code: 0 });
      expect(readFileSync(copy).equals(readFileSync(path))).toBe(true);
      expect((await run('memcexist', ...protocol, name)).code).toBe(0);
      expect((await run('memctouch', ...protocol, '--expire=100', name)).code).toBe(0);
      expect((await run('memcrm', ...protocol, name)).code).toBe(0);
      expect((await run('memcexist', ...protocol, name)).code).not.toBe(0);
      expect((await run('memccat', ...protocol, name)).code).not.toBe(0);
    },
  );

  it.each([
    [['--test=set']],
    [['--test=get']],
    [['--test=mget']],
    [['--test=set', '--binary']],
    [['--test=get', '--binary']],
    [['--test=mget', '--binary']],
    [['--test=set', '--non-blocking', '--tcp-nodelay']],
  ])('memcslap %j ends well', async (options) => {
    const slap = await run('memcslap', ...options, '--concurrency=4', '--execute-number=500', '--initial-load=500');
    expect(slap.stderr).toBe('');
    expect(slap.code).toBe(0);
  });

  it('memcflush forgets everything', async () => {
    const client = await Client.connect(server.port);
    expect(await client.ask('set flushed 0 0 1\r\nx\r\n')).toBe('STORED\r\n');
    expect((await run('memcflush')).code).toBe(0);
    expect(await client.ask('get flushed\r\n', 'END\r\n')).toBe('END\r\n');
    client.close();
  });
});

describe.skipIf(!present)('memcaslap', () => {
  const runs = IO_MODES.flatMap((io) => [[], ['--binary']].map((protocol) => ({ io, protocol })));

  // Each measures for a second, which none of them fills.
  it.concurrent.each(runs)('$protocol verifies every value it gets from --io $io', async ({ io, protocol }) => {
    const server = await startOurs(io);
    try {
      const args = ['--threads=1', '--concurrency=8', '--time=1s', '--verify=1.0', '--win_size=1k', ...protocol];
      const { code, stdout } = await runToEnd('memcaslap', [`--servers=127.0.0.1:${server.port}`, ...args]);
      expect(code).toBe(0);
      const count = (name: string): number =>
        Number(new RegExp(`^${name}: (\\d+)`, 'm').exec(stdout)?.[1] ?? Number.NaN);
      expect(count('cmd_get')).toBeGreaterThan(0);
      expect(count('get_misses')).toBe(0);
      expect(count('verify_misses')).toBe(0);
      expect(count('verify_failed')).toBe(0);
    } finally {
      await server.stop();
    }
  });
});
