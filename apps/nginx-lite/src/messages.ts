/** What master and workers say to each other; plain data for postMessage. */

import type { ErrorLog, Http } from './conf/model.ts';

export type IoMode = 'megapipe' | 'epoll';

export interface WorkerStart {
  index: number;
  io: IoMode;
  http: Http;
  prefix: string;
  errorLogs: ErrorLog[];
  /** Descriptors of the log files, by Model.files index. */
  logFds: number[];
  /** Listening sockets this worker accepts from. */
  sockets: { fd: number; listen: number }[];
  /** Where each listener is bound, by index. */
  boundTo: { host: string; port: number }[];
  workerConnections: number;
  cpus: number[];
  counters: Int32Array;
}

export type ToWorker =
  /** Finish what is being answered, then end. */
  | { type: 'quit'; abortAfterMs: number }
  /** End now. */
  | { type: 'stop' }
  /** Log files were opened anew. */
  | { type: 'reopen'; logFds: number[] };

export type FromWorker =
  | { type: 'ready'; backend: string; reason: string }
  /** The logs in use are the new ones: the old descriptors may be closed. */
  | { type: 'reopened' }
  /** Every connection is closed; logs are flushed. */
  | { type: 'done' };
