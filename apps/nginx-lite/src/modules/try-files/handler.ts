/** try_files: the first file or directory that exists; else the fallback. */

import { Code } from '../../http/codes.ts';
import { FileKind } from '../../http/file-cache.ts';
import { internalRedirect, namedRedirect } from '../../http/phases.ts';
import type { Request } from '../../http/request.ts';

export function tryFilesHandler(r: Request): number {
  const location = r.location;
  const files = location.tryFiles;
  if (files.length === 0) return Code.Declined;
  const engine = r.connection.engine;
  const { conf } = location;
  // Below an alias, names begin with the URI's prefix, which the alias stands for.
  const prefix = r.uri.slice(0, Math.max(0, conf.aliasLength));
  const last = files.length - 1;
  for (let i = 0; i < last; i++) {
    const each = files[i];
    if (each === undefined) continue;
    let name = each.evaluate(r);
    if (typeof conf.tryFiles[i]?.template !== 'string' && name.startsWith(prefix)) name = name.slice(prefix.length);
    const entry = engine.findFile(r, engine.documentRoot(r) + name, false);
    if (entry.errno !== 0 || (entry.kind === FileKind.Directory) !== each.testDirectory) continue;
    if (!conf.rootIsAlias) r.uri = name;
    else if (conf.aliasLength >= 0) r.uri = prefix + name;
    else if (!each.testDirectory) {
      r.uri = name;
      r.addUriToAlias = true;
    }
    return Code.Declined;
  }
  if (conf.tryFilesCode > 0) return conf.tryFilesCode;
  const fallback = files[last];
  if (fallback === undefined) return Code.Declined;
  const target = fallback.evaluate(r);
  if (target.startsWith('@')) return namedRedirect(r, target);
  const question = target.indexOf('?');
  if (question < 0) return internalRedirect(r, target, '');
  return internalRedirect(r, target.slice(0, question), target.slice(question + 1));
}
