/** Directives of the realip module. */

import { Args, type Directive, HTTP_ALL } from '../../conf/directives.ts';
import type { LocConf } from '../../conf/model.ts';
import { flag, loc } from '../../conf/setters.ts';
import { parseNetwork } from '../../net/address.ts';

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
      const network = parseNetwork(text);
      if (network === null) return cf.fail(`host not found in set_real_ip_from "${text}"`);
      if (network.lowBits) cf.warn(`low address bits of ${text} are meaningless`);
      networks.push(network);
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
