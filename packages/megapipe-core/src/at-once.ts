/**
 * Outcomes that a backend without asynchronous requests knows at once: a connect that was refused, a file that was read.
 *
 * Invariant: they are kept for the loop, since the sink is never called from inside a verb; what the sink asks for while
 * they are delivered comes in the next round. Not its job: waking the loop (Channel does, where `any` says so).
 */
import { native } from '@megapipe/native';
import type { Channel } from './channel.ts';

export class AtOnce {
  /** Slot, generation, errno. */
  #connects: number[] = [];
  /** Index, result. */
  #files: number[] = [];

  get any(): boolean {
    return this.#connects.length > 0 || this.#files.length > 0;
  }

  connected(slot: number, generation: number, errno: number): void {
    this.#connects.push(slot, generation, errno);
  }

  readFile(fd: number, position: number, region: number, offset: number, length: number, index: number): void {
    this.#files.push(index, native.pread(fd, region, offset, length, position));
  }

  deliver(channel: Channel): void {
    if (!this.any) return;
    const connects = this.#connects;
    const files = this.#files;
    this.#connects = [];
    this.#files = [];
    for (let i = 0; i < connects.length; i += 3) {
      const slot = connects[i]!;
      if (channel.slots.generation[slot] !== connects[i + 1]) continue;
      channel.counters.completions++;
      channel.connected(slot, connects[i + 2]!);
    }
    for (let i = 0; i < files.length; i += 2) {
      channel.counters.completions++;
      channel.fileRead(files[i]!, files[i + 1]!);
    }
  }
}
