/**
 * gzip and gunzip as filters.
 *
 * What it is for: the header filters decide; the body filters work in zlib's thread pool, off the thread that serves.
 * The fast way: the answer follows from head and file, so a compressed file is kept as an answer like any other.
 */

import { createGunzip, createGzip, type Gunzip, type Gzip } from 'node:zlib';
import { Code } from '../../http/codes.ts';
import type { Request } from '../../http/request.ts';
import { type BodyStream, END, NOT_YET, type Piece } from '../../http/stream.ts';
import { acceptsGzip } from './accepts.ts';

const STATUSES = new Set([200, 403, 404]);

/** Whether a type is one of a filter's: as it was configured, parameters and all. */
export function typeIs(r: Request, types: readonly string[]): boolean {
  return types.includes('*') || (r.contentType !== '' && types.includes(r.contentType.toLowerCase()));
}

/** A body that a filter changes has no known length, no ranges, and at most a weak tag. */
export function bodyChanges(r: Request): void {
  r.contentLengthOut = -1;
  r.allowRanges = false;
  if (/^W\/./.test(r.etag)) return;
  // What is no tag cannot be made a weak one.
  r.etag = r.etag.startsWith('"') ? `W/${r.etag}` : '';
}

export function gzipFilter(r: Request): number {
  const { conf } = r.location;
  if (!conf.gzip || !STATUSES.has(r.status) || r.contentEncoding !== '') return Code.Ok;
  if (r.contentLengthOut >= 0 && r.contentLengthOut < conf.gzipMinLength) return Code.Ok;
  if (!typeIs(r, conf.gzipTypes)) return Code.Ok;
  r.gzipVary = true;
  if (!acceptsGzip(r)) return Code.Ok;
  setEncoding(r);
  bodyChanges(r);
  const level = conf.gzipCompLevel;
  r.gzipLevel = level;
  r.bodyFilters.push((upstream) => new ZlibStream(upstream, createGzip({ level }), r));
  return Code.Ok;
}

export function setEncoding(r: Request): void {
  r.contentEncoding = 'gzip';
  r.extra.push('Content-Encoding', 'gzip');
}

/** The answer is not packed, or has no body. */
export function clearEncoding(r: Request): void {
  if (r.contentEncoding === '') return;
  r.contentEncoding = '';
  const at = r.extra.indexOf('Content-Encoding');
  if (at >= 0) r.extra[at] = '';
}

export function gunzipFilter(r: Request): number {
  if (!r.location.conf.gunzip || r.contentEncoding !== 'gzip') return Code.Ok;
  r.gzipVary = true;
  if (acceptsGzip(r)) return Code.Ok;
  clearEncoding(r);
  bodyChanges(r);
  r.headerWaits = true;
  r.bodyFilters.push((upstream) => new ZlibStream(upstream, createGunzip()));
  return Code.Ok;
}

/** `2.35`: how much smaller gzip made the body; null: it did not work on it. */
export function gzipRatio(r: Request): string | null {
  if (r.gzipOut === 0) return null;
  return (Math.floor((r.gzipIn * 1000) / r.gzipOut + 5) / 1000).toFixed(3).slice(0, -1);
}

/** A zlib stream as a link of the chain: one piece is at work at a time. */
class ZlibStream implements BodyStream {
  wake: () => void = () => {};
  private readonly upstream: BodyStream;
  private readonly zlib: Gzip | Gunzip;
  private readonly packed: Request | null;
  private readonly ready: Buffer[] = [];
  private working = false;
  private fed = false;
  private empty = true;
  private ended = false;
  private failure: Error | null = null;

  /** `packed`: the request whose gzip_ratio this is. */
  constructor(upstream: BodyStream, zlib: Gzip | Gunzip, packed: Request | null = null) {
    this.upstream = upstream;
    this.packed = packed;
    this.zlib = zlib;
    upstream.wake = () => this.wake();
    zlib.on('data', (chunk: Buffer) => {
      this.ready.push(chunk);
      if (packed !== null) packed.gzipOut += chunk.length;
      this.wake();
    });
    zlib.on('end', () => {
      this.ended = true;
      this.wake();
    });
    zlib.on('error', (error) => {
      this.failure = error;
      this.wake();
    });
  }

  next(): Piece {
    if (this.failure !== null) throw this.failure;
    const chunk = this.ready.shift();
    if (chunk !== undefined) return chunk;
    if (this.ended) return END;
    if (!this.working && !this.fed) this.feed();
    return NOT_YET;
  }

  private feed(): void {
    const piece = this.upstream.next();
    if (piece === NOT_YET) return;
    if (piece === END) {
      this.fed = true;
      // zlib takes nothing at all for a body.
      if (this.empty && this.packed === null) this.failure = new Error('unexpected end of file');
      this.zlib.end();
      return;
    }
    this.empty = false;
    this.working = true;
    if (this.packed !== null) this.packed.gzipIn += piece.length;
    // The piece is the upstream's and will be overwritten; zlib reads it in another thread.
    this.zlib.write(piece.slice(), () => {
      this.working = false;
      this.wake();
    });
  }

  close(): void {
    this.upstream.close();
    this.zlib.destroy();
  }
}
