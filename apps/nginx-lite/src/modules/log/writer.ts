/**
 * The access log: lines from requests, buffers, files.
 *
 * What it is for: compiles formats once, escapes as nginx does, collects lines and writes them in batches, to files, packed or not, or to
 * a syslog server. Invariant: a
 * line is never cut between two writes unless it is longer than the buffer; lines stand in the order of the requests of
 * a worker. Lines of a log without `buffer=` wait at most FLUSH_MS. Not its job: opening and reopening files (master).
 */

import { writeSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import type { AccessLog, LogFormat, TemplatePart } from '../../conf/model.ts';
import { latin1, latin1Bytes, writeLatin1 } from '../../http/bytes.ts';
import type { Connection } from '../../http/connection.ts';
import { formatIsoTime, formatLogTime } from '../../http/date.ts';
import type { MemoLog } from '../../http/prepared.ts';
import type { Request } from '../../http/request.ts';
import { compileTemplate, type Evaluator } from '../../http/template.ts';
import { CHANGING, type Getter, plainGetter, seconds } from '../../http/variables.ts';
import type { Syslog } from '../../log/syslog.ts';
import { VariableLogs } from './variable-path.ts';

const FLUSH_MS = 100;
const BUFFER_BYTES = 64 * 1024;

/** Bytes on their way to one file or server. */
class LogBuffer {
  readonly bytes: Uint8Array;
  length = 0;
  /** Takes whole lines; the bytes are the buffer's. */
  private readonly write: (bytes: Uint8Array) => void;
  private readonly flushMs: number;
  private timer: NodeJS.Timeout | null = null;

  constructor(write: (bytes: Uint8Array) => void, capacity: number, flushMs: number) {
    this.write = write;
    this.bytes = new Uint8Array(capacity);
    this.flushMs = flushMs;
  }

  /** Makes room for `bytes` more; false when a line of that length does not fit at all. */
  room(bytes: number): boolean {
    if (this.length + bytes > this.bytes.length) this.flush();
    if (this.timer === null && this.flushMs > 0) {
      this.timer = setTimeout(() => {
        this.timer = null;
        this.flush();
      }, this.flushMs);
    }
    return bytes <= this.bytes.length;
  }

  line(text: string): void {
    if (this.room(text.length)) this.length += writeLatin1(this.bytes, text, this.length);
    else this.write(latin1Bytes(text));
  }

  flush(): void {
    if (this.length === 0) return;
    this.write(this.bytes.subarray(0, this.length));
    this.length = 0;
  }
}

/** One access_log directive at work. */
export class RuntimeAccessLog {
  readonly buffer: LogBuffer;
  /** A path that depends on the request; nothing is buffered then. */
  readonly path: Evaluator | null;
  readonly condition: Evaluator | null;
  readonly parts: readonly LogPart[];
  readonly escapeText: (text: string | null) => string;
  readonly logs: AccessLogs;

  constructor(
    logs: AccessLogs,
    buffer: LogBuffer,
    path: Evaluator | null,
    format: LogFormat,
    condition: Evaluator | null,
  ) {
    this.logs = logs;
    this.buffer = buffer;
    this.path = path;
    this.condition = condition;
    this.parts = format.template.map(partOf);
    this.escapeText = ESCAPES[format.escape];
  }

  /** Writes the line of a request. */
  log(r: Request): void {
    const line = this.render(r);
    if (this.path === null) this.buffer.line(line);
    else this.logs.variable.write(r, this.path, latin1Bytes(line));
  }

  /** The line of a request, with its line break. */
  render(r: Request): string {
    let line = '';
    for (const part of this.parts) line += typeof part === 'string' ? part : this.escapeText(part.get(r));
    return `${line}\n`;
  }
}

interface LogVariable {
  name: string;
  get: Getter;
  /** Index into DYNAMIC, or -1 for a value that is the same whenever the same head gets the same answer. */
  dynamic: number;
}
type LogPart = string | LogVariable;

/** Values that a remembered line takes from the moment it is written. */
const DYNAMIC = [
  'remote_addr',
  'time_local',
  'time_iso8601',
  'msec',
  'connection',
  'connection_requests',
  'remote_port',
  'request_time',
];

function partOf(part: TemplatePart): LogPart {
  if (typeof part === 'string') return part;
  return { name: part.name, get: plainGetter(part.name), dynamic: DYNAMIC.indexOf(part.name) };
}

/** Every access log of a worker. */
export class AccessLogs {
  /** Descriptors by Model.files index; replaced as a whole when logs are reopened. */
  fds: readonly number[];
  private readonly formats: readonly LogFormat[];
  private readonly buffers = new Map<string, LogBuffer>();
  private readonly made = new Map<string, RuntimeAccessLog>();
  private readonly onError: (file: number, error: unknown) => void;
  private timeSec = -1;
  private localText = '';
  private localBytes: Uint8Array = new Uint8Array(0);
  private isoBytes: Uint8Array = new Uint8Array(0);

  readonly variable = new VariableLogs();
  private readonly syslog: Syslog;

  constructor(
    fds: readonly number[],
    formats: readonly LogFormat[],
    syslog: Syslog,
    onError: (file: number, error: unknown) => void,
  ) {
    this.fds = fds;
    this.formats = formats;
    this.syslog = syslog;
    this.onError = onError;
  }

  /** The logs of a location; equal directives share one. */
  of(confs: readonly AccessLog[]): RuntimeAccessLog[] {
    return confs.map((conf) => {
      const key = JSON.stringify(conf);
      let log = this.made.get(key);
      if (log === undefined) {
        const format = this.formats[conf.format] as LogFormat;
        const condition = conf.condition === null ? null : compileTemplate(conf.condition);
        const path = conf.path === null ? null : compileTemplate(conf.path);
        log = new RuntimeAccessLog(this, this.bufferOf(conf), path, format, condition);
        this.made.set(key, log);
      }
      return log;
    });
  }

  private bufferOf(conf: AccessLog): LogBuffer {
    const key = JSON.stringify([conf.file, conf.bufferBytes, conf.flushMs, conf.gzip, conf.syslog]);
    let buffer = this.buffers.get(key);
    if (buffer === undefined) {
      const capacity = conf.bufferBytes > 0 ? conf.bufferBytes : BUFFER_BYTES;
      buffer = new LogBuffer(this.writerOf(conf), capacity, conf.bufferBytes > 0 ? conf.flushMs : FLUSH_MS);
      this.buffers.set(key, buffer);
    }
    return buffer;
  }

  private writerOf({ file, gzip, syslog }: AccessLog): (bytes: Uint8Array) => void {
    if (syslog !== null) {
      return (bytes) => {
        // A message is a line.
        for (const line of latin1(bytes, 0, bytes.length - 1).split('\n'))
          this.syslog.send(syslog, syslog.severity, line);
      };
    }
    if (gzip > 0) return (bytes) => this.write(file, gzipSync(bytes, { level: gzip }));
    return (bytes) => this.write(file, bytes);
  }

  /** Writes what waits, and lets go of files that only this thread has open. */
  close(): void {
    this.flush();
    this.variable.close();
  }

  flush(): void {
    for (const buffer of this.buffers.values()) buffer.flush();
  }

  write(file: number, bytes: Uint8Array): void {
    const fd = this.fds[file];
    if (fd === undefined) return;
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done);
    } catch (error) {
      this.onError(file, error);
    }
  }

  /** Prepares the texts of this second. */
  time(): void {
    const now = Date.now();
    const sec = Math.floor(now / 1000);
    if (sec === this.timeSec) return;
    this.timeSec = sec;
    const date = new Date(now);
    this.localText = formatLogTime(date);
    this.localBytes = latin1Bytes(this.localText);
    this.isoBytes = latin1Bytes(formatIsoTime(date));
  }

  get localTime(): Uint8Array {
    return this.localBytes;
  }

  get isoTime(): Uint8Array {
    return this.isoBytes;
  }
}

/** Writes the lines of a finished request. */
export function logRequest(r: Request): void {
  for (const log of r.location.accessLogs) {
    if (log.condition !== null && isFalse(log.condition(r))) continue;
    log.log(r);
  }
}

/**
 * What writes the same lines again for requests with the same head: null when nothing is logged, undefined when some
 * line depends on more than a remembered line can know.
 */
export function memoLog(r: Request): MemoLog | null | undefined {
  if (r.location.accessLogs.length === 0) return null;
  // What a variable has to say is said of the line.
  r.logged = true;
  const lines = memoLines(r);
  r.logged = false;
  return lines;
}

function memoLines(r: Request): MemoLog | null | undefined {
  const logs = r.location.accessLogs;
  const { pure } = r;
  const lines: MemoLine[] = [];
  for (const log of logs) {
    if (log.path !== null) return undefined;
    const wanted = log.condition === null || !isFalse(log.condition(r));
    const line = wanted ? MemoLine.of(log, r) : null;
    // A variable of the condition or of the line has a value of this request alone.
    if (r.pure !== pure) {
      r.pure = pure;
      return undefined;
    }
    if (!wanted) continue;
    if (line === null) return undefined;
    lines.push(line);
  }
  if (lines.length === 0) return null;
  return lines.length === 1 ? (lines[0] as MemoLine) : new MemoLines(lines);
}

class MemoLines implements MemoLog {
  private readonly lines: readonly MemoLine[];

  constructor(lines: readonly MemoLine[]) {
    this.lines = lines;
  }

  write(c: Connection): void {
    for (const line of this.lines) line.write(c);
  }
}

/** A line whose constant stretches are rendered; between them stand values of the moment. */
class MemoLine implements MemoLog {
  private readonly log: RuntimeAccessLog;
  /** Stretch i, then dynamic value i; there is one more stretch than values. */
  private readonly stretches: readonly Uint8Array[];
  private readonly dynamics: readonly number[];
  private readonly lengthMax: number;

  private constructor(log: RuntimeAccessLog, stretches: Uint8Array[], dynamics: number[]) {
    this.log = log;
    this.stretches = stretches;
    this.dynamics = dynamics;
    this.lengthMax = stretches.reduce((sum, each) => sum + each.length, 0) + dynamics.length * DYNAMIC_MAX;
  }

  static of(log: RuntimeAccessLog, r: Request): MemoLine | null {
    const stretches: Uint8Array[] = [];
    const dynamics: number[] = [];
    let text = '';
    for (const part of log.parts) {
      if (typeof part === 'string') text += part;
      else if (part.dynamic >= 0) {
        stretches.push(latin1Bytes(text));
        dynamics.push(part.dynamic);
        text = '';
      } else if (CHANGING.has(part.name)) return null;
      else text += log.escapeText(part.get(r));
    }
    stretches.push(latin1Bytes(`${text}\n`));
    return new MemoLine(log, stretches, dynamics);
  }

  write(c: Connection): void {
    const { buffer, logs } = this.log;
    if (!buffer.room(this.lengthMax)) return;
    const { bytes } = buffer;
    const { stretches, dynamics } = this;
    logs.time();
    let at = buffer.length;
    let stretch = stretches[0] as Uint8Array;
    bytes.set(stretch, at);
    at += stretch.length;
    for (let i = 0; i < dynamics.length; i++) {
      switch (dynamics[i]) {
        case 0: {
          const address = c.remoteAddressBytes();
          bytes.set(address, at);
          at += address.length;
          break;
        }
        case 1:
          bytes.set(logs.localTime, at);
          at += logs.localTime.length;
          break;
        case 2:
          bytes.set(logs.isoTime, at);
          at += logs.isoTime.length;
          break;
        case 3:
          at += writeLatin1(bytes, seconds(Date.now()), at);
          break;
        case 4:
          at = writeNumber(bytes, at, c.serial);
          break;
        case 5:
          at = writeNumber(bytes, at, c.requests);
          break;
        case 6:
          at = writeNumber(bytes, at, c.remotePort());
          break;
        default:
          // Answered in the moment it came.
          at += writeLatin1(bytes, '0.000', at);
      }
      stretch = stretches[i + 1] as Uint8Array;
      bytes.set(stretch, at);
      at += stretch.length;
    }
    buffer.length = at;
  }
}

/** Longest value of the moment: an IPv6 address with scope, or a path of a Unix socket's client. */
const DYNAMIC_MAX = 128;

function writeNumber(bytes: Uint8Array, at: number, value: number): number {
  let end = at + 1;
  for (let rest = value; rest >= 10; rest = Math.floor(rest / 10)) end++;
  let left = value;
  for (let i = end - 1; i >= at; i--) {
    bytes[i] = 0x30 + (left % 10);
    left = Math.floor(left / 10);
  }
  return end;
}

/** nginx's idea of false in `if=`. */
function isFalse(text: string): boolean {
  return text === '' || text === '0';
}

const NEEDS_ESCAPE = /[\x00-\x1f"\\\x7f-\xff]/;
const JSON_NEEDS_ESCAPE = /[\x00-\x1f"\\]/;
const JSON_NAMES: Record<string, string> = {
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\b': '\\b',
  '\f': '\\f',
  '"': '\\"',
  '\\': '\\\\',
};

const ESCAPES: Record<LogFormat['escape'], (text: string | null) => string> = {
  default(text) {
    if (text === null || text === '') return text === null ? '-' : '';
    if (!NEEDS_ESCAPE.test(text)) return text;
    return text.replace(/[\x00-\x1f"\\\x7f-\xff]/g, (ch) => `\\x${hex2(ch).toUpperCase()}`);
  },
  json(text) {
    if (text === null) return '';
    if (!JSON_NEEDS_ESCAPE.test(text)) return text;
    return text.replace(/[\x00-\x1f"\\]/g, (ch) => JSON_NAMES[ch] ?? `\\u00${hex2(ch).toUpperCase()}`);
  },
  none(text) {
    return text ?? '';
  },
};

function hex2(ch: string): string {
  return ch.charCodeAt(0).toString(16).padStart(2, '0');
}
