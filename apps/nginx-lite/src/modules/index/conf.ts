/** Directive of the index module: `index FILE …`. */

import { Args, type Directive, HTTP_ALL } from '../../conf/directives.ts';
import type { LocConf } from '../../conf/model.ts';

export const INDEX_DEFAULTS: Pick<LocConf, 'index'> = { index: ['index.html'] };

export const INDEX_DIRECTIVES: Directive[] = [
  {
    name: 'index',
    contexts: HTTP_ALL,
    args: Args.OneOrMore,
    set(cf, args) {
      const names = (cf.level.loc.index ??= []);
      for (const [i, name] of args.slice(1).entries()) {
        if (name === '') cf.fail(`index "${args[1]}" in "index" directive is invalid`);
        if (name.startsWith('/') && i !== args.length - 2) {
          cf.warn('only the last index in "index" directive should be absolute');
        }
        names.push(cf.builder.template(cf, name));
      }
      return undefined;
    },
  },
];
