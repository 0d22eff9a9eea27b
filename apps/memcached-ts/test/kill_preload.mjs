/** Loaded into the server by the test of killed threads: SIGUSR2 ends one of its threads, each in turn. */
import { syncBuiltinESMExports } from 'node:module';
import threads from 'node:worker_threads';

if (threads.isMainThread) {
  const running = [];
  const { Worker } = threads;
  threads.Worker = class extends Worker {
    constructor(...args) {
      super(...args);
      running.push(this);
      this.once('exit', () => running.splice(running.indexOf(this), 1));
    }
  };
  syncBuiltinESMExports();
  process.on('SIGUSR2', () => running[0]?.terminate());
}
