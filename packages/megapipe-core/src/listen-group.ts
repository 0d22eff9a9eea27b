/**
 * Partitioned listening: a SO_REUSEPORT group, one listening socket (and so one accept queue) for each channel.
 *
 * The kernel numbers a group's sockets as they began to listen, and a steering program picks a number for each connection; when
 * a socket leaves, the last takes its number. Channels of several threads change one group, so the list of its members
 * stands in shared memory, under a lock that is held for a system call or two.
 * Invariant: outside of that lock the list has the kernel's order, and the program fits it.
 * Not its job: accepting; a socket goes to a channel by `Channel.register`.
 */
import { native } from '@megapipe/native';
import { MegapipeError, systemError, wholeNumber } from './errors.ts';
import { type ListenTcpOptions, listenTcp, localAddress } from './listen.ts';

/** Sockets in a group at most, and CPUs over all their masks: the length of the steering program. */
const STEER_MAX = 256;
const CPU_MAX = 511;
const LOCK_WAIT_MS = 1000;

/* The shared words: lock, port, members, whether a program is attached, the socket that all members share + 1 (0: each has its own); then a row for each member. */
const LOCK = 0;
const PORT = 1;
const COUNT = 2;
const STEERED = 3;
const SHARED = 4;
const ROWS = 5;
/* Words of a row: descriptor, whether it is retired, bits of its CPUs. */
const FD = 0;
const RETIRED = 1;
const MASK = 2;
const ROW_WORDS = MASK + (CPU_MAX + 1) / 32;

/** @internal CPU numbers as a list. Throws ERR_MEGAPIPE_ARGUMENT for what is no number of a CPU. */
export function cpuList(cpus: number | readonly number[] = []): readonly number[] {
  const list = typeof cpus === 'number' ? [cpus] : cpus;
  for (const cpu of list) wholeNumber('listen group: a CPU', cpu, 0, CPU_MAX);
  return list;
}

/** What another thread needs to {@link ListenGroup.join} a group: plain data for `workerData` or a message. */
export interface ListenGroupShare {
  options: Omit<ListenTcpOptions, 'reusePort'>;
  memory: SharedArrayBuffer;
}

export interface ListenGroupOptions extends Omit<ListenTcpOptions, 'reusePort'> {
  /** Sockets in the group, one for each channel. */
  count: number;
  /**
   * CPU of each socket's channel. When given, a connection goes to the socket of the CPU that received it; without,
   * the kernel spreads connections by hash.
   */
  cpus?: number[];
}

/**
 * A SO_REUSEPORT group that channels join and leave while it serves. Each channel calls `register(group, cookie, { cpus })`,
 * which adds a socket of its own, and the socket leaves when the channel closes it; in other threads, after
 * `ListenGroup.join(share)`. `channel.retire(listener)` takes it out without losing a connection.
 *
 * Where sockets are made in one thread and accepted from in another: `add`, `retire` and `left` are the single steps.
 */
export class ListenGroup {
  readonly #options: Omit<ListenTcpOptions, 'reusePort'>;
  readonly #words: Int32Array;

  constructor(options: Omit<ListenTcpOptions, 'reusePort'>, share?: ListenGroupShare) {
    this.#options = share?.options ?? options;
    const bytes = (ROWS + STEER_MAX * ROW_WORDS) * 4;
    this.#words = new Int32Array(share?.memory ?? new SharedArrayBuffer(bytes));
    if (share) {
      if (!(share.memory instanceof SharedArrayBuffer) || share.memory.byteLength !== bytes)
        throw new MegapipeError('ERR_MEGAPIPE_ARGUMENT', 'listen group: expected what `share` of another one returned');
      return;
    }
    this.#words[PORT] = options.port;
    /* A probe without SO_REUSEPORT: two groups of one user would share the port silently instead of failing. */
    if (options.port !== 0) native.close(listenTcp(options));
  }

  /** The same group in another thread of this process. */
  static join(share: ListenGroupShare): ListenGroup {
    return new ListenGroup(share.options, share);
  }

  get share(): ListenGroupShare {
    return { options: this.#options, memory: this.#words.buffer as SharedArrayBuffer };
  }

  /** 0 before the first socket, where a free port was asked for. */
  get port(): number {
    return this.#words[PORT]!;
  }

  /**
   * A further listening socket. With `cpus` (numbers 0 … 511; the paper's CPU mask) it gets the connections that these CPUs receive;
   * those of a CPU that nobody named are spread over all.
   */
  add(cpus: number | readonly number[] = []): number {
    const list = cpuList(cpus);
    return this.#locked((words) => {
      this.#checkRoom(list, false);
      const fd = listenTcp({ ...this.#options, port: words[PORT]!, reusePort: true });
      this.#member(fd, list);
      if (list.length > 0 || words[STEERED]) this.#steer();
      return fd;
    });
  }

  /**
   * @internal For channels whose kernel shares out a listening socket by itself (backend `device`): a descriptor of the one socket
   * that all members have in common. What `cpus` says is for the channel to tell the kernel.
   */
  addShared(cpus: number | readonly number[] = []): number {
    const list = cpuList(cpus);
    return this.#locked((words) => {
      this.#checkRoom(list, true);
      if (words[COUNT] === 0) words[SHARED] = listenTcp({ ...this.#options, port: words[PORT]! }) + 1;
      const fd = native.dup(words[SHARED]! - 1, 0);
      if (fd < 0) {
        this.#unshare();
        throw systemError('dup', -fd, 'listening socket');
      }
      this.#member(fd, list);
      return fd;
    });
  }

  /** Throws unless a member with these CPUs may come. */
  #checkRoom(cpus: readonly number[], shared: boolean): void {
    const words = this.#words;
    const count = words[COUNT]!;
    if (count === STEER_MAX || this.#pairs().cpus.length + cpus.length > STEER_MAX)
      throw new MegapipeError('ERR_MEGAPIPE_CAPACITY', `listen group: at most ${STEER_MAX} sockets, and CPUs in all`);
    if (count > 0 && this.#cpus(0).length > 0 !== cpus.length > 0)
      throw new MegapipeError('ERR_MEGAPIPE_ARGUMENT', 'listen group: either every socket has CPUs or none has');
    if (count > 0 && words[SHARED]! > 0 !== shared)
      throw new MegapipeError(
        'ERR_MEGAPIPE_ARGUMENT',
        'listen group: with CPUs, either every channel is on backend device or none is',
      );
  }

  #member(fd: number, cpus: readonly number[]): void {
    const words = this.#words;
    const count = words[COUNT]!;
    if (words[PORT] === 0) words[PORT] = localAddress(fd).port;
    const row = ROWS + count * ROW_WORDS;
    words.fill(0, row, row + ROW_WORDS);
    words[row + FD] = fd;
    for (const cpu of cpus) words[row + MASK + (cpu >>> 5)]! |= 1 << (cpu & 31);
    words[COUNT] = count + 1;
  }

  /** The last member has left: the socket goes. */
  #unshare(): void {
    const words = this.#words;
    if (words[COUNT]! > 0 || words[SHARED] === 0) return;
    native.close(words[SHARED]! - 1);
    words[SHARED] = 0;
  }

  /**
   * No new connection goes to this socket from now on; those in its queue are still to be accepted.
   * Throws ERR_MEGAPIPE_STATE for the last socket that takes connections.
   */
  retire(fd: number): void {
    this.#locked((words) => {
      const at = this.#find(fd);
      if (at < 0) throw new MegapipeError('ERR_MEGAPIPE_ARGUMENT', `listen group: descriptor ${fd} is not a member`);
      const row = ROWS + at * ROW_WORDS;
      const was = words[row + RETIRED]!;
      words[row + RETIRED] = 1;
      if (this.#active().length === 0) {
        words[row + RETIRED] = was;
        throw new MegapipeError(
          'ERR_MEGAPIPE_STATE',
          'listen group: the last socket that takes connections cannot be retired',
        );
      }
      if (words[SHARED] === 0) this.#steer();
    });
  }

  /** The socket was closed. Nothing happens when it is no member. */
  left(fd: number): void {
    this.#locked((words) => {
      const at = this.#find(fd);
      if (at < 0) return;
      const last = words[COUNT]! - 1;
      const [row, lastRow] = [ROWS + at * ROW_WORDS, ROWS + last * ROW_WORDS];
      words.copyWithin(row, lastRow, lastRow + ROW_WORDS);
      words[COUNT] = last;
      this.#unshare();
      /* Until here, numbers of the old order picked some other member: a detour, not a loss. */
      if (words[STEERED] && this.#active().length > 0) this.#steer();
    });
  }

  #find(fd: number): number {
    const words = this.#words;
    for (let i = 0; i < words[COUNT]!; i++) if (words[ROWS + i * ROW_WORDS + FD] === fd) return i;
    return -1;
  }

  /** Numbers of the members that take connections. */
  #active(): number[] {
    const active: number[] = [];
    for (let i = 0; i < this.#words[COUNT]!; i++) if (!this.#words[ROWS + i * ROW_WORDS + RETIRED]) active.push(i);
    return active;
  }

  #cpus(member: number): number[] {
    const mask = ROWS + member * ROW_WORDS + MASK;
    const cpus: number[] = [];
    for (let cpu = 0; cpu <= CPU_MAX; cpu++) if ((this.#words[mask + (cpu >>> 5)]! >>> (cpu & 31)) & 1) cpus.push(cpu);
    return cpus;
  }

  /** What the program says: CPU and the member it leads to, one pair for each; without masks, just the members. */
  #pairs(): { cpus: number[]; targets: number[] } {
    const active = this.#active();
    const pairs = active.flatMap((i) => this.#cpus(i).map((cpu) => [cpu, i] as const));
    if (pairs.length === 0) return { cpus: [], targets: active };
    return { cpus: pairs.map(([cpu]) => cpu), targets: pairs.map(([, i]) => i) };
  }

  #steer(): void {
    const { cpus, targets } = this.#pairs();
    const result = native.reuseportSteer(this.#words[ROWS + FD]!, cpus, targets);
    if (result < 0) throw systemError('setsockopt', -result, 'SO_ATTACH_REUSEPORT_CBPF');
    this.#words[STEERED] = 1;
  }

  #locked<T>(change: (words: Int32Array) => T): T {
    const words = this.#words;
    for (const until = performance.now() + LOCK_WAIT_MS; Atomics.compareExchange(words, LOCK, 0, 1) !== 0; ) {
      if (performance.now() > until)
        throw new MegapipeError('ERR_MEGAPIPE_STATE', 'listen group: a thread ended while it was changing the group');
      Atomics.wait(words, LOCK, 1, 10);
    }
    try {
      return change(words);
    } finally {
      Atomics.store(words, LOCK, 0);
      Atomics.notify(words, LOCK);
    }
  }
}

/** `count` listening sockets on one address, each with its own accept queue. For a group that changes: {@link ListenGroup}. */
export function listenGroup(options: ListenGroupOptions): number[] {
  const { count, cpus, ...rest } = options;
  if (!Number.isInteger(count) || count < 1 || count > STEER_MAX)
    throw new MegapipeError('ERR_MEGAPIPE_ARGUMENT', `listenGroup: count must be 1 to ${STEER_MAX}, got ${count}`);
  if (cpus && cpus.length !== count)
    throw new MegapipeError(
      'ERR_MEGAPIPE_ARGUMENT',
      `listenGroup: cpus must name one CPU for each of the ${count} sockets, got ${cpus.length}`,
    );
  /* Alone, a plain socket: with SO_REUSEPORT a second server could take half of the connections unnoticed. */
  if (count === 1) return [listenTcp(rest)];
  const group = new ListenGroup(rest);
  const fds: number[] = [];
  try {
    for (let i = 0; i < count; i++) fds.push(group.add(cpus?.[i]));
  } catch (error) {
    for (const fd of fds) native.close(fd);
    throw error;
  }
  return fds;
}
