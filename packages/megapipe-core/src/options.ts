/** A channel's options: what each is without a word from the user, and what it may be. */
import type { ChannelOptions } from './api.ts';
import { MegapipeError, wholeNumber } from './errors.ts';

export type AllOptions = Required<ChannelOptions>;

const DEFAULTS: AllOptions = {
  backend: 'auto',
  maxHandles: 16_384,
  maxConnects: 256,
  recvBuffers: 512,
  recvBufferBytes: 4096,
  outputMax: 256 * 1024,
  outputPoolBytes: 64 * 1024 * 1024,
  lightweight: true,
  peerNames: false,
  batch: true,
  sqEntries: 1024,
  cqEntries: 16_384,
  drainMax: 4096,
};

/** Smallest and largest value of each number. */
const RANGES = {
  maxHandles: [16, 500_000],
  maxConnects: [0, 40_000],
  recvBuffers: [8, 32_768],
  recvBufferBytes: [256, 1 << 20],
  outputMax: [1024, 1 << 30],
  outputPoolBytes: [1 << 19, 1 << 30],
  sqEntries: [8, 32_768],
  cqEntries: [16, 65_536],
  drainMax: [1, 1 << 20],
} as const;

const BACKENDS = ['auto', 'uring', 'device', 'epoll'];

/** All options, checked. Throws ERR_MEGAPIPE_ARGUMENT for a name that is none and a value out of range. */
export function allOptions(options: ChannelOptions): AllOptions {
  const all: AllOptions = { ...DEFAULTS };
  for (const [key, value] of Object.entries(options)) {
    if (!Object.hasOwn(DEFAULTS, key))
      throw new MegapipeError(
        'ERR_MEGAPIPE_ARGUMENT',
        `there is no channel option "${key}"; known: ${Object.keys(DEFAULTS).join(', ')}`,
      );
    if (value !== undefined) Object.assign(all, { [key]: value });
  }
  if (!BACKENDS.includes(all.backend))
    throw new MegapipeError(
      'ERR_MEGAPIPE_ARGUMENT',
      `backend must be auto, uring, device or epoll, got "${all.backend}"`,
    );
  for (const name of Object.keys(RANGES) as (keyof typeof RANGES)[])
    wholeNumber(name, all[name], RANGES[name][0], RANGES[name][1]);
  if (all.recvBuffers & (all.recvBuffers - 1))
    throw new MegapipeError('ERR_MEGAPIPE_ARGUMENT', `recvBuffers must be a power of two, got ${all.recvBuffers}`);
  return all;
}
