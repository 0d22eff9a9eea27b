/**
 * The engine: connections of one worker, between its channel and the phases.
 *
 * What it is for: the channel's sink. Finds requests in the bytes that arrive, answers known ones from memory, runs the
 * others through the phases, sends answers with bounded memory, keeps the deadlines, closes as nginx closes.
 * Invariants: requests of a connection are answered one after another and in order; a connection is in exactly one
 * State; bytes that wait are bounded (CARRY_MAX, then reading stops); memory of a kept file is released only by
 * onWritten. Not its job: what an answer says (output.ts, modules), threads and signals (worker.ts).
 */

import { closeSync, readSync } from 'node:fs';
import { type Channel, type Handle, type Sink, SLOT_MASK, Write } from '@megapipe/core';
import type { LogLevelName } from '../conf/errors.ts';
import type { ErrorLog, Http, Zone as ZoneDecl } from '../conf/model.ts';
import { parseSize } from '../conf/units.ts';
import { strerror } from '../log/errno.ts';
import { type ErrorLogWriter, printable } from '../log/error-log.ts';
import { type AccessLogs, logRequest, memoLog } from '../modules/log/writer.ts';
import { Zone } from '../shared/zone.ts';
import { beginBody, dropBody } from './body.ts';
import { latin1, latin1Bytes, writeLatin1 } from './bytes.ts';
import { Connection, type OutItem, State } from './connection.ts';
import { DATE_LENGTH, formatDate } from './date.ts';
import { Extents } from './extents.ts';
import { FILE_CACHE_DEFAULTS, FileCache, type FileCacheOptions, type FileEntry } from './file-cache.ts';
import { HeaderId } from './headers.ts';
import { CONTINUE, expectsContinue, finalize, type HeaderFilter } from './output.ts';
import { handleRequest, handlersByPhase, type PhaseHandler, type PhaseTable, takeCaptures } from './phases.ts';
import { MEMO_HEAD_MAX, Memo, MemoTable, type Prepared } from './prepared.ts';
import { parseProxyHeader } from './proxy-protocol.ts';
import { HTTP_10, HTTP_11, Method, Parse, type ParseResult, Request } from './request.ts';
import { buildRuntime, type RuntimeLocation, type VirtualServers } from './runtime.ts';
import { COUNTER_BOUNDARIES, COUNTER_CONNECTIONS, countersOf, rowOf, Status, sumOf } from './status-rows.ts';
import { type BodyStream, BytesStream, END, FileStream, NOT_YET, type Piece } from './stream.ts';
import { answered, mainRequest } from './subrequest.ts';
import { compileTemplate, type Evaluator } from './template.ts';
import { normalized, normalizeUri } from './uri.ts';

/** Bytes of further requests that wait while an answer is sent; above it, reading stops. */
const CARRY_MAX = 64 * 1024;
/** A file that is not kept is read and sent in pieces of this size. */
const PIECE_BYTES = 128 * 1024;
/** A kept file goes out in one piece: a MiB in pieces of 128 KiB costs 1.5 times as much. */
const KEPT_PIECE_BYTES = 1024 * 1024;
/** How much of an answer may be under way for one send_timeout: within a piece no progress is to be seen. */
const PROGRESS_BYTES = 256 * 1024;
const PIECES_IN_FLIGHT = 2;
/** Memory for pieces of files that are not kept. */
const STREAM_BYTES = 64 * 1024 * 1024;
/** Pieces get smaller when memory does: many slow clients share what there is. */
const SMALL_PIECE_BYTES = 16 * 1024;
/** Longest answer that is put together in one reservation. */
const RESERVE_MAX = 65_536;
/** After this much time no accepted connection is on its way to a worker that stopped accepting. */
const LAST_ACCEPT_MS = 200;
/** How long a worker that ends waits for the first request of a connection. */
const LAST_REQUEST_MS = 1000;
/** Idle connections closed at a time when a new one finds no place. */
const DRAIN_IDLE = 32;

export interface EngineOptions {
  http: Http;
  phases: PhaseTable;
  headerFilters: HeaderFilter[];
  /** For relative paths that variables produce. */
  prefix: string;
  /** Folder of the configuration file. */
  confPrefix: string;
  errorLog: ErrorLogWriter;
  /** Where the worker itself reports. */
  mainErrorLogs: readonly ErrorLog[];
  accessLogs: AccessLogs;
  workerConnections: number;
  /** Memory of status-rows.ts, and this worker's row of it. */
  status: ArrayBufferLike;
  statusRow: number;
  /** Memory of Http.zones, by index. */
  zones: readonly ArrayBufferLike[];
  /** Address of a connection's peer. */
  peerOf(handle: Handle): { host: string; port: number };
  /** Address that a connection's peer reached; only for descriptors. */
  localOf(handle: Handle): string;
  /** Address a listener is bound to, by index. */
  boundTo: readonly { host: string; port: number }[];
  /** No connection will come any more: after `quit`. */
  onDeaf(): void;
  /** Every connection is closed and none will come: after `quit`. */
  onIdle(): void;
  cache?: FileCacheOptions;
}

/** A zone at work. */
export interface RuntimeZone {
  decl: ZoneDecl;
  zone: Zone;
  key: Evaluator;
}

/** The part of a Channel that the engine uses; tests drive it with one of their own. */
export type EngineChannel = Pick<
  Channel,
  | 'memory'
  | 'register'
  | 'discard'
  | 'accept'
  | 'acceptStop'
  | 'read'
  | 'readStop'
  | 'reserve'
  | 'commit'
  | 'writeCopy'
  | 'write'
  | 'registerRegion'
  | 'outputBytes'
  | 'disconnect'
  | 'close'
  | 'abort'
  | 'setDeadline'
>;

type MakeChannel = (engine: Engine) => EngineChannel;

export class Engine implements Sink {
  readonly handlers: (PhaseHandler[] | null)[];
  readonly headerFilters: HeaderFilter[];
  /** Seconds since the engine began; files looked at hold for a number of them. */
  tick = 1;
  /** The Date header's value, prepared once a second. */
  dateText = '';
  exiting = false;
  private accepting = true;

  private readonly channel: EngineChannel;
  private readonly memory: Uint8Array;
  private readonly options: EngineOptions;
  private readonly counters: Int32Array;
  private readonly row: Float64Array;
  private readonly zones = new Map<string, RuntimeZone>();
  private readonly dateBytes = new Uint8Array(DATE_LENGTH);
  private nowSec = 0;
  private readonly virtuals: VirtualServers[];
  private readonly locations: RuntimeLocation[];
  private readonly connections: Connection[] = [];
  private open = 0;
  private readonly listeners: Handle[] = [];
  private readonly memos = new MemoTable();
  private lastMemo: Memo | null = null;
  private readonly requests: Request[] = [];
  private readonly files: FileCache;
  private readonly fileRegion: number;
  private readonly pieces = new Extents(STREAM_BYTES);
  private readonly pieceBytes: Uint8Array;
  private readonly pieceRegion: number;
  /** Connections that wait for a piece. */
  private readonly waiters: Handle[] = [];
  private readonly captured: { captures: RegExpExecArray | null } = { captures: null };
  private readonly hostParts = { host: '' };

  /* Writes in flight, by token: a kept file, or a piece's place and size. */
  private readonly tokenFile: (FileEntry | null)[] = [];
  private readonly tokenOffset: number[] = [];
  private readonly tokenLength: number[] = [];
  private readonly tokenSpace: number[] = [];
  private readonly freeTokens: number[] = [];

  constructor(options: EngineOptions, makeChannel: MakeChannel) {
    this.options = options;
    this.counters = countersOf(options.status);
    this.row = rowOf(options.status, options.statusRow);
    this.handlers = handlersByPhase(options.phases);
    this.headerFilters = options.headerFilters;
    this.setTime(Date.now());
    const { listens, locations } = buildRuntime(options.http);
    for (const [index, decl] of options.http.zones.entries()) {
      const memory = options.zones[index] as ArrayBufferLike;
      this.zones.set(decl.name, { decl, zone: new Zone(decl.name, memory), key: compileTemplate(decl.key) });
    }
    this.virtuals = listens;
    this.locations = locations;
    for (const location of locations) location.accessLogs = options.accessLogs.of(location.conf.accessLogs);
    this.channel = makeChannel(this);
    this.memory = this.channel.memory;
    this.files = new FileCache(options.cache ?? FILE_CACHE_DEFAULTS);
    this.fileRegion = this.channel.registerRegion(this.files.memory);
    const streams = new SharedArrayBuffer(STREAM_BYTES);
    this.pieceBytes = new Uint8Array(streams);
    this.pieceRegion = this.channel.registerRegion(streams);
  }

  /* ------------------------------------------------------------------ time */

  /** Called at each full second. */
  setTime(ms: number): void {
    const sec = Math.floor(ms / 1000);
    if (sec === this.nowSec) return;
    this.nowSec = sec;
    this.tick++;
    if (this.open > 0) this.publishStatus();
    this.dateText = formatDate(sec);
    writeLatin1(this.dateBytes, this.dateText, 0);
  }

  nowSeconds(): number {
    return this.nowSec;
  }

  /* ------------------------------------------------------------------ listeners */

  /** Serves connections of a listening socket; `listen` is its index in the configuration. */
  listen(fd: number, listen: number): void {
    const handle = this.channel.register(fd, listen, { shared: true });
    this.listeners.push(handle);
    // A listener that is bound to all addresses has to ask each connection for its own, which lwsockets cannot tell.
    const asked = this.options.http.usesServerAddr && this.isWildcard(listen);
    if (asked) this.channel.accept(handle, undefined, false);
    else this.channel.accept(handle);
  }

  private isWildcard(listen: number): boolean {
    const host = this.options.boundTo[listen]?.host;
    return host === '0.0.0.0' || host === '::';
  }

  /**
   * Graceful end. Connections that the kernel has already given to this worker are still served; what comes later is
   * for other workers. Whoever was promised a kept-alive connection, or has not asked yet, gets a moment: a request
   * that is on the wire by now is answered, with "Connection: close".
   */
  quit(): void {
    if (this.exiting) return;
    this.exiting = true;
    this.memos.clear();
    this.lastMemo = null;
    for (const listener of this.listeners) this.channel.acceptStop(listener);
    setTimeout(() => {
      for (const listener of this.listeners) this.channel.close(listener);
      this.accepting = false;
      this.options.onDeaf();
      this.idleCheck();
    }, LAST_ACCEPT_MS);
    for (const c of this.connections) {
      c.memo = null;
      if (c.state !== State.Idle) continue;
      this.channel.setDeadline(c.handle, this.keepaliveMs(c));
    }
  }

  /** How long a connection waits for its next request. */
  private keepaliveMs(c: Connection): number {
    const { keepaliveTimeoutMs, keepaliveMinTimeoutMs } = c.location.conf;
    if (!this.exiting) return keepaliveTimeoutMs;
    return Math.min(Math.max(LAST_REQUEST_MS, keepaliveMinTimeoutMs), keepaliveTimeoutMs);
  }

  private idleCheck(): void {
    if (this.exiting && !this.accepting && this.open === 0) this.options.onIdle();
  }

  /** worker_shutdown_timeout: whoever is still there is cut off. */
  abortAll(): void {
    for (const c of this.connections) if (c.state !== State.Free) this.abort(c);
  }

  /* ------------------------------------------------------------------ sink */

  onAccept(listenerCookie: number, socket: number): void {
    if (this.open >= this.options.workerConnections - this.listeners.length && !this.drainIdle()) {
      this.log('alert', `${this.options.workerConnections} worker_connections are not enough`);
      this.channel.discard(socket);
      return;
    }
    const virtual = this.virtuals[listenerCookie];
    if (virtual === undefined) {
      this.channel.discard(socket);
      return;
    }
    const handle = this.channel.register(socket, 0);
    const slot = handle & SLOT_MASK;
    let c = this.connections[slot];
    if (c === undefined) {
      c = new Connection(this, virtual, this.memory);
      while (this.connections.length < slot) this.connections.push(new Connection(this, virtual, this.memory));
      this.connections[slot] = c;
    }
    this.open++;
    this.row[Status.Accepted] = (this.row[Status.Accepted] as number) + 1;
    this.row[Status.Handled] = (this.row[Status.Handled] as number) + 1;
    c.begin(handle, listenerCookie, virtual, Atomics.add(this.counters, COUNTER_CONNECTIONS, 1) + 1, this.tick);
    const { clientHeaderTimeoutMs } = virtual.defaultServer.conf;
    c.needsProxy = virtual.listen.proxyProtocol;
    c.proxyPending = c.needsProxy;
    this.channel.setDeadline(
      handle,
      this.exiting ? Math.min(LAST_REQUEST_MS, clientHeaderTimeoutMs) : clientHeaderTimeoutMs,
    );
    this.channel.read(handle);
  }

  onAcceptError(_listenerCookie: number, errno: number): void {
    this.log('crit', `accept4() failed (${strerror(errno)})`);
  }

  onRead(handle: Handle, _cookie: number, offset: number, length: number): void {
    const c = this.connections[handle & SLOT_MASK] as Connection;
    if (c.carry !== null) {
      c.append(this.memory, offset, offset + length);
      this.run(c, c.carry, c.carryStart, c.carryEnd);
    } else this.run(c, this.memory, offset, offset + length);
  }

  onEnd(handle: Handle, _cookie: number, errno: number): void {
    const c = this.connections[handle & SLOT_MASK] as Connection;
    c.ended = true;
    switch (c.state) {
      case State.Busy:
      case State.Blocked:
        // A client may shut its side and still read the answer.
        if (errno !== 0) this.abort(c);
        return;
      case State.Line:
      case State.Headers: {
        const r = c.request as Request;
        const text = errno === 0 ? 'client prematurely closed connection' : `recv() failed (${strerror(errno)})`;
        this.logError(r, 'info', text);
        r.status = 400;
        this.finishLog(r);
        this.close(c);
        return;
      }
      default:
        this.close(c);
    }
  }

  onDrain(handle: Handle): void {
    const c = this.connections[handle & SLOT_MASK] as Connection;
    if (c.handle !== handle) return;
    if (c.state === State.Busy) this.pump(c);
    else if (c.state === State.Blocked) {
      c.state = State.Idle;
      this.resume(c);
    }
  }

  onWritten(handle: Handle, _cookie: number, token: number, errno: number): void {
    const file = this.tokenFile[token] as FileEntry | null;
    const length = this.tokenLength[token] as number;
    this.tokenFile[token] = null;
    this.freeTokens.push(token);
    if (file !== null) this.files.release(file);
    else {
      this.pieces.give(this.tokenOffset[token] as number, this.tokenSpace[token] as number);
      this.wakeWaiter();
    }
    const c = this.connections[handle & SLOT_MASK] as Connection;
    if (c.handle !== handle || c.state === State.Free) return;
    c.inFlight--;
    c.inFlightBytes -= length;
    if (errno !== 0) {
      c.failed = true;
      return;
    }
    if (c.request !== null) c.request.bytesSent += length;
    if (c.state === State.Busy) {
      this.pump(c);
      this.sendDeadline(c);
    }
  }

  onConnect(): void {
    // This server opens no connections.
  }

  onTimeout(handle: Handle): void {
    const c = this.connections[handle & SLOT_MASK] as Connection;
    if (c.handle !== handle) return;
    switch (c.state) {
      case State.Line:
      case State.Headers: {
        const r = c.request as Request;
        this.logError(r, 'info', `client timed out (110: Connection timed out)`);
        r.status = 408;
        this.finishLog(r);
        if (c.location.conf.resetTimedoutConnection) this.abort(c);
        else this.close(c);
        return;
      }
      case State.Busy:
      case State.Blocked:
        if (c.request !== null) {
          this.logError(
            c.request,
            'info',
            'client timed out (110: Connection timed out) while sending response to client',
          );
        }
        this.abort(c);
        return;
      case State.Closing:
      case State.Linger:
        this.abort(c);
        return;
      default:
        // An idle client that has not even taken its answers will not take them after a close either.
        if (this.channel.outputBytes(handle) > 0) this.abort(c);
        // Bytes that cross our end on the wire must not turn it into a reset.
        else if (this.exiting) this.linger(c);
        else this.close(c);
    }
  }

  onClose(handle: Handle): void {
    const c = this.connections[handle & SLOT_MASK];
    if (c === undefined || c.handle !== handle || c.state === State.Free) return;
    c.state = State.Free;
    c.carry = null;
    c.memo = null;
    this.clearQueue(c);
    const r = c.request;
    if (r !== null) {
      c.request = null;
      this.finishLog(r);
      this.giveBack(r);
    }
    this.open--;
    this.idleCheck();
  }

  /* ------------------------------------------------------------------ requests */

  /** Goes over bytes of a connection: `buf[pos, end)` is all there is. */
  private run(c: Connection, buf: Uint8Array, start: number, end: number): void {
    c.inRun = true;
    this.requestLoop(c, buf, start, end);
    c.inRun = false;
  }

  private requestLoop(c: Connection, buf: Uint8Array, start: number, end: number): void {
    let pos = start;
    for (;;) {
      switch (c.state) {
        case State.Idle: {
          if (pos === end) {
            c.carry = null;
            if (c.ended) this.close(c);
            return;
          }
          if (c.proxyPending) {
            const header = parseProxyHeader(buf, pos, end);
            if (header.used < 0) {
              this.log(
                'error',
                `*${c.serial} broken header: "${printable(latin1(buf, pos, Math.min(end, pos + 32)))}" while reading PROXY protocol, client: ${c.remoteAddress()}`,
              );
              this.close(c);
              return;
            }
            if (header.used === 0) {
              c.save(buf, pos, end);
              return;
            }
            c.proxyPending = false;
            c.proxied = header.proxied;
            pos += header.used;
            break;
          }
          const used = this.fromMemory(c, buf, pos, end);
          if (used > 0) {
            pos += used;
            break;
          }
          if (used < 0) {
            // The channel is full: the request is looked at again when it has drained.
            c.state = State.Blocked;
            this.channel.setDeadline(c.handle, c.location.conf.sendTimeoutMs);
            c.save(buf, pos, end);
            return;
          }
          const r = this.requests.pop() ?? new Request();
          r.reset(buf, pos, c, c.virtual.defaultServer);
          r.startMs = Date.now();
          c.requests++;
          this.countRequest();
          c.request = r;
          c.state = State.Line;
          break;
        }
        case State.Line:
        case State.Headers: {
          const r = c.request as Request;
          r.buf = buf;
          r.base = pos;
          if (!this.head(c, r, end)) {
            if (c.state === State.Line && r.pos === 0) {
              // Nothing but empty lines so far: they are no request yet.
              c.state = State.Idle;
              c.request = null;
              c.requests--;
              this.row[Status.Requests] = (this.row[Status.Requests] as number) - 1;
              this.giveBack(r);
              c.carry = null;
              return;
            }
            // One deadline for the whole head: bytes that trickle in do not move it.
            if (c.carry === null) this.channel.setDeadline(c.handle, r.server.conf.clientHeaderTimeoutMs);
            c.save(buf, r.base, end);
            r.buf = c.carry ?? buf;
            r.base = c.carryStart;
            return;
          }
          pos = c.restStart;
          break;
        }
        case State.Body: {
          pos = dropBody(c, buf, pos, end);
          if (pos < 0) {
            this.close(c);
            return;
          }
          if (c.bodyActive) {
            c.carry = null;
            this.channel.setDeadline(c.handle, this.lingerMs(c));
            return;
          }
          this.afterRequest(c, pos < end);
          break;
        }
        case State.Busy:
          if (c.bodyActive) {
            pos = dropBody(c, buf, pos, end);
            if (pos < 0) {
              c.bodyActive = false;
              c.keepalive = false;
              pos = end;
            }
          }
          c.save(buf, pos, end);
          if (end - pos > CARRY_MAX && c.reading) {
            c.reading = false;
            this.channel.readStop(c.handle);
          }
          return;
        case State.Blocked:
          c.save(buf, pos, end);
          return;
        case State.Linger:
          c.carry = null;
          this.channel.setDeadline(c.handle, this.lingerMs(c));
          return;
        default:
          // Closing, Free: nobody reads this any more.
          c.carry = null;
          return;
      }
    }
  }

  /** Goes on with what is kept. */
  private resume(c: Connection): void {
    if (!c.reading && c.state !== State.Closing && !c.ended) {
      c.reading = true;
      this.channel.read(c.handle);
    }
    const carry = c.carry;
    if (carry !== null) this.run(c, carry, c.carryStart, c.carryEnd);
    else if (c.ended && c.state === State.Idle) this.close(c);
  }

  /**
   * Answers a request that was answered before: the bytes it took, 0 when it is not known, -1 when the channel is full.
   */
  private fromMemory(c: Connection, buf: Uint8Array, pos: number, end: number): number {
    let memo = c.memo ?? this.lastMemo;
    const tick = this.tick;
    if (
      memo === null ||
      memo.validUntil <= tick ||
      memo.listen !== c.listen ||
      !memo.prepared.alive ||
      !startsWith(buf, pos, end, memo.key, memo.length)
    ) {
      memo = this.lookUp(c, buf, pos, end);
      if (memo === null) return 0;
    }
    if (c.requests + 1 >= memo.keepaliveRequests || tick - c.startTick >= memo.keepaliveTicks) return 0;
    const prepared = memo.prepared;
    const handle = c.handle;
    const length = prepared.bytes.length;
    const at = this.channel.reserve(handle, length);
    if (at < 0) return -1;
    if (prepared.dateTick !== tick) this.redate(prepared);
    this.memory.set(prepared.bytes, at);
    this.channel.commit(handle, length);
    c.memo = memo;
    this.lastMemo = memo;
    c.requests++;
    this.countRequest();
    c.pipelined = false;
    if (memo.log !== null) memo.log.write(c);
    if (prepared.file !== null) {
      c.rate = 0;
      c.keepalive = prepared.keepalive;
      c.location = memo.location;
      this.queueKept(c, prepared.file, 0, prepared.file.size);
      c.state = State.Busy;
      c.restBuf = buf;
      c.restStart = pos + memo.length;
      c.restEnd = end;
      this.pump(c);
      this.sendDeadline(c);
    } else if (prepared.keepalive) this.channel.setDeadline(handle, memo.keepaliveMs);
    else {
      c.location = memo.location;
      this.end(c, pos + memo.length < end);
    }
    return memo.length;
  }

  private countRequest(): void {
    this.row[Status.Requests] = (this.row[Status.Requests] as number) + 1;
  }

  private lookUp(c: Connection, buf: Uint8Array, pos: number, end: number): Memo | null {
    const hash = headHash(buf, pos, end);
    if (hash === 0) return null;
    const memo = this.memos.get(hash);
    if (
      memo === null ||
      memo.hash !== hash ||
      memo.validUntil <= this.tick ||
      memo.listen !== c.listen ||
      !memo.prepared.alive ||
      !startsWith(buf, pos, end, memo.key, memo.length)
    ) {
      return null;
    }
    return memo;
  }

  private redate(prepared: Prepared): void {
    prepared.dateTick = this.tick;
    prepared.bytes.set(this.dateBytes, prepared.dateOffset);
  }

  /** Parses on; true when the request was handled (or refused), false when more bytes are needed. */
  private head(c: Connection, r: Request, end: number): boolean {
    if (c.state === State.Line) {
      const result = r.parseLine(end);
      if (result === Parse.Again) return false;
      if (result !== Parse.Done) return this.refuse(c, r, end, result);
      if (!this.requestLine(r)) return this.refuse(c, r, end, Parse.InvalidRequest);
      const host = r.absoluteHost();
      if (host !== null) {
        if (!this.takeHost(r, host)) {
          this.logError(r, 'info', 'client sent invalid host in request line');
          return this.refuseWith(c, r, end, 400, true);
        }
      }
      if (r.version < HTTP_10) {
        if (!r.hostGiven) this.serverWithoutHost(r);
        r.headEnd = r.pos;
        this.serve(c, r, end);
        return true;
      }
      c.state = State.Headers;
    }
    const result = r.parseHeaders(end);
    if (result === Parse.Again) return false;
    if (result !== Parse.Done) return this.refuse(c, r, end, result);
    const status = this.checkHead(r);
    if (status !== 0) return this.refuseWith(c, r, end, status, false);
    this.serve(c, r, end);
    return true;
  }

  private serve(c: Connection, r: Request, end: number): void {
    c.restBuf = r.buf;
    c.restStart = r.base + r.headEnd;
    c.restEnd = end;
    c.pipelined = c.restStart < end;
    r.length = r.headEnd;
    beginBody(c, 0, false);
    c.state = State.Busy;
    this.guarded(r, handleRequest);
    // A handler waits for something: the buffer will not.
    if (c.request === r && c.state === State.Busy && !r.headerSent) this.suspend(r);
  }

  /**
   * Goes on with a request that waited. When its connection is gone meanwhile, so is the request, and nothing happens:
   * `serial` is the connection's number at the time of the wait.
   */
  resumeRequest(r: Request, serial: number, work: (r: Request) => void): void {
    const c = r.connection;
    if (c.request !== mainRequest(r) || c.serial !== serial || c.state !== State.Busy) return;
    this.guarded(r, work);
  }

  private guarded(r: Request, work: (r: Request) => void): void {
    const c = r.connection;
    try {
      work(r);
    } catch (error) {
      // A fault of ours ends the connection that met it, and no other.
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.logError(r, 'alert', `unexpected error: ${printable(text)}`);
      this.abort(c);
    }
  }

  /** URI and arguments from the request line. */
  private requestLine(r: Request): boolean {
    const base = r.base;
    if (r.complexUri || r.quotedUri || r.emptyPathInUri) {
      const ok = normalizeUri(r.buf, base + r.uriStart, base + r.uriEnd, r.server.conf.mergeSlashes, r.emptyPathInUri);
      if (!ok) return false;
      r.uri = normalized.path;
      r.args = normalized.args;
      return true;
    }
    if (r.argsStart < 0) r.uri = r.text(r.uriStart, r.uriEnd);
    else {
      r.uri = r.text(r.uriStart, r.argsStart - 1);
      if (r.uriEnd > r.argsStart) r.args = r.text(r.argsStart, r.uriEnd);
    }
    return true;
  }

  /** The Host header; called by the parser. */
  hostHeader(r: Request): boolean {
    const given = r.hostGiven;
    const value = r.header(HeaderId.Host) ?? '';
    if (!validHost(value, this.hostParts)) return false;
    return given ? true : this.takeHost(r, value);
  }

  private takeHost(r: Request, text: string): boolean {
    if (!validHost(text, this.hostParts)) return false;
    r.host = this.hostParts.host;
    r.hostGiven = true;
    this.captured.captures = null;
    r.server = r.connection.virtual.find(r.host, this.captured);
    r.location = r.server.location;
    if (this.captured.captures !== null) takeCaptures(r, this.captured.captures);
    return true;
  }

  /** A server may have the empty name for clients that name none. */
  private serverWithoutHost(r: Request): void {
    r.server = r.connection.virtual.find('', this.captured);
    r.location = r.server.location;
  }

  /** What must hold of a complete head; the status to refuse it with, or 0. */
  private checkHead(r: Request): number {
    if (!r.hostGiven) this.serverWithoutHost(r);
    if ((r.known[HeaderId.Host] as number) < 0 && r.version > HTTP_10) {
      this.logError(
        r,
        'info',
        'client sent HTTP/1.1 request without "Host" header while reading client request headers',
      );
      return 400;
    }
    const length = r.header(HeaderId.ContentLength);
    if (length !== null) {
      const value = /^[0-9]+$/.test(length) ? Number(length) : -1;
      if (value < 0 || value > Number.MAX_SAFE_INTEGER) {
        this.logError(r, 'info', 'client sent invalid "Content-Length" header while reading client request headers');
        return 400;
      }
      r.contentLength = value;
    }
    const encoding = r.header(HeaderId.TransferEncoding);
    if (encoding !== null) {
      if (r.version < HTTP_11) {
        this.logError(r, 'info', 'client sent HTTP/1.0 request with "Transfer-Encoding" header');
        return 400;
      }
      if (encoding.toLowerCase() !== 'chunked') {
        this.logError(r, 'info', `client sent unknown "Transfer-Encoding": "${printable(encoding)}"`);
        return 501;
      }
      if (length !== null) {
        this.logError(r, 'info', 'client sent "Content-Length" and "Transfer-Encoding" headers at the same time');
        return 400;
      }
      r.contentLength = -1;
      r.chunked = true;
    }
    if (r.method === Method.Trace || r.method === Method.Connect) {
      this.logError(r, 'info', `client sent ${r.method === Method.Trace ? 'TRACE' : 'CONNECT'} method`);
      return 405;
    }
    return 0;
  }

  /** The parser refused the head. */
  private refuse(c: Connection, r: Request, end: number, result: ParseResult): boolean {
    const inHeaders = c.state === State.Headers;
    const where = inHeaders ? 'while reading client request headers' : 'while reading client request line';
    this.logError(
      r,
      'info',
      `${REFUSALS[result] ?? 'client sent invalid request'}${refusedDetail(r, result)} ${where}`,
    );
    return this.refuseWith(c, r, end, STATUS_OF[result] ?? 400, true);
  }

  private refuseWith(c: Connection, r: Request, end: number, status: number, unread: boolean): boolean {
    c.restBuf = r.buf;
    // Nothing behind a refused head can be trusted to be a request; the connection ends here.
    c.restStart = Math.min(end, r.base + Math.max(r.headEnd, r.pos));
    c.restEnd = end;
    c.state = State.Busy;
    r.impure();
    beginBody(c, 0, false);
    c.closeLinger = unread;
    finalize(r, status);
    return true;
  }

  /**
   * The body will not be read by anyone. Drops what is there of it; false when its framing is broken (answer 400).
   */
  discardBody(r: Request): boolean {
    if (r.discarding) return true;
    const c = r.connection;
    if (expectsContinue(r)) {
      // nginx answers 100 even where no body was announced.
      r.impure();
      this.interim(c);
    }
    if (r.contentLength <= 0 && !r.chunked) return true;
    r.discarding = true;
    beginBody(c, r.contentLength, r.chunked);
    c.lingerUntilMs = 0;
    const pos = dropBody(c, c.restBuf, c.restStart, c.restEnd);
    if (pos < 0) {
      this.logError(r, 'info', 'client sent invalid chunked body');
      c.bodyActive = false;
      return false;
    }
    r.length += pos - c.restStart;
    c.restStart = pos;
    if (c.bodyActive) r.lingeringClose = false;
    return true;
  }

  private interim(c: Connection): void {
    if (this.channel.writeCopy(c.handle, CONTINUE, 0, CONTINUE.length) === Write.Full) {
      c.queue.push(bytesItem(CONTINUE));
    }
    if (c.request !== null) c.request.bytesSent += CONTINUE.length;
  }

  /* ------------------------------------------------------------------ answers */

  /** Sends an answer that can be kept, and keeps it. */
  emitPrepared(r: Request, prepared: Prepared): void {
    const c = r.connection;
    if (prepared.dateTick !== this.tick) this.redate(prepared);
    r.headerBytes = prepared.headerLength;
    r.bytesSent += prepared.bytes.length;
    if (r.pure && r.headEnd <= MEMO_HEAD_MAX && r.validUntil > this.tick && !this.exiting)
      this.remember(c, r, prepared);
    this.put(c, prepared.bytes);
    if (prepared.file !== null) this.queueKept(c, prepared.file, 0, prepared.file.size);
    this.sendRest(c, r);
  }

  /** The next request with the same head is answered from memory. */
  private remember(c: Connection, r: Request, prepared: Prepared): void {
    const sent = r.bytesSent;
    r.bytesSent += prepared.file?.size ?? 0;
    const log = memoLog(r);
    r.bytesSent = sent;
    if (log === undefined) return;
    const key = r.buf.slice(r.base, r.base + r.headEnd);
    const memo = new Memo(key, headHash(key, 0, key.length), c.listen, prepared, r.validUntil, r.location, log);
    this.memos.put(memo);
    this.lastMemo = memo;
    c.memo = memo;
  }

  /** Sends an answer once: header text, then the body bytes or the request's file. */
  emit(r: Request, header: string, body: Uint8Array | null, withBody: boolean): void {
    const c = r.connection;
    r.headerBytes = header.length;
    r.bytesSent += header.length;
    const file = withBody ? r.file : null;
    const kept = file === null ? body : file.body;
    if (r.ranges.length === 0 && kept !== null) {
      this.putBoth(c, header, kept);
      r.bytesSent += kept.length;
      this.sendRest(c, r);
      return;
    }
    if (header !== '') this.put(c, latin1Bytes(header));
    if (file !== null) this.queueFile(c, r, file);
    this.sendRest(c, r);
  }

  /** Sends an answer whose body is a stream. */
  emitStream(r: Request, header: string, stream: BodyStream): void {
    const c = r.connection;
    const { serial } = c;
    r.headerBytes = header.length;
    r.bytesSent += header.length;
    this.put(c, latin1Bytes(header));
    stream.wake = () => {
      if (c.request !== r || c.serial !== serial || c.state !== State.Busy) return;
      this.pump(c);
      this.sendDeadline(c);
    };
    c.queue.push({ ...bytesItem(null), stream });
    this.sendRest(c, r);
  }

  /** The body of an answer as a stream; null (and a line in the log) when its file cannot be opened any more. */
  sourceOf(r: Request, body: Uint8Array | null): BodyStream | null {
    const { file } = r;
    if (file === null) return new BytesStream(body ?? new Uint8Array(0));
    const kept = this.files.view(file);
    if (kept !== null) return new BytesStream(kept.slice());
    const fd = this.files.openFile(file);
    if (fd >= 0) return new FileStream(fd, file.size);
    this.logError(r, 'crit', `open() "${file.path}" failed (${strerror(fd)})`);
    return null;
  }

  /** A body that is at hand as a whole; null: it is not. The bytes may be overwritten later. */
  wholeBody(r: Request, body: Uint8Array | null): Uint8Array | null {
    return r.file === null ? body : this.files.view(r.file);
  }

  keepChanged(r: Request, key: string, prepared: Prepared): void {
    if (r.file !== null) this.files.keepChanged(r.file, key, prepared);
  }

  /** The request waits for something that is not the client: no deadline of the client's holds. */
  suspend(r: Request): void {
    r.detach();
    this.channel.setDeadline(r.connection.handle, 0);
  }

  /** A file's bytes, or its ranges, behind the header. */
  private queueFile(c: Connection, r: Request, file: FileEntry): void {
    const total = file.size;
    if (r.ranges.length <= 2) {
      const start = r.ranges[0] ?? 0;
      const end = r.ranges[1] ?? total;
      this.queueSpan(c, r, file, start, end);
      return;
    }
    for (let i = 0; i < r.ranges.length; i += 2) {
      const start = r.ranges[i] as number;
      const end = r.ranges[i + 1] as number;
      const head = latin1Bytes(`${r.partHeader}${start}-${end - 1}/${r.rangeTotal}\r\n\r\n`);
      c.queue.push(bytesItem(head));
      r.bytesSent += head.length;
      this.queueSpan(c, r, file, start, end);
    }
    const tail = latin1Bytes(`\r\n--${r.boundary}--\r\n`);
    c.queue.push(bytesItem(tail));
    r.bytesSent += tail.length;
  }

  private queueSpan(c: Connection, r: Request, file: FileEntry, start: number, end: number): void {
    if (end <= start) return;
    if (file.body !== null) {
      c.queue.push(bytesItem(file.body.subarray(start, end)));
      r.bytesSent += end - start;
      return;
    }
    if (file.offset >= 0) {
      this.queueKept(c, file, start, end);
      return;
    }
    const fd = this.files.openFile(file);
    if (fd < 0) {
      this.logError(r, 'crit', `open() "${file.path}" failed (${strerror(fd)})`);
      c.failed = true;
      return;
    }
    c.queue.push({ ...bytesItem(null), fd, offset: start, left: end - start, path: file.path });
  }

  /** Bytes of a kept file; the item holds a reference until it is done. */
  private queueKept(c: Connection, file: FileEntry, start: number, end: number): void {
    this.files.retain(file);
    c.queue.push({ ...bytesItem(null), file, offset: file.offset + start, left: end - start, path: file.path });
  }

  /** Header and body in one piece of output. */
  private putBoth(c: Connection, header: string, body: Uint8Array): void {
    const length = header.length + body.length;
    if (length === 0) return;
    if (c.queue.length === 0 && length <= RESERVE_MAX) {
      const at = this.channel.reserve(c.handle, length);
      if (at >= 0) {
        writeLatin1(this.memory, header, at);
        this.memory.set(body, at + header.length);
        this.channel.commit(c.handle, length);
        return;
      }
    }
    this.put(c, latin1Bytes(header));
    this.put(c, body);
  }

  private put(c: Connection, bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    if (c.queue.length === 0 && this.channel.writeCopy(c.handle, bytes, 0, bytes.length) !== Write.Full) return;
    c.queue.push(bytesItem(bytes));
  }

  /** The answer is composed: send what the channel takes; the request ends when all of it is taken. */
  private sendRest(c: Connection, r: Request): void {
    c.keepalive = r.keepalive;
    c.location = r.location;
    this.setRate(c, r);
    if (c.failed) {
      this.abort(c);
      return;
    }
    if (c.queue.length === 0 && c.inFlight === 0) {
      this.requestDone(c);
      return;
    }
    // What comes later must not depend on the buffer that is about to be reused.
    r.detach();
    this.pump(c);
    this.sendDeadline(c);
  }

  /** Hands queued pieces to the channel; ends the request when none is left and none is in flight. */
  private pump(c: Connection): void {
    const { queue, handle } = c;
    while (queue.length > 0) {
      const allowed = c.rate === 0 ? KEPT_PIECE_BYTES : this.allowance(c);
      if (allowed <= 0) {
        this.pauseForRate(c, -allowed);
        return;
      }
      const item = queue[0] as OutItem;
      if (item.stream !== null) {
        if (!this.pumpBody(c, item, item.stream)) return;
        queue.shift();
        continue;
      }
      if (item.bytes !== null) {
        if (this.channel.writeCopy(handle, item.bytes, 0, item.bytes.length) === Write.Full) return;
        queue.shift();
        continue;
      }
      if (c.inFlight >= PIECES_IN_FLIGHT) return;
      const more = item.file !== null ? this.pumpKept(c, item, item.file, allowed) : this.pumpStream(c, item, allowed);
      if (!more) return;
      if (item.left === 0) {
        this.release(item);
        queue.shift();
      }
    }
    if (c.inFlight === 0 && c.state === State.Busy && !c.failed) this.requestDone(c);
  }

  /** limit_rate for the answer that begins. */
  private setRate(c: Connection, r: Request): void {
    const { conf } = r.location;
    c.rate = 0;
    if (r.limitRateText === null && conf.limitRate === '0') return;
    c.rate = parseSize(r.limitRateText ?? r.location.limitRate(r)) ?? 0;
    c.rateAfter = parseSize(r.location.limitRateAfter(r)) ?? 0;
    c.rateStartMs = Date.now();
    c.rateSent = 0;
  }

  /** Bytes that may go out now: those of the time that passed, and of one more second. */
  private allowance(c: Connection): number {
    const seconds = (Date.now() - c.rateStartMs) / 1000;
    return Math.floor(c.rateAfter + c.rate * (seconds + 1) - c.rateSent);
  }

  private pauseForRate(c: Connection, deficit: number): void {
    if (c.ratePaused) return;
    c.ratePaused = true;
    const { serial } = c;
    this.channel.setDeadline(c.handle, 0);
    // Not at the first byte that is allowed: pieces of some size cost less.
    const ms = Math.ceil(((deficit + Math.min(c.rate / 10, SMALL_PIECE_BYTES)) * 1000) / c.rate);
    setTimeout(() => {
      if (c.serial !== serial) return;
      c.ratePaused = false;
      if (c.state !== State.Busy) return;
      this.pump(c);
      this.sendDeadline(c);
    }, ms);
  }

  /** Moves pieces of a stream to the channel; true at its end. */
  private pumpBody(c: Connection, item: OutItem, stream: BodyStream): boolean {
    for (;;) {
      let piece: Piece = NOT_YET;
      try {
        piece = item.rest ?? stream.next();
      } catch (error) {
        if (c.request !== null) this.logError(c.request, 'alert', `body filter failed: ${(error as Error).message}`);
        // What was promised cannot be sent any more; only a broken connection tells the client.
        this.abort(c);
        return false;
      }
      if (piece === NOT_YET) return false;
      if (piece === END) {
        stream.close();
        item.stream = null;
        return true;
      }
      if (this.channel.writeCopy(c.handle, piece, 0, piece.length) === Write.Full) {
        item.rest = item.rest ?? piece.slice();
        return false;
      }
      item.rest = null;
      c.rateSent += piece.length;
      if (c.request !== null) c.request.bytesSent += piece.length;
    }
  }

  private pumpKept(c: Connection, item: OutItem, file: FileEntry, allowed: number): boolean {
    const length = Math.min(item.left, KEPT_PIECE_BYTES, allowed);
    const token = this.token(file, item.offset, length, 0);
    if (this.channel.write(c.handle, this.fileRegion, item.offset, length, token) === Write.Full) {
      this.tokenFile[token] = null;
      this.freeTokens.push(token);
      return false;
    }
    this.files.retain(file);
    c.inFlight++;
    c.inFlightBytes += length;
    c.rateSent += length;
    item.offset += length;
    item.left -= length;
    return true;
  }

  private pumpStream(c: Connection, item: OutItem, allowed: number): boolean {
    const half = this.pieces.size >> 1;
    const wanted = this.pieces.free > half ? PIECE_BYTES : SMALL_PIECE_BYTES;
    const space = Math.min(wanted, item.left, allowed);
    const at = this.pieces.take(space);
    if (at < 0) {
      if (!c.waiting) {
        c.waiting = true;
        this.waiters.push(c.handle);
      }
      return false;
    }
    let count = -1;
    let errno = 0;
    try {
      count = readSync(item.fd, this.pieceBytes, at, space, item.offset);
    } catch (error) {
      errno = Math.abs((error as NodeJS.ErrnoException).errno ?? 5);
    }
    if (count <= 0) {
      this.pieces.give(at, space);
      if (c.request !== null) {
        const text =
          count === 0
            ? `file "${item.path}" was truncated while it was sent, at ${item.offset}`
            : `read() "${item.path}" failed (${strerror(errno)})`;
        this.logError(c.request, 'alert', text);
      }
      // The promised length cannot be kept; only a broken connection tells the client.
      this.abort(c);
      return false;
    }
    const token = this.token(null, at, count, space);
    if (this.channel.write(c.handle, this.pieceRegion, at, count, token) === Write.Full) {
      this.freeTokens.push(token);
      this.pieces.give(at, space);
      return false;
    }
    c.inFlight++;
    c.inFlightBytes += count;
    c.rateSent += count;
    item.offset += count;
    item.left -= count;
    return true;
  }

  /** While an answer is under way: the time until the next piece of it must have been taken. */
  private sendDeadline(c: Connection): void {
    if (c.state !== State.Busy || c.ratePaused) return;
    const share = 1 + Math.floor(c.inFlightBytes / PROGRESS_BYTES);
    this.channel.setDeadline(c.handle, c.location.conf.sendTimeoutMs * share);
  }

  private token(file: FileEntry | null, offset: number, length: number, space: number): number {
    const token = this.freeTokens.pop() ?? this.tokenFile.length;
    this.tokenFile[token] = file;
    this.tokenOffset[token] = offset;
    this.tokenLength[token] = length;
    this.tokenSpace[token] = space;
    return token;
  }

  private wakeWaiter(): void {
    while (this.waiters.length > 0) {
      const handle = this.waiters.shift() as Handle;
      const c = this.connections[handle & SLOT_MASK];
      if (c === undefined || c.handle !== handle || !c.waiting) continue;
      c.waiting = false;
      if (c.state !== State.Busy) continue;
      this.pump(c);
      this.sendDeadline(c);
      return;
    }
  }

  /** Every byte of the answer was taken. */
  private requestDone(c: Connection): void {
    const r = c.request;
    // Within `run` the bytes behind the request are run's; later they are what was kept.
    const unread = c.inRun ? c.restStart < c.restEnd : c.carry !== null;
    if (r !== null) {
      c.request = null;
      this.finishLog(r);
      c.closeLinger ||= r.lingeringClose && !c.bodyActive && !r.keepalive;
      this.giveBack(r);
    }
    if (c.bodyActive) {
      c.state = State.Body;
      this.channel.setDeadline(c.handle, this.lingerMs(c));
    } else this.afterRequest(c, unread);
    if (!c.inRun) this.resume(c);
  }

  private afterRequest(c: Connection, unread: boolean): void {
    if (c.keepalive) {
      c.state = State.Idle;
      c.closeLinger = false;
      this.channel.setDeadline(c.handle, this.keepaliveMs(c));
    } else this.end(c, unread);
  }

  /** The last answer is out. A client that still sends would turn a plain close into a reset, so linger. */
  private end(c: Connection, unread: boolean): void {
    const { lingeringClose } = c.location.conf;
    const linger = lingeringClose === 'always' || (lingeringClose === 'on' && (c.closeLinger || unread));
    c.closeLinger = false;
    if (linger && !c.ended) this.linger(c);
    else this.close(c);
  }

  /** Shuts our side, and reads and drops what still comes. */
  private linger(c: Connection): void {
    c.state = State.Linger;
    c.lingerUntilMs = Date.now() + c.location.conf.lingeringTimeMs;
    this.channel.disconnect(c.handle);
    this.channel.setDeadline(c.handle, c.location.conf.lingeringTimeoutMs);
    if (!c.reading) {
      c.reading = true;
      this.channel.read(c.handle);
    }
  }

  /** Time until the next bytes of an unwanted body must have come. */
  private lingerMs(c: Connection): number {
    const conf = c.location.conf;
    const now = Date.now();
    if (c.lingerUntilMs === 0) c.lingerUntilMs = now + conf.lingeringTimeMs;
    return Math.max(1, Math.min(conf.lingeringTimeoutMs, c.lingerUntilMs - now));
  }

  /** `return 444`: not a byte. */
  drop(r: Request): void {
    if (r.done !== null) {
      answered(r);
      return;
    }
    this.finishLog(r);
    this.close(r.connection);
  }

  private close(c: Connection): void {
    if (c.state === State.Closing || c.state === State.Free) return;
    c.state = State.Closing;
    c.carry = null;
    this.channel.setDeadline(c.handle, c.location.conf.sendTimeoutMs);
    this.channel.close(c.handle);
  }

  private abort(c: Connection): void {
    if (c.state === State.Free) return;
    c.state = State.Closing;
    c.carry = null;
    this.channel.abort(c.handle);
  }

  private clearQueue(c: Connection): void {
    for (const item of c.queue) this.release(item);
    c.queue.length = 0;
    c.waiting = false;
  }

  private release(item: OutItem): void {
    if (item.file !== null) this.files.release(item.file);
    item.stream?.close();
    item.stream = null;
    if (item.fd >= 0) {
      closeSync(item.fd);
      item.fd = -1;
    }
  }

  private giveBack(r: Request): void {
    r.body = null;
    r.file = null;
    if (this.requests.length < REQUESTS_KEPT) this.requests.push(r);
  }

  /** Makes room for a connection by closing some that are idle; false when none is. */
  private drainIdle(): boolean {
    let closed = 0;
    for (const c of this.connections) {
      if (c.state !== State.Idle || c.requests === 0) continue;
      this.close(c);
      if (++closed === DRAIN_IDLE) break;
    }
    return closed > 0;
  }

  /* ------------------------------------------------------------------ services */

  /** What is at a path, under the location's rules; the answer depends on it from now on. */
  findFile(r: Request, path: string, open: boolean): FileEntry {
    const { location } = r;
    const valid = location.fileValidTicks;
    const entry = this.files.find(path, this.tick, valid, open, location.conf.openFileCacheErrors);
    r.validUntil = Math.min(r.validUntil, entry.checked + valid);
    if (valid === 0) r.impure();
    return entry;
  }

  /** A zone of the configuration by name. */
  zone(name: string): RuntimeZone {
    return this.zones.get(name) as RuntimeZone;
  }

  /** A counter of the whole server, over all workers. */
  statusSum(field: number): number {
    // This worker's own numbers are brought up to date first; those of others are a second old at most.
    this.publishStatus();
    return sumOf(this.options.status, field);
  }

  /** Counts connections by what they are doing; called once a second, and when somebody asks. */
  private publishStatus(): void {
    let reading = 0;
    let writing = 0;
    for (const c of this.connections) {
      if (c.state === State.Line || c.state === State.Headers) reading++;
      else if (c.state === State.Busy || c.state === State.Blocked || c.state === State.Body) writing++;
    }
    this.row[Status.Active] = this.open;
    this.row[Status.Reading] = reading;
    this.row[Status.Writing] = writing;
  }

  /** A location by its index in the configuration. */
  locationAt(index: number): RuntimeLocation {
    return this.locations[index] as RuntimeLocation;
  }

  /** A path relative to the configuration file. */
  confPath(path: string): string {
    return this.options.confPrefix + path;
  }

  /** root or alias, with variables. */
  documentRoot(r: Request): string {
    const root = r.location.root(r);
    if (typeof r.location.conf.root === 'string' || root.startsWith('/')) return root;
    return this.options.prefix + root;
  }

  /** The URI as a path. */
  pathOf(r: Request): string {
    const { location } = r;
    const root = this.documentRoot(r);
    if (!location.conf.rootIsAlias) return root + r.uri;
    if (location.kind === 'regex') return r.addUriToAlias ? root + r.uri : root;
    return root + r.uri.slice(location.aliasLength);
  }

  portOf(r: Request): number {
    return this.options.boundTo[r.connection.listen]?.port ?? 0;
  }

  localAddress(r: Request): string {
    const c = r.connection;
    if (this.options.http.usesServerAddr && this.isWildcard(c.listen)) return this.options.localOf(c.handle);
    return this.options.boundTo[c.listen]?.host ?? '';
  }

  peerOf(handle: Handle): { host: string; port: number } {
    return this.options.peerOf(handle);
  }

  nextBoundary(): string {
    return String(Atomics.add(this.counters, COUNTER_BOUNDARIES, 1) + 1).padStart(20, '0');
  }

  private finishLog(r: Request): void {
    if (r.logged) return;
    r.logged = true;
    logRequest(r);
    r.connection.restore();
    r.runCleanups();
  }

  /** A line about a request, to the logs of its location. */
  logError(r: Request, level: LogLevelName, message: string): void {
    r.impure();
    const { errorLogs } = r.location.conf;
    const writer = this.options.errorLog;
    if (!writer.wants(errorLogs, level)) return;
    let text = `*${r.connection.serial} ${message}, client: ${r.connection.remoteAddress()}, server: ${r.server.name}`;
    const line = r.requestLine();
    if (line !== '') text += `, request: "${printable(line)}"`;
    const host = r.header(HeaderId.Host);
    if (host !== null) text += `, host: "${printable(host)}"`;
    const referer = r.header(HeaderId.Referer);
    if (referer !== null) text += `, referrer: "${printable(referer)}"`;
    writer.write(errorLogs, level, text);
  }

  /** A line about the worker. */
  private log(level: LogLevelName, message: string): void {
    this.options.errorLog.write(this.options.mainErrorLogs, level, message);
  }
}

const REQUESTS_KEPT = 64;

const REFUSALS: Record<number, string> = {
  [Parse.InvalidMethod]: 'client sent invalid method',
  [Parse.InvalidRequest]: 'client sent invalid request',
  [Parse.InvalidVersion]: 'client sent invalid version',
  [Parse.Invalid09Method]: 'client sent invalid method in HTTP/0.9 request',
  [Parse.InvalidHeader]: 'client sent invalid header line',
  [Parse.LineTooLong]: 'client sent too long URI',
  [Parse.HeaderTooLarge]: 'client sent too long header line',
  [Parse.DuplicateHost]: 'client sent duplicate host header',
  [Parse.DuplicateHeader]: 'client sent duplicate header line',
  [Parse.InvalidHost]: 'client sent invalid host header',
};

const STATUS_OF: Record<number, number> = {
  [Parse.InvalidVersion]: 505,
  [Parse.LineTooLong]: 414,
  [Parse.HeaderTooLarge]: 494,
};

function refusedDetail(r: Request, result: ParseResult): string {
  if (result === Parse.InvalidHeader || result === Parse.HeaderTooLarge)
    return `: "${printable(r.refusedHeader())}..."`;
  if (result === Parse.DuplicateHost || result === Parse.DuplicateHeader) return `: "${printable(r.lastHeaderLine())}"`;
  return '';
}

function bytesItem(bytes: Uint8Array | null): OutItem {
  return { bytes, file: null, fd: -1, offset: 0, left: 0, path: '', stream: null, rest: null };
}

/** Whether `buf[pos, end)` begins with the key. */
function startsWith(buf: Uint8Array, pos: number, end: number, key: Uint8Array, length: number): boolean {
  if (end - pos < length) return false;
  for (let i = 0; i < length; i++) if (buf[pos + i] !== key[i]) return false;
  return true;
}

const LF = 0x0a;
const CR = 0x0d;

/** Hash of a head's bytes up to its empty line; 0 when the head is incomplete or too long to be remembered. */
export function headHash(buf: Uint8Array, pos: number, end: number): number {
  const stop = Math.min(end, pos + MEMO_HEAD_MAX);
  let hash = 17;
  for (let p = pos; p < stop; p++) {
    const ch = buf[p] as number;
    hash = (Math.imul(hash, 31) + ch) | 0;
    if (ch === LF && p > pos + 1) {
      const before = buf[p - 1];
      if (before === LF || (before === CR && buf[p - 2] === LF)) return hash === 0 ? 1 : hash;
    }
  }
  return 0;
}

/** Checks a host as nginx does; its name, lower case and without port, goes to `out`. */
export function validHost(text: string, out: { host: string }): boolean {
  let end = text.length;
  let dot = text.length;
  let literal = false;
  let rest = false;
  for (let i = 0; i < text.length; i++) {
    const ch = text.charCodeAt(i);
    if (ch === 0x2e) {
      if (dot === i - 1) return false;
      dot = i;
    } else if (ch === 0x3a) {
      if (!literal && !rest) {
        end = i;
        rest = true;
      }
    } else if (ch === 0x5b) {
      if (i === 0) literal = true;
    } else if (ch === 0x5d) {
      if (literal) {
        end = i + 1;
        literal = false;
        rest = true;
      }
    } else if (ch <= 0x20 || ch === 0x7f || ch === 0x2f) return false;
  }
  if (dot === end - 1) end--;
  if (end <= 0) return false;
  out.host = text.slice(0, end).toLowerCase();
  return true;
}
