/**
 * Looking at paths, and reading small files, at one call of the addon each: what a server does for every file that it does not have
 * in memory. They block as long as the file system does, as Node's own synchronous calls.
 * Not its job: what is remembered of a file, and reading large ones (Channel.readFile).
 */
import { native } from '@megapipe/native';

/** Places in the record of csrc/file.c. */
const SIZE = 0;
const MODE = 1;
const MODIFIED = 2;
const CHANGED = 3;
const INODE = 4;
const FAILED = 5;
const LOADED = 6;
const DESCRIPTOR = 7;
const RECORD_LENGTH = 8;

const CALLS = ['open', 'fstat'] as const;

const TYPE = 0o170000;
const REGULAR = 0o100000;
const DIRECTORY = 0o040000;

/** A file's state; times are milliseconds since 1970, with their fraction. */
export interface FileState {
  /** Bytes. */
  readonly size: number;
  /** Type and permission bits. */
  readonly mode: number;
  readonly modified: number;
  readonly changed: number;
  readonly inode: number;
}

export const isRegularFile = (state: FileState): boolean => (state.mode & TYPE) === REGULAR;
export const isDirectory = (state: FileState): boolean => (state.mode & TYPE) === DIRECTORY;

/** What it tells is of its last `stat` or `load` that succeeded. A path is a string of bytes: a character (0 to 255) is one. */
export class FileLoader implements FileState {
  /** Where bodies are read to; their bytes are there until the next `load`. */
  readonly body: Uint8Array;
  readonly #record = new Float64Array(RECORD_LENGTH);

  /** `bodyBytes`: files up to this are read by `load`. */
  constructor(bodyBytes: number) {
    this.body = new Uint8Array(bodyBytes);
  }

  get size(): number {
    return this.#record[SIZE]!;
  }

  get mode(): number {
    return this.#record[MODE]!;
  }

  get modified(): number {
    return this.#record[MODIFIED]!;
  }

  get changed(): number {
    return this.#record[CHANGED]!;
  }

  get inode(): number {
    return this.#record[INODE]!;
  }

  /** Whether `load` has read the whole body: not of what is no regular file, is too long, became shorter meanwhile, or cannot be read. */
  get whole(): boolean {
    return this.#record[LOADED] === this.#record[SIZE];
  }

  /** Of a regular file that `load` found too long: a descriptor, which is the caller's to close; else -1. */
  get descriptor(): number {
    return this.#record[DESCRIPTOR]!;
  }

  /** The call that failed in `load`. */
  get failedCall(): (typeof CALLS)[number] {
    return CALLS[this.#record[FAILED]!]!;
  }

  /** Looks at a path. 0, or the errno. */
  stat(path: string): number {
    return 0 - native.fileStat(path, this.#record);
  }

  /** Opens a path for reading, without waiting for a FIFO's writer, looks at it, and reads it if it is small. 0, or the errno. */
  load(path: string): number {
    return 0 - native.fileLoad(path, this.#record, this.body);
  }
}
