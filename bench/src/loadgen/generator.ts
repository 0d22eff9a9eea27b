/**
 * The load itself: many connections on one Channel, one request outstanding on each.
 *
 * Closed loop: the next request goes out when the response is complete. Open loop: requests are due on a fixed schedule
 * and wait for an idle connection; latency counts from when they were due, so a slow server cannot hide its queue.
 * After `perConnection` transactions (or what the exchange says) a connection is closed and opened again; the first transaction of a connection
 * includes its connect (closed loop).
 *
 * Invariant: every response is judged by the exchange's matcher. What is wrong, missing, or ended by the server counts
 * as an error, and one error fails the run. Nothing is allocated per transaction.
 * Not its job: protocols (exchange.ts), percentiles (latency.ts), the command line.
 */
import { performance } from 'node:perf_hooks';
import { Channel, type Sink } from '@megapipe/core';
import { type Exchange, type Memory, memoryOf, Verdict } from './exchange.ts';
import { LatencyCounter } from './latency.ts';

export interface LoadPlan {
  hosts: readonly string[];
  port: number;
  connections: number;
  perConnection: number;
  /** Transactions per second, 0 = closed loop. */
  rate: number;
  backend: 'auto' | 'uring' | 'epoll';
  /** Largest request, bytes. */
  requestBytesMax: number;
  /** About what a response brings, bytes. */
  responseBytes: number;
}

/** A run with this many errors has failed; going on would only repeat them. */
const ERRORS_MAX = 100;
const ERROR_TEXTS_MAX = 5;
const CONNECT_MS_MAX = 60_000;
/** How long responses that were on their way at the end may take before they count as missing. */
const DRAIN_MS_MAX = 2_000;
/** More for long responses: so many bytes a millisecond should come at least. */
const DRAIN_BYTES_PER_MS = 50_000;
/** A window is short for responses above this: what has come of one counts as that part of a transaction. */
const PARTIAL_BYTES_MIN = 1024 * 1024;
/**
 * Receive buffers for responses above this are larger and fewer: with 4 KiB each, the client of a 100 KiB response would
 * spend its time on 25 completions, and be the limit long before the server is.
 */
const SMALL_RESPONSE_BYTES_MAX = 8 * 1024;
const LARGE_RECV_BUFFER_BYTES = 64 * 1024;
const LARGE_RECV_BUFFERS = 64;
/** Requests up to this size are copied here; above, the channel's own copy is the faster one. */
const COPY_BYTES_MAX = 512;
/** Responses of one batch that share a reading of the clock in closed loop: some 10 µs, where latencies are of milliseconds. */
const CLOCK_RESPONSES = 8;
/** What a connection is doing. */
const CONNECTING = 0;
const IDLE = 1;
const WAITING = 2;
const CLOSED = 3;

const NOTHING_COMPOSED = { count: 0, bytes: 0, compose: () => {} };

export class Generator implements Sink {
  readonly channel: Channel;
  readonly latency = new LatencyCounter();
  /** Completed transactions and connections opened, since the last `clear`. */
  transactions = 0;
  connects = 0;
  errors = 0;
  readonly errorTexts: string[] = [];

  private readonly plan: LoadPlan;
  private readonly exchange: Exchange;
  private readonly memory: Memory;
  private readonly openLoop: boolean;
  private readonly state: Uint8Array;
  private readonly handles: Int32Array;
  /** Transactions left on this connection; with no limit it starts at 0 and goes below. */
  private readonly left: Int32Array;
  /** Variant of the request outstanding. */
  private readonly variants: Int32Array;
  /** When the outstanding transaction began (closed loop) or was due (open loop), ms. */
  private readonly startedAt: Float64Array;
  private readonly limit: number;
  /** Parts of responses that had come at the last `clear`. */
  private partsBefore = 0;
  private nextHost = 0;
  private sending = true;
  private outstanding = 0;
  private established = 0;
  /** Open loop: idle connections, and when the next request is due, ms. */
  private readonly idle: Int32Array;
  private idleCount = 0;
  private dueAt = 0;
  private readonly intervalMs: number;
  /** The last reading of the clock, ms, and how many more responses may use it. */
  private now = 0;
  private clockLeft = 0;
  private readonly composed: NonNullable<Exchange['composed']>;

  constructor(plan: LoadPlan, exchange: Exchange) {
    this.plan = plan;
    this.exchange = exchange;
    const count = plan.connections;
    this.channel = new Channel(this, {
      backend: plan.backend,
      // A connection that is reopened holds two handles until the old one is closed.
      maxConnects: count * 2 + 64,
      ...(plan.responseBytes > SMALL_RESPONSE_BYTES_MAX
        ? { recvBuffers: LARGE_RECV_BUFFERS, recvBufferBytes: LARGE_RECV_BUFFER_BYTES }
        : {}),
      outputMax: Math.max(256 * 1024, plan.requestBytesMax),
      outputPoolBytes: Math.max(64 << 20, count * Math.min(plan.requestBytesMax, 256 * 1024)),
    });
    this.memory = memoryOf(this.channel.memory);
    this.composed = exchange.composed ?? NOTHING_COMPOSED;
    this.openLoop = plan.rate > 0;
    this.intervalMs = this.openLoop ? 1000 / plan.rate : 0;
    this.limit = Number.isFinite(plan.perConnection) ? plan.perConnection : 0;
    this.state = new Uint8Array(count).fill(CLOSED);
    this.handles = new Int32Array(count);
    this.left = new Int32Array(count);
    this.variants = new Int32Array(count);
    this.startedAt = new Float64Array(count);
    this.idle = new Int32Array(count);
  }

  /** Opens every connection; throws when they are not all established in time. */
  connectAll(): void {
    const deadline = performance.now() + CONNECT_MS_MAX;
    this.sending = false;
    for (let connection = 0; connection < this.plan.connections; connection++) this.open(connection);
    while (this.established < this.plan.connections && this.errors === 0) {
      if (performance.now() > deadline) {
        this.fail(
          -1,
          `${this.established} of ${this.plan.connections} connections established in ${CONNECT_MS_MAX} ms`,
        );
      }
      this.channel.dispatch(100);
    }
    this.sending = true;
    if (this.errors > 0) return;
    const now = performance.now();
    this.dueAt = now;
    if (this.openLoop) return;
    for (let connection = 0; connection < this.plan.connections; connection++) this.begin(connection, now);
  }

  /** Runs the load for `seconds`; answers how long it really was. Ends early when the run has failed. */
  run(seconds: number): number {
    const channel = this.channel;
    const start = performance.now();
    const end = start + seconds * 1000;
    let now = start;
    while (now < end && this.errors < ERRORS_MAX) {
      this.clockLeft = 0;
      if (this.openLoop) {
        this.sendDue(now);
        // The schedule is finer than the timeout's grain: poll, the core is the generator's own.
        channel.dispatch(0);
      } else {
        channel.dispatch(10);
      }
      now = performance.now();
    }
    return (now - start) / 1000;
  }

  /** Starts counting anew: what came before was warm-up. Errors stay. */
  clear(): void {
    this.partsBefore = this.parts();
    this.transactions = 0;
    this.connects = 0;
    this.latency.clear();
  }

  /** Transactions since the last `clear`, with the parts of long ones that are under way. */
  counted(): number {
    return this.transactions + this.parts() - this.partsBefore;
  }

  private parts(): number {
    const { matcher } = this.exchange;
    if (this.plan.responseBytes < PARTIAL_BYTES_MIN || matcher.progress === undefined) return 0;
    let sum = 0;
    for (let connection = 0; connection < this.plan.connections; connection++)
      if (this.state[connection] === WAITING) sum += matcher.progress(connection);
    return sum;
  }

  /** Sends nothing more, waits for the responses on their way, closes everything. Missing ones are errors. */
  finish(): void {
    this.sending = false;
    const bytesMax = this.plan.responseBytes * this.plan.connections;
    const drainMsMax = DRAIN_MS_MAX + Math.floor(bytesMax / DRAIN_BYTES_PER_MS);
    const deadline = performance.now() + drainMsMax;
    while (this.outstanding > 0 && this.errors < ERRORS_MAX && performance.now() < deadline) this.channel.dispatch(10);
    if (this.errors < ERRORS_MAX) {
      for (let connection = 0; connection < this.plan.connections; connection++) {
        if (this.state[connection] === WAITING) this.fail(connection, `no complete response in ${drainMsMax} ms`);
      }
    }
    // What closes from here on was meant to.
    this.handles.fill(0);
    this.channel.destroy();
  }

  /** Transactions whose time has come and that no connection was free for (open loop). */
  backlog(): number {
    return this.openLoop ? Math.max(0, Math.floor((performance.now() - this.dueAt) / this.intervalMs)) : 0;
  }

  onConnect(_handle: number, connection: number, errno: number): void {
    if (errno !== 0) {
      this.broken(connection, `connect: errno ${errno}`);
      return;
    }
    this.established++;
    this.connects++;
    this.channel.read(this.handles[connection]!);
    this.left[connection] = this.exchange.connectionLength?.() ?? this.limit;
    if (this.openLoop || !this.sending) this.rest(connection);
    else this.begin(connection, this.startedAt[connection]!);
  }

  onRead(handle: number, connection: number, offset: number, length: number): void {
    // A connection that was closed may still deliver what had arrived.
    if (this.handles[connection] !== handle) return;
    if (this.state[connection] !== WAITING) {
      this.broken(connection, `${length} bytes that no request asked for`);
      return;
    }
    const verdict = this.exchange.matcher.match(connection, this.memory, offset, length);
    if (verdict === Verdict.More) return;
    if (verdict === Verdict.Wrong) {
      this.broken(connection, this.exchange.matcher.complaint(connection));
      return;
    }
    if (this.clockLeft-- === 0) {
      this.now = performance.now();
      this.clockLeft = this.openLoop ? 0 : CLOCK_RESPONSES - 1;
    }
    const { now } = this;
    this.latency.record(now - this.startedAt[connection]!);
    this.transactions++;
    this.outstanding--;
    if (--this.left[connection]! === 0) {
      this.established--;
      this.state[connection] = CLOSED;
      this.handles[connection] = 0;
      this.channel.close(handle);
      if (this.sending) this.open(connection);
    } else if (this.openLoop || !this.sending) {
      this.rest(connection);
    } else {
      this.begin(connection, now);
    }
  }

  onEnd(handle: number, connection: number, errno: number): void {
    if (this.handles[connection] !== handle) return;
    const during = this.state[connection] === WAITING ? 'before its response was complete' : 'while idle';
    this.broken(connection, `the server ended the connection ${during}${errno === 0 ? '' : ` (errno ${errno})`}`);
  }

  onDrain(handle: number, connection: number): void {
    if (this.handles[connection] === handle && this.state[connection] === WAITING) this.put(connection);
  }

  onClose(handle: number, connection: number): void {
    if (this.handles[connection] === handle) this.broken(connection, 'the channel closed the connection');
  }

  onAccept(): void {}
  onAcceptError(): void {}
  onWritten(): void {}
  onTimeout(): void {}

  private open(connection: number): void {
    const hosts = this.plan.hosts;
    const host = hosts[this.nextHost]!;
    this.nextHost = this.nextHost + 1 === hosts.length ? 0 : this.nextHost + 1;
    this.state[connection] = CONNECTING;
    if (!this.openLoop) this.startedAt[connection] = performance.now();
    this.handles[connection] = this.channel.connect(host, this.plan.port, connection);
  }

  private rest(connection: number): void {
    this.state[connection] = IDLE;
    if (this.openLoop) this.idle[this.idleCount++] = connection;
  }

  /** Sends what is due by now, as far as there are idle connections. */
  private sendDue(now: number): void {
    while (this.dueAt <= now && this.idleCount > 0) {
      const connection = this.idle[--this.idleCount]!;
      this.begin(connection, this.dueAt);
      this.dueAt += this.intervalMs;
    }
  }

  private begin(connection: number, startedAt: number): void {
    const variant = this.exchange.pick(connection);
    this.variants[connection] = variant;
    this.startedAt[connection] = startedAt;
    this.state[connection] = WAITING;
    this.outstanding++;
    this.exchange.matcher.begin(connection, variant);
    this.put(connection);
  }

  /** Hands the request to the channel. When that answers Full nothing was taken, and onDrain comes here again. */
  private put(connection: number): void {
    const { composed } = this;
    const variant = this.variants[connection]!;
    if (variant < composed.count) {
      const bytes = composed.bytes;
      const handle = this.handles[connection]!;
      const to = this.channel.reserve(handle, (bytes + 3) & ~3);
      if (to < 0) return;
      if ((to & 3) === 0) {
        composed.compose(variant, this.memory.words, to >>> 2);
        this.channel.commit(handle, bytes);
        return;
      }
    }
    const requests = this.exchange.requests;
    const start = requests.start[variant]!;
    const length = requests.length[variant]!;
    const handle = this.handles[connection]!;
    if (length > COPY_BYTES_MAX) {
      this.channel.writeCopy(handle, requests.bytes, start, start + length);
      return;
    }
    // Up to three bytes beyond are copied along, and not committed.
    const to = this.channel.reserve(handle, (length + 3) & ~3);
    if (to < 0) return;
    if ((to & 3) === 0) {
      const target = this.memory.words;
      const source = requests.words;
      const last = (start + length + 3) >>> 2;
      let word = to >>> 2;
      for (let i = start >>> 2; i < last; i++) target[word++] = source[i]!;
    } else {
      const target = this.memory.bytes;
      const source = requests.bytes;
      for (let i = 0; i < length; i++) target[to + i] = source[start + i]!;
    }
    this.channel.commit(handle, length);
  }

  /** Counts an error of a connection, drops it and opens it again. */
  private broken(connection: number, text: string): void {
    this.fail(connection, text);
    const handle = this.handles[connection]!;
    const state = this.state[connection]!;
    this.handles[connection] = 0;
    this.state[connection] = CLOSED;
    if (state === WAITING) this.outstanding--;
    if (state === IDLE && this.openLoop) {
      const at = this.idle.indexOf(connection);
      this.idle.copyWithin(at, at + 1, this.idleCount--);
    }
    if (state !== CONNECTING) this.established--;
    this.channel.abort(handle);
    if (this.sending && this.errors < ERRORS_MAX) this.open(connection);
  }

  private fail(connection: number, text: string): void {
    this.errors++;
    if (this.errorTexts.length < ERROR_TEXTS_MAX) {
      this.errorTexts.push(connection < 0 ? text : `connection ${connection}: ${text}`);
    }
  }
}
