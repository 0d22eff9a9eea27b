/** add_before_body and add_after_body: what Debian's nginx answers. */

import { compareWithNginx, get, head, old, unpacked } from '../support/oracle.ts';

const FILES = {
  'html/a.html': '<p>main one</p>\n',
  'html/long.html': 'main '.repeat(100_000),
  'html/a.txt': 'text\n',
  'html/before.html': '<b>one before</b>\n',
  'html/after.html': '<i>one after</i>\n',
  'html/big.html': 'big '.repeat(400_000),
  'html/empty.html': '',
  'html/dir/index.html': 'index\n',
  users: 'u:{PLAIN}p\n',
};

compareWithNginx(FILES, [
  {
    name: 'addition',
    explained: [{ why: 'chunks are cut differently', apply: unpacked }],
    http: `types { text/html html; text/plain txt; } limit_req_zone $uri zone=z:1m rate=100r/s;
    server { listen 127.0.0.1:%PORT%; root html;
      location /both/ { alias html/; add_before_body /before.html; add_after_body /after.html; }
      location /before/ { alias html/; add_before_body /before.html; }
      location /after/ { alias html/; add_after_body /after.html; }
      location /types/ { alias html/; add_after_body /after.html; addition_types text/plain; }
      location /none/ { alias html/; add_before_body /gone; add_after_body /closed/a.html; }
      location /index/ { alias html/; add_before_body /dir/; add_after_body /redirect; }
      location /text/ { alias html/; add_before_body /return; add_after_body /return; }
      location /sub/ { alias html/; add_before_body /subbed; add_after_body /after.html; sub_filter one 1; }
      location /gz/ { alias html/; add_before_body /before.html; add_after_body /after.html; gzip on; gzip_min_length 0; }
      location /big/ { alias html/; add_before_body /big.html; add_after_body /big.html; }
      location /secret/ { alias html/; add_before_body /closed/before.html; add_after_body /late/after.html; }
      location /page/ { alias html/; add_before_body /before.html; error_page 404 /a.html; }
      location /off/ { add_before_body /before.html; location /off/in/ { alias html/; add_before_body ""; } alias html/; }
      location /self/ { alias html/; add_before_body /self/before.html; }
      location /closed/ { alias html/; deny all; }
      location /late/ { alias html/; limit_req zone=z burst=100; }
      location = /subbed { sub_filter one 2; alias html/before.html; }
      location = /return { return 200 "returned $uri\\n"; }
      location = /redirect { return 302 /x; error_page 302 = /text; }
      # Built-in pages name the product, and chunks count its letters.
      location = /gone { return 404 "no such part\\n"; }
      error_page 403 /forbidden; location = /forbidden { return 403 "not for you\\n"; }
      location = /text { return 200 "text\\n"; }
    }`,
    requests: [
      ...[
        'both',
        'before',
        'after',
        'types',
        'none',
        'index',
        'text',
        'sub',
        'gz',
        'secret',
        'page',
        'off',
        'off/in',
        'self',
      ]
        .flatMap((name) => [
          get(`/${name}/a.html`),
          get(`/${name}/a.txt`),
          get(`/${name}/empty.html`),
          get(`/${name}/missing.html`),
          head(`/${name}/a.html`),
          old(`/${name}/a.html`),
          get(`/${name}/a.html`, 'Accept-Encoding: gzip'),
          get(`/${name}/a.html`, 'Range: bytes=0-3'),
          get(`/${name}/a.html`, 'If-Modified-Since: Sun, 01 Mar 2026 10:20:30 GMT'),
          get(`/${name}/a.html`) + get('/a.txt'),
          `${get(`/${name}/a.html`, 'Content-Length: 3')}abc${get('/a.txt')}`,
        ])
        .filter((each) => !each.includes('/sub/missing')),
      get('/both/long.html'),
      get('/gz/long.html', 'Accept-Encoding: gzip'),
      get('/big/a.html'),
      get('/big/long.html') + get('/a.txt'),
    ],
  },
]);
