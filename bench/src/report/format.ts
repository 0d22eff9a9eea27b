/** Numbers as people read them: three digits that mean something, and always the spread beside the median. */
import type { Target } from '../experiment.ts';
import { METRICS, worded } from '../metrics.ts';
import type { Environment, ExperimentResult } from '../results.ts';
import type { Spread } from '../statistics.ts';

export function number(value: number): string {
  if (value >= 100) return Math.round(value).toLocaleString('en-US');
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function spread(value: Spread | null, scale = 1): string {
  if (value === null) return '–';
  const median = number(value.median * scale);
  return value.count < 2 ? median : `${median} (${number(value.min * scale)}–${number(value.max * scale)})`;
}

export function ratio(value: Spread | null): string {
  if (value === null) return '–';
  const median = value.median.toFixed(2);
  return value.count < 2 ? median : `${median} (${value.min.toFixed(2)}–${value.max.toFixed(2)})`;
}

/** Rounded down, so that 95 % is never shown for less. */
export function percent(value: Spread | null): string {
  return value === null ? '–' : `${Math.floor(value.median * 100 + 1e-9)} %`;
}

export function limit(target: Target): string {
  return target.atMost !== undefined ? `≤ ${target.atMost}` : `≥ ${target.atLeast}`;
}

export function figure(result: ExperimentResult, target: Target): string {
  const label = (id: string): string => result.servers.find((server) => server.id === id)?.label ?? id;
  const workload = result.workloads.find((one) => one.id === target.workload)?.label ?? target.workload;
  const { title, unit } = METRICS[target.metric];
  const absolute = target.against === undefined || target.difference === true;
  const metric = worded(absolute ? unit : title, result.transaction);
  const against =
    target.against === undefined ? '' : ` ${target.difference === true ? '−' : '/'} ${label(target.against)}`;
  return `${metric} at ${`${workload} ${result.axis}`.trim()}: ${label(target.subject)}${against}`;
}

export function environmentRows(environment: Environment): [string, string][] {
  const core = (cpu: number | null): string => (cpu === null ? 'not pinned' : `core ${cpu}`);
  return [
    ['Kernel', `Linux ${environment.kernel}, ${environment.distribution}`],
    ['CPU', `${environment.cpus} × ${environment.cpu}`],
    ['Memory', `${environment.memoryGiB} GiB`],
    ['Frequency governor', environment.governor],
    ['Load average at the start', String(environment.loadAverage)],
    ['Node.js', environment.node],
    ['Commit', environment.commit],
    ['Servers run on', core(environment.serverCpu)],
    ['Load generator runs on', `${core(environment.clientCpu)}, Channel backend ${environment.clientBackend}`],
    ...Object.entries(environment.peers),
  ];
}
