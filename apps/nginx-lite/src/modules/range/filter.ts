/** Range requests: one range as such, several as multipart/byteranges, none that fits as 416. */

import { latin1Bytes } from '../../http/bytes.ts';
import { Code } from '../../http/codes.ts';
import { parseDate } from '../../http/date.ts';
import { HeaderId } from '../../http/headers.ts';
import { HTTP_10, type Request } from '../../http/request.ts';
import { type BodyStream, MapStream } from '../../http/stream.ts';

export function rangeFilter(r: Request): number {
  if (r.version < HTTP_10 || r.status !== 200 || r.contentLengthOut < 0 || !r.allowRanges) {
    return Code.Ok;
  }
  const maxRanges = r.location.conf.maxRanges;
  if (maxRanges === 0) return Code.Ok;
  const range = r.header(HeaderId.Range);
  if (range === null || range.length < 7 || range.slice(0, 6).toLowerCase() !== 'bytes=' || !ifRangeHolds(r)) {
    return acceptRanges(r);
  }
  const total = r.contentLengthOut;
  const found = parseRanges(range, total, maxRanges < 0 ? 0x7fffffff : maxRanges);
  // Parts of a body that is a stream are put together in memory.
  const streamed = r.bodyFilters.length > 0 || r.trailers.length > 0;
  if (found === 'ignore' || (streamed && found.length > 2 && total > JOINED_MAX)) return acceptRanges(r);
  if (found === 'unsatisfiable') {
    r.extra.push('Content-Range', `bytes */${total}`);
    r.contentLengthOut = -1;
    return 416;
  }
  r.status = 206;
  r.ranges = found;
  if (found.length === 2) {
    const [start = 0, end = 0] = found;
    r.extra.push('Content-Range', `bytes ${start}-${end - 1}/${total}`);
    r.contentLengthOut = end - start;
    return Code.Ok;
  }
  const engine = r.connection.engine;
  r.boundary = engine.nextBoundary();
  r.impure();
  r.partHeader = `\r\n--${r.boundary}\r\n${r.contentType === '' ? '' : `Content-Type: ${r.contentType}${r.charset}\r\n`}Content-Range: bytes `;
  let length = `\r\n--${r.boundary}--\r\n`.length;
  for (let i = 0; i < found.length; i += 2) {
    const start = found[i] as number;
    const end = found[i + 1] as number;
    length += r.partHeader.length + `${start}-${end - 1}/${total}\r\n\r\n`.length + end - start;
  }
  r.rangeTotal = total;
  r.contentLengthOut = length;
  r.contentType = `multipart/byteranges; boundary=${r.boundary}`;
  r.charset = '';
  return Code.Ok;
}

/** The ranges of a request out of a body that is a stream. */
export function ranged(r: Request, upstream: BodyStream): BodyStream {
  const { ranges } = r;
  if (ranges.length === 2) {
    const [start = 0, end = 0] = ranges;
    let at = 0;
    return new MapStream(upstream, (piece) => {
      const part = piece.subarray(Math.max(0, start - at), Math.max(0, end - at));
      at += piece.length;
      return part;
    });
  }
  const pieces: Uint8Array[] = [];
  return new MapStream(
    upstream,
    (piece) => {
      pieces.push(piece.slice());
      return NOTHING;
    },
    () => {
      const whole = Buffer.concat(pieces);
      const parts: Uint8Array[] = [];
      for (let i = 0; i < ranges.length; i += 2) {
        const [start, end] = [ranges[i] as number, ranges[i + 1] as number];
        parts.push(latin1Bytes(partHead(r, start, end)), whole.subarray(start, end));
      }
      parts.push(latin1Bytes(`\r\n--${r.boundary}--\r\n`));
      return Buffer.concat(parts);
    },
  );
}

/** What stands before a range of several. */
export function partHead(r: Request, start: number, end: number): string {
  return `${r.partHeader}${start}-${end - 1}/${r.rangeTotal}\r\n\r\n`;
}

const NOTHING = new Uint8Array(0);
/** Longest body whose ranges are put together. */
const JOINED_MAX = 1024 * 1024;

function acceptRanges(r: Request): number {
  r.extra.push('Accept-Ranges', 'bytes');
  return Code.Ok;
}

function ifRangeHolds(r: Request): boolean {
  const value = r.header(HeaderId.IfRange);
  if (value === null) return true;
  if (value.length >= 2 && value.endsWith('"')) return r.etag !== '' && value === r.etag;
  return r.lastModified >= 0 && parseDate(value) === r.lastModified;
}

/** Start, end (exclusive) pairs of a `bytes=` list, as ngx_http_range_parse reads it. */
export function parseRanges(text: string, total: number, rangesMax: number): number[] | 'ignore' | 'unsatisfiable' {
  const found: number[] = [];
  let left = rangesMax;
  let size = 0;
  let p = 6;
  const digits = (): number => {
    const start = p;
    while (p < text.length && (text[p] as string) >= '0' && (text[p] as string) <= '9') p++;
    if (p === start) return -1;
    const value = text.slice(start, p).replace(/^0+(?=\d)/, '');
    if (value.length > OFFSET_MAX.length || (value.length === OFFSET_MAX.length && value > OFFSET_MAX)) return -1;
    // No file is that long, so that it makes no difference.
    return Math.min(Number(value), Number.MAX_SAFE_INTEGER - 1);
  };
  const spaces = (): void => {
    while (text[p] === ' ') p++;
  };
  const atEnd = (): boolean => p >= text.length || text[p] === ',';
  for (;;) {
    let start = 0;
    let end = 0;
    let suffix = false;
    let open = false;
    spaces();
    if (text[p] !== '-') {
      start = digits();
      if (start < 0) return 'unsatisfiable';
      spaces();
      if (text[p++] !== '-') return 'unsatisfiable';
      spaces();
      if (atEnd()) {
        end = total;
        open = true;
      }
    } else {
      suffix = true;
      p++;
    }
    if (!open) {
      end = digits();
      if (end < 0) return 'unsatisfiable';
      spaces();
      if (!atEnd()) return 'unsatisfiable';
      if (suffix) {
        start = end < total ? total - end : 0;
        end = total - 1;
      }
      end = end >= total ? total : end + 1;
    }
    if (start < end) {
      if (left-- === 0) return 'ignore';
      found.push(start, end);
      size += end - start;
    } else if (start === 0) return 'ignore';
    if (text[p++] !== ',') break;
  }
  if (found.length === 0) return 'unsatisfiable';
  // A list that asks for more than there is may only mean to make work.
  return size > total ? 'ignore' : found;
}

/** Largest off_t. */
const OFFSET_MAX = '9223372036854775807';
