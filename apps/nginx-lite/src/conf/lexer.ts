/**
 * nginx's configuration tokens: words, quotes, escapes, comments, `;` `{` `}`.
 *
 * What it is for: cuts the bytes of one file (as a latin1 string) into directives, each a list of words and the way it
 * ended. Invariant: `line` is where reading stands, which is what nginx prints in its errors; a word never contains an
 * unescaped separator unless it was quoted or stood in `${…}`. Not its job: what a directive means.
 */

export const Token = {
  /** `word … ;` */
  Directive: 0,
  /** `word … {` */
  BlockStart: 1,
  /** `}` */
  BlockDone: 2,
  /** The end of the text, between directives. */
  End: 3,
} as const;
export type TokenKind = (typeof Token)[keyof typeof Token];

/** A word must fit nginx's buffer. */
const WORD_MAX = 4096;

/** What the lexer found wrong; the parser adds file and line. */
export class LexError extends Error {
  readonly line: number;
  constructor(message: string, line: number) {
    super(message);
    this.name = 'LexError';
    this.line = line;
  }
}

export interface LexerOptions {
  /** The text of `-g`: its end is "unexpected end of parameter". */
  parameter?: boolean;
}

export class Lexer {
  /** Words of the directive that `next` read last. */
  args: string[] = [];
  line = 1;
  private readonly text: string;
  private position = 0;
  private readonly parameter: boolean;

  constructor(text: string, options: LexerOptions = {}) {
    this.text = text;
    this.parameter = options.parameter === true;
  }

  next(): TokenKind {
    const text = this.text;
    const length = text.length;
    const args: string[] = [];
    this.args = args;
    // A quoted word must be followed by a separator.
    let needSpace = false;
    for (;;) {
      if (this.position >= length) return this.end(args.length > 0 || needSpace);
      const ch = text[this.position++] as string;
      if (ch === '\n') this.line++;
      if (needSpace) {
        if (isSpace(ch)) {
          needSpace = false;
          continue;
        }
        if (ch === ';') return Token.Directive;
        if (ch === '{') return Token.BlockStart;
        // `if ("$a" = "b")` and the like close a bracket right after the quote.
        if (ch !== ')') throw new LexError(`unexpected "${ch}"`, this.line);
        needSpace = false;
        const ended = this.word(this.position - 1, args);
        if (ended !== null) return ended;
        continue;
      }
      if (isSpace(ch)) continue;
      if (ch === ';' || ch === '{') {
        if (args.length === 0) throw new LexError(`unexpected "${ch}"`, this.line);
        return ch === '{' ? Token.BlockStart : Token.Directive;
      }
      if (ch === '}') {
        if (args.length !== 0) throw new LexError('unexpected "}"', this.line);
        return Token.BlockDone;
      }
      if (ch === '#') {
        const newline = text.indexOf('\n', this.position);
        this.position = newline < 0 ? length : newline;
        continue;
      }
      if (ch === '"' || ch === "'") {
        this.quoted(ch, args);
        needSpace = true;
        continue;
      }
      const ended = this.word(this.position - 1, args);
      if (ended !== null) return ended;
    }
  }

  private end(inDirective: boolean): TokenKind {
    if (!inDirective) return Token.End;
    throw new LexError(
      this.parameter ? 'unexpected end of parameter, expecting ";"' : 'unexpected end of file, expecting ";" or "}"',
      this.line,
    );
  }

  private quoted(quote: string, args: string[]): void {
    const text = this.text;
    const start = this.position;
    const startLine = this.line;
    for (;;) {
      if (this.position >= text.length) this.end(true);
      if (this.position - start >= WORD_MAX) {
        throw new LexError(`too long parameter, probably missing terminating "${quote}" character`, startLine);
      }
      const ch = text[this.position++] as string;
      if (ch === '\n') this.line++;
      if (ch === quote) {
        args.push(unescapeWord(text.slice(start, this.position - 1)));
        return;
      }
      if (ch === '\\') this.escaped();
    }
  }

  /** Reads a bare word from `start`; returns how the directive ended, or null when a blank ended the word. */
  private word(start: number, args: string[]): TokenKind | null {
    const text = this.text;
    const startLine = this.line;
    let variable = false;
    this.position = start;
    for (;;) {
      if (this.position >= text.length) this.end(true);
      if (this.position - start >= WORD_MAX) {
        throw new LexError(`too long parameter "${text.slice(start, start + 10)}..." started`, startLine);
      }
      const ch = text[this.position++] as string;
      if (ch === '\n') this.line++;
      if (ch === '{' && variable) {
        // `${name}`: the brace belongs to the word.
        variable = false;
        continue;
      }
      variable = ch === '$';
      if (variable) continue;
      if (ch === '\\') {
        this.escaped();
        continue;
      }
      if (isSpace(ch) || ch === ';' || ch === '{') {
        args.push(unescapeWord(text.slice(start, this.position - 1)));
        if (ch === ';') return Token.Directive;
        return ch === '{' ? Token.BlockStart : null;
      }
    }
  }

  private escaped(): void {
    if (this.position >= this.text.length) return;
    if (this.text[this.position] === '\n') this.line++;
    this.position++;
  }
}

function isSpace(ch: string): boolean {
  return ch === ' ' || ch === '\t' || ch === '\r' || ch === '\n';
}

/** Escapes that nginx knows inside words; any other backslash stays, so that regular expressions read naturally. */
function unescapeWord(word: string): string {
  if (!word.includes('\\')) return word;
  let result = '';
  for (let i = 0; i < word.length; i++) {
    const ch = word[i] as string;
    const following = word[i + 1];
    if (ch !== '\\' || following === undefined) {
      result += ch;
      continue;
    }
    i++;
    if (following === '"' || following === "'" || following === '\\') result += following;
    else if (following === 't') result += '\t';
    else if (following === 'r') result += '\r';
    else if (following === 'n') result += '\n';
    else result += `\\${following}`;
  }
  return result;
}
