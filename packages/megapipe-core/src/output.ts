/**
 * Output memory: chunks of the channel's arena that replies are written into, and the segments that queue them.
 *
 * A connection's output is a list of segments in order, each a range of a chunk or of a user's region. Chunks come in
 * two sizes: a small one for the usual reply, a large one once a connection has more to say in the same batch.
 * The free lists are stacks: the chunk given back last is still in the cache.
 * Invariant: a chunk belongs to exactly one segment or to a free list. Not its job: when to send.
 */

export const SMALL_CHUNK_BYTES = 4096;
export const LARGE_CHUNK_BYTES = 65_536;
/** A segment of the arena (not of a user's region). */
export const ARENA = -1;

export class OutputPool {
  readonly small: Int32Array;
  readonly large: Int32Array;
  smallFree: number;
  largeFree: number;
  readonly largeBase: number;

  /* Segments: columns, grown by doubling. */
  segNext: Int32Array;
  segRegion: Int32Array;
  /** Where the unsent bytes start, in the region or arena. */
  segOffset: Float64Array;
  segLength: Float64Array;
  /** Arena: end of the chunk. */
  segEnd: Int32Array;
  /** Arena: start of the chunk, to give back. Region: the user's token. */
  segChunk: Int32Array;
  segFree: number;

  /** `base`: arena offset of `bytes` bytes, a multiple of 64 KiB. */
  constructor(base: number, bytes: number) {
    const largeCount = Math.max(4, Math.floor(bytes / 2 / LARGE_CHUNK_BYTES));
    const smallCount = Math.max(16, Math.floor((bytes - largeCount * LARGE_CHUNK_BYTES) / SMALL_CHUNK_BYTES));
    this.largeBase = base + smallCount * SMALL_CHUNK_BYTES;
    this.small = new Int32Array(smallCount);
    this.large = new Int32Array(largeCount);
    for (let i = 0; i < smallCount; i++) this.small[i] = base + (smallCount - 1 - i) * SMALL_CHUNK_BYTES;
    for (let i = 0; i < largeCount; i++) this.large[i] = this.largeBase + (largeCount - 1 - i) * LARGE_CHUNK_BYTES;
    this.smallFree = smallCount;
    this.largeFree = largeCount;
    const n = 1024;
    this.segNext = new Int32Array(n);
    this.segRegion = new Int32Array(n);
    this.segOffset = new Float64Array(n);
    this.segLength = new Float64Array(n);
    this.segEnd = new Int32Array(n);
    this.segChunk = new Int32Array(n);
    this.segFree = -1;
    this.#link(0, n);
  }

  /** Bytes of arena that a pool of `bytes` takes. */
  static size(bytes: number): number {
    return Math.max(bytes, 4 * LARGE_CHUNK_BYTES + 16 * SMALL_CHUNK_BYTES) + LARGE_CHUNK_BYTES;
  }

  #link(from: number, to: number): void {
    for (let i = to - 1; i >= from; i--) {
      this.segNext[i] = this.segFree;
      this.segFree = i;
    }
  }

  #grow(): void {
    const n = this.segNext.length;
    const copy = <T extends Int32Array | Float64Array>(a: T): T => {
      const b = new (a.constructor as new (n: number) => T)(n * 2);
      b.set(a);
      return b;
    };
    this.segNext = copy(this.segNext);
    this.segRegion = copy(this.segRegion);
    this.segOffset = copy(this.segOffset);
    this.segLength = copy(this.segLength);
    this.segEnd = copy(this.segEnd);
    this.segChunk = copy(this.segChunk);
    this.#link(n, n * 2);
  }

  segment(): number {
    if (this.segFree < 0) this.#grow();
    const s = this.segFree;
    this.segFree = this.segNext[s]!;
    this.segNext[s] = -1;
    return s;
  }

  /** A segment over a fresh chunk with room for `bytes`, or -1 when the pool is empty. */
  chunkSegment(bytes: number, large: boolean): number {
    let at: number;
    let size: number;
    if (!large && bytes <= SMALL_CHUNK_BYTES && this.smallFree > 0) {
      at = this.small[--this.smallFree]!;
      size = SMALL_CHUNK_BYTES;
    } else if (this.largeFree > 0) {
      at = this.large[--this.largeFree]!;
      size = LARGE_CHUNK_BYTES;
    } else if (bytes <= SMALL_CHUNK_BYTES && this.smallFree > 0) {
      at = this.small[--this.smallFree]!;
      size = SMALL_CHUNK_BYTES;
    } else return -1;
    const s = this.segment();
    this.segRegion[s] = ARENA;
    this.segOffset[s] = at;
    this.segLength[s] = 0;
    this.segEnd[s] = at + size;
    this.segChunk[s] = at;
    return s;
  }

  /** Gives a segment (and its chunk) back. */
  release(s: number): void {
    if (this.segRegion[s] === ARENA) {
      const at = this.segChunk[s]!;
      if (at < this.largeBase) this.small[this.smallFree++] = at;
      else this.large[this.largeFree++] = at;
    }
    this.segNext[s] = this.segFree;
    this.segFree = s;
  }
}
