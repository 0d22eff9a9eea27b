/** The report as one HTML file: inline SVG and styles, no script, nothing loaded from anywhere. */
import {
  environmentLine,
  INSTRUCTIONS_CLAIM,
  INSTRUCTIONS_TITLE,
  instructionTables,
  instructionVerdicts,
} from '../instructions.ts';
import { cellsOf, complaints, type ExperimentResult, type Results, verdictOf } from '../results.ts';
import { columnsOf, metricsOf } from './columns.ts';
import { environmentRows, figure, limit, number, ratio } from './format.ts';
import { instructionsPlot, plot } from './plots.ts';

const STYLE = `
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; max-width: 1240px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: 0; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .3rem; border-top: 1px solid #d5dae0; padding-top: 1.2rem; }
.lead { color: #4a535d; margin-top: .2rem; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; }
.plots figure { margin: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; margin: .6rem 0; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap; }
th { white-space: normal; border-bottom: 2px solid #8b95a1; font-weight: 600; vertical-align: bottom; }
td { border-bottom: 1px solid #e8ebee; }
tr.first td { border-top: 2px solid #c3cad2; }
.left { text-align: left; }
.wide { white-space: normal; min-width: 10rem; text-align: left; overflow-wrap: anywhere; }
.megapipe td { background: #eef5fb; font-weight: 600; }
.met { color: #14713a; font-weight: 600; }
.missed { color: #b3261e; font-weight: 600; }
.open { color: #8a6100; }
.warning { border-left: 4px solid #b3261e; background: #fdf1f0; padding: .5rem 1rem; }
.note { color: #5b6570; font-size: .87rem; }
details { margin: .6rem 0; }
summary { cursor: pointer; color: #0b5fa5; }
code { font-size: .85em; }
`;

export function escapeHtml(text: string): string {
  return text.replace(
    /[&<>"']/g,
    (character) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' })[character]!,
  );
}

type Column = [name: string, className?: string | undefined];

function table(columns: readonly Column[], rows: readonly { className?: string; cells: string[] }[]): string {
  const head = columns.map(([name, className]) => `<th class="${className ?? ''}">${name}</th>`).join('');
  const body = rows
    .map(({ className, cells }) => {
      const row = cells.map((cell, i) => `<td class="${columns[i]![1] ?? ''}">${cell}</td>`).join('');
      return `<tr class="${className ?? ''}">${row}</tr>`;
    })
    .join('\n');
  return `<div class="scroll"><table><thead><tr>${head}</tr></thead><tbody>\n${body}\n</tbody></table></div>`;
}

function verdicts(results: Results): string {
  const rows = results.experiments.flatMap((result) =>
    result.targets.map((target) => {
      const verdict = verdictOf(result, target);
      const [className, text] =
        verdict.met === null ? ['open', 'not measured'] : verdict.met ? ['met', 'met'] : ['missed', 'missed'];
      const note = verdict.note === '' ? '' : ` <span class="note">(${escapeHtml(verdict.note)})</span>`;
      return {
        cells: [
          escapeHtml(result.name),
          escapeHtml(figure(result, target)),
          escapeHtml(limit(target)),
          escapeHtml(ratio(verdict.ratio)),
          `<span class="${className}">${text}</span>${note}`,
        ],
      };
    }),
  );
  return table([['experiment', 'left'], ['figure', 'left'], ['target'], ['median (min–max)'], ['', 'wide']], rows);
}

function cells(result: ExperimentResult): string {
  const columns = columnsOf(result, true);
  let last = '';
  const rows = cellsOf(result).map((cell) => {
    const server = result.servers.find((one) => one.id === cell.server)!;
    const workload = result.workloads.find((one) => one.id === cell.workload)!;
    const first = cell.workload !== last;
    last = cell.workload;
    const errors = cell.errors > 0 ? ` <span class="missed">${cell.errors} errors</span>` : '';
    return {
      className: `${server.role} ${first ? 'first' : ''}`,
      cells: [
        first ? escapeHtml(workload.label) : '',
        escapeHtml(server.label) + errors,
        ...columns.map((column) => column.text(cell)),
      ],
    };
  });
  const heads = columns.map((column): Column => [escapeHtml(column.head)]);
  return table([[escapeHtml(result.axis), 'left'], ['server', 'left'], ...heads], rows);
}

function samples(result: ExperimentResult): string {
  const rows = result.samples.map((sample) => ({
    cells: [
      String(sample.round + 1),
      escapeHtml(result.workloads.find((workload) => workload.id === sample.workload)!.label),
      escapeHtml(result.servers.find((server) => server.id === sample.server)!.label),
      sample.transactions.toLocaleString('en-US'),
      sample.seconds.toFixed(3),
      number(sample.throughput),
      number(sample.cpuUs),
      `${Math.round(sample.serverCores * 100)} %`,
      `${Math.round(sample.clientCores * 100)} %`,
      number(sample.latencyUs.p50),
      number(sample.latencyUs.p99),
      number(sample.latencyUs.max),
      String(sample.errors),
    ],
  }));
  const columns: Column[] = [
    ['round'],
    [escapeHtml(result.axis)],
    ['server', 'left'],
    ['transactions'],
    ['seconds'],
    ['per second'],
    ['CPU µs each'],
    ['server core'],
    ['client core'],
    ['p50 µs'],
    ['p99 µs'],
    ['max µs'],
    ['errors'],
  ];
  return `<details><summary>All ${result.samples.length} samples</summary>${table(columns, rows)}</details>`;
}

function setup(result: ExperimentResult): string {
  const servers = result.servers.map((server) => ({
    cells: [
      escapeHtml(server.label),
      server.role,
      server.status === 'measured' ? 'measured' : `<span class="missed">${server.status}</span>`,
      server.command === ''
        ? escapeHtml(server.reason)
        : `<code>${escapeHtml(server.command)}</code> ${escapeHtml(server.reason)}`,
    ],
  }));
  const workloads = result.workloads.map((workload) => ({
    cells: [escapeHtml(workload.label), `<code>${escapeHtml(workload.description)}</code>`],
  }));
  return `<details><summary>How servers and load were started</summary>
${table(
  [
    ['server', 'left'],
    ['role', 'left'],
    ['status', 'left'],
    ['command', 'wide'],
  ],
  servers,
)}
${table(
  [
    [escapeHtml(result.axis), 'left'],
    ['load generator', 'wide'],
  ],
  workloads,
)}</details>`;
}

async function section(result: ExperimentResult): Promise<string> {
  const measured = result.samples.length > 0;
  const figures: string[] = [];
  for (const metric of measured ? metricsOf(result) : [])
    figures.push(`<figure>${await plot(result, metric)}</figure>`);
  const plots = measured
    ? `<div class="plots">${figures.join('\n')}</div>`
    : '<p class="open">Nothing was measured.</p>';
  const absent = result.servers
    .filter((server) => server.status !== 'measured')
    .map((server) => `<p class="open">${escapeHtml(`${server.status}: ${server.label}: ${server.reason}`)}</p>`)
    .join('\n');
  return `<section><h2>${escapeHtml(result.title)}</h2>
<p class="lead">Claim: ${escapeHtml(result.claim)}</p>
${absent}
${plots}
${measured ? cells(result) : ''}
${setup(result)}
${measured ? samples(result) : ''}</section>`;
}

async function instructionsSection({ instructions }: Results): Promise<string> {
  if (instructions === undefined) return '';
  const heading = `<h2>${escapeHtml(INSTRUCTIONS_TITLE)}</h2>\n<p class="lead">Claim: ${escapeHtml(INSTRUCTIONS_CLAIM)}</p>`;
  if (typeof instructions === 'string')
    return `<section>${heading}<p class="open">Not measured: ${escapeHtml(instructions)}</p></section>`;
  const counts = instructionTables(instructions)
    .map(({ head, rows }) =>
      table(
        head.map((name, i): Column => [escapeHtml(name), i === 0 ? 'left' : undefined]),
        rows.map((row) => ({ cells: row.map(escapeHtml) })),
      ),
    )
    .join('\n');
  const verdictRows = instructionVerdicts(instructions).map(({ figure, limit, ratio, met }) => ({
    cells: [
      escapeHtml(figure),
      escapeHtml(limit),
      ratio.toFixed(2),
      `<span class="${met ? 'met' : 'missed'}">${met ? 'met' : 'missed'}</span>`,
    ],
  }));
  const verdict = table([['figure', 'left'], ['target'], ['ratio'], ['']], verdictRows);
  return `<section>${heading}<figure>${await instructionsPlot(instructions.counts)}</figure>${counts}${verdict}<p class="note">${escapeHtml(environmentLine(instructions))}</p></section>`;
}

export async function htmlReport(results: Results): Promise<string> {
  const list = complaints(results);
  const warning =
    list.length === 0
      ? ''
      : `<div class="warning"><strong>Not fit to be quoted</strong><ul>${list
          .map((line) => `<li>${escapeHtml(line)}</li>`)
          .join('')}</ul></div>`;
  const sections = [];
  for (const result of results.experiments) sections.push(await section(result));
  sections.push(await instructionsSection(results));
  const environment = environmentRows(results.environment).map(([name, value]) => ({
    cells: [escapeHtml(name), escapeHtml(value)],
  }));
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>MegaPipe, measured</title>
<style>${STYLE}</style>
</head>
<body>
<h1>MegaPipe, measured</h1>
<p class="lead">${escapeHtml(results.startedAt)} · ${escapeHtml(results.mode)} run · medians of ${results.rounds} interleaved
rounds of ${results.windowSeconds} s, with the least and the greatest; ratios are taken within a round, then the median.</p>
${warning}
${results.experiments.some((result) => result.targets.length > 0) ? `<h2>Targets</h2>\n${verdicts(results)}` : ''}
${sections.join('\n')}
<p class="note">* The server used less than 95 % of its core: the client was the limit. Throughput then says little;
CPU per transaction stays comparable. CPU is user and system time of the server's whole process tree over the measured
window.</p>
<h2>Environment</h2>
${table(
  [
    ['', 'left'],
    ['', 'wide'],
  ],
  environment,
)}
</body>
</html>
`;
}
