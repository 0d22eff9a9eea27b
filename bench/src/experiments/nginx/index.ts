/** nginx: GET of a static file of 1 KiB, one worker. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Experiment, lengths, type Server, type ServerContext } from '../../experiment.ts';
import { pattern } from '../../payload.ts';
import { application, debianProgram, nodeServer } from '../../peers.ts';

const FILE_BYTES = 1024;
const PATH = `/${FILE_BYTES}.html`;
/** Above what one connection sends in any run: nginx's default of 1,000 would close connections that are to stay. */
const KEEPALIVE_REQUESTS = 1_000_000_000;

/** Places that Debian's nginx would take from its package, and that only root may write to. */
const TEMPORARY = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];

/** Writes the file to serve, and the same configuration for both programs around it; `http` is what only nginx needs. */
async function configure(context: ServerContext, port: number, http: readonly string[] = []): Promise<string> {
  const root = join(context.folder, 'html');
  await mkdir(root);
  await writeFile(join(root, PATH), pattern(FILE_BYTES));
  const config = `worker_processes 1;
daemon off;
pid ${join(context.folder, 'nginx.pid')};
error_log stderr;
events {
    worker_connections 16384;
}
http {
    types {
        text/html html;
    }
    default_type application/octet-stream;
    access_log off;
    sendfile on;
    # As in Debian's own nginx.conf. Without it header and file go out as two packets, which costs nginx a third more.
    tcp_nopush on;
    open_file_cache max=1000 inactive=60s;
    open_file_cache_valid 60s;
    keepalive_timeout 75s;
    keepalive_requests ${KEEPALIVE_REQUESTS};
${http.map((line) => `    ${line}\n`).join('')}    server {
        listen 0.0.0.0:${port};
        root ${root};
    }
}
`;
  const path = join(context.folder, 'nginx.conf');
  await writeFile(path, config);
  return path;
}

const ours = (id: string, label: string, role: Server['role'], io: string): Server => ({
  id,
  label,
  role,
  launch: async (context) => {
    const port = await context.freePort();
    const config = await configure(context, port);
    return { command: [application('nginx-lite'), '-c', config, '--io', io], port };
  },
});

const workloads = lengths({ protocol: 'http', connections: 250, size: FILE_BYTES, path: PATH });

export const nginx: Experiment = {
  name: 'nginx',
  title: 'nginx, GET of a 1 KiB static file, 250 connections, one worker',
  claim: 'nginx-lite on MegaPipe serves nearly twice as many requests as nginx on a core, at less CPU per request.',
  transaction: 'GET',
  axis: 'transactions a connection',
  servers: [
    ours('megapipe', 'nginx-lite megapipe', 'megapipe', 'megapipe'),
    ours('epoll', 'nginx-lite epoll', 'baseline', 'epoll'),
    {
      id: 'nginx',
      label: 'nginx (Debian)',
      role: 'peer',
      launch: async (context) => {
        const program = debianProgram('nginx');
        const port = await context.freePort();
        const temporary = TEMPORARY.map((name) => `${name}_temp_path ${join(context.folder, name)};`);
        const config = await configure(context, port, temporary);
        return { command: [program, '-e', 'stderr', '-p', context.folder, '-c', config], port };
      },
    },
    {
      id: 'node-http',
      label: 'node:http',
      role: 'peer',
      launch: async () => nodeServer('http-node.ts', '--size', String(FILE_BYTES)),
    },
  ],
  workloads,
  peer: 'nginx',
  targets: [
    { subject: 'megapipe', against: 'nginx', metric: 'throughput', workload: 'inf', atLeast: 1.9 },
    { subject: 'megapipe', against: 'nginx', metric: 'cpu', workload: 'inf', atMost: 0.55 },
    { subject: 'megapipe', against: 'nginx', metric: 'cpu', workload: '8', atMost: 0.65 },
    { subject: 'megapipe', against: 'nginx', metric: 'cpu', workload: '1', atMost: 0.9 },
  ],
};
