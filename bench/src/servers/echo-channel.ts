/**
 * Echo on Channel: `node src/servers/echo-channel.ts -p 7000 --backend uring|epoll`.
 *
 * `--threads N` serves from N worker threads; `--no-partition`, `--no-lightweight` and `--no-batch` switch MegaPipe's parts off,
 * each by itself.
 *
 * Invariant: what was received goes out once and in order, also when the peer does not read: then the rest is kept here
 * until onDrain, and the channel has paused reading, so the rest is at most what had already arrived.
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { Channel, listenGroup, listenTcp, localAddress, type Sink, Write } from '@megapipe/core';
import { announce, type ServerArguments, serverArguments } from './arguments.ts';

const LISTENER = 1;
/** Messages up to this size are copied word by word, without a view for each. */
const COPY_BYTES_MAX = 256;

class Echo implements Sink {
  readonly channel: Channel;
  private readonly words: Int32Array;
  /** Received bytes that the channel did not take, oldest first; by handle. Empty for all but slow readers. */
  private readonly rest = new Map<number, Uint8Array[]>();
  /** Handles whose peer is done, but not its rest. */
  private readonly ended = new Set<number>();

  constructor({ backend, lightweight, batch }: ServerArguments) {
    this.channel = new Channel(this, { backend, lightweight, batch });
    const { buffer, byteOffset, byteLength } = this.channel.memory;
    this.words = new Int32Array(buffer, byteOffset, byteLength >>> 2);
  }

  onAccept(_listener: number, socket: number): void {
    this.channel.read(this.channel.register(socket, 0));
  }

  onAcceptError(_listener: number, errno: number): void {
    process.stderr.write(`accept: errno ${errno}\n`);
  }

  onRead(handle: number, _cookie: number, offset: number, length: number): void {
    if (this.rest.size > 0 && this.rest.has(handle)) {
      this.rest.get(handle)!.push(this.channel.memory.slice(offset, offset + length));
      return;
    }
    const channel = this.channel;
    if (length <= COPY_BYTES_MAX && (offset & 3) === 0) {
      // Up to three bytes beyond are copied along, and not committed.
      const to = channel.reserve(handle, (length + 3) & ~3);
      if (to >= 0 && (to & 3) === 0) {
        const words = this.words;
        const shift = (to - offset) >> 2;
        const end = (offset + length + 3) >>> 2;
        for (let word = offset >>> 2; word < end; word++) words[word + shift] = words[word]!;
        channel.commit(handle, length);
        return;
      }
    }
    if (channel.writeCopy(handle, channel.memory, offset, offset + length) === Write.Full) {
      this.rest.set(handle, [channel.memory.slice(offset, offset + length)]);
    }
  }

  onDrain(handle: number): void {
    const waiting = this.rest.get(handle);
    if (waiting === undefined) return;
    while (waiting.length > 0) {
      const bytes = waiting[0]!;
      if (this.channel.writeCopy(handle, bytes, 0, bytes.length) === Write.Full) return;
      waiting.shift();
    }
    this.rest.delete(handle);
    if (this.ended.delete(handle)) this.channel.close(handle);
  }

  onEnd(handle: number, _cookie: number, errno: number): void {
    if (errno === 0 && this.rest.has(handle)) this.ended.add(handle);
    else this.channel.close(handle);
  }

  onClose(handle: number): void {
    this.rest.delete(handle);
    this.ended.delete(handle);
  }

  onWritten(): void {}
  onConnect(): void {}
  onTimeout(): void {}
}

/** What a thread needs to serve: a listening descriptor, its own or shared with the other threads. */
interface Share {
  socket: number;
  shared: boolean;
}

function serve(options: ServerArguments, { socket, shared }: Share): void {
  const { channel } = new Echo(options);
  channel.accept(channel.register(socket, LISTENER, { shared }));
  channel.attach();
}

function main(options: ServerArguments): void {
  const { host, port, threads } = options;
  if (threads === 0) {
    const socket = listenTcp({ host, port, backlog: 4096 });
    const address = localAddress(socket);
    serve(options, { socket, shared: false });
    announce(host, address.port);
    return;
  }
  const sockets = options.partition
    ? listenGroup({ host, port, backlog: 4096, count: threads })
    : [listenTcp({ host, port, backlog: 4096 })];
  const address = localAddress(sockets[0]!);
  let ready = 0;
  for (let i = 0; i < threads; i++) {
    const share: Share = { socket: sockets[i % sockets.length]!, shared: !options.partition };
    new Worker(new URL(import.meta.url), { argv: process.argv.slice(2), workerData: share }).once('message', () => {
      if (++ready === threads) announce(host, address.port);
    });
  }
}

const options = serverArguments();
if (isMainThread) main(options);
else {
  serve(options, workerData as Share);
  parentPort!.postMessage('ready');
}
