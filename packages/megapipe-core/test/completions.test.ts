/**
 * Requests that fail inside io_uring: the kernel itself completes them with the errno that the test wants, since the entry is
 * turned into a NOP with a given result (Linux 6.10) as it is pushed. So kernel and channel agree that it was not
 * carried out. At most the connection that it belongs to dies, and nothing is left behind.
 */
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import net from 'node:net';
import { constants } from 'node:os';
import { ABI, native } from '@megapipe/native';
import { afterEach, describe, expect, test } from 'vitest';
import { Channel, type ChannelOptions, listenTcp, localAddress, type Sink } from '../src/index.ts';
import { SubmissionQueue } from '../src/submission-queue.ts';
import { dispatchUntil, echo, pattern, Rig, sink, take, until } from './support.ts';

const E = constants.errno;
const NOP_INJECT_RESULT = 1;
/** What may stay set: the rest has no meaning for a NOP, and is refused. */
const KEPT_FLAGS = ABI.IOSQE_IO_LINK | ABI.IOSQE_CQE_SKIP_SUCCESS;

const push = SubmissionQueue.prototype.push;
afterEach(() => {
  SubmissionQueue.prototype.push = push;
});

/** Every `nth` request with this opcode fails, `most` times. Returns how many did. */
function inject(opcode: number, errno: number, nth: number, most: number): () => number {
  let seen = 0;
  let failed = 0;
  SubmissionQueue.prototype.push = function (this: SubmissionQueue): void {
    const at = this.next();
    const row = this.entries;
    if ((row[at]! & 0xff) === opcode && failed < most && ++seen % nth === 0) {
      failed++;
      row[at] = ((row[at]! >>> 8) & KEPT_FLAGS) << 8;
      row[at + 6] = -errno;
      row[at + 7] = NOP_INJECT_RESULT;
      row[at + 10] = 0;
      row[at + 11] = 0;
    }
    push.call(this);
  };
  return () => failed;
}

function canInject(): boolean {
  let errno = 0;
  let channel: Channel;
  try {
    channel = new Channel(sink({ onConnect: (_handle, _cookie, error) => void (errno = error) }), { backend: 'uring' });
  } catch {
    return false;
  }
  inject(ABI.OP_CONNECT, E.ETIMEDOUT, 1, 1);
  const fd = listenTcp({ host: '127.0.0.1', port: 0 });
  channel.connect('127.0.0.1', localAddress(fd).port, 0);
  dispatchUntil(channel, () => errno !== 0);
  channel.destroy();
  native.close(fd);
  SubmissionQueue.prototype.push = push;
  return errno === E.ETIMEDOUT;
}

const possible = canInject();

/** Whether a connection survives the error: the request is made again. */
const AGAIN = [E.EAGAIN, E.EINTR, E.ENOBUFS, E.ENOMEM];
const BROKEN = [E.ECONNRESET, E.ETIMEDOUT, E.EPIPE];

interface Case {
  operation: string;
  opcode: number;
  errors: readonly number[];
  options?: ChannelOptions;
  nth?: number;
}

const descriptors: ChannelOptions = { lightweight: false };
const CASES: readonly Case[] = [
  { operation: 'recv', opcode: ABI.OP_RECV, errors: [...AGAIN, ...BROKEN], nth: 3 },
  { operation: 'send', opcode: ABI.OP_SEND, errors: [...AGAIN, ...BROKEN], nth: 5 },
  { operation: 'sendmsg', opcode: ABI.OP_SENDMSG, errors: [...AGAIN, ...BROKEN], nth: 3 },
  /* Few handles: single accepts. A multishot accept is armed once, so the first is the one to fail. */
  {
    operation: 'accept, one by one',
    opcode: ABI.OP_ACCEPT,
    errors: [...AGAIN, E.EMFILE, E.ENFILE, E.ECONNABORTED],
    nth: 3,
  },
  {
    operation: 'accept, multishot',
    opcode: ABI.OP_ACCEPT,
    errors: [...AGAIN, E.EMFILE, E.ENFILE, E.ECONNABORTED],
    options: { maxHandles: 9000 },
    nth: 1,
  },
  {
    operation: 'accept with the peer’s name',
    opcode: ABI.OP_ACCEPT,
    errors: [E.EMFILE, E.ECONNABORTED, E.ENOMEM],
    options: { peerNames: true },
    nth: 3,
  },
  {
    operation: 'accept of descriptors',
    opcode: ABI.OP_ACCEPT,
    errors: [E.EMFILE, E.ENOMEM, E.EINTR],
    options: descriptors,
    nth: 3,
  },
  { operation: 'shutdown', opcode: ABI.OP_SHUTDOWN, errors: AGAIN, nth: 2 },
  { operation: 'close', opcode: ABI.OP_CLOSE, errors: AGAIN, nth: 2 },
  { operation: 'close of descriptors', opcode: ABI.OP_CLOSE, errors: AGAIN, options: descriptors, nth: 2 },
  { operation: 'cancel', opcode: ABI.OP_ASYNC_CANCEL, errors: AGAIN, nth: 2 },
  { operation: 'poll of the event loop', opcode: ABI.OP_POLL_ADD, errors: [...AGAIN, E.EPIPE], nth: 2 },
];

const rows = CASES.flatMap((one) =>
  one.errors.map((errno) => ({
    ...one,
    errno,
    name: Object.entries(E).find(([, value]) => value === errno)![0],
  })),
);

describe.skipIf(!possible)(
  `requests that fail${possible ? '' : ' (skipped: this kernel cannot complete a NOP with a given result, or has no io_uring)'}`,
  () => {
    test.each(rows)('$operation: $name', async ({ opcode, errno, options = {}, nth = 3 }) => {
      const before = readdirSync('/proc/self/fd').length;
      const region = new Uint8Array(new SharedArrayBuffer(64)).fill(0x2e);
      let regionId = -1;
      const written: number[] = [];
      const asked: number[] = [];
      const acceptErrors: number[] = [];
      const make = (channel: () => Channel): Partial<Sink> => {
        const base = echo(channel);
        return {
          ...base,
          onAcceptError: (_cookie, error) => void acceptErrors.push(error),
          onRead(handle, cookie, offset, length) {
            base.onRead!(handle, cookie, offset, length);
            const last = channel().memory[offset + length - 1]!;
            /* The server closes, or half-closes; and a dot out of a region, so that there are several pieces to send. */
            if (last === 0x51) {
              asked.push(asked.length);
              channel().write(handle, regionId, 0, 1, asked.length - 1);
              channel().close(handle);
            } else if (last === 0x44) channel().disconnect(handle);
          },
          onWritten: (_handle, _cookie, token) => void written.push(token),
        };
      };
      const r = new Rig({ backend: 'uring', maxHandles: 64, recvBuffers: 8, ...options }, make, false);
      regionId = r.channel.registerRegion(region.buffer as SharedArrayBuffer);
      const pools = r.channel as unknown as { arena: { output: { smallFree: number; largeFree: number } } };
      const { smallFree, largeFree } = pools.arena.output;
      const failed = inject(opcode, errno, nth, 6);
      r.channel.accept(r.listener);
      let died = 0;
      const one = async (n: number): Promise<void> => {
        const client = net.connect({ port: r.port, host: '127.0.0.1', allowHalfOpen: true });
        client.on('error', () => {});
        await once(client, 'connect');
        const message = (i: number, last: number): Buffer => Buffer.concat([pattern(200, n * 7 + i), Buffer.of(last)]);
        let whole = true;
        for (let i = 0; i < 2 && whole; i++) {
          client.write(message(i, 0));
          whole = (await take(client, 201)).equals(message(i, 0));
        }
        if (whole) {
          const last = [0x51, 0x44, 0][n % 3]!;
          client.write(message(2, last));
          if (last === 0) client.end();
          const all = await take(client);
          whole = all.equals(last === 0x51 ? Buffer.concat([message(2, last), Buffer.of(0x2e)]) : message(2, last));
        }
        /* Whatever happened, the server's end comes: nothing stays open there. */
        if (!whole) died++;
        client.end();
        await until(() => client.closed);
      };
      let next = 0;
      const worker = async (): Promise<void> => {
        while (next < 60) await one(next++);
      };
      await Promise.all(Array.from({ length: 6 }, worker));
      await until(() => r.channel.stats().open === 1);
      expect(failed()).toBeGreaterThan(0);
      if (AGAIN.includes(errno) || opcode === ABI.OP_ACCEPT || opcode === ABI.OP_POLL_ADD) expect(died).toBe(0);
      else {
        expect(died).toBeGreaterThan(0);
        expect(died).toBeLessThanOrEqual(failed());
      }
      expect(acceptErrors.every((error) => error === errno)).toBe(true);
      expect(written.toSorted((a, b) => a - b)).toEqual(asked);
      expect([pools.arena.output.smallFree, pools.arena.output.largeFree]).toEqual([smallFree, largeFree]);
      r.channel.unregisterRegion(regionId);
      r.end();
      await until(() => readdirSync('/proc/self/fd').length <= before);
    });

    test.each([E.ENFILE, E.ENOMEM, E.ECONNRESET, E.ETIMEDOUT, E.EINTR, E.EAGAIN])(
      'connect and the socket before it: errno %i is the outcome of that connect and of no other',
      async (errno) => {
        const server = net.createServer((socket) => socket.end('hello')).listen(0, '127.0.0.1');
        await once(server, 'listening');
        const { port } = server.address() as net.AddressInfo;
        for (const opcode of [ABI.OP_CONNECT, ABI.OP_SOCKET]) {
          const outcomes: number[] = [];
          let closed = 0;
          let hellos = 0;
          const channel: Channel = new Channel(
            sink({
              onConnect(handle, cookie, error) {
                outcomes[cookie] = error;
                if (error) channel.close(handle);
                else channel.read(handle);
              },
              onRead: () => void hellos++,
              onEnd: (handle) => channel.close(handle),
              onClose: () => void closed++,
            }),
            { backend: 'uring', maxConnects: 8 },
          );
          channel.attach();
          const failed = inject(opcode, errno, 4, 4);
          for (let n = 0; n < 16; n++) {
            channel.connect('127.0.0.1', port, n);
            await until(() => closed === n + 1);
          }
          SubmissionQueue.prototype.push = push;
          expect(failed()).toBe(4);
          expect(outcomes).toEqual(Array.from({ length: 16 }, (_, n) => (n % 4 === 3 ? errno : 0)));
          expect(hellos).toBe(12);
          expect(channel.stats().open).toBe(0);
          channel.destroy();
        }
        server.close();
      },
    );

    test.each(AGAIN)('a receive into a region that fails with errno %i is made again', async (errno) => {
      const got: string[] = [];
      const region = new Uint8Array(new SharedArrayBuffer(64));
      let id = -1;
      const r = new Rig({ backend: 'uring' }, (channel) => ({
        onAccept(_cookie, socket) {
          channel().readInto(channel().register(socket, 0), id, 0, 64, 7);
        },
        onReadInto(handle, _cookie, token, bytes, error) {
          got.push(`${token} ${bytes} ${error} ${Buffer.from(region.slice(0, bytes)).toString()}`);
          channel().close(handle);
        },
      }));
      id = r.channel.registerRegion(region.buffer as SharedArrayBuffer);
      const failed = inject(ABI.OP_RECV, errno, 1, 3);
      const client = await r.client();
      client.write('abc');
      await once(client.resume(), 'close');
      expect(failed()).toBe(3);
      expect(got).toEqual(['7 3 0 abc']);
      await until(() => r.channel.stats().open === 1);
      r.end();
    });
  },
);
