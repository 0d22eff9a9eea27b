/**
 * The oracle: the same bytes to Debian's nginx and to ours, the same bytes back.
 *
 * Compared: status line, every header line in order (but Server and Date), body. What may differ is the table
 * EXPLAINED (support/oracle.ts), each row with its reason; what is not in the table and differs is a failure.
 */

import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, rmSync, symlinkSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SERVER_FULL } from '../src/version.ts';
import { exchange } from './support/client.ts';
import { type Group, get, head, normal, old, oracleAvailable, oracleVersion, shown } from './support/oracle.ts';
import { conf, IO_MODES, makePrefix, type Running, startDebian, startLite } from './support/server.ts';

const FILES: Record<string, string> = {
  'html/index.html': '<p>index</p>\n',
  'html/a.txt': 'hello, world\n',
  'html/empty.txt': '',
  'html/noext': 'no extension\n',
  'html/.hidden': 'hidden\n',
  'html/.css': 'dot css\n',
  'html/UPPER.HTML': 'upper\n',
  'html/with space.txt': 'space\n',
  'html/per%cent.txt': 'percent\n',
  'html/q?mark.txt': 'question\n',
  'html/dir/index.html': 'dir index\n',
  'html/dir/b.txt': 'b\n',
  'html/dir.d/x.tar.gz': 'gz\n',
  'html/no-index/c.txt': 'c\n',
  'html/second/index.htm': 'second index\n',
  'html/404.html': 'custom 404\n',
  'html/50x.html': 'custom 50x\n',
  'html/big.bin': 'x'.repeat(300_000),
  'html/middle.bin': 'y'.repeat(40_000),
  'html/deep/er/file.js': 'js\n',
  'other/o.txt': 'other\n',
  'other/index.html': 'other index\n',
  'other/sub/s.txt': 'sub\n',
};

const TYPES =
  'types { text/html html htm; text/plain txt; text/css css; application/javascript js; application/gzip gz; } default_type application/octet-stream;';

const LAST_MODIFIED = 'Sun, 01 Mar 2026 10:20:30 GMT';
const LATER = 'Mon, 02 Mar 2026 10:20:30 GMT';
const EARLIER = 'Sat, 28 Feb 2026 10:20:30 GMT';
const ETAG = '"69a412ee-d"';

const GROUPS: Group[] = [
  {
    name: 'request lines',
    http: `${TYPES} server { listen 127.0.0.1:%PORT%; root html; }`,
    requests: [
      get('/a.txt'),
      'GET /a.txt\r\n',
      'GET /a.txt\n',
      'GET /missing\r\n',
      'GET /\r\n',
      'POST /a.txt\r\n',
      'HEAD /a.txt\r\n',
      old('/a.txt'),
      'GET /a.txt HTTP/1.1\nHost: x\n\n',
      'GET /a.txt HTTP/1.1\r\nHost: x\n\r\n',
      'GET /a.txt HTTP/1.1\nHost: x\r\n\n',
      '\r\n\r\nGET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      '\n\n\nGET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      ' GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET  /a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET /a.txt  HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET /a.txt HTTP/1.1 \r\nHost: x\r\n\r\n',
      'GET /a.txt HTTP/1.1  x\r\nHost: x\r\n\r\n',
      'GET\t/a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET /a.txt\tHTTP/1.1\r\nHost: x\r\n\r\n',
      'get /a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'G3T /a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'G_T-X /a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'FOO /a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'FOO /missing HTTP/1.1\r\nHost: x\r\n\r\n',
      'FOO / HTTP/1.1\r\nHost: x\r\n\r\n',
      'PUT /a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'DELETE /a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'OPTIONS /a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n',
      'TRACE /a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'CONNECT /a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n',
      'PROPFIND /a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET ?x HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET http://host/a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET http://host HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET http://host?args HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET http://host:8080/a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET http://host:8080?q HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET http://host: HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET http://[::1]/a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET http://[::1]:80/dir HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET http://ho_st/a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET http:///a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET http://.host/a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET http://ho..st/a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET http://host/dir HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET http://HOST/dir HTTP/1.0\r\n\r\n',
      'GET https+x-1.2://host/a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET h_p://host/a.txt HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET /a.txt HTTP/1.2\r\nHost: x\r\n\r\n',
      'GET /a.txt HTTP/1.10\r\nHost: x\r\n\r\n',
      'GET /a.txt HTTP/1.99\r\nHost: x\r\n\r\n',
      'GET /a.txt HTTP/1.1000\r\nHost: x\r\n\r\n',
      'GET /a.txt HTTP/2.0\r\nHost: x\r\n\r\n',
      'GET /a.txt HTTP/0.9\r\nHost: x\r\n\r\n',
      'GET /a.txt HTTP/11.1\r\nHost: x\r\n\r\n',
      'GET /a.txt HTTP/01.1\r\nHost: x\r\n\r\n',
      'GET /a.txt HTTP/1\r\nHost: x\r\n\r\n',
      'GET /a.txt HTTP/1.\r\nHost: x\r\n\r\n',
      'GET /a.txt HTTP/1.x\r\nHost: x\r\n\r\n',
      'GET /a.txt http/1.1\r\nHost: x\r\n\r\n',
      'GET /a.txt HTP/1.1\r\nHost: x\r\n\r\n',
      'GET /a.txt H\r\nHost: x\r\n\r\n',
      'GET /a.txt HTTP/1.1\rHost: x\r\n\r\n',
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
      '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
      '\x00\x00\x00',
    ],
  },
  {
    name: 'URIs',
    http: `${TYPES} server { listen 127.0.0.1:%PORT%; root html; }`,
    requests: [
      '/',
      '//',
      '/./',
      '/.',
      '/..',
      '/../',
      '/../a.txt',
      '/dir/..',
      '/dir/../',
      '/dir/../a.txt',
      '/dir/../../a.txt',
      '/dir/./b.txt',
      '/dir/.',
      '/dir//b.txt',
      '//dir///b.txt',
      '/dir/...',
      '/dir/.../b.txt',
      '/%2e%2e/a.txt',
      '/dir/%2e%2e/a.txt',
      '/dir/.%2e/a.txt',
      '/dir/%2e./a.txt',
      '/%2e/a.txt',
      '/a%2etxt',
      '/%61.txt',
      '/a.txt%00',
      '/%00',
      '/a%',
      '/a%2',
      '/a%zz',
      '/%2fa.txt',
      '/dir%2fb.txt',
      '/dir%2f%2fb.txt',
      '/dir%2f..%2fa.txt',
      '/%2f..%2f..%2fetc%2fpasswd',
      '/..%2f..%2fetc/passwd',
      '/a.txt?x=1',
      '/a.txt?',
      '/a.txt??',
      '/a.txt?a=/../..',
      '/a.txt#frag',
      '/a.txt#frag?x',
      '/a.txt?x#frag',
      '/#',
      '/?#',
      '/dir?x=1',
      '/dir?',
      '/dir#x',
      '/dir/?x',
      '/with%20space.txt',
      '/with+space.txt',
      '/per%25cent.txt',
      '/q%3fmark.txt',
      '/q%3Fmark.txt',
      '/a.txt%20',
      '/a.txt/',
      '/a.txt/b',
      '/missing',
      '/missing/',
      '/missing/x/y',
      '/no-index/',
      '/no-index',
      '/second/',
      '/dir.d/x.tar.gz',
      '/dir.d/',
      '/dir.d',
      '/noext',
      '/.hidden',
      '/.css',
      '/UPPER.HTML',
      '/a\\b',
      '/\x7f',
      '/\x1f',
      '/\x80\xff',
      '/%80%ff',
      '/a%0d%0ab',
      '/a%0ab',
      '/%25%32%65',
      '/./././a.txt',
      '/deep/er/../../a.txt',
      '/deep/er/file.js',
      '/dir/%2e',
      '/dir/%2e%2e',
      '/dir/..?x',
      '/dir/.?x',
      '/dir/..#x',
      '/dir/.#x',
      '/a+b',
      '/+',
      '/a.txt+',
      `/${'x'.repeat(300)}`,
      `/${'x'.repeat(4096)}`,
      `/${'d/'.repeat(600)}`,
      '/a.txt%2',
      '/%',
      '/%%',
      '/?%',
      '/a.txt?%zz%00',
      '/link.txt',
      '/link-dir/',
      '/link-dir',
      '/link-dir/b.txt',
      '/dangling',
      '/loop',
      '/secret.txt',
      '/secret/',
      '/secret/x',
      '/pipe',
    ].flatMap((path) => [get(path), head(path)]),
  },
  {
    name: 'header lines',
    http: `${TYPES} server { listen 127.0.0.1:%PORT%; root html; }`,
    requests: [
      'GET /a.txt HTTP/1.1\r\n\r\n',
      'GET /a.txt HTTP/1.0\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost:\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: \r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost:x\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost:   x   \r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost:\tx\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nhOST: x\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: a/b\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: a b\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: a..b\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: .\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: a.\r\n\r\n',
      'GET /dir HTTP/1.1\r\nHost: a.\r\n\r\n',
      'GET /dir HTTP/1.1\r\nHost: A.B:99\r\n\r\n',
      'GET /dir HTTP/1.1\r\nHost: :99\r\n\r\n',
      'GET /dir HTTP/1.1\r\nHost: [::1]:99\r\n\r\n',
      'GET /dir HTTP/1.1\r\nHost: [::1\r\n\r\n',
      'GET /dir HTTP/1.1\r\nHost: a[b]\r\n\r\n',
      'GET /dir HTTP/1.1\r\nHost: <script>\r\n\r\n',
      'GET /dir HTTP/1.1\r\nHost: \x80\r\n\r\n',
      'GET http://h/dir HTTP/1.1\r\nHost: a b\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: x\r\nNoColon\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: x\r\nNoColon\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: x\r\n: empty\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: x\r\nA: b\r\n\tc\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost : x\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost\t: x\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: x\r\nA_B: c\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: x\r\nA@B: c\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: x\r\nA\x00B: c\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: x\r\nA:\x00\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: x\r\nA: b \x00\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: x\r\nA: b\r\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: x\r\n\rA: b\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: x\r\nA: b\x01\x7f\x80\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: x\r\nA\x80: b\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\nHost: x\r\n\x7fA: b\r\n\r\n',
      get('/a.txt', 'Connection: close'),
      get('/a.txt', 'Connection: CLOSE'),
      get('/a.txt', 'Connection: keep-alive'),
      get('/a.txt', 'Connection: foo, close'),
      get('/a.txt', 'Connection: keep-alive, close'),
      get('/a.txt', 'Connection: closed'),
      get('/a.txt', 'Connection: upgrade'),
      get('/a.txt', 'Connection:'),
      get('/a.txt', 'Connection: close', 'Connection: keep-alive'),
      get('/a.txt', 'Connection: x', 'Connection: close'),
      old('/a.txt', 'Connection: keep-alive'),
      old('/a.txt', 'Connection: Keep-Alive'),
      old('/dir', 'Connection: keep-alive'),
      get('/a.txt', 'Content-Length: 0'),
      get('/a.txt', 'Content-Length:'),
      get('/a.txt', 'Content-Length: +1'),
      get('/a.txt', 'Content-Length: -1'),
      get('/a.txt', 'Content-Length: 1x'),
      get('/a.txt', 'Content-Length: 0x1'),
      get('/a.txt', 'Content-Length: 1, 1'),
      get('/a.txt', 'Content-Length: 99999999999999999999'),
      get('/a.txt', 'Content-Length: 9223372036854775808'),
      get('/a.txt', 'Content-Length: 1', 'Content-Length: 1'),
      get('/a.txt', 'Transfer-Encoding: gzip'),
      get('/a.txt', 'Transfer-Encoding: identity'),
      get('/a.txt', 'Transfer-Encoding: chunked, chunked'),
      get('/a.txt', 'Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'),
      get('/a.txt', 'Transfer-Encoding:'),
      get('/a.txt', 'Transfer-Encoding: chunked', 'Content-Length: 3'),
      get('/a.txt', 'Transfer-Encoding: gzip', 'Content-Length: 3'),
      old('/a.txt', 'Transfer-Encoding: chunked'),
      get('/missing', 'User-Agent: Mozilla/5.0 Chrome/120.0'),
      get('/missing', 'User-Agent: Mozilla/4.0 (compatible; MSIE 6.0)'),
      get('/missing', 'User-Agent: Mozilla/4.0 (compatible; MSIE 7.0)'),
      get('/missing', 'User-Agent: Opera MSIE 6.0'),
      get('/missing', 'User-Agent: curl/8'),
      get('/dir', 'User-Agent: Chrome/1'),
      get('/a.txt', 'Referer: a', 'Referer: b', 'User-Agent: a', 'User-Agent: b'),
      get('/a.txt', 'If-Modified-Since: x', 'If-Modified-Since: y'),
      get('/a.txt', 'Range: bytes=0-0', 'Range: bytes=1-1'),
      get('/a.txt', 'Authorization: a', 'Authorization: b'),
      get('/a.txt', 'Upgrade: h2c', 'Connection: Upgrade, HTTP2-Settings', 'HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA'),
      get('/a.txt', ...Array.from({ length: 80 }, (_, i) => `X-${i}: ${'v'.repeat(i)}`)),
    ],
  },
  {
    name: 'limits of the head',
    http: `${TYPES} server { listen 127.0.0.1:%PORT%; root html; }`,
    requests: [
      get(`/${'x'.repeat(1000)}`),
      get(`/${'x'.repeat(1024)}`),
      get(`/${'x'.repeat(8170)}`),
      get(`/${'x'.repeat(8175)}`),
      get(`/${'x'.repeat(8176)}`),
      get(`/${'x'.repeat(8177)}`),
      get(`/${'x'.repeat(8178)}`),
      get(`/${'x'.repeat(8179)}`),
      get(`/${'x'.repeat(8180)}`),
      get(`/${'x'.repeat(8192)}`),
      get(`/${'x'.repeat(20000)}`),
      ...[1000, 8100, 8180, 8185, 8186, 8187, 8188, 8189, 8190, 8192, 9000, 20000].map((n) =>
        get('/a.txt', `A: ${'v'.repeat(n)}`),
      ),
      ...[1, 2, 3, 4, 5, 6].map((n) =>
        get('/a.txt', ...Array.from({ length: n }, (_, i) => `A${i}: ${'v'.repeat(8000)}`)),
      ),
      ...[3, 4, 5, 6, 7, 8, 9].map((n) =>
        get('/a.txt', ...Array.from({ length: n }, (_, i) => `A${i}: ${'v'.repeat(5000)}`)),
      ),
      get('/a.txt', ...Array.from({ length: 400 }, (_, i) => `Name-${i}: ${'v'.repeat(60)}`)),
      get('/a.txt', ...Array.from({ length: 600 }, (_, i) => `Name-${i}: ${'v'.repeat(60)}`)),
      `${'\r\n'.repeat(3000)}${get('/a.txt')}`,
      `GET /a.txt HTTP/1.1\r\n${'N'.repeat(9000)}: x\r\n\r\n`,
    ],
  },
  {
    name: 'conditions',
    http: `${TYPES} server { listen 127.0.0.1:%PORT%; root html; location /before/ { alias html/; if_modified_since before; } location /off/ { alias html/; if_modified_since off; } location /plain/ { alias html/; etag off; } }`,
    requests: [
      ...['/a.txt', '/before/a.txt', '/off/a.txt', '/plain/a.txt', '/missing'].flatMap((path) => [
        get(path, `If-Modified-Since: ${LAST_MODIFIED}`),
        get(path, `If-Modified-Since: ${LATER}`),
        get(path, `If-Modified-Since: ${EARLIER}`),
        get(path, 'If-Modified-Since: Sunday, 01-Mar-26 10:20:30 GMT'),
        get(path, 'If-Modified-Since: Sun Mar  1 10:20:30 2026'),
        get(path, 'If-Modified-Since: yesterday'),
        get(path, `If-None-Match: ${ETAG}`),
        get(path, `If-None-Match: W/${ETAG}`),
        get(path, 'If-None-Match: "x"'),
        get(path, `If-None-Match: "x", W/${ETAG} , "y"`),
        get(path, 'If-None-Match: *'),
        get(path, `If-None-Match: "x"`, `If-Modified-Since: ${LAST_MODIFIED}`),
        get(path, `If-None-Match: ${ETAG}`, `If-Modified-Since: ${EARLIER}`),
        get(path, `If-Match: ${ETAG}`),
        get(path, `If-Match: W/${ETAG}`),
        get(path, 'If-Match: "x"'),
        get(path, 'If-Match: *'),
        get(path, `If-Unmodified-Since: ${LAST_MODIFIED}`),
        get(path, `If-Unmodified-Since: ${EARLIER}`),
        get(path, `If-Unmodified-Since: ${LATER}`),
        get(path, 'If-Unmodified-Since: x'),
        head(path, `If-None-Match: ${ETAG}`),
        old(path, `If-None-Match: ${ETAG}`),
        get(path, `If-None-Match: ${ETAG}`, 'Range: bytes=0-1'),
      ]),
    ],
  },
  {
    name: 'ranges',
    http: `${TYPES} server { listen 127.0.0.1:%PORT%; root html; location /one/ { alias html/; max_ranges 1; } location /none/ { alias html/; max_ranges 0; } }`,
    requests: [
      ...[
        'bytes=0-0',
        'bytes=0-',
        'bytes=5-',
        'bytes=-5',
        'bytes=-0',
        'bytes=-100',
        'bytes=12-',
        'bytes=13-',
        'bytes=12-100',
        'bytes=100-200',
        'bytes=5-2',
        'bytes=0-12',
        'bytes=0-13',
        'bytes=',
        'bytes=-',
        'bytes=a-b',
        'bytes=0',
        'bytes= 1 - 3 ',
        'Bytes=0-1',
        'items=0-1',
        'bytes 0-1',
        'bytes=0-1,3-4',
        'bytes=0-1, 3-4 , 6-',
        'bytes=0-1,100-200',
        'bytes=100-,200-',
        'bytes=0-5,3-8',
        'bytes=0-,0-',
        'bytes=0-1,',
        'bytes=,0-1',
        'bytes=0-1,x',
        'bytes=99999999999999999999-',
        'bytes=0-99999999999999999999',
        'bytes=0-1 2',
        'bytes=5-2,0-1',
        'bytes=0-0,1-1,2-2,3-3,4-4,5-5',
      ].flatMap((range) => [get('/a.txt', `Range: ${range}`), get('/one/a.txt', `Range: ${range}`)]),
      get('/none/a.txt', 'Range: bytes=0-1'),
      head('/a.txt', 'Range: bytes=0-1'),
      head('/a.txt', 'Range: bytes=0-1,3-4'),
      old('/a.txt', 'Range: bytes=0-1'),
      get('/a.txt', 'Range: bytes=0-1', `If-Range: ${ETAG}`),
      get('/a.txt', 'Range: bytes=0-1', 'If-Range: "x"'),
      get('/a.txt', 'Range: bytes=0-1', `If-Range: ${LAST_MODIFIED}`),
      get('/a.txt', 'Range: bytes=0-1', `If-Range: ${LATER}`),
      get('/a.txt', 'Range: bytes=0-1', 'If-Range: x'),
      get('/empty.txt', 'Range: bytes=0-0'),
      get('/empty.txt', 'Range: bytes=-1'),
      get('/empty.txt', 'Range: bytes=0-'),
      get('/missing', 'Range: bytes=0-0'),
      get('/big.bin', 'Range: bytes=100-109'),
      get('/big.bin', 'Range: bytes=-10'),
      get('/big.bin', 'Range: bytes=100-109,200-209,299990-'),
      get('/middle.bin', 'Range: bytes=1-2,39999-39999'),
      get('/dir/', 'Range: bytes=0-1'),
    ],
  },
  {
    name: 'bodies and pipelines',
    http: `${TYPES} server { listen 127.0.0.1:%PORT%; root html; client_max_body_size 100; location /ok { return 200 "ok\\n"; } location /big { client_max_body_size 0; return 200 "big\\n"; } location /redirect { return 301 /x; } }`,
    requests: [
      get('/a.txt') + get('/missing') + get('/dir') + get('/a.txt'),
      get('/a.txt') + get('/a.txt', 'Connection: close') + get('/a.txt'),
      `${get('/a.txt')}BAD\x00\r\n\r\n${get('/a.txt')}`,
      head('/a.txt') + get('/a.txt'),
      `${get('/a.txt', 'Content-Length: 3')}abc${get('/dir/b.txt')}`,
      `${get('/missing', 'Content-Length: 3')}abc${get('/dir/b.txt')}`,
      `${get('/ok', 'Content-Length: 3')}abc${get('/dir/b.txt')}`,
      `${get('/redirect', 'Content-Length: 3')}abc${get('/dir/b.txt')}`,
      `${get('/dir', 'Content-Length: 3')}abc${get('/dir/b.txt')}`,
      `${get('/a.txt', 'Content-Length: 3').replace('GET', 'POST')}abc${get('/dir/b.txt')}`,
      `${get('/missing', 'Content-Length: 3').replace('GET', 'POST')}abc${get('/dir/b.txt')}`,
      `${get('/', 'Content-Length: 3').replace('GET', 'POST')}abc${get('/dir/b.txt')}`,
      `${get('/no-index/', 'Content-Length: 3').replace('GET', 'POST')}abc${get('/dir/b.txt')}`,
      get('/a.txt', 'Content-Length: 100') + 'x'.repeat(100) + get('/dir/b.txt'),
      get('/a.txt', 'Content-Length: 101') + 'x'.repeat(101) + get('/dir/b.txt'),
      get('/big', 'Content-Length: 70000') + 'x'.repeat(70000) + get('/dir/b.txt'),
      `${get('/a.txt', 'Transfer-Encoding: chunked')}0\r\n\r\n${get('/dir/b.txt')}`,
      `${get('/a.txt', 'Transfer-Encoding: Chunked')}3\r\nabc\r\n0\r\n\r\n${get('/dir/b.txt')}`,
      `${get('/a.txt', 'Transfer-Encoding: chunked')}3;x=y\r\nabc\r\n0;z\r\n\r\n${get('/dir/b.txt')}`,
      `${get('/a.txt', 'Transfer-Encoding: chunked')}3 \r\nabc\r\n0\r\n\r\n${get('/dir/b.txt')}`,
      `${get('/a.txt', 'Transfer-Encoding: chunked')}3\nabc\n0\n\n${get('/dir/b.txt')}`,
      get('/a.txt', 'Transfer-Encoding: chunked') +
        '00000003\r\nabc\r\n0\r\nTrailer: x\r\nMore: y\r\n\r\n' +
        get('/dir/b.txt'),
      get('/a.txt', 'Transfer-Encoding: chunked') +
        'A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n' +
        get('/dir/b.txt'),
      `${get('/a.txt', 'Transfer-Encoding: chunked')}x\r\nabc\r\n0\r\n\r\n${get('/dir/b.txt')}`,
      `${get('/a.txt', 'Transfer-Encoding: chunked')}3\r\nabcd\r\n0\r\n\r\n${get('/dir/b.txt')}`,
      `${get('/a.txt', 'Transfer-Encoding: chunked')}\r\n3\r\nabc\r\n0\r\n\r\n${get('/dir/b.txt')}`,
      `${get('/a.txt', 'Transfer-Encoding: chunked')}-1\r\nabc\r\n0\r\n\r\n${get('/dir/b.txt')}`,
      `${get('/a.txt', 'Transfer-Encoding: chunked')}0x3\r\nabc\r\n0\r\n\r\n${get('/dir/b.txt')}`,
      `${get('/a.txt', 'Transfer-Encoding: chunked')}ffffffffffffffffff\r\nabc\r\n0\r\n\r\n${get('/dir/b.txt')}`,
      `${get('/ok', 'Transfer-Encoding: chunked')}zz\r\n${get('/dir/b.txt')}`,
      `${get('/missing', 'Transfer-Encoding: chunked')}zz\r\n${get('/dir/b.txt')}`,
      get('/a.txt', 'Transfer-Encoding: chunked').replace('GET', 'POST') +
        '200\r\n' +
        'x'.repeat(512) +
        '\r\n0\r\n\r\n' +
        get('/dir/b.txt'),
      get('/a.txt', 'Expect: 100-continue'),
      `${get('/a.txt', 'Expect: 100-continue', 'Content-Length: 3')}abc${get('/dir/b.txt')}`,
      `${get('/missing', 'Expect: 100-continue', 'Content-Length: 3')}abc${get('/dir/b.txt')}`,
      `${get('/ok', 'Expect: 100-Continue', 'Content-Length: 3')}abc${get('/dir/b.txt')}`,
      `${get('/ok', 'Expect: other', 'Content-Length: 3')}abc${get('/dir/b.txt')}`,
      get('/a.txt', 'Expect: 100-continue', 'Content-Length: 101') + 'x'.repeat(101),
      `${old('/a.txt', 'Content-Length: 3', 'Connection: keep-alive')}abc${old('/a.txt')}`,
      `${get('/a.txt', 'Content-Length: 3', 'Connection: close')}abc${get('/dir/b.txt')}`,
      `TRACE / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc${get('/a.txt')}`,
      get('/big.bin') + get('/middle.bin') + get('/a.txt'),
      get('/middle.bin') + head('/big.bin') + get('/big.bin', 'Range: bytes=299999-') + get('/a.txt'),
    ],
  },
  {
    name: 'locations',
    http: `${TYPES} server { listen 127.0.0.1:%PORT%; root html;
      location = / { return 200 "exact root\\n"; }
      location / { return 200 "prefix root\\n"; }
      location /a { return 200 "prefix a\\n"; }
      location /a/b { return 200 "prefix a/b\\n"; }
      location ^~ /images/ { return 200 "noregex\\n"; }
      location ~ \\.(gif|jpg)$ { return 200 "regex $1\\n"; }
      location ~* \\.PNG$ { return 200 "caseless\\n"; }
      location = /exact.gif { return 200 "exact gif\\n"; }
      location /nest { location /nest/in { return 200 "nested\\n"; } location ~ \\.gif$ { return 200 "nested gif\\n"; } location = /nest/x.gif { return 200 "nested exact\\n"; } return 200 "nest\\n"; }
      location ~ ^/u/(?<user>[^/]+)/(\\d+)$ { return 200 "user=$user n=$2\\n"; }
      location ~ "^/q/\\d{2}$" { return 200 "quantified\\n"; }
      location /internal { internal; return 200 "no\\n"; }
      location "/sp ace" { return 200 "space\\n"; }
      location ~ ^/post/[[:alpha:]]+$ { return 200 "posix\\n"; }
      location ~ ^/i/(?i)case$ { return 200 "inline flag\\n"; }
    }`,
    requests: [
      '/',
      '/x',
      '/a',
      '/ab',
      '/a/b',
      '/a/bc',
      '/a/x.gif',
      '/images/x.gif',
      '/images',
      '/x.gif',
      '/x.GIF',
      '/x.png',
      '/x.PnG',
      '/exact.gif',
      '/nest',
      '/nest/in',
      '/nest/in/x',
      '/nest/y.gif',
      '/nest/x.gif',
      '/nest/in/y.gif',
      '/nest.gif',
      '/u/joe/12',
      '/u/joe/x',
      '/q/12',
      '/q/123',
      '/internal',
      '/internal/x',
      '/sp%20ace',
      '/sp ace',
      '/post/abc',
      '/post/12',
      '/i/CASE',
      '/i/case',
      '/?x',
      '//',
      '/images/../x.gif',
      '/%61',
    ].map((path) => get(path)),
  },
  {
    name: 'root, alias, index, try_files',
    http: `${TYPES} server { listen 127.0.0.1:%PORT%; root html; index index.html index.htm;
      location /other/ { alias other/; }
      location /noslash { alias other; }
      location /root2/ { root other; }
      location ~ ^/re/(.*)$ { alias other/$1; }
      location /spa { try_files $uri $uri/ /index.html; }
      location /tf404 { try_files $uri =404; }
      location /tfnamed { try_files $uri @fallback; }
      location /tfargs { try_files /nope.txt /echo?u=$uri&a=$args; }
      location /echo { return 200 "$uri|$args\\n"; }
      location /tfalias/ { alias other/; try_files $uri /a.txt; }
      location /tfdir { try_files /dir/ /no-index/ =410; }
      location /tfdir2 { try_files /nodir/ /second/ =410; }
      location @fallback { return 203 "fallback $uri\\n"; }
      location /idx/ { alias html/; index nope.html /echo; }
      location /idx2/ { alias html/dir/; index $arg_i b.txt; }
      location /loop { try_files /nope /loop; }
      location /type/ { alias html/; default_type text/x-default; types { text/x-t txt; } }
      location /emptytypes/ { alias html/; types { } default_type text/all; }
    }`,
    requests: [
      '/other/o.txt',
      '/other/',
      '/other',
      '/other/sub',
      '/other/sub/',
      '/other/sub/s.txt',
      '/other/../a.txt',
      '/noslash/o.txt',
      '/noslash',
      '/noslash/',
      '/noslashx',
      '/root2/o.txt',
      '/re/o.txt',
      '/re/',
      '/re/sub',
      '/re/nope',
      '/spa',
      '/spa/x',
      '/tf404',
      '/tf404/x',
      '/tfnamed/x?q',
      '/tfargs/p?q=1',
      '/tfalias/o.txt',
      '/tfalias/nope',
      '/tfalias/sub',
      '/tfdir',
      '/tfdir2',
      '/idx/',
      '/idx2/',
      '/idx2/?i=index.html',
      '/loop',
      '/type/a.txt',
      '/type/noext',
      '/type/index.html',
      '/emptytypes/a.txt',
      '/second/',
      '/',
    ].map((path) => get(path)),
  },
  {
    name: 'return and redirects',
    http: `${TYPES} server { listen 127.0.0.1:%PORT%; server_name canonical.example; root html;
      ${[200, 201, 202, 203, 204, 205, 206, 299, 300, 301, 302, 303, 304, 305, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 429, 444, 451, 494, 495, 496, 497, 499, 500, 501, 502, 503, 504, 505, 506, 507, 511, 599, 600, 999].map((code) => `location = /c${code} { return ${code}; } location = /t${code} { return ${code} "text $uri\\n"; }`).join('\n')}
      location /rel { absolute_redirect off; return 301 /x; }
      location /name { server_name_in_redirect on; return 301 /x; }
      location /noport { port_in_redirect off; return 301 /x; }
      location /dirrel { absolute_redirect off; alias html/dir; }
      location /url { return http://elsewhere/$host$request_uri; }
      location /scheme { return $scheme://x/; }
      location /empty { return 301 ""; }
      location /tokens { server_tokens off; return 404; }
      location /vars { return 200 "$host|$http_host|$request_method|$server_protocol|$args|$is_args|$arg_a|$arg_B|$cookie_c|$http_x_y|$request|$scheme|$server_name|$uri|$document_uri|$request_uri|$query_string|$content_length|$content_type|$remote_user|$document_root|$request_filename|$https|$nginx_versionX\\n"; }
    }`.replace('|$nginx_versionX', ''),
    requests: [
      ...[
        200, 201, 202, 203, 204, 205, 206, 299, 300, 301, 302, 303, 304, 305, 307, 308, 400, 401, 402, 403, 404, 405,
        406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 429, 444, 451, 494, 495, 496, 497,
        499, 500, 501, 502, 503, 504, 505, 506, 507, 511, 599, 600, 999,
      ].flatMap((code) => [get(`/c${code}`), get(`/t${code}`), head(`/t${code}`), old(`/c${code}`)]),
      get('/rel'),
      get('/name'),
      get('/noport'),
      get('/dirrel'),
      get('/url?x=1'),
      get('/scheme'),
      get('/empty'),
      get('/tokens'),
      get(
        '/vars?a=1&b=2&A=3',
        'Cookie: b=1; c=2',
        'X-Y: z',
        'Authorization: Basic am9lOnNlY3JldA==',
        'Content-Type: x/y',
      ),
      old('/vars'),
      'GET http://abs/vars?q HTTP/1.1\r\nHost: other\r\n\r\n',
      get('/vars%20x'),
    ],
  },
  {
    name: 'error pages and headers',
    http: `${TYPES} server { listen 127.0.0.1:%PORT%; root html;
      error_page 404 /404.html;
      error_page 403 =200 /a.txt;
      error_page 405 = /a.txt;
      error_page 410 @gone;
      error_page 411 =204 @gone;
      error_page 401 http://login/;
      error_page 402 =301 http://pay/;
      error_page 500 502 503 /50x.html;
      error_page 400 494 /a.txt;
      location /410 { return 410; } location /411 { return 411; } location /401 { return 401; } location /402 { return 402; } location /503 { return 503; } location /409 { return 409; }
      location @gone { return 200 "gone $uri\\n"; }
      location /rec { recursive_error_pages on; error_page 404 /rec2; return 404; }
      location /rec2 { error_page 403 /a.txt; return 403; }
      location /inherit/ { add_header X-In 1; alias html/; }
      location /h/ { alias html/; add_header X-A "a $uri"; add_header X-B b always; add_header X-Empty ""; }
      location /h404 { add_header X-A a; add_header X-B b always; return 404; }
      location /h301 { add_header X-A a; return 301 /x; }
      location /h200 { add_header X-A a; return 200 "x"; }
      location /e1/ { alias html/; expires 1h; } location /e2/ { alias html/; expires -1; } location /e3/ { alias html/; expires epoch; } location /e4/ { alias html/; expires max; } location /e5/ { alias html/; expires off; } location /e6/ { alias html/; expires modified +1d; } location /e7/ { alias html/; expires 0; } location /e8/ { alias html/; expires 1h; add_header Cache-Control public; }
      location /lm/ { alias html/; add_header Last-Modified ""; add_header ETag ""; }
      location /lm2/ { alias html/; add_header Last-Modified "x"; }
      location /kh/ { alias html/; keepalive_timeout 10s 20s; } location /k0/ { alias html/; keepalive_timeout 0; }
      location /kr/ { alias html/; keepalive_requests 2; }
    }`,
    requests: [
      get('/missing'),
      head('/missing'),
      get('/missing', 'Range: bytes=0-1', `If-None-Match: *`),
      get('/no-index/'),
      get('/a.txt').replace('GET', 'POST'),
      get('/a.txt').replace('GET', 'DELETE'),
      get('/410'),
      get('/411'),
      get('/401'),
      get('/402'),
      get('/503'),
      get('/409'),
      'BAD /\x00\r\n\r\n',
      'GET /a.txt HTTP/1.1\r\n\r\n',
      get('/a.txt', `A: ${'x'.repeat(9000)}`),
      get('/rec'),
      get('/inherit/missing'),
      get('/inherit/a.txt'),
      get('/h/a.txt'),
      get('/h/missing'),
      get('/h/dir'),
      get('/h404'),
      get('/h301'),
      get('/h200'),
      get('/h/a.txt', 'If-None-Match: *'),
      get('/h/a.txt', 'Range: bytes=0-0'),
      ...[1, 2, 3, 4, 5, 6, 7, 8].map((n) => get(`/e${n}/a.txt`)),
      get('/e1/missing'),
      get('/lm/a.txt'),
      get('/lm2/a.txt'),
      get('/kh/a.txt'),
      old('/kh/a.txt', 'Connection: keep-alive'),
      get('/k0/a.txt'),
      get('/kr/a.txt') + get('/kr/a.txt') + get('/kr/a.txt'),
    ],
  },
  {
    name: 'servers by name',
    http: `${TYPES}
      server { listen 127.0.0.1:%PORT%; server_name first; return 200 "first\\n"; }
      server { listen 127.0.0.1:%PORT% default_server; server_name _; return 200 "default\\n"; }
      server { listen 127.0.0.1:%PORT%; server_name exact.example.com; return 200 "exact\\n"; }
      server { listen 127.0.0.1:%PORT%; server_name *.example.com; return 200 "star\\n"; }
      server { listen 127.0.0.1:%PORT%; server_name *.deep.example.com; return 200 "deep\\n"; }
      server { listen 127.0.0.1:%PORT%; server_name .dot.org; return 200 "dot\\n"; }
      server { listen 127.0.0.1:%PORT%; server_name mail.*; return 200 "tail\\n"; }
      server { listen 127.0.0.1:%PORT%; server_name mail.example.*; return 200 "long tail\\n"; }
      server { listen 127.0.0.1:%PORT%; server_name ~^(?<sub>.+)\\.regex\\.net$; return 200 "regex $sub\\n"; }
      server { listen 127.0.0.1:%PORT%; server_name "~^n\\d{1,3}\\.num$"; return 200 "num\\n"; }
      server { listen 127.0.0.1:%PORT%; server_name ""; return 200 "empty\\n"; }`,
    requests: [
      ...[
        'first',
        'FIRST',
        'first:81',
        'first.',
        'none',
        'exact.example.com',
        'a.example.com',
        'a.b.example.com',
        'example.com',
        'x.deep.example.com',
        'deep.example.com',
        'dot.org',
        'a.dot.org',
        'xdot.org',
        'mail.com',
        'mail.co.uk',
        'mail.example.org',
        'mail.',
        'a.regex.net',
        'a.b.regex.net',
        'n12.num',
        'n1234.num',
        '_',
        '[::1]',
        '127.0.0.1',
      ].map((host) => `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`),
      'GET / HTTP/1.0\r\n\r\n',
      'GET /\r\n',
      'GET http://exact.example.com/ HTTP/1.1\r\nHost: first\r\n\r\n',
      'GET http://exact.example.com/ HTTP/1.0\r\n\r\n',
      'GET / HTTP/1.1\r\nHost: a b\r\n\r\n',
    ],
  },
  {
    name: 'parser switches',
    http: `${TYPES} server { listen 127.0.0.1:%PORT%; root html; merge_slashes off; underscores_in_headers on; ignore_invalid_headers off; large_client_header_buffers 2 1k; client_header_buffer_size 512; location /v { return 200 "$http_a_b|$http_x\\n"; } }`,
    requests: [
      get('//a.txt'),
      get('/dir//b.txt'),
      get('/dir//../a.txt'),
      get('/dir/..//a.txt'),
      get('/v', 'A_B: 1'),
      get('/v', 'A-B: 2'),
      get('/v', 'X@: 1', 'X: 2'),
      ...[400, 480, 500, 512, 600, 900, 1000, 1010, 1024, 1100].flatMap((n) => [
        get(`/${'x'.repeat(n)}`),
        get('/v', `X: ${'v'.repeat(n)}`),
      ]),
      get('/v', `A: ${'v'.repeat(900)}`, `B: ${'v'.repeat(900)}`),
      get('/v', `A: ${'v'.repeat(900)}`, `B: ${'v'.repeat(900)}`, `C: ${'v'.repeat(900)}`),
    ],
  },
];

describe.skipIf(!oracleAvailable)(`the same bytes as ${oracleVersion}`, () => {
  const dir = oracleAvailable ? makePrefix(FILES) : '';

  beforeAll(() => {
    const time = new Date('2026-03-01T10:20:30Z');
    for (const name of Object.keys(FILES)) utimesSync(join(dir, name), time, time);
    symlinkSync('a.txt', join(dir, 'html/link.txt'));
    symlinkSync('dir', join(dir, 'html/link-dir'));
    symlinkSync('nowhere', join(dir, 'html/dangling'));
    symlinkSync('loop', join(dir, 'html/loop'));
    mkdirSync(join(dir, 'html/secret'));
    chmodSync(dir, 0o755);
    execFileSync('mkfifo', [join(dir, 'html/pipe')]);
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  for (const group of GROUPS) {
    describe(group.name, () => {
      let oracle: Running;
      const ours = new Map<string, Running>();
      beforeAll(async () => {
        // The oracle's workers run as the same user, so that both may read the same files.
        oracle = await startDebian(conf(group.http, 'worker_processes 1; user root;'), { dir });
        for (const io of IO_MODES) ours.set(io, await startLite(conf(group.http), { io, dir }));
      });
      afterAll(async () => {
        await oracle?.stop();
        for (const each of ours.values()) await each.stop();
      });
      test.each(IO_MODES)('%s', async (io) => {
        const mine = ours.get(io) as Running;
        const differences: { request: string; nginx: string; ours: string }[] = [];
        for (const request of group.requests) {
          const [theirs, answer, again] = await Promise.all([
            exchange(oracle.port, request),
            exchange(mine.port, request),
            exchange(mine.port, request),
          ]);
          const expected = normal(theirs, oracle.port, oracleVersion);
          // The second answer may come from memory: it must be the same.
          for (const text of [answer, again]) {
            const got = normal(text, mine.port, SERVER_FULL);
            if (got !== expected)
              differences.push({ request: shown(request), nginx: shown(expected), ours: shown(got) });
          }
        }
        expect(differences).toEqual([]);
      });
    });
  }
});
