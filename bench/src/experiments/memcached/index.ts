/**
 * memcached: what one worker thread serves, request by request kind, beside Debian's memcached. The first experiment belongs
 * to every evaluation; the others run when they are named.
 */
import { type Experiment, type Load, lengths, type Server, type Target, type Workload } from '../../experiment.ts';
import type { MetricName } from '../../metrics.ts';
import { application, debianProgram } from '../../peers.ts';

const flags = (port: number, threads: number): string[] => [
  '-l',
  '0.0.0.0',
  '-p',
  String(port),
  '-U',
  '0',
  '-t',
  String(threads),
  '-m',
  '1024',
  '-c',
  '4096',
];

const ours = (
  id: string,
  label: string,
  role: Server['role'],
  threads: number,
  ...options: readonly string[]
): Server => ({
  id,
  label,
  role,
  launch: async (context) => {
    const port = await context.freePort();
    return { command: [application('memcached-ts'), ...flags(port, threads), ...options], port };
  },
});

const debians = (threads: number): Server => ({
  id: 'memcached',
  label: 'memcached (Debian)',
  role: 'peer',
  launch: async (context) => {
    const program = debianProgram('memcached');
    const port = await context.freePort();
    // memcached refuses to run as root unless it is told as whom.
    const user = process.getuid?.() === 0 ? ['-u', 'root'] : [];
    return { command: [program, ...user, ...flags(port, threads)], port };
  },
});

const three = (threads: number): Server[] => [
  ours('megapipe', 'memcached-ts megapipe', 'megapipe', threads, '--io', 'megapipe'),
  ours('epoll', 'memcached-ts epoll', 'baseline', threads, '--io', 'epoll'),
  debians(threads),
];

const KEEP = Infinity;
const get = { protocol: 'memcached', connections: 250, size: 64, keys: 10_000 } as const;

/** One kind of request on connections that stay. */
const open = (label: string, load: Partial<Load>, more: Partial<Workload> = {}): Workload => ({
  id: 'inf',
  label,
  load: { ...get, perConnection: KEEP, ...load },
  ...more,
});

const against = (metric: MetricName, limit: Pick<Target, 'atMost' | 'atLeast'>, workload = 'inf'): Target => ({
  subject: 'megapipe',
  against: 'memcached',
  metric,
  workload,
  ...limit,
});

/** An experiment of the family, with what they have in common. */
const experiment = (
  name: string,
  rest: Pick<Experiment, 'title' | 'claim' | 'workloads' | 'targets'> & Partial<Experiment>,
): Experiment => ({
  name: `memcached-${name}`,
  transaction: 'request',
  axis: '',
  servers: three(1),
  peer: 'memcached',
  byNameOnly: true,
  ...rest,
});

const shortAndLong = lengths(get);

const memcached: Experiment = {
  name: 'memcached',
  title: 'memcached, GET of 64 B values, 10,000 keys, 250 connections, -t 1',
  claim: 'memcached-ts on MegaPipe serves more requests than C memcached on a core, at less CPU per request.',
  transaction: 'GET',
  axis: 'transactions a connection',
  servers: three(1),
  workloads: shortAndLong,
  peer: 'memcached',
  targets: [
    against('throughput', { atLeast: 1.35 }),
    against('cpu', { atMost: 0.72 }),
    against('cpu', { atMost: 0.75 }, '8'),
    against('cpu', { atMost: 0.75 }, '1'),
  ],
};

const withMiddle: Workload[] = [
  ...shortAndLong.slice(0, 2),
  { id: '128', label: '128', load: { ...get, perConnection: 128 } },
  shortAndLong[2]!,
];

const HUNDRED = 100;
/** A batch keeps the server busy for long: fewer connections fill it. */
const batch = { connections: 50, batch: HUNDRED };

export const memcachedExperiments: readonly Experiment[] = [
  memcached,
  experiment('lengths', {
    title: 'memcached, GET of 64 B values by requests a connection, -t 1',
    claim: 'The shorter the connections, the more MegaPipe gains over epoll: the figure of the paper for memcached.',
    transaction: 'GET',
    axis: 'requests a connection',
    workloads: withMiddle,
    targets: memcached.targets,
  }),
  experiment('locks', {
    title: 'memcached, GET of 64 B values by requests a connection: MegaPipe and epoll, global and striped locks, -t 2',
    claim: 'With a lock around the whole cache, as in the paper, MegaPipe gains less than with striped locks.',
    transaction: 'GET',
    axis: 'requests a connection',
    cores: 'shared',
    servers: [
      ours('megapipe', 'megapipe, striped', 'megapipe', 2, '--io', 'megapipe', '--lock', 'striped'),
      ours('megapipe-global', 'megapipe, global', 'megapipe', 2, '--io', 'megapipe', '--lock', 'global'),
      ours('epoll', 'epoll, striped', 'baseline', 2, '--io', 'epoll', '--lock', 'striped'),
      ours('epoll-global', 'epoll, global', 'baseline', 2, '--io', 'epoll', '--lock', 'global'),
      debians(2),
    ],
    workloads: withMiddle,
    targets: [],
  }),
  experiment('mixed', {
    title: 'memcached, 90 % GET and 10 % SET of 64 B, 100,000 keys by Zipf’s law (0.99), 250 connections, -t 1',
    claim: 'Stores and uneven keys do not take the advantage away.',
    workloads: [open('90/10', { keys: 100_000, zipf: 0.99, setShare: 0.1 })],
    targets: [against('throughput', { atLeast: 1.3 })],
  }),
  experiment('set', {
    title: 'memcached, SET of 64 B values, 10,000 keys, 250 connections, -t 1',
    claim: 'Stores are faster, too.',
    transaction: 'SET',
    workloads: [open('SET', { setShare: 1 })],
    targets: [against('throughput', { atLeast: 1.2 })],
  }),
  experiment('4k', {
    title: 'memcached, GET of 4 KiB values, 1,000 keys, 250 connections, -t 1',
    claim: 'Values of a page are served faster.',
    transaction: 'GET',
    workloads: [open('4 KiB', { size: 4096, keys: 1000 })],
    targets: [against('throughput', { atLeast: 1.3 })],
  }),
  experiment('100k', {
    title: 'memcached, GET of 100 KiB values, 100 keys, 50 connections, -t 1',
    claim: 'Large values are no slower.',
    transaction: 'GET',
    workloads: [open('100 KiB', { size: 102_400, keys: 100, connections: 50 })],
    targets: [against('throughput', { atLeast: 1 })],
  }),
  experiment('multiget100', {
    title: 'memcached, one get of 100 keys of 64 B, 50 connections, -t 1, per key',
    claim: 'A key of a multiget costs no more than in C.',
    transaction: 'key',
    workloads: [open('100 keys', { ...batch, shape: 'multiget' }, { transactionsPerRequest: HUNDRED })],
    targets: [against('throughput', { atLeast: 1 })],
  }),
  experiment('pipeline100', {
    title: 'memcached, 100 pipelined gets of 64 B, 50 connections, -t 1, per hundred',
    claim: 'Pipelined gets are answered in one go, as no memcached up to 1.6.18 does.',
    transaction: 'hundred',
    workloads: [open('100 gets', { ...batch, shape: 'pipeline' })],
    targets: [
      against('throughput', { atLeast: 10 }),
      // Half of the 70 µs that memcached 1.6.45 took here; that version is not Debian's.
      { subject: 'megapipe', metric: 'cpu', workload: 'inf', atMost: 35 },
    ],
  }),
  experiment('getkq100', {
    title: 'memcached, 100 binary GETKQ of 64 B and a NOOP, 50 connections, -t 1, per key',
    claim: 'A key of a quiet binary pipeline costs no more than in C.',
    transaction: 'key',
    workloads: [open('100 GETKQ', { ...batch, shape: 'getkq' }, { transactionsPerRequest: HUNDRED })],
    targets: [against('throughput', { atLeast: 1 })],
  }),
  experiment('latency', {
    title: 'memcached, GET of 64 B values in open loop at half of what Debian’s memcached serves, -t 1',
    claim: 'At a load that both bear, answers come no later than from C, from the time they were due.',
    transaction: 'GET',
    metrics: ['p50', 'p99', 'p999', 'cpu'],
    workloads: [open('half load', {}, { rateOfPeer: 0.5 })],
    targets: [against('p99', { atMost: 1 })],
  }),
  experiment('threads2', {
    title: 'memcached, GET of 64 B values, 250 connections, -t 2 and the client on the same two cores',
    claim: 'With two threads that share their cores with the client, a request still costs less CPU than in C.',
    transaction: 'GET',
    axis: 'requests a connection',
    cores: 'shared',
    servers: three(2),
    workloads: shortAndLong,
    targets: [
      against('cpu', { atMost: 0.72 }),
      against('cpu', { atMost: 0.75 }, '8'),
      against('cpu', { atMost: 0.75 }, '1'),
    ],
  }),
  experiment('memory', {
    title: 'memcached, what it takes: resident memory at start, and for each stored item',
    claim:
      'An item takes what it takes in C, and a server that has just started less than 120 MB; what else storing takes, it takes once.',
    transaction: 'item',
    axis: 'stored',
    kind: 'memory',
    metrics: ['rssStart', 'rssOnce', 'rssItem', 'statsItem'],
    servers: [...three(1), ours('default', 'memcached-ts -t 4', 'megapipe', 4)],
    workloads: [
      { id: '64', label: '800,000 × 64 B', load: { ...get, perConnection: KEEP, keys: 800_000 } },
      { id: '1024', label: '100,000 × 1 KiB', load: { ...get, perConnection: KEEP, keys: 100_000, size: 1024 } },
      { id: '100k', label: '2,000 × 100 KiB', load: { ...get, perConnection: KEEP, keys: 2000, size: 102_400 } },
    ],
    targets: [
      ...['64', '1024', '100k'].flatMap((workload) => [
        against('rssItem', { atMost: 1.05 }, workload),
        against('statsItem', { atMost: 1.05 }, workload),
      ]),
      { subject: 'megapipe', metric: 'rssStart', workload: '64', atMost: 120 },
      { subject: 'default', metric: 'rssStart', workload: '64', atMost: 120 },
    ],
  }),
];
