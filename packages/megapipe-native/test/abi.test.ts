import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { ABI, DEV, native } from '../src/index.ts';

test("TypeScript's tables of the kernel interfaces are C's", () => {
  const dev = Object.fromEntries(Object.entries(DEV).map(([name, value]) => [`DEV_${name}`, value]));
  expect({ ...ABI, ...dev }).toEqual(native.abiTable());
});

test.skipIf(process.env['MEGAPIPE_INSIDE_GUEST'])("csrc/megapipe-uapi.h is a copy of the module's header", () => {
  const text = (path: string): string => readFileSync(new URL(path, import.meta.url), 'utf8');
  expect(text('../csrc/megapipe-uapi.h')).toBe(text('../../../kernel/include/uapi/linux/megapipe.h'));
});
