/**
 * What a connection says first when the server runs with -Y: a `set` of any key whose value is "name password".
 *
 * Invariant: nothing but that is carried out before it was right. Where more was received already, it is left to the text
 * protocol, which the connection speaks from then on. Resumable as the protocols are: `run` says how far it came.
 * Not its job: the file (auth_file.ts).
 */

import type { Credential } from './auth_file.ts';
import { indexOfByte } from './bytes.ts';
import { CONN_CLOSING, CONN_COMMAND, CONN_NREAD, CONN_SWALLOW, type Conn, PROTOCOL_TEXT } from './conn.ts';
import type { Cache } from './engine/cache.ts';
import { T_AUTH_CMDS, T_AUTH_ERRORS } from './engine/stats.ts';
import { Protocol, type Trace } from './protocol.ts';
import type { Output } from './values.ts';

const line = (text: string): Buffer => Buffer.from(`${text}\r\n`, 'latin1');
const STORED = line('STORED');
const UNAUTHENTICATED = line('CLIENT_ERROR unauthenticated');
const BAD_TERMINATION = line('CLIENT_ERROR bad command line termination');
const BAD_FORMAT = line('CLIENT_ERROR bad authentication token format');
const TOO_LONG = line('CLIENT_ERROR auth token too long');
const FAILURE = line('CLIENT_ERROR authentication failure');

/** A line without its end may be this long. */
const LINE_BYTES_MAX = 2048;
/** Name and password: two entries of a file's length and what may stand between them. */
const TOKEN_BYTES_MAX = 2048;

export class ProtoAuth extends Protocol {
  private credentials: readonly Credential[];

  constructor(cache: Cache, out: Output, trace: Trace, credentials: readonly Credential[]) {
    super(cache, out, trace);
    this.credentials = credentials;
  }

  /** The file was read again. Who is in stays in. */
  replace(credentials: readonly Credential[]): void {
    this.credentials = credentials;
  }

  /** As ProtoText.run; on success `conn.protocol` is the text protocol. */
  run(conn: Conn, bytes: Buffer, pos: number, end: number): number {
    let at = pos;
    for (;;) {
      switch (conn.state) {
        case CONN_COMMAND: {
          const newline = indexOfByte(bytes, 0x0a, at, end);
          if (newline < 0) {
            if (end - at > LINE_BYTES_MAX) conn.state = CONN_CLOSING;
            return at;
          }
          const length = tokenLength(bytes.toString('latin1', at, newline));
          if (length < 0) {
            if (!this.say(conn, UNAUTHENTICATED)) return at;
          } else if (length > TOKEN_BYTES_MAX) {
            if (!this.say(conn, TOO_LONG)) return at;
            this.swallow(conn, length + 2, -1, at);
          } else {
            conn.state = CONN_NREAD;
            conn.valueLeft = length + 2;
          }
          at = newline + 1;
          break;
        }
        case CONN_NREAD: {
          if (end - at < conn.valueLeft) return at;
          const last = at + conn.valueLeft;
          if (!this.judge(conn, bytes, at, last)) return at;
          conn.state = CONN_COMMAND;
          conn.valueLeft = 0;
          if (conn.protocol === PROTOCOL_TEXT) return last;
          at = last;
          break;
        }
        case CONN_SWALLOW: {
          const count = Math.min(conn.swallowLeft, end - at);
          at += count;
          conn.swallowLeft -= count;
          if (conn.swallowLeft > 0) return at;
          conn.state = CONN_COMMAND;
          break;
        }
        default:
          return end;
      }
    }
  }

  /** The value stands in bytes[start, end), its CR LF included. False: no room for the answer, nothing was done. */
  private judge(conn: Conn, bytes: Buffer, start: number, end: number): boolean {
    if (bytes[end - 2] !== 0x0d || bytes[end - 1] !== 0x0a) return this.say(conn, BAD_TERMINATION);
    const words = bytes
      .toString('latin1', start, end - 2)
      .split('\0', 1)[0]!
      .split(' ')
      .filter((word) => word !== '');
    if (words.length < 2) return this.say(conn, BAD_FORMAT);
    const right = this.isRight(Buffer.from(words[0]!, 'latin1'), Buffer.from(words[1]!, 'latin1'));
    if (!this.say(conn, right ? STORED : FAILURE)) return false;
    this.f64[this.stats + T_AUTH_CMDS] += 1;
    if (right) {
      conn.authenticated = true;
      conn.protocol = PROTOCOL_TEXT;
    } else {
      this.f64[this.stats + T_AUTH_ERRORS] += 1;
    }
    return true;
  }

  /** Looks at every entry, whatever the earlier ones said, so that the time taken tells nothing. */
  private isRight(user: Buffer, password: Buffer): boolean {
    const { timingSafeEqual } = process.getBuiltinModule('node:crypto');
    let right = false;
    for (const entry of this.credentials) {
      if (entry.user.length !== user.length || entry.password.length !== password.length) continue;
      const sameUser = timingSafeEqual(entry.user, user);
      const samePassword = timingSafeEqual(entry.password, password);
      right ||= sameUser && samePassword;
    }
    return right;
  }
}

/** Length of the value of `set key flags exptime length`, or -1 for any other line. */
function tokenLength(text: string): number {
  const words = text
    .split('\0', 1)[0]!
    .split(' ')
    .filter((word) => word !== '');
  if (words.length < 5 || words[0] !== 'set') return -1;
  // As strtoul: digits, then the end or white space (the CR is still there).
  const digits = /^\s*\+?(\d+)(?=\s|$)/.exec(words[4]!);
  if (digits === null) return -1;
  const length = Number(digits[1]);
  return length <= 0xffff_ffff ? length : -1;
}
