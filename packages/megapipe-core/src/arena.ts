/**
 * The channel's memory: one mapping that holds everything the kernel reads or writes on the channel's behalf.
 *
 * Laid out once: control words, epoll events, socket addresses, gather blocks, the buffer ring, receive buffers, a
 * scratch chunk (where output of broken connections goes), output chunks. Offsets are bytes from the start.
 */
import { type Native, NET, native } from '@megapipe/native';
import { ARENA, LARGE_CHUNK_BYTES, OutputPool } from './output.ts';
import { NO_SEGMENT } from './slots.ts';

const PAGE = 4096;
export const EVENTS_MAX = 1024;
export const ADDRESSES_MAX = 256;
export const ADDRESS_BYTES = 128;
/** Accepts in flight that ask for the peer's address, over all listeners. */
export const NAMED_ACCEPTS = 256;
export const PEER_BYTES = 32;
/** Segments in one gathering send. */
export const GATHER_MAX = 64;
/** msghdr (56 bytes, padded to 64) and GATHER_MAX iovecs of 16 bytes. */
export const GATHER_BYTES = 64 + GATHER_MAX * 16;
const GATHER_BLOCKS = 512;

/** Socket domain of an address as `connect` takes it: a path or abstract name, an IPv6 or an IPv4 literal. */
export function addressFamily(host: string): number {
  if (host.startsWith('/') || host.startsWith('@')) return NET.AF_UNIX;
  return host.includes(':') ? NET.AF_INET6 : NET.AF_INET;
}

export class Arena {
  readonly region: number;
  readonly address: number;
  readonly memory: Uint8Array;
  readonly words: Int32Array;
  readonly halfwords: Uint16Array;
  readonly control = 0;
  readonly events: number;
  readonly #addresses: number;
  readonly bufferRing: number;
  readonly recv: number;
  readonly recvBuffers: number;
  readonly recvBytes: number;
  readonly scratch: number;
  readonly output: OutputPool;
  /** One kernel address (ADDRESS_BYTES) for each named accept in flight, and behind them one length word each. */
  readonly acceptNames: number;
  /** 32 bytes for each lwsocket: its peer's address. Empty without `peerNames`. */
  readonly peers: number;
  readonly #gatherFree: Int32Array;
  #gatherCount: number;
  readonly #addressOf = new Map<string, number>();
  /** Length of the sockaddr at each address slot. */
  readonly #addressLength = new Int32Array(ADDRESSES_MAX);
  readonly #native: Native = native;

  constructor(recvBuffers: number, recvBytes: number, outputBytes: number, peers: number) {
    let at = PAGE;
    const take = (bytes: number, align: number): number => {
      const start = Math.ceil(at / align) * align;
      at = start + bytes;
      return start;
    };
    this.events = take(EVENTS_MAX * 12, 64);
    this.#addresses = take(ADDRESSES_MAX * ADDRESS_BYTES, 64);
    const gather = take(GATHER_BLOCKS * GATHER_BYTES, 64);
    this.acceptNames = take(NAMED_ACCEPTS * (ADDRESS_BYTES + 4), 64);
    this.peers = take(peers * PEER_BYTES, 64);
    this.bufferRing = take(recvBuffers * 16, PAGE);
    this.recv = take(recvBuffers * recvBytes, PAGE);
    this.scratch = take(LARGE_CHUNK_BYTES, PAGE);
    const outputBase = take(OutputPool.size(outputBytes), LARGE_CHUNK_BYTES);
    const map = this.#native.memoryMap(at);
    this.region = map.id;
    this.address = map.address;
    this.memory = new Uint8Array(map.buffer);
    this.words = new Int32Array(map.buffer, 0, at >>> 2);
    this.halfwords = new Uint16Array(map.buffer, 0, at >>> 1);
    this.recvBuffers = recvBuffers;
    this.recvBytes = recvBytes;
    this.output = new OutputPool(outputBase, outputBytes);
    this.#gatherFree = new Int32Array(GATHER_BLOCKS);
    for (let i = 0; i < GATHER_BLOCKS; i++) this.#gatherFree[i] = gather + (GATHER_BLOCKS - 1 - i) * GATHER_BYTES;
    this.#gatherCount = GATHER_BLOCKS;
  }

  /** Offset of a free gather block, or -1. */
  takeGather(): number {
    return this.#gatherCount > 0 ? this.#gatherFree[--this.#gatherCount]! : -1;
  }

  giveGather(offset: number): void {
    this.#gatherFree[this.#gatherCount++] = offset;
  }

  /** Writes the segments from `first` on at `offset`, as iovecs, GATHER_MAX at most; `regions`: addresses by region. Returns how many. */
  writeIovecs(offset: number, first: number, regions: ArrayLike<number>): number {
    const { output, words } = this;
    let w = offset >>> 2;
    let count = 0;
    for (let s = first; s !== NO_SEGMENT && count < GATHER_MAX; s = output.segNext[s]!) {
      const length = output.segLength[s]!;
      if (length === 0) continue;
      const region = output.segRegion[s]!;
      const address = (region === ARENA ? this.address : regions[region]!) + output.segOffset[s]!;
      words[w] = address | 0;
      words[w + 1] = (address / 0x1_0000_0000) | 0;
      words[w + 2] = length;
      words[w + 3] = 0;
      w += 4;
      count++;
    }
    return count;
  }

  /** Offset of the kernel's form of an address, kept for reuse; -1 when ADDRESSES_MAX different ones are in use. */
  sockaddr(host: string, port: number): number {
    const key = `${host} ${port}`;
    const known = this.#addressOf.get(key);
    if (known !== undefined) return known;
    const n = this.#addressOf.size;
    if (n === ADDRESSES_MAX) return -1;
    const offset = this.#addresses + n * ADDRESS_BYTES;
    this.#addressLength[n] = this.#native.sockaddr(this.region, offset, host, port);
    this.#addressOf.set(key, offset);
    return offset;
  }

  sockaddrLength(offset: number): number {
    return this.#addressLength[(offset - this.#addresses) / ADDRESS_BYTES]!;
  }

  free(): void {
    this.#native.memoryUnmap(this.region);
  }
}
