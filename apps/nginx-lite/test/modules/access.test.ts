/** allow, deny, satisfy, limit_except, auth_basic: what Debian's nginx answers. */

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { compareWithNginx, get } from '../support/oracle.ts';

const sha = (text: string): Buffer => createHash('sha1').update(text).digest();
/** Hashes of libc's crypt(3), by the perl that Debian always has. */
const crypt = (password: string, salt: string): string =>
  execFileSync('perl', ['-e', 'print crypt($ARGV[0], $ARGV[1])', password, salt], { encoding: 'latin1' });

const USERS = [
  '# a comment',
  'plain:{PLAIN}secret',
  `sha:{SHA}${sha('secret').toString('base64')}`,
  `ssha:{SSHA}${Buffer.concat([sha('secretsalt'), Buffer.from('salt')]).toString('base64')}`,
  'apr1:$apr1$5adaea91$SVhhEiyLLw/Gl30zRTUcB/',
  `md5:${crypt('secret', '$1$saltsalt$')}`,
  `sha256:${crypt('secret', '$5$saltsalt$')}`,
  `sha512:${crypt('secret', '$6$rounds=1000$saltsalt$')}`,
  `des:${crypt('secret', 'ab')}`,
  `bcrypt:${crypt('secret', '$2y$05$abcdefghijklmnopqrstuu')}`,
  `sha256rounds:${crypt('secret', '$5$rounds=1500$abcdefghijklmnop$')}`,
  `sha512nosalt:${crypt('secret', '$6$$')}`,
  `ssha64url:{SSHA}${Buffer.concat([sha('secretx'), Buffer.from('x')]).toString('base64url')}`,
  'shaodd:{SHA}###',
  'sshashort:{SSHA}abcd',
  'empty:',
  'comment:{PLAIN}secret:further text',
  'odd:{UNKNOWN}secret',
  'nocolon',
  'plain:{PLAIN}second',
  '',
].join('\n');

const basic = (user: string, password: string): string =>
  `Authorization: Basic ${Buffer.from(`${user}:${password}`, 'latin1').toString('base64')}`;
const NAMES = [
  'plain',
  'sha',
  'ssha',
  'apr1',
  'md5',
  'sha256',
  'sha512',
  'des',
  'bcrypt',
  'sha256rounds',
  'sha512nosalt',
  'ssha64url',
  'shaodd',
  'sshashort',
  'empty',
  'comment',
  'odd',
  'nocolon',
  'nobody',
  '',
];

compareWithNginx({ users: USERS, 'html/a.txt': 'a\n', 'html/401.html': 'please\n' }, [
  {
    name: 'allow and deny',
    http: `server { listen 127.0.0.1:%PORT%; root html;
      location /d/ { deny all; alias html/; }
      location /a/ { allow 127.0.0.1; deny all; alias html/; }
      location /n/ { deny 127.0.0.0/8; allow all; alias html/; }
      location /o/ { allow 10.0.0.0/8; alias html/; }
      location /six/ { deny ::1; allow 127.0.0.1; deny all; alias html/; }
      location /in/ { deny all; location /in/ok/ { allow all; alias html/; } location /in/no/ { alias html/; } }
      location /page/ { deny all; error_page 403 /a.txt; }
      location /lim/ { alias html/; limit_except GET { deny all; } }
      location /lim2/ { limit_except POST { allow 127.0.0.1; } return 200 "ok\\n"; }
      location /before/ { deny all; return 200 "rewritten first\\n"; }
    }`,
    requests: [
      ...[
        '/d/a.txt',
        '/a/a.txt',
        '/n/a.txt',
        '/o/a.txt',
        '/six/a.txt',
        '/in/ok/a.txt',
        '/in/no/a.txt',
        '/page/x',
        '/before/',
        '/lim/a.txt',
      ].map((path) => get(path)),
      ...['HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'FOO', 'PATCH'].map((method) =>
        get('/lim/a.txt').replace('GET', method),
      ),
      get('/lim2/'),
      get('/lim2/').replace('GET', 'POST'),
    ],
  },
  {
    name: 'auth_basic',
    http: `server { listen 127.0.0.1:%PORT%; root html; auth_basic "the realm"; auth_basic_user_file %DIR%/users;
      location /off/ { auth_basic off; alias html/; }
      location /none/ { auth_basic_user_file %DIR%/missing; alias html/; }
      location /var/ { auth_basic "realm $arg_r"; alias html/; }
      location /varoff/ { auth_basic $arg_r; alias html/; }
      location /any/ { satisfy any; allow 127.0.0.1; deny all; alias html/; }
      location /any2/ { satisfy any; deny all; alias html/; }
      location /all/ { allow 127.0.0.1; deny all; alias html/; }
      location /all2/ { deny all; alias html/; }
      location /page/ { error_page 401 /off/401.html; alias html/; }
      location /hdr/ { add_header X-A b always; alias html/; }
    }`,
    requests: [
      ...NAMES.flatMap((name) => [
        get('/a.txt', basic(name, 'secret')),
        get('/a.txt', basic(name, 'wrong')),
        get('/a.txt', basic(name, '')),
      ]),
      ...[
        '/a.txt',
        '/off/a.txt',
        '/none/a.txt',
        '/var/a.txt?r=x',
        '/varoff/a.txt?r=off',
        '/varoff/a.txt?r=on',
        '/any/a.txt',
        '/any2/a.txt',
        '/all/a.txt',
        '/all2/a.txt',
        '/page/a.txt',
        '/hdr/a.txt',
      ].flatMap((path) => [get(path), get(path, basic('plain', 'secret')), get(path, basic('plain', 'second'))]),
      get('/a.txt', 'Authorization: Bearer x'),
      get('/a.txt', 'Authorization: Basic'),
      get('/a.txt', 'Authorization: Basic !!!'),
      get('/a.txt', 'authorization: basic cGxhaW46c2VjcmV0'),
      get('/a.txt', 'Authorization: Basic  cGxhaW46c2VjcmV0'),
    ],
  },
]);
