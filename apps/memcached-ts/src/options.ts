/**
 * The command line, with memcached's option words, checks, messages and exit codes.
 *
 * Invariant: what comes out is valid; what is wrong ends in a UsageError with memcached's text.
 * Not its job: cutting words (getopt.ts), the text of -h (help.ts), acting on it (main.ts).
 */
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { type ConfigFile, parseConfigFile } from './config_file.ts';
import { CHUNK_ALIGN_BYTES, MEMORY_BYTES_MAX, PAGE_BYTES, SLAB_CLASSES_MAX } from './engine/layout.ts';
import { getopt, type OptionName } from './getopt.ts';
import { whyNoLargePages } from './large_pages.ts';
import { DEFAULT_SETTINGS, type HashAlgorithm, type Settings } from './settings.ts';
import { atof, atoi, strtoul32 } from './strtol.ts';

/** Exit codes of sysexits.h, which memcached uses. */
export const EX_USAGE = 64;
export const EX_NOUSER = 67;
export const EX_OSERR = 71;

/** Seconds that the automover may look back on. */
const AUTOMOVE_WINDOW_MAX = 3600;
const INT_MAX = 0x7fff_ffff;

export class UsageError extends Error {
  readonly exitCode: number;
  constructor(message: string, exitCode: number) {
    super(message);
    this.exitCode = exitCode;
  }
}

const none = (long: string, short?: string): OptionName => option(long, short, 'none');
const value = (long: string, short?: string): OptionName => option(long, short, 'required');
function option(long: string, short: string | undefined, argument: OptionName['argument']): OptionName {
  return short === undefined ? { long, argument } : { long, short, argument };
}

/** In memcached's order, which shows where an abbreviation is ambiguous; then our own. */
const OPTIONS: readonly OptionName[] = [
  value('unix-mask', 'a'),
  none('enable-shutdown', 'A'),
  none('enable-ssl', 'Z'),
  value('port', 'p'),
  value('unix-socket', 's'),
  value('udp-port', 'U'),
  value('memory-limit', 'm'),
  none('disable-evictions', 'M'),
  value('conn-limit', 'c'),
  none('lock-memory', 'k'),
  none('help', 'h'),
  none('license', 'i'),
  none('version', 'V'),
  none('enable-coredumps', 'r'),
  none('verbose', 'v'),
  none('daemon', 'd'),
  value('listen', 'l'),
  value('user', 'u'),
  value('pidfile', 'P'),
  value('slab-growth-factor', 'f'),
  value('slab-min-size', 'n'),
  value('threads', 't'),
  none('enable-largepages', 'L'),
  value('max-reqs-per-event', 'R'),
  none('disable-cas', 'C'),
  value('listen-backlog', 'b'),
  value('protocol', 'B'),
  value('max-item-size', 'I'),
  none('enable-sasl', 'S'),
  none('disable-flush-all', 'F'),
  none('disable-dumping', 'X'),
  none('disable-watch', 'W'),
  value('auth-file', 'Y'),
  value('memory-file', 'e'),
  value('extended', 'o'),
  value('napi-ids', 'N'),
  { short: 'D', argument: 'required' },
  value('io'),
  value('backend'),
  value('lock'),
  option('pin', undefined, 'optional'),
  value('config'),
];

type Action =
  | { action: 'serve'; settings: Settings }
  | { action: 'help' }
  | { action: 'version' }
  | { action: 'license' };

/** What was seen on the way and matters only once everything is read. */
interface Pending {
  settings: Settings;
  warnings: string[];
  slabChunkGiven: boolean;
  slabSizes: string | undefined;
  sasl: boolean;
  protocolGiven: boolean;
  udpGiven: boolean;
  tcpGiven: boolean;
  tls: string | undefined;
}

/** What the arguments ask for. Throws UsageError. `warnings` gets lines for stderr. */
export function parseCommandLine(argv: readonly string[], warnings: string[] = []): Action {
  const settings = structuredClone(DEFAULT_SETTINGS);
  const pending: Pending = {
    settings,
    warnings,
    slabChunkGiven: false,
    slabSizes: undefined,
    sasl: false,
    protocolGiven: false,
    udpGiven: false,
    tcpGiven: false,
    tls: undefined,
  };
  const action = readWords(pending, argv);
  if (action !== undefined) return action;
  checkSizes(settings, pending.slabChunkGiven);
  if (pending.slabSizes !== undefined) settings.cache.slabSizes = parseSlabSizes(settings, pending.slabSizes);
  const { cache } = settings;
  if (cache.lru.hotPct + cache.lru.warmPct > 80) {
    throw new UsageError('hot_lru_pct + warm_lru_pct cannot be more than 80% combined', EX_USAGE);
  }
  if (cache.lru.temp && !cache.lru.maintainer) {
    throw new UsageError('temporary_ttl requires lru_maintainer to be enabled', EX_USAGE);
  }
  checkProtocols(pending);
  return { action: 'serve', settings };
}

function readWords(pending: Pending, argv: readonly string[]): Action | undefined {
  const { settings, warnings } = pending;
  const { cache } = settings;
  let words: ReturnType<typeof getopt>;
  try {
    words = getopt(argv, OPTIONS);
  } catch (error) {
    throw new UsageError(`memcached-ts: ${messageOf(error)}\nIllegal argument "?"`, 1);
  }
  for (const { option: name, value: given } of words) {
    const text = given ?? '';
    switch (name.short ?? name.long) {
      case 'h':
        return { action: 'help' };
      case 'V':
        return { action: 'version' };
      case 'i':
        return { action: 'license' };
      case 'A':
        settings.shutdownCommand = true;
        break;
      case 'Z':
        pending.tls ??= '-Z';
        break;
      case 'a':
        // As strtol: nothing octal is 0.
        settings.socketMode = Number.parseInt(text, 8) || 0;
        break;
      case 'p':
        settings.port = portNumber(text);
        pending.tcpGiven = true;
        break;
      case 'U':
        settings.udpPort = portNumber(text);
        pending.udpGiven = true;
        break;
      case 's':
        settings.socketPath = text;
        break;
      case 'm':
        cache.memoryBytes = atoi(text) * PAGE_BYTES;
        break;
      case 'M':
        cache.evictions = false;
        break;
      case 'c':
        settings.maxConns = atLeastOne(text, 'Maximum connections must be greater than 0');
        break;
      case 'k':
        settings.lockMemory = true;
        break;
      case 'r':
        settings.coreDumps = true;
        break;
      case 'v':
        settings.verbosity++;
        break;
      case 'd':
        settings.daemon = true;
        break;
      case 'l':
        settings.listen.push(...text.split(/[,; ]+/).filter((part) => part !== ''));
        break;
      case 'u':
        settings.user = text;
        break;
      case 'P':
        settings.pidFile = text;
        break;
      case 'f':
        cache.growthFactor = atof(text);
        if (!(cache.growthFactor > 1)) throw new UsageError('Factor must be greater than 1', 1);
        break;
      case 'n':
        cache.chunkSizeMin = atLeastOne(text, 'Chunk size must be greater than 0');
        break;
      case 't':
        settings.threads = atLeastOne(text, 'Number of threads must be greater than 0');
        if (settings.threads > 64) {
          warnings.push(
            'WARNING: Setting a high number of workerthreads is not recommended.',
            ' Set this value to the number of cores in your machine or less.',
          );
        }
        if (settings.threads > 120) throw new UsageError('Number of threads must be at most 120', 1);
        break;
      case 'L': {
        const why = whyNoLargePages();
        if (why !== undefined)
          throw new UsageError(
            `${why}\nWill use default page size.\n` +
              'Cannot enable large pages on this system\n(There is no support as of this version)',
            1,
          );
        settings.largePages = true;
        break;
      }
      case 'R':
        settings.requestsPerEvent = atLeastOne(text, 'Number of requests per event must be greater than 0');
        break;
      case 'C':
        cache.useCas = false;
        break;
      case 'b':
        settings.backlog = atoi(text);
        break;
      case 'B':
        if (text !== 'auto' && text !== 'binary' && text !== 'ascii') {
          const lines = `Invalid value for binding protocol: ${text}\n -- should be one of auto, binary, or ascii`;
          throw new UsageError(lines, EX_USAGE);
        }
        settings.protocol = text;
        pending.protocolGiven = true;
        break;
      case 'I':
        cache.itemSizeMax = toSize(text);
        break;
      case 'S':
        pending.sasl = true;
        break;
      case 'F':
        settings.flushEnabled = false;
        break;
      case 'X':
        settings.dumpEnabled = false;
        break;
      case 'W':
        settings.watchEnabled = false;
        break;
      case 'Y':
        settings.authFile = text;
        break;
      case 'e':
        settings.memoryFile = text;
        break;
      case 'N':
        throw new UsageError('-N <num_napi_ids> option not supported', 1);
      case 'D':
        if (text === '') throw new UsageError('No delimiter specified', 1);
        settings.prefixDelimiter = Buffer.from(text).toString('latin1').charAt(0);
        settings.detailEnabled = true;
        break;
      case 'o':
        if (text !== '') for (const part of text.split(',')) extended(pending, part);
        break;
      case 'io':
        if (text !== 'megapipe' && text !== 'epoll') {
          throw new UsageError(`--io must be megapipe or epoll, not "${text}"`, EX_USAGE);
        }
        settings.io = text;
        break;
      case 'backend':
        if (text !== 'auto' && text !== 'uring' && text !== 'device') {
          throw new UsageError(`--backend must be auto, uring or device, not "${text}"`, EX_USAGE);
        }
        settings.backend = text;
        break;
      case 'lock':
        if (text !== 'global' && text !== 'striped') {
          throw new UsageError(`--lock must be global or striped, not "${text}"`, EX_USAGE);
        }
        settings.lock = text;
        break;
      case 'pin':
        settings.cpus = text === '' ? cpus().map((_, cpu) => cpu) : text.split(',').map(Number);
        if (settings.cpus.some((cpu) => !Number.isInteger(cpu) || cpu < 0)) {
          throw new UsageError(`--pin must be a list of CPU numbers, not "${text}"`, EX_USAGE);
        }
        break;
      case 'config': {
        const action = readConfig(pending, text);
        if (action !== undefined) return action;
        break;
      }
    }
  }
  return undefined;
}

/** The options of a file, as if they stood here on the command line. */
function readConfig(pending: Pending, path: string): Action | undefined {
  let file: ConfigFile;
  try {
    file = parseConfigFile(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new UsageError(`cannot read --config ${path}: ${messageOf(error)}`, EX_USAGE);
  }
  if (file.args.some((word) => word.startsWith('--config'))) {
    throw new UsageError(`cannot read --config ${path}: it names another --config`, EX_USAGE);
  }
  if (file.logFile !== undefined) pending.settings.logFile = file.logFile;
  return readWords(pending, file.args);
}

/** One suboption of -o. */
function extended(pending: Pending, part: string): void {
  const { settings } = pending;
  const { cache } = settings;
  const equals = part.indexOf('=');
  const name = equals < 0 ? part : part.slice(0, equals);
  const given = equals < 0 ? undefined : part.slice(equals + 1);
  const required = (message: string): string => {
    if (given === undefined) throw new UsageError(message, 1);
    return given;
  };
  const within = (what: number, ok: boolean, message: string): number => {
    if (!ok) throw new UsageError(message, 1);
    return what;
  };
  /** An unsigned number, read strictly and wrapped to 32 bits. */
  const unsigned = (message: string): number => {
    const number = strtoul32(required(`Missing ${name} argument`));
    return within(number ?? 0, number !== undefined, message);
  };
  const percentage = (): number => {
    const number = atoi(required(`Missing ${name} argument`));
    return within(number, number >= 1 && number < 80, `${name} must be > 1 and < 80`);
  };
  const factor = (): number => {
    const number = atof(required(`Missing ${name} argument`));
    return within(number, !(number <= 0), `${name} must be > 0`);
  };
  switch (name) {
    case 'maxconns_fast':
    case 'no_maxconns_fast':
      settings.maxConnsFast = name === 'maxconns_fast';
      return;
    case 'hashpower': {
      const power = atoi(required('Missing numeric argument for hashpower'));
      const text = `Initial hashtable multiplier of ${power} is too`;
      within(power, power >= 12, `${text} low`);
      // 2^28 buckets take a gigabyte; there are never more.
      const advice = 'Choose a value based on "STAT hash_power_level" from a running instance';
      cache.hashPower = within(power, power <= 28, `${text} high\n${advice}`);
      settings.hashPowerGiven = power;
      return;
    }
    case 'no_hashexpand':
      cache.hashExpand = false;
      return;
    case 'slab_reassign':
    case 'no_slab_reassign':
      cache.slabs.reassign = name === 'slab_reassign';
      return;
    case 'slab_automove': {
      const level = given === undefined ? 1 : atoi(given);
      cache.slabs.automove = within(level, level >= 0 && level <= 2, 'slab_automove must be between 0 and 2');
      return;
    }
    case 'no_slab_automove':
      cache.slabs.automove = 0;
      return;
    case 'slab_automove_ratio': {
      const ratio = atof(required('Missing slab_automove_ratio argument'));
      cache.slabs.automoveRatio = within(ratio, isShare(ratio), 'slab_automove_ratio must be > 0 and < 1');
      return;
    }
    case 'slab_automove_window': {
      const window = atoi(required('Missing slab_automove_window argument'));
      within(window, window >= 3, 'slab_automove_window must be > 2');
      cache.slabs.automoveWindow = Math.min(window, AUTOMOVE_WINDOW_MAX);
      return;
    }
    case 'slab_automove_freeratio': {
      const ratio = atof(required('Missing slab_automove_freeratio argument'));
      const message = 'slab_automove_freeratio must be > 0 and < 1';
      cache.slabs.automoveFreeratio = within(ratio, isShare(ratio), message);
      return;
    }
    case 'tail_repair_time': {
      const seconds = atoi(required('Missing numeric argument for tail_repair_time'));
      const message = 'Cannot set tail_repair_time to less than 10 seconds';
      cache.lru.tailRepairTime = within(seconds, seconds >= 10, message);
      return;
    }
    case 'hash_algorithm': {
      const text = required('Missing hash_algorithm argument');
      if (text !== 'jenkins' && text !== 'murmur3' && text !== 'xxh3') {
        throw new UsageError('Unknown hash_algorithm option (jenkins, murmur3, xxh3)', 1);
      }
      settings.hashAlgorithm = text satisfies HashAlgorithm;
      return;
    }
    case 'lru_crawler':
    case 'no_lru_crawler':
      cache.lru.crawler = name === 'lru_crawler';
      return;
    case 'lru_crawler_sleep': {
      const micros = strtoul32(required('Missing lru_crawler_sleep value')) ?? -1;
      const message = 'LRU crawler sleep must be between 0 and 1 second';
      cache.lru.crawlerSleepUs = within(micros, micros >= 0 && micros <= 1_000_000, message);
      return;
    }
    case 'lru_crawler_tocrawl':
      required('Missing lru_crawler_tocrawl value');
      cache.lru.crawlerToCrawl = Math.min(unsigned('lru_crawler_tocrawl takes a numeric 32bit value'), INT_MAX);
      return;
    case 'lru_maintainer':
    case 'no_lru_maintainer':
      cache.lru.maintainer = name === 'lru_maintainer';
      cache.lru.segmented = cache.lru.maintainer;
      return;
    case 'hot_lru_pct':
      cache.lru.hotPct = percentage();
      return;
    case 'warm_lru_pct':
      cache.lru.warmPct = percentage();
      return;
    case 'hot_max_factor':
      cache.lru.hotMaxFactor = factor();
      return;
    case 'warm_max_factor':
      cache.lru.warmMaxFactor = factor();
      return;
    case 'temporary_ttl':
      cache.lru.temporaryTtl = atoi(required('Missing temporary_ttl argument'));
      cache.lru.temp = true;
      return;
    case 'idle_timeout':
      settings.idleTimeoutSeconds = atoi(required('Missing numeric argument for idle_timeout'));
      return;
    case 'watcher_logbuf_size':
      settings.watcherLogbufBytes = unsigned('could not parse argument to watcher_logbuf_size') * 1024;
      return;
    case 'worker_logbuf_size':
      settings.workerLogbufBytes = unsigned('could not parse argument to worker_logbuf_size') * 1024;
      return;
    case 'slab_sizes':
      pending.slabSizes = required('Missing slab_sizes argument');
      return;
    case 'slab_chunk_max':
      // Bytes, whatever memcached's own help says.
      cache.slabChunkMax = unsigned('could not parse argument to slab_chunk_max');
      pending.slabChunkGiven = true;
      return;
    case 'track_sizes':
      cache.trackSizes = true;
      return;
    case 'inline_ascii_resp':
    case 'no_inline_ascii_resp':
      // Replies have always been kept inline here; memcached ignores these words, too.
      return;
    case 'no_chunked_items':
      cache.slabChunkMax = PAGE_BYTES;
      return;
    case 'resp_obj_mem_limit':
      settings.respObjMemLimitBytes = unsigned('could not parse argument to resp_obj_mem_limit') * PAGE_BYTES;
      return;
    case 'read_buf_mem_limit':
      settings.readBufMemLimitBytes = unsigned('could not parse argument to read_buf_mem_limit') * PAGE_BYTES;
      return;
    case 'drop_privileges':
    case 'no_drop_privileges':
    case 'relaxed_privileges':
      // They are about seccomp filters, which neither memcached's Debian build nor this server has.
      return;
    case 'modern':
      return;
    case 'no_modern':
      if (!pending.slabChunkGiven) cache.slabChunkMax = PAGE_BYTES;
      settings.maxConnsFast = false;
      cache.slabs.reassign = false;
      cache.slabs.automove = 0;
      settings.hashAlgorithm = 'jenkins';
      cache.lru.crawler = false;
      cache.lru.maintainer = false;
      cache.lru.segmented = false;
      return;
  }
  if (name.startsWith('ssl_')) {
    pending.tls ??= `-o ${name}`;
    return;
  }
  throw new UsageError(`Illegal suboption "${part}"`, 1);
}

function checkProtocols(pending: Pending): void {
  const { settings } = pending;
  if (pending.tls !== undefined) {
    const text = `${pending.tls}: TLS is not supported yet, it comes with a later version. A TLS proxy in front can serve until then.`;
    throw new UsageError(text, EX_USAGE);
  }
  const prefixed = settings.listen.find((address) => /^(notls|mtls):/.test(address));
  if (prefixed !== undefined) {
    const prefix = prefixed.slice(0, prefixed.indexOf(':'));
    const text = `'${prefix}' option is valid only when SSL is enabled\nfailed to listen on one of interface(s) ${settings.listen.join(',')}`;
    throw new UsageError(text, EX_OSERR);
  }
  if (pending.sasl) {
    if (pending.protocolGiven && settings.protocol !== 'binary') {
      throw new UsageError('ERROR: You cannot allow the ASCII protocol while using SASL.', EX_USAGE);
    }
    if (settings.udpPort !== 0) {
      throw new UsageError('ERROR: Cannot enable UDP while using binary SASL authentication.', EX_USAGE);
    }
    settings.protocol = 'binary';
    settings.users = readUsers(process.env['MEMCACHED_SASL_PWDB']);
  }
  if (settings.authFile !== undefined) {
    if (pending.protocolGiven && settings.protocol !== 'ascii') {
      const text = 'ERROR: You cannot allow the BINARY protocol while using ascii authentication tokens.';
      throw new UsageError(text, EX_USAGE);
    }
    settings.protocol = 'ascii';
    if (settings.udpPort !== 0) {
      throw new UsageError('Cannot use UDP with ascii authentication enabled (-U 0 to disable)', EX_USAGE);
    }
  }
  // Who asks for UDP alone gets TCP on the same port.
  if (pending.udpGiven && settings.udpPort !== 0 && !pending.tcpGiven) settings.port = settings.udpPort;
}

/** Above 0, up to 1; or no number, which memcached's comparisons let pass. */
function isShare(ratio: number): boolean {
  return !(ratio <= 0 || ratio > 1);
}

/** Header, key and suffix of any item stand in one chunk. */
const SLAB_CHUNK_MAX_MIN = 512;

function checkSizes(settings: Settings, slabChunkGiven: boolean): void {
  const { cache } = settings;
  if (!(cache.itemSizeMax >= 1024)) throw new UsageError('Item max size cannot be less than 1024 bytes.', EX_USAGE);
  if (!(cache.itemSizeMax <= cache.memoryBytes / 2)) {
    throw new UsageError('Cannot set item size limit higher than 1/2 of memory max.', EX_USAGE);
  }
  if (cache.itemSizeMax > 1024 * PAGE_BYTES) {
    throw new UsageError('Cannot set item size limit higher than a gigabyte.', EX_USAGE);
  }
  if (cache.memoryBytes > MEMORY_BYTES_MAX)
    throw new UsageError('Cannot use more than 15 GB of item memory.', EX_USAGE);
  // Items of more than a page are chained from chunks that two fit in, unless the user chose.
  if (cache.itemSizeMax > PAGE_BYTES && !slabChunkGiven) cache.slabChunkMax = PAGE_BYTES / 2;
  const { slabChunkMax: chunk, itemSizeMax } = cache;
  if (chunk > itemSizeMax) {
    const text = `slab_chunk_max (bytes: ${chunk}) cannot be larger than -I (item_size_max ${itemSizeMax})`;
    throw new UsageError(text, EX_USAGE);
  }
  if (chunk === 0 || itemSizeMax % chunk !== 0) {
    const text = `-I (item_size_max: ${itemSizeMax}) must be evenly divisible by slab_chunk_max (bytes: ${chunk})`;
    throw new UsageError(text, EX_USAGE);
  }
  if (PAGE_BYTES % chunk !== 0) {
    const text = `slab_chunk_max (bytes: ${chunk}) must divide evenly into ${PAGE_BYTES} (slab_page_size)`;
    throw new UsageError(text, EX_USAGE);
  }
  if (chunk < SLAB_CHUNK_MAX_MIN) {
    const text = `slab_chunk_max (bytes: ${chunk}) cannot be smaller than ${SLAB_CHUNK_MAX_MIN}, which the longest key needs`;
    throw new UsageError(text, EX_USAGE);
  }
}

/** slab_sizes=N-N-…: ascending chunk sizes, at least 8 bytes apart. */
function parseSlabSizes(settings: Settings, text: string): number[] {
  const { cache } = settings;
  const sizes: number[] = [];
  let last = 0;
  for (const part of text.split('-').filter((word) => word !== '')) {
    const size = atoi(part);
    const wrong = (what: string): UsageError => new UsageError(`slab size ${part} ${what}`, EX_USAGE);
    if (!/^\d+$/.test(part) || size < cache.chunkSizeMin || size > cache.slabChunkMax)
      throw wrong('is out of valid range');
    if (size <= last) throw wrong('cannot be lower than or equal to a previous class size');
    if (size <= last + CHUNK_ALIGN_BYTES)
      throw wrong(`must be at least ${CHUNK_ALIGN_BYTES} bytes larger than previous class`);
    sizes.push(Math.ceil(size / CHUNK_ALIGN_BYTES) * CHUNK_ALIGN_BYTES);
    last = size;
    if (sizes.length >= SLAB_CLASSES_MAX - 1) throw new UsageError('too many slab classes specified', EX_USAGE);
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
    throw new UsageError(`cannot read the passwords in MEMCACHED_SASL_PWDB: ${messageOf(error)}`, EX_USAGE);
  }
  const users: Record<string, string> = {};
  for (const line of text.split(/\r?\n/)) {
    const [name, password] = line.split(':', 2);
    if (name !== undefined && name !== '' && password !== undefined) users[name] = password;
  }
  return users;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function portNumber(text: string): number {
  const port = atoi(text);
  if (port < -1 || port > 65535) throw new UsageError(`ERROR: Invalid port number ${port}.`, EX_USAGE);
  return port;
}

function atLeastOne(text: string, message: string): number {
  const number = atoi(text);
  if (number <= 0) throw new UsageError(message, 1);
  return number;
}

/** -I: a number with k or m behind it. */
function toSize(text: string): number {
  const unit = text.at(-1)?.toLowerCase();
  return atoi(text) * (unit === 'k' ? 1024 : unit === 'm' ? PAGE_BYTES : 1);
}
