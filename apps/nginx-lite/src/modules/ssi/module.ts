/**
 * ssi: documents with commands in them, carried out as they are sent.
 *
 * What it is for: directives, and the header of such a document: what includes make of it has no known length, no ranges, and another
 * age than its file. The fast way: never (what is included may change at any time).
 */

import { Args, type Directive, HTTP_ALL, HTTP_ALL_IF } from '../../conf/directives.ts';
import type { LocConf } from '../../conf/model.ts';
import { accept, flag, loc, size } from '../../conf/setters.ts';
import { Code } from '../../http/codes.ts';
import type { Request } from '../../http/request.ts';
import { setTypes } from '../gzip/conf.ts';
import { bodyChanges, typeIs } from '../gzip/filter.ts';
import { SsiContext, SsiRoot } from './context.ts';
import { SsiStream } from './stream.ts';

export const SSI_DEFAULTS: Pick<
  LocConf,
  'ssi' | 'ssiTypes' | 'ssiSilentErrors' | 'ssiValueLength' | 'ssiLastModified'
> = { ssi: false, ssiTypes: ['text/html'], ssiSilentErrors: false, ssiValueLength: 255, ssiLastModified: false };

export const SSI_DIRECTIVES: Directive[] = [
  { name: 'ssi', contexts: HTTP_ALL_IF, args: Args.Flag, set: loc('ssi', flag) },
  { name: 'ssi_types', contexts: HTTP_ALL, args: Args.OneOrMore, set: setTypes('ssiTypes', ['text/html']) },
  { name: 'ssi_silent_errors', contexts: HTTP_ALL, args: Args.Flag, set: loc('ssiSilentErrors', flag) },
  { name: 'ssi_value_length', contexts: HTTP_ALL, args: Args.Take1, set: loc('ssiValueLength', size) },
  { name: 'ssi_last_modified', contexts: HTTP_ALL, args: Args.Flag, set: loc('ssiLastModified', flag) },
  // How nginx passes on parts of files that it has in memory as well; here there is one way.
  { name: 'ssi_min_file_chunk', contexts: HTTP_ALL, args: Args.Take1, set: accept(size) },
  { name: 'ssi_ignore_recycled_buffers', contexts: HTTP_ALL, args: Args.Flag, set: accept(flag) },
];

export function ssiFilter(r: Request): number {
  const { conf } = r.location;
  if (!conf.ssi || r.contentLengthOut === 0 || !typeIs(r, conf.ssiTypes)) return Code.Ok;
  r.impure();
  if (r.parent === null) {
    bodyChanges(r);
    if (!conf.ssiLastModified) {
      r.clearLastModified();
      r.etag = '';
    }
  }
  r.gzipLevel = 0;
  const context = new SsiContext(SsiRoot.of(r));
  r.ssi = context;
  r.bodyFilters.push((upstream) => new SsiStream(r, upstream, context));
  return Code.Ok;
}
