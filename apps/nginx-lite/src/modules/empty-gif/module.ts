/** empty_gif: a transparent picture of one pixel, from memory. Content of the location. */

import { Args, Context, type Directive } from '../../conf/directives.ts';
import type { LocConf } from '../../conf/model.ts';
import { Code } from '../../http/codes.ts';
import { sendText } from '../../http/output.ts';
import { Method, type Request } from '../../http/request.ts';

export const EMPTY_GIF_DEFAULTS: Pick<LocConf, 'emptyGif'> = { emptyGif: false };

export const EMPTY_GIF_DIRECTIVES: Directive[] = [
  {
    name: 'empty_gif',
    contexts: Context.Location,
    args: Args.None,
    set(cf) {
      cf.level.loc.emptyGif = true;
      return undefined;
    },
  },
];

/** Header, two colours, a transparent one among them, one pixel of it. */
const PICTURE = new Uint8Array(
  Buffer.from(
    'GIF89a\x01\0\x01\0\x80\x01\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\x01\0,\0\0\0\0\x01\0\x01\0\0\x02\x02L\x01\0;',
    'latin1',
  ),
);
/** It has been the same since 28 Sep 1970, says nginx. */
const MODIFIED = 23_349_600;

export function emptyGifHandler(r: Request): number {
  if (!r.location.conf.emptyGif) return Code.Declined;
  if (!(r.method & (Method.Get | Method.Head))) return 405;
  r.lastModified = MODIFIED;
  sendText(r, 200, PICTURE, 'image/gif');
  return Code.Done;
}
