/**
 * The configuration parser: files, includes, blocks, and the checks that nginx does for every directive.
 *
 * What it is for: drives the lexer, finds each directive in the table and calls its handler with the level it belongs
 * to. Invariant: every error carries nginx's text and place (`in FILE:LINE`, or `in command line`). Not its job: what
 * directives do (modules), what comes out of them (compile.ts).
 */

import { globSync, readFileSync } from 'node:fs';
import { dirname, isAbsolute } from 'node:path';
import { strerror } from '../log/errno.ts';
import type { Builder, Level } from './builder.ts';
import { Args, argumentsFit, Context, type Directive } from './directives.ts';
import { ConfError, type LogLevelName } from './errors.ts';
import { LexError, Lexer, Token } from './lexer.ts';

/** Directives of nginx that belong to a module which is not part of this server: name → module. */
export type AbsentDirectives = (name: string) => string | null;

export interface DirectiveTable {
  directives: ReadonlyMap<string, readonly Directive[]>;
  absent: AbsentDirectives;
}

/** Takes each directive of a block in place of the table (`types`). */
export type BlockHandler = (cf: ConfContext, args: string[]) => string | undefined;

export type OnMessage = (level: LogLevelName, message: string) => void;

interface OpenFile {
  path: string;
  lexer: Lexer;
}

export interface DumpedFile {
  path: string;
  text: string;
}

/** What handlers get: where parsing stands, and the services of the parser. */
export class ConfContext {
  readonly builder: Builder;
  /** The level whose directives are read now. */
  level: Level;
  /** Every file read, once, in the order of first use (for `-T`). */
  readonly files: DumpedFile[] = [];
  /** The directive being handled. */
  directive = '';
  /** Takes messages that stop nothing, complete with their place. */
  readonly onMessage: OnMessage;
  private readonly table: DirectiveTable;
  private file: OpenFile | null = null;
  private blockHandler: BlockHandler | null = null;
  private depth = 0;

  constructor(table: DirectiveTable, builder: Builder, level: Level, onMessage: OnMessage) {
    this.table = table;
    this.onMessage = onMessage;
    this.builder = builder;
    this.level = level;
  }

  /** ` in FILE:LINE`, as nginx ends its messages. */
  where(): string {
    const file = this.file;
    if (file === null) return '';
    return file.path === '' ? ' in command line' : ` in ${file.path}:${file.lexer.line}`;
  }

  place(): { file: string; line: number } {
    return this.file === null ? { file: '', line: 0 } : { file: this.file.path, line: this.file.lexer.line };
  }

  error(message: string): ConfError {
    return new ConfError(message + this.where());
  }

  fail(message: string): never {
    throw this.error(message);
  }

  /** `"name" directive MESSAGE` for the directive being handled. */
  reject(message: string): never {
    throw this.error(`"${this.directive}" directive ${message}`);
  }

  warn(message: string): void {
    this.say('warn', message);
  }

  say(level: LogLevelName, message: string): void {
    this.onMessage(level, message + this.where());
  }

  /** An absolute path; relative ones hang below the prefix, or below the folder of the main configuration file. */
  fullName(path: string, belowConf = false): string {
    if (isAbsolute(path)) return path;
    return (belowConf ? this.builder.confPrefix : this.builder.prefix) + path;
  }

  /** Parses the text of `-g`. */
  parseParameter(text: string): void {
    this.file = { path: '', lexer: new Lexer(text, { parameter: true }) };
    try {
      this.run('parameter');
    } finally {
      this.file = null;
    }
  }

  /** Parses a file at the present level. */
  parseFile(path: string): void {
    let bytes: Buffer;
    try {
      bytes = readFileSync(Buffer.from(path, 'latin1'));
    } catch (error) {
      const failed = error as NodeJS.ErrnoException;
      // nginx says where it was asked for only of files that are not there.
      if (failed.syscall === 'read') {
        throw new ConfError(`pread() "${path}" failed (${strerror(failed.errno ?? 0)})`, 'crit');
      }
      throw this.error(`open() "${path}" failed (${strerror(failed.errno ?? 0)})`);
    }
    const text = bytes.toString('latin1');
    if (!this.files.some((seen) => seen.path === path)) this.files.push({ path, text });
    const outer = this.file;
    if (this.depth > INCLUDE_DEPTH_MAX) this.fail(`include nesting of "${path}" is deeper than ${INCLUDE_DEPTH_MAX}`);
    this.file = { path, lexer: new Lexer(text) };
    this.depth++;
    try {
      this.run('file');
    } finally {
      this.depth--;
      this.file = outer;
    }
  }

  /** Parses the `{ … }` of the directive being handled at `level`; with `handler`, its rows go there. */
  block(level: Level, handler: BlockHandler | null = null): void {
    const outerLevel = this.level;
    const outerHandler = this.blockHandler;
    this.level = level;
    this.blockHandler = handler;
    try {
      this.run('block');
    } finally {
      this.level = outerLevel;
      this.blockHandler = outerHandler;
    }
  }

  /** `include`: a file, or every file that a glob matches, in order; `globs` false: a file of just that name. */
  include(pattern: string, globs = true): void {
    const path = this.fullName(pattern, true);
    if (!globs || !/[*?[]/.test(path)) {
      this.parseFile(path);
      return;
    }
    const found = globSync(Buffer.from(path, 'latin1').toString('utf8'), { cwd: dirname(path) });
    // nginx's glob() leaves out hidden files unless the pattern names the dot.
    const hidden = /\/\.[^/]*$/.test(path);
    const names = found.filter((name) => hidden || !/\/\.[^/]*$/.test(name)).sort();
    for (const name of names) this.parseFile(Buffer.from(name, 'utf8').toString('latin1'));
  }

  private run(kind: 'file' | 'block' | 'parameter'): void {
    const file = this.file as OpenFile;
    for (;;) {
      let token: number;
      try {
        token = file.lexer.next();
      } catch (error) {
        if (!(error instanceof LexError)) throw error;
        throw new ConfError(error.message + (file.path === '' ? ' in command line' : ` in ${file.path}:${error.line}`));
      }
      if (token === Token.BlockDone) {
        if (kind !== 'block') this.fail('unexpected "}"');
        return;
      }
      if (token === Token.End) {
        if (kind === 'block') this.fail('unexpected end of file, expecting "}"');
        return;
      }
      if (token === Token.BlockStart && kind === 'parameter') {
        this.fail('block directives are not supported in -g option');
      }
      this.dispatch(file.lexer.args, token === Token.BlockStart);
    }
  }

  private dispatch(args: string[], opensBlock: boolean): void {
    const name = args[0] as string;
    if (this.blockHandler !== null) {
      if (opensBlock) this.fail('unexpected "{"');
      const message = this.blockHandler(this, args);
      if (message !== undefined) this.fail(message);
      return;
    }
    const rows = this.table.directives.get(name);
    if (rows === undefined) {
      const module = this.table.absent(name);
      if (module !== null) {
        this.fail(`"${name}" directive is not supported by this server: it has no ${module}`);
      }
      this.fail(`unknown directive "${name}"`);
    }
    const row = rows.find((each) => (each.contexts & this.level.context) !== 0);
    if (row === undefined) this.fail(`"${name}" directive is not allowed here`);
    if (row.block !== true && opensBlock) this.fail(`directive "${name}" is not terminated by ";"`);
    if (row.block === true && !opensBlock) this.fail(`directive "${name}" has no opening "{"`);
    if (!argumentsFit(row.args, args.length - 1)) this.fail(`invalid number of arguments in "${name}" directive`);
    this.directive = name;
    const message = row.set(this, args);
    if (message !== undefined) this.fail(`"${name}" directive ${message}`);
  }
}

const INCLUDE_DEPTH_MAX = 64;

/** `include` stands in every context. */
export const INCLUDE: Directive = {
  name: 'include',
  contexts: Context.Any,
  args: Args.Take1,
  set(cf, args) {
    cf.include(args[1] as string);
    return undefined;
  },
};
