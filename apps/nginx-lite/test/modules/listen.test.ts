/** Options of `listen`, as the kernel shows them (`ss`), beside those of Debian's nginx. */

import { execFileSync, spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { collect, get, open } from '../support/client.ts';
import { oracleAvailable } from '../support/oracle.ts';
import { conf, freePort, IO_MODES, makePrefix, type Running, startDebian, startLite } from '../support/server.ts';

const ss = spawnSync('ss', ['-V']).status === 0;

const modes: [string, (config: string, dir: string) => Promise<Running>][] = IO_MODES.map((io) => [
  `--io ${io}`,
  async (config, dir) => await startLite(config, { io, dir }),
]);
if (oracleAvailable) modes.push(['nginx itself', async (config, dir) => await startDebian(config, { dir })]);

/** What `ss` says of sockets; one line each. */
function sockets(filter: string, ...options: string[]): string {
  return execFileSync('ss', ['-tnOem', ...options, filter], { encoding: 'utf8' });
}

describe.each(modes)('%s', (_name, start) => {
  test('backlog, buffers and keep-alive of connections', async (context) => {
    if (!ss) {
      console.log('skipped: ss (iproute2) shows the options, and is not here');
      context.skip();
      return;
    }
    const dir = makePrefix({ 'html/a.txt': 'hello\n' });
    const second = await freePort();
    const server = await start(
      conf(`server { listen 127.0.0.1:%PORT% backlog=77 rcvbuf=8k sndbuf=16k so_keepalive=30m::10 deferred fastopen=5 bind; root html; }
        server { listen 127.0.0.1:${second} so_keepalive=off; root html; }`),
      dir,
    );
    try {
      const listening = sockets(`sport = :${server.port}`, '-l');
      expect(listening).toMatch(/^LISTEN\s+0\s+77\s/m);
      // The kernel doubles what is asked for.
      expect(listening).toContain('rb16384,');
      expect(listening).toContain('tb32768,');
      const asked = open(server.port);
      await new Promise((resolve) => asked.once('connect', resolve));
      // Deferred: what says nothing is not accepted, what speaks is.
      expect((await get(server.port, '/a.txt')).body).toBe('hello\n');
      const socket = open(server.port);
      const received = collect(socket);
      socket.write('GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n');
      await new Promise((resolve) => socket.once('data', resolve));
      const { port } = socket.address() as { port: number };
      // Until the answer is acknowledged another timer runs, and only one is shown.
      while (!/timer:\(keepalive,(?:29|30)min/.test(sockets(`sport = :${server.port} and dport = :${port}`, '-o')))
        await new Promise((r) => setTimeout(r, 20));
      socket.end();
      await received;
      asked.destroy();
      const other = open(second);
      other.write('GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n');
      await new Promise((resolve) => other.once('data', resolve));
      expect(
        sockets(`sport = :${second} and dport = :${(other.address() as { port: number }).port}`, '-o'),
      ).not.toContain('keepalive');
      other.destroy();
    } finally {
      await server.stop();
      rmSync(dir, { recursive: true, force: true });
    }
  });

  test('a reload changes them without closing the socket', async (context) => {
    if (!ss) {
      console.log('skipped: ss (iproute2) shows the options, and is not here');
      context.skip();
      return;
    }
    const dir = makePrefix({ 'html/a.txt': 'hello\n' });
    const server = await start(conf('server { listen 127.0.0.1:%PORT% rcvbuf=8k; root html; }'), dir);
    try {
      writeFileSync(
        join(dir, `nginx-${server.port}.conf`),
        conf(`server { listen 127.0.0.1:${server.port} rcvbuf=12k; root html; }`),
      );
      // nginx itself has lost a signal that came while it started, on a busy machine.
      for (let i = 0; !sockets(`sport = :${server.port}`, '-l').includes('rb24576,'); i++) {
        if (i % 100 === 0) server.child.kill('SIGHUP');
        await new Promise((r) => setTimeout(r, 20));
      }
      expect((await get(server.port, '/a.txt')).body).toBe('hello\n');
    } finally {
      await server.stop();
      rmSync(dir, { recursive: true, force: true });
    }
  });

  test('addresses beside the wildcard of their port are told apart by it: those of other machines, too, and new ones', async () => {
    const dir = makePrefix();
    const servers = (port: string, more = ''): string =>
      conf(
        `server { listen ${port}; return 200 any; } server { listen 127.0.0.2:${port}; return 200 "two $server_addr"; }
         server { listen [::]:${port}; return 200 six; } server { listen [::1]:${port}; return 200 "loop $server_addr"; }
         server { listen 192.0.2.7:${port} proxy_protocol; return 200 elsewhere; } ${more}`,
        'worker_processes 2;',
      );
    const server = await start(servers('%PORT%'), dir);
    const ask = async (host: string): Promise<string> => {
      const socket = connect(server.port, host);
      const answer = collect(socket);
      socket.end('GET / HTTP/1.0\r\n\r\n');
      return (await answer).split('\r\n\r\n')[1] ?? '';
    };
    try {
      expect(await Promise.all(['127.0.0.1', '127.0.0.2', '127.0.0.3', '::1'].map(ask))).toEqual([
        'any',
        'two 127.0.0.2',
        'any',
        'loop ::1',
      ]);
      if (ss) expect(sockets(`sport = :${server.port}`, '-l')).not.toContain('127.0.0.2');
      const file = join(dir, `nginx-${server.port}.conf`);
      writeFileSync(
        file,
        servers(String(server.port), `server { listen 127.0.0.3:${server.port}; return 200 three; }`),
      );
      for (let i = 0; (await ask('127.0.0.3')) !== 'three'; i++) {
        if (i % 100 === 0) server.child.kill('SIGHUP');
        await new Promise((r) => setTimeout(r, 20));
      }
      expect(await Promise.all(['127.0.0.1', '127.0.0.2', '::1'].map(ask))).toEqual([
        'any',
        'two 127.0.0.2',
        'loop ::1',
      ]);
      expect(server.log('error.log')).not.toContain('[emerg]');
    } finally {
      await server.stop();
      rmSync(dir, { recursive: true, force: true });
    }
  });

  test('an address that is bound by itself leaves no room for the wildcard', async () => {
    const config = conf(
      'server { listen %PORT%; } server { listen 127.0.0.2:%PORT% bind; } server { listen [::]:%PORT%; }',
    );
    await expect(start(config, makePrefix())).rejects.toThrow(
      /(?:bind\(\) to 0\.0\.0\.0:\d+ failed \(98: Address already in use\)\n[\s\S]*){5}still could not bind\(\)/,
    );
  });
});
