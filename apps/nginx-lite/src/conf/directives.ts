/**
 * What a directive is: the row type of the one table that declares them all.
 *
 * What it is for: a module lists its directives as data (name, contexts, arguments, handler); the parser does every
 * check that nginx does before a handler runs. Invariant: a handler sees only a context and a count of arguments that
 * its row allows. Adding a directive is adding one row in one module.
 */

import type { ConfContext } from './parser.ts';

/** Where a directive may stand; bits. */
export const Context = {
  Main: 1,
  Events: 2,
  Http: 4,
  Server: 8,
  Location: 16,
  /** Inside an `if` of a server, of a location; inside `limit_except`. */
  ServerIf: 32,
  LocationIf: 64,
  LimitExcept: 128,
  Any: 255,
} as const;
export const HTTP_ALL = Context.Http | Context.Server | Context.Location;
export const HTTP_ALL_IF = HTTP_ALL | Context.LocationIf;

/** How many arguments it takes; bits, bit n = n arguments. */
export const Args = {
  None: 1,
  Take1: 2,
  Take2: 4,
  Take3: 8,
  Take4: 16,
  Take12: 6,
  Take13: 10,
  Take23: 12,
  Take123: 14,
  Take1234: 30,
  /** Exactly one, `on` or `off`. */
  Flag: 1 << 10,
  Any: 1 << 11,
  OneOrMore: 1 << 12,
  TwoOrMore: 1 << 13,
} as const;

/**
 * Handles one occurrence. `args[0]` is the directive's name. A returned string is the end of
 * `[emerg] "name" directive …`; anything else that is wrong goes through `cf.fail`.
 */
export type Handler = (cf: ConfContext, args: string[]) => string | undefined;

export interface Directive {
  name: string;
  contexts: number;
  args: number;
  /** Opens a block `{ … }`; the handler parses it with `cf.block`. */
  block?: boolean;
  set: Handler;
}

/** True when `count` arguments (without the name) satisfy the row. */
export function argumentsFit(bits: number, count: number): boolean {
  if (bits & Args.Any) return true;
  if (bits & Args.Flag) return count === 1;
  if (bits & Args.OneOrMore) return count >= 1;
  if (bits & Args.TwoOrMore) return count >= 2;
  return count < 8 && (bits & (1 << count)) !== 0;
}
