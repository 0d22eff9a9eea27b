/**
 * Making listening sockets, alone or as a SO_REUSEPORT group, one for each channel (the paper's partitioned listening).
 * They are plain descriptors until a channel registers them.
 */
import { chmodSync, rmSync } from 'node:fs';
import { NET, native } from '@megapipe/native';
import { MegapipeError, systemError } from './errors.ts';

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
/** Sockets in a group at most: the length of the steering program. */
const STEER_MAX = 256;
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

/** Whether a socket file is left over: connecting to it is refused. */
function abandoned(path: string): boolean {
  const probe = native.socket(NET.AF_UNIX, NET.SOCK_STREAM);
  if (probe < 0) return false;
  const result = native.connect(probe, path, 0);
  native.close(probe);
  return result === -ECONNREFUSED;
}

export interface ListenGroupOptions extends Omit<ListenTcpOptions, 'reusePort'> {
  /** Sockets in the group, one for each channel. */
  count: number;
  /**
   * CPU of each socket's channel. When given, a connection goes to the socket of the CPU that received it; without,
   * the kernel spreads connections by hash.
   */
  cpus?: number[];
}

/**
 * A SO_REUSEPORT group that channels join and leave while it serves. It lives where the listening sockets are made (the
 * main thread, usually); the descriptors go to the channels.
 *
 * To take a channel out without losing a connection: `retire(fd)`, then `channel.retire(listener)` in the thread that
 * accepts from it, and `left(fd)` when that listener's `onClose` came.
 */
export class ListenGroup {
  readonly #options: Omit<ListenTcpOptions, 'reusePort'>;
  /** Sockets as the kernel numbers them: when one leaves, the last takes its place. */
  readonly #members: { fd: number; cpu: number | undefined; retired: boolean }[] = [];
  #port: number;
  #steered = false;

  constructor(options: Omit<ListenTcpOptions, 'reusePort'>) {
    this.#options = options;
    this.#port = options.port;
    /* A probe without SO_REUSEPORT: two groups of one user would share the port silently instead of failing. */
    if (options.port !== 0) native.close(listenTcp(options));
  }

  get port(): number {
    return this.#port;
  }

  /** A further listening socket; with `cpu`, it gets the connections that this CPU receives. */
  add(cpu?: number): number {
    if (this.#members.length === STEER_MAX)
      throw new MegapipeError('ERR_MEGAPIPE_CAPACITY', `listen group: at most ${STEER_MAX} sockets`);
    if (this.#members.length > 0 && (this.#members[0]!.cpu === undefined) !== (cpu === undefined))
      throw new MegapipeError('ERR_MEGAPIPE_ARGUMENT', 'listen group: either every socket has a CPU or none has');
    const fd = listenTcp({ ...this.#options, port: this.#port, reusePort: true });
    if (this.#port === 0) this.#port = localAddress(fd).port;
    this.#members.push({ fd, cpu, retired: false });
    if (cpu !== undefined || this.#steered) this.#steer();
    return fd;
  }

  /** No new connection goes to this socket from now on; those in its queue are still to be accepted. */
  retire(fd: number): void {
    const member = this.#members.find((m) => m.fd === fd);
    if (!member) throw new MegapipeError('ERR_MEGAPIPE_ARGUMENT', `listen group: descriptor ${fd} is not a member`);
    if (this.#members.every((m) => m.retired || m.fd === fd))
      throw new MegapipeError(
        'ERR_MEGAPIPE_STATE',
        'listen group: the last socket that takes connections cannot be retired',
      );
    member.retired = true;
    this.#steer();
  }

  /** The socket was closed. */
  left(fd: number): void {
    const at = this.#members.findIndex((m) => m.fd === fd);
    if (at < 0) return;
    const last = this.#members.pop()!;
    if (last.fd !== fd) this.#members[at] = last;
    /* Until this line, numbers of the old order pick some other member: a detour, not a loss. */
    if (this.#steered && this.#members.some((m) => !m.retired)) this.#steer();
  }

  #steer(): void {
    const targets = this.#members.flatMap((m, i) => (m.retired ? [] : [i]));
    const cpus = targets.flatMap((i) => this.#members[i]!.cpu ?? []);
    ok(native.reuseportSteer(this.#members[0]!.fd, cpus, targets), 'setsockopt', 'SO_ATTACH_REUSEPORT_CBPF', -1);
    this.#steered = true;
  }
}

/** `count` listening sockets on one address, each with its own accept queue. For a group that changes: {@link ListenGroup}. */
export function listenGroup(options: ListenGroupOptions): number[] {
  const { count, cpus, ...rest } = options;
  if (!Number.isInteger(count) || count < 1 || count > STEER_MAX)
    throw new MegapipeError('ERR_MEGAPIPE_ARGUMENT', `listenGroup: count must be 1 to ${STEER_MAX}, got ${count}`);
  if (cpus && cpus.length !== count)
    throw new MegapipeError(
      'ERR_MEGAPIPE_ARGUMENT',
      `listenGroup: cpus must name one CPU for each of the ${count} sockets, got ${cpus.length}`,
    );
  /* Alone, a plain socket: with SO_REUSEPORT a second server could take half of the connections unnoticed. */
  if (count === 1) return [listenTcp(rest)];
  const group = new ListenGroup(rest);
  const fds: number[] = [];
  try {
    for (let i = 0; i < count; i++) fds.push(group.add(cpus?.[i]));
  } catch (error) {
    for (const fd of fds) native.close(fd);
    throw error;
  }
  return fds;
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
