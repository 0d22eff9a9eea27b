/** One echo between two channels, for the trace: prints what came back. */
import { Channel, listenTcp, localAddress } from '../../src/index.ts';
import { dispatchUntil, echo, sink } from '../support.ts';

const backend = process.argv[2] as 'uring' | 'epoll';
const server: Channel = new Channel(sink(echo(() => server)), { backend });
const fd = listenTcp({ host: '127.0.0.1', port: 0 });
const { port } = localAddress(fd);
server.accept(server.register(fd, 0));
let done = false;
const client: Channel = new Channel(
  sink({
    onConnect(handle) {
      client.read(handle);
      client.writeCopy(handle, Buffer.from('pong'));
    },
    onRead(handle, _cookie, offset, length) {
      process.stdout.write(client.memory.subarray(offset, offset + length));
      client.close(handle);
    },
    onClose() {
      done = true;
    },
  }),
  { backend },
);
client.connect('127.0.0.1', port, 9);
while (!done) {
  client.dispatch(5);
  server.dispatch(5);
}
/* Its close was only queued. */
client.flush();
dispatchUntil(server, () => server.stats().open === 1);
client.destroy();
server.destroy();
