/** What the specs share: a sink with defaults, a rig with one attached server channel, raw clients. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import net from 'node:net';
import {
  type BackendName,
  Channel,
  type ChannelOptions,
  closeDescriptor,
  ListenGroup,
  listenTcp,
  localAddress,
  type Sink,
} from '../src/index.ts';

/**
 * Each spec runs on every backend that there is; MEGAPIPE_BACKENDS=device,… names them. `device` needs the module of kernel/,
 * which the test bed has in its guest.
 */
const named = process.env['MEGAPIPE_BACKENDS']?.split(',') as BackendName[] | undefined;
export const BACKENDS: readonly BackendName[] = named ?? [
  'uring',
  'epoll',
  ...(existsSync('/dev/megapipe') ? (['device'] as const) : []),
];

export interface Configuration {
  name: string;
  backend: BackendName;
  /** The switches that are off. */
  options: Pick<ChannelOptions, 'lightweight' | 'batch'>;
  /** group: partitioned, a socket of its own; shared: one descriptor that others could accept from, too. */
  listener: 'group' | 'shared' | 'own';
}

/** The backends, and uring with each of MegaPipe's parts switched off, as the breakdown figure does. */
export const CONFIGURATIONS: readonly Configuration[] = [
  { name: 'uring', backend: 'uring', options: {}, listener: 'group' },
  { name: 'uring, lightweight: false', backend: 'uring', options: { lightweight: false }, listener: 'group' },
  { name: 'uring, batch: false', backend: 'uring', options: { batch: false }, listener: 'group' },
  { name: 'uring, partition: false', backend: 'uring', options: {}, listener: 'shared' },
  { name: 'uring, all off', backend: 'uring', options: { lightweight: false, batch: false }, listener: 'shared' },
  { name: 'epoll', backend: 'epoll', options: {}, listener: 'own' },
  { name: 'device', backend: 'device', options: {}, listener: 'group' },
  { name: 'device, all off', backend: 'device', options: { lightweight: false, batch: false }, listener: 'shared' },
];

/** Slow places (sanitizers, an emulated machine) run the defaults only. */
export const slow = process.env['MEGAPIPE_SANITIZE'] === '1' || process.env['MEGAPIPE_INSIDE_GUEST'] !== undefined;
export const configurations: readonly Configuration[] = CONFIGURATIONS.filter(
  ({ name, backend }) => BACKENDS.includes(backend) && (!slow || name === backend || backend === 'device'),
);

export function sink(parts: Partial<Sink>): Sink {
  return {
    onAccept() {},
    onAcceptError(_cookie, errno) {
      throw new Error(`accept failed: errno ${errno}`);
    },
    onRead() {},
    onEnd() {},
    onDrain() {},
    onWritten() {},
    onConnect() {},
    onTimeout() {},
    onClose() {},
    ...parts,
  };
}

/** A server channel on a free port of 127.0.0.1, attached to the event loop of the test. */
export class Rig {
  readonly channel: Channel;
  readonly port: number;
  readonly listener: number;
  readonly #clients: net.Socket[] = [];
  readonly #shared: number = -1;

  constructor(
    options: ChannelOptions,
    make: (channel: () => Channel) => Partial<Sink>,
    accept = true,
    listener: Configuration['listener'] = 'own',
  ) {
    this.channel = new Channel(sink(make(() => this.channel)), options);
    const address = { host: '127.0.0.1', port: 0 };
    if (listener === 'group') {
      const group = new ListenGroup(address);
      this.listener = this.channel.register(group, 1);
      this.port = group.port;
    } else {
      const fd = listenTcp(address);
      this.port = localAddress(fd).port;
      this.listener = this.channel.register(fd, 1, { shared: listener === 'shared' });
      if (listener === 'shared') this.#shared = fd;
    }
    if (accept) this.channel.accept(this.listener);
    this.channel.attach();
  }

  async client(options: Partial<net.TcpNetConnectOpts> = {}): Promise<net.Socket> {
    const socket = net.connect({ host: '127.0.0.1', port: this.port, ...options });
    this.#clients.push(socket);
    await once(socket, 'connect');
    return socket;
  }

  end(): void {
    for (const socket of this.#clients) socket.destroy();
    this.channel.destroy();
    if (this.#shared >= 0) closeDescriptor(this.#shared);
  }
}

/** Reads until `bytes` came or the peer ended (in whatever way); surplus stays in the socket. */
export function take(socket: net.Socket, bytes = Number.POSITIVE_INFINITY): Promise<Buffer> {
  return new Promise((resolve) => {
    const parts: Buffer[] = [];
    let total = 0;
    const done = (): void => {
      socket.off('readable', step).off('end', done).off('close', done).off('error', done);
      resolve(Buffer.concat(parts));
    };
    const step = (): void => {
      for (let part = socket.read() as Buffer | null; part; part = socket.read() as Buffer | null) {
        const surplus = total + part.length - bytes;
        if (surplus > 0) socket.unshift(part.subarray(part.length - surplus));
        parts.push(surplus > 0 ? part.subarray(0, part.length - surplus) : part);
        total += part.length;
        if (total >= bytes) {
          done();
          return;
        }
      }
      if (socket.readableEnded || socket.destroyed) done();
    };
    socket.on('readable', step).on('end', done).on('close', done).on('error', done);
    step();
  });
}

/** Waits until a condition holds; the test's own time limit ends it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

const DISPATCH_MS_MAX = 60_000;

/** Drives a channel by hand until a condition holds; fails after a minute, since the test's own time limit cannot interrupt it. */
export function dispatchUntil(channel: Channel, condition: () => boolean): void {
  const end = performance.now() + DISPATCH_MS_MAX;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`what was waited for did not come in ${DISPATCH_MS_MAX} ms`);
    channel.dispatch(100);
  }
}

/** `length` bytes that differ at every position a mix-up could bring together. */
export function pattern(length: number, seed: number): Buffer {
  const out = Buffer.alloc(length);
  let x = (seed * 2654435761) >>> 0 || 1;
  for (let i = 0; i < length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    out[i] = x & 0xff;
  }
  return out;
}

/** An echo that keeps what the channel does not take, as a server must. */
export function echo(channel: () => Channel): Partial<Sink> {
  const rest = new Map<number, Buffer[]>();
  const ended = new Set<number>();
  const push = (handle: number): void => {
    const waiting = rest.get(handle);
    while (waiting && waiting.length > 0) {
      if (channel().writeCopy(handle, waiting[0]!) === 2) return;
      waiting.shift();
    }
    rest.delete(handle);
    if (ended.delete(handle)) channel().close(handle);
  };
  return {
    onAccept(_cookie, socket) {
      channel().read(channel().register(socket, 0));
    },
    onRead(handle, _cookie, offset, length) {
      const bytes = Buffer.from(channel().memory.subarray(offset, offset + length));
      const waiting = rest.get(handle);
      if (waiting) waiting.push(bytes);
      else {
        rest.set(handle, [bytes]);
        push(handle);
      }
    },
    onDrain: push,
    onEnd(handle, _cookie, errno) {
      if (rest.has(handle) && errno === 0) ended.add(handle);
      else {
        rest.delete(handle);
        channel().close(handle);
      }
    },
    onClose(handle) {
      rest.delete(handle);
      ended.delete(handle);
    },
  };
}
