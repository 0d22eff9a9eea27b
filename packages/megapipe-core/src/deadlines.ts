/**
 * Deadlines of all handles of a channel: a timer wheel of 100 ms ticks.
 *
 * Moving a deadline later, which every request does, only stores a number: the slot stays where it is in the wheel
 * and is put on when its old turn comes. Invariant: a slot stands in at most one bucket, at or before its deadline.
 */

export const TICK_MS = 100;
const BUCKETS = 1024;

export class Deadlines {
  /** Milliseconds on the channel's clock, 0 = none. */
  readonly due: Float64Array;
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  /** Tick the slot is queued for, -1 = not queued. */
  readonly #tick: Float64Array;
  readonly #bucket = new Int32Array(BUCKETS).fill(-1);
  #now = 0;
  /** Slots in the wheel. */
  queued = 0;

  constructor(slots: number) {
    this.due = new Float64Array(slots);
    this.#next = new Int32Array(slots).fill(-1);
    this.#previous = new Int32Array(slots).fill(-1);
    this.#tick = new Float64Array(slots).fill(-1);
  }

  /** due: time on the channel's clock; 0 clears. */
  set(slot: number, due: number): void {
    this.due[slot] = due;
    if (due === 0) return;
    const tick = this.#tick[slot]!;
    if (tick >= 0) {
      if (tick * TICK_MS <= due) return;
      this.#unlink(slot);
    }
    this.#link(slot, due);
  }

  /** Takes the slot out for good: it is being freed. */
  remove(slot: number): void {
    this.due[slot] = 0;
    if (this.#tick[slot]! >= 0) this.#unlink(slot);
  }

  /** Moves the wheel to `now` and calls `fire` for each slot whose deadline passed. */
  advance(now: number, fire: (slot: number) => void): void {
    const target = Math.floor(now / TICK_MS);
    if (target - this.#now > BUCKETS) this.#now = target - BUCKETS;
    while (this.#now < target) {
      const tick = this.#now + 1;
      const b = tick & (BUCKETS - 1);
      /* What is linked from here on, by fire() too, is due after `now` and lands in another bucket: the loop ends. */
      for (let slot = this.#bucket[b]!; slot >= 0; slot = this.#bucket[b]!) {
        this.#unlink(slot);
        const due = this.due[slot]!;
        if (due > now) this.#link(slot, due);
        else if (due > 0) {
          this.due[slot] = 0;
          fire(slot);
        }
      }
      /* Only now: when fire() throws, the rest of the bucket has its turn with the next call, and not a round later. */
      this.#now = tick;
    }
  }

  #link(slot: number, due: number): void {
    let tick = Math.ceil(due / TICK_MS);
    if (tick <= this.#now) tick = this.#now + 1;
    if (tick > this.#now + BUCKETS - 1) tick = this.#now + BUCKETS - 1;
    const b = tick & (BUCKETS - 1);
    const head = this.#bucket[b]!;
    this.#next[slot] = head;
    this.#previous[slot] = -1;
    if (head >= 0) this.#previous[head] = slot;
    this.#bucket[b] = slot;
    this.#tick[slot] = tick;
    this.queued++;
  }

  #unlink(slot: number): void {
    const next = this.#next[slot]!;
    const previous = this.#previous[slot]!;
    if (next >= 0) this.#previous[next] = previous;
    if (previous >= 0) this.#next[previous] = next;
    else this.#bucket[this.#tick[slot]! & (BUCKETS - 1)] = next;
    this.#tick[slot] = -1;
    this.queued--;
  }
}
