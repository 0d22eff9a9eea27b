/**
 * UDP: commands in datagrams, replies in numbered datagrams.
 *
 * What it is for: each datagram is a request of its own: a header of four 16-bit numbers (request id, number of this
 * datagram, how many there are, 0), then a command, text or binary. The reply has the same id and comes in as many
 * datagrams as it takes, of 1,400 bytes at most. A request of several datagrams is dropped, as memcached does; what is
 * incomplete is forgotten with its datagram.
 * Invariant: nothing is kept between two datagrams, but of those, WAITING_MAX at most, whose reply waits for other
 * threads; a reply is bounded by what 65,535 datagrams hold.
 * On node:dgram: UDP is not the hot path here. Not its job: what commands do (the protocols).
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { isIP } from 'node:net';
import { CONN_COMMAND, CONN_WAIT, Conn, PROTOCOL_BINARY, PROTOCOL_TEXT } from './conn.ts';
import type { Cache } from './engine/cache.ts';
import { TIME_AT_START, W_TIME } from './engine/layout.ts';
import { T_BYTES_READ, threadBase } from './engine/stats.ts';
import { type BinaryHost, ProtoBin } from './proto_bin.ts';
import { type Host, ProtoText } from './proto_text.ts';
import { MAGIC_REQUEST } from './protocol.ts';
import { FULL, type Output } from './values.ts';

const HEADER_BYTES = 8;
const DATAGRAM_BYTES_MAX = 1400;
const PAYLOAD_BYTES_MAX = DATAGRAM_BYTES_MAX - HEADER_BYTES;
const DATAGRAMS_MAX = 0xffff;
const REPLY_BYTES_MAX = DATAGRAMS_MAX * PAYLOAD_BYTES_MAX;
/** Room for what is produced in place: far above the largest `reserve` of the protocols. */
const SCRATCH_BYTES = 256 * 1024;
/** Datagrams whose reply waits for other threads; beyond that such a command is refused. */
const WAITING_MAX = 64;

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

/** A bound socket, for `stats conns`. */
interface Bound {
  socket: Socket;
  /** `udp:host:port` */
  name: string;
  /** When it last received something, seconds on the cache's clock. */
  lastRead: number;
}

/** A datagram that is being answered. */
interface Exchange {
  conn: Conn;
  bound: Bound;
  datagram: Buffer;
  from: RemoteInfo;
  /** How far it is carried out. */
  at: number;
  /** The reply so far, where that had to wait. */
  parts: Buffer[];
}

export class Udp {
  private readonly sockets: Bound[] = [];
  private readonly waiting = new Map<Conn, Exchange>();
  private readonly out: DatagramOutput;
  private readonly text: ProtoText;
  private readonly binary: ProtoBin;
  /** Of the next datagram. */
  private conn = new Conn();
  private readonly i32: Int32Array;
  private readonly f64: Float64Array;
  private readonly counters: number;

  constructor(cache: Cache, host: Host & BinaryHost) {
    this.out = new DatagramOutput(cache.memory.u8, (token) => this.text.written(token));
    this.text = new ProtoText(cache, this.out, host);
    this.binary = new ProtoBin(cache, this.out, this.text.values, host);
    this.i32 = cache.memory.i32;
    this.f64 = cache.memory.f64;
    this.counters = threadBase(cache.thread);
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
    const { address, port: ownPort } = socket.address();
    const bound = { socket, name: nameOf(address, ownPort), lastRead: TIME_AT_START };
    socket.on('message', (datagram, from) => this.onDatagram(bound, datagram, from));
    this.sockets.push(bound);
    return ownPort;
  }

  close(): void {
    for (const { socket } of this.sockets.splice(0)) socket.close();
  }

  /** Whether one more reply may wait for other threads. */
  get mayWait(): boolean {
    return this.waiting.size < WAITING_MAX;
  }

  /** What `stats conns` tells of each socket, name and value. */
  describe(): [name: string, value: string | number][][] {
    return this.sockets.map((bound) => {
      const asks = [...this.waiting.values()].find((exchange) => exchange.bound === bound)?.from;
      return [
        ['UDP', 'UDP'],
        ['addr', asks === undefined ? bound.name : nameOf(asks.address, asks.port)],
        ...(asks === undefined ? [] : [['listen_addr', bound.name] as [string, string]]),
        ['state', asks === undefined ? 'conn_read' : 'conn_parse_cmd'],
        ['secs_since_last_cmd', this.i32[W_TIME]! - bound.lastRead],
      ];
    });
  }

  /** What a reply waited for is there: `stats` text. */
  answer(conn: Conn, text: string): void {
    const exchange = this.waiting.get(conn);
    if (exchange === undefined) return;
    this.waiting.delete(conn);
    conn.state = CONN_COMMAND;
    const written = this.protocolOf(conn).writeStats(conn, text);
    this.carryOut(exchange, written);
  }

  private protocolOf(conn: Conn): ProtoText | ProtoBin {
    return conn.protocol === PROTOCOL_BINARY ? this.binary : this.text;
  }

  private onDatagram(bound: Bound, datagram: Buffer, from: RemoteInfo): void {
    if (datagram.length <= HEADER_BYTES) return;
    this.f64[this.counters + T_BYTES_READ] += datagram.length;
    bound.lastRead = this.i32[W_TIME]!;
    if (datagram.readUInt16BE(4) !== 1) return;
    const { conn } = this;
    // Whatever -B says: memcached, too, looks at the first byte of each.
    const binary = datagram[HEADER_BYTES] === MAGIC_REQUEST;
    conn.open(0, binary ? PROTOCOL_BINARY : PROTOCOL_TEXT, -1, 0);
    this.carryOut({ conn, bound, datagram, from, at: HEADER_BYTES, parts: [] }, true);
  }

  /** Goes on with a datagram (`more`), and sends the reply unless that has to wait. */
  private carryOut(exchange: Exchange, more: boolean): void {
    const { conn, datagram, parts } = exchange;
    const run = this.protocolOf(conn);
    // There is nobody to give way to: a datagram has its turns one after the other.
    if (more) {
      do exchange.at = run.run(conn, datagram, exchange.at, datagram.length);
      while (conn.yielded && exchange.at < datagram.length);
    }
    parts.push(this.out.take());
    if (conn.state === CONN_WAIT) {
      this.waiting.set(conn, exchange);
      if (this.conn === conn) this.conn = new Conn();
      return;
    }
    // What it began and did not finish is given back.
    this.text.close(conn);
    conn.isOpen = false;
    this.reply(exchange, parts.length === 1 ? parts[0]! : Buffer.concat(parts));
  }

  private reply({ bound, datagram, from }: Exchange, reply: Buffer): void {
    const total = Math.min(DATAGRAMS_MAX, Math.ceil(reply.length / PAYLOAD_BYTES_MAX));
    for (let i = 0; i < total; i++) {
      const header = Buffer.alloc(HEADER_BYTES);
      datagram.copy(header, 0, 0, 2);
      header.writeUInt16BE(i, 2);
      header.writeUInt16BE(total, 4);
      const payload = reply.subarray(i * PAYLOAD_BYTES_MAX, (i + 1) * PAYLOAD_BYTES_MAX);
      // A reply that cannot be sent is lost, as datagrams are.
      bound.socket.send([header, payload], from.port, from.address, () => {});
    }
  }
}

/** As memcached names a UDP address. */
function nameOf(address: string, port: number): string {
  return isIP(address) === 6 ? `udp6:[${address}]:${port}` : `udp:${address}:${port}`;
}
