/** Directives of the log module: `log_format`, `access_log`. */

import { Args, Context, type Directive, HTTP_ALL, HTTP_ALL_IF } from '../../conf/directives.ts';
import type { LocConf, LogFormat, TemplatePart } from '../../conf/model.ts';
import type { ConfContext } from '../../conf/parser.ts';
import { accept, word } from '../../conf/setters.ts';
import { parseSize, parseTimeMs } from '../../conf/units.ts';

/** The format that needs no log_format. */
export const COMBINED_TEXT =
  '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"';
export const COMBINED = 'combined';

const BUFFER_DEFAULT = 64 * 1024;

export const LOG_DEFAULTS: Pick<LocConf, 'accessLogs'> = { accessLogs: [] };

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
  const template: TemplatePart[] = words.flatMap((word) => cf.builder.templateParts(cf, word));
  cf.builder.logFormats.push({ name, escape: escaping, template });
}

function setAccessLog(cf: ConfContext, args: string[]): string | undefined {
  const logs = (cf.level.loc.accessLogs ??= []);
  const target = args[1] as string;
  if (target === 'off') {
    if (args.length === 2) {
      logs.length = 0;
      return undefined;
    }
    return cf.fail(`invalid parameter "${args[2]}"`);
  }
  if (target.startsWith('syslog:')) cf.fail('"access_log syslog:" is not supported by this server');
  if (target.includes('$')) cf.fail(`variables in the path of "access_log" are not supported by this server`);
  let words = args.slice(2);
  let formatName = COMBINED;
  if (words[0] !== undefined && !words[0].includes('=') && words[0] !== 'gzip') {
    formatName = words[0];
    words = words.slice(1);
  }
  let bufferBytes = 0;
  let flushMs = 0;
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
      cf.fail('the "gzip" parameter of "access_log" is not supported by this server');
    } else cf.fail(`invalid parameter "${word}"`);
  }
  if (flushMs > 0 && bufferBytes === 0) cf.fail(`no buffer is defined for access_log "${target}"`);
  const format = formatIndex(cf, formatName);
  if (format < 0) cf.fail(`unknown log format "${formatName}"`);
  logs.push({
    file: cf.builder.file(cf.fullName(target)),
    format,
    bufferBytes: Math.min(bufferBytes, 16 * BUFFER_DEFAULT),
    flushMs,
    condition,
  });
  return undefined;
}

/** Index of a format; `combined` comes into being when it is first named. */
export function formatIndex(cf: ConfContext, name: string): number {
  const formats = cf.builder.logFormats;
  const index = formats.findIndex((format) => format.name === name);
  if (index >= 0 || name !== COMBINED) return index;
  return formats.push({ name, escape: 'default', template: cf.builder.templateParts(cf, COMBINED_TEXT) }) - 1;
}

export const LOG_DIRECTIVES: Directive[] = [
  { name: 'log_format', contexts: Context.Http, args: Args.TwoOrMore, set: setLogFormat },
  // Log files whose names have no variables are opened once anyway.
  { name: 'open_log_file_cache', contexts: HTTP_ALL, args: Args.Any, set: accept(word) },
  { name: 'access_log', contexts: HTTP_ALL_IF | Context.LimitExcept, args: Args.OneOrMore, set: setAccessLog },
];
