/** map: the value for a source, found in nginx's order: the text itself, wildcards by length, patterns, the default. */

import type { MapDecl, Template } from '../../conf/model.ts';
import { takeCaptures } from '../../http/phases.ts';
import type { Request } from '../../http/request.ts';
import { compileTemplate, type Evaluator } from '../../http/template.ts';

export function mapGetter(decl: MapDecl): (r: Request) => string {
  const source = compileTemplate(decl.source);
  const table = (entries: Record<string, Template>): Map<string, Evaluator> =>
    new Map(Object.entries(entries).map(([key, value]) => [key, compileTemplate(value)]));
  const exact = table(decl.exact);
  const heads = table(decl.heads);
  const tails = table(decl.tails);
  const regexes = decl.regexes.map((each) => ({ regex: each.regex, value: compileTemplate(each.value) }));
  const fallback = compileTemplate(decl.fallback);
  return (r) => {
    const text = source(r);
    let key = text.toLowerCase();
    if (decl.hostnames && key.endsWith('.')) key = key.slice(0, -1);
    const found = exact.get(key) ?? wildcard(heads, tails, key);
    if (found !== undefined) return found(r);
    for (const { regex, value } of regexes) {
      const captures = regex.exec(text);
      if (captures === null) continue;
      takeCaptures(r, captures);
      return value(r);
    }
    return fallback(r);
  };
}

function wildcard(heads: Map<string, Evaluator>, tails: Map<string, Evaluator>, key: string): Evaluator | undefined {
  if (heads.size > 0) {
    for (let dot = key.indexOf('.'); dot >= 0; dot = key.indexOf('.', dot + 1)) {
      const found = heads.get(key.slice(dot + 1));
      if (found !== undefined) return found;
    }
  }
  if (tails.size > 0) {
    for (let dot = key.lastIndexOf('.'); dot > 0; dot = key.lastIndexOf('.', dot - 1)) {
      const found = tails.get(key.slice(0, dot));
      if (found !== undefined) return found;
    }
  }
  return undefined;
}
