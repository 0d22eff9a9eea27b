/**
 * Request bodies that are read (by mirror): to memory, to a temporary file, with limits; what Debian's nginx answers, and what
 * happens to clients that are slow, silent or gone.
 */

import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { collect, open, parseResponses, receiveUntil, request } from '../support/client.ts';
import { compareWithNginx, get, oracleAvailable } from '../support/oracle.ts';
import { conf, IO_MODES, type Running, startDebian, startLite } from '../support/server.ts';

const FILES = { 'html/a.txt': 'hello\n', 'html/deep/a.txt': 'deep\n' };
/** The answer shows what was read: where, and what. */
const SHOW = `add_header X-Body "<$request_body>" always; add_header X-File "<$request_body_file>" always;
  add_header X-Length "$content_length $request_length" always;`;
const HTTP = `server { listen 127.0.0.1:%PORT%; root html; client_body_temp_path %DIR%/temp; client_body_timeout 2s;
  ${SHOW}
  location / { mirror /m; }
  location /off/ { mirror /m; mirror_request_body off; alias html/; }
  location /small/ { mirror /m; client_max_body_size 10; alias html/; }
  location /any/ { mirror /m; client_max_body_size 0; alias html/; }
  location /tight/ { mirror /m; client_body_buffer_size 100; alias html/; ${SHOW} add_header X-In-File $file; }
  location /deny/ { mirror /m; deny all; alias html/; }
  location /two/ { mirror /m; mirror /none; alias html/; }
  location /post/ { mirror /m; error_page 405 =200 $uri; alias html/; }
  location /return { mirror /m; return 200 "early <$request_body>\\n"; }
  location /at { mirror /m; try_files /none @named; } location @named { ${SHOW} root html; try_files /a.txt =404; }
  location /mirrorless { alias html/a.txt; }
  location = /m { internal; return 204; }
}
map $request_body_file $file { default yes; "" no; }`;

const post = (path: string, body: string, ...headers: string[]): string =>
  `${get(path, `Content-Length: ${body.length}`, ...headers).replace('GET', 'POST')}${body}`;
const withBody = (path: string, body: string, ...headers: string[]): string =>
  get(path, `Content-Length: ${body.length}`, ...headers) + body;
const chunks = (path: string, text: string, ...headers: string[]): string =>
  get(path, 'Transfer-Encoding: chunked', ...headers) + text;
const many = (length: number, step: number): string => {
  let text = '';
  for (let at = 0; at < length; at += step) {
    const piece = 'x'.repeat(Math.min(step, length - at));
    text += `${piece.length.toString(16)}\r\n${piece}\r\n`;
  }
  return `${text}0\r\n\r\n`;
};
/** Numbers of temporary files depend on what else was asked. */
const NUMBERS = {
  why: 'temporary files are numbered',
  apply: (text: string): string => text.replaceAll(/temp\/\d{10}/g, 'temp/N'),
};

compareWithNginx(FILES, [
  {
    name: 'bodies that are read',
    explained: [NUMBERS],
    http: HTTP,
    requests: [
      ...[
        '/a.txt',
        '/off/a.txt',
        '/two/a.txt',
        '/deny/a.txt',
        '/return',
        '/at',
        '/mirrorless',
        '/post/a.txt',
        '/none',
      ].flatMap((path) => [
        get(path),
        withBody(path, 'body'),
        post(path, 'body'),
        post(path, ''),
        withBody(path, 'body') + withBody(path, 'next one'),
        chunks(path, '3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n'),
        chunks(path, '3\r\nabc\r\n0\r\nA: trailer\r\n\r\n') + get('/a.txt'),
        withBody(path, 'body', 'Expect: 100-continue'),
        withBody(path, '', 'Expect: 100-continue'),
        get(path, 'Expect: 100-continue'),
        withBody(path, 'body', 'Expect: something'),
      ]),
      // Ends too early.
      `${get('/a.txt', 'Content-Length: 10')}abc`,
      chunks('/a.txt', '5\r\nabc'),
      chunks('/a.txt', '5'),
      // Limits, by length and by chunks.
      ...['/small/a.txt', '/any/a.txt'].flatMap((path) => [
        withBody(path, '0123456789'),
        withBody(path, '0123456789a'),
        withBody(path, '0123456789a', 'Expect: 100-continue'),
        chunks(path, many(10, 3)),
        chunks(path, many(10, 10)),
        chunks(path, many(11, 11)),
        chunks(path, many(11, 5)),
        chunks(path, many(11, 1)),
        chunks(path, 'ffffffffff\r\nabc'),
      ]),
      // Broken chunks.
      ...[
        'g\r\n',
        '3\r\nabcd\r\n',
        '3\r\nabc\n0\n\n',
        '-1\r\n',
        '\r\n',
        '3;ext=1\r\nabc\r\n0;x\r\n\r\n',
        '3 \r\nabc\r\n0\r\n\r\n',
        'fffffffffffffffff\r\n',
        '3\r\nabc\r\n0\r\nBad Trailer\r\n\r\n',
      ].flatMap((text) => [chunks('/a.txt', text), chunks('/mirrorless', text)]),
      // What fits the buffer stays in memory.
      ...[10, 100, 800, 1500].flatMap((length) => [
        withBody('/a.txt', 'y'.repeat(length)),
        withBody('/tight/a.txt', 'y'.repeat(length)),
        chunks('/tight/a.txt', many(length, 50)),
        chunks('/tight/a.txt', many(length, 7)),
      ]),
    ],
  },
  {
    name: 'bodies in files only',
    explained: [NUMBERS],
    http: `server { listen 127.0.0.1:%PORT%; root html; client_body_temp_path %DIR%/temp; ${SHOW}
      location / { mirror /m; client_body_in_file_only clean; }
      location = /m { return 204; } }`,
    requests: [
      get('/a.txt'),
      withBody('/a.txt', 'body'),
      withBody('/a.txt', ''),
      chunks('/a.txt', '3\r\nabc\r\n0\r\n\r\n'),
      chunks('/a.txt', '0\r\n\r\n'),
    ],
  },
]);

/** Sends the head, waits until the server has it, then sends the body: buffers are filled by the body alone. */
async function slowly(server: Running, head: string, body: string): Promise<string> {
  const socket = open(server.port);
  const received = collect(socket);
  socket.write(`${head.replace('\r\n\r\n', '\r\nExpect: 100-continue\r\n\r\n')}`);
  await receiveUntil(socket, (text) => text.includes('100 Continue'));
  socket.write(body);
  socket.end();
  return (await received).replace('HTTP/1.1 100 Continue\r\n\r\n', '');
}

const modes: [string, (config: string) => Promise<Running>][] = [
  ...IO_MODES.map((io): [string, (config: string) => Promise<Running>] => [
    `--io ${io}`,
    async (config) => await startLite(config, { io, files: FILES }),
  ]),
  ...(oracleAvailable
    ? [
        ['nginx itself', async (config: string) => await startDebian(config, { files: FILES })] as [
          string,
          (config: string) => Promise<Running>,
        ],
      ]
    : []),
];

describe.each(modes)('%s', (_name, start) => {
  test('memory up to the buffer and a quarter, then a file; files are gone when they were read', async () => {
    const server = await start(
      conf(`server { listen 127.0.0.1:%PORT%; root html; client_body_temp_path %DIR%/temp 1 2; client_body_buffer_size 1000;
        client_max_body_size 0; mirror /m; mirror_request_body on; add_header X-Body "$request_body"; add_header X-File $request_body_file; location = /m { return 204; } }`),
    );
    const where = async (length: number, chunk = 0): Promise<string> => {
      const framing = chunk > 0 ? 'Transfer-Encoding: chunked' : `Content-Length: ${length}`;
      const text = await slowly(server, get('/a.txt', framing), chunk > 0 ? many(length, chunk) : 'x'.repeat(length));
      const [answer] = parseResponses(text);
      expect(answer?.status).toBe(200);
      if (answer?.header('X-File') === undefined) {
        expect(answer?.header('X-Body')).toBe('x'.repeat(length));
        return 'memory';
      }
      expect(answer.header('X-Body')).toBeUndefined();
      const name = answer.header('X-File') as string;
      expect(existsSync(name)).toBe(false);
      return name.slice(server.dir.length);
    };
    try {
      expect(await where(999)).toBe('memory');
      expect(await where(1000)).toBe('memory');
      expect(await where(1249)).toBe('memory');
      expect(await where(1250)).toBe('/temp/1/00/0000000001');
      expect(await where(900, 100)).toBe('memory');
      expect(await where(1500, 100)).toBe('/temp/2/00/0000000002');
      expect(await where(3_000_000)).toBe('/temp/3/00/0000000003');
      expect(readdirSync(join(server.dir, 'temp/3/00'))).toEqual([]);
      await server.logged(
        'error.log',
        /\[warn\] \d+#\d+: \*\d+ a client request body is buffered to a temporary file \S+\/temp\/1\/00\/0000000001, client: 127\.0\.0\.1, server: , request: "GET \/a\.txt HTTP\/1\.1"/,
      );
    } finally {
      await server.stop();
      rmSync(server.dir, { recursive: true, force: true });
    }
  });

  test('client_body_in_file_only keeps the bytes under their name', async () => {
    const server = await start(
      conf(`server { listen 127.0.0.1:%PORT%; root html; client_body_temp_path %DIR%/temp/made; client_body_in_file_only on;
        mirror /m; add_header X-File $request_body_file; location = /m { return 204; } }`),
    );
    try {
      for (const body of ['one', 'x'.repeat(100_000)]) {
        const answer = await request(server.port, withBody('/a.txt', body));
        const name = answer.header('X-File') as string;
        expect(name).toMatch(/\/temp\/made\/\d{10}$/);
        expect(readFileSync(name, 'latin1')).toBe(body);
        expect(statSync(name).mode & 0o777).toBe(0o600);
      }
      expect(readdirSync(join(server.dir, 'temp/made'))).toHaveLength(2);
    } finally {
      await server.stop();
      rmSync(server.dir, { recursive: true, force: true });
    }
  });
});
