/**
 * What each part of MegaPipe gives, as the paper's breakdown figure: from epoll, the parts are added one by one; then each
 * is taken away from the whole. Two worker threads share the server's core, since partitioning has no meaning with one.
 */
import { type Experiment, lengths, type Server } from '../../experiment.ts';
import { nodeServer } from '../../peers.ts';

const variant = (id: string, label: string, role: Server['role'], ...args: string[]): Server => ({
  id,
  label,
  role,
  launch: async () => nodeServer('echo-channel.ts', '--threads', '2', ...args),
});

const uring = (id: string, label: string, ...off: string[]): Server =>
  variant(id, label, 'megapipe', '--backend', 'uring', ...off.map((part) => `--no-${part}`));

const load = { protocol: 'echo', connections: 250, size: 64 } as const;

export const breakdown: Experiment = {
  name: 'breakdown',
  title: 'Breakdown: what partitioning, batching and lwsockets give (echo, 64 B, two threads on one core)',
  claim: 'Each of the three parts lowers the CPU time of short connections; batching is what long ones gain from.',
  transaction: 'message',
  axis: 'transactions a connection',
  servers: [
    variant('epoll', 'epoll', 'baseline', '--backend', 'epoll', '--no-partition'),
    uring('none', 'uring, no part', 'partition', 'batch', 'lightweight'),
    uring('p', '+ partition', 'batch', 'lightweight'),
    uring('pb', '+ batch', 'lightweight'),
    uring('all', '+ lwsocket = all'),
    uring('all-p', 'all but partition', 'partition'),
    uring('all-b', 'all but batch', 'batch'),
  ],
  workloads: [
    ...lengths(load).slice(0, 2),
    { id: '128', label: '128', load: { ...load, perConnection: 128 } },
    { id: 'inf', label: '∞', load: { ...load, perConnection: Infinity } },
  ],
  peer: 'epoll',
  targets: [],
  byNameOnly: true,
};
