/** Directives of access control: `allow`, `deny`, `satisfy`, `limit_except`. Rules are inherited only where a level has none. */

import { Builder, type LocationDecl } from '../../conf/builder.ts';
import { Args, Context, type Directive, HTTP_ALL } from '../../conf/directives.ts';
import type { AccessRule, LocConf } from '../../conf/model.ts';
import type { ConfContext } from '../../conf/parser.ts';
import { loc, oneOf } from '../../conf/setters.ts';
import { parseNetwork } from '../../net/address.ts';

export const ACCESS_DEFAULTS: Pick<LocConf, 'accessRules' | 'satisfy' | 'limitExcept'> = {
  accessRules: [],
  satisfy: 'all',
  limitExcept: null,
};

function setRule(cf: ConfContext, args: string[]): undefined {
  const text = args[1] as string;
  const rules: AccessRule[] = (cf.level.loc.accessRules ??= []);
  const deny = args[0] === 'deny';
  if (text === 'all' || text === 'unix:') {
    rules.push({ deny, network: text === 'all' ? 'all' : 'unix' });
    return;
  }
  const network = parseNetwork(text);
  if (network === null) cf.fail(`invalid parameter "${text}"`);
  if (network.lowBits) cf.warn(`low address bits of ${text} are meaningless`);
  rules.push({ deny, network });
}

const METHODS = [
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'DELETE',
  'MKCOL',
  'COPY',
  'MOVE',
  'OPTIONS',
  'PROPFIND',
  'PROPPATCH',
  'LOCK',
  'UNLOCK',
  'PATCH',
];

function setLimitExcept(cf: ConfContext, args: string[]): string | undefined {
  const outer = cf.level;
  if (outer.loc.limitExcept !== undefined) return 'is duplicate';
  const methods = args.slice(1).map((word) => {
    const method = word.toUpperCase();
    return METHODS.includes(method) ? method : cf.fail(`invalid method "${word}"`);
  });
  if (methods.includes('GET')) methods.push('HEAD');
  const level = Builder.level(Context.LimitExcept, outer);
  const parent = outer.location as LocationDecl;
  const decl: LocationDecl = { kind: parent.kind, name: parent.name, regex: null, level, children: [], ifs: [] };
  level.location = decl;
  const limit = { methods, location: -1 };
  outer.loc.limitExcept = limit;
  parent.ifs.push({ op: limit, decl });
  cf.block(level);
  return undefined;
}

const WITH_LIMIT_EXCEPT = HTTP_ALL | Context.LimitExcept;

export const ACCESS_DIRECTIVES: Directive[] = [
  { name: 'allow', contexts: WITH_LIMIT_EXCEPT, args: Args.Take1, set: setRule },
  { name: 'deny', contexts: WITH_LIMIT_EXCEPT, args: Args.Take1, set: setRule },
  { name: 'satisfy', contexts: HTTP_ALL, args: Args.Take1, set: loc('satisfy', oneOf(['all', 'any'])) },
  { name: 'limit_except', contexts: Context.Location, args: Args.OneOrMore, block: true, set: setLimitExcept },
];
