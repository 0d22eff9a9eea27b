/**
 * Framing of request bodies.
 *
 * What it is for: finds the end of a body, by length or by chunks, so that the next request is found where it begins; whoever
 * wants the bytes is handed them. Invariant: framing is checked as ngx_http_parse_chunked checks it; nothing of a body is
 * kept here. Not its job: collecting (request-body.ts).
 */

import type { Connection } from './connection.ts';

const CR = 0x0d;
const LF = 0x0a;

const ChunkStart = 0;
const ChunkSize = 1;
const ChunkExtension = 2;
const ChunkExtensionDone = 3;
const ChunkData = 4;
const AfterData = 5;
const AfterDataDone = 6;
const LastExtension = 7;
const LastExtensionDone = 8;
const Trailer = 9;
const TrailerDone = 10;
const TrailerHeader = 11;
const TrailerHeaderDone = 12;

/** Chunk sizes above this cannot be counted exactly. */
const SIZE_MAX = 2 ** 47;

/** Takes the bytes of a body. */
export interface BodySink {
  /**
   * `buf[from, to)` belongs to the body; `left` counts from `from` to the end of the chunk, or of the body. False ends the
   * parsing as broken framing does.
   */
  data(buf: Uint8Array, from: number, to: number, left: number): boolean;
}

/** Sets the connection up to go over a body. */
export function beginBody(c: Connection, length: number, chunked: boolean): void {
  c.bodyActive = chunked || length > 0;
  c.bodyChunked = chunked;
  c.bodyLeft = chunked ? 0 : length;
  c.chunkState = ChunkStart;
  c.chunkLeft = 0;
}

/** Drops body bytes, as parseBody goes over them. */
export function dropBody(c: Connection, buf: Uint8Array, pos: number, end: number): number {
  return parseBody(c, buf, pos, end, null);
}

/**
 * Goes over body bytes of `buf[pos, end)`; returns where it stopped, or -1 for broken chunks.
 * `bodyActive` is false when the body is complete.
 */
export function parseBody(c: Connection, buf: Uint8Array, pos: number, end: number, sink: BodySink | null): number {
  if (!c.bodyChunked) {
    const take = Math.min(c.bodyLeft, end - pos);
    if (take > 0 && sink !== null && !sink.data(buf, pos, pos + take, c.bodyLeft)) return -1;
    c.bodyLeft -= take;
    if (c.bodyLeft === 0) c.bodyActive = false;
    return pos + take;
  }
  let state = c.chunkState;
  let p = pos;
  while (p < end) {
    if (state === ChunkData) {
      const take = Math.min(c.chunkLeft, end - p);
      if (sink !== null && !sink.data(buf, p, p + take, c.chunkLeft)) return -1;
      p += take;
      c.chunkLeft -= take;
      if (c.chunkLeft === 0) state = AfterData;
      continue;
    }
    const ch = buf[p++] as number;
    switch (state) {
      case ChunkStart: {
        const digit = hex(ch);
        if (digit < 0) return -1;
        c.chunkLeft = digit;
        state = ChunkSize;
        break;
      }
      case ChunkSize: {
        const digit = hex(ch);
        if (digit >= 0) {
          c.chunkLeft = c.chunkLeft * 16 + digit;
          if (c.chunkLeft > SIZE_MAX) return -1;
          break;
        }
        const last = c.chunkLeft === 0;
        if (ch === CR) state = last ? LastExtensionDone : ChunkExtensionDone;
        else if (ch === LF) state = last ? Trailer : ChunkData;
        else if (ch === 0x3b || ch === 0x20 || ch === 0x09) state = last ? LastExtension : ChunkExtension;
        else return -1;
        break;
      }
      case ChunkExtension:
        if (ch === CR) state = ChunkExtensionDone;
        else if (ch === LF) state = ChunkData;
        break;
      case ChunkExtensionDone:
        if (ch !== LF) return -1;
        state = ChunkData;
        break;
      case AfterData:
        if (ch === CR) state = AfterDataDone;
        else if (ch === LF) state = ChunkStart;
        else return -1;
        break;
      case AfterDataDone:
        if (ch !== LF) return -1;
        state = ChunkStart;
        break;
      case LastExtension:
        if (ch === CR) state = LastExtensionDone;
        else if (ch === LF) state = Trailer;
        break;
      case LastExtensionDone:
        if (ch !== LF) return -1;
        state = Trailer;
        break;
      case Trailer:
        if (ch === LF) {
          c.bodyActive = false;
          return p;
        }
        state = ch === CR ? TrailerDone : TrailerHeader;
        break;
      case TrailerDone:
        if (ch !== LF) return -1;
        c.bodyActive = false;
        return p;
      case TrailerHeader:
        if (ch === CR) state = TrailerHeaderDone;
        else if (ch === LF) state = Trailer;
        break;
      default:
        // TrailerHeaderDone
        if (ch !== LF) return -1;
        state = Trailer;
    }
  }
  c.chunkState = state;
  return p;
}

function hex(ch: number): number {
  if (ch >= 0x30 && ch <= 0x39) return ch - 0x30;
  const lower = ch | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x61 + 10 : -1;
}
