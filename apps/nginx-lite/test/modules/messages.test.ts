/** What requests write to the error log: line by line what Debian's nginx writes. */

import { describe, expect, test } from 'vitest';
import { exchange } from '../support/client.ts';
import { get, oracleAvailable, oracleVersion } from '../support/oracle.ts';
import { conf, IO_MODES, makePrefix, type Running, startDebian, startLite } from '../support/server.ts';

const FILES = {
  'html/a.html': '<!--#echo var="none" --><!--#nothing -->',
  'html/tags.html':
    '<!--#echo va-r="x" --><!--#include --><!--#include virtual="/../x" --><!--#include virtual="/missing" --><!--#if expr="a b" --><!--#endif --><!--#set var="x" value="${" --><!--#include virtual="/a.html" wait="maybe" --><!--#include virtual="/a.html" -->',
  'html/dir/x': 'x',
  'html/no/index.html/x': 'x',
  'html/secret': 'secret',
  users: 'u:{PLAIN}p\nbroken\n',
};

const HTTP = `types { text/html html; } log_format unset "$uri $never"; limit_req_zone $arg_k zone=z:1m rate=1r/m; limit_req_zone $arg_k zone=y:1m rate=1r/m; limit_conn_zone x$http_x_key zone=c:1m;
  server { listen 127.0.0.1:%PORT%; server_name s.example; root html;
    location /ssi/ { alias html/; ssi on; }
    location /quiet/ { log_not_found off; }
    location /denied/ { deny all; }
    location /any/ { satisfy any; deny all; auth_basic r; auth_basic_user_file %DIR%/users; }
    location /auth/ { auth_basic realm; auth_basic_user_file %DIR%/users; }
    location /nousers/ { auth_basic realm; auth_basic_user_file %DIR%/nousers; }
    location /log/ { rewrite_log on; rewrite ^/log/a$ /log/b; rewrite ^/log/(b)$ /dir/$1?x last; rewrite ^/log/c /d redirect; if ($arg_x = y) { set $v 1; break; } if ($arg_x ~ ^z) { return 404; } }
    location /unset/ { if ($arg_never) { set $never 1; } return 200 "$never"; }
    location /unsetfile/ { alias html/; if ($arg_never) { set $never 1; } add_header X-Never "$never"; }
    location /unsetlog/ { alias html/; access_log logs/unset.log unset; }
    location /unwarned/ { uninitialized_variable_warn off; return 200 "$never"; }
    location /loop/ { rewrite ^ /loop/x; }
    location /redirects/ { error_page 404 /redirects/y; recursive_error_pages on; }
    location /named/ { try_files /nothing @none; }
    location /cycle/ { try_files /nothing /cycle/z; }
    location /limit/ { limit_req zone=z; limit_req_log_level info; }
    location /dry/ { limit_req zone=y; limit_req_dry_run on; }
    location /authreq/ { auth_request /answer; } location = /answer { return 500; }
    location /internal/ { internal; }
    location /realpath { root none; return 200 "$realpath_root"; } location /rate { set $limit_rate $arg_r; return 200; }
    location /long/ { limit_conn c 1; alias html/; } location /uid/ { userid on; alias html/; }
    location /small/ { client_max_body_size 1; }
    location /charset/ { alias html/; charset $arg_c; source_charset koi8-r; }
    location /post/ { } location /random/ { random_index on; }
  }`;

const basic = (text: string): string => `Authorization: Basic ${Buffer.from(text).toString('base64')}`;
const REQUESTS = [
  get('/missing'),
  get('/missing/'),
  get('/dir/'),
  get('/a.html/x'),
  get('/no/'),
  get(`/${'x'.repeat(300)}`),
  get('/quiet/missing'),
  get('/denied/x', 'Referer: http://r.example/"q"'),
  get('/any/x'),
  get('/any/x', basic('u:wrong')),
  get('/auth/x'),
  get('/auth/x', basic('u:wrong')),
  get('/auth/x', basic('nobody:p')),
  get('/auth/x', 'Authorization: Basic !!!'),
  get('/auth/x', 'Authorization: Digest x'),
  get('/nousers/x', basic('u:p')),
  get('/log/a'),
  get('/log/c'),
  get('/log/d?x=y'),
  get('/log/d?x=zz'),
  get('/unset/'),
  get('/unsetfile/a.html'),
  get('/unsetlog/a.html'),
  get('/unsetlog/a.html'),
  get('/unwarned/'),
  get('/loop/'),
  get('/redirects/'),
  get('/named/'),
  get('/cycle/'),
  get('/limit/?k=1'),
  get('/limit/?k=1'),
  get('/dry/?k=1'),
  get('/dry/?k=1'),
  get('/authreq/x'),
  get('/internal/x'),
  get('/small/', 'Content-Length: 5'),
  get('/ssi/a.html'),
  get('/ssi/tags.html'),
  get('/post/', 'Content-Length: x'),
  get('/', 'Host: other'),
  get('/', 'Transfer-Encoding: x'),
  get('/', 'Bad Header: x'),
  get('/', 'bad_header: x', 'b@d: "x"'),
  get('/', 'X: a\rb'),
  get('/realpath'),
  get('/rate?r=x'),
  get('/long/', `X-Key: ${'x'.repeat(300)}`),
  get('/dry/?k=2', 'X: y'),
  get('/uid/a.html', 'Cookie: a=b; uid=short'),
  get('/', `X: ${'x'.repeat(40_000)}`),
  get(`/${'x'.repeat(40_000)}`),
  'GET / HTTP/1.1\r\n\r\n',
  'GET /../../x HTTP/1.1\r\nHost: x\r\n\r\n',
  'G\x01T / HTTP/1.1\r\n\r\n',
  'GET / HTTP/9.9\r\n\r\n',
  'GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n',
  'GET / HTTP/1.1\r\nHost: a/b\r\n\r\n',
  'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
  'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n',
  'GET /missing HTTP/1.1\r\nHo',
  '\x16\x03\x01',
];

/** Lines of the error log, without time, process, and numbers of connections. */
async function linesOf(start: () => Promise<Running>): Promise<string[][]> {
  const server = await start();
  const lines: string[][] = [];
  let seen = server.log('error.log').length;
  for (const request of REQUESTS) {
    await exchange(server.port, request);
    // The log may be written after the answer: a marker of our own comes behind it.
    const marker = `/marker-${lines.length}`;
    await exchange(server.port, get(marker));
    const log = await server.logged('error.log', new RegExp(`"[^"\\n]*${marker}" failed[^\\n]*\\n`));
    lines.push(
      log
        .slice(seen)
        .split('\n')
        .filter((line) => line !== '' && !/\/marker-|client \S+ closed keepalive|start worker process/.test(line))
        .map((line) =>
          line
            .replace(/^\S+ \S+ (\[\w+\]) \S+ (?:\*\d+ )?/, '$1 ')
            .replaceAll(server.dir, 'DIR')
            // It grows less while time passes.
            .replace(/excess: [\d.]+/, 'excess: #')
            // Ours are safe to look at on a terminal.
            .replaceAll(/[\x00-\x1f]/g, (ch) => `\\x${ch.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`),
        ),
    );
    seen = log.length;
  }
  await server.stop();
  return lines;
}

describe.skipIf(!oracleAvailable)(`the same lines as ${oracleVersion}`, () => {
  test.each(IO_MODES)('%s', async (io) => {
    const [theirs, ours] = await Promise.all([
      linesOf(() => startDebian(conf(HTTP), { dir: makePrefix(FILES) })),
      linesOf(() => startLite(conf(HTTP), { io, dir: makePrefix(FILES) })),
    ]);
    const pairs = REQUESTS.map((request, i) => ({ request: request.slice(0, 60), nginx: theirs[i], ours: ours[i] }));
    expect(pairs.filter((each) => JSON.stringify(each.nginx) !== JSON.stringify(each.ours))).toEqual([]);
  });
});
