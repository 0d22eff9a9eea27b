/**
 * Request smuggling: where one request ends and the next begins must be what Debian's nginx says, whether a body is dropped, read, or
 * refused. Every line here is one that some pair of servers disagreed about.
 */

import { compareWithNginx } from './support/oracle.ts';

const FILES = { 'html/a.txt': 'hello\n', 'html/secret.txt': 'SMUGGLED\n', 'html/b.html': '<b>\n' };

const SECRET = 'GET /secret.txt HTTP/1.1\r\nHost: example.com\r\n\r\n';

/** A request whose header lines are given as bytes, then what some would take for a body and others for a request. */
const with_ = (path: string, lines: string, rest: string, method = 'POST'): string =>
  `${method} ${path} HTTP/1.1\r\nHost: example.com\r\n${lines}\r\n${rest}`;

/** How a body may be announced; `N` is the length of the smuggled request. */
const ANNOUNCED = [
  // Both, in either order, and twice.
  'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n',
  'Transfer-Encoding: chunked\r\nContent-Length: 5\r\n',
  'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n',
  'Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n',
  'Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n',
  'Content-Length: 0\r\nContent-Length: N\r\n',
  'Content-Length: N\r\nContent-Length: 0\r\n',
  'Content-Length: N\r\nContent-Length: N\r\n',
  // Names and values that are not quite the header's.
  'Transfer-Encoding : chunked\r\n',
  ' Transfer-Encoding: chunked\r\n',
  'Transfer-Encoding: chunked\r\n Content-Length: N\r\n',
  'X: y\r\n Transfer-Encoding: chunked\r\n',
  'X: y\r\n\tTransfer-Encoding: chunked\r\n',
  'Transfer_Encoding: chunked\r\n',
  'Transfer-Encoding:chunked\r\n',
  'Transfer-Encoding:\tchunked\r\n',
  'Transfer-Encoding: \tchunked\r\n',
  'Transfer-Encoding: chunked \r\n',
  'Transfer-Encoding: chunked\t\r\n',
  'Transfer-Encoding: chunked, identity\r\n',
  'Transfer-Encoding: identity, chunked\r\n',
  'Transfer-Encoding: gzip, chunked\r\n',
  'Transfer-Encoding: CHUNKED\r\n',
  'Transfer-Encoding: "chunked"\r\n',
  "Transfer-Encoding: 'chunked'\r\n",
  'Transfer-Encoding: chunk\r\n',
  'Transfer-Encoding: chunkedx\r\n',
  'Transfer-Encoding: xchunked\r\n',
  'Transfer-Encoding: \x0bchunked\r\n',
  'Transfer-Encoding: chunked\x0b\r\n',
  'Transfer-Encoding\x0b: chunked\r\n',
  'Transfer-Encoding: chunked\x00\r\n',
  'Transfer-Encoding: \r\n chunked\r\n',
  'Transfer-Encoding:\r\n',
  'Transfer-Encoding: chunked\n',
  'Transfer-Encoding: chunked\r\r\n',
  'Foo: bar\rTransfer-Encoding: chunked\r\n',
  'Foo: bar\r\rTransfer-Encoding: chunked\r\n',
  'Foo: bar\nTransfer-Encoding: chunked\r\n',
  'Foo: bar\n\rTransfer-Encoding: chunked\r\n',
  'Content-Length: +N\r\n',
  'Content-Length: -N\r\n',
  'Content-Length: N \r\n',
  'Content-Length:N\r\n',
  'Content-Length: N,N\r\n',
  'Content-Length: N, 0\r\n',
  'Content-Length: 0xN\r\n',
  'Content-Length: N;\r\n',
  'Content-Length: 00000N\r\n',
  'Content-Length: N.0\r\n',
  'Content-Length: NeN\r\n',
  'Content-Length: \r\n',
  'Content-Length: 9223372036854775807\r\n',
  'Content-Length: 9223372036854775808\r\n',
  'Content-Length: 18446744073709551616\r\n',
  'Content-Length : N\r\n',
  'Content_Length: N\r\n',
  'content-length: N\r\n',
  'Content-Length: N\n',
  'X: y\r\n Content-Length: N\r\n',
  'Connection: Content-Length\r\nContent-Length: N\r\n',
  'Expect: 100-continue\r\nContent-Length: N\r\n',
  'Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n',
  'Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: x\r\n',
];

/** Bodies in chunks with something behind, inside or instead of them. */
const CHUNKED = [
  `0\r\n\r\n${SECRET}`,
  `0\n\n${SECRET}`,
  `0\r\n${SECRET}`,
  `0\r\nX: y\r\n\r\n${SECRET}`,
  `0\r\nContent-Length: 100\r\n\r\n${SECRET}`,
  `0\r\nTransfer-Encoding: chunked\r\n\r\n${SECRET}`,
  `0\r\nX: y\n\n${SECRET}`,
  `0;x=y\r\n\r\n${SECRET}`,
  `0;x=\n\r\n\r\n${SECRET}`,
  `0 \r\n\r\n${SECRET}`,
  `0\t\r\n\r\n${SECRET}`,
  ` 0\r\n\r\n${SECRET}`,
  `00000000000000000000\r\n\r\n${SECRET}`,
  `0x0\r\n\r\n${SECRET}`,
  `+0\r\n\r\n${SECRET}`,
  `-0\r\n\r\n${SECRET}`,
  `\r\n0\r\n\r\n${SECRET}`,
  `0\r\r\n\r\n${SECRET}`,
  `0\r\n\r${SECRET}`,
  `3\r\nabc\r\n0\r\n\r\n${SECRET}`,
  `3\nabc\n0\n\n${SECRET}`,
  `3\r\nabc0\r\n\r\n${SECRET}`,
  `3\r\nabcd\r\n0\r\n\r\n${SECRET}`,
  `3\r\nab\r\n0\r\n\r\n${SECRET}`,
  `3;\r\nabc\r\n0\r\n\r\n${SECRET}`,
  `3;ext="\r\n\r\n0\r\n\r\n${SECRET}"\r\nabc\r\n0\r\n\r\n`,
  `3;ext\nabc\r\n0\r\n\r\n${SECRET}`,
  `3\rabc\r\n0\r\n\r\n${SECRET}`,
  `3 ;x\r\nabc\r\n0\r\n\r\n${SECRET}`,
  `03\r\nabc\r\n0\r\n\r\n${SECRET}`,
  `A\r\n0123456789\r\n0\r\n\r\n${SECRET}`,
  `a\r\n0123456789\r\n0\r\n\r\n${SECRET}`,
  `${SECRET.length.toString(16)}\r\n${SECRET}\r\n0\r\n\r\n`,
  `fffffffffffffffe\r\n${SECRET}`,
  `7fffffffffffffff\r\n${SECRET}`,
  `8000000000000000\r\n${SECRET}`,
  `100000000000000000\r\n${SECRET}`,
  `ffffffffffffffffffff\r\n${SECRET}`,
  `3\r\nabc\r\n-1\r\n\r\n${SECRET}`,
  `\r\n\r\n${SECRET}`,
  SECRET,
];

/** Request lines and heads that hide a second one. */
const HEADS = [
  `GET /a.txt HTTP/1.1\r\nHost: example.com\r\nHost: other\r\n\r\n${SECRET}`,
  `GET /a.txt HTTP/1.1\nHost: example.com\n\n${SECRET}`,
  `GET /a.txt HTTP/1.1\r\nHost: example.com\r\n\n${SECRET}`,
  `GET /a.txt HTTP/1.1\rHost: example.com\r\n\r\n${SECRET}`,
  `GET /a.txt HTTP/1.1\r\n\r\nHost: example.com\r\n\r\n${SECRET}`,
  `\r\n\r\nGET /a.txt HTTP/1.1\r\nHost: example.com\r\n\r\n${SECRET}`,
  `GET /a.txt\r\n${SECRET}`,
  `GET /a.txt HTTP/0.9\r\n${SECRET}`,
  `GET /a.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n${SECRET}`,
  `GET /a.txt HTTP/1.0\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n${SECRET}`,
  `GET /a.txt HTTP/1.2\r\nHost: x\r\n\r\n${SECRET}`,
  `GET /a.txt HTTP/2.0\r\nHost: x\r\n\r\n${SECRET}`,
  `GET /a.txt HTTP/1.1 HTTP/1.1\r\nHost: x\r\n\r\n${SECRET}`,
  `GET /a.txt%20HTTP/1.1%0d%0aHost:x%0d%0a%0d%0a HTTP/1.1\r\nHost: x\r\n\r\n${SECRET}`,
  `GET /a.txt\tHTTP/1.1\r\nHost: x\r\n\r\n${SECRET}`,
  `GET\t/a.txt HTTP/1.1\r\nHost: x\r\n\r\n${SECRET}`,
  `GET http://other/a.txt HTTP/1.1\r\nHost: example.com\r\n\r\n${SECRET}`,
  `GET http://other\r\n/a.txt HTTP/1.1\r\nHost: example.com\r\n\r\n${SECRET}`,
  `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${SECRET}`,
  `CONNECT other:80 HTTP/1.1\r\nHost: other\r\n\r\n${SECRET}`,
  `OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n${SECRET}`,
  `get /a.txt HTTP/1.1\r\nHost: x\r\n\r\n${SECRET}`,
  `GET /a.txt HTTP/1.1\r\nHost: x\r\nGET /secret.txt HTTP/1.1\r\n\r\n`,
  `GET /a.txt HTTP/1.1\r\nHost: x\r\nX: ${'y'.repeat(9000)}\r\n\r\n${SECRET}`,
  `GET /a.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n${SECRET}`,
  `GET /a.txt HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n${SECRET}`,
  `GET /a.txt HTTP/1.1\r\nHost: x\r\n\x00: y\r\n\r\n${SECRET}`,
  `GET /a.txt HTTP/1.1\r\nHost: x\r\nA\x00: y\r\n\r\n${SECRET}`,
];

const BODY = `${SECRET.length.toString(16)}\r\n${SECRET}\r\n0\r\n\r\n`;

const requests = (paths: string[]): string[] =>
  paths.flatMap((path) => [
    ...ANNOUNCED.flatMap((lines) => {
      const text = lines.replaceAll('N', String(SECRET.length));
      // Announced in one way, sent in the other, with something behind in any case.
      return [with_(path, text, SECRET), with_(path, text, BODY), with_(path, text, `0\r\n\r\n${SECRET}`, 'GET')];
    }),
    ...CHUNKED.flatMap((body) => [
      with_(path, 'Transfer-Encoding: chunked\r\n', body),
      with_(path, 'Transfer-Encoding: chunked\r\n', body, 'GET'),
    ]),
  ]);

compareWithNginx(FILES, [
  {
    name: 'dropped bodies',
    http: 'server { listen 127.0.0.1:%PORT%; root html; lingering_timeout 200ms; location /r { return 200 "returned\\n"; } }',
    requests: [...HEADS, ...requests(['/a.txt']), ...requests(['/r']).filter((_, i) => i % 3 === 1)],
  },
  {
    name: 'read bodies',
    http: `server { listen 127.0.0.1:%PORT%; root html; lingering_timeout 200ms; client_body_temp_path %DIR%/temp; client_body_timeout 2s; mirror /m; add_header X-Body "<$request_body>" always;
      location = /m { return 204; } }`,
    // A line break within $request_body would break the header that shows it.
    requests: requests(['/a.txt']),
  },
  {
    name: 'refused bodies',
    http: `server { listen 127.0.0.1:%PORT%; root html; lingering_timeout 200ms; client_max_body_size 4; location /x/ { deny all; alias html/; } location /m/ { mirror /n; alias html/; }
      location = /n { return 204; } client_body_temp_path %DIR%/temp; }`,
    requests: ['/x/a.txt', '/m/a.txt'].flatMap((path) => requests([path]).filter((_, i) => i % 3 === 0)),
  },
]);
