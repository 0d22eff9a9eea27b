/**
 * Listening sockets of the master, by address.
 *
 * What it is for: makes what a configuration asks for, keeps what is there over reloads, takes over those of an older
 * binary. Invariants: a socket is made once for its address and closed only when no configuration wants it; what one call
 * of `open` made is closed again when it fails. Not its job: accepting.
 */

import { rmSync } from 'node:fs';
import { resolve } from 'node:path';
import { closeDescriptor, listenGroup, listenTcp, listenUnix, localAddress, tuneListener } from '@megapipe/core';
import { ConfError, type LogLevelName } from './conf/errors.ts';
import type { Listen, Model } from './conf/model.ts';
import { INHERITED_ENV } from './inherited.ts';
import { EADDRINUSE, errnoOf, strerror } from './log/errno.ts';
import type { IoMode } from './messages.ts';

const BIND_TRIES = 5;
const BIND_PAUSE_MS = 500;
/** Those that do not belong to TCP. */
const BUFFER_OPTIONS = new Set(['receiveBufferBytes', 'sendBufferBytes', 'keepAlive']);

/** Sockets of one address. */
export interface Bound {
  fds: number[];
  host: string;
  port: number;
  /** File of a Unix socket, to be removed in the end. */
  path: string | null;
}

export class Listeners {
  private readonly io: IoMode;
  private readonly report: (level: LogLevelName, message: string) => void;
  private readonly bound = new Map<string, Bound>();
  /** Another master serves on the same Unix sockets: their files stay. */
  keepFiles = false;

  constructor(io: IoMode, report: (level: LogLevelName, message: string) => void) {
    this.io = io;
    this.report = report;
  }

  /** The sockets of an address: none where those of the wildcard of its port serve it. */
  get(listen: Listen): Bound {
    return this.bound.get(listen.text) ?? { fds: [], host: listen.host, port: listen.port, path: null };
  }

  /** Every socket, as an older binary hands them to a newer one: the descriptors, and the text that names them from `first` on. */
  handOver(first: number): { fds: number[]; text: string } {
    const fds: number[] = [];
    const parts: string[] = [];
    for (const [text, bound] of this.bound) {
      parts.push(`${text}=${bound.fds.map((_, i) => first + fds.length + i).join('+')}`);
      fds.push(...bound.fds);
    }
    return { fds, text: parts.join(';') };
  }

  /** The other end of handOver. */
  adopt(text: string): void {
    for (const part of text.split(';')) {
      const equals = part.lastIndexOf('=');
      const address = part.slice(0, equals);
      const fds = part
        .slice(equals + 1)
        .split('+')
        .map(Number);
      if (equals <= 0 || fds.some((fd) => !Number.isInteger(fd) || fd < 3)) {
        this.report('emerg', `invalid socket "${part}" in ${INHERITED_ENV} environment variable, ignoring it`);
        continue;
      }
      this.bound.set(address, boundOf(address, fds));
    }
  }

  /** Makes what is not there yet. Returns the addresses made; throws ConfError after everything made was closed again. */
  async open(model: Model): Promise<string[]> {
    const made: string[] = [];
    for (let tries = BIND_TRIES; ; ) {
      let failed = false;
      for (const listen of socketsOf(model)) {
        if (this.bound.has(listen.text)) continue;
        try {
          this.bound.set(listen.text, this.bind(listen, model));
          made.push(listen.text);
        } catch (error) {
          const errno = errnoOf(error);
          const call = (error as { syscall?: string }).syscall ?? 'bind';
          const message = `${call}() to ${listen.text} failed (${strerror(errno)})`;
          // What does not pass by itself ends the start, or the reload, which says so.
          if (errno !== EADDRINUSE) {
            this.close(made);
            throw new ConfError(message);
          }
          this.report('emerg', message);
          failed = true;
        }
      }
      if (!failed) {
        for (const listen of socketsOf(model)) this.tune(listen);
        return made;
      }
      this.report('notice', `try again to bind() after ${BIND_PAUSE_MS}ms`);
      if (--tries === 0) break;
      await new Promise((resolve) => setTimeout(resolve, BIND_PAUSE_MS));
    }
    this.close(made);
    throw new ConfError('still could not bind()');
  }

  /** Options of sockets, also of those that were there: a reload may change them. What the kernel refuses is said and left. */
  private tune(listen: Listen): void {
    for (const [key, value] of Object.entries(listen.tuning)) {
      if (listen.family === 'Unix' && !BUFFER_OPTIONS.has(key)) continue;
      for (const fd of this.get(listen).fds) {
        try {
          tuneListener(fd, { [key]: value });
        } catch (error) {
          this.report(
            'alert',
            `setsockopt(${key}, ${value}) ${listen.text} failed, ignored (${strerror(errnoOf(error))})`,
          );
        }
      }
    }
  }

  private bind(listen: Listen, model: Model): Bound {
    if (listen.family === 'Unix') {
      return boundOf(listen.text, [listenUnix({ path: resolve(listen.host), backlog: listen.backlog, mode: 0o666 })]);
    }
    const { host, port, backlog, ipv6Only } = listen;
    // Both bound, an address and the wildcard of its port can only listen with SO_REUSEPORT, which both must have asked for.
    const overlaps =
      listen.reusePort && socketsOf(model).some((other) => other !== listen && other.port === port && other.reusePort);
    const common = { host, port, backlog, ipv6Only };
    const partitioned = this.io === 'megapipe' && model.workerProcesses > 1;
    let fds: number[];
    if (overlaps) {
      const count = partitioned ? model.workerProcesses : 1;
      fds = [];
      try {
        for (let i = 0; i < count; i++) fds.push(listenTcp({ ...common, reusePort: true }));
      } catch (error) {
        for (const fd of fds) closeDescriptor(fd);
        throw error;
      }
    } else if (partitioned) {
      const cpus = steeringOf(model);
      fds = listenGroup({ ...common, count: model.workerProcesses, ...(cpus === null ? {} : { cpus }) });
    } else fds = [listenTcp(common)];
    return boundOf(listen.text, fds);
  }

  /** Closes the sockets of these addresses. */
  close(addresses: readonly string[]): void {
    for (const text of addresses) {
      const bound = this.bound.get(text);
      this.bound.delete(text);
      if (bound === undefined) continue;
      for (const fd of bound.fds) closeDescriptor(fd);
      if (bound.path !== null && !this.keepFiles) rmSync(bound.path, { force: true });
    }
  }

  /** Closes what the configuration does not listen on. */
  closeOthers(model: Model): void {
    const wanted = new Set(socketsOf(model).map((listen) => listen.text));
    this.close([...this.bound.keys()].filter((text) => !wanted.has(text)));
  }

  closeAll(): void {
    this.close([...this.bound.keys()]);
  }
}

/** Those with sockets of their own. */
function socketsOf(model: Model): Listen[] {
  return model.http?.listens.filter((listen) => listen.within < 0) ?? [];
}

function boundOf(text: string, fds: number[]): Bound {
  if (text.startsWith('unix:')) return { fds, host: text, port: 0, path: resolve(text.slice(5)) };
  const at = localAddress(fds[0] as number);
  return { fds, host: at.host, port: at.port, path: null };
}

/** CPUs of a worker; the last mask holds for all further ones. */
export function cpusOf(affinity: readonly number[][], index: number): number[] {
  return affinity[Math.min(index, affinity.length - 1)] ?? [];
}

/** Where each worker has one CPU to itself, connections go to the worker of the CPU that received them. */
function steeringOf(model: Model): number[] | null {
  const cpus = Array.from({ length: model.workerProcesses }, (_, index) => cpusOf(model.workerAffinity, index));
  if (cpus.some((each) => each.length !== 1)) return null;
  const flat = cpus.map((each) => each[0] as number);
  return new Set(flat).size === flat.length ? flat : null;
}
