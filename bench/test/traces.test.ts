import fc from 'fast-check';
import { mean, sum } from 'simple-statistics';
import { describe, expect, it, test } from 'vitest';
import { equalParts, TRACES, traceOf } from '../src/traces.ts';

const of = (name: (typeof TRACES)[number]) => {
  const { sizes, lengths } = traceOf(name);
  return { sizes: Array.from(sizes), lengths: Array.from(lengths) };
};
const near = (value: number, expected: number, share: number): void => {
  expect(Math.abs(value / expected - 1)).toBeLessThan(share);
};

describe('the figures that the paper gives', () => {
  test('SpecWeb: six requests a connection, 30 to 5,670 bytes, 704 on average', () => {
    const { sizes, lengths } = of('specweb');
    expect(new Set(lengths)).toEqual(new Set([6]));
    expect(Math.min(...sizes)).toBeGreaterThanOrEqual(30);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(5670);
    near(mean(sizes), 704, 0.005);
  });

  test('Yahoo: 1 to 1,597 requests a connection, 2.3 on average, ten at most on 98 % of them', () => {
    const { lengths } = of('yahoo');
    expect(Math.min(...lengths)).toBe(1);
    expect(Math.max(...lengths)).toBeLessThanOrEqual(1597);
    near(mean(lengths), 2.3, 0.01);
    expect(lengths.filter((length) => length <= 10).length / lengths.length).toBeCloseTo(0.98, 2);
  });

  test('Yahoo: 15 bytes to 253 MB, 12.5 kB on average, half of the bytes in answers above 60 kB', () => {
    const { sizes } = of('yahoo');
    expect(Math.min(...sizes)).toBeGreaterThanOrEqual(15);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(253e6);
    near(mean(sizes), 12_500, 0.01);
    expect(sum(sizes.filter((size) => size > 60_000)) / sum(sizes)).toBeCloseTo(0.5, 1);
  });
});

test.each(TRACES)('%s is the same each time', (name) => {
  expect(of(name)).toEqual(of(name));
});

it('the means of equal parts of a distribution ascend, stay within it and have its mean', () => {
  const weight = fc.double({ min: 1e-6, max: 1, noNaN: true });
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(1e6), weight), { minLength: 1, maxLength: 60 }),
      fc.integer({ min: 1, max: 40 }),
      (points, parts) => {
        points.sort(([a], [b]) => a - b);
        const values = Float64Array.from(points, ([value]) => value);
        const weights = Float64Array.from(points, ([, each]) => each);
        const means = Array.from(equalParts(values, weights, parts));
        const slack = 1e-6 * (1 + values.at(-1)!);
        for (const [i, value] of means.entries()) {
          expect(value).toBeGreaterThanOrEqual((means[i - 1] ?? values[0]!) - slack);
          expect(value).toBeLessThanOrEqual(values.at(-1)! + slack);
        }
        const total = points.reduce((all, [value, each]) => all + value * each, 0) / sum(Array.from(weights));
        expect(Math.abs(mean(means) - total)).toBeLessThanOrEqual(slack);
      },
    ),
  );
});
