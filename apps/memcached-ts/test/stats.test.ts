/** The keys of `stats`, `stats settings` and `stats conns`: those of Debian's memcached, and those that a monitoring exporter reads. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { packet, readPackets } from './packets.ts';
import { Client, DEBIANS, endsWithTest, hasDebians, IO_MODES, play, type Server, start, startOurs } from './servers.ts';

/** Read by name by memcached_exporter. */
const EXPORTED =
  'version uptime time rusage_user rusage_system bytes limit_maxbytes curr_items total_items bytes_read bytes_written ' +
  'curr_connections total_connections rejected_connections conn_yields listen_disabled_num accepting_conns evictions ' +
  'reclaimed store_too_large store_no_memory direct_reclaims lru_crawler_starts crawler_items_checked crawler_reclaimed ' +
  'moves_to_cold moves_to_warm moves_within_lru total_malloced cmd_set cmd_flush cas_badval get_hits get_misses ' +
  'delete_hits delete_misses incr_hits incr_misses decr_hits decr_misses cas_hits cas_misses touch_hits touch_misses';
const EXPORTED_SETTINGS =
  'maxconns lru_crawler lru_crawler_sleep lru_crawler_tocrawl lru_maintainer_thread hot_lru_pct warm_lru_pct ' +
  'hot_max_factor warm_max_factor';
/** Of parts that this server does not have: storage on disk, TLS. */
const ABSENT = /^(ext_|ssl_(?!enabled))/;

describe.each(IO_MODES)('stats with --io %s', (io) => {
  let server: Server;
  let client: Client;
  beforeAll(async () => {
    server = await startOurs(io, ['-c', '100', '-R', '7']);
    client = await Client.connect(server.port);
  });
  afterAll(async () => {
    client?.close();
    await server?.stop();
  });

  it('has every key that an exporter reads', async () => {
    await client.ask('set a 0 0 1\r\n1\r\n');
    const stats = { ...(await client.stats()), ...(await client.stats('slabs')) };
    for (const name of EXPORTED.split(' ')) expect(stats[name], name).toMatch(/^[\d.]+$/);
    const settings = await client.stats('settings');
    for (const name of EXPORTED_SETTINGS.split(' ')) expect(settings[name], name).toBeDefined();
    expect(settings).toMatchObject({ maxconns: '100', reqs_per_event: '7', lru_crawler: 'yes', num_threads: '2' });
  });

  it.skipIf(!hasDebians)('settings are those of Debian’s memcached, in its order, with its defaults', async () => {
    const oracle = await start(DEBIANS, ['-t', '2', '-c', '100', '-R', '7']);
    const theirs = await Client.connect(oracle.port);
    const want = Object.entries(await theirs.stats('settings')).filter(([name]) => !ABSENT.test(name));
    theirs.close();
    await oracle.stop();
    const got = await client.stats('settings');
    const names = Object.keys(got);
    expect(want.map(([name]) => name).filter((name) => !names.includes(name))).toEqual([]);
    // How many threads serve UDP is our own choice.
    for (const [name, value] of want)
      if (!['num_threads_per_udp', 'tcpport'].includes(name)) expect(`${name} ${got[name]}`).toBe(`${name} ${value}`);
  });

  it('settings have what commands changed, within memcached’s bounds', async () => {
    expect(await client.ask('verbosity 99999999999\r\n')).toBe('OK\r\n');
    expect(await client.ask('slabs automove freeratio 0.25\r\n')).toBe('OK\r\n');
    for (const seconds of [0, 3601])
      expect(await client.ask(`slabs automove window ${seconds}\r\n`)).toBe(
        'CLIENT_ERROR automove window too low or too high\r\n',
      );
    expect(await client.ask('slabs automove window 3600\r\n')).toBe('OK\r\n');
    expect(await client.stats('settings')).toMatchObject({
      verbosity: '2',
      slab_automove_freeratio: '0.250',
      slab_automove_window: '3600',
    });
    expect(await client.ask('verbosity 0\r\nslabs automove freeratio 0.01\r\n', 'OK\r\nOK\r\n')).toBe('OK\r\nOK\r\n');
  });

  it('conns has the connections of all workers, and what each is doing', async () => {
    const clients = await Promise.all(Array.from({ length: 8 }, () => Client.connect(server.port)));
    for (const one of clients) await one.ask('version\r\n');
    const silent = await Client.connect(server.port);
    clients[0]!.send('set half 0 0 10\r\nhal');
    const swallowed = await Client.connect(server.port);
    swallowed.send('set large 0 0 3000000\r\nhal');
    const watcher = await Client.connect(server.port);
    expect(await watcher.ask('watch\r\n')).toBe('OK\r\n');
    let conns: Record<string, string> = {};
    // Who has said nothing is in memcached's first state.
    const wanted = ['conn_nread', 'conn_new_cmd', 'conn_swallow', 'conn_watch'];
    while (!wanted.every((state) => Object.values(conns).includes(state))) conns = await client.stats('conns');
    for (const one of [silent, swallowed, watcher]) one.close();
    const states = Object.entries(conns).filter(([name]) => name.endsWith(':state'));
    expect(states.filter(([, state]) => state === 'conn_parse_cmd')).toHaveLength(1);
    expect(states.filter(([, state]) => state === 'conn_read')).toHaveLength(7);
    expect(states.filter(([, state]) => state === 'conn_listening').length).toBeGreaterThanOrEqual(1);
    for (const [name, value] of Object.entries(conns)) {
      expect(`${name} ${value}`).toMatch(
        /^\d+:(addr tcp:127\.0\.0\.1:\d+|listen_addr tcp:127\.0\.0\.1:\d+|state conn_\w+|secs_since_last_cmd \d+)$/,
      );
    }
    const addresses = Object.entries(conns).filter(([name]) => name.endsWith(':addr'));
    for (const one of clients) {
      expect(addresses.map(([, address]) => address)).toContain(`tcp:127.0.0.1:${one.socket.localPort}`);
    }
    for (const one of clients) one.close();
    // Sockets that listen, then the others as they came, whichever worker has them.
    const inOrder = [client];
    for (let i = 0; i < 6; i++) {
      inOrder.push(await Client.connect(server.port));
      await inOrder.at(-1)!.ask('mn\r\n');
    }
    await vi.waitFor(
      async () => {
        const listed = await client.ask('stats conns\r\n', 'END\r\n');
        const found = [...listed.matchAll(/:addr tcp:127\.0\.0\.1:(\d+)\r/g)].map((match) => Number(match[1]));
        const listening = found.filter((port) => port === server.port).length;
        expect(found.slice(listening)).toEqual(inOrder.map((one) => one.socket.localPort));
      },
      { timeout: 30_000 },
    );
    for (const one of inOrder.slice(1)) one.close();
    // Pipelined, the answer keeps its place.
    const text = await client.ask('version\r\nstats conns\r\nmn\r\n', 'MN\r\n');
    expect(text).toMatch(/^VERSION 1\.6\.45\r\nSTAT [\s\S]*END\r\nMN\r\n$/);
  });
});

/** Options of several servers: what `stats settings` makes of each. */
const SETTINGS: string[][] = [
  [
    '-t',
    '3',
    '-m',
    '100',
    '-M',
    '-c',
    '200',
    '-vvvv',
    '-f',
    '1.1',
    '-n',
    '100',
    '-R',
    '5',
    '-b',
    '7',
    '-C',
    '-B',
    'ascii',
  ],
  ['-B', 'binary', '-F', '-X', '-W', '-A', '-D', 'é/', '-a', '777', '-I', '4m', '-o', 'no_maxconns_fast,hashpower=20'],
  [
    '-o',
    'slab_automove=2,slab_automove_ratio=0.333,slab_automove_freeratio=nan,slab_automove_window=5,tail_repair_time=100,hash_algorithm=jenkins',
  ],
  ['-o', 'no_lru_crawler,lru_crawler_sleep=5,lru_crawler_tocrawl=6,hot_lru_pct=10,warm_lru_pct=11,hot_max_factor=nan'],
  [
    '-o',
    'warm_max_factor=3.456,temporary_ttl=-1,idle_timeout=6,watcher_logbuf_size=7,read_buf_mem_limit=10,track_sizes',
  ],
  ['-o', 'no_modern', '-Y', 'AUTH'],
  ['-o', 'no_lru_maintainer,no_chunked_items,inline_ascii_resp', '-I', '2m'],
];

describe.skipIf(!hasDebians)('stats settings under options (skipped where Debian’s memcached is not installed)', () => {
  const folder = mkdtempSync(join(tmpdir(), 'memcached-ts-'));
  writeFileSync(join(folder, 'auth'), 'user:password\n');
  afterAll(() => rmSync(folder, { recursive: true }));

  it.each(SETTINGS.map((args, i) => ({ args, io: IO_MODES[i % 2]! })))(
    'are those of Debian’s memcached: $args, --io $io',
    async ({ args, io }) => {
      const given = args.map((arg) => (arg === 'AUTH' ? join(folder, 'auth') : arg));
      const servers = await Promise.all([start(DEBIANS, given), startOurs(io, ['-t', '4', ...given])]);
      for (const server of servers) endsWithTest(server);
      const [want, got] = await Promise.all(
        servers.map(async ({ port }) => {
          if (given.includes('binary')) return readPackets(await play(port, [packet(0x10, { key: 'settings' })]));
          const client = await Client.connect(port);
          if (given.includes('-Y')) await client.ask('set a 0 0 13\r\nuser password\r\n');
          const text = await client.ask('stats settings\r\n', 'END\r\n');
          client.close();
          return text.split('\r\n');
        }),
      );
      const lines = (all: string[]): string[] => all.filter((line) => !/ (tcpport|num_threads_per_udp)/.test(line));
      const names = want!.map((line) => line.split(' ').slice(0, -1).join(' '));
      expect(lines(got!).filter((line) => names.includes(line.split(' ').slice(0, -1).join(' ')))).toEqual(
        lines(want!).filter((line) => !/ (ext_|ssl_(?!enabled))/.test(line)),
      );
    },
  );
});

describe.skipIf(!hasDebians)('the keys of stats and stats items', () => {
  it.each([
    [''],
    ['no_lru_crawler'],
    ['no_lru_maintainer'],
    ['no_slab_reassign'],
    ['no_maxconns_fast'],
    ['idle_timeout=5'],
    ['no_modern'],
    ['temporary_ttl=60'],
  ])('are those of Debian’s memcached with -o "%s"', async (words) => {
    const args = words === '' ? [] : ['-o', words];
    const servers = await Promise.all([start(DEBIANS, args), startOurs('epoll', args)]);
    const [want, got] = await Promise.all(
      servers.map(async ({ port, stop }) => {
        const client = await Client.connect(port);
        await client.ask('set a 0 0 1\r\n1\r\n');
        const names = [...Object.keys(await client.stats()), ...Object.keys(await client.stats('items'))];
        client.close();
        await stop();
        return names;
      }),
    );
    expect(got).toEqual(want);
  });
});

describe('the hash table', () => {
  const LEVEL = 13;
  const grown = async (server: Server): Promise<Record<string, string>> => {
    const client = await Client.connect(server.port);
    const count = 1.5 * 2 ** LEVEL + 10;
    client.send(Array.from({ length: count }, (_, i) => `set key${i} 0 0 1 noreply\r\n1\r\n`).join(''));
    let stats = await client.stats();
    while (stats.curr_items !== String(count) || Number(stats.hash_power_level) === LEVEL) stats = await client.stats();
    client.close();
    await server.stop();
    return stats;
  };

  it.each(IO_MODES)(
    'is at the next level once it has grown beyond one and a half items a bucket (--io %s)',
    async (io) => {
      const ours = await grown(await startOurs(io, ['-o', `hashpower=${LEVEL}`]));
      expect(ours.hash_power_level).toBe(String(LEVEL + 1));
      if (hasDebians) {
        const theirs = await grown(await start(DEBIANS, ['-o', `hashpower=${LEVEL}`]));
        expect(theirs.hash_power_level).toBe(ours.hash_power_level);
      }
    },
  );
});
