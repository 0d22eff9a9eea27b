/** valid_referers and $invalid_referer: `1` where the Referer is none of those listed. Follows from the head alone. */

import type { ServerDecl } from '../../conf/builder.ts';
import { Args, Context, type Directive } from '../../conf/directives.ts';
import { HostnameKeys } from '../../conf/hostname-keys.ts';
import type { LocConf, Referers } from '../../conf/model.ts';
import type { ConfContext } from '../../conf/parser.ts';
import { accept, number } from '../../conf/setters.ts';
import { HeaderId } from '../../http/headers.ts';
import type { Request } from '../../http/request.ts';

export const REFERER_DEFAULTS: Pick<LocConf, 'referers'> = { referers: null };

function setReferers(cf: ConfContext, args: string[]): undefined {
  const referers = (cf.level.loc.referers ??= {
    none: false,
    blocked: false,
    names: [],
    regexes: [],
    hosts: [],
  });
  for (const word of args.slice(1)) {
    if (word === '') cf.fail(`invalid referer "${word}"`);
    if (word === 'none') referers.none = true;
    else if (word === 'blocked') referers.blocked = true;
    else if (word === 'server_names') cf.builder.refererServers.set(referers, cf.level.server as ServerDecl);
    else if (word.startsWith('~')) {
      if (word.length === 1) cf.fail(`empty regex in "${word}"`);
      referers.regexes.push(cf.builder.pattern(cf, word.slice(1), true));
    } else {
      const slash = word.indexOf('/');
      addName(cf, referers, slash < 0 ? word : word.slice(0, slash), slash < 0 ? '' : word.slice(slash));
    }
  }
}

/** `server_names`, when the file was read: a server may be named behind the directive. One without a name has the empty one. */
export function addServerNames(cf: ConfContext): void {
  for (const [referers, { names }] of cf.builder.refererServers) {
    if (names.length === 0) addName(cf, referers, '', '');
    for (const { name, regex } of names) {
      if (regex !== null) referers.hosts.push(regex);
      else addName(cf, referers, name, '');
    }
  }
}

function addName(cf: ConfContext, referers: Referers, given: string, uri: string): void {
  const name = given.toLowerCase();
  const keys = new HostnameKeys();
  for (const known of referers.names) keys.add(known.name);
  const added = keys.add(name);
  if (added === 'invalid') cf.fail(`invalid hostname or wildcard "${given}"`);
  if (added === 'known') cf.fail(`conflicting parameter "${name}"`);
  referers.names.push({ name, uri });
}

/** Where the file was read: nginx does not take "none" and "blocked" without any name. Null: all is well. */
export function uselessReferers(conf: LocConf): string | null {
  const { referers } = conf;
  if (referers === null || (!referers.none && !referers.blocked) || referers.names.length > 0) return null;
  return 'the "none" or "blocked" referers are specified in the "valid_referers" directive without any valid referer';
}

export const REFERER_DIRECTIVES: Directive[] = [
  { name: 'valid_referers', contexts: Context.Server | Context.Location, args: Args.OneOrMore, set: setReferers },
  { name: 'referer_hash_max_size', contexts: Context.Server | Context.Location, args: Args.Take1, set: accept(number) },
  {
    name: 'referer_hash_bucket_size',
    contexts: Context.Server | Context.Location,
    args: Args.Take1,
    set: accept(number),
  },
];

/** Shortest `http://host.tld`; anything shorter was mangled on its way. */
const LENGTH_MIN = 11;
const HOST_MAX = 256;

export function invalidReferer(r: Request): string {
  const rules = r.location.conf.referers;
  if (rules === null) return '';
  const referer = r.header(HeaderId.Referer);
  if (referer === null) return rules.none ? '' : '1';
  const scheme = referer.length >= LENGTH_MIN ? /^https?:\/\//i.exec(referer) : null;
  if (scheme === null) return rules.blocked ? '' : '1';
  const rest = referer.slice(scheme[0].length);
  const host = (/^[^/:]*/.exec(rest)?.[0] ?? '').toLowerCase();
  if (host.length > HOST_MAX) return '1';
  const slash = rest.indexOf('/');
  const path = slash < 0 ? '' : rest.slice(slash);
  const named = find(rules.names, host);
  if (named !== null) return named === '' || path.startsWith(named) ? '' : '1';
  if (rules.hosts.some((regex) => regex.test(host))) return '';
  return rules.regexes.some((regex) => regex.test(rest)) ? '' : '1';
}

/** The URI part of the best name for a host: exact, `*.x` by length, `x.*` by length; null: none fits. */
function find(names: readonly { name: string; uri: string }[], host: string): string | null {
  let best: { rank: number; uri: string } | null = null;
  for (const { name, uri } of names) {
    let rank = 0;
    if (name === host) rank = 3e6;
    else if (name.startsWith('.') && (host === name.slice(1) || host.endsWith(name))) rank = 2e6 + name.length;
    else if (name.startsWith('*.') && host.endsWith(name.slice(1)) && host.length > name.length - 1)
      rank = 2e6 + name.length;
    else if (name.endsWith('.*') && host.startsWith(name.slice(0, -1))) rank = 1e6 + name.length;
    if (rank > (best?.rank ?? 0)) best = { rank, uri };
  }
  return best?.uri ?? null;
}
