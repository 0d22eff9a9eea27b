/** random_index: a URI that ends in a slash is served by any of the files in its folder. Never from memory. */

import { type Dirent, readdirSync, statSync } from 'node:fs';
import { Args, Context, type Directive } from '../../conf/directives.ts';
import type { LocConf } from '../../conf/model.ts';
import { flag, loc } from '../../conf/setters.ts';
import { pathOf } from '../../http/bytes.ts';
import { Code } from '../../http/codes.ts';
import { internalRedirect } from '../../http/phases.ts';
import { Method, type Request } from '../../http/request.ts';
import { EACCES, ENAMETOOLONG, ENOENT, ENOTDIR, errnoOf, strerror } from '../../log/errno.ts';

export const RANDOM_INDEX_DEFAULTS: Pick<LocConf, 'randomIndex'> = { randomIndex: false };

export const RANDOM_INDEX_DIRECTIVES: Directive[] = [
  { name: 'random_index', contexts: Context.Location, args: Args.Flag, set: loc('randomIndex', flag) },
];

export function randomIndexHandler(r: Request): number {
  if (!r.location.conf.randomIndex || !r.uri.endsWith('/')) return Code.Declined;
  if (!(r.method & (Method.Get | Method.Head | Method.Post))) return Code.Declined;
  r.impure();
  const { engine } = r.connection;
  const path = engine.pathOf(r).replace(/(.)\/$/, '$1');
  let entries: Dirent<Buffer>[];
  try {
    entries = readdirSync(pathOf(path), { withFileTypes: true, encoding: 'buffer' });
  } catch (error) {
    const errno = errnoOf(error);
    const text = `opendir() "${path}" failed (${strerror(errno)})`;
    const missing = errno === ENOENT || errno === ENOTDIR || errno === ENAMETOOLONG;
    engine.logError(r, missing || errno === EACCES ? 'error' : 'crit', text);
    if (missing) return 404;
    return errno === EACCES ? 403 : 500;
  }
  const names = entries
    .map((each) => ({ each, name: each.name.toString('latin1') }))
    .filter(
      ({ each, name }) => !name.startsWith('.') && (each.isFile() || (!each.isDirectory() && isFile(path, name))),
    );
  const chosen = names[Math.floor(Math.random() * names.length)];
  return chosen === undefined ? Code.Declined : internalRedirect(r, r.uri + chosen.name, r.args);
}

/** Of a link: whether it leads to a file. */
function isFile(path: string, name: string): boolean {
  return statSync(pathOf(`${path}/${name}`), { throwIfNoEntry: false })?.isFile() === true;
}
