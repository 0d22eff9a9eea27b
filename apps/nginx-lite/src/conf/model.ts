/**
 * The compiled configuration: plain data, fit for structured clone.
 *
 * What it is for: the one thing that travels from the master to the worker threads. Invariant: no functions, no class
 * instances but RegExp, indexes instead of references between tables. Strings hold bytes (latin1), as nginx's do.
 * Not its job: how it came about (modules, compile.ts) or how requests use it (http/).
 */

import type { ListenTuning } from '@megapipe/core';
import type { Limits } from '../limits.ts';
import type { Network } from '../net/address.ts';
import type { LogLevelName } from './errors.ts';
import type { User } from './user.ts';

/** Text with variables, cut into constants and names; a constant alone is a string. */
export type Template = string | TemplatePart[];
export type TemplatePart = string | { name: string };

export interface SyslogTarget {
  /** Address, or the path of a Unix socket. */
  host: string;
  port: number;
  /** As syslog numbers them. */
  facility: number;
  severity: number;
  tag: string;
  /** Messages name this machine. */
  hostname: boolean;
}

export interface ErrorLog {
  /** Index into Model.files, or -1 for stderr. */
  file: number;
  level: LogLevelName;
  /** Instead of a file. */
  syslog?: SyslogTarget;
}

export interface OpenLogFileCache {
  max: number;
  inactiveSec: number;
  validSec: number;
  minUses: number;
}

export interface AccessLog {
  /** Index into Model.files; -1: `path` or `syslog` says where lines go. */
  file: number;
  path: Template | null;
  syslog: SyslogTarget | null;
  /** Level of gzip; 0: plain. */
  gzip: number;
  /** Index into Model.logFormats. */
  format: number;
  bufferBytes: number;
  flushMs: number;
  /** Condition of `if=`, or null. */
  condition: Template | null;
}

/** Where temporary files go: `levels` counts the digits that name each folder. */
export interface TempPath {
  path: string;
  levels: number[];
}

/** A table between two charsets (lower case); `target` is one byte, or a sequence where `to` is utf-8. */
export interface CharsetMap {
  from: string;
  to: string;
  rows: { byte: number; target: number[] }[];
}

export interface LogFormat {
  name: string;
  escape: 'default' | 'json' | 'none';
  template: TemplatePart[];
}

export interface ErrorPage {
  status: number;
  /** 0: `=` (take the status of the target); -1: none given; else the status to answer. */
  overwrite: number;
  target: Template;
}

/** One step of a rewrite program. */
export type RewriteOp =
  /** text null: none was given. */
  | { op: 'return'; status: number; text: Template | null }
  | {
      op: 'rewrite';
      regex: RegExp;
      pattern: string;
      /** The new URI; of a redirect (status > 0) the whole target. */
      path: Template;
      /** The new arguments; null: the replacement has none. */
      query: Template | null;
      hasQuery: boolean;
      /** The request's own arguments follow. */
      addArgs: boolean;
      /** 0: no redirect. */
      status: number;
      /** The program ends here. */
      last: boolean;
      /** The location is not looked up again. */
      breaks: boolean;
    }
  | { op: 'set'; name: string; value: Template }
  | { op: 'break' }
  | { op: 'if'; condition: IfCondition; location: number; body: RewriteOp[] };

export type IfCondition =
  | { test: 'true'; name: string }
  | { test: 'equal'; name: string; value: Template; negative: boolean }
  | { test: 'match'; name: string; regex: RegExp; pattern: string; negative: boolean }
  | { test: 'file'; kind: 'f' | 'd' | 'e' | 'x'; path: Template; negative: boolean };

export interface Referers {
  none: boolean;
  blocked: boolean;
  names: { name: string; uri: string }[];
  regexes: RegExp[];
  /** Of server names: these look at the host alone. */
  hosts: RegExp[];
}

export type GzipProxied =
  | 'off'
  | 'expired'
  | 'no-cache'
  | 'no-store'
  | 'private'
  | 'no_last_modified'
  | 'no_etag'
  | 'auth'
  | 'any';

export interface AccessRule {
  deny: boolean;
  network: Network | 'all' | 'unix';
}

/** Variables that a configuration defines. */
export type VariableDecl = MapDecl | GeoDecl | SplitDecl;

export interface MapDecl {
  kind: 'map';
  name: string;
  source: Template;
  hostnames: boolean;
  /** Looked up at each use, instead of once a request. */
  volatile: boolean;
  exact: Record<string, Template>;
  /** `*.x` by `x`, and `x.*` by `x`. */
  heads: Record<string, Template>;
  tails: Record<string, Template>;
  regexes: { regex: RegExp; value: Template }[];
  fallback: Template;
}

export interface GeoDecl {
  kind: 'geo';
  name: string;
  /** Variable with the address; null: the client's. */
  source: string | null;
  networks: { network: Network; value: string }[];
  /** IPv4 ranges as numbers, sorted, apart from each other. */
  ranges: { low: number; high: number; value: string }[];
  useRanges: boolean;
  proxies: Network[];
  recursive: boolean;
  /** Of what is in no range; null: none was given. */
  fallback: string | null;
}

export interface SplitDecl {
  kind: 'split';
  name: string;
  source: Template;
  /** Hashes below it; -1: all the rest. */
  parts: { below: number; value: string }[];
}

export interface TryFile {
  /** A test; the last entry of the list is the fallback instead. */
  template: Template;
  testDirectory: boolean;
}

export interface AddHeader {
  name: string;
  value: Template;
  always: boolean;
}

export type Expires =
  | { kind: 'off' | 'epoch' | 'max' }
  | { kind: 'access' | 'modified'; seconds: number }
  | { kind: 'daily'; seconds: number };

/** Words that each answer has by itself. */
export interface ExpiresTemplate {
  kind: 'variable';
  modified: boolean;
  text: Template;
}

export interface OpenFileCache {
  max: number;
  inactiveSec: number;
}

/** Everything that a location may set, merged over http, server and enclosing locations. Modules add their part here. */
export interface LocConf {
  root: Template;
  /** `alias`: the location's name is not part of the path. */
  rootIsAlias: boolean;
  /** Characters of the URI that an alias stands for; -1: all of it (a location with a regular expression). */
  aliasLength: number;
  /** Index into Model.typeMaps. */
  types: number;
  defaultType: string;
  errorPages: ErrorPage[];
  index: Template[];
  tryFiles: TryFile[];
  /** Status of a `=code` fallback of try_files, 0 when its last argument is a URI or a named location. */
  tryFilesCode: number;
  rewriteOps: RewriteOp[];
  rewriteLog: boolean;
  uninitializedWarn: boolean;
  accessRules: AccessRule[];
  satisfy: 'all' | 'any';
  /** Methods that the location's own rules hold for, and the location for all others. */
  limitExcept: { methods: string[]; location: number } | null;
  authBasic: Template | null;
  authBasicFile: Template | null;
  authDelayMs: number;
  gzip: boolean;
  /** Lower case; `*`: all. */
  gzipTypes: string[];
  gzipMinLength: number;
  gzipCompLevel: number;
  gzipHttpVersion: number;
  gzipVary: boolean;
  gzipProxied: GzipProxied[];
  gzipDisable: RegExp[];
  gzipStatic: 'off' | 'on' | 'always';
  gunzip: boolean;
  charset: Template;
  sourceCharset: Template;
  overrideCharset: boolean;
  charsetTypes: string[];
  chunkedTransfer: boolean;
  limitReqs: { zone: string; burst: number; delay: number }[];
  limitReqStatus: number;
  limitReqLogLevel: 'info' | 'notice' | 'warn' | 'error';
  limitReqDryRun: boolean;
  limitConns: { zone: string; max: number }[];
  limitConnStatus: number;
  limitConnLogLevel: 'info' | 'notice' | 'warn' | 'error';
  limitConnDryRun: boolean;
  stubStatus: boolean;
  autoindex: boolean;
  autoindexFormat: 'html' | 'json' | 'jsonp' | 'xml';
  autoindexLocaltime: boolean;
  autoindexExactSize: boolean;
  realipFrom: (Network | 'unix')[];
  /** Lower case; `proxy_protocol`: what the listener's PROXY header said. */
  realipHeader: string;
  realipRecursive: boolean;
  referers: Referers | null;
  secureLink: Template | null;
  secureLinkMd5: Template | null;
  secureLinkSecret: string;
  addTrailers: AddHeader[];
  subFilters: { search: Template; replacement: Template }[];
  subFilterTypes: string[];
  subFilterOnce: boolean;
  subFilterLastModified: boolean;
  emptyGif: boolean;
  randomIndex: boolean;
  /** Clients that get no kept connection. */
  keepaliveDisable: ('none' | 'msie6' | 'safari')[];
  /** Index into the browsers that there are, and a version as a number, by the first. */
  modernBrowsers: { browser: number; version: number; implied: boolean }[];
  modernUnlisted: boolean;
  ancientBrowsers: string[];
  netscape4: boolean;
  modernBrowserValue: string;
  ancientBrowserValue: string;
  userid: 'off' | 'log' | 'v1' | 'on';
  /** null: the server's address. */
  useridService: number | null;
  useridName: string;
  useridDomain: string;
  useridPath: string;
  useridP3p: string;
  useridExpires: number;
  useridMark: string;
  useridFlags: string[];
  /** Bytes; 0: no slices. */
  slice: number;
  ssi: boolean;
  ssiTypes: string[];
  ssiSilentErrors: boolean;
  /** Bytes of a parameter's value. */
  ssiValueLength: number;
  ssiLastModified: boolean;
  /** Bytes of a subrequest's answer that becomes a value. */
  subrequestOutputBufferSize: number;
  keepaliveMinTimeoutMs: number;
  /** URI of auth_request; '': none. */
  authRequest: string;
  authRequestSets: { name: string; value: Template }[];
  /** Bytes a second, 0: no limit; and how many go out before it holds. */
  limitRate: Template;
  limitRateAfter: Template;
  internal: boolean;
  addHeaders: AddHeader[];
  expires: Expires | ExpiresTemplate;
  accessLogs: AccessLog[];
  openLogFileCache: OpenLogFileCache | 'off';
  errorLogs: ErrorLog[];
  openFileCache: OpenFileCache | 'off' | null;
  openFileCacheValidSec: number;
  openFileCacheErrors: boolean;
  openFileCacheMinUses: number;
  clientMaxBodySize: number;
  clientBodyBufferSize: number;
  clientBodyTimeoutMs: number;
  clientBodyTempPath: TempPath;
  clientBodyInFileOnly: 'off' | 'on' | 'clean';
  mirrors: string[];
  mirrorBody: boolean;
  disableSymlinks: 'off' | 'on' | 'if_not_owner';
  /** What is in front of the checked part of a path; '': nothing. */
  symlinksFrom: Template;
  addBeforeBody: string;
  addAfterBody: string;
  additionTypes: string[];
  sendTimeoutMs: number;
  keepaliveTimeoutMs: number;
  /** Seconds for a Keep-Alive header, 0: none. */
  keepaliveHeaderSec: number;
  keepaliveRequests: number;
  keepaliveTimeMs: number;
  lingeringClose: 'off' | 'on' | 'always';
  lingeringTimeMs: number;
  lingeringTimeoutMs: number;
  resetTimedoutConnection: boolean;
  absoluteRedirect: boolean;
  serverNameInRedirect: boolean;
  portInRedirect: boolean;
  msiePadding: boolean;
  msieRefresh: boolean;
  logNotFound: boolean;
  logSubrequest: boolean;
  recursiveErrorPages: boolean;
  serverTokens: 'on' | 'off' | 'build';
  etag: boolean;
  ifModifiedSince: 'off' | 'exact' | 'before';
  /** Ranges a request may ask for; -1: no limit, 0: ranges are ignored. */
  maxRanges: number;
}

/** Everything that a server (not a location) may set. */
export interface SrvConf {
  clientHeaderTimeoutMs: number;
  clientHeaderBufferSize: number;
  largeClientHeaderBuffers: number;
  largeClientHeaderBufferSize: number;
  ignoreInvalidHeaders: boolean;
  underscoresInHeaders: boolean;
  mergeSlashes: boolean;
  connectionPoolSize: number;
  maxHeaders: number;
}

export type LocationKind = 'server' | 'exact' | 'prefix' | 'noregex' | 'regex' | 'named';

export interface Location {
  kind: LocationKind;
  /** Prefix, exact URI, `@name`, or the pattern of a regex. */
  name: string;
  regex: RegExp | null;
  conf: LocConf;
  /** Nested locations: indexes into Model.locations, in the order of the file. */
  children: number[];
}

export interface ServerName {
  /** Lower-case name: `a.b`, `*.b`, `.b`, `a.*`; for a regex its pattern. */
  name: string;
  regex: RegExp | null;
}

export interface Server {
  conf: SrvConf;
  /** First name as written, for $server_name and redirects. */
  name: string;
  /** Index of its own pseudo location: configuration outside any location. */
  location: number;
  /** Indexes of named locations. */
  named: number[];
}

export interface ListenServer {
  server: number;
  names: ServerName[];
}

export interface Listen {
  family: 'IPv4' | 'IPv6' | 'Unix';
  /** Address without brackets, or the path of a Unix socket. */
  host: string;
  port: number;
  /** As nginx prints it: `127.0.0.1:80`, `[::]:80`, `unix:/path`. */
  text: string;
  backlog: number;
  reusePort: boolean;
  /** An option of the socket was given: the address has a socket of its own, whatever else listens on its port. */
  bind: boolean;
  /** Index of the wildcard of its port, whose socket takes its connections; -1: it has a socket of its own. */
  within: number;
  ipv6Only: boolean;
  proxyProtocol: boolean;
  tuning: ListenTuning;
  defaultServer: number;
  servers: ListenServer[];
}

/** Memory that all workers share and that outlives a generation. */
export interface Zone {
  name: string;
  kind: 'limit_req' | 'limit_conn';
  bytes: number;
  key: Template;
  /** The key as written. */
  keyText: string;
  /** limit_req: thousandths of a request a second. */
  rate: number;
}

export interface Http {
  listens: Listen[];
  servers: Server[];
  locations: Location[];
  /** Extension (lower case) to type. */
  typeMaps: Record<string, string>[];
  logFormats: LogFormat[];
  charsetMaps: CharsetMap[];
  zones: Zone[];
  variables: VariableDecl[];
  /** Names that `set` gives values to. */
  setVariables: string[];
  /** Variables that named captures and auth_request_set give. */
  captureVariables: string[];
  /** Somebody asks for $server_addr. */
  usesServerAddr: boolean;
}

export interface Model {
  prefix: string;
  confPrefix: string;
  confFile: string;
  daemon: boolean;
  masterProcess: boolean;
  workerProcesses: number;
  /** One CPU list per worker, repeated from the last; empty: not pinned. */
  workerAffinity: number[][];
  pid: string;
  /** Who the workers are; null: whoever started the server. */
  user: User | null;
  /** Names (and values) of the environment that workers keep. */
  env: string[];
  limits: Limits;
  workingDirectory: string | null;
  workerConnections: number;
  multiAccept: boolean;
  workerShutdownTimeoutMs: number;
  errorLogs: ErrorLog[];
  /** Folders of temporary files, which the master makes. */
  tempPaths: string[];
  /** Log files by absolute path; opened by the master. */
  files: string[];
  http: Http | null;
}
