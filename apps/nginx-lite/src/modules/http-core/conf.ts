/**
 * Directives of the HTTP core: blocks, addresses, names, paths, client limits.
 *
 * What it is for: the rows, the defaults they fall back to, and the checks that need more than one row.
 * Not its job: merging (conf/compile.ts), requests (http/).
 */

import { hostname } from 'node:os';
import { Builder, type Level, type LocationDecl, type ServerDecl } from '../../conf/builder.ts';
import { Args, Context, type Directive, HTTP_ALL, HTTP_ALL_IF } from '../../conf/directives.ts';
import type { ErrorPage, LocationKind, LocConf, SrvConf, Template, TempPath } from '../../conf/model.ts';
import type { ConfContext } from '../../conf/parser.ts';
import {
  accept,
  anyOf,
  buffers,
  flag,
  loc,
  msec,
  number,
  offset,
  oneOf,
  type Parse,
  sec,
  size,
  srv,
  word,
} from '../../conf/setters.ts';
import { parseNumber, parseTimeMs, parseTimeSec } from '../../conf/units.ts';
import { namesOf } from '../../conf/variables.ts';
import { lowerCase } from '../../http/bytes.ts';
import { addServerNames } from '../referer/module.ts';
import { checkSecureLinks } from '../secure-link/module.ts';
import { parseListen } from './listen.ts';

const { Main, Http, Server, Location } = Context;
const HTTP_SERVER = Http | Server;
const SERVER_LOCATION = Server | Location;

/** Nothing is pooled here, but the limit on large buffers refers to it. */
const CONNECTION_POOL_SIZE = 512;

export const SRV_DEFAULTS: SrvConf = {
  clientHeaderTimeoutMs: 60_000,
  clientHeaderBufferSize: 1024,
  largeClientHeaderBuffers: 4,
  largeClientHeaderBufferSize: 8192,
  ignoreInvalidHeaders: true,
  underscoresInHeaders: false,
  mergeSlashes: true,
  connectionPoolSize: CONNECTION_POOL_SIZE,
  maxHeaders: 1000,
};

export type CoreLocConf = Pick<
  LocConf,
  | 'root'
  | 'rootIsAlias'
  | 'aliasLength'
  | 'types'
  | 'defaultType'
  | 'errorPages'
  | 'internal'
  | 'errorLogs'
  | 'openFileCache'
  | 'openFileCacheValidSec'
  | 'openFileCacheErrors'
  | 'openFileCacheMinUses'
  | 'disableSymlinks'
  | 'symlinksFrom'
  | 'clientMaxBodySize'
  | 'clientBodyBufferSize'
  | 'clientBodyTimeoutMs'
  | 'clientBodyTempPath'
  | 'clientBodyInFileOnly'
  | 'keepaliveDisable'
  | 'msieRefresh'
  | 'sendTimeoutMs'
  | 'subrequestOutputBufferSize'
  | 'keepaliveTimeoutMs'
  | 'keepaliveHeaderSec'
  | 'keepaliveRequests'
  | 'keepaliveTimeMs'
  | 'lingeringClose'
  | 'lingeringTimeMs'
  | 'lingeringTimeoutMs'
  | 'resetTimedoutConnection'
  | 'absoluteRedirect'
  | 'serverNameInRedirect'
  | 'portInRedirect'
  | 'msiePadding'
  | 'logNotFound'
  | 'logSubrequest'
  | 'recursiveErrorPages'
  | 'serverTokens'
  | 'etag'
  | 'ifModifiedSince'
  | 'maxRanges'
  | 'chunkedTransfer'
  | 'limitRate'
  | 'keepaliveMinTimeoutMs'
  | 'limitRateAfter'
>;

export function coreLocDefaults(prefix: string): CoreLocConf {
  return {
    root: `${prefix}html`,
    rootIsAlias: false,
    aliasLength: 0,
    types: 0,
    defaultType: 'text/plain',
    errorPages: [],
    internal: false,
    errorLogs: [],
    openFileCache: null,
    openFileCacheValidSec: 60,
    openFileCacheErrors: false,
    openFileCacheMinUses: 1,
    disableSymlinks: 'off',
    symlinksFrom: '',
    clientMaxBodySize: 1024 * 1024,
    // Two pages.
    clientBodyBufferSize: 16 * 1024,
    clientBodyTimeoutMs: 60_000,
    clientBodyTempPath: { path: `${prefix}client_body_temp`, levels: [] },
    clientBodyInFileOnly: 'off',
    keepaliveDisable: ['msie6'],
    msieRefresh: false,
    sendTimeoutMs: 60_000,
    subrequestOutputBufferSize: 4096,
    keepaliveTimeoutMs: 75_000,
    keepaliveHeaderSec: 0,
    keepaliveRequests: 1000,
    keepaliveTimeMs: 3_600_000,
    lingeringClose: 'on',
    lingeringTimeMs: 30_000,
    lingeringTimeoutMs: 5_000,
    resetTimedoutConnection: false,
    absoluteRedirect: true,
    serverNameInRedirect: false,
    portInRedirect: true,
    msiePadding: true,
    logNotFound: true,
    logSubrequest: false,
    recursiveErrorPages: false,
    serverTokens: 'on',
    etag: true,
    ifModifiedSince: 'exact',
    maxRanges: -1,
    chunkedTransfer: true,
    limitRate: '0',
    keepaliveMinTimeoutMs: 0,
    limitRateAfter: '0',
  };
}

function setHttp(cf: ConfContext): string | undefined {
  if (cf.builder.main.http !== undefined) return 'is duplicate';
  const level = Builder.level(Http, cf.level);
  cf.builder.main.http = level;
  cf.block(level);
  for (const server of cf.builder.servers) checkBuffers(cf, server.level);
  addServerNames(cf);
  checkSecureLinks(cf);
  return undefined;
}

function setServer(cf: ConfContext): undefined {
  const level = Builder.level(Server, cf.level);
  const root: LocationDecl = { kind: 'server', name: '', regex: null, level, children: [], ifs: [] };
  const server: ServerDecl = { level, root, listens: [], names: [], firstName: null };
  level.location = root;
  level.server = server;
  cf.builder.servers.push(server);
  cf.block(level);
}

const MODIFIERS: Record<string, LocationKind> = { '=': 'exact', '^~': 'noregex', '~': 'regex', '~*': 'regex' };

function setLocation(cf: ConfContext, args: string[]): undefined {
  const parent = cf.level.location as LocationDecl;
  let modifier = '';
  let name: string;
  if (args.length === 3) {
    modifier = args[1] as string;
    name = args[2] as string;
    if (MODIFIERS[modifier] === undefined) cf.fail(`invalid location modifier "${modifier}"`);
  } else {
    const text = args[1] as string;
    // The modifier may stand right before the URI: `location =/x`.
    modifier = /^(?:=|\^~|~\*|~)/.exec(text)?.[0] ?? '';
    name = text.slice(modifier.length);
  }
  const kind: LocationKind = MODIFIERS[modifier] ?? (name.startsWith('@') ? 'named' : 'prefix');
  const level = Builder.level(Location, cf.level);
  const regex = kind === 'regex' ? cf.builder.pattern(cf, name, modifier === '~*') : null;
  const location: LocationDecl = { kind, name, regex, level, children: [], ifs: [] };
  level.location = location;
  if (parent.kind !== 'server') {
    if (parent.kind === 'exact') cf.fail(`location "${name}" cannot be inside the exact location "${parent.name}"`);
    if (parent.kind === 'named') cf.fail(`location "${name}" cannot be inside the named location "${parent.name}"`);
    if (kind === 'named') cf.fail(`named location "${name}" can be on the server level only`);
    if (regex === null && !name.startsWith(parent.name)) {
      cf.fail(`location "${name}" is outside location "${parent.name}"`);
    }
  }
  const family = kind === 'noregex' ? 'prefix' : kind;
  const place = cf.place();
  if (
    kind !== 'regex' &&
    parent.children.some(
      (other) => other.name === name && (other.kind === 'noregex' ? 'prefix' : other.kind) === family,
    )
  ) {
    cf.builder.duplicateLocation ??= `duplicate location "${name}" in ${place.file}:${place.line}`;
  }
  parent.children.push(location);
  cf.block(level);
}

function setListen(cf: ConfContext, args: string[]): undefined {
  const server = cf.level.server as ServerDecl;
  for (const decl of parseListen(cf, args)) {
    if (server.listens.some((other) => other.text === decl.text)) cf.fail(`a duplicate listen ${decl.text}`);
    for (const other of cf.builder.servers) {
      if (other === server) continue;
      const same = other.listens.find((each) => each.text === decl.text);
      if (same === undefined) continue;
      if (same.hasOptions && decl.hasOptions) cf.fail(`duplicate listen options for ${decl.text}`);
      if (same.defaultServer && decl.defaultServer) cf.fail(`a duplicate default server for ${decl.text}`);
    }
    server.listens.push(decl);
  }
}

function setServerName(cf: ConfContext, args: string[]): undefined {
  const server = cf.level.server as ServerDecl;
  for (const given of args.slice(1)) {
    const wildcard = given.startsWith('*') && (given.length < 3 || given[1] !== '.');
    if (wildcard || (given.startsWith('.') && given.length < 2)) cf.fail(`server name "${given}" is invalid`);
    if (given.includes('/')) cf.warn(`server name "${given}" has suspicious symbols`);
    const name = given.toLowerCase() === '$hostname' ? hostname() : given;
    if (name.startsWith('~')) {
      server.firstName ??= name;
      if (name.length === 1) cf.fail(`empty regex in server name "${given}"`);
      const pattern = name.slice(1);
      server.names.push({ name: pattern, regex: cf.builder.pattern(cf, pattern, /[A-Z]/.test(pattern)) });
      continue;
    }
    const lower = lowerCase(name);
    server.firstName ??= lower.startsWith('.') ? lower.slice(1) : lower;
    server.names.push({ name: lower, regex: null });
  }
}

function setRoot(cf: ConfContext, args: string[]): string | undefined {
  const isAlias = args[0] === 'alias';
  const conf = cf.level.loc;
  if (conf.root !== undefined) {
    if (conf.rootIsAlias === isAlias) return 'is duplicate';
    return `is duplicate, "${conf.rootIsAlias ? 'alias' : 'root'}" directive was specified earlier`;
  }
  const { location } = cf.level;
  if (isAlias && location?.kind === 'named') {
    cf.fail('the "alias" directive cannot be used inside the named location');
  }
  const text = args[1] as string;
  for (const forbidden of ['document_root', 'realpath_root']) {
    // As nginx looks for it, which goes for longer names, too.
    if (text.includes(`$${forbidden}`) || text.includes(`\${${forbidden}}`))
      cf.fail(`the $${forbidden} variable cannot be used in the "${args[0]}" directive`);
  }
  const trimmed = !isAlias && text.endsWith('/') ? text.slice(0, -1) : text;
  const template = cf.builder.template(cf, trimmed);
  conf.rootIsAlias = isAlias;
  if (!isAlias || location === null) conf.aliasLength = 0;
  else conf.aliasLength = location.kind === 'regex' ? -1 : location.name.length;
  conf.root = namesOf(template).length === 0 ? (trimmed === '' && text !== '' ? '' : cf.fullName(trimmed)) : template;
  return undefined;
}

function setTypes(cf: ConfContext): undefined {
  const conf = cf.level.loc;
  conf.types ??= cf.builder.typeMaps.push({}) - 1;
  const map = cf.builder.typeMaps[conf.types] as Record<string, string>;
  cf.block(cf.level, (inner, words) => {
    const type = words[0] as string;
    if (type === 'include') {
      if (words.length !== 2) return 'invalid number of arguments in "include" directive';
      inner.include(words[1] as string);
      return undefined;
    }
    for (const word of words.slice(1)) {
      const extension = word.toLowerCase();
      const previous = map[extension];
      if (previous !== undefined) {
        inner.warn(`duplicate extension "${extension}", content type: "${type}", previous content type: "${previous}"`);
      }
      map[extension] = type;
    }
    return undefined;
  });
}

const CODES_WITHOUT_OWN_STATUS = [494, 495, 496, 497];

function setErrorPage(cf: ConfContext, args: string[]): undefined {
  let codes = args.slice(1, -1);
  let overwrite = -1;
  const given = codes.at(-1) as string;
  if (given.startsWith('=')) {
    if (codes.length === 1) cf.fail(`invalid value "${given}"`);
    codes = codes.slice(0, -1);
    const status = given === '=' ? 0 : parseNumber(given.slice(1));
    if (status === null) cf.fail(`invalid value "${given}"`);
    overwrite = status;
  }
  const target = cf.builder.template(cf, args.at(-1) as string);
  const pages: ErrorPage[] = (cf.level.loc.errorPages ??= []);
  for (const code of codes) {
    const status = parseNumber(code);
    if (status === null) cf.fail(`invalid value "${code}"`);
    if (status === 499) cf.fail(`invalid value "${code}"`);
    if (status < 300 || status > 599) cf.fail(`value "${code}" must be between 300 and 599`);
    const own = overwrite < 0 && CODES_WITHOUT_OWN_STATUS.includes(status) ? 400 : overwrite;
    pages.push({ status, overwrite: own, target });
  }
}

function setKeepaliveTimeout(cf: ConfContext, args: string[]): string | undefined {
  const conf = cf.level.loc;
  if (conf.keepaliveTimeoutMs !== undefined) return 'is duplicate';
  const ms = parseTimeMs(args[1] as string);
  if (ms === null) return 'invalid value';
  conf.keepaliveTimeoutMs = ms;
  if (args[2] === undefined) return undefined;
  const header = parseTimeSec(args[2]);
  if (header === null) return 'invalid value';
  conf.keepaliveHeaderSec = header;
  return undefined;
}

function setOpenFileCache(cf: ConfContext, args: string[]): string | undefined {
  const conf = cf.level.loc;
  if (conf.openFileCache !== undefined) return 'is duplicate';
  let max = 0;
  let inactiveSec = 60;
  for (const option of args.slice(1)) {
    const bad = (): never => cf.fail(`invalid "open_file_cache" parameter "${option}"`);
    if (option === 'off') {
      conf.openFileCache = 'off';
    } else if (option.startsWith('max=')) {
      max = parseNumber(option.slice(4)) ?? bad();
      if (max === 0) bad();
    } else if (option.startsWith('inactive=')) inactiveSec = parseTimeSec(option.slice(9)) ?? bad();
    else bad();
  }
  if (conf.openFileCache === 'off') return undefined;
  if (max === 0) cf.fail('"open_file_cache" must have the "max" parameter');
  conf.openFileCache = { max, inactiveSec };
  return undefined;
}

function setDisableSymlinks(cf: ConfContext, args: string[]): string | undefined {
  const conf = cf.level.loc;
  if (conf.disableSymlinks !== undefined) return 'is duplicate';
  for (const word of args.slice(1)) {
    if (word === 'off' || word === 'on' || word === 'if_not_owner') conf.disableSymlinks = word;
    else if (word.startsWith('from=')) conf.symlinksFrom = cf.builder.template(cf, word.slice(5));
    else cf.fail(`invalid parameter "${word}"`);
  }
  if (conf.disableSymlinks === undefined)
    cf.fail('"disable_symlinks" must have "off", "on" or "if_not_owner" parameter');
  if (args.length === 2) return undefined;
  if (conf.symlinksFrom === undefined) cf.fail(`duplicate parameters "${args[1]} ${args[2]}"`);
  if (conf.disableSymlinks === 'off') cf.fail('"from=" cannot be used with "off" parameter');
  return undefined;
}

/** How nginx reads files; a pool of threads is known from here on. */
function aio(cf: ConfContext, args: string[]): void {
  const [, text = ''] = args;
  if (text === 'off' || text === 'threads') return;
  if (text === 'on') cf.fail('"aio on" is unsupported on this platform');
  if (!text.startsWith('threads=')) cf.reject('invalid value');
  const name = text.slice('threads='.length);
  const template = cf.builder.template(cf, name);
  if (typeof template === 'string') cf.builder.askedPools.push({ name, where: cf.where() });
}

/** A size, or a word with variables that gives one. */
function rate(cf: ConfContext, args: string[]): Template {
  const template = cf.builder.template(cf, args[1] as string);
  if (typeof template === 'string') size(cf, args);
  return template;
}

/** Digits of a temporary file's number that its folders may take. */
const TEMP_LEVELS_MAX = 10;

function tempPath(cf: ConfContext, args: string[]): TempPath {
  const path = cf.fullName(args[1] as string).replace(/(?<=.)\/$/, '');
  const levels = args.slice(2).map((text) => parseNumber(text) || cf.reject('invalid value'));
  // Each folder takes a slash, too.
  const length = levels.reduce((sum, each) => sum + each + 1, 0);
  if (length > TEMP_LEVELS_MAX + levels.length) cf.reject('invalid value');
  const known = cf.builder.tempPaths.get(path);
  const place = cf.place();
  if (known === undefined) cf.builder.tempPaths.set(path, { levels, ...place });
  else if (known.levels.join() !== levels.join()) {
    cf.fail(`the same path name "${path}" in ${known.file}:${known.line} has the different levels than`);
  }
  return { path, levels };
}

function setLargeBuffers(cf: ConfContext, args: string[]): string | undefined {
  const conf = cf.level.srv;
  if (conf.largeClientHeaderBuffers !== undefined) return 'is duplicate';
  const { count, bytes } = buffers(cf, args);
  conf.largeClientHeaderBuffers = count;
  conf.largeClientHeaderBufferSize = bytes;
  return undefined;
}

/** What nginx's pools need. */
const POOL_MIN = 112;
const POOL_UNIT = 16;

const poolSize: Parse<number> = (cf, args) => {
  const bytes = size(cf, args);
  if (bytes < POOL_MIN) cf.fail(`the pool size must be no less than ${POOL_MIN}`);
  return bytes % POOL_UNIT === 0 ? bytes : cf.fail(`the pool size must be a multiple of ${POOL_UNIT}`);
};

/** Where all of http was read. */
function checkBuffers(cf: ConfContext, server: Level): void {
  const http = server.parent?.srv ?? {};
  const pool = server.srv.connectionPoolSize ?? http.connectionPoolSize ?? CONNECTION_POOL_SIZE;
  const large = server.srv.largeClientHeaderBufferSize ?? http.largeClientHeaderBufferSize;
  if ((large ?? SRV_DEFAULTS.largeClientHeaderBufferSize) < pool) {
    cf.fail('the "large_client_header_buffers" size must be equal to or greater than "connection_pool_size"');
  }
}

export const HTTP_CORE_DIRECTIVES: Directive[] = [
  { name: 'http', contexts: Main, args: Args.None, block: true, set: setHttp },
  { name: 'server', contexts: Http, args: Args.None, block: true, set: setServer },
  { name: 'location', contexts: SERVER_LOCATION, args: Args.Take12, block: true, set: setLocation },
  { name: 'listen', contexts: Server, args: Args.OneOrMore, set: setListen },
  { name: 'server_name', contexts: Server, args: Args.OneOrMore, set: setServerName },
  { name: 'types', contexts: HTTP_ALL, args: Args.None, block: true, set: setTypes },
  { name: 'default_type', contexts: HTTP_ALL, args: Args.Take1, set: loc('defaultType', word) },
  { name: 'root', contexts: HTTP_ALL_IF, args: Args.Take1, set: setRoot },
  { name: 'alias', contexts: Location, args: Args.Take1, set: setRoot },
  { name: 'error_page', contexts: HTTP_ALL_IF, args: Args.TwoOrMore, set: setErrorPage },
  { name: 'internal', contexts: Location, args: Args.None, set: loc('internal', () => true) },
  { name: 'open_file_cache', contexts: HTTP_ALL, args: Args.Take12, set: setOpenFileCache },
  { name: 'open_file_cache_valid', contexts: HTTP_ALL, args: Args.Take1, set: loc('openFileCacheValidSec', sec) },
  { name: 'open_file_cache_min_uses', contexts: HTTP_ALL, args: Args.Take1, set: loc('openFileCacheMinUses', number) },
  { name: 'open_file_cache_errors', contexts: HTTP_ALL, args: Args.Flag, set: loc('openFileCacheErrors', flag) },
  { name: 'open_file_cache_events', contexts: HTTP_ALL, args: Args.Flag, set: accept(flag) },
  { name: 'disable_symlinks', contexts: HTTP_ALL, args: Args.Take12, set: setDisableSymlinks },
  { name: 'client_max_body_size', contexts: HTTP_ALL, args: Args.Take1, set: loc('clientMaxBodySize', offset) },
  { name: 'client_body_buffer_size', contexts: HTTP_ALL, args: Args.Take1, set: loc('clientBodyBufferSize', size) },
  { name: 'client_body_timeout', contexts: HTTP_ALL, args: Args.Take1, set: loc('clientBodyTimeoutMs', msec) },
  { name: 'client_body_temp_path', contexts: HTTP_ALL, args: Args.Take1234, set: loc('clientBodyTempPath', tempPath) },
  {
    name: 'client_body_in_file_only',
    contexts: HTTP_ALL,
    args: Args.Take1,
    set: loc('clientBodyInFileOnly', oneOf(['off', 'on', 'clean'])),
  },
  // A body in memory lies in one buffer here anyway.
  { name: 'client_body_in_single_buffer', contexts: HTTP_ALL, args: Args.Flag, set: accept(flag) },
  { name: 'send_timeout', contexts: HTTP_ALL, args: Args.Take1, set: loc('sendTimeoutMs', msec) },
  { name: 'keepalive_timeout', contexts: HTTP_ALL, args: Args.Take12, set: setKeepaliveTimeout },
  { name: 'keepalive_requests', contexts: HTTP_ALL, args: Args.Take1, set: loc('keepaliveRequests', number) },
  { name: 'keepalive_time', contexts: HTTP_ALL, args: Args.Take1, set: loc('keepaliveTimeMs', msec) },
  {
    name: 'keepalive_disable',
    contexts: HTTP_ALL,
    args: Args.Take12,
    set: anyOf('keepaliveDisable', ['none', 'msie6', 'safari']),
  },
  {
    name: 'lingering_close',
    contexts: HTTP_ALL,
    args: Args.Take1,
    set: loc('lingeringClose', oneOf(['off', 'on', 'always'])),
  },
  { name: 'lingering_time', contexts: HTTP_ALL, args: Args.Take1, set: loc('lingeringTimeMs', msec) },
  { name: 'lingering_timeout', contexts: HTTP_ALL, args: Args.Take1, set: loc('lingeringTimeoutMs', msec) },
  {
    name: 'reset_timedout_connection',
    contexts: HTTP_ALL,
    args: Args.Flag,
    set: loc('resetTimedoutConnection', flag),
  },
  { name: 'absolute_redirect', contexts: HTTP_ALL, args: Args.Flag, set: loc('absoluteRedirect', flag) },
  { name: 'server_name_in_redirect', contexts: HTTP_ALL, args: Args.Flag, set: loc('serverNameInRedirect', flag) },
  { name: 'port_in_redirect', contexts: HTTP_ALL, args: Args.Flag, set: loc('portInRedirect', flag) },
  { name: 'msie_padding', contexts: HTTP_ALL, args: Args.Flag, set: loc('msiePadding', flag) },
  { name: 'msie_refresh', contexts: HTTP_ALL, args: Args.Flag, set: loc('msieRefresh', flag) },
  { name: 'log_not_found', contexts: HTTP_ALL, args: Args.Flag, set: loc('logNotFound', flag) },
  { name: 'log_subrequest', contexts: HTTP_ALL, args: Args.Flag, set: loc('logSubrequest', flag) },
  { name: 'recursive_error_pages', contexts: HTTP_ALL, args: Args.Flag, set: loc('recursiveErrorPages', flag) },
  {
    name: 'server_tokens',
    contexts: HTTP_ALL,
    args: Args.Take1,
    set: loc('serverTokens', oneOf(['on', 'off', 'build'])),
  },
  { name: 'etag', contexts: HTTP_ALL, args: Args.Flag, set: loc('etag', flag) },
  {
    name: 'if_modified_since',
    contexts: HTTP_ALL,
    args: Args.Take1,
    set: loc('ifModifiedSince', oneOf(['off', 'exact', 'before'])),
  },
  { name: 'max_ranges', contexts: HTTP_ALL, args: Args.Take1, set: loc('maxRanges', number) },
  // How bytes reach the socket is the channel's business: these describe the kernel calls of another design.
  { name: 'sendfile', contexts: HTTP_ALL_IF, args: Args.Flag, set: accept(flag) },
  {
    name: 'keepalive_min_timeout',
    contexts: HTTP_ALL,
    args: Args.Take1,
    set: loc('keepaliveMinTimeoutMs', msec),
  },
  { name: 'limit_rate', contexts: HTTP_ALL_IF, args: Args.Take1, set: loc('limitRate', rate) },
  { name: 'limit_rate_after', contexts: HTTP_ALL_IF, args: Args.Take1, set: loc('limitRateAfter', rate) },
  { name: 'aio', contexts: HTTP_ALL, args: Args.Take1, set: accept(aio) },
  { name: 'aio_write', contexts: HTTP_ALL, args: Args.Flag, set: accept(flag) },
  {
    name: 'directio',
    contexts: HTTP_ALL,
    args: Args.Take1,
    set: accept((cf, args) => (args[1] === 'off' ? 0 : offset(cf, args))),
  },
  { name: 'directio_alignment', contexts: HTTP_ALL, args: Args.Take1, set: accept(offset) },
  { name: 'sendfile_max_chunk', contexts: HTTP_ALL, args: Args.Take1, set: accept(size) },
  { name: 'tcp_nopush', contexts: HTTP_ALL, args: Args.Flag, set: accept(flag) },
  { name: 'tcp_nodelay', contexts: HTTP_ALL, args: Args.Flag, set: accept(flag) },
  { name: 'output_buffers', contexts: HTTP_ALL, args: Args.Take2, set: accept(buffers) },
  { name: 'postpone_output', contexts: HTTP_ALL, args: Args.Take1, set: accept(size) },
  {
    name: 'send_lowat',
    contexts: HTTP_ALL,
    args: Args.Take1,
    set: accept((cf, args) => {
      if (size(cf, args) !== 0) cf.warn('"send_lowat" is not supported, ignored');
    }),
  },
  { name: 'read_ahead', contexts: HTTP_ALL, args: Args.Take1, set: accept(size) },
  {
    name: 'subrequest_output_buffer_size',
    contexts: HTTP_ALL,
    args: Args.Take1,
    set: loc('subrequestOutputBufferSize', size),
  },
  { name: 'chunked_transfer_encoding', contexts: HTTP_ALL, args: Args.Flag, set: loc('chunkedTransfer', flag) },
  { name: 'connection_pool_size', contexts: HTTP_SERVER, args: Args.Take1, set: srv('connectionPoolSize', poolSize) },
  { name: 'request_pool_size', contexts: HTTP_SERVER, args: Args.Take1, set: accept(poolSize) },
  { name: 'client_header_timeout', contexts: HTTP_SERVER, args: Args.Take1, set: srv('clientHeaderTimeoutMs', msec) },
  {
    name: 'client_header_buffer_size',
    contexts: HTTP_SERVER,
    args: Args.Take1,
    set: srv('clientHeaderBufferSize', size),
  },
  { name: 'large_client_header_buffers', contexts: HTTP_SERVER, args: Args.Take2, set: setLargeBuffers },
  { name: 'max_headers', contexts: HTTP_SERVER, args: Args.Take1, set: srv('maxHeaders', number) },
  { name: 'ignore_invalid_headers', contexts: HTTP_SERVER, args: Args.Flag, set: srv('ignoreInvalidHeaders', flag) },
  { name: 'underscores_in_headers', contexts: HTTP_SERVER, args: Args.Flag, set: srv('underscoresInHeaders', flag) },
  { name: 'merge_slashes', contexts: HTTP_SERVER, args: Args.Flag, set: srv('mergeSlashes', flag) },
  // Tables here grow by themselves; the sizes of nginx's hashes are only checked.
  { name: 'server_names_hash_max_size', contexts: Http, args: Args.Take1, set: accept(number) },
  { name: 'server_names_hash_bucket_size', contexts: Http, args: Args.Take1, set: accept(number) },
  { name: 'variables_hash_max_size', contexts: Http, args: Args.Take1, set: accept(number) },
  { name: 'variables_hash_bucket_size', contexts: Http, args: Args.Take1, set: accept(number) },
  { name: 'types_hash_max_size', contexts: HTTP_ALL, args: Args.Take1, set: accept(number) },
  { name: 'types_hash_bucket_size', contexts: HTTP_ALL, args: Args.Take1, set: accept(number) },
];
