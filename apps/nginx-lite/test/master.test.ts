/** Master and children: who they are, who replaces whom, the signals of workers, WINCH and USR2. */

import { chmodSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { get } from './support/client.ts';
import { conf, freePort, isAlive, makePrefix, type Running, runLite, startLite } from './support/server.ts';

const FILES = { 'html/a.txt': 'one\n' };
const SERVER =
  'server { listen 127.0.0.1:%PORT%; root html; access_log logs/access.log; location /pid { return 200 $pid; } }';

/** Child processes of a process. */
function childrenOf(pid: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((each) => {
      try {
        const stat = readFileSync(`/proc/${each}/stat`, 'latin1');
        return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === pid;
      } catch {
        return false;
      }
    });
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(20);
}

const workerPid = async (port: number): Promise<number> => Number((await get(port, '/pid')).body);
/** The number in a pid file; 0 where there is no file, or no number in it yet. */
const readPid = (file: string): number => (existsSync(file) ? Number(readFileSync(file, 'latin1')) : 0);

async function stopped(server: Running, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  expect(await server.stop(signal)).toBe(0);
  rmSync(server.dir, { recursive: true, force: true });
}

/** KiB of resident pages that stand in files: programs and libraries. */
const fileKiB = (pid: number): number =>
  Number(/^RssFile:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]);

test('a server that has started gives back what only its start needed', async () => {
  const server = await startLite(conf(SERVER), { files: FILES });
  const pid = server.child.pid as number;
  const worker = await workerPid(server.port);
  // Node takes over 40 MB of them to start.
  await until(() => fileKiB(pid) < 25_000 && fileKiB(worker) < 25_000);
  expect((await get(server.port, '/a.txt')).body).toBe('one\n');
  await stopped(server);
});

test('the master has one child, which serves; the pid file names the master', async () => {
  const server = await startLite(conf(SERVER, 'worker_processes 2;'), { files: FILES });
  const pid = server.child.pid as number;
  const worker = await workerPid(server.port);
  expect(childrenOf(pid)).toEqual([worker]);
  expect(readPid(join(server.dir, 'logs/nginx.pid'))).toBe(pid);
  expect(readFileSync(`/proc/${pid}/cmdline`, 'latin1')).toMatch(/^nginx: master process /);
  expect(readFileSync(`/proc/${worker}/cmdline`, 'latin1')).toMatch(/^nginx: worker process/);
  await stopped(server);
});

test('a child that is killed is replaced, and connections wait in the listen queue until then', async () => {
  const server = await startLite(conf(SERVER, 'worker_processes 2;'), { files: FILES });
  const first = await workerPid(server.port);
  process.kill(first, 'SIGKILL');
  await until(() => !isAlive(first));
  // No refusal: the listening sockets are the master's.
  expect((await get(server.port, '/a.txt')).body).toBe('one\n');
  const second = await workerPid(server.port);
  expect(second).not.toBe(first);
  expect(server.log('error.log')).toContain(`worker process ${first} exited on signal 9`);
  await stopped(server, 'SIGQUIT');
});

test.skipIf(process.getuid?.() !== 0)(
  'user: children drop their privileges, and read, write and reopen as that user',
  async () => {
    const dir = makePrefix(FILES);
    writeFileSync(join(dir, 'html/secret.txt'), 'secret\n', { mode: 0o600 });
    for (const each of ['', 'html', 'logs']) chmodSync(join(dir, each), each === 'logs' ? 0o777 : 0o755);
    const server = await startLite(conf(SERVER, 'worker_processes 2; user nobody nogroup;'), { dir });
    const worker = await workerPid(server.port);
    const status = readFileSync(`/proc/${worker}/status`, 'latin1');
    expect(status).toMatch(/^Uid:\t65534\t65534\t65534\t65534$/m);
    expect(status).toMatch(/^Gid:\t65534\t65534\t65534\t65534$/m);
    for (const task of readdirSync(`/proc/${worker}/task`))
      expect(readFileSync(`/proc/${worker}/task/${task}/status`, 'latin1')).toMatch(/^Uid:\t65534\t/m);
    expect((await get(server.port, '/a.txt')).status).toBe(200);
    expect((await get(server.port, '/secret.txt')).status).toBe(403);
    rmSync(join(dir, 'logs/access.log'));
    server.child.kill('SIGUSR1');
    await until(async () => {
      await get(server.port, '/a.txt?after');
      return server.log('access.log').includes('?after');
    });
    await stopped(server);
  },
);

test("workers obey nginx's signals: HUP and USR2 are ignored, USR1 reopens, QUIT ends gracefully and a new one comes", async () => {
  const server = await startLite(conf(SERVER), { files: FILES });
  const first = await workerPid(server.port);
  process.kill(first, 'SIGHUP');
  process.kill(first, 'SIGUSR2');
  rmSync(join(server.dir, 'logs/access.log'));
  process.kill(first, 'SIGUSR1');
  await until(async () => {
    await get(server.port, '/a.txt?after');
    return server.log('access.log').includes('?after');
  });
  expect(await workerPid(server.port)).toBe(first);
  process.kill(first, 'SIGQUIT');
  await until(() => !isAlive(first));
  expect(await workerPid(server.port)).not.toBe(first);
  await stopped(server);
});

test('children of a killed master finish and end', async () => {
  const server = await startLite(conf(SERVER), { files: FILES });
  const worker = await workerPid(server.port);
  await server.stop('SIGKILL');
  await until(() => !isAlive(worker));
  rmSync(server.dir, { recursive: true, force: true });
});

describe('in the background', () => {
  test('WINCH ends the workers only, HUP brings them back; USR2 starts a new binary on the same sockets', async () => {
    const dir = makePrefix(FILES);
    const port = await freePort();
    const text = conf(SERVER.replace('%PORT%', String(port)), 'worker_processes 2;').replace('daemon off;', '');
    writeFileSync(join(dir, 'n.conf'), text);
    expect((await runLite(['-p', dir, '-c', 'n.conf'])).code).toBe(0);
    const pidFile = join(dir, 'logs/nginx.pid');
    const old = readPid(pidFile);
    try {
      const [first = 0] = childrenOf(old);
      process.kill(old, 'SIGWINCH');
      await until(() => !isAlive(first));
      expect(isAlive(old)).toBe(true);
      process.kill(old, 'SIGHUP');
      expect((await get(port, '/a.txt')).body).toBe('one\n');

      process.kill(old, 'SIGUSR2');
      await until(() => existsSync(`${pidFile}.oldbin`) && readPid(pidFile) > 0);
      expect(readPid(`${pidFile}.oldbin`)).toBe(old);
      const young = readPid(pidFile);
      expect(young).not.toBe(old);
      // A second USR2, to either, changes nothing while both run.
      process.kill(old, 'SIGUSR2');
      process.kill(young, 'SIGUSR2');
      const log = (): string => readFileSync(join(dir, 'logs/error.log'), 'latin1');
      await until(() => log().split('the changing binary signal is ignored').length === 3);

      // The new binary is sent home, when the old one serves again beside it: that one is the server then.
      const before = childrenOf(old).filter((each) => each !== young);
      process.kill(old, 'SIGWINCH');
      await until(() => before.every((each) => !isAlive(each)));
      expect(await workerPid(port)).toBe(childrenOf(young)[0]);
      process.kill(old, 'SIGHUP');
      await until(() => childrenOf(old).some((each) => each !== young));
      process.kill(young, 'SIGQUIT');
      await until(() => !isAlive(young) && !existsSync(`${pidFile}.oldbin`));
      expect(readPid(pidFile)).toBe(old);
      expect((await get(port, '/a.txt')).body).toBe('one\n');

      // And once more, for good; not one request fails on the way.
      let going = true;
      let failures = 0;
      const client = (async () => {
        while (going) if ((await get(port, '/a.txt').catch(() => null))?.body !== 'one\n') failures++;
      })();
      process.kill(old, 'SIGUSR2');
      await until(() => ![0, old].includes(readPid(pidFile)));
      process.kill(old, 'SIGQUIT');
      await until(() => !isAlive(old));
      going = false;
      await client;
      expect(failures).toBe(0);
      expect(existsSync(`${pidFile}.oldbin`)).toBe(false);
      const last = readPid(pidFile);
      expect((await get(port, '/a.txt')).body).toBe('one\n');
      expect((await runLite(['-p', dir, '-c', 'n.conf', '-s', 'quit'])).code).toBe(0);
      await until(() => !isAlive(last));
      expect(existsSync(pidFile)).toBe(false);
    } finally {
      for (const file of [pidFile, `${pidFile}.oldbin`]) if (readPid(file) > 0) process.kill(readPid(file), 'SIGKILL');
    }
    rmSync(dir, { recursive: true, force: true });
  });
});
