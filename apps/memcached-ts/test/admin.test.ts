/** Commands for operators: word for word with Debian's memcached, and what they do to a server that works. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { uriEncode } from '../src/engine/dump.ts';
import {
  ask,
  Client,
  DEBIANS,
  endsWithTest,
  hasDebians,
  IO_MODES,
  residentBytes,
  type Server,
  start,
  startOurs,
} from './servers.ts';

const serve = async (io: string, args: string[] = []): Promise<Server> => endsWithTest(await startOurs(io, args));

/** In this order: some change what later ones answer. */
const SCRIPT = `cache_memlimit|cache_memlimit 4|cache_memlimit 100|cache_memlimit 100 noreply|cache_memlimit x
cache_memlimit 999999999999|cache_memlimit -1|cache_memlimit 4 noreply|slabs|slabs reassign|slabs reassign 1 2|slabs reassign 1 1
slabs reassign 99 1|slabs reassign x 1|slabs reassign -1 1|slabs reassign 0 1|slabs reassign 1 0|slabs reassign 1 2 3
slabs reassign 1 2 noreply|slabs automove|slabs automove 3|slabs automove 2|slabs automove 0|slabs automove x
slabs automove ratio|slabs automove ratio x|slabs automove ratio 0.5|slabs automove 1 noreply|slabs foo bar
lru|lru tune|lru tune 1 2 3 4|lru tune 20 40 0.2 2.0|lru tune 60 60 0.2 2.0|lru tune x 40 0.2 2.0|lru tune 20 40 0 2
lru tune 20 40 0.2 2.0 noreply|lru mode|lru mode flat|lru mode segmented|lru mode x|lru mode x noreply|lru temp_ttl
lru temp_ttl 61|lru temp_ttl -1|lru temp_ttl x|lru foo|lru foo bar
lru_crawler|lru_crawler enable|lru_crawler disable|lru_crawler crawl all|lru_crawler metadump all|lru_crawler metadump x
lru_crawler enable|lru_crawler crawl 99|lru_crawler crawl 0|lru_crawler crawl x|lru_crawler crawl|lru_crawler tocrawl
lru_crawler tocrawl 5|lru_crawler tocrawl x|lru_crawler sleep|lru_crawler sleep 2000000|lru_crawler sleep 1000000
lru_crawler sleep 1000001|lru_crawler sleep -1|lru_crawler sleep x|lru_crawler sleep 100|lru_crawler metadump
lru_crawler metadump x|lru_crawler metadump 99|lru_crawler metadump hash|lru_crawler foo|lru_crawler foo bar
lru_crawler crawl all noreply|lru_crawler disable noreply|stats sizes|stats sizes_enable|stats sizes|stats sizes_disable
stats sizes|lru_crawler crawl hash|refresh_certs|refresh_certs x|stats cachedump|stats cachedump 1|stats cachedump 1 x|stats cachedump 99 0|stats cachedump 0 0
stats cachedump 1 0|stats cachedump -1 0|stats items|stats slabs|stats items foo|stats slabs foo|stats foo`.split(
  /[|\n]/,
);

/** Numbers as C's library reads them, which it does from what looks odd: sign, zeros in front, wrapped to 32 bits, hexadecimal. */
const NUMBERS =
  `lru_crawler tocrawl 5000000000|lru_crawler tocrawl +7|lru_crawler tocrawl 0000000000000007|lru_crawler tocrawl -0
lru_crawler tocrawl -5|lru_crawler tocrawl 18446744073709551616|lru_crawler tocrawl 5\tx|lru_crawler sleep 4294967297
cache_memlimit 4294967360|cache_memlimit 00000000000000000064|cache_memlimit +64|cache_memlimit 18446744073709551616
slabs reassign 4294967297 4294967298|slabs reassign 00000000000001 2|slabs automove 4294967297|slabs automove +1
lru temp_ttl 5000000000|lru temp_ttl -5|lru temp_ttl 0000000000000000007|lru temp_ttl 99999999999999999999|lru temp_ttl 0x10|lru temp_ttl 0
lru tune 4294967300 20 0.1 2|lru tune +10 20 .5 2.|lru tune 10 20 nan 2|lru tune 10 20 inf 2|lru tune 10 20 -inf 2|lru tune 10 20 NAN(x) infinity
lru tune 10 20 0x1.8p1 2|lru tune 10 20 0x 2|lru tune 10 20 1e1 2|lru tune 10 20 1e 2|lru tune 10 20 1e22 2|lru tune 10 20 0 2|lru tune 20 40 0.2 2
slabs automove ratio nan|slabs automove ratio inf|slabs automove ratio 0x10|slabs automove ratio -5|slabs automove ratio -inf
slabs automove ratio 1e400|slabs automove ratio 1e-400|slabs automove ratio 0e-400|slabs automove ratio 0.8
stats cachedump 1 4294967297|stats cachedump +1 1|stats cachedump 4294967297 1|lru_crawler crawl 4294967297|lru_crawler crawl +1,
lru_crawler crawl 1,-1|lru_crawler crawl 64|verbosity 5000000000|verbosity +0|flush_all 5000000000|flush_all +1`.split(
    /[|\n]/,
  );

/** The reply to each line, each on a connection of its own. */
async function replies(port: number, lines: readonly string[]): Promise<[string, string][]> {
  const all: [string, string][] = [];
  for (const line of lines) {
    let reply = '';
    // The maintainer has crawls and moves of its own.
    do reply = await ask(port, `${line}\r\n`);
    while (reply.startsWith('BUSY'));
    all.push([line, reply]);
    // memcached's crawler is a thread, which takes its time to end; until then commands for it fail in other words.
    if (line === 'lru_crawler disable')
      while (!(await ask(port, 'stats settings\r\n')).includes('STAT lru_crawler no\r\n')) await sleep(5);
  }
  return all;
}

/** A dump, as soon as no other crawl is running: the maintainer has its own. */
async function dump(client: Client, what: string, end: string): Promise<string> {
  for (;;) {
    client.send(`lru_crawler ${what}\r\n`);
    const first = await client.until('\n');
    if (!first.startsWith('BUSY')) return first === end ? '' : first + (await client.until(end));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe.skipIf(!hasDebians)("compared with Debian's memcached (skipped where it is not installed)", () => {
  it('every command for operators gets the same reply', async () => {
    const theirs = await start(DEBIANS, ['-t', '1', '-U', '0']);
    endsWithTest(theirs);
    const wanted = await replies(theirs.port, SCRIPT);
    for (const [io, threads] of [
      ['megapipe', '1'],
      ['epoll', '2'],
    ] as const) {
      expect(await replies((await serve(io, ['-t', threads])).port, SCRIPT)).toEqual(wanted);
    }
  });

  it('odd numbers are read as memcached reads them, and settings have them', async () => {
    /** The reply to each line and what `stats settings` has then; crawls are waited for. */
    const effects = async ({ port }: Server): Promise<string[]> => {
      const client = await Client.connect(port);
      const all: string[] = [];
      for (const line of NUMBERS) {
        let reply = '';
        do reply = (await client.ask(`${line}\r\nmn\r\n`, 'MN\r\n')).slice(0, -4);
        while (reply.startsWith('BUSY'));
        const settings = Object.entries(await client.stats('settings'));
        const changed = settings.filter(([name]) => /^(maxbytes|verbosity|slab_|lru_|hot_|warm_|temp)/.test(name));
        all.push(`${line}: ${reply}${changed.map((pair) => pair.join(' ')).join(', ')}`);
      }
      client.close();
      return all;
    };
    const args = ['-t', '1'];
    const wanted = await effects(endsWithTest(await start(DEBIANS, args)));
    for (const io of IO_MODES) expect(await effects(await serve(io, args))).toEqual(wanted);
  });

  it('items take the same bytes, chunks and pages, for values of all sizes', async () => {
    const fill = async (port: number): Promise<Record<string, string>[]> => {
      const client = await Client.connect(port);
      for (let i = 0; i < 2000; i++) {
        const size = Math.floor(1.0042 ** i * 8) + (i % 7);
        client.send(`set key:${i} ${i % 5 === 0 ? i : 0} 0 ${size} noreply\r\n${'v'.repeat(size)}\r\n`);
      }
      await client.ask('mn\r\n');
      const stats = [await client.stats(), await client.stats('slabs'), await client.stats('items')];
      client.close();
      return stats as Record<string, string>[];
    };
    const theirs = await start(DEBIANS, ['-t', '1', '-U', '0']);
    endsWithTest(theirs);
    const [wanted, wantedSlabs, wantedItems] = await fill(theirs.port);
    const [got, gotSlabs, gotItems] = await fill((await serve('megapipe', ['-t', '1'])).port);
    for (const name of ['bytes', 'curr_items', 'total_items', 'limit_maxbytes']) {
      expect([name, got![name]]).toEqual([name, wanted![name]]);
    }
    expect(gotSlabs).toEqual(wantedSlabs);
    expect(Object.keys(gotItems!)).toEqual(Object.keys(wantedItems!));
    for (const name of Object.keys(wantedItems!).filter((key) =>
      /:(number|mem_requested|evicted|outofmemory)$/.test(key),
    )) {
      expect([name, gotItems![name]]).toEqual([name, wantedItems![name]]);
    }
  });

  it('stats sizes and cachedump say the same', async () => {
    const lines = [
      'set a 0 0 1\r\nx\r\n',
      'set b 5 1000 100\r\n',
      `${'y'.repeat(100)}\r\n`,
      'set c 0 0 70\r\n',
      `${'z'.repeat(70)}\r\n`,
    ];
    const play = async (server: Server): Promise<string> => {
      endsWithTest(server);
      await ask(server.port, `${lines.join('')}delete c\r\nset a 0 0 500\r\n${'x'.repeat(500)}\r\n`);
      const before = await ask(
        server.port,
        'stats sizes\r\nstats cachedump 9 0\r\nset f 0 0 1\r\nx\r\nset g 0 0 1\r\nx\r\nset h 0 0 1\r\nx\r\nstats cachedump 1 2\r\n',
      );
      // Counted are from now on those that are stored from now on.
      const anew = 'stats sizes_disable\r\nset d 0 0 1\r\nx\r\nstats sizes_enable\r\nset e 0 0 200\r\n';
      return (
        before +
        (await ask(
          server.port,
          `${anew}${'x'.repeat(200)}\r\ndelete a\r\ndelete d\r\nset b 0 0 1\r\nx\r\nstats sizes\r\n`,
        ))
      );
    };
    // Without the maintainer everything is in COLD, which is what cachedump shows.
    const args = ['-t', '1', '-o', 'track_sizes,no_lru_maintainer'];
    const wanted = await play(await start(DEBIANS, [...args, '-U', '0']));
    expect(wanted).toContain('ITEM a');
    for (const io of IO_MODES) expect(await play(await startOurs(io, args))).toBe(wanted);
  });
});

/** What the background work does depends on where it runs, not on how bytes come and go. */
const TURNS = [
  ['megapipe', '1'],
  ['epoll', '2'],
] as const;

describe('memcached-ts', () => {
  it.each(TURNS)('dumps every key, in both forms, while it serves others (--io %s -t %s)', async (io, threads) => {
    const server = await serve(io, ['-t', threads]);
    const client = await Client.connect(server.port);
    const other = await Client.connect(server.port);
    const total = 12_000;
    for (let i = 0; i < total; i++) client.send(`set key%${i} ${i} ${i % 3 === 0 ? 100 : 0} 2 noreply\r\nok\r\n`);
    client.send('set other 0 0 1\r\nx\r\nms YQBi 1 b\r\nx\r\n');
    await client.until('HD\r\n');
    for (const what of ['all', 'hash']) {
      const [text] = await Promise.all([
        dump(client, `metadump ${what}`, 'END\r\n'),
        (async () => {
          for (let i = 0; i < 50; i++) expect(await other.ask('get other\r\n', 'END\r\n')).toContain('x');
        })(),
      ]);
      const lines = text.split('\n').slice(0, -2);
      const keys = lines.map(
        (line) =>
          /^key=(\S+) exp=(-1|\d{10}) la=\d{10} cas=\d+ fetch=(yes|no) cls=1 size=\d+ flags=\d+$/.exec(line)![1]!,
      );
      const wanted = [...Array.from({ length: total }, (_, i) => `key%25${i}`), 'a%00b', 'other'];
      // In a dump of the lists an item that the maintainer moves may come twice, and one that is fetched may be missed.
      const unique = [...new Set(keys)].filter((key) => key !== 'other');
      if (what === 'hash') expect(keys).toHaveLength(total + 2);
      expect(unique.sort()).toEqual(wanted.filter((key) => key !== 'other').sort());
      const commands = (await dump(client, `mgdump ${what}`, 'EN\r\n')).split('\r\n').slice(0, -2);
      expect(new Set(commands).size).toBe(total + 2);
      expect(commands).toContain('mg key%77');
      expect(commands).toContain('mg YQBi b');
    }
    // Nothing of it is left behind.
    while ((await client.ask('lru_crawler crawl all\r\n')) !== 'OK\r\n');
  });

  it.each(TURNS)(
    'crawls on request, and reclaims what has expired without an access (--io %s -t %s)',
    async (io, threads) => {
      const server = await serve(io, ['-t', threads]);
      const client = await Client.connect(server.port);
      for (let i = 0; i < 2000; i++) client.send(`set key${i} 0 ${i % 2 === 0 ? 1 : 0} 1 noreply\r\nx\r\n`);
      await client.ask('mn\r\n');
      for (;;) {
        await client.ask('lru_crawler crawl all\r\n');
        if ((await client.stats())['curr_items'] === '1000') break;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      const stats = await client.stats();
      expect(Number(stats['crawler_items_checked'])).toBeGreaterThan(1000);
      expect(Number(stats['lru_crawler_starts'])).toBeGreaterThan(0);
      expect(Number(stats['crawler_reclaimed']) + Number(stats['reclaimed'])).toBe(1000);
    },
  );

  it.each(TURNS)('moves pages on request, and loses no item that has room (--io %s -t %s)', async (io, threads) => {
    const server = await serve(io, ['-t', threads]);
    const client = await Client.connect(server.port);
    for (let i = 0; i < 3000; i++) client.send(`set key${i} 0 0 1000 noreply\r\n${String(i).padEnd(1000, 'v')}\r\n`);
    for (let i = 0; i < 3000; i += 2) client.send(`delete key${i} noreply\r\n`);
    await client.ask('mn\r\n');
    const clsid = Object.keys(await client.stats('slabs'))[0]!.split(':')[0]!;
    const pages = Number((await client.stats('slabs'))[`${clsid}:total_pages`]);
    expect(pages).toBeGreaterThan(2);
    expect(await client.ask(`slabs reassign ${clsid} 1\r\n`)).toBe('OK\r\n');
    for (;;) {
      const stats = await client.stats();
      if (stats['slabs_moved'] === '1' && stats['slab_reassign_running'] === '0') break;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    const slabs = await client.stats('slabs');
    expect([slabs[`${clsid}:total_pages`], slabs['1:total_pages']]).toEqual([String(pages - 1), '1']);
    expect(Number((await client.stats())['slab_reassign_rescues'])).toBeGreaterThan(100);
    for (let i = 1; i < 3000; i += 2) client.send(`get key${i}\r\n`);
    for (let i = 1; i < 3000; i += 2) {
      expect(await client.until('END\r\n')).toBe(`VALUE key${i} 0 1000\r\n${String(i).padEnd(1000, 'v')}\r\nEND\r\n`);
    }
    // A limit that is raised is used.
    expect(await client.ask('cache_memlimit 200\r\n')).toBe('OK\r\n');
    expect((await client.stats())['limit_maxbytes']).toBe(String(200 * 1024 * 1024));
  });

  it.each(TURNS)('pages above a limit that was lowered go back to the system (--io %s -t %s)', async (io, threads) => {
    const server = await serve(io, ['-t', threads, '-m', '100', '-o', 'slab_automove=0']);
    const client = await Client.connect(server.port);
    const items = 4500;
    const set = (i: number, letter: string): void =>
      client.send(`set key${i} 0 0 10000 noreply\r\n${letter.repeat(10_000)}\r\n`);
    for (let i = 0; i < items; i++) set(i, 'v');
    await client.ask('mn\r\n');
    const clsid = Object.keys(await client.stats('items'))[0]!.split(':')[1]!;
    const pages = Number((await client.stats('slabs'))[`${clsid}:total_pages`]);
    expect(pages).toBeGreaterThan(40);
    const full = residentBytes(server.pid);
    for (let i = 0; i < items; i++) client.send(`delete key${i} noreply\r\n`);
    expect(await client.ask('cache_memlimit 8\r\n')).toBe('OK\r\n');
    while (Number((await client.stats('slabs'))[`${clsid}:total_pages`]) > 2) {
      await client.ask(`slabs reassign ${clsid} 0\r\n`);
    }
    while ((await client.stats())['slab_reassign_running'] !== '0')
      await new Promise((resolve) => setTimeout(resolve, 5));
    expect(Number((await client.stats('slabs'))['total_malloced'])).toBeLessThanOrEqual(8 << 20);
    // Of some forty megabytes; what the server itself uses moves a little.
    expect(full - residentBytes(server.pid)).toBeGreaterThan(25 << 20);
    // They are there again when the limit is raised, and empty.
    expect(await client.ask('cache_memlimit 100\r\n')).toBe('OK\r\n');
    for (let i = 0; i < items; i++) set(i, 'w');
    expect(await client.ask(`get key${items - 1}\r\n`, 'END\r\n')).toContain('w'.repeat(10_000));
    expect((await client.stats())['curr_items']).toBe(String(items));
  });
});

describe.each(IO_MODES)('dumps of memcached-ts --io %s', (io) => {
  it('refuses a second crawl while a dump waits for its reader, and goes on when that one leaves', async () => {
    const server = await serve(io, ['-t', '2']);
    const reader = await Client.connect(server.port);
    const other = await Client.connect(server.port);
    for (let i = 0; i < 60_000; i++) other.send(`set key${i}${'k'.repeat(200)} 0 0 1 noreply\r\nx\r\n`);
    await other.ask('mn\r\n');
    // Not one of the maintainer's, which come and go: this one has begun, and stays.
    do reader.send('lru_crawler metadump all\r\n');
    while ((await reader.until('\n')).startsWith('BUSY'));
    reader.socket.pause();
    expect(await other.ask('lru_crawler metadump all\r\n')).toBe('BUSY currently processing crawler request\r\n');
    expect(await other.ask('lru_crawler crawl all\r\n')).toBe('BUSY currently processing crawler request\r\n');
    reader.close();
    while ((await other.ask('lru_crawler crawl all\r\n')) !== 'OK\r\n') {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  });

  it('refuses a dump behind other commands', async () => {
    const server = await serve(io, ['-t', '1']);
    const text = await ask(server.port, 'set a 0 0 1\r\nx\r\nlru_crawler metadump all\r\n');
    expect(text).toBe('STORED\r\nERROR cannot pipeline other commands before metadump\r\n');
    expect(await ask(server.port, 'lru_crawler mgdump all\r\nget a\r\n')).toBe(
      'mg a\r\nEN\r\nVALUE a 0 1\r\nx\r\nEND\r\n',
    );
  });
});

describe('keys in lines', () => {
  it('are encoded as memcached encodes them', () => {
    const bytes = Buffer.from('aZ09-._~ %\x00\xff', 'latin1');
    expect(uriEncode(bytes, 0, bytes.length)).toBe('aZ09-._~%20%25%00%FF');
  });
});
