/** Medians with their spread, and ratios of what was measured in the same round. Not its job: formatting. */
import { max, median, min, quantile } from 'simple-statistics';

export interface Spread {
  median: number;
  min: number;
  max: number;
  /** Quartiles. */
  q1: number;
  q3: number;
  count: number;
}

/** null of no values: there is no median of nothing. */
export function spreadOf(values: readonly number[]): Spread | null {
  if (values.length === 0) return null;
  const list = [...values];
  return {
    median: median(list),
    min: min(list),
    max: max(list),
    q1: quantile(list, 0.25),
    q3: quantile(list, 0.75),
    count: list.length,
  };
}

/**
 * Spread of a/b over the rounds in which both exist. The machine's speed changes from minute to minute; within a round
 * both sides met the same machine, so the ratios are taken first and the median after.
 */
export function ratioOf(a: ReadonlyMap<number, number>, b: ReadonlyMap<number, number>): Spread | null {
  return pairwise(a, b, (mine, other) => (other > 0 ? mine / other : null));
}

/** The same of a - b. */
export function differenceOf(a: ReadonlyMap<number, number>, b: ReadonlyMap<number, number>): Spread | null {
  return pairwise(a, b, (mine, other) => mine - other);
}

function pairwise(
  a: ReadonlyMap<number, number>,
  b: ReadonlyMap<number, number>,
  of: (mine: number, other: number) => number | null,
): Spread | null {
  const values: number[] = [];
  for (const [round, mine] of a) {
    const other = b.get(round);
    const value = other === undefined ? null : of(mine, other);
    if (value !== null) values.push(value);
  }
  return spreadOf(values);
}
