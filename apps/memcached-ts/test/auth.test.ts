/** -Y: the text protocol's password, compared with Debian's memcached; SIGHUP reads the file again. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAuthFile } from '../src/auth_file.ts';
import { Conn, PROTOCOL_AUTH } from '../src/conn.ts';
import { createCache } from '../src/engine/cache.ts';
import { DEFAULT_CACHE_CONFIG } from '../src/engine/layout.ts';
import { ProtoAuth } from '../src/proto_auth.ts';
import type { Trace } from '../src/protocol.ts';
import type { Output } from '../src/values.ts';
import { fraction } from './arbitraries.ts';
import { pieces } from './pieces.ts';
import { ask, Client, DEBIANS, hasDebians, IO_MODES, play, type Server, start, startOurs } from './servers.ts';

const entries = (text: string): string[] | undefined =>
  parseAuthFile(Buffer.from(text, 'latin1'))?.map(
    ({ user, password }) => `${Buffer.from(user).toString('latin1')}|${Buffer.from(password).toString('latin1')}`,
  );

describe('an auth file', () => {
  it('holds at most eight entries, each of a name, a colon and a password', () => {
    expect(entries('a:b\nname:pass:word\r\nempty:\n:nameless')).toEqual([
      'a|b',
      'name|pass:word',
      'empty|',
      '|nameless',
    ]);
    expect(entries('a:b\n\nc:d\n')).toBeUndefined();
    expect(entries('nothing\n')).toBeUndefined();
    expect(entries('')).toEqual([]);
    expect(entries('a:b\n'.repeat(20))).toHaveLength(8);
    // What stands behind the 255th byte of a line is another entry.
    expect(entries(`u:${'p'.repeat(253)}x:y\n`)).toEqual([`u|${'p'.repeat(253)}`, 'x|y']);
  });
});

describe('the dialogue of -Y', () => {
  it('stands any number of wrong tokens in one piece', () => {
    const tokens = 50_000;
    const refusal = 'CLIENT_ERROR authentication failure\r\n';
    let sent = 0;
    const out: Output = {
      memory: new Uint8Array(4096),
      reserve: () => 0,
      commit: (_handle, bytes) => (sent += bytes),
      writeCopy: () => 0,
      write: () => 0,
    };
    const user = Buffer.from('first');
    const trace: Trace = { log: () => {}, note: () => {}, number: () => 1 };
    const proto = new ProtoAuth(createCache(DEFAULT_CACHE_CONFIG, 'none', 1, 1), out, trace, [
      { user, password: user },
    ]);
    const conn = new Conn();
    conn.open(1, PROTOCOL_AUTH, 0, 0);
    // More stands behind it in the buffer, as it does in a channel's memory.
    const bytes = Buffer.from(`${'set a 0 0 7\r\nfirst x\r\n'.repeat(tokens)}set a 0 0 7\r\n`);
    const end = bytes.length - 5;
    expect(proto.run(conn, bytes, 0, end)).toBe(tokens * 'set a 0 0 7\r\nfirst x\r\n'.length);
    expect(sent).toBe(tokens * refusal.length);
    expect(conn.authenticated).toBe(false);
  });
});

const lastLine = (answer: Buffer): string =>
  answer
    .toString('latin1')
    .trimEnd()
    .split('\r\n')
    .at(-1)!
    .replace(/^VERSION .*/, 'VERSION');
const FILE = 'first:secret\nsecond:pass:word\n';
const login = fc
  .record({
    name: fc.constantFrom('set', 'set', 'set', 'get', 'add'),
    value: fc.constantFrom(
      'first secret',
      'first  secret ',
      'second pass:word',
      'first',
      'first wrong',
      ' ',
      '',
      'a b c',
      'first secret more',
    ),
    off: fc.constantFrom(0, 0, 0, 0, 1, -1),
    length: fc.constantFrom('', '', '', '', 'x', '-1', '+'),
  })
  .map((c) => `${c.name} k 0 0 ${c.length}${Math.max(0, c.value.length + c.off)}\r\n${c.value}\r\n`);
const other = fc.constantFrom(
  'get a\r\n',
  'mg a v\r\n',
  'version\r\n',
  '\r\n',
  'set\r\n',
  'set a 0 0 0\r\n\r\n',
  'quit\r\n',
);

describe.skipIf(!hasDebians)('a connection with -Y', () => {
  let folder = '';
  let file = '';
  let oracle: Server;
  const ours: Server[] = [];
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'memcached-ts-'));
    file = join(folder, 'auth');
    writeFileSync(file, FILE);
    oracle = await start(DEBIANS, ['-Y', file, '-t', '1']);
    for (const io of IO_MODES) ours.push(await startOurs(io, ['-Y', file, '-t', '1']));
  });
  afterAll(async () => {
    await Promise.all([oracle, ...ours].map((server) => server?.stop()));
    rmSync(folder, { recursive: true, force: true });
  });

  it('is answered with the bytes that Debian’s memcached answers', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof({ weight: 3, arbitrary: login }, { weight: 1, arbitrary: other }), {
          minLength: 1,
          maxLength: 8,
        }),
        fc.array(fraction, { maxLength: 8 }),
        async (commands, cuts) => {
          // Of several refusals that reach it in one packet, 1.6.18 sends the last alone: it writes them over each other.
          const parts = pieces(Buffer.from(`${commands.join('')}\r\nmn\r\n`, 'latin1'), cuts);
          const want = lastLine(await play(oracle.port, parts));
          for (const server of ours) expect(lastLine(await play(server.port, parts))).toBe(want);
        },
      ),
      { numRuns: 150 },
    );
  });

  it('cut at every byte boundary gets the same answer', async () => {
    const text = 'get a\r\nset x 0 0 12\r\nfirst secret\r\nset a 0 0 1\r\n1\r\nget a\r\n';
    const want = 'CLIENT_ERROR unauthenticated\r\nSTORED\r\nSTORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n';
    for (const server of ours) {
      for (let cut = 1; cut < text.length; cut++) {
        const parts = [Buffer.from(text.slice(0, cut)), Buffer.from(text.slice(cut))];
        expect((await play(server.port, parts)).toString('latin1')).toBe(want);
      }
    }
  });

  it('is counted, speaks text alone, and may not send a long token', async () => {
    for (const server of ours) {
      const client = await Client.connect(server.port);
      expect(await client.ask('set a 0 0 12\r\nfirst secret\r\n')).toBe('STORED\r\n');
      await client.ask('stats reset\r\n');
      expect(await ask(server.port, 'set a 0 0 7\r\nfirst x\r\n')).toBe('CLIENT_ERROR authentication failure\r\n');
      expect(await client.stats()).toMatchObject({ auth_cmds: '1', auth_errors: '1' });
      expect(await client.stats('settings')).toMatchObject({ auth_enabled_ascii: file, binding_protocol: 'ascii' });
      expect(await ask(server.port, '\x80\x0a')).toBe('CLIENT_ERROR unauthenticated\r\n');
      const long = 'x'.repeat(5000);
      expect(await ask(server.port, `set a 0 0 5000\r\n${long}\r\nget a\r\n`)).toBe(
        'CLIENT_ERROR auth token too long\r\nCLIENT_ERROR unauthenticated\r\n',
      );
      expect(await ask(server.port, 'x'.repeat(4000))).toBe('');
      client.close();
    }
  });

  it('is judged by the file as the last SIGHUP found it, unless that is wrong', async () => {
    const outcome = async (server: Server, token: string): Promise<string> =>
      ask(server.port, `set a 0 0 ${token.length}\r\n${token}\r\n`);
    for (const server of ours) {
      writeFileSync(file, 'third:new\n');
      expect(await outcome(server, 'first secret')).toBe('STORED\r\n');
      process.kill(server.pid, 'SIGHUP');
      while ((await outcome(server, 'third new')) !== 'STORED\r\n') await sleep(20);
      expect(await outcome(server, 'first secret')).toBe('CLIENT_ERROR authentication failure\r\n');
      writeFileSync(file, 'malformed\n');
      process.kill(server.pid, 'SIGHUP');
      while (!server.stderr().includes('malformed entry')) await sleep(20);
      expect(await outcome(server, 'third new')).toBe('STORED\r\n');
      writeFileSync(file, FILE);
      process.kill(server.pid, 'SIGHUP');
      while ((await outcome(server, 'first secret')) !== 'STORED\r\n') await sleep(20);
    }
  });
});
