/** nginx-lite and Debian's nginx around the same configuration and the same files. */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Role, Server, ServerContext } from '../../experiment.ts';
import { application, debianProgram } from '../../peers.ts';

/** What both programs serve. */
export interface Site {
  /** Files below the root, by path. */
  files: Readonly<Record<string, Uint8Array>>;
  /** Lines of `http { … }` beside the common ones and the server; `port` is the server's. */
  http?: (port: number) => readonly string[];
  /** Lines of `server { … }` beside `listen` and `root`; `folder` is where logs may go. */
  server?: (folder: string) => readonly string[];
}

/** Above what one connection sends in any run: nginx's default of 1,000 would close connections that are to stay. */
const KEEPALIVE_REQUESTS = 1_000_000_000;

/** Places that Debian's nginx would take from its package, and that only root may write to. */
const TEMPORARY = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];

const indented = (lines: readonly string[], by: string): string => lines.map((line) => `${by}${line}\n`).join('');

/** Writes the files and the configuration; `http` is what only one of the programs needs. */
async function configure(
  context: ServerContext,
  site: Site,
  port: number,
  http: readonly string[] = [],
): Promise<string> {
  const root = join(context.folder, 'html');
  for (const [path, bytes] of Object.entries(site.files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), bytes);
  }
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
${indented([...http, ...(site.http?.(port) ?? [])], '    ')}    server {
        listen 0.0.0.0:${port} default_server;
        root ${root};
${indented(site.server?.(context.folder) ?? [], '        ')}    }
}
`;
  const path = join(context.folder, 'nginx.conf');
  await writeFile(path, config);
  return path;
}

/** nginx-lite with one of its two ways to talk to the kernel. */
export function nginxLite(site: Site, id: string, label: string, role: Role, io: string): Server {
  return {
    id,
    label,
    role,
    launch: async (context) => {
      const port = await context.freePort();
      const config = await configure(context, site, port);
      return { command: [application('nginx-lite'), '-c', config, '--io', io], port };
    },
  };
}

export function debianNginx(site: Site): Server {
  return {
    id: 'nginx',
    label: 'nginx (Debian)',
    role: 'peer',
    launch: async (context) => {
      const program = debianProgram('nginx');
      const port = await context.freePort();
      const temporary = TEMPORARY.map((name) => `${name}_temp_path ${join(context.folder, name)};`);
      const config = await configure(context, site, port, temporary);
      return { command: [program, '-e', 'stderr', '-p', context.folder, '-c', config], port };
    },
  };
}
