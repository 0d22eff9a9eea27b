/**
 * Variables that a configuration defines, by the module that defines them.
 *
 * What it is for: the run-time twin of the blocks `map`, `geo`, `split_clients`. Invariant: a value is found once a request,
 * but for a volatile map. The fast way: sources are compiled as words of the answer, so what is not a function of the
 * head marks the request.
 */

import type { Http, VariableDecl } from '../conf/model.ts';
import { foundOnce, type Getter } from '../http/variables.ts';
import { geoGetter } from './geo/conf.ts';
import { mapGetter } from './map/lookup.ts';
import { splitGetter } from './split-clients/conf.ts';

/**
 * One getter for each name. They may use each other in any order, so each is compiled when it is first asked for:
 * by then all names are known.
 */
export function customGetters(http: Http): Map<string, Getter> {
  return new Map(http.variables.map((decl) => [decl.name, lazily(decl)]));
}

function lazily(decl: VariableDecl): Getter {
  let compiled: Getter | null = null;
  const keep = decl.kind !== 'map' || !decl.volatile;
  const find: Getter = (r) => {
    compiled ??= compile(decl);
    return compiled(r) ?? '';
  };
  return (r) => foundOnce(r, decl.name, find, keep);
}

function compile(decl: VariableDecl): Getter {
  switch (decl.kind) {
    case 'map':
      return mapGetter(decl);
    case 'geo':
      return geoGetter(decl);
    default:
      return splitGetter(decl);
  }
}
