/**
 * The engine: connections of one worker, between its channel and the phases.
 *
 * What it is for: the channel's sink. Finds requests in the bytes that arrive, has known ones answered from memory (replay.ts),
 * runs the others through the phases, keeps the deadlines. Invariants: requests of a connection are answered one after
 * another and in order; a connection is in exactly one State; bytes that wait are bounded (CARRY_MAX, then reading stops).
 * Not its job: whether a head is right (intake.ts), bodies of requests (body-reader.ts), what an answer says (output.ts, modules), how it is sent (sender.ts), how a
 * request or a connection ends (closing.ts), threads and signals (worker.ts).
 */

import { type Handle, type Sink, SLOT_MASK } from '@megapipe/core';
import type { LogLevelName } from '../conf/errors.ts';
import { strerror } from '../log/errno.ts';
import { printable } from '../log/error-log.ts';
import { type Recoder, recoderMaker } from '../modules/charset/recode.ts';
import { isWildcard } from '../net/address.ts';
import { Zone } from '../shared/zone.ts';
import { beginBody, dropBody } from './body.ts';
import { bodyEnded, bodyTimedOut, readMore } from './body-reader.ts';
import { latin1, writeLatin1 } from './bytes.ts';
import {
  abort,
  afterRequest,
  close,
  cutOff,
  finishLog,
  keepaliveMs,
  LAST_REQUEST_MS,
  linger,
  lingerMs,
} from './closing.ts';
import { Connection, State } from './connection.ts';
import { DATE_LENGTH, formatDate } from './date.ts';
import type { EngineChannel, EngineOptions, RuntimeZone } from './engine-options.ts';
import { FILE_CACHE_DEFAULTS, FileCache, type FileEntry, FileKind, failedEntry } from './file-cache.ts';
import { HeaderId } from './headers.ts';
import { readHead } from './intake.ts';
import type { HeaderFilter } from './output.ts';
import { handleRequest, handlersByPhase, type PhaseHandler } from './phases.ts';
import { parseProxyHeader } from './proxy-protocol.ts';
import { Replay } from './replay.ts';
import { Request } from './request.ts';
import { buildRuntime, type RuntimeLocation, type VirtualServers } from './runtime.ts';
import { Sender } from './sender.ts';
import {
  COUNTER_BOUNDARIES,
  COUNTER_CONNECTIONS,
  COUNTER_TEMP_FILES,
  countersOf,
  rowOf,
  Status,
  sumOf,
} from './status-rows.ts';
import { mainRequest } from './subrequest.ts';
import { linkInPath } from './symlinks.ts';
import { compileTemplate } from './template.ts';

/** Bytes of further requests that wait while an answer is sent; above it, reading stops. */
const CARRY_MAX = 64 * 1024;
/** After this much time no accepted connection is on its way to a worker that stopped accepting. */
const LAST_ACCEPT_MS = 200;
/** Idle connections closed at a time when a new one finds no place. */
const DRAIN_IDLE = 32;
const TEMP_NUMBER_JUMP = 123_456;
const RECODERS_MAX = 100;

type MakeChannel = (engine: Engine) => EngineChannel;

export class Engine implements Sink {
  readonly handlers: (PhaseHandler[] | null)[];
  readonly headerFilters: HeaderFilter[];
  /** Those of subrequests whose bodies become parts of an answer. */
  readonly partFilters: HeaderFilter[];
  /** Seconds since the engine began; files looked at hold for a number of them. */
  tick = 1;
  /** The Date header's value, prepared once a second. */
  dateText = '';
  exiting = false;
  private accepting = true;

  readonly channel: EngineChannel;
  readonly sender: Sender;
  readonly replay: Replay;
  readonly files: FileCache;
  /** By slot of their handle. */
  readonly connections: Connection[] = [];
  private readonly memory: Uint8Array;
  private readonly options: EngineOptions;
  private readonly counters: Int32Array;
  private readonly row: Float64Array;
  private readonly zones = new Map<string, RuntimeZone>();
  private readonly recoders = new Map<string, (() => Recoder) | null>();
  readonly dateBytes = new Uint8Array(DATE_LENGTH);
  private nowSec = 0;
  private readonly virtuals: VirtualServers[];
  /** By wildcard listener: addresses whose connections it takes, and their own index. */
  private readonly within = new Map<number, Map<string, number>>();
  private readonly locations: RuntimeLocation[];
  private open = 0;
  private readonly listeners: Handle[] = [];
  private readonly requests: Request[] = [];

  constructor(options: EngineOptions, makeChannel: MakeChannel) {
    this.options = options;
    this.counters = countersOf(options.status);
    this.row = rowOf(options.status, options.statusRow);
    this.handlers = handlersByPhase(options.phases);
    this.headerFilters = options.headerFilters;
    this.partFilters = options.partFilters;
    this.setTime(Date.now());
    const { listens, locations } = buildRuntime(options.http);
    for (const [index, decl] of options.http.zones.entries()) {
      const memory = options.zones[index] as ArrayBufferLike;
      this.zones.set(decl.name, { decl, zone: new Zone(decl.name, memory), key: compileTemplate(decl.key) });
    }
    this.virtuals = listens;
    for (const [index, { listen }] of listens.entries()) {
      if (listen.within < 0) continue;
      const known = this.within.get(listen.within) ?? new Map<string, number>();
      this.within.set(listen.within, known.set(listen.host, index));
    }
    this.locations = locations;
    for (const location of locations) location.accessLogs = options.accessLogs.of(location.conf.accessLogs);
    this.channel = makeChannel(this);
    this.memory = this.channel.memory;
    this.files = new FileCache(options.cache ?? FILE_CACHE_DEFAULTS);
    this.sender = new Sender(this, this.channel, this.files);
    this.replay = new Replay(this, this.channel);
  }

  /* ------------------------------------------------------------------ time */

  /** Called at each full second. */
  setTime(ms: number): void {
    const sec = Math.floor(ms / 1000);
    if (sec === this.nowSec) return;
    this.nowSec = sec;
    this.tick++;
    // Once more when the last one has gone: its row would go on counting it.
    if (this.open > 0 || this.row[Status.Active] !== 0) this.publishStatus();
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
    if (asked || this.within.has(listen)) this.channel.accept(handle, undefined, false);
    else this.channel.accept(handle);
  }

  private isWildcard(listen: number): boolean {
    return isWildcard(this.options.boundTo[listen]?.host ?? '');
  }

  /**
   * Graceful end. Connections that the kernel has already given to this worker are still served; what comes later is
   * for other workers. Whoever was promised a kept-alive connection, or has not asked yet, gets a moment: a request
   * that is on the wire by now is answered, with "Connection: close".
   */
  quit(): void {
    if (this.exiting) return;
    this.exiting = true;
    this.replay.clear();
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
      this.channel.setDeadline(c.handle, keepaliveMs(c));
    }
  }

  private idleCheck(): void {
    if (this.exiting && !this.accepting && this.open === 0) this.options.onIdle();
  }

  /** worker_shutdown_timeout: whoever is still there is cut off. */
  abortAll(): void {
    for (const c of this.connections) if (c.state !== State.Free) abort(c);
  }

  /* ------------------------------------------------------------------ sink */

  onAccept(listenerCookie: number, socket: number): void {
    if (this.open >= this.options.workerConnections - this.listeners.length && !this.drainIdle()) {
      this.log('alert', `${this.options.workerConnections} worker_connections are not enough`);
      this.channel.discard(socket);
      return;
    }
    const handle = this.channel.register(socket, 0);
    const others = this.within.get(listenerCookie);
    const listen = others?.get(this.options.localOf(handle)) ?? listenerCookie;
    const virtual = this.virtuals[listen] as VirtualServers;
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
    c.begin(handle, listen, virtual, Atomics.add(this.counters, COUNTER_CONNECTIONS, 1) + 1, this.tick);
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
        if (c.reader !== null) bodyEnded(c, errno);
        else if (errno !== 0) abort(c);
        return;
      case State.Line:
      case State.Headers: {
        const r = c.request as Request;
        const text = errno === 0 ? 'client prematurely closed connection' : `recv() failed (${strerror(errno)})`;
        this.logError(r, 'info', `${text} while reading client ${partOf(r, c.state)}`);
        r.status = 400;
        finishLog(r);
        close(c);
        return;
      }
      default:
        close(c);
    }
  }

  onDrain(handle: Handle): void {
    const c = this.connections[handle & SLOT_MASK] as Connection;
    if (c.handle !== handle) return;
    if (c.state === State.Busy) this.sender.pump(c);
    else if (c.state === State.Blocked) {
      c.state = State.Idle;
      this.resume(c);
    }
  }

  onWritten(handle: Handle, _cookie: number, token: number, errno: number): void {
    this.sender.onWritten(handle, token, errno);
  }

  onReadFile(token: number, bytes: number, errno: number): void {
    this.sender.pieces.onReadFile(token, bytes, errno);
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
        this.logError(
          r,
          'info',
          `client timed out (110: Connection timed out) while reading client ${partOf(r, c.state)}`,
        );
        r.status = 408;
        finishLog(r);
        if (c.location.conf.resetTimedoutConnection) cutOff(c);
        else close(c);
        return;
      }
      case State.Busy:
      case State.Blocked:
        if (c.reader !== null) {
          bodyTimedOut(c);
          return;
        }
        if (c.request !== null) {
          this.logError(
            c.request,
            'info',
            'client timed out (110: Connection timed out) while sending response to client',
          );
        }
        cutOff(c);
        return;
      case State.Closing:
      case State.Linger:
        abort(c);
        return;
      default:
        // A body that nobody wants is late.
        if (c.state === State.Body && c.location.conf.resetTimedoutConnection) cutOff(c);
        // An idle client that has not even taken its answers will not take them after a close either.
        else if (this.channel.outputBytes(handle) > 0) abort(c);
        // Bytes that cross our end on the wire must not turn it into a reset.
        else if (this.exiting) linger(c);
        else close(c);
    }
  }

  onClose(handle: Handle): void {
    const c = this.connections[handle & SLOT_MASK];
    if (c === undefined || c.handle !== handle || c.state === State.Free) return;
    c.state = State.Free;
    c.carry = null;
    c.memo = null;
    this.sender.clearQueue(c);
    const r = c.request;
    if (r !== null) {
      c.request = null;
      finishLog(r);
      this.giveBack(r);
    }
    this.open--;
    this.idleCheck();
  }

  /* ------------------------------------------------------------------ requests */

  /** Goes over bytes of a connection: `buf[pos, end)` is all there is. `kept`: they came while another request was served. */
  private run(c: Connection, buf: Uint8Array, start: number, end: number, kept = false): void {
    c.inRun = true;
    this.requestLoop(c, buf, start, end, kept);
    c.inRun = false;
  }

  private requestLoop(c: Connection, buf: Uint8Array, start: number, end: number, kept: boolean): void {
    let pos = start;
    for (;;) {
      switch (c.state) {
        case State.Idle: {
          if (pos === end) {
            c.carry = null;
            if (c.ended) close(c);
            return;
          }
          if (c.proxyPending) {
            const header = parseProxyHeader(buf, pos, end);
            if (header.used < 0) {
              this.log(
                'error',
                `*${c.serial} broken header: "${printable(latin1(buf, pos, Math.min(end, pos + 32)))}" while reading PROXY protocol, client: ${c.remoteAddress()}`,
              );
              close(c);
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
          const used = this.replay.answer(c, buf, pos, end);
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
          r.pipelined = c.requests > 0 && (kept || pos > start);
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
          if (!readHead(c, r, end)) {
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
            close(c);
            return;
          }
          if (c.bodyActive) {
            c.carry = null;
            this.channel.setDeadline(c.handle, lingerMs(c));
            return;
          }
          afterRequest(c, pos < end);
          break;
        }
        case State.Busy:
          if (c.reader !== null) {
            c.restBuf = buf;
            c.restStart = pos;
            c.restEnd = end;
            if (!readMore(c, c.reader)) {
              c.save(buf, c.restStart, end);
              return;
            }
            pos = c.restStart;
            break;
          }
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
          this.channel.setDeadline(c.handle, lingerMs(c));
          return;
        default:
          // Closing, Free: nobody reads this any more.
          c.carry = null;
          return;
      }
    }
  }

  /** Goes on with what is kept. */
  resume(c: Connection): void {
    if (!c.reading && c.state !== State.Closing && !c.ended) {
      c.reading = true;
      this.channel.read(c.handle);
    }
    const carry = c.carry;
    if (carry !== null) this.run(c, carry, c.carryStart, c.carryEnd, true);
    else if (c.ended && c.state === State.Idle) close(c);
  }

  /** For stub_status. */
  countRequest(): void {
    this.row[Status.Requests] = (this.row[Status.Requests] as number) + 1;
  }

  /** The head is accepted: the phases have the request. */
  serve(c: Connection, r: Request, end: number): void {
    c.restBuf = r.buf;
    c.restStart = r.base + r.headEnd;
    c.restEnd = end;
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

  /** Does work on a request; whatever it throws ends the connection. */
  guarded(r: Request, work: (r: Request) => void): void {
    const c = r.connection;
    try {
      work(r);
    } catch (error) {
      // A fault of ours ends the connection that met it, and no other.
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.logError(r, 'alert', `unexpected error: ${printable(text)}`);
      abort(c);
    }
  }

  /* ------------------------------------------------------------------ answers */

  /** The request waits for something that is not the client: no deadline of the client's holds. */
  suspend(r: Request): void {
    r.detach();
    const c = r.connection;
    this.channel.setDeadline(c.handle, c.reader === null ? 0 : r.location.conf.clientBodyTimeoutMs);
  }

  /** The object serves another request. */
  giveBack(r: Request): void {
    r.body = null;
    r.file = null;
    if (this.requests.length < REQUESTS_KEPT) this.requests.push(r);
  }

  /** Makes room for a connection by closing some that are idle; false when none is. */
  private drainIdle(): boolean {
    let closed = 0;
    for (const c of this.connections) {
      if (c.state !== State.Idle || c.requests === 0) continue;
      close(c);
      if (++closed === DRAIN_IDLE) break;
    }
    return closed > 0;
  }

  /* ------------------------------------------------------------------ services */

  /** What is at a path, under the location's rules; the answer depends on it from now on. */
  findFile(r: Request, path: string, open: boolean): FileEntry {
    const { location } = r;
    const valid = location.fileValidTicks;
    if (location.conf.disableSymlinks !== 'off') {
      const errno = linkInPath(path, location.symlinksFrom(r), location.conf.disableSymlinks === 'if_not_owner');
      if (errno !== 0) {
        r.impure();
        return failedEntry(path, 'openat', errno);
      }
    }
    const { openFileCacheErrors, openFileCacheMinUses: minUses } = location.conf;
    const entry = this.files.find(path, this.tick, valid, open, openFileCacheErrors, minUses);
    r.validUntil = Math.min(r.validUntil, entry.checked + valid);
    if (valid === 0 || entry.passes || (open && entry.kind === FileKind.File && entry.uses < minUses)) r.impure();
    // Whoever looks for links opens all that is on the way.
    if (entry.errno !== 0 && location.conf.disableSymlinks !== 'off') return failedEntry(path, 'openat', entry.errno);
    return entry;
  }

  /** What recodes between two charsets (lower case), or null. */
  recoder(from: string, to: string): (() => Recoder) | null {
    const key = `${from} ${to}`;
    let make = this.recoders.get(key);
    if (make === undefined) {
      make = recoderMaker(this.options.http.charsetMaps, from, to);
      // Names may come from variables.
      if (this.recoders.size < RECODERS_MAX) this.recoders.set(key, make);
    }
    return make;
  }

  /** A zone of the configuration by name. */
  zone(name: string): RuntimeZone {
    return this.zones.get(name) as RuntimeZone;
  }

  /** By this worker. */
  requestsServed(): number {
    return this.row[Status.Requests] as number;
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
    const root = this.documentRoot(r);
    const { rootIsAlias, aliasLength } = r.location.conf;
    if (!rootIsAlias) return root + r.uri;
    if (aliasLength < 0) return r.addUriToAlias ? root + r.uri : root;
    return root + r.uri.slice(aliasLength);
  }

  /** Whether an alias cannot tell what it stands for, which is noted: the URI is not that of its location any more. */
  aliasFails(r: Request): boolean {
    if (r.locationHolds || !r.location.conf.rootIsAlias) return false;
    this.logError(r, 'alert', `"alias" cannot be used in location "${r.location.name}" where URI was rewritten`);
    return true;
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

  /** Number of a temporary file; after a collision it goes on far away, as in nginx. */
  nextTempNumber(collision: boolean): number {
    const step = collision ? TEMP_NUMBER_JUMP : 1;
    return (Atomics.add(this.counters, COUNTER_TEMP_FILES, step) + step) >>> 0;
  }

  nextBoundary(): string {
    return String(Atomics.add(this.counters, COUNTER_BOUNDARIES, 1) + 1).padStart(20, '0');
  }

  /** A line about a request, to the logs of its location. */
  logError(r: Request, level: LogLevelName, message: string): void {
    r.impure();
    if (!this.wantsLine(r, level)) return;
    const { errorLogs } = r.location.conf;
    const writer = this.options.errorLog;
    let text = `*${r.connection.serial} ${message}, client: ${r.connection.remoteAddress()}, server: ${r.server.name}`;
    const line = r.requestLine();
    if (line !== '') text += `, request: "${printable(line)}"`;
    if (r.parent !== null) text += `, subrequest: "${printable(r.uri)}"`;
    const host = r.header(HeaderId.Host);
    if (host !== null) text += `, host: "${printable(host)}"`;
    const referer = r.header(HeaderId.Referer);
    if (referer !== null) text += `, referrer: "${printable(referer)}"`;
    writer.write(errorLogs, level, text);
  }

  /** Whether a line of that level would be written anywhere. */
  wantsLine(r: Request, level: LogLevelName): boolean {
    return this.options.errorLog.wants(r.location.conf.errorLogs, level);
  }

  /** A line about the worker. */
  private log(level: LogLevelName, message: string): void {
    this.options.errorLog.write(this.options.mainErrorLogs, level, message);
  }
}

const REQUESTS_KEPT = 64;

/** The part of a request that is being read, as nginx calls it. */
function partOf(r: Request, state: number): string {
  if (state !== State.Line) return 'request headers';
  return r.pipelined ? 'pipelined request line' : 'request line';
}
