/** Directives of the log module: `log_format`, `access_log`, `open_log_file_cache`. */

import { Args, Context, type Directive, HTTP_ALL, HTTP_ALL_IF } from '../../conf/directives.ts';
import type { LocConf, LogFormat, TemplatePart } from '../../conf/model.ts';
import type { ConfContext } from '../../conf/parser.ts';
import { isSyslog, parseSyslog } from '../../conf/syslog.ts';
import { parseNumber, parseSize, parseTimeMs, parseTimeSec } from '../../conf/units.ts';

/** The format that needs no log_format. */
export const COMBINED_TEXT =
  '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"';
export const COMBINED = 'combined';

const BUFFER_DEFAULT = 64 * 1024;
/** The fastest. */
const GZIP_DEFAULT = 1;

export const LOG_DEFAULTS: Pick<LocConf, 'accessLogs' | 'openLogFileCache'> = {
  accessLogs: [],
  openLogFileCache: 'off',
};

function setLogFormat(cf: ConfContext, args: string[]): undefined {
  const name = args[1] as string;
  if (name === COMBINED || cf.builder.logFormats.some((format) => format.name === name)) {
    cf.fail(`duplicate "log_format" name "${name}"`);
  }
  let escaping: LogFormat['escape'] = 'default';
  let words = args.slice(2);
  if (words[0]?.startsWith('escape=')) {
    const value = words[0].slice(7);
    if (value !== 'default' && value !== 'json' && value !== 'none') cf.fail(`unknown log format escaping "${value}"`);
    escaping = value;
    words = words.slice(1);
  }
  const template = words.flatMap((word) => formatParts(cf, word));
  cf.builder.logFormats.push({ name, escape: escaping, template });
}

/** Text of a format: here `$1` is no variable. */
function formatParts(cf: ConfContext, text: string): TemplatePart[] {
  const parts: TemplatePart[] = [];
  for (let at = 0; at < text.length; ) {
    const found = /^(?:[^$]+|\$(?:\{([A-Za-z0-9_]*)(\}?)|([A-Za-z0-9_]+)))/.exec(text.slice(at));
    const name = found === null ? '' : (found[1] ?? found[3]);
    if (found?.[2] === '') cf.fail(`the closing bracket in "${name}" variable is missing`);
    if (found === null || name === '') cf.fail(`invalid parameter "${text.slice(at)}"`);
    if (name === undefined) parts.push(found[0]);
    else {
      cf.builder.namedVariables.add(name.toLowerCase());
      parts.push({ name: name.toLowerCase() });
    }
    at += found[0].length;
  }
  return parts;
}

/** What a log without a name is. */
const STDERR = '/dev/stderr';

function setAccessLog(cf: ConfContext, args: string[]): string | undefined {
  // `off` holds for the whole level, wherever it stands.
  const logs = cf.builder.unlogged.has(cf.level) ? [] : (cf.level.loc.accessLogs ??= []);
  const target = args[1] as string;
  if (target === 'off') {
    if (args.length === 2) {
      cf.level.loc.accessLogs = [];
      cf.builder.unlogged.add(cf.level);
      return undefined;
    }
    return cf.fail(`invalid parameter "${args[2]}"`);
  }
  const syslog = isSyslog(target) ? parseSyslog(cf, target) : null;
  const path = syslog === null && target.includes('$') ? cf.builder.template(cf, cf.fullName(target)) : null;
  let words = args.slice(2);
  let formatName = COMBINED;
  if (words[0] !== undefined) {
    formatName = words[0];
    words = words.slice(1);
  }
  const format = formatIndex(cf, formatName);
  if (format < 0) cf.fail(`unknown log format "${formatName}"`);
  let bufferBytes = 0;
  let flushMs = 0;
  let gzip = 0;
  let condition: LocConf['accessLogs'][number]['condition'] = null;
  for (const word of words) {
    if (word.startsWith('buffer=')) {
      const bytes = parseSize(word.slice(7));
      if (bytes === null || bytes === 0) cf.fail(`invalid buffer size "${word.slice(7)}"`);
      bufferBytes = bytes;
    } else if (word.startsWith('flush=')) {
      const ms = parseTimeMs(word.slice(6));
      if (ms === null || ms === 0) cf.fail(`invalid flush time "${word.slice(6)}"`);
      flushMs = ms;
    } else if (word.startsWith('if=')) condition = cf.builder.template(cf, word.slice(3));
    else if (word === 'gzip' || word.startsWith('gzip=')) {
      if (bufferBytes === 0) bufferBytes = BUFFER_DEFAULT;
      const level = word === 'gzip' ? GZIP_DEFAULT : parseNumber(word.slice(5));
      if (level === null || level < 1 || level > 9) cf.fail(`invalid compression level "${word.slice(5)}"`);
      gzip = level;
    } else cf.fail(`invalid parameter "${word}"`);
  }
  if (flushMs > 0 && bufferBytes === 0) cf.fail(`no buffer is defined for access_log "${target}"`);
  if (bufferBytes > 0 && path !== null) cf.fail('buffered logs cannot have variables in name');
  if (bufferBytes > 0 && syslog !== null) cf.fail('logs to syslog cannot be buffered');
  const file = path === null && syslog === null ? cf.builder.file(target === '' ? STDERR : cf.fullName(target)) : -1;
  if (bufferBytes > 0) {
    const buffer = `${bufferBytes} ${flushMs} ${gzip}`;
    const known = cf.builder.logBuffers.get(file);
    if (known !== undefined && known !== buffer)
      cf.fail(`access_log "${target}" already defined with conflicting parameters`);
    cf.builder.logBuffers.set(file, buffer);
  }
  logs.push({
    file,
    path,
    syslog,
    gzip,
    format,
    bufferBytes: Math.min(bufferBytes, 16 * BUFFER_DEFAULT),
    flushMs,
    condition,
  });
  return undefined;
}

function setOpenLogFileCache(cf: ConfContext, args: string[]): string | undefined {
  const conf = cf.level.loc;
  if (conf.openLogFileCache !== undefined) return 'is duplicate';
  const cache = { max: 0, inactiveSec: 10, validSec: 60, minUses: 1 };
  for (const word of args.slice(1)) {
    const bad = (): never => cf.fail(`invalid "open_log_file_cache" parameter "${word}"`);
    const value = word.slice(word.indexOf('=') + 1);
    if (word === 'off') {
      conf.openLogFileCache = 'off';
    } else if (word.startsWith('max=')) cache.max = parseNumber(value) ?? bad();
    else if (word.startsWith('inactive=')) cache.inactiveSec = parseTimeSec(value) ?? bad();
    else if (word.startsWith('min_uses=')) cache.minUses = parseNumber(value) ?? bad();
    else if (word.startsWith('valid=')) cache.validSec = parseTimeSec(value) ?? bad();
    else bad();
  }
  if (conf.openLogFileCache === 'off') return undefined;
  if (cache.max === 0) cf.fail('"open_log_file_cache" must have "max" parameter');
  conf.openLogFileCache = cache;
  return undefined;
}

/** Index of a format; `combined` comes into being when it is first named. */
export function formatIndex(cf: ConfContext, name: string): number {
  const formats = cf.builder.logFormats;
  const index = formats.findIndex((format) => format.name === name);
  if (index >= 0 || name !== COMBINED) return index;
  return formats.push({ name, escape: 'default', template: formatParts(cf, COMBINED_TEXT) }) - 1;
}

export const LOG_DIRECTIVES: Directive[] = [
  { name: 'log_format', contexts: Context.Http, args: Args.TwoOrMore, set: setLogFormat },
  { name: 'open_log_file_cache', contexts: HTTP_ALL, args: Args.Take1234, set: setOpenLogFileCache },
  { name: 'access_log', contexts: HTTP_ALL_IF | Context.LimitExcept, args: Args.OneOrMore, set: setAccessLog },
];
