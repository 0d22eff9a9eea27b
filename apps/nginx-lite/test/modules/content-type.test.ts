/** Types of answers, and which filters they let in: with parameters, blanks, in capitals, empty, as `*`. */

import { compareWithNginx, get, unpacked } from '../support/oracle.ts';

const BODY = 'hello uri <!--#echo var="uri"-->'.repeat(10);

const FILTERS = {
  gzip: 'gzip on;',
  ssi: 'ssi on;',
  sub: 'sub_filter hello bye;',
  addition: 'add_after_body /plain/a.txt;',
  charset: 'charset utf-8;',
};

const TYPES = {
  plain: '',
  parameter: 'types { } default_type "text/html; charset=x";',
  blank: 'types { } default_type "text/html ";',
  capitals: 'types { } default_type TEXT/HTML;',
  empty: 'types { } default_type "";',
  star: 'types { } default_type ""; gzip_types *; sub_filter_types *; charset_types *; addition_types *; ssi_types *;',
  ofExtension: 'types { "text/html; q=1" html; }',
  named:
    'types { "text/html; q=1" html; } gzip_types "text/html; q=1"; charset_types "text/html; q=1"; ssi_types "text/html; q=1";',
};

const LOCATIONS = Object.entries(FILTERS).flatMap(([filter, on]) =>
  Object.entries(TYPES).map(([type, text]) => ({ path: `${filter}-${type}`, text: `${on} ${text}` })),
);

compareWithNginx({ 'html/a.html': BODY, 'html/a.txt': BODY, 'html/b': BODY }, [
  {
    name: 'types and filters',
    explained: [{ why: 'bodies are packed and cut differently', apply: unpacked }],
    http: `types { text/html html; text/plain txt; }
    server { listen 127.0.0.1:%PORT%; root html; location /plain/ { alias html/; }
      ${LOCATIONS.map(({ path, text }) => `location /${path}/ { alias html/; ${text} }`).join('\n')}
    }`,
    requests: LOCATIONS.flatMap(({ path }) =>
      ['a.html', 'a.txt', 'b'].map((file) => get(`/${path}/${file}`, 'Accept-Encoding: gzip')),
    ),
  },
]);
