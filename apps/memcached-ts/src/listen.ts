/**
 * Opens every socket that the settings ask for: TCP (one queue for each worker, or one for all), UDP, UNIX.
 *
 * Invariant: what cannot be opened ends the process with memcached's words and exit code; what is opened is in the result.
 * Not its job: accepting (worker.ts).
 */

import { lookup } from 'node:dns/promises';
import { lstatSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { listenGroup, listenTcp, listenUnix, localAddress, MegapipeError } from '@megapipe/core';
import { complain, fail } from './fail.ts';
import { EX_OSERR, EX_USAGE } from './options.ts';
import type { Settings } from './settings.ts';
import { reason } from './strerror.ts';

/** Above what any system allows, which cuts it down. */
const BACKLOG_MAX = 0xffff;

/** A descriptor to accept from; `shared` ones belong to all workers. `name` is what `stats conns` calls it. */
export interface Listener {
  fd: number;
  shared: boolean;
  /** The CPU whose connections the worker gets from a socket that the kernel module shares out. */
  cpu?: number;
  name: string;
}

/** What is open: one list of TCP and UNIX listeners for each worker, and the lines of MEMCACHED_PORT_FILENAME. */
export interface Sockets {
  listeners: Listener[][];
  portLines: string[];
  /** What -U asks for; the first worker binds them. */
  udp: { host: string; port: number }[];
}

interface Address {
  host: string;
  port: number;
  /** As it stood in -l; empty where there was none. */
  name: string;
}

/** `host`, `host:port`, `[v6]:port`, `*`. Bare IPv6 addresses are understood, too. `listed`: all of -l, for what is told. */
function splitAddress(address: string, port: number, listed: string): { host: string; port: number } {
  const wrong = (message: string): never =>
    fail(`${message}\nfailed to listen on one of interface(s) ${listed}`, EX_OSERR);
  if (address.startsWith('[') && !address.includes(']')) wrong(`Invalid IPV6 address: "${address}"`);
  if (isIP(address) === 6) return { host: address, port };
  const parts = /^\[([^\]]*)\](?::(.*))?$/.exec(address) ?? /^([^:]*)(?::(.*))?$/.exec(address);
  if (parts === null) return { host: address, port };
  const [, host = '', own] = parts;
  if (own !== undefined && !/^\d+$/.test(own)) wrong(`Invalid port number: "${own}"`);
  const number = own === undefined ? port : Number(own);
  if (number > 65535) fail(`Invalid port number: "${own}"`, EX_USAGE);
  return { host: host === '*' ? '0.0.0.0' : host, port: number };
}

async function addressesOf(settings: Settings, port: number): Promise<Address[]> {
  if (settings.listen.length === 0) {
    return [
      { host: '0.0.0.0', port, name: '' },
      { host: '::', port, name: '' },
    ];
  }
  const addresses: Address[] = [];
  const listed = settings.listen.join(',');
  for (const name of settings.listen) {
    const { host, port: own } = splitAddress(name, port, listed);
    if (isIP(host) !== 0) {
      addresses.push({ host, port: own, name });
      continue;
    }
    try {
      for (const found of await lookup(host, { all: true })) addresses.push({ host: found.address, port: own, name });
    } catch {
      fail(`getaddrinfo(): Name or service not known\nfailed to listen on one of interface(s) ${listed}`, EX_OSERR);
    }
  }
  return addresses;
}

/** Opens every listening socket. Does not come back where one cannot be opened. */
export async function openSockets(settings: Settings): Promise<Sockets> {
  const sockets: Sockets = { listeners: Array.from({ length: settings.threads }, () => []), portLines: [], udp: [] };
  if (settings.socketPath !== undefined) openUnix(settings, settings.socketPath, sockets);
  else if (settings.port !== 0) await openTcp(settings, sockets);
  if (settings.socketPath === undefined && settings.udpPort !== 0) {
    sockets.udp = await addressesOf(settings, Math.max(0, settings.udpPort));
  }
  return sockets;
}

function shareWithAll(sockets: Sockets, fd: number, name: string, cpus: readonly number[] = []): void {
  for (const [i, list] of sockets.listeners.entries())
    list.push({ fd, shared: true, name, ...(cpus.length > 0 ? { cpu: cpus[i % cpus.length]! } : {}) });
}

function openUnix(settings: Settings, path: string, sockets: Sockets): void {
  try {
    // A socket file of an earlier server is in the way; any other file stays, and makes bind fail.
    if (lstatSync(path, { throwIfNoEntry: false })?.isSocket()) unlinkSync(path);
    // No moment in which others could connect: the file has its permissions from the start.
    const umask = process.umask(~settings.socketMode & 0o777);
    shareWithAll(
      sockets,
      listenUnix({ path, backlog: backlogOf(settings), mode: settings.socketMode & 0o777 }),
      `unix:${path}`,
    );
    process.umask(umask);
  } catch (error) {
    fail(`bind(): ${reason(error)}\nfailed to listen on UNIX socket: ${path}: ${reason(error)}`, EX_OSERR);
  }
}

/** -b as listen(2) takes it: a negative number is the most that the system allows. */
function backlogOf({ backlog }: Settings): number {
  return backlog < 0 ? BACKLOG_MAX : Math.max(1, backlog);
}

async function openTcp(settings: Settings, sockets: Sockets): Promise<void> {
  const { threads, cpus } = settings;
  const backlog = backlogOf(settings);
  let anyPort = 0;
  // The module steers by CPU itself, from one socket.
  const byModule = settings.io === 'megapipe' && settings.backend === 'device' && cpus.length > 0;
  for (const { host, port: asked, name } of await addressesOf(settings, Math.max(0, settings.port))) {
    // With any free port, the first address chooses and the others follow.
    const port = asked === 0 ? anyPort : asked;
    try {
      let fds: number[];
      if (settings.io === 'megapipe' && threads > 1 && !byModule) {
        const steered =
          cpus.length > 0 ? { cpus: Array.from({ length: threads }, (_, i) => cpus[i % cpus.length]!) } : {};
        fds = listenGroup({ host, port, backlog, count: threads, ...steered });
      } else {
        fds = [listenTcp({ host, port, backlog })];
      }
      const bound = localAddress(fds[0]!).port;
      const v6 = isIP(host) === 6;
      const listenName = `${v6 ? 'tcp6' : 'tcp'}:${v6 ? `[${host}]` : host}:${bound}`;
      if (fds.length === 1) shareWithAll(sockets, fds[0]!, listenName, byModule ? cpus : []);
      else for (const [i, fd] of fds.entries()) sockets.listeners[i]!.push({ fd, shared: false, name: listenName });
      if (asked === 0) anyPort = bound;
      sockets.portLines.push(`TCP ${v6 ? 'INET6' : 'INET'}: ${bound}`);
    } catch (error) {
      const code = error instanceof MegapipeError ? error.code : '';
      // A machine without IPv6 serves IPv4 alone.
      if (name === '' && host === '::' && (code === 'EAFNOSUPPORT' || code === 'EADDRNOTAVAIL')) continue;
      const what = name === '' ? `TCP port ${port}` : `one of interface(s) ${settings.listen.join(',')}`;
      const first = code === 'EADDRINUSE' ? '' : `bind(): ${reason(error)}\n`;
      fail(`${first}failed to listen on ${what}: ${reason(error)}`, EX_OSERR);
    }
  }
}

/** MEMCACHED_PORT_FILENAME: the bound ports, written to a temporary name first so nobody reads half of it. */
export function writePortFile(lines: readonly string[]): void {
  const path = process.env['MEMCACHED_PORT_FILENAME'];
  if (path === undefined) return;
  try {
    writeFileSync(`${path}.lck`, lines.map((line) => `${line}\n`).join(''));
    renameSync(`${path}.lck`, path);
  } catch (error) {
    complain(`Failed to open "${path}": ${reason(error)}`);
  }
}
