/** charset_map and source_charset: what Debian's nginx answers, and independence of where a text is cut. */

import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { recoderMaker } from '../../src/modules/charset/recode.ts';
import { compareWithNginx, get, head, old, unpacked } from '../support/oracle.ts';

const utf8 = (text: string): string => Buffer.from(text, 'utf8').toString('latin1');

const FILES = {
  'html/utf.html': Buffer.from('<p>z\u0142oty, z\u0142, \u20ac 5, \u03b1, \u{1f600}, \u00e9t\u00e9</p>\n', 'utf8'),
  'html/latin.html': Buffer.from('<p>\xe9t\xe9, \xa45, \xb3oty \x80\xff</p>\n', 'latin1'),
  'html/latin.txt': Buffer.from('\xe9t\xe9\n', 'latin1'),
  'html/latin.css': Buffer.from('\xe9t\xe9\n', 'latin1'),
  'html/long.html': Buffer.from('a\u0142\u20ac\u00e9'.repeat(60_000), 'utf8'),
};

compareWithNginx(FILES, [
  {
    name: 'charset_map',
    explained: [
      { why: 'chunks are cut differently', apply: unpacked },
      {
        why: 'a recoded body has no ranges here',
        apply: (text) => (text.includes('; charset=') ? text.replace('Accept-Ranges: bytes\r\n', '') : text),
      },
    ],
    http: `types { text/html html; text/plain txt; text/css css; }
    charset_map iso-8859-2 utf-8 { A4 C2A4; B3 C582; E9 C3A9; 80 E282AC; }
    charset_map koi iso-8859-2 { C1 B3; C2 E9; }
    server { listen 127.0.0.1:%PORT%; root html;
      location /to/ { alias html/; charset utf-8; source_charset iso-8859-2; }
      location /from/ { alias html/; charset iso-8859-2; source_charset utf-8; }
      location /bytes/ { alias html/; charset koi; source_charset iso-8859-2; }
      location /back/ { alias html/; charset iso-8859-2; source_charset koi; }
      location /same/ { alias html/; charset utf-8; source_charset utf-8; }
      location /off/ { alias html/; charset off; source_charset utf-8; }
      location /types/ { alias html/; charset utf-8; source_charset iso-8859-2; charset_types text/css; }
      location /gz/ { alias html/; charset utf-8; source_charset iso-8859-2; gzip on; gzip_min_length 0; }
    }`,
    requests: [
      ...['to', 'from', 'bytes', 'back', 'same', 'off', 'types', 'gz'].flatMap((name) =>
        ['utf.html', 'latin.html', 'latin.txt', 'latin.css', 'missing.html'].flatMap((file) => [
          get(`/${name}/${file}`),
          head(`/${name}/${file}`),
          old(`/${name}/${file}`),
        ]),
      ),
      get('/from/long.html'),
      get('/to/latin.html', 'Range: bytes=0-3'),
      get('/gz/latin.html', 'Accept-Encoding: gzip'),
    ],
  },
]);

const PARTS = {
  'html/a.html': Buffer.from('A \xe9\n', 'latin1'),
  'html/u.html': Buffer.from('\u017c\u00f3\u0142w \u20ac5 \u00e9\n', 'utf8'),
  'html/parts.html': Buffer.from(
    '<!--#include virtual="/latin/a.html"-->|<!--#include virtual="/utf/u.html"-->|<!--#include virtual="/none/a.html"-->' +
      '|\xe9|<!--#set var="a" value="\xe9"--><!--#echo var="a" encoding="none"-->|<!--#include virtual="/latin/missing.html"-->\n',
    'latin1',
  ),
  // A value that grows when it is recoded is longer than it was to be, and the request is given up.
  'html/grows.html': '<!--#include virtual="/latin/a.html" set="a"--><!--#echo var="a" encoding="none"-->\n',
  'html/a.html.gz': gzipSync('packed'),
};
const WHOLES: Record<string, string> = {
  to: 'charset utf-8;',
  from: 'charset iso-8859-2;',
  both: 'charset utf-8; source_charset iso-8859-2;',
  back: 'charset iso-8859-2; source_charset utf-8;',
  koi: 'charset koi;',
  nowhere: 'charset unknown;',
  off: '',
  type: 'charset utf-8; charset_types text/css;',
};

compareWithNginx(PARTS, [
  {
    name: 'parts of an answer are recoded to the charset of the whole',
    explained: [{ why: 'chunks are cut differently', apply: unpacked }],
    http: `types { text/html html; text/plain txt; }
    charset_map iso-8859-2 utf-8 { A4 C2A4; B3 C582; E9 C3A9; 80 E282AC; }
    charset_map koi iso-8859-2 { C1 B3; C2 E9; }
    server { listen 127.0.0.1:%PORT%; root html; error_page 404 /latin/a.html;
      location /latin/ { alias html/; source_charset iso-8859-2; }
      location /utf/ { alias html/; source_charset utf-8; charset_types text/css; }
      location /none/ { alias html/; }
      ${Object.entries(WHOLES)
        .map(
          ([name, text]) => `location /${name}/ { alias html/; ssi on; ${text} }
      location /add-${name}/ { alias html/; ${text} add_before_body /latin/a.html; add_after_body /utf/u.html; }`,
        )
        .join('\n')}
    }`,
    requests: Object.keys(WHOLES).flatMap((name) => [
      get(`/${name}/parts.html`),
      get(`/${name}/grows.html`),
      get(`/add-${name}/a.html`),
    ]),
  },
  {
    name: 'which charset is named',
    explained: [
      {
        why: 'a recoded body has no ranges here',
        apply: (text) => (text.includes('; charset=koi') ? text.replace('Accept-Ranges: bytes\r\n', '') : text),
      },
    ],
    http: `types { text/html html; }
    charset_map iso-8859-2 utf-8 { A4 C2A4; B3 C582; E9 C3A9; 80 E282AC; }
    charset_map koi iso-8859-2 { C1 B3; C2 E9; }
    map $arg_m $m { a utf-8; b off; }
    server { listen 127.0.0.1:%PORT%; root html;
      location /packed/ { alias html/; gzip_static on; charset utf-8; }
      location /recoded/ { alias html/; gzip_static on; charset utf-8; source_charset iso-8859-2; }
      location /same/ { alias html/; gzip_static on; charset utf-8; source_charset utf-8; }
      location /name/ { alias html/; charset $arg_x; }
      location /map/ { alias html/; charset $m; }
      location /target/ { alias html/; charset $arg_x; source_charset iso-8859-2; }
      location /source/ { alias html/; charset utf-8; source_charset $arg_x; }
      location /moved/ { charset utf-8; return 301 /x; }
      location /other/ { charset utf-8; return 303 /x; }
      location /error/ { charset utf-8; return 404; }
      location /listing/ { alias html/; autoindex on; autoindex_format json; charset koi; charset_types *; }
      location /overridden/ { alias html/; autoindex on; autoindex_format json; charset iso-8859-2; override_charset on; }
    }`,
    requests: [
      ...['packed', 'recoded', 'same'].flatMap((name) => [
        get(`/${name}/a.html`, 'Accept-Encoding: gzip'),
        get(`/${name}/a.html`),
      ]),
      ...['name', 'map', 'target', 'source'].flatMap((name) =>
        ['x=utf-8', 'x=', 'x=off', 'x=none', 'x=iso-8859-2', 'x=koi', 'x=UTF-8']
          .concat(name === 'map' ? ['m=a', 'm=b', ''] : [])
          .map((query) => get(`/${name}/a.html?${query}`)),
      ),
      ...['moved/', 'other/', 'error/', 'listing/', 'overridden/'].map((name) => get(`/${name}`)),
    ],
  },
]);

test('what is recoded does not depend on where the text was cut', () => {
  const make = recoderMaker([{ from: 'a', to: 'utf-8', rows: [{ byte: 0xb3, target: [0xc5, 0x82] }] }], 'utf-8', 'a');
  if (make === null) throw new Error('no recoder');
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 6 })), fc.string({ unit: 'grapheme' }), (noise, text) => {
      for (const bytes of [Buffer.concat(noise), Buffer.from(text, 'utf8')]) {
        const [whole, cut] = [make(), make()];
        const once = Buffer.concat([whole.take(bytes), whole.end()]);
        const pieces = [...bytes].map((byte) => cut.take(Uint8Array.of(byte)));
        expect(Buffer.concat([...pieces, cut.end()]).toString('latin1')).toBe(once.toString('latin1'));
      }
    }),
  );
  const recoder = make();
  const text = Buffer.from(utf8('z\u0142oty \u20ac'), 'latin1');
  expect(Buffer.from(recoder.take(text)).toString('latin1')).toBe('z\xb3oty &#8364;');
});
