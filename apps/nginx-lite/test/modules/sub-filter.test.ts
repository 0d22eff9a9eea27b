/** sub_filter: what Debian's nginx answers, and independence of where the body is cut. */

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Replacer } from '../../src/modules/sub-filter/module.ts';
import { compareWithNginx, get, head, old, unpacked } from '../support/oracle.ts';

const FILES = {
  'html/a.html': '<head>Title</HEAD> one two One TWO three aab aaab xaabaab </body>\n',
  'html/empty.html': '',
  'html/a.txt': 'one two\n',
  'html/long.html': `${'one '.repeat(60_000)}end`,
};

compareWithNginx(FILES, [
  {
    name: 'sub_filter',
    explained: [{ why: 'chunks are cut differently', apply: unpacked }],
    http: `types { text/html html; text/plain txt; } server { listen 127.0.0.1:%PORT%; root html;
      location /once/ { alias html/; sub_filter one 1; }
      location /all/ { alias html/; sub_filter one 1; sub_filter two 22222; sub_filter_once off; }
      location /var/ { alias html/; sub_filter </head> "$uri</head>"; }
      location /types/ { alias html/; sub_filter one 1; sub_filter_types text/plain; sub_filter_last_modified on; }
      location /over/ { alias html/; sub_filter aab X; sub_filter aa Y; sub_filter_once off; }
      location /gz/ { alias html/; sub_filter one 1; sub_filter_once off; gzip on; }
      location /del/ { alias html/; sub_filter one ""; sub_filter_once off; }
      location /no/ { alias html/; sub_filter nothing x; }
    }`,
    requests: [
      '/once/a.html',
      '/all/a.html',
      '/all/long.html',
      '/var/a.html',
      '/types/a.txt',
      '/types/a.html',
      '/over/a.html',
      '/gz/a.html',
      '/gz/long.html',
      '/del/a.html',
      '/no/a.html',
      '/once/empty.html',
      '/once/a.txt',
    ].flatMap((path) => [
      get(path),
      head(path),
      old(path),
      get(path, 'Accept-Encoding: gzip'),
      get(path, 'Range: bytes=0-3'),
    ]),
  },
]);

test('what is replaced does not depend on where the text was cut', () => {
  const word = fc.string({ unit: fc.constantFrom('a', 'b', 'A', 'c'), minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(
      fc.array(fc.record({ search: word, replacement: fc.string({ maxLength: 3 }) }), { minLength: 1, maxLength: 3 }),
      fc.array(word, { maxLength: 20 }),
      fc.boolean(),
      (pairs, pieces, once) => {
        const cut = new Replacer(pairs, once);
        const whole = new Replacer(pairs, once);
        const inPieces = pieces.map((piece) => cut.take(piece)).join('') + cut.end();
        expect(inPieces).toBe(whole.take(pieces.join('')) + whole.end());
      },
    ),
  );
});
