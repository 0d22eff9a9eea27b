/**
 * A worker thread: one channel, its connections, and its way into the shared cache.
 *
 * What it is for: it turns the channel's completions into runs of the protocol, and keeps each connection within its
 * bounds: line length, bytes kept, number of connections, idle time.
 * Invariant: while a connection's output is full, nothing of it is parsed; what was received waits in its carry.
 * Not its job: the protocol, the cache, and making listening sockets (main.ts does).
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import { type AcceptedSocket, Channel, type Handle, type Sink, SLOT_MASK, setAffinity } from '@megapipe/core';
import { BackgroundTimer } from './background.ts';
import { CONN_CLOSING, CONN_COMMAND, Conn, PROTOCOL_BINARY, PROTOCOL_TEXT } from './conn.ts';
import { Cache } from './engine/cache.ts';
import { CacheMemory, W_CURR_CONNS, W_VERBOSITY } from './engine/layout.ts';
import {
  T_ACCEPT_ERRORS,
  T_BYTES_READ,
  T_IDLE_KICKS,
  T_REJECTED_CONNS,
  T_TOTAL_CONNS,
  threadBase,
} from './engine/stats.ts';
import { MAGIC_REQUEST, ProtoBin } from './proto_bin.ts';
import { CARRY_BYTES_MAX, type Host, LINE_BYTES_MAX, ProtoText } from './proto_text.ts';
import type { Settings } from './settings.ts';
import { statsText } from './stats_text.ts';
import { strerror } from './strerror.ts';

/** What main.ts hands to each worker. */
export interface WorkerInput {
  shared: SharedArrayBuffer;
  settings: Settings;
  /** 1 … threads. */
  thread: number;
  /** Descriptors to accept from; `shared` ones belong to all workers. */
  listeners: { fd: number; shared: boolean }[];
}

/** What a worker tells main.ts. */
export type WorkerMessage = { type: 'ready'; backend: string; reason: string };

const COOKIE_CONNECTION = 0;
const COOKIE_REJECTED = 1;
const COOKIE_LISTENER = 2;
const TOO_MANY = Buffer.from('ERROR Too many open connections\r\n');
const NOTHING = Buffer.alloc(0);
/** What one connection may have in flight from its carry while it is blocked: far above what the channel still delivers. */
const BLOCKED_CARRY_BYTES_MAX = 4 * CARRY_BYTES_MAX;
const LEADING_SPACES_MAX = 100;
/** Bytes that one onRead brings at most. A full one means that more is likely there already. */
const RECEIVE_BYTES = 4096;
/** memcached judges a line by what one read brought, and reads up to this. */
const READ_BUFFER_BYTES = 16_384;

class Server implements Sink, Host {
  readonly region: number;
  readonly flushEnabled: boolean;
  readonly authRequired: boolean;
  readonly dumpEnabled = true;
  readonly channel: Channel;
  private readonly settings: Settings;
  private readonly cache: Cache;
  private readonly proto: ProtoText;
  private readonly protoBin: ProtoBin;
  private readonly i32: Int32Array;
  private readonly f64: Float64Array;
  private readonly counters: number;
  private readonly received: Buffer;
  private readonly conns: (Conn | undefined)[] = [];
  private readonly idleMs: number;
  /** The cache's background work, where this is the only worker. */
  private readonly background: BackgroundTimer | undefined;

  constructor(input: WorkerInput) {
    const { settings, thread } = input;
    this.settings = settings;
    this.flushEnabled = settings.flushEnabled;
    this.authRequired = settings.users !== undefined;
    this.idleMs = settings.idleTimeoutSeconds * 1000;
    const memory = new CacheMemory(input.shared, settings.cache);
    this.cache = new Cache(memory, settings.threads === 1 ? 'none' : settings.lock, thread);
    this.background = settings.threads === 1 ? new BackgroundTimer(this.cache) : undefined;
    this.i32 = memory.i32;
    this.f64 = memory.f64;
    this.counters = threadBase(thread);
    this.channel = new Channel(this, {
      backend: settings.io === 'epoll' ? 'epoll' : settings.backend,
      recvBufferBytes: RECEIVE_BYTES,
      maxHandles: Math.min(500_000, Math.max(64, settings.maxConns + 64)),
    });
    const { buffer, byteOffset, byteLength } = this.channel.memory;
    this.received = Buffer.from(buffer, byteOffset, byteLength);
    this.region = this.channel.registerRegion(input.shared);
    this.proto = new ProtoText(this.cache, this.channel, this);
    this.protoBin = new ProtoBin(this.cache, this.channel, this.proto.values, this);
    for (const { fd, shared } of input.listeners) {
      this.channel.accept(this.channel.register(fd, COOKIE_LISTENER, { shared }));
    }
  }

  stop(): void {
    this.background?.stop();
    this.channel.destroy();
  }

  // ---- Sink ------------------------------------------------------------------------------------------------------

  onAccept(_listener: number, socket: AcceptedSocket): void {
    this.f64[this.counters + T_TOTAL_CONNS] += 1;
    if (Atomics.add(this.i32, W_CURR_CONNS, 1) >= this.settings.maxConns) {
      Atomics.sub(this.i32, W_CURR_CONNS, 1);
      this.f64[this.counters + T_REJECTED_CONNS] += 1;
      const handle = this.channel.register(socket, COOKIE_REJECTED);
      this.channel.writeCopy(handle, TOO_MANY, 0, TOO_MANY.length);
      this.channel.close(handle);
      return;
    }
    const handle = this.channel.register(socket, COOKIE_CONNECTION);
    const conn = (this.conns[handle & SLOT_MASK] ??= new Conn());
    conn.open(handle);
    if (this.idleMs > 0) this.channel.setDeadline(handle, this.idleMs);
    if (this.i32[W_VERBOSITY] > 1)
      process.stderr.write(`<${handle & SLOT_MASK} new auto-negotiating client connection\n`);
    this.channel.read(handle);
  }

  onAcceptError(_listener: number, errno: number): void {
    const count = (this.f64[this.counters + T_ACCEPT_ERRORS] += 1);
    // One line for the first and then every thousandth: a flood must not drown the log.
    if (count % 1000 === 1) process.stderr.write(`accept(): ${strerror(errno)} (${count} times so far)\n`);
  }

  onRead(handle: Handle, cookie: number, offset: number, length: number): void {
    if (cookie !== COOKIE_CONNECTION) return;
    const conn = this.conns[handle & SLOT_MASK]!;
    this.f64[this.counters + T_BYTES_READ] += length;
    if (this.idleMs > 0) this.channel.setDeadline(handle, this.idleMs);
    const end = offset + length;
    if (conn.carryLength === 0 && !conn.blocked) {
      const at = this.run(conn, this.received, offset, end);
      if (at === end && conn.state !== CONN_CLOSING) return;
      if (at < end && conn.state !== CONN_CLOSING) conn.keep(this.received, at, end);
      this.settle(conn, length);
      return;
    }
    if (conn.state === CONN_CLOSING) return;
    const hadLine = conn.protocol !== PROTOCOL_TEXT || conn.state !== CONN_COMMAND || this.hasNewline(offset, end);
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
    if (errno === 0 && conn.blocked && conn.state !== CONN_CLOSING) conn.ended = true;
    else this.finish(conn);
  }

  onDrain(handle: Handle, cookie: number): void {
    if (cookie !== COOKIE_CONNECTION) return;
    const conn = this.conns[handle & SLOT_MASK]!;
    if (conn.state === CONN_CLOSING) return;
    conn.blocked = false;
    this.runKept(conn);
    this.settle(conn, 0);
  }

  onWritten(_handle: Handle, _cookie: number, token: number): void {
    this.proto.written(token);
  }

  onConnect(): void {}

  onTimeout(handle: Handle, cookie: number): void {
    if (cookie !== COOKIE_CONNECTION) return;
    this.f64[this.counters + T_IDLE_KICKS] += 1;
    this.finish(this.conns[handle & SLOT_MASK]!);
  }

  onClose(handle: Handle, cookie: number): void {
    if (cookie !== COOKIE_CONNECTION) return;
    Atomics.sub(this.i32, W_CURR_CONNS, 1);
    const conn = this.conns[handle & SLOT_MASK]!;
    this.proto.close(conn);
    conn.carry = null;
    conn.carryLength = 0;
    if (this.i32[W_VERBOSITY] > 1) process.stderr.write(`<${handle & SLOT_MASK} connection closed.\n`);
  }

  // ---- connections -----------------------------------------------------------------------------------------------

  private hasNewline(start: number, end: number): boolean {
    for (let i = start; i < end; i++) if (this.received[i] === 0x0a) return true;
    return false;
  }

  /** Runs the connection's protocol, which its first byte chooses. */
  private run(conn: Conn, bytes: Buffer, pos: number, end: number): number {
    if (conn.protocol === PROTOCOL_TEXT) return this.proto.run(conn, bytes, pos, end);
    if (conn.protocol === PROTOCOL_BINARY) return this.protoBin.run(conn, bytes, pos, end);
    if (pos === end) return pos;
    const binary = bytes[pos] === MAGIC_REQUEST;
    conn.protocol = binary ? PROTOCOL_BINARY : PROTOCOL_TEXT;
    if (this.i32[W_VERBOSITY] > 1) {
      process.stderr.write(`${conn.handle & SLOT_MASK}: Client using the ${binary ? 'binary' : 'ascii'} protocol\n`);
    }
    // With -S there is no way to prove oneself in text.
    if (this.authRequired && !binary) {
      conn.state = CONN_CLOSING;
      return end;
    }
    return this.run(conn, bytes, pos, end);
  }

  private runKept(conn: Conn): void {
    const at = this.run(conn, conn.carry ?? NOTHING, 0, conn.carryLength);
    conn.dropKept(at);
  }

  /** After a run: close what is to be closed, and what keeps more than it may. */
  private settle(conn: Conn, received: number): void {
    if (conn.state === CONN_CLOSING || (conn.ended && !conn.blocked) || !this.withinBounds(conn, received))
      this.finish(conn);
  }

  /** `received`: bytes that just came in. */
  private withinBounds(conn: Conn, received: number): boolean {
    if (conn.blocked) return conn.carryLength <= BLOCKED_CARRY_BYTES_MAX;
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

  private finish(conn: Conn): void {
    this.proto.close(conn);
    conn.carry = null;
    conn.carryLength = 0;
    this.channel.close(conn.handle);
  }

  // ---- Host ------------------------------------------------------------------------------------------------------

  stats(subcommand: string): string | undefined {
    return statsText(subcommand, this.cache, this.settings);
  }

  kick(): void {
    this.background?.kick();
  }

  authenticate(user: Buffer, password: Buffer): boolean {
    const { users } = this.settings;
    const name = user.toString();
    if (users === undefined || !Object.hasOwn(users, name)) return false;
    // Of equal length whatever was sent, so that the time taken tells nothing about the password.
    const digest = (bytes: Buffer): Buffer => createHash('sha256').update(bytes).digest();
    return timingSafeEqual(digest(password), digest(Buffer.from(users[name]!)));
  }

  log(conn: Conn, direction: '<' | '>', text: string): void {
    process.stderr.write(`${direction}${conn.handle & SLOT_MASK} ${text}\n`);
  }
}

if (parentPort !== null) {
  const port = parentPort;
  const input = workerData as WorkerInput;
  const { cpus } = input.settings;
  if (cpus.length > 0) setAffinity([cpus[(input.thread - 1) % cpus.length]!]);
  const server = new Server(input);
  server.channel.attach();
  port.once('message', () => {
    server.stop();
    port.close();
  });
  port.postMessage({
    type: 'ready',
    backend: server.channel.backend,
    reason: server.channel.backendReason,
  } satisfies WorkerMessage);
}
