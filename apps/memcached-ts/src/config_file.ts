/**
 * A configuration file in the style of Debian's /etc/memcached.conf: one option a line, as on the command line; `#` begins
 * a comment. Debian starts memcached through a script that reads it; here `--config FILE` does what that script does.
 *
 * What that is: -d and -h in the file are dropped (who starts the server decides about that), `logfile PATH` names
 * where a daemon's output goes, and the rest are words of a shell command line (quotes, backslashes). Where -u is missing,
 * root stays root. Not its job: what the options mean (options.ts).
 */

export interface ConfigFile {
  args: string[];
  logFile: string | undefined;
}

/** Throws Error with the line's number for what is neither an option nor `logfile`. */
export function parseConfigFile(text: string): ConfigFile {
  const args: string[] = [];
  let logFile: string | undefined;
  for (const [i, raw] of text.split('\n').entries()) {
    const line = raw.replace(/(?<!\\)#.*$/, '').trim();
    if (line === '' || /^-[dh]/.test(line)) continue;
    if (line.startsWith('-')) {
      args.push(...shellWords(line, i + 1));
      continue;
    }
    const [directive, path] = shellWords(line, i + 1);
    if (directive !== 'logfile' || path === undefined) {
      throw new Error(`line ${i + 1}: neither an option nor "logfile PATH": ${line}`);
    }
    logFile = path;
  }
  return { args, logFile };
}

/** Words as a POSIX shell cuts them, without expansions. */
function shellWords(line: string, number: number): string[] {
  const words: string[] = [];
  let word = '';
  let inWord = false;
  let quote = '';
  for (let i = 0; i < line.length; i++) {
    const c = line[i]!;
    if (quote === "'") {
      if (c === "'") quote = '';
      else word += c;
    } else if (c === '\\' && i + 1 < line.length && (quote === '' || '"\\$`'.includes(line[i + 1]!))) {
      word += line[++i]!;
      inWord = true;
    } else if (quote === '"') {
      if (c === '"') quote = '';
      else word += c;
    } else if (c === "'" || c === '"') {
      quote = c;
      inWord = true;
    } else if (c === ' ' || c === '\t') {
      if (inWord) words.push(word);
      word = '';
      inWord = false;
    } else {
      word += c;
      inWord = true;
    }
  }
  if (quote !== '') throw new Error(`line ${number}: the quote ${quote} is not closed`);
  if (inWord) words.push(word);
  return words;
}
