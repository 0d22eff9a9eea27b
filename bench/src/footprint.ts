/**
 * What connections cost in memory, and what they leave behind: `node src/footprint.ts [--connections N] [--cycles N]`.
 *
 * A server process (this file again, with --server) is asked for its resident memory, descriptors and open handles:
 * before, with N idle connections that each served one message, after they closed, and after N more short connections.
 * Prints a table; exit status 1 when handles or descriptors were left behind.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Channel, listenTcp, localAddress, type Sink } from '@megapipe/core';
import Table from 'cli-table3';

const MESSAGE = Buffer.from('0123456789abcdef');

function sink(parts: Partial<Sink>): Sink {
  const ignore = (): void => {};
  return {
    onAccept: ignore,
    onAcceptError: (_cookie, errno) => {
      throw new Error(`accept failed: errno ${errno}`);
    },
    onRead: ignore,
    onEnd: ignore,
    onDrain: ignore,
    onWritten: ignore,
    onConnect: ignore,
    onTimeout: ignore,
    onClose: ignore,
    ...parts,
  };
}

interface State {
  rssBytes: number;
  descriptors: number;
  open: number;
}

function serve(backend: 'uring' | 'epoll'): void {
  const channel: Channel = new Channel(
    sink({
      onAccept: (_cookie, socket) => channel.read(channel.register(socket, 0)),
      onRead: (handle, _cookie, offset, length) => {
        channel.writeCopy(handle, channel.memory, offset, offset + length);
      },
      onEnd: (handle) => channel.close(handle),
    }),
    { backend, maxHandles: 40_000 },
  );
  const socket = listenTcp({ host: '0.0.0.0', port: 0, backlog: 4096 });
  channel.accept(channel.register(socket, 0));
  channel.attach();
  process.on('message', () => {
    globalThis.gc?.();
    const state: State = {
      rssBytes: process.memoryUsage.rss(),
      descriptors: readdirSync('/proc/self/fd').length,
      open: channel.stats().open - 1,
    };
    process.send!(state);
  });
  process.send!(localAddress(socket).port);
}

async function state(child: ChildProcess): Promise<State> {
  child.send('state');
  return ((await once(child, 'message')) as [State])[0];
}

/** Opens `total` connections, at most `atOnce` in one go, each sends one message and waits for its echo. */
class Client {
  readonly channel: Channel;
  readonly handles: number[] = [];
  echoed = 0;
  closed = 0;
  errors = 0;
  readonly #keep: boolean;

  constructor(connections: number, keep: boolean) {
    this.#keep = keep;
    this.channel = new Channel(
      sink({
        onConnect: (handle, _cookie, errno) => {
          if (errno) {
            this.errors++;
            this.channel.close(handle);
            return;
          }
          this.channel.read(handle);
          this.channel.writeCopy(handle, MESSAGE);
        },
        onRead: (handle, _cookie, _offset, length) => {
          if (length !== MESSAGE.length) this.errors++;
          this.echoed++;
          if (!this.#keep) this.channel.close(handle);
        },
        onEnd: (handle) => {
          this.errors++;
          this.channel.close(handle);
        },
        onClose: () => void this.closed++,
      }),
      { maxHandles: 16, maxConnects: connections },
    );
  }

  run(port: number, total: number, atOnce: number): void {
    let started = 0;
    for (const end = Date.now() + 120_000; this.echoed < total && Date.now() < end; ) {
      while (
        started < total &&
        started - this.echoed - this.errors < atOnce &&
        (this.#keep || started - this.closed < atOnce)
      ) {
        this.handles.push(this.channel.connect(`127.0.0.${1 + (started % 8)}`, port, 0));
        started++;
      }
      this.channel.dispatch(10);
    }
    if (this.errors > 0 || this.echoed < total)
      throw new Error(`${this.echoed} of ${total} connections were served, ${this.errors} failed`);
  }
}

async function measure(backend: 'uring' | 'epoll', connections: number, cycles: number): Promise<boolean> {
  const child = fork(new URL(import.meta.url), ['--server', '--backend', backend], { execArgv: ['--expose-gc'] });
  try {
    const [port] = (await once(child, 'message')) as [number];
    /* The first connections warm the code up; what that costs is not theirs. */
    const warm = new Client(200, false);
    warm.run(port, 5000, 100);
    warm.channel.destroy();
    const before = await state(child);
    const idle = new Client(connections, true);
    idle.run(port, connections, 500);
    const full = await state(child);
    idle.channel.destroy();
    const settle = async (): Promise<State> => {
      let now = await state(child);
      for (let i = 0; i < 200 && now.open > 0; i++) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        now = await state(child);
      }
      return now;
    };
    const emptied = await settle();
    const short = new Client(400, false);
    short.run(port, cycles, 200);
    short.channel.destroy();
    const after = await settle();
    const table = new Table({ head: [`${backend}`, 'RSS KiB', 'descriptors', 'open handles'] });
    const row = (name: string, s: State): void =>
      void table.push([name, Math.round(s.rssBytes / 1024), s.descriptors, s.open]);
    row('warm', before);
    row(`${connections} idle connections`, full);
    row('all closed', emptied);
    row(`after ${cycles} short connections`, after);
    console.log(table.toString());
    console.log(`bytes of RSS per idle connection: ${Math.round((full.rssBytes - before.rssBytes) / connections)}\n`);
    return after.open === 0 && after.descriptors <= before.descriptors;
  } finally {
    child.kill();
  }
}

const { values } = parseArgs({
  options: {
    server: { type: 'boolean', default: false },
    backend: { type: 'string' },
    connections: { type: 'string', default: '18000' },
    cycles: { type: 'string', default: '100000' },
  },
});
if (values.server) serve(values.backend as 'uring' | 'epoll');
else {
  for (const backend of ['uring', 'epoll'] as const)
    if (!(await measure(backend, Number(values.connections), Number(values.cycles)))) process.exitCode = 1;
}
