/**
 * `syslog:server=…,facility=…,severity=…,tag=…,nohostname`, for access_log and error_log.
 *
 * What it is for: the words of the parameter, checked as nginx checks them. Names of servers come from the hosts file, as in `listen`.
 */

import { isIPv4, isIPv6 } from 'node:net';
import { addressesOf } from './hosts.ts';
import type { SyslogTarget } from './model.ts';
import type { ConfContext } from './parser.ts';
import { parseNumber } from './units.ts';

const FACILITIES = [
  ...['kern', 'user', 'mail', 'daemon', 'auth', 'intern', 'lpr', 'news', 'uucp', 'clock', 'authpriv', 'ftp', 'ntp'],
  ...['audit', 'alert', 'cron', 'local0', 'local1', 'local2', 'local3', 'local4', 'local5', 'local6', 'local7'],
];
const SEVERITIES = ['emerg', 'alert', 'crit', 'error', 'warn', 'notice', 'info', 'debug'];
const INFO = SEVERITIES.indexOf('info');
const PORT = 514;
const TAG_MAX = 32;

/** Whether a target of a log is a syslog server. */
export function isSyslog(text: string): boolean {
  return text.startsWith('syslog:');
}

export function parseSyslog(cf: ConfContext, text: string): SyslogTarget {
  const given = new Map<string, string>();
  let hasHostname = true;
  const take = (name: string, value: string): void => {
    if (given.has(name)) cf.fail(`duplicate syslog "${name}"`);
    given.set(name, value);
  };
  for (const word of text.slice('syslog:'.length).split(',')) {
    const equals = word.indexOf('=');
    const name = word.slice(0, equals);
    const value = word.slice(equals + 1);
    if (word === 'nohostname') hasHostname = false;
    else if (equals > 0 && ['server', 'facility', 'severity', 'tag'].includes(name)) {
      take(name, value);
      check(cf, name, value);
    } else cf.fail(`unknown syslog parameter "${word}"`);
  }
  const server = given.get('server');
  if (server === undefined) cf.fail('no syslog server specified');
  return {
    ...addressOf(cf, server),
    facility: FACILITIES.indexOf(given.get('facility') ?? 'local7'),
    severity: given.has('severity') ? SEVERITIES.indexOf(given.get('severity') as string) : INFO,
    tag: given.get('tag') ?? 'nginx',
    hostname: hasHostname,
  };
}

function check(cf: ConfContext, name: string, value: string): void {
  if (name === 'server') addressOf(cf, value);
  if (name === 'facility' && !FACILITIES.includes(value)) cf.fail(`unknown syslog facility "${value}"`);
  if (name === 'severity' && !SEVERITIES.includes(value)) cf.fail(`unknown syslog severity "${value}"`);
  if (name !== 'tag') return;
  if (value.length > TAG_MAX) cf.fail(`syslog tag length exceeds ${TAG_MAX}`);
  if (!/^[A-Za-z0-9_]*$/.test(value)) {
    cf.fail('syslog "tag" only allows alphanumeric characters and underscore');
  }
}

function addressOf(cf: ConfContext, server: string): { host: string; port: number } {
  const bad = (reason: string): never => cf.fail(`${reason} in syslog server "${server}"`);
  if (server.startsWith('unix:')) {
    const path = server.slice('unix:'.length);
    if (path === '') bad('no path in the unix domain socket');
    return { host: path, port: 0 };
  }
  const match = /^(?:\[([^\]]*)\]|([^:]*))(?::(.*))?$/.exec(server);
  if (match === null) return bad('invalid host');
  const port = match[3] === undefined ? PORT : parseNumber(match[3]);
  if (port === null || port < 1 || port > 65535) return bad('invalid port');
  if (match[1] !== undefined) return isIPv6(match[1]) ? { host: match[1], port } : bad('invalid IPv6 address');
  const name = match[2] as string;
  if (name === '') return bad('no host');
  const host = isIPv4(name) ? name : addressesOf(name)[0];
  return host === undefined ? bad('host not found') : { host, port };
}
