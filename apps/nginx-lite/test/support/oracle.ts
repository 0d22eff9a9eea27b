/**
 * The oracle: the same configuration and the same raw requests to Debian's nginx and to us, in both io modes.
 *
 * What it is for: files per module call `compareWithNginx`; a byte that is not the same, and is not among the differences explained
 * here, is a failure. Each request is sent twice to us: the second answer may come from memory and must be the same.
 */

import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, rmSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SERVER_FULL } from '../../src/version.ts';
import { exchange } from './client.ts';
import { conf, DEBIAN_NGINX, IO_MODES, makePrefix, type Running, startDebian, startLite } from './server.ts';

export const oracleAvailable = existsSync(DEBIAN_NGINX);
export const oracleVersion = oracleAvailable
  ? (/nginx\/[0-9.]+/.exec(execFileSync('sh', ['-c', `${DEBIAN_NGINX} -v 2>&1`], { encoding: 'utf8' }))?.[0] ?? '')
  : '';
if (!oracleAvailable) console.log(`skipped: ${DEBIAN_NGINX} is not installed, so there is no oracle to ask`);

/** Differences that are meant. Applied to both answers before they are compared. */
const EXPLAINED: { why: string; apply(text: string, port: number, nameLength: number): string }[] = [
  {
    why: 'the product has its own name',
    apply: (text) => text.replaceAll(/nginx(?:-lite)?\/[0-9.]+|nginx-lite(?=<|\r)/g, 'nginx'),
  },
  {
    why: 'built-in pages name the product, which changes their length',
    apply: (text) => text.replace(/(Content-Length: )\d+(?=\r\n[\s\S]*<hr><center>nginx<)/g, '$1#'),
  },
  {
    why: 'the same, where HEAD asks for such a page and there is only the length to see',
    apply: (text, _port, name) =>
      text.replace(
        /^(HTTP\/1\.1 [345][\s\S]*Content-Type: text\/html(?:; charset=[^\r]*)?\r\nContent-Length: )(\d+)(\r\n(?![\s\S]*ETag)[\s\S]*\r\n\r\n)$/,
        (_all, before: string, length: string, after: string) => `${before}${Number(length) - name}${after}`,
      ),
  },
  { why: 'the clock goes on', apply: (text) => text.replaceAll(/^(Date|Expires): [^\r]*/gm, '$1: #') },
  { why: 'each server has its own port', apply: (text, port) => text.replaceAll(`:${port}`, ':#') },
  {
    why: 'boundaries are counted from the start of the server',
    apply: (text) => text.replaceAll(/\b\d{20}\b/g, 'BOUNDARY'),
  },
];

export function normal(text: string, port: number, name: string): string {
  // A stream of answers is normalised one by one: the length of a built-in page is its own.
  return text
    .split(/(?=HTTP\/1\.1 \d\d\d )/)
    .map((part) => EXPLAINED.reduce((each, rule) => rule.apply(each, port, name.length), part))
    .join('');
}

/** Bodies as they were before they were packed and cut into chunks; `text` is one answer or several. */
export function unpacked(text: string): string {
  const end = text.indexOf('\r\n\r\n');
  if (end < 0) return text;
  const header = text.slice(0, end + 4);
  let rest = text.slice(end + 4);
  let body = '';
  const length = /^Content-Length: (\d+)\r$/m.exec(header);
  if (/^Transfer-Encoding: chunked\r$/m.test(header) && rest !== '') {
    for (;;) {
      const size = /^([0-9a-f]+)\r\n/.exec(rest);
      if (size === null) return `${header}BROKEN CHUNKS: ${rest.slice(0, 100)}`;
      const bytes = Number.parseInt(size[1] as string, 16);
      body += rest.slice(size[0].length, size[0].length + bytes);
      rest = rest.slice(size[0].length + bytes);
      if (!rest.startsWith('\r\n')) return `${header}BROKEN CHUNKS: ${rest.slice(0, 100)}`;
      rest = rest.slice(2);
      if (bytes === 0) break;
    }
  } else if (length !== null) {
    body = rest.slice(0, Number(length[1]));
    rest = rest.slice(Number(length[1]));
  } else [body, rest] = [rest, ''];
  if (/^Content-Encoding: gzip\r$/m.test(header) && body !== '' && length === null) {
    // A built-in page names the product.
    body = gunzipSync(Buffer.from(body, 'latin1'))
      .toString('latin1')
      .replaceAll(/nginx(?:-lite)?\/[0-9.]+/g, 'nginx');
  }
  return header + body + unpacked(rest);
}

export interface Group {
  name: string;
  http: string;
  requests: string[];
  /** What else is to be made the same before answers are compared, and why. */
  explained?: { why: string; apply(text: string): string }[];
}

export const get = (path: string, ...headers: string[]): string =>
  `GET ${path} HTTP/1.1\r\n${['Host: example.com', ...headers].map((line) => `${line}\r\n`).join('')}\r\n`;
export const head = (path: string, ...headers: string[]): string => get(path, ...headers).replace('GET', 'HEAD');
export const old = (path: string, ...headers: string[]): string =>
  `GET ${path} HTTP/1.0\r\n${headers.map((line) => `${line}\r\n`).join('')}\r\n`;

export const FILE_TIME = new Date('2026-03-01T10:20:30Z');

export function shown(text: string): string {
  return text.length > 1500 ? `${text.slice(0, 1200)}… (${text.length} bytes) …${text.slice(-100)}` : text;
}

const ORACLE_TRIES = 5;
const minuteNow = (): number => Math.floor(Date.now() / 60_000);

/** Declares the tests of `groups` over one folder of files; `prepare` adds what is no plain file. */
export function compareWithNginx(
  files: Record<string, string | Uint8Array>,
  groups: Group[],
  prepare?: (dir: string) => void,
): void {
  describe.skipIf(!oracleAvailable)(`the same bytes as ${oracleVersion}`, () => {
    const dir = oracleAvailable ? makePrefix(files) : '';
    beforeAll(() => {
      for (const name of Object.keys(files)) utimesSync(join(dir, name), FILE_TIME, FILE_TIME);
      prepare?.(dir);
      chmodSync(dir, 0o755);
    });
    afterAll(() => rmSync(dir, { recursive: true, force: true }));
    for (const group of groups) {
      describe(group.name, () => {
        let oracle: Running;
        const ours = new Map<string, Running>();
        beforeAll(async () => {
          // The oracle's workers run as the same user, so that both may read the same files.
          await Promise.all([
            startDebian(conf(group.http), { dir, pid: 'oracle.pid' }).then((server) => {
              oracle = server;
            }),
            ...IO_MODES.map(async (io) => {
              ours.set(io, await startLite(conf(group.http), { io, dir, pid: `${io}.pid` }));
            }),
          ]);
        });
        afterAll(async () => {
          await Promise.all([oracle?.stop(), ...[...ours.values()].map((each) => each.stop())]);
        });
        test.each(IO_MODES)('%s', async (io) => {
          const mine = ours.get(io) as Running;
          const explain = (text: string): string =>
            (group.explained ?? []).reduce((each, rule) => rule.apply(each), text);
          const differences: { request: string; nginx: string; ours: string }[] = [];
          for (const request of group.requests) {
            let texts: [theirs: string, answer: string, again: string];
            let minute: number;
            do {
              // Pages may show hours and minutes, which are to be those of one moment.
              minute = minuteNow();
              texts = await Promise.all([
                exchange(oracle.port, request),
                exchange(mine.port, request),
                exchange(mine.port, request),
              ]);
            } while (minuteNow() !== minute);
            const [theirs, answer, again] = texts;
            const ours = [answer, again].map((text) => explain(normal(text, mine.port, SERVER_FULL)));
            let expected = explain(normal(theirs, oracle.port, oracleVersion));
            // nginx gives up a client that has ended its side while an answer waits, for a limit or for room in the socket: on a busy
            // machine a matter of luck. So it may say it again; what we said stands.
            for (let i = 0; i < ORACLE_TRIES && ours.some((got) => got !== expected); i++) {
              await sleep(20 * i);
              expected = explain(normal(await exchange(oracle.port, request), oracle.port, oracleVersion));
            }
            for (const got of ours) {
              if (got !== expected)
                differences.push({ request: shown(request), nginx: shown(expected), ours: shown(got) });
            }
          }
          // A few tell what is wrong; all of them would hide it.
          expect(differences.slice(0, process.env['QUICK'] ? 99 : 5)).toEqual([]);
        });
      });
    }
  });
}
