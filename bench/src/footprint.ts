/**
 * What connections cost in memory, and what they leave behind: `node src/footprint.ts [--connections N] [--cycles N]`.
 *
 * A server process (this file again, with --server) is asked for its resident memory, descriptors and open handles:
 * before, with N idle connections that each served one message, after they closed, and after N more short connections.
 * Prints a table; exit status 1 when handles or descriptors were left behind. The limit of descriptors is
 * raised where it is too low and that is allowed; else there are fewer connections, and it says so.
 */
import { type ChildProcess, fork, spawnSync } from 'node:child_process';
import { once as event } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Channel, listenTcp, localAddress, type Sink } from '@megapipe/core';
import Table from 'cli-table3';

/** What a process has open beside its connections, at most. */
const DESCRIPTORS_BESIDE = 1000;
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
  /** JavaScript's heap: what is in use, and what V8 holds for it. */
  heapBytes: number;
  heapHeldBytes: number;
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
    const memory = process.memoryUsage();
    const state: State = {
      rssBytes: memory.rss,
      heapBytes: memory.heapUsed,
      heapHeldBytes: memory.heapTotal,
      descriptors: readdirSync('/proc/self/fd').length,
      open: channel.stats().open - 1,
    };
    process.send!(state);
  });
  process.send!(localAddress(socket).port);
}

async function state(child: ChildProcess): Promise<State> {
  child.send('state');
  return ((await event(child, 'message')) as [State])[0];
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
    const [port] = (await event(child, 'message')) as [number];
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
    /* Twice: what grows with the connections grows again, what the first ones only warmed up does not. */
    const cycled: State[] = [];
    for (let run = 0; run < 2; run++) {
      const short = new Client(400, false);
      short.run(port, cycles, 200);
      short.channel.destroy();
      cycled.push(await settle());
    }
    const [once, after] = cycled as [State, State];
    const table = new Table({
      head: [`${backend}`, 'RSS KiB', 'heap KiB', 'heap held KiB', 'descriptors', 'open handles'],
    });
    const row = (name: string, s: State): void =>
      void table.push([
        name,
        ...[s.rssBytes, s.heapBytes, s.heapHeldBytes].map((bytes) => Math.round(bytes / 1024)),
        s.descriptors,
        s.open,
      ]);
    row('warm', before);
    row(`${connections} idle connections`, full);
    row('all closed', emptied);
    row(`after ${cycles} short connections`, once);
    row(`after ${cycles} more`, after);
    console.log(table.toString());
    console.log(`bytes of RSS per idle connection: ${Math.round((full.rssBytes - before.rssBytes) / connections)}\n`);
    return after.open === 0 && after.descriptors <= before.descriptors;
  } finally {
    child.kill();
  }
}

/** As many connections as this process may have descriptors for; raises the limit where it is allowed to. */
function withinLimit(wanted: number): number {
  const needed = wanted + DESCRIPTORS_BESIDE;
  const limit = (): number =>
    Number(/^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? Number.POSITIVE_INFINITY);
  if (limit() < needed) spawnSync('prlimit', [`--pid=${process.pid}`, `--nofile=${needed}:${needed}`]);
  if (limit() >= needed) return wanted;
  const fewer = limit() - DESCRIPTORS_BESIDE;
  console.log(`the limit of descriptors is ${limit()} (ulimit -n): ${fewer} connections instead of ${wanted}`);
  return fewer;
}

const { values } = parseArgs({
  options: {
    server: { type: 'boolean', default: false },
    backend: { type: 'string' },
    connections: { type: 'string', default: '20000' },
    cycles: { type: 'string', default: '100000' },
  },
});
if (values.server) serve(values.backend as 'uring' | 'epoll');
else {
  const connections = withinLimit(Number(values.connections));
  for (const backend of ['uring', 'epoll'] as const)
    if (!(await measure(backend, connections, Number(values.cycles)))) process.exitCode = 1;
}
