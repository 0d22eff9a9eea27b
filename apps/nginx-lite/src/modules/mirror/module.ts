/**
 * mirror: the same request goes to other locations too, whose answers nobody sees.
 *
 * What it is for: background subrequests, made once the body is there (unless `mirror_request_body off`). Invariant: a mirror changes
 * nothing about the answer. The fast way: never (each request is to be mirrored).
 */

import { Args, type Directive, HTTP_ALL } from '../../conf/directives.ts';
import type { LocConf } from '../../conf/model.ts';
import { flag, loc } from '../../conf/setters.ts';
import { readBody } from '../../http/body-reader.ts';
import { Code } from '../../http/codes.ts';
import type { Request } from '../../http/request.ts';
import { subrequest } from '../../http/subrequest.ts';

export const MIRROR_DEFAULTS: Pick<LocConf, 'mirrors' | 'mirrorBody'> = { mirrors: [], mirrorBody: true };

export const MIRROR_DIRECTIVES: Directive[] = [
  {
    name: 'mirror',
    contexts: HTTP_ALL,
    args: Args.Take1,
    set(cf, args) {
      const uri = args[1] as string;
      const { mirrors } = cf.level.loc;
      if (uri === 'off') {
        if (mirrors !== undefined) return 'is duplicate';
        cf.level.loc.mirrors = [];
        return undefined;
      }
      // An empty list is what `off` left.
      if (mirrors?.length === 0) return 'is duplicate';
      if (mirrors === undefined) cf.level.loc.mirrors = [uri];
      else mirrors.push(uri);
      return undefined;
    },
  },
  { name: 'mirror_request_body', contexts: HTTP_ALL, args: Args.Flag, set: loc('mirrorBody', flag) },
];

const nobody = (): void => {};

export function mirrorHandler(r: Request): number {
  const { conf } = r.location;
  if (conf.mirrors.length === 0 || r.parent !== null) return Code.Declined;
  r.impure();
  if (conf.mirrorBody) {
    const code = readBody(r);
    if (code !== Code.Ok) return code;
  }
  const { method, args } = r;
  for (const uri of conf.mirrors) subrequest(r, uri, nobody, { method, args, background: true });
  return Code.Declined;
}
