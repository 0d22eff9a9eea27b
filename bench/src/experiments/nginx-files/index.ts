/** nginx-files: GET of static files from 16 KiB to 64 MiB on connections that stay, one worker. */
import type { Experiment, Workload } from '../../experiment.ts';
import { pattern } from '../../payload.ts';
import { debianNginx, nginxLite, type Site } from '../nginx/servers.ts';

/** With few connections for the largest, so that each ends many times in a window. */
const SIZES: readonly (readonly [id: string, label: string, bytes: number, connections: number])[] = [
  ['16k', '16 KiB', 16 * 1024, 32],
  ['100k', '100 KiB', 100 * 1024, 32],
  ['1m', '1 MiB', 1024 * 1024, 32],
  ['64m', '64 MiB', 64 * 1024 * 1024, 4],
];
const site: Site = { files: Object.fromEntries(SIZES.map(([id, , bytes]) => [`/${id}.html`, pattern(bytes)])) };

const workloads: Workload[] = SIZES.map(([id, label, size, connections]) => ({
  id,
  label,
  load: { protocol: 'http', connections, perConnection: Infinity, size, path: `/${id}.html` },
}));

export const nginxFiles: Experiment = {
  name: 'nginx-files',
  title: 'nginx, GET of larger static files, connections that stay, one worker',
  claim: "nginx-lite on MegaPipe sends larger files at least as fast as nginx's sendfile on a core.",
  transaction: 'GET',
  axis: 'size of the file',
  servers: [
    nginxLite(site, 'megapipe', 'nginx-lite megapipe', 'megapipe', 'megapipe'),
    nginxLite(site, 'epoll', 'nginx-lite epoll', 'baseline', 'epoll'),
    debianNginx(site),
  ],
  workloads,
  peer: 'nginx',
  targets: [
    { subject: 'megapipe', against: 'nginx', metric: 'throughput', workload: '16k', atLeast: 1.7 },
    { subject: 'megapipe', against: 'nginx', metric: 'throughput', workload: '100k', atLeast: 1.0 },
    { subject: 'megapipe', against: 'nginx', metric: 'throughput', workload: '1m', atLeast: 1.3 },
    { subject: 'megapipe', against: 'nginx', metric: 'throughput', workload: '64m', atLeast: 1.0 },
  ],
  byNameOnly: true,
};
