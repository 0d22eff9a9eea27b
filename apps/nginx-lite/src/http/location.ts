/**
 * Where a redirect leads: `Location`.
 *
 * What it is for: a path is completed to a URL, as `absolute_redirect`, `server_name_in_redirect` and `port_in_redirect` say. Not its job:
 * the header (output.ts).
 */

import type { Request } from './request.ts';

const HTTP_PORT = 80;

/** A path that is sent as a URL. */
export function isCompleted(r: Request): boolean {
  return r.locationOut !== null && r.location.conf.absoluteRedirect && r.locationOut.startsWith('/');
}

/** As the client gets it; null: it is sent nowhere. */
export function sentLocation(r: Request): string | null {
  if (!isCompleted(r)) return r.locationOut;
  const { conf } = r.location;
  const engine = r.connection.engine;
  let host: string;
  if (conf.serverNameInRedirect) host = r.server.name;
  else if (r.host !== '') host = r.host;
  else {
    host = engine.localAddress(r);
    r.impure();
  }
  const port = conf.portInRedirect ? engine.portOf(r) : 0;
  return `http://${host}${port !== 0 && port !== HTTP_PORT ? `:${port}` : ''}${r.locationOut}`;
}
