/** A worker thread with a channel on a listening descriptor it is given, or busy until it is terminated. */
import { readFile } from 'node:fs/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { Channel, getAffinity, ListenGroup, type ListenGroupShare, setAffinity } from '../../src/index.ts';
import { echo, sink } from '../support.ts';

const { backend, fd, shared, cpu, group } = workerData as {
  backend: 'uring' | 'epoll';
  fd: number;
  shared: boolean;
  cpu?: number;
  /** Instead of fd: the group to join. */
  group?: ListenGroupShare;
};
if (cpu !== undefined) setAffinity([cpu]);
const base = echo(() => channel);
let accepted = 0;
const channel: Channel = new Channel(
  sink({
    ...base,
    onAccept(cookie, socket, pending) {
      accepted++;
      base.onAccept!(cookie, socket, pending);
    },
  }),
  { backend },
);
channel.accept(group ? channel.register(ListenGroup.join(group), 0) : channel.register(fd, 0, { shared }));
channel.attach();
parentPort!.on('message', (message: string) => {
  if (message === 'accepted') parentPort!.postMessage(accepted);
  if (message === 'cpus') parentPort!.postMessage(getAffinity());
  if (message === 'file')
    void readFile(new URL(import.meta.url)).then((bytes) => parentPort!.postMessage(bytes.length));
  if (message === 'exit') process.exit(0);
});
parentPort!.postMessage('ready');
