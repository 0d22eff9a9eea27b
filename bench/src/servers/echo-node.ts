/** Echo on node:net, as one writes it: `node src/servers/echo-node.ts -p 7000`. The peer that Channel is measured with. */
import { type AddressInfo, createServer } from 'node:net';
import { announce, serverArguments } from './arguments.ts';

const { host, port } = serverArguments();
const server = createServer({ noDelay: true }, (socket) => {
  socket.on('data', (data) => {
    if (socket.write(data)) return;
    socket.pause();
    socket.once('drain', () => socket.resume());
  });
  socket.on('error', () => socket.destroy());
});
server.listen({ host, port, backlog: 4096 }, () => announce(host, (server.address() as AddressInfo).port));
