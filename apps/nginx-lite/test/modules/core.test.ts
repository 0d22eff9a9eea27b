/** Corners of the core that nginx's own tests look into, asked of Debian's nginx: aliases that are inherited, added validators, ranges of filtered bodies. */

import { compareWithNginx, type Group, get, head, old } from '../support/oracle.ts';

const FILES = {
  'html/index.html': 'index\n',
  'html/a.txt': 'hello, world\n',
  'html/dir/b.txt': 'b\n',
  'html/we"i#%<>?\\^`{|}/x': 'x\n',
  'html/big.bin': 'X'.repeat(100_000),
  'html/huge.bin': 'X'.repeat(1_200_000),
};
const ETAG = '"69a412ee-d"';

const GROUPS: Group[] = [
  {
    name: 'paths',
    http: `server { listen 127.0.0.1:%PORT%; root html; keepalive_timeout 10 20;
      location /alias/ { alias html/;
        location /alias/dir/ { } location ~ \\.txt$ { add_header X-In regex; } location = /alias/a { try_files $uri.txt =404; }
        location ~ try { try_files $uri /alias/a.txt =404; } location /alias/quiet { keepalive_timeout 30s; } }
      location ~ ^/all/(.*)$ { alias html/$1; location ~ txt { return 200 "$request_filename"; } }
      location /fall/ { alias html/; try_files $uri /fall//fall/a.txt$arg_none; }
      location /status { return 200 "$status|$request_method"; }
      location /gone { error_page 410 /status; return 410; }
      location /301 { return 301 /$status; }
      location /user { return 200 "$remote_user|$limit_rate"; }
      location /rate { set $limit_rate $arg_l; limit_rate 1m; return 200 "$limit_rate"; }
      location /host { return 200 "$host"; }
      location ~ "^/prop/\\p{Lu}\\pN[\\p{L}_]\\P{N}\\p{^L}$" { return 200 "property\\n"; }
    }`,
    requests: [
      ...['/alias/', '/alias/dir/b.txt', '/alias/dir', '/alias/a.txt', '/alias/a', '/alias/try', '/alias/try/a.txt'],
      ...['/all/a.txt', '/all/dir', '/fall/dir/b.txt', '/fall/none', '/status', '/gone', '/301'],
      ...['40k', 'x', '', '-1', '070k'].map((rate) => `/rate?l=${rate}`),
      ...['/we%22i%23%25%3C%3E%3F%5C%5E%60%7B%7C%7D', '/prop/A1_-1', '/prop/A1\xc0x-', '/prop/a1_-1', '/prop/A1_11'],
      ...['/alias/quiet'],
    ]
      .map((path) => get(path))
      .concat([
        get('/gone', 'Content-Length: 1').replace('GET', 'POST').concat('x'),
        ...['dXNlcjpz', '  dXNlcjpz', 'dXNlcjpz dXNlcjpz', 'dXN-cjpz_WNyZXQ=', 'dX Nlcjpz', 'dXNlcjpzZ', 'OnM='].map(
          (text) => get('/user', `Authorization: Basic ${text}`),
        ),
        get('/host').replace('example.com', 'A\xc0.B'),
        get('/host', 'Content-Range: a', 'Content-Range: b'),
      ]),
  },
  {
    name: 'headers of answers',
    http: `charset_map recoded plain { 58 59; }
    server { listen 127.0.0.1:%PORT%; root html;
      location /etag/ { alias html/; add_header B b; add_header ETag '"mine"'; add_header A a; expires epoch; location /etag/gz/ { alias html/; add_header eTaG $arg_e; gzip on; gzip_types *; gzip_min_length 1; } }
      location /twice/ { alias html/; add_header ETag x; add_header ETag y; add_header X $sent_http_etag; add_header ETag ""; }
      location /new { add_header A a; add_header ETag z; add_header B b; return 200 x; }
      location /time/ { alias html/; add_header A a; add_header Last-Modified "Mon, 28 Sep 1970 06:00:00 GMT"; add_header X $sent_http_last_modified; location /time/ssi/ { alias html/; ssi on; ssi_types *; add_header Last-Modified x; } }
      location /no/ { alias html/; add_header Last-Modified x; add_header Last-Modified ""; }
      location /trail/ { alias html/; add_trailer T $status; }
      location /charset/ { alias html/; charset utf-8; charset_types *; }
      location /recode/ { alias html/; charset plain; source_charset recoded; charset_types *; }
      location /page/ { alias html/; error_page 416 /a.txt; }
      location /login { error_page 401 =302 http://login/; auth_basic x; auth_basic_user_file none; }
      location /mod { alias html/a.txt; expires modified $arg_e; }
    }`,
    requests: [
      ...['/etag/a.txt', '/twice/a.txt', '/new', '/time/a.txt', '/no/a.txt', '/login', '/mod?e=0', '/time/ssi/a.txt'],
    ]
      .flatMap((path) => [get(path), head(path), old(path)])
      .concat(
        ['"x"', 'W/"x"', 'x', ''].map((tag) => get(`/etag/gz/a.txt?e=${tag}`, 'Accept-Encoding: gzip')),
        ['/etag/', '/time/', '/no/', '/page/'].flatMap((path) =>
          ['"mine"', ETAG, 'Mon, 28 Sep 1970 06:00:00 GMT', 'Sun, 01 Mar 2026 10:20:30 GMT'].map((value) =>
            get(`${path}a.txt`, 'Range: bytes=0-1', `If-Range: ${value}`),
          ),
        ),
        ['/trail/', '/charset/', '/recode/', '/page/'].flatMap((path) => [
          ...['1-3', '-2', '1-2,4-5,-3', '3-2', '99-', '0-9223372036854775807', '0-9223372036854775808'].map((range) =>
            get(`${path}a.txt`, `Range: bytes=${range}`),
          ),
          // Kept apart from small files, and not kept at all.
          get(`${path}big.bin`, 'Range: bytes=1-2,4-5,-9'),
          get(`${path}huge.bin`, 'Range: bytes=1000000-1000009'),
        ]),
      ),
    explained: [
      {
        why: 'zlib of Node.js packs otherwise',
        apply: (text) => text.replace(/\r\n[0-9a-f]+\r\n\x1f\x8b[\s\S]*/, '\r\nGZIP'),
      },
      // nginx cuts a file where its buffers end, and puts the bytes between parts into chunks of their own.
      { why: 'chunks end elsewhere', apply: unchunked },
    ],
  },
  {
    name: 'names of servers that share an address',
    http: ['First.Example', 'Second.Example *.Third.Example', '~^Fourth']
      .map((names) => `server { listen 127.0.0.1:%PORT%; server_name ${names}; return 200 "$server_name|$host"; }`)
      .join('\n'),
    requests: ['FIRST.example', 'second.Example', 'A.third.example', 'Fourth', 'other'].map((host) =>
      get('/').replace('example.com', host),
    ),
  },
  {
    name: 'the name of a server by itself',
    http: 'server { listen 127.0.0.1:%PORT%; server_name First.Example; return 200 "$server_name|$host"; }',
    requests: [get('/'), get('/').replace('example.com', 'FIRST.example')],
  },
];

/** Without the sizes of chunks: that of a page depends on the product's name, too. */
function unchunked(text: string): string {
  if (!/^Transfer-Encoding: chunked\r$/m.test(text)) return text;
  const end = text.indexOf('\r\n\r\n') + 2;
  return text.slice(0, end) + text.slice(end).replace(/\r\n[0-9a-f]+\r\n/g, '');
}

compareWithNginx(FILES, GROUPS);
