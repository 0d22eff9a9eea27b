/**
 * Command-line words as GNU getopt_long cuts them: joined (-p11211, -vvM) and apart, long names with = or a blank, long
 * names abbreviated as far as they stay unambiguous, `--`; and with its words where something is wrong.
 *
 * Not its job: what an option means (options.ts). node:util's parseArgs knows neither abbreviations nor these messages.
 */

export interface OptionName {
  /** The long name, without dashes. */
  long?: string;
  /** One letter. */
  short?: string;
  argument: 'none' | 'required' | 'optional';
}

export interface FoundOption {
  option: OptionName;
  /** Undefined only where the option takes none. */
  value: string | undefined;
}

/** Words that are no option are dropped, as memcached does. Throws Error with getopt's message, without the program's name. */
export function getopt(args: readonly string[], options: readonly OptionName[]): FoundOption[] {
  const found: FoundOption[] = [];
  for (let i = 0; i < args.length; i++) {
    const word = args[i]!;
    if (word === '--') break;
    if (word.startsWith('--')) {
      const equals = word.indexOf('=');
      const name = word.slice(2, equals < 0 ? undefined : equals);
      const option = longOption(name, word, options);
      let value = equals < 0 ? undefined : word.slice(equals + 1);
      if (option.argument === 'none' && value !== undefined) {
        throw new Error(`option '--${option.long}' doesn't allow an argument`);
      }
      if (option.argument === 'required' && value === undefined) {
        value = args[++i];
        if (value === undefined) throw new Error(`option '--${option.long}' requires an argument`);
      }
      found.push({ option, value });
    } else if (word.startsWith('-')) {
      for (let at = 1; at < word.length; at++) {
        const letter = word[at]!;
        const option = options.find((candidate) => candidate.short === letter);
        if (option === undefined) throw new Error(`invalid option -- '${letter}'`);
        if (option.argument === 'none') {
          found.push({ option, value: undefined });
          continue;
        }
        const value = at + 1 < word.length ? word.slice(at + 1) : args[++i];
        if (value === undefined) throw new Error(`option requires an argument -- '${letter}'`);
        found.push({ option, value });
        break;
      }
    }
  }
  return found;
}

function longOption(name: string, word: string, options: readonly OptionName[]): OptionName {
  const exact = options.find((option) => option.long === name);
  if (exact !== undefined) return exact;
  const candidates = options.filter((option) => option.long?.startsWith(name));
  if (candidates.length === 0) throw new Error(`unrecognized option '${word}'`);
  if (candidates.length > 1) {
    const names = candidates.map((option) => `'--${option.long}'`).join(' ');
    throw new Error(`option '${word}' is ambiguous; possibilities: ${names}`);
  }
  return candidates[0]!;
}
