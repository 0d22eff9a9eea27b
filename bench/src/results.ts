/**
 * What a run leaves behind: the samples as they were taken (the JSON file), and the summary that tables and plots show.
 *
 * Invariant: the summary is a pure function of the samples; a sample with errors is kept, shown and never counted.
 */
import type { Role, Target } from './experiment.ts';
import type { Instructions } from './instructions.ts';
import type { LatencyUs } from './loadgen/latency.ts';
import { METRICS, type MetricName } from './metrics.ts';
import { differenceOf, ratioOf, type Spread, spreadOf } from './statistics.ts';

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
  /** Only of experiments of the kinds `memory` and `idle`. */
  memory?: MemoryUse;
}

export interface MemoryUse {
  /** Resident memory of the process tree when it listens and has served nothing. */
  rssStartBytes: number;
  /** What resident memory grew by for each item of the second half of those stored. */
  rssItemBytes?: number;
  /** What storing took of resident memory beyond that for each item, once. */
  rssOnceBytes?: number;
  /** `bytes` ÷ `curr_items` of the server's own stats. */
  statsItemBytes?: number;
  /** Resident memory with the idle connections. */
  rssIdleBytes?: number;
  /** The same, but each page that processes share counts once. */
  pssIdleBytes?: number | undefined;
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
  /** What tables and plots show; absent: throughput and CPU. */
  metrics?: readonly MetricName[];
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
  /** The kernel module's figure, or why there is none; absent where it was not asked for. */
  instructions?: Instructions | string;
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
  /** The ratio, or the figure itself where the target names nobody to divide by. */
  ratio: Spread | null;
  /** null: not measured. */
  met: boolean | null;
  note: string;
}

const good = (result: ExperimentResult, server: string, workload: string): Sample[] =>
  result.samples.filter(
    (sample) =>
      sample.server === server && sample.workload === workload && sample.errors === 0 && sample.transactions > 0,
  );

/** A metric's value in each round that has it. */
function byRound(result: ExperimentResult, server: string, workload: string, metric: MetricName): Map<number, number> {
  const values = new Map<number, number>();
  for (const sample of good(result, server, workload)) {
    const value = METRICS[metric].of(sample);
    if (value !== null) values.set(sample.round, value);
  }
  return values;
}

export function spreadAt(result: ExperimentResult, server: string, workload: string, metric: MetricName) {
  return spreadOf([...byRound(result, server, workload, metric).values()]);
}

/** Against another server, round by round; null where one side is missing. */
export function ratioAt(
  result: ExperimentResult,
  server: string,
  against: string,
  workload: string,
  metric: MetricName,
): Spread | null {
  return ratioOf(byRound(result, server, workload, metric), byRound(result, against, workload, metric));
}

export function cellOf(result: ExperimentResult, server: string, workload: string): Cell {
  const samples = good(result, server, workload);
  const spread = (metric: (sample: Sample) => number): Spread | null => spreadOf(samples.map(metric));
  const ratio = (metric: MetricName): Spread | null =>
    server === result.peer ? null : ratioAt(result, server, result.peer, workload, metric);
  const serverCores = spread((sample) => sample.serverCores);
  return {
    server,
    workload,
    throughput: spreadAt(result, server, workload, 'throughput'),
    cpuUs: spreadAt(result, server, workload, 'cpu'),
    serverCores,
    clientCores: spread((sample) => sample.clientCores),
    p50Us: spreadAt(result, server, workload, 'p50'),
    p99Us: spreadAt(result, server, workload, 'p99'),
    saturated: serverCores !== null && serverCores.median >= SATURATED_CORES,
    errors: result.samples
      .filter((sample) => sample.server === server && sample.workload === workload)
      .reduce((sum, sample) => sum + sample.errors, 0),
    throughputRatio: ratio('throughput'),
    cpuRatio: ratio('cpu'),
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

function scaled(value: Spread | null, scale: number): Spread | null {
  if (value === null) return null;
  const { count, ...rest } = value;
  const entries = Object.entries(rest).map(([name, one]) => [name, one * scale]);
  return { ...(Object.fromEntries(entries) as typeof rest), count };
}

export function verdictOf(result: ExperimentResult, target: Target): Verdict {
  const { subject, against, workload, metric } = target;
  const ratio =
    against === undefined
      ? scaled(spreadAt(result, subject, workload, metric), METRICS[metric].scale)
      : target.difference === true
        ? scaled(
            differenceOf(byRound(result, subject, workload, metric), byRound(result, against, workload, metric)),
            METRICS[metric].scale,
          )
        : ratioAt(result, subject, against, workload, metric);
  if (ratio === null) {
    const missing = result.servers.find(
      (server) => server.status !== 'measured' && (server.id === subject || server.id === against),
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
  const { saturated, serverCores } = cellOf(result, subject, workload);
  const spare = metric === 'throughput' && !saturated && serverCores !== null;
  const note = spare ? `it used ${Math.floor(serverCores.median * 100)} % of its core: not the limit` : '';
  return { target, ratio, met, note };
}

/** What went wrong, in words: servers that failed, responses that were not right. Empty when nothing did. */
export function failures(results: Results): string[] {
  const list: string[] = [];
  for (const experiment of results.experiments) {
    for (const server of experiment.servers) {
      if (server.status === 'failed') list.push(`${experiment.name}: ${server.label} failed: ${server.reason}`);
    }
    for (const sample of experiment.samples) {
      if (sample.errors > 0)
        list.push(`${sampleName(experiment, sample)}: ${sample.errors} errors: ${sample.errorTexts[0] ?? ''}`);
    }
  }
  return list;
}

/** Everything that makes a run unfit to be quoted, in words: its failures, and what a busy machine did to its samples. */
export function complaints(results: Results): string[] {
  const list = failures(results);
  for (const experiment of results.experiments) {
    for (const sample of experiment.samples) {
      if (sample.othersCpuSeconds > 0.02 * sample.seconds + 0.02) {
        const used = sample.othersCpuSeconds.toFixed(2);
        list.push(`${sampleName(experiment, sample)}: idle servers used ${used} s of CPU meanwhile`);
      }
    }
  }
  return list;
}

function sampleName(experiment: ExperimentResult, sample: Sample): string {
  return `${experiment.name}, ${sample.server}, ${sample.workload}, round ${sample.round + 1}`;
}
