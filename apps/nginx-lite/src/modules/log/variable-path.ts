/**
 * Access logs whose path has variables.
 *
 * What it is for: opens the file of each line, or keeps it open as `open_log_file_cache` says. Invariants: no more than `max`
 * files stay open; a file that was moved away is opened anew after `valid` seconds; where the document root does not exist
 * nothing is made, so that invented host names leave no files behind. Not its job: what a line says (writer.ts).
 */

import { closeSync, fstatSync, openSync, statSync, writeSync } from 'node:fs';
import type { OpenLogFileCache } from '../../conf/model.ts';
import { pathOf } from '../../http/bytes.ts';
import type { Request } from '../../http/request.ts';
import type { Evaluator } from '../../http/template.ts';
import { errnoOf, strerror } from '../../log/errno.ts';

const SECOND = 1000;

interface Open {
  /** -1: not open (yet). */
  fd: number;
  uses: number;
  usedMs: number;
  checkedMs: number;
}

export class VariableLogs {
  /** In order of use. */
  private readonly open = new Map<string, Open>();
  private timer: NodeJS.Timeout | null = null;

  /** Writes a line with its line break. */
  write(r: Request, path: Evaluator, line: Uint8Array): void {
    const { engine } = r.connection;
    const root = engine.documentRoot(r);
    const problem = rootProblem(root);
    if (problem !== '') {
      engine.logError(r, 'error', `testing "${root}" existence failed${problem} while logging request`);
      return;
    }
    const name = path(r);
    const cache = r.location.conf.openLogFileCache;
    try {
      const fd = this.descriptor(name, cache);
      try {
        writeSync(fd, line);
      } finally {
        if (this.open.get(name)?.fd !== fd) closeSync(fd);
      }
    } catch (error) {
      const call = (error as NodeJS.ErrnoException).syscall ?? 'open';
      engine.logError(r, 'crit', `${call}() "${name}" failed (${strerror(errnoOf(error))}) while logging request`);
    }
  }

  private descriptor(name: string, cache: OpenLogFileCache | 'off'): number {
    if (cache === 'off') return openSync(pathOf(name), 'a', 0o644);
    const now = Date.now();
    let entry = this.open.get(name);
    if (entry === undefined) entry = { fd: -1, uses: 0, usedMs: now, checkedMs: now };
    else this.open.delete(name);
    entry.uses++;
    entry.usedMs = now;
    this.open.set(name, entry);
    if (entry.fd >= 0 && now - entry.checkedMs >= cache.validSec * SECOND) {
      entry.checkedMs = now;
      if (!isSameFile(name, entry.fd)) this.closeEntry(entry);
    }
    for (const [oldest, each] of this.open) {
      if (this.open.size <= cache.max) break;
      this.closeEntry(each);
      this.open.delete(oldest);
    }
    this.sweepLater(cache.inactiveSec * SECOND);
    if (entry.fd >= 0) return entry.fd;
    const fd = openSync(pathOf(name), 'a', 0o644);
    if (entry.uses >= cache.minUses) {
      entry.fd = fd;
      entry.checkedMs = now;
    }
    return fd;
  }

  private sweepLater(inactiveMs: number): void {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      const before = Date.now() - inactiveMs;
      for (const [name, entry] of this.open) {
        if (entry.usedMs > before) break;
        this.closeEntry(entry);
        this.open.delete(name);
      }
      if (this.open.size > 0) this.sweepLater(inactiveMs);
    }, inactiveMs).unref();
  }

  private closeEntry(entry: Open): void {
    if (entry.fd >= 0) closeSync(entry.fd);
    entry.fd = -1;
  }

  /** Logs are reopened, or the worker ends. */
  close(): void {
    for (const entry of this.open.values()) this.closeEntry(entry);
    this.open.clear();
  }
}

function rootProblem(root: string): string {
  try {
    return statSync(pathOf(root)).isDirectory() ? '' : ' (20: Not a directory)';
  } catch (error) {
    return ` (${strerror(errnoOf(error))})`;
  }
}

function isSameFile(name: string, fd: number): boolean {
  const stat = statSync(pathOf(name), { throwIfNoEntry: false });
  const mine = fstatSync(fd);
  return stat !== undefined && stat.ino === mine.ino && stat.dev === mine.dev;
}
