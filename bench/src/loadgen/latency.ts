/**
 * Latencies of a run: a counter that costs a few nanoseconds, and a histogram for the end.
 *
 * Invariant: a value lands in a bucket at most 1/64 of it wide; the largest is kept exactly. Unit: 0.1 µs.
 * Not its job: percentiles; hdr-histogram-js has them.
 */
import { build, type Histogram } from 'hdr-histogram-js';

export const UNITS_PER_MS = 10_000;
const VALUE_MAX = 0x7fffffff;
const BUCKETS = 1664;

/** Bucket of a value: exact below 128, then 64 to each power of two. */
export function bucketOf(value: number): number {
  if (value < 128) return value;
  const shift = 25 - Math.clz32(value);
  return (shift << 6) + (value >>> shift);
}

/** The middle of a bucket. */
export function bucketValue(bucket: number): number {
  if (bucket < 128) return bucket;
  const shift = (bucket >>> 6) - 1;
  return ((64 + (bucket & 63)) * 2 ** shift + (2 ** shift - 1) / 2) | 0;
}

export interface LatencyUs {
  mean: number;
  p50: number;
  p90: number;
  p99: number;
  p999: number;
  max: number;
}

export class LatencyCounter {
  private readonly counts = new Uint32Array(BUCKETS);
  private max = 0;

  record(milliseconds: number): void {
    const units = milliseconds * UNITS_PER_MS;
    // Its ends: a clock that seems to run backwards, and 214 s.
    const value = units < VALUE_MAX ? (units > 0 ? units | 0 : 0) : VALUE_MAX;
    if (value > this.max) this.max = value;
    this.counts[bucketOf(value)]!++;
  }

  clear(): void {
    this.counts.fill(0);
    this.max = 0;
  }

  histogram(): Histogram {
    const histogram = build({
      lowestDiscernibleValue: 1,
      highestTrackableValue: VALUE_MAX,
      numberOfSignificantValueDigits: 3,
      useWebAssembly: false,
    });
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      const count = this.counts[bucket]!;
      if (count > 0) histogram.recordValueWithCount(bucketValue(bucket), count);
    }
    return histogram;
  }

  summary(): LatencyUs {
    const histogram = this.histogram();
    const at = (percentile: number): number => {
      const value = histogram.totalCount === 0 ? 0 : histogram.getValueAtPercentile(percentile);
      return Math.min(value, this.max) / 10;
    };
    return {
      mean: histogram.totalCount === 0 ? 0 : histogram.mean / 10,
      p50: at(50),
      p90: at(90),
      p99: at(99),
      p999: at(99.9),
      max: this.max / 10,
    };
  }
}
