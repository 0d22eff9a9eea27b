/**
 * Backend on io_uring: TypeScript writes submission entries into, and reads completion entries from, the mapped rings.
 *
 * lwsockets are direct descriptors: the slot is the index in the ring's file table. Slots are laid out as
 *   [0, accepted)            placed by the kernel (multishot accept), nothing but lwsockets
 *   [accepted, direct)       outgoing connections, lwsockets placed here
 *   [direct, count)          regular descriptors; not in the file table
 * user_data: low word = slot and operation, high word = generation of the slot (trap 3).
 * Invariant: every request that will complete is counted in slots.inFlight until its last completion.
 */
import { ABI, NET, native } from '@megapipe/native';
import { SLOT_BITS, SLOT_MASK, type UringFeatures } from './api.ts';
import { ADDRESS_BYTES, type Arena, addressFamily, NAMED_ACCEPTS, PEER_BYTES } from './arena.ts';
import { type Backend, DRAIN_LEAVE, DRAIN_MORE } from './backend.ts';
import { BufferRing } from './buffer-ring.ts';
import type { Channel } from './channel.ts';
import { CompletionQueue } from './completion-queue.ts';
import { errnoMessage, errnoName, MegapipeError } from './errors.ts';
import { ARENA } from './output.ts';
import { NO_SEGMENT, S, type Slots } from './slots.ts';
import { SubmissionQueue } from './submission-queue.ts';
import { createRing, mustRegister, probeFeatures, tableLimit } from './uring-setup.ts';

const OP_RECV = 1;
const OP_SEND = 2;
const OP_ACCEPT = 3;
const OP_CONNECT = 4;
const OP_SHUTDOWN = 5;
const OP_CLOSE = 6;
const OP_CANCEL = 7;
const OP_HOST = 8;
const OP_SOCKET = 9;
const OP_ACCEPT_FD = 10;
const OP_INTO = 11;
/** A single accept that notes the peer's address: the low word names the buffer for it instead of the slot. */
const OP_ACCEPT_NAMED = 12;
/** A read from a file: the low word has its index in the channel's table instead of a slot. */
const OP_FILE = 13;
/** Closing a regular descriptor: the low word names it instead of the slot, which is free by then. */
const OP_CLOSE_FD = 14;
/** A question about a socket, which is answered while it is submitted: its completion has been seen when its turn comes. */
const OP_ASK = 15;

const EINTR = 4;
const EAGAIN = 11;
const ENOMEM = 12;
const ENFILE = 23;
const EBUSY = 16;
const ETIME = 62;
const ECONNABORTED = 103;
const ENOBUFS = 105;
const ECANCELED = 125;

/** Bytes of a struct linger. */
const LINGER_BYTES = 8;
/** Bytes of an address: of one without a name, of IPv4, of IPv6. */
const UNNAMED_BYTES = 2;
const IPV4_BYTES = 16;
const IPV6_BYTES = 28;

/** Words of a submission entry (64 bytes) and of a completion entry (16 bytes). */
const SQE_WORDS = 16;
const CQE_WORDS = 4;
const BUFFER_GROUP = 0;
const SUBMIT_TRIES = 100_000;
/** Connections that one multishot accept may deliver before it can be stopped: net.core.somaxconn's default. */
const LISTEN_QUEUE_MAX = 4096;
/** Sends up to this are first tried without waiting for room in the socket's buffer, where there nearly always is some. */
const PROMPT_BYTES_MAX = 16 * 1024;
/** Of a larger batch the sends are no reason for a wait of their own: the kernel has other work by then. */
const PROMPT_SENDS_MAX = 20;
const ACCEPTS_AT_ONCE = 32;
const NAMED_ACCEPTS_AT_ONCE = 16;
/** What must be so, and what may not, for a send's completion to be of no interest. */
const PROMPT_STATES =
  S.Used | S.Sending | S.Broken | S.Shut | S.Closing | S.WantDrain | S.Deferred | S.Finishing | S.Dirty;
/** The request was not carried out for want of something that comes back, or was interrupted: it is made again. */
function transient(result: number): boolean {
  return result === -EAGAIN || result === -EINTR || result === -ENOBUFS || result === -ENOMEM;
}

export class UringBackend implements Backend {
  readonly name = 'uring';
  readonly kind = 0;
  readonly id: number;
  readonly features: UringFeatures;
  readonly slots: number;

  readonly #channel: Channel;
  readonly #arena: Arena;
  readonly #sqFlags: number;
  readonly #sq: SubmissionQueue;
  readonly #cq: CompletionQueue;
  readonly #buffers: BufferRing;
  readonly #batch: boolean;
  readonly #drainMax: number;
  readonly #accepted: number;
  readonly #direct: number;
  readonly #freeConnect: number[] = [];
  readonly #freeFd: number[] = [];

  readonly #recvBytes: number;
  /** Accepted lwsockets open now, and those that single accepts in flight may add. */
  #directOpen = 0;
  #promised = 0;
  #promisedFds = 0;
  readonly #peerNames: boolean;
  /** Address buffers of named accepts: the free ones, and the listener of each that is in flight. */
  readonly #namesFree: number[] = [];
  readonly #namedListener = new Int32Array(NAMED_ACCEPTS);
  /** Listeners with a multishot accept armed. */
  readonly #multishots = new Set<number>();
  /** Listeners that found the file table full: armed again when a slot is closed. */
  #starved: number[] = [];
  /** Questions asked so far, which tells their answers apart. */
  #questions = 0;
  /** libuv's descriptor became readable in this batch. */
  #hostFired = false;
  /**
   * Sends among the entries not yet submitted that complete while they are: slots, and bytes of each. If the event loop's wait
   * returned for them alone, there would be nothing to do; so it is for one completion more (control word 3, see native's
   * loop.c), unless something waits for one of them. Above PROMPT_SENDS_MAX: too many to count.
   */
  readonly #promptSlots = new Int32Array(PROMPT_SENDS_MAX);
  readonly #promptBytes = new Int32Array(PROMPT_SENDS_MAX);
  #prompts = 0;

  constructor(channel: Channel) {
    const o = channel.options;
    const arena = channel.arena;
    this.#channel = channel;
    this.#arena = arena;
    const info = createRing(o.sqEntries, o.cqEntries);
    this.id = info.id;
    const ring = new Int32Array(info.ring);
    this.#sqFlags = info.sqFlags >>> 2;
    const sqes = new Int32Array(info.sqes);
    this.#sq = new SubmissionQueue(ring, info.sqHead >>> 2, info.sqTail >>> 2, sqes, info.sqEntries, SQE_WORDS);
    /* Without DEFER_TASKRUN the kernel may post completions at any time. */
    const deferred = (info.flags & ABI.SETUP_DEFER_TASKRUN) !== 0;
    const [cqHead, cqTail, cqes] = [info.cqHead >>> 2, info.cqTail >>> 2, info.cqes >>> 2];
    this.#cq = new CompletionQueue(ring, cqHead, cqTail, cqes, info.cqEntries, CQE_WORDS, !deferred);
    this.#batch = o.batch;
    this.#drainMax = o.drainMax;
    this.#peerNames = o.peerNames;
    if (o.peerNames) for (let i = NAMED_ACCEPTS - 1; i >= 0; i--) this.#namesFree.push(i);
    if (info.sqArray) for (let i = 0; i < info.sqEntries; i++) ring[(info.sqArray >>> 2) + i] = i;

    /* The file table may not be larger than RLIMIT_NOFILE. */
    const limit = tableLimit();
    const wanted = o.maxHandles + o.maxConnects;
    const scale = Math.min(1, limit / wanted);
    const connects = Math.floor(o.maxConnects * scale);
    this.#accepted = Math.floor(o.maxHandles * scale);
    this.#direct = this.#accepted + connects;
    this.slots = this.#direct + o.maxHandles;
    for (let i = this.#direct - 1; i >= this.#accepted; i--) this.#freeConnect.push(i);
    for (let i = this.slots - 1; i >= this.#direct; i--) this.#freeFd.push(i);

    this.#recvBytes = o.recvBufferBytes;
    try {
      mustRegister('a table of direct descriptors', native.uringFiles(this.id, this.#direct));
      mustRegister('a range for accepted sockets', native.uringFileRange(this.id, 0, this.#accepted));
      const { words, halfwords, address, bufferRing, recv } = arena;
      this.#buffers = new BufferRing(
        words,
        halfwords,
        address,
        bufferRing,
        ABI.BUF_RING_TAIL,
        recv,
        o.recvBuffers,
        o.recvBufferBytes,
      );
      mustRegister(
        'a buffer ring',
        native.uringBufferRing(this.id, arena.region, bufferRing, o.recvBuffers, BUFFER_GROUP, 0),
      );
      this.#buffers.publish();
      const { id } = this;
      const [region, scratch, ignored] = [arena.region, arena.scratch, OP_CANCEL << SLOT_BITS];
      this.features = probeFeatures({ id, sq: this.#sq, cq: this.#cq, region, scratch, ignored }, info);
    } catch (error) {
      native.uringClose(this.id);
      throw error;
    }
  }

  // ---------------------------------------------------------------- submission

  /** Index (in words) of a free submission entry. The caller fills all 16 words, then calls #queued. */
  #sqe(): number {
    const sq = this.#sq;
    if (sq.room() <= 0) this.#makeRoom();
    return sq.next();
  }

  /** Trap 5: a full queue is handed over first; the kernel takes every entry (SUBMIT_ALL). */
  #makeRoom(): void {
    for (let tries = 0; this.#sq.room() <= 0; tries++) {
      if (tries === SUBMIT_TRIES)
        throw new MegapipeError('EBUSY', `io_uring_enter took no entry in ${tries} tries`, EBUSY, 'io_uring_enter');
      this.submit();
    }
  }

  #queued(): void {
    this.#sq.push();
    if (!this.#batch) this.submit();
  }

  /** Fills an entry whose remaining fields are zero. */
  #put(
    opcode: number,
    sqeFlags: number,
    ioprio: number,
    fd: number,
    offLow: number,
    offHigh: number,
    addressLow: number,
    addressHigh: number,
    length: number,
    opFlags: number,
    op: number,
    slot: number,
    fileIndex: number,
  ): void {
    const i = this.#sqe();
    const q = this.#sq.entries;
    q[i] = opcode | (sqeFlags << 8) | (ioprio << 16);
    q[i + 1] = fd;
    q[i + 2] = offLow;
    q[i + 3] = offHigh;
    q[i + 4] = addressLow;
    q[i + 5] = addressHigh;
    q[i + 6] = length;
    q[i + 7] = opFlags;
    q[i + 8] = (op << SLOT_BITS) | slot;
    q[i + 9] = this.#channel.slots.generation[slot]!;
    q[i + 10] = 0;
    q[i + 11] = fileIndex;
    q[i + 12] = 0;
    q[i + 13] = 0;
    q[i + 14] = 0;
    q[i + 15] = 0;
    this.#queued();
  }

  submit(): void {
    const channel = this.#channel;
    channel.counters.enters++;
    this.#forgetPrompts();
    const result = native.uringEnter(this.id, 0, 0);
    if (result < 0) this.#enterFailed(-result);
  }

  #enterFailed(errno: number): void {
    /* EBUSY, EAGAIN: completions must be taken first, or memory is short for a moment; entries stay queued. */
    if (errno === EINTR || errno === ETIME || errno === EBUSY || errno === EAGAIN || errno === ENOMEM) return;
    throw new MegapipeError(errnoName(errno), `io_uring_enter: ${errnoMessage(errno)}`, errno, 'io_uring_enter');
  }

  wait(timeoutMs: number): number {
    this.#channel.counters.enters++;
    this.#forgetPrompts();
    return native.uringEnter(this.id, 1, timeoutMs);
  }

  #forgetPrompts(): void {
    this.#prompts = 0;
    this.#arena.words[3] = 0;
  }

  endRound(waiting: boolean): void {
    const { state, outBytes } = this.#channel.slots;
    let count = waiting || this.#prompts > PROMPT_SENDS_MAX ? 0 : this.#prompts;
    for (let i = 0; i < count; i++) {
      const slot = this.#promptSlots[i]!;
      if ((state[slot]! & PROMPT_STATES) !== (S.Used | S.Sending) || outBytes[slot] !== this.#promptBytes[i]) count = 0;
    }
    this.#arena.words[3] = count;
  }

  // ---------------------------------------------------------------- requests

  openFd(fd: number, state: number, accepted: boolean): number {
    const slot = this.#freeFd.pop();
    if (slot === undefined) return -1;
    /* With O_NONBLOCK the kernel answers EAGAIN instead of waiting for readiness itself. */
    const was = accepted ? 0 : native.setBlocking(fd, 1);
    this.#channel.slots.open(slot, was === 1 ? state | S.WasNonblocking : state, fd);
    return slot;
  }

  connect(addressOffset: number, host: string, _port: number): number {
    if (!this.#channel.options.lightweight) return this.#connectFd(addressOffset, host);
    const slot = this.#freeConnect.pop();
    if (slot === undefined) return -1;
    const slots = this.#channel.slots;
    slots.open(slot, S.Registered | S.Connecting, slot);
    const domain = addressFamily(host);
    const fixed = ABI.IOSQE_FIXED_FILE;
    /* Linked: the connect must not start before the socket stands in its slot. Both go in one submission. */
    if (this.#sq.room() < 2) this.submit();
    const batch = this.#batch;
    const at = this.#sqe();
    const q = this.#sq.entries;
    q.fill(0, at, at + 16);
    q[at] = ABI.OP_SOCKET | ((ABI.IOSQE_IO_LINK | ABI.IOSQE_CQE_SKIP_SUCCESS) << 8);
    q[at + 1] = domain;
    q[at + 2] = NET.SOCK_STREAM;
    q[at + 8] = (OP_SOCKET << SLOT_BITS) | slot;
    q[at + 9] = slots.generation[slot]!;
    q[at + 11] = slot + 1;
    this.#sq.push();
    const address = this.#arena.address + addressOffset;
    slots.inFlight[slot] = 1;
    this.#put(
      ABI.OP_CONNECT,
      fixed,
      0,
      slot,
      this.#arena.sockaddrLength(addressOffset),
      0,
      address | 0,
      (address / 0x1_0000_0000) | 0,
      0,
      0,
      OP_CONNECT,
      slot,
      0,
    );
    if (!batch) this.submit();
    return slot;
  }

  #connectFd(addressOffset: number, host: string): number {
    const fd = native.socket(addressFamily(host), NET.SOCK_STREAM);
    if (fd < 0) return Math.min(fd, -2);
    const slot = this.openFd(fd, S.Registered | S.Fd | S.Connecting, false);
    if (slot < 0) {
      native.close(fd);
      return -1;
    }
    const address = this.#arena.address + addressOffset;
    const length = this.#arena.sockaddrLength(addressOffset);
    this.#channel.slots.inFlight[slot] = 1;
    this.#put(
      ABI.OP_CONNECT,
      0,
      0,
      fd,
      length,
      0,
      address | 0,
      (address / 0x1_0000_0000) | 0,
      0,
      0,
      OP_CONNECT,
      slot,
      0,
    );
    return slot;
  }

  /** File-descriptor word and flag of a slot: direct descriptors are named by slot. */
  #fd(slot: number): number {
    return slot < this.#direct ? slot : this.#channel.slots.fd[slot]!;
  }

  /**
   * With direct descriptors, a connection that the kernel accepts when the file table is full is closed at once. So
   * multishot accept, which takes the whole listen queue in one go, is used only while the table has room for that;
   * near its end, requests for one connection each, never more than there are free places.
   */
  armAccept(slot: number): void {
    const slots = this.#channel.slots;
    const state = slots.state[slot]!;
    const direct = !(state & S.AcceptFd);
    const named = direct && this.#peerNames;
    const free = this.#acceptRoom(direct);
    if (!named && state & S.AcceptAll && free > LISTEN_QUEUE_MAX * (this.#multishots.size + 1)) {
      this.#multishots.add(slot);
      this.#putAccept(slot, true, direct);
      return;
    }
    const most = named ? NAMED_ACCEPTS_AT_ONCE : ACCEPTS_AT_ONCE;
    const wanted = state & S.AcceptAll ? most : Math.min(slots.extra[slot]!, most);
    const count = Math.min(wanted, free);
    for (let i = 0; i < count; i++) this.#putSingleAccept(slot, direct);
    if (count === 0 && !this.#starved.includes(slot)) this.#starved.push(slot);
  }

  /** Places for accepted sockets that neither a socket nor a single accept in flight holds. */
  #acceptRoom(direct: boolean): number {
    return direct ? this.#accepted - this.#directOpen - this.#promised : this.#freeFd.length - this.#promisedFds;
  }

  #putSingleAccept(slot: number, direct: boolean): void {
    if (direct) this.#promised++;
    else this.#promisedFds++;
    if (direct && this.#namesFree.length > 0) this.#putNamedAccept(slot, this.#namesFree.pop()!);
    else this.#putAccept(slot, false, direct);
  }

  sweepAccept(slot: number): boolean {
    /* Without batches an entry is gone before it can be told not to wait. */
    if (!this.#batch) return false;
    const direct = !(this.#channel.slots.state[slot]! & S.AcceptFd);
    if (this.#acceptRoom(direct) <= 0) return false;
    if (this.#sq.room() <= 0) this.#makeRoom();
    const entry = this.#sq.next();
    this.#putSingleAccept(slot, direct);
    /* Linux 6.10; older kernels answer EINVAL, which ends the sweep. */
    this.#sq.entries[entry]! |= ABI.ACCEPT_DONTWAIT << 16;
    return true;
  }

  #putNamedAccept(slot: number, name: number): void {
    const slots = this.#channel.slots;
    const arena = this.#arena;
    slots.state[slot]! |= S.Armed;
    slots.inFlight[slot]!++;
    this.#namedListener[name] = slot;
    const lengthAt = arena.acceptNames + NAMED_ACCEPTS * ADDRESS_BYTES + name * 4;
    arena.words[lengthAt >>> 2] = ADDRESS_BYTES;
    const address = arena.address + arena.acceptNames + name * ADDRESS_BYTES;
    const length = arena.address + lengthAt;
    const i = this.#sqe();
    const q = this.#sq.entries;
    q.fill(0, i, i + 16);
    q[i] = ABI.OP_ACCEPT | ((slot < this.#direct ? ABI.IOSQE_FIXED_FILE : 0) << 8);
    q[i + 1] = this.#fd(slot);
    q[i + 2] = length | 0;
    q[i + 3] = (length / 0x1_0000_0000) | 0;
    q[i + 4] = address | 0;
    q[i + 5] = (address / 0x1_0000_0000) | 0;
    q[i + 8] = (OP_ACCEPT_NAMED << SLOT_BITS) | name;
    q[i + 9] = slots.generation[slot]!;
    q[i + 11] = ABI.FILE_INDEX_ALLOC | 0;
    this.#queued();
  }

  /** The peer's address of a slot whose named accept just completed. */
  #notePeer(slot: number, name: number): void {
    const words = this.#arena.words;
    const from = (this.#arena.acceptNames + name * ADDRESS_BYTES) >>> 2;
    const to = (this.#arena.peers + slot * PEER_BYTES) >>> 2;
    for (let i = 0; i < PEER_BYTES >>> 2; i++) words[to + i] = words[from + i]!;
  }

  peer(slot: number): { family: number; host: string; port: number } | null {
    if (this.#peerNames && slot < this.#accepted)
      return native.sockaddrParse(this.#arena.region, this.#arena.peers + slot * PEER_BYTES);
    /* The kernel gives what fits, but no more than there is: IPv4's length tells the family, and then the rest. */
    const { region, scratch, halfwords } = this.#arena;
    if (this.#askPeer(slot, IPV4_BYTES) < 0) {
      if (this.#askPeer(slot, UNNAMED_BYTES) < 0 || halfwords[scratch >>> 1] !== NET.AF_UNIX) return null;
    } else if (halfwords[scratch >>> 1] === NET.AF_INET6 && this.#askPeer(slot, IPV6_BYTES) < 0) return null;
    return native.sockaddrParse(region, scratch);
  }

  resetAtClose(slot: number): void {
    const { scratch, halfwords } = this.#arena;
    /* struct linger { on: 1, seconds: 0 }, on a little-endian machine. */
    halfwords.fill(0, scratch >>> 1, (scratch + LINGER_BYTES) >>> 1);
    halfwords[scratch >>> 1] = 1;
    this.#socketOption(slot, ABI.SOCKET_SETSOCKOPT, NET.SO_LINGER, LINGER_BYTES);
  }

  /** SO_PEERNAME of a direct descriptor: its length, or -errno. */
  #askPeer(slot: number, bytes: number): number {
    return this.#socketOption(slot, ABI.SOCKET_GETSOCKOPT, NET.SO_PEERNAME, bytes);
  }

  /**
   * An option of a direct descriptor, with its value in the scratch chunk: the value's length or 0, or -errno. The request is carried
   * out while it is submitted, and its completion is read where it stands; it is skipped when its turn comes.
   */
  #socketOption(slot: number, command: number, name: number, bytes: number): number {
    const { address, scratch } = this.#arena;
    const to = address + scratch;
    const i = this.#sqe();
    const q = this.#sq.entries;
    const low = (OP_ASK << SLOT_BITS) | slot;
    const question = (this.#questions = (this.#questions + 1) | 0);
    q.fill(0, i, i + 16);
    q[i] = ABI.OP_URING_CMD | (ABI.IOSQE_FIXED_FILE << 8);
    q[i + 1] = slot;
    q[i + 2] = command;
    q[i + 4] = NET.SOL_SOCKET;
    q[i + 5] = name;
    q[i + 8] = low;
    q[i + 9] = question;
    q[i + 11] = bytes;
    q[i + 12] = to | 0;
    q[i + 13] = (to / 0x1_0000_0000) | 0;
    this.#sq.push();
    this.submit();
    const cq = this.#cq;
    for (let ahead = cq.ready() - 1; ahead >= 0; ahead--) {
      const at = cq.peek(ahead);
      if (cq.ring[at] === low && cq.ring[at + 1] === question) return cq.ring[at + 2]!;
    }
    return -EAGAIN;
  }

  #putAccept(slot: number, multishot: boolean, direct: boolean): void {
    const slots = this.#channel.slots;
    slots.state[slot]! |= S.Armed;
    slots.inFlight[slot]!++;
    this.#put(
      ABI.OP_ACCEPT,
      slot < this.#direct ? ABI.IOSQE_FIXED_FILE : 0,
      multishot ? ABI.ACCEPT_MULTISHOT : 0,
      this.#fd(slot),
      0,
      0,
      0,
      0,
      0,
      direct ? 0 : NET.SOCK_CLOEXEC,
      direct ? OP_ACCEPT : OP_ACCEPT_FD,
      slot,
      direct ? ABI.FILE_INDEX_ALLOC | 0 : 0,
    );
  }

  armInto(slot: number): void {
    const slots = this.#channel.slots;
    const state = slots.state[slot]!;
    slots.state[slot] = state | S.IntoArmed;
    slots.inFlight[slot]!++;
    const address = this.#channel.regions.address[slots.intoRegion[slot]!]! + slots.intoOffset[slot]!;
    const stream = (state & S.Stream) !== 0;
    this.#put(
      stream ? ABI.OP_READ : ABI.OP_RECV,
      slot < this.#direct ? ABI.IOSQE_FIXED_FILE : 0,
      0,
      this.#fd(slot),
      stream ? -1 : 0,
      stream ? -1 : 0,
      address | 0,
      (address / 0x1_0000_0000) | 0,
      slots.intoLength[slot]!,
      0,
      OP_INTO,
      slot,
      0,
    );
  }

  cancelInto(slot: number): void {
    this.#cancel(OP_INTO, slot);
  }

  armRecv(slot: number): void {
    const slots = this.#channel.slots;
    slots.state[slot]! |= S.Armed;
    slots.inFlight[slot]!++;
    if (slots.state[slot]! & S.Stream) {
      /* Pipes have no recv; a read at the current position (offset -1), armed anew for each. */
      const flags = ABI.IOSQE_BUFFER_SELECT;
      this.#put(ABI.OP_READ, flags, 0, slots.fd[slot]!, -1, -1, 0, 0, this.#recvBytes, 0, OP_RECV, slot, 0);
      return;
    }
    const i = this.#sqe();
    const q = this.#sq.entries;
    q[i] =
      ABI.OP_RECV |
      ((ABI.IOSQE_BUFFER_SELECT | (slot < this.#direct ? ABI.IOSQE_FIXED_FILE : 0)) << 8) |
      (ABI.RECV_MULTISHOT << 16);
    q[i + 1] = slot < this.#direct ? slot : slots.fd[slot]!;
    q[i + 2] = 0;
    q[i + 3] = 0;
    q[i + 4] = 0;
    q[i + 5] = 0;
    q[i + 6] = 0;
    q[i + 7] = 0;
    q[i + 8] = (OP_RECV << SLOT_BITS) | slot;
    q[i + 9] = slots.generation[slot]!;
    q[i + 10] = BUFFER_GROUP;
    q[i + 11] = 0;
    q[i + 12] = 0;
    q[i + 13] = 0;
    q[i + 14] = 0;
    q[i + 15] = 0;
    this.#queued();
  }

  cancelArmed(slot: number): void {
    const slots = this.#channel.slots;
    slots.state[slot]! |= S.Cancelling;
    if (!(slots.state[slot]! & S.Listener)) this.#cancel(OP_RECV, slot);
    else {
      if (this.#peerNames) this.cancelAll(slot);
      this.#cancel(OP_ACCEPT, slot);
      this.#cancel(OP_ACCEPT_FD, slot);
    }
  }

  #cancel(op: number, slot: number): void {
    const target = (op << SLOT_BITS) | slot;
    const generation = this.#channel.slots.generation[slot]!;
    this.#put(
      ABI.OP_ASYNC_CANCEL,
      ABI.IOSQE_CQE_SKIP_SUCCESS,
      0,
      -1,
      0,
      0,
      target,
      generation,
      0,
      ABI.CANCEL_ALL,
      OP_CANCEL,
      slot,
      0,
    );
  }

  cancelAll(slot: number): void {
    const direct = slot < this.#direct;
    const flags = ABI.CANCEL_FD | ABI.CANCEL_ALL | (direct ? ABI.CANCEL_FD_FIXED : 0);
    this.#put(
      ABI.OP_ASYNC_CANCEL,
      ABI.IOSQE_CQE_SKIP_SUCCESS,
      0,
      this.#fd(slot),
      0,
      0,
      0,
      0,
      0,
      flags,
      OP_CANCEL,
      slot,
      0,
    );
  }

  send(slot: number): void {
    const slots = this.#channel.slots;
    const output = this.#arena.output;
    const s = slots.outHead[slot]!;
    slots.state[slot]! |= S.Sending;
    slots.inFlight[slot]!++;
    if (slots.state[slot]! & S.Stream) {
      const at =
        output.segRegion[s] === ARENA ? this.#arena.address : this.#channel.regions.address[output.segRegion[s]!]!;
      const from = at + output.segOffset[s]!;
      this.#put(
        ABI.OP_WRITE,
        0,
        0,
        slots.fd[slot]!,
        -1,
        -1,
        from | 0,
        (from / 0x1_0000_0000) | 0,
        output.segLength[s]!,
        0,
        OP_SEND,
        slot,
        0,
      );
      return;
    }
    if (output.segNext[s] !== NO_SEGMENT) {
      const block = this.#arena.takeGather();
      if (block >= 0) {
        this.#sendGather(slot, s, block);
        return;
      }
    }
    /* Low and high words of base + offset by doubles: regions may be larger than 4 GiB. */
    const region = output.segRegion[s]!;
    const address =
      (region === ARENA ? this.#arena.address : this.#channel.regions.address[region]!) + output.segOffset[s]!;
    const bytes = output.segLength[s]!;
    const prompt = bytes <= PROMPT_BYTES_MAX && region === ARENA && (slots.state[slot]! & S.Slow) === 0;
    if (!prompt) slots.state[slot]! &= ~S.Slow;
    else {
      if (this.#prompts < PROMPT_SENDS_MAX) {
        this.#promptSlots[this.#prompts] = slot;
        this.#promptBytes[this.#prompts] = bytes;
      }
      this.#prompts++;
    }
    const i = this.#sqe();
    const q = this.#sq.entries;
    q[i] = ABI.OP_SEND | (slot < this.#direct ? ABI.IOSQE_FIXED_FILE << 8 : 0);
    q[i + 1] = slot < this.#direct ? slot : slots.fd[slot]!;
    q[i + 2] = 0;
    q[i + 3] = 0;
    q[i + 4] = address | 0;
    q[i + 5] = (address / 0x1_0000_0000) | 0;
    q[i + 6] = bytes;
    q[i + 7] = prompt ? NET.MSG_DONTWAIT | NET.MSG_WAITALL | NET.MSG_NOSIGNAL : NET.MSG_WAITALL | NET.MSG_NOSIGNAL;
    q[i + 8] = (OP_SEND << SLOT_BITS) | slot;
    q[i + 9] = slots.generation[slot]!;
    q[i + 10] = 0;
    q[i + 11] = 0;
    q[i + 12] = 0;
    q[i + 13] = 0;
    q[i + 14] = 0;
    q[i + 15] = 0;
    this.#queued();
  }

  /** Several segments as one sendmsg: they leave as one packet where they fit. */
  #sendGather(slot: number, first: number, block: number): void {
    const { slots, regions } = this.#channel;
    const { words, address: base } = this.#arena;
    const count = this.#arena.writeIovecs(block + 64, first, regions.address);
    const header = block >>> 2;
    words.fill(0, header, header + 16);
    const vectors = base + block + 64;
    words[header + 4] = vectors | 0;
    words[header + 5] = (vectors / 0x1_0000_0000) | 0;
    words[header + 6] = count;
    slots.gather[slot] = block;
    const message = base + block;
    this.#put(
      ABI.OP_SENDMSG,
      slot < this.#direct ? ABI.IOSQE_FIXED_FILE : 0,
      0,
      this.#fd(slot),
      0,
      0,
      message | 0,
      (message / 0x1_0000_0000) | 0,
      1,
      NET.MSG_WAITALL | NET.MSG_NOSIGNAL,
      OP_SEND,
      slot,
      0,
    );
  }

  readFile(
    fd: number,
    position: number,
    _region: number,
    address: number,
    offset: number,
    length: number,
    index: number,
  ): void {
    const to = address + offset;
    const i = this.#sqe();
    const q = this.#sq.entries;
    q.fill(0, i, i + 16);
    q[i] = ABI.OP_READ;
    q[i + 1] = fd;
    q[i + 2] = position | 0;
    q[i + 3] = (position / 0x1_0000_0000) | 0;
    q[i + 4] = to | 0;
    q[i + 5] = (to / 0x1_0000_0000) | 0;
    q[i + 6] = length;
    q[i + 8] = (OP_FILE << SLOT_BITS) | index;
    this.#queued();
  }

  pending(): boolean {
    return false;
  }

  shutdownWrite(slot: number): void {
    const slots = this.#channel.slots;
    slots.state[slot]! |= S.Shutting;
    slots.inFlight[slot]!++;
    this.#put(
      ABI.OP_SHUTDOWN,
      slot < this.#direct ? ABI.IOSQE_FIXED_FILE : 0,
      0,
      this.#fd(slot),
      0,
      0,
      0,
      0,
      NET.SHUT_WR,
      0,
      OP_SHUTDOWN,
      slot,
      0,
    );
  }

  /** Takes an lwsocket out of the file table, which closes it. */
  #putClose(slot: number): void {
    this.#put(ABI.OP_CLOSE, ABI.IOSQE_CQE_SKIP_SUCCESS, 0, 0, 0, 0, 0, 0, 0, 0, OP_CLOSE, slot, slot + 1);
  }

  closeSlot(slot: number): void {
    const skip = ABI.IOSQE_CQE_SKIP_SUCCESS;
    const fd = this.#channel.slots.fd[slot]!;
    if (slot < this.#direct) {
      this.#putClose(slot);
      if (slot >= this.#accepted) this.#freeConnect.push(slot);
      else this.#directOpen--;
    } else if (this.#channel.slots.state[slot]! & S.Listener) {
      /* At once: its number in a SO_REUSEPORT group must be free when the group hears of it. */
      native.close(fd);
      this.#freeFd.push(slot);
    } else {
      native.dup(fd, 2);
      this.#freeFd.push(slot);
      if (fd <= SLOT_MASK) this.#put(ABI.OP_CLOSE, skip, 0, fd, 0, 0, 0, 0, 0, 0, OP_CLOSE_FD, fd, 0);
      else native.close(fd);
    }
    if (this.#starved.length > 0) {
      const channel = this.#channel;
      for (const listener of this.#starved.splice(0)) channel.rearm(listener);
    }
  }

  releaseFd(slot: number): number {
    const slots = this.#channel.slots;
    const fd = slots.fd[slot]!;
    this.#freeFd.push(slot);
    if (slots.state[slot]! & S.WasNonblocking) native.setBlocking(fd, 0);
    return native.dup(fd, 2);
  }

  closeFd(fd: number): void {
    native.close(fd);
  }

  // ---------------------------------------------------------------- completion

  drain(waited: number): number {
    if (waited < 0) this.#enterFailed(-waited);
    /* Submitted meanwhile, or something waits for one of them. Should a handler throw, nothing may count. */
    if (this.#arena.words[3] === 0) this.#prompts = 0;
    this.#arena.words[3] = 0;
    const cq = this.#cq;
    const ring = cq.ring;
    const counters = this.#channel.counters;
    let left = cq.ready();
    let bits = 0;
    if (ring[this.#sqFlags]! & ABI.SQ_CQ_OVERFLOW) {
      counters.overflows++;
      bits = DRAIN_MORE;
    }
    /* Trap 9: a bounded number, so that timers and the other connections get their turn. */
    if (left > this.#drainMax) {
      left = this.#drainMax;
      bits = DRAIN_MORE;
    }
    if (left === 0) return bits;
    try {
      for (; left > 0; left--) {
        const i = cq.take();
        counters.completions++;
        this.#complete(ring[i]!, ring[i + 1]!, ring[i + 2]!, ring[i + 3]!);
      }
    } finally {
      /* Also when a handler threw: what was handled is gone, the rest comes in the next round. */
      cq.publish();
      this.#buffers.publish();
    }
    if (this.#hostFired) {
      this.#hostFired = false;
      bits |= DRAIN_LEAVE;
    }
    return bits;
  }

  #complete(low: number, generation: number, result: number, flags: number): void {
    const channel = this.#channel;
    const slots = channel.slots;
    const slot = low & SLOT_MASK;
    const op = low >>> SLOT_BITS;
    if (op === OP_RECV) {
      let offset = 0;
      if (flags & ABI.CQE_F_BUFFER) {
        const bid = flags >>> 16;
        offset = this.#buffers.offset(bid);
        /* Seen by the kernel only when the batch is published: the bytes stay until then. */
        this.#buffers.takeBack(bid);
      }
      if (slots.generation[slot] !== generation) {
        channel.counters.stale++;
        return;
      }
      if (flags & ABI.CQE_F_MORE) {
        channel.received(slot, offset, result);
        return;
      }
      this.#recvEnded(slots, slot, offset, result);
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
      if (result > 0) {
        if (result < slots.outBytes[slot]!) slots.state[slot]! |= S.Slow;
        channel.sent(slot, result);
      } else if (transient(result)) {
        slots.state[slot]! |= S.Slow;
        channel.sent(slot, 0);
      } else channel.sendFailed(slot, result === 0 ? ECANCELED : -result);
    } else this.#completeRare(op, slot, generation, result, flags);
  }

  /** The last completion of a receive. */
  #recvEnded(slots: Slots, slot: number, offset: number, result: number): void {
    const channel = this.#channel;
    slots.state[slot]! &= ~(S.Armed | S.Cancelling);
    slots.inFlight[slot]!--;
    if (result > 0) channel.received(slot, offset, result);
    else if (result === 0) channel.ended(slot, 0);
    else if (result === -ENOBUFS) channel.counters.noBuffers++;
    else if (result !== -ECANCELED && !transient(result)) channel.ended(slot, -result);
    if (slots.state[slot]! & S.Closing) channel.settled(slot);
    else if (slots.state[slot]! & S.Into || channel.wantsRead(slot)) channel.rearm(slot);
  }

  #completeRare(op: number, slot: number, generation: number, result: number, flags: number): void {
    const channel = this.#channel;
    const slots = channel.slots;
    if (op === OP_HOST) {
      /*
       * Cancelled when the channel detaches: then nobody waits for it. Any other failure counts as fired: libuv looks for
       * itself, and it is armed again.
       */
      if (result !== -ECANCELED) {
        this.#hostFired = true;
        this.#arena.words[2] = 1;
      }
      return;
    }
    if (op === OP_ASK) return;
    if (op === OP_FILE) {
      channel.fileRead(slot, result);
      return;
    }
    if (op === OP_ACCEPT || op === OP_ACCEPT_FD) {
      this.#acceptCompleted(slot, generation, result, flags, op === OP_ACCEPT);
      return;
    }
    if (op === OP_ACCEPT_NAMED) {
      this.#namesFree.push(slot);
      if (result >= 0) this.#notePeer(result, slot);
      this.#acceptCompleted(this.#namedListener[slot]!, generation, result, flags, true);
      return;
    }
    /* Cancels and closes report failures only. */
    if (op === OP_CLOSE) {
      /* Not carried out: the descriptor is still in the table. Unless `connect` has put another one in its place. */
      if (transient(result) && !(slots.state[slot]! & S.Used)) this.#putClose(slot);
      return;
    }
    if (op === OP_CLOSE_FD) {
      if (transient(result)) native.close(slot);
      return;
    }
    if (op === OP_CANCEL) {
      /* ENOENT, EALREADY: what was to be cancelled has just ended, or is about to. */
      if (!transient(result) || slots.generation[slot] !== generation) return;
      if (slots.state[slot]! & S.Closing) this.cancelAll(slot);
      else if ((slots.state[slot]! & (S.Armed | S.Cancelling)) === (S.Armed | S.Cancelling)) this.cancelArmed(slot);
      return;
    }
    if (slots.generation[slot] !== generation) {
      channel.counters.stale++;
      return;
    }
    if (op === OP_SOCKET) {
      /* Only a failure comes here, and then the kernel reports nothing of the linked connect. */
      slots.inFlight[slot]!--;
      channel.connected(slot, -result);
    } else if (op === OP_INTO) {
      slots.inFlight[slot]!--;
      const again = transient(result);
      slots.state[slot]! &= ~S.IntoArmed;
      if (again && !(slots.state[slot]! & S.Closing)) channel.rearm(slot);
      else channel.receivedInto(slot, Math.max(result, 0), result < 0 ? -result : 0);
    } else if (op === OP_CONNECT) {
      slots.inFlight[slot]!--;
      channel.connected(slot, result < 0 ? -result : 0);
    } else if (op === OP_SHUTDOWN) {
      slots.inFlight[slot]!--;
      if (transient(result) && !(slots.state[slot]! & S.Broken)) this.shutdownWrite(slot);
      else channel.shutDone(slot);
    }
  }

  #acceptCompleted(slot: number, generation: number, result: number, flags: number, direct: boolean): void {
    const channel = this.#channel;
    const slots = channel.slots;
    const alive = slots.generation[slot] === generation;
    const more = (flags & ABI.CQE_F_MORE) !== 0;
    if (!alive) channel.counters.stale++;
    if (alive && !more) {
      slots.inFlight[slot]!--;
      if (slots.inFlight[slot] === 0) slots.state[slot]! &= ~(S.Armed | S.Cancelling);
    }
    if (!more && !this.#multishots.delete(slot)) {
      if (direct) this.#promised--;
      else this.#promisedFds--;
    }
    if (result >= 0) {
      /* The ring made it: this thread closes it, should it end first. */
      if (!direct) native.dup(result, 1);
      if (direct) {
        slots.open(result, 0, result);
        slots.inFlight[result] = 0;
        this.#directOpen++;
      }
      const room = direct ? this.#accepted - this.#directOpen : this.#freeFd.length;
      if (
        this.#multishots.has(slot) &&
        room <= LISTEN_QUEUE_MAX * this.#multishots.size &&
        (slots.state[slot]! & (S.Armed | S.Cancelling)) === S.Armed
      )
        this.cancelArmed(slot);
      if (alive) channel.accepted(slot, direct ? result : -1, result);
      else if (direct) {
        this.closeSlot(result);
        slots.free(result);
      } else native.close(result);
      const full = direct ? this.#accepted === this.#directOpen : this.#freeFd.length === 0;
      if (alive && full && channel.wantsAccept(slot)) channel.acceptFailed(slot, ENFILE);
    } else if (alive && slots.state[slot]! & S.Sweep) {
      /* Nobody waits any more, or this kernel cannot ask without waiting. */
      if (result !== -ECANCELED) slots.state[slot]! &= ~S.Sweep;
    } else if (
      alive &&
      !(slots.state[slot]! & S.Closing) &&
      result !== -ECANCELED &&
      result !== -EINTR &&
      result !== -EAGAIN &&
      result !== -ECONNABORTED
    ) {
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
    this.#putHost(ABI.OP_POLL_ADD, 0, fd, 0, NET.POLLIN, OP_HOST);
  }

  disarmHost(_fd: number): void {
    this.#putHost(ABI.OP_ASYNC_CANCEL, ABI.IOSQE_CQE_SKIP_SUCCESS, -1, OP_HOST << SLOT_BITS, 0, OP_CANCEL);
  }

  /** A request that belongs to no slot: its user_data has generation 0, which no slot ever has. */
  #putHost(opcode: number, sqeFlags: number, fd: number, target: number, opFlags: number, op: number): void {
    const i = this.#sqe();
    const q = this.#sq.entries;
    q.fill(0, i, i + 16);
    q[i] = opcode | (sqeFlags << 8);
    q[i + 1] = fd;
    q[i + 4] = target;
    q[i + 7] = opFlags;
    q[i + 8] = op << SLOT_BITS;
    this.#queued();
  }

  destroy(): void {
    /* uringClose cancels everything in flight and lets the kernel finish before the memory goes. */
    native.uringClose(this.id);
    const slots = this.#channel.slots;
    for (let slot = this.#direct; slot < this.slots; slot++)
      if (slots.state[slot]! & S.Used) native.close(slots.fd[slot]!);
  }
}
