/**
 * URI normalisation, as ngx_http_parse_complex_uri does it.
 *
 * What it is for: decodes %XX, resolves `.` and `..`, merges slashes, cuts `?args` and `#fragment`. Invariant: the path
 * it gives starts with `/`, holds no NUL and no `/../`, so that no path below it can leave the root. Not its job: the
 * request line (request.ts decides whether the URI needs this at all).
 */

import { latin1 } from './bytes.ts';

const SLASH = 0x2f;
const PERCENT = 0x25;
const QUESTION = 0x3f;
const HASH = 0x23;
const DOT = 0x2e;

const Usual = 0;
const Slash = 1;
const Dot = 2;
const DotDot = 3;
const Quoted = 4;
const QuotedSecond = 5;

/** Result of `normalizeUri`; one object, overwritten by each call. */
export const normalized = { path: '', args: '' };

let out = new Uint8Array(8192);

/**
 * Normalises `buf[start, end)`. With `emptyPath` the bytes begin at the `?` of `http://host?args`.
 * Returns false where nginx answers 400.
 */
export function normalizeUri(
  buf: Uint8Array,
  start: number,
  end: number,
  mergeSlashes: boolean,
  emptyPath: boolean,
): boolean {
  if (out.length < end - start + 1) out = new Uint8Array(end - start + 1024);
  let u = 0;
  let state = Usual;
  let quotedState = Usual;
  let decoded = 0;
  let argsStart = -1;
  if (emptyPath) out[u++] = SLASH;
  let p = start;
  // The byte under examination; a decoded one is examined again in the state it was met in.
  let ch = p < end ? (buf[p] as number) : 0;
  p++;
  scan: while (p <= end) {
    switch (state) {
      case Usual:
        if (ch === SLASH) {
          state = Slash;
          out[u++] = ch;
        } else if (ch === PERCENT) {
          quotedState = state;
          state = Quoted;
        } else if (ch === QUESTION) {
          argsStart = p;
          break scan;
        } else if (ch === HASH) break scan;
        else out[u++] = ch;
        ch = p < end ? (buf[p] as number) : 0;
        p++;
        break;
      case Slash:
        if (ch === SLASH) {
          if (!mergeSlashes) out[u++] = ch;
        } else if (ch === DOT) {
          state = Dot;
          out[u++] = ch;
        } else if (ch === PERCENT) {
          quotedState = state;
          state = Quoted;
        } else if (ch === QUESTION) {
          argsStart = p;
          break scan;
        } else if (ch === HASH) break scan;
        else {
          state = Usual;
          out[u++] = ch;
        }
        ch = p < end ? (buf[p] as number) : 0;
        p++;
        break;
      case Dot:
        if (ch === SLASH) {
          state = Slash;
          u--;
        } else if (ch === DOT) {
          state = DotDot;
          out[u++] = ch;
        } else if (ch === PERCENT) {
          quotedState = state;
          state = Quoted;
        } else if (ch === QUESTION) {
          u--;
          argsStart = p;
          state = Usual;
          break scan;
        } else if (ch === HASH) {
          u--;
          state = Usual;
          break scan;
        } else {
          state = Usual;
          out[u++] = ch;
        }
        ch = p < end ? (buf[p] as number) : 0;
        p++;
        break;
      case DotDot:
        if (ch === SLASH || ch === QUESTION || ch === HASH) {
          u = parent(u);
          if (u < 0) return false;
          state = Slash;
          if (ch === QUESTION) {
            argsStart = p;
            break scan;
          }
          if (ch === HASH) break scan;
        } else if (ch === PERCENT) {
          quotedState = state;
          state = Quoted;
        } else {
          state = Usual;
          out[u++] = ch;
        }
        ch = p < end ? (buf[p] as number) : 0;
        p++;
        break;
      case Quoted: {
        const digit = hexDigit(ch);
        if (digit < 0) return false;
        decoded = digit;
        state = QuotedSecond;
        ch = p < end ? (buf[p] as number) : 0;
        p++;
        break;
      }
      default: {
        const digit = hexDigit(ch);
        if (digit < 0) return false;
        ch = (decoded << 4) + digit;
        if (ch === 0) return false;
        if (ch === PERCENT || ch === HASH || ch === QUESTION) {
          // Decoded, these have no meaning of their own any more.
          state = Usual;
          out[u++] = ch;
          ch = p < end ? (buf[p] as number) : 0;
          p++;
        } else state = quotedState;
        break;
      }
    }
  }
  if (state === Quoted || state === QuotedSecond) return false;
  if (state === Dot) u--;
  else if (state === DotDot && argsStart < 0) {
    u = parent(u);
    if (u < 0) return false;
  }
  normalized.path = latin1(out, 0, u);
  normalized.args = '';
  if (argsStart >= 0) {
    let argsEnd = argsStart;
    while (argsEnd < end && buf[argsEnd] !== HASH) argsEnd++;
    normalized.args = latin1(buf, argsStart, argsEnd);
  }
  return true;
}

/** Drops `/..` and the segment before it: the length after, or -1 above the root. */
function parent(length: number): number {
  let u = length - 4;
  for (;;) {
    if (u < 0) return -1;
    if (out[u] === SLASH) return u + 1;
    u--;
  }
}

function hexDigit(ch: number): number {
  if (ch >= 0x30 && ch <= 0x39) return ch - 0x30;
  const lower = ch | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x61 + 10 : -1;
}

/** `%XX` of a byte. */
export function percentEncoded(ch: string): string {
  return `%${ch.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`;
}

/** Percent-encodes a path for a Location header, as NGX_ESCAPE_URI does. */
export function escapeUri(path: string): string {
  return path.replace(/[\x00-\x20"#%<>?\\^`{|}\x7f-\xff]/g, percentEncoded);
}

/** Percent-encodes a name that stands in a path, as NGX_ESCAPE_URI_COMPONENT does. */
export function escapeComponent(text: string): string {
  return text.replace(/[^A-Za-z0-9._~-]/g, percentEncoded);
}

/** Percent-encodes what goes into arguments, as NGX_ESCAPE_ARGS does. */
export function escapeArgument(text: string): string {
  return text.replace(/[\x00-\x20"#%&+;<>?\\^`{|}\x7f-\xff]/g, percentEncoded);
}

/** Decodes what need not be encoded in a redirect's target, up to its arguments, as NGX_UNESCAPE_REDIRECT does. */
export function unescapeRedirect(text: string): string {
  const question = text.search(/\?|%3f/i);
  const end = question < 0 ? text.length : question;
  // What is no escape loses what made it look like one.
  const head = text.slice(0, end).replace(/%(?:([0-9a-fA-F]{2})|[0-9a-fA-F][\s\S]?|)/g, (all, hex?: string) => {
    if (hex === undefined) return '';
    const code = Number.parseInt(hex, 16);
    return code > 0x25 && code < 0x7f ? String.fromCharCode(code) : all;
  });
  const rest = text.slice(end);
  return head + (rest.startsWith('%') ? `?${rest.slice(3)}` : rest);
}

/** Percent-encodes what stands in text between quotes, as NGX_ESCAPE_HTML does. */
export function escapeQuoted(text: string): string {
  return text.replace(/[\x00-\x20"#%'<>\\^`{|}\x7f-\xff]/g, percentEncoded);
}

/** Percent-encodes a URL that stands in a page, as NGX_ESCAPE_REFRESH does. */
export function escapeRefresh(text: string): string {
  return text.replace(/[\x00-\x20"'<>\\^`{|~\x7f-\xff]/g, percentEncoded);
}
