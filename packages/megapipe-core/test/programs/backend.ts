/** Prints which backend a channel took, and why: `node backend.ts auto`. */
import { Channel, type ChannelOptions } from '../../src/index.ts';
import { sink } from '../support.ts';

try {
  const channel = new Channel(sink({}), { backend: process.argv[2] as NonNullable<ChannelOptions['backend']> });
  console.log(channel.backend, channel.backendReason);
  channel.destroy();
} catch (error) {
  console.log('thrown', (error as Error).message);
}
