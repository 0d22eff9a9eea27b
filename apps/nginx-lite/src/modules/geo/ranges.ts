/**
 * Ranges of IPv4 addresses and their values, as they are read.
 *
 * What it is for: `geo { ranges; … }`. Invariants: ranges never overlap: one that lies within another cuts it, one that does so in
 * part is refused. As in nginx each block of 65,536 addresses is looked at by itself, which shows in messages only. Not its job: looking
 * addresses up (conf.ts).
 */

import type { GeoDecl } from '../../conf/model.ts';
import type { ConfContext } from '../../conf/parser.ts';

/** First and last address, both within it. */
type Range = GeoDecl['ranges'][number];

const BLOCK = 0x10000;

export class GeoRanges {
  /** Sorted ranges by block. */
  private readonly blocks = new Map<number, Range[]>();

  /** `text` is how it was written, for messages. */
  add(cf: ConfContext, text: string, low: number, high: number, value: string): void {
    for (const part of parts(low, high)) {
      let block = this.blocks.get(part.block);
      if (block === undefined) {
        block = [];
        this.blocks.set(part.block, block);
      }
      put(cf, block, text, { low: part.low, high: part.high, value });
    }
  }

  /** Takes out what was added with the same bounds; false: some of it was not. */
  delete(low: number, high: number): boolean {
    let found = true;
    for (const part of parts(low, high)) {
      const block = this.blocks.get(part.block) ?? [];
      const index = block.findIndex((each) => each.low === part.low && each.high === part.high);
      if (index < 0) found = false;
      else block.splice(index, 1);
    }
    return found;
  }

  /** All of them, sorted; neighbours of one value are one. */
  list(): Range[] {
    const all: Range[] = [];
    for (const key of [...this.blocks.keys()].sort((a, b) => a - b)) {
      for (const range of this.blocks.get(key) as Range[]) {
        const last = all.at(-1);
        if (last !== undefined && last.high + 1 === range.low && last.value === range.value) last.high = range.high;
        else all.push({ ...range });
      }
    }
    return all;
  }
}

function* parts(low: number, high: number): Generator<{ block: number; low: number; high: number }> {
  for (let at = low; at <= high; ) {
    const block = Math.floor(at / BLOCK);
    const end = Math.min(high, (block + 1) * BLOCK - 1);
    yield { block, low: at, high: end };
    at = end + 1;
  }
}

function put(cf: ConfContext, block: Range[], text: string, range: Range): void {
  // From behind: ranges are mostly given in their order.
  let at = block.length;
  while (at > 0 && range.high < (block[at - 1] as Range).low) at--;
  const other = block[at - 1];
  if (other === undefined || range.low > other.high) {
    block.splice(at, 0, range);
    return;
  }
  if (range.low < other.low || range.high > other.high) {
    cf.fail(`range "${text}" overlaps "${dotted(other.low)}-${dotted(other.high)}"`);
  }
  if (range.low === other.low && range.high === other.high) {
    cf.warn(`duplicate range "${text}", value: "${range.value}", old value: "${other.value}"`);
  }
  const rest = [
    { low: other.low, high: range.low - 1, value: other.value },
    range,
    { low: range.high + 1, high: other.high, value: other.value },
  ];
  block.splice(at - 1, 1, ...rest.filter((each) => each.low <= each.high));
}

function dotted(address: number): string {
  return [24, 16, 8, 0].map((bits) => (address >>> bits) & 0xff).join('.');
}
