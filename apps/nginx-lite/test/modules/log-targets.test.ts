/** Where logs go: to syslog servers, into packed files, to paths with variables. Each is asked of Debian's nginx as well. */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { chmodSync, existsSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { exchange } from '../support/client.ts';
import { get, oracleAvailable } from '../support/oracle.ts';
import { conf, IO_MODES, makePrefix, type Running, startDebian, startLite } from '../support/server.ts';

const FILES = { 'html/a.txt': 'hello\n', 'one/a.txt': 'one\n' };

const modes: [string, (config: string, dir: string) => Promise<Running>][] = IO_MODES.map((io) => [
  `--io ${io}`,
  async (config, dir) => await startLite(config, { io, dir }),
]);
if (oracleAvailable) modes.push(['nginx itself', async (config, dir) => await startDebian(config, { dir })]);

async function until(what: () => boolean): Promise<void> {
  while (!what()) await sleep(20);
}

describe.each(modes)('%s', (_name, start) => {
  async function run(http: string, body: (server: Running) => Promise<void>, main?: string): Promise<void> {
    const dir = makePrefix(FILES);
    chmodSync(dir, 0o755);
    const server = await start(conf(http, main), dir);
    try {
      await body(server);
    } finally {
      await server.stop();
      rmSync(dir, { recursive: true, force: true });
    }
  }

  test('access_log and error_log over UDP', async () => {
    const messages: string[] = [];
    const sink: Socket = createSocket('udp4', (message) => messages.push(message.toString('latin1')));
    await new Promise<void>((resolve) => sink.bind(0, '127.0.0.1', resolve));
    const { port } = sink.address();
    try {
      await run(
        `log_format short '$request $status';
        server { listen 127.0.0.1:%PORT%; root html;
          access_log syslog:server=127.0.0.1:${port},facility=local2,severity=warn,tag=web_1 short;
          access_log syslog:server=127.0.0.1:${port},nohostname short if=$arg_twice;
          error_log syslog:server=127.0.0.1:${port},tag=err info; }`,
        async (server) => {
          await exchange(server.port, get('/a.txt') + get('/a.txt?twice=1') + get('/a.txt') + get('/none'));
          await until(
            () =>
              messages.filter((each) => /web_1|nginx:/.test(each)).length === 5 &&
              messages.some((each) => each.includes(' err: ')),
          );
          const time = '[A-Z][a-z]{2} [ 123]\\d \\d\\d:\\d\\d:\\d\\d';
          const access = messages.filter((each) => each.includes('web_1'));
          expect(access.map((each) => each.slice(each.indexOf('web_1')))).toEqual([
            'web_1: GET /a.txt HTTP/1.1 200',
            'web_1: GET /a.txt?twice=1 HTTP/1.1 200',
            'web_1: GET /a.txt HTTP/1.1 200',
            'web_1: GET /none HTTP/1.1 404',
          ]);
          // local2 is 18, warn is 4.
          for (const each of access) expect(each).toMatch(new RegExp(`^<148>${time} ${hostname()} web_1: `));
          expect(messages.find((each) => each.includes('nginx:'))).toMatch(
            new RegExp(`^<190>${time} nginx: GET /a\\.txt\\?twice=1 HTTP/1\\.1 200$`),
          );
          expect(messages.find((each) => each.includes('/none" failed'))).toMatch(
            new RegExp(
              `^<187>${time} ${hostname()} err: \\d{4}/\\d\\d/\\d\\d \\d\\d:\\d\\d:\\d\\d \\[error\\] \\d+#\\d+: \\*\\d+ open\\(\\) "\\S+/none" failed \\(2: No such file or directory\\), client: 127\\.0\\.0\\.1, server: , request: "GET /none HTTP/1\\.1", host: "example\\.com"$`,
            ),
          );
        },
      );
    } finally {
      sink.close();
    }
  });

  test('to a Unix socket that comes, goes, and comes back', async (context) => {
    try {
      execFileSync('python3', ['--version'], { stdio: 'ignore' });
    } catch {
      console.log('skipped: receiving datagrams on a Unix socket needs python3');
      context.skip();
      return;
    }
    await run(
      `log_format short '$request_uri $status'; server { listen 127.0.0.1:%PORT%; root html;
        access_log syslog:server=unix:%DIR%/log.sock,tag=u short; }`,
      async (server) => {
        const path = join(server.dir, 'log.sock');
        let text = '';
        const receiver = async (): Promise<ChildProcess> => {
          rmSync(path, { force: true });
          const child = spawn('python3', ['-uc', RECEIVER, path], { stdio: ['ignore', 'pipe', 'inherit'] });
          child.stdout?.on('data', (data: Buffer) => {
            text += data.toString('latin1');
          });
          await until(() => text.includes('ready\n'));
          text = '';
          return child;
        };
        // Nobody there: nothing waits for it.
        expect(await exchange(server.port, get('/a.txt?lost'))).toContain('hello');
        let child = await receiver();
        await exchange(server.port, get('/a.txt?one'));
        await until(() => text.includes('u: /a.txt?one 200\n'));
        child.kill();
        child = await receiver();
        // nginx finds out with the first message that its socket is dead.
        for (let i = 0; !text.includes('u: /a.txt?two'); i++) {
          await exchange(server.port, get(`/a.txt?two-${i}`));
          await sleep(150);
        }
        child.kill();
      },
    );
  });

  test('packed with gzip: each piece on its own, so that the file can be read at any time', async () => {
    await run(
      `log_format short '$request_uri $status'; server { listen 127.0.0.1:%PORT%; root html;
        access_log logs/a.gz short gzip flush=200ms; access_log logs/b.gz short gzip=9 buffer=4k; }`,
      async (server) => {
        const file = (name: string): Buffer => readFileSync(join(server.dir, 'logs', name));
        await exchange(server.port, get('/a.txt?1') + get('/a.txt?2'));
        await until(() => file('a.gz').length > 0);
        await exchange(server.port, get('/a.txt?3'));
        await until(() => gunzipSync(file('a.gz')).toString() === '/a.txt?1 200\n/a.txt?2 200\n/a.txt?3 200\n');
        expect(file('b.gz')).toHaveLength(0);
        await exchange(server.port, get(`/a.txt?${'x'.repeat(900)}`).repeat(10));
        await until(() => file('b.gz').length > 0);
        expect(gunzipSync(file('b.gz')).toString()).toMatch(
          /^\/a\.txt\?1 200\n\/a\.txt\?2 200\n\/a\.txt\?3 200\n(\/a\.txt\?x{900} 200\n)+$/,
        );
        await server.stop('SIGQUIT');
        // What waited is written at the end.
        expect(gunzipSync(file('b.gz')).toString().split('\n')).toHaveLength(14);
      },
    );
  });

  test('log_subrequest: lines of subrequests before that of the request', async () => {
    await run(
      `types { text/html html; } log_format short '$uri $status'; server { listen 127.0.0.1:%PORT%; root html; access_log logs/s.log short;
        location /on/ { log_subrequest on; default_type text/html; alias html/; add_before_body /on/a.txt; add_after_body /off/none; }
        location /off/ { alias html/; log_not_found off; }
        location /auth/ { alias html/; auth_request /on/a.txt; } location /mirrored/ { alias html/; mirror /on/none; } }`,
      async (server) => {
        for (const path of ['/on/a.txt', '/auth/a.txt', '/mirrored/a.txt']) {
          await exchange(server.port, get(path, 'Connection: close'));
        }
        const text = await server.logged('s.log', '/mirrored/a.txt 200\n');
        expect(text).toBe(
          '/on/a.txt 200\n/on/a.txt 200\n/on/a.txt 200\n/auth/a.txt 200\n/on/none 404\n/mirrored/a.txt 200\n',
        );
      },
    );
  });

  test('paths with variables, and no files for roots that do not exist', async () => {
    await run(
      `log_format short '$request_uri $status'; server { listen 127.0.0.1:%PORT%; root %DIR%/$arg_r;
        access_log logs/$arg_name.log short; }`,
      async (server) => {
        const log = (name: string): string => server.log(name);
        await exchange(
          server.port,
          get('/a.txt?r=html&name=x') +
            get('/a.txt?r=one&name=y') +
            get('/a.txt?r=html&name=x') +
            get('/none?r=html&name=x'),
        );
        await exchange(server.port, get('/a.txt?r=nowhere&name=z') + get('/a.txt?r=html&name=no/such/folder'));
        await until(() => log('y.log') !== '' && log('x.log').split('\n').length === 4);
        expect(log('x.log')).toBe('/a.txt?r=html&name=x 200\n/a.txt?r=html&name=x 200\n/none?r=html&name=x 404\n');
        expect(log('y.log')).toBe('/a.txt?r=one&name=y 200\n');
        await server.logged(
          'error.log',
          /\[error\] \S+ \S+ testing "\S+\/nowhere" existence failed \(2: No such file or directory\) while logging request, client/,
        );
        await server.logged(
          'error.log',
          /\[crit\] \S+ \S+ open\(\) "\S+\/logs\/no\/such\/folder\.log" failed \(2: No such file or directory\) while logging request, client/,
        );
        expect(existsSync(join(server.dir, 'logs/z.log'))).toBe(false);
      },
    );
  });

  test('open_log_file_cache keeps files open, a few of them, and for a while', async () => {
    await run(
      `log_format short '$request_uri'; server { listen 127.0.0.1:%PORT%; root html; open_log_file_cache max=2 inactive=20s valid=2s min_uses=1;
        access_log logs/$arg_name.log short; }`,
      async (server) => {
        const ask = async (name: string): Promise<void> => {
          await exchange(server.port, get(`/a.txt?name=${name}`));
          await until(() => server.log(`${name}.log`).endsWith(`name=${name}\n`));
        };
        const [log, moved] = ['a.log', 'moved.log'].map((name) => join(server.dir, 'logs', name)) as [string, string];
        // Still open: the line goes where the file went, until it is looked at again. Where that was too soon it is tried anew.
        for (let held = false; !held; held = !existsSync(log)) {
          await ask('a');
          renameSync(log, moved);
          const before = server.log('moved.log');
          await exchange(server.port, get('/a.txt?name=a'));
          await until(() => server.log('moved.log') === `${before}/a.txt?name=a\n` || existsSync(log));
        }
        await sleep(3100);
        // nginx loses the line with which it finds out.
        while (!existsSync(join(server.dir, 'logs/a.log'))) await exchange(server.port, get('/a.txt?name=a'));
        await until(() => server.log('a.log') === '/a.txt?name=a\n');
        for (const name of ['b', 'c', 'd', 'e']) await ask(name);
        const open = openFiles(server).filter((each) => /\/logs\/[a-e]\.log$/.test(each));
        expect(open.length).toBeLessThanOrEqual(2);
      },
    );
  });
});

/** Files that the server's processes have open. */
function openFiles(server: Running): string[] {
  const main = server.child.pid as number;
  const children = readFileSync(`/proc/${main}/task/${main}/children`, 'utf8').trim().split(/\s+/).filter(Boolean);
  return [String(main), ...children].flatMap((pid) =>
    readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return [execFileSync('readlink', [`/proc/${pid}/fd/${fd}`], { encoding: 'utf8' }).trim()];
      } catch {
        return [];
      }
    }),
  );
}

const RECEIVER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('ready')
while True: print(s.recv(65536).decode('latin1'))
`;
