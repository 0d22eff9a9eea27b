/**
 * Servers and locations, ready for requests.
 *
 * What it is for: turns the Model's tables into linked objects with lookup maps, and selects: the server by address and
 * name, the location in nginx's order. Invariant: selection depends on host and URI alone. Not its job: phases.
 */

import type { Http, Listen, LocConf, SrvConf, Template } from '../conf/model.ts';
import type { RuntimeAccessLog } from '../modules/log/writer.ts';
import { compileProgram, type RuntimeOp } from '../modules/rewrite/program.ts';
import { customGetters } from '../modules/variables.ts';
import { compileTemplate, type Evaluator } from './template.ts';
import { defineVariables } from './variables.ts';

export class RuntimeServer {
  readonly conf: SrvConf;
  readonly name: string;
  location: RuntimeLocation;
  readonly named = new Map<string, RuntimeLocation>();

  constructor(conf: SrvConf, name: string, location: RuntimeLocation) {
    this.conf = conf;
    this.name = name;
    this.location = location;
  }
}

export interface RuntimeTryFile {
  evaluate: Evaluator;
  testDirectory: boolean;
}

export class RuntimeLocation {
  readonly name: string;
  readonly kind: string;
  readonly regex: RegExp | null;
  readonly conf: LocConf;
  readonly types: ReadonlyMap<string, string>;
  readonly root: Evaluator;
  readonly index: Evaluator[];
  readonly tryFiles: RuntimeTryFile[];
  readonly program: RuntimeOp[];
  readonly charset: Evaluator;
  readonly expiresText: Evaluator;
  readonly sourceCharset: Evaluator;
  readonly symlinksFrom: Evaluator;
  readonly subFilters: { search: Evaluator; replacement: Evaluator }[];
  readonly authRequestSets: { name: string; value: Evaluator }[];
  readonly secureLink: Evaluator | null;
  readonly secureLinkMd5: Evaluator | null;
  readonly addTrailers: { name: string; value: Evaluator; always: boolean }[];
  readonly limitRate: Evaluator;
  readonly limitRateAfter: Evaluator;
  readonly authBasic: Evaluator | null;
  readonly authBasicFile: Evaluator | null;
  readonly errorTargets: Evaluator[];
  readonly addHeaders: { name: string; value: Evaluator; always: boolean }[];
  accessLogs: RuntimeAccessLog[] = [];
  /** Ticks for which a look at the file system holds; 0: every request looks. */
  readonly fileValidTicks: number;
  private readonly exact = new Map<string, RuntimeLocation>();
  /** Longest first. */
  private readonly prefixes: RuntimeLocation[] = [];
  private readonly regexes: RuntimeLocation[] = [];

  constructor(kind: string, name: string, regex: RegExp | null, conf: LocConf, types: ReadonlyMap<string, string>) {
    this.kind = kind;
    this.name = name;
    this.regex = regex;
    this.conf = conf;
    this.types = types;
    this.root = compileTemplate(conf.root);
    this.index = conf.index.map(compileTemplate);
    this.tryFiles = conf.tryFiles.map((each) => ({
      evaluate: compileTemplate(each.template),
      testDirectory: each.testDirectory,
    }));
    this.program = compileProgram(conf.rewriteOps);
    this.charset = compileTemplate(conf.charset);
    this.expiresText = compileTemplate(conf.expires.kind === 'variable' ? conf.expires.text : '');
    this.sourceCharset = compileTemplate(conf.sourceCharset);
    this.symlinksFrom = compileTemplate(conf.symlinksFrom);
    this.subFilters = conf.subFilters.map((each) => ({
      search: compileTemplate(each.search),
      replacement: compileTemplate(each.replacement),
    }));
    this.authRequestSets = conf.authRequestSets.map((each) => ({ ...each, value: compileTemplate(each.value) }));
    this.secureLink = optional(conf.secureLink);
    this.secureLinkMd5 = optional(conf.secureLinkMd5);
    this.addTrailers = conf.addTrailers.map((each) => ({ ...each, value: compileTemplate(each.value) }));
    this.limitRate = compileTemplate(conf.limitRate);
    this.limitRateAfter = compileTemplate(conf.limitRateAfter);
    this.authBasic = optional(conf.authBasic);
    this.authBasicFile = optional(conf.authBasicFile);
    this.errorTargets = conf.errorPages.map((page) => compileTemplate(page.target));
    this.addHeaders = conf.addHeaders.map((header) => ({
      name: header.name,
      value: compileTemplate(header.value),
      always: header.always,
    }));
    const cache = conf.openFileCache;
    this.fileValidTicks = cache === 'off' ? 0 : cache === null ? DEFAULT_VALID_TICKS : conf.openFileCacheValidSec;
  }

  add(child: RuntimeLocation): void {
    switch (child.kind) {
      case 'exact':
        this.exact.set(child.name, child);
        break;
      case 'prefix':
      case 'noregex':
        this.prefixes.push(child);
        this.prefixes.sort((a, b) => b.name.length - a.name.length);
        break;
      case 'regex':
        this.regexes.push(child);
        break;
      default:
        break;
    }
  }

  /**
   * The location for `uri` at or below this one, in nginx's order: exact; else the longest prefix (and what is nested
   * in it); then, unless that prefix said `^~`, the first regex that matches.
   */
  find(uri: string, found: LocationMatch): void {
    const exact = this.exact.get(uri);
    if (exact !== undefined) {
      found.location = exact;
      found.final = true;
      return;
    }
    let noRegex = false;
    for (const prefix of this.prefixes) {
      if (!uri.startsWith(prefix.name)) continue;
      noRegex = prefix.kind === 'noregex';
      found.location = prefix;
      prefix.find(uri, found);
      if (found.final) return;
      break;
    }
    if (noRegex) return;
    for (const each of this.regexes) {
      const captures = (each.regex as RegExp).exec(uri);
      if (captures === null) continue;
      found.location = each;
      found.captures = captures;
      each.find(uri, found);
      found.final = true;
      return;
    }
  }
}

function optional(template: Template | null): Evaluator | null {
  return template === null ? null : compileTemplate(template);
}

/** Without open_file_cache nginx looks at every request; here a look holds for the rest of the second. */
const DEFAULT_VALID_TICKS = 1;

/** Result of a search; one object per engine, reset for each. */
export interface LocationMatch {
  location: RuntimeLocation;
  captures: RegExpExecArray | null;
  /** An exact or regex match ends the search. */
  final: boolean;
}

/** The servers behind one listening address. */
export class VirtualServers {
  readonly listen: Listen;
  readonly defaultServer: RuntimeServer;
  private readonly exact = new Map<string, RuntimeServer>();
  /** `*.x` by `x`. */
  private readonly heads = new Map<string, RuntimeServer>();
  /** `x.*` by `x`. */
  private readonly tails = new Map<string, RuntimeServer>();
  private readonly regexes: { regex: RegExp; server: RuntimeServer }[] = [];
  private readonly single: boolean;

  constructor(listen: Listen, servers: readonly RuntimeServer[]) {
    this.listen = listen;
    this.defaultServer = servers[listen.defaultServer] as RuntimeServer;
    this.single = listen.servers.length === 1 && !listen.servers.some((each) => each.names.some((name) => name.regex));
    for (const { server: index, names } of listen.servers) {
      const server = servers[index] as RuntimeServer;
      for (const { name, regex } of names) {
        if (regex !== null) this.regexes.push({ regex, server });
        else if (name.startsWith('*.')) setOnce(this.heads, name.slice(2), server);
        else if (name.endsWith('.*')) setOnce(this.tails, name.slice(0, -2), server);
        else if (name.startsWith('.')) {
          setOnce(this.exact, name.slice(1), server);
          setOnce(this.heads, name.slice(1), server);
        } else setOnce(this.exact, name, server);
      }
    }
  }

  /** The server for a host name (lower case, no port); captures of a regex name go to `captured`. */
  find(host: string, captured: { captures: RegExpExecArray | null }): RuntimeServer {
    if (this.single) return this.defaultServer;
    const exact = this.exact.get(host);
    if (exact !== undefined) return exact;
    if (host === '') return this.defaultServer;
    if (this.heads.size > 0) {
      for (let dot = host.indexOf('.'); dot >= 0; dot = host.indexOf('.', dot + 1)) {
        const server = dot > 0 ? this.heads.get(host.slice(dot + 1)) : undefined;
        if (server !== undefined) return server;
      }
    }
    if (this.tails.size > 0) {
      for (let dot = host.lastIndexOf('.'); dot > 0; dot = host.lastIndexOf('.', dot - 1)) {
        const server = this.tails.get(host.slice(0, dot));
        if (server !== undefined) return server;
      }
    }
    for (const { regex, server } of this.regexes) {
      const captures = regex.exec(host);
      if (captures === null) continue;
      captured.captures = captures;
      return server;
    }
    return this.defaultServer;
  }
}

function setOnce<V>(map: Map<string, V>, key: string, value: V): void {
  if (!map.has(key)) map.set(key, value);
}

/** Links the tables of a Model. */
export function buildRuntime(http: Http): { listens: VirtualServers[]; locations: RuntimeLocation[] } {
  defineVariables(customGetters(http), http.setVariables, http.captureVariables);
  const typeMaps = http.typeMaps.map((map) => new Map(Object.entries(map)));
  const locations = http.locations.map(
    (each) =>
      new RuntimeLocation(
        each.kind,
        each.name,
        each.regex,
        each.conf,
        typeMaps[each.conf.types] ?? new Map<string, string>(),
      ),
  );
  for (const [index, each] of http.locations.entries()) {
    for (const child of each.children) (locations[index] as RuntimeLocation).add(locations[child] as RuntimeLocation);
  }
  const servers = http.servers.map((each) => {
    const server = new RuntimeServer(each.conf, each.name, locations[each.location] as RuntimeLocation);
    for (const index of each.named) {
      const named = locations[index] as RuntimeLocation;
      server.named.set(named.name, named);
    }
    return server;
  });
  return { listens: http.listens.map((listen) => new VirtualServers(listen, servers)), locations };
}
