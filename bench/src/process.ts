/**
 * Child processes of a run: started pinned to a core, watched until they listen, ended by pid whatever happens.
 *
 * Invariant: `Children` knows every process it started; `stopAll` and the exit hook end each with all its descendants.
 * Not its job: what the processes are.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { connect, createServer } from 'node:net';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { processTree, readStat } from './procstat.ts';

const STOP_MS_MAX = 3_000;
const OUTPUT_BYTES_MAX = 16_384;
/** How long the output of a process that has ended may take: it is read soon, but a descendant that lives on holds it open. */
const LAST_WORDS_MS_MAX = 5_000;

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export interface RunningProcess {
  pid: number;
  command: readonly string[];
  /** Resolves when the process has ended. */
  exited: Promise<void>;
  /** Resolves when the process has ended and all it printed is here. */
  ended: Promise<Exit>;
  exit(): Exit | null;
  stdout(): string;
  stderr(): string;
}

export class Children {
  private readonly running = new Map<number, RunningProcess>();
  private readonly onExit = (): void => {
    for (const root of this.running.keys()) for (const pid of processTree(root)) kill(pid, 'SIGKILL');
  };

  constructor() {
    process.on('exit', this.onExit);
  }

  /** Starts `command`, on core (or list of cores) `cpu` when it is not null, with `environment` beside this process's own. */
  async start(
    command: readonly string[],
    cpu: number | string | null,
    environment: Readonly<Record<string, string>> = {},
  ): Promise<RunningProcess> {
    const full = cpu === null ? command : ['taskset', '-c', String(cpu), ...command];
    const child: ChildProcess = spawn(full[0]!, full.slice(1), {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...environment },
    });
    let exit: Exit | null = null;
    const output = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      // The first bytes hold the listening line and a report, the last ones of a chatty server hold nothing we need.
      child[name]!.setEncoding('utf8').on('data', (text: string) => {
        if (output[name].length < OUTPUT_BYTES_MAX) output[name] += text;
      });
    }
    const pid = child.pid ?? 0;
    const running: RunningProcess = {
      pid,
      command,
      exited: new Promise((resolve) => {
        child.once('exit', (code, signal) => {
          exit = { code, signal };
          this.running.delete(pid);
          resolve();
        });
      }),
      ended: new Promise((resolve) => {
        child.once('close', (code, signal) => resolve({ code, signal }));
      }),
      exit: () => exit,
      stdout: () => output.stdout,
      stderr: () => output.stderr,
    };
    if (pid > 0) this.running.set(pid, running);
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', (error) => reject(new Error(`cannot start ${full[0]}: ${error.message}`)));
    });
    return running;
  }

  /** SIGTERM, and SIGKILL for what is still there after three seconds. */
  async stop(child: RunningProcess): Promise<void> {
    if (child.exit() !== null) return;
    const before = identities(child.pid);
    process.kill(child.pid, 'SIGTERM');
    await within(child.exited, STOP_MS_MAX);
    // Its workers may have outlived it, and one that ignored the signal may have started others since.
    const left = child.exit() === null ? identities(child.pid) : new Map<number, number>();
    for (const [pid, start] of [...before, ...left]) if (readStat(pid)?.startTicks === start) kill(pid, 'SIGKILL');
    await child.exited;
  }

  async stopAll(): Promise<void> {
    await Promise.all([...this.running.values()].map((child) => this.stop(child)));
  }

  /** Ends everything and takes the exit hook away. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopAll();
    process.off('exit', this.onExit);
  }
}

/** The processes of a tree with their start times: a number alone may be another process by the time it is used. */
function identities(root: number): Map<number, number> {
  return new Map(processTree(root).map((pid) => [pid, readStat(pid)?.startTicks ?? -1]));
}

/** Waits for the promise, but no longer than that. */
async function within(promise: Promise<unknown>, milliseconds: number): Promise<void> {
  const timeout = new AbortController();
  await Promise.race([promise, sleep(milliseconds, undefined, { signal: timeout.signal }).catch(() => undefined)]);
  timeout.abort();
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** What an ended process said about it: the line that names the error, if there is one, else its last lines. */
export function lastWords(child: RunningProcess): string {
  const lines = (child.stderr().trim() || child.stdout().trim()).split('\n');
  const error = lines.find((line) => /^\s*(\w*Error\b|\w+: )/.test(line));
  return (error ?? lines.slice(-3).join(' / ')).trim();
}

/** How a process ended that has, once its last words are here. */
export async function describeExit(child: RunningProcess): Promise<string> {
  await within(child.ended, LAST_WORDS_MS_MAX);
  const exit = child.exit();
  const words = lastWords(child);
  return `ended with ${exit?.signal ?? `status ${exit?.code}`}${words === '' ? '' : `: ${words}`}`;
}

/** The port in the first line `listening on ADDRESS:PORT`. */
export async function waitForLine(child: RunningProcess, milliseconds: number): Promise<number> {
  const deadline = performance.now() + milliseconds;
  for (;;) {
    const line = /^listening on \S+:(\d+)$/m.exec(child.stdout());
    if (line !== null) return Number(line[1]);
    if (child.exit() !== null) throw new Error(`${basename(child.command[0]!)} ${await describeExit(child)}`);
    if (performance.now() > deadline) {
      throw new Error(`${basename(child.command[0]!)}: no line "listening on ADDRESS:PORT" in ${milliseconds} ms`);
    }
    await sleep(10);
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/** Waits until something accepts connections on `port`; fails when the process ends before. */
export async function waitForPort(child: RunningProcess, port: number, milliseconds: number): Promise<void> {
  const deadline = performance.now() + milliseconds;
  for (;;) {
    if (await accepts(port)) return;
    if (child.exit() !== null) throw new Error(`${basename(child.command[0]!)} ${await describeExit(child)}`);
    if (performance.now() > deadline)
      throw new Error(`${basename(child.command[0]!)}: port ${port} refuses after ${milliseconds} ms`);
    await sleep(20);
  }
}

/** A port nobody listens on at the moment, for servers that cannot choose one themselves. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '0.0.0.0', () => {
      const address = server.address();
      server.close(() => {
        if (address === null || typeof address === 'string') reject(new Error('no free port'));
        else resolve(address.port);
      });
    });
  });
}
