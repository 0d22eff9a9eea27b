/**
 * `listen`: addresses and their options.
 *
 * What it is for: every form nginx takes (port, address, address:port, [v6], unix:) to one canonical text, which is the
 * identity of a listening socket. Invariant: two listens with the same text mean the same socket.
 */

import { isIPv6 } from 'node:net';
import type { ListenTuning } from '@megapipe/core';
import type { ListenDecl } from '../../conf/builder.ts';
import { addressesOf } from '../../conf/hosts.ts';
import type { ConfContext } from '../../conf/parser.ts';
import { parseFlag, parseNumber, parseSize, parseTimeSec } from '../../conf/units.ts';
import { parseAddress } from '../../net/address.ts';

interface Address {
  family: 'IPv4' | 'IPv6' | 'Unix';
  host: string;
  port: number;
}

const DEFAULT_PORT = 80;

/** `listen ADDRESS [option …]`. */
export function parseListen(cf: ConfContext, args: string[]): ListenDecl[] {
  const text = args[1] as string;
  const decls = parseAddresses(cf, text).map(
    (address): ListenDecl => ({
      ...address,
      text: addressText(address),
      defaultServer: false,
      tuning: {},
      hasOptions: false,
    }),
  );
  for (const option of args.slice(2)) for (const decl of decls) applyOption(cf, decl, option);
  return decls;
}

export function addressText(address: Address): string {
  if (address.family === 'Unix') return `unix:${address.host}`;
  return address.family === 'IPv6' ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

function applyOption(cf: ConfContext, decl: ListenDecl, option: string): void {
  const equals = option.indexOf('=');
  const name = equals < 0 ? option : option.slice(0, equals);
  const value = equals < 0 ? '' : option.slice(equals + 1);
  switch (equals < 0 ? option : `${name}=`) {
    case 'default_server':
    case 'default':
      decl.defaultServer = true;
      return;
    case 'bind':
      // Every address has a socket of its own here.
      decl.hasOptions = true;
      return;
    case 'deferred':
      decl.hasOptions = true;
      decl.tuning.deferAcceptSec = DEFER_SEC;
      return;
    case 'reuseport':
      decl.hasOptions = true;
      decl.reusePort = true;
      return;
    case 'backlog=': {
      const backlog = parseNumber(value);
      if (backlog === null || backlog === 0) cf.fail(`invalid backlog "${option}"`);
      decl.hasOptions = true;
      decl.backlog = backlog;
      return;
    }
    case 'rcvbuf=':
    case 'sndbuf=':
    case 'fastopen=': {
      const number = name === 'fastopen' ? parseNumber(value) : parseSize(value);
      if (number === null) cf.fail(`invalid ${name} "${option}"`);
      decl.hasOptions = true;
      if (name === 'rcvbuf') decl.tuning.receiveBufferBytes = number;
      if (name === 'sndbuf') decl.tuning.sendBufferBytes = number;
      if (name === 'fastopen') decl.tuning.fastOpenQueue = number;
      return;
    }
    case 'accept_filter=':
      cf.say('emerg', `accept filters "${option}" are not supported on this platform, ignored`);
      return;
    case 'so_keepalive=':
      decl.hasOptions = true;
      tuneKeepAlive(cf, decl.tuning, value);
      return;
    case 'ipv6only=': {
      const only = parseFlag(value);
      if (only === null) cf.fail(`invalid parameter "${option}"`);
      decl.hasOptions = true;
      // Of no concern to other addresses, where nginx takes it too.
      if (decl.family === 'IPv6') decl.ipv6Only = only;
      return;
    }
    case 'ssl':
      cf.fail('the "ssl" parameter of the "listen" directive is not supported by this server: it has no TLS');
      break;
    case 'proxy_protocol':
      decl.proxyProtocol = true;
      return;
    case 'http2':
    case 'quic':
    case 'spdy':
      cf.fail(`the "${option}" parameter of the "listen" directive is not supported by this server`);
      break;
    default:
      cf.fail(`invalid parameter "${option}"`);
  }
}

/** nginx waits for the first bytes of a connection for about a second. */
const DEFER_SEC = 1;

/** `on`, `off`, or `idle:interval:probes`, each of which may be left out. */
function tuneKeepAlive(cf: ConfContext, tuning: ListenTuning, value: string): void {
  const bad = (): never => cf.fail(`invalid so_keepalive value: "${value}"`);
  tuning.keepAlive = value !== 'off';
  if (value === 'on' || value === 'off') return;
  const words = value.split(':');
  if (words.length !== 3 || value === '::') bad();
  const [idle = '', interval = '', probes = ''] = words;
  if (idle !== '') tuning.keepAliveIdleSec = parseTimeSec(idle) ?? bad();
  if (interval !== '') tuning.keepAliveIntervalSec = parseTimeSec(interval) ?? bad();
  if (probes !== '') tuning.keepAliveProbes = parseNumber(probes) ?? bad();
}

function parseAddresses(cf: ConfContext, text: string): Address[] {
  const bad = (reason: string): never => cf.fail(`${reason} in "${text}" of the "listen" directive`);
  if (text.toLowerCase().startsWith('unix:')) {
    const path = text.slice(5);
    if (path === '') bad('no path in the unix domain socket');
    if (path.length >= 108) bad('too long path in the unix domain socket');
    return [{ family: 'Unix', host: path, port: 0 }];
  }
  let host: string;
  let portText: string | null;
  if (text.startsWith('[')) {
    const close = text.indexOf(']');
    if (close < 0) bad('invalid host');
    host = text.slice(1, close);
    const rest = text.slice(close + 1);
    if (rest !== '' && (!rest.startsWith(':') || /[/?]/.test(rest))) bad('invalid host');
    portText = rest === '' ? null : rest.slice(1);
    if (!isIPv6(host) || host.includes('%')) bad('invalid IPv6 address');
    return ports(portText, bad).map((port) => ({ family: 'IPv6', host: canonicalV6(host), port }));
  }
  if (/[/?]/.test(text)) bad('invalid host');
  const colon = text.indexOf(':');
  if (colon < 0 && /^[0-9]+(?:-[0-9]+)?$/.test(text) && parseNumber(text.split('-')[0] as string) !== null) {
    return ports(text, bad).map((port) => ({ family: 'IPv4', host: '0.0.0.0', port }));
  }
  host = colon < 0 ? text : text.slice(0, colon);
  portText = colon < 0 ? null : text.slice(colon + 1);
  const portNumbers = ports(portText, bad);
  if (host === '') bad('no host');
  const v4 = parseAddress(host);
  const hosts = host === '*' ? ['0.0.0.0'] : v4?.length === 4 ? [v4.join('.')] : addressesOf(host);
  if (hosts.length === 0) bad('host not found');
  return hosts.flatMap((each) =>
    portNumbers.map(
      (port): Address => ({
        family: isIPv6(each) ? 'IPv6' : 'IPv4',
        host: isIPv6(each) ? canonicalV6(each) : each,
        port,
      }),
    ),
  );
}

function ports(text: string | null, bad: (reason: string) => never): number[] {
  if (text === null) return [DEFAULT_PORT];
  const [firstText = '', lastText] = text.split('-');
  const first = parseNumber(firstText);
  const last = lastText === undefined ? first : parseNumber(lastText);
  if (first === null || last === null || first < 1 || last > 65535) return bad('invalid port');
  if (last < first) return bad('invalid port range');
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

/** The shortest form, as inet_ntop prints it. */
function canonicalV6(host: string): string {
  return new URL(`http://[${host}]/`).hostname.slice(1, -1);
}
