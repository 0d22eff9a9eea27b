/**
 * What a backend does for Channel, and what Channel does for a backend.
 *
 * Channel keeps the policy (queues, limits, order, life of a handle); a backend carries single requests to the kernel
 * and reports what became of them. Requests may be queued; `submit` (or the wait) hands them over.
 */
import type { BackendName, UringFeatures } from './api.ts';

export interface Backend {
  readonly name: BackendName;
  /** How many handles fit in the end (the kernel's limits may allow fewer than asked for). */
  readonly slots: number;
  /** For the loop attachment: 0 io_uring or /dev/megapipe with a ring id, 1 epoll with a descriptor. */
  readonly kind: 0 | 1;
  readonly id: number;
  /** What the kernel offers; null where that is no question. */
  readonly features: UringFeatures | null;

  /** Makes room for a descriptor: the slot, or -1 when all are taken. `accepted`: this backend made it, with the flags it needs. */
  openFd(fd: number, state: number, accepted: boolean): number;
  /** Likewise a listening TCP socket that the kernel itself shares out among channels, by the CPU that receives a connection. */
  openShared?(fd: number, state: number, cpus: readonly number[]): number;
  /** Leaves what such a socket has to the other channels from now on. */
  retireShared?(slot: number): void;
  /** Starts connecting: the slot, -1 when all are taken; errno < -1 when refused at once. */
  connect(addressOffset: number, host: string, port: number): number;
  armAccept(slot: number): void;
  /**
   * Takes one connection that already waits, if one does; never waits for it. Returns false when it could not be tried.
   */
  sweepAccept(slot: number): boolean;
  armRecv(slot: number): void;
  /** One receive straight into the region that slots.into… names. Only while no other receive is armed. */
  armInto(slot: number): void;
  cancelInto(slot: number): void;
  /** Cancels the armed receive or accept. Its last completion clears Armed. */
  cancelArmed(slot: number): void;
  /** Cancels everything in flight on the slot. */
  cancelAll(slot: number): void;
  /** Sends the slot's queued output. Only when Sending is clear and there is some. */
  send(slot: number): void;
  /** Reads from a regular file into a region (all within bounds); `channel.fileRead(index, result)` follows. */
  readFile(
    fd: number,
    position: number,
    region: number,
    address: number,
    offset: number,
    length: number,
    index: number,
  ): void;
  /** Completions that are here already: a wait would hold them back. */
  pending(): boolean;
  shutdownWrite(slot: number): void;
  /** Nothing is in flight: lets go of the socket. The slot may be reused from the next completion on. */
  closeSlot(slot: number): void;
  /** The peer's address of an lwsocket, or null where it cannot be told. */
  peer(slot: number): { family: number; host: string; port: number } | null;
  /** An lwsocket's close will be a reset; nothing happens where the kernel cannot be told. */
  resetAtClose?(slot: number): void;
  /** Takes the slot's descriptor out without closing it: the fd, or -1 (an lwsocket has none). */
  releaseFd(slot: number): number;
  /** Closes a socket that was accepted and never registered. fd >= 0. */
  closeFd(fd: number): void;

  /** Hands queued requests over without waiting. */
  submit(): void;
  /** Waits (at most timeoutMs, -1 = for ever) after handing queued requests over. Returns what `drain` gets. */
  wait(timeoutMs: number): number;
  /** Delivers completions, at most drainMax. Returns DRAIN bits. `waited`: result of the last wait. */
  drain(waited: number): number;
  /** A round's requests are all queued. `waiting`: somebody waits for memory that completions of sends give back. */
  endRound?(waiting: boolean): void;
  /** Arms libuv's descriptor so that its readiness ends the wait. */
  armHost(fd: number): void;
  disarmHost(fd: number): void;
  /** Cancels all, waits for the kernel, frees. */
  destroy(): void;
}

export const DRAIN_LEAVE = 1;
export const DRAIN_MORE = 2;
/** `waited` when there was no wait before drain. */
export const NO_WAIT = -11;
