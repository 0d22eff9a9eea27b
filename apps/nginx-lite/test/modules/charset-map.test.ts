/** charset_map and source_charset: what Debian's nginx answers, and independence of where a text is cut. */

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
