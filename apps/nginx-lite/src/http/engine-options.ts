/**
 * What an engine is given, and what it needs of a channel.
 */

import type { Channel, Handle } from '@megapipe/core';
import type { ErrorLog, Http, Zone as ZoneDecl } from '../conf/model.ts';
import type { ErrorLogWriter } from '../log/error-log.ts';
import type { AccessLogs } from '../modules/log/writer.ts';
import type { Zone } from '../shared/zone.ts';
import type { FileCacheOptions } from './file-cache.ts';
import type { HeaderFilter } from './output.ts';
import type { PhaseTable } from './phases.ts';
import type { Evaluator } from './template.ts';

export interface EngineOptions {
  http: Http;
  phases: PhaseTable;
  headerFilters: HeaderFilter[];
  partFilters: HeaderFilter[];
  /** For relative paths that variables produce. */
  prefix: string;
  /** Folder of the configuration file. */
  confPrefix: string;
  errorLog: ErrorLogWriter;
  /** Where the worker itself reports. */
  mainErrorLogs: readonly ErrorLog[];
  accessLogs: AccessLogs;
  workerConnections: number;
  /** Memory of status-rows.ts, and this worker's row of it. */
  status: ArrayBufferLike;
  statusRow: number;
  /** Memory of Http.zones, by index. */
  zones: readonly ArrayBufferLike[];
  /** Address of a connection's peer. */
  peerOf(handle: Handle): { host: string; port: number };
  /** Address that a connection's peer reached; only for descriptors. */
  localOf(handle: Handle): string;
  /** Address a listener is bound to, by index. */
  boundTo: readonly { host: string; port: number }[];
  /** No connection will come any more: after `quit`. */
  onDeaf(): void;
  /** Every connection is closed and none will come: after `quit`. */
  onIdle(): void;
  cache?: FileCacheOptions;
}

/** A zone at work. */
export interface RuntimeZone {
  decl: ZoneDecl;
  zone: Zone;
  key: Evaluator;
}

/** The part of a Channel that the engine uses; tests drive it with one of their own. */
export type EngineChannel = Pick<
  Channel,
  | 'memory'
  | 'register'
  | 'discard'
  | 'accept'
  | 'acceptStop'
  | 'read'
  | 'readStop'
  | 'reserve'
  | 'commit'
  | 'writeCopy'
  | 'write'
  | 'readFile'
  | 'registerRegion'
  | 'outputBytes'
  | 'disconnect'
  | 'close'
  | 'abort'
  | 'reset'
  | 'setDeadline'
>;
