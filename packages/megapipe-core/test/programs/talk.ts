/**
 * Server and clients in one process that has no timer: should the event loop ever be forgotten, nothing wakes it again,
 * and the process does not end. Arguments: backend, batch (1 or 0).
 */
import net from 'node:net';
import { echo, Rig } from '../support.ts';

const rig = new Rig(
  {
    backend: process.argv[2] as 'uring' | 'epoll',
    batch: process.argv[3] === '1',
    recvBuffers: 8,
    recvBufferBytes: 256,
  },
  echo,
);
const CLIENTS = 60;
const BYTES = 40_000;
let done = 0;
for (let n = 0; n < CLIENTS; n++) {
  const client = net.connect(rig.port, '127.0.0.1');
  client.write(Buffer.alloc(BYTES, n));
  let left = BYTES * 5;
  client.on('data', (data: Buffer) => {
    left -= data.length;
    if (left > 0 && left % BYTES === 0) client.write(Buffer.alloc(BYTES, n));
    if (left === 0) client.end();
  });
  client.on('close', () => {
    if (++done < CLIENTS) return;
    rig.end();
    process.stdout.write('done\n');
  });
}
