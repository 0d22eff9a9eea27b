/**
 * limit_req and limit_conn: how many requests a second, and how many at a time.
 *
 * What it is for: nginx's leaky bucket and its counter of requests, per key of a zone. Invariants: a request is counted
 * once, however often it is redirected; one that was counted by limit_conn is taken off when it ends. The fast way:
 * never, each request counts.
 */

import type { Template, TemplatePart } from '../../conf/model.ts';
import { Code } from '../../http/codes.ts';
import { runPhases } from '../../http/phases.ts';
import type { Request } from '../../http/request.ts';
import { VALUE, type Zone, zoneKey } from '../../shared/zone.ts';

/** limit_req: requests above the rate, in thousandths. limit_conn: requests under way. */
const COUNT = VALUE;
const SCALE = 1000;
/** Longest keys, in bytes. */
const REQ_KEY_MAX = 65_535;
const CONN_KEY_MAX = 255;
/** A clock that was set back is taken as having stood still. */
const CLOCK_BACK_MS = -60_000;

export function limitReqHandler(r: Request): number {
  const { conf } = r.location;
  if (conf.limitReqs.length === 0) return Code.Declined;
  r.impure();
  if (r.limitReqStatus !== '') return Code.Declined;
  const engine = r.connection.engine;
  const now = Date.now();
  let delayMs = 0;
  let excessMax = 0;
  let zoneMax = '';
  let limited = false;
  let counted = false;
  const passed: { zone: Zone; key: Uint8Array; rate: number }[] = [];
  for (const [i, limit] of conf.limitReqs.entries()) {
    const { zone, decl, key: evaluate } = engine.zone(limit.zone);
    const text = evaluate(r);
    if (text === '' || tooLong(r, decl.key, text, REQ_KEY_MAX)) continue;
    const key = zoneKey(text);
    zone.lock();
    const excess = excessOf(zone, key, decl.rate, now);
    // The last one decides, and counts before another worker can look at the same number.
    const decides = i === conf.limitReqs.length - 1;
    if (decides && excess <= limit.burst) {
      count(zone, key, excess, now);
      counted = true;
    }
    zone.unlock();
    if (excess > limit.burst) {
      limited = true;
      excessMax = excess;
      zoneMax = limit.zone;
      break;
    }
    if (!decides) passed.push({ zone, key, rate: decl.rate });
    const wait = excess <= limit.delay ? 0 : ((excess - limit.delay) * SCALE) / decl.rate;
    if (wait > delayMs) {
      delayMs = wait;
      excessMax = excess;
      zoneMax = limit.zone;
    }
  }
  const dry = conf.limitReqDryRun ? ', dry run' : '';
  const what = `excess: ${Math.floor(excessMax / SCALE)}.${String(Math.floor(excessMax % SCALE)).padStart(3, '0')}`;
  if (limited) {
    engine.logError(r, conf.limitReqLogLevel, `limiting requests${dry}, ${what} by zone "${zoneMax}"`);
    r.limitReqStatus = dry === '' ? 'REJECTED' : 'REJECTED_DRY_RUN';
    return dry === '' ? conf.limitReqStatus : Code.Declined;
  }
  if (passed.length === 0 && !counted) return Code.Declined;
  // Only a request that passes all limits counts in any.
  for (const { zone, key, rate } of passed) {
    zone.lock();
    count(zone, key, excessOf(zone, key, rate, now), now);
    zone.unlock();
  }
  delayMs = Math.floor(delayMs);
  if (delayMs === 0) {
    r.limitReqStatus = 'PASSED';
    return Code.Declined;
  }
  engine.logError(r, quieter(conf.limitReqLogLevel), `delaying request${dry}, ${what}, by zone "${zoneMax}"`);
  r.limitReqStatus = dry === '' ? 'DELAYED' : 'DELAYED_DRY_RUN';
  if (dry !== '') return Code.Declined;
  const { serial } = r.connection;
  setTimeout(() => engine.resumeRequest(r, serial, runPhases), delayMs);
  return Code.Again;
}

/** A key that is longer than a zone takes is not counted. */
function tooLong(r: Request, template: Template, text: string, most: number): boolean {
  if (text.length <= most) return false;
  const name = typeof template === 'string' ? template : template.map(partText).join('');
  r.connection.engine.logError(r, 'error', `the value of the "${name}" key is more than ${most} bytes: "${text}"`);
  return true;
}

function partText(part: TemplatePart): string {
  return typeof part === 'string' ? part : `$${part.name}`;
}

/** Requests above the rate, were this one let in. */
function excessOf(zone: Zone, key: Uint8Array, rate: number, now: number): number {
  const entry = zone.find(key);
  if (entry < 0) return 0;
  let ms = now - zone.time(entry);
  if (ms < 0) ms = ms < CLOCK_BACK_MS ? 1 : 0;
  return Math.max(0, zone.get(entry, COUNT) - Math.floor((rate * ms) / 1000) + SCALE);
}

/** Lets a request in, in a zone whose lock is held. */
function count(zone: Zone, key: Uint8Array, excess: number, now: number): void {
  let entry = zone.find(key);
  if (entry < 0) {
    entry = zone.add(key);
    if (entry < 0) {
      // The one that was not seen for longest has had the most time to be forgiven.
      const oldest = zone.oldest();
      if (oldest >= 0) zone.remove(oldest);
      entry = zone.add(key);
    }
  }
  if (entry < 0) return;
  zone.set(entry, COUNT, excess);
  if (now > zone.time(entry)) zone.setTime(entry, now);
}

/** What is only delayed is logged one level below what is refused. */
function quieter(level: 'info' | 'notice' | 'warn' | 'error'): 'info' | 'notice' | 'warn' {
  if (level === 'error') return 'warn';
  return level === 'warn' ? 'notice' : 'info';
}

export function limitConnHandler(r: Request): number {
  const { conf } = r.location;
  if (conf.limitConns.length === 0) return Code.Declined;
  r.impure();
  if (r.limitConnStatus !== '') return Code.Declined;
  const engine = r.connection.engine;
  for (const limit of conf.limitConns) {
    const { zone, decl, key: evaluate } = engine.zone(limit.zone);
    const text = evaluate(r);
    if (text === '' || tooLong(r, decl.key, text, CONN_KEY_MAX)) continue;
    const key = zoneKey(text);
    r.limitConnStatus = 'PASSED';
    zone.lock();
    let entry = zone.find(key);
    if (entry < 0) entry = zone.add(key);
    const count = entry < 0 ? -1 : zone.get(entry, COUNT);
    const full = count < 0 || count >= limit.max;
    if (!full) zone.set(entry, COUNT, count + 1);
    zone.unlock();
    if (!full) {
      r.cleanups.push(() => leave(zone, key));
      continue;
    }
    const dry = conf.limitConnDryRun;
    engine.logError(
      r,
      conf.limitConnLogLevel,
      `limiting connections${dry ? ', dry run,' : ''} by zone "${limit.zone}"`,
    );
    r.limitConnStatus = dry ? 'REJECTED_DRY_RUN' : 'REJECTED';
    if (dry) return Code.Declined;
    r.runCleanups();
    return conf.limitConnStatus;
  }
  return Code.Declined;
}

function leave(zone: Zone, key: Uint8Array): void {
  zone.lock();
  const entry = zone.find(key);
  if (entry >= 0) {
    const count = zone.get(entry, COUNT) - 1;
    if (count <= 0) zone.remove(entry);
    else zone.set(entry, COUNT, count);
  }
  zone.unlock();
}
