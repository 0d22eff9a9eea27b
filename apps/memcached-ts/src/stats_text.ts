/**
 * The text of `stats` and its subcommands.
 *
 * Names and order are memcached's. A value is a true one: what this server does not have (a background crawler, watchers) counts 0, because it happened 0 times.
 * Not its job: counting (engine/stats.ts), sending.
 */
import type { Cache } from './engine/cache.ts';
import {
  COLD_LRU,
  D_LRU_BYTES,
  D_STARTED,
  HOT_LRU,
  I_TIME,
  LRU_COUNT,
  LRU_LISTS,
  LRU_TAIL,
  LRU_WORDS,
  PAGE_BYTES,
  SLAB_CARVE_LEFT,
  SLAB_CLASSES_MAX,
  SLAB_FREE_COUNT,
  SLAB_PAGES,
  SLAB_PER_PAGE,
  SLAB_SIZE,
  SLAB_WORDS,
  TEMP_LRU,
  TIME_AT_START,
  W_ACCEPTING,
  W_CURR_CONNS,
  W_HASH_BUCKETS,
  W_LRU,
  W_OLDEST_LIVE,
  W_PAGES_LIMIT,
  W_PAGES_USED,
  W_SLABS,
  W_TIME,
  W_VERBOSITY,
  WARM_LRU,
} from './engine/layout.ts';
import {
  L_DIRECT_RECLAIMS,
  L_EVICTED,
  L_EVICTED_ACTIVE,
  L_EVICTED_NONZERO,
  L_EVICTED_TIME,
  L_EVICTED_UNFETCHED,
  L_EXPIRED_UNFETCHED,
  L_MOVES_WITHIN_LRU,
  L_OUTOFMEMORY,
  L_RECLAIMED,
  L_REFLOCKED,
  lruCounter,
  resetStats,
  S_CAS_BADVAL,
  S_CAS_HITS,
  S_DECR_HITS,
  S_DELETE_HITS,
  S_GET_HITS,
  S_INCR_HITS,
  S_SET_CMDS,
  S_TOUCH_HITS,
  sumClass,
  sumClasses,
  sumLruCounter,
  sumThreads,
  T_AUTH_CMDS,
  T_AUTH_ERRORS,
  T_BYTES_READ,
  T_BYTES_WRITTEN,
  T_CAS_MISSES,
  T_CONN_YIELDS,
  T_DECR_MISSES,
  T_DELETE_MISSES,
  T_FLUSH_CMDS,
  T_GET_EXPIRED,
  T_GET_FLUSHED,
  T_GET_MISSES,
  T_IDLE_KICKS,
  T_INCR_MISSES,
  T_META_CMDS,
  T_REJECTED_CONNS,
  T_STORE_NO_MEMORY,
  T_STORE_TOO_LARGE,
  T_TOTAL_CONNS,
  T_TOTAL_ITEMS,
  T_TOUCH_CMDS,
  T_TOUCH_MISSES,
} from './engine/stats.ts';
import { VERSION } from './replies.ts';
import type { Settings } from './settings.ts';

type Stat = [name: string, value: string | number];

/** The reply to `stats subcommand`, 'RESET', or undefined for a subcommand that does not exist. */
export function statsText(subcommand: string, cache: Cache, settings: Settings): string | undefined {
  switch (subcommand) {
    case '':
      return render(general(cache, settings));
    case 'reset':
      resetStats(cache.memory);
      return 'RESET';
    case 'settings':
      return render(settingsStats(cache, settings));
    case 'items':
      return render(itemStats(cache));
    case 'slabs':
      return render(slabStats(cache));
    case 'sizes':
      return render([['sizes_status', 'disabled']]);
    default:
      return undefined;
  }
}

function render(stats: readonly Stat[]): string {
  let text = '';
  for (const [name, value] of stats) text += `STAT ${name} ${value}\r\n`;
  return `${text}END\r\n`;
}

function lruCount({ memory }: Cache, list: number): number {
  return memory.i32[W_LRU + list * LRU_WORDS + LRU_COUNT];
}

function general(cache: Cache, settings: Settings): Stat[] {
  const { memory } = cache;
  const { i32, f64 } = memory;
  const usage = process.resourceUsage();
  const threads = (counter: number): number => sumThreads(memory, counter);
  const classes = (counter: number): number => sumClasses(memory, counter);
  const lru = (counter: number): number => sumLruCounter(memory, counter);
  let items = 0;
  let bytes = 0;
  for (let list = 0; list < LRU_LISTS; list++) {
    items += lruCount(cache, list);
    bytes += f64[D_LRU_BYTES + list];
  }
  const getHits = classes(S_GET_HITS);
  const connections = Atomics.load(i32, W_CURR_CONNS);
  return [
    ['pid', process.pid],
    ['uptime', i32[W_TIME] - TIME_AT_START],
    ['time', i32[W_TIME] + f64[D_STARTED]],
    ['version', VERSION],
    ['pointer_size', 64],
    ['rusage_user', (usage.userCPUTime / 1e6).toFixed(6)],
    ['rusage_system', (usage.systemCPUTime / 1e6).toFixed(6)],
    ['max_connections', settings.maxConns],
    ['curr_connections', connections],
    ['total_connections', threads(T_TOTAL_CONNS)],
    ['rejected_connections', threads(T_REJECTED_CONNS)],
    ['connection_structures', connections],
    ['response_obj_oom', 0],
    ['response_obj_count', 0],
    ['response_obj_bytes', 0],
    ['read_buf_count', 0],
    ['read_buf_bytes', 0],
    ['read_buf_bytes_free', 0],
    ['read_buf_oom', 0],
    ['reserved_fds', 0],
    ['cmd_get', getHits + threads(T_GET_MISSES)],
    ['cmd_set', classes(S_SET_CMDS)],
    ['cmd_flush', threads(T_FLUSH_CMDS)],
    ['cmd_touch', threads(T_TOUCH_CMDS)],
    ['cmd_meta', threads(T_META_CMDS)],
    ['get_hits', getHits],
    ['get_misses', threads(T_GET_MISSES)],
    ['get_expired', threads(T_GET_EXPIRED)],
    ['get_flushed', threads(T_GET_FLUSHED)],
    ['delete_misses', threads(T_DELETE_MISSES)],
    ['delete_hits', classes(S_DELETE_HITS)],
    ['incr_misses', threads(T_INCR_MISSES)],
    ['incr_hits', classes(S_INCR_HITS)],
    ['decr_misses', threads(T_DECR_MISSES)],
    ['decr_hits', classes(S_DECR_HITS)],
    ['cas_misses', threads(T_CAS_MISSES)],
    ['cas_hits', classes(S_CAS_HITS)],
    ['cas_badval', classes(S_CAS_BADVAL)],
    ['touch_hits', classes(S_TOUCH_HITS)],
    ['touch_misses', threads(T_TOUCH_MISSES)],
    ['store_too_large', threads(T_STORE_TOO_LARGE)],
    ['store_no_memory', threads(T_STORE_NO_MEMORY)],
    ['auth_cmds', threads(T_AUTH_CMDS)],
    ['auth_errors', threads(T_AUTH_ERRORS)],
    ...(settings.idleTimeoutSeconds > 0 ? ([['idle_kicks', threads(T_IDLE_KICKS)]] satisfies Stat[]) : []),
    ['bytes_read', threads(T_BYTES_READ)],
    ['bytes_written', threads(T_BYTES_WRITTEN)],
    ['limit_maxbytes', i32[W_PAGES_LIMIT] * PAGE_BYTES],
    ['accepting_conns', i32[W_ACCEPTING]],
    ['listen_disabled_num', 0],
    ['time_in_listen_disabled_us', 0],
    ['threads', settings.threads],
    ['conn_yields', threads(T_CONN_YIELDS)],
    ['hash_power_level', 31 - Math.clz32(i32[W_HASH_BUCKETS])],
    ['hash_bytes', i32[W_HASH_BUCKETS] * 4],
    ['hash_is_expanding', 0],
    ['slab_reassign_rescues', 0],
    ['slab_reassign_chunk_rescues', 0],
    ['slab_reassign_evictions_nomem', 0],
    ['slab_reassign_inline_reclaim', 0],
    ['slab_reassign_busy_items', 0],
    ['slab_reassign_busy_deletes', 0],
    ['slab_reassign_running', 0],
    ['slabs_moved', 0],
    ['lru_crawler_running', 0],
    ['lru_crawler_starts', 0],
    ['lru_maintainer_juggles', 0],
    ['malloc_fails', 0],
    ['log_worker_dropped', 0],
    ['log_worker_written', 0],
    ['log_watcher_skipped', 0],
    ['log_watcher_sent', 0],
    ['log_watchers', 0],
    ['unexpected_napi_ids', 0],
    ['round_robin_fallback', 0],
    ['bytes', bytes],
    ['curr_items', items],
    ['total_items', threads(T_TOTAL_ITEMS)],
    ['slab_global_page_pool', 0],
    ['expired_unfetched', lru(L_EXPIRED_UNFETCHED)],
    ['evicted_unfetched', lru(L_EVICTED_UNFETCHED)],
    ['evicted_active', lru(L_EVICTED_ACTIVE)],
    ['evictions', lru(L_EVICTED)],
    ['reclaimed', lru(L_RECLAIMED)],
    ['crawler_reclaimed', 0],
    ['crawler_items_checked', 0],
    ['lrutail_reflocked', lru(L_REFLOCKED)],
    ['moves_to_cold', 0],
    ['moves_to_warm', 0],
    ['moves_within_lru', lru(L_MOVES_WITHIN_LRU)],
    ['direct_reclaims', lru(L_DIRECT_RECLAIMS)],
    ['lru_bumps_dropped', 0],
  ];
}

function settingsStats({ memory }: Cache, settings: Settings): Stat[] {
  const { i32 } = memory;
  const { cache } = settings;
  return [
    ['maxbytes', i32[W_PAGES_LIMIT] * PAGE_BYTES],
    ['maxconns', settings.maxConns],
    ['tcpport', settings.socketPath === undefined ? settings.port : 0],
    ['udpport', 0],
    ['inter', settings.listen.length > 0 ? settings.listen.join(',') : 'NULL'],
    ['verbosity', i32[W_VERBOSITY]],
    ['oldest', i32[W_OLDEST_LIVE]],
    ['evictions', cache.evictions ? 'on' : 'off'],
    ['domain_socket', settings.socketPath ?? 'NULL'],
    ['umask', settings.socketMode.toString(8)],
    ['shutdown_command', 'no'],
    ['growth_factor', cache.growthFactor.toFixed(2)],
    ['chunk_size', cache.chunkSizeMin],
    ['num_threads', settings.threads],
    ['num_threads_per_udp', 0],
    ['stat_key_prefix', ':'],
    ['detail_enabled', 'no'],
    ['reqs_per_event', settings.requestsPerEvent],
    ['cas_enabled', cache.useCas ? 'yes' : 'no'],
    ['tcp_backlog', settings.backlog],
    ['binding_protocol', settings.users === undefined ? 'auto-negotiate' : 'binary'],
    ['auth_enabled_sasl', settings.users === undefined ? 'no' : 'yes'],
    ['auth_enabled_ascii', 'no'],
    ['item_size_max', cache.itemSizeMax],
    ['maxconns_fast', 'yes'],
    ['hashpower_init', cache.hashPower],
    ['slab_reassign', 'no'],
    ['slab_automove', 0],
    ['slab_chunk_max', cache.slabChunkMax],
    ['lru_crawler', 'no'],
    ['tail_repair_time', 0],
    ['flush_enabled', settings.flushEnabled ? 'yes' : 'no'],
    ['dump_enabled', 'no'],
    ['hash_algorithm', 'fnv1a'],
    ['lru_maintainer_thread', 'no'],
    ['lru_segmented', 'no'],
    ['temp_lru', 'no'],
    ['idle_timeout', settings.idleTimeoutSeconds],
    ['track_sizes', 'no'],
    ['ssl_enabled', 'no'],
    ['io', settings.io],
    ['lock', settings.lock],
  ];
}

function itemStats(cache: Cache): Stat[] {
  const { memory } = cache;
  const { i32, f64 } = memory;
  const stats: Stat[] = [];
  for (let clsid = 1; clsid < SLAB_CLASSES_MAX; clsid++) {
    const count = lruCount(cache, clsid | COLD_LRU);
    if (count === 0) continue;
    const add = (name: string, value: number): number => stats.push([`items:${clsid}:${name}`, value]);
    const lru = (counter: number): number => lruCounter(memory, clsid, counter);
    const tail = i32[W_LRU + (clsid | COLD_LRU) * LRU_WORDS + LRU_TAIL];
    add('number', count);
    add('number_hot', lruCount(cache, clsid | HOT_LRU));
    add('number_warm', lruCount(cache, clsid | WARM_LRU));
    add('number_cold', count);
    if (lruCount(cache, clsid | TEMP_LRU) > 0) add('number_temp', lruCount(cache, clsid | TEMP_LRU));
    add('age_hot', 0);
    add('age_warm', 0);
    add('age', tail === 0 ? 0 : i32[W_TIME] - i32[tail * 2 + I_TIME]);
    add('mem_requested', f64[D_LRU_BYTES + (clsid | COLD_LRU)]);
    add('evicted', lru(L_EVICTED));
    add('evicted_nonzero', lru(L_EVICTED_NONZERO));
    add('evicted_time', lru(L_EVICTED_TIME));
    add('outofmemory', lru(L_OUTOFMEMORY));
    add('tailrepairs', 0);
    add('reclaimed', lru(L_RECLAIMED));
    add('expired_unfetched', lru(L_EXPIRED_UNFETCHED));
    add('evicted_unfetched', lru(L_EVICTED_UNFETCHED));
    add('evicted_active', lru(L_EVICTED_ACTIVE));
    add('crawler_reclaimed', 0);
    add('crawler_items_checked', 0);
    add('lrutail_reflocked', lru(L_REFLOCKED));
    add('moves_to_cold', 0);
    add('moves_to_warm', 0);
    add('moves_within_lru', lru(L_MOVES_WITHIN_LRU));
    add('direct_reclaims', lru(L_DIRECT_RECLAIMS));
    add('hits_to_hot', 0);
    add('hits_to_warm', 0);
    add('hits_to_cold', sumClass(memory, clsid, S_GET_HITS));
    add('hits_to_temp', 0);
  }
  return stats;
}

function slabStats({ memory }: Cache): Stat[] {
  const { i32 } = memory;
  const stats: Stat[] = [];
  let active = 0;
  for (let clsid = 1; clsid < SLAB_CLASSES_MAX; clsid++) {
    const at = W_SLABS + clsid * SLAB_WORDS;
    const pages = i32[at + SLAB_PAGES];
    if (pages === 0) continue;
    active++;
    const add = (name: string, value: number): number => stats.push([`${clsid}:${name}`, value]);
    const chunks = pages * i32[at + SLAB_PER_PAGE];
    const free = i32[at + SLAB_FREE_COUNT] + i32[at + SLAB_CARVE_LEFT];
    add('chunk_size', i32[at + SLAB_SIZE]);
    add('chunks_per_page', i32[at + SLAB_PER_PAGE]);
    add('total_pages', pages);
    add('total_chunks', chunks);
    add('used_chunks', chunks - free);
    add('free_chunks', free);
    add('free_chunks_end', 0);
    add('get_hits', sumClass(memory, clsid, S_GET_HITS));
    add('cmd_set', sumClass(memory, clsid, S_SET_CMDS));
    add('delete_hits', sumClass(memory, clsid, S_DELETE_HITS));
    add('incr_hits', sumClass(memory, clsid, S_INCR_HITS));
    add('decr_hits', sumClass(memory, clsid, S_DECR_HITS));
    add('cas_hits', sumClass(memory, clsid, S_CAS_HITS));
    add('cas_badval', sumClass(memory, clsid, S_CAS_BADVAL));
    add('touch_hits', sumClass(memory, clsid, S_TOUCH_HITS));
  }
  stats.push(['active_slabs', active], ['total_malloced', i32[W_PAGES_USED] * PAGE_BYTES]);
  return stats;
}
