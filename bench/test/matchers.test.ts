import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { echoExchange } from '../src/loadgen/echo.ts';
import { type ByteTable, type Matcher, memoryOf, Verdict } from '../src/loadgen/exchange.ts';
import { headerLength, httpExchange } from '../src/loadgen/http.ts';
import { keyOf, memcachedExchange } from '../src/loadgen/memcached.ts';
import { pattern } from '../src/payload.ts';
import { traceOf } from '../src/traces.ts';

/** Hands `response` to the matcher in pieces of these lengths, each at its own place in memory. */
function feed(matcher: Matcher, connection: number, response: Uint8Array, cuts: readonly number[], shift = 0): Verdict {
  const borders = [...new Set([0, ...cuts.map((cut) => cut % (response.length + 1)), response.length])].sort(
    (a, b) => a - b,
  );
  let verdict: Verdict = Verdict.More;
  for (let i = 1; i < borders.length; i++) {
    const piece = response.subarray(borders[i - 1]!, borders[i]!);
    const arena = new Uint8Array(64 + piece.length).fill(0x21);
    arena.set(piece, 8 + shift);
    verdict = matcher.match(connection, memoryOf(arena), 8 + shift, piece.length);
    if (verdict === Verdict.Wrong) return verdict;
    if (verdict === Verdict.Done && i < borders.length - 1) throw new Error('done before the last byte');
  }
  return verdict;
}

const DEFAULTS = { keys: 5, valueBytes: 67, setShare: 0, zipf: 0, shape: 'single', batch: 7, misses: false } as const;

const cuts = fc.array(fc.nat(5000), { maxLength: 8 });
const shift = fc.nat(7);

const tableEntry = ({ bytes, start, length }: ByteTable, i: number): Uint8Array =>
  bytes.slice(start[i]!, start[i]! + length[i]!);

/** Responses of each protocol, with what produced them. */
const http = (
  length: number,
  fields: readonly string[] = [],
): { header: string; response: Buffer; matcher: Matcher } => {
  const body = pattern(length);
  const header = ['HTTP/1.1 200 OK', 'Server: x', ...fields, `Content-Length: ${length}`, '', ''].join('\r\n');
  const { matcher } = httpExchange({ host: 'h', path: '/', size: length }, 4);
  return { header, response: Buffer.concat([Buffer.from(header), body]), matcher };
};

const subjects = [
  {
    name: 'echo',
    make: () => {
      const { requests, matcher } = echoExchange(64, 4);
      return { matcher, variant: 3, response: requests.bytes.slice(requests.start[3]!, requests.start[3]! + 64) };
    },
  },
  {
    name: 'memcached get',
    make: () => ({
      matcher: memcachedExchange(DEFAULTS, 4).matcher,
      variant: 2,
      response: Buffer.from(`VALUE ${keyOf(2)} 0 67\r\n${Buffer.from(pattern(67, 2)).toString()}\r\nEND\r\n`),
    }),
  },
  {
    name: 'memcached set',
    make: () => ({
      matcher: memcachedExchange({ ...DEFAULTS, setShare: 0.5 }, 4).matcher,
      variant: 7,
      response: Buffer.from('STORED\r\n'),
    }),
  },
  ...(['multiget', 'pipeline', 'getkq'] as const).map((shape) => ({
    name: `memcached ${shape}`,
    make: () => {
      const { matcher, responses } = memcachedExchange({ ...DEFAULTS, shape }, 4);
      return { matcher, variant: 6, response: tableEntry(responses, 6) };
    },
  })),
  {
    name: 'http, unknown header',
    make: () => {
      const { matcher, response } = http(1024);
      return { matcher, variant: 0, response };
    },
  },
  {
    name: 'http, body of a few bytes',
    make: () => {
      const { matcher, response } = http(5);
      return { matcher, variant: 0, response };
    },
  },
  {
    name: 'http, known header',
    make: () => {
      const { matcher, response } = http(1024);
      matcher.begin(0, 0);
      expect(feed(matcher, 0, response, [])).toBe(Verdict.Done);
      return { matcher, variant: 0, response };
    },
  },
];

describe.each(subjects)('the matcher of $name', ({ make }) => {
  it('is done at the last byte, wherever the response was cut', () => {
    fc.assert(
      fc.property(cuts, shift, (where, by) => {
        const { matcher, variant, response } = make();
        for (let turn = 0; turn < 3; turn++) {
          matcher.begin(1, variant);
          expect(feed(matcher, 1, response, where, by)).toBe(Verdict.Done);
        }
      }),
    );
  });

  it('keeps connections apart', () => {
    const { matcher, variant, response } = make();
    matcher.begin(1, variant);
    matcher.begin(2, variant);
    const half = response.length >> 1;
    expect(feed(matcher, 1, response.subarray(0, half), [])).toBe(Verdict.More);
    expect(feed(matcher, 2, response.subarray(0, half), [])).toBe(Verdict.More);
    expect(feed(matcher, 2, response.subarray(half), [])).toBe(Verdict.Done);
    expect(feed(matcher, 1, response.subarray(half), [])).toBe(Verdict.Done);
  });

  it('waits for a missing byte, and refuses a surplus one', () => {
    fc.assert(
      fc.property(cuts, shift, (where, by) => {
        const { matcher, variant, response } = make();
        matcher.begin(1, variant);
        expect(feed(matcher, 1, response.subarray(0, response.length - 1), where, by)).toBe(Verdict.More);
        matcher.begin(2, variant);
        expect(feed(matcher, 2, Buffer.concat([response, Buffer.from('\n')]), [], by)).toBe(Verdict.Wrong);
        expect(matcher.complaint(2)).toMatch(/1 bytes more/);
      }),
    );
  });
});

describe('responses that are known byte for byte', () => {
  it.each(subjects.slice(0, 6))('$name: any changed byte is wrong, wherever the response was cut', ({ make }) => {
    fc.assert(
      fc.property(cuts, shift, fc.nat(), fc.integer({ min: 1, max: 255 }), (where, by, at, flip) => {
        const { matcher, variant, response } = make();
        const changed = Uint8Array.from(response);
        changed[at % changed.length]! ^= flip;
        matcher.begin(1, variant);
        expect(feed(matcher, 1, changed, where, by)).toBe(Verdict.Wrong);
        expect(matcher.complaint(1)).toMatch(new RegExp(`^byte ${at % changed.length} of ${changed.length}: expected`));
      }),
    );
  });

  it.each([8, 64, 67, 100, 516])(
    'a get of %i bytes: every single bit is looked at, and every key has its own answer',
    (valueBytes) => {
      const keys = 10_100;
      const { matcher, responses } = memcachedExchange({ ...DEFAULTS, keys, valueBytes }, 1);
      const answer = (variant: number, response: Uint8Array): Verdict => {
        matcher.begin(0, variant);
        return feed(matcher, 0, response, []);
      };
      for (let variant = 0; variant < keys; variant += 99) {
        const response = tableEntry(responses, variant);
        expect(answer(variant, response)).toBe(Verdict.Done);
        expect(answer((variant + 10_000) % keys, response)).toBe(Verdict.Wrong);
        expect(answer((variant + 1) % keys, response)).toBe(Verdict.Wrong);
      }
      for (const variant of [0, 9999, 10_099]) {
        const response = tableEntry(responses, variant);
        for (let bit = 0; bit < response.length * 8; bit++) {
          response[bit >> 3]! ^= 1 << (bit & 7);
          expect(answer(variant, response)).toBe(Verdict.Wrong);
          response[bit >> 3]! ^= 1 << (bit & 7);
        }
      }
    },
  );

  it('another connection’s message is wrong', () => {
    const { requests, matcher } = echoExchange(64, 1);
    const other = requests.bytes.slice(requests.start[4]!, requests.start[4]! + 64);
    matcher.begin(0, 3);
    expect(feed(matcher, 0, other, [])).toBe(Verdict.Wrong);
  });
});

describe('the HTTP matcher', () => {
  it('compares the whole body when the header was parsed', () => {
    fc.assert(
      fc.property(fc.nat(1023), cuts, (at, where) => {
        const { matcher, header, response } = http(1024);
        response[header.length + at]! ^= 1;
        matcher.begin(0, 0);
        expect(feed(matcher, 0, response, where)).toBe(Verdict.Wrong);
        expect(matcher.complaint(0)).toMatch(new RegExp(`^byte ${at} of the body`));
      }),
    );
  });

  it('looks at every byte of the body within 128 responses when the header is known', () => {
    for (let at = 0; at < 1024; at += 31) {
      const { matcher, header, response } = http(1024);
      matcher.begin(0, 0);
      expect(feed(matcher, 0, response, [])).toBe(Verdict.Done);
      response[header.length + at]! ^= 1;
      let verdict: Verdict = Verdict.Done;
      for (let turn = 0; turn < 128 && verdict === Verdict.Done; turn++) {
        matcher.begin(0, 0);
        verdict = feed(matcher, 0, response, []);
      }
      expect(verdict).toBe(Verdict.Wrong);
    }
  });

  it('expects of each file of a trace its own length, again and again, on any connection', () => {
    const { requests, matcher, pick } = httpExchange({ host: 'h', path: '/', size: 1, trace: 'specweb' }, 4);
    const { sizes } = traceOf('specweb');
    const answer = (size: number): Buffer =>
      Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\n\r\n`), pattern(size)]);
    for (let turn = 0; turn < 2; turn++) {
      for (const [file, size] of sizes.entries()) {
        expect(pick(0)).toBe(file);
        expect(Buffer.from(tableEntry(requests, file)).toString()).toBe(
          `GET /specweb/${file}.html HTTP/1.1\r\nHost: h\r\n\r\n`,
        );
        matcher.begin(turn, file);
        expect(feed(matcher, turn, answer(size), [])).toBe(Verdict.Done);
        matcher.begin(3, file);
        expect(feed(matcher, 3, answer(size + 1), [])).toBe(Verdict.Wrong);
      }
    }
  });

  it('takes a header of another length in mid-run', () => {
    const { matcher, response } = http(100);
    const other = http(100, ['X-More: yes']).response;
    for (const one of [response, other, other, response, response]) {
      matcher.begin(0, 0);
      expect(feed(matcher, 0, one, [])).toBe(Verdict.Done);
    }
  });

  it.each([
    ['another status', 'HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\n', /expected HTTP\/1.1 200/],
    ['HTTP/1.0', 'HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\n', /expected HTTP\/1.1 200/],
    ['another length', 'HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n', /expected 100, got "101"/],
    ['a length that is no number', 'HTTP/1.1 200 OK\r\nContent-Length: 1e2\r\n\r\n', /expected 100, got "1e2"/],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\nContent-Length: 100\r\n\r\n', /got 2/],
    ['no length', 'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n', /got 0/],
    ['chunks', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n', /Transfer-Encoding/],
    ['an endless header', `HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(4000)}`, /no end of the header in 16384 bytes/],
  ])('refuses %s, also after a good response', (_name, text, complaint) => {
    for (const first of [false, true]) {
      const { matcher, response } = http(100);
      if (first) {
        matcher.begin(0, 0);
        expect(feed(matcher, 0, response, [])).toBe(Verdict.Done);
      }
      matcher.begin(0, 0);
      expect(feed(matcher, 0, Buffer.concat([Buffer.from(text), pattern(100)]), [])).toBe(Verdict.Wrong);
      expect(matcher.complaint(0)).toMatch(complaint);
    }
  });

  it('never throws on hostile bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), cuts, fc.boolean(), (bytes, where, warm) => {
        const { matcher, response } = http(100);
        if (warm) {
          matcher.begin(0, 0);
          feed(matcher, 0, response, []);
        }
        matcher.begin(0, 0);
        const prefix = Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n');
        expect(feed(matcher, 0, Buffer.concat([prefix, bytes]), where)).not.toBe(Verdict.Done);
      }),
    );
  });

  it('finds the empty line only where it is', () => {
    expect(headerLength(Buffer.from('a\r\n\r\nb'), 6)).toBe(5);
    expect(headerLength(Buffer.from('a\r\n\r\nb'), 4)).toBe(-1);
    expect(headerLength(Buffer.from('a\n\nb\r\nc'), 7)).toBe(-1);
  });
});

describe('a get that may find nothing', () => {
  it('is done by its value or by END alone, cut anywhere, and by nothing else', () => {
    fc.assert(
      fc.property(fc.constantFrom('END\r\n', 'hit'), cuts, (answer, where) => {
        const { matcher, responses } = memcachedExchange({ ...DEFAULTS, misses: true }, 1);
        const response = answer === 'hit' ? tableEntry(responses, 3) : Buffer.from(answer);
        for (let turn = 0; turn < 2; turn++) {
          matcher.begin(0, 3);
          expect(feed(matcher, 0, response, where)).toBe(Verdict.Done);
        }
        matcher.begin(0, 3);
        expect(feed(matcher, 0, Buffer.from('ERROR\r\n'), where)).toBe(Verdict.Wrong);
        matcher.begin(0, 3);
        expect(feed(matcher, 0, tableEntry(responses, 2), where)).toBe(Verdict.Wrong);
      }),
    );
  });
});

describe('a long response', () => {
  const subject = () => memcachedExchange({ ...DEFAULTS, keys: 1, valueBytes: 60_000 }, 1);

  it('is never done when a byte is missing or too many', () => {
    fc.assert(
      fc.property(fc.nat(59_000), fc.boolean(), (at, more) => {
        const { matcher, responses } = subject();
        const response = Buffer.from(tableEntry(responses, 0));
        const rest = response.subarray(more ? at : at + 1);
        matcher.begin(0, 0);
        expect(feed(matcher, 0, Buffer.concat([response.subarray(0, at + (more ? 1 : 0)), rest]), [])).not.toBe(
          Verdict.Done,
        );
      }),
    );
  });

  it('with a wrong byte is seen within as many responses as it has KiB', () => {
    fc.assert(
      fc.property(fc.nat(59_999), (at) => {
        const { matcher, responses } = subject();
        const response = tableEntry(responses, 0);
        response[at]! ^= 1;
        const verdicts = Array.from({ length: 61 }, () => {
          matcher.begin(0, 0);
          return feed(matcher, 0, response, []);
        });
        expect(verdicts).toContain(Verdict.Wrong);
      }),
      { numRuns: 20 },
    );
  });
});

describe('requests', () => {
  it('of memcached get every key about equally often, and set as often as asked', () => {
    const exchange = memcachedExchange({ ...DEFAULTS, keys: 10, valueBytes: 8, setShare: 0.25 }, 1);
    const counts = new Array<number>(20).fill(0);
    for (let i = 0; i < 20_000; i++) counts[exchange.pick(0)]!++;
    const sets = counts.slice(10).reduce((a, b) => a + b);
    expect(sets / 20_000).toBeCloseTo(0.25, 1);
    for (const gets of counts.slice(0, 10)) expect(gets / 1500).toBeCloseTo(1, 0);
  });

  it('of memcached follow Zipf’s law where they are told to', () => {
    const { pick } = memcachedExchange({ ...DEFAULTS, keys: 1000, valueBytes: 8, zipf: 0.99 }, 1);
    const counts = new Array<number>(1000).fill(0);
    for (let i = 0; i < 200_000; i++) counts[pick(0)]!++;
    const weights = Array.from({ length: 1000 }, (_, rank) => (rank + 1) ** -0.99);
    const sum = weights.reduce((a, b) => a + b);
    for (const rank of [0, 1, 2, 9]) expect(counts[rank]! / ((200_000 * weights[rank]!) / sum)).toBeCloseTo(1, 1);
    const tail = counts.slice(500).reduce((a, b) => a + b);
    const tailExpected = (200_000 * weights.slice(500).reduce((a, b) => a + b)) / sum;
    expect(tail / tailExpected).toBeCloseTo(1, 1);
  });

  it('of memcached that are made on the spot are those of the table', () => {
    const { requests, composed } = memcachedExchange({ ...DEFAULTS, keys: 30_000, valueBytes: 4 }, 1);
    const bytes = new Uint8Array(64);
    for (let variant = 0; variant < 30_000; variant++) {
      composed!.compose(variant, memoryOf(bytes).words, 2);
      const whole = Buffer.from(bytes.subarray(8, 8 + composed!.bytes));
      if (!whole.equals(tableEntry(requests, variant))) expect(whole.toString()).toBe(`get ${keyOf(variant)}\r\n`);
    }
  });

  it('of memcached and HTTP are what the protocols say', () => {
    const text = (table: ByteTable, i: number): string => Buffer.from(tableEntry(table, i)).toString();
    const { requests } = memcachedExchange({ ...DEFAULTS, keys: 2, valueBytes: 3, setShare: 0.5 }, 1);
    expect(text(requests, 1)).toBe(`get ${keyOf(1)}\r\n`);
    expect(text(requests, 3)).toBe(`set ${keyOf(1)} 0 0 3\r\n${Buffer.from(pattern(3, 1)).toString()}\r\n`);
    const batch = { ...DEFAULTS, keys: 1, valueBytes: 3, batch: 2 };
    const value = `VALUE ${keyOf(0)} 0 3\r\n${Buffer.from(pattern(3, 0)).toString()}\r\n`;
    const multiget = memcachedExchange({ ...batch, shape: 'multiget' }, 1);
    expect(text(multiget.requests, 9)).toBe(`get ${keyOf(0)} ${keyOf(0)}\r\n`);
    expect(text(multiget.responses, 9)).toBe(`${value}${value}END\r\n`);
    const pipeline = memcachedExchange({ ...batch, shape: 'pipeline' }, 1);
    expect(text(pipeline.requests, 9)).toBe(`get ${keyOf(0)}\r\n`.repeat(2));
    expect(text(pipeline.responses, 9)).toBe(`${value}END\r\n`.repeat(2));
    const getkq = memcachedExchange({ ...batch, shape: 'getkq' }, 1);
    expect(tableEntry(getkq.requests, 9)).toHaveLength(2 * (24 + 18) + 24);
    expect(tableEntry(getkq.responses, 9)).toHaveLength(2 * (24 + 4 + 18 + 3) + 24);
    const get = httpExchange({ host: 'name', path: '/x', size: 1 }, 1);
    expect(text(get.requests, 0)).toBe('GET /x HTTP/1.1\r\nHost: name\r\n\r\n');
  });
});
