/**
 * The rewrite phases: runs the program of the server, later of the location.
 *
 * What it is for: nginx's rewrite handler. Invariant: the server's program runs in the first of the two phases only.
 * The fast way: everything here follows from the head and from files that are looked at, but a line of rewrite_log or a
 * warning, which logError notes.
 */

import { parseSize } from '../../conf/units.ts';
import { discardBody } from '../../http/body-reader.ts';
import { latin1Bytes } from '../../http/bytes.ts';
import { Code } from '../../http/codes.ts';
import { FileKind } from '../../http/file-cache.ts';
import { finalize, isRedirect, sendText } from '../../http/output.ts';
import { Phase, takeCaptures, updateKeepalive } from '../../http/phases.ts';
import type { Request } from '../../http/request.ts';
import type { Evaluator } from '../../http/template.ts';
import { unescapeRedirect } from '../../http/uri.ts';
import { ENAMETOOLONG, ENOENT, ENOTDIR, strerror } from '../../log/errno.ts';
import type { RuntimeCondition, RuntimeOp } from './program.ts';

export function rewriteHandler(r: Request): number {
  const { location } = r;
  if (r.phase === Phase.Rewrite && location === r.server.location) return Code.Declined;
  if (location.program.length === 0) return Code.Declined;
  const code = run(r, location.program);
  return code === GO_ON ? Code.Declined : code;
}

/** What `run` answers when the program ended by itself. */
const GO_ON = -100;

/** Runs a program; GO_ON, Declined where it was left early, Done or a status. */
function run(r: Request, program: readonly RuntimeOp[]): number {
  for (const op of program) {
    switch (op.op) {
      case 'return':
        return giveAnswer(r, op.status, op.text);
      case 'set':
        assign(r, op.name, op.value(r));
        break;
      case 'break':
        if (r.uriChanged) r.locationHolds = false;
        r.uriChanged = false;
        return Code.Declined;
      case 'if':
        if (holds(r, op.condition)) {
          r.location = r.connection.engine.locationAt(op.location);
          updateKeepalive(r);
          const code = run(r, op.body);
          if (code !== GO_ON) return code;
        }
        break;
      default: {
        const code = rewrite(r, op);
        if (code !== GO_ON) return code;
      }
    }
  }
  return GO_ON;
}

/** Sets a variable. */
export function assign(r: Request, name: string, value: string): void {
  if (name === 'args') r.args = value;
  else if (name === 'limit_rate') setLimitRate(r, value);
  else (r.named ??= {})[name] = value;
}

function setLimitRate(r: Request, value: string): void {
  const rate = parseSize(value);
  if (rate === null) r.connection.engine.logError(r, 'error', `invalid $limit_rate "${value}"`);
  else r.limitRate = rate;
}

function holds(r: Request, condition: RuntimeCondition): boolean {
  switch (condition.test) {
    case 'true': {
      const value = condition.value(r);
      return value !== '' && value !== '0';
    }
    case 'equal':
      return (condition.value(r) === condition.other(r)) !== condition.negative;
    case 'match': {
      const value = condition.value(r);
      return matches(r, condition.regex, condition.pattern, value) !== condition.negative;
    }
    default:
      return fileTest(r, condition.kind, condition.path(r)) !== condition.negative;
  }
}

function matches(r: Request, regex: RegExp, pattern: string, text: string): boolean {
  const captures = regex.exec(text);
  if (r.location.conf.rewriteLog) {
    const how = captures === null ? 'does not match' : 'matches';
    r.connection.engine.logError(r, 'notice', `"${pattern}" ${how} "${text}"`);
  }
  if (captures === null) r.captures = null;
  else takeCaptures(r, captures);
  return captures !== null;
}

function fileTest(r: Request, kind: 'f' | 'd' | 'e' | 'x', path: string): boolean {
  const engine = r.connection.engine;
  const entry = engine.findFile(r, path, false);
  if (entry.errno !== 0) {
    if (entry.errno !== ENOENT && entry.errno !== ENOTDIR && entry.errno !== ENAMETOOLONG)
      engine.logError(r, 'crit', `${entry.failed}() "${path}" failed (${strerror(entry.errno)})`);
    return false;
  }
  switch (kind) {
    case 'f':
      return entry.kind === FileKind.File;
    case 'd':
      return entry.kind === FileKind.Directory;
    case 'x':
      return (entry.mode & 0o100) !== 0;
    default:
      return entry.kind === FileKind.File || entry.kind === FileKind.Directory;
  }
}

function giveAnswer(r: Request, status: number, text: Evaluator | null): number {
  if (status >= 400 && text === null) return status;
  if (!discardBody(r)) {
    finalize(r, 400);
    return Code.Done;
  }
  // Text may name the status, and what became of the body.
  r.status = status;
  const value = text === null ? '' : text(r);
  if (isRedirect(status)) {
    r.locationOut = value;
    return status;
  }
  sendText(r, status, latin1Bytes(value));
  return Code.Done;
}

function rewrite(r: Request, op: Extract<RuntimeOp, { op: 'rewrite' }>): number {
  if (!matches(r, op.regex, op.pattern, r.uri)) return GO_ON;
  const engine = r.connection.engine;
  const log = r.location.conf.rewriteLog;
  r.internal = true;
  r.uriChanged = !op.breaks;
  if (op.breaks) r.locationHolds = false;
  if (op.status !== 0) {
    let target = unescapeRedirect(op.path(r));
    if (op.addArgs && r.args !== '') target += `${op.hasQuery ? '&' : '?'}${r.args}`;
    if (log) engine.logError(r, 'notice', `rewritten redirect: "${target}"`);
    if (!discardBody(r)) {
      finalize(r, 400);
      return Code.Done;
    }
    r.locationOut = target;
    return op.status;
  }
  const uri = op.path(r);
  if (op.query !== null) {
    const query = op.query(r);
    r.args = op.addArgs && r.args !== '' ? `${query}&${r.args}` : query;
  } else if (!op.addArgs) r.args = '';
  if (log) engine.logError(r, 'notice', `rewritten data: "${uri}", args: "${r.args}"`);
  r.uri = uri;
  if (uri === '') {
    engine.logError(r, 'error', 'the rewritten URI has a zero length');
    return 500;
  }
  return op.last ? Code.Declined : GO_ON;
}
