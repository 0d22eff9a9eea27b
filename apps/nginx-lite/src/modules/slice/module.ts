/**
 * slice: `$slice_range`, the part of a large answer that a request's range begins in.
 *
 * What it is for: what a proxy asks its upstream for, piece by piece. Not its job: cutting answers: files have their ranges from the range
 * filter, in nginx too; putting slices together comes with the proxy.
 */

import { Args, type Directive, HTTP_ALL } from '../../conf/directives.ts';
import type { LocConf } from '../../conf/model.ts';
import { loc, size } from '../../conf/setters.ts';
import { HeaderId } from '../../http/headers.ts';
import type { Request } from '../../http/request.ts';

export const SLICE_DEFAULTS: Pick<LocConf, 'slice'> = { slice: 0 };

export const SLICE_DIRECTIVES: Directive[] = [
  { name: 'slice', contexts: HTTP_ALL, args: Args.Take1, set: loc('slice', size) },
];

/** `bytes=0-1048575`; null where there are no slices, or an answer is there already. */
export function sliceRange(r: Request): string | null {
  const bytes = r.location.conf.slice;
  if (bytes === 0 || r.parent !== null || r.status !== 0) return null;
  const start = bytes * Math.floor(rangeStart(r) / bytes);
  return `bytes=${start}-${start + bytes - 1}`;
}

/** Where the one range that is asked for begins. */
function rangeStart(r: Request): number {
  if (r.header(HeaderId.IfRange) !== null) return 0;
  const start = Number(/^bytes= *(\d+)[^,]*$/i.exec(r.header(HeaderId.Range) ?? '')?.[1] ?? 0);
  return start <= Number.MAX_SAFE_INTEGER ? start : 0;
}
