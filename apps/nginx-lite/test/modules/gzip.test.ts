/** gzip, gunzip, gzip_static, charset: what Debian's nginx answers, with bodies unpacked before they are compared. */

import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { listsGzip } from '../../src/modules/gzip/accepts.ts';
import { compareWithNginx, get, head, old, unpacked } from '../support/oracle.ts';

const TEXT = 'hello, world. '.repeat(300);
const LARGE = Array.from({ length: 200_000 }, (_, i) => String((i * 7919) % 10_007)).join(' ');
const FILES = {
  'html/a.html': TEXT,
  'html/a.txt': TEXT,
  'html/short.html': 'short',
  'html/exact20.html': 'x'.repeat(20),
  'html/large.html': LARGE,
  'html/s.html': 'plain s',
  'html/s.html.gz': gzipSync('packed s'),
  'html/only.html.gz': gzipSync('only packed'),
  'html/d.html': 'd',
  'html/d.html.gz/x': 'a folder',
};
const TYPES = 'types { text/html html; text/plain txt; }';

const ACCEPT = 'Accept-Encoding: gzip, deflate, br';
const explained = [{ why: 'compressors cut and pack differently', apply: unpacked }];
const ACCEPTED = [
  'gzip',
  'gzip,deflate',
  'deflate, gzip',
  'gzip;q=0',
  'gzip;q=0.0',
  'gzip;q=0.001',
  'gzip; q=1',
  'x-gzip',
  'deflate',
  '*',
  'GZIP',
  'gzip ;q=0',
  'gzi',
  'identity, gzip;q=0.5',
  'gzip;q=2',
  'gzip;x',
  'gzipx',
  'deflate,gzip;q=1.000',
  '',
];

compareWithNginx(FILES, [
  {
    name: 'gzip',
    explained,
    http: `${TYPES} server { listen 127.0.0.1:%PORT%; root html; gzip on;
      location /vary/ { alias html/; gzip_vary on; gzip_types text/plain; }
      location /off/ { alias html/; gzip off; gzip_vary on; }
      location /all/ { alias html/; gzip_types *; gzip_comp_level 9; gzip_min_length 1000; }
      location /old/ { alias html/; gzip_http_version 1.0; }
      location /any/ { alias html/; gzip_proxied any; }
      location /auth/ { alias html/; gzip_proxied auth no_etag; }
      location /exp/ { alias html/; gzip_proxied expired; expires -1; }
      location /priv/ { alias html/; gzip_proxied private no-cache; add_header Cache-Control private; }
      location /dis/ { alias html/; gzip_disable "MSIE [1-6]\\." msie6; }
      location /hdr/ { alias html/; add_header X-A $sent_http_content_encoding; }
      location /ret/ { default_type text/html; return 200 "a text that is longer than twenty bytes\\n"; }
      location /nochunk/ { alias html/; chunked_transfer_encoding off; }
    }`,
    requests: [
      ...[
        '/a.html',
        '/a.txt',
        '/short.html',
        '/exact20.html',
        '/large.html',
        '/vary/a.html',
        '/vary/a.txt',
        '/off/a.html',
        '/all/a.txt',
        '/all/short.html',
        '/old/a.html',
        '/any/a.html',
        '/hdr/a.html',
        '/ret/',
        '/missing',
        '/vary',
        '/nochunk/a.html',
      ].flatMap((path) => [
        get(path, ACCEPT),
        get(path),
        head(path, ACCEPT),
        old(path, ACCEPT),
        old(path, ACCEPT, 'Connection: keep-alive'),
        get(path, ACCEPT, 'Via: x'),
      ]),
      ...ACCEPTED.map((value) => get('/a.html', `Accept-Encoding: ${value}`)),
      ...['/auth/a.html', '/exp/a.html', '/priv/a.html', '/any/a.html'].flatMap((path) => [
        get(path, ACCEPT, 'Via: x'),
        get(path, ACCEPT, 'Via: x', 'Authorization: y'),
      ]),
      ...['MSIE 6.0', 'MSIE 6.0 SV1', 'MSIE 7.0', 'Firefox'].map((agent) =>
        get('/dis/a.html', ACCEPT, `User-Agent: Mozilla/4.0 (compatible; ${agent})`),
      ),
      get('/a.html', ACCEPT, 'Range: bytes=0-9'),
      get('/a.html', ACCEPT, 'If-None-Match: *'),
      get('/a.html', ACCEPT, 'If-Modified-Since: Sun, 01 Mar 2026 10:20:30 GMT'),
      get('/a.html', ACCEPT) + get('/a.html', ACCEPT).replace('Host', 'X: y\r\nHost') + get('/short.html'),
    ],
  },
  {
    name: 'gzip_static and gunzip',
    http: `${TYPES} server { listen 127.0.0.1:%PORT%; root html; gzip_static on;
      location /vary/ { alias html/; gzip_vary on; }
      location /always/ { alias html/; gzip_static always; }
      location /gun/ { alias html/; gzip_static always; gunzip on; gzip_vary on; }
      location /off/ { alias html/; gzip_static off; }
    }`,
    explained: [{ why: 'chunks are cut differently', apply: unpacked }],
    requests: [
      '/s.html',
      '/only.html',
      '/d.html',
      '/a.html',
      '/vary/s.html',
      '/always/s.html',
      '/always/only.html',
      '/gun/s.html',
      '/gun/a.html',
      '/off/s.html',
      '/off/only.html',
      '/',
    ].flatMap((path) => [
      get(path, ACCEPT),
      get(path),
      head(path, ACCEPT),
      head(path),
      get(path, ACCEPT, 'Range: bytes=0-3'),
      old(path, ACCEPT),
      get(path, ACCEPT).replace('GET', 'POST'),
    ]),
  },
  {
    name: 'charset',
    http: `${TYPES} server { listen 127.0.0.1:%PORT%; root html; charset utf-8;
      location /off/ { alias html/; charset off; }
      location /types/ { alias html/; charset koi8-r; charset_types text/css; }
      location /var/ { alias html/; charset $arg_c; }
      location /r/ { return 301 /x; } location /t/ { default_type text/plain; return 200 "t\\n"; } location /j/ { default_type image/png; return 200 "j\\n"; }
    }`,
    requests: [
      '/short.html',
      '/a.txt',
      '/s.html.gz',
      '/off/a.txt',
      '/types/a.txt',
      '/types/a.html',
      '/var/a.txt?c=latin1',
      '/missing',
      '/r/',
      '/t/',
      '/j/',
      '/off',
    ].flatMap((path) => [get(path), head(path)]),
  },
]);

test('listsGzip takes gzip only where its weight is not zero', () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom('deflate', 'br', 'identity', 'x-gzip', '*')),
      fc.nat(1000),
      (others, weight) => {
        expect(listsGzip(others.join(', '))).toBe(false);
        const entry = `gzip;q=${(weight / 1000).toFixed(3)}`;
        expect(listsGzip([...others, entry].join(','))).toBe(weight > 0);
      },
    ),
  );
});
