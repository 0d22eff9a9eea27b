/** A run made up from whole numbers, so that every figure of its report can be worked out by hand. */
import type { ExperimentResult, Results, Sample } from '../src/results.ts';

export function sample(server: string, workload: string, round: number, throughput: number, cpuUs: number): Sample {
  return {
    server,
    workload,
    round,
    transactions: throughput,
    seconds: 1,
    throughput,
    cpuUs,
    serverCores: (throughput * cpuUs) / 1e6,
    clientCores: 0.9,
    latencyUs: { mean: 900, p50: 1000, p90: 1100, p99: 1500, p999: 2000, max: 3000 },
    errors: 0,
    errorTexts: [],
    othersCpuSeconds: 0,
  };
}

export function experimentResult(): ExperimentResult {
  return {
    name: 'echo',
    title: 'Echo <64 B>',
    claim: 'Ours & theirs are compared.',
    transaction: 'message',
    axis: 'transactions a connection',
    peer: 'theirs',
    servers: [
      { id: 'ours', label: 'Ours', role: 'megapipe', command: 'node ours.ts', status: 'measured', reason: '' },
      { id: 'theirs', label: 'Theirs', role: 'reference', command: 'theirs', status: 'measured', reason: '' },
      {
        id: 'absent',
        label: 'Absent',
        role: 'peer',
        command: '',
        status: 'skipped',
        reason: 'absent is not installed',
      },
    ],
    workloads: [
      { id: '1', label: '1', description: '--per-connection 1' },
      { id: 'inf', label: '∞', description: '--per-connection inf' },
    ],
    targets: [
      { subject: 'ours', against: 'theirs', metric: 'throughput', workload: 'inf', atLeast: 2 },
      { subject: 'ours', against: 'theirs', metric: 'cpu', workload: 'inf', atMost: 0.4 },
      { subject: 'ours', against: 'theirs', metric: 'throughput', workload: '1', atLeast: 1 },
      { subject: 'ours', against: 'absent', metric: 'cpu', workload: '1', atMost: 1 },
    ],
    // Round 1 ran on a machine half as fast: the ratios do not see it.
    samples: [
      sample('ours', 'inf', 0, 200_000, 5),
      sample('theirs', 'inf', 0, 100_000, 10),
      sample('ours', 'inf', 1, 100_000, 10),
      sample('theirs', 'inf', 1, 50_000, 20),
      sample('ours', 'inf', 2, 210_000, 4.75),
      sample('theirs', 'inf', 2, 100_000, 10),
      sample('ours', '1', 0, 20_000, 20),
      sample('theirs', '1', 0, 20_000, 30),
    ],
  };
}

export function results(): Results {
  return {
    format: 1,
    mode: 'quick',
    startedAt: '2012-10-08T12:00:00.000Z',
    finishedAt: '2012-10-08T12:01:00.000Z',
    rounds: 3,
    windowSeconds: 1,
    environment: {
      kernel: '6.1.0',
      cpu: 'A <fast> one',
      cpus: 2,
      memoryGiB: 4,
      governor: 'performance',
      node: 'v24.0.0',
      commit: 'abcdef',
      distribution: 'Debian',
      loadAverage: 0.1,
      serverCpu: 0,
      clientCpu: 1,
      peers: { memcached: 'memcached 1.6.18' },
      clientBackend: 'uring',
    },
    experiments: [experimentResult()],
  };
}
