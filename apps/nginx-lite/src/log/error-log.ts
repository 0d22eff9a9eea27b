/**
 * error_log: levels, lines, writers.
 *
 * What it is for: `YYYY/MM/DD HH:MM:SS [level] pid#tid: *conn message, …` to every log that takes the level.
 * Invariant: one line is one write(), so lines of several threads never mix; a log that cannot be written never
 * stops the server. Not its job: opening files (master), the access log (modules/log).
 */

import { readlinkSync, writeSync } from 'node:fs';
import type { LogLevelName } from '../conf/errors.ts';
import type { ErrorLog } from '../conf/model.ts';
import type { Syslog } from './syslog.ts';

/** By severity; the index is nginx's number less one. */
export const LEVELS = ['emerg', 'alert', 'crit', 'error', 'warn', 'notice', 'info', 'debug'] as const;

/** nginx cuts longer lines. */
const LINE_MAX = 2048;

let lineId: string | null = null;

/** `pid#tid` of the calling thread. */
function processAndThread(): string {
  if (lineId === null) {
    let thread = String(process.pid);
    try {
      thread = readlinkSync('/proc/thread-self').split('/').pop() ?? thread;
    } catch {
      // Without /proc the process number stands for the thread, as on a single-threaded nginx.
    }
    lineId = `${process.pid}#${thread}`;
  }
  return lineId;
}

/** `2026/11/22 20:44:19`, local time. */
export function errorLogTime(date: Date): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  return (
    `${date.getFullYear()}/${two(date.getMonth() + 1)}/${two(date.getDate())} ` +
    `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
  );
}

export class ErrorLogWriter {
  /** File descriptors by Model.files index; replaced as a whole when logs are reopened. */
  fds: readonly number[];

  private readonly syslog: Syslog | null;

  /** Without `syslog` lines for such servers are dropped. */
  constructor(fds: readonly number[], syslog: Syslog | null = null) {
    this.fds = fds;
    this.syslog = syslog;
  }

  /** True when some of `logs` takes `level`: callers build the message only then. */
  wants(logs: readonly ErrorLog[], level: LogLevelName): boolean {
    const severity = LEVELS.indexOf(level);
    for (const log of logs) if (LEVELS.indexOf(log.level) >= severity) return true;
    return false;
  }

  /** Writes one line; `message` is latin1 (bytes as they came), control bytes are written as `\xNN`. */
  write(logs: readonly ErrorLog[], level: LogLevelName, message: string): void {
    const severity = LEVELS.indexOf(level);
    let text: string | null = null;
    let line: Buffer | null = null;
    for (const log of logs) {
      if (LEVELS.indexOf(log.level) < severity) continue;
      text ??= `${errorLogTime(new Date())} [${level}] ${processAndThread()}: ${message}`.slice(0, LINE_MAX - 1);
      if (log.syslog !== undefined) {
        this.syslog?.send(log.syslog, severity, text);
        continue;
      }
      line ??= Buffer.from(`${text}\n`, 'latin1');
      try {
        writeSync(log.file < 0 ? 2 : (this.fds[log.file] ?? 2), line);
      } catch {
        // A full disk or a closed terminal must not stop service; nginx drops the line too.
      }
    }
  }
}

/** Bytes of a client as they may stand in a log line: control bytes and quotes can forge nothing. */
export function printable(text: string): string {
  return text.replace(/[\x00-\x1f\x7f]/g, (ch) => `\\x${ch.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);
}
