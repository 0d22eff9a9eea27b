/** Directives of the auth_basic module: `auth_basic`, `auth_basic_user_file`, and the core's `auth_delay`. */

import { Args, Context, type Directive, HTTP_ALL } from '../../conf/directives.ts';
import type { LocConf } from '../../conf/model.ts';
import { loc, msec } from '../../conf/setters.ts';
import { namesOf } from '../../conf/variables.ts';

export const AUTH_BASIC_DEFAULTS: Pick<LocConf, 'authBasic' | 'authBasicFile' | 'authDelayMs'> = {
  authBasic: null,
  authBasicFile: null,
  authDelayMs: 0,
};

const WITH_LIMIT_EXCEPT = HTTP_ALL | Context.LimitExcept;

export const AUTH_BASIC_DIRECTIVES: Directive[] = [
  {
    name: 'auth_basic',
    contexts: WITH_LIMIT_EXCEPT,
    args: Args.Take1,
    set: loc('authBasic', (cf, args) => cf.builder.template(cf, args[1] as string)),
  },
  {
    name: 'auth_basic_user_file',
    contexts: WITH_LIMIT_EXCEPT,
    args: Args.Take1,
    set: loc('authBasicFile', (cf, args) => {
      const text = args[1] as string;
      const template = cf.builder.template(cf, text);
      return namesOf(template).length === 0 ? cf.fullName(text, true) : template;
    }),
  },
  { name: 'auth_delay', contexts: HTTP_ALL, args: Args.Take1, set: loc('authDelayMs', msec) },
];
