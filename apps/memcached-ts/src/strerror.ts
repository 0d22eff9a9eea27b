/** The C library's words for an errno, as memcached prints them: the runtime's own differ in case, and here and there in words. */
import { errnoMessage, errnoName } from '@megapipe/core';

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
