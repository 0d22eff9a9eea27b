/**
 * Users and groups by name.
 *
 * What it is for: the numbers behind `user NAME [GROUP]`. Invariant: nothing about this process changes. The files of
 * the system are read first; other sources (LDAP …) are asked through getent. Not its job: becoming the user.
 */

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

export interface User {
  name: string;
  uid: number;
  gid: number;
}

/** The fields of the line that begins with `name:`, or null. */
function entry(database: 'passwd' | 'group', name: string): string[] | null {
  const find = (text: string): string[] | null =>
    text
      .split('\n')
      .map((line) => line.split(':'))
      .find((fields) => fields[0] === name && fields.length > 2) ?? null;
  try {
    const found = find(readFileSync(`/etc/${database}`, 'latin1'));
    if (found !== null) return found;
  } catch {
    // getent knows where else to look.
  }
  const asked = spawnSync('getent', [database, name], { encoding: 'latin1' });
  return asked.status === 0 ? find(asked.stdout) : null;
}

/** A user with its own group; null when there is none of that name. */
export function findUser(name: string): User | null {
  const fields = entry('passwd', name);
  return fields === null ? null : { name, uid: Number(fields[2]), gid: Number(fields[3]) };
}

/** Number of a group; null when there is none of that name. */
export function findGroup(name: string): number | null {
  const fields = entry('group', name);
  return fields === null ? null : Number(fields[2]);
}
