/**
 * Submission queue: where the next request is written, and how the kernel's side learns of it.
 *
 * Shared with that side are two counters, `head` (requests taken, its own) and `tail` (requests written, ours), and the rows that
 * they count: row = counter modulo the number of rows. Counters only grow, and wrap at 2^32; differences are taken as
 * 32-bit integers, so neither that nor the sign of a word matters (trap 8).
 * Invariant: a row is written only while tail - head < rows, and the tail moves on only when all of the row is written. The
 * other side looks at the tail in `enter`, a call of this thread: plain loads and stores are enough.
 * Not its job: the layout of a row, and that call.
 */
export class SubmissionQueue {
  /** The rows, `rowWords` words each. */
  readonly entries: Int32Array;
  readonly rows: number;
  readonly #ring: Int32Array;
  readonly #head: number;
  readonly #tail: number;
  readonly #mask: number;
  readonly #shift: number;

  /** `head`, `tail`: indices of the counters in `ring`. `rows` and `rowWords` are powers of two. */
  constructor(ring: Int32Array, head: number, tail: number, entries: Int32Array, rows: number, rowWords: number) {
    this.entries = entries;
    this.rows = rows;
    this.#ring = ring;
    this.#head = head;
    this.#tail = tail;
    this.#mask = rows - 1;
    this.#shift = 31 - Math.clz32(rowWords);
  }

  /** Rows that can be written before the other side takes some. */
  room(): number {
    return this.rows - ((this.#ring[this.#tail]! - this.#ring[this.#head]!) | 0);
  }

  /** Index in `entries` of the row to write next. Only while there is room. */
  next(): number {
    return (this.#ring[this.#tail]! & this.#mask) << this.#shift;
  }

  /** The row at `next` is written. */
  push(): void {
    this.#ring[this.#tail] = (this.#ring[this.#tail]! + 1) | 0;
  }
}
