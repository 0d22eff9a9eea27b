/**
 * Errors with stable codes. A message says what happened, where, and what was expected.
 *
 * Codes: ERR_MEGAPIPE_ARGUMENT (an option or argument is out of range), ERR_MEGAPIPE_STALE_HANDLE (the handle was
 * closed), ERR_MEGAPIPE_STATE (the call does not fit the handle's state), ERR_MEGAPIPE_CAPACITY (no handle, region or
 * address left), ERR_MEGAPIPE_URING_BLOCKED / _UNAVAILABLE (io_uring is forbidden / missing here), and for a refused
 * system call the errno's own name (EADDRINUSE, EACCES …) with `errno` and `syscall`.
 */
export class MegapipeError extends Error {
  readonly code: string;
  /** Positive errno of the system call that was refused, else 0. */
  readonly errno: number;
  readonly syscall: string;

  constructor(code: string, message: string, errno = 0, syscall = '') {
    super(`${code}: ${message}`);
    this.name = 'MegapipeError';
    this.code = code;
    this.errno = errno;
    this.syscall = syscall;
  }
}

/*
 * Not imported: a module that imports node:util has all its exports evaluated, one of which looks whether process.stderr has
 * colours, and so opens it, which makes the pipe or terminal behind it non-blocking for everybody who shares it.
 */
const names = process.getBuiltinModule('node:util').getSystemErrorMap();

/** Name of a positive errno: 98 → `EADDRINUSE`. */
export function errnoName(errno: number): string {
  return names.get(-errno)?.[0] ?? `E${errno}`;
}

/** The system's words for a positive errno: 98 → `address already in use`. */
export function errnoMessage(errno: number): string {
  return names.get(-errno)?.[1] ?? 'unknown error';
}

export function systemError(syscall: string, errno: number, about: string): MegapipeError {
  return new MegapipeError(
    errnoName(errno),
    `${syscall}${about ? ` ${about}` : ''}: ${errnoMessage(errno)}`,
    errno,
    syscall,
  );
}

/** An option that must be a whole number in a range. */
export function wholeNumber(name: string, value: number, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min || value > max)
    throw new MegapipeError(
      'ERR_MEGAPIPE_ARGUMENT',
      `${name} must be a whole number from ${min} to ${max}, got ${value}`,
    );
  return value;
}
