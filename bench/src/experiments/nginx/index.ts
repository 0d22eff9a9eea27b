/**
 * nginx: what one worker serves, beside Debian's nginx as its users tune it. The first experiment belongs to every
 * evaluation; the others run when they are named.
 */
import { type Experiment, type Load, lengths, type Server, type Target, type Workload } from '../../experiment.ts';
import type { MetricName } from '../../metrics.ts';
import { pattern } from '../../payload.ts';
import { nodeServer } from '../../peers.ts';
import { TRACES, traceOf, tracePath } from '../../traces.ts';
import { bunServe, debianNginx, nginxLite, type Site } from './servers.ts';

const FILE_BYTES = 1024;
const PATH = `/${FILE_BYTES}.html`;
const page: Site = { files: { [PATH]: FILE_BYTES } };
const get = { protocol: 'http', connections: 250, size: FILE_BYTES, path: PATH } as const;

const three = (site: Site): Server[] => [
  nginxLite(site, 'megapipe', 'nginx-lite megapipe', 'megapipe', 'megapipe'),
  nginxLite(site, 'epoll', 'nginx-lite epoll', 'baseline', 'epoll'),
  debianNginx(site),
];

const against = (
  metric: MetricName,
  limit: Pick<Target, 'atMost' | 'atLeast' | 'difference'>,
  workload = 'inf',
): Target => ({
  subject: 'megapipe',
  against: 'nginx',
  metric,
  workload,
  ...limit,
});

/** One kind of request on connections that stay. */
const open = (id: string, label: string, load: Partial<Load> = {}, more: Partial<Workload> = {}): Workload => ({
  id,
  label,
  load: { ...get, perConnection: Infinity, ...load },
  ...more,
});

/** Connections that wait for their next request. */
const IDLE = 10_000;

/** An experiment of the family, with what they have in common. */
const experiment = (
  name: string,
  rest: Pick<Experiment, 'title' | 'claim' | 'servers' | 'workloads' | 'targets'> & Partial<Experiment>,
): Experiment => ({
  name: `nginx-${name}`,
  transaction: 'GET',
  axis: '',
  peer: 'nginx',
  byNameOnly: true,
  ...rest,
});

const nginx: Experiment = {
  name: 'nginx',
  title: 'nginx, GET of a 1 KiB static file, 250 connections, one worker',
  claim:
    'nginx-lite on MegaPipe serves more than twice as many requests as nginx on a core, at half the CPU per request.',
  transaction: 'GET',
  axis: 'transactions a connection',
  servers: [
    ...three(page),
    {
      id: 'node-http',
      label: 'node:http',
      role: 'peer',
      launch: async () => nodeServer('http-node.ts', '--size', String(FILE_BYTES)),
    },
  ],
  workloads: lengths(get),
  peer: 'nginx',
  targets: [
    against('throughput', { atLeast: 2.2 }),
    against('cpu', { atMost: 0.45 }),
    against('cpu', { atMost: 0.55 }, '8'),
    against('cpu', { atMost: 0.85 }, '1'),
  ],
};

/** With few connections for the largest, so that each ends many times in a window. */
const SIZES: readonly (readonly [id: string, label: string, bytes: number, connections: number, atLeast: number])[] = [
  ['16k', '16 KiB', 16 * 1024, 32, 1.7],
  ['100k', '100 KiB', 100 * 1024, 32, 1],
  ['1m', '1 MiB', 1024 * 1024, 32, 1.3],
  ['64m', '64 MiB', 64 * 1024 * 1024, 4, 1],
  ['1g', '1 GiB', 1024 * 1024 * 1024, 2, 1],
];
const larger: Site = { files: Object.fromEntries(SIZES.map(([id, , bytes]) => [`/${id}.html`, bytes])) };

const TEXT = Buffer.from(pattern(64)).toString('latin1');
/** A body that is not in a file: both programs make it from the configuration, where a backslash has a meaning. */
const text: Site = { files: {}, server: () => [`location / { return 200 "${TEXT.replaceAll('\\', '\\\\')}"; }`] };

const SERVERS = 20;
const LOCATIONS = 30;

/** What a site grows into over the years: virtual servers, locations of each kind, a map, an access log. */
const grown: Site = {
  files: { [`/static/section-7${PATH}`]: FILE_BYTES },
  http: (port) => [
    'log_format timed \'$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent $request_time\';',
    "map $uri $cache_time { default '1h'; ~^/static/ '30d'; ~*\\.(css|js)$ '7d'; }",
    'gzip_static on;',
    ...Array.from(
      { length: SERVERS - 1 },
      (_, i) => `server { listen 0.0.0.0:${port}; server_name site-${i}.example *.site-${i}.example; return 404; }`,
    ),
  ],
  server: (folder) => [
    'server_name bench.example _;',
    `access_log ${folder}/access.log timed buffer=64k flush=1s;`,
    ...Array.from({ length: LOCATIONS / 3 }, (_, i) => [
      `location /static/section-${i}/ { add_header X-Cache-Time $cache_time; }`,
      `location = /exact-${i} { return 204; }`,
      `location ~ ^/private-${i}/.*\\.php$ { return 403; }`,
    ]).flat(),
  ],
};

/** The same page with the access log as Debian has it, but buffered. */
const logged: Site = { ...page, server: (folder) => [`access_log ${folder}/access.log combined buffer=64k flush=1s;`] };

/** Files of each traffic, in a folder of its own so that both sites are one. */
const traffic: Site = {
  files: Object.fromEntries(
    TRACES.flatMap((trace) => Array.from(traceOf(trace).sizes, (size, file) => [tracePath(trace, file), size])),
  ),
};

export const nginxExperiments: readonly Experiment[] = [
  nginx,
  experiment('files', {
    title: 'nginx, GET of larger static files, connections that stay, one worker',
    claim: 'nginx-lite on MegaPipe sends larger files at least as fast as nginx’s sendfile on a core.',
    axis: 'size of the file',
    servers: three(larger),
    workloads: SIZES.map(([id, label, size, connections]) =>
      open(id, label, { size, connections, path: `/${id}.html` }),
    ),
    targets: SIZES.map(([id, , , , atLeast]) => against('throughput', { atLeast }, id)),
  }),
  experiment('return', {
    title: 'nginx, return 200 with 64 B, 250 connections, one worker',
    claim: 'Answers from the configuration are at least twice as fast.',
    servers: three(text),
    workloads: [open('inf', 'return 200', { size: TEXT.length, path: '/' })],
    targets: [against('throughput', { atLeast: 2 })],
  }),
  experiment('logged', {
    title: 'nginx, GET of a 1 KiB static file with a buffered access log, 250 connections, one worker',
    claim: 'The access log does not take the advantage away.',
    servers: three(logged),
    workloads: [open('inf', 'logged')],
    targets: [against('throughput', { atLeast: 1.5 })],
  }),
  experiment('grown', {
    title: `nginx, GET of a 1 KiB file from a site of ${SERVERS} servers and ${LOCATIONS} locations, with map, gzip_static and a log`,
    claim: 'A configuration as real sites have it leaves half as much again.',
    servers: three(grown),
    workloads: [open('inf', 'grown site', { path: `/static/section-7${PATH}` })],
    targets: [against('throughput', { atLeast: 1.5 })],
  }),
  experiment('traces', {
    title: 'nginx, the traffic of the paper’s web server, 250 connections, one worker',
    claim: 'With many short connections and files of many sizes MegaPipe serves more than the same server on epoll.',
    axis: 'traffic',
    warmUp: 'each',
    servers: three(traffic),
    workloads: [
      open('specweb', 'SpecWeb: 6 requests, 704 B', { trace: 'specweb', perConnection: 6, size: 704 }),
      open('yahoo', 'Yahoo: 2.3 requests, 12.5 kB', { trace: 'yahoo', perConnection: 2, size: 12_500 }),
    ],
    targets: TRACES.flatMap((trace): Target[] => [
      { subject: 'megapipe', against: 'epoll', metric: 'throughput', workload: trace, atLeast: 1 },
      { subject: 'megapipe', against: 'epoll', metric: 'cpu', workload: trace, atMost: 1 },
      against('cpu', { atMost: 1 }, trace),
    ]),
  }),
  experiment('latency', {
    title: 'nginx, GET of a 1 KiB static file in open loop at half of what nginx serves, one worker',
    claim: 'At a load that both bear, answers come no later than from nginx, from the time they were due.',
    metrics: ['p50', 'p99', 'p999', 'cpu'],
    servers: three(page),
    workloads: [open('inf', 'half load', {}, { rateOfPeer: 0.5 })],
    targets: [against('p99', { atMost: 1 })],
  }),
  experiment('bun', {
    title: 'nginx-lite and Bun.serve with a static route, the same 1 KiB, 250 connections, one worker',
    claim: 'A third more requests than from Bun on a core.',
    servers: [nginxLite(page, 'megapipe', 'nginx-lite megapipe', 'megapipe', 'megapipe'), bunServe(FILE_BYTES)],
    peer: 'bun',
    workloads: [open('inf', '1 KiB')],
    targets: [{ subject: 'megapipe', against: 'bun', metric: 'throughput', workload: 'inf', atLeast: 1.3 }],
  }),
  experiment('idle', {
    title: `nginx, resident memory with ${IDLE.toLocaleString('en-US')} idle kept-alive connections that were served once`,
    claim: 'Idle connections cost no more than in C, beside what a JavaScript engine takes.',
    transaction: 'connection',
    kind: 'idle',
    metrics: ['rssStart', 'rssIdle', 'pssIdle'],
    servers: three(page),
    workloads: [open('idle', 'idle', { connections: IDLE })],
    targets: [against('rssIdle', { atMost: 60, difference: true }, 'idle')],
  }),
];
