/**
 * Files: what the file system says about a path, and the bytes of the ones that are asked for often.
 *
 * What it is for: nginx's open_file_cache, with contents. A small body is an array of its own (it is copied next to its
 * header), a medium one lies in a shared region and is sent from there without a copy, a large one is not kept.
 * Invariant: what `find` answers was true within the validity the caller asked for; a body in the region is not
 * overwritten while a write refers to it (`refs`); memory is bounded: when it is full, the least recently used leaves for a file that is
 * asked for more (popularity.ts), and all others pass: they are read for the one request.
 * Not its job: which file a request means (static handler), streaming (stream.ts).
 */

import { closeSync, constants, openSync, readSync } from 'node:fs';
import { FileLoader, type FileState, isDirectory, isRegularFile } from '@megapipe/core';
import { errnoOf } from '../log/errno.ts';
import { pathOf } from './bytes.ts';
import { formatDate } from './date.ts';
import { Extents } from './extents.ts';
import { hashOf, type Linked, Popularity, RecencyList } from './popularity.ts';
import type { Prepared } from './prepared.ts';

export const FileKind = { None: 0, File: 1, Directory: 2, Other: 3 } as const;

/** Bodies up to this are copied behind their header; above about 12 KiB sending in place costs less. */
export const COPY_MAX = 8 * 1024;
/** Bodies up to this are kept; larger files are read as they are sent. */
export const KEEP_MAX = 1024 * 1024;

export interface FileCacheOptions {
  /** Memory for medium bodies, bytes. */
  regionBytes: number;
  /** Memory for small bodies, and for answers made from any file, bytes. */
  smallBytes: number;
  /** Paths remembered. */
  entriesMax: number;
}

export const FILE_CACHE_DEFAULTS: FileCacheOptions = {
  regionBytes: 64 * 1024 * 1024,
  smallBytes: 64 * 1024 * 1024,
  entriesMax: 16_384,
};

/** Files that were used again since they came last in line, looked at in search of one that was not. */
const CHANCES = 8;

const OPEN_FLAGS = constants.O_RDONLY | constants.O_NONBLOCK;

export class FileEntry implements Linked<FileEntry> {
  readonly path: string;
  readonly hash: number;
  kind: number = FileKind.None;
  /** errno of the failed call, 0 = none; `failed` names the call. */
  errno = 0;
  failed = 'open';
  size = 0;
  /** Permission bits and type. */
  mode = 0;
  /** Seconds. */
  mtime = 0;
  lastModified = '';
  etag = '';
  /** Tick of the last look at the file system. */
  checked = -1;
  /** Small body. Of a file that passes: until the next one does. */
  body: Uint8Array | null = null;
  /** Medium body: place in the region, or -1. */
  offset = -1;
  /** Writes in flight from the region. */
  refs = 0;
  /** No longer what the path holds; memory goes with the last reference. */
  gone = false;
  /** Not kept: read for one request. */
  passes = false;
  /** How often it was opened, or would have been. */
  uses = 0;
  /** Opened, so that permissions are known, and read if it is to be kept. */
  opened = false;
  /** Answers made from this file, by their header without date. */
  readonly prepared = new Map<string, Prepared>();
  /** Its place in the order of use, and the tick of that. */
  list: RecencyList<FileEntry> | null = null;
  older: FileEntry | null = null;
  newer: FileEntry | null = null;
  usedTick = -1;
  private modified = 0;
  private changed = 0;
  private inode = 0;

  constructor(path: string, hash: number) {
    this.path = path;
    this.hash = hash;
  }

  /** Whether answers made from it were sent again after its last use. */
  sentSince(): boolean {
    for (const { dateTick } of this.prepared.values()) if (dateTick > this.usedTick) return true;
    return false;
  }

  same(state: FileState): boolean {
    return (
      this.size === state.size &&
      this.modified === state.modified &&
      this.changed === state.changed &&
      this.inode === state.inode &&
      this.errno === 0
    );
  }

  take(state: FileState): void {
    this.errno = 0;
    this.kind = isRegularFile(state) ? FileKind.File : isDirectory(state) ? FileKind.Directory : FileKind.Other;
    this.size = state.size;
    this.mode = state.mode;
    this.modified = state.modified;
    this.changed = state.changed;
    this.inode = state.inode;
    this.mtime = Math.floor(state.modified / 1000);
    this.lastModified = formatDate(this.mtime);
    this.etag = `"${this.mtime.toString(16)}-${this.size.toString(16)}"`;
  }
}

/** What is not to be had, without asking the file system. */
export function failedEntry(path: string, call: string, errno: number): FileEntry {
  const entry = new FileEntry(path, 0);
  entry.failed = call;
  entry.errno = errno;
  return entry;
}

export class FileCache {
  /** Medium bodies. */
  readonly memory: SharedArrayBuffer;
  private readonly bytes: Uint8Array;
  private readonly extents: Extents;
  private readonly entries = new Map<string, FileEntry>();
  private readonly entriesMax: number;
  private readonly popularity = new Popularity();
  /** Entries by what they keep: nothing, a small body, a place in the region. */
  private readonly bare = new RecencyList<FileEntry>();
  private readonly small = new RecencyList<FileEntry>();
  private readonly medium = new RecencyList<FileEntry>();
  /** Of `smallBytes`. */
  private smallFree: number;
  private readonly loader = new FileLoader(COPY_MAX);
  /** A file that passes, whose body lies in the loader. */
  private passing: FileEntry | null = null;
  private tick = 0;

  constructor(options: FileCacheOptions = FILE_CACHE_DEFAULTS) {
    this.memory = new SharedArrayBuffer(options.regionBytes);
    this.bytes = new Uint8Array(this.memory);
    this.extents = new Extents(options.regionBytes);
    this.smallFree = options.smallBytes;
    this.entriesMax = options.entriesMax;
  }

  /** Number of paths remembered. */
  get count(): number {
    return this.entries.size;
  }

  /**
   * What is at `path`, known to be true at a tick after `tick - validTicks` (0: look now). With `open` the file is
   * opened too, as serving it needs; without, stat suffices. Failures are remembered only with `keepErrors`. A file that
   * was opened less than `minUses` times is looked at each time.
   */
  find(path: string, tick: number, validTicks: number, open: boolean, keepErrors: boolean, minUses = 1): FileEntry {
    this.tick = tick;
    let entry = this.entries.get(path);
    const hash = entry?.hash ?? hashOf(path);
    this.popularity.note(hash);
    const uses = (entry?.uses ?? 0) + (open ? 1 : 0);
    if (entry !== undefined) {
      const seldom = open && uses <= minUses && minUses > 1 && entry.kind === FileKind.File;
      entry.uses = uses;
      entry.list?.use(entry);
      entry.usedTick = tick;
      if (tick - entry.checked < validTicks && !seldom) {
        if (open && !entry.opened && entry.errno === 0) this.openKnown(entry, tick);
        return entry;
      }
      if (this.loader.stat(path) === 0 && entry.same(this.loader)) {
        entry.checked = tick;
        if (open && !entry.opened) this.openKnown(entry, tick);
        return entry;
      }
      this.drop(entry);
    }
    entry = new FileEntry(path, hash);
    entry.uses = uses;
    entry.checked = tick;
    entry.usedTick = tick;
    entry.passes = !this.hasPlace(entry);
    if (open) this.open(entry, tick);
    else {
      entry.errno = this.loader.stat(path);
      if (entry.errno === 0) entry.take(this.loader);
      else entry.failed = 'stat';
    }
    if (!entry.passes && (entry.errno === 0 || keepErrors)) this.remember(entry);
    return entry;
  }

  /** A descriptor for streaming, which the caller closes; negative errno on failure. */
  openFile(entry: FileEntry): number {
    try {
      return openSync(pathOf(entry.path), OPEN_FLAGS);
    } catch (error) {
      return -errnoOf(error);
    }
  }

  /** One more write refers to the entry's place in the region. */
  retain(entry: FileEntry): void {
    entry.refs++;
  }

  release(entry: FileEntry): void {
    entry.refs--;
    if (entry.gone && entry.refs === 0) this.freeRegion(entry);
  }

  /** Keeps an answer made from the file, if there is room; it goes with the file. */
  keepAnswer(entry: FileEntry, key: string, prepared: Prepared): boolean {
    if (entry.gone || entry.passes || !this.makeSmallRoom(entry, prepared.bytes.length)) return false;
    this.smallFree -= prepared.bytes.length;
    entry.prepared.set(key, prepared);
    return true;
  }

  /** Bytes of a kept file; null when it is not kept. */
  view(entry: FileEntry): Uint8Array | null {
    if (entry.body !== null) return entry.body;
    return entry.offset < 0 ? null : this.bytes.subarray(entry.offset, entry.offset + entry.size);
  }

  /** Opens a file of which so far only the path was looked at. */
  private openKnown(entry: FileEntry, tick: number): void {
    this.open(entry, tick);
    if (entry.passes) this.forget(entry);
    else this.place(entry);
  }

  private open(entry: FileEntry, tick: number): void {
    const { loader } = this;
    // Who passed has its bytes no more, and is read again if it is still to be sent.
    if (this.passing !== null) this.passing.body = null;
    this.passing = null;
    const errno = loader.load(entry.path);
    if (errno !== 0) {
      entry.errno = errno;
      entry.failed = loader.failedCall;
      entry.kind = FileKind.None;
      return;
    }
    entry.take(loader);
    entry.checked = tick;
    entry.opened = true;
    const fd = loader.descriptor;
    if (fd < 0) {
      if (loader.whole) this.keepSmall(entry);
      return;
    }
    if (entry.size <= KEEP_MAX && !entry.passes) this.keepMedium(entry, fd);
    closeSync(fd);
  }

  /** Keeps the body that was loaded if there is room; else it passes. */
  private keepSmall(entry: FileEntry): void {
    const body = this.loader.body.subarray(0, entry.size);
    if (entry.passes || !this.makeSmallRoom(entry, entry.size)) {
      entry.passes = true;
      entry.body = body;
      this.passing = entry;
      return;
    }
    entry.body = body.slice();
    this.smallFree -= entry.size;
  }

  private keepMedium(entry: FileEntry, fd: number): void {
    const { size } = entry;
    let offset = this.extents.take(size);
    while (offset < 0 && this.driveOut(entry, this.medium)) offset = this.extents.take(size);
    if (offset < 0) {
      entry.passes = true;
      return;
    }
    if (readWhole(fd, this.bytes, offset, size)) entry.offset = offset;
    else this.extents.give(offset, size);
  }

  private makeSmallRoom(entry: FileEntry, bytes: number): boolean {
    while (this.smallFree < bytes)
      if (!this.driveOut(entry, this.small) && !this.driveOut(entry, this.medium)) return false;
    return true;
  }

  /** Whether one more path can be remembered. */
  private hasPlace(entry: FileEntry): boolean {
    if (this.entries.size < this.entriesMax) return true;
    return this.driveOut(entry, this.bare) || this.driveOut(entry, this.small) || this.driveOut(entry, this.medium);
  }

  /** The least recently used of a list leaves, unless it is asked for as much as the newcomer, or is being sent. */
  private driveOut(newcomer: FileEntry, list: RecencyList<FileEntry>): boolean {
    for (let chances = CHANCES; chances > 0; chances--) {
      const entry = list.oldest;
      if (entry === null || entry === newcomer) return false;
      if (entry.refs === 0 && !entry.sentSince()) {
        if (!this.popularity.beats(newcomer.hash, entry.hash)) return false;
        this.drop(entry);
        return true;
      }
      entry.usedTick = this.tick;
      list.use(entry);
    }
    return false;
  }

  private remember(entry: FileEntry): void {
    this.entries.set(entry.path, entry);
    this.place(entry);
  }

  /** Puts an entry in the list of what it keeps. */
  private place(entry: FileEntry): void {
    const list = entry.body !== null ? this.small : entry.offset >= 0 ? this.medium : this.bare;
    list.use(entry);
  }

  private forget(entry: FileEntry): void {
    this.entries.delete(entry.path);
    entry.list?.remove(entry);
    entry.gone = true;
  }

  private drop(entry: FileEntry): void {
    this.forget(entry);
    for (const prepared of entry.prepared.values()) {
      prepared.alive = false;
      this.smallFree += prepared.bytes.length;
    }
    entry.prepared.clear();
    if (entry.body !== null) {
      this.smallFree += entry.size;
      entry.body = null;
    }
    if (entry.refs === 0) this.freeRegion(entry);
  }

  private freeRegion(entry: FileEntry): void {
    if (entry.offset < 0) return;
    this.extents.give(entry.offset, entry.size);
    entry.offset = -1;
  }
}

/** True when exactly `size` bytes could be read: a file that changes meanwhile is not kept, and of one that cannot be read the sender tells. */
function readWhole(fd: number, into: Uint8Array, offset: number, size: number): boolean {
  try {
    let done = 0;
    while (done < size) {
      const count = readSync(fd, into, offset + done, size - done, done);
      if (count === 0) return false;
      done += count;
    }
    return true;
  } catch {
    return false;
  }
}
