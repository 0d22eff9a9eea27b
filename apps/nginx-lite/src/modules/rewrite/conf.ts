/** Directive of the rewrite module that this server has: `return`. It belongs to the level it stands in, not below. */

import { Args, Context, type Directive } from '../../conf/directives.ts';
import type { LocConf } from '../../conf/model.ts';
import { parseNumber } from '../../conf/units.ts';

export const REWRITE_DEFAULTS: Pick<LocConf, 'returns'> = { returns: null };

export const REWRITE_DIRECTIVES: Directive[] = [
  {
    name: 'return',
    contexts: Context.Server | Context.Location,
    args: Args.Take12,
    set(cf, args) {
      const conf = cf.level.loc;
      const first = args[1] as string;
      const status = parseNumber(first);
      let given: { status: number; text: string | null };
      if (status !== null) {
        if (status > 999) cf.fail(`invalid return code "${first}"`);
        given = { status, text: args[2] ?? null };
      } else {
        if (args.length === 3) cf.fail(`invalid return code "${first}"`);
        if (!/^(?:https?:\/\/|\$scheme)/i.test(first)) cf.fail(`invalid return code "${first}"`);
        given = { status: 302, text: first };
      }
      const text = given.text === null ? null : cf.builder.template(cf, given.text);
      // The first one ends the request, as the first of nginx's compiled codes does.
      conf.returns ??= { status: given.status, text };
      return undefined;
    },
  },
];
