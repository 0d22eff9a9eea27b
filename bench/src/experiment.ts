/**
 * What an experiment is: a claim, servers, workloads, and the figures it has to reach. Plain data, one folder each under
 * experiments/; the runner and the report know nothing of any particular one.
 */

import type { Shape } from './loadgen/memcached.ts';
import type { MetricName } from './metrics.ts';
import type { TraceName } from './traces.ts';

/** megapipe: what the claim is about. baseline: the same program without it. reference: C. peer: what people use today. */
export type Role = 'megapipe' | 'baseline' | 'reference' | 'peer';

/** A server cannot take part here (a program is not installed): it is skipped with this reason. */
export class Missing extends Error {}

export interface Launch {
  command: readonly string[];
  /** Port it was told to use; 0: it prints `listening on ADDRESS:PORT` first. */
  port: number;
}

export interface ServerContext {
  /** An empty folder of this server's own, readable by all, removed after the run. */
  folder: string;
  freePort(): Promise<number>;
}

export interface Server {
  id: string;
  label: string;
  role: Role;
  /** Answers how to start it on 0.0.0.0, or throws {@link Missing}. */
  launch(context: ServerContext): Promise<Launch>;
}

export interface Load {
  protocol: 'echo' | 'memcached' | 'http';
  connections: number;
  /** Infinity: connections stay open. */
  perConnection: number;
  size: number;
  rate?: number;
  keys?: number;
  zipf?: number;
  setShare?: number;
  shape?: Shape;
  batch?: number;
  path?: string;
  /** Files and lengths of connections as in this traffic; `size` and `perConnection` are means. */
  trace?: TraceName;
}

export interface Workload {
  id: string;
  label: string;
  load: Load;
  /** Transactions that one answered request counts as: 100 for a multiget of 100 keys that is told per key. Default 1. */
  transactionsPerRequest?: number;
  /** Open loop at this share of what the experiment's peer serves in closed loop, measured before the rounds. */
  rateOfPeer?: number;
}

/**
 * `subject`'s metric divided by `against`'s, median of the rounds, must be at most (or at least) so much. Without `against`
 * it is the metric itself, in its own unit.
 */
export interface Target {
  subject: string;
  against?: string;
  metric: MetricName;
  workload: string;
  atMost?: number;
  atLeast?: number;
  /** Not divided: `subject`'s metric less `against`'s, in the metric's unit. */
  difference?: boolean;
}

export interface Experiment {
  name: string;
  title: string;
  /** One sentence that the figures can refute. */
  claim: string;
  /** What one transaction is. */
  transaction: string;
  /** What the workloads vary; title of the plots' axis. */
  axis: string;
  servers: readonly Server[];
  workloads: readonly Workload[];
  /** The server that the tables' ratio columns divide by. */
  peer: string;
  targets: readonly Target[];
  /** Left out unless it is asked for by name: too long for the quick evaluation. */
  byNameOnly?: boolean;
  /** What tables and plots show. Default: throughput and CPU per transaction. */
  metrics?: readonly MetricName[];
  /**
   * load (default): throughput, CPU and latency under load. memory: what a fresh server and each stored item take. idle: what a
   * server takes when the workload's connections have each been served once and say nothing more.
   */
  kind?: 'load' | 'memory' | 'idle';
  /** What warms a fresh server up. middle (default): the middle workload, which takes every path. each: every workload, as they ask for different things. */
  warmUp?: 'middle' | 'each';
  /** apart (default): servers on one core, the load generator on another. shared: both on both. */
  cores?: 'apart' | 'shared';
}

/** The three lengths of connection that the paper's figures are about. */
export function lengths(load: Omit<Load, 'perConnection'>): Workload[] {
  return [
    { id: '1', label: '1', load: { ...load, perConnection: 1 } },
    { id: '8', label: '8', load: { ...load, perConnection: 8 } },
    { id: 'inf', label: '∞', load: { ...load, perConnection: Infinity } },
  ];
}

/** Command-line arguments of the load generator for one workload. */
export function loadArguments(load: Load): string[] {
  const args = [
    '--protocol',
    load.protocol,
    '--connections',
    String(load.connections),
    '--per-connection',
    Number.isFinite(load.perConnection) ? String(load.perConnection) : 'inf',
    '--size',
    String(load.size),
    // One address has 28,000 ports: too few for a second of connections that serve one transaction each.
    '--addresses',
    '16',
  ];
  if (load.rate !== undefined) args.push('--rate', String(load.rate));
  if (load.keys !== undefined) args.push('--keys', String(load.keys));
  if (load.zipf !== undefined) args.push('--zipf', String(load.zipf));
  if (load.setShare !== undefined) args.push('--set-share', String(load.setShare));
  if (load.shape !== undefined) args.push('--shape', load.shape);
  if (load.batch !== undefined) args.push('--batch', String(load.batch));
  if (load.path !== undefined) args.push('--path', load.path);
  if (load.trace !== undefined) args.push('--trace', load.trace);
  return args;
}
