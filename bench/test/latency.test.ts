import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bucketOf, bucketValue, LatencyCounter } from '../src/loadgen/latency.ts';

describe('buckets', () => {
  it('are monotonous, within the table, and at most 1/64 wide', () => {
    fc.assert(
      fc.property(fc.nat(0x7fffffff), (value) => {
        const bucket = bucketOf(value);
        expect(bucket).toBeLessThan(1664);
        expect(bucketOf(Math.min(value + 1, 0x7fffffff))).toBeGreaterThanOrEqual(bucket);
        expect(bucketOf(bucketValue(bucket))).toBe(bucket);
        expect(Math.abs(bucketValue(bucket) - value)).toBeLessThanOrEqual(value / 64 + 1);
      }),
      { examples: [[127], [128], [255], [256], [0x7fffffff]] },
    );
  });
});

describe('LatencyCounter', () => {
  it('gives the percentiles of what was recorded, in µs', () => {
    const counter = new LatencyCounter();
    for (let i = 1; i <= 1000; i++) counter.record(i / 1000);
    const summary = counter.summary();
    expect(summary.p50 / 500).toBeCloseTo(1, 1);
    expect(summary.p99 / 990).toBeCloseTo(1, 1);
    expect(summary.mean / 500).toBeCloseTo(1, 1);
    expect(summary.max).toBe(1000);
    expect(summary.p999).toBeLessThanOrEqual(summary.max);
  });

  it('counts what lies beyond its range at its ends', () => {
    const counter = new LatencyCounter();
    counter.record(1e9);
    counter.record(-1);
    expect(counter.histogram().totalCount).toBe(2);
    expect(counter.summary().max).toBeGreaterThan(2e8);
  });

  it('is empty after clear', () => {
    const counter = new LatencyCounter();
    counter.record(3);
    counter.clear();
    expect(counter.summary()).toEqual({ mean: 0, p50: 0, p90: 0, p99: 0, p999: 0, max: 0 });
  });
});
