/**
 * Names of hosts with wildcards, as keys of a table: `x`, `*.x`, `x.*`, and `.x`, which is `x` and `*.x`.
 *
 * What it is for: which names are none, and which say what another one said, for `server_name` and `map { hostnames; }`. Not its job:
 * finding a host (http/runtime.ts, modules/map).
 */

export type HostnameKind = 'exact' | 'head' | 'tail' | 'both';

/** What a name is, and the part of it that is no wildcard; null: it is no name. */
export function hostnameKind(name: string): { kind: HostnameKind; base: string } | null {
  const stars = name.split('*').length - 1;
  if (stars > 1 || name.includes('..') || name.includes('\0')) return null;
  if (name.length > 1 && name.startsWith('.')) return { kind: 'both', base: name.slice(1) };
  if (name.length > 2 && name.startsWith('*.')) return { kind: 'head', base: name.slice(2) };
  if (name.length > 2 && name.endsWith('.*')) return { kind: 'tail', base: name.slice(0, -2) };
  return stars > 0 ? null : { kind: 'exact', base: name };
}

export class HostnameKeys {
  private readonly exact = new Set<string>();
  private readonly heads = new Set<string>();
  private readonly tails = new Set<string>();

  /** `name` is in lower case. */
  add(name: string): 'new' | 'known' | 'invalid' {
    const found = hostnameKind(name);
    if (found === null) return 'invalid';
    const { kind, base } = found;
    if (kind === 'exact') return put(this.exact, base);
    if (kind === 'tail') return put(this.tails, base);
    if (kind === 'both' && put(this.exact, base) === 'known') return 'known';
    return put(this.heads, base);
  }
}

function put(set: Set<string>, key: string): 'new' | 'known' {
  if (set.has(key)) return 'known';
  set.add(key);
  return 'new';
}
