/**
 * Provided buffers: receive buffers that the kernel picks from a ring in shared memory, and that come back after use.
 *
 * The ring's rows are 16 bytes: address, length, buffer id (io_uring's struct io_uring_buf). Its tail is a u16 that lies in the unused
 * part of row 0, and wraps at 65,536 (trap 8).
 * Invariant: a buffer that was taken back is seen by the kernel only from `publish` on, once a batch, so its bytes stay
 * valid while the handlers of the batch run. Not its job: registration with the kernel.
 */
export class BufferRing {
  readonly #words: Int32Array;
  readonly #halfwords: Uint16Array;
  readonly #base: number;
  readonly #mask: number;
  readonly #tailHalf: number;
  readonly #addressLow: number;
  readonly #addressHigh: number;
  readonly #buffers: number;
  readonly #bytes: number;
  #tail: number;

  /**
   * `words` and `halfwords` are views of the same memory, which starts at `address`; `ring` (16-byte aligned) and `buffers` are byte
   * offsets in it, of `count` rows (a power of two) and as many buffers of `bytes` each; `tail` is the offset of the
   * tail within the ring. All buffers are taken back at once.
   */
  constructor(
    words: Int32Array,
    halfwords: Uint16Array,
    address: number,
    ring: number,
    tail: number,
    buffers: number,
    count: number,
    bytes: number,
  ) {
    this.#words = words;
    this.#halfwords = halfwords;
    this.#base = ring >>> 2;
    this.#mask = count - 1;
    this.#tailHalf = (ring + tail) >>> 1;
    this.#addressLow = address % 0x1_0000_0000;
    this.#addressHigh = Math.floor(address / 0x1_0000_0000);
    this.#buffers = buffers;
    this.#bytes = bytes;
    this.#tail = halfwords[this.#tailHalf]!;
    for (let id = 0; id < count; id++) this.takeBack(id);
  }

  /** Byte offset of a buffer. */
  offset(id: number): number {
    return this.#buffers + id * this.#bytes;
  }

  takeBack(id: number): void {
    const words = this.#words;
    const row = this.#base + ((this.#tail & this.#mask) << 2);
    const low = this.#addressLow + this.#buffers + id * this.#bytes;
    words[row] = low | 0;
    words[row + 1] = low >= 0x1_0000_0000 ? this.#addressHigh + 1 : this.#addressHigh;
    words[row + 2] = this.#bytes;
    /* Half a word: in row 0 the other half is the tail. */
    this.#halfwords[(row + 3) << 1] = id;
    this.#tail = (this.#tail + 1) & 0xffff;
  }

  publish(): void {
    this.#halfwords[this.#tailHalf] = this.#tail;
  }
}
