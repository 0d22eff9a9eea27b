/**
 * The meta protocol: mg ms md ma me.
 *
 * What it is for: the text protocol cuts a line into tokens and hands it over; here its flags are read and the command
 * is carried out and answered. Flags come back in the order in which they were asked for.
 * Invariant: room for the longest reply is made sure of before anything is changed, so a command is carried out once.
 * Not its job: lines, values on their way (values.ts), and `mn`.
 *
 * Where versions of memcached differ, this follows 1.6.45: E, `md x`, `ms s`, `ms MA N`, payloads swallowed after errors.
 */

import { decodeBase64, writeBase64 } from './base64.ts';
import { CONN_COMMAND, CONN_NREAD, CONN_SEND, type Conn } from './conn.ts';
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
  STORE_APPEND_VIVIFY,
  STORE_CAS,
  STORE_PREPEND,
  STORE_PREPEND_VIVIFY,
  STORE_REPLACE,
  STORE_SET,
  STORED,
} from './engine/items.ts';
import {
  CLASS_SHIFT,
  I_CAS_HI,
  I_CAS_LO,
  I_EXPTIME,
  I_META,
  I_TIME,
  ITEM_FETCHED,
  ITEM_KEY_BINARY,
  ITEM_STALE,
  ITEM_TOKEN_SENT,
  KEY_BYTES_MAX,
  LRU_ID_MASK,
  THREAD_CLASS_COUNTERS,
  W_TIME,
} from './engine/layout.ts';
import { S_DELETE_HITS, S_SET_CMDS, T_DELETE_MISSES, T_GET_MISSES, T_META_CMDS } from './engine/stats.ts';
import { writeU32, writeU64 } from './numbers.ts';
import { Protocol, type Trace } from './protocol.ts';
import {
  R_BAD_CHUNK,
  R_BAD_DELTA_VALUE,
  R_BAD_FORMAT,
  R_BAD_INITIAL,
  R_BAD_KEY_ENCODING,
  R_BAD_MA_MODE,
  R_BAD_MODE_LENGTH,
  R_BAD_MS_MODE,
  R_BAD_TOKEN,
  R_DUPLICATE_FLAG,
  R_EN,
  R_ERROR,
  R_INVALID_FLAG,
  R_INVALID_OR_DUPLICATE,
  R_NO_MEMORY,
  R_NO_MEMORY_NEW,
  R_NO_MEMORY_STORING,
  R_NON_NUMERIC,
  R_OPAQUE_TOO_LONG,
  R_TOO_LARGE,
  R_TOO_MANY_FLAGS,
  REPLIES,
} from './replies.ts';
import { COPY_BYTES_MAX, type Output, type Values } from './values.ts';

/** A line with this many tokens, command and key among them, has too many flags. */
const TOKENS_TOO_MANY = 20;
const OPAQUE_BYTES_MAX = 32;
/** The longest reply without its value: code, base64 of a key, opaque, and the numbers of all flags. */
const HEAD_BYTES_MAX = 700;
const INT_MAX = 0x7fff_ffff;
const NOTHING = Buffer.alloc(0);

// Bits of Conn.metaFlags.
const MS_QUIET = 1;
const MS_STALE = 2;
const MS_EXPLICIT_CAS = 4;

/** Two-letter codes of replies. */
const HD = 0x44_48;
const EN = 0x4e_45;
const NS = 0x53_4e;
const EX = 0x58_45;
const NF = 0x46_4e;

// Letters.
const A_b = 0x62;
const A_c = 0x63;
const A_f = 0x66;
const A_h = 0x68;
const A_k = 0x6b;
const A_l = 0x6c;
const A_q = 0x71;
const A_s = 0x73;
const A_t = 0x74;
const A_u = 0x75;
const A_v = 0x76;
const A_x = 0x78;
const A_A = 0x41;
const A_C = 0x43;
const A_D = 0x44;
const A_E = 0x45;
const A_F = 0x46;
const A_I = 0x49;
const A_J = 0x4a;
const A_L = 0x4c;
const A_M = 0x4d;
const A_N = 0x4e;
const A_O = 0x4f;
const A_P = 0x50;
const A_R = 0x52;
const A_S = 0x53;
const A_T = 0x54;
const A_W = 0x57;
const A_X = 0x58;
const A_Z = 0x5a;

export class ProtoMeta extends Protocol {
  private readonly values: Values;
  private readonly tokenStart: Int32Array;
  private readonly tokenEnd: Int32Array;

  // Flags of the current line.
  private readonly seen = new Uint32Array(128);
  private line = 0;
  private vivify = false;
  private vivifyExptime = 0;
  private newTtl = false;
  private exptime = 0;
  private recacheTime = 0;
  private wantsValue = false;
  private noUpdate = false;
  private quiet = false;
  private removeValue = false;
  private clientFlags = 0;
  private casHi = 0;
  private casLo = 0;
  private hasCas = false;
  private explicitCas = false;
  private explicitHi = 0;
  private explicitLo = 0;
  private modeLetter = 0;
  private initialHi = 0;
  private initialLo = 0;
  private deltaHi = 0;
  private deltaLo = 0;
  private setStale = false;
  private keyBinary = false;

  // Its key: as received, or decoded.
  private readonly decoded = Buffer.alloc(KEY_BYTES_MAX + 3);
  private key: Buffer = NOTHING;
  private keyStart = 0;
  private keyEnd = 0;

  private readonly digits = Buffer.alloc(24);

  /** The last two are the text protocol's: what it cut the line into. */
  constructor(cache: Cache, out: Output, trace: Trace, values: Values, tokenStart: Int32Array, tokenEnd: Int32Array) {
    super(cache, out, trace);
    this.values = values;
    this.tokenStart = tokenStart;
    this.tokenEnd = tokenEnd;
  }

  /** A line of `tokens` tokens whose first is m and one more letter: returns `next`, or -1 when blocked, nothing done. */
  command(conn: Conn, bytes: Buffer, tokens: number, next: number): number {
    const letter = bytes[this.tokenStart[0] + 1];
    if (letter === 0x65) return this.meta(conn, bytes, tokens, next);
    if ((letter !== 0x67 && letter !== A_s && letter !== 0x64 && letter !== 0x61) || tokens < 2) {
      return this.error(conn, R_ERROR, next);
    }
    if (letter === A_s) return this.set(conn, bytes, tokens, next);
    if (this.tokenEnd[1] - this.tokenStart[1] > KEY_BYTES_MAX) return this.error(conn, R_BAD_FORMAT, next);
    if (tokens >= TOKENS_TOO_MANY) return this.error(conn, R_TOO_MANY_FLAGS, next);
    const fault = this.flags(bytes, 2, tokens);
    if (fault >= 0) {
      return this.error(conn, letter === 0x61 && fault !== R_OPAQUE_TOO_LONG ? R_INVALID_OR_DUPLICATE : fault, next);
    }
    if (letter === 0x67) return this.get(conn, bytes, tokens, next);
    if (letter === 0x64) return this.remove(conn, bytes, tokens, next);
    return this.arithmetic(conn, bytes, tokens, next);
  }

  // ---- replies ---------------------------------------------------------------------------------------------------

  private error(conn: Conn, reply: number, next: number): number {
    return this.say(conn, REPLIES[reply]) ? next : -1;
  }

  /** An error where there is room already. */
  private errorAt(conn: Conn, at: number, reply: number, next: number): number {
    const text = REPLIES[reply];
    text.copy(this.out8, at);
    this.commit(conn, text.length);
    this.tell(conn, text);
    return next;
  }

  private room(conn: Conn, bytes: number): number {
    return this.reserve(conn, HEAD_BYTES_MAX + bytes);
  }

  private writeCode(at: number, code: number): number {
    this.out8[at] = code & 0xff;
    this.out8[at + 1] = code >>> 8;
    return at + 2;
  }

  /** "VA " and a length. */
  private writeVa(at: number, length: number): number {
    this.out8[at] = 0x56;
    this.out8[at + 1] = 0x41;
    this.out8[at + 2] = 0x20;
    return writeU32(this.out8, at + 3, length);
  }

  private writeFlag(at: number, letter: number): number {
    this.out8[at] = 0x20;
    this.out8[at + 1] = letter;
    return at + 2;
  }

  private writeEol(at: number): number {
    this.out8[at] = 0x0d;
    this.out8[at + 1] = 0x0a;
    return at + 2;
  }

  private writeTtl(at: number, ref: number): number {
    const exptime = this.i32[ref * 2 + I_EXPTIME];
    const to = this.writeFlag(at, A_t);
    if (exptime !== 0) return writeU32(this.out8, to, (exptime - this.i32[W_TIME]) >>> 0);
    this.out8[to] = 0x2d;
    this.out8[to + 1] = 0x31;
    return to + 2;
  }

  private writeCas(at: number, ref: number): number {
    const to = this.writeFlag(at, A_c);
    return writeU64(this.out8, to, this.i32[ref * 2 + I_CAS_HI] >>> 0, this.i32[ref * 2 + I_CAS_LO] >>> 0);
  }

  /** " k" and the key, in base64 with " b" behind it when `binary`. */
  private writeKey(into: Buffer, at: number, binary: boolean): number {
    into[at] = 0x20;
    into[at + 1] = A_k;
    if (!binary) return at + 2 + this.key.copy(into, at + 2, this.keyStart, this.keyEnd);
    const to = writeBase64(into, at + 2, this.key, this.keyStart, this.keyEnd);
    into[to] = 0x20;
    into[to + 1] = A_b;
    return to + 2;
  }

  /** " " and the opaque token as it came. */
  private writeToken(into: Buffer, at: number, bytes: Buffer, token: number): number {
    into[at] = 0x20;
    return at + 1 + bytes.copy(into, at + 1, this.tokenStart[token], this.tokenEnd[token]);
  }

  /** What a reply without an item brings back: key and opaque, then the end of the line. */
  private writeEchoes(at: number, bytes: Buffer, tokens: number): number {
    let to = at;
    for (let i = 2; i < tokens; i++) {
      const letter = bytes[this.tokenStart[i]];
      if (letter === A_O) to = this.writeToken(this.out8, to, bytes, i);
      else if (letter === A_k) to = this.writeKey(this.out8, to, this.keyBinary);
    }
    return this.writeEol(to);
  }

  // ---- flags -----------------------------------------------------------------------------------------------------

  /** Reads the flags from token `first` on, and decodes the key. Gives the error's number in the table, or -1. */
  private flags(bytes: Buffer, first: number, tokens: number): number {
    const { decimal, items, seen, tokenStart, tokenEnd } = this;
    this.line = (this.line + 1) >>> 0;
    if (this.line === 0) {
      seen.fill(0);
      this.line = 1;
    }
    this.vivify = false;
    this.newTtl = false;
    this.exptime = 0;
    this.recacheTime = 0;
    this.wantsValue = false;
    this.noUpdate = false;
    this.quiet = false;
    this.removeValue = false;
    this.clientFlags = 0;
    this.hasCas = false;
    this.casHi = 0;
    this.casLo = 0;
    this.explicitCas = false;
    this.modeLetter = 0;
    this.initialHi = 0;
    this.initialLo = 0;
    this.deltaHi = 0;
    this.deltaLo = 1;
    this.setStale = false;
    this.keyBinary = false;
    this.key = bytes;
    this.keyStart = tokenStart[1];
    this.keyEnd = tokenEnd[1];
    // A wrong token is remembered and reading goes on: the last one is told, unless a letter is unknown or comes twice.
    let fault = -1;
    let opaqueTooLong = false;
    for (let i = first; i < tokens; i++) {
      const letter = bytes[tokenStart[i]];
      const start = tokenStart[i] + 1;
      const end = tokenEnd[i];
      if (letter >= 127 || seen[letter] === this.line) return R_DUPLICATE_FLAG;
      seen[letter] = this.line;
      switch (letter) {
        case A_b: {
          const length = decodeBase64(bytes, tokenStart[1], tokenEnd[1], this.decoded);
          if (length === 0) fault = R_BAD_KEY_ENCODING;
          this.key = this.decoded;
          this.keyStart = 0;
          this.keyEnd = length;
          this.keyBinary = true;
          break;
        }
        case A_N:
          this.vivify = true;
          if (decimal.signed32(bytes, start, end)) this.vivifyExptime = items.expiry(decimal.lo);
          else fault = R_BAD_TOKEN;
          break;
        case A_T:
          this.newTtl = true;
          if (decimal.signed32(bytes, start, end)) this.exptime = items.expiry(decimal.lo);
          else fault = R_BAD_TOKEN;
          break;
        case A_R:
          if (decimal.signed32(bytes, start, end)) this.recacheTime = items.expiry(decimal.lo);
          else fault = R_BAD_TOKEN;
          break;
        case A_O:
          opaqueTooLong = end - tokenStart[i] > OPAQUE_BYTES_MAX;
          break;
        case A_P:
        case A_L:
        case A_k:
        case A_s:
        case A_t:
        case A_c:
        case A_f:
        case A_h:
        case A_l:
          break;
        case A_v:
          this.wantsValue = true;
          break;
        case A_u:
          this.noUpdate = true;
          break;
        case A_q:
          this.quiet = true;
          break;
        case A_x:
          this.removeValue = true;
          break;
        case A_F:
          if (decimal.unsigned(bytes, start, end)) this.clientFlags = decimal.lo;
          else if (fault < 0) fault = R_BAD_FORMAT;
          break;
        case A_C:
          this.hasCas = decimal.unsigned(bytes, start, end);
          if (!this.hasCas) fault = R_BAD_TOKEN;
          this.casHi = decimal.hi;
          this.casLo = decimal.lo;
          break;
        case A_E:
          this.explicitCas = decimal.unsigned(bytes, start, end);
          if (!this.explicitCas) fault = R_BAD_TOKEN;
          this.explicitHi = decimal.hi;
          this.explicitLo = decimal.lo;
          break;
        case A_M:
          if (end - start === 1) this.modeLetter = bytes[start];
          else fault = R_BAD_MODE_LENGTH;
          break;
        case A_J:
          if (!decimal.unsigned(bytes, start, end)) fault = R_BAD_INITIAL;
          this.initialHi = decimal.hi;
          this.initialLo = decimal.lo;
          break;
        case A_D:
          if (!decimal.unsigned(bytes, start, end)) fault = R_BAD_DELTA_VALUE;
          this.deltaHi = decimal.hi;
          this.deltaLo = decimal.lo;
          break;
        case A_I:
          this.setStale = true;
          break;
        default:
          return R_INVALID_FLAG;
      }
    }
    return fault < 0 && opaqueTooLong ? R_OPAQUE_TOO_LONG : fault;
  }

  private hash(): number {
    return this.assoc.hash(this.key, this.keyStart, this.keyEnd);
  }

  private setExplicitCas(): void {
    const { items } = this;
    items.explicitCas = this.explicitCas;
    items.explicitCasHi = this.explicitHi;
    items.explicitCasLo = this.explicitLo;
  }

  // ---- mg --------------------------------------------------------------------------------------------------------

  private get(conn: Conn, bytes: Buffer, tokens: number, next: number): number {
    const { items, i32, locks, out8, u8, tokenStart } = this;
    const hash = this.hash();
    locks.lockItem(hash);
    let ref = items.find(this.key, this.keyStart, this.keyEnd, hash);
    let created = false;
    let large = false;
    let copied = 0;
    if (ref !== 0 && this.wantsValue) {
      large = items.isChunked(ref) || items.nbytes(ref) > COPY_BYTES_MAX;
      if (!large) copied = items.nbytes(ref);
    }
    const at = this.room(conn, copied);
    if (at < 0) {
      locks.unlockItem(hash);
      return -1;
    }
    if (ref === 0 && this.vivify) {
      this.setExplicitCas();
      ref = items.createLocked(this.key, this.keyStart, this.keyEnd, hash, 0, 0, NOTHING, 0);
      items.explicitCas = false;
      created = ref !== 0;
      copied = created && this.wantsValue ? 2 : 0;
    }
    if (ref === 0) {
      locks.unlockItem(hash);
      this.f64[this.stats + T_GET_MISSES] += 1;
      if (!this.quiet) this.commit(conn, this.writeEchoes(this.writeCode(at, EN), bytes, tokens) - at);
      return next;
    }
    const word = ref * 2;
    const nbytes = items.nbytes(ref);
    let won = false;
    let to = this.wantsValue ? this.writeVa(at, nbytes - 2) : this.writeCode(at, HD);
    for (let i = 2; i < tokens; i++) {
      switch (bytes[tokenStart[i]]) {
        case A_T:
          items.setExpiry(ref, this.exptime);
          break;
        case A_N:
          if (created) {
            items.setExpiry(ref, this.vivifyExptime);
            won = true;
          }
          break;
        case A_R: {
          const exptime = i32[word + I_EXPTIME];
          const sent = (i32[word + I_META] & ITEM_TOKEN_SENT) !== 0;
          if (!sent && !created && exptime !== 0 && exptime < this.recacheTime) won = true;
          break;
        }
        case A_s:
          to = writeU32(out8, this.writeFlag(to, A_s), nbytes - 2);
          break;
        case A_t:
          to = this.writeTtl(to, ref);
          break;
        case A_c:
          to = this.writeCas(to, ref);
          break;
        case A_f:
          to = writeU32(out8, this.writeFlag(to, A_f), items.clientFlags(ref));
          break;
        case A_l:
          to = writeU32(out8, this.writeFlag(to, A_l), i32[W_TIME] - i32[word + I_TIME]);
          break;
        case A_h:
          to = this.writeFlag(to, A_h);
          out8[to++] = (i32[word + I_META] & ITEM_FETCHED) === 0 ? 0x30 : 0x31;
          break;
        case A_O:
          to = this.writeToken(out8, to, bytes, i);
          break;
        case A_k:
          to = this.writeKey(out8, to, (i32[word + I_META] & ITEM_KEY_BINARY) !== 0);
          break;
      }
    }
    const meta = i32[word + I_META];
    const sent = (meta & ITEM_TOKEN_SENT) !== 0;
    if (sent) to = this.writeFlag(to, A_Z);
    if ((meta & ITEM_STALE) !== 0) {
      to = this.writeFlag(to, A_X);
      if (!sent) won = true;
    }
    if (won) {
      to = this.writeFlag(to, A_W);
      i32[word + I_META] = meta | ITEM_TOKEN_SENT;
    }
    to = this.writeEol(to);
    if (copied > 0) {
      const data = items.dataAt(ref);
      to += u8.copy(out8, to, data, data + copied);
    }
    if (!this.noUpdate) items.bump(ref);
    if (large) {
      items.hold(ref);
      conn.sendItem = ref;
      conn.state = CONN_SEND;
    }
    this.countHit((meta >>> CLASS_SHIFT) & LRU_ID_MASK, this.newTtl);
    locks.unlockItem(hash);
    this.commit(conn, to - at);
    if (large) this.values.beginSend(conn, nbytes);
    return next;
  }

  // ---- ms --------------------------------------------------------------------------------------------------------

  private set(conn: Conn, bytes: Buffer, tokens: number, next: number): number {
    const { decimal, items, tokenStart, tokenEnd } = this;
    if (tokens < 3) return this.error(conn, R_BAD_FORMAT, next);
    if (!decimal.signed32(bytes, tokenStart[2], tokenEnd[2]) || decimal.lo < 0 || decimal.lo >= INT_MAX - 2) {
      return this.error(conn, R_BAD_FORMAT, next);
    }
    const nbytes = decimal.lo + 2;
    if (tokenEnd[1] - tokenStart[1] > KEY_BYTES_MAX) return this.swallow(conn, nbytes, R_BAD_FORMAT, next);
    if (tokens >= TOKENS_TOO_MANY) return this.swallow(conn, nbytes, R_TOO_MANY_FLAGS, next);
    const fault = this.flags(bytes, 3, tokens);
    if (fault >= 0) return this.swallow(conn, nbytes, fault, next);
    let mode = STORE_SET;
    let exptime = this.exptime;
    switch (this.modeLetter) {
      case 0:
      case A_S:
        break;
      case A_E:
        mode = STORE_ADD;
        break;
      case A_A:
        mode = this.vivify ? STORE_APPEND_VIVIFY : STORE_APPEND;
        if (this.vivify) exptime = this.vivifyExptime;
        break;
      case A_P:
        mode = this.vivify ? STORE_PREPEND_VIVIFY : STORE_PREPEND;
        if (this.vivify) exptime = this.vivifyExptime;
        break;
      case A_R:
        mode = STORE_REPLACE;
        break;
      default:
        return this.swallow(conn, nbytes, R_BAD_MS_MODE, next);
    }
    if (this.hasCas && (mode === STORE_SET || mode === STORE_REPLACE)) mode = STORE_CAS;
    const hash = this.hash();
    const ref = items.alloc(this.key, this.keyStart, this.keyEnd, this.clientFlags, exptime, nbytes);
    if (ref === 0) {
      const tooLarge = this.countRefused(this.key, this.keyStart, this.keyEnd, mode);
      // What could not be replaced must not be found any more, whatever the mode.
      items.remove(this.key, this.keyStart, this.keyEnd, hash);
      return this.swallow(conn, nbytes, tooLarge ? R_TOO_LARGE : R_NO_MEMORY_STORING, next);
    }
    if (this.keyBinary) this.i32[ref * 2 + I_META] = this.i32[ref * 2 + I_META] | ITEM_KEY_BINARY;
    conn.state = CONN_NREAD;
    conn.hash = hash;
    conn.mode = mode;
    conn.casHi = this.casHi;
    conn.casLo = this.casLo;
    conn.explicitCasHi = this.explicitHi;
    conn.explicitCasLo = this.explicitLo;
    conn.meta = true;
    conn.metaFlags =
      (this.quiet ? MS_QUIET : 0) | (this.setStale ? MS_STALE : 0) | (this.explicitCas ? MS_EXPLICIT_CAS : 0);
    this.keepTail(conn, bytes, tokens);
    this.values.beginFill(conn, ref, nbytes);
    return next;
  }

  /** Keeps what the reply brings back, for when the value is there: " c" and " s" await their numbers. */
  private keepTail(conn: Conn, bytes: Buffer, tokens: number): void {
    let to = 0;
    for (let i = 3; i < tokens; i++) {
      const letter = bytes[this.tokenStart[i]];
      if (letter !== A_O && letter !== A_k && letter !== A_c && letter !== A_s) continue;
      const tail = (conn.metaTail ??= Buffer.allocUnsafeSlow(HEAD_BYTES_MAX));
      if (letter === A_O) {
        to = this.writeToken(tail, to, bytes, i);
      } else if (letter === A_k) {
        to = this.writeKey(tail, to, this.keyBinary);
      } else {
        tail[to++] = 0x20;
        tail[to++] = letter;
      }
    }
    conn.metaTailLength = to;
  }

  /** The value of an `ms` is complete: store it and answer. False: blocked, nothing was done. */
  finishSet(conn: Conn): boolean {
    const { items, locks } = this;
    const at = this.room(conn, 0);
    if (at < 0) return false;
    const ref = conn.item;
    const clsid = items.clsid(ref);
    this.f64[this.classStats + clsid * THREAD_CLASS_COUNTERS + S_SET_CMDS] += 1;
    conn.item = 0;
    conn.state = CONN_COMMAND;
    if (!this.values.endsLine(conn, ref)) {
      items.release(ref);
      this.errorAt(conn, at, R_BAD_CHUNK, 0);
      return true;
    }
    items.allowStale = (conn.metaFlags & MS_STALE) !== 0;
    items.explicitCas = (conn.metaFlags & MS_EXPLICIT_CAS) !== 0;
    items.explicitCasHi = conn.explicitCasHi;
    items.explicitCasLo = conn.explicitCasLo;
    locks.lockItem(conn.hash);
    const result = items.storeLocked(ref, conn.hash, conn.mode, conn.casHi, conn.casLo);
    locks.unlockItem(conn.hash);
    items.allowStale = false;
    items.explicitCas = false;
    if (result === EXISTS && conn.mode === STORE_CAS) this.tellCas(conn);
    const stored = result === STORED;
    const nbytes = stored ? items.linkedBytes : items.nbytes(ref);
    if (!stored || (conn.metaFlags & MS_QUIET) === 0) {
      const code = stored ? HD : result === EXISTS ? EX : result === NOT_FOUND ? NF : NS;
      const to = this.writeTail(conn, this.writeCode(at, code), stored, nbytes);
      this.commit(conn, to - at);
    }
    items.release(ref);
    return true;
  }

  private writeTail(conn: Conn, at: number, stored: boolean, nbytes: number): number {
    const { items, out8 } = this;
    const tail = conn.metaTail;
    let to = at;
    if (tail !== null) {
      // Behind a blank stands a letter; key and opaque are copied up to the next blank.
      for (let i = 0; i < conn.metaTailLength; ) {
        const letter = tail[i + 1];
        if (letter === A_c || letter === A_s) {
          to = this.writeFlag(to, letter);
          if (letter === A_s) to = writeU32(out8, to, nbytes - 2);
          else to = writeU64(out8, to, stored ? items.linkedCasHi : 0, stored ? items.linkedCasLo : 0);
          i += 2;
          continue;
        }
        do out8[to++] = tail[i++];
        while (i < conn.metaTailLength && tail[i] !== 0x20);
      }
    }
    return this.writeEol(to);
  }

  // ---- md --------------------------------------------------------------------------------------------------------

  private remove(conn: Conn, bytes: Buffer, tokens: number, next: number): number {
    const { f64, items, i32, locks } = this;
    const at = this.room(conn, 0);
    if (at < 0) return -1;
    const { key, keyStart, keyEnd } = this;
    const hash = this.hash();
    let code = HD;
    let outOfMemory = false;
    this.setExplicitCas();
    locks.lockItem(hash);
    let ref = items.find(key, keyStart, keyEnd, hash);
    if (ref === 0) {
      code = NF;
      f64[this.stats + T_DELETE_MISSES] += 1;
    } else if (this.hasCas && items.compareCas(ref, this.casHi, this.casLo) !== 0) {
      code = EX;
      f64[this.stats + T_DELETE_MISSES] += 1;
    } else {
      if (!this.setStale) f64[this.classStats + items.clsid(ref) * THREAD_CLASS_COUNTERS + S_DELETE_HITS] += 1;
      if (this.removeValue) {
        ref = items.createLocked(key, keyStart, keyEnd, hash, this.clientFlags, this.exptime, NOTHING, 0);
        outOfMemory = ref === 0;
      }
      if (outOfMemory) {
        code = 0;
      } else if (this.setStale) {
        if (this.newTtl) items.setExpiry(ref, this.exptime);
        i32[ref * 2 + I_META] = (i32[ref * 2 + I_META] | ITEM_STALE) & ~ITEM_TOKEN_SENT;
        items.renewCas(ref);
      } else if (!this.removeValue) {
        if (items.log !== null) items.log.deletion(ref, 'md');
        items.unlink(ref, hash);
      }
    }
    locks.unlockItem(hash);
    items.explicitCas = false;
    if (outOfMemory) return this.errorAt(conn, at, R_NO_MEMORY, next);
    if (code === HD && this.quiet) return next;
    this.commit(conn, this.writeEchoes(this.writeCode(at, code), bytes, tokens) - at);
    return next;
  }

  // ---- ma --------------------------------------------------------------------------------------------------------

  private arithmetic(conn: Conn, bytes: Buffer, tokens: number, next: number): number {
    const { items, locks, key, keyStart, keyEnd } = this;
    const incr = this.modeLetter === 0 || this.modeLetter === A_I || this.modeLetter === 0x2b;
    if (!incr && this.modeLetter !== A_D && this.modeLetter !== 0x2d) return this.error(conn, R_BAD_MA_MODE, next);
    const at = this.room(conn, 0);
    if (at < 0) return -1;
    const hash = this.hash();
    this.setExplicitCas();
    locks.lockItem(hash);
    const { deltaHi, deltaLo, casHi, casLo } = this;
    const result = items.deltaLocked(key, keyStart, keyEnd, hash, incr, deltaHi, deltaLo, casHi, casLo);
    let ref = result === DELTA_OK ? items.deltaRef : 0;
    let digits = items.numberBytes;
    let length = items.numberLength;
    let fault = -1;
    let code = NF;
    if (result === DELTA_NON_NUMERIC) {
      fault = R_NON_NUMERIC;
    } else if (result === DELTA_NO_MEMORY) {
      fault = R_NO_MEMORY;
    } else if (result === DELTA_EXISTS) {
      code = EX;
    } else if (result !== DELTA_OK && !this.vivify) {
      items.countDeltaMiss(incr);
    } else if (result !== DELTA_OK) {
      digits = this.digits;
      length = writeU64(digits, 0, this.initialHi, this.initialLo);
      ref = items.createCounterLocked(key, keyStart, keyEnd, hash, 0, digits, length);
      if (ref === 0) fault = R_NO_MEMORY_NEW;
    }
    let to = 0;
    if (ref !== 0) to = this.writeNumber(at, bytes, tokens, ref, result !== DELTA_OK, digits, length);
    locks.unlockItem(hash);
    items.explicitCas = false;
    if (fault >= 0) return this.errorAt(conn, at, fault, next);
    if (ref === 0) to = this.writeEchoes(this.writeCode(at, code), bytes, tokens);
    // Quiet hides a number that was counted; that one was created is told.
    if (result === DELTA_OK && this.quiet) return next;
    this.commit(conn, to - at);
    return next;
  }

  /** The reply to a successful `ma`, under the item lock. */
  private writeNumber(
    at: number,
    bytes: Buffer,
    tokens: number,
    ref: number,
    created: boolean,
    digits: Buffer,
    length: number,
  ): number {
    const { out8 } = this;
    let to = this.wantsValue ? this.writeVa(at, length) : this.writeCode(at, HD);
    for (let i = 2; i < tokens; i++) {
      switch (bytes[this.tokenStart[i]]) {
        case A_T:
          this.items.setExpiry(ref, this.exptime);
          break;
        case A_N:
          if (created) this.items.setExpiry(ref, this.vivifyExptime);
          break;
        case A_t:
          to = this.writeTtl(to, ref);
          break;
        case A_c:
          to = this.writeCas(to, ref);
          break;
        case A_O:
          to = this.writeToken(out8, to, bytes, i);
          break;
        case A_k:
          to = this.writeKey(out8, to, this.keyBinary);
          break;
      }
    }
    to = this.writeEol(to);
    if (!this.wantsValue) return to;
    to += digits.copy(out8, to, 0, length);
    return this.writeEol(to);
  }

  // ---- me --------------------------------------------------------------------------------------------------------

  private meta(conn: Conn, bytes: Buffer, tokens: number, next: number): number {
    const { items, i32, locks, tokenStart, tokenEnd } = this;
    if (tokens < 2 || tokenEnd[1] - tokenStart[1] > KEY_BYTES_MAX) return this.error(conn, R_BAD_FORMAT, next);
    this.key = bytes;
    this.keyStart = tokenStart[1];
    this.keyEnd = tokenEnd[1];
    if (tokens > 2 && tokenEnd[2] - tokenStart[2] === 1 && bytes[tokenStart[2]] === A_b) {
      this.key = this.decoded;
      this.keyEnd = decodeBase64(bytes, this.keyStart, this.keyEnd, this.decoded);
      this.keyStart = 0;
      if (this.keyEnd === 0) return this.error(conn, R_BAD_FORMAT, next);
    }
    const at = this.room(conn, 0);
    if (at < 0) return -1;
    // The only one that memcached's cmd_meta counts.
    this.f64[this.stats + T_META_CMDS] += 1;
    const hash = this.hash();
    locks.lockItem(hash);
    const ref = items.find(this.key, this.keyStart, this.keyEnd, hash);
    if (ref === 0) {
      locks.unlockItem(hash);
      return this.errorAt(conn, at, R_EN, next);
    }
    const word = ref * 2;
    const meta = i32[word + I_META];
    const exptime = i32[word + I_EXPTIME];
    const now = i32[W_TIME];
    const cas = (BigInt(i32[word + I_CAS_HI] >>> 0) << 32n) | BigInt(i32[word + I_CAS_LO] >>> 0);
    const text =
      ` exp=${exptime === 0 ? -1 : exptime - now} la=${now - i32[word + I_TIME]} cas=${cas}` +
      ` fetch=${(meta & ITEM_FETCHED) === 0 ? 'no' : 'yes'} cls=${items.clsid(ref)} size=${items.totalBytes(ref)}\r\n`;
    locks.unlockItem(hash);
    let to = at;
    to += this.out8.write('ME ', to, 'latin1');
    if ((meta & ITEM_KEY_BINARY) !== 0) to = writeBase64(this.out8, to, this.key, this.keyStart, this.keyEnd);
    else to += this.key.copy(this.out8, to, this.keyStart, this.keyEnd);
    to += this.out8.write(text, to, 'latin1');
    this.commit(conn, to - at);
    return next;
  }
}
