import { expect, test } from 'vitest';
import { ABI, native } from '../src/index.ts';

test("TypeScript's table of the kernel interface is C's", () => {
  expect(ABI).toEqual(native.abiTable());
});
