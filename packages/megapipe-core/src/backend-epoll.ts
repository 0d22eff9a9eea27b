/**
 * Backend on BSD sockets: epoll_wait, then accept4, read or write, one system call each, as servers are written
 * without MegaPipe. It is the baseline of every comparison, so it does what such servers do and no more: level-triggered
 * events, one read an event, a write tried at once, EPOLLOUT only after EAGAIN.
 *
 * Invariant: Armed means that EPOLLIN is in the interest mask (slots.extra); nothing is ever in flight in the kernel.
 */
import { NET, native } from '@megapipe/native';
import { type Arena, addressFamily, EVENTS_MAX, GATHER_MAX } from './arena.ts';
import { AtOnce } from './at-once.ts';
import { type Backend, DRAIN_LEAVE, DRAIN_MORE } from './backend.ts';
import type { Channel } from './channel.ts';
import { systemError } from './errors.ts';
import { ARENA } from './output.ts';
import { NO_SEGMENT, S } from './slots.ts';

const EINTR = 4;
const EAGAIN = 11;
const ENOMEM = 12;
const ECONNABORTED = 103;
const ENOBUFS = 105;
const EINPROGRESS = 115;
const EPROTO = 71;
const EPIPE = 32;
const ENFILE = 23;

/** Data word that marks libuv's descriptor; no slot has it. */
const HOST = 0xffff_ffff;
/** Accepts for one event, so that a connection storm leaves room for the others. */
const ACCEPTS_PER_EVENT = 64;
const RECV_MAX = 65_536;

/** Not this connection's failure: the kernel has nothing, or no memory, at the moment. The event comes again. */
function transient(result: number): boolean {
  return result === -EAGAIN || result === -EINTR || result === -ENOBUFS || result === -ENOMEM;
}

export class EpollBackend implements Backend {
  readonly name = 'epoll';
  readonly kind = 1;
  readonly features = null;
  readonly id: number;
  readonly slots: number;

  readonly #channel: Channel;
  readonly #arena: Arena;
  readonly #region: number;
  readonly #recv: number;
  readonly #recvBytes: number;
  readonly #events: number;
  readonly #free: number[] = [];
  readonly #atOnce = new AtOnce();
  #hostArmed = false;

  constructor(channel: Channel) {
    const o = channel.options;
    this.#channel = channel;
    this.#arena = channel.arena;
    this.#region = channel.arena.region;
    this.#recv = channel.arena.recv;
    this.#recvBytes = Math.min(RECV_MAX, o.recvBuffers * o.recvBufferBytes);
    this.#events = channel.arena.events >>> 2;
    this.slots = o.maxHandles + o.maxConnects;
    for (let i = this.slots - 1; i >= 0; i--) this.#free.push(i);
    this.id = native.epollCreate();
    if (this.id < 0) throw systemError('epoll_create1', -this.id, '');
  }

  openFd(fd: number, state: number, accepted: boolean): number {
    const slot = this.#free.pop();
    if (slot === undefined) return -1;
    if (!accepted) native.setBlocking(fd, 0);
    this.#channel.slots.open(slot, state, fd);
    return slot;
  }

  connect(_addressOffset: number, host: string, port: number): number {
    if (this.#free.length === 0) return -1;
    const domain = addressFamily(host);
    const fd = native.socket(domain, NET.SOCK_STREAM);
    if (fd < 0) return Math.min(fd, -2);
    const result = native.connect(fd, host, port);
    const slot = this.#free.pop()!;
    const slots = this.#channel.slots;
    slots.open(slot, S.Registered | S.Fd | S.Connecting, fd);
    slots.inFlight[slot] = 0;
    /* Also an immediate outcome is reported from the loop: the sink is never called from inside a verb. */
    if (result < 0 && result !== -EINPROGRESS) this.#atOnce.connected(slot, slots.generation[slot]!, -result);
    else this.#interest(slot, NET.EPOLLOUT);
    return slot;
  }

  #interest(slot: number, mask: number): void {
    const slots = this.#channel.slots;
    const before = slots.extra[slot]!;
    if (mask === before) return;
    const op = before === 0 ? NET.EPOLL_CTL_ADD : mask === 0 ? NET.EPOLL_CTL_DEL : NET.EPOLL_CTL_MOD;
    const result = native.epollCtl(this.id, op, slots.fd[slot]!, mask, slot, slots.generation[slot]! >>> 0);
    if (result < 0) {
      /* ENOMEM, ENOSPC (fs.epoll.max_user_watches), EPERM (a regular file): this connection fails, not the server. */
      slots.state[slot]! &= ~(S.Sending | S.Armed);
      this.#channel.failSoon(slot, -result);
      return;
    }
    slots.extra[slot] = mask;
  }

  armAccept(slot: number): void {
    const slots = this.#channel.slots;
    slots.state[slot]! |= S.Armed;
    /* A listener's `extra` counts accepts; its interest is Armed itself. Exclusive: one worker wakes, not all. */
    const result = native.epollCtl(
      this.id,
      NET.EPOLL_CTL_ADD,
      slots.fd[slot]!,
      NET.EPOLLIN | NET.EPOLLEXCLUSIVE,
      slot,
      slots.generation[slot]! >>> 0,
    );
    if (result < 0) {
      slots.state[slot]! &= ~S.Armed;
      this.#channel.failSoon(slot, -result);
    }
  }

  sweepAccept(slot: number): boolean {
    const channel = this.#channel;
    if (this.#free.length === 0) return false;
    const fd = native.accept(channel.slots.fd[slot]!);
    if (fd < 0) return false;
    channel.counters.completions++;
    channel.accepted(slot, -1, fd);
    channel.rearm(slot);
    channel.settled(slot);
    return true;
  }

  armRecv(slot: number): void {
    const slots = this.#channel.slots;
    slots.state[slot]! |= S.Armed;
    this.#interest(slot, slots.extra[slot]! | NET.EPOLLIN);
  }

  armInto(slot: number): void {
    const slots = this.#channel.slots;
    slots.state[slot]! |= S.IntoArmed;
    this.#interest(slot, slots.extra[slot]! | NET.EPOLLIN);
  }

  cancelInto(slot: number): void {
    const slots = this.#channel.slots;
    slots.state[slot]! &= ~S.IntoArmed;
    this.#interest(slot, slots.extra[slot]! & ~NET.EPOLLIN);
  }

  cancelArmed(slot: number): void {
    const slots = this.#channel.slots;
    slots.state[slot]! &= ~S.Armed;
    if (slots.state[slot]! & S.Listener) native.epollCtl(this.id, NET.EPOLL_CTL_DEL, slots.fd[slot]!, 0, 0, 0);
    else this.#interest(slot, slots.extra[slot]! & ~NET.EPOLLIN);
  }

  cancelAll(slot: number): void {
    const slots = this.#channel.slots;
    slots.state[slot]! &= ~(S.Sending | S.Connecting);
    this.#interest(slot, 0);
  }

  send(slot: number): void {
    const channel = this.#channel;
    const slots = channel.slots;
    while (slots.outBytes[slot]! > 0) {
      const n = this.#sendOnce(slot);
      if (n > 0) {
        slots.state[slot]! &= ~S.Sending;
        /* Dirty keeps sent() from queueing this slot once more while it is being served. */
        slots.state[slot]! |= S.Dirty;
        const before = slots.generation[slot];
        let whole = false;
        try {
          channel.sent(slot, n);
          whole = true;
        } finally {
          if (!whole && slots.generation[slot] === before) {
            /* A handler threw: what is left is sent in the next round. */
            slots.state[slot]! &= ~S.Dirty;
            channel.sent(slot, 0);
          }
        }
        if (slots.generation[slot] !== before) return;
        slots.state[slot]! &= ~S.Dirty;
        if (slots.state[slot]! & S.Broken) return;
      } else if (transient(n)) {
        slots.state[slot]! |= S.Sending;
        this.#interest(slot, slots.extra[slot]! | NET.EPOLLOUT);
        return;
      } else {
        slots.state[slot]! &= ~S.Sending;
        channel.sendFailed(slot, n === 0 ? EPROTO : -n);
        return;
      }
    }
    if (slots.extra[slot]! & NET.EPOLLOUT) this.#interest(slot, slots.extra[slot]! & ~NET.EPOLLOUT);
    channel.flushed(slot);
  }

  #sendOnce(slot: number): number {
    const slots = this.#channel.slots;
    const output = this.#arena.output;
    const fd = slots.fd[slot]!;
    let s = slots.outHead[slot]!;
    if (output.segNext[s] === NO_SEGMENT) {
      const region = output.segRegion[s]!;
      return native.send(fd, region === ARENA ? this.#region : region, output.segOffset[s]!, output.segLength[s]!, 0);
    }
    const block = this.#arena.takeGather();
    const words = this.#arena.words;
    let w = block >>> 2;
    let count = 0;
    for (; s !== NO_SEGMENT && count < GATHER_MAX; s = output.segNext[s]!) {
      const length = output.segLength[s]!;
      if (length === 0) continue;
      const region = output.segRegion[s]!;
      const offset = output.segOffset[s]!;
      words[w] = region === ARENA ? this.#region : region;
      words[w + 1] = offset | 0;
      words[w + 2] = (offset / 0x1_0000_0000) | 0;
      words[w + 3] = length;
      w += 4;
      count++;
    }
    const n = native.sendv(fd, this.#region, block, count);
    this.#arena.giveGather(block);
    return n;
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
    native.shutdown(this.#channel.slots.fd[slot]!, NET.SHUT_WR);
    this.#channel.shutDone(slot);
  }

  closeSlot(slot: number): void {
    const slots = this.#channel.slots;
    /* A duplicated listening socket stays in the epoll set after close, as long as another duplicate is open. */
    if (slots.state[slot]! & S.Listener && slots.state[slot]! & S.Armed)
      native.epollCtl(this.id, NET.EPOLL_CTL_DEL, slots.fd[slot]!, 0, 0, 0);
    native.close(slots.fd[slot]!);
    this.#free.push(slot);
  }

  peer(_slot: number): null {
    return null;
  }

  releaseFd(slot: number): number {
    const slots = this.#channel.slots;
    const fd = slots.fd[slot]!;
    if (slots.state[slot]! & S.Listener) {
      if (slots.state[slot]! & S.Armed) native.epollCtl(this.id, NET.EPOLL_CTL_DEL, fd, 0, 0, 0);
    } else this.#interest(slot, 0);
    this.#free.push(slot);
    return native.dup(fd, 2);
  }

  closeFd(fd: number): void {
    native.close(fd);
  }

  submit(): void {
    /* Nothing is ever queued: each verb is its own system call. */
  }

  wait(timeoutMs: number): number {
    this.#channel.counters.enters++;
    const timeout = this.pending() ? 0 : timeoutMs;
    return native.epollWait(this.id, this.#region, this.#arena.events, EVENTS_MAX, timeout);
  }

  drain(waited: number): number {
    const channel = this.#channel;
    let bits = 0;
    this.#atOnce.deliver(channel);
    if (waited < 0) {
      if (transient(waited)) return bits;
      throw systemError('epoll_wait', -waited, '');
    }
    const words = this.#arena.words;
    for (let i = 0; i < waited; i++) {
      const w = this.#events + i * 3;
      const events = words[w]!;
      const slot = words[w + 1]!;
      if (slot >>> 0 === HOST) {
        this.#arena.words[2] = 1;
        bits |= DRAIN_LEAVE;
        continue;
      }
      if (channel.slots.generation[slot] !== words[w + 2]!) {
        channel.counters.stale++;
        continue;
      }
      this.#event(slot, events);
      channel.endEvent();
    }
    return waited === EVENTS_MAX ? bits | DRAIN_MORE : bits;
  }

  #event(slot: number, events: number): void {
    const channel = this.#channel;
    const slots = channel.slots;
    const state = slots.state[slot]!;
    if (state & S.Listener) {
      this.#accept(slot);
      return;
    }
    channel.counters.completions++;
    if (state & S.Connecting) {
      const errno = native.getsockopt(slots.fd[slot]!, NET.SOL_SOCKET, NET.SO_ERROR);
      this.#interest(slot, 0);
      channel.connected(slot, errno);
      return;
    }
    if (events & NET.EPOLLOUT && state & S.Sending) {
      slots.state[slot]! &= ~S.Sending;
      this.send(slot);
    }
    const now = slots.state[slot]!;
    if (now & S.IntoArmed && events & (NET.EPOLLIN | NET.EPOLLHUP | NET.EPOLLERR)) this.#receiveInto(slot);
    else if (now & S.Armed && events & (NET.EPOLLIN | NET.EPOLLHUP | NET.EPOLLERR)) this.#receive(slot);
    else if (events & (NET.EPOLLHUP | NET.EPOLLERR) && !(now & (S.Armed | S.Finishing))) {
      /* Nobody reads, so nobody would see it, and a level-triggered event would come for ever. */
      const errno = native.getsockopt(slots.fd[slot]!, NET.SOL_SOCKET, NET.SO_ERROR);
      slots.state[slot]! &= ~S.Sending;
      this.#interest(slot, 0);
      channel.sendFailed(slot, errno || EPIPE);
    }
  }

  #receiveInto(slot: number): void {
    const slots = this.#channel.slots;
    const n = native.recv(slots.fd[slot]!, slots.intoRegion[slot]!, slots.intoOffset[slot]!, slots.intoLength[slot]!);
    if (transient(n)) return;
    this.cancelInto(slot);
    this.#channel.receivedInto(slot, Math.max(n, 0), n < 0 ? -n : 0);
  }

  #receive(slot: number): void {
    const channel = this.#channel;
    const slots = channel.slots;
    const n = native.recv(slots.fd[slot]!, this.#region, this.#recv, this.#recvBytes);
    if (n > 0) channel.received(slot, this.#recv, n);
    else if (!transient(n)) {
      slots.state[slot]! &= ~S.Armed;
      channel.ended(slot, -n | 0);
      /* Most users close now, which takes the descriptor out of the set by itself. */
      if (!(slots.state[slot]! & S.Finishing)) this.#interest(slot, slots.extra[slot]! & ~NET.EPOLLIN);
    }
  }

  #accept(slot: number): void {
    const channel = this.#channel;
    const slots = channel.slots;
    const listener = slots.fd[slot]!;
    for (let i = 0; i < ACCEPTS_PER_EVENT && channel.wantsAccept(slot); i++) {
      if (this.#free.length === 0) {
        this.cancelArmed(slot);
        channel.acceptFailed(slot, ENFILE);
        return;
      }
      const fd = native.accept(listener);
      if (fd >= 0) {
        channel.counters.completions++;
        channel.accepted(slot, -1, fd);
      } else if (fd === -EAGAIN) return;
      else if (fd !== -ECONNABORTED && fd !== -EINTR && fd !== -EPROTO) {
        this.cancelArmed(slot);
        channel.acceptFailed(slot, -fd);
        return;
      }
    }
    if (!channel.wantsAccept(slot) && slots.state[slot]! & S.Armed) this.cancelArmed(slot);
  }

  armHost(fd: number): void {
    if (this.#hostArmed) return;
    const result = native.epollCtl(this.id, NET.EPOLL_CTL_ADD, fd, NET.EPOLLIN, HOST, 0);
    if (result < 0) throw systemError('epoll_ctl', -result, 'the event loop');
    this.#hostArmed = true;
  }

  disarmHost(fd: number): void {
    if (!this.#hostArmed) return;
    native.epollCtl(this.id, NET.EPOLL_CTL_DEL, fd, 0, 0, 0);
    this.#hostArmed = false;
  }

  destroy(): void {
    const slots = this.#channel.slots;
    native.close(this.id);
    for (let slot = 0; slot < this.slots; slot++) if (slots.state[slot]! & S.Used) native.close(slots.fd[slot]!);
  }
}
