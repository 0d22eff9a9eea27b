/**
 * Conn: what the server keeps for one connection between two events.
 *
 * Invariant: `carry` holds received bytes that wait for the rest of their line or for room in the output, never bytes of
 * a value; its memory is let go as soon as it is empty. Not its job: what the bytes mean (proto_text.ts).
 */

import type { Dump } from './engine/dump.ts';

/** At the start of a command line. */
export const CONN_COMMAND = 0;
/** Filling an item with a value. */
export const CONN_NREAD = 1;
/** Dropping the payload of a refused store. */
export const CONN_SWALLOW = 2;
/** Inside the keys of a get whose whole line has been checked. */
export const CONN_KEYS = 3;
/** In the middle of a large value that is the last thing of its reply. */
export const CONN_SEND = 5;
/** In the middle of a dump of keys (`Conn.dump`). */
export const CONN_DUMP = 6;
/** A reply is being gathered from other threads: nothing is parsed until it is there. */
export const CONN_WAIT = 7;
/** It watches: log lines go out, what comes in is dropped. */
export const CONN_WATCH = 8;
/** Nothing more is read or answered. */
export const CONN_CLOSING = 4;

const CARRY_MIN_BYTES = 512;
/** Buffers of this size are used again, some of them: a pipeline that -R cuts up needs one for every piece received. */
const SPARE_BYTES = 4096;
const SPARES_MAX = 64;
const spares: Buffer[] = [];

/** Conn.protocol: which one the first byte chose. */
export const PROTOCOL_UNKNOWN = 0;
export const PROTOCOL_TEXT = 1;
export const PROTOCOL_BINARY = 2;
/** Text after -Y's `set`, which is still to come. */
export const PROTOCOL_AUTH = 3;

/** Requests that a run of a connection may carry out: memcached gives one more to a connection that did not have to wait. */
export function takeTurn(conn: Conn, requestsPerEvent: number): number {
  const requests = conn.yielded ? requestsPerEvent : requestsPerEvent + 1;
  conn.yielded = false;
  return requests;
}

export class Conn {
  handle = 0;
  /** From accept to the channel's last word. */
  isOpen = false;
  /** Number of the listener that it came from, among its worker's; -1: it is a datagram. */
  listener = 0;
  /** Accepted above -c without maxconns_fast: nothing is read of it until there is room. */
  parked = false;
  /** Size of `carry` when the server last looked. */
  carryCounted = 0;
  /** Its end stands in the log already. */
  closeLogged = false;
  /** When it was opened: milliseconds, comparable between threads. */
  openedAt = 0;
  /** When its last command came, seconds on the cache's clock; while there was none, minus when it was opened. */
  lastCommand = 0;
  /** The peer has ended its side while output was full: close once everything received is answered. */
  ended = false;
  protocol = PROTOCOL_UNKNOWN;
  /** It asked to be closed, so that is no error. */
  quit = false;
  /** With -S or -Y: the client has proved who it is. */
  authenticated = false;
  /** Where its dialogue of SASL stands (sasl.ts). */
  sasl = 0;
  state = CONN_COMMAND;
  /** Output is full: nothing is parsed until the channel says that it has drained. */
  blocked = false;
  /** Its last run ended because it had as many requests as -R allows; the next one is its next turn. */
  yielded = false;
  /** What is kept waits for the connection's turn. */
  awaitsTurn = false;
  /** So much is kept that no more is read. */
  readStopped = false;

  // CONN_NREAD: the item, what to do with it, and where its next byte goes.
  item = 0;
  hash = 0;
  mode = 0;
  casHi = 0;
  casLo = 0;
  noreply = false;
  /** It came with `ms`: the meta protocol finishes it, with what stands in `metaTail` behind the code. */
  meta = false;
  /** Bytes of the value still to come, CR LF included. */
  valueLeft = 0;
  /** Chunk being filled, 0 for an item in one piece; offset of the next byte; bytes until the chunk is full. */
  fillChunk = 0;
  fillAt = 0;
  fillLeft = 0;

  // CONN_SWALLOW: bytes to drop, then this reply (index into the protocol's table, -1 none).
  swallowLeft = 0;
  swallowReply = -1;

  // CONN_KEYS: what kind of get it is.
  withCas = false;
  withTouch = false;
  exptime = 0;

  // A value on its way out piece by piece (0: none), and which piece is next: proto_text.ts names them.
  sendItem = 0;
  sendPiece = 0;
  sendLeft = 0;

  // Of an `ms`: the flags of its reply, and what else decides the store. Allocated with the first that asks for flags.
  metaTail: Buffer | null = null;
  metaTailLength = 0;
  metaFlags = 0;
  explicitCasHi = 0;
  explicitCasLo = 0;

  /** CONN_WAIT: the reply is there, and the output was full. */
  deferred: string | null = null;

  /** The `stats` that a binary connection waits for is a dump of `stats detail`. */
  detailed = false;

  // Of a binary packet whose value is awaited.
  opcode = 0;
  opaque = 0;

  dump: Dump | null = null;

  carry: Buffer | null = null;
  carryLength = 0;

  /** Makes it the state of a new connection. */
  open(handle: number, protocol: number, listener: number, now: number): void {
    this.quit = false;
    this.handle = handle;
    this.isOpen = true;
    this.listener = listener;
    this.closeLogged = false;
    this.parked = false;
    this.lastCommand = -now;
    this.protocol = protocol;
    this.authenticated = false;
    this.sasl = 0;
    this.ended = false;
    this.state = CONN_COMMAND;
    this.blocked = false;
    this.yielded = false;
    this.awaitsTurn = false;
    this.readStopped = false;
    this.item = 0;
    this.sendItem = 0;
    this.carry = null;
    this.carryLength = 0;
    this.metaTail = null;
    this.dump = null;
    this.deferred = null;
  }

  /** Whether it stands for one request by UDP: nothing can be told to its sender later. */
  get isDatagram(): boolean {
    return this.listener < 0;
  }

  /** Keeps bytes[start, end) behind what is kept already. */
  keep(bytes: Buffer, start: number, end: number): void {
    const length = this.carryLength + end - start;
    if (this.carry === null || this.carry.length < length) {
      let size = CARRY_MIN_BYTES;
      while (size < length) size *= 2;
      const grown = (size === SPARE_BYTES ? spares.pop() : undefined) ?? Buffer.allocUnsafeSlow(size);
      if (this.carry !== null) this.carry.copy(grown, 0, 0, this.carryLength);
      this.carry = grown;
    }
    bytes.copy(this.carry, this.carryLength, start, end);
    this.carryLength = length;
  }

  /** Drops the first `count` kept bytes. */
  dropKept(count: number): void {
    const left = this.carryLength - count;
    if (left === 0) {
      if (this.carry?.length === SPARE_BYTES && spares.length < SPARES_MAX) spares.push(this.carry);
      this.carry = null;
    } else if (count > 0) this.carry!.copyWithin(0, count, this.carryLength);
    this.carryLength = left;
  }
}
