/** index: a URI that ends in a slash is served by the first of the index files that exists. */

import { Code } from '../../http/codes.ts';
import { FileKind } from '../../http/file-cache.ts';
import { internalRedirect } from '../../http/phases.ts';
import { Method, type Request } from '../../http/request.ts';
import { EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, strerror } from '../../log/errno.ts';

export function indexHandler(r: Request): number {
  if (!r.uri.endsWith('/')) return Code.Declined;
  if (!(r.method & (Method.Get | Method.Head | Method.Post))) return Code.Declined;
  const engine = r.connection.engine;
  if (engine.aliasFails(r)) return 500;
  const directory = engine.pathOf(r);
  let directoryTested = false;
  const { location } = r;
  for (const evaluate of location.index) {
    const name = evaluate(r);
    if (name.startsWith('/')) return internalRedirect(r, name, r.args);
    const path = directory + name;
    const entry = engine.findFile(r, path, false);
    if (entry.errno === 0) {
      // nginx redirects to whatever is there; a directory then gets its slash from the static handler.
      return internalRedirect(r, r.uri + name, r.args);
    }
    if (entry.errno === ELOOP && location.conf.disableSymlinks !== 'off') return 403;
    if (entry.errno === ENOTDIR || entry.errno === ENAMETOOLONG || entry.errno === EACCES) {
      return failed(r, path, entry.errno);
    }
    if (!directoryTested) {
      const code = testDirectory(r, directory, path);
      if (code !== Code.Ok) return code;
      directoryTested = true;
    }
    if (entry.errno === ENOENT) continue;
    engine.logError(r, 'crit', `${entry.failed}() "${path}" failed (${strerror(entry.errno)})`);
    return 500;
  }
  return Code.Declined;
}

/** The folder itself: when it is missing, looking for further names in it is idle. */
function testDirectory(r: Request, directory: string, path: string): number {
  const engine = r.connection.engine;
  // An alias may have no slash at its end.
  const bare = directory.length > 1 && directory.endsWith('/') ? directory.slice(0, -1) : directory;
  const entry = engine.findFile(r, bare, false);
  if (entry.errno === 0) {
    if (entry.kind === FileKind.Directory) return Code.Ok;
    engine.logError(r, 'alert', `"${path}" is not a directory`);
    return 500;
  }
  if (entry.errno === ENOENT) return failed(r, path, entry.errno);
  if (entry.errno === EACCES) return failed(r, path, entry.errno);
  engine.logError(r, 'crit', `stat() "${bare}" failed (${strerror(entry.errno)})`);
  return 500;
}

function failed(r: Request, path: string, errno: number): number {
  const engine = r.connection.engine;
  if (errno === EACCES) {
    engine.logError(r, 'error', `"${path}" is forbidden (${strerror(errno)})`);
    return 403;
  }
  r.impure();
  if (r.location.conf.logNotFound) engine.logError(r, 'error', `"${path}" is not found (${strerror(errno)})`);
  return 404;
}
