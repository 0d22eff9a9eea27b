/**
 * Regions: memory of the user's that the kernel may read from and write into without a copy.
 *
 * Invariant: a region that a request refers to is not given up, so the kernel never uses memory that is gone. Not its job: the
 * requests themselves.
 */
import { native } from '@megapipe/native';
import { MegapipeError } from './errors.ts';

/** As many as the addon has regions. */
const REGIONS_MAX = 4096;
/** A request's length is 32 bits to the kernel, and signed where it comes back. */
const LENGTH_MAX = 0x7fff_ffff;

export class Regions {
  /** Address of each, by id. */
  readonly address: Float64Array = new Float64Array(REGIONS_MAX);
  /** Requests that refer to each. */
  readonly uses: Int32Array = new Int32Array(REGIONS_MAX);
  /** Bytes of each; 0: there is none. */
  readonly #length = new Float64Array(REGIONS_MAX);

  /** Its id, valid in this channel. Throws what the addon says when it has no room for more. */
  register(memory: SharedArrayBuffer): number {
    const view = new Uint8Array(memory);
    const { id, address } = native.memoryAttach(view);
    this.address[id] = address;
    this.#length[id] = view.length;
    return id;
  }

  /** Throws ERR_MEGAPIPE_REGION for one that there is not, ERR_MEGAPIPE_STATE while a request refers to it. */
  unregister(id: number): void {
    if (!this.#length[id])
      throw new MegapipeError('ERR_MEGAPIPE_REGION', `unregisterRegion: there is no region ${id} in this channel`);
    if (this.uses[id]! > 0)
      throw new MegapipeError(
        'ERR_MEGAPIPE_STATE',
        `unregisterRegion: ${this.uses[id]} requests on region ${id} are not finished`,
      );
    this.#length[id] = 0;
    native.memoryRelease(id);
  }

  /** Throws ERR_MEGAPIPE_REGION or ERR_MEGAPIPE_RANGE unless [offset, offset + length) lies in the region. */
  check(verb: string, id: number, offset: number, length: number): void {
    const size = this.#length[id];
    if (!size) throw new MegapipeError('ERR_MEGAPIPE_REGION', `${verb}: there is no region ${id} in this channel`);
    if (
      !(offset >= 0 && length >= 0 && offset + length <= size && length <= LENGTH_MAX) ||
      offset % 1 !== 0 ||
      length % 1 !== 0
    )
      throw new MegapipeError(
        'ERR_MEGAPIPE_RANGE',
        `${verb}: bytes ${offset}+${length} are outside region ${id} of ${size} bytes`,
      );
  }

  /** Gives all up: no request is under way any more. */
  releaseAll(): void {
    for (let id = 0; id < REGIONS_MAX; id++) if (this.#length[id]! > 0) native.memoryRelease(id);
    this.#length.fill(0);
  }
}
