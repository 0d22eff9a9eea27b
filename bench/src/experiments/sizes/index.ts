/** Message sizes and lengths of connection, against C on the same system calls: the paper's figure of message sizes. */
import type { Experiment, Workload } from '../../experiment.ts';
import { echo } from '../echo/index.ts';

const SIZES: readonly (readonly [number, string])[] = [
  [64, '64 B'],
  [1024, '1 KiB'],
  [4096, '4 KiB'],
  [65_536, '64 KiB'],
];

const workloads: Workload[] = SIZES.flatMap(([size, text]) =>
  [1, 8, 128, Infinity].map((perConnection) => ({
    id: `${size}-${perConnection}`,
    label: `${text} × ${Number.isFinite(perConnection) ? perConnection : '∞'}`,
    load: { protocol: 'echo' as const, connections: 250, size, perConnection },
  })),
);

export const sizes: Experiment = {
  name: 'sizes',
  title: 'Echo: message size × transactions a connection, 250 connections',
  claim: 'At every size and length, Channel costs about as much CPU as C on the same system calls.',
  transaction: 'message',
  axis: 'size × transactions a connection',
  servers: echo.servers.filter((server) => server.role !== 'peer'),
  workloads,
  peer: 'c-uring',
  targets: [],
  byNameOnly: true,
};
