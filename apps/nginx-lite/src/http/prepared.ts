/**
 * Answers that are ready to be sent again, and the requests they answer.
 *
 * What it is for: a request head that was answered once is answered again by comparing its bytes and copying the
 * answer: parsing, phases and filters are pure functions of those bytes and of files that were looked at. Invariants:
 * a memo is used only on the listening address it was made on, before `validUntil` (when each file would be looked at
 * again), while its answer is alive, and for clients for whom its guards hold; memory is bounded by the number of memos and the length of their heads.
 * Not its job: deciding what is pure (phases mark the request).
 */

import type { Connection } from './connection.ts';
import type { FileEntry } from './file-cache.ts';
import type { RuntimeLocation } from './runtime.ts';

/** A header ready to send, with its body behind it or in the region. */
export class Prepared {
  /** Header, and the body when it is small. */
  readonly bytes: Uint8Array;
  readonly headerLength: number;
  /** Where the 29 bytes of the Date stand, or -1. */
  readonly dateOffset: number;
  /** Tick whose date `bytes` holds. */
  dateTick = -1;
  /** Where the body lies in the region; null when it is in `bytes` or there is none. */
  readonly file: FileEntry | null;
  readonly keepalive: boolean;
  readonly status: number;
  readonly bodyLength: number;
  alive = true;
  /** Bytes that gzip got, and made of them; 0: it did not work on it. */
  gzipIn = 0;
  gzipOut = 0;

  constructor(
    bytes: Uint8Array,
    headerLength: number,
    dateOffset: number,
    file: FileEntry | null,
    keepalive: boolean,
    status: number,
    bodyLength: number,
  ) {
    this.bytes = bytes;
    this.headerLength = headerLength;
    this.dateOffset = dateOffset;
    this.file = file;
    this.keepalive = keepalive;
    this.status = status;
    this.bodyLength = bodyLength;
  }
}

/** A request head, the answer it gets, and what is to be logged for it. */
export class Memo {
  readonly key: Uint8Array;
  readonly length: number;
  readonly hash: number;
  /** Index of the listening address. */
  readonly listen: number;
  readonly prepared: Prepared;
  /** First tick at which the files behind the answer are to be looked at again. */
  readonly validUntil: number;
  readonly location: RuntimeLocation;
  readonly keepaliveMs: number;
  readonly keepaliveRequests: number;
  readonly keepaliveTicks: number;
  /** null: nothing is logged. */
  readonly log: MemoLog | null;
  /** What must hold for a client; null: any client gets this answer. */
  readonly guards: readonly ((connection: Connection) => boolean)[] | null;

  constructor(
    key: Uint8Array,
    hash: number,
    listen: number,
    prepared: Prepared,
    validUntil: number,
    location: RuntimeLocation,
    log: MemoLog | null,
    guards: readonly ((connection: Connection) => boolean)[],
  ) {
    const { conf } = location;
    this.key = key;
    this.length = key.length;
    this.hash = hash;
    this.listen = listen;
    this.prepared = prepared;
    this.validUntil = validUntil;
    this.location = location;
    this.keepaliveMs = conf.keepaliveTimeoutMs;
    this.keepaliveRequests = conf.keepaliveRequests;
    this.keepaliveTicks = Math.ceil(conf.keepaliveTimeMs / 1000);
    this.log = log;
    this.guards = guards.length > 0 ? guards : null;
  }
}

/** Whether a client may get the answer of a memo. */
export function isFor(memo: Memo, connection: Connection): boolean {
  if (memo.guards === null) return true;
  for (const holds of memo.guards) if (!holds(connection)) return false;
  return true;
}

/** What logs a request that a memo answers. */
export interface MemoLog {
  write(connection: Connection): void;
}

/** Longest head that is remembered. */
export const MEMO_HEAD_MAX = 2048;
/** A head has its place in one set, and there in any way: a site's few hundred hot heads do not drive one another out. */
const MEMO_SETS = 1024;
const MEMO_WAYS = 4;

/** Memos by the hash of their heads and by listening address; the oldest of a set makes room. */
export class MemoTable {
  private readonly memos: (Memo | null)[] = new Array<Memo | null>(MEMO_SETS * MEMO_WAYS).fill(null);

  get(hash: number, listen: number): Memo | null {
    const first = (hash & (MEMO_SETS - 1)) * MEMO_WAYS;
    for (let i = first; i < first + MEMO_WAYS; i++) {
      const memo = this.memos[i] as Memo | null;
      if (memo !== null && memo.hash === hash && memo.listen === listen) return memo;
    }
    return null;
  }

  put(memo: Memo): void {
    const { memos } = this;
    const first = (memo.hash & (MEMO_SETS - 1)) * MEMO_WAYS;
    // The newest stands first: what is older moves towards the end and out.
    let last = first;
    while (last < first + MEMO_WAYS - 1) {
      const old = memos[last] as Memo | null;
      if (old === null || (old.hash === memo.hash && old.listen === memo.listen)) break;
      last++;
    }
    for (let i = last; i > first; i--) memos[i] = memos[i - 1] as Memo | null;
    memos[first] = memo;
  }

  clear(): void {
    this.memos.fill(null);
  }
}
