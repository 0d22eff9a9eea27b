/**
 * nginx-lite: the command.
 *
 * What it is for: reads the command line, loads the configuration, tests it, signals a running master, or becomes one.
 * Everything it says goes to stderr in nginx's words, exit code 0 or 1. Not its job: serving (master.ts, worker.ts).
 */

// Node opens its debugger on USR1 unless something listens; a server's USR1 means "reopen logs".
process.on('SIGUSR1', () => {});

import { spawn } from 'node:child_process';
import { accessSync, closeSync, constants, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
import { constants as system } from 'node:os';
import { dirname, isAbsolute, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type CommandLine, configureText, helpText, parseCommandLine, UsageError } from './cli.ts';
import { type Loaded, loadConfiguration } from './conf/compile.ts';
import { ConfError, type LogLevelName } from './conf/errors.ts';
import { testConfiguration } from './configuration-test.ts';
import { INHERITED_ENV } from './inherited.ts';
import { errnoOf, strerror } from './log/errno.ts';
import { ErrorLogWriter } from './log/error-log.ts';
import { VERSION_LINE } from './version.ts';

/** Set in the environment of the process that `daemon on` starts; names the descriptor of the starter's stderr. */
const DAEMON_ENV = 'NGINX_LITE_DAEMON';
const SIGNALS = { stop: 'SIGTERM', quit: 'SIGQUIT', reload: 'SIGHUP', reopen: 'SIGUSR1' } as const;

const { signals } = system;

const home = resolve(dirname(fileURLToPath(import.meta.url)), '..');

/** Where messages of start-up go. */
let stderrFd = 2;

function say(text: string): void {
  try {
    writeSync(stderrFd, Buffer.from(text, 'latin1'));
  } catch {
    // Nobody is there to read it.
  }
}

function withSlash(path: string): string {
  return path.endsWith('/') ? path : `${path}/`;
}

/** Words of the command line as bytes, which is how configuration text is held. */
function bytes(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1');
}

interface Places {
  prefix: string;
  confFile: string;
  errorLog: string;
}

function placesOf(line: CommandLine): Places {
  const prefix = withSlash(line.prefix === null ? home : resolve(line.prefix));
  const below = (path: string): string => (isAbsolute(path) ? path : prefix + path);
  return {
    prefix: bytes(prefix),
    confFile: bytes(below(line.confFile ?? 'conf/nginx.conf')),
    errorLog: line.errorLog === 'stderr' ? 'stderr' : bytes(below(line.errorLog ?? 'logs/error.log')),
  };
}

/** The start-up log: what is wrong is said there and on stderr. */
function openStartLog(places: Places): number {
  if (places.errorLog === 'stderr') return -1;
  try {
    return openSync(Buffer.from(places.errorLog, 'latin1'), 'a', 0o644);
  } catch (error) {
    say(
      `nginx: [alert] could not open error log file: open() "${places.errorLog}" failed (${strerror(errnoOf(error))})\n`,
    );
    return -1;
  }
}

/** Levels that the terminal hears of. */
const LOUD: readonly LogLevelName[] = ['emerg', 'alert', 'crit', 'error', 'warn'];

/** To the start-up log; the terminal gets a line of its own, unless it is that log. */
function report(log: number, level: LogLevelName, message: string): void {
  if (log >= 0 && LOUD.includes(level)) say(`nginx: [${level}] ${message}\n`);
  new ErrorLogWriter([log < 0 ? stderrFd : log]).write([{ file: 0, level: 'debug' }], level, message);
}

function dump(loaded: Loaded): void {
  for (const file of loaded.files) {
    writeSync(1, Buffer.from(`# configuration file ${file.path}:\n${file.text}\n`, 'latin1'));
  }
}

/** `-s`: finds the master by its pid file. */
function signal(name: keyof typeof SIGNALS, pidFile: string, log: number): number {
  report(log, 'notice', 'signal process started');
  let text: string;
  try {
    text = readFileSync(Buffer.from(pidFile, 'latin1'), 'latin1');
  } catch (error) {
    report(log, 'error', `open() "${pidFile}" failed (${strerror(errnoOf(error))})`);
    return 1;
  }
  const pid = text.replace(/[\r\n]+$/, '');
  if (!/^[0-9]+$/.test(pid)) {
    report(log, 'error', `invalid PID number "${pid}" in "${pidFile}"`);
    return 1;
  }
  try {
    process.kill(Number(pid), SIGNALS[name]);
    return 0;
  } catch (error) {
    report(log, 'alert', `kill(${pid}, ${signals[SIGNALS[name]]}) failed (${strerror(errnoOf(error))})`);
    return 1;
  }
}

/** `daemon on`: the same command in a session of its own; this process ends when that one serves, or fails with it. */
function daemonize(args: readonly string[]): void {
  const child = spawn(process.execPath, [...process.execArgv, fileURLToPath(import.meta.url), ...args], {
    detached: true,
    env: { ...process.env, [DAEMON_ENV]: '3' },
    stdio: ['ignore', 'ignore', 'ignore', 2, 'ipc'],
  });
  child.on('error', (error) => {
    say(`nginx: [alert] fork() failed (${strerror(errnoOf(error))})\n`);
    process.exit(1);
  });
  child.on('message', () => process.exit(0));
  child.on('exit', (code) => process.exit(code ?? 1));
}

async function run(args: readonly string[]): Promise<number | null> {
  let line: CommandLine;
  try {
    line = parseCommandLine(args);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    say(`nginx: ${error.message}\n`);
    return 1;
  }
  const isDaemon = process.env[DAEMON_ENV] !== undefined && process.send !== undefined;
  if (isDaemon) stderrFd = Number(process.env[DAEMON_ENV]);
  const places = placesOf(line);
  if (line.version) {
    if (line.configure) say(configureText());
    else say(`nginx version: ${VERSION_LINE}\n`);
    if (line.help) say(helpText(places.prefix, places.confFile, places.errorLog));
    if (!line.test) return 0;
  }
  // The package's own folder has a place for logs, which a fresh checkout lacks.
  if (line.prefix === null) {
    try {
      mkdirSync(`${home}/logs`, { recursive: true });
      accessSync(`${home}/logs`, constants.W_OK);
    } catch {
      // Opening the log says what is wrong with it.
    }
  }
  const log = openStartLog(places);
  const load = {
    ...places,
    globals: bytes(line.globals),
    onMessage: (level: LogLevelName, message: string): void => report(log, level, message),
  };
  if (line.test) {
    const { loaded, error } = await testConfiguration(load, line.quiet, (text) => say(`nginx: ${text}\n`));
    if (error !== null) report(log, error.level, error.message);
    const verdict = error === null ? 'is successful' : 'failed';
    if (error !== null || !line.quiet) say(`nginx: configuration file ${places.confFile} test ${verdict}\n`);
    if (loaded !== null && line.dump) dump(loaded);
    return error === null ? 0 : 1;
  }
  let loaded: Loaded;
  try {
    loaded = loadConfiguration(load);
  } catch (error) {
    if (!(error instanceof ConfError)) throw error;
    report(log, error.level, error.message);
    return 1;
  }
  const { model } = loaded;
  if (line.signal !== null) return signal(line.signal, model.pid, log);
  // A new binary (USR2) is in the background already when the old one was.
  const inherited = process.env[INHERITED_ENV] ?? null;
  delete process.env[INHERITED_ENV];
  delete process.env[DAEMON_ENV];
  if (model.daemon && !isDaemon && inherited === null) {
    daemonize(args);
    return null;
  }
  // Only a server needs the channel and its addon.
  const { Master } = await import('./master.ts');
  const master = new Master({
    ...places,
    globals: bytes(line.globals),
    io: line.io,
    backend: line.backend,
    command: { file: fileURLToPath(import.meta.url), args },
    inherited,
    daemonized: model.daemon,
    say: (level, message) => report(log, level, message),
  });
  if (!(await master.start(loaded))) return 1;
  if (isDaemon) {
    process.send?.('ready');
    process.disconnect?.();
    closeSync(stderrFd);
    stderrFd = 2;
  }
  return null;
}

const code = await run(process.argv.slice(2));
if (code !== null) process.exit(code);
