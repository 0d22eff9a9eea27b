/**
 * What a run leaves behind: the samples as they were taken (the JSON file), and the summary that tables and plots show.
 *
 * Invariant: the summary is a pure function of the samples; a sample with errors is kept, shown and never counted.
 */
import type { Role, Target } from './experiment.ts';
import type { LatencyUs } from './loadgen/latency.ts';
import { ratioOf, type Spread, spreadOf } from './statistics.ts';

/** A server that used this share of its core was the limit; below, the client or the machine was. */
export const SATURATED_CORES = 0.95;

export interface Sample {
  server: string;
  workload: string;
  round: number;
  transactions: number;
  seconds: number;
  /** Transactions per second. */
  throughput: number;
  /** CPU time of the server's process tree per transaction. */
  cpuUs: number;
  /** CPU time per second of the window: 1 is a full core. */
  serverCores: number;
  clientCores: number;
  latencyUs: LatencyUs;
  errors: number;
  errorTexts: string[];
  /** CPU seconds that the servers which had nothing to do used meanwhile. */
  othersCpuSeconds: number;
}

export interface ServerRecord {
  id: string;
  label: string;
  role: Role;
  /** How it was started; empty when it was not. */
  command: string;
  /** measured; skipped: not installed here; failed: it did not start or did not live. */
  status: 'measured' | 'skipped' | 'failed';
  reason: string;
}

export interface ExperimentResult {
  name: string;
  title: string;
  claim: string;
  transaction: string;
  axis: string;
  peer: string;
  servers: ServerRecord[];
  workloads: { id: string; label: string; description: string }[];
  targets: Target[];
  samples: Sample[];
}

export interface Environment {
  kernel: string;
  cpu: string;
  cpus: number;
  memoryGiB: number;
  governor: string;
  node: string;
  commit: string;
  distribution: string;
  loadAverage: number;
  serverCpu: number | null;
  clientCpu: number | null;
  peers: Record<string, string>;
  clientBackend: string;
}

export interface Results {
  format: 1;
  mode: string;
  startedAt: string;
  finishedAt: string;
  rounds: number;
  windowSeconds: number;
  environment: Environment;
  experiments: ExperimentResult[];
}

export interface Cell {
  server: string;
  workload: string;
  throughput: Spread | null;
  cpuUs: Spread | null;
  serverCores: Spread | null;
  clientCores: Spread | null;
  p50Us: Spread | null;
  p99Us: Spread | null;
  saturated: boolean;
  errors: number;
  /** Against the experiment's peer; null for the peer itself and where one side is missing. */
  throughputRatio: Spread | null;
  cpuRatio: Spread | null;
}

export interface Verdict {
  target: Target;
  ratio: Spread | null;
  /** null: not measured. */
  met: boolean | null;
  note: string;
}

type Metric = (sample: Sample) => number;
const throughput: Metric = (sample) => sample.throughput;
const cpuUs: Metric = (sample) => sample.cpuUs;

const good = (result: ExperimentResult, server: string, workload: string): Sample[] =>
  result.samples.filter(
    (sample) =>
      sample.server === server && sample.workload === workload && sample.errors === 0 && sample.transactions > 0,
  );

const byRound = (samples: readonly Sample[], metric: Metric): Map<number, number> =>
  new Map(samples.map((sample) => [sample.round, metric(sample)]));

export function cellOf(result: ExperimentResult, server: string, workload: string): Cell {
  const samples = good(result, server, workload);
  const peers = server === result.peer ? [] : good(result, result.peer, workload);
  const spread = (metric: Metric): Spread | null => spreadOf(samples.map(metric));
  const serverCores = spread((sample) => sample.serverCores);
  return {
    server,
    workload,
    throughput: spread(throughput),
    cpuUs: spread(cpuUs),
    serverCores,
    clientCores: spread((sample) => sample.clientCores),
    p50Us: spread((sample) => sample.latencyUs.p50),
    p99Us: spread((sample) => sample.latencyUs.p99),
    saturated: serverCores !== null && serverCores.median >= SATURATED_CORES,
    errors: result.samples
      .filter((sample) => sample.server === server && sample.workload === workload)
      .reduce((sum, sample) => sum + sample.errors, 0),
    throughputRatio: ratioOf(byRound(samples, throughput), byRound(peers, throughput)),
    cpuRatio: ratioOf(byRound(samples, cpuUs), byRound(peers, cpuUs)),
  };
}

/** Every measured cell, workload by workload, servers in their order. */
export function cellsOf(result: ExperimentResult): Cell[] {
  return result.workloads.flatMap((workload) =>
    result.servers
      .filter((server) => result.samples.some((sample) => sample.server === server.id))
      .map((server) => cellOf(result, server.id, workload.id)),
  );
}

export function verdictOf(result: ExperimentResult, target: Target): Verdict {
  const metric = target.metric === 'cpu' ? cpuUs : throughput;
  const subject = good(result, target.subject, target.workload);
  const against = good(result, target.against, target.workload);
  const ratio = ratioOf(byRound(subject, metric), byRound(against, metric));
  if (ratio === null) {
    const missing = result.servers.find(
      (server) => server.status !== 'measured' && (server.id === target.subject || server.id === target.against),
    );
    return {
      target,
      ratio,
      met: null,
      note: missing === undefined ? 'no valid sample' : `${missing.label} ${missing.status}`,
    };
  }
  const met =
    (target.atMost === undefined || ratio.median <= target.atMost) &&
    (target.atLeast === undefined || ratio.median >= target.atLeast);
  const { saturated, serverCores } = cellOf(result, target.subject, target.workload);
  const spare = target.metric === 'throughput' && !saturated && serverCores !== null;
  const note = spare ? `it used ${Math.floor(serverCores.median * 100)} % of its core: not the limit` : '';
  return { target, ratio, met, note };
}

/** Everything that makes a run unfit to be quoted, in words; empty when nothing does. */
export function complaints(results: Results): string[] {
  const list: string[] = [];
  for (const experiment of results.experiments) {
    for (const server of experiment.servers) {
      if (server.status === 'failed') list.push(`${experiment.name}: ${server.label} failed: ${server.reason}`);
    }
    for (const sample of experiment.samples) {
      const where = `${experiment.name}, ${sample.server}, ${sample.workload}, round ${sample.round + 1}`;
      if (sample.errors > 0) list.push(`${where}: ${sample.errors} errors: ${sample.errorTexts[0] ?? ''}`);
      if (sample.othersCpuSeconds > 0.02 * sample.seconds + 0.02) {
        list.push(`${where}: idle servers used ${sample.othersCpuSeconds.toFixed(2)} s of CPU meanwhile`);
      }
    }
  }
  return list;
}
