/**
 * Space in one stretch of memory, handed out in extents.
 *
 * What it is for: file bodies and stream pieces live in one SharedArrayBuffer each, so that a channel needs one region
 * for all of them. First fit over a sorted list of free extents, neighbours merge. Invariant: extents handed out never
 * overlap; the sum of free and used bytes is the size. Not its job: who may still be reading (reference counts are the
 * users').
 */

/** Extents begin and end on this. */
const GRAIN = 4096;

export class Extents {
  readonly size: number;
  free: number;
  /** Free extents in order of their start. */
  private starts: number[];
  private lengths: number[];

  constructor(size: number) {
    this.size = size;
    this.free = size;
    this.starts = [0];
    this.lengths = [size];
  }

  /** Offset of `bytes` in a row, or -1 when no free extent is long enough. */
  take(bytes: number): number {
    const need = roundUp(bytes);
    const { starts, lengths } = this;
    for (let i = 0; i < starts.length; i++) {
      const length = lengths[i] as number;
      if (length < need) continue;
      const start = starts[i] as number;
      if (length === need) {
        starts.splice(i, 1);
        lengths.splice(i, 1);
      } else {
        starts[i] = start + need;
        lengths[i] = length - need;
      }
      this.free -= need;
      return start;
    }
    return -1;
  }

  /** Gives back what `take(bytes)` answered. */
  give(start: number, bytes: number): void {
    const need = roundUp(bytes);
    const { starts, lengths } = this;
    let low = 0;
    let high = starts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((starts[middle] as number) < start) low = middle + 1;
      else high = middle;
    }
    const before = low - 1;
    const joinsBefore = before >= 0 && (starts[before] as number) + (lengths[before] as number) === start;
    const joinsAfter = low < starts.length && start + need === starts[low];
    if (joinsBefore && joinsAfter) {
      lengths[before] = (lengths[before] as number) + need + (lengths[low] as number);
      starts.splice(low, 1);
      lengths.splice(low, 1);
    } else if (joinsBefore) lengths[before] = (lengths[before] as number) + need;
    else if (joinsAfter) {
      starts[low] = start;
      lengths[low] = (lengths[low] as number) + need;
    } else {
      starts.splice(low, 0, start);
      lengths.splice(low, 0, need);
    }
    this.free += need;
  }
}

function roundUp(bytes: number): number {
  return Math.max(GRAIN, Math.ceil(bytes / GRAIN) * GRAIN);
}
