/**
 * From what was read to the Model: defaults, inheritance, tables, and the checks that need the whole file.
 *
 * What it is for: `loadConfiguration` is the only way from files to a Model. Invariant: a LocConf of the Model is
 * complete; a field that no level sets has its module's default; a field that is not inherited is taken from its own
 * level alone. Not its job: opening anything (master).
 */

import { ACCESS_DEFAULTS } from '../modules/access/conf.ts';
import { ADDITION_DEFAULTS } from '../modules/addition/module.ts';
import { AUTH_BASIC_DEFAULTS } from '../modules/auth-basic/conf.ts';
import { AUTH_REQUEST_DEFAULTS } from '../modules/auth-request/module.ts';
import { AUTOINDEX_DEFAULTS } from '../modules/autoindex/module.ts';
import { BROWSER_DEFAULTS } from '../modules/browser/module.ts';
import { CHARSET_DEFAULTS } from '../modules/charset/conf.ts';
import { missingMap } from '../modules/charset/map.ts';
import { EMPTY_GIF_DEFAULTS } from '../modules/empty-gif/module.ts';
import { GZIP_DEFAULTS } from '../modules/gzip/conf.ts';
import { HEADERS_DEFAULTS } from '../modules/headers/conf.ts';
import { coreLocDefaults, SRV_DEFAULTS } from '../modules/http-core/conf.ts';
import { addressText } from '../modules/http-core/listen.ts';
import { INDEX_DEFAULTS } from '../modules/index/conf.ts';
import { LIMIT_DEFAULTS } from '../modules/limit-req/conf.ts';
import { formatIndex, LOG_DEFAULTS } from '../modules/log/conf.ts';
import { MIRROR_DEFAULTS } from '../modules/mirror/module.ts';
import { RANDOM_INDEX_DEFAULTS } from '../modules/random-index/module.ts';
import { REALIP_DEFAULTS } from '../modules/realip/conf.ts';
import { REFERER_DEFAULTS, uselessReferers } from '../modules/referer/module.ts';
import { REWRITE_DEFAULTS } from '../modules/rewrite/conf.ts';
import { SECURE_LINK_DEFAULTS } from '../modules/secure-link/module.ts';
import { SLICE_DEFAULTS } from '../modules/slice/module.ts';
import { SSI_DEFAULTS } from '../modules/ssi/module.ts';
import { STUB_STATUS_DEFAULTS } from '../modules/stub-status/module.ts';
import { SUB_FILTER_DEFAULTS } from '../modules/sub-filter/module.ts';
import { DIRECTIVE_TABLE } from '../modules/table.ts';
import { TRY_FILES_DEFAULTS } from '../modules/try-files/conf.ts';
import { USERID_DEFAULTS } from '../modules/userid/module.ts';
import { isWildcard } from '../net/address.ts';
import { Builder, type Level, type ListenDecl, type LocationDecl, type ServerDecl } from './builder.ts';
import { Context } from './directives.ts';
import { ConfError } from './errors.ts';
import { HostnameKeys } from './hostname-keys.ts';
import type { ErrorLog, Http, Listen, Location, LocConf, Model, Server, SrvConf } from './model.ts';
import { ConfContext, type DumpedFile, type OnMessage } from './parser.ts';
import { findGroup, findUser, type User } from './user.ts';
import { isKnownVariable } from './variable-names.ts';

/** Fields that hold at their own level only. */
const NOT_INHERITED: ReadonlySet<keyof LocConf> = new Set([
  'internal',
  'rewriteOps',
  'limitExcept',
  'tryFiles',
  'tryFilesCode',
  'stubStatus',
  'emptyGif',
]);
/** Fields that come from one directive and so must come from one level. */
const TOGETHER: Partial<Record<keyof LocConf, keyof LocConf>> = {
  rootIsAlias: 'root',
  aliasLength: 'root',
  symlinksFrom: 'disableSymlinks',
};

const LISTEN_BACKLOG = 511;

export interface LoadOptions {
  /** With a trailing slash. */
  prefix: string;
  /** Absolute. */
  confFile: string;
  /** Text of `-g`. */
  globals: string;
  /** Start-up log (`-e`), absolute, or 'stderr'. */
  errorLog: string;
  /** Takes messages that stop nothing in their order, also those before an error. */
  onMessage?: OnMessage;
  /** Every file was read; what is checked from here on concerns the whole. */
  onSyntaxOk?: () => void;
}

export interface Loaded {
  model: Model;
  files: DumpedFile[];
}

/** Reads, checks and compiles a configuration. Throws ConfError. */
export function loadConfiguration(options: LoadOptions): Loaded {
  const builder = new Builder(options.prefix, options.confFile);
  const top = Builder.level(Context.Main, null);
  const cf = new ConfContext(DIRECTIVE_TABLE, builder, top, options.onMessage ?? (() => {}));
  if (options.globals !== '') cf.parseParameter(options.globals);
  cf.parseFile(options.confFile);
  return { model: compile(builder, cf, options), files: cf.files };
}

function compile(builder: Builder, cf: ConfContext, options: LoadOptions): Model {
  const main = builder.main;
  const workerConnections = main.workerConnections ?? 512;
  const mainLogs = main.errorLogs ?? [
    { file: options.errorLog === 'stderr' ? -1 : builder.file(options.errorLog), level: 'error' as const },
  ];
  const http = main.http === undefined ? null : compileHttp(builder, cf, main.http, mainLogs, options.prefix);
  options.onSyntaxOk?.();
  if (main.events === undefined) throw new ConfError('no "events" section in configuration');
  const listens = http?.listens.filter((listen) => listen.within < 0).length ?? 0;
  if (workerConnections < listens + 1)
    throw new ConfError(`${workerConnections} worker_connections are not enough for ${listens} listening sockets`);
  const asked = builder.askedPools.find(({ name }) => !builder.threadPools.has(name));
  if (asked !== undefined) throw new ConfError(`unknown thread pool "${asked.name}"${asked.where}`);
  const masks = main.workerAffinity?.length ?? 0;
  if (!main.affinityAuto && masks > 1 && masks !== (main.workerProcesses ?? 1)) {
    cf.onMessage(
      'warn',
      'the number of "worker_processes" is not equal to the number of "worker_cpu_affinity" masks, using last mask for remaining worker processes',
    );
  }
  for (const name of builder.usedZones) {
    if (!builder.zones.some((each) => each.name === name))
      throw new ConfError(`zero size shared memory zone "${name}"`);
  }
  return {
    prefix: options.prefix,
    confPrefix: builder.confPrefix,
    confFile: builder.confFile,
    daemon: main.daemon ?? true,
    masterProcess: main.masterProcess ?? true,
    workerProcesses: main.workerProcesses ?? 1,
    workerAffinity: main.workerAffinity ?? [],
    pid: main.pid || `${options.prefix}logs/nginx.pid`,
    user: main.user ?? defaultUser(),
    env: main.env ?? [],
    limits: {
      descriptors: main.workerRlimitNofile ?? null,
      coreBytes: main.workerRlimitCore ?? null,
      priority: main.workerPriority ?? 0,
    },
    workingDirectory: main.workingDirectory ?? null,
    workerConnections,
    multiAccept: main.multiAccept ?? false,
    workerShutdownTimeoutMs: main.workerShutdownTimeoutMs ?? 0,
    errorLogs: mainLogs,
    files: builder.files,
    tempPaths: [...new Set([...builder.tempPaths.keys(), ...tempPathsOf(http)])],
    http,
  };
}

/** Every folder that some location uses. */
function tempPathsOf(http: Http | null): string[] {
  return [...new Set(http?.locations.map((each) => each.conf.clientBodyTempPath.path) ?? [])];
}

/** As nginx is built: `nobody`, where root starts it. */
function defaultUser(): User | null {
  if (process.getuid?.() !== 0) return null;
  const user = findUser('nobody');
  if (user === null) throw new ConfError('getpwnam("nobody") failed');
  return { ...user, gid: findGroup('nogroup') ?? user.gid };
}

function compileHttp(builder: Builder, cf: ConfContext, level: Level, mainLogs: ErrorLog[], prefix: string): Http {
  const defaults: LocConf = {
    ...coreLocDefaults(prefix),
    ...INDEX_DEFAULTS,
    ...TRY_FILES_DEFAULTS,
    ...REWRITE_DEFAULTS,
    ...HEADERS_DEFAULTS,
    ...LOG_DEFAULTS,
    ...ACCESS_DEFAULTS,
    ...GZIP_DEFAULTS,
    ...LIMIT_DEFAULTS,
    ...AUTH_REQUEST_DEFAULTS,
    ...MIRROR_DEFAULTS,
    ...ADDITION_DEFAULTS,
    ...SUB_FILTER_DEFAULTS,
    ...SLICE_DEFAULTS,
    ...SSI_DEFAULTS,
    ...BROWSER_DEFAULTS,
    ...EMPTY_GIF_DEFAULTS,
    ...RANDOM_INDEX_DEFAULTS,
    ...USERID_DEFAULTS,
    ...STUB_STATUS_DEFAULTS,
    ...AUTOINDEX_DEFAULTS,
    ...REALIP_DEFAULTS,
    ...REFERER_DEFAULTS,
    ...SECURE_LINK_DEFAULTS,
    ...CHARSET_DEFAULTS,
    ...AUTH_BASIC_DEFAULTS,
    errorLogs: mainLogs,
  };
  if (builder.duplicateLocation !== null) throw new ConfError(builder.duplicateLocation);
  if (level.loc.accessLogs === undefined) {
    level.loc.accessLogs = [
      {
        file: builder.file(`${prefix}logs/access.log`),
        path: null,
        syslog: null,
        gzip: 0,
        format: formatIndex(cf, 'combined'),
        bufferBytes: 0,
        flushMs: 0,
        condition: null,
      },
    ];
  }
  const locations: Location[] = [];
  const servers = builder.servers.map((server) => compileServer(server, defaults, locations));
  for (const { conf } of locations) {
    const useless = uselessReferers(conf);
    if (useless !== null) throw new ConfError(useless);
    const missing = missingMap(builder.charsetMaps, conf);
    if (missing !== null)
      throw new ConfError(`no "charset_map" between the charsets "${missing[0]}" and "${missing[1]}"`);
  }
  const defined = new Set([
    ...builder.captureNames,
    ...builder.setVariables,
    ...builder.variables.map((each) => each.name),
  ]);
  for (const name of [...builder.usedVariables, ...builder.namedVariables]) {
    const known = isKnownVariable(name) && !(builder.namedVariables.has(name) && /^\d/.test(name));
    if (!known && !defined.has(name)) throw new ConfError(`unknown "${name}" variable`);
  }
  return {
    listens: compileListens(builder, cf),
    servers,
    locations,
    typeMaps: builder.typeMaps,
    logFormats: builder.logFormats,
    charsetMaps: builder.charsetMaps,
    zones: builder.zones,
    variables: builder.variables,
    setVariables: [...builder.setVariables],
    captureVariables: [...builder.captureNames],
    usesServerAddr:
      builder.usedVariables.has('server_addr') ||
      locations.some(({ conf }) => conf.userid === 'on' && conf.useridService === null),
  };
}

function compileServer(decl: ServerDecl, defaults: LocConf, locations: Location[]): Server {
  const location = compileLocation(decl.root, defaults, locations);
  const own = locations[location] as Location;
  return {
    conf: mergeSrv(decl.level),
    name: decl.firstName ?? '',
    location,
    named: own.children.filter((child) => (locations[child] as Location).kind === 'named'),
  };
}

function compileLocation(decl: LocationDecl, defaults: LocConf, locations: Location[]): number {
  const location: Location = {
    kind: decl.kind,
    name: decl.name,
    regex: decl.regex,
    conf: mergeLoc(decl.level, defaults),
    children: [],
  };
  const index = locations.push(location) - 1;
  for (const child of decl.children) location.children.push(compileLocation(child, defaults, locations));
  for (const { op, decl: inner } of decl.ifs) op.location = compileLocation(inner, defaults, locations);
  return index;
}

/** Fields that hold the inheritance of others up. */
const BARRED: Partial<Record<keyof LocConf, (keyof LocConf)[]>> = {
  secureLink: ['secureLinkSecret'],
  secureLinkMd5: ['secureLinkSecret'],
  secureLinkSecret: ['secureLink', 'secureLinkMd5'],
  modernBrowsers: ['modernUnlisted'],
  modernUnlisted: ['modernBrowsers'],
  ancientBrowsers: ['netscape4'],
  netscape4: ['ancientBrowsers'],
};

/** The nearest level that sets the field. */
function nearest<K extends keyof LocConf>(level: Level, key: K): Level | null {
  const own = TOGETHER[key] ?? key;
  for (let at: Level | null = level; at !== null; at = at.parent) {
    if (at.loc[own] !== undefined) return at;
    if (NOT_INHERITED.has(key) || BARRED[key]?.some((each) => at.loc[each] !== undefined)) return null;
  }
  return null;
}

function mergeLoc(level: Level, defaults: LocConf): LocConf {
  const merged: LocConf = { ...defaults };
  for (const key of Object.keys(defaults) as (keyof LocConf)[]) assignField(merged, key, nearest(level, key));
  return merged;
}

function assignField<K extends keyof LocConf>(merged: LocConf, key: K, from: Level | null): void {
  const value = from?.loc[key];
  if (value !== undefined) merged[key] = value as LocConf[K];
}

function mergeSrv(level: Level): SrvConf {
  const own: Partial<SrvConf> = level.srv;
  const outer: Partial<SrvConf> = level.parent?.srv ?? {};
  return { ...SRV_DEFAULTS, ...outer, ...own };
}

function compileListens(builder: Builder, cf: ConfContext): Listen[] {
  const listens = new Map<string, Listen>();
  const explicitDefaults = new Set<string>();
  for (const [index, server] of builder.servers.entries()) {
    for (const decl of server.listens.length > 0 ? server.listens : [defaultListen()]) {
      let listen = listens.get(decl.text);
      if (listen === undefined) {
        listen = {
          family: decl.family,
          host: decl.host,
          port: decl.port,
          text: decl.text,
          backlog: LISTEN_BACKLOG,
          reusePort: false,
          bind: false,
          within: -1,
          ipv6Only: true,
          proxyProtocol: false,
          tuning: {},
          defaultServer: index,
          servers: [],
        };
        listens.set(decl.text, listen);
      }
      if (decl.backlog !== undefined) listen.backlog = decl.backlog;
      if (decl.reusePort !== undefined) listen.reusePort = decl.reusePort;
      if (decl.ipv6Only !== undefined) listen.ipv6Only = decl.ipv6Only;
      if (decl.proxyProtocol) listen.proxyProtocol = true;
      if (decl.hasOptions) listen.bind = true;
      Object.assign(listen.tuning, decl.tuning);
      if (decl.defaultServer && !explicitDefaults.has(decl.text)) {
        explicitDefaults.add(decl.text);
        listen.defaultServer = index;
      }
      const names = server.names.length > 0 ? server.names : [{ name: '', regex: null }];
      listen.servers.push({ server: index, names });
    }
  }
  for (const listen of listens.values()) checkNames(cf, listen);
  return ordered([...listens.values()]);
}

/** In nginx's order: by port, those with sockets of their own first, the wildcard last, which takes the connections of the others. */
function ordered(listens: Listen[]): Listen[] {
  const ports = new Map<string, Listen[]>();
  for (const listen of listens) {
    const port = `${listen.family} ${listen.port}`;
    const known = ports.get(port);
    if (known === undefined) ports.set(port, [listen]);
    else known.push(listen);
  }
  const rank = (listen: Listen): number => (isWildcard(listen.host) ? 2 : listen.bind ? 0 : 1);
  const all: Listen[] = [];
  for (const port of ports.values()) {
    port.sort((a, b) => rank(a) - rank(b));
    const last = all.push(...port) - 1;
    if (!isWildcard((all[last] as Listen).host)) continue;
    for (const listen of port) if (rank(listen) === 1) listen.within = last;
  }
  return all;
}

/** Names that several servers of an address have. Where only one server is there, nobody looks at its names. */
function checkNames(cf: ConfContext, listen: Listen): void {
  if (listen.servers.length < 2) return;
  const keys = new HostnameKeys();
  for (const server of listen.servers) {
    server.names = server.names.filter(({ name, regex }) => {
      if (regex !== null) return true;
      const added = keys.add(name);
      if (added === 'invalid') throw new ConfError(`invalid server name or wildcard "${name}" on ${listen.text}`);
      if (added === 'known') cf.onMessage('warn', `conflicting server name "${name}" on ${listen.text}, ignored`);
      return added === 'new';
    });
  }
}

/** A server without `listen`: port 80, or 8000 where the user may not bind low ports. */
function defaultListen(): ListenDecl {
  const address = { family: 'IPv4' as const, host: '0.0.0.0', port: process.getuid?.() === 0 ? 80 : 8000 };
  return { ...address, text: addressText(address), defaultServer: false, tuning: {}, hasOptions: false };
}
