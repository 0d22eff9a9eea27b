/** Warm restart: what a graceful stop leaves behind serves again, and nothing else does. */
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { STORE_SET } from '../src/engine/items.ts';
import {
  type CacheConfig,
  D_BUSY_DELETES,
  D_CAS,
  D_CRAWLER_STARTS,
  D_MAINTAINER_JUGGLES,
  D_SIZES_CAS_MIN,
  D_SLABS_MOVED,
  D_STARTED,
  DEFAULT_CACHE_CONFIG,
  PAGE_BYTES,
} from '../src/engine/layout.ts';
import { sumThreads, T_TOTAL_ITEMS } from '../src/engine/stats.ts';
import { MemoryFile } from '../src/restart.ts';
import { Fixture } from './fixture.ts';
import { Client, DEBIANS, hasDebians, IO_MODES, OURS, runToEnd, type Server, start, startOurs } from './servers.ts';

const OWNER = 120;
let folder = '';
let path = '';
const running: Server[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'memcached-ts-restart-'));
  path = join(folder, 'memory');
});
afterEach(async () => {
  await Promise.all(running.splice(0).map((server) => server.stop('SIGKILL')));
  rmSync(folder, { recursive: true, force: true });
});

const CONFIG: CacheConfig = { ...DEFAULT_CACHE_CONFIG, memoryBytes: 16 * PAGE_BYTES };

/** The memory file and a thread at work on it. */
function open(config: CacheConfig = CONFIG): { file: MemoryFile; fixture: Fixture } {
  const file = new MemoryFile(path, config, 99, OWNER);
  return { file, fixture: new Fixture(config, 'striped', 1, file.cache.memory.shared) };
}

describe('a memory file', () => {
  it('gives the next process every item, whatever the last one was holding', () => {
    const first = open();
    expect(first.file.reason).toBe('the file is new');
    for (let i = 0; i < 5000; i++) first.fixture.store(STORE_SET, `key${i}`, i, i % 10 === 0 ? 1000 : 0, `value${i}`);
    first.fixture.store(STORE_SET, 'big', 7, 0, 'b'.repeat(900_000));
    // Held, and being filled, by connections that are cut off.
    first.fixture.cache.items.hold(first.fixture.ref('big'));
    first.fixture.alloc('half', 0, 0, 'x'.repeat(700_000));
    const cas = first.fixture.get('key77')!.cas;
    first.file.close();

    const second = open();
    expect([second.file.reason, second.file.items]).toEqual([undefined, 5001]);
    for (let i = 0; i < 5000; i++)
      expect(second.fixture.get(`key${i}`)).toMatchObject({ flags: i, value: `value${i}` });
    expect(second.fixture.get('key77')!.cas).toBe(cas);
    expect(second.fixture.get('big')?.value === 'b'.repeat(900_000)).toBe(true);
    second.fixture.check();
    second.fixture.store(STORE_SET, 'new', 0, 0, 'x');
    expect(second.fixture.get('new')!.cas).toBeGreaterThan(cas);
    second.fixture.check();
  });

  it('goes on with the clock, and counts anew: what commands did, and sizes', () => {
    const { file, fixture } = open();
    for (let i = 0; i < 20_000; i++) fixture.store(STORE_SET, `key${i}`, 0, 0, 'x'.repeat(i % 400));
    fixture.store(STORE_SET, 'short', 0, 500, 'x');
    fixture.store(STORE_SET, 'long', 0, 5000, 'x');
    const { f64, layout } = fixture.cache.memory;
    f64.fill(7, D_CRAWLER_STARTS, D_MAINTAINER_JUGGLES + 1);
    f64.fill(7, D_SLABS_MOVED, D_BUSY_DELETES + 1);
    // Sizes were counted from then on; and it started a thousand seconds earlier.
    f64[D_SIZES_CAS_MIN] = f64[D_CAS]! + 1;
    f64[D_STARTED]! -= 1000;
    file.close();

    const next = open({ ...CONFIG, trackSizes: true });
    expect([next.file.reason, next.file.items]).toEqual([undefined, 20_002]);
    const { memory } = next.fixture.cache;
    expect(sumThreads(memory, T_TOTAL_ITEMS)).toBe(20_002);
    expect([...memory.f64.subarray(D_CRAWLER_STARTS, D_MAINTAINER_JUGGLES + 1)]).toEqual([0, 0]);
    expect(memory.f64.subarray(D_SLABS_MOVED, D_BUSY_DELETES + 1).every((count) => count === 0)).toBe(true);
    expect(next.fixture.get('short')).toBeUndefined();
    expect(next.fixture.get('long')).toBeDefined();
    const sizes = (): number[] => [...memory.i32.subarray(layout.sizesWord, layout.sizesWord + layout.sizesBuckets)];
    expect(sizes().reduce((sum, count) => sum + count, 0)).toBe(20_001);
    next.fixture.check();
    next.fixture.remove('long');
    for (let i = 0; i < 20_000; i++) next.fixture.remove(`key${i}`);
    expect(sizes().every((count) => count === 0)).toBe(true);
    next.fixture.check();
  });

  it('is taken for empty after a crash, with another configuration, and when it was cut', () => {
    const fill = (): void => {
      const { file, fixture } = open();
      fixture.store(STORE_SET, 'key', 0, 0, 'value');
      file.close();
    };
    const emptyBecause = (config?: CacheConfig): string | undefined => {
      const { file, fixture } = open(config);
      expect(file.items).toBe(0);
      expect(fixture.get('key')).toBeUndefined();
      expect(existsSync(`${path}.meta`)).toBe(false);
      fixture.store(STORE_SET, 'key', 0, 0, 'again');
      fixture.check();
      return file.reason;
    };
    fill();
    expect(open().file.items).toBe(1);
    // That one did not close it.
    expect(emptyBecause()).toMatch(/did not stop gracefully/);
    fill();
    expect(emptyBecause({ ...CONFIG, growthFactor: 1.3 })).toMatch(/configuration/);
    fill();
    expect(emptyBecause({ ...CONFIG, memoryBytes: 32 * PAGE_BYTES })).toMatch(/configuration/);
    fill();
    truncateSync(path, statSync(path).size - PAGE_BYTES);
    expect(emptyBecause()).toMatch(/bytes, not/);
    fill();
    const meta = JSON.parse(readFileSync(`${path}.meta`, 'utf8'));
    writeFileSync(`${path}.meta`, JSON.stringify({ ...meta, stoppedAt: meta.stoppedAt + 1000 }));
    expect(emptyBecause()).toMatch(/clock went back/);
    for (const [change, reason] of [
      [{ format: 0 }, /^it is from version /],
      [{ version: '1.6.18' }, /^it is from version 1\.6\.18$/],
      [{ head: 7 }, /damaged/],
      [{ head: `${meta.head}00` }, /another place/],
      [{ shape: 'x' }, /configuration/],
    ] as const) {
      fill();
      const sound = JSON.parse(readFileSync(`${path}.meta`, 'utf8'));
      writeFileSync(`${path}.meta`, JSON.stringify({ ...sound, ...change }));
      expect(emptyBecause()).toMatch(reason);
    }
    fill();
    const whole = readFileSync(`${path}.meta`, 'utf8');
    for (const text of ['', 'garbage\n', whole.slice(0, 40), 'null', '7']) {
      writeFileSync(`${path}.meta`, text);
      expect(() => open()).toThrow(/corrupt metadata file/);
    }
    writeFileSync(`${path}.meta`, whole);
    expect(open().file.items).toBe(1);
  });
});

describe.skipIf(!hasDebians)(`-e beside Debian’s memcached (skipped without it)`, () => {
  /** stderr of a start with this file, up to the message that ends the start or until it listens. */
  async function wordsOf(command: string, args: string[]): Promise<string> {
    try {
      const server = await start(command, ['-t', '1', '-m', '64', ...args]);
      await server.stop('SIGUSR1');
      return server.stderr();
    } catch (error) {
      return (error as Error).message.replace(/^.* ended with \S+: /, '');
    }
  }
  /** Without what memcached tells of its threads, and of lines that it did not read because of an earlier one. */
  const words = (text: string): string =>
    text.replace(/^(stopp|asking|closing|reaping|all background|serving|\[restart\] missing some).*\n/gm, '');

  it('says what is wrong with a file that it cannot use', async () => {
    for (const file of [join(folder, 'no/such'), folder, '/dev/null']) {
      const theirs = await wordsOf(DEBIANS, ['-e', file]);
      expect(theirs).toMatch(/failed.*: [A-Z]/);
      expect(await wordsOf(OURS, ['-e', file])).toBe(theirs);
    }
  });

  it('says why it begins with an empty cache', async () => {
    const said: Record<string, string[]> = {};
    for (const command of [DEBIANS, OURS]) {
      const file = join(folder, command === OURS ? 'ours' : 'theirs');
      said[command] = [];
      for (const options of [
        [],
        ['-m', '65'],
        ['-m', '65', '-f', '1.3'],
        ['-o', 'slab_sizes=104-5000'],
        ['-n', '40'],
        [],
        ['-I', '2m'],
        ['-I', '2m', '-C'],
      ]) {
        said[command].push(words(await wordsOf(command, ['-e', file, ...options])));
      }
    }
    expect(said[DEBIANS]![0]).toBe(
      '[restart] no metadata save file, starting with a clean cache\nGracefully stopping\n',
    );
    expect(said[DEBIANS]![1]).toContain('setting for [maxbytes] [old value: 67108864]');
    expect(said[OURS]).toEqual(said[DEBIANS]);
  });
});

describe.each(IO_MODES)('memcached-ts --io %s -e', (io) => {
  it('does not start with damaged metadata, says so, and leaves them there', async () => {
    writeFileSync(`${path}.meta`, 'garbage');
    const { code, stderr } = await runToEnd(OURS, ['--io', io, '-p', '0', '-u', 'root', '-e', path]);
    expect(stderr).toBe(`[restart] corrupt metadata file ${path}.meta (remove it to begin with an empty cache)\n`);
    expect(code).toBe(1);
    expect(readFileSync(`${path}.meta`, 'utf8')).toBe('garbage');
  });
});

describe('memcached-ts -e', () => {
  it.each([
    ['megapipe', '1'],
    ['epoll', '2'],
  ] as const)(
    'serves after SIGUSR1 what it served before, and after SIGKILL nothing (--io %s -t %s)',
    async (io, threads) => {
      const args = ['-t', threads, '-e', path];
      const begin = async (): Promise<Client> => {
        const server = await startOurs(io, args);
        running.push(server);
        return Client.connect(server.port);
      };
      const end = (signal: NodeJS.Signals): Promise<number | null> => running.pop()!.stop(signal);
      let client = await begin();
      for (let i = 0; i < 2000; i++) client.send(`set key${i} ${i} 0 5 noreply\r\nvalue\r\n`);
      client.send(`set big 0 0 900000 noreply\r\n${'b'.repeat(900_000)}\r\n`);
      await client.ask('mn\r\n');
      // A client that never ends its value is cut off in the end, and costs nobody the cache.
      if (threads !== '1') {
        client.send('set half 0 0 10\r\nhalf');
        const other = await Client.connect(running.at(-1)!.port);
        while (!Object.values(await other.stats('conns')).includes('conn_nread'));
      }
      expect(await end('SIGUSR1')).toBe(0);

      client = await begin();
      expect((await client.stats())['curr_items']).toBe('2001');
      expect(await client.ask('get key1999\r\n', 'END\r\n')).toBe('VALUE key1999 1999 5\r\nvalue\r\nEND\r\n');
      expect((await client.ask('get big\r\n', 'END\r\n')).length).toBe(
        900_000 + 'VALUE big 0 900000\r\n\r\nEND\r\n'.length,
      );
      expect((await client.stats())['get_hits']).toBe('2');
      await end('SIGKILL');

      client = await begin();
      expect((await client.stats())['curr_items']).toBe('0');
      await client.ask('set a 0 0 1\r\nx\r\n');
      // Only a graceful stop says that the file is sound.
      expect(await end('SIGTERM')).toBe(0);
      client = await begin();
      expect((await client.stats())['curr_items']).toBe('0');
    },
  );
});
