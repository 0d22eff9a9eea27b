/**
 * Bodies as streams: a source, filters behind one another, and at the end the framing of the answer.
 *
 * What it is for: bodies that a module changes on their way. Each link is asked for its next piece, so nothing is read
 * before the client has room for it, and memory is one piece a link. Invariants: `next` answers bytes, NOT_YET (`wake` is called
 * later) or END; after END or `close` it is not asked again; a piece is valid until the next call. Not its job: bodies that nobody
 * changes (engine.ts sends those from where they lie).
 */

import { closeSync, readSync } from 'node:fs';
import { latin1Bytes } from './bytes.ts';

export const NOT_YET = 0;
export const END = 1;
export type Piece = Uint8Array | typeof NOT_YET | typeof END;

export interface BodyStream {
  next(): Piece;
  /** Whoever waits for the next piece; set by the reader. */
  wake: () => void;
  /** Gives up what is held; also after END. */
  close(): void;
}

/** Puts a link behind a stream. */
export type BodyFilter = (upstream: BodyStream) => BodyStream;

const nobody = (): void => {};
const READ_BYTES = 64 * 1024;

/** Bytes that are there already. */
export class BytesStream implements BodyStream {
  wake = nobody;
  private bytes: Uint8Array | null;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  next(): Piece {
    const bytes = this.bytes;
    this.bytes = null;
    return bytes === null || bytes.length === 0 ? END : bytes;
  }

  close(): void {
    this.bytes = null;
  }
}

/** A file, read as it is asked for. Throws where reading fails or the file became shorter. */
export class FileStream implements BodyStream {
  wake = nobody;
  private readonly fd: number;
  private readonly buffer = new Uint8Array(READ_BYTES);
  private readonly size: number;
  private at = 0;
  private open = true;

  constructor(fd: number, size: number) {
    this.fd = fd;
    this.size = size;
  }

  next(): Piece {
    if (this.at >= this.size) return END;
    const count = readSync(this.fd, this.buffer, 0, Math.min(READ_BYTES, this.size - this.at), this.at);
    if (count === 0) throw new Error(`the file was truncated while it was sent, at ${this.at}`);
    this.at += count;
    return this.buffer.subarray(0, count);
  }

  close(): void {
    if (this.open) closeSync(this.fd);
    this.open = false;
  }
}

/** A filter that turns pieces into pieces at once; `change` may answer nothing, `flush` gives the end. */
export class MapStream implements BodyStream {
  private readonly upstream: BodyStream;
  private readonly change: (piece: Uint8Array) => Uint8Array;
  private readonly flush: () => Uint8Array;
  private ended = false;

  constructor(upstream: BodyStream, change: (piece: Uint8Array) => Uint8Array, flush: () => Uint8Array = () => EMPTY) {
    this.upstream = upstream;
    this.change = change;
    this.flush = flush;
  }

  set wake(wake: () => void) {
    this.upstream.wake = wake;
  }

  next(): Piece {
    while (!this.ended) {
      const piece = this.upstream.next();
      if (piece === NOT_YET) return NOT_YET;
      this.ended = piece === END;
      const changed = piece === END ? this.flush() : this.change(piece);
      if (changed.length > 0) return changed;
    }
    return END;
  }

  close(): void {
    this.upstream.close();
  }
}

/** The framing of a body whose length nobody knows: chunks, each with its size in front, and the last one. */
export function chunked(upstream: BodyStream, trailers: () => string): BodyStream {
  return new MapStream(upstream, chunkOf, () => latin1Bytes(`0\r\n${trailers()}\r\n`));
}

/** One chunk. */
export function chunkOf(piece: Uint8Array): Uint8Array {
  const head = `${piece.length.toString(16)}\r\n`;
  const chunk = new Uint8Array(head.length + piece.length + 2);
  for (let i = 0; i < head.length; i++) chunk[i] = head.charCodeAt(i);
  chunk.set(piece, head.length);
  chunk[chunk.length - 2] = 13;
  chunk[chunk.length - 1] = 10;
  return chunk;
}

const EMPTY = new Uint8Array(0);
