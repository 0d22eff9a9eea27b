/** Directives and variables that few use: what Debian's nginx does with them, and ours in both io modes. */

import { symlinkSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { get, open, receiveUntil } from '../support/client.ts';
import { FILE_TIME, oracleAvailable, oracleVersion } from '../support/oracle.ts';
import { conf, IO_MODES, makePrefix, type Running, startDebian, startLite } from '../support/server.ts';

const HTTP = `
  types { text/plain txt; }
  log_format seldom "$uri|$gzip_ratio|$sent_trailer_x_method|$sent_trailer_none";
  limit_conn_zone $binary_remote_addr zone=one:1m;
  server {
    listen 127.0.0.1:%PORT%; root html; access_log off;
    location /list/ { autoindex on; autoindex_localtime on; }
    location /list/utc/ { autoindex on; autoindex_localtime off; }
    location /real { root link; return 200 "$realpath_root|$document_root\\n"; }
    location /slow.txt { limit_conn one 1; limit_rate 500; }
    location /busy.txt { limit_conn one 1; limit_conn_status 429; add_header X-Conn $limit_conn_status always; }
    location /dry.txt { limit_conn one 1; limit_conn_dry_run on; add_header X-Conn $limit_conn_status; }
    location /short { keepalive_time 2s; return 200 x; }
    location /packed.txt { gzip on; gzip_types text/plain; gzip_min_length 1; add_trailer X-Method $request_method;
      access_log logs/seldom.log seldom; }
  }`;
const TEXT = '0123456789'.repeat(100);

function prefix(): string {
  const dir = makePrefix({
    'html/list/a.txt': 'a\n',
    'html/list/utc/b.txt': 'b\n',
    'html/slow.txt': TEXT.repeat(100),
    'html/busy.txt': 'busy\n',
    'html/dry.txt': 'dry\n',
    'html/packed.txt': TEXT,
  });
  for (const name of ['list/a.txt', 'list/utc/b.txt', 'list/utc'])
    utimesSync(join(dir, 'html', name), FILE_TIME, FILE_TIME);
  symlinkSync('html', join(dir, 'link'));
  return dir;
}

/** What a server says to all of it. */
async function transcript(server: Running): Promise<Record<string, unknown>> {
  const { port, dir } = server;
  const body = async (path: string): Promise<string> => (await get(port, path)).body.replaceAll(dir, '%DIR%');
  const said: Record<string, unknown> = {
    local: await body('/list/'),
    utc: await body('/list/utc/'),
    real: await body('/real'),
    free: (await get(port, '/busy.txt')).header('X-Conn'),
  };

  const slow = open(port);
  const begun = receiveUntil(slow, (text) => text.includes('\r\n\r\n'));
  slow.write('GET /slow.txt HTTP/1.1\r\nHost: a\r\n\r\n');
  await begun;
  for (const path of ['/busy.txt', '/dry.txt']) {
    const answer = await get(port, path);
    said[path] = [answer.status, answer.header('X-Conn')];
  }
  slow.destroy();

  const kept = open(port);
  const connection: (string | undefined)[] = [];
  for (const wait of [0, 2500]) {
    await sleep(wait);
    const answered = receiveUntil(kept, (text) => text.endsWith('x'));
    kept.write('GET /short HTTP/1.1\r\nHost: a\r\n\r\n');
    connection.push(/^Connection: ([^\r]*)/m.exec(await answered)?.[1]);
  }
  kept.destroy();
  said['keepalive_time'] = connection;

  await get(port, '/packed.txt');
  await get(port, '/packed.txt', ['Accept-Encoding: gzip']);
  const log = await server.logged('seldom.log', /\n.*\n/);
  const ratios = log
    .trimEnd()
    .split('\n')
    .map((line) => line.split('|'));
  // How well it packs is the library's version's affair.
  said['packed'] = ratios.map(([uri, ratio, ...trailers]) => [
    uri,
    ratio?.replace(/^\d+\.\d\d$/, 'ratio'),
    ...trailers,
  ]);
  return said;
}

/* Debian's nginx does not know it yet: it is of 1.27.4. */
test.each(IO_MODES)('keepalive_min_timeout: a graceful end waits for a kept connection (--io %s)', async (io) => {
  const server = await startLite(
    conf('server { listen 127.0.0.1:%PORT%; keepalive_min_timeout 20s; location / { return 200 x; } }'),
    { io },
  );
  const kept = open(server.port);
  const ask = async (): Promise<string> => {
    const answered = receiveUntil(kept, (text) => text.endsWith('x'));
    kept.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    return await answered;
  };
  expect(await ask()).toContain('Connection: keep-alive');
  const ended = server.stop('SIGQUIT');
  await server.logged('error.log', 'gracefully shutting down');
  // Without the directive the connection would be closed within the second.
  await sleep(2500);
  expect(await ask()).toContain('Connection: close');
  expect(await ended).toBe(0);
});

const TZ = { TZ: 'Asia/Tokyo' };

describe.skipIf(!oracleAvailable)(`seldom used, as ${oracleVersion} does it`, () => {
  test.each(IO_MODES)('--io %s', async (io) => {
    const servers = await Promise.all([
      startDebian(conf(HTTP), { dir: prefix(), env: TZ }),
      startLite(conf(HTTP), { dir: prefix(), env: TZ, io }),
    ]);
    try {
      const [theirs, ours] = await Promise.all(servers.map(transcript));
      expect(ours).toEqual(theirs);
      expect(theirs).toMatchObject({
        free: 'PASSED',
        '/busy.txt': [429, 'REJECTED'],
        '/dry.txt': [200, 'REJECTED_DRY_RUN'],
        keepalive_time: ['keep-alive', 'close'],
      });
      expect(theirs?.['local']).toContain('01-Mar-2026 19:20');
    } finally {
      await Promise.all(servers.map((server) => server.stop()));
    }
  });
});
