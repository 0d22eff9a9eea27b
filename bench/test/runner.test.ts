import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Experiment, Missing, type Server } from '../src/experiment.ts';
import { nginxLite, type Site } from '../src/experiments/nginx/servers.ts';
import { application, nodeServer } from '../src/peers.ts';
import { processTree } from '../src/procstat.ts';
import { type RunOptions, runExperiment } from '../src/runner.ts';

const OPTIONS: RunOptions = {
  rounds: 2,
  seconds: 0.2,
  warmupSeconds: 0.05,
  firstWarmupSeconds: 0.1,
  serverCpu: 0,
  clientCpu: null,
  clientBackend: 'auto',
};

const good = (id: string): Server => ({ id, label: id, role: 'peer', launch: async () => nodeServer('echo-node.ts') });
const memcached: Server = {
  id: 'memcached',
  label: 'memcached-ts',
  role: 'megapipe',
  launch: async (context) => {
    const port = await context.freePort();
    const command = [application('memcached-ts'), '-l', '0.0.0.0', '-p', String(port), '-t', '1'];
    return { command: process.getuid?.() === 0 ? [...command, '-u', 'root'] : command, port };
  },
};
const gets = { protocol: 'memcached', connections: 4, perConnection: Infinity, size: 64, keys: 100 } as const;
const shell = (id: string, script: string): Server => ({
  id,
  label: id,
  role: 'peer',
  launch: async () => ({ command: ['/bin/sh', '-c', script], port: 0 }),
});

const ECHO = { protocol: 'echo', connections: 4, size: 64, perConnection: Infinity } as const;

function experiment(servers: Server[]): Experiment {
  const load = ECHO;
  return {
    name: 'test',
    title: 'test',
    claim: 'the runner works',
    transaction: 'message',
    axis: 'transactions a connection',
    servers,
    workloads: [
      { id: '1', label: '1', load: { ...load, perConnection: 1 } },
      { id: 'inf', label: '∞', load },
    ],
    peer: servers[0]!.id,
    targets: [],
  };
}

describe('runExperiment', () => {
  it('measures every server and workload in interleaved rounds, and ends the servers', async () => {
    const order: string[] = [];
    const result = await runExperiment(experiment([good('a'), good('b')]), {
      ...OPTIONS,
      onSample: (sample, server) => order.push(`${sample.round} ${sample.workload} ${server.id}`),
    });
    expect(order).toEqual(['0 1 a', '0 1 b', '0 inf a', '0 inf b', '1 1 a', '1 1 b', '1 inf a', '1 inf b']);
    for (const sample of result.samples) {
      expect(sample.errors).toBe(0);
      expect(sample.transactions).toBeGreaterThan(0);
      expect(sample.throughput).toBeCloseTo(sample.transactions / sample.seconds, 3);
      expect(sample.cpuUs * sample.transactions).toBeCloseTo(sample.serverCores * sample.seconds * 1e6, 0);
      // Pinned to one core; a tick may fall on either side of the window's edge.
      expect(sample.serverCores).toBeLessThan(1.2);
    }
    expect(result.samples.some((sample) => sample.cpuUs > 0)).toBe(true);
    expect(result.servers.map((server) => server.status)).toEqual(['measured', 'measured']);
    expect(result.servers[0]!.command).toMatch(/^node .*bench\/src\/servers\/echo-node\.ts/);
    expect(processTree(process.pid)).toEqual([process.pid]);
  });

  it.each(['multiget', 'pipeline', 'getkq'] as const)('counts the keys of a memcached %s', async (shape) => {
    const result = await runExperiment(
      {
        ...experiment([memcached]),
        cores: 'shared',
        workloads: [{ id: 'b', label: 'b', load: { ...gets, shape, batch: 50 }, transactionsPerRequest: 50 }],
      },
      { ...OPTIONS, rounds: 1, clientCpu: 1 },
    );
    expect(result.servers.map((server) => server.reason || server.status)).toEqual(['measured']);
    const [sample] = result.samples;
    expect(sample!.errorTexts).toEqual([]);
    expect(sample!.transactions).toBeGreaterThan(0);
    expect(sample!.transactions % 50).toBe(0);
    expect(sample!.throughput).toBeCloseTo(sample!.transactions / sample!.seconds, 3);
  });

  it.each([
    ['middle', ['/b']],
    ['each', ['/a', '/b']],
  ] as const)('warms up with the workloads that are to: %s', async (warmUp, paths) => {
    const folder = await mkdtemp(join(tmpdir(), 'megapipe-bench-test-'));
    await chmod(folder, 0o777);
    const site: Site = {
      files: { '/a': 100, '/b': 100 },
      server: () => [`access_log ${folder}/access.log combined;`],
    };
    const get = (path: string) => ({ ...ECHO, protocol: 'http', size: 100, path }) as const;
    await runExperiment(
      {
        ...experiment([nginxLite(site, 'a', 'a', 'megapipe', 'megapipe')]),
        warmUp,
        workloads: [
          { id: 'a', label: 'a', load: get('/a') },
          { id: 'b', label: 'b', load: get('/b') },
        ],
      },
      { ...OPTIONS, rounds: 0 },
    );
    const log = await readFile(`${folder}/access.log`, 'latin1');
    await rm(folder, { recursive: true });
    expect(new Set(Array.from(log.matchAll(/"GET (\S+)/g), ([, path]) => path))).toEqual(new Set(paths));
  });

  it('takes an open loop’s rate from what the peer serves', async () => {
    const result = await runExperiment(
      { ...experiment([good('a')]), workloads: [{ id: 'half', label: 'half', load: ECHO, rateOfPeer: 0.5 }] },
      { ...OPTIONS, rounds: 1 },
    );
    const rate = Number(/--rate (\d+000)\b/.exec(result.workloads[0]!.description)![1]);
    expect(rate).toBeGreaterThanOrEqual(1000);
    expect(result.samples[0]!.errorTexts).toEqual([]);
  });

  it('measures the memory of a fresh server and of an item', async () => {
    const result = await runExperiment(
      {
        ...experiment([memcached]),
        kind: 'memory',
        metrics: ['rssStart', 'rssItem', 'statsItem'],
        workloads: [{ id: 'm', label: 'm', load: { ...gets, keys: 20_000, size: 1024 } }],
      },
      { ...OPTIONS, rounds: 2 },
    );
    expect(result.servers.map((server) => server.reason || server.status)).toEqual(['measured']);
    expect(result.samples.map((sample) => sample.errorTexts)).toEqual([[], []]);
    for (const { memory } of result.samples) {
      expect(memory!.rssStartBytes).toBeGreaterThan(10e6);
      // The value and its key are the least that an item can take; pages of slabs that are begun are the most.
      expect(memory!.rssItemBytes).toBeGreaterThan(1000);
      expect(memory!.rssItemBytes).toBeLessThan(3000);
      expect(memory!.statsItemBytes).toBeGreaterThan(1024 + 18);
      expect(memory!.statsItemBytes).toBeLessThan(1184);
    }
    expect(processTree(process.pid)).toEqual([process.pid]);
  });

  it('skips what is not installed, reports what fails, and measures the rest', async () => {
    const missing: Server = {
      ...good('missing'),
      launch: async () => {
        throw new Missing('missing is not installed');
      },
    };
    const dies = shell('dies', 'echo "cannot bind" >&2; exit 1');
    const result = await runExperiment(experiment([missing, dies, good('good')]), { ...OPTIONS, rounds: 1 });
    expect(result.servers).toMatchObject([
      { id: 'missing', status: 'skipped', reason: 'missing is not installed', command: '' },
      { id: 'dies', status: 'failed', reason: 'sh ended with status 1: cannot bind' },
      { id: 'good', status: 'measured' },
    ]);
    expect(result.samples.map((sample) => sample.server)).toEqual(['good', 'good']);
  });

  it('drops a server that ends in mid-run, with its last words', async () => {
    const [program, ...args] = nodeServer('echo-node.ts').command;
    // Its first connections are served; then it goes.
    const mortal: Server = {
      ...good('mortal'),
      launch: async () => ({
        command: [
          program!,
          '--import',
          'data:text/javascript,import net from "node:net"; let n = 0; const on = net.Server.prototype.emit;' +
            'net.Server.prototype.emit = function (name, ...rest) { if (name === "connection" && ++n > 5)' +
            ' { console.error("too many"); process.exit(9); } return on.call(this, name, ...rest); };',
          ...args,
        ],
        port: 0,
      }),
    };
    const result = await runExperiment(experiment([mortal, good('good')]), { ...OPTIONS, rounds: 1 });
    expect(result.servers[0]).toMatchObject({ status: 'failed', reason: 'ended with status 9: too many' });
    expect(result.samples.filter((sample) => sample.server === 'mortal' && sample.errors === 0)).toEqual([]);
    expect(result.samples.filter((sample) => sample.server === 'good')).toHaveLength(2);
  });
});
