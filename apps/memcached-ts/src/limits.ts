/** How read_buf_mem_limit divides: what each worker's channel receives into. Not its job: holding it (worker.ts). */
import type { Settings } from './settings.ts';

/** Bytes that one onRead brings at most. A full one means that more is likely there already. */
export const RECEIVE_BYTES = 4096;
const RECEIVE_BUFFERS = 512;

/** Receive buffers of a worker's channel: a power of two, fewer under a read_buf_mem_limit. */
export function receiveBuffers(settings: Settings): number {
  if (settings.readBufMemLimitBytes === 0) return RECEIVE_BUFFERS;
  const fit = Math.floor(settings.readBufMemLimitBytes / settings.threads / RECEIVE_BYTES);
  return Math.min(RECEIVE_BUFFERS, Math.max(8, 2 ** Math.floor(Math.log2(Math.max(1, fit)))));
}
