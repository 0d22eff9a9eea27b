/**
 * State of one connection.
 *
 * What it is for: plain fields that the engine reads and writes; the object belongs to a slot of the channel and serves
 * one connection after another. Invariant: bytes received and not yet used stand in `carry[carryStart, carryEnd)`;
 * `carry` is null when there are none. Not its job: behaviour (engine.ts).
 */

import { parseAddress } from '../net/address.ts';
import { latin1Bytes } from './bytes.ts';
import type { Engine } from './engine.ts';
import type { FileEntry } from './file-cache.ts';
import type { FileReader } from './file-pieces.ts';
import type { Memo } from './prepared.ts';
import type { Proxied } from './proxy-protocol.ts';
import type { Request } from './request.ts';
import type { RequestBody } from './request-body.ts';
import type { RuntimeLocation, VirtualServers } from './runtime.ts';
import type { BodyStream } from './stream.ts';

export const State = {
  Free: 0,
  /** Waiting for the first byte of a request. */
  Idle: 1,
  /** In the middle of a request line. */
  Line: 2,
  /** In the middle of the header lines. */
  Headers: 3,
  /** The answer is out (or queued); the rest of the request's body is read and dropped. */
  Body: 4,
  /** An answer is being sent; further requests wait. */
  Busy: 5,
  /** The channel took no more output; the next request waits for onDrain. */
  Blocked: 6,
  /** Our side is shut; what the client still sends is read and dropped. */
  Linger: 7,
  Closing: 8,
} as const;

/** A piece of an answer that waits for the channel. */
export interface OutItem {
  /** Bytes to copy; null for the other kinds. */
  bytes: Uint8Array | null;
  /** A kept file whose bytes lie in the region; null for the other kinds. */
  file: FileEntry | null;
  /** A file that is read as it is sent; null for the other kinds. */
  reader: FileReader | null;
  /** Next byte of a kept file in the region. */
  offset: number;
  /** Bytes of a file that the channel does not have yet. */
  left: number;
  /** A body that is asked for piece by piece, and the piece that did not fit. */
  stream: BodyStream | null;
  rest: Uint8Array | null;
}

export class Connection {
  readonly engine: Engine;
  handle = 0;
  state: number = State.Free;
  listen = 0;
  virtual: VirtualServers;
  serial = 0;
  requests = 0;
  startMs = 0;
  startTick = 0;
  memo: Memo | null = null;
  request: Request | null = null;

  carry: Uint8Array | null = null;
  carryStart = 0;
  carryEnd = 0;
  /** While a request is handled: the bytes received behind its head. */
  restBuf: Uint8Array;
  restStart = 0;
  restEnd = 0;
  reading = false;
  /** The engine is going over this connection's bytes. */
  inRun = false;

  /** A request body is under way: bytes left of it, or the state of its chunks. */
  bodyActive = false;
  bodyLeft = 0;
  bodyChunked = false;
  chunkState = 0;
  chunkLeft = 0;
  /** Who wants the body; null: it is dropped. */
  reader: RequestBody | null = null;
  /** When dropping must end. */
  lingerUntilMs = 0;

  /** What is to happen when the answer is out. */
  keepalive = false;
  closeLinger = false;
  location: RuntimeLocation;
  readonly queue: OutItem[] = [];
  inFlight = 0;
  inFlightBytes = 0;
  failed = false;
  /** The peer has ended its side. */
  ended = false;

  /** The listener expects a PROXY header; it was not seen yet; what it said. */
  needsProxy = false;
  proxyPending = false;
  proxied: Proxied | null = null;
  /** limit_rate of the answer under way: bytes a second (0: none), when it began, bytes that count. */
  rate = 0;
  rateAfter = 0;
  rateStartMs = 0;
  rateSent = 0;
  ratePaused = false;

  private realAddress: string | null = null;
  private realPort = 0;
  private address: string | null = null;
  private addressLatin1: Uint8Array | null = null;
  /** undefined: not asked for yet; null: not an Internet address. */
  private addressParsed: Uint8Array | null | undefined;
  private port = 0;

  constructor(engine: Engine, virtual: VirtualServers, memory: Uint8Array) {
    this.engine = engine;
    this.virtual = virtual;
    this.location = virtual.defaultServer.location;
    this.restBuf = memory;
  }

  begin(handle: number, listen: number, virtual: VirtualServers, serial: number, tick: number): void {
    this.handle = handle;
    this.state = State.Idle;
    this.listen = listen;
    this.virtual = virtual;
    this.location = virtual.defaultServer.location;
    this.serial = serial;
    this.requests = 0;
    this.startMs = Date.now();
    this.startTick = tick;
    this.memo = null;
    this.request = null;
    this.carry = null;
    this.reading = true;
    this.inRun = false;
    this.bodyActive = false;
    this.reader = null;
    this.keepalive = false;
    this.closeLinger = false;
    this.inFlight = 0;
    this.inFlightBytes = 0;
    this.failed = false;
    this.ended = false;
    this.proxied = null;
    this.rate = 0;
    this.ratePaused = false;
    this.realAddress = null;
    this.address = null;
    this.addressLatin1 = null;
    this.addressParsed = undefined;
    this.port = 0;
  }

  /** Text of the client's address; asked for once a connection, and only if something needs it. */
  remoteAddress(): string {
    return this.realAddress ?? this.peerAddress();
  }

  remotePort(): number {
    return this.realAddress === null ? this.peerPort() : this.realPort;
  }

  /** realip: the client is somebody else than who connected, until `restore`. */
  override(address: string, port: number): void {
    this.realAddress = address;
    this.realPort = port;
    this.addressLatin1 = null;
    this.addressParsed = undefined;
  }

  isOverridden(): boolean {
    return this.realAddress !== null;
  }

  restore(): void {
    if (this.realAddress === null) return;
    this.realAddress = null;
    this.addressLatin1 = null;
    this.addressParsed = undefined;
  }

  /** Text of the address that connected. */
  peerAddress(): string {
    if (this.address === null) {
      const peer = this.engine.peerOf(this.handle);
      this.address = peer.host;
      this.port = peer.port;
    }
    return this.address;
  }

  /** The same as bytes, for the access log. */
  remoteAddressBytes(): Uint8Array {
    this.addressLatin1 ??= latin1Bytes(this.remoteAddress());
    return this.addressLatin1;
  }

  /** Its bytes; null: not an Internet address. */
  remoteAddressParsed(): Uint8Array | null {
    if (this.addressParsed === undefined) this.addressParsed = parseAddress(this.remoteAddress());
    return this.addressParsed;
  }

  peerPort(): number {
    this.peerAddress();
    return this.port;
  }

  /** Keeps `buf[start, end)` for later. */
  save(buf: Uint8Array, start: number, end: number): void {
    if (start === end) {
      this.carry = null;
      return;
    }
    if (buf === this.carry) {
      this.carryStart = start;
      this.carryEnd = end;
      return;
    }
    const length = end - start;
    const carry = new Uint8Array(Math.max(CARRY_MIN, length));
    for (let i = 0; i < length; i++) carry[i] = buf[start + i] as number;
    this.carry = carry;
    this.carryStart = 0;
    this.carryEnd = length;
  }

  /** Puts `buf[start, end)` behind what is kept; the kept bytes may move. */
  append(buf: Uint8Array, start: number, end: number): void {
    const length = end - start;
    let carry = this.carry as Uint8Array;
    const kept = this.carryEnd - this.carryStart;
    if (this.carryEnd + length > carry.length) {
      if (kept + length > carry.length) {
        const grown = new Uint8Array(Math.max(carry.length * 2, kept + length));
        grown.set(carry.subarray(this.carryStart, this.carryEnd), 0);
        carry = grown;
        this.carry = grown;
      } else carry.copyWithin(0, this.carryStart, this.carryEnd);
      this.carryStart = 0;
      this.carryEnd = kept;
    }
    carry.set(buf.subarray(start, end), this.carryEnd);
    this.carryEnd += length;
  }
}

const CARRY_MIN = 1024;
