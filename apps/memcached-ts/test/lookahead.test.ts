/** Looking ahead finds the keys that a reader of the protocol finds, and leaves the cache as it is. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createCache } from '../src/engine/cache.ts';
import { DEFAULT_CACHE_CONFIG, PAGE_BYTES } from '../src/engine/layout.ts';
import { AHEAD_KEYS, Lookahead } from '../src/lookahead.ts';
import { Fixture } from './fixture.ts';
import { packet } from './packets.ts';

const KEY = '[\\x21-\\xff]{1,250}';
const LINE = new RegExp(`^(?:get (${KEY})|mg (${KEY})(?: [\\x20-\\xff]*)?)\\r\\n`);
const PAD = 5;

const { cache } = new Fixture({ memoryBytes: 4 * PAGE_BYTES });

/** What `look` finds in `text`, whose end is not the end of the buffer. */
function found(text: string, look: (ahead: Lookahead, bytes: Buffer, pos: number, limit: number) => void): string[] {
  const answers = ['\r\n', ' k\r\n', '\0'].map((behind) => {
    const ahead = new Lookahead(cache);
    const bytes = Buffer.from(`${'get '.padEnd(PAD)}${text}${behind}get more\r\n`, 'latin1');
    look(ahead, bytes, PAD, PAD + text.length);
    expect(ahead.next).toBe(0);
    return Array.from({ length: ahead.count }, (_, i) => {
      const start = ahead.start[i]!;
      const end = ahead.end[i]!;
      expect(end).toBeLessThanOrEqual(PAD + text.length);
      expect(ahead.hash[i]).toBe(cache.assoc.hash(bytes, start, end));
      ahead.next = i;
      expect(ahead.isAt(start)).toBe(true);
      expect(ahead.isAt(start + 1)).toBe(false);
      return `${start - PAD}:${bytes.toString('latin1', start, end)}`;
    });
  });
  expect(answers[1]).toEqual(answers[0]);
  expect(answers[2]).toEqual(answers[0]);
  return answers[0]!;
}

const key = fc.oneof(
  { weight: 8, arbitrary: fc.string({ minLength: 1, maxLength: 8 }).map((s) => s.replace(/ /g, 'x')) },
  { weight: 1, arbitrary: fc.constantFrom(249, 250, 251).map((n) => 'k'.repeat(n)) },
  { weight: 1, arbitrary: fc.constantFrom('', '\xff', 'a\rb', 'a\0b') },
);
const line = fc.oneof(
  { weight: 10, arbitrary: key.map((k) => `get ${k}\r\n`) },
  { weight: 5, arbitrary: fc.tuple(key, fc.constantFrom('', ' v', ' k v q', '  ')).map(([k, f]) => `mg ${k}${f}\r\n`) },
  {
    weight: 1,
    arbitrary: fc.constantFrom('get a\n', 'get  a\r\n', 'get a b\r\n', 'gets a\r\n', 'mn\r\n', 'mg a \0\r\n'),
  },
);

describe('lookahead', () => {
  it('finds the gets that follow each other, and no more', () => {
    fc.assert(
      fc.property(fc.array(line, { maxLength: 40 }), fc.nat(), (lines, cut) => {
        const whole = lines.join('');
        const text = whole.slice(0, whole.length - (cut % 7));
        const expected: string[] = [];
        let at = 0;
        while (expected.length < AHEAD_KEYS) {
          const match = LINE.exec(text.slice(at));
          // Seven bytes are the shortest get.
          if (match === null || text.length - at < 7) break;
          const name = match[1] ?? match[2]!;
          expected.push(`${at + match[0].indexOf(' ') + 1}:${name}`);
          at += match[0].length;
        }
        expect(found(text, (ahead, ...where) => ahead.lines(...where))).toEqual(expected);
      }),
      { numRuns: 1000 },
    );
  });

  it('finds the keys of a line', () => {
    fc.assert(
      fc.property(
        fc.array(key, { maxLength: 40 }),
        fc.constantFrom('', '\r\n', '\n', '\0', ' \r\nget b\r\n'),
        (keys, end) => {
          const text = keys.join(' ') + end;
          const inLine = /^(?:[^\r\n\0]|\r(?!\n))*/.exec(text)![0];
          // A CR in the last place may be that of the CR LF behind it, which is out of sight.
          const expected = [...inLine.matchAll(/[^ ]+/g)].map((m) => `${m.index}:${m[0]}`).slice(0, AHEAD_KEYS);
          expect(found(text, (ahead, ...where) => ahead.keys(...where))).toEqual(expected);
        },
      ),
      { numRuns: 1000 },
    );
  });

  it('finds the gets of the binary protocol', () => {
    const opcode = fc.oneof(
      { weight: 9, arbitrary: fc.constantFrom(0, 9, 0x0c, 0x0d) },
      fc.constantFrom(1, 0x0a, 0x1d),
    );
    const extras = fc.oneof({ weight: 9, arbitrary: fc.constant(0) }, fc.constant(4));
    const magic = fc.oneof({ weight: 20, arbitrary: fc.constant(0x80) }, fc.constant(0x81));
    const request = fc.record({ opcode, extras, magic, key: fc.string({ maxLength: 6 }) });
    fc.assert(
      fc.property(fc.array(request, { maxLength: 30 }), fc.nat(40), (requests, cut) => {
        const packets = requests.map((r) =>
          packet(r.opcode, { key: r.key, extras: Buffer.alloc(r.extras), magic: r.magic }),
        );
        const whole = Buffer.concat(packets).toString('latin1');
        const text = whole.slice(0, Math.max(0, whole.length - cut));
        const expected: string[] = [];
        let at = 0;
        for (const [i, r] of requests.entries()) {
          const get = [0, 9, 0x0c, 0x0d].includes(r.opcode) && r.extras === 0 && r.magic === 0x80 && r.key !== '';
          if (!get || at + packets[i]!.length > text.length || expected.length === AHEAD_KEYS) break;
          expected.push(`${at + 24}:${Buffer.from(r.key).toString('latin1')}`);
          at += packets[i]!.length;
        }
        expect(found(text, (ahead, ...where) => ahead.packets(...where))).toEqual(expected);
      }),
      { numRuns: 1000 },
    );
  });

  it('reads a cache that is full to its last byte, and changes nothing', () => {
    const full = createCache({ ...DEFAULT_CACHE_CONFIG, memoryBytes: 2 * PAGE_BYTES }, 'none', 1, 1);
    const ahead = new Lookahead(full);
    const { i32 } = full.memory;
    const text = Buffer.from(Array.from({ length: AHEAD_KEYS }, (_, i) => `get k${i}\r\n`).join(''));
    // Every bucket names the last thing that a ref can name.
    for (let i = 0; i < AHEAD_KEYS; i++) {
      const name = Buffer.from(`k${i}`);
      i32[full.assoc.bucketWord(full.assoc.hash(name, 0, name.length))] = (i32.length - 8) >> 1;
    }
    const before = Buffer.from(full.memory.u8);
    ahead.lines(text, 0, text.length);
    expect(ahead.count).toBe(AHEAD_KEYS);
    expect(before.equals(full.memory.u8)).toBe(true);
  });
});
