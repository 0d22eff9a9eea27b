/** The C library's words for an errno, as memcached prints them: the runtime's own differ in case, and here and there in words. */
import { errnoMessage, errnoName, MegapipeError } from '@megapipe/core';

const WORDS: Record<string, string> = {
  EADDRINUSE: 'Address already in use',
  EADDRNOTAVAIL: 'Cannot assign requested address',
  EMFILE: 'Too many open files',
  ENFILE: 'Too many open files in system',
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
