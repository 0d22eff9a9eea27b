/**
 * Completion queue: takes what the kernel's side has posted, and gives the rows back once a batch.
 *
 * Shared with that side are two counters, `tail` (completions posted, its own) and `head` (completions handled, ours), and
 * the rows that they count, as in submission-queue.ts. They wrap at 2^32 (trap 8).
 * Invariant: rows up to `head` may be overwritten at any time, so the head is published only after the handlers of a batch
 * ran; what was taken is not given out again, even when a handler threw in between.
 * Not its job: what a row means, and fairness (drainMax is the backend's).
 */
export class CompletionQueue {
  /** Shared memory; `take` gives indices into it. */
  readonly ring: Int32Array;
  readonly #head: number;
  readonly #tail: number;
  readonly #base: number;
  readonly #mask: number;
  readonly #shift: number;
  readonly #acquire: boolean;
  /** Counter of the row to be taken next. */
  #next: number;

  /**
   * `head`, `tail`: indices of the counters in `ring`; `base`: of the first row. `rows` and `rowWords` are powers of two.
   * `acquire`: completions are posted at any time, and not only in calls that this thread makes.
   */
  constructor(
    ring: Int32Array,
    head: number,
    tail: number,
    base: number,
    rows: number,
    rowWords: number,
    acquire: boolean,
  ) {
    this.ring = ring;
    this.#head = head;
    this.#tail = tail;
    this.#base = base;
    this.#mask = rows - 1;
    this.#shift = 31 - Math.clz32(rowWords);
    this.#acquire = acquire;
    this.#next = ring[head]!;
  }

  /** Rows that can be taken. */
  ready(): number {
    const tail = this.#acquire ? Atomics.load(this.ring, this.#tail) : this.ring[this.#tail]!;
    return (tail - this.#next) | 0;
  }

  /** Index in `ring` of the next row. Only while one is ready. */
  take(): number {
    const next = this.#next;
    this.#next = (next + 1) | 0;
    return this.#base + ((next & this.#mask) << this.#shift);
  }

  /** Index in `ring` of the row that `ahead` others come before. Only while it is ready; it is still to be taken. */
  peek(ahead: number): number {
    return this.#base + (((this.#next + ahead) & this.#mask) << this.#shift);
  }

  /** Gives back all rows that were taken. */
  publish(): void {
    if (this.#acquire) Atomics.store(this.ring, this.#head, this.#next);
    else this.ring[this.#head] = this.#next;
  }
}
