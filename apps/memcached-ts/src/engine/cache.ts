/**
 * One thread's way into the cache: the engine's parts over one shared memory, wired together.
 * Not its job: behaviour; each part has its own file.
 */
import { Decimal } from '../numbers.ts';
import { Assoc } from './assoc.ts';
import { Items } from './items.ts';
import { type CacheConfig, type CacheMemory, createCacheMemory } from './layout.ts';
import { type LockMode, Locks } from './locks.ts';
import { Lru } from './lru.ts';
import { Slabs } from './slabs.ts';

export class Cache {
  readonly memory: CacheMemory;
  readonly locks: Locks;
  readonly assoc: Assoc;
  readonly slabs: Slabs;
  readonly lru: Lru;
  readonly items: Items;
  readonly decimal = new Decimal();
  readonly thread: number;

  /** `thread`: 1 … 127, which names the counters and lock words of this thread. */
  constructor(memory: CacheMemory, mode: LockMode, thread: number) {
    this.memory = memory;
    this.thread = thread;
    this.locks = new Locks(memory, mode, thread);
    this.assoc = new Assoc(memory, this.locks);
    this.slabs = new Slabs(memory, this.locks);
    this.lru = new Lru(memory, this.locks);
    this.items = new Items(memory, this.locks, this.assoc, this.slabs, this.lru, this.decimal, thread);
  }
}

/** A fresh cache for a configuration; other threads join with `new Cache(new CacheMemory(shared, config), …)`. */
export function createCache(config: CacheConfig, mode: LockMode, thread: number, hashSeed: number): Cache {
  const cache = new Cache(createCacheMemory(config, hashSeed), mode, thread);
  cache.slabs.initialise();
  return cache;
}
