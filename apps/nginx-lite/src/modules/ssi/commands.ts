/**
 * The commands of SSI.
 *
 * What it is for: include, echo, config, set, if and its branches, block: what each takes, and what it does with the document. Invariant: a
 * command that is wrong throws SsiProblem and changes nothing. Not its job: finding commands (scanner.ts), the order of what goes
 * out (stream.ts).
 */

import { latin1Bytes } from '../../http/bytes.ts';
import { escapeQuoted } from '../../http/uri.ts';
import { Conditional, DEPTH_MAX, type Encoding, OPEN_MAX } from './context.ts';
import { assign, evaluate, evaluateUri, holds, lookUp, parseUnsafeUri, SsiProblem } from './evaluate.ts';
import { PARAMETERS_MAX, type Parameter } from './scanner.ts';
import { IncludedPart, type SsiStream } from './stream.ts';

type Values = Partial<Record<string, string>>;

interface Command {
  /** Names of parameters; true: it must be there. */
  parameters: Record<string, boolean>;
  /** Up to where in an `if` it may stand: If, Else; None: anywhere. */
  within: number;
  /** It is carried out inside a block. */
  endsBlock?: true;
  run(document: SsiStream, values: Values): void;
}

const COMMANDS: ReadonlyMap<string, Command> = new Map(
  Object.entries<Command>({
    include: {
      parameters: { virtual: false, file: false, wait: false, set: false, stub: false },
      within: Conditional.None,
      run: include,
    },
    echo: { parameters: { var: true, default: false, encoding: false }, within: Conditional.None, run: echo },
    config: {
      parameters: { errmsg: false, timefmt: false },
      within: Conditional.None,
      run({ context }, { errmsg, timefmt }) {
        context.timefmt = timefmt ?? context.timefmt;
        context.errmsg = errmsg ?? context.errmsg;
      },
    },
    set: {
      parameters: { var: true, value: true },
      within: Conditional.None,
      run({ request, context }, { var: name = '', value = '' }) {
        assign(context.root, name, evaluate(request, context.root, value));
      },
    },
    if: {
      parameters: { expr: true },
      within: Conditional.None,
      run(document, { expr = '' }) {
        if (document.context.conditional !== Conditional.None)
          throw new SsiProblem('the "if" command inside the "if" command');
        decide(document, expr);
      },
    },
    elif: {
      parameters: { expr: true },
      within: Conditional.If,
      run: (document, { expr = '' }) => decide(document, expr),
    },
    else: {
      parameters: {},
      within: Conditional.If,
      run({ context }) {
        context.output = !context.chosen;
        context.conditional = Conditional.Else;
      },
    },
    endif: {
      parameters: {},
      within: Conditional.Else,
      run({ context }) {
        context.output = true;
        context.chosen = false;
        context.conditional = Conditional.None;
      },
    },
    block: {
      parameters: { name: true },
      within: Conditional.None,
      run({ context }, { name = '' }) {
        context.root.blocks.push({ name, text: [] });
        context.output = false;
        context.block = true;
      },
    },
    endblock: {
      parameters: {},
      within: Conditional.None,
      endsBlock: true,
      run({ context }) {
        context.output = true;
        context.block = false;
      },
    },
  }),
);

/** Carries a command out. Throws SsiProblem. */
export function runCommand(document: SsiStream, name: string, parameters: readonly Parameter[]): void {
  const { context } = document;
  const command = COMMANDS.get(name);
  if (command === undefined) {
    if (context.output) throw new SsiProblem(`invalid SSI command: "${name}"`);
    return;
  }
  if (!context.output && command.endsBlock === undefined) {
    if (context.block) {
      // It is a part of the block's text, and carried out when the block is shown.
      const words = parameters.map((each) => ` ${each.name}="${each.value}"`);
      if (!context.root.addToBlock(latin1Bytes(`<!--#${name}${words.join('')} -->`)))
        throw new SsiProblem('blocks of SSI are too large');
      return;
    }
    if (command.within === Conditional.None) return;
  }
  if (
    command.within !== Conditional.None &&
    (context.conditional === Conditional.None || context.conditional > command.within)
  )
    throw new SsiProblem(`invalid context of SSI command: "${name}"`);
  command.run(document, valuesOf(name, command, parameters));
}

function valuesOf(name: string, command: Command, parameters: readonly Parameter[]): Values {
  if (parameters.length > PARAMETERS_MAX) throw new SsiProblem(`too many SSI command parameters: "${name}"`);
  const values: Values = {};
  for (const each of parameters) {
    if (!Object.hasOwn(command.parameters, each.name))
      throw new SsiProblem(`invalid parameter name: "${each.name}" in "${name}" SSI command`);
    if (values[each.name] !== undefined)
      throw new SsiProblem(`duplicate "${each.name}" parameter in "${name}" SSI command`);
    values[each.name] = each.value;
  }
  for (const [each, mandatory] of Object.entries(command.parameters))
    if (mandatory && values[each] === undefined)
      throw new SsiProblem(`mandatory "${each}" parameter is absent in "${name}" SSI command`);
  return values;
}

/** `if` and `elif`: whether the branch that begins here is shown. */
function decide({ request, context }: SsiStream, expression: string): void {
  if (context.chosen) {
    context.output = false;
    return;
  }
  context.output = holds(request, context.root, expression);
  context.chosen = context.output;
  context.conditional = Conditional.If;
}

function include(document: SsiStream, { virtual, file, wait, set, stub }: Values): void {
  const { request, context } = document;
  const { root } = context;
  if (virtual !== undefined && file !== undefined)
    throw new SsiProblem(`inclusion may be either virtual="${virtual}" or file="${file}"`);
  const written = virtual ?? file;
  if (written === undefined) throw new SsiProblem('no parameter in "include" SSI command');
  if (set !== undefined && stub !== undefined)
    throw new SsiProblem('"set" and "stub" cannot be used together in "include" SSI command');
  // A file is waited for, and so is what becomes a value.
  const waits = saysWait(wait, file) || file !== undefined || set !== undefined;
  const target = evaluateUri(request, root, written);
  const uri = parseUnsafeUri(target);
  if (uri === null) throw new SsiProblem(`unsafe URI "${target}" was detected`);
  const block = stub === undefined ? null : (root.blocks.find((each) => each.name === stub) ?? null);
  if (stub !== undefined && block === null) throw new SsiProblem(`"stub"="${stub}" for "include" not found`);
  // Until the answer is there, the variable is what it was, or empty.
  if (set !== undefined) assign(root, set, root.variables.get(set.toLowerCase()) ?? '');
  if (document.inMemory) throw new SsiProblem(`nested in-memory subrequest "${uri.path}"`);
  let depth = 0;
  for (let r = request.parent; r !== null; r = r.parent) depth++;
  if (depth > DEPTH_MAX) throw new SsiProblem(`subrequests cycle while processing "${uri.path}"`);
  if (root.open >= OPEN_MAX) throw new SsiProblem(`request reference counter overflow while processing "${uri.path}"`);
  const part = new IncludedPart(document, {
    uri: uri.path,
    args: uri.args,
    stub: block === null ? null : Buffer.concat(block.text),
    set: set ?? null,
  });
  document.include(part, waits);
}

function saysWait(wait: string | undefined, file: string | undefined): boolean {
  if (wait === undefined) return false;
  if (file !== undefined) throw new SsiProblem(`"wait" cannot be used with file="${file}"`);
  const word = wait.toLowerCase();
  if (word !== 'yes' && word !== 'no') throw new SsiProblem(`invalid value "${wait}" in the "wait" parameter`);
  return word === 'yes';
}

function echo(document: SsiStream, { var: name = '', default: fallback = '(none)', encoding }: Values): void {
  const { request, context } = document;
  const value = lookUp(request, context.root, name);
  // A format that gives nothing is an error.
  if (value === null && /^date_(?:gmt|local)$/i.test(name)) throw new SsiProblem('');
  const text = value ?? fallback;
  if (text === '') return;
  if (encoding === 'none' || encoding === 'url' || encoding === 'entity') context.encoding = encoding;
  else if (encoding !== undefined) document.log(`unknown encoding "${encoding}" in the "echo" command`);
  document.emit(latin1Bytes(encoded(text, context.encoding)));
}

const ENTITIES: Record<string, string> = { '<': '&lt;', '>': '&gt;', '&': '&amp;', '"': '&quot;' };

function encoded(text: string, encoding: Encoding): string {
  if (encoding === 'none') return text;
  if (encoding === 'entity') return text.replaceAll(/[<>&"]/g, (ch) => ENTITIES[ch] as string);
  return escapeQuoted(text);
}
