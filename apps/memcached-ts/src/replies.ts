/**
 * The fixed replies of the text and meta protocols, and the version that clients are told.
 *
 * Invariant: none is longer than REPLY_BYTES_MAX, so room for that is room for each. Not its job: when which is sent.
 */
const line = (text: string): Buffer => Buffer.from(`${text}\r\n`, 'latin1');

/** Replies that need no further detail, by index. */
export const R_STORED = 0;
export const R_NOT_STORED = 1;
export const R_EXISTS = 2;
export const R_NOT_FOUND = 3;
export const R_END = 4;
export const R_ERROR = 5;
export const R_OK = 6;
export const R_DELETED = 7;
export const R_TOUCHED = 8;
export const R_VERSION = 9;
export const R_MN = 10;
export const R_BAD_FORMAT = 11;
export const R_BAD_CHUNK = 12;
export const R_BAD_EXPTIME = 13;
export const R_BAD_DELTA = 14;
export const R_NON_NUMERIC = 15;
export const R_TOO_LARGE = 16;
export const R_NO_MEMORY_STORING = 17;
export const R_NO_MEMORY = 18;
export const R_FLUSH_FORBIDDEN = 19;
export const R_DELETE_USAGE = 20;
export const R_RESET = 21;
export const R_NO_SHUTDOWN = 22;
export const R_DUPLICATE_FLAG = 23;
export const R_INVALID_FLAG = 24;
export const R_BAD_KEY_ENCODING = 25;
export const R_BAD_TOKEN = 26;
export const R_BAD_MODE_LENGTH = 27;
export const R_BAD_INITIAL = 28;
export const R_BAD_DELTA_VALUE = 29;
export const R_INVALID_OR_DUPLICATE = 30;
export const R_TOO_MANY_FLAGS = 31;
export const R_OPAQUE_TOO_LONG = 32;
export const R_BAD_MS_MODE = 33;
export const R_BAD_MA_MODE = 34;
export const R_NO_MEMORY_NEW = 35;
export const R_EN = 36;
export const R_BAD_SHUTDOWN = 37;
export const R_DETAIL_USAGE = 38;
export const R_NO_WATCH = 39;
export const R_PIPELINED_WATCH = 40;
export const R_TOO_MANY_WATCHERS = 41;
export const R_NO_DETAIL = 42;
export const R_WATCHER_FAILED = 43;

/** Host.stats: an answer that comes later through `writeStats`; until then the connection is in CONN_WAIT. */
export const DEFERRED = 'DEFERRED';

/** The version that clients are told: the release whose behaviour this follows. */
export const VERSION = '1.6.45';

export const REPLIES: readonly Buffer[] = [
  line('STORED'),
  line('NOT_STORED'),
  line('EXISTS'),
  line('NOT_FOUND'),
  line('END'),
  line('ERROR'),
  line('OK'),
  line('DELETED'),
  line('TOUCHED'),
  line(`VERSION ${VERSION}`),
  line('MN'),
  line('CLIENT_ERROR bad command line format'),
  line('CLIENT_ERROR bad data chunk'),
  line('CLIENT_ERROR invalid exptime argument'),
  line('CLIENT_ERROR invalid numeric delta argument'),
  line('CLIENT_ERROR cannot increment or decrement non-numeric value'),
  line('SERVER_ERROR object too large for cache'),
  line('SERVER_ERROR out of memory storing object'),
  line('SERVER_ERROR out of memory'),
  line('CLIENT_ERROR flush_all not allowed'),
  line('CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]'),
  line('RESET'),
  line('SERVER_ERROR: shutdown not enabled'),
  line('CLIENT_ERROR duplicate flag'),
  line('CLIENT_ERROR invalid flag'),
  line('CLIENT_ERROR error decoding key'),
  line('CLIENT_ERROR bad token in command line format'),
  line('CLIENT_ERROR incorrect length for M token'),
  line('CLIENT_ERROR invalid numeric initial value'),
  line('CLIENT_ERROR invalid numeric delta value'),
  line('CLIENT_ERROR invalid or duplicate flag'),
  line('CLIENT_ERROR options flags are too long'),
  line('CLIENT_ERROR opaque token too long'),
  line('CLIENT_ERROR invalid mode for ms M token'),
  line('CLIENT_ERROR invalid mode for ma M token'),
  line('SERVER_ERROR Out of memory allocating new item'),
  line('EN'),
  line('CLIENT_ERROR invalid shutdown mode'),
  line('CLIENT_ERROR usage: stats detail on|off|dump'),
  line('CLIENT_ERROR watch commands not allowed'),
  line('ERROR cannot pipeline other commands before watch'),
  line('WATCHER_TOO_MANY log watcher limit reached'),
  line('CLIENT_ERROR stats detail not allowed'),
  line('WATCHER_FAILED failed to add log watcher'),
];
/** The longest of them; room for it is room for every reply but values and statistics. */
export const REPLY_BYTES_MAX = 80;
