/**
 * Request bodies that somebody reads: in memory, or in a temporary file.
 *
 * What it is for: collects a body as nginx does: what came with the head, then one buffer of client_body_buffer_size (and a quarter,
 * where the length is known); what does not fit goes to a file. Invariants: memory of a body is bounded by that; a
 * temporary file loses its name before a byte is written to it, unless the configuration wants it kept, so that nothing of it outlives
 * a crash; a failed write is a status, never an exception. Not its job: framing (body.ts), when to read and for how long (body-reader.ts).
 */

import { closeSync, constants, mkdirSync, openSync, unlinkSync, writeSync } from 'node:fs';
import type { LogLevelName } from '../conf/errors.ts';
import type { LocConf, TempPath } from '../conf/model.ts';
import { ENOENT, errnoOf, strerror } from '../log/errno.ts';
import { type BodySink, parseBody } from './body.ts';
import { pathOf } from './bytes.ts';
import type { Connection } from './connection.ts';

/** Who makes numbers for files and takes lines for the log. */
export interface BodyHost {
  /** A number for a file's name; after a collision one that is far away. */
  nextTempNumber(collision: boolean): number;
  log(level: LogLevelName, message: string): void;
}

const OPEN_FLAGS = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL;
const EEXIST = 17;
const DIGITS = 10;

/** A temporary file of a body. */
export interface TempFile {
  name: string;
  fd: number;
  size: number;
}

export class RequestBody implements BodySink {
  /** Bytes that are not in the file: `bytes[0, length)`. */
  bytes: Uint8Array = EMPTY;
  length = 0;
  /** Bytes of the body so far. */
  total = 0;
  file: TempFile | null = null;
  /** Why reading failed: a status for the client; 0: it did not. */
  status = 0;
  /** Every byte is there. */
  complete = false;
  private readonly conf: LocConf;
  private readonly host: BodyHost;
  private readonly max: number;
  /** Room left in nginx's buffer; Infinity: all the rest of the body fits. */
  private room = Number.POSITIVE_INFINITY;

  constructor(conf: LocConf, host: BodyHost, chunked: boolean) {
    this.conf = conf;
    this.host = host;
    this.max = chunked && conf.clientMaxBodySize > 0 ? conf.clientMaxBodySize : Number.POSITIVE_INFINITY;
  }

  /**
   * Takes what came with the head; `headRoom` is what nginx's header buffer had left behind the head. Gives how far it came.
   */
  begin(c: Connection, buf: Uint8Array, pos: number, end: number, headRoom: number): number {
    const size = this.conf.clientBodyBufferSize;
    const preread = Math.min(end - pos, headRoom);
    let at = preread > 0 ? this.parse(c, buf, pos, pos + preread) : pos;
    if (!c.bodyActive || this.status !== 0) return this.end(c, at);
    const fits = c.bodyChunked ? false : c.bodyLeft <= headRoom - preread || c.bodyLeft < size + (size >> 2);
    if (!fits) this.room = size;
    if (at < end) at = this.take(c, buf, at, end);
    return at;
  }

  /** Takes more bytes; gives how far it came. Afterwards `status` or `complete` may be set. */
  take(c: Connection, buf: Uint8Array, pos: number, end: number): number {
    let at = pos;
    while (at < end && c.bodyActive && this.status === 0) {
      const from = at;
      at = this.parse(c, buf, at, Math.min(end, at + this.room));
      this.room -= at - from;
      if (this.room > 0 || !c.bodyActive || this.status !== 0) continue;
      this.spill();
      this.room = this.conf.clientBodyBufferSize;
    }
    return this.end(c, at);
  }

  private parse(c: Connection, buf: Uint8Array, pos: number, end: number): number {
    const at = parseBody(c, buf, pos, end, this);
    if (at >= 0) return at;
    if (this.status === 0) {
      this.host.log('error', 'client sent invalid chunked body');
      this.status = 400;
    }
    return end;
  }

  private end(c: Connection, at: number): number {
    if (!c.bodyActive && this.status === 0 && !this.complete) {
      if (this.file !== null || this.conf.clientBodyInFileOnly !== 'off') this.spill();
      this.complete = this.status === 0;
    }
    return at;
  }

  /** Bytes of the body; `left` counts from the first of them to the end of the chunk. False: too many are announced. */
  data(buf: Uint8Array, from: number, to: number, left: number): boolean {
    if (this.total + left > this.max) {
      this.host.log('error', `client intended to send too large chunked body: ${this.total}+${left} bytes`);
      this.status = 413;
      return false;
    }
    const length = to - from;
    const needed = this.length + length;
    if (needed > this.bytes.length) {
      const grown = new Uint8Array(Math.max(needed, Math.min(this.bytes.length * 2, needed + GROW_MAX)));
      grown.set(this.bytes.subarray(0, this.length));
      this.bytes = grown;
    }
    this.bytes.set(buf.subarray(from, to), this.length);
    this.length = needed;
    this.total += length;
    return true;
  }

  /** What is in memory goes to the file. */
  private spill(): void {
    this.file ??= this.open();
    const { file } = this;
    if (file === null) return;
    try {
      for (let done = 0; done < this.length; ) {
        const count = writeSync(file.fd, this.bytes, done, this.length - done, file.size);
        done += count;
        file.size += count;
      }
    } catch (error) {
      this.host.log('crit', `pwrite() "${file.name}" failed (${strerror(errnoOf(error))})`);
      this.status = 500;
    }
    this.length = 0;
  }

  private open(): TempFile | null {
    const { path, levels } = this.conf.clientBodyTempPath as TempPath;
    for (let number = this.host.nextTempNumber(false); ; ) {
      const name = tempName(path, levels, number);
      const errno = this.tryOpen(name);
      if (errno === 0) return this.file;
      if (errno === EEXIST) {
        number = this.host.nextTempNumber(true);
        continue;
      }
      if (errno === ENOENT && levels.length > 0 && this.makeLevels(path, levels, name)) continue;
      if (errno !== ENOENT || levels.length === 0)
        this.host.log('crit', `open() "${name}" failed (${strerror(errno)})`);
      this.status = 500;
      return null;
    }
  }

  private tryOpen(name: string): number {
    const kept = this.conf.clientBodyInFileOnly !== 'off';
    try {
      const fd = openSync(pathOf(name), OPEN_FLAGS, 0o600);
      this.file = { name, fd, size: 0 };
      if (!kept) unlinkSync(pathOf(name));
      this.host.log(kept ? 'notice' : 'warn', `a client request body is buffered to a temporary file ${name}`);
      return 0;
    } catch (error) {
      return errnoOf(error);
    }
  }

  private makeLevels(path: string, levels: readonly number[], name: string): boolean {
    let at = path.length;
    for (const level of levels) {
      at += 1 + level;
      const folder = name.slice(0, at);
      try {
        mkdirSync(pathOf(folder), 0o700);
      } catch (error) {
        const errno = errnoOf(error);
        if (errno === EEXIST) continue;
        this.host.log('crit', `mkdir() "${folder}" failed (${strerror(errno)})`);
        return false;
      }
    }
    return true;
  }

  /** The request is over. */
  close(): void {
    this.bytes = EMPTY;
    this.length = 0;
    const { file } = this;
    if (file === null) return;
    this.file = null;
    closeSync(file.fd);
    if (this.conf.clientBodyInFileOnly !== 'clean') return;
    try {
      unlinkSync(pathOf(file.name));
    } catch (error) {
      // Somebody who was told the name may have moved it.
      if (errnoOf(error) !== ENOENT)
        this.host.log('crit', `unlink() "${file.name}" failed (${strerror(errnoOf(error))})`);
    }
  }
}

const GROW_MAX = 64 * 1024;
const EMPTY = new Uint8Array(0);

/** `path/3/12/0000000123`: folders are named by the last digits, as `levels` counts them. */
export function tempName(path: string, levels: readonly number[], number: number): string {
  const digits = String(number).padStart(DIGITS, '0');
  let folders = '';
  let end = digits.length;
  for (const level of levels) {
    folders += `/${digits.slice(end - level, end)}`;
    end -= level;
  }
  return `${path}${folders}/${digits}`;
}
