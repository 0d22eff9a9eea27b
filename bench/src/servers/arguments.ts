/** Command line and first line that the peers of src/servers/ share with the C references: `[-l ADDRESS] -p PORT`. */
import { parseArgs } from 'node:util';

export interface ServerArguments {
  host: string;
  port: number;
  backend: 'uring' | 'epoll';
  size: number;
}

export function serverArguments(): ServerArguments {
  const { values } = parseArgs({
    options: {
      listen: { type: 'string', short: 'l', default: '127.0.0.1' },
      port: { type: 'string', short: 'p' },
      backend: { type: 'string', default: 'uring' },
      size: { type: 'string', default: '1024' },
    },
  });
  const port = Number(values.port ?? '-1');
  const size = Number(values.size);
  const backend = values.backend;
  if (!Number.isInteger(port) || port < 0 || port > 65_535)
    throw new Error(`-p: expected 0 … 65535, got ${values.port}`);
  if (!Number.isInteger(size) || size < 0) throw new Error(`--size: expected bytes, got ${values.size}`);
  if (backend !== 'uring' && backend !== 'epoll') throw new Error(`--backend: expected uring or epoll, got ${backend}`);
  return { host: values.listen, port, backend, size };
}

export function announce(host: string, port: number): void {
  process.stdout.write(`listening on ${host}:${port}\n`);
}
