/** Command line of the load generator: plain data, checked. */
import { parseArgs } from 'node:util';
import { TRACES, type TraceName } from '../traces.ts';
import { SHAPES, type Shape } from './memcached.ts';

export interface LoadOptions {
  host: string;
  port: number;
  protocol: 'echo' | 'memcached' | 'http';
  connections: number;
  /** Transactions before a connection is closed and opened again; Infinity: never. */
  perConnection: number;
  /** The measured window, and the time before it that is not counted. */
  seconds: number;
  warmupSeconds: number;
  /** Bytes of a message, value or body. */
  size: number;
  /** Transactions a second on a fixed schedule (open loop); 0: closed loop. */
  rate: number;
  /** Connections take turns over this many loopback addresses, 127.0.0.1 and up. */
  addresses: number;
  backend: 'auto' | 'uring' | 'epoll';
  /** memcached: keys, and the exponent of Zipf's law they are drawn by (0: uniformly); share of SETs; store the keys first. */
  keys: number;
  zipf: number;
  setShare: number;
  /** memcached: what one request is, and the keys of one that asks for many. */
  shape: Shape;
  batch: number;
  /** memcached: a get may find nothing. */
  misses: boolean;
  preload: boolean;
  /** HTTP: what to ask for. */
  path: string;
  /** HTTP: files and lengths of connections as in this traffic, instead of `path`, `size` and `perConnection`. */
  trace: TraceName | undefined;
  /** Process whose CPU time over the window is reported, with all its children; 0: none. */
  serverPid: number;
}

export const USAGE = `usage: node src/loadgen/main.ts --target HOST:PORT --protocol echo|memcached|http
  --connections N        open connections, one request outstanding on each            [250]
  --per-connection N|inf transactions before a connection is closed and reopened      [inf]
  --seconds S            measured window                                              [1]
  --warmup S             the same load before it, not counted                         [0.2]
  --size BYTES           message, value or body                                       [64; http 1024]
  --rate R               open loop: R transactions a second on a fixed schedule; latency counts from
                         the intended time. 0: closed loop                            [0]
  --addresses N          spread over 127.0.0.1 ... 127.0.0.N (HOST must be 127.0.0.1) [1]
  --backend NAME         auto, uring or epoll                                         [auto]
  --keys K               memcached: distinct keys                                     [1]
  --zipf S               memcached: keys are drawn by Zipf's law with this exponent   [0: uniformly]
  --set-share X          memcached: share of SETs, 0 ... 1                            [0]
  --shape NAME           memcached: single; multiget: one get of many keys; pipeline: many gets in one
                         go; getkq: many quiet binary gets, then a noop               [single]
  --batch N              memcached: keys of one multiget, pipeline or getkq           [100]
  --misses               memcached: a get may find nothing, for servers that evict (single only)
  --no-preload           memcached: the keys are stored already
  --path PATH            http                                                         [/]
  --trace NAME           http: specweb or yahoo: files and lengths of connections as in this traffic, instead
                         of --path, --size and --per-connection
  --server-pid PID       report the CPU time of PID and its children over the window`;

/** What one address and one channel have room for when every connection is being reopened. */
const CONNECTIONS_MAX = 19_000;

export class UsageError extends Error {}

function number(name: string, text: string, min: number, max: number, whole: boolean): number {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (!(value >= min && value <= max) || (whole && value !== Infinity && !Number.isInteger(value))) {
    throw new UsageError(`--${name}: expected ${whole ? 'a whole number' : 'a number'} ${min} … ${max}, got "${text}"`);
  }
  return value;
}

function oneOf<T extends string>(name: string, text: string | undefined, names: readonly T[]): T {
  const found = names.find((candidate) => candidate === text);
  if (found === undefined) throw new UsageError(`--${name}: expected ${names.join(', ')}, got "${text ?? ''}"`);
  return found;
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        target: { type: 'string' },
        protocol: { type: 'string' },
        connections: { type: 'string', default: '250' },
        'per-connection': { type: 'string', default: 'inf' },
        seconds: { type: 'string', default: '1' },
        warmup: { type: 'string', default: '0.2' },
        size: { type: 'string' },
        rate: { type: 'string', default: '0' },
        addresses: { type: 'string', default: '1' },
        backend: { type: 'string', default: 'auto' },
        keys: { type: 'string', default: '1' },
        'set-share': { type: 'string', default: '0' },
        zipf: { type: 'string', default: '0' },
        shape: { type: 'string', default: 'single' },
        batch: { type: 'string', default: '100' },
        'no-preload': { type: 'boolean', default: false },
        misses: { type: 'boolean', default: false },
        path: { type: 'string', default: '/' },
        trace: { type: 'string' },
        'server-pid': { type: 'string', default: '0' },
      },
    }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

export function parseLoadOptions(args: string[]): LoadOptions {
  const values = parse(args);
  const target = /^(.+):(\d+)$/.exec(values.target ?? '');
  if (target === null) throw new UsageError(`--target: expected HOST:PORT, got "${values.target ?? ''}"`);
  const host = target[1]!.replace(/^\[(.*)\]$/, '$1');
  const protocol = oneOf('protocol', values.protocol, ['echo', 'memcached', 'http']);
  const addresses = number('addresses', values.addresses, 1, 254, true);
  if (addresses > 1 && host !== '127.0.0.1') throw new UsageError('--addresses: the target must be 127.0.0.1');
  if (!/^\/[!-~]*$/.test(values.path)) throw new UsageError(`--path: expected /…, got "${values.path}"`);
  const perConnection = values['per-connection'];
  const shape = oneOf('shape', values.shape, SHAPES);
  const setShare = number('set-share', values['set-share'], 0, 1, false);
  const trace = values.trace === undefined ? undefined : oneOf('trace', values.trace, TRACES);
  if (trace !== undefined && protocol !== 'http') throw new UsageError(`--trace: goes with --protocol http only`);
  if (shape !== 'single' && setShare > 0) throw new UsageError(`--set-share: --shape ${shape} only gets`);
  if (shape !== 'single' && values.misses) throw new UsageError(`--misses: --shape ${shape} must hit`);
  return {
    host,
    port: number('target', target[2]!, 1, 65_535, true),
    protocol,
    connections: number('connections', values.connections, 1, CONNECTIONS_MAX, true),
    perConnection: perConnection === 'inf' ? Infinity : number('per-connection', perConnection, 1, 2 ** 31 - 1, true),
    seconds: number('seconds', values.seconds, 0.01, 3600, false),
    warmupSeconds: number('warmup', values.warmup, 0, 3600, false),
    size: number(
      'size',
      values.size ?? (protocol === 'http' ? '1024' : '64'),
      1,
      protocol === 'http' ? 2 ** 30 : 2 ** 20,
      true,
    ),
    rate: number('rate', values.rate, 0, 1e8, false),
    addresses,
    backend: oneOf('backend', values.backend, ['auto', 'uring', 'epoll']),
    keys: number('keys', values.keys, 1, 1_000_000, true),
    zipf: number('zipf', values.zipf, 0, 10, false),
    setShare,
    shape,
    batch: number('batch', values.batch, 1, 10_000, true),
    misses: values.misses,
    preload: !values['no-preload'],
    path: values.path,
    trace,
    serverPid: number('server-pid', values['server-pid'], 0, 2 ** 31 - 1, true),
  };
}
