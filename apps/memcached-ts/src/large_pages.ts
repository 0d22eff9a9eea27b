/**
 * -L: transparent huge pages under the cache's memory. Items and buckets of the hash table are looked up at random: with large pages
 * the processor finds most of their addresses translated.
 */
import { readFileSync } from 'node:fs';
import { adviseHugePages } from '@megapipe/core';
import { complain } from './fail.ts';
import { reason } from './strerror.ts';

const FOLDER = '/sys/kernel/mm/transparent_hugepage';

/** Why this system has none, in memcached's words. */
export function whyNoLargePages(): string | undefined {
  let enabled: string;
  try {
    enabled = readFileSync(`${FOLDER}/enabled`, 'latin1');
  } catch {
    return 'Transparent huge pages support not detected.';
  }
  return enabled.includes('[never]') ? 'Transparent huge pages support disabled.' : undefined;
}

/** A system that refuses is served with its own pages. */
export function useLargePages(shared: SharedArrayBuffer, verbosity: number): void {
  try {
    if (verbosity > 1) complain(`huge page size: ${readFileSync(`${FOLDER}/hpage_pmd_size`, 'latin1').trim()}`);
    adviseHugePages(shared);
  } catch (error) {
    complain(`Failed to set transparent hugepage hint: ${reason(error)}\nWill use default page size`);
  }
}
