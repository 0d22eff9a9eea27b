/**
 * Channel: the paper's verbs, and the policy behind them.
 *
 * A channel carries requests down to a backend and completions up to one sink. It owns: the table of handles, the
 * queue of output of each connection (at most one send in flight), the limits, the order in which things end.
 * Invariants: a slot is freed only when the kernel holds no request on it; the sink is called from `dispatch` (or the
 * event-loop attachment) only, never from inside another call; memory given to the kernel lies in the arena or in a
 * registered region. Not its job: any protocol, and how the kernel is spoken to (backend-*.ts).
 */
import { performance } from 'node:perf_hooks';
import { NET, native } from '@megapipe/native';
import {
  type AcceptedSocket,
  type BackendName,
  type ChannelOptions,
  type ChannelStats,
  type Handle,
  type RegisterOptions,
  type Sink,
  type UringFeatures,
  Write,
  type WriteResult,
} from './api.ts';
import { Arena } from './arena.ts';
import { type Backend, DRAIN_MORE, NO_WAIT } from './backend.ts';
import { DeviceBackend } from './backend-device.ts';
import { EpollBackend } from './backend-epoll.ts';
import { UringBackend } from './backend-uring.ts';
import { Deadlines, TICK_MS } from './deadlines.ts';
import { MegapipeError, systemError } from './errors.ts';
import { FileReads } from './file-reads.ts';
import { type SocketAddress, socketAddress } from './listen.ts';
import { cpuList, ListenGroup } from './listen-group.ts';
import { type AllOptions, allOptions } from './options.ts';
import { ARENA, LARGE_CHUNK_BYTES, SMALL_CHUNK_BYTES } from './output.ts';
import { Regions } from './regions.ts';
import { NO_SEGMENT, S, Slots } from './slots.ts';
import { closed, failed, opened, tracedBackend, tracedSink, tracer, tracing } from './trace.ts';

const EPIPE = 32;
const ENOTSOCK = 88;
const ECANCELED = 125;
/** Marks the parts of a writev but the last. */
const NO_TOKEN = -0x8000_0000;
/** Longest wait of one system call, which takes a 32-bit number. */
const WAIT_MS_MAX = 0x7fff_ffff;
/** Pause before accepting again after the kernel had no descriptor or memory for it. */
const ACCEPT_RETRY_MS = 100;

/** Cookies stand in tables of 32 bits: one that does not fit must not come back as another. */
function checkCookie(verb: string, cookie: number): void {
  if (cookie !== (cookie | 0))
    throw new MegapipeError('ERR_MEGAPIPE_ARGUMENT', `${verb}: cookie must be a 32-bit integer, got ${cookie}`);
}

function checkToken(verb: string, token: number): void {
  if (token !== (token | 0) || token === NO_TOKEN)
    throw new MegapipeError(
      'ERR_MEGAPIPE_ARGUMENT',
      `${verb}: token must be an integer from ${NO_TOKEN + 1} to ${-NO_TOKEN - 1}, got ${token}`,
    );
}

/** Output of a handle that gave way is held back below this, and until the round's number is a multiple of that. */
const HELD_BYTES_MAX = 16_384;
const HELD_ROUNDS_MAX = 32;
/** Turns in a row of a handle that is alone. */
const LONE_TURNS_MAX = 8;

export class Channel {
  /** The backend in use, and why it was chosen. */
  readonly backend: BackendName;
  readonly backendReason: string;
  /** What the kernel offers to a uring channel; null on the others. */
  readonly features: UringFeatures | null;
  /** Received bytes and reserved output live here. */
  readonly memory: Uint8Array;
  /** Most bytes that one `reserve` can ask for. */
  static readonly RESERVE_MAX: number = LARGE_CHUNK_BYTES;

  /** @internal */ readonly sink: Sink;
  /** @internal */ readonly options: AllOptions;
  /** @internal */ readonly slots: Slots;
  /** @internal */ readonly arena: Arena;
  /** @internal */ readonly deadlines: Deadlines;
  /** @internal */ readonly counters = {
    completions: 0,
    batches: 0,
    enters: 0,
    accepts: 0,
    open: 0,
    bytesRead: 0,
    bytesWritten: 0,
    noBuffers: 0,
    stale: 0,
    overflows: 0,
    full: 0,
    poolEmpty: 0,
  };
  /** @internal */ readonly regions: Regions = new Regions();

  readonly #backend: Backend;
  readonly #outputMax: number;
  readonly #outputLow: number;
  #inDrain = false;
  #destroyed = false;
  #destroyLater = false;
  #attached = false;
  #ticker: NodeJS.Timeout | null = null;
  readonly #clockStart = performance.now();
  #now = 0;
  /** The round in which `#now` was read last. */
  #nowRound = -1;

  /* Work for the end of the batch, as stacks of slots. */
  #dirty: Int32Array;
  #dirtyCount = 0;
  #finish: Int32Array;
  #finishCount = 0;
  #rearm: Int32Array;
  #rearmCount = 0;
  #poolWaiters: number[] = [];
  /** Writes that ended without reaching the queue: handle, cookie, token, errno. */
  #orphans: number[] = [];
  readonly #fileReads = new FileReads();
  /** Handles that gave way: slot and generation of each. */
  #deferred: number[] = [];
  /** Tokens of the writes that one send completed. */
  readonly #written: number[] = [];
  /** Requests that could not be made: slot, generation, errno. */
  #failures: number[] = [];
  /** Descriptors accepted and neither registered nor discarded yet. */
  readonly #acceptedFds = new Set<number>();
  /** Whether the user's onAccept takes the number: asking the kernel for it is a system call a round. */
  readonly #countPending: boolean;
  /** Length of a listen queue, asked once a round. */
  #pending = 0;
  #pendingListener = -1;
  #pendingRound = -1;
  #round = 0;
  /** Listeners to arm again, and when. */
  #retries: { slot: number; generation: number; at: number }[] = [];
  /** The group of each listener that was registered as a member of one, by slot. */
  readonly #groups = new Map<number, ListenGroup>();
  /** Listeners to close once their queues are empty, and from when on. */
  #retiring: { slot: number; generation: number; at: number }[] = [];

  constructor(sink: Sink, options: ChannelOptions = {}) {
    const o = allOptions(options);
    this.#countPending = sink.onAccept.length > 2;
    const line = tracing() ? tracer() : null;
    this.sink = line ? tracedSink(sink, line) : sink;
    this.options = o;
    this.#outputMax = o.outputMax;
    this.#outputLow = o.outputMax >> 2;
    this.arena = new Arena(o.recvBuffers, o.recvBufferBytes, o.outputPoolBytes, o.peerNames ? o.maxHandles : 0);
    this.memory = this.arena.memory;
    let backend: Backend | null = null;
    let reason = o.backend === 'auto' ? '' : 'asked for';
    try {
      if (o.backend === 'device') backend = new DeviceBackend(this);
      else if (o.backend !== 'epoll') {
        try {
          backend = new UringBackend(this);
          reason ||= 'io_uring is available';
        } catch (error) {
          if (
            o.backend === 'uring' ||
            !(error instanceof MegapipeError) ||
            !error.code.startsWith('ERR_MEGAPIPE_URING_')
          )
            throw error;
          reason = `${error.message} Using epoll; backend: 'uring' makes this fatal.`;
        }
      }
      backend ??= new EpollBackend(this);
    } catch (error) {
      this.arena.free();
      throw error;
    }
    this.#backend = line ? tracedBackend(backend, () => this.slots, line) : backend;
    this.backend = backend.name;
    this.features = backend.features;
    if (this.features && !this.features.used.lwsockets && options.lightweight === undefined) {
      o.lightweight = false;
      reason +=
        '; without lwsockets, which this kernel (before Linux 6.13) closes only after idle connections have ended';
      this.backendReason = reason;
    }
    this.backendReason = reason;
    this.slots = new Slots(backend.slots);
    this.deadlines = new Deadlines(backend.slots);
    this.#dirty = new Int32Array(backend.slots);
    this.#finish = new Int32Array(backend.slots);
    this.#rearm = new Int32Array(backend.slots);
    this.deadlines.advance(0, () => {});
    if (opened.hasSubscribers) opened.publish({ channel: this, backend: this.backend, reason });
  }

  // ---------------------------------------------------------------- handles

  /**
   * Brings a socket into the channel (the paper's mp_register): a descriptor >= 0 (listening socket, TCP, Unix stream,
   * pipe), which the channel owns from then on unless `shared`, or an lwsocket from `onAccept`. A `ListenGroup` gives the
   * channel a listening socket of its own in that group, for the CPUs of the option `cpus`; it leaves the group with `close`.
   * Throws ERR_MEGAPIPE_CAPACITY when no handle is free, EBADF for a descriptor that is none.
   */
  register(socket: AcceptedSocket | ListenGroup, cookie: number, options: RegisterOptions = {}): Handle {
    this.#alive();
    checkCookie('register', cookie);
    const slots = this.slots;
    if (socket instanceof ListenGroup) return this.#registerMember(socket, cookie, options);
    const cpus = options.cpus === undefined ? null : cpuList(options.cpus);
    if (cpus !== null && this.#backend.openShared === undefined)
      throw new MegapipeError(
        'ERR_MEGAPIPE_ARGUMENT',
        'register: cpus is for a ListenGroup, in which each channel has a listening socket of its own (on backend device also for any listening TCP socket)',
      );
    if (socket < 0) {
      const slot = slots.slot(-socket);
      if (slot < 0 || slots.state[slot]! & (S.Registered | S.Finishing))
        throw new MegapipeError(
          'ERR_MEGAPIPE_STALE_HANDLE',
          `register: lwsocket ${socket} is not (or no longer) waiting to be registered`,
        );
      slots.state[slot]! |= S.Registered;
      slots.cookie[slot] = cookie;
      return -socket;
    }
    let fd = socket;
    let kind = 0;
    const accepted = this.#acceptedFds.delete(fd);
    /* One that this channel accepted is known: the calls below would cost a short connection a tenth of its time. */
    if (!accepted) {
      fd = native.dup(socket, options.shared ? 0 : 1);
      if (fd < 0) throw systemError('register', -fd, `descriptor ${socket}`);
      try {
        kind = native.getsockopt(fd, NET.SOL_SOCKET, NET.SO_ACCEPTCONN) === 1 ? S.Listener : 0;
        if (native.getsockopt(fd, NET.SOL_SOCKET, NET.SO_TYPE) !== NET.SOCK_STREAM)
          throw new MegapipeError(
            'ERR_MEGAPIPE_ARGUMENT',
            `register: descriptor ${fd} is a socket, but not a stream socket`,
          );
      } catch (error) {
        if (error instanceof MegapipeError) {
          if (options.shared) native.close(fd);
          throw error;
        }
        /* Not a socket: a pipe or another stream. */
        kind = S.Stream;
        if (this.backend === 'device') {
          if (options.shared) native.close(fd);
          throw systemError('register', ENOTSOCK, `descriptor ${socket}: /dev/megapipe carries stream sockets only`);
        }
      }
    }
    if (cpus !== null && kind !== S.Listener) {
      if (options.shared) native.close(fd);
      throw new MegapipeError('ERR_MEGAPIPE_ARGUMENT', `register: cpus is for listening sockets; ${socket} is none`);
    }
    const state = S.Registered | S.Fd | kind;
    const slot = cpus === null ? this.#backend.openFd(fd, state, accepted) : this.#backend.openShared!(fd, state, cpus);
    if (slot < 0) {
      if (accepted) this.#acceptedFds.add(fd);
      else if (options.shared) native.close(fd);
      throw new MegapipeError('ERR_MEGAPIPE_CAPACITY', `register: all ${this.options.maxHandles} handles are in use`);
    }
    slots.cookie[slot] = cookie;
    this.counters.open++;
    return slots.handle(slot);
  }

  #registerMember(group: ListenGroup, cookie: number, options: RegisterOptions): Handle {
    if (options.shared)
      throw new MegapipeError('ERR_MEGAPIPE_ARGUMENT', 'register: a ListenGroup makes a socket that is not shared');
    const steered = this.#backend.openShared !== undefined && cpuList(options.cpus).length > 0;
    const fd = steered ? group.addShared(options.cpus) : group.add(options.cpus);
    let handle: Handle;
    try {
      handle = this.register(fd, cookie, steered ? { cpus: options.cpus! } : {});
    } catch (error) {
      native.close(fd);
      group.left(fd);
      throw error;
    }
    this.#groups.set(this.slots.slot(handle), group);
    return handle;
  }

  /**
   * Takes a handle out of the channel without closing its descriptor (mp_unregister): what is pending is cancelled,
   * queued output is dropped, then `onUnregister` hands the descriptor over.
   * Throws ERR_MEGAPIPE_STATE for an lwsocket, which has no existence outside its channel.
   */
  unregister(handle: Handle): void {
    const slot = this.#slot(handle, 'unregister');
    if (!(this.slots.state[slot]! & S.Fd))
      throw new MegapipeError('ERR_MEGAPIPE_STATE', 'unregister: an lwsocket has no descriptor to keep; use close');
    this.#needs('onUnregister', 'unregister');
    this.slots.state[slot]! |= S.Unregister;
    this.abort(handle);
  }

  /**
   * Address of the peer, also after it reset the connection: noted at accept with the option `peerNames`, else asked of the
   * kernel, which is a system call. ERR_MEGAPIPE_STATE where a kernel before 6.7 cannot tell it of an lwsocket. Unix sockets
   * have family `Unix` and usually no host.
   */
  peerAddress(handle: Handle): SocketAddress {
    const slot = this.#slot(handle, 'peerAddress');
    const name =
      this.slots.state[slot]! & S.Fd ? native.getsockname(this.slots.fd[slot]!, 1) : this.#backend.peer(slot);
    if (name === null)
      throw new MegapipeError(
        'ERR_MEGAPIPE_STATE',
        'peerAddress: this kernel cannot tell the address of an lwsocket; the option peerNames notes it at accept',
      );
    if (typeof name === 'number') throw systemError('getpeername', -name, `handle ${handle}`);
    return socketAddress(name);
  }

  /**
   * Address the peer reached: of interest where the listener is bound to all. For descriptors only: the kernel has no way to ask
   * it of an lwsocket (ERR_MEGAPIPE_STATE); accept with `lightweight` false where it is needed.
   */
  localAddress(handle: Handle): SocketAddress {
    const slot = this.#slot(handle, 'localAddress');
    if ((this.slots.state[slot]! & S.Fd) === 0)
      throw new MegapipeError(
        'ERR_MEGAPIPE_STATE',
        'localAddress: an lwsocket cannot be asked; accept it as a descriptor',
      );
    const name = native.getsockname(this.slots.fd[slot]!, 0);
    if (typeof name === 'number') throw systemError('getsockname', -name, `handle ${handle}`);
    return socketAddress(name);
  }

  /** Closes an accepted socket that was never registered. */
  discard(socket: AcceptedSocket): void {
    this.#alive();
    if (socket >= 0) {
      if (!this.#acceptedFds.delete(socket))
        throw new MegapipeError(
          'ERR_MEGAPIPE_STALE_HANDLE',
          `discard: descriptor ${socket} is not waiting to be registered`,
        );
      this.#backend.closeFd(socket);
    } else {
      const slot = this.slots.slot(-socket);
      if (slot < 0 || this.slots.state[slot]! & (S.Registered | S.Finishing))
        throw new MegapipeError(
          'ERR_MEGAPIPE_STALE_HANDLE',
          `discard: lwsocket ${socket} is not waiting to be registered`,
        );
      this.#finishSoon(slot);
    }
  }

  setCookie(handle: Handle, cookie: number): void {
    checkCookie('setCookie', cookie);
    this.slots.cookie[this.#slot(handle, 'setCookie')] = cookie;
  }

  cookieOf(handle: Handle): number {
    return this.slots.cookie[this.#slot(handle, 'cookieOf')]!;
  }

  /**
   * Accepts `count` connections (default: for ever) from a listening socket (mp_accept); each arrives at `onAccept`,
   * as an lwsocket or, with `lightweight` false, as a descriptor.
   */
  accept(
    listener: Handle,
    count: number = Number.POSITIVE_INFINITY,
    lightweight: boolean = this.options.lightweight,
  ): void {
    const slot = this.#slot(listener, 'accept');
    const slots = this.slots;
    if (!(slots.state[slot]! & S.Listener))
      throw new MegapipeError('ERR_MEGAPIPE_STATE', 'accept: the handle is not a listening socket');
    if (!(count >= 1))
      throw new MegapipeError('ERR_MEGAPIPE_ARGUMENT', `accept: count must be at least 1, got ${count}`);
    let state = (slots.state[slot]! | S.Reading) & ~S.Sweep;
    if (lightweight) state &= ~S.AcceptFd;
    else state |= S.AcceptFd;
    if (count === Number.POSITIVE_INFINITY) state |= S.AcceptAll;
    else {
      state &= ~S.AcceptAll;
      slots.extra[slot] = Math.min(slots.extra[slot]! + count, 0x7fffffff);
    }
    slots.state[slot] = state;
    if (!(state & S.Armed)) this.#backend.armAccept(slot);
    this.#poke();
  }

  /**
   * Stops accepting. Connections that wait already still arrive: the kernel wakes one of several waiters for each, so one
   * that was meant for this channel might otherwise wait until the next one comes to another.
   */
  acceptStop(listener: Handle): void {
    const slot = this.#slot(listener, 'acceptStop');
    const slots = this.slots;
    slots.extra[slot] = 0;
    slots.state[slot]! = (slots.state[slot]! | S.Sweep) & ~(S.Reading | S.AcceptAll);
    this.#cancelArmed(slot);
    this.rearm(slot);
  }

  /**
   * Closes a listening socket without losing a connection that a client has seen established: goes on accepting for
   * `graceMs` (handshakes on the way need their round trip) and until its queue is empty, then closes; `onClose` tells.
   * New connections go to the other members of its `ListenGroup`; throws ERR_MEGAPIPE_STATE when it is the last. Where the
   * socket was made by `ListenGroup.add`, call `ListenGroup.retire` first. What arrives later still is reset by the
   * kernel, unless net.ipv4.tcp_migrate_req is 1.
   */
  retire(listener: Handle, graceMs = 1000): void {
    const slot = this.#slot(listener, 'retire');
    if (!(this.slots.state[slot]! & S.Listener))
      throw new MegapipeError('ERR_MEGAPIPE_STATE', 'retire: the handle is not a listening socket');
    this.#groups.get(slot)?.retire(this.slots.fd[slot]!);
    this.#backend.retireShared?.(slot);
    this.accept(listener);
    this.#retiring.push({ slot, generation: this.slots.generation[slot]!, at: this.#clock() + graceMs });
    if (this.#attached && this.#ticker === null) this.#startTicker();
  }

  /** Connects to an IPv4 or IPv6 address, or an absolute path of a Unix socket (port is then ignored). `onConnect` follows. */
  connect(host: string, port: number, cookie: number): Handle {
    this.#alive();
    checkCookie('connect', cookie);
    const at = this.arena.sockaddr(host, port);
    if (at < 0)
      throw new MegapipeError('ERR_MEGAPIPE_CAPACITY', 'connect: a channel remembers at most 256 different addresses');
    const slot = this.#backend.connect(at, host, port);
    if (slot === -1)
      throw new MegapipeError(
        'ERR_MEGAPIPE_CAPACITY',
        'connect: all handles for outgoing connections are in use (option maxConnects)',
      );
    if (slot < -1) throw systemError('connect', -slot, `${host} port ${port}`);
    this.slots.cookie[slot] = cookie;
    this.counters.open++;
    this.#poke();
    return this.slots.handle(slot);
  }

  // ---------------------------------------------------------------- input

  /** Delivers received bytes to `onRead` from now on (mp_read, armed until stopped). */
  read(handle: Handle): void {
    const slot = this.#slot(handle, 'read');
    const state = this.slots.state[slot]!;
    if (state & (S.Ended | S.Closing | S.Listener)) {
      if (state & S.Listener)
        throw new MegapipeError('ERR_MEGAPIPE_STATE', 'read: the handle is a listening socket; use accept');
      return;
    }
    this.slots.state[slot] = state | S.Reading;
    if (!(state & (S.Armed | S.Connecting | S.WantDrain | S.Into))) {
      this.#backend.armRecv(slot);
      this.#poke();
    }
  }

  /** Stops delivering. Bytes that the kernel has already handed over still arrive. */
  readStop(handle: Handle): void {
    const slot = this.#slot(handle, 'readStop');
    this.slots.state[slot]! &= ~S.Reading;
    this.#cancelArmed(slot);
  }

  /**
   * Gives way: the caller has more to do for this handle, and others come first. Completions that are ready by then are
   * delivered, then `onTurn`; up to eight times in a row where no other handle had any. Little output (16 KiB) is held back
   * for a while (32 rounds at most), so that giving way costs no send of its own. Calling it twice before `onTurn` is once.
   */
  defer(handle: Handle): void {
    const slot = this.#slot(handle, 'defer');
    this.#needs('onTurn', 'defer');
    if (this.slots.state[slot]! & S.Deferred) return;
    this.slots.state[slot]! |= S.Deferred;
    this.#deferred.push(slot, this.slots.generation[slot]!);
    this.#poke();
  }

  /** Turns of the handles that gave way before this round. */
  #turns(count: number): void {
    const slots = this.slots;
    const turns = this.#deferred;
    this.#deferred = turns.slice(count);
    for (let i = 0; i < count; i += 2) {
      const slot = turns[i]!;
      if (slots.generation[slot] !== turns[i + 1] || !(slots.state[slot]! & S.Deferred)) continue;
      slots.state[slot]! &= ~S.Deferred;
      try {
        if (!(slots.state[slot]! & S.Closing)) this.sink.onTurn!(slots.handle(slot), slots.cookie[slot]!);
      } catch (error) {
        this.#deferred.push(...turns.slice(i + 2, count));
        throw error;
      } finally {
        const state = slots.state[slot]!;
        if (slots.generation[slot] === turns[i + 1] && !(state & (S.Dirty | S.Sending))) {
          if (slots.outBytes[slot]! > 0) this.#markDirty(slot);
        }
      }
    }
  }

  /**
   * Receives once, 1 … `length` bytes, straight into a region (mp_read with the caller's buffer): `onReadInto`. Bytes
   * that the channel had already received come through `onRead` before. `read`, if it was on, goes on afterwards.
   * Throws ERR_MEGAPIPE_STATE while another readInto of this handle is not done.
   */
  readInto(handle: Handle, region: number, offset: number, length: number, token: number): void {
    const slot = this.#slot(handle, 'readInto');
    this.#needs('onReadInto', 'readInto');
    checkToken('readInto', token);
    this.regions.check('readInto', region, offset, length);
    const slots = this.slots;
    const state = slots.state[slot]!;
    if (state & (S.Into | S.Listener) || length === 0)
      throw length === 0
        ? new MegapipeError('ERR_MEGAPIPE_RANGE', 'readInto: length must be at least 1')
        : new MegapipeError(
            'ERR_MEGAPIPE_STATE',
            `readInto: ${state & S.Into ? 'the last one of this handle is not done' : 'the handle is a listening socket'}`,
          );
    slots.state[slot] = state | S.Into;
    slots.intoRegion[slot] = region;
    slots.intoOffset[slot] = offset;
    slots.intoLength[slot] = length;
    slots.intoToken[slot] = token;
    this.regions.uses[region]!++;
    this.rearm(slot);
    if (state & S.Armed) this.#cancelArmed(slot);
    this.#poke();
  }

  // ---------------------------------------------------------------- output

  /**
   * Room for `bytes` (1 … RESERVE_MAX) in a row of `memory`: the offset, or -1 (Full). Good until the next call on
   * this handle or until the sink's method returns, whichever comes first.
   */
  reserve(handle: Handle, bytes: number): number {
    const slots = this.slots;
    const slot = this.#slot(handle, 'reserve');
    if (!(bytes >= 1 && bytes <= LARGE_CHUNK_BYTES))
      throw new MegapipeError(
        'ERR_MEGAPIPE_ARGUMENT',
        `reserve: bytes must be 1 to ${LARGE_CHUNK_BYTES}, got ${bytes}`,
      );
    if (slots.state[slot]! & (S.Broken | S.Shut | S.Closing)) return this.arena.scratch;
    const queued = slots.outBytes[slot]!;
    const output = this.arena.output;
    const tail = slots.outTail[slot]!;
    if (tail !== NO_SEGMENT && output.segRegion[tail] === ARENA) {
      const at = output.segOffset[tail]! + output.segLength[tail]!;
      if (at + bytes <= output.segEnd[tail]! && queued < this.#outputMax) return at;
    }
    if (queued >= this.#outputMax) return this.#full(slot, 0);
    const s = output.chunkSegment(bytes, tail !== NO_SEGMENT);
    if (s < 0) return this.#full(slot, S.PoolWait);
    this.#append(slot, s);
    return output.segOffset[s]!;
  }

  /** The first `bytes` of the last reservation are output now; they go out at the end of the batch. */
  commit(handle: Handle, bytes: number): void {
    const slots = this.slots;
    const slot = this.#slot(handle, 'commit');
    if (slots.state[slot]! & (S.Broken | S.Shut | S.Closing)) return;
    const tail = slots.outTail[slot]!;
    const output = this.arena.output;
    if (
      tail === NO_SEGMENT ||
      output.segRegion[tail] !== ARENA ||
      !(bytes >= 0 && output.segOffset[tail]! + output.segLength[tail]! + bytes <= output.segEnd[tail]!)
    )
      throw new MegapipeError('ERR_MEGAPIPE_STATE', `commit: ${bytes} bytes were not reserved`);
    output.segLength[tail]! += bytes;
    slots.outBytes[slot]! += bytes;
    this.#queued(slot);
  }

  /** Copies bytes into the channel's memory and queues them. All or nothing: Full means that none was taken. */
  writeCopy(handle: Handle, source: Uint8Array, start: number = 0, end: number = source.length): WriteResult {
    const slots = this.slots;
    const slot = this.#slot(handle, 'writeCopy');
    if (!(start >= 0 && start <= end && end <= source.length))
      throw new MegapipeError(
        'ERR_MEGAPIPE_RANGE',
        `writeCopy: ${start} to ${end} is not within ${source.length} bytes`,
      );
    if (slots.state[slot]! & (S.Broken | S.Shut | S.Closing) || start === end) return Write.Sent;
    const queued = slots.outBytes[slot]!;
    const output = this.arena.output;
    if (queued >= this.#outputMax) {
      this.#full(slot, 0);
      return Write.Full;
    }
    let need = end - start;
    const tail = slots.outTail[slot]!;
    if (tail !== NO_SEGMENT && output.segRegion[tail] === ARENA)
      need -= output.segEnd[tail]! - output.segOffset[tail]! - output.segLength[tail]!;
    if (need > output.largeFree * LARGE_CHUNK_BYTES && !(need <= 4096 && output.smallFree > 0)) {
      this.#full(slot, S.PoolWait);
      return Write.Full;
    }
    const large = end - start > 4096;
    for (let at = start; at < end; ) {
      let s = slots.outTail[slot]!;
      let room =
        s !== NO_SEGMENT && output.segRegion[s] === ARENA
          ? output.segEnd[s]! - output.segOffset[s]! - output.segLength[s]!
          : 0;
      if (room <= 0) {
        s = output.chunkSegment(Math.min(end - at, LARGE_CHUNK_BYTES), large);
        this.#append(slot, s);
        room = output.segEnd[s]! - output.segOffset[s]!;
      }
      const n = Math.min(room, end - at);
      this.memory.set(
        at === 0 && n === source.length ? source : source.subarray(at, at + n),
        output.segOffset[s]! + output.segLength[s]!,
      );
      output.segLength[s]! += n;
      at += n;
    }
    slots.outBytes[slot]! += end - start;
    this.#queued(slot);
    return queued > 0 ? Write.Queued : Write.Sent;
  }

  /**
   * Queues `length` bytes of a region without copying. They must not change until `onWritten(token)`.
   * Full means that nothing was taken (and no onWritten comes).
   */
  write(handle: Handle, region: number, offset: number, length: number, token: number): WriteResult {
    const slots = this.slots;
    const slot = this.#slot(handle, 'write');
    checkToken('write', token);
    this.regions.check('write', region, offset, length);
    const state = slots.state[slot]!;
    if (state & (S.Broken | S.Shut | S.Closing) || length === 0) {
      this.#orphans.push(handle, slots.cookie[slot]!, token, length === 0 ? 0 : EPIPE);
      this.#poke();
      return Write.Sent;
    }
    const queued = slots.outBytes[slot]!;
    if (queued >= this.#outputMax) {
      this.#full(slot, 0);
      return Write.Full;
    }
    this.#appendRegion(slot, region, offset, length, token);
    this.#queued(slot);
    return queued > 0 ? Write.Queued : Write.Sent;
  }

  /**
   * The vector form: `parts` is a row of (region, offset, length) triples, queued in order, all or none. One
   * `onWritten(token)` when the last of them is out.
   */
  writev(handle: Handle, parts: ArrayLike<number>, token: number): WriteResult {
    const slots = this.slots;
    const slot = this.#slot(handle, 'writev');
    checkToken('writev', token);
    if (parts.length === 0 || parts.length % 3 !== 0)
      throw new MegapipeError(
        'ERR_MEGAPIPE_ARGUMENT',
        `writev: expected triples of region, offset, length, got ${parts.length} numbers`,
      );
    let total = 0;
    for (let i = 0; i < parts.length; i += 3) {
      this.regions.check('writev', parts[i]!, parts[i + 1]!, parts[i + 2]!);
      total += parts[i + 2]!;
    }
    if (slots.state[slot]! & (S.Broken | S.Shut | S.Closing) || total === 0) {
      this.#orphans.push(handle, slots.cookie[slot]!, token, total === 0 ? 0 : EPIPE);
      this.#poke();
      return Write.Sent;
    }
    const queued = slots.outBytes[slot]!;
    if (queued >= this.#outputMax) {
      this.#full(slot, 0);
      return Write.Full;
    }
    let last = parts.length - 3;
    while (parts[last + 2] === 0) last -= 3;
    for (let i = 0; i <= last; i += 3)
      if (parts[i + 2]! > 0)
        this.#appendRegion(slot, parts[i]!, parts[i + 1]!, parts[i + 2]!, i === last ? token : NO_TOKEN);
    this.#queued(slot);
    return queued > 0 ? Write.Queued : Write.Sent;
  }

  /** Bytes of output taken and not yet accepted by the socket. */
  outputBytes(handle: Handle): number {
    return this.slots.outBytes[this.#slot(handle, 'outputBytes')]!;
  }

  /** A SharedArrayBuffer that `write` may send from: the region's id, valid in this channel. */
  registerRegion(memory: SharedArrayBuffer): number {
    this.#alive();
    return this.regions.register(memory);
  }

  /**
   * Reads `length` bytes (1 … 2^31 - 1) of a regular file, from `position` on, into a region: `onReadFile(token)` follows exactly
   * once. On uring the kernel reads what is not in its cache on a thread of its own; on epoll the read is done
   * here and now, as servers without asynchronous file I/O do it. The descriptor stays the caller's and must stay open until then.
   * At most 65,536 are under way at a time, else ERR_MEGAPIPE_CAPACITY. Throws ERR_MEGAPIPE_RANGE and ERR_MEGAPIPE_REGION as `write` does.
   */
  readFile(fd: number, position: number, region: number, offset: number, length: number, token: number): void {
    this.#alive();
    this.#needs('onReadFile', 'readFile');
    checkToken('readFile', token);
    this.regions.check('readFile', region, offset, length);
    if (!Number.isInteger(fd) || fd < 0 || !Number.isSafeInteger(position) || position < 0 || length === 0)
      throw new MegapipeError(
        'ERR_MEGAPIPE_ARGUMENT',
        `readFile: expected a descriptor, a position and a length above 0, got ${fd}, ${position}, ${length}`,
      );
    const index = this.#fileReads.begin(token, region);
    this.regions.uses[region]!++;
    this.#backend.readFile(fd, position, region, this.regions.address[region]!, offset, length, index);
    this.#poke();
  }

  /** Gives a region up. Throws ERR_MEGAPIPE_STATE while a write refers to it. */
  unregisterRegion(region: number): void {
    this.regions.unregister(region);
  }

  // ---------------------------------------------------------------- the end of a connection

  /** Half close: after the queued output, the peer sees our end. Reading goes on. */
  disconnect(handle: Handle): void {
    const slot = this.#slot(handle, 'disconnect');
    if (this.slots.state[slot]! & (S.Shut | S.Closing | S.Broken)) return;
    this.slots.state[slot]! |= S.Shut;
    this.#markDirty(slot);
  }

  /**
   * Stops reading, sends what is queued, closes. `onClose` is the last word; until then only `abort` and `setDeadline`
   * have a meaning. A peer that never reads can hold a close back: give it a deadline. Closing twice is no error.
   */
  close(handle: Handle): void {
    const slot = this.slots.slot(handle);
    if (slot < 0 || this.slots.state[slot]! & S.Closing) return;
    this.slots.state[slot]! = (this.slots.state[slot]! | S.Closing) & ~(S.Reading | S.WantDrain | S.AcceptAll);
    /* After acceptStop its queue, which may be shared, is the others' business. */
    if ((this.slots.state[slot]! & (S.Listener | S.Armed)) === (S.Listener | S.Armed))
      this.slots.state[slot]! |= S.Sweep;
    if (this.slots.outBytes[slot]! === 0 && !(this.slots.state[slot]! & S.Sending)) this.#finishSoon(slot);
    else {
      this.#cancelArmed(slot);
      this.#poke();
    }
  }

  /** Closes now; output that was not sent is dropped. Aborting twice, or after close, is no error. */
  abort(handle: Handle): void {
    const slot = this.slots.slot(handle);
    if (slot < 0) return;
    this.slots.state[slot]! =
      (this.slots.state[slot]! | S.Closing | S.Broken) & ~(S.Reading | S.WantDrain | S.AcceptAll);
    if (this.slots.state[slot]! & S.Sending) this.#backend.cancelAll(slot);
    this.#finishSoon(slot);
  }

  /**
   * Like `abort`, by a reset: the peer learns at once that nothing more will come, and the kernel keeps nothing of the connection.
   * Where the kernel cannot be told (lwsockets before Linux 6.7, the device) it is a plain `abort`.
   */
  reset(handle: Handle): void {
    const slot = this.slots.slot(handle);
    if (slot < 0) return;
    if (this.slots.state[slot]! & S.Fd) native.setsockopt(this.slots.fd[slot]!, NET.SOL_SOCKET, NET.SO_LINGER, 0);
    else this.#backend.resetAtClose?.(slot);
    this.abort(handle);
  }

  /** `onTimeout` in `ms` milliseconds (grain 100 ms); 0 clears. One deadline a handle; setting it anew moves it. */
  setDeadline(handle: Handle, ms: number): void {
    const slot = this.#slot(handle, 'setDeadline');
    this.deadlines.set(slot, ms > 0 ? this.#time() + ms : 0);
    if (ms > 0 && this.#attached && this.#ticker === null) this.#startTicker();
  }

  // ---------------------------------------------------------------- driving

  /** Hands queued requests to the kernel now (the paper's mp_flush). Otherwise they go with the next wait. */
  flush(): void {
    this.#alive();
    if (!this.#inDrain) this.#endBatch(false);
    this.#backend.submit();
  }

  /**
   * Waits for completions, at most `timeoutMs` (0 = not at all, -1 or Infinity = for ever), and delivers them
   * (mp_dispatch). Returns how many. Throws ERR_MEGAPIPE_ARGUMENT for NaN and what is below -1, ERR_MEGAPIPE_STATE
   * while attached to the event loop or from inside the sink.
   */
  dispatch(timeoutMs: number): number {
    this.#alive();
    if (this.#attached || this.#inDrain)
      throw new MegapipeError(
        'ERR_MEGAPIPE_STATE',
        this.#inDrain ? 'dispatch: called from inside the sink' : 'dispatch: the channel is attached to the event loop',
      );
    if (!(timeoutMs >= -1))
      throw new MegapipeError(
        'ERR_MEGAPIPE_ARGUMENT',
        `dispatch: timeoutMs must be at least 0, or -1 for no limit, got ${timeoutMs}`,
      );
    const before = this.counters.completions;
    const until = timeoutMs < 0 ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs;
    this.#drain(NO_WAIT);
    for (;;) {
      if (this.#destroyed) break;
      const left = Math.max(0, until - performance.now());
      const slice = this.#timed() ? Math.min(left, TICK_MS) : left;
      const done = this.counters.completions - before;
      const waited = this.#backend.wait(
        done > 0 || this.#deferred.length > 0
          ? 0
          : slice === Number.POSITIVE_INFINITY
            ? -1
            : Math.min(Math.ceil(slice), WAIT_MS_MAX),
      );
      const bits = this.#drain(waited);
      if ((this.counters.completions > before && !(bits & DRAIN_MORE)) || performance.now() >= until) break;
    }
    return this.counters.completions - before;
  }

  /**
   * Serves from Node's event loop from now on: the channel waits where libuv would have, and libuv's own work
   * (timers, promises, signals, other sockets) goes on. Keeps the process alive until `detach` or `destroy`.
   */
  attach(): void {
    this.#alive();
    if (this.#attached) return;
    const backend = this.#backend;
    const arena = this.arena;
    const words = arena.words;
    words[0] = 1;
    words[1] = NO_WAIT;
    words[2] = 1;
    const host = native.loopBackendFd();
    const primary = native.loopAttach(
      backend.kind,
      backend.id,
      () => {
        if (words[2] === 2) {
          words[2] = 0;
          if (primary) backend.armHost(host);
        }
        words[0] = 0;
        return this.#drain(words[1]!);
      },
      arena.region,
      0,
      arena.events,
      1024,
    );
    this.#attached = true;
    if (this.#timed()) this.#startTicker();
  }

  /** Back to manual driving. */
  detach(): void {
    if (!this.#attached) return;
    this.#attached = false;
    native.loopDetach(this.#backend.kind, this.#backend.id);
    this.#backend.disarmHost(native.loopBackendFd());
    this.#stopTicker();
  }

  /**
   * Ends the channel: every handle is closed at once (onWritten with ECANCELED and onClose are still delivered), memory
   * is given back, `memory` becomes empty. From inside the sink it takes effect when the sink's method has returned.
   */
  destroy(): void {
    if (this.#destroyed) return;
    if (this.#inDrain) {
      this.#destroyLater = true;
      return;
    }
    this.detach();
    this.#destroyed = true;
    this.#backend.destroy();
    for (const fd of this.#acceptedFds) native.close(fd);
    const slots = this.slots;
    for (let slot = 0; slot < slots.count; slot++) {
      if (!(slots.state[slot]! & S.Used)) continue;
      this.#dropOutput(slot, ECANCELED);
      if (slots.state[slot]! & S.Into) this.#intoDone(slot, 0, ECANCELED);
      this.#groups.get(slot)?.left(slots.fd[slot]!);
      const handle = slots.handle(slot);
      const cookie = slots.cookie[slot]!;
      const registered = slots.state[slot]! & S.Registered;
      this.#freeSlot(slot);
      if (registered) this.sink.onClose(handle, cookie);
    }
    this.#deliverOrphans();
    for (const index of this.#fileReads.pending()) this.fileRead(index, -ECANCELED);
    this.regions.releaseAll();
    this.arena.free();
    if (closed.hasSubscribers) closed.publish({ channel: this });
  }

  stats(): ChannelStats {
    const { completions, batches } = this.counters;
    const { small, large, smallFree, largeFree } = this.arena.output;
    const [smalls, larges] = [small.length - smallFree, large.length - largeFree];
    return {
      backend: this.backend,
      ...this.counters,
      meanBatch: batches > 0 ? completions / batches : 0,
      outputChunks: smalls + larges,
      outputChunkBytes: smalls * SMALL_CHUNK_BYTES + larges * LARGE_CHUNK_BYTES,
    };
  }

  // ---------------------------------------------------------------- what backends report

  /** @internal A connection was accepted. slot >= 0: an lwsocket there; else fd >= 0. */
  accepted(listener: number, slot: number, fd: number): void {
    this.counters.accepts++;
    const slots = this.slots;
    if (slot >= 0) this.counters.open++;
    else this.#acceptedFds.add(fd);
    if (!(slots.state[listener]! & S.AcceptAll) && slots.extra[listener]! > 0) slots.extra[listener]!--;
    if (!this.#countPending) {
      this.sink.onAccept(slots.cookie[listener]!, slot >= 0 ? -slots.handle(slot) : fd, 0);
      return;
    }
    if (this.#pendingListener !== listener || this.#pendingRound !== this.#round) {
      this.#pendingListener = listener;
      this.#pendingRound = this.#round;
      this.#pending = native.listenQueue(slots.fd[listener]!);
    } else if (this.#pending > 0) this.#pending--;
    this.sink.onAccept(slots.cookie[listener]!, slot >= 0 ? -slots.handle(slot) : fd, this.#pending);
  }

  /** @internal A read from a file is done: bytes, or -errno. */
  fileRead(index: number, result: number): void {
    this.regions.uses[this.#fileReads.end(index)]!--;
    this.sink.onReadFile!(this.#fileReads.tokenOf(index), Math.max(result, 0), result < 0 ? -result : 0);
  }

  /** @internal Whether the listener wants (more) connections. */
  wantsAccept(slot: number): boolean {
    const state = this.slots.state[slot]!;
    return (
      (state & S.Reading) !== 0 && !(state & S.Closing) && ((state & S.AcceptAll) !== 0 || this.slots.extra[slot]! > 0)
    );
  }

  /** @internal One step of stopping a listener: true when a connection may still come of it. */
  sweep(slot: number): boolean {
    const slots = this.slots;
    if ((slots.state[slot]! & (S.Sweep | S.Armed | S.Broken)) !== S.Sweep) return false;
    if (native.listenQueue(slots.fd[slot]!) > 0 && this.#backend.sweepAccept(slot)) return true;
    slots.state[slot]! &= ~S.Sweep;
    return false;
  }

  /** @internal accept failed for want of a resource: report, and try again after a pause. */
  acceptFailed(slot: number, errno: number): void {
    this.#retries.push({ slot, generation: this.slots.generation[slot]!, at: this.#clock() + ACCEPT_RETRY_MS });
    if (this.#attached && this.#ticker === null) this.#startTicker();
    this.#report(slot, 'accept', errno);
    this.sink.onAcceptError(this.slots.cookie[slot]!, errno);
  }

  /** @internal */
  connected(slot: number, errno: number): void {
    const slots = this.slots;
    slots.state[slot]! &= ~S.Connecting;
    if (errno) {
      slots.state[slot]! |= S.Broken;
      this.#report(slot, 'connect', errno);
    }
    if (slots.state[slot]! & S.Closing) {
      this.settled(slot);
      return;
    }
    this.sink.onConnect(slots.handle(slot), slots.cookie[slot]!, errno);
    const state = slots.state[slot]!;
    if (errno || !(state & S.Used)) return;
    if (state & S.Into) this.rearm(slot);
    else if (state & S.Reading && !(state & (S.Armed | S.Closing))) this.#backend.armRecv(slot);
    if (slots.outBytes[slot]! > 0) this.#markDirty(slot);
  }

  /** @internal The request of `readInto` came back. */
  receivedInto(slot: number, bytes: number, errno: number): void {
    const slots = this.slots;
    this.counters.bytesRead += bytes;
    this.#intoDone(slot, bytes, errno);
    if (bytes === 0 && errno !== ECANCELED) this.ended(slot, errno);
    if (slots.state[slot]! & S.Closing) this.settled(slot);
    else this.rearm(slot);
  }

  /** @internal Bytes arrived at `offset` of the arena. */
  received(slot: number, offset: number, length: number): void {
    const slots = this.slots;
    const state = slots.state[slot]!;
    this.counters.bytesRead += length;
    if (state & (S.Closing | S.Ended)) return;
    this.sink.onRead(slots.handle(slot), slots.cookie[slot]!, offset, length);
    /* Trap 6: the user cannot take more now; what comes meanwhile stays in the socket. */
    if (slots.state[slot]! & S.WantDrain) this.#cancelArmed(slot);
  }

  /** @internal Receiving ended: the peer's end (errno 0) or a failure. */
  ended(slot: number, errno: number): void {
    const slots = this.slots;
    const state = slots.state[slot]!;
    if (state & S.Ended) return;
    slots.state[slot]! = (state | S.Ended | (errno ? S.Broken : 0)) & ~S.Reading;
    if (state & S.Closing) return;
    if (errno) this.#report(slot, 'connection', errno);
    /* A send in flight still reads its chunk; it will fail by itself and drop the queue then. */
    if (errno && !(state & S.Sending)) this.#dropOutput(slot, errno);
    if ((state & (S.Into | S.IntoArmed)) === S.Into) this.#intoDone(slot, 0, errno);
    this.sink.onEnd(slots.handle(slot), slots.cookie[slot]!, errno);
  }

  /** @internal Receive ended for want of a buffer, or was cancelled and is wanted again: arm at the end of the batch. */
  rearm(slot: number): void {
    if (this.slots.state[slot]! & S.Rearm) return;
    this.slots.state[slot]! |= S.Rearm;
    this.#rearm[this.#rearmCount++] = slot;
  }

  /** @internal Whether a receive should be armed now. */
  wantsRead(slot: number): boolean {
    return (this.slots.state[slot]! & (S.Reading | S.WantDrain | S.Ended | S.Closing | S.Armed | S.Into)) === S.Reading;
  }

  /** @internal `bytes` of the slot's output were accepted by the socket. Sending is clear. */
  sent(slot: number, bytes: number): void {
    this.counters.bytesWritten += bytes;
    const slots = this.slots;
    const output = this.arena.output;
    slots.outBytes[slot]! -= bytes;
    let left = bytes;
    let s = slots.outHead[slot]!;
    /* First all that was sent leaves the queue, then the sink hears of it: a handler that throws must not have the rest sent twice. */
    const written = this.#written;
    let count = 0;
    while (s !== NO_SEGMENT) {
      const length = output.segLength[s]!;
      if (length > left) {
        output.segOffset[s]! += left;
        output.segLength[s] = length - left;
        break;
      }
      left -= length;
      const next = output.segNext[s]!;
      const region = output.segRegion[s]!;
      const token = output.segChunk[s]!;
      slots.outHead[slot] = next;
      if (next === NO_SEGMENT) slots.outTail[slot] = NO_SEGMENT;
      output.release(s);
      if (region !== ARENA) {
        this.regions.uses[region]!--;
        if (token !== NO_TOKEN) written[count++] = token;
      }
      s = next;
      if (left === 0 && (s === NO_SEGMENT || output.segLength[s]! > 0)) break;
    }
    if (count > 0) this.#reportWritten(slot, count);
    this.#afterSent(slot);
  }

  #reportWritten(slot: number, count: number): void {
    const handle = this.slots.handle(slot);
    const cookie = this.slots.cookie[slot]!;
    const written = this.#written;
    let i = 0;
    try {
      while (i < count) this.sink.onWritten(handle, cookie, written[i++]!, 0);
    } catch (error) {
      while (i < count) this.#orphans.push(handle, cookie, written[i++]!, 0);
      this.#afterSent(slot);
      throw error;
    }
  }

  #afterSent(slot: number): void {
    const state = this.slots.state[slot]!;
    if (state & S.Broken) this.#dropOutput(slot, EPIPE);
    const queued = this.slots.outBytes[slot]!;
    if (queued > 0) {
      if (!(state & (S.Dirty | S.Sending))) this.#markDirty(slot);
    } else if (state & (S.Closing | S.Shut) && !(state & S.Dirty)) this.#markDirty(slot);
    if (state & S.WantDrain && queued <= this.#outputLow && !(state & S.PoolWait)) this.#drained(slot);
  }

  /** @internal All output is out: what waited for that (half close, close) can go on. */
  flushed(slot: number): void {
    const state = this.slots.state[slot]!;
    if (state & (S.Closing | S.Shut) && this.slots.outBytes[slot] === 0) this.#markDirty(slot);
  }

  /** @internal A send failed for good. Sending is clear. */
  sendFailed(slot: number, errno: number): void {
    const slots = this.slots;
    slots.state[slot]! |= S.Broken;
    this.#dropOutput(slot, errno);
    if (slots.state[slot]! & S.Closing) this.settled(slot);
    else {
      this.#cancelArmed(slot);
      this.ended(slot, errno);
    }
  }

  /** @internal A request on a closing slot came back: close it if that was the last. */
  settled(slot: number): void {
    const state = this.slots.state[slot]!;
    if (!(state & S.Closing)) return;
    if ((this.slots.outBytes[slot]! === 0 && !(state & S.Sending)) || state & S.Broken) this.#finishSoon(slot);
  }

  /** @internal */
  shutDone(slot: number): void {
    this.slots.state[slot]! = (this.slots.state[slot]! | S.ShutDone) & ~S.Shutting;
    this.settled(slot);
  }

  /** @internal A request could not even be made. Told at the end of the batch: the sink is never called from a verb. */
  failSoon(slot: number, errno: number): void {
    this.#failures.push(slot, this.slots.generation[slot]!, errno);
    this.#poke();
  }

  #deliverFailures(): void {
    while (this.#failures.length > 0) {
      const [slot, generation, errno] = this.#failures.splice(0, 3) as [number, number, number];
      if (this.slots.generation[slot] !== generation) continue;
      if (this.slots.state[slot]! & S.Listener) this.acceptFailed(slot, errno);
      else this.sendFailed(slot, errno);
    }
  }

  /** @internal End of one event, for a backend that works without batches. */
  endEvent(): void {
    if (this.#dirtyCount > 0 || this.#finishCount > 0 || this.#rearmCount > 0 || this.#failures.length > 0)
      this.#endBatch(true);
  }

  // ---------------------------------------------------------------- inside

  #intoDone(slot: number, bytes: number, errno: number): void {
    const slots = this.slots;
    slots.state[slot]! &= ~(S.Into | S.IntoArmed);
    this.regions.uses[slots.intoRegion[slot]!]!--;
    this.sink.onReadInto!(slots.handle(slot), slots.cookie[slot]!, slots.intoToken[slot]!, bytes, errno);
  }

  #needs(method: 'onReadInto' | 'onReadFile' | 'onUnregister' | 'onTurn', verb: string): void {
    if (!this.sink[method])
      throw new MegapipeError('ERR_MEGAPIPE_ARGUMENT', `${verb}: the sink has no method ${method} to report to`);
  }

  #appendRegion(slot: number, region: number, offset: number, length: number, token: number): void {
    const output = this.arena.output;
    const s = output.segment();
    output.segRegion[s] = region;
    output.segOffset[s] = offset;
    output.segLength[s] = length;
    output.segEnd[s] = 0;
    output.segChunk[s] = token;
    this.regions.uses[region]!++;
    this.#append(slot, s);
    this.slots.outBytes[slot]! += length;
  }

  #report(slot: number, operation: string, errno: number): void {
    if (!failed.hasSubscribers) return;
    const { slots } = this;
    failed.publish({ channel: this, handle: slots.handle(slot), cookie: slots.cookie[slot], operation, errno });
  }

  #alive(): void {
    if (this.#destroyed) throw new MegapipeError('ERR_MEGAPIPE_STATE', 'the channel was destroyed');
  }

  #slot(handle: Handle, verb: string): number {
    const slot = this.slots.slot(handle);
    if (slot < 0) throw new MegapipeError('ERR_MEGAPIPE_STALE_HANDLE', `${verb}: handle ${handle} is closed`);
    return slot;
  }

  #clock(): number {
    return performance.now() - this.#clockStart;
  }

  /** The clock, read once a round at most: inside it, many deadlines are set. */
  #time(): number {
    if (!this.#inDrain) return this.#clock();
    if (this.#nowRound !== this.#round) this.#readClock();
    return this.#now;
  }

  #readClock(): void {
    this.#now = this.#clock();
    this.#nowRound = this.#round;
  }

  /** Work was queued: if the loop is not in our hands, it must look before it blocks. */
  #poke(): void {
    if (!this.#inDrain && !this.#destroyed) this.arena.words[0] = 1;
  }

  #append(slot: number, s: number): void {
    const slots = this.slots;
    const tail = slots.outTail[slot]!;
    if (tail === NO_SEGMENT) slots.outHead[slot] = s;
    else this.arena.output.segNext[tail] = s;
    slots.outTail[slot] = s;
  }

  /** Output was added: it goes out at the end of the batch, or after the send that is under way. */
  #queued(slot: number): void {
    const state = this.slots.state[slot]!;
    if (state & S.Sending) this.#poke();
    else if (!(state & S.Dirty)) this.#markDirty(slot);
  }

  #markDirty(slot: number): void {
    if (this.slots.state[slot]! & S.Dirty) return;
    this.slots.state[slot]! |= S.Dirty;
    this.#dirty[this.#dirtyCount++] = slot;
    this.#poke();
  }

  #full(slot: number, why: number): -1 {
    this.counters.full++;
    if (why) this.counters.poolEmpty++;
    const state = this.slots.state[slot]!;
    if (why && !(state & S.PoolWait)) this.#poolWaiters.push(slot, this.slots.generation[slot]!);
    this.slots.state[slot] = state | S.WantDrain | why;
    this.#poke();
    return -1;
  }

  #drained(slot: number): void {
    const slots = this.slots;
    slots.state[slot]! &= ~(S.WantDrain | S.PoolWait);
    const generation = slots.generation[slot]!;
    this.sink.onDrain(slots.handle(slot), slots.cookie[slot]!);
    if (slots.generation[slot] === generation && this.wantsRead(slot)) this.#backend.armRecv(slot);
  }

  #cancelArmed(slot: number): void {
    if ((this.slots.state[slot]! & (S.Armed | S.Cancelling)) !== S.Armed) return;
    this.#backend.cancelArmed(slot);
    this.#poke();
  }

  #finishSoon(slot: number): void {
    if (this.slots.state[slot]! & S.Finishing) return;
    this.slots.state[slot]! |= S.Finishing;
    this.#finish[this.#finishCount++] = slot;
    this.#poke();
  }

  #dropOutput(slot: number, errno: number): void {
    const slots = this.slots;
    const output = this.arena.output;
    let s = slots.outHead[slot]!;
    while (s !== NO_SEGMENT) {
      const next = output.segNext[s]!;
      const region = output.segRegion[s]!;
      if (region !== ARENA) {
        this.regions.uses[region]!--;
        if (output.segChunk[s] !== NO_TOKEN)
          this.#orphans.push(slots.handle(slot), slots.cookie[slot]!, output.segChunk[s]!, errno);
        this.#poke();
      }
      output.release(s);
      s = next;
    }
    slots.outHead[slot] = NO_SEGMENT;
    slots.outTail[slot] = NO_SEGMENT;
    slots.outBytes[slot] = 0;
  }

  #deliverOrphans(): void {
    while (this.#orphans.length > 0) {
      const [handle, cookie, token, errno] = this.#orphans.splice(0, 4) as [number, number, number, number];
      this.sink.onWritten(handle, cookie, token, errno);
    }
  }

  #freeSlot(slot: number): void {
    this.deadlines.remove(slot);
    this.slots.free(slot);
    this.counters.open--;
  }

  /**
   * The end of a batch: output goes to the kernel, ended receives are armed again, closed handles are let go.
   * Handlers called here may queue more of each, so it goes round until nothing is left.
   */
  #endBatch(deliver: boolean): void {
    const slots = this.slots;
    const backend = this.#backend;
    for (;;) {
      while (this.#dirtyCount > 0) {
        const slot = this.#dirty[--this.#dirtyCount]!;
        const state = (slots.state[slot]! &= ~S.Dirty);
        if (state & (S.Sending | S.Connecting) || !(state & S.Used)) continue;
        if (
          (state & (S.Deferred | S.Closing | S.Shut | S.WantDrain)) === S.Deferred &&
          slots.outBytes[slot]! < HELD_BYTES_MAX &&
          this.#round % HELD_ROUNDS_MAX !== 0
        )
          continue;
        if (slots.outBytes[slot]! > 0) {
          if (!(state & S.Broken)) backend.send(slot);
        } else if (state & S.Closing) this.#finishSoon(slot);
        else if ((state & (S.Shut | S.ShutDone | S.Shutting)) === S.Shut) backend.shutdownWrite(slot);
      }
      if (!deliver) return;
      while (this.#finishCount > 0) {
        const slot = this.#finish[--this.#finishCount]!;
        slots.state[slot]! &= ~S.Finishing;
        this.#finishNow(slot);
      }
      if (this.#orphans.length > 0) this.#deliverOrphans();
      while (this.#rearmCount > 0) {
        const slot = this.#rearm[--this.#rearmCount]!;
        slots.state[slot]! &= ~S.Rearm;
        if (slots.state[slot]! & S.Listener) {
          this.sweep(slot);
          if (this.wantsAccept(slot) && !(slots.state[slot]! & S.Armed)) backend.armAccept(slot);
        } else if ((slots.state[slot]! & (S.Into | S.IntoArmed | S.Armed | S.Connecting)) === S.Into)
          this.#armInto(slot);
        else if (this.wantsRead(slot)) backend.armRecv(slot);
      }
      if (this.#poolWaiters.length > 0) this.#servePoolWaiters();
      if (this.#failures.length > 0) this.#deliverFailures();
      if (this.#dirtyCount === 0 && this.#finishCount === 0 && this.#orphans.length === 0) return;
    }
  }

  #armInto(slot: number): void {
    if (this.slots.state[slot]! & (S.Ended | S.Closing))
      this.#intoDone(slot, 0, this.slots.state[slot]! & S.Closing ? ECANCELED : 0);
    else this.#backend.armInto(slot);
  }

  #finishNow(slot: number): void {
    const slots = this.slots;
    const state = slots.state[slot]!;
    if (!(state & S.Used)) return;
    if (slots.inFlight[slot]! > 0 || state & S.Shutting) {
      /* Trap 3: cancel first; the last completion brings the slot back here through settled(). */
      if (state & S.Connecting) this.#backend.cancelAll(slot);
      else if (state & S.IntoArmed) this.#backend.cancelInto(slot);
      else this.#cancelArmed(slot);
      return;
    }
    if (state & S.Into) this.#intoDone(slot, 0, ECANCELED);
    if (state & S.Listener && this.sweep(slot)) return;
    if (slots.outBytes[slot]! > 0 || slots.outHead[slot] !== NO_SEGMENT) this.#dropOutput(slot, ECANCELED);
    const handle = slots.handle(slot);
    const cookie = slots.cookie[slot]!;
    const group = state & S.Listener ? this.#groups.get(slot) : undefined;
    const member = slots.fd[slot]!;
    const fd = state & S.Unregister ? this.#backend.releaseFd(slot) : -1;
    if (fd < 0) this.#backend.closeSlot(slot);
    if (group !== undefined) {
      this.#groups.delete(slot);
      /* Unregistered, it still listens: then it is for the caller to tell the group. */
      if (fd < 0) group.left(member);
    }
    this.#freeSlot(slot);
    if (this.#orphans.length > 0) this.#deliverOrphans();
    if (fd >= 0) this.sink.onUnregister!(handle, cookie, fd);
    else if (state & S.Registered) this.sink.onClose(handle, cookie);
  }

  #servePoolWaiters(): void {
    const output = this.arena.output;
    const waiters = this.#poolWaiters;
    let served = 0;
    while (served < waiters.length && output.smallFree > 0 && output.largeFree > 0) {
      const slot = waiters[served]!;
      const generation = waiters[served + 1]!;
      served += 2;
      if (this.slots.generation[slot] !== generation || !(this.slots.state[slot]! & S.PoolWait)) continue;
      this.slots.state[slot]! &= ~S.PoolWait;
      if (this.slots.outBytes[slot]! <= this.#outputLow) this.#drained(slot);
    }
    waiters.splice(0, served);
  }

  #tick(): void {
    this.#readClock();
    if (this.deadlines.queued > 0)
      this.deadlines.advance(this.#now, (slot) =>
        this.sink.onTimeout(this.slots.handle(slot), this.slots.cookie[slot]!),
      );
    if (this.#retries.length > 0) {
      const due = this.#retries.filter((r) => r.at <= this.#now);
      this.#retries = this.#retries.filter((r) => r.at > this.#now);
      for (const r of due) if (this.slots.generation[r.slot] === r.generation) this.rearm(r.slot);
    }
    if (this.#retiring.length > 0)
      this.#retiring = this.#retiring.filter(
        (r) => this.slots.generation[r.slot] === r.generation && (r.at > this.#now || !this.#retireStep(r.slot)),
      );
  }

  /** Whether something happens by the clock alone. */
  #timed(): boolean {
    return this.deadlines.queued > 0 || this.#retries.length > 0 || this.#retiring.length > 0;
  }

  /** One step towards the end of a retiring listener; true when it is closing. */
  #retireStep(slot: number): boolean {
    const slots = this.slots;
    if (this.wantsAccept(slot)) {
      slots.state[slot]! &= ~(S.Reading | S.AcceptAll);
      this.#cancelArmed(slot);
    }
    /* What a cancelled accept had already taken comes before its last completion. */
    if (slots.state[slot]! & S.Armed) return false;
    if (native.listenQueue(slots.fd[slot]!) > 0) {
      slots.state[slot]! |= S.Reading | S.AcceptAll;
      this.rearm(slot);
      return false;
    }
    this.close(slots.handle(slot));
    return true;
  }

  #startTicker(): void {
    this.#ticker = setInterval(() => {
      this.#poke();
      if (!this.#timed()) this.#stopTicker();
    }, TICK_MS);
    this.#ticker.unref();
  }

  #stopTicker(): void {
    if (this.#ticker) clearInterval(this.#ticker);
    this.#ticker = null;
  }

  /** One round: completions, then what they led to. Returns DRAIN bits. */
  #drain(waited: number): number {
    let bits = 0;
    this.#inDrain = true;
    this.#round++;
    try {
      const before = this.counters.completions;
      const deferred = this.#deferred.length;
      bits = this.#backend.drain(waited);
      if (this.counters.completions !== before) this.counters.batches++;
      this.#tick();
      if (deferred > 0) this.#turns(deferred);
      /* One handle, and nobody else had anything: looking again after every turn of its would only cost. */
      if (this.#deferred.length === 2 && this.counters.completions - before <= 2)
        for (let turn = 1; turn < LONE_TURNS_MAX && this.#deferred.length === 2; turn++) this.#turns(2);
      this.#endBatch(true);
      this.#backend.endRound?.(this.#poolWaiters.length > 0);
      if (this.#deferred.length > 0) bits |= DRAIN_MORE;
    } finally {
      this.#inDrain = false;
      /* A handler threw: what it left is done in the next round. */
      if (
        this.#dirtyCount > 0 ||
        this.#finishCount > 0 ||
        this.#rearmCount > 0 ||
        this.#orphans.length > 0 ||
        this.#deferred.length > 0 ||
        this.#backend.pending()
      )
        this.#poke();
    }
    if (this.#destroyLater) this.destroy();
    return bits;
  }
}
