/** The C library's words for an errno, as memcached prints them: the runtime's own differ in case, and here and there in words. */
import { errnoMessage, errnoName, MegapipeError } from '@megapipe/core';

const WORDS: Record<string, string> = {
  EADDRINUSE: 'Address already in use',
  EADDRNOTAVAIL: 'Cannot assign requested address',
  EAFNOSUPPORT: 'Address family not supported by protocol',
  EINTR: 'Interrupted system call',
  EIO: 'Input/output error',
  EISDIR: 'Is a directory',
  ELOOP: 'Too many levels of symbolic links',
  EMFILE: 'Too many open files',
  ENAMETOOLONG: 'File name too long',
  ENFILE: 'Too many open files in system',
  ENOMEM: 'Cannot allocate memory',
  ENXIO: 'No such device or address',
  ETXTBSY: 'Text file busy',
};

export function strerror(errno: number): string {
  const text = WORDS[errnoName(errno)] ?? errnoMessage(errno);
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** The system's words for a failed call, of this library's errors and of Node's. */
export function reason(error: unknown): string {
  if (error instanceof MegapipeError && error.errno > 0) return strerror(error.errno);
  if (error instanceof Error && 'errno' in error && typeof error.errno === 'number') return strerror(-error.errno);
  return error instanceof Error ? error.message : String(error);
}
