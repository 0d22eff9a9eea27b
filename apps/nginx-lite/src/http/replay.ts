/**
 * Answers from memory: a request head that was answered before is recognised by its bytes.
 *
 * What it is for: finding the memo for the bytes that arrived, and sending its answer again. Invariant: see prepared.ts. Not its job:
 * which answers may be kept (phases mark the request, sender.ts asks).
 */

import { memoLog } from '../modules/log/writer.ts';
import { endConnection } from './closing.ts';
import { type Connection, State } from './connection.ts';
import type { Engine } from './engine.ts';
import type { EngineChannel } from './engine-options.ts';
import { isFor, MEMO_HEAD_MAX, Memo, MemoTable, type Prepared } from './prepared.ts';
import type { Request } from './request.ts';

export class Replay {
  private readonly engine: Engine;
  private readonly channel: EngineChannel;
  private readonly memory: Uint8Array;
  private readonly memos = new MemoTable();
  private last: Memo | null = null;

  constructor(engine: Engine, channel: EngineChannel) {
    this.engine = engine;
    this.channel = channel;
    this.memory = channel.memory;
  }

  /** Forgets everything. */
  clear(): void {
    this.memos.clear();
    this.last = null;
  }

  /**
   * Answers a request that was answered before: the bytes it took, 0 when it is not known, -1 when the channel is full.
   */
  answer(c: Connection, buf: Uint8Array, pos: number, end: number): number {
    let memo = c.memo ?? this.last;
    const tick = this.engine.tick;
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
    if (memo.guards !== null && !isFor(memo, c)) return 0;
    const prepared = memo.prepared;
    const handle = c.handle;
    const length = prepared.bytes.length;
    const at = this.channel.reserve(handle, length);
    if (at < 0) return -1;
    if (prepared.dateTick !== tick) this.redate(prepared);
    this.memory.set(prepared.bytes, at);
    this.channel.commit(handle, length);
    c.memo = memo;
    this.last = memo;
    c.requests++;
    this.engine.countRequest();
    if (memo.log !== null) memo.log.write(c);
    if (prepared.file !== null) {
      c.rate = 0;
      c.keepalive = prepared.keepalive;
      c.location = memo.location;
      this.engine.sender.queueKept(c, prepared.file, 0, prepared.file.size);
      c.state = State.Busy;
      c.restBuf = buf;
      c.restStart = pos + memo.length;
      c.restEnd = end;
      this.engine.sender.pump(c);
      this.engine.sender.sendDeadline(c);
    } else if (prepared.keepalive) this.channel.setDeadline(handle, memo.keepaliveMs);
    else {
      c.location = memo.location;
      endConnection(c, pos + memo.length < end);
    }
    return memo.length;
  }

  private lookUp(c: Connection, buf: Uint8Array, pos: number, end: number): Memo | null {
    const hash = headHash(buf, pos, end);
    if (hash === 0) return null;
    const memo = this.memos.get(hash, c.listen);
    if (
      memo === null ||
      memo.validUntil <= this.engine.tick ||
      !memo.prepared.alive ||
      !startsWith(buf, pos, end, memo.key, memo.length)
    ) {
      return null;
    }
    return memo;
  }

  /** The next request with the same head is answered from memory. */
  remember(c: Connection, r: Request, prepared: Prepared): void {
    const sent = r.bytesSent;
    r.bytesSent += prepared.file?.size ?? 0;
    const log = memoLog(r);
    r.bytesSent = sent;
    if (log === undefined) return;
    const key = r.buf.slice(r.base, r.base + r.headEnd);
    const memo = new Memo(
      key,
      headHash(key, 0, key.length),
      c.listen,
      prepared,
      r.validUntil,
      r.location,
      log,
      r.guards,
    );
    this.memos.put(memo);
    this.last = memo;
    c.memo = memo;
  }

  /** The Date of the second that it is. */
  redate(prepared: Prepared): void {
    prepared.dateTick = this.engine.tick;
    prepared.bytes.set(this.engine.dateBytes, prepared.dateOffset);
  }
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
