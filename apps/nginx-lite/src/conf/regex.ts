/**
 * Perl-compatible patterns of a configuration, turned into JavaScript's.
 *
 * What it is for: `location ~`, `server_name ~`. Invariant: a pattern is either translated to one that matches the same
 * (over bytes held as latin1) or refused; none is taken with another meaning. Not its job: possessive quantifiers,
 * atomic groups, recursion, conditionals, \K, \G: JavaScript has none, so they are refused by name.
 */

export interface CompiledPattern {
  regex: RegExp;
  /** Named captures; each becomes a variable. */
  names: string[];
}

export class PatternError extends Error {
  readonly at: number;
  constructor(message: string, at: number) {
    super(message);
    this.name = 'PatternError';
    this.at = at;
  }
}

const POSIX_CLASSES: Record<string, string> = {
  alnum: 'A-Za-z0-9',
  alpha: 'A-Za-z',
  ascii: '\\x00-\\x7f',
  blank: ' \\t',
  cntrl: '\\x00-\\x1f\\x7f',
  digit: '0-9',
  graph: '\\x21-\\x7e',
  lower: 'a-z',
  print: '\\x20-\\x7e',
  punct: '!-\\/:-@\\[-`{-~',
  space: '\\s',
  upper: 'A-Z',
  word: '\\w',
  xdigit: '0-9A-Fa-f',
};

/** Escapes that mean the same in both. */
const SAME_ESCAPES = 'bBdDwWtnrf0123456789';

/** A quantifier, and how it goes on: lazy, or possessive. */
const QUANTIFIER = /^(?:[*+?]|\{(\d+)(?:,(\d*))?\})([?+]?)/;
const REPEAT_MAX = 65_535;
/** `[:alpha:]` by itself. */
const POSIX_OUTSIDE = /^\[([:.=])(?:(?!\1\]|\]|\[\1).)*\1\]/;

export function compilePattern(pattern: string, caseless: boolean): CompiledPattern {
  const names: string[] = [];
  let out = '';
  let open = 0;
  let groupFlags = 0;
  let groups = 0;
  /** Highest number that is referred to, and where. */
  let reference = { number: 0, at: 0 };
  /** What came last may be repeated. */
  let repeatable = false;
  for (let i = 0; i < pattern.length; i++) {
    const ch = pattern[i] as string;
    const quantifier = QUANTIFIER.exec(pattern.slice(i));
    if (quantifier !== null) {
      out += quantify(quantifier, i, repeatable);
      i += quantifier[0].length - 1;
      repeatable = false;
      continue;
    }
    repeatable = true;
    if (ch === '\\') {
      const [text, next] = escapeSequence(pattern, i, false);
      const number = Number(/^\\([1-9]\d*)/.exec(pattern.slice(i))?.[1] ?? 0);
      if (number > reference.number) reference = { number, at: i + 1 };
      repeatable = !/^\\[bBAzZ]/.test(pattern.slice(i));
      out += text;
      i = next - 1;
    } else if (ch === '[') {
      if (POSIX_OUTSIDE.test(pattern.slice(i)))
        throw new PatternError('POSIX named classes are supported only within a class', i);
      const [text, next] = characterClass(pattern, i);
      out += text;
      i = next - 1;
    } else if (ch === '(') {
      open++;
      repeatable = false;
      if (pattern[i + 1] === '*') throw new PatternError('verbs such as (*…) are not supported', i);
      if (pattern[i + 1] !== '?') {
        out += '(';
        groups++;
        continue;
      }
      const [text, next, kind] = group(pattern, i, names);
      out += text;
      i = next - 1;
      if (text.startsWith('(?<') && !/^\(\?<[=!]/.test(text)) groups++;
      if (kind === 'flags') {
        // `(?i)` holds to the end of its group, which JavaScript writes as one more group.
        open--;
        groupFlags++;
        if (open > 0) throw new PatternError('option settings inside a group are not supported', i);
      } else if (kind === 'comment') open--;
    } else if (ch === ')') {
      if (open === 0) throw new PatternError('unmatched closing parenthesis', i);
      open--;
      out += ')';
    } else if (ch === '{') out += '\\{';
    else if (ch === '$') {
      repeatable = false;
      out += '(?:$|(?=\\n$))';
    } else if (ch === '.') out += '[^\\n]';
    else {
      repeatable = ch !== '^' && ch !== '|';
      out += ch;
    }
  }
  if (open > 0) throw new PatternError('missing closing parenthesis', pattern.length);
  if (reference.number > groups) throw new PatternError('reference to non-existent subpattern', reference.at);
  out += ')'.repeat(groupFlags);
  try {
    return { regex: new RegExp(out, caseless ? 'i' : ''), names };
  } catch (error) {
    throw new PatternError((error as Error).message.replace(/^Invalid regular expression: /, ''), pattern.length);
  }
}

function quantify(found: RegExpExecArray, at: number, repeatable: boolean): string {
  const [text = '', least = '0', most, suffix = ''] = found;
  const end = at + text.length - suffix.length - 1;
  if (Number(least) > REPEAT_MAX || Number(most ?? 0) > REPEAT_MAX)
    throw new PatternError('number too big in {} quantifier', end);
  if (most !== undefined && most !== '' && Number(most) < Number(least))
    throw new PatternError('numbers out of order in {} quantifier', end);
  if (!repeatable) throw new PatternError('quantifier does not follow a repeatable item', end);
  if (suffix === '+') throw new PatternError('possessive quantifiers are not supported', at + text.length - 1);
  return text;
}

function escapeSequence(pattern: string, at: number, inClass: boolean): [string, number] {
  const ch = pattern[at + 1];
  if (ch === undefined) throw new PatternError('\\ at end of pattern', pattern.length);
  if (SAME_ESCAPES.includes(ch)) return [`\\${ch}`, at + 2];
  switch (ch) {
    case 's':
      return [inClass ? ' \\t\\n\\v\\f\\r' : '[ \\t\\n\\v\\f\\r]', at + 2];
    case 'S':
      if (inClass) throw new PatternError('\\S inside a class is not supported', at);
      return ['[^ \\t\\n\\v\\f\\r]', at + 2];
    case 'x': {
      const hex = /^\\x(?:\{([0-9a-fA-F]{1,2})\}|([0-9a-fA-F]{1,2}))/.exec(pattern.slice(at));
      if (hex === null) throw new PatternError('\\x needs hexadecimal digits', at);
      return [`\\x${(hex[1] ?? hex[2] ?? '').padStart(2, '0')}`, at + hex[0].length];
    }
    case 'A':
      if (!inClass) return ['^', at + 2];
      break;
    case 'z':
      if (!inClass) return ['$', at + 2];
      break;
    case 'Z':
      if (!inClass) return ['(?:$|(?=\\n$))', at + 2];
      break;
    case 'h':
      return [inClass ? ' \\t\\xa0' : '[ \\t\\xa0]', at + 2];
    case 'p':
    case 'P': {
      const property = /^\\[pP](?:\{(\^?)([A-Za-z&]+)\}|([A-Z]))/.exec(pattern.slice(at));
      if (property === null) throw new PatternError('malformed \\P or \\p sequence', at + 2);
      const members = charactersOf(property[2] ?? property[3] ?? '', (ch === 'P') !== (property[1] === '^'));
      if (members === null) throw new PatternError('unknown property name after \\P or \\p', at + property[0].length);
      return [inClass ? members : `[${members}]`, at + property[0].length];
    }
    case 'a':
      return ['\\x07', at + 2];
    case 'e':
      return ['\\x1b', at + 2];
    case 'Q': {
      const end = pattern.indexOf('\\E', at + 2);
      const literal = pattern.slice(at + 2, end < 0 ? pattern.length : end);
      return [literal.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'), end < 0 ? pattern.length : end + 2];
    }
    default:
      break;
  }
  if (/[A-Za-z]/.test(ch)) throw new PatternError(`escape \\${ch} is not supported`, at);
  return [`\\${ch}`, at + 2];
}

/** Bytes, taken for Latin-1, that have a property of Unicode, or have it not, as members of a class; null: there is no such property. */
function charactersOf(property: string, negative: boolean): string | null {
  const name = property === 'L&' ? 'LC' : property;
  let regex: RegExp;
  try {
    regex = new RegExp(`^\\p{${name}}`, 'u');
  } catch {
    return null;
  }
  let members = '';
  for (let code = 0; code <= 0xff; code++)
    if (regex.test(String.fromCharCode(code)) !== negative) members += `\\x${code.toString(16).padStart(2, '0')}`;
  return members;
}

function characterClass(pattern: string, at: number): [string, number] {
  let i = at + 1;
  let out = '[';
  if (pattern[i] === '^') {
    out += '^';
    i++;
  }
  // A `]` that comes first is a member.
  if (pattern[i] === ']') {
    out += '\\]';
    i++;
  }
  for (;;) {
    const ch = pattern[i];
    if (ch === undefined) throw new PatternError('missing terminating ] for character class', pattern.length);
    if (ch === ']') return [`${out}]`, i + 1];
    if (ch === '\\') {
      const [text, next] = escapeSequence(pattern, i, true);
      out += text;
      i = next;
    } else if (ch === '[' && pattern[i + 1] === ':') {
      const posix = /^\[:([a-z]+):\]/.exec(pattern.slice(i));
      const members = posix === null ? undefined : POSIX_CLASSES[posix[1] as string];
      if (posix === null || members === undefined) throw new PatternError('unknown POSIX class name', i);
      out += members;
      i += posix[0].length;
    } else {
      out += ch === '[' ? '\\[' : ch;
      i++;
    }
  }
}

function group(pattern: string, at: number, names: string[]): [string, number, 'group' | 'flags' | 'comment'] {
  const rest = pattern.slice(at);
  const named = /^\(\?(?:P?<([A-Za-z_]\w*)>|'([A-Za-z_]\w*)')/.exec(rest);
  if (named !== null) {
    const name = (named[1] ?? named[2]) as string;
    if (names.includes(name)) {
      const why = 'two named subpatterns have the same name (PCRE2_DUPNAMES not set)';
      throw new PatternError(why, at + named[0].length);
    }
    names.push(name);
    return [`(?<${name}>`, at + named[0].length, 'group'];
  }
  const plain = /^\(\?(?::|=|!|<=|<!)/.exec(rest);
  if (plain !== null) return [plain[0], at + plain[0].length, 'group'];
  const comment = /^\(\?#[^)]*\)/.exec(rest);
  if (comment !== null) return ['', at + comment[0].length, 'comment'];
  const flags = /^\(\?(-?[is]+)([:)])/.exec(rest);
  if (flags !== null && !(flags[1] as string).includes('s')) {
    const text = `(?${flags[1]}:`;
    return [text, at + flags[0].length, flags[2] === ':' ? 'group' : 'flags'];
  }
  throw new PatternError(`group ${rest.slice(0, 3)}… is not supported`, at);
}
