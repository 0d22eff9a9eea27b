/** What processes write to the error log while signals come and configurations change: line by line what those of Debian's nginx write. */

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { get, open } from './support/client.ts';
import { oracleAvailable, oracleVersion } from './support/oracle.ts';
import { conf, freePort, IO_MODES, isAlive, type Running, startDebian, startLite } from './support/server.ts';

const FILES = { 'html/a.txt': 'one\n', 'html/big.bin': Buffer.alloc(30_000_000, 'x') };
const MAIN = 'worker_processes 1; worker_shutdown_timeout 1s;';
const server = (version: string): string =>
  `server { listen 127.0.0.1:%PORT%; root html; access_log logs/access.log; location /v { return 200 ${version}; } location /pid { return 200 $pid; } }`;

const until = async (what: () => boolean | Promise<boolean>): Promise<void> => {
  while (!(await what())) await sleep(20);
};

/** The process that serves. */
const workerOf = async ({ port }: Running): Promise<number> => Number((await get(port, '/pid')).body);

/** Lines without time and process; those of events that only one of them has (the end of a kept connection, SIGCHLD) are left out. */
function linesOf(text: string, running: Running): string[] {
  return text
    .split('\n')
    .filter(
      (line) =>
        line !== '' &&
        !/\[info\]|SIGCHLD|SIGIO|start worker process|epoll|built by|OS: |getrlimit|: nginx\//.test(line),
    )
    .map((line) =>
      line
        .replace(/^\S+ \S+ (\[\w+\]) \S+ /, '$1 ')
        .replaceAll(running.dir, 'DIR')
        .replaceAll(String(running.port), 'PORT')
        .replaceAll(/ from \d+(?=,|$)|(?<=worker process )\d+/g, ''),
    );
}

type Said = Record<string, unknown>;

/** One after another: what is logged until the last line of each is there. */
async function transcript(running: Running, busy: number): Promise<Said> {
  const said: Said = {};
  // A signal that comes before there are workers is lost by nginx.
  await workerOf(running);
  let seen = running.log('error.log').length;
  const step = async (name: string, act: () => unknown, last: RegExp): Promise<void> => {
    await act();
    let text = '';
    await until(() => {
      text = running.log('error.log').slice(seen);
      return text.endsWith('\n') && last.test(text);
    });
    seen += text.length;
    said[name] = linesOf(text, running);
  };
  const reload = (http: string): void => {
    const file = join(running.dir, `nginx-${running.port}.conf`);
    writeFileSync(file, conf(http, MAIN).replaceAll('%PORT%', String(running.port)));
    running.child.kill('SIGHUP');
  };
  const exited = /worker process \d+ exited/;
  await step('a directive that nobody knows', () => reload('nonsense;'), /unknown directive/);
  await step('a log that cannot be', () => reload(`${server('x')} access_log nowhere/a.log;`), /nowhere/);
  await step(
    'an address of another machine',
    () => reload(`${server('x')} server { listen 203.0.113.9:80; }`),
    /203\.0/,
  );
  await step('a port in use', () => reload(`${server('x')} server { listen 127.0.0.1:${busy}; }`), /still could not/);
  await step('reload', () => reload(server('two')), exited);
  said['version'] = (await get(running.port, '/v')).body;
  // The master's lines and the worker's come in either order.
  await step('reopen', () => running.child.kill('SIGUSR1'), /(?:[\s\S]*reopening logs){3}/);
  const worker = async (signal: NodeJS.Signals, last: RegExp): Promise<void> =>
    await step(
      `${signal} to the worker`,
      async () => {
        const pid = await workerOf(running);
        process.kill(pid, signal);
        if (last === exited) await until(async () => !isAlive(pid) && (await workerOf(running)) !== pid);
      },
      last,
    );
  await worker('SIGUSR1', /(?:[\s\S]*reopening logs){2}/);
  for (const signal of ['SIGHUP', 'SIGUSR2', 'SIGWINCH'] as const) await worker(signal, /received/);
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGKILL'] as const) await worker(signal, exited);

  // A client that does not read is cut off, and its line says who it was.
  const slow = open(running.port);
  slow.on('error', () => {});
  slow.write('GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n');
  await new Promise((resolve) => slow.once('readable', resolve));
  await step('quit', () => running.stop('SIGQUIT'), /\n[^\n]* exit\n$/);
  slow.destroy();
  said['line'] = /^.*big.*$/m
    .exec(running.log('access.log'))?.[0]
    .replace(/\[.*?\]/, '')
    .replace(/200 \d+/, '200 N');
  return said;
}

describe.skipIf(!oracleAvailable)(`the lines of ${oracleVersion}`, () => {
  test.each(IO_MODES)('--io %s', async (io) => {
    const { createServer } = await import('node:net');
    const taken = createServer();
    const busy = await freePort();
    await new Promise<void>((resolve) => taken.listen(busy, '127.0.0.1', resolve));
    const servers = await Promise.all([
      startDebian(conf(server('one'), MAIN), { files: FILES }),
      startLite(conf(server('one'), MAIN), { io, files: FILES }),
    ]);
    const [theirs, ours] = await Promise.all(servers.map((each) => transcript(each, busy)));
    taken.close();
    expect(ours).toEqual(theirs);
    expect(theirs?.['version']).toBe('two');
    expect(theirs?.['line']).toMatch(/^127\.0\.0\.1 /);
    for (const { dir } of servers) rmSync(dir, { recursive: true, force: true });
  });
});
