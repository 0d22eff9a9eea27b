/**
 * Words with variables, as functions of the request.
 *
 * What it is for: compiled once when a worker starts. Invariant: a constant costs nothing but its own string; a
 * variable that is not found counts as empty. Not its job: values (variables.ts).
 */

import type { Template } from '../conf/model.ts';
import type { Request } from './request.ts';
import { type Getter, getterOf } from './variables.ts';

export type Evaluator = (r: Request) => string;

export function compileTemplate(template: Template): Evaluator {
  if (typeof template === 'string') return () => template;
  const parts: (string | Getter)[] = template.map((part) => (typeof part === 'string' ? part : getterOf(part.name)));
  return (r) => {
    let text = '';
    for (const part of parts) text += typeof part === 'string' ? part : (part(r) ?? '');
    return text;
  };
}
