/**
 * A channel without a kernel, for driving the engine byte by byte.
 *
 * What it is for: delivers given bytes in given cuts, refuses output when told to, keeps what was sent. Like the real
 * one it never calls the sink from inside a call, and bytes are valid only during onRead. Not its job: sockets, time.
 */

import { readSync } from 'node:fs';
import type { Handle, Sink, WriteResult } from '@megapipe/core';
import type { EngineChannel } from '../../src/http/engine-options.ts';

const FULL = 2;
const SENT = 0;
const INPUT_AT = 0;
const OUTPUT_AT = 1 << 20;

interface Sent {
  handle: Handle;
  token: number;
}

export class FakeChannel implements EngineChannel {
  readonly memory = new Uint8Array(2 << 20);
  /** Asked before each piece of output: true refuses it. */
  refuse: () => boolean = () => false;
  /** Before the client takes what was refused: others have their turn. */
  meanwhile: () => void = () => {};
  readonly sink: Sink;
  output = '';
  closed = false;
  aborted = false;
  deadlines = 0;
  private reading = false;
  private readonly regions: Uint8Array[] = [];
  private readonly written: Sent[] = [];
  private readonly reads: { token: number; bytes: number }[] = [];
  private drain = false;
  private shut = false;
  private nextHandle = 1;
  private connection = 0;

  constructor(sink: Sink) {
    this.sink = sink;
  }

  register(): Handle {
    return this.nextHandle++;
  }

  discard(): void {
    throw new Error('the engine turned the connection away');
  }

  accept(): void {}

  acceptStop(): void {}

  read(handle: Handle): void {
    this.connection = handle;
    this.reading = true;
  }

  readStop(): void {
    this.reading = false;
  }

  reserve(_handle: Handle, bytes: number): number {
    if (bytes < 1 || bytes > 65_536) throw new Error(`reserve of ${bytes}`);
    if (this.refuse()) {
      this.drain = true;
      return -1;
    }
    return OUTPUT_AT;
  }

  commit(_handle: Handle, bytes: number): void {
    this.take(this.memory.subarray(OUTPUT_AT, OUTPUT_AT + bytes));
  }

  writeCopy(_handle: Handle, source: Uint8Array, start = 0, end: number = source.length): WriteResult {
    if (this.refuse()) {
      this.drain = true;
      return FULL;
    }
    this.take(source.subarray(start, end));
    return SENT;
  }

  write(handle: Handle, region: number, offset: number, length: number, token: number): WriteResult {
    if (this.refuse()) {
      this.drain = true;
      return FULL;
    }
    const bytes = this.regions[region];
    if (bytes === undefined || offset + length > bytes.length) throw new Error('write outside a region');
    this.take(bytes.subarray(offset, offset + length));
    this.written.push({ handle, token });
    return SENT;
  }

  readFile(fd: number, position: number, region: number, offset: number, length: number, token: number): void {
    const bytes = this.regions[region];
    if (bytes === undefined || offset + length > bytes.length) throw new Error('a read outside a region');
    this.reads.push({ token, bytes: readSync(fd, bytes, offset, length, position) });
  }

  registerRegion(memory: SharedArrayBuffer): number {
    return this.regions.push(new Uint8Array(memory)) - 1;
  }

  outputBytes(): number {
    return 0;
  }

  disconnect(): void {
    this.shut = true;
  }

  close(): void {
    this.closed = true;
  }

  reset(): void {
    this.abort();
  }

  abort(): void {
    this.closed = true;
    this.aborted = true;
  }

  setDeadline(): void {
    this.deadlines++;
  }

  private take(bytes: Uint8Array): void {
    if (this.shut || this.closed) throw new Error('output after the end of output');
    this.output += Buffer.from(bytes).toString('latin1');
  }

  /** A new connection. */
  connect(): void {
    this.output = '';
    this.closed = false;
    this.aborted = false;
    this.shut = false;
    this.sink.onAccept(0, -1, 0);
  }

  /** Bytes from the client, then everything that follows from them. */
  deliver(bytes: Uint8Array): void {
    if (this.closed) return;
    if (!this.reading) throw new Error('the test delivers while the engine does not read');
    this.memory.set(bytes, INPUT_AT);
    this.sink.onRead(this.connection, 0, INPUT_AT, bytes.length);
    // What the engine kept must not be these bytes.
    this.memory.fill(0xee, INPUT_AT, INPUT_AT + bytes.length);
    this.settle();
  }

  /** Completions, until there are none. */
  settle(): void {
    for (let turn = 0; turn < 10_000; turn++) {
      const sent = this.written.shift();
      if (sent !== undefined) {
        this.sink.onWritten(sent.handle, 0, sent.token, 0);
        continue;
      }
      const read = this.reads.shift();
      if (read !== undefined) {
        this.sink.onReadFile?.(read.token, read.bytes, 0);
        continue;
      }
      if (!this.drain || this.closed) return;
      this.drain = false;
      this.meanwhile();
      this.sink.onDrain(this.connection, 0);
    }
    throw new Error('the engine does not come to rest');
  }

  /** The client ends its side; the connection is over after that. */
  end(): void {
    if (!this.closed) this.sink.onEnd(this.connection, 0, 0);
    this.settle();
    if (!this.closed) throw new Error('the engine does not close');
    this.sink.onClose(this.connection, 0);
  }
}
