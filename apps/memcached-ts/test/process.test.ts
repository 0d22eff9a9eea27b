/** The server as a process of the system: daemon, pid file, identity, signals, limits, sockets in the file system. */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  constants,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Client, connect, IO_MODES, OURS, runToEnd, type Server, startOurs } from './servers.ts';

const running: Server[] = [];
const daemons: number[] = [];
let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'memcached-ts-'));
});
afterEach(async () => {
  await Promise.all(running.splice(0).map((server) => server.stop('SIGKILL')));
  for (const pid of daemons.splice(0)) if (isRunning(pid)) process.kill(pid, 'SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

async function serve(io: string, args: string[] = []): Promise<Server> {
  const server = await startOurs(io, args);
  running.push(server);
  return server;
}

function isRunning(pid: number): boolean {
  try {
    // A zombie that nobody reaps counts as gone.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false;
  }
}

function killed(child: ChildProcess, exited: Promise<null>): Promise<null> {
  child.kill('SIGKILL');
  return exited;
}

async function canConnect(port: number): Promise<boolean> {
  try {
    const socket = await connect(port);
    socket.on('error', () => {});
    socket.destroy();
    return true;
  } catch {
    return false;
  }
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(20);
}

/** Runs `-d`, and gives the server's number and port once the command has returned. */
async function startDaemon(io: string, args: string[]): Promise<{ pid: number; port: number; stderr: string }> {
  const pidFile = join(folder, 'pid');
  const portFile = join(folder, 'port');
  const child = spawn(OURS, ['--io', io, '-d', '-l', '127.0.0.1', '-p', '-1', '-u', 'root', '-P', pidFile, ...args], {
    env: { ...process.env, MEMCACHED_PORT_FILENAME: portFile },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const code = await new Promise((resolve) => child.once('close', resolve));
  expect(code).toBe(0);
  if (!args.includes('-vv')) expect(stderr).toBe('');
  const pid = Number(readFileSync(pidFile, 'latin1'));
  daemons.push(pid);
  return { pid, port: Number(/TCP INET: (\d+)/.exec(readFileSync(portFile, 'latin1'))![1]), stderr };
}

describe.each(IO_MODES)('memcached-ts --io %s as a process', (io) => {
  // Alone with the main thread, and with others that start together.
  it.each(io === 'megapipe' ? ['1'] : ['3'])(
    'leaves the pipe of its stderr as blocking as it got it, for all who share it (-t %s)',
    async (threads) => {
      const server = await serve(io, ['-t', threads, '-vv']);
      const client = await Client.connect(server.port);
      expect(await client.ask('version\r\n')).toMatch(/^VERSION/);
      client.close();
      // What the workers have to say comes through it nevertheless.
      await until(() => server.stderr().includes('version'));
      const flags = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/${server.pid}/fdinfo/2`, 'latin1'))![1]!;
      expect(Number.parseInt(flags, 8) & constants.O_NONBLOCK).toBe(0);
    },
  );

  it('-d leaves once the sockets listen; the pid file holds the server’s number, stdio is /dev/null, cwd is /', async () => {
    const { pid, port } = await startDaemon(io, ['-t', '1']);
    const client = await Client.connect(port);
    expect(await client.ask('version\r\n')).toBe('VERSION 1.6.45\r\n');
    expect((await client.stats())['pid']).toBe(String(pid));
    client.close();
    for (const fd of [0, 1, 2]) expect(readlinkSync(`/proc/${pid}/fd/${fd}`)).toBe('/dev/null');
    expect(readlinkSync(`/proc/${pid}/cwd`)).toBe('/');
    // A session of its own: no terminal's end reaches it.
    expect(readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]!.split(' ')[3]).toBe(String(pid));
    process.kill(pid, 'SIGTERM');
    await until(() => !isRunning(pid));
    expect(existsSync(join(folder, 'pid'))).toBe(false);
  });

  it('becomes the user that -u names, and a configuration file’s logfile gets a daemon’s words', async () => {
    const log = join(folder, 'log');
    writeFileSync(join(folder, 'conf'), `# comment\n-t 1\nlogfile ${log}\n-v\n-o hashpower=14\n`);
    const { pid, port } = await startDaemon(io, ['--config', join(folder, 'conf'), '-vv']);
    const client = await Client.connect(port);
    expect(await client.ask('get logged_key\r\n')).toBe('END\r\n');
    await until(() => readFileSync(log, 'latin1').includes('get logged_key'));
    client.close();
    process.kill(pid, 'SIGINT');
    await until(() => !isRunning(pid));
    if (process.getuid?.() !== 0) return;
    const server = await serve(io, ['-t', '1', '-u', 'nobody']);
    const nobody = readFileSync('/etc/passwd', 'latin1').match(/^nobody:[^:]*:(\d+):(\d+)/m)!;
    const status = readFileSync(`/proc/${server.pid}/status`, 'latin1');
    expect(status).toMatch(new RegExp(`^Uid:\\s+${nobody[1]}\\s+${nobody[1]}`, 'm'));
    expect(status).toMatch(new RegExp(`^Gid:\\s+${nobody[2]}\\s+${nobody[2]}`, 'm'));
    expect(status).toMatch(/^Groups:\s*$/m);
    // Its threads, too.
    let threads = 0;
    for (const task of readdirSync(`/proc/${server.pid}/task`)) {
      const path = `/proc/${server.pid}/task/${task}/status`;
      let text: string;
      try {
        text = readFileSync(path, 'latin1');
      } catch (error) {
        // The system's own threads for a ring come and go.
        if (existsSync(path)) throw error;
        continue;
      }
      expect(text).toMatch(new RegExp(`^Uid:\\s+${nobody[1]}\\s`, 'm'));
      threads++;
    }
    expect(threads).toBeGreaterThan(1);
  });

  it('a daemon that cannot listen says why, and its exit code is the command’s', async () => {
    const server = await serve(io, ['-t', '1']);
    const args = ['--io', io, '-d', '-l', '127.0.0.1', '-p', String(server.port), '-u', 'root'];
    const { code, stderr } = await runToEnd(OURS, args);
    expect({ code, stderr }).toEqual({
      code: 71,
      stderr: 'failed to listen on one of interface(s) 127.0.0.1: Address already in use\n',
    });
  });

  it.each(['SIGINT', 'SIGTERM', 'SIGUSR1'] as const)('%s ends it with exit code 0', async (signal) => {
    const server = await serve(io, ['-t', '2', '-v']);
    const idle = await Client.connect(server.port);
    expect(await idle.ask('version\r\n')).toBe('VERSION 1.6.45\r\n');
    expect(await server.stop(signal)).toBe(0);
    expect(await idle.until('never')).toBe('');
    expect(server.stderr()).toContain(signal === 'SIGUSR1' ? 'Gracefully stopping\n' : 'Exiting normally\n');
    expect(server.stderr()).not.toContain('Debugger');
  });

  it('SIGUSR1 lets a client finish its command, and takes no new ones', async () => {
    const server = await serve(io, ['-t', '1']);
    const busy = await Client.connect(server.port);
    busy.send('set half 0 0 10\r\nhalf');
    const other = await Client.connect(server.port);
    while (!Object.values(await other.stats('conns')).includes('conn_nread'));
    const watcher = await Client.connect(server.port);
    expect(await watcher.ask('watch\r\n')).toBe('OK\r\n');
    const stopped = server.stop('SIGUSR1');
    // Who watches is in the middle of nothing.
    for (const one of [other, watcher]) await one.until('never');
    // Refused once the listening sockets are closed.
    while (await canConnect(server.port)) await sleep(20);
    expect(await busy.ask('a value\r\n'.slice(1))).toBe('STORED\r\n');
    expect(await stopped).toBe(0);
  });

  it('shutdown needs -A, takes no word but graceful, and ends the server', async () => {
    const server = await serve(io, ['-t', '2', '-A']);
    const client = await Client.connect(server.port);
    expect((await client.stats('settings'))['shutdown_command']).toBe('yes');
    expect(await client.ask('shutdown foo\r\n')).toBe('CLIENT_ERROR invalid shutdown mode\r\n');
    client.send('shutdown\r\n');
    expect(await client.until('never')).toBe('');
    await until(() => !isRunning(server.pid));
    const second = await serve(io, ['-t', '1', '--enable-shutdown']);
    const next = await Client.connect(second.port);
    next.send('shutdown graceful\r\n');
    expect(await next.until('never')).toBe('');
    await until(() => !isRunning(second.pid));
    await until(() => second.stderr().includes('Gracefully stopping\n'));
  });

  it('serves a UNIX socket with the permissions of -a, in the place of an old one, but of no other file', async () => {
    const path = join(folder, 'socket');
    for (let round = 0; round < 2; round++) {
      const child = spawn(OURS, ['--io', io, '-t', '2', '-u', 'root', '-s', path, '-a', '750'], { stdio: 'ignore' });
      const exited = new Promise<null>((resolve) => child.once('exit', () => resolve(null)));
      running.push({
        port: 0,
        pid: child.pid!,
        stderr: () => '',
        stop: () => killed(child, exited),
      });
      let answer = '';
      while (answer === '') {
        answer = await new Promise<string>((resolve) => {
          const socket = createConnection(path, () => socket.write('stats conns\r\n'));
          socket.setEncoding('latin1').on('data', (text: string) => {
            if (text.includes('END\r\n')) resolve(text);
          });
          socket.on('error', () => setTimeout(resolve, 20, ''));
        });
      }
      expect(answer).toMatch(new RegExp(`STAT \\d+:addr unix:${path}\r\n`));
      expect(answer).toMatch(/STAT \d+:addr unix:\r\n/);
      expect(statSync(path).mode & 0o777).toBe(0o750);
      // Killed, it leaves its socket behind for the next round; ended, it takes it away.
      const last = round === 1;
      child.kill(last ? 'SIGTERM' : 'SIGKILL');
      await exited;
      expect(existsSync(path)).toBe(!last);
    }
    writeFileSync(path, 'precious');
    const { code, stderr } = await runToEnd(OURS, ['--io', io, '-u', 'root', '-s', path]);
    expect(code).toBe(71);
    expect(stderr).toContain(`failed to listen on UNIX socket: ${path}: Address already in use`);
    expect(readFileSync(path, 'latin1')).toBe('precious');
  });

  it('listens where -l says: lists, ports of their own, IPv6', async () => {
    const portFile = join(folder, 'port');
    const child = spawn(
      OURS,
      ['--io', io, '-t', '2', '-u', 'root', '-p', '-1', '-l', '127.0.0.1,[::1]:0', '-l', '127.0.0.2:0'],
      {
        env: { ...process.env, MEMCACHED_PORT_FILENAME: portFile },
        stdio: 'ignore',
      },
    );
    const exited = new Promise<null>((resolve) => child.once('exit', () => resolve(null)));
    running.push({ port: 0, pid: child.pid!, stderr: () => '', stop: () => killed(child, exited) });
    await until(() => existsSync(portFile));
    const lines = readFileSync(portFile, 'latin1');
    expect(lines).toMatch(/^TCP INET: \d+\nTCP INET6: \d+\nTCP INET: \d+\n$/);
    const ports = [...lines.matchAll(/: (\d+)/g)].map((match) => Number(match[1]));
    for (const [i, host] of ['127.0.0.1', '::1', '127.0.0.2'].entries()) {
      const reply = await new Promise<string>((resolve, reject) => {
        const socket = createConnection({ host, port: ports[i]! }, () => socket.write('version\r\n'));
        socket.once('data', (data) => resolve(data.toString()));
        socket.once('error', reject);
      });
      expect(reply).toBe('VERSION 1.6.45\r\n');
    }
  });

  it('without -l listens everywhere, and says what is wrong with its pid file', async () => {
    const portFile = join(folder, 'port');
    const pidFile = join(folder, 'pid');
    // Somebody who runs: this test.
    writeFileSync(pidFile, `${process.pid}\n`);
    const child = spawn(OURS, ['--io', io, '-t', '2', '-u', 'root', '-p', '-1', '-P', pidFile], {
      env: { ...process.env, MEMCACHED_PORT_FILENAME: portFile },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    const exited = new Promise<null>((resolve) => child.once('exit', () => resolve(null)));
    running.push({ port: 0, pid: child.pid!, stderr: () => stderr, stop: () => killed(child, exited) });
    await until(() => existsSync(portFile));
    const lines = readFileSync(portFile, 'latin1');
    // A machine without IPv6 has the first line alone.
    expect(lines).toMatch(/^TCP INET: \d+\n(TCP INET6: \d+\n)?$/);
    const ports = [...lines.matchAll(/: (\d+)/g)].map((match) => Number(match[1]));
    for (const [i, port] of ports.entries()) {
      const reply = await new Promise<string>((resolve, reject) => {
        const socket = createConnection({ host: i === 0 ? '127.0.0.1' : '::1', port }, () => socket.write('mn\r\n'));
        socket.once('data', (data) => resolve(data.toString()));
        socket.once('error', reject);
      });
      expect(reply).toBe('MN\r\n');
    }
    await until(() => stderr.endsWith('\n'));
    expect(stderr).toBe(`WARNING: The pid file contained the following (running) pid: ${process.pid}\n`);
    expect(readFileSync(pidFile, 'latin1')).toBe(`${child.pid}\n`);
  });

  it('-k, -r and -c ask the system for what they need', async () => {
    const server = await serve(io, ['-t', '1', '-k', '-r', '-c', '3000', '-m', '8', '-I', '1m']);
    const client = await Client.connect(server.port);
    expect(await client.ask('version\r\n')).toBe('VERSION 1.6.45\r\n');
    const limits = readFileSync(`/proc/${server.pid}/limits`, 'latin1');
    expect(Number(/Max open files\s+(\d+)/.exec(limits)![1])).toBeGreaterThanOrEqual(3000);
    const [, soft, hard] = /Max core file size\s+(\w+)\s+(\w+)/.exec(limits)!;
    expect(soft).toBe(hard);
    const locked = Number(/VmLck:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, 'latin1'))![1]);
    // A system that forbids it is told so, and served.
    if (locked === 0) await until(() => server.stderr().includes('warning: -k invalid, mlock() failed: '));
  });
});
