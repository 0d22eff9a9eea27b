/**
 * Modules together: filters behind filters, ranges of what they leave, error pages of what access says, variables that several
 * directives give. What Debian's nginx answers, over one configuration. Invariant: a row is here because it was answered otherwise once.
 */

import { createHash } from 'node:crypto';
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { deflateSync, gzipSync } from 'node:zlib';
import { compareWithNginx, get, head, old, unpacked } from '../support/oracle.ts';

const LINES = Array.from({ length: 100 }, (_, i) => `X${String(i).padStart(3, '0')}XXXXXX`).join('');
const PACKED = gzipSync(LINES);
const bytes = (text: string): string => Buffer.from(text).toString('latin1');
const FILES = {
  'html/a.html': LINES,
  'html/a.html.gz': PACKED,
  'html/only.gz': PACKED,
  'html/plain': 'not packed',
  'html/bad.gz': 'this is not gzip',
  'html/empty.gz': '',
  'html/raw.gz': deflateSync(LINES),
  'html/ssi.html': '[<!--#include virtual="/static/a.html" -->]',
  'html/found.html': 'found',
  'html/in/found.html': 'found within',
  'html/t': 'SEE-THIS',
  passwords: 'user:{PLAIN}secret\n',
};
const ACCEPT = 'Accept-Encoding: gzip';
const basic = (text: string): string => `Authorization: Basic ${Buffer.from(text, 'latin1').toString('base64')}`;
const digest = (text: string): string => createHash('md5').update(text).digest('base64url');
const LATER = '9999999999';
const TOO_LATE = '99999999999999999999';

compareWithNginx(
  FILES,
  [
    {
      name: 'combinations',
      explained: [{ why: 'chunks are cut differently', apply: unpacked }],
      http: `types { text/html html; text/plain txt; } default_type text/plain; charset_map B A { 58 59; }
    map $uri $mapped { default map; } map $uri $set_later { default map; }
    ancient_browser netscape4;
    server { listen 127.0.0.1:%PORT%; server_name x ~^Bar$; root html;
      location /static/ { alias html/; gzip_static on; gzip_vary on; }
      location /packed/ { alias html/; gzip_static always; gunzip on; gzip_vary on; }
      location /dated/ { alias html/; gzip on; gzip_proxied no_last_modified; }
      location /gz/ { alias html/; gzip on; gzip_min_length 1; }
      location /named/ { alias html/; charset utf-8; }
      location /A/ { alias html/; charset A; source_charset B; }
      location /justA/ { alias html/; charset A; }
      location /ssi/ { alias html/; ssi on; }
      location /trailer { alias html/t; add_trailer X-T "$uri"; }
      location /tag { alias html/t; expires 1h; add_header ETag '"own"'; }
      location /tagless { alias html/t; add_header ETag '"own"'; add_header ETag ""; }
      location /tagged { alias html/t; etag off; add_header X-A a; add_header ETag '"own"'; add_header X-B b; }
      location /weak { alias html/a.html; gzip on; gzip_types *; add_header ETag own; }
      location /sub1 { sub_filter_types *; sub_filter ${bytes('паттерн')} replaced; sub_filter Ä ae; sub_filter_once off; return 200 $arg_a; }
      location /sub2 { sub_filter_types *; sub_filter $arg_x 1; sub_filter $arg_y 2; return 200 $arg_a; }
      location /sub3 { sub_filter_types *; sub_filter_once off; sub_filter abc 1; sub_filter bcd 2; sub_filter b 3; return 200 $arg_a; }
      location /sub4 { sub_filter_types *; sub_filter_once off; sub_filter b 3; sub_filter abcd 1; sub_filter ab 2; return 200 $arg_a; }

      location /header { return 200 "$http_a|$arg_a|$cookie_a\\n"; }
      location /header/set { set $http_a 1; set $arg_a 2; set $cookie_a 3; return 200 "$http_a|$arg_a|$cookie_a\\n"; }
      location /map/captured { rewrite ^(?<mapped>.*) /x; return 200 "$mapped"; }
      location /map/set { set $set_later 1; return 200 "$set_later"; }
      location /map { return 200 "$set_later"; }
      location /rate { set $limit_rate $arg_l; return 200 "$limit_rate"; }
      location /status { return 203 "$status"; }
      location /redirect { rewrite ^ $arg_r? redirect; }
      location /moved { error_page 301 http://x/; error_page 307 =303 http://x/; error_page 308 = http://x/; if ($arg_c = 7) { return 307; } if ($arg_c = 8) { return 308; } return 301; }
      location /nothing { error_page 403 /found.html; return 403 ""; }
      location /rewritten/ { alias html/; rewrite ^ /found.html break; }
      location /broken/ { alias html/; rewrite ^ /found.html; break; }

      location /above/ { alias html/; location /above/in { } location ~ found { try_files $uri =404; } location = /above/exact { } }
      location /folder { root html; try_files $arg_f $arg_f/ =404; }

      location /no { return 403; } location /challenge { return 401; } location /own { add_header WWW-Authenticate own always; return 401; } location /close { return 444; } location /ok { return 204; }
      location /any { alias html/t; satisfy any; auth_basic r; auth_basic_user_file %DIR%/passwords; auth_request /challenge; }
      location /anyown { alias html/t; satisfy any; auth_basic r; auth_basic_user_file %DIR%/passwords; auth_request /own; }
      location /closed { alias html/t; auth_request /close; }
      location /args { alias html/t; auth_request /ok; auth_request_set $args "set"; auth_request_set $later x; add_header X-A "$args$later"; }
      location /unset { return 200 "[$later]"; }
      location /basic { alias html/t; auth_basic r; auth_basic_user_file %DIR%/passwords; }
      location /secret/ { secure_link_secret s; location = /secret/new { secure_link $arg_h,$arg_e; secure_link_md5 new$arg_e; return 200 "[$secure_link]"; } return 200 "[$secure_link]"; }
      location /referer { valid_referers server_names *.example.org; return 200 "[$invalid_referer]"; }
      location /browser { modern_browser unlisted; ancient_browser foo; return 200 "[$modern_browser|$ancient_browser]"; }
      location /content { return 204; }
    }`,
      requests: [
        ...['/static/a.html', '/packed/only', '/gz/a.html'].flatMap((path) => [
          get(path, ACCEPT, 'If-None-Match: *'),
          get(path, ACCEPT, 'If-Match: "x"'),
          head(path, ACCEPT),
        ]),
        ...['bad', 'empty', 'raw'].flatMap((name) => [get(`/packed/${name}`), old(`/packed/${name}`)]),
        get('/packed/empty', ACCEPT),
        get('/packed/empty.gz'),
        get('/dated/a.html', ACCEPT, 'Via: x'),
        ...['gzip;q=0.5\t,deflate', 'gzip;q=0.5;x', 'gzip;q=0.5 x', 'gzip;', 'gzip; ', 'gzip;q=1'].map((value) =>
          get('/gz/a.html', `Accept-Encoding: ${value}`),
        ),
        get('/trailer'),
        get('/trailer', 'Range: bytes=1-2'),
        get('/trailer', 'Range: bytes=-3'),
        head('/trailer', 'Range: bytes=1-2'),
        ...['/named/a.html', '/A/a.html', '/justA/a.html'].flatMap((path) => [
          get(path),
          get(path, 'Range: bytes=1-2'),
          get(path, 'Range: bytes=0-1,4-6'),
          get(path, 'Range: bytes=-3'),
          get(path, 'Range: bytes=5-6,0-1'),
          head(path, 'Range: bytes=1-2'),
        ]),
        get('/ssi/ssi.html', ACCEPT),
        get('/ssi/ssi.html'),
        ...['/tag', '/tagless', '/tagged', '/weak'].flatMap((path) => [
          get(path),
          get(path, ACCEPT),
          get(path, 'Range: bytes=0-1', 'If-Range: "own"'),
          get(path, 'If-None-Match: "own"'),
        ]),
        ...[`/sub1?a=${bytes('текст паттерн')}`, `/sub1?a=${bytes('äÄ')}`, '/sub2?a=abc', '/sub2?a=abc&y=b'].map(
          (path) => get(path),
        ),
        ...['b', 'ab', 'abc', 'abcb', 'bcd', 'xab', 'abx', 'abcab'].flatMap((text) => [
          get(`/sub3?a=${text}`),
          get(`/sub4?a=${text}`),
        ]),
        ...['/header?a=A', '/header/set?a=A', '/header'].map((path) => get(path, 'A: a', 'Cookie: a=c')),
        ...[
          '/map/captured',
          '/map/set',
          '/map',
          '/status',
          '/nothing',
          '/unset',
          '/moved',
          '/moved?c=7',
          '/moved?c=8',
        ].map((path) => get(path)),
        ...['40k', '1m', '1g', 'x', '', '-1', '700k'].map((rate) => get(`/rate?l=${rate}`)),
        ...['%', '%2', '%z', '%zz', '%2z9', 'http%3A%2F%2Fx%2F%3Fa', '/%41%20'].map((target) =>
          get(`/redirect?r=${target}`),
        ),
        ...['/rewritten/x', '/rewritten/', '/broken/x', '/link/found.html'].map((path) => get(path)),
        ...['/above/found.html', '/above/in/found.html', '/above/in/t', '/above/int', '/above/t', '/above/exact'].map(
          (path) => get(path),
        ),
        ...['', '?f=', '?f=/in', '?f=/t'].map((query) => get(`/folder${query}`)),
        ...['/any', '/anyown', '/closed', '/args?a=b'].flatMap((path) => [
          get(path),
          get(path, basic('user:wrong')),
          get(path, basic('user:secret')),
        ]),
        get('/basic', basic('user:secret\0more')),
        get('/basic', 'Authorization: Basic dXNl cjpzZWNyZXQ='),
        get('/basic', 'Authorization: Basic dXNlcjpzZWNyZXQ=more'),
        get('/basic', 'Authorization: Basic dXNlcjpzZWNyZXQ-'),
        get(`/secret/new?h=${digest(`new${LATER}`)}&e=${LATER}`),
        get(`/secret/new?h=${digest(`new${LATER}`).replaceAll('-', '+').replaceAll('_', '/')}&e=${LATER}`),
        get(`/secret/new?h=${digest(`new${LATER}`)}==&e=${LATER}`),
        get(`/secret/new?h=${digest(`new${TOO_LATE}`)}&e=${TOO_LATE}`),
        get('/secret/x'),
        ...[
          'http://bAr',
          'http://bAr/uri',
          'http://xbar',
          'http://a.example.org',
          `http://${'a'.repeat(250)}.example.org`,
        ].map((referer) => get('/referer', `Referer: ${referer}`)),
        get('/browser', 'User-Agent: Mozilla/4.7 [en] (X11)'),
        get('/browser', 'User-Agent: foo and more'),
        get('/content', 'Content-Range: bytes 0-1/2', 'Content-Range: bytes 0-1/2'),
      ],
    },
  ],
  (dir) => symlinkSync('html', join(dir, 'link')),
);
