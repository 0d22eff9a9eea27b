/**
 * What can be read from a sample, by name: title, unit, and how to get it. Experiments choose from these for their tables,
 * plots and targets. Not its job: medians and ratios (results.ts).
 */
import type { Sample } from './results.ts';

export interface Metric {
  title: string;
  /** Of what `of` gives times `scale`; TRANSACTION stands for the experiment's word. */
  unit: string;
  scale: number;
  better: 'more' | 'less';
  /** null: this sample does not have it. */
  of: (sample: Sample) => number | null;
}

const MB = 1e-6;

export const METRICS = {
  throughput: {
    title: 'throughput',
    unit: 'thousand TRANSACTIONs/s',
    scale: 1e-3,
    better: 'more',
    of: (sample) => sample.throughput,
  },
  cpu: {
    title: 'CPU per TRANSACTION',
    unit: 'µs of server CPU / TRANSACTION',
    scale: 1,
    better: 'less',
    of: (sample) => sample.cpuUs,
  },
  p50: { title: 'p50 latency', unit: 'p50 µs', scale: 1, better: 'less', of: (sample) => sample.latencyUs.p50 },
  p99: { title: 'p99 latency', unit: 'p99 µs', scale: 1, better: 'less', of: (sample) => sample.latencyUs.p99 },
  p999: { title: 'p999 latency', unit: 'p999 µs', scale: 1, better: 'less', of: (sample) => sample.latencyUs.p999 },
  rssStart: {
    title: 'RSS at start',
    unit: 'RSS at start, MB',
    scale: MB,
    better: 'less',
    of: (sample) => sample.memory?.rssStartBytes ?? null,
  },
  rssItem: {
    title: 'RSS per item',
    unit: 'bytes of RSS / item',
    scale: 1,
    better: 'less',
    of: (sample) => sample.memory?.rssItemBytes ?? null,
  },
  rssOnce: {
    title: 'RSS that storing takes once',
    unit: 'RSS that storing takes once, MB',
    scale: MB,
    better: 'less',
    of: (sample) => sample.memory?.rssOnceBytes ?? null,
  },
  rssIdle: {
    title: 'RSS with the idle connections',
    unit: 'RSS with the idle connections, MB',
    scale: MB,
    better: 'less',
    of: (sample) => sample.memory?.rssIdleBytes ?? null,
  },
  pssIdle: {
    title: 'PSS with the idle connections',
    unit: 'PSS with the idle connections, MB',
    scale: MB,
    better: 'less',
    of: (sample) => sample.memory?.pssIdleBytes ?? null,
  },
  statsItem: {
    title: 'bytes per item by its stats',
    unit: 'bytes by stats / item',
    scale: 1,
    better: 'less',
    of: (sample) => sample.memory?.statsItemBytes ?? null,
  },
} as const satisfies Record<string, Metric>;

export type MetricName = keyof typeof METRICS;

/** What most experiments show. */
export const LOAD_METRICS: readonly MetricName[] = ['throughput', 'cpu'];

/** A metric's text with the experiment's word for a transaction. */
export const worded = (text: string, transaction: string): string => text.replaceAll('TRANSACTION', transaction);
