/**
 * browser: `$modern_browser`, `$ancient_browser` and `$msie`, by the User-Agent.
 *
 * What it is for: the rules of a configuration about names and versions. The fast way: the answer follows from the head.
 */

import { Args, type Directive, type Handler, HTTP_ALL } from '../../conf/directives.ts';
import type { LocConf } from '../../conf/model.ts';
import { HeaderId } from '../../http/headers.ts';
import { Method, type Request } from '../../http/request.ts';

/** Where each browser's version stands: behind `mark`, looked for from `skip` on. Opera comes first: it may say that it is another. */
const BROWSERS = [
  { name: 'opera', skip: 0, mark: 'Opera', add: 'Opera '.length },
  { name: 'msie', skip: 'Mozilla/4.0 (compatible; '.length, mark: 'MSIE ', add: 'MSIE '.length },
  { name: 'gecko', skip: 'Mozilla/5.0 ('.length, mark: 'rv:', add: 'rv:'.length },
  { name: 'safari', skip: 'Mozilla/5.0 ('.length, mark: 'Safari/', add: 'Safari/'.length },
  { name: 'konqueror', skip: 'Mozilla/5.0 (compatible; '.length, mark: 'Konqueror/', add: 'Konqueror/'.length },
] as const;
/** No browser is so new. */
const UNREACHABLE = 4_001_000_000;

export const BROWSER_DEFAULTS: Pick<
  LocConf,
  'modernBrowsers' | 'modernUnlisted' | 'ancientBrowsers' | 'netscape4' | 'modernBrowserValue' | 'ancientBrowserValue'
> = {
  modernBrowsers: [],
  modernUnlisted: false,
  ancientBrowsers: [],
  netscape4: false,
  modernBrowserValue: '1',
  ancientBrowserValue: '1',
};

/** The last one of a level holds. */
function setValue(key: 'modernBrowserValue' | 'ancientBrowserValue'): Handler {
  return (cf, args) => {
    cf.level.loc[key] = args[1] as string;
    return undefined;
  };
}

export const BROWSER_DIRECTIVES: Directive[] = [
  {
    name: 'modern_browser',
    contexts: HTTP_ALL,
    args: Args.Take12,
    set(cf, args) {
      const [, name = '', text = ''] = args;
      const own = cf.level.loc;
      if (args.length === 2) {
        if (name !== 'unlisted') cf.fail('"modern_browser" needs a version, or is "unlisted"');
        own.modernUnlisted = true;
        return undefined;
      }
      const browser = BROWSERS.findIndex((each) => each.name === name.toLowerCase());
      if (browser < 0) cf.fail(`unknown browser name "${name}"`);
      if (!/^[0-9.]*$/.test(text)) cf.fail(`invalid browser version "${text}"`);
      const list = (own.modernBrowsers ??= [{ browser: 0, version: UNREACHABLE, implied: true }]);
      // Opera that is named needs no rule of its own any more.
      if (browser === 0 && list[0]?.implied === true) list.shift();
      list.push({ browser, version: versionOf(text), implied: false });
      list.sort((a, b) => a.browser - b.browser);
      return undefined;
    },
  },
  {
    name: 'ancient_browser',
    contexts: HTTP_ALL,
    args: Args.OneOrMore,
    set(cf, args) {
      const own = cf.level.loc;
      for (const each of args.slice(1)) {
        if (each === 'netscape4') own.netscape4 = true;
        else (own.ancientBrowsers ??= []).push(each);
      }
      return undefined;
    },
  },
  { name: 'modern_browser_value', contexts: HTTP_ALL, args: Args.Take1, set: setValue('modernBrowserValue') },
  { name: 'ancient_browser_value', contexts: HTTP_ALL, args: Args.Take1, set: setValue('ancientBrowserValue') },
];

/** `1.2.3` as one number, two digits a part. */
function versionOf(text: string): number {
  let version = 0;
  let scale = 1_000_000;
  for (const part of text.split('.')) {
    version += Number(part) * scale;
    scale = Math.floor(scale / 100);
  }
  return version;
}

function isModern(r: Request): boolean {
  const { conf } = r.location;
  const agent = r.header(HeaderId.UserAgent);
  if (agent === null) return conf.modernUnlisted;
  for (const { browser, version } of conf.modernBrowsers) {
    const { skip, mark, add } = BROWSERS[browser] as (typeof BROWSERS)[number];
    const at = agent.indexOf(mark, skip);
    if (at < 0 || at + add >= agent.length) continue;
    const text = /^[0-9.]*/.exec(agent.slice(at + add))?.[0] ?? '';
    return versionOf(text) >= version;
  }
  if (conf.modernBrowsers.length > 0 && !conf.modernUnlisted) return false;
  if (conf.netscape4 && agent.length > 'Mozilla/4.72 '.length && /^Mozilla\/[1-4]/.test(agent)) return false;
  if (conf.ancientBrowsers.some((each) => agent.includes(each))) return false;
  return conf.modernUnlisted;
}

export function modernBrowser(r: Request): string {
  return isModern(r) ? r.location.conf.modernBrowserValue : '';
}

export function ancientBrowser(r: Request): string {
  return isModern(r) ? '' : r.location.conf.ancientBrowserValue;
}

/** Internet Explorer 6 before its second service pack, or an older one. */
function isMsie6(agent: string): boolean {
  if (agent.includes('Opera')) return false;
  const at = agent.indexOf('MSIE ');
  if (at < 0 || at + 7 >= agent.length || agent[at + 6] !== '.') return false;
  const version = agent[at + 5];
  return version === '4' || version === '5' || (version === '6' && !agent.slice(at + 8).includes('SV1'));
}

/** keepalive_disable: browsers of old that a kept connection confuses. */
export function keepsBadly(r: Request, kinds: readonly string[]): boolean {
  const agent = r.header(HeaderId.UserAgent);
  if (agent === null) return false;
  if (kinds.includes('msie6') && r.method === Method.Post && isMsie6(agent)) return true;
  return kinds.includes('safari') && isSafari(agent);
}

function isSafari(agent: string): boolean {
  if (/Opera|Gecko\/|Chrome\//.test(agent)) return false;
  return agent.includes('Safari/') && agent.includes('Mac OS X');
}

/** Browsers that replace short error pages by their own. */
export function hidesErrors(r: Request): boolean {
  if (isMsie(r)) return true;
  const agent = r.header(HeaderId.UserAgent) ?? '';
  return agent.includes('Chrome/') && !/Opera|Gecko\//.test(agent);
}

/** Internet Explorer, and not Opera that says so. */
export function isMsie(r: Request): boolean {
  const agent = r.header(HeaderId.UserAgent);
  if (agent === null || agent.includes('Opera')) return false;
  const at = agent.indexOf('MSIE ');
  return at >= 0 && at + 7 < agent.length;
}
