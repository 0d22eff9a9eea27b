/**
 * The text of -h, of -V and of -i. Its numbers come from the defaults that are in force.
 * Not its job: reading options (options.ts); `options.test.ts` holds that every option stands here.
 */
import { VERSION } from './replies.ts';
import { DEFAULT_SETTINGS } from './settings.ts';

const { cache, ...defaults } = DEFAULT_SETTINGS;
const { lru, slabs } = cache;
const mebi = 1024 * 1024;

export const VERSION_LINE = `memcached ${VERSION}\n`;

export const LICENSE = `memcached ${VERSION}\n\nThis is memcached-ts, under the MIT licence: see the file LICENSE that comes with it.\n`;

export const HELP = `memcached ${VERSION}
Listening:
-p, --port=<num>          TCP port (default: ${defaults.port}, 0: off, -1: any free port)
-U, --udp-port=<num>      UDP port (default: 0, off)
-l, --listen=<addr>       address to listen on, with or without a port: <ip>, <ip>:<port>, [<ip6>]:<port>, a host
                          name; a comma separated list, and repeatable (default: all addresses)
-s, --unix-socket=<file>  listen on a UNIX socket, and on no network
-a, --unix-mask=<mask>    permissions of the UNIX socket, octal (default: ${defaults.socketMode.toString(8)})
-b, --listen-backlog=<num> connections that may wait to be accepted (default: ${defaults.backlog})
-c, --conn-limit=<num>    connections at the same time (default: ${defaults.maxConns})
-B, --protocol=<name>     ascii, binary, or auto: the first byte of a connection tells (default: ${defaults.protocol})

Memory:
-m, --memory-limit=<num>  megabytes for items (default: ${cache.memoryBytes / mebi})
-M, --disable-evictions   answer with an error when memory is full, instead of evicting
-I, --max-item-size=<num> largest item, with k or m behind it (default: ${cache.itemSizeMax / mebi}m, min: 1k, max: 1024m)
-f, --slab-growth-factor=<num> from one chunk size to the next (default: ${cache.growthFactor.toFixed(2)})
-n, --slab-min-size=<bytes> least space for key, value and flags (default: ${cache.chunkSizeMin})
-C, --disable-cas         no CAS numbers: 8 bytes less an item
-e, --memory-file=<file>  keep items in a file, for a warm restart after SIGUSR1 (for a RAM disk)
-k, --lock-memory         keep the cache's memory in RAM
-L, --enable-largepages   large memory pages for the cache (where there are any); takes a page for each slab class at once

Process:
-t, --threads=<num>       worker threads (default: ${defaults.threads})
-R, --max-reqs-per-event  requests of one connection before the others get their turn (default: ${defaults.requestsPerEvent})
-d, --daemon              run in the background; this command returns once the server listens
-u, --user=<user>         become that user (when started as root)
-P, --pidfile=<file>      write the process number there
-r, --enable-coredumps    allow core files of any size
-v, --verbose             errors and warnings on stderr
-vv                       and commands and replies
-vvv                      and what happens inside
-h, --help                this text
-i, --license             the licence
-V, --version             the version
--config=<file>           options from a file such as Debian's /etc/memcached.conf: one a line, # comments

Access:
-A, --enable-shutdown     the commands "shutdown" and "shutdown graceful"
-F, --disable-flush-all   without flush_all
-X, --disable-dumping     without stats cachedump and lru_crawler metadump
-W, --disable-watch       without watch
-S, --enable-sasl         binary protocol alone, after SASL PLAIN; MEMCACHED_SASL_PWDB in the environment names the file
                          of name:password lines
-Y, --auth-file=<file>    text protocol alone; a connection begins with a "set" whose value is "name password", one of
                          the file's name:password lines (8 at most); SIGHUP reads it again
-D <char>                 where a key's prefix ends, for "stats detail" (default: "${defaults.prefixDelimiter}"); turns it on
-N, --napi-ids            not supported
-Z, --enable-ssl          not supported yet, nor -o ssl_chain_cert, ssl_key, ssl_ca_cert, ssl_verify_mode, ssl_ciphers,
                          ssl_min_version

-o, --extended            comma separated list; most have a form with no_ before it:
   - maxconns_fast:       refuse connections above the limit at once (default: on)
   - hashpower:           begin with 2^hashpower hash buckets (default: ${cache.hashPower})
   - no_hashexpand:       never make the hash table larger
   - hash_algorithm:      jenkins, murmur3 or xxh3: accepted, the table uses its own
   - slab_reassign:       pages may move between slab classes (default: on)
   - slab_automove:       0 off, 1 on, 2 aggressive (default: ${slabs.automove})
   - slab_automove_ratio: age ratio that makes a page move (default: ${slabs.automoveRatio})
   - slab_automove_window: rounds that the mover looks back (default: ${slabs.automoveWindow})
   - slab_automove_freeratio: share of memory kept free (default: ${slabs.automoveFreeratio})
   - slab_sizes:          chunk sizes in bytes: 104-200-400
   - slab_chunk_max:      bytes of the largest chunk (default: ${cache.slabChunkMax})
   - no_chunked_items:    one chunk an item
   - tail_repair_time:    seconds until an item at the tail that somebody holds is freed by force (default: off)
   - lru_crawler:         background crawler that frees expired items (default: on)
   - lru_crawler_sleep:   microseconds between its steps (default: ${lru.crawlerSleepUs})
   - lru_crawler_tocrawl: items a run, 0 no limit (default: ${lru.crawlerToCrawl})
   - lru_maintainer:      segmented LRU with a background thread (default: on)
   - hot_lru_pct:         percent of memory for hot items (default: ${lru.hotPct})
   - warm_lru_pct:        percent of memory for warm items (default: ${lru.warmPct})
   - hot_max_factor:      hot items idle longer than cold age times this get cold (default: ${lru.hotMaxFactor.toFixed(2)})
   - warm_max_factor:     the same of warm ones (default: ${lru.warmMaxFactor.toFixed(2)})
   - temporary_ttl:       items that live shorter have an LRU of their own (default: off)
   - idle_timeout:        seconds after which a silent connection is closed (default: ${defaults.idleTimeoutSeconds}, never)
   - watcher_logbuf_size: kilobytes that one watcher may be behind (default: ${defaults.watcherLogbufBytes / 1024})
   - worker_logbuf_size:  kilobytes of log lines that a worker may keep (default: ${defaults.workerLogbufBytes / 1024})
   - read_buf_mem_limit:  megabytes for what connections have sent and is not carried out (default: 0, no limit)
   - resp_obj_mem_limit:  megabytes for replies that wait to be sent (default: 0, no limit)
   - track_sizes:         "stats sizes" from the start
   - inline_ascii_resp, modern, drop_privileges, relaxed_privileges: accepted, without effect
   - no_modern:           the defaults of memcached 1.4

Its own:
--io=megapipe|epoll       how sockets are served: channels of their own on io_uring, one listening
                          queue each (default), or epoll on one shared listening queue
--backend=auto|uring|device  what --io=megapipe stands on: io_uring (auto falls back to epoll), or
                          the kernel module's /dev/megapipe
--lock=striped|global     one lock for each group of keys (default), or one for the whole cache
--pin[=<cpu>,...]         pin each worker thread to a CPU (without a list: to CPU 0, 1, ...)

Environment:
MEMCACHED_PORT_FILENAME   file to write the bound ports to
MEMCACHED_SASL_PWDB       see -S
`;
