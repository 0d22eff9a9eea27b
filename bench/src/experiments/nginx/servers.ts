/** nginx-lite and Debian's nginx around the same configuration and the same files. */
import { link, mkdir, open, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Role, Server, ServerContext } from '../../experiment.ts';
import { PERIOD, pattern } from '../../payload.ts';
import { application, bunProgram, debianProgram, serverFile } from '../../peers.ts';

/** What both programs serve. */
export interface Site {
  /** Sizes of the files below the root, by path: each holds `pattern(size)`. */
  files: Readonly<Record<string, number>>;
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

/** Files are the same for all servers of a run, also to the page cache: a GiB is written once, the others get a link. */
const written = new Map<number, string>();

async function putFile(path: string, size: number): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const known = written.get(size);
  if (known !== undefined) {
    try {
      await link(known, path);
      return;
    } catch {
      // The folder of an earlier experiment is gone.
    }
  }
  const file = await open(path, 'w');
  try {
    const piece = pattern(Math.min(size, PERIOD));
    for (let at = 0; at < size; at += piece.length) await file.write(piece, 0, Math.min(piece.length, size - at));
  } finally {
    await file.close();
  }
  written.set(size, path);
}

/** Writes the files and the configuration; `http` is what only one of the programs needs. */
async function configure(
  context: ServerContext,
  site: Site,
  port: number,
  http: readonly string[] = [],
): Promise<string> {
  const root = join(context.folder, 'html');
  await mkdir(root, { recursive: true });
  for (const [path, size] of Object.entries(site.files)) await putFile(join(root, path), size);
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

/** Bun.serve with the body as a static route; the npm package `bun` brings the program. */
export function bunServe(size: number): Server {
  return {
    id: 'bun',
    label: 'Bun.serve, static route',
    role: 'peer',
    launch: async (context) => {
      const port = await context.freePort();
      return { command: [bunProgram(), serverFile('http-bun.ts'), String(port), String(size)], port };
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
