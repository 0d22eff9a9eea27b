/**
 * Backend on /dev/megapipe (kernel/), the paper's own kernel side. As with io_uring, TypeScript writes requests into, and
 * reads completions from, memory that it shares with the kernel; here a connection is a `struct socket` without any
 * descriptor, and nothing happens in the kernel but in `enter`.
 *
 * The slot is the index in the channel's table. Slots are laid out as
 *   [0, accepted)      given out by the kernel, to lwsockets
 *   [accepted, count)  chosen here: registered descriptors, outgoing connections
 * user_data: low word = slot and operation, high word = generation of the slot (trap 3). The kernel has a generation of its
 * own for the slots that it gives out; a request must name it.
 * Invariant: every request that will complete is counted in slots.inFlight until its last completion.
 */
import { DEV, type DeviceInfo, NET, native } from '@megapipe/native';
import { SLOT_BITS, SLOT_MASK } from './api.ts';
import { type Arena, addressFamily } from './arena.ts';
import { AtOnce } from './at-once.ts';
import { type Backend, DRAIN_LEAVE, DRAIN_MORE } from './backend.ts';
import type { Channel } from './channel.ts';
import { CompletionQueue } from './completion-queue.ts';
import { errnoMessage, errnoName, MegapipeError } from './errors.ts';
import { ARENA } from './output.ts';
import { NO_SEGMENT, S } from './slots.ts';
import { SubmissionQueue } from './submission-queue.ts';
import { tableLimit } from './uring-setup.ts';

const OP_RECV = 1;
const OP_SEND = 2;
const OP_ACCEPT = 3;
const OP_CONNECT = 4;
const OP_SHUTDOWN = 5;
const OP_CLOSE = 6;
const OP_CANCEL = 7;
const OP_REGISTER = 8;
const OP_ACCEPT_FD = 9;
const OP_INTO = 10;

const EINTR = 4;
const EAGAIN = 11;
const ENOMEM = 12;
const ENFILE = 23;
const EBUSY = 16;
const ENOBUFS = 105;
const EINPROGRESS = 115;
const ECANCELED = 125;

/** Words of a submission entry (64 bytes) and of a completion entry (32 bytes). */
const SQE_WORDS = 16;
const CQE_WORDS = 8;
const CQES_MIN = 16;
/** A CPU mask as the kernel takes it: CPUs 0 … 511. */
const MASK_BYTES = 64;
const SUBMIT_TRIES = 100_000;
/** Set in the result of an enter that libuv's descriptor ended. */
const HOST_FIRED = 0x4000_0000;

function open(channel: Channel, handles: number, chosen: number): DeviceInfo {
  const o = channel.options;
  const { region, recv } = channel.arena;
  /* At least 16 completion entries; a power of two each. */
  const sq = 2 ** Math.ceil(Math.log2(o.sqEntries));
  const cq = 2 ** Math.ceil(Math.log2(Math.max(o.cqEntries, CQES_MIN)));
  const made = native.deviceOpen(sq, cq, handles, chosen, o.recvBuffers, o.recvBufferBytes, region, recv);
  if (typeof made !== 'number') return made;
  const errno = -made;
  const hints: Record<string, string> = {
    ENOENT: 'The module is not loaded; kernel/README.md tells how: modprobe megapipe.',
    EACCES: 'Only root may open it, unless a udev rule says otherwise (kernel/README.md).',
    EMFILE: `${handles} handles are more than RLIMIT_NOFILE, or the module's max_user_handles, allows.`,
    ENOMEM: 'The rings count as locked memory: RLIMIT_MEMLOCK may be too small.',
    ENOSYS: 'The module that is loaded has another version of the interface.',
  };
  const name = errnoName(errno);
  throw new MegapipeError(
    name === 'ENOENT' ? 'ERR_MEGAPIPE_DEVICE_UNAVAILABLE' : name,
    `/dev/megapipe: ${name} (${errnoMessage(errno)}). ${hints[name] ?? ''}`.trim(),
    errno,
    'open',
  );
}

export class DeviceBackend implements Backend {
  readonly name = 'device';
  readonly kind = 0;
  readonly id: number;
  readonly features = null;
  readonly slots: number;

  readonly #channel: Channel;
  readonly #arena: Arena;
  readonly #sq: SubmissionQueue;
  readonly #cq: CompletionQueue;
  readonly #batch: boolean;
  readonly #drainMax: number;
  readonly #accepted: number;
  readonly #free: number[] = [];
  /** The kernel's generation of each slot. */
  readonly #generation: Int32Array;
  /** Lwsockets open now. */
  #open = 0;
  /** The ring of buffer numbers: its rows and counter in `cq.ring`, what was given back, and what the kernel sees of it. */
  readonly #bids: number;
  readonly #bidMask: number;
  readonly #bqTail: number;
  #given = 0;
  readonly #recv: number;
  readonly #recvBytes: number;
  readonly #atOnce = new AtOnce();
  /** Completions that were put aside, CQE_WORDS each, so that the kernel could take requests (trap 5). */
  #aside: number[] = [];
  /** Slots of listeners that the module shares out by CPU. */
  readonly #shared = new Set<number>();
  /** Listeners that found all lwsockets in use: armed again when one is closed. */
  #starved: number[] = [];

  constructor(channel: Channel) {
    const o = channel.options;
    this.#channel = channel;
    this.#arena = channel.arena;
    const scale = Math.min(1, tableLimit() / (2 * o.maxHandles + o.maxConnects));
    this.#accepted = Math.floor(o.maxHandles * scale);
    this.slots = this.#accepted + Math.floor((o.maxHandles + o.maxConnects) * scale);
    for (let i = this.slots - 1; i >= this.#accepted; i--) this.#free.push(i);
    this.#generation = new Int32Array(this.slots);
    const info = open(channel, this.slots, this.slots - this.#accepted);
    this.id = info.id;
    const ring = new Int32Array(info.ring);
    const sqEntries = (info.cqes - info.sqes) / (SQE_WORDS * 4);
    const cqEntries = (info.bids - info.cqes) / (CQE_WORDS * 4);
    const entries = ring.subarray(info.sqes >>> 2, info.cqes >>> 2);
    this.#sq = new SubmissionQueue(ring, info.sqHead >>> 2, info.sqTail >>> 2, entries, sqEntries, SQE_WORDS);
    const [cqHead, cqTail, cqes] = [info.cqHead >>> 2, info.cqTail >>> 2, info.cqes >>> 2];
    /* Posted in enter, a call of this thread, and at no other time. */
    this.#cq = new CompletionQueue(ring, cqHead, cqTail, cqes, cqEntries, CQE_WORDS, false);
    this.#batch = o.batch;
    this.#drainMax = o.drainMax;
    this.#recv = channel.arena.recv;
    this.#recvBytes = o.recvBufferBytes;
    this.#bids = info.bids >>> 2;
    this.#bidMask = o.recvBuffers - 1;
    this.#bqTail = info.bqTail >>> 2;
    for (let bid = 0; bid < o.recvBuffers; bid++) this.#giveBack(bid);
    ring[this.#bqTail] = this.#given;
  }

  // ---------------------------------------------------------------- submission

  /**
   * Until `rows` requests fit. Trap 5: a full queue is handed over first. The kernel takes requests only while it has room for their
   * outcomes.
   */
  #makeRoom(rows = 1): void {
    for (let tries = 0; this.#sq.room() < rows; tries++) {
      if (tries === SUBMIT_TRIES)
        throw new MegapipeError('EBUSY', `/dev/megapipe took no request in ${tries} tries`, EBUSY, 'ioctl');
      this.submit();
      if (this.#sq.room() >= rows) return;
      const { ring } = this.#cq;
      for (let left = this.#cq.ready(); left > 0; left--) {
        const i = this.#cq.take();
        for (let w = 0; w < CQE_WORDS; w++) this.#aside.push(ring[i + w]!);
      }
      this.#cq.publish();
    }
  }

  /** Writes a request and counts it in. Fields that most leave out are 0. */
  #put(
    opcode: number,
    flags: number,
    fd: number,
    addressLow: number,
    addressHigh: number,
    length: number,
    opFlags: number,
    op: number,
    slot: number,
  ): void {
    if (this.#sq.room() <= 0) this.#makeRoom();
    const i = this.#sq.next();
    const q = this.#sq.entries;
    q[i] = opcode | (flags << 8);
    q[i + 1] = fd;
    q[i + 2] = slot;
    q[i + 3] = this.#generation[slot]!;
    q[i + 4] = addressLow;
    q[i + 5] = addressHigh;
    q[i + 6] = length;
    q[i + 7] = 0;
    q[i + 8] = (op << SLOT_BITS) | slot;
    q[i + 9] = this.#channel.slots.generation[slot]!;
    q[i + 10] = 0;
    q[i + 11] = 0;
    q[i + 12] = opFlags;
    q[i + 13] = 0;
    q[i + 14] = 0;
    q[i + 15] = 0;
    this.#sq.push();
    if (!this.#batch) this.submit();
  }

  submit(): void {
    this.#channel.counters.enters++;
    const result = native.uringEnter(this.id, 0, 0);
    if (result < 0) this.#enterFailed(-result);
  }

  #enterFailed(errno: number): void {
    if (errno === EINTR) return;
    throw new MegapipeError(errnoName(errno), `/dev/megapipe: ${errnoMessage(errno)}`, errno, 'ioctl');
  }

  wait(timeoutMs: number): number {
    this.#channel.counters.enters++;
    const busy = this.#atOnce.any || this.#aside.length > 0;
    return native.uringEnter(this.id, 1, busy ? 0 : timeoutMs);
  }

  // ---------------------------------------------------------------- requests

  openFd(fd: number, state: number, _accepted: boolean): number {
    const slot = this.#free.pop();
    if (slot === undefined) return -1;
    const { slots } = this.#channel;
    slots.open(slot, state, fd);
    this.#generation[slot] = slots.generation[slot]!;
    this.#put(DEV.OP_REGISTER, DEV.SQE_SKIP_SUCCESS, fd, 0, 0, 0, 0, OP_REGISTER, slot);
    return slot;
  }

  openShared(fd: number, state: number, cpus: readonly number[]): number {
    const slot = this.#free.pop();
    if (slot === undefined) return -1;
    const { slots } = this.#channel;
    const { words, address } = this.#arena;
    slots.open(slot, state, fd);
    this.#generation[slot] = slots.generation[slot]!;
    /* Where the epoll backend has its events is nothing here. */
    const block = this.#arena.events;
    const mask = block >>> 2;
    words.fill(0, mask, mask + MASK_BYTES / 4);
    for (const cpu of cpus) words[mask + (cpu >>> 5)]! |= 1 << (cpu & 31);
    const at = address + block;
    const [low, high] = [at | 0, (at / 0x1_0000_0000) | 0];
    this.#put(DEV.OP_REGISTER, DEV.SQE_SKIP_SUCCESS, fd, low, high, MASK_BYTES, 0, OP_REGISTER, slot);
    /* The mask is read when the request is carried out. */
    this.#makeRoom(this.#sq.rows);
    this.#shared.add(slot);
    return slot;
  }

  retireShared(slot: number): void {
    if (this.#shared.has(slot)) this.#put(DEV.OP_DISCONNECT, DEV.SQE_SKIP_SUCCESS, 0, 0, 0, 0, 0, OP_CANCEL, slot);
  }

  connect(_addressOffset: number, host: string, port: number): number {
    if (this.#free.length === 0) return -1;
    const fd = native.socket(addressFamily(host), NET.SOCK_STREAM);
    if (fd < 0) return Math.min(fd, -2);
    const result = native.connect(fd, host, port);
    const slot = this.openFd(fd, S.Registered | S.Fd | S.Connecting, true);
    const { slots } = this.#channel;
    /* Also an immediate failure is reported from the loop: the sink is never called from inside a verb. */
    if (result < 0 && result !== -EINPROGRESS) this.#atOnce.connected(slot, slots.generation[slot]!, -result);
    else {
      slots.inFlight[slot]!++;
      this.#put(DEV.OP_POLL, 0, 0, 0, 0, 0, NET.EPOLLOUT, OP_CONNECT, slot);
    }
    return slot;
  }

  armAccept(slot: number): void {
    const { slots } = this.#channel;
    const direct = !(slots.state[slot]! & S.AcceptFd);
    if (direct ? this.#open >= this.#accepted : this.#free.length === 0) {
      this.#starved.push(slot);
      return;
    }
    slots.state[slot]! |= S.Armed;
    slots.inFlight[slot]!++;
    /* As many as there is room for here; descriptors also need a slot of ours each. */
    const room = direct ? this.#accepted - this.#open : this.#free.length;
    const wanted = slots.state[slot]! & S.AcceptAll ? room : Math.min(room, slots.extra[slot]!);
    this.#put(DEV.OP_ACCEPT, 0, 0, 0, 0, wanted, direct ? 0 : DEV.ACCEPT_FD, direct ? OP_ACCEPT : OP_ACCEPT_FD, slot);
  }

  sweepAccept(slot: number): boolean {
    const { slots } = this.#channel;
    const direct = !(slots.state[slot]! & S.AcceptFd);
    if (direct ? this.#open >= this.#accepted : this.#free.length === 0) return false;
    slots.state[slot]! |= S.Armed;
    slots.inFlight[slot]!++;
    this.#put(DEV.OP_ACCEPT, 0, 0, 0, 0, 1, direct ? 0 : DEV.ACCEPT_FD, direct ? OP_ACCEPT : OP_ACCEPT_FD, slot);
    /* Tried at once; what it did not find, it is not to wait for. */
    slots.state[slot]! |= S.Cancelling;
    this.#put(DEV.OP_CANCEL, DEV.SQE_SKIP_SUCCESS, 0, 0, 0, 0, DEV.CANCEL_READ, OP_CANCEL, slot);
    return true;
  }

  armRecv(slot: number): void {
    const { slots } = this.#channel;
    slots.state[slot]! |= S.Armed;
    slots.inFlight[slot]!++;
    this.#put(DEV.OP_READ, 0, 0, 0, 0, 0, DEV.READ_PROVIDED | DEV.READ_MULTISHOT, OP_RECV, slot);
  }

  armInto(slot: number): void {
    const channel = this.#channel;
    const { slots } = channel;
    slots.state[slot]! |= S.IntoArmed;
    slots.inFlight[slot]!++;
    const address = channel.regions.address[slots.intoRegion[slot]!]! + slots.intoOffset[slot]!;
    const high = (address / 0x1_0000_0000) | 0;
    this.#put(DEV.OP_READ, 0, 0, address | 0, high, slots.intoLength[slot]!, 0, OP_INTO, slot);
  }

  cancelInto(slot: number): void {
    this.#put(DEV.OP_CANCEL, DEV.SQE_SKIP_SUCCESS, 0, 0, 0, 0, DEV.CANCEL_READ, OP_CANCEL, slot);
  }

  cancelArmed(slot: number): void {
    this.#channel.slots.state[slot]! |= S.Cancelling;
    this.#put(DEV.OP_CANCEL, DEV.SQE_SKIP_SUCCESS, 0, 0, 0, 0, DEV.CANCEL_READ, OP_CANCEL, slot);
  }

  cancelAll(slot: number): void {
    const which = DEV.CANCEL_READ | DEV.CANCEL_WRITE;
    this.#put(DEV.OP_CANCEL, DEV.SQE_SKIP_SUCCESS, 0, 0, 0, 0, which, OP_CANCEL, slot);
  }

  send(slot: number): void {
    const channel = this.#channel;
    const { slots } = channel;
    const { output } = this.#arena;
    const s = slots.outHead[slot]!;
    slots.state[slot]! |= S.Sending;
    slots.inFlight[slot]!++;
    if (output.segNext[s] !== NO_SEGMENT) {
      const block = this.#arena.takeGather();
      if (block >= 0) {
        this.#sendGather(slot, s, block);
        return;
      }
    }
    /* Low and high words of base + offset by doubles: regions may be larger than 4 GiB. */
    const region = output.segRegion[s]!;
    const address = (region === ARENA ? this.#arena.address : channel.regions.address[region]!) + output.segOffset[s]!;
    const high = (address / 0x1_0000_0000) | 0;
    this.#put(DEV.OP_WRITE, 0, 0, address | 0, high, output.segLength[s]!, 0, OP_SEND, slot);
  }

  /** Several segments as one WRITEV: they leave as one packet where they fit. */
  #sendGather(slot: number, first: number, block: number): void {
    const count = this.#arena.writeIovecs(block, first, this.#channel.regions.address);
    this.#channel.slots.gather[slot] = block;
    const vector = this.#arena.address + block;
    this.#put(DEV.OP_WRITEV, 0, 0, vector | 0, (vector / 0x1_0000_0000) | 0, count, 0, OP_SEND, slot);
  }

  readFile(
    fd: number,
    position: number,
    region: number,
    _address: number,
    offset: number,
    length: number,
    index: number,
  ): void {
    this.#atOnce.readFile(fd, position, region, offset, length, index);
  }

  pending(): boolean {
    return this.#atOnce.any;
  }

  shutdownWrite(slot: number): void {
    const { slots } = this.#channel;
    slots.state[slot]! |= S.Shutting;
    slots.inFlight[slot]!++;
    this.#put(DEV.OP_DISCONNECT, 0, 0, 0, 0, 0, NET.SHUT_WR, OP_SHUTDOWN, slot);
  }

  closeSlot(slot: number): void {
    this.#put(DEV.OP_CLOSE, DEV.SQE_SKIP_SUCCESS, 0, 0, 0, 0, 0, OP_CLOSE, slot);
    this.#shared.delete(slot);
    if (slot < this.#accepted) this.#open--;
    else {
      /* REGISTER must have seen the descriptor before its number is free. */
      this.submit();
      native.close(this.#channel.slots.fd[slot]!);
      this.#free.push(slot);
    }
    if (this.#starved.length > 0) for (const listener of this.#starved.splice(0)) this.#channel.rearm(listener);
  }

  peer(slot: number): { family: number; host: string; port: number } | null {
    const name = native.deviceName(this.id, slot, this.#generation[slot]! >>> 0, 1);
    return typeof name === 'number' ? null : name;
  }

  releaseFd(slot: number): number {
    this.#put(DEV.OP_UNREGISTER, DEV.SQE_SKIP_SUCCESS, 0, 0, 0, 0, 0, OP_CLOSE, slot);
    this.submit();
    this.#shared.delete(slot);
    this.#free.push(slot);
    return native.dup(this.#channel.slots.fd[slot]!, 2);
  }

  closeFd(fd: number): void {
    native.close(fd);
  }

  // ---------------------------------------------------------------- completion

  /** Seen by the kernel only when the batch is published: the bytes stay until then. */
  #giveBack(bid: number): void {
    this.#cq.ring[this.#bids + (this.#given & this.#bidMask)] = bid;
    this.#given = (this.#given + 1) | 0;
  }

  drain(waited: number): number {
    const channel = this.#channel;
    const { counters } = channel;
    let bits = 0;
    if (waited < 0) {
      if (waited !== -EAGAIN) this.#enterFailed(-waited);
    } else if (waited & HOST_FIRED) {
      this.#arena.words[2] = 1;
      bits = DRAIN_LEAVE;
    }
    this.#atOnce.deliver(channel);
    if (this.#aside.length > 0) this.#drainAside();
    const cq = this.#cq;
    const { ring } = cq;
    let left = cq.ready();
    /* Trap 9: a bounded number, so that timers and the other connections get their turn. */
    if (left > this.#drainMax) {
      left = this.#drainMax;
      bits |= DRAIN_MORE;
    }
    try {
      /* A handler may put the rest aside, to make room. */
      for (; left > 0 && cq.ready() > 0; left--) {
        const i = cq.take();
        counters.completions++;
        this.#complete(ring[i]!, ring[i + 1]!, ring[i + 4]!, ring[i + 5]!, ring[i + 6]!, ring[i + 7]!);
      }
    } finally {
      /* Also when a handler threw: what was handled is gone, the rest comes in the next round. */
      cq.publish();
      ring[this.#bqTail] = this.#given;
    }
    return this.#aside.length > 0 ? bits | DRAIN_MORE : bits;
  }

  #drainAside(): void {
    const aside = this.#aside;
    let at = 0;
    try {
      /* Grows while it is worked on. */
      while (at < aside.length) {
        const i = at;
        at += CQE_WORDS;
        this.#channel.counters.completions++;
        this.#complete(aside[i]!, aside[i + 1]!, aside[i + 4]!, aside[i + 5]!, aside[i + 6]!, aside[i + 7]!);
      }
    } finally {
      aside.splice(0, at);
    }
  }

  #complete(low: number, generation: number, result: number, flags: number, index: number, kernel: number): void {
    const channel = this.#channel;
    const { slots } = channel;
    const slot = low & SLOT_MASK;
    const op = low >>> SLOT_BITS;
    if (op === OP_RECV) {
      let offset = 0;
      if (flags & DEV.CQE_BUFFER) {
        const bid = flags >>> DEV.CQE_SHIFT;
        offset = this.#recv + bid * this.#recvBytes;
        this.#giveBack(bid);
      }
      if (slots.generation[slot] !== generation) channel.counters.stale++;
      else if (flags & DEV.CQE_MORE) channel.received(slot, offset, result);
      else this.#recvEnded(slot, offset, result);
    } else if (op === OP_SEND) {
      if (slots.generation[slot] !== generation) {
        channel.counters.stale++;
        return;
      }
      slots.state[slot]! &= ~S.Sending;
      slots.inFlight[slot]!--;
      if (slots.gather[slot]! >= 0) {
        this.#arena.giveGather(slots.gather[slot]!);
        slots.gather[slot] = -1;
      }
      if (result > 0) channel.sent(slot, result);
      else if (result === -EAGAIN || result === -EINTR || result === -ENOBUFS || result === -ENOMEM)
        channel.sent(slot, 0);
      else channel.sendFailed(slot, result === 0 ? ECANCELED : -result);
    } else if (op === OP_ACCEPT || op === OP_ACCEPT_FD)
      this.#acceptCompleted(slot, generation, result, flags, op === OP_ACCEPT, index, kernel);
    else this.#completeRare(op, slot, generation, result);
  }

  /** The last completion of a receive. */
  #recvEnded(slot: number, offset: number, result: number): void {
    const channel = this.#channel;
    const { slots } = channel;
    slots.state[slot]! &= ~(S.Armed | S.Cancelling);
    slots.inFlight[slot]!--;
    if (result > 0) channel.received(slot, offset, result);
    else if (result === 0) channel.ended(slot, 0);
    else if (result === -ENOBUFS) channel.counters.noBuffers++;
    else if (result !== -ECANCELED && result !== -EINTR && result !== -ENOMEM) channel.ended(slot, -result);
    if (slots.state[slot]! & S.Closing) channel.settled(slot);
    else if (slots.state[slot]! & S.Into || channel.wantsRead(slot)) channel.rearm(slot);
  }

  #completeRare(op: number, slot: number, generation: number, result: number): void {
    const channel = this.#channel;
    const { slots } = channel;
    if (op === OP_CANCEL || op === OP_CLOSE) return;
    if (slots.generation[slot] !== generation) {
      channel.counters.stale++;
      return;
    }
    if (op === OP_REGISTER) channel.failSoon(slot, -result);
    else if (op === OP_INTO) {
      slots.inFlight[slot]!--;
      slots.state[slot]! &= ~S.IntoArmed;
      if (result === -EINTR && !(slots.state[slot]! & S.Closing)) channel.rearm(slot);
      else channel.receivedInto(slot, Math.max(result, 0), result < 0 ? -result : 0);
    } else if (op === OP_CONNECT) {
      slots.inFlight[slot]!--;
      const errno = result < 0 ? -result : native.getsockopt(slots.fd[slot]!, NET.SOL_SOCKET, NET.SO_ERROR);
      channel.connected(slot, errno);
    } else if (op === OP_SHUTDOWN) {
      slots.inFlight[slot]!--;
      channel.shutDone(slot);
    }
  }

  #acceptCompleted(
    slot: number,
    generation: number,
    result: number,
    flags: number,
    direct: boolean,
    index: number,
    kernel: number,
  ): void {
    const channel = this.#channel;
    const { slots } = channel;
    const alive = slots.generation[slot] === generation;
    if (!alive) channel.counters.stale++;
    else if (!(flags & DEV.CQE_MORE)) {
      slots.inFlight[slot]!--;
      slots.state[slot]! &= ~(S.Armed | S.Cancelling);
    }
    if (result >= 0) {
      /* The channel's descriptors are closed by this thread, should it end first. */
      if (!direct) native.dup(result, 1);
      else {
        this.#open++;
        this.#generation[index] = kernel;
        slots.open(index, 0, index);
        slots.inFlight[index] = 0;
      }
      if (alive) channel.accepted(slot, direct ? index : -1, result);
      else if (direct) {
        this.closeSlot(index);
        slots.free(index);
      } else native.close(result);
      const full = direct ? this.#open >= this.#accepted : this.#free.length === 0;
      if (alive && full && channel.wantsAccept(slot)) channel.acceptFailed(slot, ENFILE);
    } else if (alive && slots.state[slot]! & S.Sweep) {
      /* Nothing was there: the end of the sweep. */
      slots.state[slot]! &= ~S.Sweep;
    } else if (alive && result !== -ECANCELED && result !== -EINTR) {
      channel.acceptFailed(slot, -result);
      return;
    }
    if (!alive) return;
    if (slots.state[slot]! & S.Closing) channel.settled(slot);
    else if (!(slots.state[slot]! & S.Armed) && (channel.wantsAccept(slot) || slots.state[slot]! & S.Sweep))
      channel.rearm(slot);
  }

  // ---------------------------------------------------------------- the host loop, the end

  armHost(fd: number): void {
    native.deviceHost(this.id, fd);
  }

  disarmHost(_fd: number): void {
    native.deviceHost(this.id, -1);
  }

  destroy(): void {
    /* Closes what is open; the kernel touches our memory only when it is called. */
    native.uringClose(this.id);
    const { slots } = this.#channel;
    for (let slot = this.#accepted; slot < this.slots; slot++)
      if (slots.state[slot]! & S.Used) native.close(slots.fd[slot]!);
  }
}
