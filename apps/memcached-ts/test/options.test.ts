/** The command line: what it makes of the words, and memcached's own complaints. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseConfigFile } from '../src/config_file.ts';
import { HELP } from '../src/help.ts';
import { parseCommandLine, UsageError } from '../src/options.ts';
import { atof, atoi, strtod, toFixed } from '../src/strtol.ts';
import { DEBIANS, hasDebians, OURS, runToEnd } from './servers.ts';

function settingsOf(...args: string[]) {
  const parsed = parseCommandLine(args);
  if (parsed.action !== 'serve') throw new Error(`expected settings, got ${parsed.action}`);
  return parsed.settings;
}

/** What the command would say and how it would end; a process of its own only where words alone do not tell. */
async function runOurs(args: string[]): Promise<{ code: number | null; stderr: string }> {
  const warnings: string[] = [];
  try {
    parseCommandLine(args, warnings);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return { code: error.exitCode, stderr: [...warnings, error.message, ''].join('\n') };
  }
  return runToEnd(OURS, args);
}

function complaint(...args: string[]): { message: string; exitCode: number } {
  try {
    parseCommandLine(args);
  } catch (error) {
    if (error instanceof UsageError) return { message: error.message, exitCode: error.exitCode };
    throw error;
  }
  throw new Error(`nothing wrong with ${args.join(' ')}`);
}

describe('the command line', () => {
  it('has memcached’s defaults', () => {
    const settings = settingsOf();
    expect(settings).toMatchObject({
      port: 11211,
      threads: 4,
      maxConns: 1024,
      backlog: 1024,
      io: 'megapipe',
      backend: 'auto',
      listen: [],
    });
    expect(settings.cache).toMatchObject({
      memoryBytes: 64 << 20,
      itemSizeMax: 1 << 20,
      useCas: true,
      evictions: true,
    });
  });

  it('reads short and long words, joined and apart', () => {
    expect(settingsOf('-p11212', '-m', '128', '-vv', '-MC', '--threads=2', '--conn-limit', '50')).toMatchObject({
      port: 11212,
      verbosity: 2,
      threads: 2,
      maxConns: 50,
      cache: { memoryBytes: 128 << 20, evictions: false, useCas: false },
    });
    expect(settingsOf('-p', '-1').port).toBe(-1);
    expect(settingsOf('-l', '127.0.0.1,[::1]:5', '-l', 'localhost:7').listen).toEqual([
      '127.0.0.1',
      '[::1]:5',
      'localhost:7',
    ]);
    expect(settingsOf('-I', '2m', '-m', '64').cache.itemSizeMax).toBe(2 << 20);
    expect(settingsOf('-o', 'hashpower=14,idle_timeout=9').idleTimeoutSeconds).toBe(9);
    expect(settingsOf('--io', 'epoll', '--lock=global', '--pin=1,0')).toMatchObject({
      io: 'epoll',
      backend: 'auto',
      lock: 'global',
      cpus: [1, 0],
    });
    expect(settingsOf('--pin').cpus[0]).toBe(0);
    expect(parseCommandLine(['-h']).action).toBe('help');
    expect(parseCommandLine(['-V']).action).toBe('version');
  });

  it.each([
    [['--io', 'select'], '--io must be megapipe or epoll, not "select"', 64],
    [['-Z'], expect.stringMatching(/^-Z: TLS is not supported yet/), 64],
    [['-o', 'ssl_key=/x'], expect.stringMatching(/^-o ssl_key: TLS is not supported yet/), 64],
    [['-o', 'ssl_min_version=3,ssl_key=/x'], expect.stringMatching(/^-o ssl_min_version: TLS/), 64],
    [['-l', 'mtls:127.0.0.1'], expect.stringContaining("'mtls' option is valid only when SSL is enabled"), 71],
    [['-N', '1'], '-N <num_napi_ids> option not supported', 1],
    [['-o', 'hashpower=29'], expect.stringContaining('multiplier of 29 is too high'), 1],
    [['-o', 'resp_obj_mem_limit=x'], 'could not parse argument to resp_obj_mem_limit', 1],
    [['--config', '/nonexistent'], expect.stringContaining('cannot read --config /nonexistent'), 64],
    [['-m', '65536'], 'Cannot use more than 15 GB of item memory.', 64],
    [['-o', 'slab_chunk_max=256'], expect.stringContaining('cannot be smaller than 512'), 64],
    [
      ['-o', 'slab_chunk_max=300'],
      '-I (item_size_max: 1048576) must be evenly divisible by slab_chunk_max (bytes: 300)',
      64,
    ],
  ] as const)('refuses %j', (args, message, exitCode) => {
    expect(complaint(...args)).toEqual({ message, exitCode });
  });

  it.each([
    ['', 1 << 19],
    ['-I 2m', 1 << 19],
    ['-o no_modern', 1 << 20],
    ['-o no_chunked_items', 1 << 20],
    ['-I 2m -o no_modern,no_chunked_items', 1 << 19],
    ['-o slab_chunk_max=4096', 4096],
    ['-o slab_chunk_max=4096,no_modern', 4096],
    ['-I 2m -o slab_chunk_max=8192', 8192],
    ['-I 2m -o slab_chunk_max=8192,no_chunked_items', 1 << 20],
    ['-I 1024 -n 2000 -o slab_chunk_max=1024', 1024],
  ])('has the largest chunk of Debian’s memcached with "%s"', (args, bytes) => {
    expect(settingsOf(...args.split(' ').filter(Boolean)).cache.slabChunkMax).toBe(bytes);
  });

  it('reads odd numbers as C’s atoi, atof and strtoul do', () => {
    const { cache, ...settings } = settingsOf(
      ...['-f', '0x1.8', '-n', '+64', '-b', '-1', '-R', '4294967297', '-c', ' 4294967373x', '-a', '9', '-t', '2x'],
      '-o',
      'hot_max_factor=inf,warm_max_factor=0x1p1,idle_timeout=4294967301,slab_automove=4294967297,hot_lru_pct=4294967306,' +
        'slab_automove_window=4294967301,tail_repair_time=4294967306,lru_crawler_sleep=4294967301,' +
        'lru_crawler_tocrawl=5000000000,temporary_ttl=4294967301,slab_automove_ratio=.5e0',
    );
    expect([cache.growthFactor, cache.chunkSizeMin, cache.lru, cache.slabs]).toMatchObject([
      1.5,
      64,
      {
        hotMaxFactor: Number.POSITIVE_INFINITY,
        warmMaxFactor: 2,
        hotPct: 10,
        tailRepairTime: 10,
        crawlerSleepUs: 5,
        crawlerToCrawl: 705_032_704,
        temporaryTtl: 5,
      },
      { automove: 1, automoveWindow: 5, automoveRatio: 0.5 },
    ]);
    expect(settings).toMatchObject({
      backlog: -1,
      requestsPerEvent: 1,
      maxConns: 77,
      socketMode: 0,
      threads: 2,
      idleTimeoutSeconds: 5,
    });
    expect(complaint('-o', 'lru_crawler_sleep=-1').message).toBe('LRU crawler sleep must be between 0 and 1 second');
    expect([atoi('99999999999999999999'), atoi('-99999999999999999999'), atoi(' -2147483649'), atoi('x')]).toEqual([
      -1, 0, 2_147_483_647, 0,
    ]);
    expect([atof('0x'), atof('nano'), atof('-inf'), atof('1e'), atof('x'), atof('1e400')]).toEqual([
      0,
      Number.NaN,
      Number.NEGATIVE_INFINITY,
      1,
      0,
      Number.POSITIVE_INFINITY,
    ]);
    expect(['1e400', '1e-400', '0x', '1e', '5\tx', '0e-400', '0x0p9'].map(strtod)).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
      5,
      0,
      0,
    ]);
    expect([toFixed(Number.NaN, 2), toFixed(-1 / 0, 2), toFixed(1e22, 2), toFixed(-0.5, 3)]).toEqual([
      'nan',
      '-inf',
      '10000000000000000000000.00',
      '-0.500',
    ]);
  });

  it('reads every word of -o', () => {
    const { cache, ...settings } = settingsOf(
      '-o',
      'no_maxconns_fast,no_hashexpand,no_slab_reassign,slab_automove=2,slab_automove_ratio=.5,slab_automove_window=9',
      '-o',
      'tail_repair_time=11,hash_algorithm=jenkins,no_lru_crawler,lru_crawler_sleep=7,lru_crawler_tocrawl=8,hot_lru_pct=10',
      '-owarm_lru_pct=11,hot_max_factor=.5,warm_max_factor=3,temporary_ttl=12,slab_sizes=104-200-400,track_sizes',
      '--extended=watcher_logbuf_size=1,worker_logbuf_size=2,read_buf_mem_limit=3,resp_obj_mem_limit=4,modern,relaxed_privileges',
    );
    expect(settings).toMatchObject({
      maxConnsFast: false,
      watcherLogbufBytes: 1024,
      workerLogbufBytes: 2048,
      readBufMemLimitBytes: 3 << 20,
      respObjMemLimitBytes: 4 << 20,
    });
    expect(settings.hashAlgorithm).toBe('jenkins');
    expect(cache).toMatchObject({
      hashExpand: false,
      trackSizes: true,
      slabSizes: [104, 200, 400],
      slabs: { reassign: false, automove: 2, automoveRatio: 0.5, automoveWindow: 9 },
      lru: {
        tailRepairTime: 11,
        crawler: false,
        crawlerSleepUs: 7,
        crawlerToCrawl: 8,
        maintainer: true,
        segmented: true,
        hotPct: 10,
        warmPct: 11,
        hotMaxFactor: 0.5,
        warmMaxFactor: 3,
        temporaryTtl: 12,
      },
    });
  });

  it('reads every long name, abbreviated as far as getopt allows', () => {
    expect(
      settingsOf(
        '--unix-m=770',
        '--enable-sh',
        '--port=1',
        '--unix-socket=/s',
        '--udp=2',
        '--memory-l=128',
        '--disable-e',
        '--conn=3',
        '--lock-memory',
        '--enable-c',
        '--verb',
        '--daemon',
        '--listen=a',
        '--user=b',
        '--pid=c',
        '--slab-g=2',
        '--slab-m=64',
        '--thr=5',
        '--max-r=6',
        '--disable-c',
        '--listen-b=7',
        '--proto=ascii',
        '--max-i=2m',
        '--disable-f',
        '--disable-d',
        '--disable-w',
        '--memory-f=/d',
        '--ext=idle_timeout=8',
        '-D/',
      ),
    ).toMatchObject({
      socketMode: 0o770,
      shutdownCommand: true,
      port: 1,
      socketPath: '/s',
      udpPort: 2,
      cache: {
        memoryBytes: 128 << 20,
        evictions: false,
        growthFactor: 2,
        chunkSizeMin: 64,
        useCas: false,
        itemSizeMax: 2 << 20,
      },
      maxConns: 3,
      lockMemory: true,
      largePages: false,
      coreDumps: true,
      verbosity: 1,
      daemon: true,
      listen: ['a'],
      user: 'b',
      pidFile: 'c',
      threads: 5,
      requestsPerEvent: 6,
      backlog: 7,
      protocol: 'ascii',
      flushEnabled: false,
      dumpEnabled: false,
      watchEnabled: false,
      memoryFile: '/d',
      idleTimeoutSeconds: 8,
      prefixDelimiter: '/',
      detailEnabled: true,
    });
    expect(settingsOf('--auth-file=/f').authFile).toBe('/f');
    // UDP alone brings TCP on the same port.
    expect(settingsOf('-U', '5')).toMatchObject({ port: 5, udpPort: 5 });
  });

  it('names every option in its help', () => {
    const source = readFileSync(new URL('../src/options.ts', import.meta.url), 'utf8');
    const names = [...source.matchAll(/^ {2}(?:none|value|option)\('([a-z-]+)'/gm)].map((match) => `--${match[1]}`);
    const words = [...source.matchAll(/^ {4}case '(?!no_)([a-z_]{5,})':/gm)].map((match) => match[1]!);
    expect(names.length).toBeGreaterThan(35);
    expect(words.length).toBeGreaterThan(25);
    for (const name of [...names, ...words]) expect(HELP).toContain(name);
  });

  it('reads a file in the style of /etc/memcached.conf as Debian’s start script does', () => {
    const file = parseConfigFile(
      [
        '# memcached default config file',
        '-d',
        'logfile /var/log/memcached.log',
        '  -m 128   # megabytes',
        '-p 11311',
        '-u memcache',
        "-o 'idle_timeout=5'",
        '-P "/run/with blank/pid"',
        '-M',
        '',
        '#-v',
        '--threads=2',
      ].join('\n'),
    );
    expect(file).toEqual({
      args: [
        '-m',
        '128',
        '-p',
        '11311',
        '-u',
        'memcache',
        '-o',
        'idle_timeout=5',
        '-P',
        '/run/with blank/pid',
        '-M',
        '--threads=2',
      ],
      logFile: '/var/log/memcached.log',
    });
    expect(() => parseConfigFile('-v\nfoo bar')).toThrow('line 2: neither an option nor "logfile PATH": foo bar');
    expect(() => parseConfigFile('-v "x')).toThrow('line 1: the quote " is not closed');
    const path = join(mkdtempSync(join(tmpdir(), 'memcached-ts-')), 'memcached.conf');
    writeFileSync(path, '-p 11311\n-t 2\n--config=/x\n');
    expect(complaint('--config', path).message).toContain('it names another --config');
    writeFileSync(path, '-p 11311\n-t 2\n-d\n');
    // What stands behind it on the command line counts.
    expect(settingsOf('--config', path, '-t', '3')).toMatchObject({ port: 11311, threads: 3, daemon: false });
    rmSync(dirname(path), { recursive: true });
  });

  it.skipIf(!hasDebians).each([
    [['-z']],
    [['-p']],
    [['--foo']],
    [['--ver']],
    [['--max=3']],
    [['--daemon=1']],
    [['--port']],
    [['-d=1']],
    [['-p', '70000']],
    [['-U', '70000']],
    [['-t', '0']],
    [['-t', '65', '-m', '1']],
    [['-m', '0']],
    [['-c', '0']],
    [['-c', 'x']],
    [['-I', '10']],
    [['-I', '100m']],
    [['-I', '2000m']],
    [['-I', '1k']],
    [['-I', '600k']],
    [['-f', '1']],
    [['-f', 'x']],
    [['-n', '0']],
    [['-R', '0']],
    [['-D', '']],
    [['-B', 'foo']],
    [['-S', '-B', 'ascii']],
    [['-S', '-U', '1']],
    [['-Y', '/x', '-B', 'binary']],
    [['-Y', '/x', '-U', '1']],
    [['-Y', '/nonexistent']],
    [['-l', '[::1']],
    [['-l', '127.0.0.1:x']],
    [['-p', '-1', '-l', '127.0.0.1', '-l', '127.0.0.2:x,127.0.0.3']],
    [['-p', '-1', '-l', '127.0.0.1', '-l', 'no.such.host.invalid']],
    [['-p', '-1', '-l', '127.0.0.1,192.0.2.1']],
    [['-l', '127.0.0.1,notls:127.0.0.1']],
    [['-l', 'notls:127.0.0.1']],
    [['-u', 'nosuchuser']],
    [['-s', '/nonexistent/socket']],
    ...[
      'foo',
      ',',
      'hashpower',
      'hashpower=11',
      'hashpower=33',
      'slab_automove=3',
      'slab_automove_ratio',
      'slab_automove_ratio=2',
      'slab_automove_window',
      'slab_automove_window=2',
      'tail_repair_time',
      'tail_repair_time=9',
      'hash_algorithm',
      'hash_algorithm=foo',
      'lru_crawler_sleep',
      'lru_crawler_sleep=1000001',
      'lru_crawler_tocrawl',
      'lru_crawler_tocrawl=x',
      'hot_lru_pct',
      'hot_lru_pct=0',
      'warm_lru_pct',
      'warm_lru_pct=80',
      'hot_lru_pct=50,warm_lru_pct=50',
      'hot_max_factor',
      'hot_max_factor=0',
      'warm_max_factor',
      'warm_max_factor=x',
      'temporary_ttl',
      'no_lru_maintainer,temporary_ttl=10',
      'idle_timeout',
      'watcher_logbuf_size',
      'watcher_logbuf_size=x',
      'worker_logbuf_size',
      'worker_logbuf_size=x',
      'read_buf_mem_limit',
      'read_buf_mem_limit=x',
      'slab_sizes=5',
      'slab_sizes=104-100',
      'slab_sizes=104-108',
      'no_slab_sizes',
      // Accepted all of them; the last word ends it.
      'maxconns_fast,no_maxconns_fast,hashpower=12,no_hashexpand,slab_reassign,no_slab_reassign,slab_automove,slab_automove=2,foo',
      'no_slab_automove,slab_automove_ratio=.5,slab_automove_window=3,tail_repair_time=10,hash_algorithm=xxh3,foo',
      'lru_crawler,no_lru_crawler,lru_crawler_sleep=0,lru_crawler_tocrawl=5,lru_maintainer,no_lru_maintainer,foo',
      'hot_lru_pct=1,warm_lru_pct=79,hot_max_factor=.1,warm_max_factor=9,temporary_ttl=1,idle_timeout=1,foo',
      'watcher_logbuf_size=1,worker_logbuf_size=1,slab_sizes=1,slab_chunk_max=1,track_sizes,foo',
      'inline_ascii_resp,no_inline_ascii_resp,modern,no_modern,no_chunked_items,no_drop_privileges,read_buf_mem_limit=1,foo',
    ].map((words) => [['-o', words]]),
  ])('complains as Debian’s memcached does: %j', async (args) => {
    const user = args[0] === '-u' ? [] : ['-u', 'root'];
    const theirs = await runToEnd(DEBIANS, [...user, ...args]);
    const ours = await runOurs([...user, ...args]);
    // Their last message shows the errno of a later call.
    const words = (text: string): string =>
      text
        .replace(/^\S*memcached(-ts)?: /, 'memcached: ')
        .replace(/: (Invalid argument|Success)$/m, ': No such file or directory')
        // Told without an end of line there, and with no errno here.
        .replace(
          /^(Invalid .*"|'notls' .*|getaddrinfo.*)\n?(failed to listen on .*?)(: No such file or directory)?$/m,
          '$1\n$2',
        )
        .replace(/^(Authfile|Could not open authfile)(.*?): .*$/m, '$1$2');
    expect({ code: ours.code, stderr: words(ours.stderr) }).toEqual({
      code: theirs.code,
      stderr: words(theirs.stderr),
    });
  });
});
