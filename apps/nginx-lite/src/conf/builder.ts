/**
 * The configuration while it is being read: levels with what each sets, servers, locations, tables.
 *
 * What it is for: directive handlers write here; compile.ts turns it into the Model. Invariant: a level holds only what
 * its own directives set, so that inheritance is one walk towards the root. Not its job: defaults (modules), merging.
 */

import type { ListenTuning } from '@megapipe/core';
import type {
  CharsetMap,
  ErrorLog,
  LocationKind,
  LocConf,
  LogFormat,
  Referers,
  RewriteOp,
  ServerName,
  SrvConf,
  Template,
  VariableDecl,
  Zone,
} from './model.ts';
import type { ConfContext } from './parser.ts';
import { compilePattern, PatternError } from './regex.ts';
import type { User } from './user.ts';
import { isFixed } from './variable-names.ts';
import { namesOf, parseTemplate } from './variables.ts';

/** One `{ … }` of the file, or the file itself. */
export interface Level {
  context: number;
  parent: Level | null;
  loc: Partial<LocConf>;
  srv: Partial<SrvConf>;
  /** Directives met here that are only checked; a second one is a duplicate. */
  seen: Set<string>;
  /** Of a location or server block: where nested locations go. */
  location: LocationDecl | null;
  server: ServerDecl | null;
  /** The rewrite program that is written here. */
  ops: RewriteOp[] | null;
}

export interface LocationDecl {
  kind: LocationKind;
  name: string;
  regex: RegExp | null;
  level: Level;
  children: LocationDecl[];
  /** Blocks that are locations for their configuration only (`if`, `limit_except`), and who is to know their index. */
  ifs: { op: { location: number }; decl: LocationDecl }[];
}

export interface ListenDecl {
  family: 'IPv4' | 'IPv6' | 'Unix';
  host: string;
  port: number;
  text: string;
  defaultServer: boolean;
  /** Options that concern the socket; undefined where the directive does not say. */
  backlog?: number;
  reusePort?: boolean;
  ipv6Only?: boolean;
  proxyProtocol?: boolean;
  tuning: ListenTuning;
  /** Any socket option was given, so another listen on this address may not give any. */
  hasOptions: boolean;
}

export interface ServerDecl {
  level: Level;
  root: LocationDecl;
  listens: ListenDecl[];
  names: ServerName[];
  firstName: string | null;
}

/** Settings of the main and events contexts; undefined: the default. */
export interface MainSettings {
  daemon?: boolean;
  masterProcess?: boolean;
  workerProcesses?: number;
  workerAffinity?: number[][];
  affinityAuto?: true;
  pid?: string;
  user?: User;
  env?: string[];
  workerRlimitNofile?: number;
  workerRlimitCore?: number;
  workerShutdownTimeoutMs?: number;
  errorLogs?: ErrorLog[];
  timerResolutionMs?: number;
  lockFile?: string;
  pcreJit?: boolean;
  workerPriority?: number;
  workingDirectory?: string;
  events?: true;
  use?: string;
  workerConnections?: number;
  multiAccept?: boolean;
  acceptMutex?: boolean;
  acceptMutexDelayMs?: number;
  http?: Level;
}

export class Builder {
  readonly prefix: string;
  readonly confFile: string;
  readonly confPrefix: string;
  readonly main: MainSettings = {};
  readonly servers: ServerDecl[] = [];
  readonly logFormats: LogFormat[] = [];
  readonly charsetMaps: CharsetMap[] = [];
  /** Extension → type; entry 0 is nginx's own short list. */
  readonly typeMaps: Record<string, string>[] = [{ html: 'text/html', gif: 'image/gif', jpg: 'image/jpeg' }];
  readonly files: string[] = [];
  /** Buffers of log files, in words: there is one for each file. */
  readonly logBuffers = new Map<number, string>();
  /** Levels with `access_log off`. */
  readonly unlogged = new Set<Level>();
  /** Folders of temporary files, and where they were first named. */
  readonly tempPaths = new Map<string, { levels: number[]; file: string; line: number }>();
  /** Thread pools, which are only checked, and those that `aio` names. */
  readonly threadPools = new Set<string>();
  readonly askedPools: { name: string; where: string }[] = [];
  readonly zones: Zone[] = [];
  readonly variables: VariableDecl[] = [];
  readonly usedZones: string[] = [];
  /** Names that `set` gives values to. */
  readonly setVariables = new Set<string>();
  /** A level has both styles of secure_link. */
  secureLinksMixed = false;
  /** Referers that the names of a server are among. */
  readonly refererServers = new Map<Referers, ServerDecl>();
  /** nginx finds these when it sorts the locations, so the first one is reported after the whole file was read. */
  duplicateLocation: string | null = null;
  /** Variables that templates use, checked when the file is complete. */
  readonly usedVariables = new Set<string>();
  /** Those that are asked for by name alone, where `$1` is no variable. */
  readonly namedVariables = new Set<string>();
  /** Variables that named captures define. */
  readonly captureNames = new Set<string>();

  constructor(prefix: string, confFile: string) {
    this.prefix = prefix;
    this.confFile = confFile;
    this.confPrefix = confFile.slice(0, confFile.lastIndexOf('/') + 1);
  }

  static level(context: number, parent: Level | null): Level {
    return {
      context,
      parent,
      loc: {},
      srv: {},
      seen: new Set(),
      location: parent?.location ?? null,
      server: parent?.server ?? null,
      ops: null,
    };
  }

  /** A block such as `map` defines a variable; a later one of the same name takes its place. */
  defineVariable(cf: ConfContext, decl: VariableDecl): void {
    if (isFixed(decl.name)) cf.fail(`the duplicate "${decl.name}" variable`);
    const index = this.variables.findIndex((each) => each.name === decl.name);
    if (index < 0) this.variables.push(decl);
    else this.variables[index] = decl;
  }

  /** Index of a log file in the table, by absolute path. */
  file(path: string): number {
    const index = this.files.indexOf(path);
    return index >= 0 ? index : this.files.push(path) - 1;
  }

  /** Compiles a word with variables and notes which ones it uses. */
  template(cf: ConfContext, text: string): Template {
    const template = parseTemplate(text);
    if (typeof template !== 'string' && !Array.isArray(template)) cf.fail(template.error);
    for (const name of namesOf(template)) this.usedVariables.add(name);
    return template;
  }

  pattern(cf: ConfContext, pattern: string, caseless: boolean): RegExp {
    try {
      const compiled = compilePattern(pattern, caseless);
      for (const given of compiled.names) {
        const name = given.toLowerCase();
        if (isFixed(name)) cf.fail(`the duplicate "${name}" variable`);
        this.captureNames.add(name);
      }
      return compiled.regex;
    } catch (error) {
      if (!(error instanceof PatternError)) throw error;
      const rest = pattern.slice(error.at);
      return cf.fail(
        rest === ''
          ? `pcre2_compile() failed: ${error.message} in "${pattern}"`
          : `pcre2_compile() failed: ${error.message} in "${pattern}" at "${rest}"`,
      );
    }
  }
}
