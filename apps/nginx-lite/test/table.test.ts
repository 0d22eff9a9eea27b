/** The tables agree with each other, with the package and with the README. */

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { VARIABLE_PREFIXES, VARIABLES } from '../src/conf/variable-names.ts';
import { HEADER_NAMES, placeOf } from '../src/http/headers.ts';
import { GETTERS } from '../src/http/variables.ts';
import { absentModule } from '../src/modules/absent.ts';
import { ALL_DIRECTIVES } from '../src/modules/table.ts';
import { VERSION } from '../src/version.ts';

const read = (name: string): string => readFileSync(new URL(`../${name}`, import.meta.url), 'utf8');

describe('directives', () => {
  test('rows of one name differ in their contexts', () => {
    const seen = new Map<string, number>();
    for (const row of ALL_DIRECTIVES) {
      expect([row.name, (seen.get(row.name) ?? 0) & row.contexts]).toEqual([row.name, 0]);
      seen.set(row.name, (seen.get(row.name) ?? 0) | row.contexts);
    }
  });

  test('none is both here and absent', () => {
    for (const row of ALL_DIRECTIVES) expect([row.name, absentModule(row.name)]).toEqual([row.name, null]);
  });

  test('the README names each', () => {
    const readme = read('README.md');
    expect(ALL_DIRECTIVES.map((row) => row.name).filter((name) => !readme.includes(`\`${name}\``))).toEqual([]);
  });
});

test('every variable has a getter, and the other way round', () => {
  expect(Object.keys(GETTERS).sort()).toEqual([...VARIABLES].sort());
  const readme = read('README.md');
  for (const name of [...VARIABLES, ...VARIABLE_PREFIXES]) expect(readme).toContain(`$${name}`);
});

test('no two known header names share a place in the table of candidates', () => {
  const places = HEADER_NAMES.map((name) => placeOf(name.length, name.charCodeAt(name.length - 1)));
  expect(new Set(places).size).toBe(places.length);
});

test("the version is the package's", () => {
  expect((JSON.parse(read('package.json')) as { version: string }).version).toBe(VERSION);
});
