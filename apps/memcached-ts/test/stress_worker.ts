/** A thread of the stress test: random operations on the shared cache, every value checked as it is read; or the background work, as fast as it goes. */
import { parentPort, workerData } from 'node:worker_threads';
import { Cache } from '../src/engine/cache.ts';
import { CRAWL_BACKGROUND, parseLists } from '../src/engine/crawler.ts';
import { STORE_ADD, STORE_APPEND, STORE_SET } from '../src/engine/items.ts';
import { type CacheConfig, CacheMemory, W_BACKGROUND_STOP, W_TIME } from '../src/engine/layout.ts';
import type { LockMode } from '../src/engine/locks.ts';
import { Maintainer } from '../src/engine/maintainer.ts';

const { shared, config, mode, thread, role, keys } = workerData as {
  shared: SharedArrayBuffer;
  config: CacheConfig;
  mode: LockMode;
  thread: number;
  role: 'client' | 'background';
  keys: number;
};

const cache = new Cache(new CacheMemory(shared, config), mode, thread);
const { items, assoc, locks } = cache;
const { u8 } = cache.memory;
const bytes = Buffer.alloc(300);
let seed = thread * 0x9e37_79b9;
let faults = 0;
let hits = 0;
const held: [ref: number, mark: number][] = [];

function random(below: number): number {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return (seed >>> 0) % below;
}

/** A value repeats the low byte of its key's number, so a torn or foreign one shows. */
function fillValue(ref: number, mark: number): void {
  let left = items.nbytes(ref);
  let chunk = items.isChunked(ref) ? items.firstChunk(ref) : 0;
  while (left > 0) {
    const at = chunk === 0 ? items.dataAt(ref) : items.chunkAt(chunk);
    const length = chunk === 0 ? left : items.chunkUsed(chunk);
    u8.fill(mark, at, at + length);
    left -= length;
    if (left === 0) u8.write('\r\n', at + length - 2, 'latin1');
    else chunk = items.nextChunk(chunk);
  }
}

function checkValue(ref: number, mark: number): void {
  const at = items.isChunked(ref) ? items.chunkAt(items.firstChunk(ref)) : items.dataAt(ref);
  const length = items.isChunked(ref) ? items.chunkUsed(items.firstChunk(ref)) : items.nbytes(ref) - 2;
  for (let i = 0; i < length; i += 1 + (length >> 6)) if (u8[at + i] !== mark) faults++;
}

function operation(): void {
  const n = random(keys);
  const mark = 0x80 | (n & 0x3f);
  const counter = n % 10 === 0;
  const end = bytes.write(counter ? `counter${n}` : `key-${n}`, 0, 'latin1');
  const hash = assoc.hash(bytes, 0, end);
  const dice = random(100);
  if (counter) {
    if (dice < 90) items.delta(bytes, 0, end, hash, dice < 60, 0, random(1000));
    else {
      const ref = items.alloc(bytes, 0, end, 0, 0, 3);
      if (ref !== 0) {
        u8.write('0\r\n', items.dataAt(ref), 'latin1');
        items.store(ref, hash, STORE_ADD, 0, 0);
        items.release(ref);
      }
    }
  } else if (dice < 45) {
    locks.lockItem(hash);
    const ref = items.find(bytes, 0, end, hash);
    if (ref !== 0) {
      items.bump(ref);
      items.hold(ref);
    }
    locks.unlockItem(hash);
    if (ref !== 0) {
      // Outside the lock: the reference alone must keep it whole.
      checkValue(ref, mark);
      hits++;
      // Some are held for longer, as by a client that reads slowly.
      held.push([ref, mark]);
      if (held.length > 8 || dice < 20) {
        const [old, oldMark] = held.splice(random(held.length), 1)[0]!;
        checkValue(old, oldMark);
        items.releaseHeld(old);
      }
    }
  } else if (dice < 85) {
    const size = dice < 84 ? 2 + random(3000) : dice === 84 ? 2 + random(40_000) : 0;
    const nbytes = random(2000) === 0 ? 600_000 : Math.max(2, size);
    const ref = items.alloc(bytes, 0, end, n, random(20) === 0 ? 1 : 0, nbytes);
    if (ref !== 0) {
      fillValue(ref, mark);
      items.store(ref, hash, STORE_SET, 0, 0);
      items.release(ref);
    }
  } else if (dice < 90) {
    const ref = items.alloc(bytes, 0, end, 0, 0, 2 + 50);
    if (ref !== 0) {
      fillValue(ref, mark);
      items.store(ref, hash, STORE_APPEND, 0, 0);
      items.release(ref);
    }
  } else if (dice < 97) {
    items.remove(bytes, 0, end, hash);
  } else {
    items.touch(bytes, 0, end, hash, 0);
  }
}

function background(): void {
  const maintainer = new Maintainer(cache);
  let clock = 0;
  for (let i = 1; Atomics.load(cache.memory.i32, W_BACKGROUND_STOP) === 0; i++) {
    maintainer.step((clock += 1000));
    // A second goes by with every hundredth step, so that things expire.
    if (i % 100 === 0) cache.memory.i32[W_TIME] = cache.memory.i32[W_TIME]! + 1;
    if (i % 20 === 0) cache.slabs.requestMove(-1, random(40));
    if (i % 500 === 0) maintainer.crawler.begin(parseLists('all')!, 0, CRAWL_BACKGROUND);
  }
  maintainer.crawler.end();
  maintainer.mover.stop();
}

if (role === 'background') background();
else while (Atomics.load(cache.memory.i32, W_BACKGROUND_STOP) === 0) operation();
for (const [ref, mark] of held) {
  checkValue(ref, mark);
  items.releaseHeld(ref);
}
parentPort!.postMessage({ faults, hits });
