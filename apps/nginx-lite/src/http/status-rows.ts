/**
 * Counters of the server, in memory that master and workers share.
 *
 * What it is for: one row a worker, which only that worker writes, so that counting is a plain addition; a table of
 * totals of workers that are gone, which only the master writes; a few numbers that all workers draw from. Invariant:
 * each Float64 has one writer. Not its job: who reads it (modules/stub-status).
 */

/** Fields of a row. */
export const Status = {
  Accepted: 0,
  Handled: 1,
  Requests: 2,
  Active: 3,
  Reading: 4,
  Writing: 5,
} as const;
const FIELDS = 8;

/** Workers at a time, over all generations. */
export const ROWS = 1023;

/** Bytes of the numbers that workers draw: Int32, see COUNTER_…. */
const COUNTER_BYTES = 64;
export const COUNTER_CONNECTIONS = 0;
export const COUNTER_BOUNDARIES = 1;
/** Names of temporary files. */
export const COUNTER_TEMP_FILES = 2;

const TABLE_AT = COUNTER_BYTES;
export const STATUS_BYTES = TABLE_AT + (ROWS + 1) * FIELDS * 8;

/** Numbers drawn with Atomics. */
export function countersOf(memory: ArrayBufferLike): Int32Array {
  return new Int32Array(memory, 0, COUNTER_BYTES / 4);
}

/** The row of one worker; row ROWS holds the totals. */
export function rowOf(memory: ArrayBufferLike, row: number): Float64Array {
  return new Float64Array(memory, TABLE_AT + row * FIELDS * 8, FIELDS);
}

/** A worker is gone: what it counted goes to the totals. Master only. */
export function foldRow(memory: ArrayBufferLike, row: number): void {
  const from = rowOf(memory, row);
  const totals = rowOf(memory, ROWS);
  for (const field of [Status.Accepted, Status.Handled, Status.Requests])
    totals[field] = (totals[field] as number) + (from[field] as number);
  from.fill(0);
}

/** A field summed over every worker there is or was. */
export function sumOf(memory: ArrayBufferLike, field: number): number {
  const table = new Float64Array(memory, TABLE_AT, (ROWS + 1) * FIELDS);
  let sum = 0;
  for (let at = field; at < table.length; at += FIELDS) sum += table[at] as number;
  return sum;
}
