/**
 * Operation of many hours in little time: both cores at full load, with evictions, items that grow and expire, connections that
 * come and go, by the project's load generator (which checks every reply), by memjs and by a dialogue of this test. At the end no
 * error, memory that has not grown, sound counters, and the invariant checker's word on the whole cache.
 *
 * `SOAK_SECONDS` for each io mode: 4 by default; 600 for a figure to quote (it prints what was done).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Client as Memjs } from 'memjs';
import { describe, expect, it } from 'vitest';
import { Client, IO_MODES, residentBytes, runToEnd, startChecked } from './servers.ts';

const SECONDS = Number(process.env['SOAK_SECONDS'] ?? 4);
/** What resident memory may grow by after the first third: the allocator's and V8's play, not a leak. */
const GROWTH_BYTES_MAX = 32 << 20;
const LOAD_GENERATOR = fileURLToPath(new URL('../../../bench/src/loadgen/main.ts', import.meta.url));

interface LoadReport {
  transactions: number;
  errors: number;
  errorTexts: string[];
  connects: number;
}

async function load(port: number, ...args: string[]): Promise<LoadReport> {
  const common = ['--target', `127.0.0.1:${port}`, '--protocol', 'memcached', '--seconds', String(SECONDS), '--misses'];
  const run = await runToEnd(process.execPath, [LOAD_GENERATOR, ...common, ...args]);
  if (run.stdout === '') throw new Error(`load generator: ${run.stderr}`);
  return JSON.parse(run.stdout) as LoadReport;
}

/** Items that grow, expire, are counted, touched and deleted: every reply is looked at. Gives how many there were. */
async function dialogue(port: number, until: number): Promise<number> {
  let replies = 0;
  for (let round = 0; Date.now() < until; round++) {
    const client = await Client.connect(port);
    const say = async (text: string, expected: RegExp, end = '\r\n'): Promise<void> => {
      expect(await client.ask(text, end)).toMatch(expected);
      replies++;
    };
    for (let i = 0; i < 50 && Date.now() < until; i++) {
      const key = `grows-${i}`;
      const bytes = (round * 977 + i * 4099) % 200_000;
      await say(`set ${key} 7 ${i % 3} ${bytes}\r\n${'g'.repeat(bytes)}\r\n`, /^STORED\r\n$/);
      for (let times = 0; times < 3; times++) {
        await say(`append ${key} 0 0 1000\r\n${'a'.repeat(1000)}\r\n`, /^(STORED|NOT_STORED)\r\n$/);
      }
      await say(`mg ${key} s v\r\nmn\r\n`, /^(EN\r\n|VA (\d+) s\2\r\ng*a+\r\n)MN\r\n$/, 'MN\r\n');
      if (i % 5 === 0) await say(`delete ${key}\r\n`, /(DELETED|NOT_FOUND)\r\n$/);
      await say(`set n-${i} 0 100 2\r\n10\r\n`, /STORED\r\n$/);
      await say(`incr n-${i} 5\r\n`, /(15|NOT_FOUND)\r\n$/);
      await say(`touch n-${i} 1\r\n`, /(TOUCHED|NOT_FOUND)\r\n$/);
    }
    // Sometimes in the middle of a value: what was begun must not stay.
    if (round % 2 === 0) client.send(`set left-${round} 0 0 500000\r\n${'x'.repeat(300_000)}`);
    client.close();
  }
  return replies;
}

async function binary(port: number, until: number): Promise<number> {
  let replies = 0;
  while (Date.now() < until) {
    const client = Memjs.create(`127.0.0.1:${port}`, { timeout: 60, logger: { log: () => {} } });
    for (let i = 0; i < 100 && Date.now() < until; i++) {
      const value = `binary value ${i} `.repeat(i);
      expect(await client.set(`binary ${i}`, value, { expires: 1 + (i % 3) })).toBe(true);
      const got = (await client.get(`binary ${i}`)).value;
      if (got !== null) expect(got.toString()).toBe(value);
      replies += 2;
    }
    client.close();
  }
  return replies;
}

describe.each(IO_MODES)('a soak of --io %s', (io) => {
  it('ends without an error, with flat memory and a sound cache', { timeout: SECONDS * 2000 + 300_000 }, async () => {
    const server = await startChecked(io, ['-m', '32', '-c', '4096']);
    try {
      const start = Date.now();
      const until = start + SECONDS * 1000;
      const resident: number[] = [];
      const watching = (async () => {
        while (Date.now() < until) {
          resident.push(residentBytes(server.pid));
          await sleep(Math.max(200, SECONDS * 5));
        }
      })();
      const [large, churn, replies, binaries] = await Promise.all([
        // Twice what the server has room for, from the start: however slow the machine is, some of it must go.
        load(
          server.port,
          '--keys',
          '20000',
          '--size',
          '3000',
          '--zipf',
          '0.8',
          '--set-share',
          '0.4',
          '--connections',
          '50',
        ),
        // Of the same size: both loads store the same keys.
        load(
          server.port,
          '--keys',
          '5000',
          '--size',
          '3000',
          '--set-share',
          '0.2',
          '--per-connection',
          '5',
          '--connections',
          '50',
          '--no-preload',
        ),
        dialogue(server.port, until),
        binary(server.port, until),
        watching,
      ]);
      for (const report of [large, churn]) {
        expect(report.errorTexts).toEqual([]);
        expect(report.errors).toBe(0);
      }
      expect(churn.connects).toBeGreaterThan(50);

      const client = await Client.connect(server.port);
      const stats = await client.stats();
      const slabs = await client.stats('slabs');
      const items = await client.stats('items');
      client.close();
      const number = (name: string): number => Number(stats[name]);
      expect(number('evictions')).toBeGreaterThan(0);
      expect(number('bytes')).toBeLessThanOrEqual(number('limit_maxbytes'));
      // A class that has no page yet gets its first one above the limit, too.
      const first = Number(slabs['active_slabs']) << 20;
      expect(Number(slabs['total_malloced'])).toBeLessThanOrEqual(number('limit_maxbytes') + first);
      const sum = (names: Record<string, string>, suffix: string): number =>
        Object.entries(names)
          .filter(([name]) => name.endsWith(suffix))
          .reduce((total, [, value]) => total + Number(value), 0);
      expect(sum(items, ':number')).toBe(number('curr_items'));
      // A third of the time to fill the cache and to compile what runs often.
      const settled = resident.slice(Math.floor(resident.length / 3));
      const middle = Math.max(...settled.slice(0, Math.ceil(settled.length / 2)));
      const last = Math.max(...settled.slice(Math.ceil(settled.length / 2)));
      if (SECONDS >= 60) {
        // Short runs are still filling the cache.
        expect(last - middle).toBeLessThan(GROWTH_BYTES_MAX);
      }
      const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);
      const total = large.transactions + churn.transactions + replies + binaries;
      console.log(
        `soak --io ${io}: ${SECONDS} s, ${total} requests, ${churn.connects} connections, ${stats['evictions']} evictions, ` +
          `${stats['reclaimed']} reclaimed, RSS ${megabytes(resident[0]!)} MB at start, ${megabytes(middle)} MB at most in the ` +
          `middle third, ${megabytes(last)} MB in the last`,
      );
      expect(await server.verdict()).toBe('CHECK ok\n');
    } finally {
      await server.stop();
    }
  });
});
