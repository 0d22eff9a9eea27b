/**
 * UDP: commands in datagrams, replies in numbered datagrams.
 *
 * What it is for: each datagram is a request of its own: a header of four 16-bit numbers (request id, number of this
 * datagram, how many there are, 0), then a command, text or binary. The reply has the same id and comes in as many
 * datagrams as it takes, of 1,400 bytes at most. A request of several datagrams is dropped, as memcached does; what is
 * incomplete is forgotten with its datagram.
 * Invariant: nothing is kept between two datagrams; a reply is bounded by what 65,535 datagrams hold.
 * On node:dgram: UDP is not the hot path here. Not its job: what commands do (the protocols).
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { isIP } from 'node:net';
import { Conn, PROTOCOL_BINARY, PROTOCOL_TEXT } from './conn.ts';
import type { Cache } from './engine/cache.ts';
import { T_BYTES_READ, threadBase } from './engine/stats.ts';
import { type BinaryHost, MAGIC_REQUEST, ProtoBin } from './proto_bin.ts';
import { type Host, ProtoText } from './proto_text.ts';
import { FULL, type Output } from './values.ts';

const HEADER_BYTES = 8;
const DATAGRAM_BYTES_MAX = 1400;
const PAYLOAD_BYTES_MAX = DATAGRAM_BYTES_MAX - HEADER_BYTES;
const REPLY_BYTES_MAX = 0xffff * PAYLOAD_BYTES_MAX;
/** Room for what is produced in place: far above the largest `reserve` of the protocols. */
const SCRATCH_BYTES = 256 * 1024;

/** What the protocols write into: gathers the reply to one datagram. */
class DatagramOutput implements Output {
  readonly memory = new Uint8Array(SCRATCH_BYTES);
  private readonly cacheBytes: Buffer;
  private readonly onWritten: (token: number) => void;
  private used = 0;
  private parts: Buffer[] = [];
  private partBytes = 0;

  constructor(cacheBytes: Buffer, onWritten: (token: number) => void) {
    this.cacheBytes = cacheBytes;
    this.onWritten = onWritten;
  }

  reserve(_handle: number, bytes: number): number {
    if (this.used + bytes > SCRATCH_BYTES) this.setAside();
    return bytes > SCRATCH_BYTES || this.partBytes + this.used + bytes > REPLY_BYTES_MAX ? -1 : this.used;
  }

  commit(_handle: number, bytes: number): void {
    this.used += bytes;
  }

  writeCopy(_handle: number, source: Uint8Array, start: number, end: number): number {
    return this.append(Buffer.from(source.subarray(start, end))) ? 0 : FULL;
  }

  write(_handle: number, _region: number, offset: number, length: number, token: number): number {
    if (!this.append(Buffer.from(this.cacheBytes.subarray(offset, offset + length)))) return FULL;
    this.onWritten(token);
    return 0;
  }

  /** The whole reply; the next one begins empty. */
  take(): Buffer {
    this.setAside();
    const reply = Buffer.concat(this.parts, this.partBytes);
    this.parts = [];
    this.partBytes = 0;
    return reply;
  }

  private setAside(): void {
    if (this.used === 0) return;
    this.parts.push(Buffer.from(this.memory.subarray(0, this.used)));
    this.partBytes += this.used;
    this.used = 0;
  }

  private append(bytes: Buffer): boolean {
    this.setAside();
    if (this.partBytes + bytes.length > REPLY_BYTES_MAX) return false;
    this.parts.push(bytes);
    this.partBytes += bytes.length;
    return true;
  }
}

export class Udp {
  private readonly sockets: Socket[] = [];
  private readonly out: DatagramOutput;
  private readonly text: ProtoText;
  private readonly binary: ProtoBin;
  private readonly conn = new Conn();
  private readonly f64: Float64Array;
  private readonly counters: number;
  private readonly binaryOnly: boolean;
  private readonly textOnly: boolean;

  /** `protocol`: -B. */
  constructor(cache: Cache, host: Host & BinaryHost, protocol: 'auto' | 'ascii' | 'binary') {
    this.out = new DatagramOutput(cache.memory.u8, (token) => this.text.written(token));
    this.text = new ProtoText(cache, this.out, host);
    this.binary = new ProtoBin(cache, this.out, this.text.values, host);
    this.f64 = cache.memory.f64;
    this.counters = threadBase(cache.thread);
    this.binaryOnly = protocol === 'binary';
    this.textOnly = protocol === 'ascii';
  }

  /** Binds one more socket: its port. Rejects with Node's error. */
  async bind(host: string, port: number): Promise<number> {
    const v6 = isIP(host) === 6;
    const socket = createSocket(v6 ? { type: 'udp6', ipv6Only: true } : { type: 'udp4' });
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.bind(port, host, () => {
        socket.off('error', reject);
        resolve();
      });
    });
    // An ICMP error to an earlier reply: that client is gone, the socket stays.
    socket.on('error', () => {});
    socket.on('message', (datagram, from) => this.onDatagram(socket, datagram, from));
    this.sockets.push(socket);
    return socket.address().port;
  }

  close(): void {
    for (const socket of this.sockets.splice(0)) socket.close();
  }

  private onDatagram(socket: Socket, datagram: Buffer, from: RemoteInfo): void {
    if (datagram.length <= HEADER_BYTES) return;
    this.f64[this.counters + T_BYTES_READ] += datagram.length;
    if (datagram.readUInt16BE(4) !== 1) return;
    const reply = this.carryOut(datagram);
    const total = Math.ceil(reply.length / PAYLOAD_BYTES_MAX);
    for (let i = 0; i < total; i++) {
      const header = Buffer.alloc(HEADER_BYTES);
      datagram.copy(header, 0, 0, 2);
      header.writeUInt16BE(i, 2);
      header.writeUInt16BE(total, 4);
      const payload = reply.subarray(i * PAYLOAD_BYTES_MAX, (i + 1) * PAYLOAD_BYTES_MAX);
      // A reply that cannot be sent is lost, as datagrams are.
      socket.send([header, payload], from.port, from.address, () => {});
    }
  }

  private carryOut(datagram: Buffer): Buffer {
    const { conn } = this;
    const binary = this.binaryOnly || (!this.textOnly && datagram[HEADER_BYTES] === MAGIC_REQUEST);
    conn.open(0, binary ? PROTOCOL_BINARY : PROTOCOL_TEXT, -1, 0);
    const run = binary ? this.binary : this.text;
    let at = HEADER_BYTES;
    // There is nobody to give way to: a datagram has its turns one after the other.
    do at = run.run(conn, datagram, at, datagram.length);
    while (conn.yielded && at < datagram.length);
    // What it began and did not finish is given back.
    this.text.close(conn);
    conn.isOpen = false;
    return this.out.take();
  }
}
