/**
 * errno values in the words of the C library, as nginx prints them: `13: Permission denied`.
 *
 * What it is for: Node has only libuv's wording. Invariant: numbers are Linux's.
 */

const WORDS: Record<number, string> = {
  1: 'Operation not permitted',
  2: 'No such file or directory',
  3: 'No such process',
  4: 'Interrupted system call',
  5: 'Input/output error',
  9: 'Bad file descriptor',
  11: 'Resource temporarily unavailable',
  12: 'Cannot allocate memory',
  13: 'Permission denied',
  16: 'Device or resource busy',
  17: 'File exists',
  20: 'Not a directory',
  21: 'Is a directory',
  22: 'Invalid argument',
  23: 'Too many open files in system',
  24: 'Too many open files',
  27: 'File too large',
  28: 'No space left on device',
  30: 'Read-only file system',
  32: 'Broken pipe',
  36: 'File name too long',
  38: 'Function not implemented',
  40: 'Too many levels of symbolic links',
  97: 'Address family not supported by protocol',
  98: 'Address already in use',
  99: 'Cannot assign requested address',
  103: 'Software caused connection abort',
  104: 'Connection reset by peer',
  105: 'No buffer space available',
  110: 'Connection timed out',
  111: 'Connection refused',
};

export const ENOENT = 2;
export const EACCES = 13;
export const ENOTDIR = 20;
export const EMFILE = 24;
export const ENFILE = 23;
export const ENAMETOOLONG = 36;
export const ELOOP = 40;
export const EADDRINUSE = 98;

/** `13: Permission denied`; takes Node's negative numbers too. */
export function strerror(errno: number): string {
  const number = Math.abs(errno);
  return `${number}: ${WORDS[number] ?? 'Unknown error'}`;
}

/** The number of a Node error, positive; 5 (EIO) where there is none. */
export function errnoOf(error: unknown): number {
  const number = (error as NodeJS.ErrnoException | null)?.errno;
  return typeof number === 'number' && number !== 0 ? Math.abs(number) : 5;
}
