/**
 * `watch`: log lines from every worker to the connections, of any worker, that asked for them.
 *
 * How: a shared word says which kinds somebody watches; a worker looks at it once for each piece of received bytes and makes
 * lines only for those. Lines are kept for a few milliseconds, then go to all workers as one message, and each writes
 * to its own watchers. Invariants: what is on its way from one worker is bounded by worker_logbuf_size, counted until
 * every worker has taken it; lines above that are dropped and counted, and so are those that a watcher is too slow for.
 * Not its job: what is logged (Items.log, worker.ts), the command's words (proto_text.ts).
 */
import type { Cache } from './engine/cache.ts';
import { uriEncode } from './engine/dump.ts';
import { EXISTS, type ItemLog, type Items, NOT_FOUND, NOT_STORED, STORED } from './engine/items.ts';
import {
  I_EXPTIME,
  I_META,
  I_TIME,
  ITEM_FETCHED,
  LOCK_STRIDE_WORDS,
  LOG_KINDS_COUNT,
  W_LOG_COUNTS,
  W_LOG_FLAGS,
  W_LOG_GID,
  W_LOG_WATCHERS,
  W_THREAD_LOG_COUNTS,
  W_THREAD_WATCHERS,
  W_TIME,
} from './engine/layout.ts';
import { T_LOG_DROPPED, T_LOG_SENT, T_LOG_SKIPPED, T_LOG_WRITTEN, threadBase } from './engine/stats.ts';

/** Kinds of lines, by the words of `watch`; their bits in the shared word. */
export const LOG_KINDS: Readonly<Record<string, number>> = {
  fetchers: 1,
  mutations: 2,
  evictions: 4,
  connevents: 8,
  deletions: 16,
  sysevents: 32,
  rawcmds: 64,
  // Of memcached's proxy, which is not here: its words are understood, and nothing happens.
  proxyreqs: 0,
  proxyevents: 0,
  proxyuser: 0,
};
const FETCHERS = 1;
const MUTATIONS = 2;
const EVICTIONS = 4;
export const CONNEVENTS = 8;
const DELETIONS = 16;
const SYSEVENTS = 32;
const WATCHERS_MAX = 20;
const FLUSH_MS = 5;
const COMMANDS = ['set', 'add', 'replace', 'append', 'prepend', 'cas', 'append', 'prepend'];
const STATUSES: Readonly<Record<number, string>> = {
  [STORED]: 'stored',
  [NOT_STORED]: 'not_stored',
  [EXISTS]: 'exists',
  [NOT_FOUND]: 'not_found',
};

/** Lines of one kind each, as they travel. */
export interface LogLines {
  kinds: number[];
  lines: string[];
}

/** Connections of a worker, as those who watch see them. */
export interface WatcherOutput {
  /** Bytes of lines that a connection may be sent now: watcher_logbuf_size less what it has not taken yet. */
  room(handle: number): number;
  /** False where its output is full. */
  write(handle: number, text: string): boolean;
}

/** A connection that watches. */
export interface Watcher {
  handle: number;
  kinds: number;
  skipped: number;
}

export class Logger implements ItemLog {
  /** Number of the connection whose command runs. */
  cfd = 0;
  private readonly i32: Int32Array;
  private readonly f64: Float64Array;
  private readonly items: Items;
  private readonly u8: Buffer;
  private readonly counters: number;
  private readonly bytesMax: number;
  /** This thread's words about watchers begin here: as many as LOCK_STRIDE_WORDS a thread. */
  private readonly own: number;
  private readonly send: (lines: LogLines, bytes: number) => void;
  private readonly to: WatcherOutput;
  private readonly onTimer: boolean;
  private readonly watchers: Watcher[] = [];
  private kinds: number[] = [];
  private lines: string[] = [];
  private bytes = 0;
  private bytesUnderway = 0;
  private timer: NodeJS.Timeout | undefined;

  /** `send`: to all workers; `to`: where lines for watchers of this worker go. */
  constructor(
    cache: Cache,
    bytesMax: number,
    send: (lines: LogLines, bytes: number) => void,
    to: WatcherOutput,
    onTimer = true,
  ) {
    this.i32 = cache.memory.i32;
    this.f64 = cache.memory.f64;
    this.u8 = cache.memory.u8;
    this.items = cache.items;
    this.counters = threadBase(cache.thread);
    this.bytesMax = bytesMax;
    this.own = cache.thread * LOCK_STRIDE_WORDS;
    this.send = send;
    this.to = to;
    this.onTimer = onTimer;
  }

  // ---- making lines ----------------------------------------------------------------------------------------------

  watches(kind: number): boolean {
    return (this.i32[W_LOG_FLAGS] & kind) !== 0;
  }

  add(kind: number, text: string): void {
    if (!this.watches(kind)) return;
    const micros = Math.round((performance.timeOrigin + performance.now()) * 1000);
    const gid = (Atomics.add(this.i32, W_LOG_GID, 1) + 1) >>> 0;
    const line = `ts=${Math.floor(micros / 1e6)}.${micros % 1e6} gid=${gid} ${text}\n`;
    if (this.bytes + this.bytesUnderway + line.length > this.bytesMax) {
      this.f64[this.counters + T_LOG_DROPPED] += 1;
      return;
    }
    this.kinds.push(kind);
    this.lines.push(line);
    this.bytes += line.length;
    this.f64[this.counters + T_LOG_WRITTEN] += 1;
    if (this.onTimer) this.timer ??= setTimeout(this.flush, FLUSH_MS);
  }

  /** Sends what there is. By itself soon after a line, but for a thread that sleeps elsewhere than in its event loop. */
  readonly flush = (): void => {
    this.timer = undefined;
    if (this.lines.length === 0) return;
    const { kinds, lines, bytes } = this;
    this.kinds = [];
    this.lines = [];
    this.bytes = 0;
    this.bytesUnderway += bytes;
    this.send({ kinds, lines }, bytes);
  };

  /** Workers have taken lines of that many bytes. One that took a dead one's place may hear of lines that are not its own. */
  taken(bytes: number): void {
    this.bytesUnderway = Math.max(0, this.bytesUnderway - bytes);
  }

  stop(): void {
    clearTimeout(this.timer);
  }

  get(bytes: Buffer, start: number, end: number, status: string, ref: number): void {
    if (!this.watches(FETCHERS)) return;
    const { items } = this;
    const clsid = ref === 0 ? 0 : items.clsid(ref);
    const size = ref === 0 ? 0 : items.nbytes(ref) - 2;
    this.add(
      FETCHERS,
      `type=item_get key=${uriEncode(bytes, start, end)} status=${status} clsid=${clsid} cfd=${this.cfd} size=${size}`,
    );
  }

  store(ref: number, result: number, mode: number): void {
    if (!this.watches(MUTATIONS)) return;
    const { items } = this;
    const exptime = this.i32[ref * 2 + I_EXPTIME];
    const ttl = exptime === 0 ? 0 : (exptime - this.i32[W_TIME]) >>> 0;
    this.add(
      MUTATIONS,
      `type=item_store key=${this.keyOf(ref)} status=${STATUSES[result]} cmd=${COMMANDS[mode]} ttl=${ttl} ` +
        `clsid=${items.clsid(ref)} cfd=${this.cfd} size=${items.nbytes(ref) - 2}`,
    );
  }

  /** Of a store that found no room: there is no item to tell of. */
  refused(bytes: Buffer, start: number, end: number, status: string, mode: number): void {
    this.add(
      MUTATIONS,
      `type=item_store key=${uriEncode(bytes, start, end)} status=${status} cmd=${COMMANDS[mode]} ttl=0 clsid=0 ` +
        `cfd=${this.cfd} size=0`,
    );
  }

  eviction(ref: number): void {
    if (!this.watches(EVICTIONS)) return;
    const { items, i32 } = this;
    const exptime = i32[ref * 2 + I_EXPTIME];
    const now = i32[W_TIME];
    const fetched = (i32[ref * 2 + I_META] & ITEM_FETCHED) === 0 ? 'no' : 'yes';
    this.add(
      EVICTIONS,
      `type=eviction key=${this.keyOf(ref)} fetch=${fetched} ttl=${exptime === 0 ? -1 : exptime - now} ` +
        `la=${now - i32[ref * 2 + I_TIME]} clsid=${items.clsid(ref)} size=${items.nbytes(ref) - 2}`,
    );
  }

  system(text: string): void {
    this.add(SYSEVENTS, text);
  }

  deletion(ref: number, command: string): void {
    if (!this.watches(DELETIONS)) return;
    const { items } = this;
    this.add(
      DELETIONS,
      `type=deleted key=${this.keyOf(ref)} cmd=${command} clsid=${items.clsid(ref)} cfd=${this.cfd} ` +
        `size=${items.nbytes(ref) - 2}`,
    );
  }

  private keyOf(ref: number): string {
    const at = this.items.keyAt(ref);
    return uriEncode(this.u8, at, at + this.items.keyBytes(ref));
  }

  // ---- watchers --------------------------------------------------------------------------------------------------

  /** From the next command on, of any connection, lines of these kinds go to the connection. False: too many watch. */
  watch(handle: number, kinds: number): boolean {
    if (Atomics.add(this.i32, W_LOG_WATCHERS, 1) >= WATCHERS_MAX) {
      Atomics.sub(this.i32, W_LOG_WATCHERS, 1);
      return false;
    }
    this.watchers.push({ handle, kinds, skipped: 0 });
    this.i32[W_THREAD_WATCHERS + this.own]! += 1;
    for (let kind = 0; kind < LOG_KINDS_COUNT; kind++) {
      if ((kinds & (1 << kind)) === 0) continue;
      Atomics.add(this.i32, W_LOG_COUNTS + kind, 1);
      this.i32[W_THREAD_LOG_COUNTS + this.own + kind]! += 1;
    }
    Atomics.or(this.i32, W_LOG_FLAGS, kinds);
    return true;
  }

  unwatch(handle: number): void {
    const at = this.watchers.findIndex((watcher) => watcher.handle === handle);
    if (at < 0) return;
    const [watcher] = this.watchers.splice(at, 1);
    Atomics.sub(this.i32, W_LOG_WATCHERS, 1);
    this.i32[W_THREAD_WATCHERS + this.own]! -= 1;
    for (let kind = 0; kind < LOG_KINDS_COUNT; kind++) {
      const bit = 1 << kind;
      if ((watcher!.kinds & bit) === 0) continue;
      this.i32[W_THREAD_LOG_COUNTS + this.own + kind]! -= 1;
      if (Atomics.sub(this.i32, W_LOG_COUNTS + kind, 1) > 1) continue;
      Atomics.and(this.i32, W_LOG_FLAGS, ~bit);
      // Somebody may have begun to watch this kind in between.
      if (Atomics.load(this.i32, W_LOG_COUNTS + kind) > 0) Atomics.or(this.i32, W_LOG_FLAGS, bit);
    }
  }

  /** Lines of some worker, for the watchers here. */
  receive({ kinds, lines }: LogLines): void {
    for (const watcher of this.watchers) {
      let room = -1;
      let text = '';
      let count = 0;
      let skipped = 0;
      for (let i = 0; i < lines.length; i++) {
        if ((kinds[i]! & watcher.kinds) === 0) continue;
        if (room < 0) {
          room = this.to.room(watcher.handle);
          text = watcher.skipped > 0 ? `skipped=${watcher.skipped}\n` : '';
        }
        // From the first that does not fit on: what is left out stands together.
        if (skipped > 0 || text.length + lines[i]!.length > room) {
          skipped++;
          continue;
        }
        text += lines[i];
        count++;
      }
      if (count > 0 && this.to.write(watcher.handle, text)) {
        watcher.skipped = skipped;
        this.f64[this.counters + T_LOG_SENT] += count;
      } else {
        skipped += count;
        watcher.skipped += skipped;
      }
      this.f64[this.counters + T_LOG_SKIPPED] += skipped;
    }
  }
}
