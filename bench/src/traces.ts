/**
 * Traffic as the paper's web server was tried with: files of many sizes, connections of many lengths. Deterministic: both programs get
 * the same files, and every run asks for them in the same order.
 *
 * The traces themselves are not public. What the paper tells of them is: range, mean, and for Yahoo's which share of the
 * bytes comes in large answers and which share of the connections is short. Here are distributions of the usual forms for such
 * traffic with just those figures (test/traces.test.ts). A distribution becomes a list of values: its equally likely parts, each
 * by its mean, so that a list has the distribution's mean to the end, though not its very largest values; one pass over a
 * list shows every part once. Not its job: requests (loadgen/http.ts), files on disk (experiments/nginx).
 */

import { shuffle } from 'simple-statistics';
import { Random } from './loadgen/random.ts';

export interface Trace {
  /** Bytes of each file; one is as popular as another. */
  readonly sizes: Int32Array;
  /** Requests of connections, one after another, and from the beginning again. */
  readonly lengths: Int32Array;
}

export const TRACES = ['specweb', 'yahoo'] as const;
export type TraceName = (typeof TRACES)[number];

/** Fewer than the 1,000 that the servers' caches of open files are told to hold. */
const FILES = 800;
const CONNECTIONS = 4096;
/** Points of a continuous distribution, at equal steps of the logarithm. */
const POINTS = 100_000;
const SEED = 0x7472_6163;

/** Where the file is, below the root. */
export const tracePath = (trace: TraceName, file: number): string => `/${trace}/${file}.html`;

/** `parts` equally likely parts of a discrete distribution, each by its mean. Weights need not sum to 1. */
export function equalParts(values: Float64Array, weights: Float64Array, parts: number): Float64Array {
  const share = weights.reduce((sum, weight) => sum + weight, 0) / parts;
  const means = new Float64Array(parts);
  let part = 0;
  let room = share;
  for (const [i, value] of values.entries()) {
    let weight = weights[i]!;
    while (weight > room && part < parts - 1) {
      means[part]! += (room / share) * value;
      weight -= room;
      part++;
      room = share;
    }
    means[part]! += (weight / share) * value;
    room -= weight;
  }
  return means;
}

/** Whole numbers, at least 1, whose sums from the beginning on are those of the values to within a half. */
function rounded(values: Float64Array): Int32Array {
  let owed = 0;
  return Int32Array.from(values, (value) => {
    owed += value;
    const whole = Math.max(1, Math.round(owed));
    owed -= whole;
    return whole;
  });
}

/** In an order that is the same in every run. */
function shuffled(values: Int32Array): Int32Array {
  const random = new Random(SEED);
  return Int32Array.from(shuffle(Array.from(values), () => random.next() / 2 ** 32));
}

/** Sizes between two bounds; `density`: how likely, by the logarithm of the size. */
function sizes(min: number, max: number, density: (logarithm: number) => number): Int32Array {
  const step = Math.log(max / min) / (POINTS - 1);
  const logarithms = Float64Array.from({ length: POINTS }, (_, i) => Math.log(min) + i * step);
  return shuffled(rounded(equalParts(logarithms.map(Math.exp), logarithms.map(density), FILES)));
}

/** Requests of a connection, 1 … max, by Zipf's law. */
function zipfLengths(max: number, exponent: number): Int32Array {
  const values = Float64Array.from({ length: max }, (_, i) => i + 1);
  const weights = values.map((value) => value ** -exponent);
  return shuffled(rounded(equalParts(values, weights, CONNECTIONS)));
}

/** Six requests on each connection; 30 to 5,670 bytes, 704 on average: a bounded Pareto distribution. */
const specweb = (): Trace => ({
  sizes: sizes(30, 5670, (logarithm) => Math.exp(-SPECWEB_SHAPE * logarithm)),
  lengths: Int32Array.of(6),
});
const SPECWEB_SHAPE = 0.235;

/**
 * A content delivery network: 1 to 1,597 requests on a connection, 2.3 on average, ten at most on 98 % of them; 15 bytes to 253 MB, 12.5 kB on
 * average, half of the bytes in answers above 60 kB: a log-normal distribution.
 */
const yahoo = (): Trace => {
  // Of a log-normal distribution, half of the total lies above exp(m + s²), and exp(m + s² / 2) is the mean.
  const variance = 2 * Math.log(60_000 / 12_500);
  const m = Math.log(12_500) - variance / 2;
  return {
    sizes: sizes(15, 253e6, (logarithm) => Math.exp(-((logarithm - m) ** 2) / (2 * variance))),
    lengths: zipfLengths(1597, YAHOO_EXPONENT),
  };
};
const YAHOO_EXPONENT = 2.353;

export function traceOf(name: TraceName): Trace {
  return name === 'specweb' ? specweb() : yahoo();
}
