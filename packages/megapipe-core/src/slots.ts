/**
 * What a channel knows of its handles, as columns of integers: row = slot.
 *
 * A handle is slot + generation. The generation moves on when a slot is freed, so that a completion, or a caller, that
 * still means the former owner is recognised (trap 3: a recycled slot once closed a stranger's connection).
 * Not its job: which slot is free; the backend decides (the kernel does, for direct descriptors).
 */
import { SLOT_BITS, SLOT_MASK } from './api.ts';

/** State bits of a slot. */
export const S = {
  Used: 1 << 0,
  /** A listening socket. */
  Listener: 1 << 1,
  /** `register` was called; an accepted socket starts without it. */
  Registered: 1 << 2,
  /** The user wants bytes. */
  Reading: 1 << 3,
  /** The kernel holds a receive (or accept) request. */
  Armed: 1 << 4,
  /** ... and was told to cancel it. */
  Cancelling: 1 << 5,
  /** The kernel holds a send: the one send in flight (trap 1). */
  Sending: 1 << 6,
  /** In the list of slots with output to submit. */
  Dirty: 1 << 7,
  /** A write answered Full; onDrain is owed. */
  WantDrain: 1 << 8,
  /** ... because the output pool was empty, so no completion of its own may come. */
  PoolWait: 1 << 9,
  /** The peer's end was reported. */
  Ended: 1 << 10,
  /** The connection broke: output is dropped. */
  Broken: 1 << 11,
  /** `disconnect` was called. */
  Shut: 1 << 12,
  /** ... and carried out. */
  ShutDone: 1 << 13,
  /** `close` was called. */
  Closing: 1 << 14,
  /** In the list of slots to be closed at the end of the batch. */
  Finishing: 1 << 15,
  Connecting: 1 << 16,
  /** A regular file descriptor; without it a direct descriptor (lwsocket). */
  Fd: 1 << 17,
  /** Receive ended without a buffer; armed again at the end of the batch. */
  Rearm: 1 << 18,
  /** The kernel executes a shutdown. */
  Shutting: 1 << 19,
  /** The listener accepts until told to stop (no count). */
  AcceptAll: 1 << 20,
  /** The listener's accepted sockets become file descriptors. */
  AcceptFd: 1 << 21,
  /** `readInto` was called; its outcome is owed. */
  Into: 1 << 22,
  /** ... and the kernel holds that request. */
  IntoArmed: 1 << 23,
  /** Not a socket: read and write instead of recv and send. */
  Stream: 1 << 24,
  /** `unregister` was called: the descriptor goes back to the caller instead of being closed. */
  Unregister: 1 << 25,
  /** The descriptor had O_NONBLOCK when it came, and gets it back. */
  WasNonblocking: 1 << 26,
  /** The listener stops: what waits in its queue is still taken, without waiting for more. */
  Sweep: 1 << 27,
  /** `defer` was called: `onTurn` is owed, and output waits for it. */
  Deferred: 1 << 28,
  /** The socket's buffer was full: the kernel waits for room with the next send. */
  Slow: 1 << 29,
} as const;

export const NO_SEGMENT = -1;

export class Slots {
  readonly count: number;
  readonly generation: Int32Array;
  readonly state: Int32Array;
  readonly cookie: Int32Array;
  readonly fd: Int32Array;
  /** Requests the kernel still holds; the slot is freed only at 0. */
  readonly inFlight: Int32Array;
  /** First and last output segment, NO_SEGMENT = none. */
  readonly outHead: Int32Array;
  readonly outTail: Int32Array;
  /** Output taken and not yet accepted by the socket, bytes. */
  readonly outBytes: Float64Array;
  /** Gather block of the send in flight, -1 = none. */
  readonly gather: Int32Array;
  /** Listener: accepts still wanted when not AcceptAll. epoll: interest mask of a connection. */
  readonly extra: Int32Array;
  /** Where `readInto` puts bytes. */
  readonly intoRegion: Int32Array;
  readonly intoOffset: Float64Array;
  readonly intoLength: Int32Array;
  readonly intoToken: Int32Array;

  constructor(count: number) {
    this.count = count;
    this.generation = new Int32Array(count).fill(1);
    this.state = new Int32Array(count);
    this.cookie = new Int32Array(count);
    this.fd = new Int32Array(count).fill(-1);
    this.inFlight = new Int32Array(count);
    this.outHead = new Int32Array(count).fill(NO_SEGMENT);
    this.outTail = new Int32Array(count).fill(NO_SEGMENT);
    this.outBytes = new Float64Array(count);
    this.gather = new Int32Array(count).fill(-1);
    this.extra = new Int32Array(count);
    this.intoRegion = new Int32Array(count);
    this.intoOffset = new Float64Array(count);
    this.intoLength = new Int32Array(count);
    this.intoToken = new Int32Array(count);
  }

  handle(slot: number): number {
    return ((this.generation[slot]! & GENERATION_MASK) << SLOT_BITS) | slot;
  }

  /** The slot of a live handle, -1 for one that was closed (or never was). */
  slot(handle: number): number {
    const slot = handle & SLOT_MASK;
    return slot < this.count &&
      (this.state[slot]! & S.Used) !== 0 &&
      (this.generation[slot]! & GENERATION_MASK) === handle >>> SLOT_BITS
      ? slot
      : -1;
  }

  open(slot: number, state: number, fd: number): void {
    this.state[slot] = S.Used | state;
    this.fd[slot] = fd;
    this.cookie[slot] = 0;
    this.extra[slot] = 0;
  }

  free(slot: number): void {
    this.state[slot] = 0;
    this.fd[slot] = -1;
    /* 0 in the handle's bits is left out: a handle is always > 0. */
    let next = (this.generation[slot]! + 1) | 0;
    if ((next & GENERATION_MASK) === 0) next++;
    this.generation[slot] = next;
  }
}

const GENERATION_MASK = (1 << (31 - SLOT_BITS)) - 1;
