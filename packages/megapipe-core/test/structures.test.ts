/** The channel's own data structures against simple models. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ChannelOptions } from '../src/api.ts';
import { Deadlines, TICK_MS } from '../src/deadlines.ts';
import { FileReads } from '../src/file-reads.ts';
import { allOptions } from '../src/options.ts';
import { ARENA, LARGE_CHUNK_BYTES, OutputPool, SMALL_CHUNK_BYTES } from '../src/output.ts';
import { S, Slots } from '../src/slots.ts';

test('deadlines fire once, never early, and at most two ticks late, as a list of times says', () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('set' as const), slot: fc.nat(9), ms: fc.integer({ min: 1, max: 300_000 }) }),
    fc.record({ kind: fc.constant('clear' as const), slot: fc.nat(9), ms: fc.constant(0) }),
    fc.record({ kind: fc.constant('remove' as const), slot: fc.nat(9), ms: fc.constant(0) }),
    fc.record({
      kind: fc.constant('advance' as const),
      slot: fc.constant(0),
      ms: fc.integer({ min: 0, max: 150_000 }),
    }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const wheel = new Deadlines(10);
      wheel.advance(0, () => {});
      const due = new Map<number, number>();
      let now = 0;
      for (const { kind, slot, ms } of steps) {
        if (kind === 'set') {
          wheel.set(slot, now + ms);
          due.set(slot, now + ms);
        } else if (kind === 'advance') {
          now += ms;
          const fired: number[] = [];
          wheel.advance(now, (one) => fired.push(one));
          for (const one of fired) {
            expect(due.get(one)).toBeLessThanOrEqual(now);
            due.delete(one);
          }
          for (const time of due.values()) expect(time + 2 * TICK_MS).toBeGreaterThan(now);
        } else {
          if (kind === 'clear') wheel.set(slot, 0);
          else wheel.remove(slot);
          due.delete(slot);
        }
      }
      /* Cleared ones may still stand in the wheel, but no slot twice. */
      expect(wheel.queued).toBeGreaterThanOrEqual(due.size);
      expect(wheel.queued).toBeLessThanOrEqual(10);
    }),
    { numRuns: 500 },
  );
});

test('a deadline whose handler throws delays no other', () => {
  const wheel = new Deadlines(10);
  wheel.advance(0, () => {});
  for (let slot = 0; slot < 10; slot++) wheel.set(slot, 250);
  const fired: number[] = [];
  const fire = (slot: number): void => {
    fired.push(slot);
    throw new Error('handler threw');
  };
  for (let i = 0; i < 10; i++) expect(() => wheel.advance(400, fire)).toThrow('handler threw');
  wheel.advance(400, fire);
  expect(fired.toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(wheel.queued).toBe(0);
});

test('setting deadlines from inside the firing of others neither loses nor repeats one', () => {
  const wheel = new Deadlines(1000);
  wheel.advance(0, () => {});
  const fired = new Int32Array(1000);
  for (let slot = 0; slot < 500; slot++) wheel.set(slot, 250);
  wheel.advance(400, (slot) => {
    fired[slot]!++;
    wheel.set(slot + 500, 600);
  });
  wheel.advance(10_000, (slot) => {
    fired[slot]!++;
  });
  expect(fired.every((n) => n === 1)).toBe(true);
  expect(wheel.queued).toBe(0);
});

test('100,000 deadlines, each moved later ten times, are looked at once a tick, not once a move', () => {
  const count = 100_000;
  const wheel = new Deadlines(count);
  wheel.advance(0, () => {});
  for (let round = 0; round < 10; round++)
    for (let slot = 0; slot < count; slot++) wheel.set(slot, 75_000 + round * 5000);
  expect(wheel.queued).toBe(count);
  let fired = 0;
  wheel.advance(100_000, () => fired++);
  expect(fired).toBe(0);
  wheel.advance(130_000, () => fired++);
  expect(fired).toBe(count);
});

test('output chunks never overlap, and all come back', () => {
  const bytes = 1 << 19;
  fc.assert(
    fc.property(
      fc.array(
        fc.record({ bytes: fc.integer({ min: 1, max: LARGE_CHUNK_BYTES }), large: fc.boolean(), free: fc.nat() }),
        { maxLength: 200 },
      ),
      (steps) => {
        const pool = new OutputPool(LARGE_CHUNK_BYTES, bytes);
        const [small, large] = [pool.smallFree, pool.largeFree];
        const held: number[] = [];
        for (const step of steps) {
          if (step.free % 3 === 0 && held.length > 0) pool.release(held.splice(step.free % held.length, 1)[0]!);
          const s = pool.chunkSegment(step.bytes, step.large);
          if (s < 0) {
            /* Refused only when nothing that large is left. */
            expect(pool.largeFree).toBe(0);
            if (step.bytes <= SMALL_CHUNK_BYTES) expect(pool.smallFree).toBe(0);
            continue;
          }
          expect(pool.segRegion[s]).toBe(ARENA);
          const [from, to] = [pool.segOffset[s]!, pool.segEnd[s]!];
          expect(to - from).toBeGreaterThanOrEqual(step.bytes);
          expect(from).toBeGreaterThanOrEqual(LARGE_CHUNK_BYTES);
          expect(to).toBeLessThanOrEqual(LARGE_CHUNK_BYTES + OutputPool.size(bytes));
          for (const other of held) expect(pool.segEnd[other]! <= from || pool.segOffset[other]! >= to).toBe(true);
          held.push(s);
        }
        for (const s of held) pool.release(s);
        expect([pool.smallFree, pool.largeFree]).toEqual([small, large]);
      },
    ),
    { numRuns: 200 },
  );
});

test('a freed slot has a new handle, always above 0, and the old one is known to be stale', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
      fc.integer({ min: 1, max: 20 }),
      (generation, times) => {
        const slots = new Slots(4);
        slots.generation[2] = generation;
        for (let i = 0; i < times; i++) {
          slots.free(2);
          slots.open(2, S.Registered, 7);
          const handle = slots.handle(2);
          expect(handle).toBeGreaterThan(0);
          expect(slots.slot(handle)).toBe(2);
          slots.free(2);
          expect(slots.slot(handle)).toBe(-1);
          slots.open(2, S.Registered, 8);
          expect(slots.slot(handle)).toBe(-1);
          expect(slots.slot(slots.handle(2))).toBe(2);
        }
        for (const wrong of [0, -1, 3, 99_999, 2 ** 31 - 1]) expect(slots.slot(wrong)).toBe(-1);
      },
    ),
  );
});

describe('FileReads', () => {
  test('every read ends once, with the token and the region it began with, whatever the order', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.record({ token: fc.integer(), region: fc.nat(4095) }), fc.nat())), (steps) => {
        const reads = new FileReads();
        const model = new Map<number, { token: number; region: number }>();
        for (const step of steps) {
          if (typeof step === 'object') {
            const index = reads.begin(step.token, step.region);
            expect(model.has(index)).toBe(false);
            model.set(index, step);
          } else if (model.size > 0) {
            const index = [...model.keys()][step % model.size]!;
            expect(reads.end(index)).toBe(model.get(index)!.region);
            expect(reads.tokenOf(index)).toBe(model.get(index)!.token);
            model.delete(index);
          }
          expect(reads.pending()).toEqual([...model.keys()].sort((a, b) => a - b));
        }
      }),
    );
  });

  test('has 65,536 places, and each can be used again', () => {
    const reads = new FileReads();
    for (let i = 0; i < 65_536; i++) reads.begin(i, 0);
    expect(() => reads.begin(0, 0)).toThrow(/ERR_MEGAPIPE_CAPACITY.*65536 reads/);
    reads.end(77);
    expect(reads.begin(5, 6)).toBe(77);
    expect(() => reads.begin(0, 0)).toThrow(/65536/);
  });
});

test('an option that only looks like one, by its prototype, is refused by name', () => {
  expect(() => allOptions({ toString: 1 } as ChannelOptions)).toThrow(/"toString"/);
  expect(allOptions({ maxHandles: undefined } as unknown as ChannelOptions).maxHandles).toBeGreaterThan(0);
});
