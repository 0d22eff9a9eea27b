/** static: the last content handler. A file is served, a directory gets its slash by redirect. */

import { discardBody } from '../../http/body-reader.ts';
import { Code } from '../../http/codes.ts';
import { type FileEntry, FileKind } from '../../http/file-cache.ts';
import { contentTypeOf, finalize, sendFile } from '../../http/output.ts';
import { Method, type Request } from '../../http/request.ts';
import { escapeUri } from '../../http/uri.ts';
import { EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, strerror } from '../../log/errno.ts';

export function staticHandler(r: Request): number {
  if (!(r.method & (Method.Get | Method.Head | Method.Post))) return 405;
  if (r.uri.endsWith('/')) return Code.Declined;
  const engine = r.connection.engine;
  if (engine.aliasFails(r)) return 500;
  const path = engine.pathOf(r);
  const entry = engine.findFile(r, path, true);
  if (entry.errno !== 0) {
    const text = `${entry.failed}() "${path}" failed (${strerror(entry.errno)})`;
    switch (entry.errno) {
      case ENOENT:
      case ENOTDIR:
      case ENAMETOOLONG:
        r.impure();
        if (r.location.conf.logNotFound) engine.logError(r, 'error', text);
        return 404;
      case EACCES:
      case ELOOP:
        engine.logError(r, 'error', text);
        return 403;
      default:
        engine.logError(r, 'crit', text);
        return 500;
    }
  }
  if (entry.kind === FileKind.Directory) {
    // The path as asked for, with the slash it lacks.
    const uri = `${escapeUri(r.uri)}/`;
    r.locationOut = r.args === '' ? uri : `${uri}?${r.args}`;
    return 301;
  }
  if (entry.kind !== FileKind.File) {
    engine.logError(r, 'crit', `"${path}" is not a regular file`);
    return 404;
  }
  if (r.method === Method.Post) return 405;
  return answerFile(r, entry);
}

/** Answers with a file; `prepare` may add to the header. */
export function answerFile(r: Request, entry: FileEntry, prepare?: (r: Request) => void): number {
  if (!discardBody(r)) {
    finalize(r, 400);
    return Code.Done;
  }
  r.fileFound = true;
  r.status = 200;
  r.contentLengthOut = entry.size;
  r.lastModified = entry.mtime;
  if (r.location.conf.etag) r.addEtag(entry.etag);
  r.contentType = contentTypeOf(r);
  r.allowRanges = true;
  prepare?.(r);
  sendFile(r, entry);
  return Code.Done;
}
