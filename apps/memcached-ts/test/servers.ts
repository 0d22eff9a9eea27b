/**
 * Starts and ends the servers that the black-box tests talk to, and plays bytes to them.
 * Every server listens on a free port of 127.0.0.1 that it reports itself, and is ended by its pid.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';

export const OURS = fileURLToPath(new URL('../bin/memcached-ts', import.meta.url));
export const DEBIANS = '/usr/bin/memcached';
export const IO_MODES = ['megapipe', 'epoll'] as const;
export const hasDebians = existsSync(DEBIANS);

/** Resident memory of a process's own, bytes: without pages of programs' code, which come and go. */
export function residentBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  return [...status.matchAll(/^Rss(?:Anon|Shmem):\s+(\d+) kB$/gm)].reduce((sum, row) => sum + Number(row[1]) * 1024, 0);
}

export interface Server {
  port: number;
  /** With -U -1. */
  udpPort?: number;
  pid: number;
  /** Everything written to stderr so far. */
  stderr(): string;
  /** Ends it and gives the exit code. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

/** `descriptorsMax`: RLIMIT_NOFILE of the server. `environment`: beside the test's own. */
export async function start(
  command: string,
  args: string[],
  descriptorsMax?: number,
  environment: Readonly<Record<string, string>> = {},
): Promise<Server> {
  const folder = mkdtempSync(join(tmpdir(), 'memcached-ts-'));
  // Also for a server that has given up root by then.
  chmodSync(folder, 0o777);
  const portFile = join(folder, 'port');
  const line = [command, '-l', '127.0.0.1', '-p', '-1', '-u', 'root', ...args];
  if (descriptorsMax !== undefined) line.unshift('/bin/sh', '-c', `ulimit -n ${descriptorsMax}; exec "$0" "$@"`);
  const child: ChildProcess = spawn(line[0]!, line.slice(1), {
    env: { ...process.env, ...environment, MEMCACHED_PORT_FILENAME: portFile },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let errors = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (errors += text));
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve));
  const closed = new Promise((resolve) => child.once('close', resolve));
  while (!existsSync(portFile)) {
    if (child.exitCode !== null || child.signalCode !== null) {
      await closed;
      throw new Error(`${command} ${args.join(' ')} ended with ${child.exitCode ?? child.signalCode}: ${errors}`);
    }
    await sleep(10);
  }
  const ports = readFileSync(portFile, 'utf8');
  const port = Number(/TCP INET: (\d+)/.exec(ports)![1]);
  rmSync(folder, { recursive: true });
  return {
    port,
    udpPort: Number(/UDP INET: (\d+)/.exec(ports)?.[1] ?? 0),
    pid: child.pid!,
    stderr: () => errors,
    stop: (signal = 'SIGTERM') => {
      child.kill(signal);
      return exited;
    },
  };
}

/** With two workers, unless `args` says how many: the default of four takes twice as long to start. */
export function startOurs(
  io: string,
  args: string[] = [],
  environment: Readonly<Record<string, string>> = {},
): Promise<Server> {
  return start(OURS, ['--io', io, '-t', '2', ...args], undefined, environment);
}

/** Ends a server with the test that is under way, whatever comes of it. */
export function endsWithTest(server: Server): Server {
  onTestFinished(async () => {
    await server.stop('SIGKILL');
  });
  return server;
}

/** As `startOurs`; `stop` also walks the whole cache memory, and `verdict` then gives what that found (checked.ts). */
export async function startChecked(io: string, args: string[] = []): Promise<Server & { verdict(): Promise<string> }> {
  const hook = `--import=${new URL('checked.ts', import.meta.url).href}`;
  const server = await startOurs(io, args, { NODE_OPTIONS: `${hook} --disable-warning=ExperimentalWarning` });
  return {
    ...server,
    verdict: async () => {
      await server.stop();
      for (let i = 0; i < 500 && !/^CHECK (ok|end)$/m.test(server.stderr()); i++) await sleep(10);
      return server.stderr();
    },
  };
}

/** Runs a server that is expected to end by itself. */
export function runToEnd(
  command: string,
  args: string[],
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, stdout, stderr })));
}

export function connect(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ port, host: '127.0.0.1', noDelay: true });
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
    socket.once('error', reject);
  });
}

/** Sends the pieces one after the other, ends its side, and gives everything that came back until the server closed. */
export function play(port: number, pieces: readonly Buffer[]): Promise<Buffer> {
  return playStages(port, [pieces]);
}

/**
 * As `play`, for pieces in stages: one begins when the server has answered what the stage before it holds. Another
 * connection tells: a server of one thread turns to its request only after it has read and answered what came earlier.
 */
export async function playStages(port: number, stages: readonly (readonly Buffer[])[]): Promise<Buffer> {
  const socket = await connect(port);
  const other = stages.length > 1 ? await Client.connect(port) : undefined;
  const answer: Buffer[] = [];
  const closed = new Promise<void>((resolve) => {
    socket.on('data', (data: Buffer) => answer.push(data));
    socket.once('close', () => resolve());
    // A server that closes on us while we still write resets the connection; what it said before is the answer.
    socket.on('error', () => {});
  });
  for (const [i, stage] of stages.entries()) {
    if (i > 0) await other!.ask('mn\r\n');
    for (const piece of stage) {
      if (socket.destroyed) break;
      await new Promise<void>((resolve) => socket.write(piece, () => resolve()));
      // Lets the piece travel as a packet of its own.
      if (piece !== stage.at(-1)) await new Promise((resolve) => setImmediate(resolve));
    }
  }
  socket.end();
  await closed;
  other?.close();
  return Buffer.concat(answer);
}

/** As `play`, for one string, as latin1 text. */
export async function ask(port: number, text: string): Promise<string> {
  return (await play(port, [Buffer.from(text, 'latin1')])).toString('latin1');
}

/** A connection for a dialogue: send a request, wait for a reply that ends in one of memcached's last lines. */
export class Client {
  readonly socket: Socket;
  private received = '';
  private wake: () => void = () => {};
  closed = false;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.setEncoding('latin1');
    socket.on('data', (text) => {
      this.received += text;
      this.wake();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.closed = true;
      this.wake();
    });
  }

  static async connect(port: number): Promise<Client> {
    return new Client(await connect(port));
  }

  send(text: string): void {
    this.socket.write(Buffer.from(text, 'latin1'));
  }

  /** Everything up to and including the next `end`, or all there was when the server closes first. */
  async until(end: string): Promise<string> {
    for (;;) {
      const at = this.received.indexOf(end);
      if (at >= 0 || this.closed) {
        const text = at >= 0 ? this.received.slice(0, at + end.length) : this.received;
        this.received = this.received.slice(text.length);
        return text;
      }
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
  }

  async ask(text: string, end = '\r\n'): Promise<string> {
    this.send(text);
    return this.until(end);
  }

  /** `stats` as an object. */
  async stats(subcommand = ''): Promise<Record<string, string>> {
    if (this.closed) throw new Error('the server closed this connection');
    const text = await this.ask(`stats${subcommand === '' ? '' : ` ${subcommand}`}\r\n`, 'END\r\n');
    return Object.fromEntries([...text.matchAll(/^STAT (\S+) (.*)\r$/gm)].map((match) => [match[1]!, match[2]!]));
  }

  close(): void {
    this.socket.destroy();
  }
}
