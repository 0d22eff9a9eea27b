/**
 * memcached-ts: the main thread.
 *
 * What it is for: reads the command line, opens the listening sockets, makes the cache's memory, starts the workers, keeps
 * the clock, and ends everything on SIGINT and SIGTERM. Not its job: any connection, any command.
 *
 *   memcached-ts -p 11211 -m 64 -t 2 --io megapipe
 */
import { lookup } from 'node:dns/promises';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { Worker } from 'node:worker_threads';
import { listenGroup, listenTcp, listenUnix, localAddress, MegapipeError } from '@megapipe/core';
import type { BackgroundInput } from './background.ts';
import { createCache } from './engine/cache.ts';
import { D_STARTED, MEMORY_BYTES_MAX, PAGE_BYTES, W_TIME, W_VERBOSITY } from './engine/layout.ts';
import { EX_NOUSER, EX_OSERR, EX_USAGE, HELP, parseCommandLine, UsageError } from './options.ts';
import { VERSION } from './replies.ts';
import type { Settings } from './settings.ts';
import { strerror } from './strerror.ts';
import type { WorkerInput, WorkerMessage } from './worker.ts';

const TICK_MS = 250;
const STOP_MS = 2000;
/** What a limit that is raised may reach at least. */
const RESERVE_BYTES_MIN = 1024 * PAGE_BYTES;

type Listeners = WorkerInput['listeners'][];

function fail(message: string, exitCode: number): never {
  process.stderr.write(`${message}\n`);
  process.exit(exitCode);
}

/** The system's words for a failed call. */
function reason(error: unknown): string {
  if (error instanceof MegapipeError && error.errno > 0) return strerror(error.errno);
  return error instanceof Error ? error.message : String(error);
}

/** `host`, `host:port`, `[v6]:port`, `*`. */
function splitAddress(address: string, port: number): { host: string; port: number } {
  const parts = /^\[([^\]]+)\](?::(\d+))?$/.exec(address) ?? /^([^:]+)(?::(\d+))?$/.exec(address);
  if (parts === null) return { host: address, port };
  const own = parts[2] === undefined ? port : Number(parts[2]);
  if (own > 65535) fail(`Invalid port number: "${parts[2]}"`, EX_USAGE);
  return { host: parts[1] === '*' ? '0.0.0.0' : parts[1]!, port: own };
}

async function addressesOf(settings: Settings): Promise<{ host: string; port: number; name: string }[]> {
  const port = Math.max(0, settings.port);
  if (settings.listen.length === 0) {
    return [
      { host: '0.0.0.0', port, name: '' },
      { host: '::', port, name: '' },
    ];
  }
  const addresses: { host: string; port: number; name: string }[] = [];
  for (const name of settings.listen) {
    const { host, port: own } = splitAddress(name, port);
    if (isIP(host) !== 0) {
      addresses.push({ host, port: own, name });
      continue;
    }
    try {
      for (const found of await lookup(host, { all: true })) addresses.push({ host: found.address, port: own, name });
    } catch {
      fail(`getaddrinfo(): Name or service not known\nfailed to listen on one of interface(s) ${name}`, EX_OSERR);
    }
  }
  return addresses;
}

/** Opens every listening socket. One list for each worker. */
async function listen(settings: Settings): Promise<{ listeners: Listeners; ports: number[] }> {
  const listeners: Listeners = Array.from({ length: settings.threads }, () => []);
  const ports: number[] = [];
  const { backlog, threads } = settings;
  const shareWithAll = (fd: number): void => {
    for (const list of listeners) list.push({ fd, shared: true });
  };
  if (settings.socketPath !== undefined) {
    const path = settings.socketPath;
    try {
      shareWithAll(listenUnix({ path, backlog, mode: settings.socketMode }));
    } catch (error) {
      fail(`bind(): ${reason(error)}\nfailed to listen on UNIX socket: ${path}: ${reason(error)}`, EX_OSERR);
    }
    return { listeners, ports };
  }
  if (settings.port === 0) return { listeners, ports };
  let anyPort = 0;
  for (const { host, port: asked, name } of await addressesOf(settings)) {
    // With any free port, the first address chooses and the others follow.
    const port = asked === 0 ? anyPort : asked;
    try {
      let fd: number;
      if (settings.io === 'megapipe' && threads > 1) {
        const cpus = settings.cpus;
        const group = listenGroup({
          host,
          port,
          backlog,
          count: threads,
          ...(cpus.length > 0 ? { cpus: Array.from({ length: threads }, (_, i) => cpus[i % cpus.length]!) } : {}),
        });
        for (let i = 0; i < threads; i++) listeners[i]!.push({ fd: group[i]!, shared: false });
        fd = group[0]!;
      } else {
        fd = listenTcp({ host, port, backlog });
        shareWithAll(fd);
      }
      const bound = localAddress(fd).port;
      if (asked === 0) anyPort = bound;
      ports.push(bound);
    } catch (error) {
      const code = error instanceof MegapipeError ? error.code : '';
      // A machine without IPv6 serves IPv4 alone.
      if (name === '' && host === '::' && (code === 'EAFNOSUPPORT' || code === 'EADDRNOTAVAIL')) continue;
      const what = name === '' ? `TCP port ${port}` : `one of interface(s) ${name}`;
      const first = code === 'EADDRINUSE' ? '' : `bind(): ${reason(error)}\n`;
      fail(`${first}failed to listen on ${what}: ${reason(error)}`, EX_OSERR);
    }
  }
  return { listeners, ports };
}

/** MEMCACHED_PORT_FILENAME: the bound ports, written to a temporary name first so nobody reads half of it. */
function writePortFile(ports: readonly number[]): void {
  const path = process.env['MEMCACHED_PORT_FILENAME'];
  if (path === undefined) return;
  writeFileSync(`${path}.lck`, ports.map((port) => `TCP INET: ${port}\n`).join(''));
  renameSync(`${path}.lck`, path);
}

function dropPrivileges(user: string | undefined): void {
  if (user === undefined || process.getuid?.() !== 0) return;
  const entry = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .find((fields) => fields[0] === user);
  if (entry === undefined) fail(`can't find the user ${user} to switch to`, EX_NOUSER);
  const gid = Number(entry[3]);
  process.setgroups?.([gid]);
  process.setgid?.(gid);
  process.setuid?.(Number(entry[2]));
}

/** The module of a thread, as source or as what it is compiled to. */
function threadModule(name: string): URL {
  return new URL(import.meta.url.endsWith('.ts') ? `./${name}.ts` : `./${name}.js`, import.meta.url);
}

/** A thread that dies takes the server with it. */
function failWith(worker: Worker, name: string): void {
  worker.once('error', (error) => {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    fail(`${name} failed: ${text}`, EX_OSERR);
  });
}

/** Starts one worker; its message comes once it accepts. */
function startWorker(input: WorkerInput): { worker: Worker; message: Promise<WorkerMessage> } {
  const worker = new Worker(threadModule('worker'), { workerData: input, name: `worker ${input.thread}` });
  failWith(worker, `worker thread ${input.thread}`);
  return { worker, message: new Promise((resolve) => worker.once('message', resolve)) };
}

/** Ends the process on SIGINT and SIGTERM, from now on: workers that run by then are told to close what they serve. */
function stopOnSignals(settings: Settings, workers: readonly Worker[]): void {
  let stopping = false;
  const stop = (): void => {
    if (stopping) return;
    stopping = true;
    const gone = workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve)));
    for (const worker of workers) worker.postMessage('stop');
    // A worker in a long operation must not keep the process.
    const timeout = new Promise((resolve) => setTimeout(resolve, STOP_MS).unref());
    void Promise.race([Promise.all(gone), timeout]).then(() => {
      if (settings.pidFile !== undefined) rmSync(settings.pidFile, { force: true });
      if (settings.socketPath !== undefined) rmSync(settings.socketPath, { force: true });
      if (settings.verbosity > 0) process.stderr.write('Exiting normally\n');
      process.exit(0);
    });
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
}

async function serve(settings: Settings): Promise<void> {
  const workers: Worker[] = [];
  stopOnSignals(settings, workers);
  dropPrivileges(settings.user);
  const { listeners, ports } = await listen(settings);
  let cache: ReturnType<typeof createCache> | undefined;
  const seed = (Math.random() * 2 ** 32) | 0;
  try {
    // Addresses for `cache_memlimit` to grow into; they cost nothing until they are used.
    settings.cache.memoryBytesMax = Math.min(
      MEMORY_BYTES_MAX,
      Math.max(4 * settings.cache.memoryBytes, RESERVE_BYTES_MIN),
    );
    cache = createCache(settings.cache, 'none', 0, seed);
  } catch {
    settings.cache.memoryBytesMax = 0;
  }
  try {
    cache ??= createCache(settings.cache, 'none', 0, seed);
  } catch {
    return fail(`failed to allocate ${settings.cache.memoryBytes} bytes of item memory`, EX_OSERR);
  }
  const { i32, f64, shared } = cache.memory;
  i32[W_VERBOSITY] = settings.verbosity;
  const ready = listeners.map((list, i) => {
    const { worker, message } = startWorker({ shared, settings, thread: i + 1, listeners: list });
    workers.push(worker);
    return message;
  });
  if (settings.threads > 1) {
    const background: BackgroundInput = { shared, settings, thread: settings.threads + 1 };
    failWith(new Worker(threadModule('background'), { workerData: { background } }), 'background thread');
  }
  const { backend, reason: why } = (await Promise.all(ready))[0]!;
  if (settings.io === 'megapipe' && backend === 'epoll') {
    process.stderr.write(`--io megapipe is not possible here: ${why}\n`);
  } else if (settings.verbosity > 0) {
    process.stderr.write(`serving with ${backend}: ${why}\n`);
  }
  if (settings.pidFile !== undefined) writeFileSync(settings.pidFile, `${process.pid}\n`);
  writePortFile(ports);

  setInterval(() => {
    // Seconds since start, from the clock rather than from counting ticks: a suspended machine must not keep items alive.
    const seconds = Math.floor(Date.now() / 1000) - f64[D_STARTED];
    if (seconds > i32[W_TIME]) Atomics.store(i32, W_TIME, seconds);
  }, TICK_MS);
}

try {
  const parsed = parseCommandLine(process.argv.slice(2));
  if (parsed.action === 'help') process.stdout.write(HELP);
  else if (parsed.action === 'version') process.stdout.write(`memcached ${VERSION}\n`);
  else await serve(parsed.settings);
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  fail(error.message, error.exitCode);
}
