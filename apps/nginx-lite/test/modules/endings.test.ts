/** How connections end: reset_timedout_connection, and requests that a mirror is still under way for. */

import { describe, expect, test } from 'vitest';
import { open, receiveUntil } from '../support/client.ts';
import { get, oracleAvailable } from '../support/oracle.ts';
import { conf, IO_MODES, makePrefix, type Running, startDebian, startLite } from '../support/server.ts';

const FILES = { 'html/a.txt': 'a\n', 'html/big.bin': 'x'.repeat(8_000_000) };

/** How the connection ends for a client that sends this: by an error, or by its end. */
function ending(port: number, text: string, reads = true): Promise<string> {
  return new Promise((resolve) => {
    const socket = open(port);
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
    socket.on('end', () => resolve('end'));
    if (reads) socket.resume();
    socket.write(text);
  });
}

const BODY = 'POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc';
const TIMEOUTS = (
  reset: string,
): string => `server { listen 127.0.0.1:%PORT%; root html; reset_timedout_connection ${reset};
  client_header_timeout 2s; client_body_timeout 1s; keepalive_timeout 1s; lingering_timeout 1s;
  location /drop { return 444; } location /body { mirror /m; return 200; } location = /m { internal; return 200; } }`;

describe.each(IO_MODES)('%s', (io) => {
  test.each([
    ['on', 'ECONNRESET'],
    ['off', 'end'],
  ])('reset_timedout_connection %s: who is too slow, or is to hear nothing', async (flag, expected) => {
    const server = await startLite(conf(TIMEOUTS(flag)), { io, files: FILES });
    try {
      const endings = await Promise.all([
        ending(server.port, 'GET /a.txt HTTP/1.1\r\nHost'),
        ending(server.port, 'GET /a'),
        ending(server.port, get('/drop')),
        // An idle connection is not late.
        ending(server.port, get('/a.txt')),
      ]);
      expect(endings).toEqual([expected, expected, expected, 'end']);
      if (oracleAvailable) {
        const oracle = await startDebian(conf(TIMEOUTS(flag)), { files: FILES });
        try {
          expect(await ending(oracle.port, get('/drop'))).toBe(expected);
          const [theirs, ours] = await Promise.all([ending(oracle.port, BODY), ending(server.port, BODY)]);
          expect(ours).toBe(theirs);
        } finally {
          await oracle.stop();
        }
      }
    } finally {
      await server.stop();
    }
  });

  test('a mirror that is late is waited for: its line comes first, then the next request', async () => {
    const http = `limit_req_zone $server_name zone=z:1m rate=5r/s; log_format f '$uri';
      log_subrequest on; access_log logs/access.log f;
      server { listen 127.0.0.1:%PORT%; root html; location / { mirror /m; } location = /m { internal; limit_req zone=z burst=10; return 200; } location /b { } }`;
    const run = async (start: () => Promise<Running>): Promise<string> => {
      const server = await start();
      // The client does not end its side before: nginx takes that for its end while a request waits.
      const socket = open(server.port);
      const answers = receiveUntil(socket, (text) => text.split('HTTP/1.1 ').length > 3);
      socket.write(get('/a.txt') + get('/a.txt?2') + get('/b'));
      await answers;
      socket.destroy();
      const log = await server.logged('access.log', '/b\n');
      await server.stop();
      return log;
    };
    const ours = await run(() => startLite(conf(http), { io, dir: makePrefix(FILES) }));
    expect(ours.split('\n')).toEqual(['/m', '/a.txt', '/m', '/a.txt', '/b', '']);
    if (oracleAvailable) expect(ours).toBe(await run(() => startDebian(conf(http), { dir: makePrefix(FILES) })));
  });
});
