/**
 * The same bytes, cut at the same random places, to Debian's memcached and to ours: the same bytes must come back.
 *
 * Left out are the points where 1.6.45, which we follow, differs from Debian's 1.6.18; proto.test.ts has them: a bad
 * store line swallows its payload, `delete` ignores further numbers, `shutdown` is refused in other words. And a get
 * with an overlong key stands alone, because 1.6.18 then also forgets the replies of the commands before it.
 */
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { fraction } from './arbitraries.ts';
import { expectSame, ORACLE_RUNS, oracleServers } from './oracles.ts';
import { pieces, textStages } from './pieces.ts';
import { hasDebians, play, playStages } from './servers.ts';

const key = fc.oneof(
  { weight: 12, arbitrary: fc.integer({ min: 0, max: 6 }).map((n) => `key${n}`) },
  { weight: 1, arbitrary: fc.constantFrom('k'.repeat(250), 'a\tb', 'c\rd', 'noreply', '\x01', 'Ü\xff') },
);
const number = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom('0', '1', '7', '100', '4294967295') },
  {
    weight: 2,
    arbitrary: fc.constantFrom(
      '18446744073709551615',
      '18446744073709551616',
      '-1',
      '+3',
      '00012',
      '9223372036854775808',
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom('x', '1x', '', '-', '1.5', '\t5', '5\tz', '-18446744073709551615', '4294967296'),
  },
);
const exptime = fc.constantFrom('0', '0', '0', '-1', '100', '2591999', '4000000000', '99999999999');
/** Numbers that are no expiry within the time a test takes. */
const oddExptime = fc.oneof(
  exptime,
  number.filter((text) => !(Number.parseInt(text, 10) > 0 && Number.parseInt(text, 10) < 50)),
);
const flags = fc.constantFrom('0', '0', '5', '4294967295', '4294967296', '+8', '007');
const noreply = fc.constantFrom('', '', '', '', ' noreply', ' norepl', ' ');
const eol = fc.constantFrom('\r\n', '\r\n', '\r\n', '\r\n', '\n');
const shortValue = fc
  .oneof(
    { weight: 5, arbitrary: fc.string({ unit: 'binary-ascii', maxLength: 60 }) },
    { weight: 4, arbitrary: fc.bigInt({ min: 0n, max: 2n ** 64n + 5n }).map(String) },
    {
      weight: 2,
      arbitrary: fc.constantFrom('', ' 12', '12 ', '-5', 'get key0\r\n', '0'.repeat(21), '5\r\nEND\r\n'),
    },
  )
  // Of a value of nothing but white space, memcached's incr reads on into the memory behind it.
  .filter((text) => !/^[\t-\r ]+$/.test(text));
const value = fc.oneof(
  { weight: 10, arbitrary: shortValue },
  { weight: 1, arbitrary: fc.integer({ min: 1000, max: 40_000 }).map((n) => 'v'.repeat(n)) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(524_000, 700_000, 1_048_400, 1_048_515, 1_048_576).map((n) => 'w'.repeat(n)),
  },
);

const store = (values: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc
    .record({
      name: fc.constantFrom('set', 'set', 'set', 'add', 'replace', 'append', 'prepend'),
      key,
      flags,
      exptime,
      noreply,
      eol,
      value: values,
    })
    .map((c) => `${c.name} ${c.key} ${c.flags} ${c.exptime} ${c.value.length}${c.noreply}${c.eol}${c.value}\r\n`);
const cas = fc
  .record({ key, flags, exptime, cas: fc.integer({ min: 0, max: 40 }), noreply, value: shortValue })
  .map((c) => `cas ${c.key} ${c.flags} ${c.exptime} ${c.value.length} ${c.cas}${c.noreply}\r\n${c.value}\r\n`);
/** A value that is longer or shorter than it says; the rest is read as commands. */
const wrongLength = fc
  .record({ key, value: fc.string({ unit: 'grapheme-ascii', maxLength: 20 }), off: fc.integer({ min: -3, max: 3 }) })
  .map((c) => `set ${c.key} 0 0 ${Math.max(0, c.value.length + c.off)}\r\n${c.value}\r\n`);
const negativeLength = fc
  .record({
    key,
    length: fc.constantFrom('-1', '-2147483648', '2147483647', '2147483646', 'x', '99999999999999999999'),
  })
  .map((c) => `set ${c.key} 0 0 ${c.length}\r\n`);
const get = fc
  .record({
    name: fc.constantFrom('get', 'get', 'get', 'gets', 'bget'),
    keys: fc.array(key, { minLength: 1, maxLength: 30 }),
    eol,
  })
  .map((c) => `${c.name} ${c.keys.join(' ')}${c.eol}`);
const getOne = fc.record({ key, eol }).map((c) => `get ${c.key}${c.eol}`);
const gat = fc
  .record({
    name: fc.constantFrom('gat', 'gats'),
    exptime: oddExptime,
    keys: fc.array(key, { maxLength: 5 }),
  })
  .map((c) => `${c.name} ${c.exptime} ${c.keys.join(' ')}\r\n`);
const arithmetic = fc
  .record({ name: fc.constantFrom('incr', 'decr'), key, by: number, noreply })
  .map((c) => `${c.name} ${c.key} ${c.by}${c.noreply}\r\n`);
const touch = fc
  .record({ key, exptime: oddExptime, noreply })
  .map((c) => `touch ${c.key} ${c.exptime}${c.noreply}\r\n`);
const remove = fc
  .record({ key, rest: fc.constantFrom('', '', ' noreply', ' 0', ' 0 noreply', ' foo', ' noreply x', ' a b c d') })
  .map((c) => `delete ${c.key}${c.rest}\r\n`);
const other = fc.constantFrom(
  'flush_all\r\n',
  'flush_all 0\r\n',
  'flush_all noreply\r\n',
  'flush_all x\r\n',
  'flush_all noreply noreply\r\n',
  'flush_all -1\r\n',
  'flush_all 1 2 3\r\n',
  'verbosity 0\r\n',
  'verbosity\r\n',
  'verbosity x\r\n',
  'verbosity 0 noreply\r\n',
  'verbosity 0 0 0\r\n',
  'mn\r\n',
  'mn x\r\n',
  'stats foo\r\n',
  'stats reset\r\n',
  'set\r\n',
  'set a\r\n',
  'set a 0 0\r\n',
  'set a 0 0 1 2 3 4\r\n',
  'cas a 0 0 1\r\n',
  'incr\r\n',
  'incr a\r\n',
  'delete\r\n',
  'touch\r\n',
  'touch a\r\n',
  'get\r\n',
  'get \r\n',
  'gat\r\n',
  ' get key0\r\n',
  'get  key0  key1 \r\n',
  'get key0\0key1\r\n',
  'GET key0\r\n',
  'get\tkey0\r\n',
  '\r\n',
  '\n',
  'a\r\n',
  '\0\r\n',
  'foo bar\r\n',
  `${'x'.repeat(2000)}\r\n`,
);
const harmless = [
  { weight: 2, arbitrary: cas },
  { weight: 3, arbitrary: get },
  { weight: 3, arbitrary: getOne },
  { weight: 1, arbitrary: gat },
  { weight: 3, arbitrary: arithmetic },
  { weight: 1, arbitrary: touch },
  { weight: 1, arbitrary: remove },
  { weight: 2, arbitrary: other },
];
/** Values of every size, each as long as it says. */
const wellFormed = fc.oneof({ weight: 6, arbitrary: store(value) }, ...harmless);
/** Wrong lengths turn values into command lines; how a long one of those ends depends on the packets, so all are short. */
const malformed = fc.oneof(
  { weight: 4, arbitrary: store(shortValue) },
  { weight: 3, arbitrary: wrongLength },
  { weight: 2, arbitrary: negativeLength },
  ...harmless,
);

/** Commands, and the places where the packets end. */
const exchange = fc.record({
  commands: fc.oneof(
    fc.array(wellFormed, { minLength: 1, maxLength: 40 }),
    fc.array(malformed, { minLength: 1, maxLength: 40 }),
  ),
  cuts: fc.array(fraction, { maxLength: 25 }),
  quit: fc.constantFrom('', '', 'quit\r\n', 'quit\r\nget key0\r\n'),
});

describe.skipIf(!hasDebians)("Debian's memcached as oracle", () => {
  const oracle = oracleServers();

  it('answers every exchange with the same bytes, CAS numbers included', async () => {
    await fc.assert(
      fc.asyncProperty(exchange, async ({ commands, cuts, quit }) => {
        // Each exchange begins with an empty cache, and ends with what completes any value that is still open.
        const parts = textStages(['flush_all\r\n', ...commands, `\r\n\r\nmn\r\n${quit}`]).map((stage) =>
          pieces(stage, cuts),
        );
        await expectSame(oracle, ({ port }) => playStages(port, parts));
      }),
      { numRuns: ORACLE_RUNS },
    );
  });

  it.each(
    [
      `get ${'k'.repeat(251)}\r\n`,
      `get key0 ${'k'.repeat(251)}\r\n`,
      `gets ${'k'.repeat(300)} key0\r\n`,
      `gat 0 key0 ${'k'.repeat(251)}\r\n`,
      `delete ${'k'.repeat(251)}\r\n`,
      `incr ${'k'.repeat(251)} 1\r\n`,
      `touch ${'k'.repeat(251)} 0\r\n`,
      `get ${'key0 '.repeat(3000)}\r\n`,
      `get ${'key0 '.repeat(20_000)}\r\n`,
      `${'x'.repeat(2048)}\r\n`,
      'x'.repeat(2049),
      // Longer, but whole in what one read brings.
      `${'x'.repeat(10_000)}\r\n`,
      `  get ${'key0 '.repeat(600)}`,
      `${' '.repeat(101)}get ${'key0 '.repeat(600)}`,
      'set key0 0 0 99999999999\r\nabc',
      'set key0 0 0 5\r\nab',
      'GET / HTTP/1.0\r\n',
      'foo HTTP/\r\n',
      'HTTP/1.1\r\n',
      'foo HTTP/1 \r\n',
      'foo http/1\r\n',
      'foo xHTTP/1\r\n',
      'foo HTTP/1 x\r\n',
      'GET / HTTP/1.0 noreply\r\n',
      ...['get', 'key', 'mg a', 'mx', 'mxx', 'replace', 'bget', 'lru', 'mn', 'abc', 'cd', 'ix', 'dx', 'tx', 'sx'].map(
        (words) => `${words} HTTP/1\r\n`,
      ),
      'flush_all 1 2 HTTP/1\r\n',
      'verbosity 1 2 HTTP/1\r\n',
    ].map((text) => ({ start: text.slice(0, 20), length: text.length, text })),
  )('answers the odd request $start… ($length bytes) with the same bytes', async ({ text }) => {
    const prepared = Buffer.from('flush_all\r\nset key0 5 0 3\r\nabc\r\n', 'latin1');
    await expectSame(oracle, async ({ port }) => {
      await play(port, [prepared]);
      return play(port, [Buffer.from(text, 'latin1')]);
    });
  });
});
