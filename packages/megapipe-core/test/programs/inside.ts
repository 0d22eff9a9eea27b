/**
 * Requests made inside the sink whose outcome is known at once: reported although nothing else, no timer and no
 * descriptor, ever wakes the event loop. Prints what came; without it this process would stand still.
 * Usage: inside.ts BACKEND FILE
 */
import { openSync } from 'node:fs';
import { type BackendName, Channel } from '../../src/index.ts';
import { sink } from '../support.ts';

const [backend, file] = process.argv.slice(2) as [BackendName, string];
/** More than the event loop is woken by itself while a process starts. */
const ROUNDS = 200;
const fd = openSync(file, 'r');
const channel: Channel = new Channel(
  sink({
    onReadFile(token) {
      if (token < ROUNDS) channel.readFile(fd, 0, region, 0, 8, token + 1);
      else channel.connect(`${file}.nobody`, 0, 1);
    },
    onConnect(_handle, _cookie, errno) {
      console.log(`errno ${errno}`);
      channel.destroy();
    },
  }),
  { backend },
);
const region = channel.registerRegion(new SharedArrayBuffer(64));
channel.attach();
channel.readFile(fd, 0, region, 0, 8, 1);
