/** The verbs and the traps, on every backend, against real sockets. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NET, native } from '@megapipe/native';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import {
  Channel,
  type ChannelOptions,
  listenTcp,
  listenUnix,
  localAddress,
  type Sink,
  SLOT_MASK,
  Write,
} from '../src/index.ts';
import { configurations, dispatchUntil, echo, pattern, Rig, sink, slow, take, until } from './support.ts';

const ECONNREFUSED = 111;
const ECONNRESET = 104;
const ENFILE = 23;

if (slow) process.stdout.write('switches that are off are tested elsewhere: this place is slow\n');

describe.each(configurations)('$name', ({ name, backend, options: base, listener }) => {
  const rigs: { end(): void }[] = [];
  const rig = (make: (channel: () => Channel) => Partial<Sink>, options: ChannelOptions = {}, accept = true): Rig => {
    const made = new Rig({ backend, ...base, ...options }, make, accept, listener);
    rigs.push(made);
    return made;
  };
  const channelWith = (parts: Partial<Sink>, options: ChannelOptions = {}): Channel => {
    const made = new Channel(sink(parts), { backend, ...base, ...options });
    rigs.push({ end: () => made.destroy() });
    return made;
  };
  const hasLwsockets = (channel: Channel): boolean =>
    base.lightweight !== false && (backend === 'device' || channel.features?.used.lwsockets === true);
  /** The whole backends; the others are variations of one of them, for which less is enough. */
  const whole = name === backend;
  afterEach(() => {
    for (const r of rigs.splice(0)) r.end();
  });

  /** A server that hands its connections to the test. */
  const acceptor = (parts: Partial<Sink> = {}, options: ChannelOptions = {}): Rig & { handles: number[] } => {
    const handles: number[] = [];
    const r = rig(
      (channel) => ({
        onAccept(_cookie, socket) {
          handles.push(channel().register(socket, handles.length + 100));
        },
        ...parts,
      }),
      options,
    );
    return Object.assign(r, { handles });
  };

  describe('verbs', () => {
    test('bytes that arrive go to onRead with the cookie, and committed output goes out', async () => {
      const cookies: number[] = [];
      const r = rig((channel) => ({
        onAccept(_cookie, socket) {
          channel().read(channel().register(socket, 4711));
        },
        onRead(handle, cookie, offset, length) {
          cookies.push(cookie);
          const at = channel().reserve(handle, length);
          channel().memory.copyWithin(at, offset, offset + length);
          channel().commit(handle, length);
        },
      }));
      const client = await r.client();
      client.write('hello');
      expect((await take(client, 5)).toString()).toBe('hello');
      expect(cookies).toEqual([4711]);
    });

    test('accept with a count delivers that many, and the next call goes on', async () => {
      const seen: number[] = [];
      const r = rig(
        (channel) => ({ onAccept: (_c, socket) => void seen.push(channel().register(socket, 0)) }),
        {},
        false,
      );
      r.channel.accept(r.listener, 2);
      await Promise.all([r.client(), r.client(), r.client()]);
      await until(() => seen.length === 2);
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect(seen.length).toBe(2);
      r.channel.accept(r.listener, 1);
      await until(() => seen.length === 3);
    });

    test('lwsockets where the backend has them, descriptors when asked for', async () => {
      const sockets: number[] = [];
      const r = rig(
        (channel) => ({
          onAccept(_cookie, socket) {
            sockets.push(socket);
            channel().discard(socket);
          },
        }),
        { lightweight: true },
        false,
      );
      r.channel.accept(r.listener, 1);
      await r.client();
      await until(() => sockets.length === 1);
      expect(sockets[0]! < 0).toBe(backend !== 'epoll');
      r.channel.accept(r.listener, 1, false);
      await r.client();
      await until(() => sockets.length === 2);
      expect(sockets[1]!).toBeGreaterThanOrEqual(0);
    });

    test('a discarded socket is closed, and cannot be registered', async () => {
      const errors: string[] = [];
      const r = rig((channel) => ({
        onAccept(_cookie, socket) {
          channel().discard(socket);
          try {
            channel().discard(socket);
          } catch (error) {
            errors.push((error as { code: string }).code);
          }
        },
      }));
      const client = await r.client();
      client.resume();
      await once(client, 'close');
      expect(errors).toEqual(['ERR_MEGAPIPE_STALE_HANDLE']);
    });

    test('connect reports success, refusal, and a Unix socket', async () => {
      const outcomes: [number, number][] = [];
      const path = join(tmpdir(), `megapipe-${process.pid}-${backend}.sock`);
      const unixFd = listenUnix({ path, mode: 0o700 });
      const tcpFd = listenTcp({ host: '127.0.0.1', port: 0 });
      /* Nobody listens there, and nobody else gets the port. */
      const bound = native.socket(NET.AF_INET, NET.SOCK_STREAM);
      expect(native.bind(bound, '127.0.0.1', 0)).toBe(0);
      const channel = channelWith({
        onConnect(handle, cookie, errno) {
          outcomes.push([cookie, errno]);
          channel.close(handle);
        },
      });
      channel.register(unixFd, 0);
      channel.register(tcpFd, 0);
      channel.connect('127.0.0.1', localAddress(tcpFd).port, 1);
      channel.connect('127.0.0.1', localAddress(bound).port, 2);
      channel.connect(path, 0, 3);
      dispatchUntil(channel, () => outcomes.length === 3);
      native.close(bound);
      expect(outcomes.sort()).toEqual([
        [1, 0],
        [2, ECONNREFUSED],
        [3, 0],
      ]);
      expect(() => channel.connect('localhost', 1, 0)).toThrow(/"localhost"/);
    });

    test('two channels on one thread serve each other', async () => {
      const r = rig(echo);
      let got = 0;
      const client = channelWith({
        onConnect(handle) {
          client.read(handle);
          client.writeCopy(handle, pattern(100_000, 5));
        },
        onRead(handle, _cookie, _offset, length) {
          got += length;
          if (got === 100_000) client.close(handle);
        },
      });
      client.attach();
      client.connect('127.0.0.1', r.port, 0);
      await until(() => got === 100_000 && client.stats().open === 0);
    });

    test('dispatch returns at its time limit and counts what it delivered', async () => {
      const channel = channelWith({});
      const start = performance.now();
      expect(channel.dispatch(30)).toBe(0);
      expect(performance.now() - start).toBeGreaterThanOrEqual(29);
      channel.attach();
      expect(() => channel.dispatch(0)).toThrow(/attached/);
    });

    test('a handle that was closed is refused by name, closing twice is not', async () => {
      const r = acceptor();
      await r.client();
      await until(() => r.handles.length === 1);
      const handle = r.handles[0]!;
      r.channel.close(handle);
      r.channel.close(handle);
      await until(() => r.channel.stats().open === 1);
      r.channel.close(handle);
      r.channel.abort(handle);
      for (const verb of ['read', 'readStop', 'disconnect', 'outputBytes', 'cookieOf'] as const)
        expect(() => r.channel[verb](handle)).toThrow(/ERR_MEGAPIPE_STALE_HANDLE/);
      expect(() => r.channel.reserve(handle, 1)).toThrow(/ERR_MEGAPIPE_STALE_HANDLE/);
    });

    test('a deadline fires once, can be moved and cleared', async () => {
      const fired: number[] = [];
      const r = acceptor({ onTimeout: (_handle, cookie) => void fired.push(cookie) });
      await Promise.all([r.client(), r.client(), r.client()]);
      await until(() => r.handles.length === 3);
      const [a, b, c] = r.handles as [number, number, number];
      r.channel.setDeadline(a, 150);
      r.channel.setDeadline(b, 150);
      r.channel.setDeadline(c, 150);
      r.channel.setDeadline(b, 0);
      r.channel.setDeadline(c, 600_000);
      r.channel.setDeadline(c, 250);
      await until(() => fired.length === 2);
      await new Promise((resolve) => setTimeout(resolve, 300));
      /* A late round may bring both at once, in either order. */
      expect(fired.sort()).toEqual([r.channel.cookieOf(a), r.channel.cookieOf(c)]);
    });

    test('a deadline counts from now, also when the channel had nothing to do for longer than that', () => {
      const times = { set: 0, fired: 0 };
      const server: Channel = channelWith({
        onAccept: (_cookie, socket) => {
          times.set = performance.now();
          server.setDeadline(server.register(socket, 0), 400);
        },
        onTimeout: () => {
          times.fired = performance.now();
        },
      });
      const listening = listenTcp({ host: '127.0.0.1', port: 0 });
      const { port } = localAddress(listening);
      server.accept(server.register(listening, 0));
      const late = `setTimeout(() => require('net').connect(${port}, '127.0.0.1').on('error', () => {}), 600)`;
      const client = spawn(process.execPath, ['-e', late]);
      while (times.set === 0) server.dispatch(20_000);
      while (times.fired === 0) server.dispatch(50);
      client.kill();
      expect(times.fired - times.set).toBeGreaterThan(300);
    });

    test('options: a misspelt name and a value out of range are named', () => {
      expect(() => new Channel(sink({}), { backend, recvBufers: 3 } as ChannelOptions)).toThrow(/"recvBufers"/);
      expect(() => new Channel(sink({}), { backend, recvBuffers: 100 })).toThrow(/power of two/);
      expect(() => new Channel(sink({}), { backend, maxHandles: -1 })).toThrow(/maxHandles must be a whole number/);
      expect(() => new Channel(sink({}), { backend: 'kqueue' as 'auto' })).toThrow(/kqueue/);
    });

    test('a cookie, a token or a time limit that is no number of its kind is refused by name', async () => {
      const written: number[] = [];
      const r = acceptor({
        onReadInto: () => {},
        onReadFile: () => {},
        onWritten: (_h, _c, token) => void written.push(token),
      });
      await r.client();
      await until(() => r.handles.length === 1);
      const handle = r.handles[0]!;
      const { channel } = r;
      const region = channel.registerRegion(new SharedArrayBuffer(64));
      const cookie = channel.cookieOf(handle);
      for (const wrong of [2 ** 31, -(2 ** 31) - 1, 2 ** 53, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
        expect(() => channel.setCookie(handle, wrong)).toThrow(/setCookie: cookie .* 32-bit integer, got/);
        expect(() => channel.register(0, wrong)).toThrow(/register: cookie/);
        expect(() => channel.connect('127.0.0.1', 1, wrong)).toThrow(/connect: cookie/);
        expect(() => channel.write(handle, region, 0, 1, wrong)).toThrow(/write: token .* got/);
        expect(() => channel.writev(handle, [region, 0, 1], wrong)).toThrow(/writev: token/);
        expect(() => channel.readInto(handle, region, 0, 1, wrong)).toThrow(/readInto: token/);
        expect(() => channel.readFile(0, 0, region, 0, 1, wrong)).toThrow(/readFile: token/);
      }
      /* It marks the parts of a writev inside: were it let through, nobody would ever hear of this write. */
      expect(() => channel.write(handle, region, 0, 1, -(2 ** 31))).toThrow(/write: token/);
      expect(channel.cookieOf(handle)).toBe(cookie);
      for (const fitting of [-(2 ** 31), 2 ** 31 - 1, -0]) {
        channel.setCookie(handle, fitting);
        expect(channel.cookieOf(handle)).toBe(fitting + 0);
      }
      channel.write(handle, region, 0, 1, 2 ** 31 - 1);
      channel.write(handle, region, 0, 1, -(2 ** 31) + 1);
      await until(() => written.length === 2);
      expect(written).toEqual([2 ** 31 - 1, -(2 ** 31) + 1]);
      channel.unregisterRegion(region);
      const own = channelWith({});
      for (const wrong of [Number.NaN, -2, Number.NEGATIVE_INFINITY])
        expect(() => own.dispatch(wrong)).toThrow(/dispatch: timeoutMs/);
    });

    test('a time limit beyond what the kernel takes is a long one', async () => {
      const channel = channelWith({});
      const fd = listenTcp({ host: '127.0.0.1', port: 0 });
      channel.accept(channel.register(fd, 0));
      channel.connect('127.0.0.1', localAddress(fd).port, 1);
      expect(channel.dispatch(2 ** 40)).toBeGreaterThan(0);
    });

    test('what is no stream is refused by name', async () => {
      const channel = channelWith({});
      expect(() => channel.register(987_654, 0)).toThrow(/EBADF/);
      const datagram = native.socket(NET.AF_INET, NET.SOCK_DGRAM);
      expect(() => channel.register(datagram, 0)).toThrow(/not a stream socket/);
      native.close(datagram);
    });

    test('both ends of a pipe and of a Unix socket pair carry bytes', async () => {
      const got: Record<number, Buffer[]> = { 1: [], 2: [] };
      const ends: number[] = [];
      const channel = channelWith({
        onRead: (_h, cookie, offset, length) =>
          void got[cookie]!.push(Buffer.from(channel.memory.slice(offset, offset + length))),
        onEnd: (handle, cookie) => {
          ends.push(cookie);
          channel.close(handle);
        },
      });
      const pair = native.socketpair() as [number, number];
      /* The shell's stdout is a pipe whose reading end this process gets by its number. */
      const child = spawn('sh', ['-c', 'printf piped; sleep 0.2; printf " twice"'], {
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      const fd = (child.stdout as unknown as { _handle: { fd: number; readStop(): void } })._handle.fd;
      channel.read(channel.register(fd, 1, { shared: true }));
      child.stdout.destroy();
      channel.read(channel.register(pair[0], 2));
      const writer = channel.register(pair[1], 3);
      channel.writeCopy(writer, pattern(100_000, 4));
      channel.close(writer);
      dispatchUntil(channel, () => ends.length === 2);
      expect(Buffer.concat(got[1]!).toString()).toBe('piped twice');
      expect(Buffer.concat(got[2]!).equals(pattern(100_000, 4))).toBe(true);
      expect(ends.sort()).toEqual([1, 2]);
    });

    test('unregister cancels what is pending and hands the descriptor back, still open', async () => {
      const back: number[][] = [];
      const channel = channelWith({ onUnregister: (_h, cookie, fd) => void back.push([cookie, fd]) });
      const fd = listenTcp({ host: '127.0.0.1', port: 0 });
      const listener = channel.register(fd, 5);
      channel.accept(listener);
      channel.dispatch(10);
      const pair = native.socketpair() as [number, number];
      const handle = channel.register(pair[0], 6);
      channel.read(handle);
      channel.dispatch(10);
      channel.unregister(listener);
      channel.unregister(handle);
      dispatchUntil(channel, () => back.length === 2);
      expect(back.sort()).toEqual([
        [5, fd],
        [6, pair[0]],
      ]);
      expect(localAddress(fd).family).toBe('IPv4');
      expect(() => channel.read(handle)).toThrow(/STALE/);
      expect(channel.stats().open).toBe(0);
      for (const open of [fd, ...pair]) expect(native.close(open)).toBe(0);
    });

    test('unregister of an lwsocket, or without a method to report to, is refused', async () => {
      const r = acceptor();
      await r.client();
      await until(() => r.handles.length === 1);
      expect(() => r.channel.unregister(r.handles[0]!)).toThrow(hasLwsockets(r.channel) ? /lwsocket/ : /onUnregister/);
    });

    test('readInto puts bytes into the region, in order with onRead, and reading goes on', async () => {
      const heard: string[] = [];
      const into: [number, number, number][] = [];
      const r = acceptor({
        onRead: (_h, _c, offset, length) =>
          void heard.push(Buffer.from(r.channel.memory.slice(offset, offset + length)).toString()),
        onReadInto: (_h, _c, token, bytes, errno) => void into.push([token, bytes, errno]),
      });
      const client = await r.client();
      await until(() => r.handles.length === 1);
      const handle = r.handles[0]!;
      const memory = new SharedArrayBuffer(100);
      const region = r.channel.registerRegion(memory);
      r.channel.read(handle);
      client.write('first');
      await until(() => heard.join('') === 'first');
      r.channel.readInto(handle, region, 10, 50, 77);
      expect(() => r.channel.readInto(handle, region, 0, 1, 78)).toThrow(/not done/);
      expect(() => r.channel.unregisterRegion(region)).toThrow(/not finished/);
      await new Promise((resolve) => setTimeout(resolve, 20));
      client.write('second');
      await until(() => into.length === 1);
      expect(into[0]).toEqual([77, 6, 0]);
      expect(Buffer.from(new Uint8Array(memory)).toString('latin1', 9, 17)).toBe('\0second\0');
      client.write('third');
      await until(() => heard.join('') === 'firstthird');
      expect(() => r.channel.readInto(handle, region, 90, 11, 0)).toThrow(/outside region/);
      r.channel.readInto(handle, region, 0, 100, 79);
      client.end();
      await until(() => into.length === 2);
      expect(into[1]).toEqual([79, 0, 0]);
      r.channel.unregisterRegion(region);
    });

    test('close and destroy answer a readInto that waits with ECANCELED', async () => {
      const into: [number, number, number][] = [];
      const r = acceptor({ onReadInto: (_h, _c, token, bytes, errno) => void into.push([token, bytes, errno]) });
      await Promise.all([r.client(), r.client()]);
      await until(() => r.handles.length === 2);
      const region = r.channel.registerRegion(new SharedArrayBuffer(100));
      r.channel.readInto(r.handles[0]!, region, 0, 10, 1);
      r.channel.readInto(r.handles[1]!, region, 10, 10, 2);
      await new Promise((resolve) => setTimeout(resolve, 20));
      r.channel.close(r.handles[0]!);
      await until(() => into.length === 1);
      expect(into[0]).toEqual([1, 0, 125]);
      r.channel.destroy();
      expect(into[1]).toEqual([2, 0, 125]);
    });

    test('writev sends its parts in order, and reports once', async () => {
      const written: [number, number][] = [];
      const r = acceptor({ onWritten: (_h, _c, token, errno) => void written.push([token, errno]) });
      const client = await r.client();
      await until(() => r.handles.length === 1);
      const memory = new SharedArrayBuffer(1 << 16);
      const bytes = Buffer.from(memory);
      bytes.set(pattern(1 << 16, 8));
      const region = r.channel.registerRegion(memory);
      const parts: number[] = [];
      const expected: Buffer[] = [];
      for (let i = 0; i < 150; i++) {
        const offset = (i * 7919) % 60_000;
        const length = (i * 31) % 700;
        parts.push(region, offset, length);
        expected.push(Buffer.from(bytes.subarray(offset, offset + length)));
      }
      expect(r.channel.writev(r.handles[0]!, parts, 5)).toBe(Write.Sent);
      const all = Buffer.concat(expected);
      expect((await take(client, all.length)).equals(all)).toBe(true);
      await until(() => written.length === 1);
      expect(written).toEqual([[5, 0]]);
      expect(() => r.channel.writev(r.handles[0]!, [region, 0, 10, region, 65_530, 7], 0)).toThrow(/outside region/);
      expect(() => r.channel.writev(r.handles[0]!, [region, 0], 0)).toThrow(/triples/);
      r.channel.writev(r.handles[0]!, [region, 0, 0], 6);
      await until(() => written.length === 2);
      expect(written[1]).toEqual([6, 0]);
    });

    test('the peer of each connection is known where that was asked for', async () => {
      const named = acceptor({}, { peerNames: true });
      const clients = await Promise.all(Array.from({ length: 60 }, () => named.client()));
      await until(() => named.handles.length === 60);
      const peers = named.handles.map((handle) => named.channel.peerAddress(handle));
      expect(new Set(peers.map((peer) => `${peer.family} ${peer.host}`))).toEqual(new Set(['IPv4 127.0.0.1']));
      const ports = (list: (number | undefined)[]): number[] => list.map(Number).sort((a, b) => a - b);
      expect(ports(peers.map((peer) => peer.port))).toEqual(ports(clients.map((client) => client.localPort)));
      const v6 = listenTcp({ host: '::1', port: 0 });
      named.channel.accept(named.channel.register(v6, 0));
      const client = net.connect(localAddress(v6).port, '::1');
      await until(() => named.handles.length === 61);
      expect(named.channel.peerAddress(named.handles[60]!)).toEqual({
        family: 'IPv6',
        host: '::1',
        port: client.localPort,
      });
      client.destroy();
      named.channel.acceptStop(named.listener);
      const plain = acceptor();
      await plain.client();
      await until(() => plain.handles.length === 1);
      /* Every kernel that has lwsockets of use tells it when it is asked. */
      expect(plain.channel.peerAddress(plain.handles[0]!).host).toBe('127.0.0.1');
    });

    test('the peer of a connection can be asked for at any time, also after a reset', async () => {
      let ended = 0;
      const r = acceptor({ onEnd: (_handle, _cookie, errno) => void (ended = errno) });
      const client = await r.client();
      await until(() => r.handles.length === 1);
      const handle = r.handles[0]!;
      const want = { family: 'IPv4', host: '127.0.0.1', port: client.localPort };
      /* In the middle of requests, and many times: its completions must not be taken for others'. */
      for (let i = 0; i < 3000; i++) expect(r.channel.peerAddress(handle)).toEqual(want);
      r.channel.read(handle);
      client.resetAndDestroy();
      await until(() => ended !== 0);
      if (backend !== 'device') expect(r.channel.peerAddress(handle)).toEqual(want);
      const v6 = listenTcp({ host: '::1', port: 0 });
      const port = localAddress(v6).port;
      r.channel.accept(r.channel.register(v6, 0));
      const other = net.connect(port, '::1');
      await until(() => r.handles.length === 2);
      expect(r.channel.peerAddress(r.handles[1]!)).toEqual({ family: 'IPv6', host: '::1', port: other.localPort });
      other.destroy();
      r.channel.close(handle);
      expect(() => r.channel.peerAddress(handle)).not.toThrow(TypeError);
    });

    test('a handle that gives way has its turn after the others, and its output goes out whole', async () => {
      const order: string[] = [];
      const turns = new Map<number, number>();
      const r = acceptor({
        onRead(handle) {
          order.push(`read ${r.handles.indexOf(handle)}`);
          if (handle !== r.handles[0]) {
            r.channel.writeCopy(handle, Buffer.from('other'));
            return;
          }
          turns.set(handle, 4);
          r.channel.writeCopy(handle, Buffer.from('0'));
          r.channel.defer(handle);
          r.channel.defer(handle);
        },
        onTurn(handle) {
          order.push('turn');
          const left = turns.get(handle)! - 1;
          turns.set(handle, left);
          r.channel.writeCopy(handle, Buffer.from(String(4 - left)));
          if (left > 0) r.channel.defer(handle);
        },
      });
      const [busy, other] = [await r.client(), await r.client()];
      await until(() => r.handles.length === 2);
      for (const handle of r.handles) r.channel.read(handle);
      /* Both requests stand ready before the channel looks. */
      busy.write('a');
      other.write('b');
      expect((await take(other, 5)).toString()).toBe('other');
      let pieces = 0;
      busy.on('data', () => pieces++);
      expect((await take(busy, 5)).toString()).toBe('01234');
      expect(order.filter((what) => what === 'turn')).toHaveLength(4);
      expect(pieces).toBeLessThanOrEqual(1);
      /* One that is closed meanwhile has no turn any more. */
      const before = order.length;
      busy.write('a');
      await until(() => order.length > before);
      r.channel.defer(r.handles[1]!);
      r.channel.close(r.handles[1]!);
      await take(other);
      const plain = channelWith({});
      expect(() => plain.defer(r.handles[0]!)).toThrow(/closed|onTurn/);
    });

    test('an accept tells how many connections still wait', async () => {
      const pendings: number[] = [];
      const channel = channelWith({
        onAccept(_cookie, socket, pending) {
          pendings.push(pending);
          channel.discard(socket);
        },
      });
      const fd = listenTcp({ host: '127.0.0.1', port: 0 });
      const listener = channel.register(fd, 0);
      const { port } = localAddress(fd);
      const clients = await Promise.all(
        Array.from({ length: 10 }, async () => {
          const client = net.connect(port, '127.0.0.1');
          await once(client, 'connect');
          return client;
        }),
      );
      /* A client is connected when it has heard of the server; that the server has heard of it is another matter. */
      await until(() => native.listenQueue(fd) === 10);
      for (let left = 9; left >= 0; left--) {
        channel.accept(listener, 1);
        dispatchUntil(channel, () => pendings.length === 10 - left);
        expect(pendings.at(-1)).toBe(left);
      }
      for (const client of clients) client.destroy();
    });
  });

  describe('the end of a connection', () => {
    test('close sends what is queued first', async () => {
      const r = acceptor();
      const client = await r.client();
      await until(() => r.handles.length === 1);
      const bytes = pattern(200_000, 1);
      expect(r.channel.writeCopy(r.handles[0]!, bytes)).not.toBe(Write.Full);
      r.channel.close(r.handles[0]!);
      expect((await take(client)).equals(bytes)).toBe(true);
    });

    test('abort drops the queue and reports the region write as cancelled', async () => {
      const written: number[][] = [];
      const r = acceptor({ onWritten: (_h, _c, token, errno) => void written.push([token, errno]) });
      const client = await r.client();
      client.pause();
      await until(() => r.handles.length === 1);
      const memory = new SharedArrayBuffer(32 << 20);
      const region = r.channel.registerRegion(memory);
      r.channel.write(r.handles[0]!, region, 0, memory.byteLength, 9);
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect(() => r.channel.unregisterRegion(region)).toThrow(/ERR_MEGAPIPE_STATE/);
      r.channel.abort(r.handles[0]!);
      await until(() => r.channel.stats().open === 1);
      expect(written.length).toBe(1);
      expect(written[0]![0]).toBe(9);
      expect(written[0]![1]).toBeGreaterThan(0);
      r.channel.unregisterRegion(region);
    });

    test.skipIf(backend === 'device')(
      'reset ends the connection by a reset, though everything of the peer was read',
      async () => {
        const r = acceptor({ onRead: () => r.channel.reset(r.handles[0]!) });
        const client = await r.client();
        await until(() => r.handles.length === 1);
        r.channel.read(r.handles[0]!);
        const failed = new Promise<string>((resolve) =>
          client.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? '')),
        );
        client.write('x');
        expect(await failed).toBe('ECONNRESET');
        await until(() => r.channel.stats().open === 1);
        r.channel.reset(r.handles[0]!);
      },
    );

    test('disconnect ends our side only', async () => {
      const heard: string[] = [];
      const ends: number[] = [];
      const r = acceptor({
        onRead: (_h, _c, offset, length) =>
          void heard.push(Buffer.from(r.channel.memory.subarray(offset, offset + length)).toString()),
        onEnd: (_h, _c, errno) => void ends.push(errno),
      });
      const client = await r.client({ allowHalfOpen: true } as net.TcpNetConnectOpts);
      await until(() => r.handles.length === 1);
      r.channel.read(r.handles[0]!);
      r.channel.writeCopy(r.handles[0]!, Buffer.from('bye'));
      r.channel.disconnect(r.handles[0]!);
      expect((await take(client)).toString()).toBe('bye');
      client.end('still here');
      await until(() => ends.length === 1);
      expect(heard.join('')).toBe('still here');
      expect(ends).toEqual([0]);
    });

    test("a peer's half close is an end without error, and it still hears us", async () => {
      const r = acceptor({
        onEnd(handle, _cookie, errno) {
          expect(errno).toBe(0);
          r.channel.writeCopy(handle, Buffer.from('answer'));
          r.channel.close(handle);
        },
      });
      const client = await r.client({ allowHalfOpen: true } as net.TcpNetConnectOpts);
      await until(() => r.handles.length === 1);
      r.channel.read(r.handles[0]!);
      client.end();
      expect((await take(client)).toString()).toBe('answer');
    });

    test("a peer's reset is an end with ECONNRESET, and later output is dropped quietly", async () => {
      const ends: number[] = [];
      const closed: number[] = [];
      const r = acceptor({
        onEnd(handle, _cookie, errno) {
          ends.push(errno);
          expect(r.channel.writeCopy(handle, Buffer.from('nobody'))).toBe(Write.Sent);
          r.channel.close(handle);
        },
        onClose: (handle) => void closed.push(handle),
      });
      const client = await r.client();
      await until(() => r.handles.length === 1);
      r.channel.read(r.handles[0]!);
      client.resetAndDestroy();
      await until(() => closed.length === 1);
      expect(ends).toEqual([ECONNRESET]);
    });

    test('destroy closes every connection, empties the memory and leaves no descriptor behind', async () => {
      const before = readdirSync('/proc/self/fd').length;
      const closed: number[] = [];
      for (let round = 0; round < 3; round++) {
        const r = new Rig({ backend }, (channel) => ({
          onAccept: (_c, socket) => channel().read(channel().register(socket, 0)),
          onClose: (_handle, cookie) => void closed.push(cookie),
        }));
        const clients = await Promise.all(Array.from({ length: 20 }, () => r.client()));
        await until(() => r.channel.stats().accepts === 20);
        for (const client of clients) client.on('error', () => {}).resume();
        r.channel.destroy();
        expect(r.channel.memory.length).toBe(0);
        expect(() => r.channel.flush()).toThrow(/destroyed/);
        await until(() => clients.every((client) => client.closed));
        r.end();
      }
      /* 20 connections and the listener, each round. */
      expect(closed.length).toBe(63);
      await until(() => readdirSync('/proc/self/fd').length <= before);
    });
  });

  test('behind an idle connection, every other one sees its end at once', async () => {
    const r = acceptor();
    await r.client();
    await until(() => r.handles.length === 1);
    r.channel.read(r.handles[0]!);
    const clients = await Promise.all(Array.from({ length: 20 }, () => r.client()));
    for (const client of clients) client.resume();
    await until(() => r.handles.length === 21);
    for (const handle of r.handles.slice(1)) r.channel.close(handle);
    await until(() => clients.every((client) => client.closed));
    expect(r.channel.stats().open).toBe(2);
  });

  describe('traps', () => {
    test('1, 2: output queued behind a blocked send leaves in order and whole', async () => {
      const r = acceptor();
      const client = await r.client();
      client.pause();
      await until(() => r.handles.length === 1);
      const handle = r.handles[0]!;
      const sent: Buffer[] = [];
      /* Until the socket and the queue are full, in pieces of all sizes; the reader sleeps. */
      for (let i = 1; ; i++) {
        const piece = pattern((i * 977) % 20_000 || 1, i);
        if (r.channel.writeCopy(handle, piece) === Write.Full) {
          if (r.channel.outputBytes(handle) > 200_000) break;
          await new Promise((resolve) => setTimeout(resolve, 1));
        } else sent.push(piece);
        if (i % 7 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      r.channel.close(handle);
      const all = Buffer.concat(sent);
      const got = await take(client);
      expect(got.length).toBe(all.length);
      expect(got.equals(all)).toBe(true);
    });

    test('1, 2: a socket with the smallest send buffer and a sleeping reader gets everything, in order', async () => {
      const r = acceptor();
      const path = `@megapipe-small-${process.pid}-${backend}`;
      const unix = native.socket(NET.AF_UNIX, NET.SOCK_STREAM);
      expect(native.bind(unix, path, 0)).toBe(0);
      expect(native.setsockopt(unix, NET.SOL_SOCKET, NET.SO_SNDBUF, 1)).toBe(0);
      expect(native.listen(unix, 8)).toBe(0);
      r.channel.accept(r.channel.register(unix, 2));
      const client = net.connect({ path: path.replace('@', '\0') });
      await once(client, 'connect');
      client.pause();
      await until(() => r.handles.length === 1);
      const pieces = Array.from({ length: 50 }, (_, i) => pattern(1 + ((i * 613) % 4000), i));
      for (const piece of pieces) {
        expect(r.channel.writeCopy(r.handles[0]!, piece)).not.toBe(Write.Full);
        await new Promise((resolve) => setImmediate(resolve));
      }
      r.channel.close(r.handles[0]!);
      expect((await take(client)).equals(Buffer.concat(pieces))).toBe(true);
    });

    test('2, 7: reserved output and region writes keep their order; memory is free after onWritten, once each', async () => {
      const written: number[] = [];
      const r = acceptor({ onWritten: (_h, _c, token, errno) => void (errno === 0 && written.push(token)) });
      const client = await r.client();
      await until(() => r.handles.length === 1);
      const handle = r.handles[0]!;
      const memory = new SharedArrayBuffer(1 << 20);
      const body = new Uint8Array(memory);
      body.set(pattern(1 << 20, 3));
      const region = r.channel.registerRegion(memory);
      const expected: Buffer[] = [];
      let tokens = 0;
      const got = take(client, 12 * 50_011);
      while (tokens < 12) {
        const header = Buffer.from(`[${String(tokens).padStart(9, '0')}]`);
        const at = r.channel.reserve(handle, header.length);
        if (at < 0) {
          await new Promise((resolve) => setImmediate(resolve));
          continue;
        }
        r.channel.memory.set(header, at);
        r.channel.commit(handle, header.length);
        const offset = tokens * 1000;
        while (r.channel.write(handle, region, offset, 50_000, tokens) === Write.Full)
          await new Promise((resolve) => setImmediate(resolve));
        expected.push(header, Buffer.from(body.slice(offset, offset + 50_000)));
        tokens++;
      }
      expect((await got).equals(Buffer.concat(expected))).toBe(true);
      await until(() => written.length === 12);
      expect(written).toEqual(Array.from({ length: 12 }, (_, i) => i));
      expect(() => r.channel.write(handle, region, 1 << 20, 1, 0)).toThrow(/outside region/);
      expect(() => r.channel.write(handle, region, -1, 1, 0)).toThrow(/outside region/);
      expect(() => r.channel.write(handle, region, Number.NaN, 1, 0)).toThrow(/outside region/);
      expect(() => r.channel.write(handle, region + 1, 0, 1, 0)).toThrow(/no region/);
      expect(() => r.channel.registerRegion(new ArrayBuffer(8) as unknown as SharedArrayBuffer)).toThrow(
        /SharedArrayBuffer/,
      );
    });

    /* An emulated machine takes ten times as long for each. */
    const emulated = process.env['MEGAPIPE_INSIDE_GUEST'] !== undefined;
    test('3: slots are reused under load, and no byte reaches a stranger', async () => {
      const r = rig((channel) => ({ ...echo(channel), onAcceptError() {} }), { maxHandles: 64 });
      let failures = 0;
      const one = async (n: number): Promise<void> => {
        const client = await r.client();
        client.on('error', () => {});
        const bytes = pattern(1 + ((n * 7919) % 9000), n);
        client.write(bytes);
        if (n % 5 === 0) {
          client.destroy();
          return;
        }
        const got = await take(client, bytes.length);
        if (!got.equals(bytes)) failures++;
        if (n % 3 === 0) client.resetAndDestroy();
        else client.destroy();
      };
      let next = 0;
      const worker = async (): Promise<void> => {
        while (next < (emulated ? 400 : 1500)) await one(next++);
      };
      await Promise.all(Array.from({ length: 40 }, worker));
      expect(failures).toBe(0);
      await until(() => r.channel.stats().open === 1);
    });

    const connections = whole && !emulated ? 10_000 : 500;
    test(`3: ${connections} connections opened and ended at random agree with a model, byte for byte`, async () => {
      const r = rig((channel) => ({ ...echo(channel), onAcceptError() {} }), {
        maxHandles: 32,
        recvBuffers: 8,
        recvBufferBytes: 256,
      });
      const opened = fc.record({
        parts: fc.array(fc.integer({ min: 1, max: 900 }), { minLength: 1, maxLength: 4 }),
        end: fc.constantFrom('end', 'reset', 'destroy', 'reset early', 'destroy early'),
      });
      const together = 100;
      await fc.assert(
        fc.asyncProperty(fc.array(opened, { minLength: together, maxLength: together }), async (plan) => {
          await Promise.all(
            plan.map(async ({ parts, end }, n) => {
              const client = await r.client({ allowHalfOpen: true } as net.TcpNetConnectOpts);
              client.on('error', () => {});
              const bytes = parts.map((length, i) => pattern(length, n * 31 + i));
              for (const part of bytes) client.write(part);
              const all = Buffer.concat(bytes);
              if (end === 'end') {
                client.end();
                expect((await take(client)).equals(all)).toBe(true);
              } else {
                /* Some go in the middle of their answer. */
                const wanted = end.endsWith('early') ? all.length >> 1 : all.length;
                expect((await take(client, wanted)).equals(all.subarray(0, wanted))).toBe(true);
                if (end.startsWith('reset')) client.resetAndDestroy();
                else client.destroy();
              }
            }),
          );
        }),
        { numRuns: connections / together, endOnFailure: true },
      );
      await until(() => r.channel.stats().open === 1);
    }, 480_000);

    test('4: with far fewer receive buffers than busy connections, every byte still arrives', async () => {
      const r = rig(echo, { recvBuffers: 8, recvBufferBytes: 256 });
      await Promise.all(
        Array.from({ length: 60 }, async (_, n) => {
          const client = await r.client();
          const bytes = pattern(40_000, n + 1);
          client.write(bytes);
          expect((await take(client, bytes.length)).equals(bytes)).toBe(true);
        }),
      );
      if (backend === 'uring') expect(r.channel.stats().noBuffers).toBeGreaterThan(0);
    });

    test('5: with the smallest queues, hundreds of connections lose nothing and get nothing twice', async () => {
      const r = rig(echo, { sqEntries: 8, cqEntries: 16 });
      await Promise.all(
        Array.from({ length: 300 }, async (_, n) => {
          const client = await r.client();
          const bytes = pattern(2000, n + 1);
          client.write(bytes);
          expect((await take(client, bytes.length)).equals(bytes)).toBe(true);
          client.destroy();
        }),
      );
      await until(() => r.channel.stats().open === 1);
    });

    test('6: a peer that never reads stops being read, and its memory is bounded', async () => {
      const r = rig(echo, { outputMax: 16_384 });
      const client = await r.client();
      client.pause();
      const chunk = Buffer.alloc(1 << 16, 1);
      let sent = 0;
      /* The kernel's buffers fill up, then nothing moves any more. */
      for (let idle = 0; idle < 20 || r.channel.stats().full === 0; ) {
        if (client.writableLength < 1 << 20) {
          client.write(chunk);
          sent += chunk.length;
        }
        const before = r.channel.stats().bytesRead;
        await new Promise((resolve) => setTimeout(resolve, 10));
        idle = r.channel.stats().bytesRead === before ? idle + 1 : 0;
      }
      expect(r.channel.stats().full).toBeGreaterThan(0);
      /* A second connection is served meanwhile. */
      const other = await r.client();
      other.write('ping');
      expect((await take(other, 4)).toString()).toBe('ping');
      /* And when the first one reads again, all of it comes back. */
      client.resume();
      let got = 0;
      client.on('data', (data: Buffer) => {
        got += data.length;
      });
      await until(() => got === sent);
    });

    test('6: Full takes nothing, onDrain comes once it makes sense to go on', async () => {
      let drains = 0;
      const r = acceptor({ onDrain: () => void drains++ }, { outputMax: 8192 });
      const client = await r.client();
      client.pause();
      await until(() => r.handles.length === 1);
      const handle = r.handles[0]!;
      const piece = Buffer.alloc(60_000, 7);
      let taken = 0;
      let before = 0;
      for (let refused = 0; refused < 20; ) {
        if (r.channel.writeCopy(handle, piece) === Write.Full) {
          refused++;
          before = drains;
          expect(r.channel.outputBytes(handle)).toBeLessThanOrEqual(8192 + piece.length);
          expect(r.channel.reserve(handle, 1)).toBe(-1);
          await new Promise((resolve) => setTimeout(resolve, 2));
        } else {
          taken += piece.length;
          refused = 0;
        }
      }
      expect((await take(client, taken)).length).toBe(taken);
      await until(() => drains > before);
      expect(r.channel.writeCopy(handle, piece)).not.toBe(Write.Full);
    });

    test('6: when the output pool is empty, writers wait and are woken', async () => {
      const r = rig(echo, { outputPoolBytes: 1 << 19, outputMax: 1 << 20 });
      await Promise.all(
        Array.from({ length: 30 }, async (_, n) => {
          const client = await r.client();
          const bytes = pattern(150_000, n + 1);
          client.write(bytes);
          await new Promise((resolve) => setTimeout(resolve, 30));
          expect((await take(client, bytes.length)).equals(bytes)).toBe(true);
        }),
      );
    });

    test('9: a flooding peer does not starve the others, nor timers', async () => {
      const r = rig((channel) => ({ ...echo(channel), onRead: flood(channel) }), { drainMax: 8 });
      function flood(channel: () => Channel): Sink['onRead'] {
        return (handle, _cookie, offset, length) => {
          if (length <= 4) channel().writeCopy(handle, channel().memory, offset, offset + length);
        };
      }
      const flooder = await r.client();
      const chunk = Buffer.alloc(1 << 18, 1);
      let stop = false;
      const pump = (): void => {
        while (!stop && flooder.write(chunk));
        if (!stop) flooder.once('drain', pump);
      };
      pump();
      let ticks = 0;
      const timer = setInterval(() => ticks++, 1);
      const other = await r.client();
      for (let i = 0; i < 50; i++) {
        other.write('ping');
        expect((await take(other, 4)).toString()).toBe('ping');
      }
      stop = true;
      clearInterval(timer);
      expect(ticks).toBeGreaterThan(0);
    });

    test('accepting goes on after every handle was in use', async () => {
      const errors: number[] = [];
      const r = rig(
        (channel) => ({
          ...echo(channel),
          onAcceptError: (_cookie, errno) => void errors.push(errno),
        }),
        { maxHandles: 16, maxConnects: 0 },
      );
      const clients = await Promise.all(Array.from({ length: 30 }, () => r.client()));
      await until(() => errors.length > 0);
      expect(errors[0]).toBe(ENFILE);
      for (const client of clients.slice(0, 15)) client.destroy();
      await Promise.all(
        clients.slice(16).map(async (client, n) => {
          const bytes = pattern(100, n);
          client.write(bytes);
          expect((await take(client, 100)).equals(bytes)).toBe(true);
          client.destroy();
        }),
      );
    });

    test('handles tell slots and generations apart', async () => {
      const r = acceptor();
      const first = await r.client();
      await until(() => r.handles.length === 1);
      r.channel.close(r.handles[0]!);
      await until(() => r.channel.stats().open === 1);
      first.destroy();
      await r.client();
      await until(() => r.handles.length === 2);
      expect(r.handles[1]! & SLOT_MASK).toBe(r.handles[0]! & SLOT_MASK);
      expect(r.handles[1]).not.toBe(r.handles[0]);
      expect(() => r.channel.read(r.handles[0]!)).toThrow(/ERR_MEGAPIPE_STALE_HANDLE/);
    });

    test('8: generations and the buffer ring wrap around', async () => {
      const r = rig(echo, { recvBuffers: 8, recvBufferBytes: 256, maxHandles: 16 });
      /* Just below 2^31, where the signed word turns negative, and where the 11 bits of a handle turn to 0. */
      const { generation } = (r.channel as unknown as { slots: { generation: Int32Array } }).slots;
      for (let slot = 0; slot < generation.length; slot++)
        if (r.channel.stats().open === 1)
          generation[slot] = slot === (r.listener & SLOT_MASK) ? generation[slot]! : 0x7fff_fffd;
      for (let n = 0; n < 12; n++) {
        const client = await r.client();
        client.write(pattern(50, n));
        expect((await take(client, 50)).equals(pattern(50, n))).toBe(true);
        client.destroy();
        await until(() => r.channel.stats().open === 1);
      }
      /* The tail of the buffer ring is 16 bits: 70,000 buffers of 256 bytes pass it. */
      const client = await r.client();
      const chunk = pattern(1 << 20, 1);
      let got = 0;
      client.on('data', (data: Buffer) => {
        got += data.length;
      });
      for (let i = 0; i < 18; i++) {
        client.write(chunk);
        await until(() => got === (i + 1) * chunk.length);
      }
      expect(r.channel.stats().bytesRead).toBeGreaterThan(70_000 * 256);
    });

    test('destroy from inside a handler takes effect after it', async () => {
      let ended = 0;
      const r = rig((channel) => ({
        onAccept(_cookie, socket) {
          channel().read(channel().register(socket, 0));
        },
        onRead() {
          channel().destroy();
          expect(channel().memory.length).toBeGreaterThan(0);
        },
        onClose: () => void ended++,
      }));
      const client = await r.client();
      client.on('error', () => {});
      client.write('x');
      await until(() => ended === 2);
      expect(r.channel.memory.length).toBe(0);
    });
  });
});
