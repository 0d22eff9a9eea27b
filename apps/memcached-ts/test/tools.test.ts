/** The command-line tools of libmemcached, over both protocols where they have the choice, against both io modes. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  ask,
  Client,
  DEBIANS,
  endsWithTest,
  hasDebians,
  IO_MODES,
  runToEnd,
  type Server,
  start,
  startOurs,
} from './servers.ts';

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

  it.concurrent.each(runs)('$protocol verifies every value it gets from --io $io', async ({ io, protocol }) => {
    const server = await startOurs(io);
    try {
      const args = [
        '--threads=1',
        '--concurrency=8',
        '--execute_number=5000',
        '--verify=1.0',
        '--win_size=1k',
        ...protocol,
      ];
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

describe.skipIf(!present || !hasDebians)('tools that look into a server (skipped without Debian’s memcached)', () => {
  it('see the same in ours as in Debian’s memcached', async () => {
    // Without the maintainer every key is where `stats cachedump`, which memcdump asks for, looks.
    const args = ['-t', '1', '-o', 'no_lru_maintainer,no_lru_crawler'];
    const [theirs, ...ours] = await Promise.all([start(DEBIANS, args), ...IO_MODES.map((io) => startOurs(io, args))]);
    const keys = Array.from({ length: 200 }, (_, i) => `key-${i}`);
    const stores = keys.map((key, i) => `set ${key} ${i} 0 ${i * 7}\r\n${'v'.repeat(i * 7)}\r\n`).join('');
    for (const server of [theirs!, ...ours])
      expect(await ask(endsWithTest(server).port, `${stores}get key-1\r\n`)).toMatch(/^(STORED\r\n)+VALUE/);
    const run = (tool: string, server: Server, words: string[]) =>
      runToEnd(tool, [`--servers=127.0.0.1:${server.port}`, ...words]);
    /** The words before each value, without those of other numbers and of the event library. */
    const names = (text: string): string[] =>
      text.split('\n').flatMap((line) => (/^\s+(?!libevent)([\w:/ ()]+?) *:/.exec(line)?.[1] ?? []) as string | []);

    const dump = await run('memcdump', theirs!, []);
    expect(dump.stdout.trim().split('\n').sort()).toEqual([...keys].sort());
    for (const server of ours) expect(await run('memcdump', server, [])).toEqual(dump);
    for (const words of [[], ['--binary'], ['slabs'], ['items'], ['settings'], ['--analyze'], ['--analyze=latency']]) {
      const want = await run('memcstat', theirs!, words);
      expect(want.code).toBe(0);
      for (const server of ours) {
        const got = await run('memcstat', server, words);
        expect([words, got.code, got.stderr]).toEqual([words, 0, want.stderr]);
        // Ours has lines of newer releases beside them.
        const there = new Set(names(got.stdout));
        expect(names(want.stdout).filter((name) => !there.has(name) && !/^(ext|ssl)_/.test(name))).toEqual([]);
      }
    }
    for (const words of [['key-3'], ['--binary', 'key-3'], ['nope'], ['--binary', 'nope']]) {
      const want = await run('memcexist', theirs!, words);
      for (const server of ours) expect([words, await run('memcexist', server, words)]).toEqual([words, want]);
    }
    for (const server of ours) {
      const version = await run('memcstat', server, ['--server-version']);
      expect(version.stdout + version.stderr).toBe(`127.0.0.1:${server.port} 1.6.45\n`);
    }
  });
});
