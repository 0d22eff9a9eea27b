/**
 * SASL PLAIN: what a client's attempts to prove who it is come to, with -S.
 *
 * What it is for: the dialogue as Cyrus SASL leads it, which stands behind Debian's memcached: a start without credentials is told to
 * go on, and a step brings them; a dialogue that has succeeded cannot be led again before a start has failed.
 * Not its job: packets (proto_bin.ts), who may come in (the server's `authenticate`).
 */

/** Where a connection's dialogue stands (Conn.sasl): a start was good so far, so a step may follow; it has succeeded. */
const UNDERWAY = 1;
const DONE = 2;

export type SaslResult = 'authenticated' | 'continue' | 'failed';

/** Longest name of a mechanism; a packet with a longer one is refused as it is. */
export const MECHANISM_BYTES_MAX = 32;
/** Longest credentials that are looked at. */
export const CREDENTIALS_BYTES_MAX = 1024;

export const MECHANISMS = Buffer.from('PLAIN');

/** What is kept of a dialogue: Conn has it. */
export interface SaslState {
  sasl: number;
  authenticated: boolean;
}

type Authenticate = (user: Buffer, password: Buffer) => boolean;

/** A start with a mechanism's name, or a step (null). `credentials`: null where they are too long. */
export function saslAttempt(
  state: SaslState,
  mechanism: string | null,
  credentials: Buffer | null,
  authenticate: Authenticate,
): SaslResult {
  state.authenticated = false;
  if (mechanism === null) {
    if ((state.sasl & UNDERWAY) === 0) return 'failed';
    return succeed(state, credentials, authenticate) ? 'authenticated' : 'failed';
  }
  // Its name is a C string, in whatever case.
  const isPlain = mechanism.split('\0', 1)[0]!.toUpperCase() === 'PLAIN';
  if (isPlain && credentials?.length === 0) {
    state.sasl |= UNDERWAY;
    return 'continue';
  }
  if (isPlain && succeed(state, credentials, authenticate)) return 'authenticated';
  state.sasl = 0;
  return 'failed';
}

/** Whether these credentials bring a dialogue to its end: an identity to act as, NUL, name, NUL, password. */
function succeed(state: SaslState, credentials: Buffer | null, authenticate: Authenticate): boolean {
  if (credentials === null || (state.sasl & DONE) !== 0) return false;
  const first = credentials.indexOf(0);
  const second = first < 0 ? -1 : credentials.indexOf(0, first + 1);
  if (second < 0) return false;
  const user = credentials.subarray(first + 1, second);
  // Nobody acts as another.
  if (first > 0 && !credentials.subarray(0, first).equals(user)) return false;
  if (!authenticate(user, credentials.subarray(second + 1))) return false;
  state.sasl |= DONE | UNDERWAY;
  state.authenticated = true;
  return true;
}
