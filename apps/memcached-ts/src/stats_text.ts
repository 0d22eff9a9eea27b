/**
 * The text of `stats` and its subcommands.
 *
 * Names and order are memcached's. A value is a true one: what this server does not have (descriptors that are set aside) counts 0, because
 * there are 0 of it.
 * Not its job: counting (engine/stats.ts), sending.
 */
import type { Cache } from './engine/cache.ts';
import {
  COLD_LRU,
  D_BUSY_DELETES,
  D_BUSY_ITEMS,
  D_CHUNK_RESCUES,
  D_CRAWLER_STARTS,
  D_EVICTIONS_NOMEM,
  D_HOT_MAX_FACTOR,
  D_INLINE_RECLAIM,
  D_LRU_BYTES,
  D_MAINTAINER_JUGGLES,
  D_RESCUES,
  D_SLAB_AUTOMOVE_FREERATIO,
  D_SLAB_AUTOMOVE_RATIO,
  D_SLABS_MOVED,
  D_STARTED,
  D_WARM_MAX_FACTOR,
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
  W_CRAWLER_ENABLED,
  W_CRAWLER_RUNNING,
  W_CRAWLER_SLEEP,
  W_CRAWLER_TOCRAWL,
  W_CURR_CONNS,
  W_DETAIL,
  W_HASH_BUCKETS,
  W_HOT_LRU_PCT,
  W_LOG_WATCHERS,
  W_LRU,
  W_LRU_SEGMENTED,
  W_MAINTAINER_ENABLED,
  W_MOVE_RUNNING,
  W_OLDEST_LIVE,
  W_PAGES_LIMIT,
  W_PAGES_POOL,
  W_PAGES_RELEASED,
  W_PAGES_USED,
  W_SIZES_ENABLED,
  W_SLAB_AUTOMOVE,
  W_SLAB_AUTOMOVE_WINDOW,
  W_SLAB_REASSIGN,
  W_SLABS,
  W_TAIL_REPAIR_TIME,
  W_TEMP_LRU,
  W_TEMPORARY_TTL,
  W_TIME,
  W_VERBOSITY,
  W_WARM_LRU_PCT,
  WARM_LRU,
} from './engine/layout.ts';
import {
  L_CRAWLER_ITEMS_CHECKED,
  L_CRAWLER_RECLAIMED,
  L_DIRECT_RECLAIMS,
  L_EVICTED,
  L_EVICTED_ACTIVE,
  L_EVICTED_NONZERO,
  L_EVICTED_TIME,
  L_EVICTED_UNFETCHED,
  L_EXPIRED_UNFETCHED,
  L_MOVES_TO_COLD,
  L_MOVES_TO_WARM,
  L_MOVES_WITHIN_LRU,
  L_OUTOFMEMORY,
  L_RECLAIMED,
  L_REFLOCKED,
  L_TAILREPAIRS,
  lruCounter,
  resetStats,
  S_CAS_BADVAL,
  S_CAS_HITS,
  S_DECR_HITS,
  S_DELETE_HITS,
  S_INCR_HITS,
  S_SET_CMDS,
  S_TOUCH_HITS,
  sumClass,
  sumClasses,
  sumClassHits,
  sumListHits,
  sumLruCounter,
  sumThreads,
  T_AUTH_CMDS,
  T_AUTH_ERRORS,
  T_BYTES_READ,
  T_BYTES_WRITTEN,
  T_CAS_MISSES,
  T_CONN_STRUCTURES,
  T_CONN_YIELDS,
  T_DECR_MISSES,
  T_DELETE_MISSES,
  T_FLUSH_CMDS,
  T_GET_EXPIRED,
  T_GET_FLUSHED,
  T_GET_MISSES,
  T_IDLE_KICKS,
  T_INCR_MISSES,
  T_KEPT_BUFFERS,
  T_KEPT_BYTES,
  T_LISTEN_DISABLED,
  T_LISTEN_DISABLED_US,
  T_LOG_DROPPED,
  T_LOG_SENT,
  T_LOG_SKIPPED,
  T_LOG_WRITTEN,
  T_LRU_BUMPS_DROPPED,
  T_META_CMDS,
  T_READ_BUF_OOM,
  T_REJECTED_CONNS,
  T_RESPONSE_BYTES,
  T_RESPONSE_OOM,
  T_RESPONSES,
  T_STORE_NO_MEMORY,
  T_STORE_TOO_LARGE,
  T_TOTAL_CONNS,
  T_TOTAL_ITEMS,
  T_TOUCH_CMDS,
  T_TOUCH_MISSES,
} from './engine/stats.ts';
import { RECEIVE_BYTES, receiveBuffers } from './limits.ts';
import { VERSION } from './replies.ts';
import type { Settings } from './settings.ts';
import { toFixed } from './strtol.ts';

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
    default:
      return undefined;
  }
}

/** What is told only of what is switched on. */
function only(condition: boolean, stats: readonly Stat[]): readonly Stat[] {
  return condition ? stats : [];
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
  cache.locks.lockCache();
  for (let clsid = 0; clsid < SLAB_CLASSES_MAX; clsid++) {
    // Or what goes from one of its lists to another meanwhile would count twice, or not at all.
    cache.locks.lockLru(clsid);
    for (let list = clsid; list < LRU_LISTS; list += SLAB_CLASSES_MAX) {
      items += lruCount(cache, list);
      bytes += f64[D_LRU_BYTES + list];
    }
    cache.locks.unlockLru(clsid);
  }
  cache.locks.unlockCache();
  let getHits = 0;
  for (let list = 0; list < LRU_LISTS; list++) getHits += sumListHits(memory, list);
  const connections = Atomics.load(i32, W_CURR_CONNS);
  const receive = settings.threads * receiveBuffers(settings);
  const maintained = i32[W_MAINTAINER_ENABLED] !== 0;
  return [
    ['pid', process.pid],
    ['uptime', i32[W_TIME] - TIME_AT_START],
    ['time', i32[W_TIME] + f64[D_STARTED]],
    ['version', VERSION],
    // The event library, which there is none of.
    ['libevent', 'none'],
    ['pointer_size', 64],
    ['rusage_user', (usage.userCPUTime / 1e6).toFixed(6)],
    ['rusage_system', (usage.systemCPUTime / 1e6).toFixed(6)],
    ['max_connections', settings.maxConns],
    ['curr_connections', connections],
    ['total_connections', threads(T_TOTAL_CONNS)],
    ...only(settings.maxConnsFast, [['rejected_connections', threads(T_REJECTED_CONNS)]]),
    ['connection_structures', threads(T_CONN_STRUCTURES)],
    ['response_obj_oom', threads(T_RESPONSE_OOM)],
    ['response_obj_count', threads(T_RESPONSES)],
    ['response_obj_bytes', threads(T_RESPONSE_BYTES)],
    ['read_buf_count', receive + threads(T_KEPT_BUFFERS)],
    ['read_buf_bytes', receive * RECEIVE_BYTES + threads(T_KEPT_BYTES)],
    ['read_buf_bytes_free', receive * RECEIVE_BYTES],
    ['read_buf_oom', threads(T_READ_BUF_OOM)],
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
    ...only(settings.idleTimeoutSeconds !== 0, [['idle_kicks', threads(T_IDLE_KICKS)]]),
    ['bytes_read', threads(T_BYTES_READ)],
    ['bytes_written', threads(T_BYTES_WRITTEN)],
    ['limit_maxbytes', i32[W_PAGES_LIMIT] * PAGE_BYTES],
    ['accepting_conns', i32[W_ACCEPTING] === 1 ? 1 : 0],
    ['listen_disabled_num', threads(T_LISTEN_DISABLED)],
    ['time_in_listen_disabled_us', threads(T_LISTEN_DISABLED_US)],
    ['threads', settings.threads],
    ['conn_yields', threads(T_CONN_YIELDS)],
    // The table grows bucket by bucket, from one power of two to the next: as memcached's, it is at the next while it does.
    ['hash_power_level', 32 - Math.clz32(i32[W_HASH_BUCKETS] - 1)],
    ['hash_bytes', i32[W_HASH_BUCKETS] * 4],
    ['hash_is_expanding', (i32[W_HASH_BUCKETS] & (i32[W_HASH_BUCKETS] - 1)) === 0 ? 0 : 1],
    ...only(i32[W_SLAB_REASSIGN] !== 0, [
      ['slab_reassign_rescues', f64[D_RESCUES]],
      ['slab_reassign_chunk_rescues', f64[D_CHUNK_RESCUES]],
      ['slab_reassign_evictions_nomem', f64[D_EVICTIONS_NOMEM]],
      ['slab_reassign_inline_reclaim', f64[D_INLINE_RECLAIM]],
      ['slab_reassign_busy_items', f64[D_BUSY_ITEMS]],
      ['slab_reassign_busy_deletes', f64[D_BUSY_DELETES]],
      ['slab_reassign_running', i32[W_MOVE_RUNNING] === 0 ? 0 : 1],
      ['slabs_moved', f64[D_SLABS_MOVED]],
    ]),
    ...only(i32[W_CRAWLER_ENABLED] !== 0, [
      ['lru_crawler_running', i32[W_CRAWLER_RUNNING] === 0 ? 0 : 1],
      ['lru_crawler_starts', f64[D_CRAWLER_STARTS]],
    ]),
    ...only(maintained, [['lru_maintainer_juggles', f64[D_MAINTAINER_JUGGLES]]]),
    ['malloc_fails', 0],
    ['log_worker_dropped', threads(T_LOG_DROPPED)],
    ['log_worker_written', threads(T_LOG_WRITTEN)],
    ['log_watcher_skipped', threads(T_LOG_SKIPPED)],
    ['log_watcher_sent', threads(T_LOG_SENT)],
    ['log_watchers', i32[W_LOG_WATCHERS]],
    ['unexpected_napi_ids', 0],
    ['round_robin_fallback', 0],
    ['bytes', bytes],
    ['curr_items', items],
    ['total_items', threads(T_TOTAL_ITEMS)],
    ['slab_global_page_pool', i32[W_PAGES_POOL]],
    ['expired_unfetched', lru(L_EXPIRED_UNFETCHED)],
    ['evicted_unfetched', lru(L_EVICTED_UNFETCHED)],
    ...only(maintained, [['evicted_active', lru(L_EVICTED_ACTIVE)]]),
    ['evictions', lru(L_EVICTED)],
    ['reclaimed', lru(L_RECLAIMED)],
    ['crawler_reclaimed', lru(L_CRAWLER_RECLAIMED)],
    ['crawler_items_checked', lru(L_CRAWLER_ITEMS_CHECKED)],
    ['lrutail_reflocked', lru(L_REFLOCKED)],
    ...only(maintained, [
      ['moves_to_cold', lru(L_MOVES_TO_COLD)],
      ['moves_to_warm', lru(L_MOVES_TO_WARM)],
      ['moves_within_lru', lru(L_MOVES_WITHIN_LRU)],
      ['direct_reclaims', lru(L_DIRECT_RECLAIMS)],
      ['lru_bumps_dropped', threads(T_LRU_BUMPS_DROPPED)],
    ]),
  ];
}

function yesNo(yes: boolean): string {
  return yes ? 'yes' : 'no';
}

function settingsStats({ memory }: Cache, settings: Settings): Stat[] {
  const { i32, f64 } = memory;
  const { cache } = settings;
  return [
    ['maxbytes', i32[W_PAGES_LIMIT] * PAGE_BYTES],
    ['maxconns', settings.maxConns],
    ['tcpport', settings.port],
    ['udpport', settings.udpPort],
    ['inter', settings.listen.length > 0 ? settings.listen.join(',') : 'NULL'],
    ['verbosity', i32[W_VERBOSITY]],
    ['oldest', i32[W_OLDEST_LIVE]],
    ['evictions', cache.evictions ? 'on' : 'off'],
    ['domain_socket', settings.socketPath ?? 'NULL'],
    ['umask', settings.socketMode.toString(8)],
    ['shutdown_command', yesNo(settings.shutdownCommand)],
    ['growth_factor', cache.growthFactor.toFixed(2)],
    ['chunk_size', cache.chunkSizeMin],
    ['num_threads', settings.threads],
    ['num_threads_per_udp', settings.udpPort === 0 ? 0 : 1],
    ['stat_key_prefix', settings.prefixDelimiter],
    ['detail_enabled', yesNo(i32[W_DETAIL] !== 0)],
    ['reqs_per_event', settings.requestsPerEvent],
    ['cas_enabled', cache.useCas ? 'yes' : 'no'],
    ['tcp_backlog', settings.backlog],
    ['binding_protocol', settings.protocol === 'auto' ? 'auto-negotiate' : settings.protocol],
    ['auth_enabled_sasl', yesNo(settings.users !== undefined)],
    ['auth_enabled_ascii', settings.authFile ?? 'no'],
    ['item_size_max', cache.itemSizeMax],
    ['maxconns_fast', yesNo(settings.maxConnsFast)],
    ['hashpower_init', settings.hashPowerGiven],
    ['slab_reassign', i32[W_SLAB_REASSIGN] === 0 ? 'no' : 'yes'],
    ['slab_automove', i32[W_SLAB_AUTOMOVE]],
    ['slab_automove_ratio', toFixed(f64[D_SLAB_AUTOMOVE_RATIO]!, 2)],
    ['slab_automove_window', i32[W_SLAB_AUTOMOVE_WINDOW]],
    ['slab_chunk_max', cache.slabChunkMax],
    ['lru_crawler', i32[W_CRAWLER_ENABLED] === 0 ? 'no' : 'yes'],
    ['lru_crawler_sleep', i32[W_CRAWLER_SLEEP]],
    ['lru_crawler_tocrawl', i32[W_CRAWLER_TOCRAWL]],
    ['tail_repair_time', i32[W_TAIL_REPAIR_TIME]],
    ['flush_enabled', yesNo(settings.flushEnabled)],
    ['dump_enabled', yesNo(settings.dumpEnabled)],
    ['hash_algorithm', settings.hashAlgorithm],
    ['lru_maintainer_thread', i32[W_MAINTAINER_ENABLED] === 0 ? 'no' : 'yes'],
    ['lru_segmented', i32[W_LRU_SEGMENTED] === 0 ? 'no' : 'yes'],
    ['hot_lru_pct', i32[W_HOT_LRU_PCT]],
    ['warm_lru_pct', i32[W_WARM_LRU_PCT]],
    ['hot_max_factor', toFixed(f64[D_HOT_MAX_FACTOR]!, 2)],
    ['warm_max_factor', toFixed(f64[D_WARM_MAX_FACTOR]!, 2)],
    ['temp_lru', i32[W_TEMP_LRU] === 0 ? 'no' : 'yes'],
    ['temporary_ttl', i32[W_TEMPORARY_TTL] >>> 0],
    ['idle_timeout', settings.idleTimeoutSeconds],
    ['watcher_logbuf_size', settings.watcherLogbufBytes],
    ['worker_logbuf_size', settings.workerLogbufBytes],
    ['resp_obj_mem_limit', settings.respObjMemLimitBytes],
    ['read_buf_mem_limit', settings.readBufMemLimitBytes],
    ['track_sizes', i32[W_SIZES_ENABLED] === 0 ? 'no' : 'yes'],
    ['inline_ascii_response', 'no'],
    ['slab_automove_freeratio', toFixed(f64[D_SLAB_AUTOMOVE_FREERATIO]!, 3)],
    ['ssl_enabled', 'no'],
    ['num_napi_ids', '(null)'],
    ['memory_file', settings.memoryFile ?? '(null)'],
    ['io', settings.io],
    ['lock', settings.lock],
  ];
}

function itemStats(cache: Cache): Stat[] {
  const { memory } = cache;
  const { i32, f64 } = memory;
  const stats: Stat[] = [];
  const maintained = i32[W_MAINTAINER_ENABLED] !== 0;
  for (let clsid = 1; clsid < SLAB_CLASSES_MAX; clsid++) {
    const segments = [HOT_LRU, WARM_LRU, COLD_LRU, TEMP_LRU].map((segment) => clsid | segment);
    const [hot, warm, cold, temp] = segments as [number, number, number, number];
    // At one moment, as above.
    cache.locks.lockCache();
    cache.locks.lockLru(clsid);
    const counts = new Map(segments.map((list) => [list, lruCount(cache, list)]));
    const requested = segments.reduce((sum, list) => sum + f64[D_LRU_BYTES + list], 0);
    cache.locks.unlockLru(clsid);
    cache.locks.unlockCache();
    const count = segments.reduce((sum, list) => sum + counts.get(list)!, 0);
    if (count === 0) continue;
    const add = (name: string, value: number): number => stats.push([`items:${clsid}:${name}`, value]);
    const lru = (counter: number): number => lruCounter(memory, clsid, counter);
    const age = (list: number): number => {
      const tail = i32[W_LRU + list * LRU_WORDS + LRU_TAIL];
      return tail === 0 ? 0 : i32[W_TIME] - i32[tail * 2 + I_TIME];
    };
    add('number', count);
    if (maintained) {
      add('number_hot', counts.get(hot)!);
      add('number_warm', counts.get(warm)!);
      add('number_cold', counts.get(cold)!);
      if (i32[W_TEMP_LRU] !== 0) add('number_temp', counts.get(temp)!);
      add('age_hot', age(hot));
      add('age_warm', age(warm));
    }
    add('age', age(cold));
    add('mem_requested', requested);
    add('evicted', lru(L_EVICTED));
    add('evicted_nonzero', lru(L_EVICTED_NONZERO));
    add('evicted_time', lru(L_EVICTED_TIME));
    add('outofmemory', lru(L_OUTOFMEMORY));
    add('tailrepairs', lru(L_TAILREPAIRS));
    add('reclaimed', lru(L_RECLAIMED));
    add('expired_unfetched', lru(L_EXPIRED_UNFETCHED));
    add('evicted_unfetched', lru(L_EVICTED_UNFETCHED));
    if (maintained) add('evicted_active', lru(L_EVICTED_ACTIVE));
    add('crawler_reclaimed', lru(L_CRAWLER_RECLAIMED));
    add('crawler_items_checked', lru(L_CRAWLER_ITEMS_CHECKED));
    add('lrutail_reflocked', lru(L_REFLOCKED));
    if (maintained) {
      add('moves_to_cold', lru(L_MOVES_TO_COLD));
      add('moves_to_warm', lru(L_MOVES_TO_WARM));
      add('moves_within_lru', lru(L_MOVES_WITHIN_LRU));
      add('direct_reclaims', lru(L_DIRECT_RECLAIMS));
      add('hits_to_hot', sumListHits(memory, hot));
      add('hits_to_warm', sumListHits(memory, warm));
      add('hits_to_cold', sumListHits(memory, cold));
      add('hits_to_temp', sumListHits(memory, temp));
    }
  }
  return stats;
}

function slabStats({ memory }: Cache): Stat[] {
  const { i32, config } = memory;
  const stats: Stat[] = [];
  let active = 0;
  let malloced = (i32[W_PAGES_USED] - i32[W_PAGES_RELEASED]) * PAGE_BYTES;
  // Where no page changes its class, memcached takes no more of one than its chunks do.
  const whole = i32[W_SLAB_REASSIGN] !== 0 || config.slabChunkMax !== PAGE_BYTES;
  for (let clsid = 1; clsid < SLAB_CLASSES_MAX; clsid++) {
    const at = W_SLABS + clsid * SLAB_WORDS;
    const pages = i32[at + SLAB_PAGES];
    if (pages === 0) continue;
    active++;
    if (!whole) malloced -= pages * (PAGE_BYTES - i32[at + SLAB_SIZE] * i32[at + SLAB_PER_PAGE]);
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
    add('get_hits', sumClassHits(memory, clsid));
    add('cmd_set', sumClass(memory, clsid, S_SET_CMDS));
    add('delete_hits', sumClass(memory, clsid, S_DELETE_HITS));
    add('incr_hits', sumClass(memory, clsid, S_INCR_HITS));
    add('decr_hits', sumClass(memory, clsid, S_DECR_HITS));
    add('cas_hits', sumClass(memory, clsid, S_CAS_HITS));
    add('cas_badval', sumClass(memory, clsid, S_CAS_BADVAL));
    add('touch_hits', sumClass(memory, clsid, S_TOUCH_HITS));
  }
  stats.push(['active_slabs', active], ['total_malloced', malloced]);
  return stats;
}
