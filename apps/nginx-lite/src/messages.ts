/**
 * What master, generation (child process) and workers (its threads) say to each other; plain data.
 *
 * Invariant: descriptors in a message are numbers of the process that receives it.
 */

import type { ErrorLog, Http } from './conf/model.ts';
import type { User } from './conf/user.ts';
import type { Limits } from './limits.ts';

export type IoMode = 'megapipe' | 'epoll';
/** What io megapipe stands on. */
export type MegapipeBackend = 'auto' | 'uring' | 'device';

/** Memory made by the master, as the receiver's descriptor. */
export interface SharedFile {
  fd: number;
  bytes: number;
}

/** What every worker of a generation gets. */
export interface Common {
  io: IoMode;
  backend: MegapipeBackend;
  http: Http;
  prefix: string;
  confPrefix: string;
  errorLogs: ErrorLog[];
  /** Descriptors of the log files, by Model.files index. */
  logFds: number[];
  /** Where each listener is bound, by index. */
  boundTo: { host: string; port: number }[];
  workerConnections: number;
  /** Counters of the server: http/status-rows.ts. */
  status: SharedFile;
  /** Memory of Http.zones, by index. */
  zones: SharedFile[];
}

/** The first message to a child process. */
export interface GenerationStart extends Common {
  type: 'start';
  /** Log files by Model.files index, to open them anew. */
  files: string[];
  /** Listening sockets by listener. */
  sockets: number[][];
  workerProcesses: number;
  workerAffinity: number[][];
  limits: Limits;
  /** It runs in the background: WINCH is no window that changes its size. */
  daemonized: boolean;
  workingDirectory: string | null;
  /** Who the workers are to be; null: whoever started the server. */
  user: User | null;
  /** Row of each worker in the status table. */
  rows: number[];
}

export interface WorkerStart extends Common {
  index: number;
  row: number;
  cpus: number[];
  /** Listening sockets this worker accepts from. */
  sockets: { fd: number; listen: number }[];
}

export type ToGeneration =
  | GenerationStart
  /** Finish what is being answered, then end. */
  | { type: 'quit'; abortAfterMs: number }
  /** End now. */
  | { type: 'stop' }
  /** Open the log files anew. */
  | { type: 'reopen' };

export type FromGeneration =
  /** Every worker accepts. */
  | { type: 'ready'; backend: string; reason: string }
  /** A worker could not be replaced: a new generation is needed. */
  | { type: 'worn'; reason: string };

export type ToWorker =
  /** Accept from now on. */
  { type: 'go' } | { type: 'quit'; abortAfterMs: number } | { type: 'stop' } | { type: 'reopen'; logFds: number[] };

export type FromWorker =
  /** Everything is loaded and mapped: privileges may be dropped. */
  | { type: 'loaded' }
  | { type: 'ready'; backend: string; reason: string }
  /** The logs in use are the new ones: the old descriptors may be closed. */
  | { type: 'reopened' }
  /** Nothing is accepted any more: the listening sockets may be closed. */
  | { type: 'deaf' }
  /** Every connection is closed; logs are flushed. */
  | { type: 'done' };
