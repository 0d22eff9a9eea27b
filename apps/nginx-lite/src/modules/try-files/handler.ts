/** try_files: the first file or directory that exists; else the fallback. */

import { Code } from '../../http/codes.ts';
import { FileKind } from '../../http/file-cache.ts';
import { internalRedirect, namedRedirect } from '../../http/phases.ts';
import type { Request } from '../../http/request.ts';
import { ENAMETOOLONG, ENOENT, ENOTDIR, strerror } from '../../log/errno.ts';

const MISSING = new Set([ENOENT, ENOTDIR, ENAMETOOLONG]);

export function tryFilesHandler(r: Request): number {
  const location = r.location;
  const files = location.tryFiles;
  if (files.length === 0) return Code.Declined;
  const engine = r.connection.engine;
  const { rootIsAlias, aliasLength, tryFiles, tryFilesCode } = location.conf;
  // Below an alias, names begin with what the alias stands for. nginx takes that from those with variables only.
  const prefix = r.uri.slice(0, Math.max(0, aliasLength));
  const nameOf = (i: number): string => {
    const name = files[i]?.evaluate(r) ?? '';
    return typeof tryFiles[i]?.template !== 'string' && name.startsWith(prefix) ? name.slice(prefix.length) : name;
  };
  const last = files.length - 1;
  for (let i = 0; i < last; i++) {
    const each = files[i];
    if (each === undefined) continue;
    const name = nameOf(i);
    const path = engine.documentRoot(r) + name;
    const entry = engine.findFile(r, path, false);
    if (entry.errno !== 0) {
      if (!MISSING.has(entry.errno))
        engine.logError(r, 'crit', `${entry.failed}() "${path}" failed (${strerror(entry.errno)})`);
      continue;
    }
    if ((entry.kind === FileKind.Directory) !== each.testDirectory) continue;
    if (!rootIsAlias) r.uri = name;
    else if (aliasLength >= 0) r.uri = prefix + name;
    else if (!each.testDirectory) {
      r.uri = name;
      r.addUriToAlias = true;
    }
    return Code.Declined;
  }
  if (tryFilesCode > 0) return tryFilesCode;
  // As any other name: a fallback with variables loses the prefix, too.
  const target = nameOf(last);
  if (target.startsWith('@')) return namedRedirect(r, target);
  const question = target.indexOf('?');
  if (question < 0) return internalRedirect(r, target, '');
  return internalRedirect(r, target.slice(0, question), target.slice(question + 1));
}
