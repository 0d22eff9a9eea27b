/**
 * Who stays in a bounded cache: counts of how often things were asked for lately, and lists in the order of use.
 *
 * What it is for: a cache that takes in whatever is asked for throws out what is asked for often as soon as more is asked for than it
 * holds, and works hardest when it helps least. So a newcomer has to show that it is asked for more than the one it would drive
 * out (as TinyLFU does). Invariants: counts are approximate (two things may share one) and in fixed memory; an entry is in one list at most.
 * Not its job: what is kept, and what it takes.
 */

const COUNTS = 1 << 16;
const COUNT_MAX = 255;
/** After so many requests all counts are halved: what was asked for long ago says little. */
const HALVED_EVERY = 2 * COUNTS;

/** Of a text, 32 bits. */
export function hashOf(text: string): number {
  let hash = 17;
  for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) | 0;
  // The low bits alone choose a count; in them the first characters have left little.
  return hash ^ (hash >>> 15);
}

export class Popularity {
  private readonly counts = new Uint8Array(COUNTS);
  private noted = 0;

  note(hash: number): void {
    const slot = hash & (COUNTS - 1);
    const count = this.counts[slot] as number;
    if (count < COUNT_MAX) this.counts[slot] = count + 1;
    if (++this.noted < HALVED_EVERY) return;
    this.noted = 0;
    for (let i = 0; i < COUNTS; i++) this.counts[i] = (this.counts[i] as number) >> 1;
  }

  /** Whether a newcomer is to have the place of another: by so much that it is no coincidence. */
  beats(newcomer: number, other: number): boolean {
    return this.of(newcomer) > 2 * this.of(other);
  }

  /** How often it was noted lately, about. */
  of(hash: number): number {
    return this.counts[hash & (COUNTS - 1)] as number;
  }
}

/** A member of a list. */
export interface Linked<T extends Linked<T>> {
  list: RecencyList<T> | null;
  older: T | null;
  newer: T | null;
}

/** Members by their last use. */
export class RecencyList<T extends Linked<T>> {
  oldest: T | null = null;
  private newest: T | null = null;

  /** Makes it the newest; it leaves the list that it is in. */
  use(member: T): void {
    member.list?.remove(member);
    member.list = this;
    member.older = this.newest;
    if (this.newest === null) this.oldest = member;
    else this.newest.newer = member;
    this.newest = member;
  }

  remove(member: T): void {
    const { older, newer } = member;
    if (older === null) this.oldest = newer;
    else older.newer = newer;
    if (newer === null) this.newest = older;
    else newer.older = older;
    member.list = null;
    member.older = null;
    member.newer = null;
  }
}
