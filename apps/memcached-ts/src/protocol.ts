/**
 * What the protocols have in common: their views over the cache and the output, room in it, and what they count.
 *
 * Invariant: `reserve` either gives room or marks the connection as blocked; whoever finds no room has changed nothing yet.
 * Not its job: any one protocol (proto_text.ts, proto_meta.ts, proto_bin.ts, proto_auth.ts), values (values.ts).
 */
import { CONN_SWALLOW, type Conn } from './conn.ts';
import type { Assoc } from './engine/assoc.ts';
import type { Cache } from './engine/cache.ts';
import type { Items } from './engine/items.ts';
import { CLASS_MASK, THREAD_CLASS_COUNTERS, W_VERBOSITY } from './engine/layout.ts';
import type { Locks } from './engine/locks.ts';
import {
  S_TOUCH_HITS,
  T_BYTES_WRITTEN,
  T_STORE_NO_MEMORY,
  T_STORE_TOO_LARGE,
  T_TOUCH_CMDS,
  threadBase,
  threadClassBase,
  threadLruHits,
} from './engine/stats.ts';
import type { Decimal } from './numbers.ts';
import { REPLIES } from './replies.ts';
import type { Output } from './values.ts';

/** First byte of a binary request, which tells a connection's protocol; bytes of the header it stands in. */
export const MAGIC_REQUEST = 0x80;
export const HEADER_BYTES = 24;

/** Where the words of -vv go. Asked for by nobody else: who makes them looks at the verbosity first. */
export interface Trace {
  /** A line about what a connection was sent (`>`) or has sent (`<`). */
  log(conn: Conn, direction: '<' | '>', text: string): void;
  /** A line that does not begin with a connection. */
  note(text: string): void;
  /** The number that `log` shows for a connection. */
  number(conn: Conn): number;
}

export abstract class Protocol {
  protected readonly trace: Trace;
  protected readonly out: Output;
  /** The output's memory. */
  protected readonly out8: Buffer;
  protected readonly items: Items;
  protected readonly locks: Locks;
  protected readonly assoc: Assoc;
  protected readonly decimal: Decimal;
  protected readonly i32: Int32Array;
  protected readonly u8: Buffer;
  protected readonly f64: Float64Array;
  /** Indices in `f64` of this thread's counters: its own, those of slab classes, and hits of LRU lists. */
  protected readonly stats: number;
  protected readonly classStats: number;
  protected readonly lruHits: number;

  constructor(cache: Cache, out: Output, trace: Trace) {
    this.trace = trace;
    this.out = out;
    const { buffer, byteOffset, byteLength } = out.memory;
    this.out8 = Buffer.from(buffer, byteOffset, byteLength);
    this.items = cache.items;
    this.locks = cache.locks;
    this.assoc = cache.assoc;
    this.decimal = cache.decimal;
    this.i32 = cache.memory.i32;
    this.u8 = cache.memory.u8;
    this.f64 = cache.memory.f64;
    this.stats = threadBase(cache.thread);
    this.classStats = threadClassBase(cache.thread);
    this.lruHits = threadLruHits(cache.thread);
  }

  /** Room for that many bytes: its offset in `out8`, or -1 and the connection is blocked. */
  protected reserve(conn: Conn, bytes: number): number {
    const at = this.out.reserve(conn.handle, bytes);
    if (at < 0) conn.blocked = true;
    return at;
  }

  /** What was written where `reserve` said goes out. */
  protected commit(conn: Conn, bytes: number): void {
    this.out.commit(conn.handle, bytes);
    this.f64[this.stats + T_BYTES_WRITTEN] += bytes;
  }

  /** Whether -vv, or `verbosity 2`, asks for every command and reply. */
  protected tells(): boolean {
    return this.i32[W_VERBOSITY] > 1;
  }

  /** -vv: a reply, which ends in CR LF. */
  protected tell(conn: Conn, text: Buffer): void {
    if (this.tells()) this.trace.log(conn, '>', text.toString('latin1', 0, text.length - 2));
  }

  /** -vv: the reply that a client asked not to be sent, an index of the table of replies. */
  protected tellSilent(conn: Conn, reply: number): void {
    if (this.tells()) this.trace.log(conn, '>', `NOREPLY ${REPLIES[reply].toString('latin1').trimEnd()}`);
  }

  /** -vv: the CAS of the last store was not its item's. */
  protected tellCas(conn: Conn): void {
    if (!this.tells()) return;
    const { refusedCasHi, refusedCasLo } = this.items;
    const [want, got] = [u64(refusedCasHi, refusedCasLo), u64(conn.casHi, conn.casLo)] as const;
    this.trace.note(`CAS:  failure: expected ${want}, got ${got}`);
  }

  /** Writes `text`. False: no room, the connection is blocked. */
  protected say(conn: Conn, text: Buffer): boolean {
    if (!this.write(conn, text)) return false;
    this.tell(conn, text);
    return true;
  }

  /** As `say`, for what was told already. */
  protected write(conn: Conn, text: Buffer): boolean {
    const at = this.reserve(conn, text.length);
    if (at < 0) return false;
    text.copy(this.out8, at);
    this.commit(conn, text.length);
    return true;
  }

  /** The next `bytes` are dropped, then `reply` is sent (an index of the table of replies, -1 none). Gives `next`. */
  protected swallow(conn: Conn, bytes: number, reply: number, next: number): number {
    if (reply >= 0) this.tell(conn, REPLIES[reply]);
    conn.state = CONN_SWALLOW;
    conn.swallowLeft = bytes;
    conn.swallowReply = reply;
    return next;
  }

  /** As `refused`, and counts it. */
  protected countRefused(bytes: Buffer, start: number, end: number, mode: number): boolean {
    const tooLarge = this.refused(bytes, start, end, mode);
    this.f64[this.stats + (tooLarge ? T_STORE_TOO_LARGE : T_STORE_NO_MEMORY)] += 1;
    return tooLarge;
  }

  /** The last `alloc` of an item for a store of this mode found no room: whether it can never fit. */
  protected refused(bytes: Buffer, start: number, end: number, mode: number): boolean {
    const { tooLarge, log } = this.items;
    if (log !== null) log.refused(bytes, start, end, tooLarge ? 'too_large' : 'no_memory', mode);
    return tooLarge;
  }

  /** A hit of an item in `list`: of a get, or of a get that also gave it a new expiry. */
  protected countHit(list: number, touches: boolean): void {
    if (touches) {
      this.f64[this.stats + T_TOUCH_CMDS] += 1;
      this.f64[this.classStats + (list & CLASS_MASK) * THREAD_CLASS_COUNTERS + S_TOUCH_HITS] += 1;
    } else {
      this.f64[this.lruHits + list] += 1;
    }
  }
}

/** A CAS as memcached prints it. */
function u64(hi: number, lo: number): bigint {
  return (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
}
