/**
 * The sweep: every directive, in every place, with every count and kind of argument, said to `nginx -t` of Debian and to ours.
 *
 * All of stderr must be the same, and the exit code. Some cases of each directive run here (`SWEEP=all` for all of them, about 25,000 and
 * half an hour; `SWEEP_SEED=n` for others). Differences that are meant stand in a table, each with its reason.
 */

import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { ALL_DIRECTIVES, DIRECTIVE_TABLE } from '../src/modules/table.ts';
import { DEBIAN_NGINX, makePrefix } from './support/server.ts';
import { askNginx, askOurs, type Case, casesOf, compareCases, homesOf, linesOf, sequence } from './support/sweep.ts';

const available = existsSync(DEBIAN_NGINX);
if (!available) console.log(`skipped: ${DEBIAN_NGINX} is not installed, so there is no oracle to ask`);

const ALL = process.env['SWEEP'] === 'all';
const SEED = Number(process.env['SWEEP_SEED'] ?? 1);
/** One case in so many, where not all are asked for. */
const STEP = ALL ? 1 : 80;
const LONG_MS = 7_200_000;

interface Answers extends Case {
  nginx: string;
  ours: string;
}

const EXPLAINED: { why: string; holds(each: Answers): boolean }[] = [
  {
    why: 'newer than 1.22, and described by the reference',
    holds: ({ text, nginx }) => text.includes('keepalive_min_timeout') && nginx.includes('unknown directive'),
  },
  {
    why: 'nginx starts without workers and serves nobody',
    holds: ({ text, ours }) =>
      /worker_processes 0+;/.test(text) && ours.includes('"worker_processes" directive invalid'),
  },
  {
    why: 'memory that a debugger could look into is not there',
    holds: ({ ours }) => ours.includes('"error_log memory:" is not supported by this server'),
  },
  {
    why: 'nginx ends without a word',
    holds: ({ nginx, ours }) => !nginx.includes('[emerg]') && ours.includes('"modern_browser" needs a version'),
  },
  {
    why: 'hash tables grow by themselves here',
    holds: ({ nginx }) => /could not build (?:optimal )?[a-z_]*hash/.test(nginx),
  },
  {
    why: 'TLS and HTTP/2 come later',
    holds: ({ ours }) => /parameter of the "listen" directive is not supported by this server/.test(ours),
  },
  {
    why: 'regular expressions are those of JavaScript',
    holds: ({ ours }) => /pcre2_compile\(\) failed: .* (?:is|are) not supported/.test(ours),
  },
  { why: 'nginx tells how it debugs itself', holds: ({ nginx }) => nginx.includes('[debug] ') },
];

const dir = makePrefix();
afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe.skipIf(!available)('what -t says', () => {
  const names = [...new Set(ALL_DIRECTIVES.map((row) => row.name))];

  test(
    'of each directive is what nginx says',
    async () => {
      const random = sequence(SEED);
      const cases = names.flatMap((name) => casesOf(name, homesOf(name), random, { values: 40, pairs: 30 }));
      const offset = Math.floor(random() * STEP);
      const chosen = cases.filter((_, i) => i % STEP === offset);
      const differences: Answers[] = [];
      for (let at = 0; at < chosen.length; at += 200) {
        for (const each of await compareCases(dir, chosen.slice(at, at + 200))) {
          if (each.nginx !== each.ours && !EXPLAINED.some((rule) => rule.holds(each))) differences.push(each);
        }
        if (ALL) console.log(`${at} of ${chosen.length}, ${differences.length} differences`);
      }
      expect(differences.slice(0, ALL ? 100 : 10)).toEqual([]);
    },
    LONG_MS,
  );

  test(
    'of lines in blocks with a grammar of their own is what nginx says',
    async () => {
      const found = await compareCases(
        dir,
        linesOf().filter((_, i) => ALL || i % 2 === SEED % 2),
      );
      const differences = found.filter((each) => each.nginx !== each.ours);
      expect(differences.filter((each) => !EXPLAINED.some((rule) => rule.holds(each))).slice(0, 10)).toEqual([]);
    },
    LONG_MS,
  );

  test('of a directive that we do not have names the module that is missing', async () => {
    for (const name of ['proxy_pass', 'ssl_certificate', 'fastcgi_pass', 'upstream', 'http2_push', 'resolver', 'mp4']) {
      const file = join(dir, 'absent.conf');
      writeFileSync(file, `events {}\n${name} x;\n`);
      expect((await askNginx(dir, [file]))[0], name).toContain(`"${name}" directive is not allowed here`);
      expect(await askOurs(dir, file), name).toMatch(
        new RegExp(`\\[emerg\\] "${name}" directive is not supported by this server: it has no .* in FILE:2`),
      );
    }
  });

  test.skipIf(!ALL)(
    'of any other word is that nobody knows it: every directive in the program is ours, or named with its module',
    async () => {
      const words =
        readFileSync(DEBIAN_NGINX)
          .toString('latin1')
          .match(/[a-z][a-z0-9_]{1,45}(?=\0)/g) ?? [];
      const unknown = [...new Set(words)].filter(
        (word) => !DIRECTIVE_TABLE.directives.has(word) && DIRECTIVE_TABLE.absent(word) === null,
      );
      const known: string[] = [];
      for (let at = 0; at < unknown.length; at += 200) {
        const part = unknown.slice(at, at + 200);
        const files = part.map((word, i) => {
          const file = join(dir, `word-${i}.conf`);
          writeFileSync(file, `${word};\n`);
          return file;
        });
        for (const [i, said] of (await askNginx(dir, files)).entries()) {
          if (!said.includes('unknown directive')) known.push(part[i] as string);
        }
      }
      expect(known).toEqual([]);
    },
    LONG_MS,
  );
});
