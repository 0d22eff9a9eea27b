/** Properties: what must hold for any bytes, in any cut. */

import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadConfiguration } from '../src/conf/compile.ts';
import { LexError, Lexer, Token } from '../src/conf/lexer.ts';
import { compilePattern, PatternError } from '../src/conf/regex.ts';
import { parseSize, parseTimeMs } from '../src/conf/units.ts';
import { formatDate, parseDate } from '../src/http/date.ts';
import { Engine } from '../src/http/engine.ts';
import { Extents } from '../src/http/extents.ts';
import type { FileCacheOptions } from '../src/http/file-cache.ts';
import { HEADER_NAMES, HeaderId, headerId } from '../src/http/headers.ts';
import { validHost } from '../src/http/intake.ts';
import { type Memo, MemoTable } from '../src/http/prepared.ts';
import { headHash } from '../src/http/replay.ts';
import { STATUS_BYTES } from '../src/http/status-rows.ts';
import { normalized, normalizeUri } from '../src/http/uri.ts';
import { ErrorLogWriter } from '../src/log/error-log.ts';
import { Syslog } from '../src/log/syslog.ts';
import { AccessLogs } from '../src/modules/log/writer.ts';
import { HEADER_FILTERS, PART_FILTERS, PHASES } from '../src/modules/phases.ts';
import { parseRanges } from '../src/modules/range/filter.ts';
import { latin1 } from './support/client.ts';
import { FakeChannel } from './support/fake-channel.ts';
import { makePrefix } from './support/server.ts';

/** Text over the bytes that mean something to the subject. */
const over = (alphabet: string[], max = 60): fc.Arbitrary<string> =>
  fc.array(fc.constantFrom(...alphabet), { maxLength: max }).map((parts) => parts.join(''));

describe('configuration', () => {
  test('the lexer ends or throws, never loops, and gives back what was quoted', () => {
    fc.assert(
      fc.property(over(['a', ' ', ';', '{', '}', '"', "'", '\\', '$', '#', '\n', ')', 'é']), (text) => {
        const lexer = new Lexer(text);
        try {
          for (let i = 0; i <= text.length + 1; i++) {
            const token = lexer.next();
            if (token === Token.End) return;
            if (token === Token.Directive || token === Token.BlockStart) expect(lexer.args.length).toBeGreaterThan(0);
          }
          throw new Error('more tokens than bytes');
        } catch (error) {
          expect(error).toBeInstanceOf(LexError);
          expect((error as LexError).line).toBeLessThanOrEqual(text.split('\n').length);
        }
      }),
      { numRuns: 3000 },
    );
  });

  test('a quoted word comes out as it went in', () => {
    fc.assert(
      fc.property(
        fc.array(fc.string({ unit: 'binary-ascii', maxLength: 20 }), { minLength: 1, maxLength: 5 }),
        (words) => {
          const quote = (word: string): string => `"${word.replace(/[\\"]/g, '\\$&')}"`;
          const lexer = new Lexer(`${words.map(quote).join(' ')};`);
          expect(lexer.next()).toBe(Token.Directive);
          expect(lexer.args).toEqual(words);
        },
      ),
    );
  });

  test('units: sizes scale, times add up, junk is refused', () => {
    fc.assert(
      fc.property(fc.nat(100_000), fc.constantFrom('', 'k', 'K', 'm', 'M'), (n, unit) => {
        const factor = { '': 1, k: 1024, m: 1024 * 1024 }[unit.toLowerCase()] as number;
        expect(parseSize(`${n}${unit}`)).toBe(n * factor);
      }),
    );
    fc.assert(
      fc.property(fc.nat(9), fc.nat(23), fc.nat(59), fc.nat(59), fc.nat(999), (d, h, m, s, ms) => {
        const total = (((d * 24 + h) * 60 + m) * 60 + s) * 1000 + ms;
        expect(parseTimeMs(`${d}d${h}h${m}m${s}s${ms}ms`)).toBe(total);
      }),
    );
    for (const junk of ['', 'k', '-1', '1.5m', '1g', '0x1', '1 k']) expect(parseSize(junk)).toBeNull();
    for (const junk of ['', 's', '1m1h', '1x', '-1', '1.5s', '1ss', 'ms']) expect(parseTimeMs(junk)).toBeNull();
  });

  test('a pattern compiles or is refused; what compiles means the same', () => {
    fc.assert(
      fc.property(
        over([
          'a',
          'b',
          '\\d',
          '\\w',
          '(',
          ')',
          '[',
          ']',
          '^',
          '$',
          '.',
          '*',
          '+',
          '?',
          '{2}',
          '|',
          '\\',
          '(?i)',
          '(?:',
          '(?<n>',
          '[[:alpha:]]',
        ]),
        (pattern) => {
          try {
            compilePattern(pattern, false);
          } catch (error) {
            expect(error).toBeInstanceOf(PatternError);
          }
        },
      ),
      { numRuns: 3000 },
    );
    const cases: [string, string, boolean][] = [
      ['^/a$', '/a', true],
      ['^/a$', '/a\n', true],
      ['a.c', 'a\nc', false],
      ['\\Aab\\z', 'ab', true],
      ['\\Aab\\z', 'ab\n', false],
      ['\\Aab\\Z', 'ab\n', true],
      ['(?i)AB', 'ab', true],
      ['x(?:AB)', 'xab', false],
      ['[[:digit:]]+x', '12x', true],
      ['[]a]', ']', true],
      ['\\Qa.b\\E', 'axb', false],
      ['(?P<name>a)', 'a', true],
      ['\\x41', 'A', true],
      ['a{', 'a{', true],
    ];
    for (const [pattern, text, matches] of cases) {
      expect([pattern, text, compilePattern(pattern, false).regex.test(text)]).toEqual([pattern, text, matches]);
    }
    for (const pattern of ['a++', '(?>a)', '\\K', '(*UTF8)', '(?R)', '('])
      expect(() => compilePattern(pattern, false)).toThrow(PatternError);
  });
});

describe('URIs', () => {
  const uri = fc
    .array(fc.constantFrom('/', '.', '..', '%2e', '%2F', '%00', '%', 'a', 'b', '?', '#', '%41', '%zz', '+', '\x80'), {
      maxLength: 25,
    })
    .map((parts) => `/${parts.join('')}`);

  test('a normalised path begins with a slash and cannot climb', () => {
    fc.assert(
      fc.property(uri, (text) => {
        const bytes = latin1(text);
        if (!normalizeUri(bytes, 0, bytes.length, true, false)) return;
        const { path } = normalized;
        expect(path.startsWith('/')).toBe(true);
        expect(path.split('/')).not.toContain('..');
        expect(path.split('/')).not.toContain('.');
        expect(path).not.toContain('\0');
        expect(path).not.toContain('//');
      }),
      { numRuns: 10_000 },
    );
  });

  test('a path of plain segments is left alone, however it is encoded', () => {
    const segment = fc.stringMatching(/^[a-z][a-z0-9]{0,5}$/);
    fc.assert(
      fc.property(
        fc.array(segment, { minLength: 1, maxLength: 5 }),
        fc.infiniteStream(fc.boolean()),
        (segments, coins) => {
          const path = `/${segments.join('/')}`;
          let encoded = '';
          for (const ch of path) {
            const encode = coins.next().value === true && ch !== '/';
            encoded += encode ? `%${ch.charCodeAt(0).toString(16)}` : ch;
          }
          const bytes = latin1(encoded);
          expect(normalizeUri(bytes, 0, bytes.length, true, false)).toBe(true);
          expect(normalized.path).toBe(path);
        },
      ),
    );
  });

  test('normalising twice is normalising once', () => {
    fc.assert(
      fc.property(uri, (text) => {
        const bytes = latin1(text);
        if (!normalizeUri(bytes, 0, bytes.length, true, false)) return;
        const once = normalized.path;
        if (/[%?#]/.test(once)) return;
        const again = latin1(once);
        expect(normalizeUri(again, 0, again.length, true, false)).toBe(true);
        expect(normalized.path).toBe(once);
      }),
      { numRuns: 5000 },
    );
  });
});

describe('headers', () => {
  test('every known name is found in any case, and nothing else is', () => {
    for (const [id, name] of HEADER_NAMES.entries()) {
      for (const form of [name, name.toUpperCase()]) expect(headerId(latin1(form), 0, form.length)).toBe(id);
    }
    fc.assert(
      fc.property(over([...'abcdefghinorstuvw-ACEHIRT'], 20), (name) => {
        const expected = (HEADER_NAMES as readonly string[]).indexOf(name.toLowerCase());
        expect(headerId(latin1(name), 0, name.length)).toBe(expected < 0 ? HeaderId.Unknown : expected);
      }),
    );
  });

  test('dates survive a round trip; other texts are refused or within range', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 4_000_000_000 }), (seconds) => {
        expect(parseDate(formatDate(seconds))).toBe(seconds);
        expect(formatDate(seconds).length).toBe(29);
      }),
    );
    for (const junk of [
      '',
      'x',
      'Sun, 32 Jan 2026 00:00:00 GMT',
      'Sun, 29 Feb 2026 00:00:00 GMT',
      'Sun, 01 Jan 2026 24:00:00 GMT',
      'Sun, 01 Foo 2026 00:00:00 GMT',
    ]) {
      expect(parseDate(junk)).toBe(-1);
    }
  });

  test('ranges stay within the file, in order of the request', () => {
    const spec = fc.oneof(
      fc.tuple(fc.nat(30), fc.nat(30)).map(([a, b]) => `${a}-${b}`),
      fc.nat(30).map((a) => `${a}-`),
      fc.nat(30).map((a) => `-${a}`),
      over(['-', ',', ' ', '1', 'x'], 5),
    );
    fc.assert(
      fc.property(fc.array(spec, { minLength: 1, maxLength: 6 }), fc.nat(20), (specs, total) => {
        const found = parseRanges(`bytes=${specs.join(',')}`, total, 100);
        if (typeof found === 'string') return;
        expect(found.length).toBeGreaterThan(0);
        let sum = 0;
        for (let i = 0; i < found.length; i += 2) {
          const start = found[i] as number;
          const end = found[i + 1] as number;
          expect(start).toBeGreaterThanOrEqual(0);
          expect(end).toBeGreaterThan(start);
          expect(end).toBeLessThanOrEqual(total);
          sum += end - start;
        }
        expect(sum).toBeLessThanOrEqual(total);
      }),
      { numRuns: 5000 },
    );
  });

  test('a valid host has no byte that could end a header or a path', () => {
    const out = { host: '' };
    fc.assert(
      fc.property(over(['a', 'B', '.', ':', '[', ']', '/', ' ', '\t', '\0', '8', '\x7f', '-']), (text) => {
        if (!validHost(text, out)) return;
        expect(out.host).not.toMatch(/[\x00-\x20\x7f/A-Z]/);
        expect(out.host).not.toBe('');
      }),
      { numRuns: 5000 },
    );
  });
});

test('extents never overlap, and what is given back is whole again', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 100_000 })), { maxLength: 60 }), (steps) => {
      const size = 1 << 20;
      const extents = new Extents(size);
      const held: [start: number, bytes: number][] = [];
      for (const [take, value] of steps) {
        if (take) {
          const start = extents.take(value);
          if (start < 0) continue;
          for (const [other, bytes] of held) expect(start + value <= other || other + bytes <= start).toBe(true);
          expect(start + value).toBeLessThanOrEqual(size);
          held.push([start, value]);
        } else if (held.length > 0) {
          const [start, bytes] = held.splice(value % held.length, 1)[0] as [number, number];
          extents.give(start, bytes);
        }
      }
      for (const [start, bytes] of held) extents.give(start, bytes);
      expect(extents.free).toBe(size);
      expect(extents.take(size)).toBe(0);
    }),
  );
});

const ROOM: [string, FileCacheOptions][] = [
  ['for all files', { regionBytes: 1 << 20, smallBytes: 1 << 16, entriesMax: 100 }],
  ['for none', { regionBytes: 4096, smallBytes: 0, entriesMax: 0 }],
];

describe.each(ROOM)('the engine with room %s', (_room, cache) => {
  const dir = makePrefix({
    'html/a.txt': 'hello, world\n',
    'html/b.txt': 'goodbye\n',
    'html/c.txt': 'nobody’s\n',
    'html/empty': '',
    'html/middle.bin': 'm'.repeat(50_000),
    'html/big.bin': 'b'.repeat(1_500_000),
  });
  mkdirSync(join(dir, 'html/dir'));
  writeFileSync(
    join(dir, 'n.conf'),
    `events {} http { server { listen 127.0.0.1:1; root html; access_log off; error_log logs/e.log emerg; types { text/plain txt; }
      location /r { return 200 "text"; } location /close { keepalive_timeout 0; return 200 bye; } } }`,
  );
  let channel: FakeChannel;
  let engine: Engine;
  beforeAll(() => {
    const { model } = loadConfiguration({
      prefix: `${dir}/`,
      confFile: join(dir, 'n.conf'),
      globals: '',
      errorLog: 'stderr',
    });
    const http = model.http;
    if (http === null) throw new Error('no http');
    engine = new Engine(
      {
        http,
        phases: PHASES,
        headerFilters: HEADER_FILTERS,
        partFilters: PART_FILTERS,
        prefix: `${dir}/`,
        confPrefix: `${dir}/`,
        errorLog: new ErrorLogWriter([]),
        mainErrorLogs: [],
        accessLogs: new AccessLogs([], http.logFormats, new Syslog(), () => {}),
        workerConnections: 1_000_000,
        status: new SharedArrayBuffer(STATUS_BYTES),
        statusRow: 0,
        zones: [],
        peerOf: () => ({ host: '127.0.0.1', port: 1 }),
        localOf: () => '127.0.0.1',
        boundTo: [{ host: '127.0.0.1', port: 1 }],
        onDeaf: () => {},
        onIdle: () => {},
        cache,
      },
      (sink) => {
        channel = new FakeChannel(sink);
        return channel;
      },
    );
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  const line = fc.constantFrom(
    'GET /a.txt HTTP/1.1',
    'HEAD /a.txt HTTP/1.1',
    'GET /dir HTTP/1.1',
    'GET /none HTTP/1.1',
    'GET /r HTTP/1.1',
    'POST /a.txt HTTP/1.1',
    'GET /middle.bin HTTP/1.1',
    'GET /big.bin HTTP/1.1',
    'GET /empty HTTP/1.1',
    'GET /%61.txt?x HTTP/1.1',
    'GET /b.txt HTTP/1.1',
    'GET /../x HTTP/1.1',
    'BAD',
    'GET /a.txt HTTP/1.0',
    'GET /close HTTP/1.1',
    'GET /a.txt',
  );
  const header = fc.constantFrom(
    'Host: x',
    'Connection: close',
    'Connection: keep-alive',
    'Range: bytes=1-3',
    'Range: bytes=0-0,2-2',
    'If-None-Match: *',
    'Content-Length: 5',
    'Transfer-Encoding: chunked',
    'Broken',
    'A: \0',
    'Expect: 100-continue',
    `X: ${'v'.repeat(1200)}`,
  );
  const body = fc.constantFrom('', '', 'abcde', 'zz\r\n');
  const lineBreak = fc.constantFrom('\r\n', '\r\n', '\n');
  /** Chunks that are broken are refused when they have come with the head, and end the connection later: as in nginx. */
  const CHUNKS = '3\r\nabc\r\n0\r\n\r\n';
  const oneRequest = fc
    .tuple(line, fc.array(header, { maxLength: 4 }), body, lineBreak)
    .map(([first, headers, text, eol]) => {
      const chunked = headers.includes('Transfer-Encoding: chunked');
      const host = headers.includes('Host: x') ? [] : ['Host: y'];
      return `${[first, ...host, ...headers].join(eol)}${eol}${eol}${chunked ? CHUNKS : text}`;
    });

  /** Everything the server said to these cuts; boundaries are counted, so they are made equal. */
  const answer = (cuts: Uint8Array[]): string => {
    channel.connect();
    for (const cut of cuts) channel.deliver(cut);
    channel.end();
    return channel.output.replaceAll(/\d{20}/g, 'BOUNDARY').replaceAll(/Date: [^\r]*/g, 'Date:');
  };

  test('the answer does not depend on where the bytes were cut', () => {
    fc.assert(
      fc.property(
        fc.array(oneRequest, { minLength: 1, maxLength: 4 }),
        fc.array(fc.nat(), { maxLength: 12 }),
        (requests, at) => {
          channel.refuse = () => false;
          const bytes = latin1(requests.join(''));
          const whole = answer([bytes]);
          const places = [...new Set(at.map((n) => n % (bytes.length + 1)))].sort((a, b) => a - b);
          const cuts: Uint8Array[] = [];
          let start = 0;
          for (const place of [...places, bytes.length]) {
            if (place > start) cuts.push(bytes.subarray(start, place));
            start = place;
          }
          expect(answer(cuts)).toBe(whole);
        },
      ),
      { numRuns: 400 },
    );
  });

  test('one byte at a time, for every border of a pipeline', () => {
    channel.refuse = () => false;
    const text =
      'GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\nPOST /a.txt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: x\r\n\r\nGET http://x/middle.bin HTTP/1.1\r\nHost: y\r\nRange: bytes=1-2\r\n\r\n';
    const bytes = latin1(text);
    const whole = answer([bytes]);
    expect(whole.split('HTTP/1.1 ').length).toBe(4);
    expect(answer([...bytes].map((byte) => Uint8Array.of(byte)))).toBe(whole);
    for (let i = 1; i < bytes.length; i++) expect(answer([bytes.subarray(0, i), bytes.subarray(i)])).toBe(whole);
  });

  test('the answer does not depend on when the channel is full', () => {
    fc.assert(
      fc.property(
        fc.array(oneRequest, { minLength: 1, maxLength: 4 }),
        fc.array(fc.boolean(), { minLength: 1, maxLength: 20 }),
        (requests, refusals) => {
          const bytes = latin1(requests.join(''));
          channel.refuse = () => false;
          const whole = answer([bytes]);
          let turn = 0;
          channel.refuse = () => refusals[turn++] === true;
          expect(answer([bytes])).toBe(whole);
        },
      ),
      { numRuns: 400 },
    );
  });

  test('any bytes at all end in answers and a close', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 6 }), (cuts) => {
        channel.refuse = () => false;
        const text = answer(cuts.filter((cut) => cut.length > 0));
        if (text !== '') expect(text).toMatch(/^(?:HTTP\/1\.1 \d\d\d |<html>)/);
      }),
      { numRuns: 2000 },
    );
  });

  test.each([0, 1, 2, 3])('gives the bytes of the files, whatever others ask for while %i pieces wait', (waits) => {
    let refused = 0;
    channel.refuse = () => ++refused % 4 < waits;
    channel.meanwhile = () => void engine.files.find(join(dir, 'html/c.txt'), engine.tick, 0, true, false);
    const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;
    const part = 'GET /a.txt HTTP/1.1\r\nHost: x\r\nRange: bytes=7-11\r\n\r\n';
    const text = answer([latin1(['/a.txt', '/b.txt', '/middle.bin', '/a.txt', '/b.txt'].map(get).join('') + part)]);
    channel.meanwhile = () => {};
    const bodies = text.split(/HTTP\/1\.1 20[06][\s\S]*?\r\n\r\n/).slice(1);
    const [a, b] = ['hello, world\n', 'goodbye\n'];
    expect(bodies).toEqual([a, b, 'm'.repeat(50_000), a, b, 'world']);
  });
});

describe('known heads', () => {
  test('a head that is known by its hash ends where its empty line ends', () => {
    const bytes = latin1('GET / HTTP/1.1\r\nHost: x\r\n\r\nmore');
    const end = bytes.length - 4;
    expect(headHash(bytes, 0, bytes.length)).toBe(headHash(bytes, 0, end));
    expect(headHash(bytes, 0, end - 1)).toBe(0);
  });

  test('the table of known heads finds the newest memo of a head, or none, and forgets the oldest of a set first', () => {
    const hashes = [1, 2, 1025, 2049, 3073, 4097, 5121, -1023];
    const puts = fc.array(fc.record({ hash: fc.constantFrom(...hashes), listen: fc.nat(1) }), { maxLength: 60 });
    fc.assert(
      fc.property(puts, (list) => {
        const table = new MemoTable();
        const memos = list.map((each) => each as unknown as Memo);
        for (const memo of memos) table.put(memo);
        for (const hash of hashes) {
          for (const listen of [0, 1]) {
            const wanted = memos.filter((memo) => memo.hash === hash && memo.listen === listen).at(-1);
            const inSet = memos.filter((memo) => (memo.hash & 1023) === (hash & 1023));
            const newer = inSet.slice(inSet.lastIndexOf(wanted as Memo) + 1);
            const others = new Set(newer.map((memo) => `${memo.hash} ${memo.listen}`));
            expect(table.get(hash, listen)).toBe(wanted === undefined || others.size >= 4 ? null : wanted);
          }
        }
        table.clear();
        for (const hash of hashes) expect(table.get(hash, 0)).toBeNull();
      }),
    );
  });
});
