/**
 * Programs of the rewrite module, ready to run: RewriteOps with their words compiled.
 *
 * What it is for: made once per location when a worker starts. Not its job: running (handler.ts).
 */

import type { IfCondition, RewriteOp, Template } from '../../conf/model.ts';
import type { Request } from '../../http/request.ts';
import { compileTemplate, type Evaluator } from '../../http/template.ts';
import { escapeArgument } from '../../http/uri.ts';
import { getterOf } from '../../http/variables.ts';

export type Condition = (r: Request) => boolean;

export type RuntimeOp =
  | { op: 'return'; status: number; text: Evaluator | null }
  | {
      op: 'rewrite';
      regex: RegExp;
      pattern: string;
      path: Evaluator;
      query: Evaluator | null;
      hasQuery: boolean;
      addArgs: boolean;
      status: number;
      last: boolean;
      breaks: boolean;
    }
  | { op: 'set'; name: string; value: Evaluator }
  | { op: 'break' }
  | { op: 'if'; condition: RuntimeCondition; location: number; body: RuntimeOp[] };

export type RuntimeCondition =
  | { test: 'true'; value: Evaluator }
  | { test: 'equal'; value: Evaluator; other: Evaluator; negative: boolean }
  | { test: 'match'; value: Evaluator; regex: RegExp; pattern: string; negative: boolean }
  | { test: 'file'; kind: 'f' | 'd' | 'e' | 'x'; path: Evaluator; negative: boolean };

export function compileProgram(ops: readonly RewriteOp[]): RuntimeOp[] {
  return ops.map((op): RuntimeOp => {
    switch (op.op) {
      case 'return':
        return { op: 'return', status: op.status, text: op.text === null ? null : compileTemplate(op.text) };
      case 'rewrite':
        return {
          ...op,
          path: compileReplacement(op.path, op.status !== 0),
          query: op.query === null ? null : compileReplacement(op.query, true),
        };
      case 'set':
        return { op: 'set', name: op.name, value: compileTemplate(op.value) };
      case 'break':
        return op;
      default:
        return {
          op: 'if',
          condition: compileCondition(op.condition),
          location: op.location,
          body: compileProgram(op.body),
        };
    }
  });
}

function compileCondition(condition: IfCondition): RuntimeCondition {
  if (condition.test === 'file') return { ...condition, path: compileTemplate(condition.path) };
  const get = getterOf(condition.name);
  const value: Evaluator = (r) => get(r) ?? '';
  switch (condition.test) {
    case 'true':
      return { test: 'true', value };
    case 'equal':
      return { test: 'equal', value, other: compileTemplate(condition.value), negative: condition.negative };
    default:
      return { test: 'match', value, regex: condition.regex, pattern: condition.pattern, negative: condition.negative };
  }
}

/** Text of a replacement: captures that go into arguments or a redirect are escaped where the client had escaped them. */
function compileReplacement(template: Template, escaped: boolean): Evaluator {
  if (typeof template === 'string' || !escaped) return compileTemplate(template);
  const parts = template.map((part) => {
    if (typeof part === 'string') return part;
    return { get: getterOf(part.name), capture: /^[1-9]$/.test(part.name) };
  });
  return (r) => {
    let text = '';
    for (const part of parts) {
      if (typeof part === 'string') text += part;
      else {
        const value = part.get(r) ?? '';
        text += part.capture && r.hasEscapes() ? escapeArgument(value) : value;
      }
    }
    return text;
  };
}
