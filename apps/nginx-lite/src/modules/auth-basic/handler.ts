/**
 * auth_basic: user and password of the request against a user file.
 *
 * What it is for: 401 with a challenge, or go on. Hashing a password is made to be slow, so a pair that was right is
 * remembered for as long as the file stays the same. Invariants: memory for remembered pairs is bounded; nothing
 * is kept in clear. The fast way: never (a password may be withdrawn).
 */

import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { decodeBase64, pathOf } from '../../http/bytes.ts';
import { Code } from '../../http/codes.ts';
import { HeaderId } from '../../http/headers.ts';
import { runPhases } from '../../http/phases.ts';
import type { Request } from '../../http/request.ts';
import { EACCES, ENOENT, errnoOf, strerror } from '../../log/errno.ts';
import { passwordMatches } from './password.ts';

const REMEMBERED_MAX = 1000;
/** Digests of file, entry, user and password that matched. */
const remembered = new Set<string>();

interface UserFile {
  mtimeMs: number;
  size: number;
  inode: number;
  entries: Map<string, string>;
}
const files = new Map<string, UserFile>();
const FILES_MAX = 100;

/** Lines `user:entry[:comment]`; the first of a name counts. Throws Node's error. */
function readUsers(path: string): Map<string, string> {
  const stat = statSync(pathOf(path));
  const known = files.get(path);
  if (known !== undefined && known.mtimeMs === stat.mtimeMs && known.size === stat.size && known.inode === stat.ino)
    return known.entries;
  const entries = new Map<string, string>();
  for (const line of readFileSync(pathOf(path), 'latin1').split(/\r?\n/)) {
    if (line === '' || line.startsWith('#')) continue;
    const [user = '', entry] = line.split(':');
    if (entry !== undefined && !entries.has(user)) entries.set(user, entry);
  }
  if (files.size >= FILES_MAX) files.clear();
  files.set(path, { mtimeMs: stat.mtimeMs, size: stat.size, inode: stat.ino, entries });
  return entries;
}

/** `user:password` of the Authorization header; null: there is none, or it is not Basic. */
export function credentials(r: Request): { user: string; password: string } | null {
  const value = r.header(HeaderId.Authorization);
  if (value === null || !/^basic /i.test(value)) return null;
  const text = decodeBase64(value.slice(6).replace(/^ +/, ''))?.toString('latin1') ?? '';
  const colon = text.indexOf(':');
  if (colon <= 0) return null;
  // A zero byte ends a password, as in crypt(3).
  return { user: text.slice(0, colon), password: text.slice(colon + 1).split('\0', 1)[0] as string };
}

export function authBasicHandler(r: Request): number {
  const { location } = r;
  if (location.authBasic === null || location.authBasicFile === null) return Code.Declined;
  const realm = location.authBasic(r);
  if (realm === 'off') return Code.Declined;
  r.impure();
  // Asked once more after a wait.
  if (r.authCode !== null) {
    const code = r.authCode;
    r.authCode = null;
    return code;
  }
  const engine = r.connection.engine;
  const given = credentials(r);
  if (given === null) {
    engine.logError(r, 'info', 'no user/password was provided for basic authentication');
    return challenge(r, realm);
  }
  let path = location.authBasicFile(r);
  if (!path.startsWith('/')) path = engine.confPath(path);
  let entries: Map<string, string>;
  try {
    entries = readUsers(path);
  } catch (error) {
    const errno = errnoOf(error);
    engine.logError(
      r,
      errno === ENOENT || errno === EACCES ? 'error' : 'crit',
      `open() "${path}" failed (${strerror(errno)})`,
    );
    return errno === ENOENT ? 403 : 500;
  }
  const entry = entries.get(given.user);
  if (entry === undefined) {
    engine.logError(r, 'error', `user "${given.user}" was not found in "${path}"`);
    return challenge(r, realm);
  }
  const digest = createHash('sha256')
    .update(JSON.stringify([path, entry, given.user, given.password]))
    .digest('base64');
  if (remembered.has(digest)) return Code.Ok;
  const { serial } = r.connection;
  const decide = (code: number): void =>
    engine.resumeRequest(r, serial, () => {
      r.authCode = code;
      runPhases(r);
    });
  void passwordMatches(given.password, entry).then(
    (ok) => {
      if (ok) {
        if (remembered.size >= REMEMBERED_MAX) remembered.clear();
        remembered.add(digest);
      } else engine.logError(r, 'error', `user "${given.user}": password mismatch`);
      decide(ok ? Code.Ok : challenge(r, realm));
    },
    (error: unknown) => {
      engine.logError(r, 'crit', `user "${given.user}": ${(error as Error).message}`);
      decide(500);
    },
  );
  return Code.Again;
}

function challenge(r: Request, realm: string): number {
  r.challenge = `Basic realm="${realm}"`;
  return 401;
}
