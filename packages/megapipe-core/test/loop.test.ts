/** The channel in Node's event loop, in worker threads, and at the end of either (traps 9 to 11). */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, test } from 'vitest';
import {
  Channel,
  closeDescriptor,
  getAffinity,
  ListenGroup,
  listenGroup,
  listenTcp,
  localAddress,
  type MegapipeError,
  setAffinity,
} from '../src/index.ts';
import { BACKENDS, dispatchUntil, echo, pattern, Rig, sink, take, until } from './support.ts';

const program = (name: string): string => fileURLToPath(new URL(`programs/${name}`, import.meta.url));

const connectTo = async (port: number): Promise<net.Socket> => {
  const socket = net.connect(port, '127.0.0.1');
  await once(socket, 'connect');
  socket.on('error', () => {});
  return socket;
};

describe.each(BACKENDS)('%s', (backend) => {
  const ends: (() => unknown)[] = [];
  afterEach(async () => {
    for (const end of ends.splice(0)) await end();
  });

  const serve = async (mode: string): Promise<{ child: ChildProcess; port: number; output: () => string }> => {
    const child = spawn(process.execPath, [program('server.ts'), backend, mode], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    ends.push(() => child.kill('SIGKILL'));
    let output = '';
    child.stdout!.on('data', (data: Buffer) => {
      output += data.toString();
    });
    await until(() => output.includes('\n'));
    return { child, port: Number.parseInt(output, 10), output: () => output };
  };

  const worker = async (data: Record<string, unknown>): Promise<Worker> => {
    const made = new Worker(program('worker.ts'), { workerData: { backend, ...data } });
    ends.push(() => made.terminate());
    await once(made, 'message');
    return made;
  };

  test("Node's own servers, timers, promises and file reads go on beside a busy channel", async () => {
    const r = new Rig({ backend }, echo);
    ends.push(() => r.end());
    const server = http.createServer((_request, response) => response.end('node')).listen(0, '127.0.0.1');
    ends.push(() => server.close());
    await once(server, 'listening');
    let stop = false;
    const busy = Promise.all(
      Array.from({ length: 10 }, async () => {
        const client = await r.client();
        while (!stop) {
          client.write('0123456789');
          await take(client, 10);
        }
      }),
    );
    let ticks = 0;
    const timer = setInterval(() => ticks++, 2);
    for (let i = 0; i < 20; i++) {
      const body = await (await fetch(`http://127.0.0.1:${(server.address() as net.AddressInfo).port}/`)).text();
      expect(body).toBe('node');
      expect(readFileSync(program('server.ts')).length).toBe(statSync(program('server.ts')).size);
    }
    await until(() => ticks > 20);
    clearInterval(timer);
    stop = true;
    await busy;
  });

  test('output that a promise or timer writes goes out without another event', async () => {
    const handles: number[] = [];
    const r = new Rig({ backend }, (channel) => ({
      onAccept: (_c, socket) => void handles.push(channel().register(socket, 0)),
    }));
    ends.push(() => r.end());
    const client = await r.client();
    await until(() => handles.length === 1);
    await new Promise((resolve) => setTimeout(resolve, 20));
    setTimeout(() => r.channel.writeCopy(handles[0]!, Buffer.from('timer ')), 1);
    expect((await take(client, 6)).toString()).toBe('timer ');
    void Promise.resolve().then(() => r.channel.writeCopy(handles[0]!, Buffer.from('promise')));
    expect((await take(client, 7)).toString()).toBe('promise');
  });

  test('a channel can be taken back from the event loop and driven by hand', async () => {
    const r = new Rig({ backend }, echo);
    ends.push(() => r.end());
    const client = await r.client();
    client.write('attached');
    expect((await take(client, 8)).toString()).toBe('attached');
    r.channel.detach();
    /* What was under way: the send, and libuv's descriptor. */
    while (r.channel.dispatch(10) > 0);
    const start = performance.now();
    const { enters } = r.channel.stats();
    expect(r.channel.dispatch(50)).toBe(0);
    expect(performance.now() - start).toBeGreaterThanOrEqual(49);
    /* Not busy waiting for the event loop's descriptor: a few waits, not thousands. */
    expect(r.channel.stats().enters - enters).toBeLessThan(10);
    client.write('by hand');
    dispatchUntil(r.channel, () => r.channel.stats().bytesWritten === 15);
    expect((await take(client, 7)).toString()).toBe('by hand');
    r.channel.attach();
    client.write('again');
    expect((await take(client, 5)).toString()).toBe('again');
  });

  test('11: a handler that throws reaches uncaughtException, and the other connections go on', async () => {
    const { port, output } = await serve('throw');
    const [bad, good] = [await connectTo(port), await connectTo(port)];
    for (let i = 0; i < 5; i++) {
      bad.write('throw');
      await until(() => output().split('caught handler threw').length === i + 2);
      good.write(`fine ${i}`);
      expect((await take(good, 6)).toString()).toBe(`fine ${i}`);
    }
    bad.destroy();
    good.destroy();
  });

  test('11: process.exit inside a handler ends the process with its code', async () => {
    const { child, port } = await serve('exit');
    const client = await connectTo(port);
    client.write('exit');
    const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
    expect([code, signal]).toEqual([7, null]);
    client.destroy();
  });

  test.each(backend === 'uring' ? [true, false] : [true])(
    'the event loop has its turn whenever its descriptor fired, also during a submission (batch: %s)',
    async (batch) => {
      /* It has no timer: a forgotten turn would stop it for good. */
      const child = spawn(process.execPath, [program('talk.ts'), backend, batch ? '1' : '0'], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      ends.push(() => child.kill('SIGKILL'));
      expect(await once(child, 'exit')).toEqual([0, null]);
    },
  );

  /* The module's wait returns for sends, too. */
  const oneRound = backend === 'device' ? test.skip : test;
  oneRound(
    'a request costs one round of the loop: its answer’s completion comes with the next (not on device)',
    async () => {
      const { child, port, output } = await serve('plain');
      const client = await connectTo(port);
      const rounds = 200;
      for (let i = 0; i < rounds; i++) {
        client.write('0123456789');
        await take(client, 10);
      }
      child.kill('SIGTERM');
      /* Not 'exit': its output may not all be here then. */
      await once(child, 'close');
      const batches = Number(/after (\d+) batches/.exec(output())![1]);
      expect(batches).toBeGreaterThanOrEqual(rounds);
      expect(batches).toBeLessThan(rounds * 1.5);
      client.destroy();
    },
  );

  test.each([
    ['more output', 'more later', 'answer!', false],
    ['close', 'close later', 'answer', true],
    ['half close', 'disconnect later', 'answer', true],
  ])('%s that a promise adds after an answer goes out without another event', async (_name, mode, all, ends) => {
    const { port } = await serve(mode);
    const client = await connectTo(port);
    const ended = once(client, 'end');
    client.write('answer');
    expect((await take(client, all.length)).toString()).toBe(all);
    client.resume();
    if (ends) await ended;
    client.destroy();
  });

  test('an abort that a promise calls after an answer takes effect without another event', async () => {
    const { port } = await serve('abort later');
    const client = await connectTo(port);
    client.write('answer');
    client.resume();
    await until(() => client.closed);
  });

  test('who waits for output memory gets it as soon as others’ answers are out', async () => {
    const { port } = await serve('pages');
    const clients = await Promise.all(Array.from({ length: 12 }, () => connectTo(port)));
    for (let round = 0; round < 10; round++) {
      for (const client of clients) client.write('?');
      for (const client of clients) expect((await take(client, 10_000)).length).toBe(10_000);
    }
    for (const client of clients) client.destroy();
  });

  test('a client that reads late gets all of many small answers', async () => {
    const { port } = await serve('plain');
    const client = await connectTo(port);
    client.pause();
    const message = pattern(1000, 3);
    const count = 8000;
    for (let i = 0; i < count; i++) client.write(message);
    await new Promise((resolve) => setTimeout(resolve, 50));
    for (let i = 0; i < count; i += 100) {
      const got = await take(client, 100_000);
      for (let at = 0; at < got.length; at += 1000) expect(got.compare(message, 0, 1000, at, at + 1000)).toBe(0);
    }
    client.destroy();
  });

  test('signals arrive while the channel waits, and destroy lets the process end by itself', async () => {
    const { child, port, output } = await serve('plain');
    const client = await connectTo(port);
    child.kill('SIGTERM');
    const [code] = (await once(child, 'close')) as [number | null];
    expect(code).toBe(0);
    expect(output()).toContain('term');
    client.destroy();
  });

  test('10, 11: a worker that is terminated under load takes its sockets with it and nothing else', async () => {
    const before = readdirSync('/proc/self/fd').length;
    for (let round = 0; round < 5; round++) {
      const fd = listenTcp({ host: '127.0.0.1', port: 0 });
      const { port } = localAddress(fd);
      const w = new Worker(program('worker.ts'), { workerData: { backend, fd, shared: false } });
      await once(w, 'message');
      const clients = await Promise.all(Array.from({ length: 20 }, () => connectTo(port)));
      const closed = clients.map((client) => new Promise((resolve) => client.once('close', resolve)));
      for (const client of clients) {
        const pump = (): void => void client.write(pattern(100, 1));
        client.on('data', pump);
        pump();
      }
      await new Promise((resolve) => setTimeout(resolve, 30));
      await w.terminate();
      await Promise.all(closed);
    }
    await until(() => readdirSync('/proc/self/fd').length <= before + 2);
  });

  test('10: process.exit in a worker ends the worker only', async () => {
    const fd = listenTcp({ host: '127.0.0.1', port: 0 });
    const w = await worker({ fd, shared: false });
    w.postMessage('exit');
    expect(await once(w, 'exit')).toEqual([0]);
  });

  test('worker messages and file promises are answered while the worker serves', async () => {
    const fd = listenTcp({ host: '127.0.0.1', port: 0 });
    const { port } = localAddress(fd);
    const w = await worker({ fd, shared: false });
    const client = await connectTo(port);
    const pump = (): void => void client.write('ping');
    client.on('data', pump);
    pump();
    for (let i = 0; i < 20; i++) {
      w.postMessage('file');
      expect(await once(w, 'message')).toEqual([statSync(program('worker.ts')).size]);
    }
    client.destroy();
  });

  test('one listening socket shared by two workers: every connection is served, by one of them', async () => {
    const fd = listenTcp({ host: '127.0.0.1', port: 0 });
    const { port } = localAddress(fd);
    const workers = [await worker({ fd, shared: true }), await worker({ fd, shared: true })];
    await Promise.all(
      Array.from({ length: 100 }, async (_, n) => {
        const client = await connectTo(port);
        client.write(pattern(500, n));
        expect((await take(client, 500)).equals(pattern(500, n))).toBe(true);
        client.destroy();
      }),
    );
    let total = 0;
    for (const w of workers) {
      w.postMessage('accepted');
      total += ((await once(w, 'message')) as [number])[0];
    }
    expect(total).toBe(100);
    closeDescriptor(fd);
  });

  test('a partitioned group spreads connections, and a second group on the port is refused', async () => {
    const fds = listenGroup({ host: '127.0.0.1', port: 0, count: 2 });
    const { port } = localAddress(fds[0]!);
    const workers = await Promise.all(fds.map((fd) => worker({ fd, shared: false })));
    const clients = await Promise.all(Array.from({ length: 200 }, () => connectTo(port)));
    for (const client of clients) {
      client.write('x');
      await take(client, 1);
    }
    const counts: number[] = [];
    for (const w of workers) {
      w.postMessage('accepted');
      counts.push(((await once(w, 'message')) as [number])[0]);
    }
    expect(counts[0]! + counts[1]!).toBe(200);
    expect(Math.min(...counts)).toBeGreaterThan(20);
    expect(() => listenGroup({ host: '127.0.0.1', port, count: 2 })).toThrow(/EADDRINUSE/);
    for (const client of clients) client.destroy();
  });

  /** An echo that counts what it accepts in accepts[n]. */
  const counted = (channel: () => Channel, accepts: number[], n: number): ReturnType<typeof echo> => {
    const base = echo(channel);
    return {
      ...base,
      onAccept(cookie, socket, pending) {
        accepts[n]!++;
        base.onAccept!(cookie, socket, pending);
      },
    };
  };

  test('channels join and leave a group under load, and no connection is lost', async () => {
    const group = new ListenGroup({ host: '127.0.0.1', port: 0, backlog: 4096 });
    const accepts: number[] = [];
    let left = 0;
    const join = (): { fd: number; channel: Channel; listener: number } => {
      const fd = group.add();
      const n = accepts.push(0) - 1;
      const base = counted(() => channel, accepts, n);
      const channel: Channel = new Channel(
        sink({
          ...base,
          onClose(handle, cookie) {
            if (cookie === -1) {
              group.left(fd);
              left++;
            }
            base.onClose!(handle, cookie);
          },
        }),
        { backend },
      );
      const listener = channel.register(fd, -1);
      channel.accept(listener);
      channel.attach();
      ends.push(() => channel.destroy());
      return { fd, channel, listener };
    };
    const members = [join(), join()];
    let stop = false;
    let served = 0;
    const lost: string[] = [];
    const load = Promise.all(
      Array.from({ length: 30 }, async (_, worker) => {
        for (let n = 0; !stop; n++) {
          const client = net.connect(group.port, '127.0.0.1');
          const bytes = pattern(64, worker * 10_000 + n);
          client.on('error', (error) => lost.push(error.message));
          client.write(bytes);
          if ((await take(client, 64)).equals(bytes)) served++;
          else lost.push('cut');
          client.destroy();
        }
      }),
    );
    for (let change = 1; change <= 6; change++) {
      members.push(join());
      await until(() => served > change * 500);
      const leaving = members.shift()!;
      group.retire(leaving.fd);
      leaving.channel.retire(leaving.listener);
    }
    await until(() => served > 4000 && left === 6);
    stop = true;
    await load;
    expect(lost).toEqual([]);
    expect(Math.min(...accepts)).toBeGreaterThan(0);
    expect(accepts.reduce((a, b) => a + b)).toBe(served);
    const last = members.pop()!;
    group.retire(last.fd);
    expect(() => group.retire(members[0]!.fd)).toThrow(/last socket/);
  });

  const cpus = getAffinity();
  /** Ten connections, each with a byte there and back. On loopback the CPU that sends the SYN also receives it. */
  const connectFrom = async (cpu: number, port: number): Promise<void> => {
    setAffinity([cpu]);
    for (let n = 0; n < 10; n++) {
      const client = await connectTo(port);
      client.write('x');
      expect((await take(client, 1)).toString()).toBe('x');
      client.destroy();
    }
  };
  test.skipIf(cpus.length < 2)(
    `register takes a CPU mask; a channel that leaves hands its CPUs to the others (needs two CPUs, here ${cpus.length})`,
    async () => {
      const [one, two] = cpus as [number, number];
      const group = new ListenGroup({ host: '127.0.0.1', port: 0 });
      const member = (
        mask: number | number[],
      ): { channel: Channel; listener: number; accepts: number; closed: boolean } => {
        const base = echo(() => me.channel);
        const channel: Channel = new Channel(
          sink({
            ...base,
            onAccept(cookie, socket, pending) {
              me.accepts++;
              base.onAccept!(cookie, socket, pending);
            },
            onClose(handle, cookie) {
              if (cookie === -1) me.closed = true;
              base.onClose!(handle, cookie);
            },
          }),
          { backend },
        );
        const me = { channel, listener: channel.register(group, -1, { cpus: mask }), accepts: 0, closed: false };
        channel.accept(me.listener);
        channel.attach();
        ends.push(() => channel.destroy());
        return me;
      };
      try {
        const a = member(one);
        const b = member([two]);
        await connectFrom(one, group.port);
        expect([a.accepts, b.accepts]).toEqual([10, 0]);
        await connectFrom(two, group.port);
        expect([a.accepts, b.accepts]).toEqual([10, 10]);
        b.channel.retire(b.listener, 0);
        await connectFrom(two, group.port);
        await until(() => b.closed);
        await connectFrom(two, group.port);
        expect([a.accepts, b.accepts]).toEqual([30, 10]);
        expect(() => a.channel.retire(a.listener)).toThrow(/last socket/);
        const c = member([two]);
        await connectFrom(two, group.port);
        a.channel.retire(a.listener, 0);
        await until(() => a.closed);
        const d = member([one]);
        await connectFrom(one, group.port);
        expect([a.accepts, c.accepts, d.accepts]).toEqual([30, 10, 10]);
        c.channel.destroy();
        await connectFrom(one, group.port);
        await connectFrom(two, group.port);
        expect(d.accepts).toBe(30);
      } finally {
        setAffinity(cpus);
      }
    },
  );

  test.skipIf(backend !== 'device' || cpus.length < 2)(
    `one listening socket, registered with a CPU mask by two channels, is shared out by the module (backend device and two CPUs; here ${backend}, ${cpus.length})`,
    async () => {
      const [one, two] = cpus as [number, number];
      const fd = listenTcp({ host: '127.0.0.1', port: 0 });
      const { port } = localAddress(fd);
      const accepts = [0, 0];
      const channels = [one, two].map((cpu, n) => {
        const channel: Channel = new Channel(sink(counted(() => channel, accepts, n)), { backend });
        channel.accept(channel.register(fd, -1, { cpus: cpu, shared: true }));
        channel.attach();
        ends.push(() => channel.destroy());
        return channel;
      });
      closeDescriptor(fd);
      try {
        await connectFrom(one, port);
        await connectFrom(two, port);
        expect(accepts).toEqual([10, 10]);
        channels[1]!.destroy();
        await connectFrom(two, port);
        expect(accepts).toEqual([20, 10]);
      } finally {
        setAffinity(cpus);
      }
    },
  );

  test('a group shared with worker threads: each registers its own socket in it, and a mask of several CPUs holds', async () => {
    const group = new ListenGroup({ host: '127.0.0.1', port: 0 });
    const keep = group.add();
    const workers = [await worker({ group: group.share }), await worker({ group: group.share })];
    group.retire(keep);
    closeDescriptor(keep);
    group.left(keep);
    const clients = await Promise.all(Array.from({ length: 200 }, () => connectTo(group.port)));
    for (const client of clients) {
      client.write('x');
      await take(client, 1);
      client.destroy();
    }
    const counts: number[] = [];
    for (const w of workers) {
      w.postMessage('accepted');
      counts.push(((await once(w, 'message')) as [number])[0]);
    }
    expect(counts[0]! + counts[1]!).toBe(200);
    expect(Math.min(...counts)).toBeGreaterThan(20);
    const channel = new Channel(sink({}), { backend });
    ends.push(() => channel.destroy());
    const code = (call: () => unknown): unknown => {
      try {
        call();
      } catch (error) {
        return (error as MegapipeError).code;
      }
      return 'nothing thrown';
    };
    expect(code(() => channel.register(group, 0, { cpus: [0] }))).toBe('ERR_MEGAPIPE_ARGUMENT');
    expect(code(() => channel.register(group, 0, { cpus: [-1] }))).toBe('ERR_MEGAPIPE_ARGUMENT');
    expect(code(() => channel.register(group, 0, { cpus: 512 }))).toBe('ERR_MEGAPIPE_ARGUMENT');
    expect(code(() => channel.register(group, 0, { shared: true }))).toBe('ERR_MEGAPIPE_ARGUMENT');
    const plain = listenTcp({ host: '127.0.0.1', port: 0 });
    /* The module shares out any listening socket. */
    expect(code(() => channel.register(plain, 0, { cpus: [0], shared: true }))).toBe(
      backend === 'device' ? 'nothing thrown' : 'ERR_MEGAPIPE_ARGUMENT',
    );
    expect(code(() => channel.register(plain, 0, { cpus: [512], shared: true }))).toBe('ERR_MEGAPIPE_ARGUMENT');
    closeDescriptor(plain);
    const masks = new ListenGroup({ host: '127.0.0.1', port: 0 });
    channel.register(masks, 0, { cpus: Array.from({ length: 256 }, (_, cpu) => cpu) });
    expect(code(() => channel.register(masks, 0, { cpus: 300 }))).toBe('ERR_MEGAPIPE_CAPACITY');
  });

  test.skipIf(cpus.length < 2)(
    `a steered group answers on the CPU that received the connection (needs two CPUs, here ${cpus.length})`,
    async () => {
      const pair = cpus.slice(0, 2);
      const fds = listenGroup({ host: '127.0.0.1', port: 0, count: 2, cpus: pair });
      const { port } = localAddress(fds[0]!);
      const workers = await Promise.all(fds.map((fd, i) => worker({ fd, shared: false, cpu: pair[i] })));
      workers[0]!.postMessage('cpus');
      expect(await once(workers[0]!, 'message')).toEqual([[pair[0]]]);
      try {
        for (const [i, cpu] of pair.entries()) {
          /* On loopback the CPU that sends the SYN also receives it. */
          setAffinity([cpu]);
          const clients: net.Socket[] = [];
          for (let n = 0; n < 25; n++) {
            const client = await connectTo(port);
            client.write('x');
            await take(client, 1);
            clients.push(client);
          }
          workers[i]!.postMessage('accepted');
          expect(await once(workers[i]!, 'message')).toEqual([25]);
          for (const client of clients) client.destroy();
        }
      } finally {
        setAffinity(cpus);
      }
    },
  );
});
