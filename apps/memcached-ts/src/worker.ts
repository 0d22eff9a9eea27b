/**
 * A worker thread: one channel, its connections, and its way into the shared cache.
 *
 * What it is for: it turns the channel's completions into runs of the protocol, and keeps each connection within its
 * bounds: line length, bytes kept, number of connections, idle time.
 * Invariant: while a connection's output is full, nothing of it is parsed; what was received waits in its carry.
 * Not its job: the protocol, the cache, and making listening sockets (main.ts does).
 */
import { isIP } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import {
  type AcceptedSocket,
  Channel,
  discardMemory,
  type Handle,
  type Sink,
  SLOT_MASK,
  setAffinity,
} from '@megapipe/core';
import type { Credential } from './auth_file.ts';
import { BackgroundTimer } from './background.ts';
import { indexOfByte } from './bytes.ts';
import {
  CONN_CLOSING,
  CONN_COMMAND,
  CONN_KEYS,
  CONN_NREAD,
  CONN_SEND,
  CONN_SWALLOW,
  CONN_WAIT,
  CONN_WATCH,
  Conn,
  PROTOCOL_AUTH,
  PROTOCOL_BINARY,
  PROTOCOL_TEXT,
  PROTOCOL_UNKNOWN,
} from './conn.ts';
import { Cache } from './engine/cache.ts';
import {
  CacheMemory,
  LOCK_STRIDE_WORDS,
  TIME_AT_START,
  W_ACCEPTING,
  W_CURR_CONNS,
  W_LOG_FLAGS,
  W_THREAD_CONNS,
  W_THREAD_PARKS,
  W_TIME,
  W_VERBOSITY,
} from './engine/layout.ts';
import {
  T_ACCEPT_ERRORS,
  T_BYTES_READ,
  T_CONN_STRUCTURES,
  T_IDLE_KICKS,
  T_KEPT_BUFFERS,
  T_KEPT_BYTES,
  T_LISTEN_DISABLED,
  T_LISTEN_DISABLED_US,
  T_READ_BUF_OOM,
  T_REJECTED_CONNS,
  T_RESPONSE_BYTES,
  T_RESPONSE_OOM,
  T_RESPONSES,
  T_TOTAL_CONNS,
  threadBase,
} from './engine/stats.ts';
import { complain } from './fail.ts';
import { collectStartGarbage } from './heap.ts';
import { RECEIVE_BYTES, receiveBuffers } from './limits.ts';
import type { Listener } from './listen.ts';
import { CONNEVENTS, Logger, type LogLines } from './logger.ts';
import { dumpPrefixes, type PrefixCounts, Prefixes } from './prefixes.ts';
import { ProtoAuth } from './proto_auth.ts';
import { ProtoBin } from './proto_bin.ts';
import { CARRY_BYTES_MAX, type Host, LINE_BYTES_MAX, ProtoText } from './proto_text.ts';
import { MAGIC_REQUEST } from './protocol.ts';
import { DEFERRED } from './replies.ts';
import type { Settings } from './settings.ts';
import { statsText } from './stats_text.ts';
import { reason, strerror } from './strerror.ts';
import type { Udp } from './udp.ts';
import { FULL } from './values.ts';

/** What main.ts hands to each worker. */
export interface WorkerInput {
  shared: SharedArrayBuffer;
  settings: Settings;
  /** 1 … threads. */
  thread: number;
  /** What this worker accepts from. */
  listeners: Listener[];
  /** What this worker serves by UDP. */
  udp: { host: string; port: number }[];
  /** -Y */
  credentials: Credential[] | undefined;
}

/** What a worker is told, by main.ts or through it by another worker. */
export type ToWorker =
  | { type: 'stop'; graceful: boolean }
  | { type: 'credentials'; credentials: Credential[] }
  | { type: 'log'; from: number; bytes: number; log: LogLines }
  | { type: 'logTaken'; bytes: number }
  | { type: 'ask'; from: number; request: number; what: Question }
  | { type: 'answer'; from: number; request: number; answer: Answer }
  /** A thread is gone: it gives no answer any more. */
  | { type: 'died'; thread: number };

/** What one worker asks all for: the text of its `stats conns`, or what it counted for `stats detail dump`. */
export type Question = 'conns' | 'detail';
export type Answer = SocketLines[] | PrefixCounts[];

/** What `stats conns` says of a socket, and when that was opened, milliseconds; 0: it listens. */
export interface SocketLines {
  openedAt: number;
  text: string;
}

/** What a worker tells main.ts. `relay`: to that worker, or to all. */
export type WorkerMessage =
  | { type: 'ready'; backend: string; reason: string; udpPortLines: string[] }
  | { type: 'failed'; message: string }
  | { type: 'shutdown'; graceful: boolean }
  | { type: 'relay'; to?: number; message: ToWorker };

const COOKIE_CONNECTION = 0;
const COOKIE_REJECTED = 1;
/** Listeners have this and their number. */
const COOKIE_LISTENER = 2;
/** By Conn.state: what memcached calls a connection in that state. */
const STATE_NAMES: Readonly<Record<number, string>> = {
  [CONN_COMMAND]: 'conn_read',
  [CONN_NREAD]: 'conn_nread',
  [CONN_SWALLOW]: 'conn_swallow',
  [CONN_KEYS]: 'conn_mwrite',
  [CONN_SEND]: 'conn_mwrite',
  [CONN_WAIT]: 'conn_parse_cmd',
  [CONN_WATCH]: 'conn_watch',
  [CONN_CLOSING]: 'conn_closing',
};
const TOO_MANY = Buffer.from('ERROR Too many open connections\r\n');
const NO_READ_MEMORY = Buffer.from('SERVER_ERROR out of memory reading request\r\n');
const NOTHING = Buffer.alloc(0);
/** How often a worker with parked connections looks for a free place. */
const PARK_CHECK_MS = 10;
/** A connection that waits for its turn is not read any further above this: what memcached's buffer holds. */
const TURN_CARRY_BYTES = 16_384;
/** The least that a channel takes. */
const OUTPUT_POOL_BYTES_MIN = 512 * 1024;
/** What one connection may have in flight from its carry while it is blocked: far above what the channel still delivers. */
const BLOCKED_CARRY_BYTES_MAX = 4 * CARRY_BYTES_MAX;
const LEADING_SPACES_MAX = 100;
/** How old what `stats` tells of other workers' output memory may be. */
const GAUGES_MS = 1000;
/** How often a worker that drains looks whether its connections have come to rest. */
const DRAIN_CHECK_MS = 20;
/** memcached judges a line by what one read brought, and reads up to this. */
const READ_BUFFER_BYTES = 16_384;

class Server implements Sink, Host {
  readonly region: number;
  readonly requestsPerEvent: number;
  readonly flushEnabled: boolean;
  readonly authRequired: boolean;
  readonly watchEnabled: boolean;
  readonly dumpEnabled: boolean;
  readonly shutdownEnabled: boolean;
  readonly channel: Channel;
  private readonly settings: Settings;
  private readonly cache: Cache;
  private readonly proto: ProtoText;
  private readonly protoBin: ProtoBin;
  private readonly protoAuth: ProtoAuth | undefined;
  /** What a connection speaks before it has said anything. */
  private readonly firstProtocol: number;
  private readonly input: WorkerInput;
  private readonly listenerHandles: Handle[] = [];
  private readonly send: (message: WorkerMessage) => void;
  readonly prefixes: Prefixes;
  /** What waits for all workers' answers, by request. */
  private readonly asked = new Map<
    number,
    { conn: Conn; handle: Handle; what: Question; waiting: Set<number>; answers: Answer[] }
  >();
  private requests = 0;
  private readonly gauges: NodeJS.Timeout;
  private poolEmptyCounted = 0;
  private udp: Udp | undefined;
  private readonly logger: Logger;
  private readonly parked: Conn[] = [];
  private drainTimer: NodeJS.Timeout | undefined;
  private parkTimer: NodeJS.Timeout | undefined;
  private parkedSince = 0;
  /** Bytes that this worker's connections may keep of what they sent, 0 no limit. */
  private readonly keptBytesMax: number;
  /** Whether somebody watched when bytes last came in. */
  private logging = false;
  private readonly i32: Int32Array;
  private readonly f64: Float64Array;
  private readonly counters: number;
  /** This thread's count of open connections, in the cache's memory: it outlives the thread. */
  private readonly ownConns: number;
  private readonly received: Buffer;
  private readonly conns: (Conn | undefined)[] = [];
  private readonly idleMs: number;
  /** The cache's background work, where this is the only worker. */
  private readonly background: BackgroundTimer | undefined;

  constructor(input: WorkerInput, send: (message: WorkerMessage) => void) {
    const { settings, thread } = input;
    this.input = input;
    this.send = send;
    this.settings = settings;
    this.requestsPerEvent = settings.requestsPerEvent;
    this.watchEnabled = settings.watchEnabled;
    this.dumpEnabled = settings.dumpEnabled;
    this.shutdownEnabled = settings.shutdownCommand;
    this.flushEnabled = settings.flushEnabled;
    this.authRequired = settings.users !== undefined;
    this.idleMs = settings.idleTimeoutSeconds * 1000;
    const memory = new CacheMemory(input.shared, settings.cache);
    this.cache = new Cache(memory, settings.threads === 1 ? 'none' : settings.lock, thread);
    this.cache.slabs.discard = (offset, bytes) => void discardMemory(input.shared, offset, bytes);
    this.i32 = memory.i32;
    this.f64 = memory.f64;
    this.counters = threadBase(thread);
    this.ownConns = W_THREAD_CONNS + thread * LOCK_STRIDE_WORDS;
    this.channel = new Channel(this, {
      backend: settings.io === 'epoll' ? 'epoll' : settings.backend,
      recvBufferBytes: RECEIVE_BYTES,
      recvBuffers: receiveBuffers(settings),
      ...(settings.respObjMemLimitBytes > 0
        ? {
            outputPoolBytes: Math.max(
              OUTPUT_POOL_BYTES_MIN,
              Math.floor(settings.respObjMemLimitBytes / settings.threads),
            ),
          }
        : {}),
      maxHandles: Math.min(500_000, Math.max(64, settings.maxConns + 64)),
    });
    const { buffer, byteOffset, byteLength } = this.channel.memory;
    this.received = Buffer.from(buffer, byteOffset, byteLength);
    this.region = this.channel.registerRegion(input.shared);
    this.proto = new ProtoText(this.cache, this.channel, this);
    this.protoBin = new ProtoBin(this.cache, this.channel, this.proto.values, this);
    this.keptBytesMax = Math.floor(settings.readBufMemLimitBytes / settings.threads);
    this.logger = new Logger(
      this.cache,
      settings.workerLogbufBytes,
      (log, bytes) => this.send({ type: 'relay', message: { type: 'log', from: thread, bytes, log } }),
      {
        room: (handle) => settings.watcherLogbufBytes - this.channel.outputBytes(handle),
        write: (handle, text) => {
          const bytes = Buffer.from(text, 'latin1');
          return this.channel.writeCopy(handle, bytes, 0, bytes.length) !== FULL;
        },
      },
    );
    this.prefixes = new Prefixes(memory, settings.prefixDelimiter);
    this.gauges = setInterval(() => this.publishGauges(), GAUGES_MS).unref();
    this.background = settings.threads === 1 ? new BackgroundTimer(this.cache, this.logger) : undefined;
    const { credentials } = input;
    this.protoAuth = credentials && new ProtoAuth(this.cache, this.channel, this, credentials);
    this.firstProtocol =
      credentials !== undefined
        ? PROTOCOL_AUTH
        : settings.protocol === 'ascii'
          ? PROTOCOL_TEXT
          : settings.protocol === 'binary'
            ? PROTOCOL_BINARY
            : PROTOCOL_UNKNOWN;
    for (const { fd, cpu } of input.listeners) {
      // A duplicate: the socket, and who waits in its queue, must not go with a worker that dies.
      const handle = this.channel.register(fd, COOKIE_LISTENER + this.listenerHandles.length, {
        shared: true,
        ...(cpu === undefined ? {} : { cpus: cpu }),
      });
      this.listenerHandles.push(handle);
      this.channel.accept(handle);
      if (settings.verbosity > 1) {
        this.say(`<${this.idOf(handle)} server listening (${protocolWords(settings.protocol)})`);
      }
    }
  }

  /** Binds what -U asks for: lines for MEMCACHED_PORT_FILENAME. */
  async openUdp(): Promise<string[]> {
    const { udp, settings } = this.input;
    if (udp.length === 0) return [];
    // Loaded where it is used: it takes memory in every thread that has it.
    const module = await import('./udp.ts');
    this.udp = new module.Udp(this.cache, this);
    const lines: string[] = [];
    for (const { host, port } of udp) {
      try {
        const bound = await this.udp.bind(host, port);
        lines.push(`UDP ${isIP(host) === 6 ? 'INET6' : 'INET'}: ${bound}`);
      } catch (error) {
        // A machine without IPv6 serves IPv4 alone.
        if (settings.listen.length === 0 && host === '::' && lines.length > 0) continue;
        throw new Error(`bind(): ${reason(error)}\nfailed to listen on UDP port ${port}: ${reason(error)}`);
      }
    }
    if (settings.verbosity > 1) this.say(`<${lines.length} server listening (udp)`);
    return lines;
  }

  stop(): void {
    this.logger.stop();
    clearTimeout(this.drainTimer);
    clearInterval(this.parkTimer);
    clearInterval(this.gauges);
    this.udp?.close();
    this.background?.stop();
    this.channel.destroy();
  }

  // ---- Sink ------------------------------------------------------------------------------------------------------

  onAccept(listener: number, socket: AcceptedSocket): void {
    this.f64[this.counters + T_TOTAL_CONNS] += 1;
    if (!this.takePlace()) {
      if (!this.settings.maxConnsFast) {
        this.park(this.channel.register(socket, COOKIE_CONNECTION), listener);
        return;
      }
      this.f64[this.counters + T_REJECTED_CONNS] += 1;
      const handle = this.channel.register(socket, COOKIE_REJECTED);
      this.channel.writeCopy(handle, TOO_MANY, 0, TOO_MANY.length);
      this.channel.close(handle);
      return;
    }
    const handle = this.channel.register(socket, COOKIE_CONNECTION);
    this.begin(this.open(handle, listener));
  }

  private open(handle: Handle, listener: number): Conn {
    const slot = handle & SLOT_MASK;
    let conn = this.conns[slot];
    if (conn === undefined) {
      conn = this.conns[slot] = new Conn();
      this.f64[this.counters + T_CONN_STRUCTURES] += 1;
    }
    conn.open(handle, this.firstProtocol, listener - COOKIE_LISTENER, this.i32[W_TIME]);
    conn.openedAt = performance.timeOrigin + performance.now();
    return conn;
  }

  /** A place among -c, counted for all and, should this thread die, for its own. False: they are all taken. */
  private takePlace(): boolean {
    const { i32 } = this;
    // Never above -c, not even for a moment: others would see that, in `stats` or as a place that is not free.
    let taken = Atomics.load(i32, W_CURR_CONNS);
    for (;;) {
      if (taken >= this.settings.maxConns) return false;
      const seen = Atomics.compareExchange(i32, W_CURR_CONNS, taken, taken + 1);
      if (seen === taken) break;
      taken = seen;
    }
    i32[this.ownConns]! += 1;
    return true;
  }

  private leavePlace(): void {
    this.i32[this.ownConns]! -= 1;
    Atomics.sub(this.i32, W_CURR_CONNS, 1);
  }

  /** A connection has its place among -c. */
  private begin(conn: Conn): void {
    const { handle } = conn;
    if (this.idleMs > 0) this.channel.setDeadline(handle, this.idleMs);
    if (this.i32[W_LOG_FLAGS] !== 0)
      this.logger.add(CONNEVENTS, `type=conn_new ${this.logAddress(conn)} cfd=${this.idOf(handle)}`);
    if (this.i32[W_VERBOSITY] > 1) this.say(`<${this.idOf(handle)} ${NEW_CLIENT[this.settings.protocol]}`);
    this.channel.read(handle);
  }

  /**
   * Without maxconns_fast, what comes above -c waits: for a client that is as if it stood in the listen queue. Places that
   * connections of other workers leave are seen from a timer, as in memcached.
   */
  private park(handle: Handle, listener: number): void {
    const conn = this.open(handle, listener);
    conn.parked = true;
    this.parked.push(conn);
    if (this.parkTimer !== undefined) return;
    this.i32[W_THREAD_PARKS + this.input.thread * LOCK_STRIDE_WORDS] = 1;
    // First the counts: who sees that nobody is accepted, or is again, sees them, too.
    this.f64[this.counters + T_LISTEN_DISABLED] += 1;
    Atomics.sub(this.i32, W_ACCEPTING, 1);
    this.parkedSince = performance.now();
    this.parkTimer = setInterval(() => this.unpark(), PARK_CHECK_MS);
  }

  private unpark(): void {
    while (this.parked.length > 0) {
      if (!this.takePlace()) return;
      const conn = this.parked.shift()!;
      if (!conn.parked) {
        this.leavePlace();
        continue;
      }
      conn.parked = false;
      this.begin(conn);
    }
    clearInterval(this.parkTimer);
    this.parkTimer = undefined;
    this.f64[this.counters + T_LISTEN_DISABLED_US] += Math.round((performance.now() - this.parkedSince) * 1000);
    this.i32[W_THREAD_PARKS + this.input.thread * LOCK_STRIDE_WORDS] = 0;
    Atomics.add(this.i32, W_ACCEPTING, 1);
  }

  onAcceptError(_listener: number, errno: number): void {
    const count = (this.f64[this.counters + T_ACCEPT_ERRORS] += 1);
    // One line for the first and then every thousandth: a flood must not drown the log.
    if (count % 1000 === 1) complain(`accept(): ${strerror(errno)} (${count} times so far)`);
  }

  onRead(handle: Handle, cookie: number, offset: number, length: number): void {
    if (cookie !== COOKIE_CONNECTION) return;
    const conn = this.conns[handle & SLOT_MASK]!;
    if (this.i32[W_LOG_FLAGS] !== 0 || this.logging) this.setLogging(handle);
    this.f64[this.counters + T_BYTES_READ] += length;
    const end = offset + length;
    if (conn.carryLength === 0 && !conn.blocked) {
      const at = this.run(conn, this.received, offset, end);
      if (at === end && conn.state !== CONN_CLOSING) return;
      if (at < end && conn.state !== CONN_CLOSING) conn.keep(this.received, at, end);
      this.settle(conn, length);
      return;
    }
    if (conn.state === CONN_CLOSING) return;
    if (conn.awaitsTurn) {
      conn.keep(this.received, offset, end);
      this.countKept(conn);
      if (conn.carryLength > TURN_CARRY_BYTES && !conn.readStopped) {
        conn.readStopped = true;
        this.channel.readStop(handle);
      }
      return;
    }
    const hadLine =
      conn.protocol !== PROTOCOL_TEXT ||
      conn.state !== CONN_COMMAND ||
      indexOfByte(this.received, 0x0a, offset, end) >= 0;
    conn.keep(this.received, offset, end);
    // Without the end of its line there is nothing to do with what is kept; so it is not even looked at again.
    if (!conn.blocked && hadLine) this.runKept(conn);
    this.settle(conn, length);
  }

  onEnd(handle: Handle, cookie: number, errno: number): void {
    if (cookie !== COOKIE_CONNECTION) {
      this.channel.close(handle);
      return;
    }
    const conn = this.conns[handle & SLOT_MASK]!;
    // What it sent is still to be answered.
    const busy = conn.blocked || conn.awaitsTurn || conn.state === CONN_WAIT;
    if (errno === 0 && busy && conn.state !== CONN_CLOSING) conn.ended = true;
    else this.finish(conn, errno === 0 ? 'normal' : 'error');
  }

  onDrain(handle: Handle, cookie: number): void {
    if (cookie !== COOKIE_CONNECTION) return;
    const conn = this.conns[handle & SLOT_MASK]!;
    if (conn.state === CONN_CLOSING || conn.state === CONN_WATCH) return;
    if (this.i32[W_LOG_FLAGS] !== 0 || this.logging) this.setLogging(handle);
    conn.blocked = false;
    if (conn.deferred !== null) {
      this.answerDeferred(conn, conn.deferred);
      return;
    }
    this.runKept(conn);
    this.settle(conn, 0);
  }

  /** Others had their turn. */
  onTurn(handle: Handle, cookie: number): void {
    if (cookie !== COOKIE_CONNECTION) return;
    const conn = this.conns[handle & SLOT_MASK]!;
    conn.awaitsTurn = false;
    if (conn.state === CONN_CLOSING) return;
    if (this.i32[W_LOG_FLAGS] !== 0 || this.logging) this.setLogging(handle);
    this.runKept(conn);
    this.settle(conn, 0);
    if (conn.readStopped && !conn.awaitsTurn && (conn.state as number) !== CONN_CLOSING) {
      conn.readStopped = false;
      this.channel.read(handle);
    }
  }

  onWritten(_handle: Handle, _cookie: number, token: number): void {
    this.proto.written(token);
  }

  onConnect(): void {}

  onTimeout(handle: Handle, cookie: number): void {
    if (cookie !== COOKIE_CONNECTION) return;
    const conn = this.conns[handle & SLOT_MASK]!;
    // As memcached's idle threads: who is in the middle of a value, watches, or has yet to take a reply is not idle.
    if (conn.state !== CONN_COMMAND || conn.blocked || conn.awaitsTurn) {
      if (conn.state === CONN_CLOSING) this.channel.abort(handle);
      else this.channel.setDeadline(handle, this.idleMs);
      return;
    }
    this.f64[this.counters + T_IDLE_KICKS] += 1;
    this.logClose(conn, 'idle_timeout');
    if (this.i32[W_VERBOSITY] > 1) this.say(`Closing idle fd ${this.idOf(handle)}`);
    this.finish(conn);
  }

  onClose(handle: Handle, cookie: number): void {
    if (cookie !== COOKIE_CONNECTION) return;
    const conn = this.conns[handle & SLOT_MASK]!;
    this.logClose(conn, 'error');
    if (conn.isOpen) this.logger.unwatch(handle);
    this.proto.close(conn);
    // It counts until what it held is free: who sees the count go down sees that, too.
    if (conn.parked) conn.parked = false;
    else this.leavePlace();
    conn.isOpen = false;
    conn.carry = null;
    conn.carryLength = 0;
    this.countKept(conn);
    if (this.i32[W_VERBOSITY] > 1) this.say(`<${this.idOf(handle)} connection closed.`);
  }

  // ---- connections -----------------------------------------------------------------------------------------------

  /** Runs what came in, and notes that a command did. Bytes of a line, or of one value, are none. */
  private run(conn: Conn, bytes: Buffer, pos: number, end: number): number {
    const { state, item } = conn;
    const at = this.parse(conn, bytes, pos, end);
    if (at > pos && (state === CONN_COMMAND || conn.state !== state || conn.item !== item)) {
      conn.lastCommand = this.i32[W_TIME];
      if (this.idleMs > 0 && conn.state !== CONN_CLOSING) this.channel.setDeadline(conn.handle, this.idleMs);
    }
    return at;
  }

  /** Runs the connection's protocol, which its first byte chooses. */
  private parse(conn: Conn, bytes: Buffer, pos: number, end: number): number {
    if (conn.protocol === PROTOCOL_TEXT) return this.proto.run(conn, bytes, pos, end);
    if (conn.protocol === PROTOCOL_BINARY) return this.protoBin.run(conn, bytes, pos, end);
    if (conn.protocol === PROTOCOL_AUTH) {
      const at = this.protoAuth!.run(conn, bytes, pos, end);
      return (conn.protocol as number) === PROTOCOL_TEXT ? this.proto.run(conn, bytes, at, end) : at;
    }
    if (pos === end) return pos;
    const binary = bytes[pos] === MAGIC_REQUEST;
    conn.protocol = binary ? PROTOCOL_BINARY : PROTOCOL_TEXT;
    if (this.i32[W_VERBOSITY] > 1) {
      this.say(`${this.idOf(conn.handle)}: Client using the ${binary ? 'binary' : 'ascii'} protocol`);
    }
    return this.parse(conn, bytes, pos, end);
  }

  private runKept(conn: Conn): void {
    const at = this.run(conn, conn.carry ?? NOTHING, 0, conn.carryLength);
    conn.dropKept(at);
  }

  /** After a run: close what is to be closed, and what keeps more than it may. */
  private settle(conn: Conn, received: number): void {
    this.countKept(conn);
    if (this.keptBytesMax > 0 && this.f64[this.counters + T_KEPT_BYTES] > this.keptBytesMax && conn.carryCounted > 0) {
      this.f64[this.counters + T_READ_BUF_OOM] += 1;
      this.channel.writeCopy(conn.handle, NO_READ_MEMORY, 0, NO_READ_MEMORY.length);
      this.finish(conn, 'error');
      return;
    }
    // -R: what is left waits until others had their turn. Where output is full it waits for that anyway.
    if (conn.yielded && conn.carryLength > 0 && !conn.blocked && conn.state !== CONN_CLOSING) {
      conn.awaitsTurn = true;
      this.channel.defer(conn.handle);
      return;
    }
    const answered = !conn.blocked && conn.state !== CONN_WAIT;
    if (conn.state === CONN_CLOSING) this.finish(conn, conn.quit ? 'normal' : 'error');
    else if (conn.ended && answered) this.finish(conn);
    else if (!this.withinBounds(conn, received)) this.finish(conn, 'error');
  }

  /** `received`: bytes that just came in. */
  private withinBounds(conn: Conn, received: number): boolean {
    if (conn.blocked || conn.state === CONN_WAIT) return conn.carryLength <= BLOCKED_CARRY_BYTES_MAX;
    if (conn.carryLength <= LINE_BYTES_MAX || conn.protocol === PROTOCOL_BINARY) return true;
    if (received === RECEIVE_BYTES && conn.carryLength < READ_BUFFER_BYTES) return true;
    // No end of line in sight: only the keys of a get may be that long.
    const carry = conn.carry!;
    let at = 0;
    while (carry[at] === 0x20) at++;
    if (at > LEADING_SPACES_MAX || conn.carryLength > CARRY_BYTES_MAX) return false;
    const start = carry.toString('latin1', at, at + 5);
    return start.startsWith('get ') || start === 'gets ';
  }

  /** Keeps the sum of what connections keep. */
  private countKept(conn: Conn): void {
    const bytes = conn.carry === null ? 0 : conn.carry.length;
    const before = conn.carryCounted;
    if (bytes === before) return;
    conn.carryCounted = bytes;
    this.f64[this.counters + T_KEPT_BYTES] += bytes - before;
    this.f64[this.counters + T_KEPT_BUFFERS] += (bytes > 0 ? 1 : 0) - (before > 0 ? 1 : 0);
  }

  private finish(conn: Conn, reason = 'normal'): void {
    this.logClose(conn, reason);
    this.logger.unwatch(conn.handle);
    this.proto.close(conn);
    conn.carry = null;
    conn.carryLength = 0;
    this.countKept(conn);
    this.channel.close(conn.handle);
  }

  // ---- Host ------------------------------------------------------------------------------------------------------

  stats(conn: Conn, subcommand: string): string | undefined {
    const what = subcommand === 'conns' ? subcommand : subcommand === 'detail dump' ? 'detail' : undefined;
    if (what !== undefined) {
      if (this.settings.threads === 1) {
        // It is listed itself: while it asks.
        const { state } = conn;
        conn.state = CONN_WAIT;
        const answer = this.answer(what);
        conn.state = state;
        return answerText(what, [answer]);
      }
      if (conn.isDatagram && !this.udp!.mayWait) return undefined;
      this.ask(conn, what);
      return DEFERRED;
    }
    this.publishGauges();
    return statsText(subcommand, this.cache, this.settings) ?? this.proto.sizesStats(subcommand);
  }

  watch(conn: Conn, kinds: number): boolean {
    return this.logger.watch(conn.handle, kinds);
  }

  kick(): void {
    this.background?.kick();
  }

  shutdown(graceful: boolean): void {
    this.send({ type: 'shutdown', graceful });
  }

  authenticate(user: Buffer, password: Buffer): boolean {
    const { users } = this.settings;
    const name = user.toString();
    if (users === undefined || !Object.hasOwn(users, name)) return false;
    const { createHash, timingSafeEqual } = process.getBuiltinModule('node:crypto');
    // Of equal length whatever was sent, so that the time taken tells nothing about the password.
    const digest = (bytes: Buffer): Buffer => createHash('sha256').update(bytes).digest();
    return timingSafeEqual(digest(password), digest(Buffer.from(users[name]!)));
  }

  log(conn: Conn, direction: '<' | '>', text: string): void {
    this.say(`${direction}${this.idOf(conn.handle)} ${text}`);
  }

  note(text: string): void {
    this.say(text);
  }

  number(conn: Conn): number {
    return this.idOf(conn.handle);
  }

  /** Somebody began or ceased to watch, or another connection's command is next. */
  private setLogging(handle: Handle): void {
    this.logging = this.i32[W_LOG_FLAGS] !== 0;
    this.cache.items.log = this.logging ? this.logger : null;
    this.logger.cfd = this.idOf(handle);
  }

  /** Log line of a connection's end, once. */
  private logClose(conn: Conn, reason: string): void {
    if (conn.closeLogged || this.i32[W_LOG_FLAGS] === 0) return;
    conn.closeLogged = true;
    const cfd = this.idOf(conn.handle);
    this.logger.add(CONNEVENTS, `type=conn_close ${this.logAddress(conn)} reason=${reason} cfd=${cfd}`);
  }

  private logAddress(conn: Conn): string {
    if (this.input.listeners[conn.listener]?.name.startsWith('unix:')) return 'rip=unix rport=0 transport=local';
    try {
      const { host, port } = this.channel.peerAddress(conn.handle);
      return `rip=${host} rport=${port} transport=tcp`;
    } catch {
      // An lwsocket's peer is not kept.
      return 'rip=unknown rport=0 transport=tcp';
    }
  }

  private say(line: string): void {
    complain(line);
  }

  /** A number for a connection that no other has, in whichever worker. */
  private idOf(handle: Handle): number {
    return (handle & SLOT_MASK) * this.settings.threads + this.input.thread - 1;
  }

  // ---- what every worker knows a part of ----------------------------------------------------------------------------

  /** Asks all workers, this one among them; the connection waits for the answers. */
  private ask(conn: Conn, what: Question): void {
    const request = ++this.requests;
    const waiting = new Set(Array.from({ length: this.settings.threads }, (_, i) => i + 1));
    this.asked.set(request, { conn, handle: conn.handle, what, waiting, answers: [] });
    this.send({ type: 'relay', message: { type: 'ask', from: this.input.thread, request, what } });
  }

  private answer(what: Question): Answer {
    return what === 'conns' ? this.describeConns() : this.prefixes.list();
  }

  /** `answer`: undefined where the thread is gone. */
  private answered(request: number, thread: number, answer: Answer | undefined): void {
    const asked = this.asked.get(request);
    if (asked === undefined || !asked.waiting.delete(thread)) return;
    if (answer !== undefined) asked.answers.push(answer);
    if (asked.waiting.size > 0) return;
    this.asked.delete(request);
    const { conn, handle, what, answers } = asked;
    if (conn.handle !== handle || conn.state !== CONN_WAIT) return;
    if (conn.isDatagram) this.udp!.answer(conn, answerText(what, answers));
    else this.answerDeferred(conn, answerText(what, answers));
  }

  /** What of this worker's channel `stats` of any worker tells. */
  private publishGauges(): void {
    const { f64, counters } = this;
    const { outputChunks, outputChunkBytes, poolEmpty } = this.channel.stats();
    f64[counters + T_RESPONSES] = outputChunks;
    f64[counters + T_RESPONSE_BYTES] = outputChunkBytes;
    f64[counters + T_RESPONSE_OOM] += poolEmpty - this.poolEmptyCounted;
    this.poolEmptyCounted = poolEmpty;
  }

  /** The rest of a reply that had to be waited for; then what was received meanwhile is next. */
  private answerDeferred(conn: Conn, text: string): void {
    const proto = conn.protocol === PROTOCOL_BINARY ? this.protoBin : this.proto;
    if (!proto.writeStats(conn, text)) {
      conn.deferred = text;
      return;
    }
    conn.deferred = null;
    conn.state = CONN_COMMAND;
    this.runKept(conn);
    this.settle(conn, 0);
  }

  private describeConns(): SocketLines[] {
    const now = this.i32[W_TIME];
    const sockets: SocketLines[] = [];
    const add = (id: number, openedAt: number, lines: readonly (readonly [name: string, value: string | number])[]) =>
      sockets.push({ openedAt, text: lines.map(([name, value]) => `STAT ${id}:${name} ${value}\r\n`).join('') });
    for (const [i, handle] of this.listenerHandles.entries()) {
      const { shared, name } = this.input.listeners[i]!;
      if (shared && this.input.thread !== 1) continue;
      add(this.idOf(handle), 0, [
        ['addr', name],
        ['state', 'conn_listening'],
        ['secs_since_last_cmd', now - TIME_AT_START],
      ]);
    }
    // Behind the numbers that connections can have.
    for (const [i, lines] of (this.udp?.describe() ?? []).entries())
      add(this.idOf(SLOT_MASK) + (i + 1) * this.settings.threads, 0, lines);
    for (const conn of this.conns) {
      if (conn === undefined || !conn.isOpen) continue;
      add(this.idOf(conn.handle), conn.openedAt, [
        ['addr', this.addressOf(conn)],
        ['listen_addr', this.input.listeners[conn.listener]?.name ?? 'unknown'],
        ['state', stateName(conn)],
        ['secs_since_last_cmd', now - Math.abs(conn.lastCommand)],
      ]);
    }
    return sockets;
  }

  /** Where a connection comes from, as `stats conns` and the log name it. */
  private addressOf(conn: Conn): string {
    if (this.input.listeners[conn.listener]?.name.startsWith('unix:')) return 'unix:';
    try {
      const { family, host, port } = this.channel.peerAddress(conn.handle);
      return family === 'IPv6' ? `tcp6:[${host}]:${port}` : `tcp:${host}:${port}`;
    } catch {
      // An lwsocket's peer is not kept.
      return 'tcp:unknown';
    }
  }

  // ---- messages --------------------------------------------------------------------------------------------------

  receive(message: ToWorker, end: () => void): void {
    switch (message.type) {
      case 'stop':
        if (message.graceful) this.drain(end);
        else end();
        break;
      case 'credentials':
        this.protoAuth?.replace(message.credentials);
        break;
      case 'ask': {
        const { from, request, what } = message;
        const answer = this.answer(what);
        const { thread } = this.input;
        this.send({ type: 'relay', to: from, message: { type: 'answer', from: thread, request, answer } });
        break;
      }
      case 'log':
        this.logger.receive(message.log);
        this.send({ type: 'relay', to: message.from, message: { type: 'logTaken', bytes: message.bytes } });
        break;
      case 'logTaken':
        this.logger.taken(message.bytes / this.settings.threads);
        break;
      case 'answer':
        this.answered(message.request, message.from, message.answer);
        break;
      case 'died':
        for (const request of [...this.asked.keys()]) this.answered(request, message.thread, undefined);
        break;
    }
  }

  /** Stops accepting, closes each connection once it is between two commands, and calls `end` when none is left. */
  private drain(end: () => void): void {
    for (const handle of this.listenerHandles) this.channel.close(handle);
    const check = (): void => {
      let left = 0;
      for (const conn of this.conns) {
        if (conn === undefined || !conn.isOpen) continue;
        left++;
        const between = conn.state === CONN_COMMAND && conn.carryLength === 0 && !conn.blocked;
        if (between || conn.state === CONN_WATCH) this.finish(conn, 'shutdown');
      }
      if (left === 0) end();
      else this.drainTimer = setTimeout(check, DRAIN_CHECK_MS);
    };
    check();
  }
}

const NEW_CLIENT = {
  auto: 'new auto-negotiating client connection',
  ascii: 'new ascii client connection.',
  binary: 'new binary client connection.',
} as const;

/** The reply made of all workers' answers. */
function answerText(what: Question, answers: readonly Answer[]): string {
  if (what === 'detail') return dumpPrefixes(answers as readonly PrefixCounts[][]);
  // As memcached's, which go by descriptor: sockets that listen, then connections, the last one last.
  const sockets = (answers as readonly SocketLines[][]).flat().sort((a, b) => a.openedAt - b.openedAt);
  return `${sockets.map(({ text }) => text).join('')}END\r\n`;
}

/** What memcached calls the state that a connection is in. */
function stateName(conn: Conn): string {
  if (saidNothing(conn)) return 'conn_new_cmd';
  if (conn.state === CONN_COMMAND && conn.blocked) return 'conn_mwrite';
  return STATE_NAMES[conn.state] ?? 'conn_read';
}

/** Of a connection from which nothing has come yet. */
function saidNothing(conn: Conn): boolean {
  return conn.lastCommand < 0 && conn.state === CONN_COMMAND && conn.carryLength === 0;
}

function protocolWords(protocol: Settings['protocol']): string {
  return protocol === 'auto' ? 'auto-negotiate' : protocol;
}

if (parentPort !== null) {
  const port = parentPort;
  const input = workerData as WorkerInput;
  const { cpus } = input.settings;
  if (cpus.length > 0) setAffinity([cpus[(input.thread - 1) % cpus.length]!]);
  const server = new Server(input, (message) => port.postMessage(message));
  server.channel.attach();
  port.on('message', (message: ToWorker) => {
    server.receive(message, () => {
      server.stop();
      port.close();
    });
  });
  const ready = (udpPortLines: string[]): WorkerMessage => {
    const { backend, backendReason } = server.channel;
    collectStartGarbage();
    return { type: 'ready', backend, reason: backendReason, udpPortLines };
  };
  server.openUdp().then(
    (udpPortLines) => port.postMessage(ready(udpPortLines)),
    (error: Error) => port.postMessage({ type: 'failed', message: error.message } satisfies WorkerMessage),
  );
}
