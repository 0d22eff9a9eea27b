/**
 * Prefixes: what `stats detail` counts, by what stands before the first delimiter (-D) of a key.
 *
 * What it is for: each worker counts what it carries out, while counting is on (a word of the cache's memory); a dump puts the
 * workers' counts together. Invariants: `stats reset` forgets them everywhere; the memory is bounded, so that a client which
 * invents prefixes cannot fill it: those above the bound are not counted.
 * What dies with a worker that dies: its counts. Not its job: which commands count (the protocols).
 */
import { indexOfByte } from './bytes.ts';
import type { CacheMemory } from './engine/layout.ts';
import { W_DETAIL, W_DETAIL_EPOCH } from './engine/layout.ts';

export const PREFIX_GET = 0;
export const PREFIX_HIT = 1;
export const PREFIX_SET = 2;
export const PREFIX_DELETE = 3;
const COLUMNS = 4;

/** Different prefixes that one worker counts at most. */
const PREFIXES_MAX = 65_536;

/** A prefix, latin1, and its gets, hits, sets and deletes. */
export type PrefixCounts = [prefix: string, ...counts: number[]];

export class Prefixes {
  private readonly i32: Int32Array;
  private readonly delimiter: number;
  private readonly counts = new Map<string, Float64Array>();
  private epoch: number;

  /** `delimiter`: one byte. */
  constructor(memory: CacheMemory, delimiter: string) {
    this.i32 = memory.i32;
    this.delimiter = delimiter.charCodeAt(0);
    this.epoch = this.i32[W_DETAIL_EPOCH]!;
  }

  /** `stats detail on` and `off`, for all workers. What was counted stays. */
  enable(on: boolean): void {
    this.i32[W_DETAIL] = on ? 1 : 0;
  }

  /** Counts one command on the key bytes[start, end), which has a prefix only where it has a delimiter. */
  count(bytes: Buffer, start: number, end: number, column: number, hit = false): void {
    const at = indexOfByte(bytes, this.delimiter, start, end);
    if (at < 0) return;
    this.forgetAfterReset();
    const prefix = bytes.toString('latin1', start, at);
    let counts = this.counts.get(prefix);
    if (counts === undefined) {
      if (this.counts.size >= PREFIXES_MAX) return;
      counts = new Float64Array(COLUMNS);
      this.counts.set(prefix, counts);
    }
    counts[column]! += 1;
    if (hit) counts[PREFIX_HIT]! += 1;
  }

  /** What this worker has counted. */
  list(): PrefixCounts[] {
    this.forgetAfterReset();
    return Array.from(this.counts, ([prefix, counts]) => [prefix, ...counts]);
  }

  private forgetAfterReset(): void {
    const epoch = this.i32[W_DETAIL_EPOCH]!;
    if (epoch === this.epoch) return;
    this.epoch = epoch;
    this.counts.clear();
  }
}

/** The dump of what several workers counted. */
export function dumpPrefixes(lists: readonly (readonly PrefixCounts[])[]): string {
  const sums = new Map<string, number[]>();
  for (const list of lists) {
    for (const [prefix, ...counts] of list) {
      const sum = sums.get(prefix);
      if (sum === undefined) sums.set(prefix, counts);
      else for (let i = 0; i < COLUMNS; i++) sum[i]! += counts[i]!;
    }
  }
  let text = '';
  for (const [prefix, [gets, hits, sets, deletes]] of sums) {
    text += `PREFIX ${prefix} get ${gets} hit ${hits} set ${sets} del ${deletes}\r\n`;
  }
  return `${text}END\r\n`;
}
