/**
 * disable_symlinks: files that are reached through symbolic links are not served.
 *
 * What it is for: goes over the components of a path behind `from=` and gives the errno that nginx's openat() calls would end
 * with: ENOTDIR for a folder that is a link, ELOOP for a file or another owner. Not its job: closing the gap between this look and the
 * opening of the file, which takes calls that Node.js lacks (README, "What differs").
 */

import { lstatSync, type Stats, statSync } from 'node:fs';
import { ELOOP, ENOTDIR } from '../log/errno.ts';
import { pathOf } from './bytes.ts';

/** errno of the first link in the way, or 0; what does not exist is for others to find out. */
export function linkInPath(path: string, from: string, ifNotOwner: boolean): number {
  for (let at = start(path, from); at < path.length; ) {
    const slash = path.indexOf('/', at + 1);
    const end = slash < 0 ? path.length : slash;
    const part = path.slice(0, end);
    at = end;
    const link = look(part, true);
    if (link === null) return 0;
    if (!link.isSymbolicLink()) continue;
    if (!ifNotOwner) return end < path.length ? ENOTDIR : ELOOP;
    const target = look(part, false);
    if (target !== null && target.uid !== link.uid) return ELOOP;
  }
  return 0;
}

/** Where checking begins: behind `from`, if the path begins with it and a component ends there. */
function start(path: string, from: string): number {
  if (from === '' || !path.startsWith(from)) return 0;
  if (path.length === from.length || path[from.length] === '/') return from.length;
  return from.endsWith('/') ? from.length - 1 : 0;
}

function look(path: string, link: boolean): Stats | null {
  try {
    return link ? lstatSync(pathOf(path)) : statSync(pathOf(path));
  } catch {
    return null;
  }
}
