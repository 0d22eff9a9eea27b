/** Directives of the realip module. */

import { Args, type Directive, HTTP_ALL } from '../../conf/directives.ts';
import { networksOf } from '../../conf/hosts.ts';
import type { LocConf } from '../../conf/model.ts';
import { flag, loc } from '../../conf/setters.ts';

export const REALIP_DEFAULTS: Pick<LocConf, 'realipFrom' | 'realipHeader' | 'realipRecursive'> = {
  realipFrom: [],
  realipHeader: 'x-real-ip',
  realipRecursive: false,
};

export const REALIP_DIRECTIVES: Directive[] = [
  {
    name: 'set_real_ip_from',
    contexts: HTTP_ALL,
    args: Args.Take1,
    set(cf, args) {
      const text = args[1] as string;
      const networks = (cf.level.loc.realipFrom ??= []);
      if (text === 'unix:') {
        networks.push('unix');
        return undefined;
      }
      networks.push(...networksOf(cf, 'set_real_ip_from', text));
      return undefined;
    },
  },
  {
    name: 'real_ip_header',
    contexts: HTTP_ALL,
    args: Args.Take1,
    set: loc('realipHeader', (_cf, args) => (args[1] as string).toLowerCase()),
  },
  { name: 'real_ip_recursive', contexts: HTTP_ALL, args: Args.Flag, set: loc('realipRecursive', flag) },
];
