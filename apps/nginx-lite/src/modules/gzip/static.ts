/** gzip_static: a file with `.gz` beside the one that was asked for is sent in its place. */

import { Code } from '../../http/codes.ts';
import { FileKind } from '../../http/file-cache.ts';
import { Method, type Request } from '../../http/request.ts';
import { EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, strerror } from '../../log/errno.ts';
import { answerFile } from '../static/handler.ts';
import { acceptsGzip } from './accepts.ts';
import { setEncoding } from './filter.ts';

export function gzipStaticHandler(r: Request): number {
  const { conf } = r.location;
  if (conf.gzipStatic === 'off' || !(r.method & (Method.Get | Method.Head)) || r.uri.endsWith('/'))
    return Code.Declined;
  const accepted = conf.gzipStatic === 'always' || acceptsGzip(r);
  if (!accepted && !conf.gzipVary) return Code.Declined;
  const engine = r.connection.engine;
  if (engine.aliasFails(r)) return 500;
  const path = `${engine.pathOf(r)}.gz`;
  const entry = engine.findFile(r, path, true);
  if (entry.errno !== 0) {
    if (entry.errno === ENOENT || entry.errno === ENOTDIR || entry.errno === ENAMETOOLONG) return Code.Declined;
    const level = entry.errno === EACCES || entry.errno === ELOOP ? 'error' : 'crit';
    engine.logError(r, level, `${entry.failed}() "${path}" failed (${strerror(entry.errno)})`);
    return Code.Declined;
  }
  if (conf.gzipStatic === 'on') {
    r.gzipVary = true;
    if (!accepted) return Code.Declined;
  }
  if (entry.kind === FileKind.Directory) return Code.Declined;
  if (entry.kind !== FileKind.File) {
    engine.logError(r, 'crit', `"${path}" is not a regular file`);
    return 404;
  }
  return answerFile(r, entry, (packed) => {
    setEncoding(packed);
    // Parts of a packed body are of no use to most clients: nginx sends it whole.
    packed.allowRanges = false;
  });
}
