/**
 * The text protocol: finds commands in received bytes, carries them out on the cache, writes the replies.
 *
 * What it is for: memcached's classic commands with its exact replies, for bytes cut anywhere. `run` is one resumable
 * loop over the states of a Conn. It stops where a line is incomplete, or where the connection's output is full, and
 * says how far it came; the caller keeps the rest and calls again.
 * Invariants: a command is carried out exactly once: where its reply may find no room, room is made sure of first.
 * A get of one small item, the hot path, allocates nothing and crosses no boundary.
 * Not its job: sockets, limits on connections (worker.ts), what a command does to the cache (engine/items.ts).
 *
 * Where versions of memcached differ, this follows 1.6.45: a bad store line swallows its payload, and `delete` ignores
 * further numbers.
 */

import {
  CONN_CLOSING,
  CONN_COMMAND,
  CONN_DUMP,
  CONN_KEYS,
  CONN_NREAD,
  CONN_SEND,
  CONN_SWALLOW,
  CONN_WAIT,
  CONN_WATCH,
  type Conn,
  takeTurn,
} from './conn.ts';
import { copyReply, SLACK_BYTES } from './copy.ts';
import { finishHash, stepHash } from './engine/assoc.ts';
import type { Cache } from './engine/cache.ts';
import { DUMP_LINE_BYTES_MAX, Dump } from './engine/dump.ts';
import {
  DELTA_NON_NUMERIC,
  DELTA_NOT_FOUND,
  DELTA_OK,
  EXISTS,
  NOT_FOUND,
  NOT_STORED,
  STORE_ADD,
  STORE_APPEND,
  STORE_CAS,
  STORE_PREPEND,
  STORE_REPLACE,
  STORE_SET,
  STORED,
} from './engine/items.ts';
import {
  CLASS_SHIFT,
  I_CAS_HI,
  I_CAS_LO,
  I_LEAD_BYTES,
  I_META,
  I_NBYTES,
  ITEM_CHUNKED,
  KEY_BYTES_MAX,
  LRU_ID_MASK,
  SUFFIX_MASK,
  SUFFIX_SHIFT,
  THREAD_CLASS_COUNTERS,
  W_DETAIL,
  W_VERBOSITY,
} from './engine/layout.ts';
import {
  S_DELETE_HITS,
  S_SET_CMDS,
  S_TOUCH_HITS,
  T_BYTES_WRITTEN,
  T_CONN_YIELDS,
  T_DELETE_MISSES,
  T_FLUSH_CMDS,
  T_GET_MISSES,
  T_TOUCH_CMDS,
  T_TOUCH_MISSES,
} from './engine/stats.ts';
import { LOG_KINDS } from './logger.ts';
import { Lookahead } from './lookahead.ts';
import { writeU64 } from './numbers.ts';
import { PREFIX_DELETE, PREFIX_GET, PREFIX_SET, type Prefixes } from './prefixes.ts';
import { isAdminCommand, ProtoAdmin, SILENT } from './proto_admin.ts';
import { ProtoMeta } from './proto_meta.ts';
import { Protocol, type Trace } from './protocol.ts';
import {
  DEFERRED,
  R_BAD_CHUNK,
  R_BAD_DELTA,
  R_BAD_EXPTIME,
  R_BAD_FORMAT,
  R_BAD_SHUTDOWN,
  R_DELETE_USAGE,
  R_DELETED,
  R_DETAIL_USAGE,
  R_END,
  R_ERROR,
  R_EXISTS,
  R_FLUSH_FORBIDDEN,
  R_MN,
  R_NO_DETAIL,
  R_NO_MEMORY,
  R_NO_MEMORY_STORING,
  R_NO_SHUTDOWN,
  R_NO_WATCH,
  R_NON_NUMERIC,
  R_NOT_FOUND,
  R_NOT_STORED,
  R_OK,
  R_PIPELINED_WATCH,
  R_RESET,
  R_STORED,
  R_TOO_LARGE,
  R_TOO_MANY_WATCHERS,
  R_TOUCHED,
  R_VERSION,
  R_WATCHER_FAILED,
  REPLIES,
  REPLY_BYTES_MAX,
} from './replies.ts';
import { COPY_BYTES_MAX, FULL, type Output, PIECE_HEAD, Values } from './values.ts';

/** What the protocol needs of the server around it. */
export interface Host extends Trace {
  /** Region number of the cache's memory in the output's `write`. */
  readonly region: number;
  /** -R */
  readonly requestsPerEvent: number;
  readonly flushEnabled: boolean;
  /** Without -X. */
  readonly dumpEnabled: boolean;
  /** Something was asked of the cache's background work. */
  kick(): void;
  /** Without -W. */
  readonly watchEnabled: boolean;
  /** Log lines of these kinds go to the connection from now on. False: too many watch already. */
  watch(conn: Conn, kinds: number): boolean;
  /** With -A. */
  readonly shutdownEnabled: boolean;
  /** What `stats detail` counts on this worker. */
  readonly prefixes: Prefixes;
  /** The text of `stats` and its subcommands, DEFERRED where it comes later, or undefined where there is none such. */
  stats(conn: Conn, subcommand: string): string | undefined;
  /** Ends the server. */
  shutdown(graceful: boolean): void;
}

/** Tokens that a line is cut into; what follows them is looked at by get alone. */
const TOKENS_MAX = 23;
/** A line may be this long without its end in sight, unless it is a get. */
export const LINE_BYTES_MAX = 2048;
/** Received bytes that a connection may keep waiting: the longest get line. */
export const CARRY_BYTES_MAX = 1024 * 1024;
const NOREPLY = Buffer.from('noreply');
const INT_MAX = 0x7fff_ffff;
const VERBOSITY_MAX = 2;
/** Words that memcached answers with ERROR whatever follows: those that begin as a command, and commands with too few words. */
const ANSWERS_ERROR = /^(?:[acdgist].*|m.|replace|prepend|bget|flush_all|verbosity)$/s;

export class ProtoText extends Protocol {
  private readonly host: Host;
  readonly values: Values;
  private readonly meta: ProtoMeta;
  private readonly admin: ProtoAdmin;
  private readonly out32: Int32Array;
  private readonly seed: number;
  private readonly ahead: Lookahead;
  private readonly tokenStart = new Int32Array(TOKENS_MAX + 1);
  private readonly tokenEnd = new Int32Array(TOKENS_MAX + 1);
  private tokens = 0;
  /** End of the current line's text (its CR LF, LF or NUL). */
  private lineEnd = 0;
  /** Of this run: a command that is no get stood before the present one. */
  private pipelined = false;
  /** Lines are logged, or keys counted: every one takes the long way. */
  private careful = false;

  constructor(cache: Cache, out: Output, host: Host) {
    super(cache, out, host);
    this.host = host;
    this.values = new Values(cache, out, host.region);
    this.meta = new ProtoMeta(cache, out, host, this.values, this.tokenStart, this.tokenEnd);
    this.admin = new ProtoAdmin(cache, host);
    const { buffer, byteOffset, byteLength } = out.memory;
    this.out32 = new Int32Array(buffer, byteOffset, byteLength >> 2);
    this.seed = cache.assoc.seed;
    this.ahead = new Lookahead(cache);
  }

  /**
   * Carries out what stands in bytes[pos, end), and returns how far it came. Short of `end`: the rest of a line is
   * missing, `conn.blocked` says that the output is full, or `conn.yielded` that it is others' turn.
   */
  run(conn: Conn, bytes: Buffer, pos: number, end: number): number {
    this.look();
    let { careful } = this;
    this.pipelined = false;
    const { ahead } = this;
    ahead.reset();
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
          if (at === end) return at;
          // The first command is most often the only one.
          if (at !== pos && ahead.next === ahead.count) ahead.lines(bytes, at, end);
          if (
            !careful &&
            end - at > 6 &&
            bytes[at] === 0x67 &&
            bytes[at + 1] === 0x65 &&
            bytes[at + 2] === 0x74 &&
            bytes[at + 3] === 0x20
          ) {
            // get <one key>\r\n
            const key = at + 4;
            let i = key;
            let h = 0;
            let right = ahead.isAt(key);
            if (right) {
              i = ahead.end[ahead.next];
              h = ahead.hash[ahead.next++];
            } else {
              let c = 0;
              h = this.seed;
              while (i < end && (c = bytes[i]) > 0x20) {
                h = stepHash(h, c);
                i++;
              }
              h = finishHash(h);
              right = c === 0x0d && i + 1 < end && bytes[i + 1] === 0x0a && i > key && i - key <= KEY_BYTES_MAX;
            }
            if (right) {
              if (!this.getOne(conn, bytes, key, i, h)) {
                if (conn.blocked && conn.sendItem === 0) return at;
                conn.state = CONN_KEYS;
                at = i;
                continue;
              }
              at = i + 2;
              continue;
            }
          }
          const next = this.command(conn, bytes, at, end);
          if (next < 0) return at;
          careful = this.careful;
          // A key of mg; get takes its own.
          if (ahead.isAt(at + 3)) ahead.next++;
          at = next;
          break;
        }
        case CONN_NREAD:
          at = this.values.fill(conn, bytes, at, end);
          if (conn.valueLeft > 0 || !this.finishStore(conn)) return at;
          break;
        case CONN_SWALLOW: {
          const count = Math.min(conn.swallowLeft, end - at);
          at += count;
          conn.swallowLeft -= count;
          if (conn.swallowLeft > 0) return at;
          if (conn.swallowReply >= 0 && !this.write(conn, REPLIES[conn.swallowReply])) return at;
          conn.state = CONN_COMMAND;
          break;
        }
        case CONN_KEYS:
          if (!conn.blocked) at = this.keys(conn, bytes, at, end);
          if (conn.blocked) return at;
          break;
        case CONN_SEND:
          if (conn.blocked || !this.values.send(conn)) return at;
          conn.state = CONN_COMMAND;
          break;
        case CONN_DUMP:
          if (conn.blocked || !this.sendDump(conn)) return at;
          conn.state = CONN_COMMAND;
          break;
        case CONN_WAIT:
          return at;
        default:
          return end;
      }
    }
  }

  /** Looks whether lines are to be logged, or keys counted. */
  private look(): void {
    this.careful = this.tells() || this.i32[W_DETAIL] !== 0;
  }

  /** Gives back what a connection that goes away still holds. */
  close(conn: Conn): void {
    conn.state = CONN_CLOSING;
    conn.dump?.stop();
    conn.dump = null;
    this.values.close(conn);
  }

  // ---- replies ---------------------------------------------------------------------------------------------------

  /** Writes a reply of the table. False: no room, the connection is blocked. */
  private reply(conn: Conn, index: number): boolean {
    const text = REPLIES[index];
    const at = this.reserve(conn, text.length);
    if (at < 0) return false;
    this.put(conn, at, text);
    return true;
  }

  /** Room for any reply of the table: its offset, or -1 and the connection is blocked. */
  private room(conn: Conn): number {
    return this.reserve(conn, REPLY_BYTES_MAX);
  }

  /** Writes a reply where `room` said. */
  private put(conn: Conn, at: number, text: Buffer): void {
    const out8 = this.out8;
    for (let i = 0; i < text.length; i++) out8[at + i] = text[i];
    this.commit(conn, text.length);
    this.tell(conn, text);
  }

  /** The same again for the hot path: code that several classes run costs 2.5 ns more for each get. */
  protected override commit(conn: Conn, bytes: number): void {
    this.out.commit(conn.handle, bytes);
    this.f64[this.stats + T_BYTES_WRITTEN] += bytes;
  }

  // ---- get -------------------------------------------------------------------------------------------------------

  /**
   * `get` of one key, reply and END in one piece. False when that is not to be: either the connection is blocked, or
   * the value is a large one, which is on its way in `sendItem`; after it the rest of the line is next.
   */
  private getOne(conn: Conn, bytes: Buffer, start: number, end: number, hash: number): boolean {
    const { out, out8, items, i32, locks } = this;
    locks.lockItem(hash);
    const ref = items.find(bytes, start, end, hash);
    if (ref === 0) {
      locks.unlockItem(hash);
      if (!this.reply(conn, R_END)) return false;
      this.f64[this.stats + T_GET_MISSES] += 1;
      return true;
    }
    const meta = i32[ref * 2 + I_META];
    const length = end - start + ((meta >>> SUFFIX_SHIFT) & SUFFIX_MASK) + i32[ref * 2 + I_NBYTES];
    if ((meta & ITEM_CHUNKED) !== 0 || length > COPY_BYTES_MAX) {
      // Not those of an earlier command.
      conn.withCas = false;
      conn.withTouch = false;
      this.beginSend(conn, ref, meta);
      locks.unlockItem(hash);
      this.sendPieces(conn);
      return false;
    }
    // "VALUE " key suffix data "END\r\n": the item's memory from its lead on, between "VALU" and "END\r\n".
    const at = out.reserve(conn.handle, length + 11 + SLACK_BYTES);
    if (at < 0) {
      locks.unlockItem(hash);
      conn.blocked = true;
      return false;
    }
    copyReply(out8, this.out32, at, this.u8, i32, ref * 2 + (I_LEAD_BYTES >> 2), length + 2);
    items.bump(ref);
    locks.unlockItem(hash);
    const tail = at + 6 + length;
    out8[tail] = 0x45;
    out8[tail + 1] = 0x4e;
    out8[tail + 2] = 0x44;
    out8[tail + 3] = 0x0d;
    out8[tail + 4] = 0x0a;
    this.commit(conn, length + 11);
    this.f64[this.lruHits + ((meta >>> CLASS_SHIFT) & LRU_ID_MASK)] += 1;
    return true;
  }

  /** The keys of a get from `pos` on, and END behind the last. Returns behind the line, or where it got blocked. */
  private keys(conn: Conn, bytes: Buffer, pos: number, end: number): number {
    if (conn.sendItem !== 0 && !this.sendPieces(conn)) return pos;
    const { ahead } = this;
    let i = pos;
    // What was seen ahead were lines, or the keys of another line.
    ahead.keys(bytes, i, end);
    while (ahead.count > 0) {
      for (let n = 0; n < ahead.count; n++) {
        const key = ahead.start[n];
        i = ahead.end[n];
        if (!this.getKey(conn, bytes, key, i, ahead.hash[n])) {
          ahead.reset();
          return conn.sendItem === 0 ? key : i;
        }
      }
      ahead.keys(bytes, i, end);
    }
    while (i < end && bytes[i] === 0x20) i++;
    if (!this.reply(conn, R_END)) return i;
    conn.state = CONN_COMMAND;
    return bytes.indexOf(0x0a, i) + 1;
  }

  /** One key of several. False: blocked, before the item (no `sendItem`) or in the middle of it. */
  private getKey(conn: Conn, bytes: Buffer, start: number, end: number, hash: number): boolean {
    const { items, i32, f64, locks } = this;
    locks.lockItem(hash);
    const ref = items.find(bytes, start, end, hash);
    if (ref === 0) {
      locks.unlockItem(hash);
      if (conn.withTouch) {
        f64[this.stats + T_TOUCH_CMDS] += 1;
        f64[this.stats + T_TOUCH_MISSES] += 1;
      } else {
        f64[this.stats + T_GET_MISSES] += 1;
      }
      if (i32[W_DETAIL] !== 0) this.host.prefixes.count(bytes, start, end, PREFIX_GET);
      return true;
    }
    const meta = i32[ref * 2 + I_META];
    const length = end - start + ((meta >>> SUFFIX_SHIFT) & SUFFIX_MASK) + i32[ref * 2 + I_NBYTES];
    if (conn.withTouch) items.setExpiry(ref, conn.exptime);
    if (conn.withCas || (meta & ITEM_CHUNKED) !== 0 || length > COPY_BYTES_MAX) {
      this.beginSend(conn, ref, meta);
      locks.unlockItem(hash);
      if (i32[W_VERBOSITY] > 1) this.tellSending(conn, bytes, start, end);
      if (i32[W_DETAIL] !== 0) this.host.prefixes.count(bytes, start, end, PREFIX_GET, true);
      return this.sendPieces(conn);
    }
    const at = this.reserve(conn, length + 6 + SLACK_BYTES);
    if (at < 0) {
      locks.unlockItem(hash);
      return false;
    }
    copyReply(this.out8, this.out32, at, this.u8, i32, ref * 2 + (I_LEAD_BYTES >> 2), length + 2);
    items.bump(ref);
    locks.unlockItem(hash);
    this.commit(conn, length + 6);
    this.countHit((meta >>> CLASS_SHIFT) & LRU_ID_MASK, conn.withTouch);
    if (i32[W_VERBOSITY] > 1) this.tellSending(conn, bytes, start, end);
    if (i32[W_DETAIL] !== 0) this.host.prefixes.count(bytes, start, end, PREFIX_GET, true);
    return true;
  }

  private tellSending(conn: Conn, bytes: Buffer, start: number, end: number): void {
    this.trace.log(conn, '>', `sending key ${bytes.toString('latin1', start, end)}`);
  }

  /** Takes an item that is answered in several pieces, under its lock. */
  private beginSend(conn: Conn, ref: number, meta: number): void {
    this.items.hold(ref);
    this.items.bump(ref);
    conn.sendItem = ref;
    conn.sendPiece = PIECE_HEAD;
    this.countHit((meta >>> CLASS_SHIFT) & LRU_ID_MASK, conn.withTouch);
  }

  /** Goes on with `sendItem`: "VALUE" line, then the value. False: blocked on the way. */
  private sendPieces(conn: Conn): boolean {
    const { items, out8, u8 } = this;
    const ref = conn.sendItem;
    if (conn.sendPiece === PIECE_HEAD) {
      const key = items.keyAt(ref);
      const head = items.keyBytes(ref) + items.suffixBytes(ref);
      const at = this.reserve(conn, head + 32);
      if (at < 0) return false;
      let to = at + out8.write('VALUE ', at, 'latin1');
      u8.copy(out8, to, key, key + head);
      to += head;
      if (conn.withCas) {
        // The CAS goes between the suffix and its CR LF.
        out8[to - 2] = 0x20;
        const cas = ref * 2;
        to = writeU64(out8, to - 1, this.i32[cas + I_CAS_HI] >>> 0, this.i32[cas + I_CAS_LO] >>> 0);
        out8[to++] = 0x0d;
        out8[to++] = 0x0a;
      }
      this.commit(conn, to - at);
      this.values.beginSend(conn, items.nbytes(ref));
    }
    return this.values.send(conn);
  }

  /** The channel no longer uses what `write` gave it under this token. */
  written(token: number): void {
    this.values.written(token);
  }

  // ---- values ----------------------------------------------------------------------------------------------------

  /** The value is complete: store it and answer. False: blocked, nothing was done. */
  private finishStore(conn: Conn): boolean {
    if (conn.meta) return this.meta.finishSet(conn);
    const { items } = this;
    let at = -1;
    if (!conn.noreply && (at = this.room(conn)) < 0) return false;
    const ref = conn.item;
    const clsid = items.clsid(ref);
    this.f64[this.classStats + clsid * THREAD_CLASS_COUNTERS + S_SET_CMDS] += 1;
    let reply = R_BAD_CHUNK;
    if (this.values.endsLine(conn, ref)) {
      switch (items.store(ref, conn.hash, conn.mode, conn.casHi, conn.casLo)) {
        case STORED:
          reply = R_STORED;
          break;
        case NOT_STORED:
          reply = R_NOT_STORED;
          break;
        case EXISTS:
          reply = R_EXISTS;
          break;
        case NOT_FOUND:
          reply = R_NOT_FOUND;
          break;
      }
    }
    items.release(ref);
    conn.item = 0;
    conn.state = CONN_COMMAND;
    if (reply === R_EXISTS) this.tellCas(conn);
    if (at >= 0) this.put(conn, at, REPLIES[reply]);
    else this.tellSilent(conn, reply);
    return true;
  }

  // ---- command lines ---------------------------------------------------------------------------------------------

  /**
   * One command line from `pos` on: returns where the next thing begins, or -1 when the line is not complete or its
   * reply finds no room (`conn.blocked`). Then nothing was done.
   */
  private command(conn: Conn, bytes: Buffer, pos: number, end: number): number {
    const { tokenStart, tokenEnd } = this;
    // Tokens are cut at spaces alone; a NUL ends the line's text as it ends a C string.
    let tokens = 0;
    let from = pos;
    let i = pos;
    let text = -1;
    for (; i < end; i++) {
      const c = bytes[i];
      if (c > 0x20) continue;
      if (c === 0x0a) break;
      if (text >= 0) continue;
      if (c === 0x20) {
        if (i > from && tokens < TOKENS_MAX) {
          tokenStart[tokens] = from;
          tokenEnd[tokens++] = i;
        }
        from = i + 1;
      } else if (c === 0) {
        text = i;
      }
    }
    if (i === end) return -1;
    const next = i + 1;
    let lineEnd = i;
    if (i - pos > 1 && bytes[i - 1] === 0x0d) lineEnd = i - 1;
    if (text >= 0 && text < lineEnd) lineEnd = text;
    if (lineEnd > from && tokens < TOKENS_MAX) {
      tokenStart[tokens] = from;
      tokenEnd[tokens++] = lineEnd;
    }
    this.tokens = tokens;
    this.lineEnd = lineEnd;
    if (this.tells()) this.trace.log(conn, '<', bytes.toString('latin1', pos, lineEnd));
    if (tokens === 0 || tokenEnd[0] - tokenStart[0] < 2) return this.reply(conn, R_ERROR) ? next : -1;
    const done = this.dispatch(conn, bytes, next);
    this.pipelined = conn.state !== CONN_KEYS;
    return done;
  }

  private is(bytes: Buffer, token: number, word: string): boolean {
    const start = this.tokenStart[token];
    if (this.tokenEnd[token] - start !== word.length) return false;
    for (let i = 0; i < word.length; i++) if (bytes[start + i] !== word.charCodeAt(i)) return false;
    return true;
  }

  private dispatch(conn: Conn, bytes: Buffer, next: number): number {
    const n = this.tokens;
    switch (bytes[this.tokenStart[0]]) {
      case 0x67: // g
        if (n < 2) break;
        if (this.is(bytes, 0, 'get')) return this.get(conn, bytes, next, false, false);
        if (this.is(bytes, 0, 'gets')) return this.get(conn, bytes, next, true, false);
        if (this.is(bytes, 0, 'gat')) return this.get(conn, bytes, next, false, true);
        if (this.is(bytes, 0, 'gats')) return this.get(conn, bytes, next, true, true);
        break;
      case 0x73: // s
        if (this.is(bytes, 0, 'set')) {
          if (n === 5 || n === 6) return this.update(conn, bytes, next, STORE_SET);
        } else if (this.is(bytes, 0, 'stats')) {
          return this.statistics(conn, bytes, next);
        } else if (this.is(bytes, 0, 'shutdown')) {
          return this.shutdown(conn, bytes, next);
        }
        break;
      case 0x61: // a
        if (n !== 5 && n !== 6) break;
        if (this.is(bytes, 0, 'add')) return this.update(conn, bytes, next, STORE_ADD);
        if (this.is(bytes, 0, 'append')) return this.update(conn, bytes, next, STORE_APPEND);
        break;
      case 0x63: // c
        if (this.is(bytes, 0, 'cas') && (n === 6 || n === 7)) return this.update(conn, bytes, next, STORE_CAS);
        break;
      case 0x69: // i
        if (this.is(bytes, 0, 'incr') && (n === 3 || n === 4)) return this.arithmetic(conn, bytes, next, true);
        break;
      case 0x64: // d
        if (this.is(bytes, 0, 'delete')) {
          if (n >= 2) return this.remove(conn, bytes, next);
        } else if (this.is(bytes, 0, 'decr')) {
          if (n === 3 || n === 4) return this.arithmetic(conn, bytes, next, false);
        }
        break;
      case 0x74: // t
        if (this.is(bytes, 0, 'touch') && (n === 3 || n === 4)) return this.touch(conn, bytes, next);
        break;
      case 0x72: // r
        if (this.is(bytes, 0, 'replace') && (n === 5 || n === 6)) return this.update(conn, bytes, next, STORE_REPLACE);
        break;
      case 0x70: // p
        if (this.is(bytes, 0, 'prepend') && (n === 5 || n === 6)) return this.update(conn, bytes, next, STORE_PREPEND);
        break;
      case 0x62: // b: an ancient name of get that memcached still knows
        if (this.is(bytes, 0, 'bget') && n >= 2) return this.get(conn, bytes, next, false, false);
        break;
      case 0x66: // f
        if (this.is(bytes, 0, 'flush_all') && n <= 3) return this.flushAll(conn, bytes, next);
        break;
      case 0x76: // v
        if (this.is(bytes, 0, 'version')) return this.reply(conn, R_VERSION) ? next : -1;
        if (this.is(bytes, 0, 'verbosity') && (n === 2 || n === 3)) return this.verbosity(conn, bytes, next);
        break;
      case 0x77: // w
        if (this.is(bytes, 0, 'watch')) return this.watch(conn, bytes, next);
        break;
      case 0x71: // q
        if (this.is(bytes, 0, 'quit')) {
          conn.quit = true;
          conn.state = CONN_CLOSING;
          return next;
        }
        break;
      case 0x6d: // m
        if (this.is(bytes, 0, 'mn')) return this.reply(conn, R_MN) ? next : -1;
        if (this.tokenEnd[0] - this.tokenStart[0] === 2) return this.meta.command(conn, bytes, n, next);
        break;
    }
    return this.administer(conn, bytes, next);
  }

  /** Whether the last token asks for silence. */
  private silent(bytes: Buffer): boolean {
    const last = this.tokens - 1;
    const start = this.tokenStart[last];
    if (this.tokenEnd[last] - start !== NOREPLY.length) return false;
    return bytes.compare(NOREPLY, 0, NOREPLY.length, start, start + NOREPLY.length) === 0;
  }

  /** Answers unless the command asked for silence. */
  private answer(conn: Conn, silent: boolean, reply: number, next: number): number {
    if (!silent) return this.reply(conn, reply) ? next : -1;
    this.tellSilent(conn, reply);
    return next;
  }

  /** As `answer`, where `room` found room. */
  private done(conn: Conn, at: number, silent: boolean, reply: number, next: number): number {
    if (silent) this.tellSilent(conn, reply);
    else this.put(conn, at, REPLIES[reply]);
    return next;
  }

  /** `answer`, once the value of `bytes` bytes that follows was dropped. */
  private refuse(conn: Conn, bytes: number, silent: boolean, reply: number, next: number): number {
    if (silent) this.tellSilent(conn, reply);
    return this.swallow(conn, bytes, silent ? -1 : reply, next);
  }

  private hashKey(bytes: Buffer): number {
    let h = this.seed;
    for (let i = this.tokenStart[1]; i < this.tokenEnd[1]; i++) h = stepHash(h, bytes[i]);
    return finishHash(h);
  }

  private keyTooLong(): boolean {
    return this.tokenEnd[1] - this.tokenStart[1] > KEY_BYTES_MAX;
  }

  private get(conn: Conn, bytes: Buffer, next: number, withCas: boolean, withTouch: boolean): number {
    const { decimal, tokenStart, tokenEnd } = this;
    let exptime = 0;
    if (withTouch) {
      if (!decimal.signed32(bytes, tokenStart[1], tokenEnd[1])) return this.answer(conn, false, R_BAD_EXPTIME, next);
      exptime = this.items.expiry(decimal.lo);
    }
    // One key too long makes the whole command an error, so all are checked before the first is answered.
    const first = withTouch ? tokenEnd[1] : tokenStart[1];
    let length = 0;
    for (let i = first; i < this.lineEnd; i++) {
      length = bytes[i] === 0x20 ? 0 : length + 1;
      if (length > KEY_BYTES_MAX) {
        // memcached is about to end its reply when it finds out.
        this.tell(conn, REPLIES[R_END]);
        return this.answer(conn, false, R_BAD_FORMAT, next);
      }
    }
    conn.withCas = withCas;
    conn.withTouch = withTouch;
    conn.exptime = exptime;
    conn.state = CONN_KEYS;
    return first;
  }

  /** set, add, replace, append, prepend, cas. */
  private update(conn: Conn, bytes: Buffer, next: number, mode: number): number {
    const { decimal, items, tokenStart, tokenEnd } = this;
    const silent = this.silent(bytes);
    if (!decimal.signed32(bytes, tokenStart[4], tokenEnd[4]) || decimal.lo < 0 || decimal.lo > INT_MAX - 2) {
      return this.answer(conn, silent, R_BAD_FORMAT, next);
    }
    const nbytes = decimal.lo + 2;
    if (this.keyTooLong() || !decimal.unsigned(bytes, tokenStart[2], tokenEnd[2])) {
      return this.refuse(conn, nbytes, silent, R_BAD_FORMAT, next);
    }
    const flags = decimal.lo;
    if (!decimal.signed32(bytes, tokenStart[3], tokenEnd[3])) {
      return this.refuse(conn, nbytes, silent, R_BAD_FORMAT, next);
    }
    const exptime = items.expiry(decimal.lo);
    let casHi = 0;
    let casLo = 0;
    if (mode === STORE_CAS) {
      if (!decimal.unsigned(bytes, tokenStart[5], tokenEnd[5])) {
        return this.refuse(conn, nbytes, silent, R_BAD_FORMAT, next);
      }
      casHi = decimal.hi;
      casLo = decimal.lo;
    }
    if (this.i32[W_DETAIL] !== 0) this.host.prefixes.count(bytes, tokenStart[1], tokenEnd[1], PREFIX_SET);
    const hash = this.hashKey(bytes);
    const ref = items.alloc(bytes, tokenStart[1], tokenEnd[1], flags, exptime, nbytes);
    if (ref === 0) {
      const tooLarge = this.countRefused(bytes, tokenStart[1], tokenEnd[1], mode);
      // A set that fails must not leave the value it was to replace.
      if (mode === STORE_SET) items.remove(bytes, tokenStart[1], tokenEnd[1], hash);
      // Running out of memory is told even to those who asked for silence.
      return this.refuse(conn, nbytes, silent && tooLarge, tooLarge ? R_TOO_LARGE : R_NO_MEMORY_STORING, next);
    }
    conn.state = CONN_NREAD;
    conn.hash = hash;
    conn.mode = mode;
    conn.casHi = casHi;
    conn.casLo = casLo;
    conn.noreply = silent;
    conn.meta = false;
    this.values.beginFill(conn, ref, nbytes);
    return next;
  }

  private arithmetic(conn: Conn, bytes: Buffer, next: number, incr: boolean): number {
    const { decimal, items, tokenStart, tokenEnd } = this;
    const silent = this.silent(bytes);
    if (this.keyTooLong()) return this.answer(conn, silent, R_BAD_FORMAT, next);
    if (!decimal.unsigned(bytes, tokenStart[2], tokenEnd[2])) return this.answer(conn, silent, R_BAD_DELTA, next);
    let at = -1;
    if (!silent && (at = this.room(conn)) < 0) return -1;
    const { hi, lo } = decimal;
    const result = items.delta(bytes, tokenStart[1], tokenEnd[1], this.hashKey(bytes), incr, hi, lo);
    if (result !== DELTA_OK) {
      const reply =
        result === DELTA_NOT_FOUND ? R_NOT_FOUND : result === DELTA_NON_NUMERIC ? R_NON_NUMERIC : R_NO_MEMORY;
      return this.done(conn, at, silent, reply, next);
    }
    if (this.tells()) {
      const digits = items.numberBytes.toString('latin1', 0, items.numberLength);
      this.trace.log(conn, '>', silent ? `NOREPLY ${digits}` : digits);
    }
    if (!silent) {
      let length = items.numberLength;
      for (let i = 0; i < length; i++) this.out8[at + i] = items.numberBytes[i];
      this.out8[at + length++] = 0x0d;
      this.out8[at + length++] = 0x0a;
      this.commit(conn, length);
    }
    return next;
  }

  private remove(conn: Conn, bytes: Buffer, next: number): number {
    const { f64, tokenStart, tokenEnd } = this;
    const silent = this.tokens > 2 && this.silent(bytes);
    for (let token = 2; token < this.tokens - (silent ? 1 : 0); token++) {
      if (!this.decimal.signed32(bytes, tokenStart[token], tokenEnd[token])) {
        if (this.tokens > 4) return this.answer(conn, false, R_ERROR, next);
        return this.answer(conn, silent, R_DELETE_USAGE, next);
      }
    }
    if (this.keyTooLong()) return this.answer(conn, silent, R_BAD_FORMAT, next);
    let at = -1;
    if (!silent && (at = this.room(conn)) < 0) return -1;
    if (this.i32[W_DETAIL] !== 0) this.host.prefixes.count(bytes, tokenStart[1], tokenEnd[1], PREFIX_DELETE);
    const clsid = this.items.remove(bytes, tokenStart[1], tokenEnd[1], this.hashKey(bytes));
    if (clsid < 0) f64[this.stats + T_DELETE_MISSES] += 1;
    else f64[this.classStats + clsid * THREAD_CLASS_COUNTERS + S_DELETE_HITS] += 1;
    return this.done(conn, at, silent, clsid < 0 ? R_NOT_FOUND : R_DELETED, next);
  }

  private touch(conn: Conn, bytes: Buffer, next: number): number {
    const { decimal, items, f64, tokenStart, tokenEnd } = this;
    const silent = this.silent(bytes);
    if (this.keyTooLong()) return this.answer(conn, silent, R_BAD_FORMAT, next);
    if (!decimal.signed32(bytes, tokenStart[2], tokenEnd[2])) return this.answer(conn, silent, R_BAD_EXPTIME, next);
    let at = -1;
    if (!silent && (at = this.room(conn)) < 0) return -1;
    const exptime = items.expiry(decimal.lo);
    const clsid = items.touch(bytes, tokenStart[1], tokenEnd[1], this.hashKey(bytes), exptime);
    f64[this.stats + T_TOUCH_CMDS] += 1;
    if (clsid < 0) f64[this.stats + T_TOUCH_MISSES] += 1;
    else f64[this.classStats + clsid * THREAD_CLASS_COUNTERS + S_TOUCH_HITS] += 1;
    return this.done(conn, at, silent, clsid < 0 ? R_NOT_FOUND : R_TOUCHED, next);
  }

  private flushAll(conn: Conn, bytes: Buffer, next: number): number {
    const silent = this.silent(bytes);
    const at = silent ? -1 : this.room(conn);
    if (at < 0 && !silent) return -1;
    this.f64[this.stats + T_FLUSH_CMDS] += 1;
    let reply = R_OK;
    let exptime = 0;
    if (!this.host.flushEnabled) {
      reply = R_FLUSH_FORBIDDEN;
    } else if (this.tokens !== (silent ? 2 : 1)) {
      if (this.decimal.signed32(bytes, this.tokenStart[1], this.tokenEnd[1])) exptime = this.decimal.lo;
      else reply = R_BAD_EXPTIME;
    }
    if (reply === R_OK) this.items.flushAll(exptime);
    return this.done(conn, at, silent, reply, next);
  }

  private verbosity(conn: Conn, bytes: Buffer, next: number): number {
    const silent = this.silent(bytes);
    if (!this.decimal.unsigned(bytes, this.tokenStart[1], this.tokenEnd[1])) {
      return this.answer(conn, silent, R_BAD_FORMAT, next);
    }
    const at = silent ? -1 : this.room(conn);
    if (at < 0 && !silent) return -1;
    // Its own reply is told already, or no more.
    this.i32[W_VERBOSITY] = this.decimal.hi === 0 ? Math.min(this.decimal.lo, VERBOSITY_MAX) : VERBOSITY_MAX;
    this.look();
    return this.done(conn, at, silent, R_OK, next);
  }

  // ---- commands for operators --------------------------------------------------------------------------------------

  private words(bytes: Buffer): string[] {
    const words: string[] = [];
    for (let i = 0; i < this.tokens; i++) words.push(bytes.toString('latin1', this.tokenStart[i], this.tokenEnd[i]));
    return words;
  }

  /** What no client but an operator's sends; anything else is an error. */
  private administer(conn: Conn, bytes: Buffer, next: number): number {
    const words = this.words(bytes);
    if (!isAdminCommand(words[0]!)) {
      // A browser that a page or a scanner aimed here is hung up on, before it takes the body for commands.
      if (words.at(-1)!.startsWith('HTTP/') && !ANSWERS_ERROR.test(words[0]!)) {
        conn.state = CONN_CLOSING;
        return next;
      }
      return this.reply(conn, R_ERROR) ? next : -1;
    }
    const at = this.room(conn);
    if (at < 0) return -1;
    // A few bytes with a forged sender must not make a hundred megabytes.
    const reply = this.admin.command(words, this.pipelined, this.host.dumpEnabled && !conn.isDatagram);
    if (reply instanceof Dump) {
      conn.dump = reply;
      conn.state = CONN_DUMP;
    } else {
      if (!reply.startsWith(SILENT)) this.put(conn, at, Buffer.from(reply, 'latin1'));
      else if (this.tells()) this.trace.log(conn, '>', reply.trimEnd());
      this.host.kick();
    }
    return next;
  }

  /** Goes on with a dump. False: blocked on the way. */
  private sendDump(conn: Conn): boolean {
    const { out8 } = this;
    for (;;) {
      const at = this.reserve(conn, DUMP_LINE_BYTES_MAX);
      if (at < 0) return false;
      const line = conn.dump!.next();
      this.commit(conn, out8.write(line ?? conn.dump!.end, at, 'latin1'));
      if (line === undefined) break;
    }
    conn.dump = null;
    return true;
  }

  /** The `stats sizes` family, for the binary protocol; undefined for anything else. */
  sizesStats(subcommand: string): string | undefined {
    return subcommand.startsWith('sizes') ? this.admin.stats(['stats', subcommand], false) : undefined;
  }

  private statistics(conn: Conn, bytes: Buffer, next: number): number {
    const own = this.admin.stats(this.words(bytes), this.host.dumpEnabled);
    if (own !== undefined) return this.writeStats(conn, own) ? next : -1;
    const subcommand = this.tokens < 2 ? '' : bytes.toString('latin1', this.tokenStart[1], this.tokenEnd[1]);
    if (subcommand === 'detail') return this.statsDetail(conn, bytes, next);
    const text = this.host.stats(conn, subcommand);
    if (text === undefined) return this.answer(conn, false, R_ERROR, next);
    if (text === 'RESET') return this.answer(conn, false, R_RESET, next);
    if (text === DEFERRED) {
      conn.state = CONN_WAIT;
      return next;
    }
    return this.writeStats(conn, text) ? next : -1;
  }

  /** Sends the text of a `stats`. False: no room, the connection is blocked. */
  writeStats(conn: Conn, text: string): boolean {
    const reply = Buffer.from(text, 'latin1');
    if (this.out.writeCopy(conn.handle, reply, 0, reply.length) === FULL) {
      conn.blocked = true;
      return false;
    }
    this.f64[this.stats + T_BYTES_WRITTEN] += reply.length;
    return true;
  }

  private statsDetail(conn: Conn, bytes: Buffer, next: number): number {
    if (!this.host.dumpEnabled) return this.answer(conn, false, R_NO_DETAIL, next);
    const mode = this.tokens < 3 ? '' : bytes.toString('latin1', this.tokenStart[2], this.tokenEnd[2]);
    if (mode === 'dump') {
      const text = this.host.stats(conn, 'detail dump');
      if (text === undefined) return this.answer(conn, false, R_ERROR, next);
      if (text !== DEFERRED) return this.writeStats(conn, text) ? next : -1;
      conn.state = CONN_WAIT;
      return next;
    }
    if (mode !== 'on' && mode !== 'off') return this.answer(conn, false, R_DETAIL_USAGE, next);
    const done = this.answer(conn, false, R_OK, next);
    if (done >= 0) this.host.prefixes.enable(mode === 'on');
    this.look();
    return done;
  }

  /** `watch [kind …]`: from then on the connection gets log lines, and says nothing more. */
  private watch(conn: Conn, bytes: Buffer, next: number): number {
    if (!this.host.watchEnabled) return this.answer(conn, false, R_NO_WATCH, next);
    if (this.pipelined) return this.answer(conn, false, R_PIPELINED_WATCH, next);
    const words = this.words(bytes).slice(1);
    let kinds = 0;
    for (const word of words.length === 0 ? ['fetchers'] : words) {
      if (!Object.hasOwn(LOG_KINDS, word)) return this.answer(conn, false, R_ERROR, next);
      kinds |= LOG_KINDS[word]!;
    }
    if (conn.isDatagram) return this.answer(conn, false, R_WATCHER_FAILED, next);
    const at = this.room(conn);
    if (at < 0) return -1;
    const watching = this.host.watch(conn, kinds);
    this.put(conn, at, REPLIES[watching ? R_OK : R_TOO_MANY_WATCHERS]);
    if (watching) conn.state = CONN_WATCH;
    return next;
  }

  /** `shutdown` and `shutdown graceful`, where -A allows them: no reply, the connection ends with the server. */
  private shutdown(conn: Conn, bytes: Buffer, next: number): number {
    if (!this.host.shutdownEnabled) return this.answer(conn, false, R_NO_SHUTDOWN, next);
    const graceful = this.tokens > 1;
    if (graceful && !this.is(bytes, 1, 'graceful')) return this.answer(conn, false, R_BAD_SHUTDOWN, next);
    this.host.shutdown(graceful);
    conn.quit = true;
    conn.state = CONN_CLOSING;
    return next;
  }
}
