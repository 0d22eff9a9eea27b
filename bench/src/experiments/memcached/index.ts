/** memcached: GET of 64 B values, one worker thread. */
import { type Experiment, lengths, type Server } from '../../experiment.ts';
import { application, debianProgram } from '../../peers.ts';

const flags = (port: number): string[] => [
  '-l',
  '0.0.0.0',
  '-p',
  String(port),
  '-U',
  '0',
  '-t',
  '1',
  '-m',
  '256',
  '-c',
  '4096',
];

const ours = (id: string, label: string, role: Server['role'], io: string): Server => ({
  id,
  label,
  role,
  launch: async (context) => {
    const port = await context.freePort();
    return { command: [application('memcached-ts'), ...flags(port), '--io', io], port };
  },
});

const workloads = lengths({ protocol: 'memcached', connections: 250, size: 64, keys: 10_000 });

export const memcached: Experiment = {
  name: 'memcached',
  title: 'memcached, GET of 64 B values, 10,000 keys, 250 connections, -t 1',
  claim: 'memcached-ts on MegaPipe serves more requests than C memcached on a core, at less CPU per request.',
  transaction: 'GET',
  axis: 'transactions a connection',
  servers: [
    ours('megapipe', 'memcached-ts megapipe', 'megapipe', 'megapipe'),
    ours('epoll', 'memcached-ts epoll', 'baseline', 'epoll'),
    {
      id: 'memcached',
      label: 'memcached (Debian)',
      role: 'peer',
      launch: async (context) => {
        const program = debianProgram('memcached');
        const port = await context.freePort();
        // memcached refuses to run as root unless it is told as whom.
        const user = process.getuid?.() === 0 ? ['-u', 'root'] : [];
        return { command: [program, ...user, ...flags(port)], port };
      },
    },
  ],
  workloads,
  peer: 'memcached',
  targets: [
    { subject: 'megapipe', against: 'memcached', metric: 'throughput', workload: 'inf', atLeast: 1.25 },
    ...workloads.map(({ id: workload }) => ({
      subject: 'megapipe',
      against: 'memcached',
      metric: 'cpu' as const,
      workload,
      atMost: 0.8,
    })),
  ],
};
