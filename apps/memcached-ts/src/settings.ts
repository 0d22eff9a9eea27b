/**
 * Settings: what the command line asked for. Plain data, because it crosses to the worker threads.
 */
import { type CacheConfig, DEFAULT_CACHE_CONFIG } from './engine/layout.ts';
import type { LockMode } from './engine/locks.ts';

export type IoMode = 'megapipe' | 'epoll';
export type MegapipeBackend = 'auto' | 'uring' | 'device';

export interface Settings {
  cache: CacheConfig;
  /** -p: 0 no TCP, -1 any free port. */
  port: number;
  /** -l: addresses, each with its own port when it names one. Empty: all interfaces. */
  listen: string[];
  /** -s */
  socketPath: string | undefined;
  /** -a: permission bits of the socket file. */
  socketMode: number;
  threads: number;
  maxConns: number;
  backlog: number;
  verbosity: number;
  /** -R, as memcached reports it. */
  requestsPerEvent: number;
  flushEnabled: boolean;
  /** -u */
  user: string | undefined;
  /** -P */
  pidFile: string | undefined;
  /** Seconds, 0 never. */
  idleTimeoutSeconds: number;
  /** -S: name → password, of MEMCACHED_SASL_PWDB. Undefined: everybody may do everything. */
  users: Record<string, string> | undefined;
  io: IoMode;
  /** Of io megapipe. */
  backend: MegapipeBackend;
  lock: Exclude<LockMode, 'none'>;
  /** One CPU for each worker, round robin; empty: not pinned. */
  cpus: number[];
}

export const DEFAULT_SETTINGS: Settings = {
  cache: DEFAULT_CACHE_CONFIG,
  port: 11211,
  listen: [],
  socketPath: undefined,
  socketMode: 0o700,
  threads: 4,
  maxConns: 1024,
  backlog: 1024,
  verbosity: 0,
  requestsPerEvent: 20,
  flushEnabled: true,
  user: undefined,
  pidFile: undefined,
  idleTimeoutSeconds: 0,
  users: undefined,
  io: 'megapipe',
  backend: 'auto',
  lock: 'striped',
  cpus: [],
};
