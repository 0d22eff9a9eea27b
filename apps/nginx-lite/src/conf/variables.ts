/**
 * Variables in configuration words: `$name`, `${name}`, `$1`.
 *
 * What it is for: cuts a word into constants and names, and keeps the set of names so that unknown ones are refused
 * when the configuration is complete, as nginx does. Not its job: values (http/variables.ts).
 */

import type { Template, TemplatePart } from './model.ts';

export type TemplateFailure = { error: string };

/** Cuts `text`; returns a plain string when there is no variable in it. */
export function parseTemplate(text: string): Template | TemplateFailure {
  if (!text.includes('$')) return text;
  const parts: TemplatePart[] = [];
  let constant = '';
  for (let i = 0; i < text.length; ) {
    const ch = text[i] as string;
    if (ch !== '$') {
      constant += ch;
      i++;
      continue;
    }
    const match = /^\$(?:([1-9])|\{([A-Za-z0-9_]*)(\})?|([A-Za-z0-9_]+))/.exec(text.slice(i));
    if (match === null) return { error: 'invalid variable name' };
    if (match[2] !== undefined && match[3] === undefined) {
      return { error: `the closing bracket in "${match[2]}" variable is missing` };
    }
    const name = match[1] ?? match[2] ?? match[4] ?? '';
    if (name === '') return { error: 'invalid variable name' };
    if (constant !== '') parts.push(constant);
    constant = '';
    parts.push({ name: name.toLowerCase() });
    i += match[0].length;
  }
  if (constant !== '') parts.push(constant);
  return parts;
}

/** Names of every variable in a template. */
export function namesOf(template: Template): string[] {
  if (typeof template === 'string') return [];
  return template.filter((part) => typeof part !== 'string').map((part) => part.name);
}
