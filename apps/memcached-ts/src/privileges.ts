/**
 * What the process asks of the system before it serves: descriptors, core files, locked memory, another user.
 * Invariant: memcached's order, words and exit codes. Not its job: sockets.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { ensureCoreFiles, ensureDescriptors, lockMemory } from '@megapipe/core';
import { complain, fail } from './fail.ts';
import { EX_NOUSER, EX_OSERR } from './options.ts';
import type { Settings } from './settings.ts';
import { reason } from './strerror.ts';

export function applyLimits(settings: Settings): void {
  if (settings.coreDumps && !ensureCoreFiles()) fail('failed to ensure corefile creation', EX_OSERR);
  try {
    ensureDescriptors(settings.maxConns);
  } catch {
    const advice = 'Try starting as root or requesting smaller maxconns value.';
    fail(`failed to set rlimit for open files. ${advice}`, EX_OSERR);
  }
}

/** uid and gid of a user: from /etc/passwd, or from wherever the system's name service knows it. */
function accountOf(user: string): { uid: number; gid: number } | undefined {
  const find = (text: string): string[] | undefined =>
    text
      .split('\n')
      .map((line) => line.split(':'))
      .find((fields) => fields[0] === user && fields.length >= 4);
  let entry = find(readFileSync('/etc/passwd', 'utf8'));
  if (entry === undefined && user !== '') {
    entry = find(spawnSync('getent', ['passwd', '--', user], { encoding: 'utf8' }).stdout ?? '');
  }
  return entry && { uid: Number(entry[2]), gid: Number(entry[3]) };
}

/** -u, for root. Without -u root stays root, with a warning where somebody reads it; memcached refuses to start then. */
export function dropPrivileges(settings: Settings): void {
  if (process.geteuid?.() !== 0) return;
  const { user } = settings;
  if (user === undefined) {
    if (settings.verbosity > 0) complain('running as root; -u names a user to run as');
    return;
  }
  const account = accountOf(user);
  if (account === undefined) fail(`can't find the user ${user} to switch to`, EX_NOUSER);
  try {
    process.setgroups?.([]);
  } catch (error) {
    fail(`failed to drop supplementary groups: ${reason(error)}`, EX_OSERR);
  }
  try {
    process.setgid?.(account.gid);
    process.setuid?.(account.uid);
  } catch {
    fail(`failed to assume identity of user ${user}`, EX_OSERR);
  }
}

/** -k: the cache's memory; V8 cannot live with more. A system that forbids it is served all the same. */
export function lockCacheMemory(settings: Settings, shared: SharedArrayBuffer): void {
  if (!settings.lockMemory) return;
  try {
    lockMemory(shared);
  } catch (error) {
    complain(`warning: -k invalid, mlock() failed: ${reason(error)}`);
  }
}
