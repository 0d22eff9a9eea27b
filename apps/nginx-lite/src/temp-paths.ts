/**
 * Folders of temporary files.
 *
 * What it is for: made when the server starts (and by `-t`), while it has the right to, and given to whoever the workers will be.
 * Invariant: after `makeTempPaths` each folder is there and its owner may use it. Not its job: files in them (http/request-body.ts).
 */

import { chmodSync, chownSync, mkdirSync, statSync } from 'node:fs';
import { ConfError } from './conf/errors.ts';
import type { User } from './conf/user.ts';
import { pathOf } from './http/bytes.ts';
import { errnoOf, strerror } from './log/errno.ts';

const EEXIST = 17;
const OWNER_ALL = 0o700;

/** Throws ConfError with nginx's words. */
export function makeTempPaths(paths: readonly string[], user: User | null): void {
  for (const path of paths) {
    const name = pathOf(path);
    attempt(`mkdir() "${path}"`, () => mkdirSync(name, OWNER_ALL), EEXIST);
    if (user === null) continue;
    const stat = attempt(`stat() "${path}"`, () => statSync(name));
    if (stat === null) continue;
    if (stat.uid !== user.uid) attempt(`chown("${path}", ${user.uid})`, () => chownSync(name, user.uid, -1));
    const mode = stat.mode & 0o7777;
    if ((mode & OWNER_ALL) !== OWNER_ALL) attempt(`chmod() "${path}"`, () => chmodSync(name, mode | OWNER_ALL));
  }
}

function attempt<V>(what: string, call: () => V, harmless = 0): V | null {
  try {
    return call();
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === harmless) return null;
    throw new ConfError(`${what} failed (${strerror(errno)})`);
  }
}
