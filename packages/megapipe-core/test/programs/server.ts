/** An echo server process for loop.test.ts: prints its port; argv: backend, what to do with which message. */
import { Channel, listenTcp, localAddress } from '../../src/index.ts';
import { echo, sink } from '../support.ts';

const [backend, mode] = process.argv.slice(2) as ['uring' | 'epoll', string];
const mark = Buffer.from('!');
/** What a promise does after an answer is queued, and nothing wakes the channel for it. */
const later: Record<string, (handle: number) => void> = {
  'more later': (handle) => channel.writeCopy(handle, mark),
  'close later': (handle) => channel.close(handle),
  'disconnect later': (handle) => channel.disconnect(handle),
  'abort later': (handle) => channel.abort(handle),
};
/** Answers of this size take a chunk of which the smallest pool has four. */
const page = Buffer.alloc(10_000, 'x');
const text = (offset: number, length: number): string =>
  Buffer.from(channel.memory.subarray(offset, offset + length)).toString();
const base = echo(() => channel);
const channel: Channel = new Channel(
  sink({
    ...base,
    onAcceptError() {},
    onRead(handle, cookie, offset, length) {
      const said = text(offset, length);
      if (mode === 'throw' && said === 'throw') throw new Error('handler threw');
      if (mode === 'exit' && said === 'exit') process.exit(7);
      if (mode === 'pages') {
        channel.writeCopy(handle, page);
        return;
      }
      base.onRead!(handle, cookie, offset, length);
      const then = later[mode];
      if (then !== undefined) void Promise.resolve().then(() => then(handle));
    },
    onDrain(handle, cookie) {
      if (mode === 'pages') channel.writeCopy(handle, page);
      else base.onDrain!(handle, cookie);
    },
  }),
  {
    backend,
    ...(mode === 'descriptors' ? { lightweight: false } : {}),
    ...(mode === 'pages' ? { outputPoolBytes: 1 << 19 } : {}),
  },
);
if (mode === 'throw')
  process.on('uncaughtException', (error) => {
    console.log(`caught ${error.message}`);
  });
process.on('SIGTERM', () => {
  console.log(`term after ${channel.stats().batches} batches`);
  channel.destroy();
});
const fd = listenTcp({ host: '127.0.0.1', port: 0 });
console.log(localAddress(fd).port);
channel.accept(channel.register(fd, 0));
channel.attach();
