/** disable_symlinks and auth_delay: what Debian's nginx answers. */

import { lchownSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SERVER_FULL } from '../../src/version.ts';
import { collect, exchange, open, parseResponses } from '../support/client.ts';
import { get, head, normal, oracleAvailable, oracleVersion } from '../support/oracle.ts';
import { conf, IO_MODES, makePrefix, type Running, startDebian, startLite } from '../support/server.ts';

const root = process.getuid?.() === 0;
if (!root) console.log('skipped in part: links that belong to somebody else need root');

const HTTP = `server { listen 127.0.0.1:%PORT%; root html; index index.html; autoindex off;
  location /on/ { alias %DIR%/html/; disable_symlinks on; }
  location /root/ { alias %DIR%/html/; disable_symlinks on from=$document_root; }
  location /owner/ { alias %DIR%/html/; disable_symlinks if_not_owner; }
  location /from/ { alias %DIR%/html/link-dir/; disable_symlinks on from=%DIR%/html/link-dir; }
  location /short/ { alias %DIR%/html/; disable_symlinks on from=%DIR%/ht; }
  location /whole/ { alias %DIR%/html/; disable_symlinks on from=$request_filename; }
  location /try/ { alias %DIR%/html/; disable_symlinks on; try_files $uri /a.txt; }
  location /off/ { alias %DIR%/html/; disable_symlinks off; }
  location /cached/ { alias %DIR%/html/; disable_symlinks on; open_file_cache max=10; open_file_cache_errors on; }
  location /auth/ { alias %DIR%/html/; auth_basic x; auth_basic_user_file %DIR%/users; auth_delay 300ms; }
  location /any/ { alias %DIR%/html/; satisfy any; deny all; auth_basic x; auth_basic_user_file %DIR%/users; auth_delay 300ms; } }`;
const PATHS = [
  'a.txt',
  'link.txt',
  'dir/b.txt',
  'link-dir/b.txt',
  'link-dir/',
  'link-dir',
  'index/',
  'dangling',
  'none',
  'theirs.txt',
  '',
];

describe.skipIf(!oracleAvailable)(`the same bytes as ${oracleVersion}`, () => {
  let dir = '';
  let oracle: Running;
  const ours = new Map<string, Running>();
  beforeAll(async () => {
    dir = makePrefix({
      'html/a.txt': 'a\n',
      'html/dir/b.txt': 'b\n',
      'html/dir/index.html': 'index\n',
      users: 'u:{PLAIN}p\n',
    });
    const html = join(dir, 'html');
    mkdirSync(join(html, 'index'));
    symlinkSync('a.txt', join(html, 'link.txt'));
    symlinkSync('dir', join(html, 'link-dir'));
    symlinkSync('../a.txt', join(html, 'index/index.html'));
    symlinkSync('nowhere', join(html, 'dangling'));
    symlinkSync('a.txt', join(html, 'theirs.txt'));
    if (root) lchownSync(join(html, 'theirs.txt'), 65_534, 65_534);
    oracle = await startDebian(conf(HTTP), { dir });
    for (const io of IO_MODES) ours.set(io, await startLite(conf(HTTP), { io, dir }));
  });
  afterAll(async () => {
    await oracle?.stop();
    for (const each of ours.values()) await each.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  test.each(IO_MODES)('%s', async (io) => {
    const mine = ours.get(io) as Running;
    const differences: unknown[] = [];
    for (const location of ['on', 'root', 'owner', 'from', 'short', 'whole', 'try', 'off', 'cached']) {
      for (const path of PATHS) {
        for (const request of [get(`/${location}/${path}`), head(`/${location}/${path}`)]) {
          const expected = normal(await exchange(oracle.port, request), oracle.port, oracleVersion);
          // The second answer may come from memory.
          for (let i = 0; i < 2; i++) {
            const got = normal(await exchange(mine.port, request), mine.port, SERVER_FULL);
            if (got !== expected) differences.push({ request, expected, got });
          }
        }
      }
    }
    expect(differences.slice(0, 5)).toEqual([]);
  });

  test.each(IO_MODES)('%s: auth_delay holds back 401, and nothing else', async (io) => {
    for (const server of [oracle, ours.get(io) as Running]) {
      for (const path of ['/auth/a.txt', '/any/a.txt']) {
        const began = performance.now();
        const ask = async (request: string): Promise<[number, number]> => {
          const [answer] = parseResponses(await exchangeOpen(server.port, request));
          return [answer?.status ?? 0, performance.now() - began];
        };
        const [wrong, none, right] = await Promise.all([
          ask(get(path, 'Authorization: Basic dTp4', 'Connection: close')),
          ask(get(path, 'Connection: close')),
          ask(get(path, 'Authorization: Basic dTpw', 'Connection: close')),
        ]);
        expect([wrong[0], none[0], right[0]]).toEqual([401, 401, 200]);
        expect(Math.min(wrong[1], none[1])).toBeGreaterThanOrEqual(290);
      }
      expect(server.log('error.log')).toContain('delaying unauthorized request');
    }
  });
});

/** As exchange, with the client's side left open: nginx takes its end for the client's while a request waits. */
async function exchangeOpen(port: number, request: string): Promise<string> {
  const socket = open(port);
  const received = collect(socket);
  socket.write(request);
  return await received;
}
