/** An echo server process for loop.test.ts: prints its port; argv: backend, what to do with which message. */
import { Channel, listenTcp, localAddress } from '../../src/index.ts';
import { echo, sink } from '../support.ts';

const [backend, mode] = process.argv.slice(2) as ['uring' | 'epoll', string];
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
      base.onRead!(handle, cookie, offset, length);
    },
  }),
  { backend, ...(mode === 'descriptors' ? { lightweight: false } : {}) },
);
if (mode === 'throw')
  process.on('uncaughtException', (error) => {
    console.log(`caught ${error.message}`);
  });
process.on('SIGTERM', () => {
  console.log('term');
  channel.destroy();
});
const fd = listenTcp({ host: '127.0.0.1', port: 0 });
console.log(localAddress(fd).port);
channel.accept(channel.register(fd, 0));
channel.attach();
