/**
 * Meta commands, mixed with classic ones, to Debian's memcached and to both io modes: the same bytes must come back.
 *
 * Where 1.6.45, which we follow, differs from Debian's 1.6.18, the exchanges leave it out, or both answers are brought
 * to one form; meta.test.ts has what we answer then:
 *
 * | what                               | 1.6.18                        | here                                           |
 * | ---------------------------------- | ----------------------------- | ---------------------------------------------- |
 * | E, `md x`, s of `ms`, N of `ms MA` | unknown or without effect     | as the reference says: left out                |
 * | wrong flags of `md`                | "invalid or duplicate flag"   | the precise error (all others but ma's): left out |
 * | too many flags of ms, md, ma       | "options flags too long"      | "options flags are too long": left out         |
 * | `ms` with an overlong key, or flags | its payload runs as commands | swallowed: left out                            |
 * | `exp=` of `me`                     | negative                      | the seconds left: its sign is taken off        |
 * | `ms MA` with a wrong CAS            | EX                            | NS: no CAS with MA and MP                      |
 * | T of a `ma` that needs more digits | forgotten with the old item   | kept: T and D of `ma` are not mixed            |
 * | overlong opaque of `ma`, `mg N`    | error after the deed          | error alone: left out                          |
 */
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { fraction } from './arbitraries.ts';
import { expectSame, ORACLE_RUNS, oracleServers } from './oracles.ts';
import { pieces, textStages } from './pieces.ts';
import { hasDebians, playStages } from './servers.ts';

const key = fc.oneof(
  { weight: 10, arbitrary: fc.integer({ min: 0, max: 4 }).map((n) => `key${n}`) },
  // As base64 these are good, padded, odd and bad.
  { weight: 4, arbitrary: fc.constantFrom('YWJj', 'YWI=', 'YQ==', 'Y!W!J!j', 'abc', 'ab==', '====', 'i\xb7\x1d') },
  { weight: 1, arbitrary: fc.constantFrom('k'.repeat(248), 'A'.repeat(248), '\x01', 'Ü\xff') },
);
const opaque = fc.constantFrom('O', 'O1', 'Oopaque', `O${'o'.repeat(31)}`);
const ttl = fc.constantFrom('0', '0', '30', '100', '2000000000');
const cas = fc.oneof(
  fc.integer({ min: 0, max: 40 }).map(String),
  fc.constantFrom('18446744073709551615', '99999999999'),
);
const binary = fc.constantFrom('', '', '', 'b');
const many = (flags: fc.Arbitrary<string>[], twice = true): fc.Arbitrary<string> =>
  fc
    .array(fc.oneof(...flags), { maxLength: 9 })
    // Each letter once, but now and then twice.
    .chain((list) =>
      fc
        .integer({ min: 0, max: 30 })
        .map((dice) =>
          twice && dice === 0 ? list : list.filter((flag, i) => list.findIndex((f) => f[0] === flag[0]) === i),
        ),
    )
    .map((list) => list.map((flag) => ` ${flag}`).join(''));
const odd = fc.constantFrom(
  'z',
  '%',
  '\x7f',
  '\xff',
  'M',
  'MSS',
  'Tx',
  'Nx',
  'N',
  'Rx',
  'Fx',
  'Cx',
  'J',
  'Dx',
  'D',
  'b',
);
const withB = (b: string): string => (b === '' ? '' : ' b');

const mg = fc
  .record({
    key,
    b: binary,
    flags: many([
      fc.constantFrom('v', 'v', 'v', 'k', 's', 't', 'c', 'f', 'h', 'l', 'u', 'q', 'P', 'Lx', 'I'),
      opaque,
      ttl.map((t) => `N${t}`),
      // None that is just what a T or N gives: a second may pass in between.
      fc.constantFrom('R0', 'R50', 'R2000000000', 'R-1'),
      ttl.map((t) => `T${t}`),
    ]),
  })
  .map((c) => `mg ${c.key}${withB(c.b)}${c.flags}\r\n`);
const oddGet = fc
  .record({ key, flag: odd, rest: many([odd, fc.constantFrom('v', 'k')]) })
  .map((c) => `mg ${c.key} ${c.flag}${c.rest}\r\n`);
const value = fc.oneof(
  { weight: 8, arbitrary: fc.string({ unit: 'binary-ascii', maxLength: 30 }).filter((v) => !/^[\t-\r ]+$/.test(v)) },
  { weight: 8, arbitrary: fc.bigInt({ min: 0n, max: 2n ** 64n + 3n }).map(String) },
  { weight: 1, arbitrary: fc.constantFrom(2000, 33_000, 70_000, 600_000, 1_048_576).map((n) => 'v'.repeat(n)) },
);
const ms = fc
  .record({
    key,
    b: binary,
    value,
    flags: many([
      fc.constantFrom('k', 'c', 'q', 'I', 't', 'v', 'h'),
      opaque,
      fc.constantFrom('F0', 'F5', 'F4294967295', 'F+3'),
      ttl.map((t) => `T${t}`),
      cas.map((c) => `C${c}`),
      fc.constantFrom('ME', 'MA', 'MP', 'MR', 'MS', 'MA', 'Mx'),
    ]),
  })
  .map((c) => {
    const joined = / M[AP]/.test(c.flags) ? c.flags.replace(/ C\d+/g, '') : c.flags;
    return `ms ${c.key} ${c.value.length}${withB(c.b)}${joined}\r\n${c.value}\r\n`;
  });
const oddSet = fc
  .record({
    key,
    value: fc.string({ unit: 'grapheme-ascii', maxLength: 20 }),
    off: fc.integer({ min: -2, max: 2 }),
    flag: odd,
  })
  .map((c) => `ms ${c.key} ${Math.max(0, c.value.length + c.off)} ${c.flag}\r\n${c.value}\r\n`);
const badLength = fc
  .record({ key, length: fc.constantFrom('-1', 'x', 'S2', '2147483647', '99999999999999999999', '') })
  .map((c) => `ms ${c.key} ${c.length}\r\n`);
const md = fc
  .record({
    key,
    flags: many([fc.constantFrom('k', 'q', 'I', 'v'), opaque, cas.map((c) => `C${c}`), ttl.map((t) => `T${t}`)], false),
  })
  .map((c) => `md ${c.key}${c.flags}\r\n`);
const maFlags = [
  fc.constantFrom('v', 'v', 'k', 't', 'c', 'q', 'MI', 'Md', 'M+', 'M-', 'Mi', 'MD', 'Mx'),
  opaque,
  ttl.map((t) => `N${t}`),
  cas.map((c) => `C${c}`),
  fc.constantFrom('J0', 'J17', 'J18446744073709551615', 'Jx'),
];
const ma = fc
  .record({
    key,
    b: binary,
    flags: many([...maFlags, fc.constantFrom('D1', 'D5', 'D18446744073709551615', 'D-1', 'Dx', 'z')]),
  })
  .map((c) => `ma ${c.key}${withB(c.b)}${c.flags}\r\n`);
const me = fc
  .record({ key, rest: fc.constantFrom('', '', ' b', ' z', ' b b', ' bb') })
  .map((c) => `me ${c.key}${c.rest}\r\n`);
const classic = fc.oneof(
  fc.record({ key, value }).map((c) => `set ${c.key} 3 0 ${c.value.length}\r\n${c.value}\r\n`),
  fc.record({ key }).map((c) => `append ${c.key} 0 0 1\r\n1\r\n`),
  fc.record({ key }).map((c) => `add ${c.key} 0 100 1\r\n1\r\n`),
  fc.record({ key }).map((c) => `incr ${c.key} 5\r\n`),
  fc.record({ key }).map((c) => `gets ${c.key}\r\n`),
  fc.record({ key }).map((c) => `touch ${c.key} 0\r\n`),
  fc.record({ key }).map((c) => `delete ${c.key}\r\n`),
);
const other = fc.constantFrom(
  'mg\r\n',
  'ms\r\n',
  'ms key0\r\n',
  'md\r\n',
  'ma\r\n',
  'me\r\n',
  'mn\r\n',
  'mn x\r\n',
  'mx key0\r\n',
  'mgx key0\r\n',
  'm\r\n',
  `mg ${'k'.repeat(251)} v\r\n`,
  `md ${'k'.repeat(251)}\r\n`,
  `ma ${'k'.repeat(251)}\r\n`,
  `me ${'k'.repeat(251)}\r\n`,
  `mg key0 v ${'O'.repeat(33)}\r\n`,
  `md key0 ${'O'.repeat(33)}\r\n`,
  `ms key0 2 ${'O'.repeat(33)}\r\nab\r\n`,
  'mg  key0  v \r\n',
  'mg key0 v\n',
  'mg key0 s t f v c k h l u q O1 Px Lx T0 N0 R0\r\n',
  'mg key0 s t f v c k h l u q O1 Px Lx T0 N0 R0 b M\r\n',
  `mg key0${' x'.repeat(40)}\r\n`,
);
const command = fc.oneof(
  { weight: 6, arbitrary: mg },
  { weight: 6, arbitrary: ms },
  { weight: 2, arbitrary: md },
  { weight: 3, arbitrary: ma },
  { weight: 1, arbitrary: me },
  { weight: 2, arbitrary: classic },
  { weight: 1, arbitrary: other },
  { weight: 1, arbitrary: oddGet },
);
const malformed = fc.oneof(
  { weight: 3, arbitrary: oddSet },
  { weight: 1, arbitrary: badLength },
  { weight: 4, arbitrary: command.filter((text) => text.length < 1500) },
);
const exchange = fc.record({
  commands: fc.oneof(
    fc.array(command, { minLength: 1, maxLength: 40 }),
    fc.array(malformed, { minLength: 1, maxLength: 30 }),
  ),
  cuts: fc.array(fraction, { maxLength: 25 }),
});

/** The differences that are allowed in what comes back: the sign of `exp=`, and a few seconds in every time. */
function oneForm(answer: Buffer): Buffer {
  const text = answer
    .toString('latin1')
    .replace(/ exp=-?/g, ' exp=')
    .replace(/ (l|la=)\d+/g, ' $1#')
    .replace(
      / (t|exp=)(\d+)/g,
      (_, name, time) => ` ${name}${Number(time) > 1000 ? 'far' : Math.ceil(Number(time) / 10)}`,
    );
  return Buffer.from(text, 'latin1');
}

describe.skipIf(!hasDebians)("Debian's memcached as oracle of the meta protocol", () => {
  const oracle = oracleServers();

  it('answers every exchange with the same bytes, CAS numbers included', async () => {
    await fc.assert(
      fc.asyncProperty(exchange, async ({ commands, cuts }) => {
        const parts = textStages(['flush_all\r\n', ...commands, '\r\n\r\nmn\r\n']).map((stage) => pieces(stage, cuts));
        await expectSame(oracle, async ({ port }) => oneForm(await playStages(port, parts)));
      }),
      { numRuns: ORACLE_RUNS },
    );
  });
});
