/** The command line: what it makes of the words, and memcached's own complaints. */
import { describe, expect, it } from 'vitest';
import { parseCommandLine, UsageError } from '../src/options.ts';
import { DEBIANS, hasDebians, OURS, runToEnd } from './servers.ts';

function settingsOf(...args: string[]) {
  const parsed = parseCommandLine(args);
  if (parsed.action !== 'serve') throw new Error(`expected settings, got ${parsed.action}`);
  return parsed.settings;
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
    [['-U', '11211'], 'UDP is not supported: -U 11211 (only 0 is possible)', 64],
    [['-m', '65536'], 'Cannot use more than 15 GB of item memory.', 64],
    [
      ['-o', 'slab_chunk_max=300'],
      '-I (item_size_max: 1048576) must be evenly divisible by slab_chunk_max (bytes: 307200)',
      64,
    ],
    [['-a', 'x'], 'Illegal access mask "x"', 64],
  ] as const)('refuses %j', (args, message, exitCode) => {
    expect(complaint(...args)).toEqual({ message, exitCode });
  });

  it
    .skipIf(!hasDebians)
    .each([
      [['-z']],
      [['-p']],
      [['--foo']],
      [['-p', '70000']],
      [['-t', '0']],
      [['-m', '0']],
      [['-c', '0']],
      [['-I', '10']],
      [['-I', '100m']],
      [['-I', '1k']],
      [['-I', '600k']],
      [['-f', '1']],
      [['-n', '0']],
      [['-R', '0']],
      [['-o', 'foo']],
      [['-u', 'nosuchuser']],
      [['-s', '/nonexistent/socket']],
    ])('complains as Debian’s memcached does: %j', async (args) => {
    const user = args[0] === '-u' ? [] : ['-u', 'root'];
    const theirs = await runToEnd(DEBIANS, [...user, ...args]);
    const ours = await runToEnd(OURS, [...user, ...args]);
    // Their last message shows the errno of a later call.
    const words = (text: string): string =>
      text.replace(/^\S*memcached(-ts)?: /, 'memcached: ').replace(': Invalid argument', ': No such file or directory');
    expect({ code: ours.code, stderr: words(ours.stderr) }).toEqual({
      code: theirs.code,
      stderr: words(theirs.stderr),
    });
  });
});
