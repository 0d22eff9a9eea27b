/**
 * Sending: answers in pieces to the channel, as much as it takes, with bounded memory.
 *
 * What it is for: the queue of an answer's parts (bytes, kept files, files that are read as they go, streams), limit_rate, and the
 * deadline of the client that takes them. Invariants: parts go out in order; the request ends when the last is taken; memory
 * of a kept file is released only by onWritten. Not its job: what an answer says (output.ts), what follows its end (closing.ts).
 */

import { type Handle, SLOT_MASK, Write } from '@megapipe/core';
import { parseSize } from '../conf/units.ts';
import { strerror } from '../log/errno.ts';
import { partHead } from '../modules/range/filter.ts';
import { latin1Bytes, writeLatin1 } from './bytes.ts';
import { abort, requestDone } from './closing.ts';
import { type Connection, type OutItem, State } from './connection.ts';
import type { Engine } from './engine.ts';
import type { EngineChannel } from './engine-options.ts';
import type { FileCache, FileEntry } from './file-cache.ts';
import { FilePieces, FileReader } from './file-pieces.ts';
import { CONTINUE } from './output.ts';
import { MEMO_HEAD_MAX, type Prepared } from './prepared.ts';
import type { Request } from './request.ts';
import { type BodyStream, BytesStream, behind, END, FileStream, NOT_YET, type Piece } from './stream.ts';

/** A kept file goes out in one piece: a MiB in pieces of 128 KiB costs 1.5 times as much. */
const KEPT_PIECE_BYTES = 1024 * 1024;
/** How much of an answer may be under way for one send_timeout: within a piece no progress is to be seen. */
const PROGRESS_BYTES = 256 * 1024;
/** Pieces of a kept file that the channel has at a time. Of other files one, while the next is read. */
const PIECES_IN_FLIGHT = 2;
/** A paced answer goes on when so much is allowed: not at the first byte, since pieces of some size cost less. */
const PACED_BYTES = 16 * 1024;
/** Longest answer that is put together in one reservation. */
const RESERVE_MAX = 65_536;

export class Sender {
  private readonly engine: Engine;
  private readonly channel: EngineChannel;
  private readonly memory: Uint8Array;
  private readonly files: FileCache;
  private readonly fileRegion: number;
  readonly pieces: FilePieces;

  /* Writes in flight, by token: a kept file, or a piece's place and size. */
  private readonly tokenFile: (FileEntry | null)[] = [];
  private readonly tokenOffset: number[] = [];
  private readonly tokenLength: number[] = [];
  private readonly tokenSpace: number[] = [];
  private readonly freeTokens: number[] = [];

  constructor(engine: Engine, channel: EngineChannel, files: FileCache) {
    this.engine = engine;
    this.channel = channel;
    this.memory = channel.memory;
    this.files = files;
    this.fileRegion = channel.registerRegion(files.memory);
    this.pieces = new FilePieces(channel);
  }

  /** Sends an answer that can be kept, and keeps it. */
  emitPrepared(r: Request, prepared: Prepared): void {
    const c = r.connection;
    if (prepared.dateTick !== this.engine.tick) this.engine.replay.redate(prepared);
    r.headerBytes = prepared.headerLength;
    r.bytesSent += prepared.bytes.length;
    if (r.pure && r.headEnd <= MEMO_HEAD_MAX && r.validUntil > this.engine.tick && !this.engine.exiting)
      this.engine.replay.remember(c, r, prepared);
    this.put(c, prepared.bytes);
    if (prepared.file !== null) this.queueKept(c, prepared.file, 0, prepared.file.size);
    this.sendRest(c, r);
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
  emitStream(r: Request, header: string, body: BodyStream): void {
    let stream = body;
    const c = r.connection;
    const { serial } = c;
    r.headerBytes = header.length;
    if (r.headerWaits) stream = behind(latin1Bytes(header), stream);
    else {
      r.bytesSent += header.length;
      this.put(c, latin1Bytes(header));
    }
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
    if (fd >= 0) return new FileStream(this.pieces, fd, file.path, file.size);
    this.engine.logError(r, 'crit', `open() "${file.path}" failed (${strerror(fd)})`);
    return null;
  }

  /** 100 Continue. */
  interim(c: Connection): void {
    if (this.channel.writeCopy(c.handle, CONTINUE, 0, CONTINUE.length) === Write.Full) {
      c.queue.push(bytesItem(CONTINUE));
    }
    if (c.request !== null) c.request.bytesSent += CONTINUE.length;
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
      const head = latin1Bytes(partHead(r, start, end));
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
      c.queue.push(bytesItem(file.body.slice(start, end)));
      r.bytesSent += end - start;
      return;
    }
    if (file.offset >= 0) {
      this.queueKept(c, file, start, end);
      return;
    }
    const fd = this.files.openFile(file);
    if (fd < 0) {
      this.engine.logError(r, 'crit', `open() "${file.path}" failed (${strerror(fd)})`);
      c.failed = true;
      return;
    }
    const { serial } = c;
    const reader = new FileReader(this.pieces, fd, file.path, start, end, () => {
      if (c.serial !== serial || c.state !== State.Busy) return;
      this.pump(c);
      this.sendDeadline(c);
    });
    c.queue.push({ ...bytesItem(null), reader, left: end - start });
  }

  /** Bytes of a kept file; the item holds a reference until it is done. */
  queueKept(c: Connection, file: FileEntry, start: number, end: number): void {
    this.files.retain(file);
    c.queue.push({ ...bytesItem(null), file, offset: file.offset + start, left: end - start });
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
    // A copy: the bytes of a file that passes are another's before they are sent.
    this.put(c, body.slice());
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
      abort(c);
      return;
    }
    if (c.queue.length === 0 && c.inFlight === 0) {
      requestDone(c);
      return;
    }
    // What comes later must not depend on the buffer that is about to be reused.
    r.detach();
    this.pump(c);
    this.sendDeadline(c);
  }

  /** Hands queued pieces to the channel; ends the request when none is left and none is in flight. */
  pump(c: Connection): void {
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
      if (c.inFlight >= (item.reader === null ? PIECES_IN_FLIGHT : 1)) return;
      const more =
        item.file !== null
          ? this.pumpKept(c, item, item.file, allowed)
          : this.pumpFile(c, item, item.reader as FileReader, allowed);
      if (!more) return;
      if (item.left === 0) {
        this.release(item);
        queue.shift();
      }
    }
    if (c.inFlight === 0 && c.state === State.Busy && !c.failed) requestDone(c);
  }

  /** limit_rate for the answer that begins. */
  private setRate(c: Connection, r: Request): void {
    const { conf } = r.location;
    c.rate = 0;
    if (r.limitRate === null && conf.limitRate === '0') return;
    c.rate = r.limitRate ?? parseSize(r.location.limitRate(r)) ?? 0;
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
    const ms = Math.ceil(((deficit + Math.min(c.rate / 10, PACED_BYTES)) * 1000) / c.rate);
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
        if (c.request !== null)
          this.engine.logError(c.request, 'alert', `body filter failed: ${(error as Error).message}`);
        // What was promised cannot be sent any more; only a broken connection tells the client.
        abort(c);
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

  /** Sends the piece that was read, and has the next one read meanwhile. */
  private pumpFile(c: Connection, item: OutItem, reader: FileReader, allowed: number): boolean {
    const { at, length, space } = reader;
    if (length === 0) {
      if (reader.failure === 0) reader.ahead(allowed);
      else this.fileFailed(c, reader);
      return false;
    }
    const token = this.token(null, at, length, space);
    if (this.channel.write(c.handle, this.pieces.region, at, length, token) === Write.Full) {
      this.freeTokens.push(token);
      return false;
    }
    reader.taken();
    c.inFlight++;
    c.inFlightBytes += length;
    c.rateSent += length;
    item.left -= length;
    // What a paced answer may send next is not known yet.
    if (c.rate === 0) reader.ahead(allowed);
    return true;
  }

  /** The promised length cannot be kept; only a broken connection tells the client. */
  private fileFailed(c: Connection, reader: FileReader): void {
    if (c.request !== null) {
      const level = reader.failure < 0 ? 'alert' : 'crit';
      this.engine.logError(c.request, level, `${reader.trouble} while sending response to client`);
    }
    abort(c);
  }

  /** While an answer is under way: the time until the next piece of it must have been taken. None while a disk is waited for. */
  sendDeadline(c: Connection): void {
    if (c.state !== State.Busy || c.ratePaused) return;
    if (c.inFlight === 0 && c.queue[0]?.reader?.reading === true) {
      this.channel.setDeadline(c.handle, 0);
      return;
    }
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

  /** The connection is gone: nothing of its answer goes out any more. */
  clearQueue(c: Connection): void {
    for (const item of c.queue) this.release(item);
    c.queue.length = 0;
  }

  private release(item: OutItem): void {
    if (item.file !== null) this.files.release(item.file);
    item.stream?.close();
    item.stream = null;
    item.reader?.close();
    item.reader = null;
  }

  /** The channel is done with a write: its memory is free, and there is room for more. */
  onWritten(handle: Handle, token: number, errno: number): void {
    const file = this.tokenFile[token] as FileEntry | null;
    const length = this.tokenLength[token] as number;
    this.tokenFile[token] = null;
    this.freeTokens.push(token);
    if (file !== null) this.files.release(file);
    else this.pieces.give(this.tokenOffset[token] as number, this.tokenSpace[token] as number);
    const c = this.engine.connections[handle & SLOT_MASK] as Connection;
    if (c.handle !== handle || c.state === State.Free) return;
    c.inFlight--;
    c.inFlightBytes -= length;
    if (errno !== 0) {
      c.failed = true;
      // A client that had ended its side before: its end was told already, and nothing else will be.
      if (c.state === State.Busy) abort(c);
      return;
    }
    if (c.request !== null) c.request.bytesSent += length;
    if (c.state === State.Busy) {
      this.pump(c);
      this.sendDeadline(c);
    }
  }
}

function bytesItem(bytes: Uint8Array | null): OutItem {
  return { bytes, file: null, reader: null, offset: 0, left: 0, stream: null, rest: null };
}
