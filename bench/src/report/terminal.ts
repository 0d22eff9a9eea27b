/** The report as tables for a terminal. */
import Table from 'cli-table3';
import pc from 'picocolors';
import { environmentLine, INSTRUCTIONS_TITLE, instructionTables, instructionVerdicts } from '../instructions.ts';
import { cellsOf, complaints, type ExperimentResult, type Results, type Verdict, verdictOf } from '../results.ts';
import { columnsOf, underLoad } from './columns.ts';
import { environmentRows, figure, limit, ratio } from './format.ts';

/** Thin frames: the rows of one workload belong together, lines only between workloads. */
const STYLE = { head: [], border: ['gray'], compact: true, 'padding-right': 0 };

/** Broken in two where a head is long, so that the table fits a terminal. */
function headLines(text: string): string {
  const at = text.indexOf(' ', Math.max(text.length >> 1, 8) - 1);
  const lines = text.length > 12 && at > 0 ? [text.slice(0, at), text.slice(at + 1)] : [text];
  return lines.map(pc.bold).join('\n');
}

function experimentTable(result: ExperimentResult): string {
  const columns = columnsOf(result, false);
  const table = new Table({
    head: [headLines(result.axis), pc.bold('server'), ...columns.map((column) => headLines(column.head))],
    style: STYLE,
    colAligns: ['left', 'left', ...columns.map(() => 'right' as const)],
  });
  let last = '';
  for (const cell of cellsOf(result)) {
    const server = result.servers.find((one) => one.id === cell.server)!;
    const workload = result.workloads.find((one) => one.id === cell.workload)!;
    if (last !== '' && last !== cell.workload) table.push([{ colSpan: columns.length + 2, content: '' }]);
    table.push([
      last === cell.workload ? '' : workload.label,
      (server.role === 'megapipe' ? pc.cyan(server.label) : server.label) +
        (cell.errors > 0 ? pc.red(` ${cell.errors} errors`) : ''),
      ...columns.map((column) => column.text(cell)),
    ]);
    last = cell.workload;
  }
  return table.toString();
}

export function mark(verdict: Verdict): string {
  return verdict.met === null ? 'not measured' : verdict.met ? 'met' : 'missed';
}

function verdictTable(results: Results): string {
  const table = new Table({
    head: ['figure', 'target', 'median (min–max)', ''].map(pc.bold),
    style: STYLE,
    colAligns: ['left', 'right', 'right', 'left'],
  });
  for (const result of results.experiments) {
    for (const target of result.targets) {
      const verdict = verdictOf(result, target);
      const color = verdict.met === null ? pc.yellow : verdict.met ? pc.green : pc.red;
      table.push([
        `${result.name}: ${figure(result, target)}`,
        limit(target),
        ratio(verdict.ratio),
        color(mark(verdict)) + (verdict.note === '' ? '' : pc.dim(` (${verdict.note})`)),
      ]);
    }
  }
  return table.toString();
}

function instructionLines(results: Results): string[] {
  const { instructions } = results;
  if (instructions === undefined) return [];
  const title = `\n${pc.bold(INSTRUCTIONS_TITLE)}`;
  if (typeof instructions === 'string') return [title, pc.yellow(`not measured: ${instructions}`)];
  const tables = instructionTables(instructions).map(({ head, rows }) => {
    const table = new Table({ head: head.map(headLines), style: STYLE });
    table.push(...rows);
    return table.toString();
  });
  const verdicts = instructionVerdicts(instructions).map(
    ({ figure, limit, ratio, met }) =>
      `${figure}: ${ratio.toFixed(2)}, target ${limit}: ${(met ? pc.green : pc.red)(met ? 'met' : 'missed')}`,
  );
  return [title, ...tables, ...verdicts, pc.dim(environmentLine(instructions))];
}

export function terminalReport(results: Results): string {
  const parts: string[] = [];
  for (const result of results.experiments) {
    parts.push(`\n${pc.bold(result.title)}\n${pc.dim(`Claim: ${result.claim}`)}`);
    parts.push(result.samples.length > 0 ? experimentTable(result) : pc.yellow('nothing was measured'));
    for (const server of result.servers) {
      if (server.status === 'skipped') parts.push(pc.yellow(`skipped ${server.label}: ${server.reason}`));
      if (server.status === 'failed') parts.push(pc.red(`failed ${server.label}: ${server.reason}`));
    }
  }
  parts.push(...instructionLines(results));
  if (results.experiments.some(underLoad))
    parts.push(pc.dim('* less than 95 % of the core: the client was the limit, compare the CPU per transaction.'));
  parts.push(pc.dim(`Medians of ${results.rounds} interleaved rounds of ${results.windowSeconds} s (min–max).`));
  if (results.experiments.some((result) => result.targets.length > 0))
    parts.push(`\n${pc.bold('Targets')}`, verdictTable(results));
  const list = complaints(results);
  if (list.length > 0) parts.push(pc.red(`\nNot fit to be quoted:\n${list.map((line) => `  ${line}`).join('\n')}`));
  parts.push('', ...environmentRows(results.environment).map(([name, value]) => pc.dim(`${name}: ${value}`)));
  return parts.join('\n');
}
