/**
 * Finds SSI commands in a body that comes in pieces.
 *
 * What it is for: `<!--#name parameter="value" … -->`, read by a machine that may stop behind any byte. Invariants: the outcome does
 * not depend on where the body was cut; memory is bounded by the limits on names and values, however long a tag is. Not its job: what
 * a command does (commands.ts).
 */

export interface Parameter {
  name: string;
  value: string;
}

/** What stopped the scanner. */
export const Found = {
  /** Nothing: the piece has ended. */
  End: 0,
  /** A command: `command` and `parameters`. */
  Command: 1,
  /** The end of a tag that is broken; `problems` says how. */
  Broken: 2,
} as const;

const NAME_MAX = 32;
/** Parameters that a command may have; of a tag with more, one more is kept. */
export const PARAMETERS_MAX = 16;

const LT = 0x3c;
const GT = 0x3e;
const BANG = 0x21;
const DASH = 0x2d;
const HASH = 0x23;
const EQUALS = 0x3d;
const QUOTE = 0x22;
const APOSTROPHE = 0x27;
const BACKSLASH = 0x5c;

const S = {
  Text: 0,
  /* So many bytes of `<!--` were seen. */
  Open1: 1,
  Open2: 2,
  Open3: 3,
  Open4: 4,
  BeforeCommand: 5,
  Command: 6,
  BeforeName: 7,
  Name: 8,
  BeforeEquals: 9,
  BeforeValue: 10,
  Value: 11,
  /* The byte behind a backslash. */
  Escaped: 12,
  BehindValue: 13,
  /* `-`, `--` at the end of a tag. */
  Close1: 14,
  Close2: 15,
  /* The rest of a broken tag, and the same two in it. */
  Bad: 16,
  BadClose1: 17,
  BadClose2: 18,
} as const;

const OPENING = new Uint8Array([LT, BANG, DASH, DASH]);

export class TagScanner {
  command = '';
  parameters: Parameter[] = [];
  /** Lines for the error log; the reader empties it. */
  readonly problems: string[] = [];
  private readonly valueMax: number;
  private readonly onText: (bytes: Uint8Array) => void;
  private state: number = S.Text;
  private quote = 0;
  private name = '';
  private value = '';

  /** `valueMax`: bytes of a parameter's value. `onText` gets what is no tag, as views of the pieces. */
  constructor(valueMax: number, onText: (bytes: Uint8Array) => void) {
    this.valueMax = valueMax;
    this.onText = onText;
  }

  /** Where the scan stopped: behind a tag, or at `end`. */
  at = 0;

  /** Goes over `piece[at, end)`. */
  scan(piece: Uint8Array, at: number, end: number): number {
    let p = at;
    while (p < end) {
      if (this.state <= S.Open4) p = this.text(piece, p, end);
      else {
        const found = this.tag(piece[p++] as number);
        if (found !== Found.End) {
          this.at = p;
          return found;
        }
      }
    }
    this.at = end;
    return Found.End;
  }

  /** Text up to the `#` of a tag, or to the end; where it stopped. */
  private text(piece: Uint8Array, at: number, end: number): number {
    let { state } = this;
    /* Text of this piece that was not told yet begins here; -1: what was seen of `<!--` stands in an earlier piece. */
    let begin = state === S.Text ? at : -1;
    let open = at;
    let p = at;
    while (p < end) {
      if (state === S.Text) {
        const found = piece.indexOf(LT, p);
        if (found < 0 || found >= end) {
          p = end;
          break;
        }
        open = found;
        p = found + 1;
        state = S.Open1;
        continue;
      }
      const ch = piece[p] as number;
      if (state === S.Open4 && ch === HASH) {
        if (begin >= 0 && open > begin) this.onText(piece.subarray(begin, open));
        this.state = S.BeforeCommand;
        return p + 1;
      }
      if (state < S.Open4 && ch === OPENING[state]) {
        state++;
        p++;
        continue;
      }
      // No tag after all.
      if (begin < 0) {
        this.onText(OPENING.subarray(0, state));
        begin = p;
      }
      state = S.Text;
    }
    this.state = state;
    const until = state === S.Text ? end : open;
    if (begin >= 0 && until > begin) this.onText(piece.subarray(begin, until));
    return end;
  }

  /** One byte of a tag. */
  private tag(ch: number): number {
    switch (this.state) {
      case S.BeforeCommand:
        if (isSpace(ch)) break;
        this.command = String.fromCharCode(ch);
        this.parameters = [];
        this.state = S.Command;
        break;
      case S.Command:
        if (isSpace(ch)) this.state = S.BeforeName;
        else if (ch === DASH) this.state = S.Close1;
        else if (this.command.length === NAME_MAX)
          this.bad(`the "${this.command}${String.fromCharCode(ch)}..." SSI command is too long`);
        else this.command += String.fromCharCode(ch);
        break;
      case S.BeforeName:
        if (isSpace(ch)) break;
        if (ch === DASH) {
          this.state = S.Close1;
          break;
        }
        this.name = String.fromCharCode(ch);
        this.value = '';
        this.state = S.Name;
        break;
      case S.Name:
        if (isSpace(ch)) this.state = S.BeforeEquals;
        else if (ch === EQUALS) this.state = S.BeforeValue;
        else if (ch === DASH) this.unexpected(ch, `after "${this.name}" parameter in "${this.command}" SSI command`);
        else if (this.name.length === NAME_MAX)
          this.bad(`too long "${this.name}${String.fromCharCode(ch)}..." parameter in "${this.command}" SSI command`);
        else this.name += String.fromCharCode(ch);
        break;
      case S.BeforeEquals:
        if (isSpace(ch)) break;
        if (ch === EQUALS) this.state = S.BeforeValue;
        else this.unexpected(ch, `after "${this.name}" parameter in "${this.command}" SSI command`);
        break;
      case S.BeforeValue:
        if (isSpace(ch)) break;
        if (ch === QUOTE || ch === APOSTROPHE) {
          this.quote = ch;
          this.state = S.Value;
        } else this.unexpected(ch, `before value of "${this.name}" parameter in "${this.command}" SSI command`);
        break;
      case S.Value:
        if (ch === this.quote) {
          this.state = S.BehindValue;
          break;
        }
        if (ch === BACKSLASH) this.state = S.Escaped;
        this.addToValue(ch);
        break;
      case S.Escaped:
        this.state = S.Value;
        this.addToValue(ch);
        break;
      case S.BehindValue:
        if (this.parameters.length <= PARAMETERS_MAX) this.parameters.push({ name: this.name, value: this.value });
        if (isSpace(ch)) this.state = S.BeforeName;
        else if (ch === DASH) this.state = S.Close1;
        else
          this.bad(
            `unexpected "${String.fromCharCode(ch)}" symbol after "${this.value}" value of "${this.name}" parameter in "${this.command}" SSI command`,
          );
        break;
      case S.Close1:
        if (ch === DASH) this.state = S.Close2;
        else this.bad(`unexpected "${String.fromCharCode(ch)}" symbol in "${this.command}" SSI command`);
        break;
      case S.Close2:
        if (ch === GT) {
          this.state = S.Text;
          return Found.Command;
        }
        this.bad(`unexpected "${String.fromCharCode(ch)}" symbol in "${this.command}" SSI command`);
        break;
      case S.Bad:
        if (ch === DASH) this.state = S.BadClose1;
        break;
      case S.BadClose1:
        this.state = ch === DASH ? S.BadClose2 : S.Bad;
        break;
      default:
        if (ch === GT) {
          this.state = S.Text;
          return Found.Broken;
        }
        this.state = S.Bad;
    }
    return Found.End;
  }

  private addToValue(ch: number): void {
    if (this.value.length < this.valueMax) this.value += String.fromCharCode(ch);
    else
      this.bad(
        `too long "${this.value}${String.fromCharCode(ch)}..." value of "${this.name}" parameter in "${this.command}" SSI command`,
      );
  }

  private unexpected(ch: number, where: string): void {
    this.bad(`unexpected "${String.fromCharCode(ch)}" symbol ${where}`);
    if (ch === DASH) this.state = S.BadClose1;
  }

  private bad(problem: string): void {
    this.problems.push(problem);
    this.state = S.Bad;
  }
}

function isSpace(ch: number): boolean {
  return ch === 0x20 || ch === 0x0d || ch === 0x0a || ch === 0x09;
}
