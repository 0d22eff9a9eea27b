/**
 * autoindex: a listing of a folder, as HTML, JSON, JSONP or XML.
 *
 * What it is for: content of a URI that ends in a slash where no index file was found. Invariant: names are escaped for
 * where they stand; hidden files are left out. The fast way: never (a folder's contents are not watched).
 */

import { lstatSync, readdirSync, type Stats, statSync } from 'node:fs';
import { Args, type Directive, HTTP_ALL } from '../../conf/directives.ts';
import type { LocConf } from '../../conf/model.ts';
import { flag, loc, oneOf } from '../../conf/setters.ts';
import { discardBody } from '../../http/body-reader.ts';
import { latin1Bytes, pathOf } from '../../http/bytes.ts';
import { Code } from '../../http/codes.ts';
import { formatDate } from '../../http/date.ts';
import { finalize, sendUnmeasured } from '../../http/output.ts';
import { Method, type Request } from '../../http/request.ts';
import { escapeComponent } from '../../http/uri.ts';
import { EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, errnoOf, strerror } from '../../log/errno.ts';

export const AUTOINDEX_DEFAULTS: Pick<
  LocConf,
  'autoindex' | 'autoindexFormat' | 'autoindexLocaltime' | 'autoindexExactSize'
> = { autoindex: false, autoindexFormat: 'html', autoindexLocaltime: false, autoindexExactSize: true };

export const AUTOINDEX_DIRECTIVES: Directive[] = [
  { name: 'autoindex', contexts: HTTP_ALL, args: Args.Flag, set: loc('autoindex', flag) },
  {
    name: 'autoindex_format',
    contexts: HTTP_ALL,
    args: Args.Take1,
    set: loc('autoindexFormat', oneOf(['html', 'json', 'jsonp', 'xml'])),
  },
  { name: 'autoindex_localtime', contexts: HTTP_ALL, args: Args.Flag, set: loc('autoindexLocaltime', flag) },
  { name: 'autoindex_exact_size', contexts: HTTP_ALL, args: Args.Flag, set: loc('autoindexExactSize', flag) },
];

interface Entry {
  /** Bytes as latin1. */
  name: string;
  stat: Stats;
}

/** Letters, where the answer is in UTF-8; bytes otherwise. */
const NAME_SHOWN = 50;
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

export function autoindexHandler(r: Request): number {
  const { conf } = r.location;
  if (!conf.autoindex || !r.uri.endsWith('/') || !(r.method & (Method.Get | Method.Head))) return Code.Declined;
  const engine = r.connection.engine;
  r.impure();
  // As nginx does it: whatever its last byte is, that of an alias without a slash, too.
  const given = engine.pathOf(r);
  const path = given.length > 1 ? given.slice(0, -1) : given;
  let names: string[];
  try {
    names = readdirSync(pathOf(path), 'latin1');
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === ENOENT || errno === ENOTDIR || errno === ENAMETOOLONG) {
      engine.logError(r, 'error', `opendir() "${path}" failed (${strerror(errno)})`);
      return 404;
    }
    engine.logError(r, errno === EACCES ? 'error' : 'crit', `opendir() "${path}" failed (${strerror(errno)})`);
    return errno === EACCES ? 403 : 500;
  }
  const entries: Entry[] = [];
  for (const name of names) {
    if (name.startsWith('.')) continue;
    const file = `${path}/${name}`;
    let call = 'stat';
    try {
      const stat = targetOf(file);
      call = 'lstat';
      entries.push({ name, stat: stat ?? lstatSync(pathOf(file)) });
    } catch (error) {
      const errno = errnoOf(error);
      // It went while the folder was read.
      if (errno === ENOENT) continue;
      engine.logError(r, 'crit', `${call}() "${file}" failed (${strerror(errno)})`);
      if (errno !== EACCES) return 500;
    }
  }
  entries.sort((a, b) => {
    const [first, second] = [a.stat.isDirectory() ? 0 : 1, b.stat.isDirectory() ? 0 : 1];
    return first - second || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
  });
  if (!discardBody(r)) {
    finalize(r, 400);
    return Code.Done;
  }
  r.status = 200;
  const local = conf.autoindexLocaltime;
  const utf8 = r.location.charset(r).toLowerCase() === 'utf-8';
  switch (conf.autoindexFormat) {
    case 'json':
      r.contentType = 'application/json';
      sendUnmeasured(r, latin1Bytes(json(entries)));
      break;
    case 'jsonp': {
      const callback = /(?:^|&)callback=([^&]*)/.exec(r.args)?.[1] ?? '';
      if (!/^[0-9A-Za-z_.]*$/.test(callback)) return 400;
      r.contentType = callback === '' ? 'application/json' : 'application/javascript';
      sendUnmeasured(
        r,
        latin1Bytes(callback === '' ? json(entries) : `/* callback */\r\n${callback}(${json(entries)});`),
      );
      break;
    }
    case 'xml':
      r.contentType = 'text/xml';
      r.charset = '; charset=utf-8';
      sendUnmeasured(r, latin1Bytes(xml(entries)));
      break;
    default:
      r.contentType = 'text/html';
      sendUnmeasured(r, latin1Bytes(html(r.uri, entries, local, conf.autoindexExactSize, utf8)));
  }
  return Code.Done;
}

/** What a name stands for; null: a link that leads nowhere, which is listed as what it is. */
function targetOf(file: string): Stats | null {
  try {
    return statSync(pathOf(file));
  } catch (error) {
    if (errnoOf(error) === ENOENT || errnoOf(error) === ELOOP) return null;
    throw error;
  }
}

function escapeHtml(text: string): string {
  const words: Record<string, string> = { '<': '&lt;', '>': '&gt;', '&': '&amp;', '"': '&quot;' };
  return text.replace(/[<>&"]/g, (ch) => words[ch] as string);
}

function html(uri: string, entries: readonly Entry[], local: boolean, exact: boolean, utf8: boolean): string {
  const title = escapeHtml(uri);
  let text = `<html>\r\n<head><title>Index of ${title}</title></head>\r\n<body>\r\n<h1>Index of ${title}</h1><hr><pre><a href="../">../</a>\r\n`;
  for (const { name, stat } of entries) {
    const isDirectory = stat.isDirectory();
    const slash = isDirectory ? '/' : '';
    text += `<a href="${escapeComponent(name)}${slash}">`;
    const letters = utf8 ? lettersOf(name) : name;
    if (letters.length > NAME_SHOWN) {
      const short = letters.slice(0, NAME_SHOWN - 3);
      text += `${escapeHtml(typeof short === 'string' ? short : short.join(''))}..&gt;</a>`;
    } else {
      const mark = isDirectory && letters.length < NAME_SHOWN ? '/' : '';
      text += `${escapeHtml(name)}${mark}</a>${' '.repeat(NAME_SHOWN - letters.length - mark.length)}`;
    }
    text += ` ${shortDate(stat.mtimeMs, local)} `;
    text += exact ? (isDirectory ? '-'.padStart(19) : String(stat.size).padStart(19)) : roundSize(stat, isDirectory);
    text += '\r\n';
  }
  return `${text}</pre><hr></body>\r\n</html>\r\n`;
}

/** The letters of a name in UTF-8, each with its bytes; of any other name, its bytes. */
function lettersOf(name: string): string | string[] {
  if (!/[\x80-\xff]/.test(name)) return name;
  try {
    const text = UTF8.decode(Buffer.from(name, 'latin1'));
    return Array.from(text, (letter) => Buffer.from(letter, 'utf8').toString('latin1'));
  } catch {
    return name;
  }
}

/** `23-Nov-2026 10:20`. */
function shortDate(ms: number, local: boolean): string {
  const date = new Date(ms);
  const two = (value: number): string => String(value).padStart(2, '0');
  return local
    ? `${two(date.getDate())}-${MONTHS[date.getMonth()]}-${date.getFullYear()} ${two(date.getHours())}:${two(date.getMinutes())}`
    : `${two(date.getUTCDate())}-${MONTHS[date.getUTCMonth()]}-${date.getUTCFullYear()} ${two(date.getUTCHours())}:${two(date.getUTCMinutes())}`;
}

function roundSize(stat: Stats, isDirectory: boolean): string {
  if (isDirectory) return '      -';
  const length = stat.size;
  let size: number;
  let scale = '';
  if (length > 1024 * 1024 * 1024 - 1) {
    size = Math.floor(length / 1024 ** 3);
    if (length % 1024 ** 3 > 1024 ** 3 / 2 - 1) size++;
    scale = 'G';
  } else if (length > 1024 * 1024 - 1) {
    size = Math.floor(length / 1024 ** 2);
    if (length % 1024 ** 2 > 1024 ** 2 / 2 - 1) size++;
    scale = 'M';
  } else if (length > 9999) {
    size = Math.floor(length / 1024);
    if (length % 1024 > 511) size++;
    scale = 'K';
  } else size = length;
  return scale === '' ? ` ${String(size).padStart(6)}` : `${String(size).padStart(6)}${scale}`;
}

function kindOf(stat: Stats): string {
  return stat.isDirectory() ? 'directory' : stat.isFile() ? 'file' : 'other';
}

function json(entries: readonly Entry[]): string {
  const lines = entries.map(({ name, stat }) => {
    const escaped = name.replace(/[\x00-\x1f"\\]/g, (ch) => {
      if (ch === '"' || ch === '\\') return `\\${ch}`;
      const short = { '\n': '\\n', '\r': '\\r', '\t': '\\t', '\b': '\\b', '\f': '\\f' }[ch];
      return short ?? `\\u00${ch.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`;
    });
    const size = stat.isFile() ? `, "size":${stat.size}` : '';
    return `{ "name":"${escaped}", "type":"${kindOf(stat)}", "mtime":"${formatDate(Math.floor(stat.mtimeMs / 1000))}"${size} }`;
  });
  return `[${lines.length === 0 ? '' : '\r\n'}${lines.join(',\r\n')}\r\n]`;
}

function xml(entries: readonly Entry[]): string {
  const lines = entries.map(({ name, stat }) => {
    const kind = kindOf(stat);
    const mtime = new Date(Math.floor(stat.mtimeMs / 1000) * 1000).toISOString().replace('.000', '');
    const size = stat.isFile() ? ` size="${stat.size}"` : '';
    return `<${kind} mtime="${mtime}"${size}>${escapeHtml(name)}</${kind}>\r\n`;
  });
  return `<?xml version="1.0"?>\r\n<list>\r\n${lines.join('')}</list>\r\n`;
}
