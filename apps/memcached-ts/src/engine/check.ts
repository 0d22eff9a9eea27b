/**
 * Invariant checker: walks the whole cache memory and reports everything that does not add up.
 *
 * What it is for: the end of every test that changes the cache. Invariants: every chunk of every page is free, uncut, a
 * linked item, or one of the held items the caller names; every linked item is reached once from its bucket and once
 * from its LRU list; counts, bytes and reference counts are exact; no lock is held.
 * Needs a cache at rest: no other thread may be working. Not its job: repairing.
 */
import type { Cache } from './cache.ts';
import {
  C_HEAD,
  CLASS_MASK,
  CLASS_SHIFT,
  D_LRU_BYTES,
  I_HASH_NEXT,
  I_LEAD_BYTES,
  I_META,
  I_NEXT,
  I_PREV,
  I_REFCOUNT,
  ITEM_CHUNK,
  ITEM_CHUNKED,
  ITEM_LINKED,
  ITEM_LOCKS,
  ITEM_SLABBED,
  LOCK_STRIDE_WORDS,
  LRU_COUNT,
  LRU_HEAD,
  LRU_LISTS,
  LRU_TAIL,
  LRU_WORDS,
  PAGE_BYTES,
  PAGE_POOL,
  PAGE_RELEASED,
  SLAB_CARVE_LEFT,
  SLAB_CARVE_REF,
  SLAB_CLASSES_MAX,
  SLAB_FREE_COUNT,
  SLAB_FREE_HEAD,
  SLAB_PAGES,
  SLAB_PER_PAGE,
  SLAB_SIZE,
  SLAB_WORDS,
  W_HASH_BUCKETS,
  W_HASH_ITEMS,
  W_ITEM_LOCKS,
  W_LOCK_CACHE,
  W_LOCK_CAS,
  W_LOCK_HASH,
  W_LOCK_SLABS,
  W_LRU,
  W_LRU_LOCKS,
  W_MOVE_PAGE,
  W_MOVE_RUNNING,
  W_PAGE_CLASS,
  W_PAGES_POOL,
  W_PAGES_RELEASED,
  W_PAGES_USED,
  W_SLABS,
} from './layout.ts';

/** Everything found wrong, as sentences; empty when sound. `held`: item refs → references that somebody still holds. */
export function checkInvariants(cache: Cache, held: ReadonlyMap<number, number> = new Map()): string[] {
  const { memory, assoc, items } = cache;
  const { i32, f64, u8, layout } = memory;
  const faults: string[] = [];
  const fault = (text: string): void => {
    if (faults.length < 100) faults.push(text);
  };

  // Pages: what each chunk is.
  const state = new Map<number, 'free' | 'uncut' | 'used'>();
  const classOfChunk = new Map<number, number>();
  const pagesOfClass = new Array<number>(SLAB_CLASSES_MAX).fill(0);
  let pool = 0;
  let released = 0;
  for (let page = 0; page < i32[W_PAGES_USED]; page++) {
    const clsid = i32[W_PAGE_CLASS + page];
    if (clsid === PAGE_POOL) pool++;
    if (clsid === PAGE_RELEASED) released++;
    if (clsid <= 0) continue;
    pagesOfClass[clsid]! += 1;
    const at = W_SLABS + clsid * SLAB_WORDS;
    const first = (layout.pagesByte + page * PAGE_BYTES) / 8;
    for (let i = 0; i < i32[at + SLAB_PER_PAGE]; i++) {
      const ref = first + (i * i32[at + SLAB_SIZE]) / 8;
      state.set(ref, 'used');
      classOfChunk.set(ref, clsid);
    }
  }
  if (pool !== i32[W_PAGES_POOL]) fault(`the pool counts ${i32[W_PAGES_POOL]} pages and has ${pool}`);
  if (released !== i32[W_PAGES_RELEASED]) fault(`${i32[W_PAGES_RELEASED]} pages count as released, ${released} are`);
  if (i32[W_MOVE_RUNNING] !== 0) fault(`page ${i32[W_MOVE_PAGE]} is on its way`);
  for (let clsid = 1; clsid < SLAB_CLASSES_MAX; clsid++) {
    const at = W_SLABS + clsid * SLAB_WORDS;
    if (i32[at + SLAB_PAGES] !== pagesOfClass[clsid]) {
      fault(`class ${clsid} counts ${i32[at + SLAB_PAGES]} pages and owns ${pagesOfClass[clsid]}`);
    }
    let free = 0;
    let before = 0;
    for (let ref = i32[at + SLAB_FREE_HEAD]; ref !== 0; ref = i32[ref * 2 + I_NEXT]) {
      if (i32[ref * 2 + I_PREV] !== before) fault(`free chunk ${ref} points back to ${i32[ref * 2 + I_PREV]}`);
      before = ref;
      if (state.get(ref) !== 'used' || classOfChunk.get(ref) !== clsid) {
        fault(`free list of class ${clsid} holds ${ref}, which is ${state.get(ref)} of class ${classOfChunk.get(ref)}`);
        break;
      }
      if (i32[ref * 2 + I_META] !== (ITEM_SLABBED | (clsid << CLASS_SHIFT))) fault(`free chunk ${ref} has odd marks`);
      state.set(ref, 'free');
      free++;
    }
    if (free !== i32[at + SLAB_FREE_COUNT]) {
      fault(`class ${clsid} counts ${i32[at + SLAB_FREE_COUNT]} free chunks and has ${free}`);
    }
    for (let i = 0; i < i32[at + SLAB_CARVE_LEFT]; i++) {
      const ref = i32[at + SLAB_CARVE_REF] + (i * i32[at + SLAB_SIZE]) / 8;
      if (state.get(ref) !== 'used' || classOfChunk.get(ref) !== clsid)
        fault(`uncut chunk ${ref} is ${state.get(ref)}`);
      state.set(ref, 'uncut');
    }
  }

  // LRU lists.
  const listed = new Map<number, number>();
  for (let list = 0; list < LRU_LISTS; list++) {
    const at = W_LRU + list * LRU_WORDS;
    let count = 0;
    let bytes = 0;
    let prev = 0;
    for (let ref = i32[at + LRU_HEAD]; ref !== 0; ref = i32[ref * 2 + I_NEXT]) {
      if (listed.has(ref)) {
        fault(`item ${ref} is in LRU lists ${listed.get(ref)} and ${list}`);
        break;
      }
      listed.set(ref, list);
      if (i32[ref * 2 + I_PREV] !== prev)
        fault(`item ${ref} in LRU list ${list} points back to ${i32[ref * 2 + I_PREV]}`);
      if (items.listOf(ref) !== list) fault(`item ${ref} in LRU list ${list} says it is in ${items.listOf(ref)}`);
      count++;
      bytes += items.totalBytes(ref);
      prev = ref;
    }
    if (i32[at + LRU_TAIL] !== prev) fault(`LRU list ${list} ends with ${prev}, its tail says ${i32[at + LRU_TAIL]}`);
    if (i32[at + LRU_COUNT] !== count) fault(`LRU list ${list} counts ${i32[at + LRU_COUNT]} items and has ${count}`);
    if (f64[D_LRU_BYTES + list] !== bytes) {
      fault(`LRU list ${list} counts ${f64[D_LRU_BYTES + list]} bytes and has ${bytes}`);
    }
  }

  // Hash table.
  const hashed = new Set<number>();
  for (let bucket = 0; bucket < i32[W_HASH_BUCKETS]; bucket++) {
    for (let ref = i32[layout.hashWord + bucket]; ref !== 0; ref = i32[ref * 2 + I_HASH_NEXT]) {
      if (hashed.has(ref)) {
        fault(`item ${ref} is in the hash table twice, again in bucket ${bucket}`);
        break;
      }
      hashed.add(ref);
      const home = assoc.bucketOf(assoc.hashOf(ref));
      if (home !== bucket) fault(`item ${ref} is in bucket ${bucket} and belongs to ${home}`);
      const key = items.keyAt(ref);
      if (assoc.find(u8, key, key + items.keyBytes(ref), assoc.hashOf(ref)) !== ref) {
        fault(`looking up the key of item ${ref} finds another item`);
      }
      if (!listed.has(ref)) fault(`item ${ref} is in bucket ${bucket} and in no LRU list`);
    }
  }
  if (hashed.size !== i32[W_HASH_ITEMS]) fault(`hash table counts ${i32[W_HASH_ITEMS]} items and has ${hashed.size}`);
  for (const ref of listed.keys()) if (!hashed.has(ref)) fault(`item ${ref} is in an LRU list and in no bucket`);

  // Items, linked and held, own every used chunk once.
  const owned = new Set<number>();
  const own = (ref: number, owner: number): void => {
    if (state.get(ref) !== 'used') fault(`item ${owner} owns chunk ${ref}, which is ${state.get(ref) ?? 'no chunk'}`);
    if (owned.has(ref)) fault(`chunk ${ref} is owned twice, again by item ${owner}`);
    owned.add(ref);
  };
  for (const ref of new Set([...hashed, ...held.keys()])) {
    own(ref, ref);
    const meta = i32[ref * 2 + I_META];
    const linked = hashed.has(ref);
    if (((meta & ITEM_LINKED) !== 0) !== linked) fault(`item ${ref}: its linked mark says ${!linked}`);
    if ((meta & (ITEM_SLABBED | ITEM_CHUNK)) !== 0) fault(`item ${ref} is marked as a free or data chunk`);
    const references = (linked ? 1 : 0) + (held.get(ref) ?? 0);
    if (i32[ref * 2 + I_REFCOUNT] !== references) {
      fault(`item ${ref} has ${i32[ref * 2 + I_REFCOUNT]} references, expected ${references}`);
    }
    if (u8[ref * 8 + I_LEAD_BYTES] !== 0x45 || u8[ref * 8 + I_LEAD_BYTES + 1] !== 0x20) {
      fault(`item ${ref} lost the lead before its key`);
    }
    const nbytes = items.nbytes(ref);
    if ((meta & ITEM_CHUNKED) === 0) {
      if (items.clsid(ref) !== classOfChunk.get(ref)) fault(`item ${ref} names the class of another chunk`);
      const end = items.dataAt(ref) + nbytes;
      if (end > ref * 8 + cache.slabs.sizeOf(items.clsid(ref))) fault(`item ${ref} ends outside its chunk`);
      if (linked && (u8[end - 2] !== 0x0d || u8[end - 1] !== 0x0a)) fault(`item ${ref} does not end in CR LF`);
      continue;
    }
    let bytes = 0;
    for (let chunk = items.firstChunk(ref); chunk !== 0; chunk = items.nextChunk(chunk)) {
      own(chunk, ref);
      const chunkMeta = i32[chunk * 2 + I_META];
      if ((chunkMeta & ITEM_CHUNK) === 0) fault(`chunk ${chunk} of item ${ref} is not marked as one`);
      if (i32[chunk * 2 + C_HEAD] !== ref) fault(`chunk ${chunk} of item ${ref} names head ${i32[chunk * 2 + C_HEAD]}`);
      if (((chunkMeta >>> CLASS_SHIFT) & CLASS_MASK) !== classOfChunk.get(chunk)) fault(`chunk ${chunk}: wrong class`);
      bytes += items.chunkUsed(chunk);
    }
    if (bytes !== nbytes) fault(`chunks of item ${ref} hold ${bytes} bytes of ${nbytes}`);
  }
  for (const [ref, what] of state) {
    if (what === 'used' && !owned.has(ref)) fault(`chunk ${ref} of class ${classOfChunk.get(ref)} is lost`);
  }

  for (const [name, word] of [
    ['cache', W_LOCK_CACHE],
    ['slabs', W_LOCK_SLABS],
    ['CAS', W_LOCK_CAS],
    ['hash', W_LOCK_HASH],
  ] as const) {
    if (i32[word] !== 0) fault(`the ${name} lock is held by thread ${i32[word]}`);
  }
  for (let i = 0; i < ITEM_LOCKS; i++) {
    if (i32[W_ITEM_LOCKS + i * LOCK_STRIDE_WORDS] !== 0) fault(`item lock ${i} is held`);
  }
  for (let i = 0; i < SLAB_CLASSES_MAX; i++) {
    if (i32[W_LRU_LOCKS + i * LOCK_STRIDE_WORDS] !== 0) fault(`LRU lock ${i} is held`);
  }
  return faults;
}
