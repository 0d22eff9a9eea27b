/** Reads from files that are under way: what each is called by its user, and the region it goes to. */
import { MegapipeError } from './errors.ts';

/** An index must fit where a slot stands otherwise. */
const FILE_READS_MAX = 65_536;
const DONE = -1;

export class FileReads {
  readonly #token: number[] = [];
  readonly #region: number[] = [];
  readonly #free: number[] = [];

  /** The index of a new one; throws ERR_MEGAPIPE_CAPACITY when there are too many. */
  begin(token: number, region: number): number {
    const index = this.#free.pop() ?? this.#token.length;
    if (index === FILE_READS_MAX)
      throw new MegapipeError('ERR_MEGAPIPE_CAPACITY', `readFile: ${FILE_READS_MAX} reads are under way already`);
    this.#token[index] = token;
    this.#region[index] = region;
    return index;
  }

  /** Ends one: its region. `tokenOf` stays valid until the next `begin`. */
  end(index: number): number {
    const region = this.#region[index]!;
    this.#region[index] = DONE;
    this.#free.push(index);
    return region;
  }

  tokenOf(index: number): number {
    return this.#token[index]!;
  }

  /** Indexes of those under way. */
  pending(): number[] {
    return [...this.#region.keys()].filter((index) => this.#region[index] !== DONE);
  }
}
