/**
 * What each optional feature of io_uring gives, in C, where nothing else costs: those that Channel uses are left out one
 * by one, those that it does not use are added one by one.
 */
import type { Experiment, Server, Workload } from '../../experiment.ts';
import { reference } from '../echo/index.ts';

const variant = (id: string, label: string, ...options: string[]): Server =>
  reference(id, label, 'echo_uring', ...options);

const echoes = (size: number, text: string, perConnection: number): Workload => ({
  id: `${size}-${perConnection}`,
  label: `${text} × ${Number.isFinite(perConnection) ? perConnection : '∞'}`,
  load: { protocol: 'echo', connections: 250, size, perConnection },
});

export const features: Experiment = {
  name: 'features',
  title: 'io_uring feature by feature (echo in C, 250 connections)',
  claim: 'What Channel uses pays, what it leaves alone does not.',
  transaction: 'message',
  axis: 'size × transactions a connection',
  servers: [
    variant('used', 'what Channel uses'),
    variant('defer', '− DEFER_TASKRUN', '--no-defer-taskrun'),
    variant('sqarray', '− NO_SQARRAY', '--sq-array'),
    variant('accept', '− multishot accept', '--no-multishot-accept'),
    variant('receive', '− multishot receive', '--no-multishot-receive'),
    variant('zerocopy', '+ SEND_ZC', '--zero-copy'),
    variant('bundles', '+ receive bundles', '--bundles'),
    variant('buffers', '+ buffers of 16 KiB', '--buffers-16k'),
    variant('incremental', '+ incremental buffers', '--incremental'),
  ],
  workloads: [
    echoes(64, '64 B', 1),
    echoes(64, '64 B', Infinity),
    echoes(4096, '4 KiB', Infinity),
    echoes(65_536, '64 KiB', Infinity),
  ],
  peer: 'used',
  targets: [],
  byNameOnly: true,
};
