/** Words of configurations that real sites have: expires by a variable, variables of modules that are not here, many header lines, odd networks. */

import { expect, test } from 'vitest';
import { exchange } from '../support/client.ts';
import { compareWithNginx, get, head } from '../support/oracle.ts';
import { conf, IO_MODES, startLite } from '../support/server.ts';

const NAMES = [
  ...['fastcgi_path_info', 'fastcgi_script_name', 'http2', 'proxy_add_x_forwarded_for', 'proxy_port', 'proxy_host'],
  ...['ssl_protocol', 'ssl_cipher', 'ssl_server_name', 'ssl_client_s_dn', 'upstream_addr', 'upstream_response_time'],
  ...['upstream_status', 'upstream_cookie_a', 'upstream_http_x', 'upstream_trailer_x', 'upstream_cache_status'],
  ...['arg_', 'arg_a', 'cookie_a', 'http_', 'http_via', 'http_x_forwarded_for', 'sent_http_', 'sent_trailer_'],
];
const LINES = (count: number): string[] => Array.from({ length: count }, (_, i) => `A${i}: b`);
const EXPIRES = ['1h', '-1h', '%2B5m', 'max', 'off', 'epoch', '@25h', 'x', '', '1', '24h', '1d1h'];
const ADDRESSES = [
  '1.1.0.255',
  '1.1.1.0',
  '1.1.1.5',
  '1.1.255.255',
  '1.2.0.0',
  '1.2.1.9',
  '1.2.1.10',
  '9.9.9.9',
  'x',
  '::1',
];

/** The same, asked of another server. */
const of = (server: string, requests: string[]): string[] =>
  requests.map((each) => each.replace('example.com', server));

compareWithNginx({ 'html/a.html': 'hello', 'html/b.css': 'b' }, [
  {
    name: 'expires by a variable, variables without value, max_headers, geo',
    http: `types { text/html html; text/css css; } large_client_header_buffers 8 64k;
    map $sent_http_content_type $expires { default off; text/html epoch; text/css max; ~image/ 1M; }
    map $arg_rate $limit_rate { default 0; slow 1m; }
    geo $arg_a $range { ranges; default none; 1.1.1.0-1.2.1.9 a; 1.1.1.4-1.1.1.6 b; 1.2.0.0-1.2.0.0 c; 1.2.1.9-1.2.1.9 d;
      8.8.8.8-9.9.9.9 x; delete 8.8.8.8-8.8.255.255; 10.0.0.0-10.0.0.9 e; delete 10.0.0.0-10.0.0.8; }
    geo $arg_a $net { 1.1.0.0/16 a; 1.1.1.0/24 b; 255.255.255.255 last; ::/0 six; delete 1.1.1.0/24; 01.02.1.9 zero; }
    server { listen 127.0.0.1:%PORT%; server_name example.com; root html; expires $expires;
      location /arg/ { alias html/; expires $arg_e; }
      location /modified/ { alias html/; expires modified $arg_e; }
      location /text/ { default_type text/plain; return 200 "${NAMES.map((name) => `${name}=$${name}`).join(' ')}"; }
      location /geo { default_type text/plain; return 200 "$range $net"; }
    }
    server { listen 127.0.0.1:%PORT%; server_name few; max_headers 5; return 200 "few"; }
    server { listen 127.0.0.1:%PORT%; server_name none; max_headers 0; return 200 "none"; }`,
    requests: [
      ...['/a.html', '/b.css', '/missing'].flatMap((path) => [get(path), head(path)]),
      ...EXPIRES.flatMap((text) => [get(`/arg/a.html?e=${text}`), get(`/modified/a.html?e=${text}`)]),
      ...['/text/', '/text/y?=x&a=b&a=c', '/text/?a', '/text/?rate=slow'].flatMap((path) => [
        get(path),
        get(path, 'X-Forwarded-For: 1.2.3.4', 'X-Forwarded-For: 5.6.7.8', 'Cookie: =x; a=b', 'Via: a'),
      ]),
      ...[998, 999, 1000].map((count) => get('/a.html', ...LINES(count))),
      // What is ignored does not count.
      ...of(
        'few',
        [3, 4, 5].flatMap((count) => [get('/', ...LINES(count)), get('/', ...LINES(count), 'a_b: c')]),
      ),
      ...of('none', [get('/')]),
      ...ADDRESSES.map((address) => get(`/geo?a=${address}`)),
    ],
  },
]);

test.each(IO_MODES)('too many header lines are logged, %s', async (io) => {
  const server = await startLite(conf('server { listen 127.0.0.1:%PORT%; max_headers 2; return 200; }'), { io });
  try {
    expect(await exchange(server.port, get('/', 'A: b', 'C: d'))).toMatch(/^HTTP\/1\.1 400 /);
    await server.logged('error.log', 'client sent too many header lines while reading client request headers');
  } finally {
    await server.stop();
  }
});
