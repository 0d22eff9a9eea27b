/**
 * Bodies as streams: a source, filters behind one another, and at the end the framing of the answer.
 *
 * What it is for: bodies that a module changes on their way. Each link is asked for its next piece, so nothing is read
 * before the client has room for it, and memory is one piece a link. Invariants: `next` answers bytes, NOT_YET (`wake` is called
 * later) or END; after END or `close` it is not asked again; a piece is valid until the next call. Not its job: bodies that nobody
 * changes (engine.ts sends those from where they lie).
 */

import { latin1Bytes } from './bytes.ts';
import { type FilePieces, FileReader } from './file-pieces.ts';

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

/** A file, read a piece ahead. Throws where reading fails or the file became shorter. */
export class FileStream implements BodyStream {
  private readonly pieces: FilePieces;
  private readonly reader: FileReader;
  private readonly size: number;
  private at = 0;
  /** Not the memory that is read into: that is shared, and wanted for the next piece. */
  private readonly buffer: Uint8Array;

  /** Takes the descriptor over. */
  constructor(pieces: FilePieces, fd: number, path: string, size: number) {
    this.pieces = pieces;
    this.size = size;
    this.buffer = new Uint8Array(Math.min(size, READ_BYTES));
    this.reader = new FileReader(pieces, fd, path, 0, size, nobody);
  }

  set wake(wake: () => void) {
    this.reader.wake = wake;
  }

  next(): Piece {
    if (this.at >= this.size) return END;
    const { pieces, reader } = this;
    const { at, length, space, failure } = reader;
    if (failure !== 0) throw new Error(reader.trouble);
    if (length > 0) {
      this.buffer.set(pieces.bytes.subarray(at, at + length));
      reader.taken();
      pieces.give(at, space);
      this.at += length;
    }
    reader.ahead(READ_BYTES);
    return length === 0 ? NOT_YET : this.buffer.subarray(0, length);
  }

  close(): void {
    this.reader.close();
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

/** A stream with bytes in front, which come when it has its first piece. */
export function behind(front: Uint8Array, upstream: BodyStream): BodyStream {
  let left: Uint8Array | null = front;
  const withFront = (piece: Uint8Array): Uint8Array => {
    if (left === null) return piece;
    const both = Buffer.concat([left, piece]);
    left = null;
    return both;
  };
  return new MapStream(upstream, withFront, () => withFront(EMPTY));
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
