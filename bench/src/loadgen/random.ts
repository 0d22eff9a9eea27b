/**
 * Where the load generator's choices come from: uniform integers (xorshift32), and ranks after Zipf's law. The same sequence
 * in every run. Not its job: being unpredictable.
 */
export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = seed | 0 || 1;
  }

  /** 0 … 2^32 - 1, never 0. */
  next(): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x;
    return x >>> 0;
  }

  /** 0 … limit - 1. */
  below(limit: number): number {
    return this.next() % limit;
  }
}

/**
 * Ranks 0 … count - 1, rank r drawn with a probability proportional to 1 / (r + 1)^exponent. Vose's alias method: two
 * table look-ups a draw, whatever the count.
 */
export class Zipf {
  private readonly random: Random;
  private readonly count: number;
  /** Below this 32-bit threshold a column gives its own rank, from it on its alias. */
  private readonly threshold: Float64Array;
  private readonly alias: Int32Array;

  constructor(count: number, exponent: number, seed: number) {
    this.random = new Random(seed);
    this.count = count;
    this.threshold = new Float64Array(count);
    this.alias = new Int32Array(count);
    const weight = Float64Array.from({ length: count }, (_, rank) => (rank + 1) ** -exponent);
    const sum = weight.reduce((total, one) => total + one, 0);
    const small: number[] = [];
    const large: number[] = [];
    for (let rank = 0; rank < count; rank++) {
      weight[rank] = (weight[rank]! * count) / sum;
      (weight[rank]! < 1 ? small : large).push(rank);
    }
    while (small.length > 0 && large.length > 0) {
      const poor = small.pop()!;
      const rich = large.at(-1)!;
      this.threshold[poor] = weight[poor]! * 2 ** 32;
      this.alias[poor] = rich;
      weight[rich]! -= 1 - weight[poor]!;
      if (weight[rich]! < 1) small.push(large.pop()!);
    }
    // What is left has weight 1 but for rounding.
    for (const rank of [...small, ...large]) this.threshold[rank] = 2 ** 32;
  }

  next(): number {
    const column = this.random.below(this.count);
    return this.random.next() < this.threshold[column]! ? column : this.alias[column]!;
  }
}
