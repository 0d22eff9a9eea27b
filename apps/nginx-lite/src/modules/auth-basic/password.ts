/**
 * Passwords against what a user file holds.
 *
 * What it is for: `{PLAIN}`, `{SHA}`, `{SSHA}`, and crypt(3)'s `$apr1$`, `$1$`, `$2a$`, `$2b$`, `$2y$`, `$5$`, `$6$` and DES. Invariant: a scheme that
 * is not known never matches, and neither does an empty entry. Not its job: reading files (handler.ts).
 */

import { createHash, timingSafeEqual } from 'node:crypto';
import apacheMd5Module from 'apache-md5';
import { compare } from 'bcryptjs';
import desCrypt from 'unix-crypt-td-js';
import { verify as verifySha } from 'unixcrypt';
import { decodeBase64 } from '../../http/bytes.ts';

/** Its types declare a namespace; what it exports is the function. */
const apacheMd5 = apacheMd5Module as unknown as (password: string, salt: string) => string;

/** What is compared must not tell by its time how far it was right. */
function same(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a, 'latin1'), Buffer.from(b, 'latin1')];
  return left.length === right.length && timingSafeEqual(left, right);
}

/** Whether `password` (bytes as latin1) is the one that `entry` was made from. */
export async function passwordMatches(password: string, entry: string): Promise<boolean> {
  if (entry === '') return false;
  if (entry.startsWith('{PLAIN}')) return same(password, entry.slice(7));
  if (entry.startsWith('{SHA}')) {
    return same(createHash('sha1').update(password, 'latin1').digest('base64'), entry.slice(5));
  }
  if (entry.startsWith('{SSHA}')) {
    const bytes = decodeBase64(entry.slice(6));
    if (bytes === null || bytes.length < 20) return false;
    const digest = createHash('sha1').update(password, 'latin1').update(bytes.subarray(20)).digest();
    return timingSafeEqual(digest, bytes.subarray(0, 20));
  }
  // These take text; bytes of a password that are UTF-8 are read as such, which is what they were hashed from.
  const text = Buffer.from(password, 'latin1').toString('utf8');
  if (/^\$(?:apr1|1)\$/.test(entry)) return same(apacheMd5(text, entry), entry);
  if (/^\$2[aby]\$/.test(entry)) return await compare(text, entry);
  if (/^\$[56]\$/.test(entry)) return verifySha(text, entry);
  if (/^[./0-9A-Za-z]{13}$/.test(entry)) return same(desCrypt(text, entry.slice(0, 2)), entry);
  return false;
}
