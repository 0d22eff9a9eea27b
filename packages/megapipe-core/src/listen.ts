/**
 * Making listening sockets, and where threads run. Listening sockets are plain descriptors until a channel registers them.
 * Not its job: groups of them, one for each channel; that is listen-group.ts.
 */
import { chmodSync, lstatSync, rmSync } from 'node:fs';
import { NET, native } from '@megapipe/native';
import { systemError } from './errors.ts';

export interface ListenTcpOptions {
  /** IPv4 or IPv6 address. */
  host: string;
  /** 0 takes a free port; see localAddress. */
  port: number;
  /** Connections that may wait, 1 … net.core.somaxconn. Default 1,024. */
  backlog?: number;
  reusePort?: boolean;
  /** IPv6 address: refuse IPv4-mapped clients. Default true. */
  ipv6Only?: boolean;
  /** Accepted sockets inherit it. Default true: a reply is one send, and waiting would only delay it. */
  noDelay?: boolean;
}

export interface ListenUnixOptions {
  /** Absolute path, or `@name` for an abstract one. */
  path: string;
  backlog?: number;
  /** Permission bits of the socket file, e.g. 0o700. */
  mode?: number;
}

export interface SocketAddress {
  family: 'IPv4' | 'IPv6' | 'Unix';
  host: string;
  port: number;
}

const DEFAULT_BACKLOG = 1024;
const EADDRINUSE = 98;
const ECONNREFUSED = 111;

function ok(result: number, syscall: string, about: string, fd: number): void {
  if (result >= 0) return;
  if (fd >= 0) native.close(fd);
  throw systemError(syscall, -result, about);
}

/** A bound, listening TCP socket: its descriptor. Throws with the errno's code: EADDRINUSE, EACCES, EADDRNOTAVAIL … */
export function listenTcp(options: ListenTcpOptions): number {
  const { host, port } = options;
  const about = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
  const v6 = host.includes(':');
  const fd = native.socket(v6 ? NET.AF_INET6 : NET.AF_INET, NET.SOCK_STREAM);
  ok(fd, 'socket', about, -1);
  ok(native.setsockopt(fd, NET.SOL_SOCKET, NET.SO_REUSEADDR, 1), 'setsockopt', 'SO_REUSEADDR', fd);
  if (options.reusePort)
    ok(native.setsockopt(fd, NET.SOL_SOCKET, NET.SO_REUSEPORT, 1), 'setsockopt', 'SO_REUSEPORT', fd);
  if (v6)
    ok(
      native.setsockopt(fd, NET.IPPROTO_IPV6, NET.IPV6_V6ONLY, (options.ipv6Only ?? true) ? 1 : 0),
      'setsockopt',
      'IPV6_V6ONLY',
      fd,
    );
  if (options.noDelay ?? true)
    ok(native.setsockopt(fd, NET.IPPROTO_TCP, NET.TCP_NODELAY, 1), 'setsockopt', 'TCP_NODELAY', fd);
  try {
    ok(native.bind(fd, host, port), 'bind', about, -1);
    ok(native.listen(fd, options.backlog ?? DEFAULT_BACKLOG), 'listen', about, -1);
  } catch (error) {
    native.close(fd);
    throw error;
  }
  return fd;
}

/** A bound, listening Unix stream socket. A socket file that nobody listens on any more is replaced. */
export function listenUnix(options: ListenUnixOptions): number {
  const { path } = options;
  const fd = native.socket(NET.AF_UNIX, NET.SOCK_STREAM);
  ok(fd, 'socket', path, -1);
  try {
    let bound = native.bind(fd, path, 0);
    if (bound === -EADDRINUSE && path.startsWith('/') && abandoned(path)) {
      rmSync(path, { force: true });
      bound = native.bind(fd, path, 0);
    }
    ok(bound, 'bind', path, -1);
    if (options.mode !== undefined && path.startsWith('/')) chmodSync(path, options.mode);
    ok(native.listen(fd, options.backlog ?? DEFAULT_BACKLOG), 'listen', path, -1);
  } catch (error) {
    native.close(fd);
    throw error;
  }
  return fd;
}

/** What the sockets that a listening socket accepts inherit, and how it accepts. */
export interface ListenTuning {
  /** SO_RCVBUF and SO_SNDBUF, bytes. */
  receiveBufferBytes?: number;
  sendBufferBytes?: number;
  /** TCP keep-alive probes. */
  keepAlive?: boolean;
  keepAliveIdleSec?: number;
  keepAliveIntervalSec?: number;
  keepAliveProbes?: number;
  /** TCP_DEFER_ACCEPT: a connection is accepted when its first bytes are there. */
  deferAcceptSec?: number;
  /** TCP_FASTOPEN: connections that may wait with data in their SYN. */
  fastOpenQueue?: number;
}

const TUNING: [keyof ListenTuning, number, number, string][] = [
  ['receiveBufferBytes', NET.SOL_SOCKET, NET.SO_RCVBUF, 'SO_RCVBUF'],
  ['sendBufferBytes', NET.SOL_SOCKET, NET.SO_SNDBUF, 'SO_SNDBUF'],
  ['keepAlive', NET.SOL_SOCKET, NET.SO_KEEPALIVE, 'SO_KEEPALIVE'],
  ['keepAliveIdleSec', NET.IPPROTO_TCP, NET.TCP_KEEPIDLE, 'TCP_KEEPIDLE'],
  ['keepAliveIntervalSec', NET.IPPROTO_TCP, NET.TCP_KEEPINTVL, 'TCP_KEEPINTVL'],
  ['keepAliveProbes', NET.IPPROTO_TCP, NET.TCP_KEEPCNT, 'TCP_KEEPCNT'],
  ['deferAcceptSec', NET.IPPROTO_TCP, NET.TCP_DEFER_ACCEPT, 'TCP_DEFER_ACCEPT'],
  ['fastOpenQueue', NET.IPPROTO_TCP, NET.TCP_FASTOPEN, 'TCP_FASTOPEN'],
];

/** Sets options of a listening socket; what is not named stays as it is. Throws with the errno's code. */
export function tuneListener(fd: number, tuning: ListenTuning): void {
  for (const [key, level, option, name] of TUNING) {
    const value = tuning[key];
    if (value !== undefined) ok(native.setsockopt(fd, level, option, Number(value)), 'setsockopt', name, -1);
  }
}

/**
 * A datagram socket that is connected to an address, or to the path of a Unix socket: what is written to the descriptor is a datagram.
 * Non-blocking. Throws with the errno's code.
 */
export function connectDatagram(host: string, port: number): number {
  const unix = host.startsWith('/');
  const domain = unix ? NET.AF_UNIX : host.includes(':') ? NET.AF_INET6 : NET.AF_INET;
  const fd = native.socket(domain, NET.SOCK_DGRAM);
  ok(fd, 'socket', host, -1);
  ok(native.connect(fd, host, port), 'connect', host, fd);
  return fd;
}

/** Whether a file is a socket that was left over: connecting to it is refused (as to any other file). */
function abandoned(path: string): boolean {
  if (!lstatSync(path, { throwIfNoEntry: false })?.isSocket()) return false;
  const probe = native.socket(NET.AF_UNIX, NET.SOCK_STREAM);
  if (probe < 0) return false;
  const result = native.connect(probe, path, 0);
  native.close(probe);
  return result === -ECONNREFUSED;
}

/** @internal From the kernel's numbers to words. */
export function socketAddress(name: { family: number; host: string; port: number }): SocketAddress {
  const { family, port } = name;
  if (family === NET.AF_INET) return { family: 'IPv4', host: name.host, port };
  if (family === NET.AF_INET6) return { family: 'IPv6', host: name.host, port };
  return { family: 'Unix', host: name.host, port: 0 };
}

/** Where a socket is bound. */
export function localAddress(fd: number): SocketAddress {
  const name = native.getsockname(fd, 0);
  if (typeof name === 'number') throw systemError('getsockname', -name, `descriptor ${fd}`);
  return socketAddress(name);
}

/** Closes a descriptor that no channel took. */
export function closeDescriptor(fd: number): void {
  native.close(fd);
}

/** Runs the calling thread on these CPUs only. Throws EINVAL when none of them is there. */
export function setAffinity(cpus: number[]): void {
  const result = native.setAffinity(cpus);
  if (result < 0) throw systemError('sched_setaffinity', -result, `CPUs ${cpus.join(',')}`);
}

/** CPUs that the calling thread may run on. */
export function getAffinity(): number[] {
  const cpus = native.getAffinity();
  if (typeof cpus === 'number') throw systemError('sched_getaffinity', -cpus, '');
  return cpus;
}
