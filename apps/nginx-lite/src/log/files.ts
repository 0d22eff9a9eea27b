/**
 * Log files: opening them, and opening them anew.
 *
 * What it is for: the same steps in the master (as root) and in its children (as the user of the workers). Invariant: on
 * failure nothing stays open. Not its job: what is written.
 */

import { closeSync, fchownSync, fstatSync, openSync } from 'node:fs';
import { ConfError } from '../conf/errors.ts';
import type { User } from '../conf/user.ts';
import { errnoOf, strerror } from './errno.ts';

/** Opens each file for appending; descriptors in the same order. Throws ConfError. */
export function openLogs(paths: readonly string[]): number[] {
  const fds: number[] = [];
  for (const path of paths) {
    try {
      fds.push(openSync(Buffer.from(path, 'latin1'), 'a', 0o644));
    } catch (error) {
      closeLogs(fds);
      throw new ConfError(`open() "${path}" failed (${strerror(errnoOf(error))})`);
    }
  }
  return fds;
}

export function closeLogs(fds: readonly number[]): void {
  for (const fd of fds) closeSync(fd);
}

/** Files that workers are to open themselves must be theirs. */
export function giveLogs(fds: readonly number[], user: User | null): void {
  if (user === null) return;
  for (const fd of fds) {
    const stat = fstatSync(fd);
    if (stat.isFile() && stat.uid !== user.uid) fchownSync(fd, user.uid, -1);
  }
}
