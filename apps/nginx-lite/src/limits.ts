/**
 * What a process may use: descriptors, core files, a place in the scheduler's order.
 *
 * What it is for: worker_rlimit_nofile, worker_rlimit_core, worker_priority, applied to a generation before it gives up privileges.
 * Invariant: a limit that is refused is told in the log, and the process serves with what it has, as nginx's workers do.
 */

import { readFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { descriptorLimit, limitCoreFiles, limitDescriptors } from '@megapipe/core';
import { errnoOf, strerror } from './log/errno.ts';

export interface Limits {
  /** null: as the server was started. Descriptors are those of one worker. */
  descriptors: number | null;
  /** Bytes. */
  coreBytes: number | null;
  priority: number;
}

/** The most that the kernel lets any process have. */
function descriptorsMax(): number {
  return Number(readFileSync('/proc/sys/fs/nr_open', 'latin1'));
}

/** Applies them to this process, in which `workers` serve. */
export function applyLimits(limits: Limits, workers: number, alert: (message: string) => void): void {
  const { descriptors, coreBytes, priority } = limits;
  if (priority !== 0) {
    try {
      setPriority(priority);
    } catch (error) {
      alert(`setpriority(${priority}) failed (${strerror(errnoOf(error))})`);
    }
  }
  if (descriptors !== null) {
    // Workers are threads here, and share what each nginx worker has for itself.
    const errno = limitDescriptors(Math.max(descriptors, Math.min(descriptors * workers, descriptorsMax())));
    if (errno !== 0) alert(`setrlimit(RLIMIT_NOFILE, ${descriptors}) failed (${strerror(errno)})`);
  }
  if (coreBytes === null) return;
  const errno = limitCoreFiles(coreBytes);
  if (errno !== 0) alert(`setrlimit(RLIMIT_CORE, ${coreBytes}) failed (${strerror(errno)})`);
}

/** nginx's warning where connections are more than descriptors; null: there is enough. */
export function tooFewDescriptors(connections: number, limit: number | null): string | null {
  const given = descriptorLimit();
  if (connections <= given || (limit !== null && connections <= limit)) return null;
  return `${connections} worker_connections exceed open file resource limit: ${limit ?? given}`;
}
