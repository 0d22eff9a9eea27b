/**
 * Real server processes for tests: ours, and Debian's nginx as the oracle.
 *
 * What it is for: a folder per test with configuration, files and logs; start when the pid file says so, stop by pid.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type ListenOptions, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, vi } from 'vitest';

// A test starts some servers and waits for what they do: a second or a few, and minutes where thirty processes want two cores.
vi.setConfig({ testTimeout: 240_000 });

export const BIN = fileURLToPath(new URL('../../bin/nginx-lite', import.meta.url));
export const DEBIAN_NGINX = '/usr/sbin/nginx';
export const IO_MODES = ['megapipe', 'epoll'] as const;
export type Io = (typeof IO_MODES)[number];

/** Ports below those that the kernel gives to clients, and to servers that do not care. */
const PORTS_FROM = 20_000;
const PORTS_END = Math.max(
  Number.parseInt(readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'latin1'), 10),
  PORTS_FROM + 10_000,
);

/** Listens there; null where somebody else does. Throws where nobody can. */
function listening(where: ListenOptions): Promise<Server | null> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) =>
      error.code === 'EADDRINUSE' ? resolve(null) : reject(error),
    );
    server.listen(where, () => resolve(server));
  });
}

/**
 * A port that nobody uses, for this process until its end.
 *
 * Between the look at a port and the server's bind() lies the start of a process, and other suites look for ports at the same
 * time. So ports are claimed, by an abstract socket of that name: it is gone with its holder, however that ends.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(PORTS_FROM, PORTS_END);
    const claim = await listening({ path: `\0nginx-lite-test-port-${port}` });
    if (claim === null) continue;
    claim.unref();
    // Every address of the machine, of either family.
    const probe = await listening({ port, host: '::' }).catch(() => listening({ port, host: '0.0.0.0' }));
    if (probe === null) continue;
    await new Promise((resolve) => probe.close(resolve));
    return port;
  }
}

/** A folder with `html` and `logs`, open to every user: workers of the oracle drop their privileges. */
export function makePrefix(files: Record<string, string | Uint8Array> = {}): string {
  const dir = mkdtempSync(join(tmpdir(), 'nginx-lite-'));
  mkdirSync(join(dir, 'logs'));
  mkdirSync(join(dir, 'html'));
  mkdirSync(join(dir, 'temp'));
  for (const [name, content] of Object.entries(files)) writeUnder(dir, name, content);
  return dir;
}

export function writeUnder(dir: string, name: string, content: string | Uint8Array): void {
  const path = join(dir, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
}

/** Servers that run: a test that fails, or whose time is over, must not leave one behind. */
const running = new Set<ChildProcess>();
const endThem = (): void => {
  for (const child of running) child.kill('SIGKILL');
};
afterAll(endThem);
process.once('exit', endThem);

/** A process whose end nobody has asked for yet is dead, too. */
export function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat[stat.lastIndexOf(')') + 2] !== 'Z';
  } catch {
    return false;
  }
}

export interface Running {
  dir: string;
  port: number;
  child: ChildProcess;
  stderr(): string;
  log(name: string): string;
  /** Waits until the log holds the text, in whole lines. */
  logged(name: string, text: string | RegExp): Promise<string>;
  /** Sends the signal and waits for the end; the exit code. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

export interface StartOptions {
  io?: Io;
  files?: Record<string, string | Uint8Array>;
  dir?: string;
  args?: string[];
  env?: Record<string, string>;
  /** Name of the pid file, where several servers run in one folder. */
  pid?: string;
  /** Run as another user (root only). */
  uid?: number;
  gid?: number;
}

/** Where root runs the tests, workers would become `nobody`, who may not enter the tests' folders. */
const AS_ROOT = process.getuid?.() === 0 ? 'user root;' : '';

/** Main part that every test configuration needs; `%PORT%` stands for the port. */
export function conf(http: string, main = 'worker_processes 1;', events = 'worker_connections 256;'): string {
  return `daemon off;\n${/\buser /.test(main) ? main : `${main} ${AS_ROOT}`}\nerror_log logs/error.log info;\npid logs/nginx.pid;\nevents { ${events} }\nhttp {\n${http}\n}\n`;
}

export async function startLite(config: string, options: StartOptions = {}): Promise<Running> {
  const args = ['--io', options.io ?? 'megapipe', ...(options.args ?? [])];
  return await start(BIN, args, config, options);
}

export async function startDebian(config: string, options: StartOptions = {}): Promise<Running> {
  return await start(DEBIAN_NGINX, ['-e', 'logs/error.log'], config, options);
}

async function start(bin: string, args: string[], config: string, options: StartOptions): Promise<Running> {
  const dir = options.dir ?? makePrefix(options.files);
  const port = await freePort();
  const confFile = join(dir, `nginx-${port}.conf`);
  const pidName = options.pid ?? 'nginx.pid';
  writeFileSync(
    confFile,
    config.replaceAll('%PORT%', String(port)).replaceAll('%DIR%', dir).replace('logs/nginx.pid', `logs/${pidName}`),
  );
  const pidFile = join(dir, 'logs', pidName);
  rmSync(pidFile, { force: true });
  const child = spawn(bin, ['-p', `${dir}/`, '-c', confFile, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...options.env },
    ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.gid }),
  });
  running.add(child);
  child.once('exit', () => running.delete(child));
  let stderr = '';
  child.stderr?.on('data', (data: Buffer) => {
    stderr += data.toString('latin1');
  });
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  // "exit" may come before what it said last.
  const closed = new Promise((resolve) => child.once('close', resolve));
  // The file is there before its number is.
  while (!existsSync(pidFile) || readFileSync(pidFile).length === 0) {
    if (child.exitCode !== null || child.signalCode !== null) {
      await closed;
      throw new Error(`${bin} ended at start: ${stderr}`);
    }
    await sleep(10);
  }
  // The oracle writes its pid file before its workers accept; connections wait in the listen queue until then.
  const read = (name: string): string => {
    try {
      return readFileSync(join(dir, 'logs', name), 'latin1');
    } catch {
      return '';
    }
  };
  return {
    dir,
    port,
    child,
    stderr: () => stderr,
    log: read,
    async logged(name, text) {
      for (;;) {
        const content = read(name);
        // Who reads while somebody writes may see the first part of it.
        const whole = content.endsWith('\n');
        if (whole && (typeof text === 'string' ? content.includes(text) : text.test(content))) return content;
        if (child.exitCode !== null) throw new Error(`the server ended; ${name}: ${content}`);
        await sleep(20);
      }
    },
    async stop(signal = 'SIGTERM') {
      const tell = (): void => {
        if (child.exitCode === null && child.signalCode === null) child.kill(signal);
      };
      tell();
      // nginx loses a signal that comes while it starts: its master waits for the next one.
      const again = bin === DEBIAN_NGINX && signal === 'SIGTERM' ? setInterval(tell, 2000) : undefined;
      const code = await ended;
      clearInterval(again);
      return code;
    },
  };
}

/** Runs the command to its end. */
export async function runLite(
  args: string[],
  options: { dir?: string; env?: Record<string, string> } = {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(BIN, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: options.dir,
    env: { ...process.env, ...options.env },
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (data: Buffer) => {
    stdout += data.toString('latin1');
  });
  child.stderr.on('data', (data: Buffer) => {
    stderr += data.toString('latin1');
  });
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, stdout, stderr };
}
