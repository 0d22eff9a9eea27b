/** Lines of the access log, in each escaping, as Debian's nginx writes them: what has no value, what is empty, bytes that need escaping. */

import { rmSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { exchange } from '../support/client.ts';
import { get, oracleAvailable, oracleVersion } from '../support/oracle.ts';
import { conf, IO_MODES, makePrefix, type Running, startDebian, startLite } from '../support/server.ts';

const FIELDS = [
  ...['$remote_addr', '$realip_remote_addr', '$remote_user', '$request', '$http_user_agent', '$http_x', '$args'],
  ...['$query_string', '$is_args', '$uri', '$status', '$arg_q', '$cookie_c', '$limit_rate', '$upstream_addr'],
  ...['$ssl_protocol', '$sent_http_location', '$sent_http_cache_control', '$sent_http_last_modified', '$proxy_host'],
  ...['$sent_http_connection', '$sent_http_keep_alive', '$sent_http_content_type'],
  ...['$request_uri', '$request_method', '$request_length'],
].join('~');
const ESCAPES = ['default', 'json', 'none'];
const HTTP = `${ESCAPES.map((name) => `log_format ${name} escape=${name} '${FIELDS}';`).join('\n')}
server { listen 127.0.0.1:%PORT%; root html; ${ESCAPES.map((name) => `access_log logs/${name}.log ${name};`).join(' ')}
  set_real_ip_from 127.0.0.0/8; real_ip_header X-Forwarded-For; keepalive_timeout 10 20;
  location /moved { absolute_redirect off; return 301 /x; }
  location /cached { alias html; expires 1h; add_header Cache-Control public; }
  location /none { return 204; } location /dropped { return 444; } location /slow { limit_rate 1m; alias html/a.txt; }
  location /page { error_page 410 /a.txt; return 410; }
  location /text { return 200 text; }
  location /last { access_log logs/last.log; return 200; }
}`;
const REQUESTS = ['/a.txt', '/a.txt?', '/a.txt?q=a%22b"c', '/text?q=\xff', '/moved', '/cached/a.txt'].flatMap(
  (path) => [
    get(path),
    get(path, 'User-Agent: a"b\\c\xe9', 'X: \x01\t\x7f', 'Cookie: c="v"', 'Authorization: Basic YSJiOmM='),
    get(path, 'X-Forwarded-For: 1.2.3.4, 010.1.1.1', 'X: '),
  ],
);
REQUESTS.push(...['/none', '/dropped', '/slow', '/page'].map((path) => get(path)));
REQUESTS.push(get('/page').replace('GET', 'DELETE'), get('/a.txt', 'Transfer-Encoding: x'));
REQUESTS.push(get('/a.txt', 'Content-Length: 1', 'Transfer-Encoding: chunked'));
// Those whose URI cannot be made a path, and those that never had one.
REQUESTS.push('GET /../x HTTP/1.1\r\nHost: x\r\n\r\n');
REQUESTS.push('GET /\x07 HTTP/1.1\r\nHost: x\r\n\r\n', 'BAD\r\n\r\n');

/** The three logs, line by line. */
async function lines(server: Running): Promise<Record<string, string[]>> {
  for (const request of [...REQUESTS, get('/last')]) await exchange(server.port, request);
  await server.logged('last.log', '/last');
  const own = (text: string): string => text.replaceAll(server.dir, '%DIR%').replaceAll(`:${server.port}`, ':#');
  return Object.fromEntries(ESCAPES.map((name) => [name, own(server.log(`${name}.log`)).split('\n')]));
}

describe.skipIf(!oracleAvailable)(`the lines of ${oracleVersion}`, () => {
  test.each(IO_MODES)('%s', async (io) => {
    const files = { 'html/a.txt': 'hello\n' };
    const servers = await Promise.all([
      startDebian(conf(HTTP), { dir: makePrefix(files) }),
      startLite(conf(HTTP), { io, dir: makePrefix(files) }),
    ]);
    try {
      const [theirs, ours] = await Promise.all(servers.map(lines));
      expect(theirs?.['default']).toHaveLength(REQUESTS.length + 1);
      // Each folder's file has its own time.
      const timeless = (text: unknown): string =>
        JSON.stringify(text, null, 1).replaceAll(/\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT/g, 'TIME');
      expect(timeless(ours)).toBe(timeless(theirs));
    } finally {
      await Promise.all(servers.map((each) => each.stop()));
      for (const { dir } of servers) rmSync(dir, { recursive: true });
    }
  });
});
