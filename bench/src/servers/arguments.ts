/** Command line and first line that the peers of src/servers/ share with the C references: `[-l ADDRESS] -p PORT`. */
import { parseArgs } from 'node:util';

export interface ServerArguments {
  host: string;
  port: number;
  backend: 'uring' | 'epoll';
  size: number;
  /** Worker threads, each with a channel; 0: one channel on the main thread. */
  threads: number;
  partition: boolean;
  lightweight: boolean;
  batch: boolean;
}

export function serverArguments(): ServerArguments {
  const { values } = parseArgs({
    options: {
      listen: { type: 'string', short: 'l', default: '127.0.0.1' },
      port: { type: 'string', short: 'p' },
      backend: { type: 'string', default: 'uring' },
      size: { type: 'string', default: '1024' },
      threads: { type: 'string', default: '0' },
      'no-partition': { type: 'boolean', default: false },
      'no-lightweight': { type: 'boolean', default: false },
      'no-batch': { type: 'boolean', default: false },
    },
  });
  const threads = Number(values.threads);
  if (!Number.isInteger(threads) || threads < 0 || threads > 64)
    throw new Error(`--threads: expected 0 … 64, got ${values.threads}`);
  const port = Number(values.port ?? '-1');
  const size = Number(values.size);
  const backend = values.backend;
  if (!Number.isInteger(port) || port < 0 || port > 65_535)
    throw new Error(`-p: expected 0 … 65535, got ${values.port}`);
  if (!Number.isInteger(size) || size < 0) throw new Error(`--size: expected bytes, got ${values.size}`);
  if (backend !== 'uring' && backend !== 'epoll') throw new Error(`--backend: expected uring or epoll, got ${backend}`);
  return {
    host: values.listen,
    port,
    backend,
    size,
    threads,
    partition: !values['no-partition'],
    lightweight: !values['no-lightweight'],
    batch: !values['no-batch'],
  };
}

export function announce(host: string, port: number): void {
  process.stdout.write(`listening on ${host}:${port}\n`);
}
