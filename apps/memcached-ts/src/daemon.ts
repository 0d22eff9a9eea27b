/**
 * -d: the server in the background, in a session of its own.
 *
 * What it is for: Node.js cannot fork, so the command starts itself once more, detached, and stays until that process says
 * (through a pipe) that its sockets listen; then it leaves with 0. A server that ends before leaves with its exit code,
 * its words already on stderr. Invariant: from then on stdin, stdout and stderr of the server are /dev/null (or the log
 * file, or with -v what they were).
 * Not its job: the pid file (main.ts): it holds the server's own number.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync, writeSync } from 'node:fs';
import { fail } from './fail.ts';
import { EX_OSERR } from './options.ts';
import type { Settings } from './settings.ts';
import { reason } from './strerror.ts';

/** Names the descriptor of the pipe to the process that waits. */
const READY_FD = 'MEMCACHED_TS_READY_FD';

/** Whether this process is the one that -d started. */
export function isDaemonChild(): boolean {
  return process.env[READY_FD] !== undefined;
}

/** Starts the server in the background, and ends this process. */
export function startDaemon(settings: Settings): void {
  const output = settings.logFile === undefined ? 'inherit' : openLog(settings.logFile);
  const child = spawn(process.execPath, [...process.execArgv, process.argv[1]!, ...process.argv.slice(2)], {
    detached: true,
    stdio: ['ignore', output, output, 'pipe'],
    env: { ...process.env, [READY_FD]: '3' },
  });
  child.once('error', (error) => fail(`failed to daemon() in order to daemonize: ${error.message}`, 1));
  child.once('exit', (code) => process.exit(code ?? 1));
  child.stdio[3]!.once('data', () => process.exit(0));
}

/** The sockets listen: lets the process that waits go, and lets go of its terminal. */
export function reportReady(settings: Settings): void {
  const fd = Number(process.env[READY_FD]);
  delete process.env[READY_FD];
  if (settings.logFile === undefined && settings.verbosity === 0) silenceOutput();
  writeSync(fd, '.');
  closeSync(fd);
}

function openLog(path: string): number {
  try {
    return openSync(path, 'a');
  } catch (error) {
    return fail(`cannot open the log file ${path}: ${reason(error)}`, EX_OSERR);
  }
}

/** The lowest free descriptor is the next to be given out: closing 1 and opening a file makes that file 1. */
function silenceOutput(): void {
  for (const fd of [1, 2]) {
    closeSync(fd);
    const opened = openSync('/dev/null', 'r+');
    if (opened !== fd) throw new Error(`descriptor ${opened} instead of ${fd}`);
  }
}
