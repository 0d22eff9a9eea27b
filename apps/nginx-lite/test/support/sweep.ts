/**
 * Configurations for the sweep: every directive in every place, with every count and kind of argument.
 *
 * What it is for: `casesOf` writes them, `askNginx` and `askOurs` give what `-t` says of each. Invariant: what is said
 * is the whole of stderr, with the folder, time and process number made the same.
 */

// biome-ignore-all lint/suspicious/noTemplateCurlyInString: `${uri}` is nginx's
import { execFile } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Context } from '../../src/conf/directives.ts';
import type { ConfError } from '../../src/conf/errors.ts';
import { testConfiguration } from '../../src/configuration-test.ts';
import { DIRECTIVE_TABLE } from '../../src/modules/table.ts';
import { DEBIAN_NGINX } from './server.ts';

/** What stands before everything: files go to the folder of the test. */
const PRELUDE = 'pid logs/nginx.pid; error_log logs/error.log;\n';
const SERVER = 'listen 127.0.0.1:18080;\n';

/** Where a directive is tried. `main` has no prelude, so that its own directives are no duplicates. */
export const PLACES: Record<string, (text: string) => string> = {
  main: (text) => `${/^(?:pid|error_log)\b/.test(text) ? '' : PRELUDE}${text}\nevents {}\n`,
  events: (text) => `${PRELUDE}events {\n${text}\n}\n`,
  http: (text) => http(text),
  server: (text) => http(`server {\n${SERVER}${text}\n}`),
  location: (text) => location(text),
  nested: (text) => location(`location /a {\n${text}\n}`),
  named: (text) => http(`server {\n${SERVER}location @n {\n${text}\n}\n}`),
  exact: (text) => http(`server {\n${SERVER}location = /e {\n${text}\n}\n}`),
  regex: (text) => http(`server {\n${SERVER}location ~ ^/(x)(?<name>y)$ {\n${text}\n}\n}`),
  serverIf: (text) => http(`server {\n${SERVER}if ($uri) {\n${text}\n}\n}`),
  locationIf: (text) => location(`if ($uri) {\n${text}\n}`),
  limitExcept: (text) => location(`limit_except GET {\n${text}\n}`),
  limitExceptIf: (text) => location(`limit_except GET {\nif ($uri) {\n${text}\n}\n}`),
  types: (text) => http(`types {\n${text}\n}`),
  map: (text) => http(`map $uri $m {\n${text}\n}`),
  geo: (text) => http(`geo $g {\n${text}\n}`),
  splitClients: (text) => http(`split_clients $uri $s {\n${text}\n}`),
  charsetMap: (text) => http(`charset_map a b {\n${text}\n}`),
};

function http(text: string): string {
  return `${PRELUDE}events {}\nhttp {\n${text}\n}\n`;
}

function location(text: string): string {
  return http(`server {\n${SERVER}location / {\n${text}\n}\n}`);
}

/** Values of every type, good and bad; `%DIR%` is the folder. */
const VALUES = [
  ...['on', 'off', 'ON', 'oN', 'yes', 'x', '""', "''", '" "', '"a b"', 'a\\ b', '\\"', "'q\"'", '"\\n"', '\\$'],
  ...['0', '1', '00', '007', '-1', '+1', '1.5', '1e3', '0x10', '4', '16', '200', '404', '499', '599', '600', '1000'],
  ...['65535', '65536', '2147483647', '2147483648', '4294967296', '9007199254740993', '9223372036854775807'],
  ...['9223372036854775808', '99999999999999999999', '9007199254740993k', '9223372036854775807g'],
  ...['1k', '1K', '1m', '1M', '1g', '1G', '1t', 'k', 'm', '1kk', '8k', '1km', '-1k', '512', '4096'],
  ...['1s', '1ms', '1m30s', '30s1m', '1h30m', '1d', '1w', '1M', '1y', '1.5s', 's', 'ms', '"1 m"', '"1h 30"', '1y2y'],
  ...['9999999999999y', '9223372036854775807ms', '9223372036854775s', '292471208y', '-1s', '1S', '1D'],
  ...[
    'all',
    'any',
    'none',
    'default',
    'unix:',
    'unix:/x',
    'max',
    'epoch',
    'modified',
    '@1h',
    '@25h',
    'always',
    'build',
  ],
  ...['exact', 'before', 'clean', 'from=%DIR%', 'inactive=1s', 'max=10', 'max=0', 'max=', 'valid=1s', 'min_uses=2'],
  ...['zone=z:32k', 'zone=z', 'zone=', 'zone=z:', 'zone=:1m', 'zone=z:31k', 'zone=z:x', 'rate=1r/s', 'rate=0r/s'],
  ...['rate=1', 'rate=r/s', 'burst=1', 'burst=0', 'burst=x', 'nodelay', 'delay=1', 'delay=0', 'delay=x'],
  ...['$uri', '$nosuch', '${uri}', '${uri', '$', '$$', '${}', '$-', 'a$uri', '$uri$', '"${uri}"', '$1', '$0', '$10'],
  ...['$arg_x', '$http_x', '$arg_', '$cookie_', '$sent_http_', '$document_root', '$realpath_root', '$limit_rate'],
  ...[
    '/x',
    '%DIR%/html',
    '%DIR%/no/where',
    'no/where',
    'logs',
    'logs/x.log',
    '@x',
    '=404',
    '=',
    '=x',
    '=1000',
    'html/',
  ],
  ...['~x', '~*x', '~(', '~', '*', '*.x', 'x.*', '.x', '.', '*x', '*.', '^~', '!', '(', ')', '[a', 'a{2', '(?<n>x)'],
  ...['text/html', 'text/plain', 'msie6', 'safari', 'GET', 'get', 'HEAD', 'NOPE', 'stderr', 'combined', 'main'],
  ...[
    '127.0.0.1',
    '127.0.0.1/8',
    '127.0.0.0/8',
    '127.0.0.1/33',
    '::1',
    '::1/64',
    '::/0',
    '0.0.0.0/0',
    '1.2.3',
    '1.2.3.4.5',
  ],
  ...[
    '80',
    '8080',
    '0.0.0.0:80',
    '[::]:8081',
    '[::1]',
    '[::1]:0',
    '*:8082',
    'localhost',
    'localhost:x',
    'no.such.invalid',
  ],
  ...['utf-8', 'koi8-r', 'windows-1251', 'http://x', 'https://x', '$scheme://x', 'http://', '301', '302', '303', '308'],
  ...['info', 'notice', 'warn', 'error', 'debug', 'crit', 'alert', 'emerg', 'debug_http', 'syslog:', 'memory:32k'],
  ...[
    'syslog:server=127.0.0.1',
    'syslog:server=',
    'json',
    'html',
    'xml',
    'jsonp',
    'auto',
    'root',
    'nobody',
    'nosuchuser',
  ],
  ...[
    'buffer=4k',
    'buffer=x',
    'flush=1s',
    'gzip',
    'gzip=9',
    'if=$uri',
    'if=',
    'level=1',
    'expired',
    'no-cache',
    'auth',
  ],
  ...[
    'server_names',
    'blocked',
    '~example',
    '01',
    '10',
    '0102',
    'PATH',
    'PATH=x',
    '1.0',
    '1.1',
    'log',
    '365d',
    'last',
    'break',
  ],
];

/** Words that mean something to one directive only. */
const WORDS: Record<string, string[]> = {
  listen: [
    ...['8080 default_server', '8080 default', '8080 backlog=1', '8080 backlog=0', '8080 rcvbuf=1k', '8080 rcvbuf=x'],
    ...['8080 sndbuf=-1', '8080 fastopen=1', '8080 fastopen=x', '8080 so_keepalive=on', '8080 so_keepalive=x'],
    ...[
      '8080 so_keepalive=::',
      '8080 so_keepalive=1m::',
      '8080 so_keepalive=:1:',
      '8080 so_keepalive=1:1:x',
      '8080 bind',
    ],
    ...[
      '8080 deferred',
      '8080 accept_filter=x',
      '8080 setfib=1',
      '8080 setfib=x',
      '8080 reuseport',
      '8080 ipv6only=on',
    ],
    ...['[::]:8081 ipv6only=x', '[::]:8081 ipv6only=off', '8080-8082', '8082-8080', '8080-', '-8080', '8080-8081-8082'],
    ...[
      '127.0.0.1:8080-8081',
      '8080 proxy_protocol',
      '8080 bogus',
      'unix:',
      'unix:logs/s',
      'unix:logs/s:80',
      '[::1',
      '[::1]8080',
    ],
    ...['127.0.0.1:', ':8080', '*', '*:', '0', '65536', 'localhost:8083', '1.2.3.4:8080', '255.255.255.255:80'],
  ],
  error_page: [
    '404 /x',
    '404 =200 /x',
    '404 = /x',
    '404 =x /x',
    '= /x',
    '299 /x',
    '600 /x',
    '499 /x',
    '404 500 /x',
    '404 =200 500 /x',
  ],
  try_files: ['a =404', 'a =x', 'a =1000', 'a b/ @c', '/ =', '$uri $uri/ /x', '"" x', 'a $nosuch'],
  rewrite: [
    'a b last',
    'a b bogus',
    '( b',
    'a ""',
    'a b?',
    '(x) $1',
    '(x) $2',
    'a http://x',
    '(?<n>x) $n',
    'a b last last',
    '[ b',
  ],
  if: [
    ...[
      '($uri)',
      '($uri = a)',
      '($uri != a)',
      '($uri ~ a)',
      '($uri ~* "(")',
      '($uri !~ a)',
      '($uri !~* a)',
      '( $uri )',
    ],
    ...[
      '($uri == a)',
      '($uri ~)',
      '($uri =)',
      '($uri = )',
      '()',
      '( )',
      '(',
      ')',
      '$uri',
      '(x)',
      '(-f x)',
      '(!-f x)',
      '(-f)',
    ],
    ...[
      '(-g x)',
      '(!-q x)',
      '(-d $uri)',
      '(-e $nosuch)',
      '(-x x y)',
      '($nosuch)',
      '($)',
      '($uri = a b)',
      '($uri = a',
      '(!$uri)',
    ],
    ...[
      '($uri = $nosuch)',
      '(${uri})',
      '($uri ~ (?<n>a))',
      '($uri "=" "a b")',
      '( $uri = a )',
      '((x)',
      '($1)',
      '($arg_x)',
    ],
  ],
  set: [
    '$x 1',
    'x 1',
    '$ 1',
    '$host x',
    '$args x',
    '$limit_rate 1k',
    '$http_x 1',
    '$arg_x 1',
    '$x $x',
    '$x $y',
    '$1 x',
    '${x} 1',
    '$x- 1',
  ],
  return: [
    '200',
    '200 x',
    '1000',
    '999',
    'http://x',
    '$scheme://x',
    'x',
    '301 http://x',
    '204 ""',
    '200 $nosuch',
    '-1',
    '0',
    '444',
    'ftp://x',
    '$uri',
  ],
  log_format: [
    'a x',
    'combined x',
    'a escape=json x',
    'a escape=x y',
    'a escape=json',
    '"" x',
    'a $nosuch',
    'a "" ""',
    'a $upstream_addr',
  ],
  access_log: [
    ...[
      'logs/a.log combined',
      'logs/a.log nosuch',
      'logs/a.log combined buffer=4k flush=1s',
      'logs/a.log combined gzip buffer=1k',
    ],
    ...[
      'logs/a.log combined if=$uri',
      'logs/a.log combined if=x',
      'logs/$host.log',
      'logs/$host.log combined buffer=1k',
      'off x',
    ],
    ...[
      'logs/a.log combined gzip=10',
      'logs/a.log combined flush=x',
      'logs/a.log combined x',
      'off combined',
      'logs/a.log buffer=1k',
    ],
  ],
  error_log: [
    'logs/a.log info',
    'logs/a.log bogus',
    'stderr',
    'stderr debug',
    'logs/a.log info warn',
    'logs/a.log debug_http',
    'logs/a.log info debug_http',
  ],
  limit_req_zone: [
    '$uri zone=z:1m rate=1r/s',
    '$uri zone=z:1m rate=1r/m',
    '$uri zone=z:1m rate=x',
    '$uri zone=z:1k rate=1r/s',
    '$uri rate=1r/s zone=z:1m',
    'x zone=z:1m rate=1r/s',
    '$uri zone=z:1m sync',
    '"" zone=z:1m rate=1r/s',
    '$uri zone=z:1m rate=1.5r/s',
  ],
  limit_conn_zone: ['$uri zone=z:1m', '$uri zone=z:1k', 'x zone=z:1m', '$nosuch zone=z:1m', '$uri zone=z', '$uri x'],
  limit_req: [
    'zone=z',
    'zone=z burst=1',
    'zone=z burst=1 nodelay',
    'zone=z burst=0',
    'zone=z delay=1 burst=2',
    'zone=z nodelay delay=1',
    'burst=1',
    'zone=z bogus',
  ],
  limit_conn: ['z 1', 'z 0', 'z x', 'z 65536', 'z 65535', '"" 1', '$uri 1'],
  geo: ['$g', '$uri $g', 'g', '$', 'x $g', '$g $g', '$host'],
  map: [
    '$uri $m',
    '$uri m',
    'x $m',
    '$uri $host',
    '$nosuch $m',
    '$uri $',
    '$uri$host $m',
    '$uri $http_x',
    '$uri $args',
    '$m $m',
  ],
  split_clients: ['$uri $s', '$uri s', 'x $s', '$nosuch $s', '$uri $host'],
  charset_map: ['a b', 'a a', 'utf-8 a', 'a utf-8', '"" b'],
  location: [
    ...[
      '/',
      '= /x',
      '^~ /x',
      '~ x',
      '~* x',
      '@n',
      '!~ x',
      '=/x',
      '^~/x',
      '~x',
      '~*x',
      '""',
      'x',
      '~ (',
      '~ [',
      '@',
      '= @n',
      '~ ""',
      '^~ @n',
    ],
    ...['= x y', '~ (?<n>x)', '$uri', '"/a b"', '/%41', '~', '~*', '=', '^~', '\\~x', '= ""'],
  ],
  server_name: [
    'x',
    '*.x',
    'x.*',
    '.x',
    '*',
    '*.',
    'x*y',
    '~x',
    '~',
    '~(',
    '""',
    '_',
    '$hostname',
    'a/b',
    '~(?<n>x)',
    'x y z',
    '.',
    '*.*',
    'X',
    '*.x.*',
    '"a b"',
    '~^X$',
    'x x',
    '..x',
    '*.x *.x',
  ],
  types: ['', 'x'],
  user: ['root', 'root root', 'nosuchuser', 'root nosuchgroup', 'nobody nogroup', '0', '""'],
  worker_cpu_affinity: ['01', '01 10', 'auto', 'auto 01', 'auto 01 10', '2', '0'.repeat(70), '""', '01 x'],
  worker_processes: ['auto', '1', '0', 'x', '100000', '-1'],
  worker_priority: ['1', '-1', '+1', 'x', '--1', '-', '""', '20', '-20'],
  env: ['X', 'X=y', '=y', '""', 'X='],
  auth_basic: ['x', 'off', '$uri', '""', '"a\\"b"'],
  secure_link: ['$uri', '$uri,$args', 'x', 'a,b,c'],
  expires: [
    '1h',
    '-1h',
    '+1h',
    'max',
    'off',
    'epoch',
    'modified 1h',
    'modified +1h',
    'modified -1h',
    'modified @1h',
    '@1h',
    '@25h',
    '$uri',
    'modified $uri',
    'x 1h',
    '-',
    '+',
    '@',
    'modified max',
    '24h 1',
    '@24h',
    '@86401',
    '-@1h',
  ],
  add_header: ['a b', 'a b always', 'a b x', '"" b', 'a ""', 'a $nosuch', 'a $uri always', '$uri x'],
  add_trailer: ['a b', 'a b always', 'a b x', 'a $nosuch'],
  open_file_cache: [
    'max=10',
    'max=10 inactive=1s',
    'off',
    'off max=1',
    'inactive=1s',
    'max=x',
    'inactive=x',
    'max=0',
    'max=10 max=20',
    'x',
    'max=10 bogus',
    'inactive=1s max=10',
    'max=-1',
  ],
  open_log_file_cache: [
    'max=10',
    'max=10 inactive=1s valid=1s min_uses=1',
    'off',
    'max=x',
    'inactive=1s',
    'max=1 min_uses=x',
    'max=1 valid=x',
    'max=1 x',
    'off max=1',
    'min_uses=1 max=1',
  ],
  client_body_temp_path: [
    'temp/a',
    'temp/a 1',
    'temp/a 1 2 3',
    'temp/a 0',
    'temp/a x',
    'temp/a 9 2',
    'temp/a 1 2 3 4',
    '%DIR%/temp/b/',
    'temp/a/',
  ],
  userid_expires: ['max', 'off', '1d', 'x'],
  userid_service: ['1', '4294967295', '4294967296', 'x', '-1'],
  userid_mark: ['a', 'Z', '9', '=', 'off', 'aa', '-', '""'],
  userid_flags: [
    'secure',
    'off',
    'httponly samesite=lax',
    'samesite',
    'samesite=x',
    'secure secure',
    'samesite=none secure',
    'off secure',
  ],
  userid_name: ['x', '""', '$uri', 'a=b'],
  userid_domain: ['x', 'none', '""'],
  userid_path: ['/x', 'x'],
  userid_p3p: ['x', 'none'],
  valid_referers: [
    'none',
    'blocked',
    'server_names',
    '*.x',
    'x.*',
    'x/y',
    '~x',
    '~(',
    'http://x',
    'https://x',
    '*.x.*',
    'none none',
    'a*b',
    '.x',
    '""',
    'x*',
    '~',
    '*.a/b',
    'none blocked server_names *.example.com example.* www.example.org/galleries/ ~\\.google\\.',
  ],
  modern_browser: [
    'msie 5.5',
    'gecko 1.0',
    'opera 9',
    'safari 413',
    'konqueror 3',
    'unlisted',
    'msie x',
    'msie',
    'bogus 1',
    'unlisted x',
    'msie 1.2.3.4.5',
    'msie 1..2',
    'msie 5000000',
    'msie ""',
    'msie .1',
    'msie 1.',
  ],
  ancient_browser: ['x', 'netscape4', 'x y', '""', 'x x'],
  modern_browser_value: ['x', '$uri', '$nosuch'],
  ancient_browser_value: ['x', '$uri'],
  auth_request: ['/x', 'off', 'x', '$uri'],
  auth_request_set: ['$x y', '$x $uri', 'x y', '$ y', '$host y', '$x $nosuch', '$http_x y', '$args y'],
  mirror: ['/x', 'off', '$uri', 'x'],
  sub_filter: ['a b', 'a ""', '"" b', '$uri b', 'a $uri', 'a $nosuch', 'a b c', '$nosuch b', 'A B'],
  gzip_disable: ['x', 'msie6', '"("', 'a b', '""', '"[a"'],
  gzip_types: ['x', '*', 'text/html', 'a/b a/b', 'A/B a/b', '""', '* x', 'x *'],
  gzip_proxied: ['off', 'any', 'expired no-cache', 'x', 'any any', 'off any', 'ANY'],
  gzip_window: ['1k', '512', '32k', '64k', '3k', '1000', '0', 'x'],
  gzip_hash: ['1k', '128k', '256k', '3k', '0', '512'],
  gzip_buffers: ['4 8k', '0 8k', '4 0', 'x 8k', '4 x', '-1 8k', '4 8k 1'],
  large_client_header_buffers: ['4 8k', '4 100', '0 8k', '4 0', 'x 8k', '4 x', '1 512', '1 511'],
  output_buffers: ['2 32k', '0 1', '1 0', 'x x'],
  keepalive_timeout: ['75s', '75 60', '0', 'x', '1 x', '1 0', '1ms', '1 1ms', '1ms 1', '"" 1'],
  disable_symlinks: [
    'on',
    'off',
    'if_not_owner',
    'on from=%DIR%',
    'off from=%DIR%',
    'from=%DIR%',
    'on off',
    'on from=',
    'from=%DIR% on',
    'on from=$document_root',
    'on from=$nosuch',
    'x',
  ],
  resolver: ['127.0.0.1'],
  include: [
    'nosuch',
    'nosuch/*',
    'inc.conf',
    '""',
    '*.nosuch',
    '%DIR%/inc.conf',
    '%DIR%/*.inc',
    '[',
    'inc[.]conf',
    'inc.con?',
    'logs',
  ],
  allow: [
    'all',
    '127.0.0.1',
    '127.0.0.1/8',
    '::1',
    'unix:',
    'x',
    '1.2.3.4/33',
    '::1/129',
    '127.0.0.1/',
    '127.0.0.1/x',
    'ALL',
    '::/0',
    '1.2.3.4/0',
    'fe80::1/10',
    '127.1',
    '0x7f.1',
    '1.2.3.256',
    '01.2.3.4',
    '::ffff:1.2.3.4',
    '1.2.3.4/-1',
    '1.2.3.4/032',
    '1.2.3.0/255.255.255.0',
    '1.2.3.4/255.255.255.0',
    '1.2.3.4/255.0.255.0',
  ],
  set_real_ip_from: [
    '127.0.0.1',
    '127.0.0.1/8',
    'unix:',
    'x',
    '::1',
    'localhost',
    'no.such.invalid',
    '1.2.3.4/33',
    '1.2.3.4/x',
    '""',
    'unix:/x',
    '[::1]',
    '127.0.0.1:80',
  ],
  real_ip_header: ['X-Real-IP', 'X-Forwarded-For', 'proxy_protocol', 'x', '""', '$uri'],
  limit_except: ['GET', 'get', 'GET POST', 'NOPE', 'HEAD', 'GET GET', 'PATCH', 'TRACE', 'CONNECT', '""', 'MKCOL'],
  satisfy: ['all', 'any', 'ALL', 'x'],
  use: ['epoll', 'poll', 'select', 'kqueue', 'x', 'EPOLL'],
  debug_connection: ['127.0.0.1', 'unix:', 'x', '127.0.0.1/8', 'localhost', 'no.such.invalid', '::1', '127.0.0.1/33'],
  worker_connections: ['1', '0', 'x', '-1', '2', '100000'],
  default_type: ['text/x', '""', '$uri'],
  charset: ['utf-8', 'off', '$uri', '$nosuch', '""', 'koi8-r', 'UTF-8'],
  source_charset: ['utf-8', 'off', '$uri', 'koi8-r'],
  ssi_types: ['x', '*'],
  slice: ['0', '1k', 'x', '-1'],
  index: ['a', 'a b', '/a b', 'a /b', '""', '$uri', '$nosuch', 'a ""', '/', 'a/'],
  root: [
    'html',
    'html/',
    '%DIR%',
    '/',
    '""',
    '$uri',
    '$document_root',
    '$realpath_root',
    '$nosuch',
    '${document_root}x',
    'a$',
    '$document_rootx',
  ],
  alias: ['html', 'html/', '/', '""', '$1', '$document_root', '%DIR%/html/$1'],
  limit_rate: ['1k', '$uri', '$nosuch', 'x', '-1', '0', 'a$uri'],
  limit_rate_after: ['1k', '$uri', 'x', '1g'],
  subrequest_output_buffer_size: ['1k', 'x', '0'],
  random_index: ['on', 'off', 'x'],
  stub_status: ['', 'on', 'off', 'x', 'a b'],
  empty_gif: ['', 'x'],
  internal: ['', 'x'],
  break: ['', 'x'],
  proxy_protocol: [],
};

/** Rows that stand in blocks with a grammar of their own. */
const LINES: Record<string, string[]> = {
  types: [
    'a b',
    'a b b',
    'a',
    'a B b',
    'a { }',
    'include inc.conf',
    'include',
    'default x',
    '"" b',
    'a ""',
    '} {',
    'include nosuch',
  ],
  map: [
    ...[
      'a b',
      'a',
      'a b c',
      'default x',
      'hostnames',
      'volatile',
      'include nosuch',
      '~a b',
      '~* b',
      '~( b',
      '~*A b',
      '\\~a b',
      '"" b',
    ],
    ...[
      'a $uri',
      'a $nosuch',
      'a b; a c',
      'a b; A c',
      'default a; default b',
      'hostnames; *.x a',
      'hostnames; *.x a; *.x b',
    ],
    ...[
      'hostnames; .x a; x b',
      'hostnames; x.* a',
      'hostnames; *x a',
      'hostnames; *. a',
      'hostnames; a..b c',
      'hostnames; .. c',
    ],
    ...[
      '*.x a; hostnames',
      'default $nosuch',
      '~(?<n>x) $n',
      '~(x) $1',
      'a "b c"',
      '\\default x',
      '\\hostnames y',
      'include',
      'hostnames x y',
    ],
    ...[
      'volatile x',
      'volatile; volatile',
      '~a b; ~a c',
      'a { }',
      'default',
      '~ b',
      'hostnames; a.*.b c',
      'hostnames; *.*.b c',
      'hostnames; a* c',
    ],
  ],
  geo: [
    ...[
      'default x',
      '127.0.0.1 a',
      '127.0.0.0/8 a',
      '127.0.0.1/8 a',
      '::1 a',
      '::/0 a',
      'x a',
      '1.2.3.4/33 a',
      'ranges',
      'ranges; 1.1.1.1-2.2.2.2 a',
    ],
    ...[
      'ranges; 2.2.2.2-1.1.1.1 a',
      'ranges; 1.1.1.1 a',
      'ranges; x-y a',
      'ranges; ::1-::2 a',
      'delete 1.2.3.4',
      '1.2.3.4 a; delete 1.2.3.4',
    ],
    ...[
      'proxy 1.2.3.4',
      'proxy x',
      'proxy_recursive',
      'include nosuch',
      '1.2.3.4 a; 1.2.3.4 b',
      '1.2.3.4 a; 1.2.3.4 a',
      '1.2.3.4',
      '1.2.3.4 a b',
    ],
    ...[
      '1.2.3.4 a; ranges',
      'default a; ranges',
      'default a; default b',
      'ranges; default a; 0.0.0.0-1.1.1.1 a',
      'ranges; delete 1.1.1.1-2.2.2.2',
    ],
    ...[
      'ranges; 1.1.1.1-1.1.1.9 a; 1.1.1.3-1.1.1.4 b',
      'ranges; 1.1.1.1-1.1.1.9 a; 1.1.1.1-1.1.1.9 b',
      'ranges; 255.255.255.255-255.255.255.255 a',
    ],
    ...[
      '::1/129 a',
      '127.1 a',
      'proxy 1.2.3.4/8',
      'proxy ::1',
      '"" a',
      '1.2.3.4 ""',
      '1.2.3.4 $uri',
      'a { }',
      '0.0.0.0/0 a',
      'default ""',
      'ranges; ranges',
    ],
    ...[
      'ranges; include nosuch',
      'proxy',
      'delete',
      'delete x',
      'proxy_recursive x',
      'ranges x',
      'default',
      '1.2.3.4/24 a; delete 1.2.3.0/24',
      '::1/64 a; ::/64 b',
    ],
  ],
  splitClients: [
    ...[
      '50% a',
      '* a',
      '50% a; * b',
      '50% a; 60% b',
      '0% a',
      '100% a',
      '100.00% a',
      '100.01% a',
      '0.01% a',
      '0.001% a',
      'x a',
      '50 a',
      '50%',
      '50% a b',
    ],
    ...[
      '* a; * b',
      '* a; 50% b',
      '% a',
      '.5% a',
      '5.% a',
      '50% $uri',
      '-1% a',
      '1000% a',
      'include nosuch',
      '50% ""',
      '33.3% a; 33.3% b; 33.4% c',
      'a { }',
      '99999999999% a',
    ],
  ],
  charsetMap: [
    ...[
      '80 81',
      '80',
      '80 81 82',
      'x 80',
      '80 x',
      '100 80',
      '80 100',
      '0 0',
      '7f 7f',
      'ff ff',
      '80 81; 80 82',
      '80 81; 82 81',
      '80 E282AC',
      '"" 80',
      '80 ""',
      'a { }',
      'include nosuch',
      '8 9',
      '080 81',
      '-1 80',
    ],
  ],
};

/** A block of these takes lines like these. */
const BLOCKS: Record<string, string> = {
  events: 'worker_connections 10;',
  geo: '127.0.0.1 a;',
  map: 'a b;',
  split_clients: '* a;',
  types: 'a b;',
  charset_map: '80 80;',
  location: '',
  server: 'listen 127.0.0.1:18081;',
  http: '',
  if: '',
  limit_except: 'deny all;',
};

export interface Case {
  /** `directive place how`. */
  name: string;
  text: string;
}

/** A sequence of numbers below 1 that is the same each time. */
export function sequence(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    // mulberry32 is a permutation of a counter; any would do.
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function pick<V>(random: () => number, values: readonly V[]): V {
  return values[Math.floor(random() * values.length)] as V;
}

/** What ends a directive: `;`, or a block where it has one. */
function ended(name: string, args: string): string {
  const block = BLOCKS[name];
  const head = args === '' ? name : `${name} ${args}`;
  return block === undefined ? `${head};` : `${head} {\n${block}\n}`;
}

/**
 * Cases of a directive: each place with a good word; at home (`homes`: places where it is allowed) each count of words, its own words, twice,
 * with the wrong ending, `values` of the values, and `pairs` of random words.
 */
export function casesOf(
  name: string,
  homes: readonly string[],
  random: () => number,
  { values, pairs }: { values: number; pairs: number },
): Case[] {
  const cases: Case[] = [];
  const add = (place: string, text: string): void => {
    cases.push({ name: `${name} in ${place}`, text: (PLACES[place] as (text: string) => string)(text) });
  };
  const words = WORDS[name] ?? [];
  const good = words[0] ?? 'on';
  for (const place of Object.keys(PLACES)) {
    add(place, ended(name, good));
    if (!homes.includes(place)) continue;
    for (let count = 0; count <= 5; count++) add(place, ended(name, Array(count).fill('1').join(' ')));
    // The wrong ending.
    add(place, BLOCKS[name] === undefined ? `${name} on {\n}` : `${name};`);
    for (const value of [good, '1', 'off']) add(place, `${ended(name, value)}\n${ended(name, value)}`);
  }
  for (const word of words) {
    add(pick(random, homes), ended(name, word));
    const place = pick(random, homes);
    add(place, `${ended(name, good)}\n${ended(name, word)}`);
  }
  for (let i = 0; i < values; i++) add(pick(random, homes), ended(name, pick(random, VALUES)));
  for (let i = 0; i < pairs; i++) {
    const count = 2 + Math.floor(random() * 3);
    const args = Array.from({ length: count }, () => pick(random, random() < 0.3 && words.length > 0 ? words : VALUES));
    add(pick(random, homes), ended(name, args.join(' ')));
  }
  return cases;
}

/** Lines of blocks with a grammar of their own. */
export function linesOf(): Case[] {
  return Object.entries(LINES).flatMap(([place, lines]) =>
    lines.map((line) => ({
      name: `a line of ${place}`,
      text: (PLACES[place] as (text: string) => string)(line.endsWith('}') || line.endsWith('{') ? line : `${line};`),
    })),
  );
}

/** Makes what both say comparable. */
export function plain(stderr: string, dir: string, file: string): string {
  return stderr
    .replaceAll(/^(?:nginx: |\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d )(\[[a-z]+\] )(?:\d+#\d+: )?/gm, '$1')
    .replaceAll(file, 'FILE')
    .replaceAll(dir, 'DIR')
    .trimEnd();
}

const run = promisify(execFile);

/** What `nginx -t` says of each file; several processes after another, from one shell. */
export async function askNginx(dir: string, files: readonly string[]): Promise<string[]> {
  const script = `for f; do ${DEBIAN_NGINX} -t -p "$0/" -c "$f" -e stderr 2>&1; printf '\\001%s\\002' "$?"; done`;
  const { stdout } = await run('sh', ['-c', script, dir, ...files], { encoding: 'latin1', maxBuffer: 2 ** 28 });
  return stdout
    .split('\x02')
    .slice(0, files.length)
    .map((each, i) => {
      const [text = '', code] = each.split('\x01');
      return `${plain(text, dir, files[i] as string)}\n${code}`;
    });
}

/** The same of ours, without a process. */
export async function askOurs(dir: string, file: string): Promise<string> {
  let text = '';
  const report = (level: string, message: string): void => {
    text += `[${level}] ${message}\n`;
  };
  const { error }: { error: ConfError | null } = await testConfiguration(
    {
      prefix: `${dir}/`,
      confFile: file,
      globals: '',
      errorLog: 'stderr',
      onMessage: report,
    },
    false,
    (line) => {
      text += `nginx: ${line}\n`;
    },
  );
  if (error !== null) report(error.level, error.message);
  text += `nginx: configuration file ${file} test ${error === null ? 'is successful' : 'failed'}\n`;
  return `${plain(text, dir, file)}\n${error === null ? 0 : 1}`;
}

/** Writes the cases and asks both. `%DIR%` in a text is the folder. */
export async function compareCases(
  dir: string,
  cases: readonly Case[],
): Promise<{ name: string; text: string; nginx: string; ours: string }[]> {
  const folder = join(dir, 'cases');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'inc.conf'), '');
  const files = cases.map((each, i) => {
    const file = join(folder, `${i}.conf`);
    writeFileSync(file, each.text.replaceAll('%DIR%', dir), 'latin1');
    return file;
  });
  const nginx = await askNginx(dir, files);
  const found = [];
  for (const [i, each] of cases.entries()) {
    found.push({ ...each, nginx: nginx[i] as string, ours: await askOurs(dir, files[i] as string) });
  }
  rmSync(folder, { recursive: true });
  return found;
}

const HOMES: Record<string, number> = {
  main: Context.Main,
  events: Context.Events,
  http: Context.Http,
  server: Context.Server,
  location: Context.Location,
  serverIf: Context.ServerIf,
  locationIf: Context.LocationIf,
  limitExcept: Context.LimitExcept,
};

/** Places where the table allows a directive. */
export function homesOf(name: string): string[] {
  const contexts = (DIRECTIVE_TABLE.directives.get(name) ?? []).reduce((bits, row) => bits | row.contexts, 0);
  return Object.keys(HOMES).filter((place) => ((HOMES[place] as number) & contexts) !== 0);
}
