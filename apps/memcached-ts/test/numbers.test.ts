/** Decimal numbers against BigInt and C's rules. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Decimal, digitsOf, writeU32, writeU64 } from '../src/numbers.ts';

const U64 = 2n ** 64n;
const u64 = fc.oneof(
  fc.bigInt({ min: 0n, max: U64 - 1n }),
  fc.constantFrom(0n, 1n, 2n ** 32n - 1n, 2n ** 32n, 2n ** 63n, U64 - 1n),
);

describe('numbers', () => {
  it('writes every 64-bit number as BigInt does', () => {
    fc.assert(
      fc.property(u64, (n) => {
        const bytes = Buffer.alloc(24, 0x78);
        const end = writeU64(bytes, 1, Number(n >> 32n), Number(n & 0xffff_ffffn));
        expect(bytes.toString('latin1', 1, end)).toBe(String(n));
        expect(bytes[0]).toBe(0x78);
        expect(bytes[end]).toBe(0x78);
      }),
    );
  });

  it('writes every 32-bit number, and knows its digits', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffff_ffff }), (n) => {
        const bytes = Buffer.alloc(12);
        expect(bytes.toString('latin1', 0, writeU32(bytes, 0, n))).toBe(String(n));
        expect(digitsOf(n)).toBe(String(n).length);
      }),
    );
  });

  it('reads what strtoull reads: signs wrap, range and a huge negative number fail', () => {
    const decimal = new Decimal();
    fc.assert(
      fc.property(
        fc.constantFrom('', ' ', '\t\v', '+', '-'),
        fc.oneof(u64, fc.bigInt({ min: U64, max: U64 * 20n })),
        fc.constantFrom('', '\t', ' x', 'x'),
        (before, n, behind) => {
          const text = Buffer.from(`${before}${n}${behind}`, 'latin1');
          const wrapped = before === '-' ? (U64 - n) % U64 : n;
          const good = n < U64 && behind !== 'x' && !(before === '-' && wrapped >= 2n ** 63n);
          expect(decimal.unsigned(text, 0, text.length)).toBe(good);
          if (good) expect((BigInt(decimal.hi) << 32n) + BigInt(decimal.lo)).toBe(wrapped);
        },
      ),
    );
    for (const bad of ['', ' ', '+', '-', '+-1', 'x', '- 1']) {
      expect(decimal.unsigned(Buffer.from(bad), 0, bad.length), bad).toBe(false);
    }
  });

  it('reads what strtol reads into 32 bits', () => {
    const decimal = new Decimal();
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 64n), max: 2n ** 64n }), (n) => {
        const text = Buffer.from(String(n));
        const good = n >= -(2n ** 63n) && n < 2n ** 63n;
        expect(decimal.signed32(text, 0, text.length)).toBe(good);
        if (good) expect(decimal.lo).toBe(Number(BigInt.asIntN(32, n)));
      }),
    );
  });
});
