/** Directives of the limit_req and limit_conn modules. Limits are inherited only where a level has none. */

import { Args, Context, type Directive, HTTP_ALL } from '../../conf/directives.ts';
import type { LocConf, Zone } from '../../conf/model.ts';
import type { ConfContext } from '../../conf/parser.ts';
import { flag, loc, oneOf, type Parse } from '../../conf/setters.ts';
import { parseNumber, parseSize } from '../../conf/units.ts';

export const LIMIT_DEFAULTS: Pick<
  LocConf,
  | 'limitReqs'
  | 'limitReqStatus'
  | 'limitReqLogLevel'
  | 'limitReqDryRun'
  | 'limitConns'
  | 'limitConnStatus'
  | 'limitConnLogLevel'
  | 'limitConnDryRun'
> = {
  limitReqs: [],
  limitReqStatus: 503,
  limitReqLogLevel: 'error',
  limitReqDryRun: false,
  limitConns: [],
  limitConnStatus: 503,
  limitConnLogLevel: 'error',
  limitConnDryRun: false,
};

/** nginx wants eight pages at least. */
const ZONE_MIN = 8 * 4096;
/** Requests are counted in thousandths. */
const SCALE = 1000;

function setZone(kind: Zone['kind']) {
  return (cf: ConfContext, args: string[]): undefined => {
    const keyText = args[1] as string;
    const key = cf.builder.template(cf, keyText);
    let name = '';
    let bytes = 0;
    let rate = SCALE;
    for (const word of args.slice(2)) {
      if (word.startsWith('zone=')) {
        const colon = word.indexOf(':');
        if (colon < 0) cf.fail(`invalid zone size "${word}"`);
        name = word.slice(5, colon);
        bytes = parseSize(word.slice(colon + 1)) ?? cf.fail(`invalid zone size "${word}"`);
        if (bytes < ZONE_MIN) cf.fail(`zone "${word}" is too small`);
      } else if (kind === 'limit_req' && word.startsWith('rate=')) {
        const given = /^(\d+)(r\/s|r\/m)?$/.exec(word.slice(5));
        const number = given === null ? 0 : Number(given[1]);
        if (number <= 0) cf.fail(`invalid rate "${word}"`);
        rate = Math.floor((number * SCALE) / (given?.[2] === 'r/m' ? 60 : 1));
      } else cf.fail(`invalid parameter "${word}"`);
    }
    if (name === '') cf.fail(`"${args[0]}" must have "zone" parameter`);
    const known = cf.builder.zones.find((each) => each.name === name);
    if (known !== undefined) cf.fail(`${kind}_zone "${name}" is already bound to key "${known.keyText}"`);
    cf.builder.zones.push({ name, kind, bytes, key, keyText, rate });
  };
}

function setLimitReq(cf: ConfContext, args: string[]): string | undefined {
  let zone = '';
  let burst = 0;
  let delay = 0;
  for (const word of args.slice(1)) {
    if (word.startsWith('zone=')) zone = word.slice(5);
    else if (word.startsWith('burst=')) {
      burst = parseNumber(word.slice(6)) ?? cf.fail(`invalid burst value "${word}"`);
      if (burst === 0) cf.fail(`invalid burst value "${word}"`);
    } else if (word.startsWith('delay=')) {
      delay = parseNumber(word.slice(6)) ?? cf.fail(`invalid delay value "${word}"`);
      if (delay === 0) cf.fail(`invalid delay value "${word}"`);
    } else if (word === 'nodelay') delay = Number.POSITIVE_INFINITY;
    else cf.fail(`invalid parameter "${word}"`);
  }
  if (zone === '') cf.fail(`"${args[0]}" must have "zone" parameter`);
  const limits = (cf.level.loc.limitReqs ??= []);
  if (limits.some((each) => each.zone === zone)) return 'is duplicate';
  limits.push({ zone, burst: burst * SCALE, delay: delay * SCALE });
  cf.builder.usedZones.push(zone);
  return undefined;
}

function setLimitConn(cf: ConfContext, args: string[]): string | undefined {
  const zone = args[1] as string;
  const limits = (cf.level.loc.limitConns ??= []);
  if (limits.some((each) => each.zone === zone)) return 'is duplicate';
  const max = parseNumber(args[2] as string);
  if (max === null || max === 0) cf.fail(`invalid number of connections "${args[2]}"`);
  if (max > 65_535) cf.fail('connection limit must be less 65536');
  limits.push({ zone, max });
  cf.builder.usedZones.push(zone);
  return undefined;
}

const status: Parse<number> = (cf, args) => {
  const value = parseNumber(args[1] as string) ?? cf.reject('invalid number');
  return value < 400 || value > 599 ? cf.fail('value must be between 400 and 599') : value;
};

const level = oneOf(['info', 'notice', 'warn', 'error']);

export const LIMIT_DIRECTIVES: Directive[] = [
  { name: 'limit_req_zone', contexts: Context.Http, args: Args.Take3, set: setZone('limit_req') },
  { name: 'limit_req', contexts: HTTP_ALL, args: Args.Take123, set: setLimitReq },
  { name: 'limit_req_status', contexts: HTTP_ALL, args: Args.Take1, set: loc('limitReqStatus', status) },
  { name: 'limit_req_log_level', contexts: HTTP_ALL, args: Args.Take1, set: loc('limitReqLogLevel', level) },
  { name: 'limit_req_dry_run', contexts: HTTP_ALL, args: Args.Flag, set: loc('limitReqDryRun', flag) },
  { name: 'limit_conn_zone', contexts: Context.Http, args: Args.Take2, set: setZone('limit_conn') },
  { name: 'limit_conn', contexts: HTTP_ALL, args: Args.Take2, set: setLimitConn },
  { name: 'limit_conn_status', contexts: HTTP_ALL, args: Args.Take1, set: loc('limitConnStatus', status) },
  { name: 'limit_conn_log_level', contexts: HTTP_ALL, args: Args.Take1, set: loc('limitConnLogLevel', level) },
  { name: 'limit_conn_dry_run', contexts: HTTP_ALL, args: Args.Flag, set: loc('limitConnDryRun', flag) },
];
