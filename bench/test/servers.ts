/** Servers inside a test: small ones on node:net that behave, or misbehave, as told. */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';

export interface TestServer {
  port: number;
  connections: () => number;
  close(): Promise<void>;
}

export function serve(onConnection: (socket: Socket) => void): Promise<TestServer> {
  let count = 0;
  const sockets = new Set<Socket>();
  const server: Server = createServer({ noDelay: true }, (socket) => {
    count++;
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => sockets.delete(socket));
    onConnection(socket);
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      resolve({
        port: (server.address() as AddressInfo).port,
        connections: () => count,
        close: () =>
          new Promise((closed) => {
            for (const socket of sockets) socket.destroy();
            server.close(() => closed());
          }),
      });
    });
  });
}

export function echo(): Promise<TestServer> {
  return serve((socket) => socket.on('data', (data) => socket.write(data)));
}
