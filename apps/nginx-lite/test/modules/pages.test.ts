/** autoindex, valid_referers, secure_link, add_trailer, realip, PROXY protocol: what Debian's nginx answers. */

import { createHash } from 'node:crypto';
import { lutimesSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseProxyHeader } from '../../src/http/proxy-protocol.ts';
import { compareWithNginx, FILE_TIME, get, head, old, unpacked } from '../support/oracle.ts';

const FILES = {
  'html/list/a.txt': 'a\n',
  'html/list/B.txt': 'b'.repeat(20_000),
  'html/list/sub/x': 'x',
  'html/list/zsub/y': 'y',
  'html/list/with space & <tag> "q"': 's',
  'html/list/ümlaut.txt': 'u',
  'html/list/percent%41?#;': 'p',
  'html/list/.hidden': 'h',
  [`html/list/${'long'.repeat(20)}.txt`]: 'l'.repeat(2_000_000),
  [`html/list/${'n'.repeat(50)}`]: '1',
  [`html/list/${'n'.repeat(51)}`]: '2',
  [`html/list/${'ü'.repeat(60)}`]: '3',
  'html/list/empty/.keep': '',
  'html/list/new\nline\\': 'n',
  'html/a.txt': 'a\n',
  'html/big.txt': 'x'.repeat(100_000),
};
const md5 = (text: string, encoding: 'base64url' | 'hex'): string => createHash('md5').update(text).digest(encoding);
const REFERERS = [
  '',
  'http://example.com/',
  'https://EXAMPLE.com:8080/x',
  'http://www.example.org/',
  'http://a.b.example.org',
  'http://example.org/',
  'http://other.net/',
  'http://mail.de/',
  'http://path.com/ok/x',
  'http://path.com/no',
  'garbage',
  'http://a.b',
  'ftp://example.com/long',
  'http://self/',
  'http://rx1.test/',
  'http://rxx.test/',
  'http://dot.se/',
  'http://x.dot.se/',
];
/** The folder's own dates are those of the test. */
const dates = [
  {
    why: 'folders are as old as the test',
    apply: (text: string) =>
      text
        .replaceAll(/(\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d)(?= +-\r)/g, 'DATE')
        .replaceAll(/("type":"directory", "mtime":")[^"]*/g, '$1')
        .replaceAll(/(<directory mtime=")[^"]*/g, '$1'),
  },
];
const v2 = (command: number, family: number, body: number[]): string =>
  String.fromCharCode(
    13,
    10,
    13,
    10,
    0,
    13,
    10,
    0x51,
    0x55,
    0x49,
    0x54,
    10,
    0x20 | command,
    family,
    body.length >> 8,
    body.length & 255,
    ...body,
  );

compareWithNginx(
  FILES,
  [
    {
      name: 'autoindex',
      explained: [{ why: 'chunks are cut differently', apply: unpacked }, ...dates],
      http: `server { listen 127.0.0.1:%PORT%; root html; autoindex on;
      location /json/ { alias html/list/; autoindex_format json; }
      location /jsonp/ { alias html/list/; autoindex_format jsonp; }
      location /xml/ { alias html/list/; autoindex_format xml; }
      location /round/ { alias html/list/; autoindex_exact_size off; }
      location /off/ { alias html/list/; autoindex off; }
      location /utf8/ { alias html/list/; charset utf-8; }
      location /utf8/json/ { alias html/list/; charset utf-8; autoindex_format json; }
      location /noslash/ { alias html/list; }
      location /noslash/off/ { alias html/list; autoindex off; }
    }`,
      requests: [
        '/list/',
        '/json/',
        '/jsonp/',
        '/jsonp/?callback=f.b',
        '/jsonp/?callback=%3Cx',
        '/xml/',
        '/round/',
        '/off/',
        '/utf8/',
        '/utf8/json/',
        '/noslash/',
        '/noslash/a.txt',
        '/noslash/off/',
        '/list/sub/',
        '/list/empty/',
        '/json/empty/',
        '/missing/',
        '/list',
        '/a.txt/',
        '/xml/empty/',
      ].flatMap((path) => [get(path), head(path), old(path), get(path).replace('GET', 'POST')]),
    },
    {
      name: 'referers and secure links',
      http: `server { listen 127.0.0.1:%PORT%; server_name self; root html;
      location /r/ { valid_referers none blocked example.com *.example.org mail.* path.com/ok .dot.se ~^rx\\d\\.; return 200 "[$invalid_referer]\\n"; }
      location /late/ { valid_referers none; valid_referers server_names; return 200 "[$invalid_referer]\\n"; }
      location /s/ { valid_referers server_names; if ($invalid_referer) { return 403; } return 200 "fine\\n"; }
      location /n/ { return 200 "[$invalid_referer]\\n"; }
      location /link/ { secure_link $arg_md5,$arg_e; secure_link_md5 "secret$uri$arg_e"; return 200 "[$secure_link][$secure_link_expires]\\n"; }
      location /until/ { secure_link $arg_md5,$arg_e; secure_link_md5 "$secure_link_expires$uri secret"; if ($secure_link = "") { return 403; } return 200 "[$secure_link][$secure_link_expires]\\n"; }
      location /early/ { secure_link $arg_md5,$arg_e; secure_link_md5 "$secure_link_expires$uri secret"; return 200 "[$secure_link_expires][$secure_link]\\n"; }
      location /round/ { secure_link $arg_md5; secure_link_md5 "$secure_link$uri"; return 200 "[$secure_link]\\n"; }
      location /plain/ { secure_link $arg_md5; secure_link_md5 "secret$uri"; if ($secure_link = "") { return 403; } return 200 "[$secure_link]\\n"; }
      location /p/ { secure_link_secret word; if ($secure_link = "") { return 403; } rewrite ^ /show/$secure_link; }
      location /show/ { return 200 "$uri\\n"; }
    }`,
      requests: [
        ...REFERERS.flatMap((value) =>
          ['/r/', '/s/', '/n/', '/late/'].map((path) => (value === '' ? get(path) : get(path, `Referer: ${value}`))),
        ),
        ...[2_000_000_000, 1_000_000_000, 0].map((e) =>
          get(`/link/x?md5=${md5(`secret/link/x${e}`, 'base64url')}&e=${e}`),
        ),
        // The text that is hashed names the end of the link, as everybody writes it; and itself, as nobody should.
        ...['/until/x', '/early/x'].flatMap((path) =>
          [4_000_000_000, 1_000_000_000].map((e) =>
            get(`${path}?md5=${md5(`${e}${path} secret`, 'base64url')}&e=${e}`),
          ),
        ),
        get(`/round/x?md5=${md5('/round/x', 'base64url')}`),
        get(`/link/x?md5=${md5('wrong', 'base64url')}&e=2000000000`),
        get('/link/x?md5=short&e=2000000000'),
        get(`/link/x?md5=${md5('secret/link/x', 'base64url')}&e=`),
        get(`/plain/x?md5=${md5('secret/plain/x', 'base64url')}`),
        get('/plain/x?md5=%%%'),
        get('/plain/x'),
        get(`/p/${md5('a/b.txtword', 'hex')}/a/b.txt`),
        get(`/p/${md5('other', 'hex')}/a/b.txt`),
        get('/p/abc/x'),
        get('/p/'),
      ],
    },
    {
      name: 'trailers',
      explained: [
        {
          why: 'the name of the product changes the length of a chunk',
          apply: (text) => text.replace(/\r\n9[0-9a-f]\r\n/, '\r\n##\r\n'),
        },
      ],
      http: `server { listen 127.0.0.1:%PORT%; root html; add_trailer X-T "$uri"; add_trailer X-E ""; add_trailer X-A always always;
      location /ret/ { return 200 "text\\n"; } location /g/ { alias html/; } }`,
      requests: ['/a.txt', '/ret/', '/missing', '/g/a.txt'].flatMap((path) => [get(path), head(path), old(path)]),
    },
    {
      name: 'realip',
      http: `server { listen 127.0.0.1:%PORT%; set_real_ip_from 127.0.0.0/8; set_real_ip_from 10.0.0.0/8;
      location / { return 200 "$remote_addr|$binary_remote_addr|$realip_remote_addr|$realip_remote_port\\n"; }
      location /list/ { real_ip_header X-Forwarded-For; real_ip_recursive on; allow 1.2.3.4; deny all; alias html/; }
      location /last/ { real_ip_header X-Forwarded-For; deny 5.6.7.8; alias html/; }
      location /not/ { real_ip_header X-Other; set_real_ip_from 192.168.0.0/16; deny 1.2.3.4; alias html/; }
    }`,
      explained: [{ why: 'each connection has its own port', apply: (text) => text.replaceAll(/\|\d+(?=\n)/g, '|#') }],
      requests: [
        '1.2.3.4',
        '1.2.3.4:80',
        '[2001:db8::1]:99',
        '2001:db8:0:0:0:0:0:1',
        'nonsense',
        '10.0.0.1',
        '',
        '1.2.3.4, 5.6.7.8',
        '::ffff:1.2.3.4',
        '[::ffff:1.2.3.4]:5',
        '::ffff:102:304',
        '::1.2.3.4',
        '::ffff:0:1.2.3.4',
        '1:0:2:0:0:3:0:0',
        '[2001:db8::1]',
        '1.2.3.4:0',
        ',5.6.7.8',
      ].flatMap((value) => [
        get('/', `X-Real-IP: ${value}`),
        get('/list/a.txt', `X-Forwarded-For: ${value}, 10.0.0.1`),
        get('/last/a.txt', `X-Forwarded-For: ${value}`),
        get('/not/a.txt', `X-Other: ${value}`),
        get('/list/a.txt', 'X-Forwarded-For: 1.2.3.4', `X-Forwarded-For: ${value}`, 'X-Forwarded-For: 10.0.0.1'),
      ]),
    },
    {
      name: 'PROXY protocol',
      http: `server { listen 127.0.0.1:%PORT% proxy_protocol; set_real_ip_from 127.0.0.1; real_ip_header proxy_protocol; return 200 "$remote_addr|$proxy_protocol_addr|$proxy_protocol_port|$proxy_protocol_server_addr|$proxy_protocol_server_port\\n"; }`,
      requests: [
        ...[
          'PROXY TCP4 1.2.3.4 5.6.7.8 1111 80\r\n',
          'PROXY TCP6 2001:db8::1 ::1 1111 80\r\n',
          'PROXY UNKNOWN\r\n',
          'PROXY UNKNOWN ffff::1 x 1 2\r\n',
          'PROXY TCP4 1.2.3.4 5.6.7.8 99999 80\r\n',
          'PROXY TCP4 1.2.3 5.6.7.8 1 80\r\n',
          'PROXY TCP5 1.2.3.4 5.6.7.8 1 80\r\n',
          'PROXY TCP4 1.2.3.4 5.6.7.8 1111\r\n',
          'GET / HTTP/1.0\r\n',
          v2(1, 0x11, [1, 2, 3, 4, 5, 6, 7, 8, 4, 87, 0, 80]),
          v2(1, 0x21, [...Array(15).fill(0), 1, ...Array(15).fill(0), 2, 4, 87, 0, 80]),
          v2(1, 0x21, [...Array(10).fill(0), 255, 255, 1, 2, 3, 4, ...Array(14).fill(0), 9, 2, 0, 0, 0, 80]),
          v2(0, 0x00, []),
          v2(1, 0x31, Array(216).fill(65)),
          v2(1, 0x12, [1, 2, 3, 4, 5, 6, 7, 8, 4, 87, 0, 80]),
          v2(1, 0x11, [1, 2, 3, 4, 5, 6, 7, 8, 4, 87, 0, 80, 3, 0, 1, 120]),
          v2(2, 0x11, [1, 2, 3, 4, 5, 6, 7, 8, 4, 87, 0, 80]),
          v2(1, 0x11, [1, 2, 3]),
        ].map((line) => line + get('/')),
      ],
    },
  ],
  (dir) => {
    // Links that lead nowhere are listed as what they are.
    for (const [name, target] of [
      ['dangling', 'nowhere'],
      ['loop', 'loop'],
      ['fine', 'a.txt'],
    ] as const) {
      symlinkSync(target, join(dir, 'html/list', name));
      lutimesSync(join(dir, 'html/list', name), FILE_TIME, FILE_TIME);
    }
  },
);

test('a PROXY header is found wherever its bytes are cut, and nothing makes the parser read past the end', () => {
  const whole = fc.constantFrom(
    'PROXY TCP4 1.2.3.4 5.6.7.8 1111 80\r\n',
    'PROXY UNKNOWN\r\n',
    v2(1, 0x11, [1, 2, 3, 4, 5, 6, 7, 8, 4, 87, 0, 80]),
  );
  fc.assert(
    fc.property(whole, fc.nat(40), fc.string({ maxLength: 10 }), (text, cut, rest) => {
      const bytes = Buffer.from(text + rest, 'latin1');
      if (cut < text.length) expect(parseProxyHeader(bytes, 0, cut).used).toBe(0);
      expect(parseProxyHeader(bytes, 0, bytes.length).used).toBe(text.length);
    }),
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      const { used } = parseProxyHeader(bytes, 0, bytes.length);
      expect(used).toBeLessThanOrEqual(bytes.length);
    }),
  );
});
