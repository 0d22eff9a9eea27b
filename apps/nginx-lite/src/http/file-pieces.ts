/**
 * Pieces of files that are too large to be kept: memory for them, and reading ahead into it.
 *
 * What it is for: while one piece of a file is on its way to the client, the next is read through the channel, so that neither
 * the disk nor the client waits for the other, and the thread for none. Invariants: a reader holds one piece at most (being read, or
 * read and not yet taken); a descriptor stays open and a piece stays taken until the read into it has ended, also when nobody wants
 * it any more; all pieces together fit in STREAM_BYTES. Not its job: sending (sender.ts), what a file is (file-cache.ts).
 */

import { closeSync } from 'node:fs';
import { strerror } from '../log/errno.ts';
import type { EngineChannel } from './engine-options.ts';
import { Extents } from './extents.ts';

/** A MiB at a time costs a third of what 128 KiB do (bench/JOURNAL.md). */
const PIECE_MAX = 1024 * 1024;
/** The first piece: a client has to show that it takes more. */
const PIECE_FIRST = 128 * 1024;
/** Pieces for clients that are slow, and for all when memory is short; then when next to nothing is left. */
const PIECE_SMALL = 16 * 1024;
const PIECE_MIN = 4 * 1024;
/** Memory for pieces of all connections. */
const STREAM_BYTES = 64 * 1024 * 1024;
/** A client that takes a piece in less is fast, one that takes longer than the other is slow. */
const FAST_MS = 100;
const SLOW_MS = 1000;

/** The memory of one engine, and its reads in flight. */
export class FilePieces {
  readonly bytes: Uint8Array;
  /** The same memory by the name that the channel gave it. */
  readonly region: number;
  private readonly channel: EngineChannel;
  private readonly extents = new Extents(STREAM_BYTES);
  /** By token of a read. */
  private readonly readers: (FileReader | null)[] = [];
  private readonly freeTokens: number[] = [];
  /** Who waits for memory, in order. */
  private readonly waiters: FileReader[] = [];

  constructor(channel: EngineChannel) {
    this.channel = channel;
    const memory = new SharedArrayBuffer(STREAM_BYTES);
    this.bytes = new Uint8Array(memory);
    this.region = channel.registerRegion(memory);
  }

  /** Bytes that no piece stands in. */
  get free(): number {
    return this.extents.free;
  }

  /** Place for a piece of about `wanted` bytes; its size goes to `reader.space`. -1: none now, and the reader is told when there is. */
  take(reader: FileReader, wanted: number): number {
    const { free } = this.extents;
    if (free < STREAM_BYTES / 8) wanted = Math.min(wanted, PIECE_MIN);
    else if (free < STREAM_BYTES / 2) wanted = Math.min(wanted, PIECE_SMALL);
    let at = this.extents.take(wanted);
    // What is free may lie in parts: a smaller piece now is better than a larger one when some slow client lets go.
    while (at < 0 && wanted > PIECE_MIN) {
      wanted = Math.max(PIECE_MIN, wanted >> 1);
      at = this.extents.take(wanted);
    }
    if (at < 0) this.waiters.push(reader);
    else reader.space = wanted;
    return at;
  }

  give(at: number, space: number): void {
    this.extents.give(at, space);
    for (let count = this.waiters.length; count > 0 && this.extents.free > 0; count--) {
      (this.waiters.shift() as FileReader).memoryFree();
    }
  }

  read(reader: FileReader, fd: number, position: number, at: number, length: number): void {
    const token = this.freeTokens.pop() ?? this.readers.length;
    this.readers[token] = reader;
    this.channel.readFile(fd, position, this.region, at, length, token);
  }

  onReadFile(token: number, bytes: number, errno: number): void {
    const reader = this.readers[token] as FileReader;
    this.readers[token] = null;
    this.freeTokens.push(token);
    reader.readDone(bytes, errno);
  }
}

/** Reads one stretch of a file, a piece ahead. */
export class FileReader {
  readonly path: string;
  /** Called when `length` has changed, or `failure`. */
  wake: () => void;
  /** The piece that was read: its place, its bytes (0: none yet), and the space it stands in. */
  at = -1;
  length = 0;
  space = 0;
  /** Errno of a failed read, -1 where the file ended too early, 0. */
  failure = 0;
  /** A read is under way, or waits for memory: it is not the client who is late. */
  reading = false;
  private readonly pieces: FilePieces;
  private readonly fd: number;
  private position: number;
  private readonly end: number;
  private most = 0;
  private waiting = false;
  private closed = false;
  private pace = PIECE_FIRST;
  private takenMs = 0;

  /** Takes the descriptor over: bytes `position` … `end` are read. */
  constructor(pieces: FilePieces, fd: number, path: string, position: number, end: number, wake: () => void) {
    this.pieces = pieces;
    this.fd = fd;
    this.path = path;
    this.position = position;
    this.end = end;
    this.wake = wake;
  }

  /** What nginx says of a failure. */
  get trouble(): string {
    return this.failure < 0
      ? `sendfile() reported that "${this.path}" was truncated at ${this.position}`
      : `pread() "${this.path}" failed (${strerror(this.failure)})`;
  }

  /** Starts reading the next piece, of `most` bytes at most, unless there is one, or nothing left. */
  ahead(most: number): void {
    if (this.reading || this.length > 0 || this.failure !== 0 || this.position >= this.end) return;
    const wanted = Math.min(this.pace, most, this.end - this.position);
    this.most = most;
    this.reading = true;
    const at = this.pieces.take(this, wanted);
    if (at < 0) {
      this.waiting = true;
      return;
    }
    this.at = at;
    this.pieces.read(this, this.fd, this.position, at, Math.min(this.space, this.end - this.position));
  }

  /** The piece, whose `at`, `length` and `space` were read, belongs to who asks now, memory and all. */
  taken(): void {
    this.length = 0;
    this.at = -1;
    const now = Date.now();
    // The first piece goes where the socket has room: it says nothing about the client.
    if (this.takenMs > 0) {
      const ms = now - this.takenMs;
      if (ms < FAST_MS) this.pace = Math.min(PIECE_MAX, this.pace * 2);
      else if (ms > SLOW_MS) this.pace = Math.max(PIECE_SMALL, this.pace >> 1);
    }
    this.takenMs = now;
  }

  /** Memory was given back. */
  memoryFree(): void {
    if (!this.waiting) return;
    this.waiting = false;
    this.reading = false;
    this.ahead(this.most);
  }

  readDone(bytes: number, errno: number): void {
    this.reading = false;
    if (this.closed || errno !== 0 || bytes === 0) {
      this.giveBack();
      if (this.closed) closeSync(this.fd);
      else {
        this.failure = errno === 0 ? -1 : errno;
        this.wake();
      }
      return;
    }
    this.position += bytes;
    this.length = bytes;
    this.wake();
  }

  /** Nothing more is wanted. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.waiting = false;
    // The kernel still writes into the piece, and may still have to look at the file.
    if (this.reading && this.at >= 0) return;
    if (this.length > 0) this.giveBack();
    closeSync(this.fd);
  }

  private giveBack(): void {
    this.length = 0;
    const { at } = this;
    this.at = -1;
    this.pieces.give(at, this.space);
  }
}
