/** A sink whose method throws loses nothing and repeats nothing, on each backend. */
import { once } from 'node:events';
import net from 'node:net';
import { describe, expect, it } from 'vitest';
import { Channel, listenTcp, localAddress } from '../src/index.ts';
import { BACKENDS, pattern, sink, take } from './support.ts';

const PIECES = 8;
const PIECE_BYTES = 1000;

describe.each(BACKENDS)('a sink that throws on %s', (backend) => {
  it('in onWritten: each write is reported once and each byte sent once', async () => {
    const memory = new SharedArrayBuffer(PIECES * PIECE_BYTES);
    const content = pattern(PIECES * PIECE_BYTES, 5);
    content.copy(Buffer.from(memory));
    const tokens: number[] = [];
    const closed: number[] = [];
    const channel: Channel = new Channel(
      sink({
        onAccept(_cookie, socket) {
          const handle = channel.register(socket, 0);
          /* Queued in one go, so that they leave with one send. */
          for (let i = 0; i < PIECES; i++) channel.write(handle, region, i * PIECE_BYTES, PIECE_BYTES, i);
        },
        onWritten(handle, _cookie, token) {
          tokens.push(token);
          if (token === 1) throw new Error('thrown in onWritten');
          if (token !== 5) return;
          channel.write(handle, region, 0, PIECE_BYTES, PIECES);
          channel.close(handle);
          throw new Error('thrown again');
        },
        onClose: (handle) => void closed.push(handle),
      }),
      { backend },
    );
    const region = channel.registerRegion(memory);
    const fd = listenTcp({ host: '127.0.0.1', port: 0 });
    const { port } = localAddress(fd);
    channel.accept(channel.register(fd, 0));
    const client = net.connect(port, '127.0.0.1');
    await once(client, 'connect');
    const received = take(client);
    const thrown: string[] = [];
    while (closed.length === 0) {
      try {
        channel.dispatch(0);
      } catch (error) {
        thrown.push((error as Error).message);
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    /* The close itself was only queued. */
    channel.flush();
    expect(thrown).toEqual(['thrown in onWritten', 'thrown again']);
    expect(tokens.toSorted((a, b) => a - b)).toEqual(Array.from({ length: PIECES + 1 }, (_, i) => i));
    const expected = Buffer.concat([content, content.subarray(0, PIECE_BYTES)]);
    expect((await received).equals(expected)).toBe(true);
    expect(channel.stats().open).toBe(1);
    client.destroy();
    channel.destroy();
  });
});
