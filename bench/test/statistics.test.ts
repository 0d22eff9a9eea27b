import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ratioOf, spreadOf } from '../src/statistics.ts';

describe('spreadOf', () => {
  it('gives median, extremes and quartiles in any order of the values', () => {
    expect(spreadOf([5, 1, 4, 2, 3])).toEqual({ median: 3, min: 1, max: 5, q1: 2, q3: 4, count: 5 });
    expect(spreadOf([4, 1])).toMatchObject({ median: 2.5, min: 1, max: 4, count: 2 });
  });

  it('has no answer for no values', () => {
    expect(spreadOf([])).toBeNull();
  });

  it('keeps its parts in order and leaves the input alone', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ noNaN: true, min: -1e9, max: 1e9 }), { minLength: 1 }), (values) => {
        const copy = [...values];
        const spread = spreadOf(values)!;
        expect(values).toEqual(copy);
        expect(spread.min).toBeLessThanOrEqual(spread.q1);
        expect(spread.q1).toBeLessThanOrEqual(spread.median);
        expect(spread.median).toBeLessThanOrEqual(spread.q3);
        expect(spread.q3).toBeLessThanOrEqual(spread.max);
      }),
    );
  });
});

describe('ratioOf', () => {
  const rounds = (...values: number[]): Map<number, number> => new Map(values.entries());

  it('divides within a round, so a machine that slows down for both does not count', () => {
    const spread = ratioOf(rounds(10, 20, 5), rounds(20, 40, 10))!;
    expect([spread.median, spread.min, spread.max]).toEqual([0.5, 0.5, 0.5]);
  });

  it('takes only the rounds that both have', () => {
    const left = new Map([
      [0, 1],
      [2, 9],
    ]);
    expect(ratioOf(left, rounds(2, 4, 3))).toMatchObject({ count: 2, min: 0.5, max: 3 });
    expect(ratioOf(rounds(1), new Map())).toBeNull();
    expect(ratioOf(rounds(1), rounds(0))).toBeNull();
  });
});
