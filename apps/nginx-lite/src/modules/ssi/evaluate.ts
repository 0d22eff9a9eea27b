/**
 * Words of SSI commands: variables in them, expressions of `if`, URIs of `include`.
 *
 * What it is for: values at the time of the command, as nginx's module finds them. Invariant: a variable of the document hides one of
 * the configuration. Not its job: what commands do with them (commands.ts).
 */

import { compilePattern, PatternError } from '../../conf/regex.ts';
import type { Request } from '../../http/request.ts';
import { plainGetter } from '../../http/variables.ts';
import type { SsiRoot } from './context.ts';

/** Longest value: a variable that is made of itself doubles with each `set`. */
const VALUE_MAX = 1024 * 1024;

/** A problem of a command, for the error log; '': it is there already. */
export class SsiProblem extends Error {}

/** Value of a variable; null: there is none of that name, or it has no value. */
export function lookUp(r: Request, root: SsiRoot, written: string): string | null {
  const name = written.toLowerCase();
  if (/^\d$/.test(name)) {
    const capture = root.captures[Number(name)];
    if (capture !== undefined) return capture;
    return root.variables.get(name) ?? null;
  }
  const own = root.variables.get(name);
  if (own !== undefined) return own;
  const value = plainGetter(name)(r);
  // No arguments are no value, which makes a difference here.
  return value === '' && (name === 'args' || name === 'query_string') ? null : value;
}

/** Gives a variable of the document a value; one that a capture hides stays as it is. */
export function assign(root: SsiRoot, written: string, value: string): void {
  const name = written.toLowerCase();
  if (/^\d$/.test(name) && root.captures[Number(name)] !== undefined) return;
  root.variables.set(name, value);
}

/** Escapes that a backslash takes away; before anything else it stays. */
function unquoted(text: string): string {
  return text.replaceAll(/\\([\s\S])?/g, (_all, ch: string | undefined) => {
    if (ch === undefined) return '';
    return ch === '\\' || ch === "'" || ch === '"' || ch === '$' ? ch : `\\${ch}`;
  });
}

/** The parts of a text: pieces with their escapes, and variables. */
const PART = /\$(\{?)([A-Za-z0-9_]*)(\}?)|(?:\\[\s\S]?|[^$\\])+/g;

/** A text with its variables in place. Throws SsiProblem. */
export function evaluate(r: Request, root: SsiRoot, text: string): string {
  if (!text.includes('$')) return unquoted(text);
  let value = '';
  PART.lastIndex = 0;
  for (let match = PART.exec(text); match !== null; match = PART.exec(text)) {
    const [all, open, name = '', close] = match;
    if (open === undefined) value += unquoted(all);
    else {
      if (open === '{' && close === '') {
        // What is behind a bracket at the very end is no name at all.
        if (name === '' && PART.lastIndex === text.length) throw new SsiProblem(`invalid variable name in "${text}"`);
        throw new SsiProblem(`the closing bracket in "${name}" variable is missing`);
      }
      // The bracket is text where none was opened.
      if (open === '' && close === '}') PART.lastIndex--;
      if (name === '') throw new SsiProblem(`invalid variable name in "${text}"`);
      value += lookUp(r, root, name) ?? '';
    }
    if (value.length > VALUE_MAX) throw new SsiProblem('value of an SSI command is too long');
  }
  return value;
}

/** The same, of a URI: what does not begin with a slash is relative to the document. */
export function evaluateUri(r: Request, root: SsiRoot, text: string): string {
  const value = evaluate(r, root, text);
  return value.startsWith('/') ? value : r.uri.slice(0, r.uri.lastIndexOf('/') + 1) + value;
}

/** Whether an expression holds. Throws SsiProblem. */
export function holds(r: Request, root: SsiRoot, expression: string): boolean {
  const match = /^([A-Za-z0-9${}_"']*) *([\s\S]*)$/.exec(expression) as RegExpExecArray;
  const left = evaluate(r, root, (match[1] as string).toLowerCase());
  const rest = match[2] as string;
  if (rest === '') return left !== '';
  const operator = /^(?:=|!=)/.exec(rest)?.[0];
  if (operator === undefined) throw new SsiProblem(`invalid expression in "${expression}"`);
  let right = rest.slice(operator.length).replace(/^ +/, '');
  let same: boolean;
  if (right.length > 1 && right.startsWith('/')) {
    if (!right.endsWith('/')) throw new SsiProblem(`invalid expression in "${expression}"`);
    same = matches(root, evaluate(r, root, right.slice(1, -1)), left);
  } else {
    if (right.length > 2 && right.startsWith('\\/')) right = right.slice(1);
    same = evaluate(r, root, right) === left;
  }
  return same === (operator === '=');
}

function matches(root: SsiRoot, pattern: string, text: string): boolean {
  let compiled: ReturnType<typeof compilePattern>;
  try {
    compiled = compilePattern(pattern, false);
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    throw new SsiProblem(`pcre2_compile() failed: ${error.message} in "${pattern}"`);
  }
  const found = compiled.regex.exec(text);
  if (found === null) return false;
  // Groups behind the last one that took part are not there.
  const last = found.findLastIndex((each) => each !== undefined);
  root.captures = found.slice(0, last + 1).map((each) => each ?? '');
  for (const [name, value] of Object.entries(found.groups ?? {})) assign(root, name, value ?? '');
  return true;
}

/** A URI that was written by hand: path and arguments; null where it would leave the root. */
export function parseUnsafeUri(uri: string): { path: string; args: string } | null {
  if (uri === '' || uri.startsWith('?')) return null;
  const question = uri.indexOf('?');
  const raw = question < 0 ? uri : uri.slice(0, question);
  if (isUnsafe(raw)) return null;
  const path = raw.includes('%') ? unescaped(raw) : raw;
  if (path !== raw && isUnsafe(path)) return null;
  return { path, args: question < 0 ? '' : uri.slice(question + 1) };
}

function isUnsafe(path: string): boolean {
  return path.includes('\0') || /(?:^|\/)\.\.(?:\/|$)/.test(path);
}

/** `%XX`; of what begins like it and is not, nginx keeps the byte behind the sign, or nothing. */
function unescaped(text: string): string {
  return text.replaceAll(
    /%([0-9A-Fa-f]{2})|%[0-9A-Fa-f][\s\S]?|%([\s\S]?)/g,
    (_all, hex: string | undefined, kept: string | undefined) =>
      hex === undefined ? (kept ?? '') : String.fromCharCode(Number.parseInt(hex, 16)),
  );
}
