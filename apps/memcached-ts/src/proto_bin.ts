/**
 * The binary protocol: packets of a 24-byte header, extras, key and value.
 *
 * What it is for: all of memcached's opcodes with its replies, for bytes cut anywhere; `run` is resumable as the text
 * protocol's is, over the same states of a Conn. Quiet opcodes are silent where nothing needs to be said: a miss of a
 * get, a success of anything else; errors are always told.
 * Invariant: room for a reply is made sure of before anything is changed, so a packet is carried out once.
 * Not its job: sockets, the choice between the protocols (worker.ts), what a command does to the cache.
 */

import {
  CONN_CLOSING,
  CONN_COMMAND,
  CONN_NREAD,
  CONN_SEND,
  CONN_SWALLOW,
  CONN_WAIT,
  type Conn,
  takeTurn,
} from './conn.ts';
import type { Cache } from './engine/cache.ts';
import {
  DELTA_EXISTS,
  DELTA_NO_MEMORY,
  DELTA_NON_NUMERIC,
  DELTA_OK,
  EXISTS,
  NOT_FOUND,
  STORE_ADD,
  STORE_APPEND,
  STORE_CAS,
  STORE_PREPEND,
  STORE_REPLACE,
  STORE_SET,
  STORED,
} from './engine/items.ts';
import { I_CAS_HI, I_CAS_LO, KEY_BYTES_MAX, THREAD_CLASS_COUNTERS, W_DETAIL, W_VERBOSITY } from './engine/layout.ts';
import {
  S_DELETE_HITS,
  S_SET_CMDS,
  T_AUTH_CMDS,
  T_AUTH_ERRORS,
  T_BYTES_WRITTEN,
  T_CONN_YIELDS,
  T_DELETE_MISSES,
  T_FLUSH_CMDS,
  T_GET_MISSES,
  T_TOUCH_CMDS,
  T_TOUCH_MISSES,
} from './engine/stats.ts';
import { Lookahead } from './lookahead.ts';
import { writeU64 } from './numbers.ts';
import { PREFIX_DELETE, PREFIX_GET, PREFIX_SET, type Prefixes } from './prefixes.ts';
import { HEADER_BYTES, MAGIC_REQUEST, Protocol, type Trace } from './protocol.ts';
import { DEFERRED, VERSION } from './replies.ts';
import { CREDENTIALS_BYTES_MAX, MECHANISM_BYTES_MAX, MECHANISMS, saslAttempt } from './sasl.ts';
import { COPY_BYTES_MAX, FULL, type Output, type Values } from './values.ts';

/** What the binary protocol needs of the server around it. */
export interface BinaryHost extends Trace {
  /** -R */
  readonly requestsPerEvent: number;
  readonly flushEnabled: boolean;
  /** -S: nothing but SASL and VERSION before a client has proved who it is. */
  readonly authRequired: boolean;
  /** As the text protocol's. */
  readonly prefixes: Prefixes;
  stats(conn: Conn, subcommand: string): string | undefined;
  /** Whether these name and password belong together. */
  authenticate(user: Buffer, password: Buffer): boolean;
}

/** First byte of a response. */
const MAGIC_RESPONSE = 0x81;

const GET = 0x00;
const SET = 0x01;
const ADD = 0x02;
const REPLACE = 0x03;
const DELETE = 0x04;
const INCREMENT = 0x05;
const DECREMENT = 0x06;
const QUIT = 0x07;
const FLUSH = 0x08;
const NOOP = 0x0a;
const VERSION_OF = 0x0b;
const GETK = 0x0c;
const APPEND = 0x0e;
const PREPEND = 0x0f;
const STAT = 0x10;
const TOUCH = 0x1c;
const GAT = 0x1d;
const SASL_LIST_MECHS = 0x20;
const SASL_AUTH = 0x21;
const SASL_STEP = 0x22;
const GATK = 0x23;

/** Quiet opcodes: the ones that say more at that index. */
const LOUD = new Int16Array(256).fill(-1);
for (const [quiet, loud] of [
  [0x09, GET],
  [0x0d, GETK],
  [0x11, SET],
  [0x12, ADD],
  [0x13, REPLACE],
  [0x14, DELETE],
  [0x15, INCREMENT],
  [0x16, DECREMENT],
  [0x17, QUIT],
  [0x18, FLUSH],
  [0x19, APPEND],
  [0x1a, PREPEND],
  [0x1e, GAT],
  [0x24, GATK],
] as const) {
  LOUD[quiet] = loud;
}

/** What a command stores as. */
const MODES: Readonly<Record<number, number>> = {
  [SET]: STORE_SET,
  [ADD]: STORE_ADD,
  [REPLACE]: STORE_REPLACE,
  [APPEND]: STORE_APPEND,
  [PREPEND]: STORE_PREPEND,
};

/** What -vv calls them. */
const NAMES: Readonly<Record<number, string>> = { [SET]: 'SET', [ADD]: 'ADD', [REPLACE]: 'REPLACE' };

const OK = 0x00;
const KEY_NOT_FOUND = 0x01;
const KEY_EXISTS = 0x02;
const TOO_LARGE = 0x03;
const INVALID = 0x04;
const ITEM_NOT_STORED = 0x05;
const NON_NUMERIC = 0x06;
const AUTH_ERROR = 0x20;
const AUTH_CONTINUE = 0x21;
const UNKNOWN_COMMAND = 0x81;
const NO_MEMORY = 0x82;

const ERRORS: Readonly<Record<number, Buffer>> = {
  [KEY_NOT_FOUND]: Buffer.from('Not found'),
  [KEY_EXISTS]: Buffer.from('Data exists for key.'),
  [TOO_LARGE]: Buffer.from('Too large.'),
  [INVALID]: Buffer.from('Invalid arguments'),
  [ITEM_NOT_STORED]: Buffer.from('Not stored.'),
  [NON_NUMERIC]: Buffer.from('Non-numeric server-side value for incr or decr'),
  [AUTH_ERROR]: Buffer.from('Auth failure.'),
  [UNKNOWN_COMMAND]: Buffer.from('Unknown command'),
  [NO_MEMORY]: Buffer.from('Out of memory'),
};
/** Header, extras and the longest key: more than any reply without a value. */
const HEAD_BYTES_MAX = HEADER_BYTES + 8 + KEY_BYTES_MAX;
const CRLF = Buffer.from('\r\n');
const EMPTY = Buffer.alloc(0);
const VERSION_TEXT = Buffer.from(VERSION);
const AUTHENTICATED = Buffer.from('Authenticated');
/** Where a header has its CAS. */
const CAS_AT = 16;
/** An expiry that forbids to create the number. */
const NO_CREATE = 0xffff_ffff;

export class ProtoBin extends Protocol {
  private readonly host: BinaryHost;
  private readonly values: Values;
  private readonly ahead: Lookahead;
  private readonly digits = Buffer.alloc(24);
  /** With -C the CAS of a store is not looked at. */
  private readonly useCas: boolean;

  /** Whose packets are carried out: for the words of -vv. */
  private conn!: Conn;

  // The current packet.
  private opcode = 0;
  /** The opcode without its quietness. */
  private command = 0;
  private quiet = false;
  private keyStart = 0;
  private keyEnd = 0;
  private extras = 0;
  private extrasLength = 0;
  private bodyLength = 0;
  private opaque = 0;
  private casHi = 0;
  private casLo = 0;

  constructor(cache: Cache, out: Output, values: Values, host: BinaryHost) {
    super(cache, out, host);
    this.host = host;
    this.values = values;
    this.useCas = cache.memory.config.useCas;
    this.ahead = new Lookahead(cache);
  }

  /** As ProtoText.run. */
  run(conn: Conn, bytes: Buffer, pos: number, end: number): number {
    const { ahead } = this;
    ahead.reset();
    this.conn = conn;
    let left = takeTurn(conn, this.host.requestsPerEvent);
    let at = pos;
    for (;;) {
      switch (conn.state) {
        case CONN_COMMAND: {
          if (left-- === 0) {
            this.f64[this.stats + T_CONN_YIELDS] += 1;
            conn.yielded = true;
            return at;
          }
          if (end - at < HEADER_BYTES) return at;
          // The first request is most often the only one.
          if (at !== pos && ahead.next === ahead.count) ahead.packets(bytes, at, end);
          const next = this.packet(conn, bytes, at, end);
          if (next < 0) return at;
          at = next;
          break;
        }
        case CONN_NREAD:
          at = this.values.fill(conn, bytes, at, end);
          if (conn.valueLeft > 0 || !this.finishUpdate(conn)) return at;
          break;
        case CONN_SWALLOW: {
          const count = Math.min(conn.swallowLeft, end - at);
          at += count;
          conn.swallowLeft -= count;
          if (conn.swallowLeft > 0) return at;
          conn.state = CONN_COMMAND;
          break;
        }
        case CONN_SEND:
          if (conn.blocked || !this.values.send(conn)) return at;
          conn.state = CONN_COMMAND;
          break;
        case CONN_WAIT:
          return at;
        default:
          return end;
      }
    }
  }

  // ---- replies ---------------------------------------------------------------------------------------------------

  private room(conn: Conn, bytes: number): number {
    return this.reserve(conn, HEAD_BYTES_MAX + bytes);
  }

  private write32(at: number, value: number): void {
    const { out8 } = this;
    out8[at] = value >>> 24;
    out8[at + 1] = value >>> 16;
    out8[at + 2] = value >>> 8;
    out8[at + 3] = value;
  }

  /** A header; returns the offset behind it. */
  private header(
    at: number,
    opcode: number,
    status: number,
    key: number,
    extras: number,
    body: number,
    opaque: number,
    casHi: number,
    casLo: number,
  ): number {
    const { out8 } = this;
    out8[at] = MAGIC_RESPONSE;
    out8[at + 1] = opcode;
    out8[at + 2] = key >>> 8;
    out8[at + 3] = key;
    out8[at + 4] = extras;
    out8[at + 5] = 0;
    out8[at + 6] = status >>> 8;
    out8[at + 7] = status;
    this.write32(at + 8, body);
    this.write32(at + 12, opaque);
    this.write32(at + 16, casHi);
    this.write32(at + 20, casLo);
    return at + HEADER_BYTES;
  }

  /** A reply whose body is `text`. */
  private simple(conn: Conn, at: number, status: number, text: Buffer, casHi: number, casLo: number): void {
    const to = this.header(at, this.opcode, status, 0, 0, text.length, this.opaque, casHi, casLo);
    text.copy(this.out8, to);
    if (this.tells()) this.tellHeader(this.out8, at);
    this.commit(conn, HEADER_BYTES + text.length);
  }

  private error(conn: Conn, at: number, status: number): void {
    if (this.tells()) this.trace.log(conn, '>', `Writing an error: ${ERRORS[status]!.toString('latin1')}`);
    this.simple(conn, at, status, ERRORS[status]!, 0, 0);
  }

  /** A success with nothing to tell, which quiet opcodes keep to themselves. */
  private success(conn: Conn, at: number, casHi: number, casLo: number): void {
    if (!this.quiet) this.simple(conn, at, OK, EMPTY, casHi, casLo);
  }

  /** -vv: a header, four bytes a line. */
  private dump(direction: '<' | '>', title: string, indent: string, bytes: Buffer, at: number): void {
    this.trace.log(this.conn, direction, title);
    for (let row = at; row < at + HEADER_BYTES; row += 4) {
      const words = bytes.toString('hex', row, row + 4).replace(/../g, ' 0x$&');
      this.trace.log(this.conn, direction, `${indent}${words}`);
    }
  }

  /** -vv: the header of a response. */
  private tellHeader(bytes: Buffer, at: number): void {
    this.dump('>', 'Writing bin response:', ' ', bytes, at);
  }

  /** -vv: what a packet asks for, with its key. */
  private tellKey(before: string, bytes: Buffer, after = ''): void {
    this.trace.note(`${before}${bytes.toString('latin1', this.keyStart, this.keyEnd)}${after}`);
  }

  /** -vv: the same with the connection's name. */
  private tellCommand(word: string, bytes: Buffer, after = ''): void {
    const key = bytes.toString('latin1', this.keyStart, this.keyEnd);
    this.trace.log(this.conn, '<', `${word} ${key}${after}`);
  }

  /** After an error that leaves no way to go on. */
  private fatal(conn: Conn, at: number, status: number, next: number): number {
    this.error(conn, at, status);
    conn.state = CONN_CLOSING;
    return next;
  }

  /** Drops the rest of a packet's body. */
  private drop(conn: Conn, bytes: number, next: number): number {
    return bytes > 0 ? this.swallow(conn, bytes, -1, next) : next;
  }

  // ---- packets ---------------------------------------------------------------------------------------------------

  private read32(bytes: Buffer, at: number): number {
    return ((bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0;
  }

  /** One packet up to its value: where the next thing begins, or -1 when it is incomplete or blocked, nothing done. */
  private packet(conn: Conn, bytes: Buffer, pos: number, end: number): number {
    const tells = this.tells();
    if (tells) this.dump('<', 'Read binary protocol data:', '  ', bytes, pos);
    if (bytes[pos] !== MAGIC_REQUEST) {
      if (this.i32[W_VERBOSITY] > 0) this.trace.note(`Invalid magic:  ${bytes[pos].toString(16)}`);
      conn.state = CONN_CLOSING;
      return end;
    }
    const keyLength = (bytes[pos + 2] << 8) | bytes[pos + 3];
    const extrasLength = bytes[pos + 4];
    const body = this.read32(bytes, pos + 8);
    this.opcode = bytes[pos + 1];
    this.quiet = LOUD[this.opcode] >= 0;
    this.command = this.quiet ? LOUD[this.opcode] : this.opcode;
    this.extrasLength = extrasLength;
    this.extras = pos + HEADER_BYTES;
    this.keyStart = this.extras + extrasLength;
    this.keyEnd = this.keyStart + keyLength;
    this.bodyLength = body;
    this.opaque = this.read32(bytes, pos + 12);
    this.casHi = this.read32(bytes, pos + 16);
    this.casLo = this.read32(bytes, pos + 20);
    const known = keyLength + extrasLength <= body;
    if (known && keyLength <= KEY_BYTES_MAX && end < this.keyEnd) return -1;
    // Credentials are looked at whole.
    const isSasl = this.command === SASL_AUTH || this.command === SASL_STEP;
    if (known && isSasl && body <= CREDENTIALS_BYTES_MAX && end < this.extras + body) return -1;
    const at = this.room(conn, 0);
    if (at < 0) return -1;
    if (!known) return this.fatal(conn, at, UNKNOWN_COMMAND, end);
    if (this.host.authRequired) {
      const isIn = conn.authenticated || this.isOpenToAll();
      if (tells) {
        this.trace.note(`authenticated() in cmd 0x${this.opcode.toString(16).padStart(2, '0')} is ${isIn}`);
      }
      if (!isIn) return this.fatal(conn, at, AUTH_ERROR, end);
    }
    if (keyLength > KEY_BYTES_MAX || !this.isWellFormed(keyLength)) {
      this.fatal(conn, at, INVALID, end);
      if (this.i32[W_VERBOSITY] > 0) {
        const opcode = this.opcode.toString(16).padStart(2, '0');
        this.trace.note(`Protocol error (opcode ${opcode}), close connection ${this.trace.number(conn)}`);
      }
      return end;
    }
    return this.carryOut(conn, bytes, at);
  }

  private isOpenToAll(): boolean {
    const { command } = this;
    return command === SASL_LIST_MECHS || command === SASL_AUTH || command === SASL_STEP || command === VERSION_OF;
  }

  /** Whether key, extras and body are what the command takes. */
  private isWellFormed(keyLength: number): boolean {
    const { bodyLength: body, extrasLength: extras } = this;
    switch (this.command) {
      case VERSION_OF:
      case NOOP:
      case QUIT:
      case SASL_LIST_MECHS:
        return body === 0;
      case FLUSH:
        return keyLength === 0 && body === extras && (extras === 0 || extras === 4);
      case SET:
      case ADD:
      case REPLACE:
        return extras === 8 && keyLength > 0;
      case GET:
      case GETK:
      case DELETE:
        return extras === 0 && keyLength > 0 && body === keyLength;
      case INCREMENT:
      case DECREMENT:
        return extras === 20 && keyLength > 0 && body === keyLength + extras;
      case APPEND:
      case PREPEND:
        return extras === 0 && keyLength > 0;
      case STAT:
        return extras === 0 && body === keyLength;
      case SASL_AUTH:
      case SASL_STEP:
        return extras === 0 && keyLength > 0;
      case TOUCH:
      case GAT:
      case GATK:
        return extras === 4 && keyLength > 0 && body === keyLength + extras;
      default:
        return true;
    }
  }

  private carryOut(conn: Conn, bytes: Buffer, at: number): number {
    const next = this.keyEnd;
    switch (this.command) {
      case GET:
      case GETK:
      case TOUCH:
      case GAT:
      case GATK:
        return this.get(conn, bytes, at);
      case SET:
      case ADD:
      case REPLACE:
      case APPEND:
      case PREPEND:
        return this.update(conn, bytes, at);
      case DELETE:
        this.remove(conn, bytes, at);
        return next;
      case INCREMENT:
      case DECREMENT:
        this.arithmetic(conn, bytes, at);
        return next;
      case QUIT:
        this.success(conn, at, 0, 0);
        conn.quit = true;
        conn.state = CONN_CLOSING;
        return next;
      case FLUSH:
        this.flush(conn, bytes, at);
        return next;
      case NOOP:
        this.simple(conn, at, OK, EMPTY, 0, 0);
        return next;
      case VERSION_OF:
        this.simple(conn, at, OK, VERSION_TEXT, 0, 0);
        return next;
      case STAT:
        return this.statistics(conn, bytes, at);
      case SASL_LIST_MECHS:
      case SASL_AUTH:
      case SASL_STEP:
        if (this.host.authRequired) return this.sasl(conn, bytes, at);
    }
    this.error(conn, at, UNKNOWN_COMMAND);
    return this.drop(conn, this.valueLength(), next);
  }

  private valueLength(): number {
    return this.bodyLength - this.extrasLength - (this.keyEnd - this.keyStart);
  }

  private get(conn: Conn, bytes: Buffer, room: number): number {
    const { command, f64, i32, items, locks, out8, keyStart, keyEnd } = this;
    const touches = command === TOUCH || command === GAT || command === GATK;
    if (this.tells()) this.tellCommand(touches ? 'TOUCH' : 'GET', bytes);
    const keyLength = command === GETK || command === GATK ? keyEnd - keyStart : 0;
    const { ahead } = this;
    const hash = ahead.isAt(keyStart) ? ahead.hash[ahead.next++] : this.assoc.hash(bytes, keyStart, keyEnd);
    locks.lockItem(hash);
    const ref = items.find(bytes, keyStart, keyEnd, hash);
    if (ref === 0) {
      locks.unlockItem(hash);
      if (touches) f64[this.stats + T_TOUCH_CMDS] += 1;
      f64[this.stats + (touches ? T_TOUCH_MISSES : T_GET_MISSES)] += 1;
      if (i32[W_DETAIL] !== 0) this.host.prefixes.count(bytes, keyStart, keyEnd, PREFIX_GET);
      if (this.quiet) return keyEnd;
      if (keyLength === 0) {
        this.error(conn, room, KEY_NOT_FOUND);
      } else {
        const to = this.header(room, this.opcode, KEY_NOT_FOUND, keyLength, 0, keyLength, this.opaque, 0, 0);
        bytes.copy(out8, to, keyStart, keyEnd);
        if (this.tells()) this.tellHeader(out8, room);
        this.commit(conn, HEADER_BYTES + keyLength);
      }
      return keyEnd;
    }
    const length = command === TOUCH ? 0 : items.nbytes(ref) - 2;
    const large = length > 0 && (items.isChunked(ref) || length > COPY_BYTES_MAX);
    let at = room;
    if (!large && length > 0) {
      at = this.room(conn, length);
      if (at < 0) {
        locks.unlockItem(hash);
        return -1;
      }
    }
    if (touches) items.setExpiry(ref, items.expiry(this.read32(bytes, this.extras)));
    const body = 4 + keyLength + length;
    const casHi = i32[ref * 2 + I_CAS_HI];
    const casLo = i32[ref * 2 + I_CAS_LO];
    let to = this.header(at, this.opcode, OK, keyLength, 4, body, this.opaque, casHi, casLo);
    if (this.tells()) {
      // memcached shows it before it looks the CAS up.
      this.tellHeader(Buffer.from(out8.subarray(at, to)).fill(0, CAS_AT), 0);
    }
    this.write32(to, items.clientFlags(ref));
    to += 4;
    if (keyLength > 0) to += bytes.copy(out8, to, keyStart, keyEnd);
    if (large) {
      items.hold(ref);
      conn.sendItem = ref;
      conn.state = CONN_SEND;
    } else if (length > 0) {
      const data = items.dataAt(ref);
      to += this.u8.copy(out8, to, data, data + length);
    }
    items.bump(ref);
    const list = items.listOf(ref);
    locks.unlockItem(hash);
    this.countHit(list, touches);
    if (i32[W_DETAIL] !== 0) this.host.prefixes.count(bytes, keyStart, keyEnd, PREFIX_GET, true);
    this.commit(conn, to - at);
    if (large) this.values.beginSend(conn, length);
    return keyEnd;
  }

  /** set, add, replace, append, prepend: everything but the value. */
  private update(conn: Conn, bytes: Buffer, at: number): number {
    const { command, items, keyStart, keyEnd } = this;
    const joins = command === APPEND || command === PREPEND;
    const length = this.valueLength();
    if (this.tells()) {
      if (joins) this.trace.note(`Value len is ${length}`);
      else this.tellCommand(NAMES[command]!, bytes, ` Value len is ${length}`);
    }
    const flags = joins ? 0 : this.read32(bytes, this.extras);
    const exptime = joins ? 0 : items.expiry(this.read32(bytes, this.extras + 4));
    const mode = MODES[command]!;
    const hash = this.assoc.hash(bytes, keyStart, keyEnd);
    const ref = items.alloc(bytes, keyStart, keyEnd, flags, exptime, length + 2);
    if (this.i32[W_DETAIL] !== 0) this.host.prefixes.count(bytes, keyStart, keyEnd, PREFIX_SET);
    if (ref === 0) {
      // As in memcached, which counts refusals of the text protocol alone.
      const tooLarge = this.refused(bytes, keyStart, keyEnd, mode);
      if (command === SET) items.remove(bytes, keyStart, keyEnd, hash);
      this.error(conn, at, tooLarge ? TOO_LARGE : NO_MEMORY);
      return this.drop(conn, length, keyEnd);
    }
    conn.state = CONN_NREAD;
    conn.hash = hash;
    conn.casHi = this.casHi;
    conn.casLo = this.casLo;
    conn.opcode = this.opcode;
    conn.opaque = this.opaque;
    conn.mode = !joins && this.useCas && (this.casHi !== 0 || this.casLo !== 0) ? STORE_CAS : mode;
    this.values.beginFill(conn, ref, length);
    return keyEnd;
  }

  /** The value is complete: store it and answer. False: blocked, nothing was done. */
  private finishUpdate(conn: Conn): boolean {
    const { items } = this;
    const at = this.room(conn, 0);
    if (at < 0) return false;
    const ref = conn.item;
    // The packet has no CR LF; the item does.
    conn.valueLeft = CRLF.length;
    this.values.fill(conn, CRLF, 0, CRLF.length);
    this.f64[this.classStats + items.clsid(ref) * THREAD_CLASS_COUNTERS + S_SET_CMDS] += 1;
    const result = items.store(ref, conn.hash, conn.mode, conn.casHi, conn.casLo);
    items.release(ref);
    conn.item = 0;
    conn.state = CONN_COMMAND;
    this.opcode = conn.opcode;
    this.quiet = LOUD[conn.opcode] >= 0;
    this.opaque = conn.opaque;
    if (result === EXISTS && conn.mode === STORE_CAS) this.tellCas(conn);
    if (result === STORED) this.success(conn, at, items.linkedCasHi, items.linkedCasLo);
    else if (result === EXISTS || conn.mode === STORE_ADD) this.error(conn, at, KEY_EXISTS);
    else if (result === NOT_FOUND || conn.mode === STORE_REPLACE) this.error(conn, at, KEY_NOT_FOUND);
    else this.error(conn, at, ITEM_NOT_STORED);
    return true;
  }

  private remove(conn: Conn, bytes: Buffer, at: number): void {
    const { f64, items, locks, keyStart, keyEnd } = this;
    const hash = this.assoc.hash(bytes, keyStart, keyEnd);
    let status = OK;
    if (this.tells()) this.tellKey('Deleting ', bytes);
    if (this.i32[W_DETAIL] !== 0) this.host.prefixes.count(bytes, keyStart, keyEnd, PREFIX_DELETE);
    locks.lockItem(hash);
    const ref = items.find(bytes, keyStart, keyEnd, hash);
    if (ref === 0) {
      status = KEY_NOT_FOUND;
      f64[this.stats + T_DELETE_MISSES] += 1;
    } else if ((this.casHi !== 0 || this.casLo !== 0) && items.compareCas(ref, this.casHi, this.casLo) !== 0) {
      status = KEY_EXISTS;
    } else {
      f64[this.classStats + items.clsid(ref) * THREAD_CLASS_COUNTERS + S_DELETE_HITS] += 1;
      if (items.log !== null) items.log.deletion(ref, 'delete');
      items.unlink(ref, hash);
    }
    locks.unlockItem(hash);
    if (status === OK) this.success(conn, at, 0, 0);
    else this.error(conn, at, status);
  }

  private arithmetic(conn: Conn, bytes: Buffer, at: number): void {
    const { decimal, digits, i32, items, locks, extras, keyStart, keyEnd } = this;
    const hash = this.assoc.hash(bytes, keyStart, keyEnd);
    const deltaHi = this.read32(bytes, extras);
    const deltaLo = this.read32(bytes, extras + 4);
    const exptime = this.read32(bytes, extras + 16);
    let hi = this.read32(bytes, extras + 8);
    let lo = this.read32(bytes, extras + 12);
    let status = OK;
    if (this.tells()) {
      const [delta, initial] = [bytes.readBigInt64BE(extras), bytes.readBigUInt64BE(extras + 8)] as const;
      this.tellKey('incr ', bytes, ` ${delta}, ${initial}, ${exptime | 0}`);
    }
    let casHi = 0;
    let casLo = 0;
    locks.lockItem(hash);
    const incr = this.command === INCREMENT;
    const { casHi: wantHi, casLo: wantLo } = this;
    const result = items.deltaLocked(bytes, keyStart, keyEnd, hash, incr, deltaHi, deltaLo, wantHi, wantLo);
    if (result === DELTA_OK) {
      decimal.unsigned(items.numberBytes, 0, items.numberLength);
      hi = decimal.hi;
      lo = decimal.lo;
      casHi = i32[items.deltaRef * 2 + I_CAS_HI];
      casLo = i32[items.deltaRef * 2 + I_CAS_LO];
    } else if (result === DELTA_NON_NUMERIC) {
      status = NON_NUMERIC;
    } else if (result === DELTA_NO_MEMORY) {
      status = NO_MEMORY;
    } else if (result === DELTA_EXISTS) {
      status = KEY_EXISTS;
    } else if (exptime === NO_CREATE) {
      status = KEY_NOT_FOUND;
      items.countDeltaMiss(incr);
    } else {
      const length = writeU64(digits, 0, hi, lo);
      const fresh = items.createCounterLocked(bytes, keyStart, keyEnd, hash, items.expiry(exptime), digits, length);
      if (fresh === 0) status = NO_MEMORY;
      casHi = items.linkedCasHi;
      casLo = items.linkedCasLo;
    }
    locks.unlockItem(hash);
    if (status !== OK) {
      this.error(conn, at, status);
    } else if (!this.quiet) {
      const to = this.header(at, this.opcode, OK, 0, 0, 8, this.opaque, casHi, casLo);
      this.write32(to, hi);
      this.write32(to + 4, lo);
      if (this.tells()) this.tellHeader(this.out8, at);
      this.commit(conn, HEADER_BYTES + 8);
    }
  }

  private flush(conn: Conn, bytes: Buffer, at: number): void {
    if (!this.host.flushEnabled) {
      this.error(conn, at, AUTH_ERROR);
      return;
    }
    this.f64[this.stats + T_FLUSH_CMDS] += 1;
    this.items.flushAll(this.extrasLength === 4 ? this.read32(bytes, this.extras) : 0);
    this.success(conn, at, 0, 0);
  }

  /** One packet for each line of the text protocol's answer, and an empty one at the end. */
  private statistics(conn: Conn, bytes: Buffer, at: number): number {
    const key = bytes.toString('latin1', this.keyStart, this.keyEnd);
    if (this.tells()) this.tellCommand('STATS', bytes);
    const detail = /^detail (dump|on|off)/.exec(key);
    if (detail !== null && detail[1] !== 'dump') {
      this.host.prefixes.enable(detail[1] === 'on');
      conn.detailed = false;
      conn.opaque = this.opaque;
      return this.writeStats(conn, '') ? this.keyEnd : -1;
    }
    conn.detailed = detail !== null;
    // memcached tells of connections in text alone.
    const text = key === 'conns' ? undefined : this.host.stats(conn, detail === null ? key : 'detail dump');
    if (text === undefined) {
      this.error(conn, at, KEY_NOT_FOUND);
      return this.keyEnd;
    }
    if (text === DEFERRED) {
      conn.opaque = this.opaque;
      conn.state = CONN_WAIT;
      return this.keyEnd;
    }
    conn.opaque = this.opaque;
    return this.writeStats(conn, text) ? this.keyEnd : -1;
  }

  /** Sends the text of a `stats` as packets. False: no room, the connection is blocked. */
  writeStats(conn: Conn, text: string): boolean {
    const packets: Buffer[] = [];
    const packet = (name: string, value: string): void => {
      const header = Buffer.alloc(HEADER_BYTES);
      header[0] = MAGIC_RESPONSE;
      header[1] = STAT;
      header.writeUInt16BE(name.length, 2);
      header.writeUInt32BE(name.length + value.length, 8);
      header.writeUInt32BE(conn.opaque, 12);
      packets.push(header, Buffer.from(name + value, 'latin1'));
    };
    if (conn.detailed) packet('detailed', text);
    else for (const match of text.matchAll(/^STAT (\S+) (.*)\r$/gm)) packet(match[1]!, match[2]!);
    packet('', '');
    const reply = Buffer.concat(packets);
    if (this.out.writeCopy(conn.handle, reply, 0, reply.length) === FULL) {
      conn.blocked = true;
      return false;
    }
    this.f64[this.stats + T_BYTES_WRITTEN] += reply.length;
    return true;
  }

  // ---- SASL ------------------------------------------------------------------------------------------------------

  private sasl(conn: Conn, bytes: Buffer, at: number): number {
    const { keyStart, keyEnd } = this;
    if (this.command === SASL_LIST_MECHS) {
      this.simple(conn, at, OK, MECHANISMS, 0, 0);
      return keyEnd;
    }
    const length = this.valueLength();
    if (keyEnd - keyStart > MECHANISM_BYTES_MAX) {
      this.error(conn, at, INVALID);
      return this.drop(conn, length, keyEnd);
    }
    const credentials = this.bodyLength <= CREDENTIALS_BYTES_MAX ? bytes.subarray(keyEnd, keyEnd + length) : null;
    const mechanism = this.command === SASL_AUTH ? bytes.toString('latin1', keyStart, keyEnd) : null;
    const result = saslAttempt(conn, mechanism, credentials, (user, password) =>
      this.host.authenticate(user, password),
    );
    if (result === 'continue') {
      this.simple(conn, at, AUTH_CONTINUE, EMPTY, 0, 0);
      return keyEnd;
    }
    this.f64[this.stats + T_AUTH_CMDS] += 1;
    if (result === 'authenticated') {
      this.simple(conn, at, OK, AUTHENTICATED, 0, 0);
      return keyEnd + length;
    }
    this.f64[this.stats + T_AUTH_ERRORS] += 1;
    this.error(conn, at, AUTH_ERROR);
    return this.drop(conn, length, keyEnd);
  }
}
