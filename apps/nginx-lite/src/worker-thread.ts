/**
 * A worker on a thread of its own.
 *
 * What it is for: connects a worker with the generation that started the thread. Not its job: serving (worker.ts).
 */

import { parentPort, workerData } from 'node:worker_threads';
import type { FromWorker, ToWorker, WorkerStart } from './messages.ts';
import { serve } from './worker.ts';

const port = parentPort;
if (port === null) throw new Error('worker-thread.ts runs as a worker thread of generation.ts');

const send = (message: FromWorker): void => {
  port.postMessage(message);
  // The last message: nothing keeps the thread any more.
  if (message.type === 'done') port.close();
};
const obey = serve(workerData as WorkerStart, send);
port.on('message', (message: ToWorker) => obey(message));
send({ type: 'loaded' });
