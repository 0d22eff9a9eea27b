/**
 * The command line, with memcached's option words, checks, messages and exit codes.
 *
 * Invariant: what comes out is valid; what is wrong ends in a UsageError with memcached's text.
 * Not its job: acting on it (main.ts).
 */
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { CHUNK_ALIGN_BYTES, MEMORY_BYTES_MAX, PAGE_BYTES, SLAB_CLASSES_MAX } from './engine/layout.ts';
import { VERSION } from './replies.ts';
import { DEFAULT_SETTINGS, type Settings } from './settings.ts';

/** Exit codes of sysexits.h, which memcached uses. */
export const EX_USAGE = 64;
export const EX_NOUSER = 67;
export const EX_OSERR = 71;

/** Smallest chunk, as in memcached. */
const SLAB_SIZE_MIN = 48;
/** Seconds that the automover may look back on. */
const AUTOMOVE_WINDOW_MAX = 3600;

export class UsageError extends Error {
  readonly exitCode: number;
  constructor(message: string, exitCode: number) {
    super(message);
    this.exitCode = exitCode;
  }
}

const OPTIONS = {
  port: { type: 'string', short: 'p' },
  'udp-port': { type: 'string', short: 'U' },
  'unix-socket': { type: 'string', short: 's' },
  'unix-mask': { type: 'string', short: 'a' },
  listen: { type: 'string', short: 'l', multiple: true },
  user: { type: 'string', short: 'u' },
  'memory-limit': { type: 'string', short: 'm' },
  'disable-evictions': { type: 'boolean', short: 'M' },
  'conn-limit': { type: 'string', short: 'c' },
  threads: { type: 'string', short: 't' },
  'max-reqs-per-event': { type: 'string', short: 'R' },
  'disable-cas': { type: 'boolean', short: 'C' },
  'listen-backlog': { type: 'string', short: 'b' },
  'max-item-size': { type: 'string', short: 'I' },
  'slab-growth-factor': { type: 'string', short: 'f' },
  'slab-min-size': { type: 'string', short: 'n' },
  'disable-flush-all': { type: 'boolean', short: 'F' },
  pidfile: { type: 'string', short: 'P' },
  verbose: { type: 'boolean', short: 'v', multiple: true },
  'enable-sasl': { type: 'boolean', short: 'S' },
  extended: { type: 'string', short: 'o', multiple: true },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean', short: 'V' },
  io: { type: 'string' },
  backend: { type: 'string' },
  lock: { type: 'string' },
  pin: { type: 'string' },
} as const;

export const HELP = `memcached-ts ${VERSION}
-p, --port=<num>          TCP port to listen on (default: 11211, 0: off, -1: any free port)
-U, --udp-port=<num>      UDP port: only 0 (off) is possible
-s, --unix-socket=<file>  UNIX socket to listen on (disables network support)
-a, --unix-mask=<mask>    access mask for UNIX socket, in octal (default: 700)
-l, --listen=<addr>       interface to listen on (default: INADDR_ANY), with or without a port;
                          a comma separated list, and repeatable
-u, --user=<user>         assume identity of <username> (only when run as root)
-m, --memory-limit=<num>  item memory in megabytes (default: 64)
-M, --disable-evictions   return error on memory exhausted instead of evicting
-c, --conn-limit=<num>    max simultaneous connections (default: 1024)
-t, --threads=<num>       number of threads to use (default: 4)
-R, --max-reqs-per-event  accepted for compatibility (default: 20)
-C, --disable-cas         disable use of CAS
-b, --listen-backlog=<num> set the backlog queue limit (default: 1024)
-I, --max-item-size=<num> adjusts max item size (default: 1m, min: 1k, max: 1024m)
-f, --slab-growth-factor=<num> chunk size growth factor (default: 1.25)
-n, --slab-min-size=<bytes> min space used for key+value+flags (default: 48)
-F, --disable-flush-all   disable flush_all command
-P, --pidfile=<file>      save PID in <file>
-v, --verbose             verbose (print errors/warnings while in event loop)
-vv                       very verbose (also print client commands/responses)
-S, --enable-sasl         binary protocol alone, after SASL PLAIN; the environment's MEMCACHED_SASL_PWDB
                          names the file of name:password lines
-o, --extended            comma separated list of extended options:
   - maxconns_fast:       immediately close new connections after limit (always so)
   - hashpower:           the hash table starts with 2^hashpower buckets (default: 16)
   - slab_chunk_max:      maximum slab size in kilobytes (default: 512)
   - (no_)slab_reassign:  pages may change their slab class (default: yes)
   - slab_automove:       0, 1 or 2: never by themselves, by age and free chunks, with every eviction (default: 1)
   - slab_automove_ratio, slab_automove_window: how much younger a class's items must be, over how many seconds
                          (default: 0.8, 30)
   - slab_sizes:          chunk sizes in bytes, joined by dashes
   - hash_algorithm:      accepted for compatibility
   - track_sizes:         count item sizes for 'stats sizes'
   - no_hashexpand:       the hash table keeps its size
   - tail_repair_time:    seconds after which an item at the LRU's tail is taken from whoever holds it
   - (no_)lru_crawler:    look for expired items in the background (default: yes)
   - lru_crawler_sleep:   microseconds of rest after every 1000 items (default: 100)
   - lru_crawler_tocrawl: max items to crawl per slab per run (default: 0, unlimited)
   - (no_)lru_maintainer: segmented LRU and background thread (default: yes)
   - hot_lru_pct, warm_lru_pct: percent of slab memory for hot and warm LRU (default: 20, 40)
   - hot_max_factor, warm_max_factor: items idle for more than cold LRU age times this leave hot, warm
                          (default: 0.20, 2.00)
   - temporary_ttl:       items with less than this to live get an LRU that is never evicted (default: off)
   - idle_timeout:        timeout for idle connections in seconds (default: 0, no timeout)
-h, --help                print this help and exit
-V, --version             print version and exit

--io=megapipe|epoll       how sockets are served: channels of their own on io_uring, one listening
                          queue each (default), or epoll on one shared listening queue
--backend=auto|uring|device  what --io=megapipe stands on: io_uring (auto falls back to epoll), or
                          the kernel module's /dev/megapipe
--lock=striped|global     one lock for each group of keys (default), or one for the whole cache
--pin[=<cpu>,...]         pin each worker thread to a CPU (without a list: to CPU 0, 1, ...)
`;

type Action = { action: 'serve'; settings: Settings } | { action: 'help' } | { action: 'version' };

/** What the arguments ask for. Throws UsageError. */
export function parseCommandLine(argv: readonly string[]): Action {
  // `--pin` may stand alone; parseArgs knows no optional values.
  const args = argv.map((arg) => (arg === '--pin' ? '--pin=' : arg));
  const { tokens } = parseArgs({ args, options: OPTIONS, strict: false, allowPositionals: true, tokens: true });
  const settings = structuredClone(DEFAULT_SETTINGS);
  const cache = settings.cache;
  let slabChunkMax: number | undefined;
  for (const token of tokens) {
    if (token.kind !== 'option') continue;
    const { name, rawName } = token;
    const known = (OPTIONS as Record<string, { type: string; short?: string }>)[name];
    if (known === undefined) {
      const text = rawName.startsWith('--') ? `unrecognized option '${rawName}'` : `invalid option -- '${name}'`;
      throw new UsageError(`memcached-ts: ${text}\nIllegal argument "?"`, 1);
    }
    if (known.type === 'string' && token.value === undefined) {
      const text = rawName.startsWith('--')
        ? `option '${rawName}' requires an argument`
        : `option requires an argument -- '${known.short}'`;
      throw new UsageError(`memcached-ts: ${text}\nIllegal argument "?"`, 1);
    }
    const value = token.value ?? '';
    switch (name) {
      case 'help':
        return { action: 'help' };
      case 'version':
        return { action: 'version' };
      case 'port':
        settings.port = toInteger(value);
        if (!Number.isInteger(settings.port) || settings.port < -1 || settings.port > 65535) {
          throw new UsageError(`ERROR: Invalid port number ${value}.`, EX_USAGE);
        }
        break;
      case 'udp-port':
        if (toInteger(value) !== 0)
          throw new UsageError(`UDP is not supported: -U ${value} (only 0 is possible)`, EX_USAGE);
        break;
      case 'unix-socket':
        settings.socketPath = value;
        break;
      case 'unix-mask':
        settings.socketMode = Number.parseInt(value, 8);
        if (Number.isNaN(settings.socketMode)) throw new UsageError(`Illegal access mask "${value}"`, EX_USAGE);
        break;
      case 'listen':
        settings.listen.push(...value.split(/[,; ]+/).filter((part) => part !== ''));
        break;
      case 'user':
        settings.user = value;
        break;
      case 'memory-limit':
        cache.memoryBytes = toInteger(value) * PAGE_BYTES;
        break;
      case 'disable-evictions':
        cache.evictions = false;
        break;
      case 'conn-limit':
        settings.maxConns = atLeastOne(value, 'Maximum connections must be greater than 0');
        break;
      case 'threads':
        settings.threads = atLeastOne(value, 'Number of threads must be greater than 0');
        if (settings.threads > 120) throw new UsageError('Number of threads must be at most 120', 1);
        break;
      case 'max-reqs-per-event':
        settings.requestsPerEvent = atLeastOne(value, 'Number of requests per event must be greater than 0');
        break;
      case 'disable-cas':
        cache.useCas = false;
        break;
      case 'listen-backlog':
        settings.backlog = Math.max(1, toInteger(value) || 1024);
        break;
      case 'max-item-size':
        cache.itemSizeMax = toSize(value);
        break;
      case 'slab-growth-factor':
        cache.growthFactor = Number.parseFloat(value);
        if (!(cache.growthFactor > 1)) throw new UsageError('Factor must be greater than 1', 1);
        break;
      case 'slab-min-size':
        cache.chunkSizeMin = atLeastOne(value, 'Chunk size must be greater than 0');
        break;
      case 'disable-flush-all':
        settings.flushEnabled = false;
        break;
      case 'pidfile':
        settings.pidFile = value;
        break;
      case 'verbose':
        settings.verbosity++;
        break;
      case 'enable-sasl':
        settings.users = readUsers(process.env['MEMCACHED_SASL_PWDB']);
        break;
      case 'extended':
        for (const part of value.split(',').filter((text) => text !== '')) {
          slabChunkMax = extended(settings, part) ?? slabChunkMax;
        }
        break;
      case 'io':
        if (value !== 'megapipe' && value !== 'epoll') {
          throw new UsageError(`--io must be megapipe or epoll, not "${value}"`, EX_USAGE);
        }
        settings.io = value;
        break;
      case 'backend':
        if (value !== 'auto' && value !== 'uring' && value !== 'device') {
          throw new UsageError(`--backend must be auto, uring or device, not "${value}"`, EX_USAGE);
        }
        settings.backend = value;
        break;
      case 'lock':
        if (value !== 'global' && value !== 'striped') {
          throw new UsageError(`--lock must be global or striped, not "${value}"`, EX_USAGE);
        }
        settings.lock = value;
        break;
      case 'pin':
        settings.cpus = value === '' ? cpus().map((_, cpu) => cpu) : value.split(',').map(Number);
        if (settings.cpus.some((cpu) => !Number.isInteger(cpu) || cpu < 0)) {
          throw new UsageError(`--pin must be a list of CPU numbers, not "${value}"`, EX_USAGE);
        }
        break;
    }
  }
  checkSizes(settings, slabChunkMax);
  return { action: 'serve', settings };
}

/** One suboption of -o. Gives slab_chunk_max in bytes when it was that. */
function extended(settings: Settings, part: string): number | undefined {
  const [name, value = ''] = part.split('=', 2) as [string, string?];
  switch (name) {
    case 'maxconns_fast':
    case 'modern':
    case 'no_drop_privileges':
      return undefined;
    case 'hashpower': {
      const power = toInteger(value);
      if (!(power >= 12 && power <= 28))
        throw new UsageError(`Initial hashtable multiplier of ${value} is out of range`, 1);
      settings.cache.hashPower = power;
      return undefined;
    }
    case 'slab_chunk_max': {
      const kilobytes = toInteger(value);
      if (!(kilobytes > 0)) throw new UsageError('could not parse argument to slab_chunk_max', 1);
      return kilobytes * 1024;
    }
    case 'slab_reassign':
    case 'no_slab_reassign':
      settings.cache.slabs.reassign = name === 'slab_reassign';
      return undefined;
    case 'slab_automove': {
      const level = value === '' ? 1 : toInteger(value);
      if (!(level >= 0 && level <= 2)) throw new UsageError('slab_automove must be between 0 and 2', 1);
      settings.cache.slabs.automove = level;
      return undefined;
    }
    case 'slab_automove_ratio': {
      const ratio = Number.parseFloat(value);
      if (!(ratio > 0 && ratio <= 1)) throw new UsageError('slab_automove_ratio must be > 0 and < 1', 1);
      settings.cache.slabs.automoveRatio = ratio;
      return undefined;
    }
    case 'slab_automove_freeratio': {
      const ratio = Number.parseFloat(value);
      if (!(ratio > 0 && ratio <= 1)) throw new UsageError('slab_automove_freeratio must be > 0 and < 1', 1);
      settings.cache.slabs.automoveFreeratio = ratio;
      return undefined;
    }
    case 'slab_automove_window': {
      const seconds = toInteger(value);
      if (!(seconds >= 3)) throw new UsageError('slab_automove_window must be > 2', 1);
      settings.cache.slabs.automoveWindow = Math.min(seconds, AUTOMOVE_WINDOW_MAX);
      return undefined;
    }
    case 'slab_sizes':
      settings.cache.slabSizes = toSlabSizes(value);
      return undefined;
    case 'hash_algorithm':
      if (!['jenkins', 'murmur3', 'xxh3'].includes(value)) {
        throw new UsageError('Unknown hash_algorithm option (jenkins, murmur3, xxh3)', 1);
      }
      return undefined;
    case 'track_sizes':
      settings.cache.trackSizes = true;
      return undefined;
    case 'no_hashexpand':
      settings.cache.hashExpand = false;
      return undefined;
    case 'tail_repair_time': {
      const seconds = toInteger(value);
      if (!(seconds >= 10)) throw new UsageError('Cannot set tail_repair_time to less than 10 seconds', 1);
      settings.cache.lru.tailRepairTime = seconds;
      return undefined;
    }
    case 'lru_crawler':
    case 'no_lru_crawler':
      settings.cache.lru.crawler = name === 'lru_crawler';
      return undefined;
    case 'lru_crawler_sleep': {
      const microseconds = toInteger(value);
      if (!(microseconds >= 0 && microseconds <= 1_000_000)) {
        throw new UsageError('LRU crawler sleep must be between 0 and 1 second', 1);
      }
      settings.cache.lru.crawlerSleepUs = microseconds;
      return undefined;
    }
    case 'lru_crawler_tocrawl': {
      const items = toInteger(value);
      if (!(items >= 0)) throw new UsageError('lru_crawler_tocrawl takes a numeric 32bit value', 1);
      settings.cache.lru.crawlerToCrawl = Math.min(items, 0x7fff_ffff);
      return undefined;
    }
    case 'lru_maintainer':
    case 'no_lru_maintainer':
      settings.cache.lru.maintainer = settings.cache.lru.segmented = name === 'lru_maintainer';
      return undefined;
    case 'hot_lru_pct':
    case 'warm_lru_pct': {
      const percent = toInteger(value);
      if (!(percent >= 1 && percent < 80)) throw new UsageError(`${name} must be > 1 and < 80`, 1);
      if (name === 'hot_lru_pct') settings.cache.lru.hotPct = percent;
      else settings.cache.lru.warmPct = percent;
      return undefined;
    }
    case 'hot_max_factor':
    case 'warm_max_factor': {
      const factor = Number.parseFloat(value);
      if (!(factor > 0)) throw new UsageError(`${name} must be > 0`, 1);
      if (name === 'hot_max_factor') settings.cache.lru.hotMaxFactor = factor;
      else settings.cache.lru.warmMaxFactor = factor;
      return undefined;
    }
    case 'temporary_ttl': {
      const seconds = toInteger(value);
      if (!(seconds >= 0)) throw new UsageError('missing temporary_ttl argument', 1);
      settings.cache.lru.temporaryTtl = Math.min(seconds, 0x7fff_ffff);
      return undefined;
    }
    case 'idle_timeout': {
      const seconds = toInteger(value);
      if (!(seconds >= 0)) throw new UsageError('idle_timeout must be a number of seconds', 1);
      settings.idleTimeoutSeconds = seconds;
      return undefined;
    }
    default:
      throw new UsageError(`Illegal suboption "${part}"`, 1);
  }
}

function checkSizes(settings: Settings, slabChunkMax: number | undefined): void {
  const { cache } = settings;
  if (!(cache.itemSizeMax >= 1024)) throw new UsageError('Item max size cannot be less than 1024 bytes.', EX_USAGE);
  if (cache.itemSizeMax > 1024 * PAGE_BYTES) {
    throw new UsageError('Cannot set item size limit higher than a gigabyte.', EX_USAGE);
  }
  if (!(cache.itemSizeMax <= cache.memoryBytes / 2)) {
    throw new UsageError('Cannot set item size limit higher than 1/2 of memory max.', EX_USAGE);
  }
  if (cache.memoryBytes > MEMORY_BYTES_MAX)
    throw new UsageError('Cannot use more than 15 GB of item memory.', EX_USAGE);
  if (slabChunkMax !== undefined) cache.slabChunkMax = slabChunkMax;
  const { slabChunkMax: chunk, itemSizeMax } = cache;
  if (chunk > itemSizeMax) {
    const text = `slab_chunk_max (bytes: ${chunk}) cannot be larger than -I (item_size_max ${itemSizeMax})`;
    throw new UsageError(text, EX_USAGE);
  }
  if (itemSizeMax % chunk !== 0) {
    const text = `-I (item_size_max: ${itemSizeMax}) must be evenly divisible by slab_chunk_max (bytes: ${chunk})`;
    throw new UsageError(text, EX_USAGE);
  }
  if (PAGE_BYTES % chunk !== 0) {
    const text = `slab_chunk_max (bytes: ${chunk}) must divide a slab page (bytes: ${PAGE_BYTES}) evenly`;
    throw new UsageError(text, EX_USAGE);
  }
  if (cache.lru.hotPct + cache.lru.warmPct > 80) {
    throw new UsageError('hot_lru_pct + warm_lru_pct cannot be more than 80% combined', EX_USAGE);
  }
  if (cache.chunkSizeMin > chunk / 2) throw new UsageError(`Chunk size must be at most ${chunk / 2}`, 1);
}

/** `-o slab_sizes=96-192-384`: each larger than the one before by at least what chunks are aligned to. */
function toSlabSizes(text: string): number[] {
  const sizes: number[] = [];
  for (const part of text.split('-')) {
    const size = toInteger(part);
    if (!(size >= SLAB_SIZE_MIN && size <= PAGE_BYTES))
      throw new UsageError(`slab size ${part} is out of valid range`, 1);
    if (sizes.length > 0 && size <= sizes.at(-1)!) {
      throw new UsageError(`slab size ${part} cannot be lower than or equal to a previous class size`, 1);
    }
    if (sizes.length > 0 && size <= sizes.at(-1)! + CHUNK_ALIGN_BYTES) {
      throw new UsageError(
        `slab size ${part} must be at least ${CHUNK_ALIGN_BYTES} bytes larger than previous class`,
        1,
      );
    }
    sizes.push(Math.ceil(size / CHUNK_ALIGN_BYTES) * CHUNK_ALIGN_BYTES);
    if (sizes.length >= SLAB_CLASSES_MAX - 1) {
      throw new UsageError('too many slab classes specified', 1);
    }
  }
  return sizes;
}

/** The names and passwords of a file of name:password lines; what follows a second colon is not looked at. */
function readUsers(path: string | undefined): Record<string, string> {
  if (path === undefined) {
    throw new UsageError('-S needs MEMCACHED_SASL_PWDB in the environment: a file of name:password lines', EX_USAGE);
  }
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new UsageError(`cannot read the passwords in MEMCACHED_SASL_PWDB: ${why}`, EX_USAGE);
  }
  const users: Record<string, string> = {};
  for (const line of text.split(/\r?\n/)) {
    const [name, password] = line.split(':', 2);
    if (name !== undefined && name !== '' && password !== undefined) users[name] = password;
  }
  return users;
}

/** As C's atoi, but NaN where there is no number at all. */
function toInteger(text: string): number {
  return Number.parseInt(text, 10);
}

function atLeastOne(text: string, message: string): number {
  const number = toInteger(text);
  if (!(number > 0)) throw new UsageError(message, 1);
  return number;
}

/** -I: a number with k or m behind it. */
function toSize(text: string): number {
  const unit = text.at(-1)?.toLowerCase();
  return toInteger(text) * (unit === 'k' ? 1024 : unit === 'm' ? PAGE_BYTES : 1);
}
