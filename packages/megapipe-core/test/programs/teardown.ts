/**
 * For valgrind.test.ts: channels that are made, used and destroyed, one in a worker thread that is terminated, and one that the end
 * of the process finds alive. Prints "done".
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { Channel, listenTcp } from '../../src/index.ts';
import { BACKENDS, echo, pattern, Rig, sink, take, until } from '../support.ts';

const listener = (): number => listenTcp({ host: '127.0.0.1', port: 0 });

/* With an argument only its last part: what is left without clean-up hooks, to show that the test would see it. */
const abandon = process.argv[2] === 'abandon';
for (const backend of abandon ? [] : BACKENDS) {
  const rig = new Rig({ backend, maxHandles: 64, recvBuffers: 8, recvBufferBytes: 256 }, echo, true, 'group');
  await Promise.all(
    Array.from({ length: 2 }, async (_, n) => {
      const client = await rig.client();
      client.write(pattern(3000, n));
      if (!(await take(client, 3000)).equals(pattern(3000, n))) throw new Error('wrong bytes');
      if (n % 2 === 0) client.resetAndDestroy();
    }),
  );

  /* A client channel, with a region that it sends from and one that it receives into. */
  const region = new SharedArrayBuffer(8192);
  const seen: string[] = [];
  const channel: Channel = new Channel(
    sink({
      onConnect: (handle) => {
        channel.write(handle, id, 0, 4096, 1);
        channel.readInto(handle, id, 4096, 4096, 2);
      },
      onWritten: () => void seen.push('written'),
      onReadInto: () => void seen.push('read'),
    }),
    { backend, maxHandles: 64 },
  );
  const id = channel.registerRegion(region);
  channel.attach();
  channel.connect('127.0.0.1', rig.port, 1);
  await until(() => seen.length === 2);
  channel.destroy();
  rig.end();

  const worker = new Worker(new URL('worker.ts', import.meta.url), {
    workerData: { backend, fd: listener(), shared: false },
  });
  await once(worker, 'message');
  await worker.terminate();
}

const left = new Channel(sink({}), { maxHandles: 64 });
left.accept(left.register(listener(), 0));
left.dispatch(0);
process.stdout.write('done\n');
if (abandon) (process as unknown as { reallyExit(code: number): void }).reallyExit(0);
/* It is not attached, so the process ends by itself, and the addon's clean-up hook finds the channel. */
