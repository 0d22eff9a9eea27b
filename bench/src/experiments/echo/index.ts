/** Echo of 64 bytes: what the socket API costs when the application does nothing. */
import { type Experiment, lengths, type Server } from '../../experiment.ts';
import { nodeServer, referenceProgram } from '../../peers.ts';

/** A server in C: one of `reference/`, with options of its own. */
export const reference = (id: string, label: string, program: string, ...options: string[]): Server => ({
  id,
  label,
  role: 'reference',
  launch: async () => ({ command: [referenceProgram(program), '-l', '0.0.0.0', '-p', '0', ...options], port: 0 }),
});

const workloads = lengths({ protocol: 'echo', connections: 250, size: 64 });

export const echo: Experiment = {
  name: 'echo',
  title: 'Echo, 64 B messages, 250 connections',
  claim:
    'Channel on io_uring costs hardly more CPU per message than C on io_uring, and far less than node:net; ' +
    'its epoll baseline is an honest one.',
  transaction: 'message',
  axis: 'transactions a connection',
  servers: [
    {
      id: 'channel-uring',
      label: 'Channel uring',
      role: 'megapipe',
      launch: async () => nodeServer('echo-channel.ts', '--backend', 'uring'),
    },
    {
      id: 'channel-epoll',
      label: 'Channel epoll',
      role: 'baseline',
      launch: async () => nodeServer('echo-channel.ts', '--backend', 'epoll'),
    },
    reference('c-uring', 'C io_uring', 'echo_uring'),
    reference('c-epoll', 'C epoll', 'echo_epoll'),
    { id: 'node-net', label: 'node:net', role: 'peer', launch: async () => nodeServer('echo-node.ts') },
  ],
  workloads,
  peer: 'c-uring',
  targets: workloads.flatMap(({ id: workload }) => [
    { subject: 'channel-uring', against: 'c-uring', metric: 'cpu' as const, workload, atMost: 1.1 },
    { subject: 'channel-uring', against: 'node-net', metric: 'cpu' as const, workload, atMost: 0.6 },
    { subject: 'channel-epoll', against: 'c-epoll', metric: 'cpu' as const, workload, atMost: 1.3 },
  ]),
};
