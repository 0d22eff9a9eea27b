/** What phase handlers and filters answer; values from 100 on are HTTP statuses. */
export const Code = {
  Ok: 0,
  Error: -1,
  /** Not yet: whoever said so goes on with runPhases, and the same handler is asked again. */
  Again: -2,
  /** The answer is under way or another handler took over. */
  Done: -4,
  /** Not mine: the next handler. */
  Declined: -5,
} as const;

/** Close the connection without an answer (`return 444`). */
export const CLOSE_STATUS = 444;
