/** nginx: GET of a static file of 1 KiB, one worker. */
import { type Experiment, lengths } from '../../experiment.ts';
import { pattern } from '../../payload.ts';
import { nodeServer } from '../../peers.ts';
import { debianNginx, nginxLite, type Site } from './servers.ts';

const FILE_BYTES = 1024;
const PATH = `/${FILE_BYTES}.html`;
const site: Site = { files: { [PATH]: pattern(FILE_BYTES) } };

export const nginx: Experiment = {
  name: 'nginx',
  title: 'nginx, GET of a 1 KiB static file, 250 connections, one worker',
  claim:
    'nginx-lite on MegaPipe serves more than twice as many requests as nginx on a core, at half the CPU per request.',
  transaction: 'GET',
  axis: 'transactions a connection',
  servers: [
    nginxLite(site, 'megapipe', 'nginx-lite megapipe', 'megapipe', 'megapipe'),
    nginxLite(site, 'epoll', 'nginx-lite epoll', 'baseline', 'epoll'),
    debianNginx(site),
    {
      id: 'node-http',
      label: 'node:http',
      role: 'peer',
      launch: async () => nodeServer('http-node.ts', '--size', String(FILE_BYTES)),
    },
  ],
  workloads: lengths({ protocol: 'http', connections: 250, size: FILE_BYTES, path: PATH }),
  peer: 'nginx',
  targets: [
    { subject: 'megapipe', against: 'nginx', metric: 'throughput', workload: 'inf', atLeast: 2.2 },
    { subject: 'megapipe', against: 'nginx', metric: 'cpu', workload: 'inf', atMost: 0.45 },
    { subject: 'megapipe', against: 'nginx', metric: 'cpu', workload: '8', atMost: 0.55 },
    { subject: 'megapipe', against: 'nginx', metric: 'cpu', workload: '1', atMost: 0.85 },
  ],
};
