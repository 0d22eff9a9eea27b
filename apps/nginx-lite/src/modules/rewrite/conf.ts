/**
 * Directives of the rewrite module: `rewrite`, `if`, `set`, `break`, `return`.
 *
 * What it is for: compiles the directives of a level, in their order, to a program (Model: RewriteOp). Invariants: a
 * program belongs to the level it stands in and is not inherited; an `if` has its own location-like level, whose
 * configuration holds when its condition is true. Not its job: running it (handler.ts).
 */

import { Builder, type Level, type LocationDecl } from '../../conf/builder.ts';
import { Args, Context, type Directive, HTTP_ALL } from '../../conf/directives.ts';
import type { IfCondition, LocConf, RewriteOp, Template } from '../../conf/model.ts';
import type { ConfContext } from '../../conf/parser.ts';
import { flag, loc } from '../../conf/setters.ts';
import { parseNumber } from '../../conf/units.ts';
import { CHANGEABLE, isFixed } from '../../conf/variable-names.ts';
import { variableName } from '../map/conf.ts';

const { Server, Location, ServerIf, LocationIf } = Context;
const REWRITE_ALL = Server | Location | ServerIf | LocationIf;

export const REWRITE_DEFAULTS: Pick<LocConf, 'rewriteOps' | 'rewriteLog' | 'uninitializedWarn'> = {
  rewriteOps: [],
  rewriteLog: false,
  uninitializedWarn: true,
};

/** The program that is being written at a level. */
function program(level: Level): RewriteOp[] {
  level.ops ??= level.loc.rewriteOps = [];
  return level.ops;
}

function setReturn(cf: ConfContext, args: string[]): undefined {
  const first = args[1] as string;
  const status = parseNumber(first);
  let given: { status: number; text: string | null };
  if (status !== null) {
    if (status > 999) cf.fail(`invalid return code "${first}"`);
    // An error without a word is an answer like that of any other handler.
    given = { status, text: (status < 400 ? args[2] : args[2] || null) ?? null };
  } else {
    if (args.length === 3) cf.fail(`invalid return code "${first}"`);
    if (!/^(?:https?:\/\/|\$scheme)/i.test(first)) cf.fail(`invalid return code "${first}"`);
    given = { status: 302, text: first };
  }
  const text = given.text === null ? null : cf.builder.template(cf, given.text);
  program(cf.level).push({ op: 'return', status: given.status, text });
}

function setRewrite(cf: ConfContext, args: string[]): undefined {
  const pattern = args[1] as string;
  let target = args[2] as string;
  if (target === '') cf.fail('empty replacement');
  const regex = cf.builder.pattern(cf, pattern, false);
  let status = /^(?:https?:\/\/|\$scheme)/.test(target) ? 302 : 0;
  let last = status !== 0;
  let breaks = false;
  switch (args[3]) {
    case undefined:
      break;
    case 'last':
      last = true;
      break;
    case 'break':
      last = true;
      breaks = true;
      break;
    case 'redirect':
      status = 302;
      last = true;
      break;
    case 'permanent':
      status = 301;
      last = true;
      break;
    default:
      cf.fail(`invalid parameter "${args[3]}"`);
  }
  const addArgs = !target.endsWith('?');
  if (!addArgs) target = target.slice(0, -1);
  let path: Template = cf.builder.template(cf, target);
  let query: Template | null = null;
  const hasQuery = constantIndexOf(path, '?') !== null;
  if (status === 0) [path, query] = cut(path);
  program(cf.level).push({ op: 'rewrite', regex, pattern, path, query, hasQuery, addArgs, status, last, breaks });
}

/** Where the first `?` stands that was written out: [part, index]. */
function constantIndexOf(template: Template, ch: string): [number, number] | null {
  const parts = typeof template === 'string' ? [template] : template;
  for (const [part, text] of parts.entries()) {
    const index = typeof text === 'string' ? text.indexOf(ch) : -1;
    if (index >= 0) return [part, index];
  }
  return null;
}

/** What stands before and behind the first `?`; null: there is none. */
function cut(template: Template): [Template, Template | null] {
  const found = constantIndexOf(template, '?');
  if (found === null) return [template, null];
  const parts = typeof template === 'string' ? [template] : template;
  const [part, index] = found;
  const text = parts[part] as string;
  return [
    [...parts.slice(0, part), text.slice(0, index)],
    [text.slice(index + 1), ...parts.slice(part + 1)],
  ];
}

/** The variable that a directive sets, known from here on as one of `names`. */
export function settable(cf: ConfContext, given: string, names: Set<string>): string {
  const name = variableName(cf, given);
  if (isFixed(name)) cf.fail(`the duplicate "${name}" variable`);
  if (!CHANGEABLE.has(name)) names.add(name);
  return name;
}

function setSet(cf: ConfContext, args: string[]): undefined {
  const name = settable(cf, args[1] as string, cf.builder.setVariables);
  program(cf.level).push({ op: 'set', name, value: cf.builder.template(cf, args[2] as string) });
}

function setIf(cf: ConfContext, args: string[]): undefined {
  const condition = parseCondition(cf, args);
  const outer = cf.level;
  const inServer = outer.context === Server;
  const level = Builder.level(inServer ? ServerIf : LocationIf, outer);
  const parent = outer.location as LocationDecl;
  // For its configuration an `if` is a location; it has no name of its own, and no URI is looked up in it.
  const decl: LocationDecl = { kind: parent.kind, name: parent.name, regex: null, level, children: [], ifs: [] };
  level.location = decl;
  const body: RewriteOp[] = [];
  level.ops = body;
  const op: RewriteOp = { op: 'if', condition, location: -1, body };
  parent.ifs.push({ op, decl });
  program(outer).push(op);
  cf.block(level);
}

function parseCondition(cf: ConfContext, args: string[]): IfCondition {
  const words = args.slice(1);
  const bad = (word: string): never => cf.fail(`invalid condition "${word}"`);
  const first = words[0] as string;
  const end = words.at(-1) as string;
  if (!first.startsWith('(')) bad(first);
  if (first.length === 1) words.shift();
  else words[0] = first.slice(1);
  if (words.length === 0 || !end.endsWith(')')) bad(words.at(-1) ?? end);
  const final = words.length - 1;
  if ((words[final] as string).length === 1) words.pop();
  else words[final] = (words[final] as string).slice(0, -1);
  const [left, operator, right] = words;
  if (left === undefined) return bad(')');
  if (left.length > 1 && left.startsWith('$')) {
    if (words.length !== 1 && words.length !== 3) bad(left);
    const name = left.slice(1).toLowerCase();
    cf.builder.namedVariables.add(name);
    if (operator === undefined || right === undefined) return { test: 'true', name };
    switch (operator) {
      case '=':
      case '!=':
        return { test: 'equal', name, value: cf.builder.template(cf, right), negative: operator === '!=' };
      case '~':
      case '~*':
      case '!~':
      case '!~*': {
        const regex = cf.builder.pattern(cf, right, operator.endsWith('*'));
        return { test: 'match', name, regex, pattern: right, negative: operator.startsWith('!') };
      }
      default:
        return cf.fail(`unexpected "${operator}" in condition`);
    }
  }
  const file = /^(!?)-([fdex])$/.exec(left);
  if (file === null) {
    // A word of the right length is looked at for its operand first, as nginx does.
    if (/^!?-.$/.test(left) && words.length !== 2) bad(left);
    return bad(left);
  }
  if (words.length !== 2) bad(left);
  const kind = file[2] as 'f' | 'd' | 'e' | 'x';
  return { test: 'file', kind, path: cf.builder.template(cf, operator as string), negative: file[1] === '!' };
}

export const REWRITE_DIRECTIVES: Directive[] = [
  { name: 'return', contexts: REWRITE_ALL, args: Args.Take12, set: setReturn },
  { name: 'rewrite', contexts: REWRITE_ALL, args: Args.Take23, set: setRewrite },
  { name: 'set', contexts: REWRITE_ALL, args: Args.Take2, set: setSet },
  {
    name: 'break',
    contexts: REWRITE_ALL,
    args: Args.None,
    set(cf) {
      program(cf.level).push({ op: 'break' });
      return undefined;
    },
  },
  { name: 'if', contexts: Server | Location, args: Args.OneOrMore, block: true, set: setIf },
  { name: 'rewrite_log', contexts: HTTP_ALL | ServerIf | LocationIf, args: Args.Flag, set: loc('rewriteLog', flag) },
  {
    name: 'uninitialized_variable_warn',
    contexts: HTTP_ALL | ServerIf | LocationIf,
    args: Args.Flag,
    set: loc('uninitializedWarn', flag),
  },
];
