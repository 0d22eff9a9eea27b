/**
 * Settings: what the command line asked for. Plain data, because it crosses to the worker threads.
 *
 * Not its job: reading words (options.ts), acting on them (main.ts, worker.ts, the engine).
 */
import { type CacheConfig, DEFAULT_CACHE_CONFIG } from './engine/layout.ts';
import type { LockMode } from './engine/locks.ts';

export type IoMode = 'megapipe' | 'epoll';
export type MegapipeBackend = 'auto' | 'uring' | 'device';
export type Protocol = 'auto' | 'ascii' | 'binary';
export type HashAlgorithm = 'jenkins' | 'murmur3' | 'xxh3';

export interface Settings {
  cache: CacheConfig;
  /** -p: 0 no TCP, -1 any free port. */
  port: number;
  /** -U: 0 no UDP, -1 any free port. */
  udpPort: number;
  /** -l: addresses, each with its own port when it names one. Empty: all interfaces. */
  listen: string[];
  /** -s */
  socketPath: string | undefined;
  /** -a: permission bits of the socket file. */
  socketMode: number;
  threads: number;
  maxConns: number;
  /** maxconns_fast: above maxConns a client is told so; without it, it waits in the listen queue. */
  maxConnsFast: boolean;
  backlog: number;
  verbosity: number;
  /** -o hashpower, 0 where it was not given: `stats settings` tells. */
  hashPowerGiven: number;
  /** -R */
  requestsPerEvent: number;
  /** -B */
  protocol: Protocol;
  /** -F, -X, -W take them away. */
  flushEnabled: boolean;
  dumpEnabled: boolean;
  watchEnabled: boolean;
  /** -A */
  shutdownCommand: boolean;
  /** -D: one byte. */
  prefixDelimiter: string;
  detailEnabled: boolean;
  /** -d, -r, -k, -L */
  daemon: boolean;
  coreDumps: boolean;
  lockMemory: boolean;
  largePages: boolean;
  /** -u */
  user: string | undefined;
  /** -P */
  pidFile: string | undefined;
  /** `logfile` of a configuration file: where a daemon's output goes. */
  logFile: string | undefined;
  /** Seconds, 0 never. */
  idleTimeoutSeconds: number;
  /** Bytes. */
  watcherLogbufBytes: number;
  workerLogbufBytes: number;
  /** Bytes over all threads, 0 no limit. */
  readBufMemLimitBytes: number;
  respObjMemLimitBytes: number;
  /** -S: name → password, of MEMCACHED_SASL_PWDB. Undefined: everybody may do everything. */
  users: Record<string, string> | undefined;
  /** -Y: name:password lines for the text protocol. */
  authFile: string | undefined;
  /** -e */
  memoryFile: string | undefined;
  /** Asked for, and reported; the hash table always uses its own. */
  hashAlgorithm: HashAlgorithm;
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
  udpPort: 0,
  listen: [],
  socketPath: undefined,
  socketMode: 0o700,
  threads: 4,
  maxConns: 1024,
  maxConnsFast: true,
  backlog: 1024,
  verbosity: 0,
  hashPowerGiven: 0,
  requestsPerEvent: 20,
  protocol: 'auto',
  flushEnabled: true,
  dumpEnabled: true,
  watchEnabled: true,
  shutdownCommand: false,
  prefixDelimiter: ':',
  detailEnabled: false,
  daemon: false,
  coreDumps: false,
  lockMemory: false,
  largePages: false,
  user: undefined,
  pidFile: undefined,
  logFile: undefined,
  idleTimeoutSeconds: 0,
  watcherLogbufBytes: 256 * 1024,
  workerLogbufBytes: 64 * 1024,
  readBufMemLimitBytes: 0,
  respObjMemLimitBytes: 0,
  users: undefined,
  authFile: undefined,
  memoryFile: undefined,
  hashAlgorithm: 'murmur3',
  io: 'megapipe',
  backend: 'auto',
  lock: 'striped',
  cpus: [],
};
