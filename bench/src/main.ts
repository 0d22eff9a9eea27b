/**
 * The evaluation: `node src/main.ts [--quick|--full] [--only NAME] [--rounds N] [--seconds S]`.
 *
 * Runs the experiments one after the other with live progress, prints the tables, writes results/TIME.json and
 * results/TIME.html; the last line printed is the path of the latter. Exit status 1 when a server failed or any response was wrong.
 * Missed targets do not change the status, they are results; nor does a sample during which a server that should have been idle
 * used the core: the report says that such figures are not fit to be quoted.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type BackendName, Channel, type Sink } from '@megapipe/core';
import pc from 'picocolors';
import { recordEnvironment } from './environment.ts';
import type { Experiment } from './experiment.ts';
import { experiments } from './experiments/index.ts';
import { measureInstructions } from './instructions.ts';
import { findProgram } from './peers.ts';
import { number } from './report/format.ts';
import { htmlReport } from './report/html.ts';
import { terminalReport } from './report/terminal.ts';
import { failures, type Results } from './results.ts';
import { runExperiment } from './runner.ts';

/** The kernel module's figure: it counts in a guest, and takes minutes. */
const INSTRUCTIONS = 'instructions';

const USAGE = `usage: node src/main.ts [--quick|--full] [--only NAME]... [--rounds N] [--seconds S] [--out FOLDER]
  --quick     three rounds of half a second: about two minutes (the default)
  --full      five rounds of 1.5 s, for figures that are quoted
  --only      one experiment: ${[...experiments.map((one) => one.name), INSTRUCTIONS].join(', ')}; may be repeated
  --workload  only workloads whose id begins with this (sizes: 64-, 1024-, 4096-, 65536-); may be repeated
  --rounds    interleaved rounds
  --seconds   measured window of each sample
  --server-cpu, --client-cpu   cores, by default 0 and 1
  --out       where results go, by default bench/results`;

const QUICK = { rounds: 3, seconds: 0.5, warmupSeconds: 0.15, firstWarmupSeconds: 1.5 };
const FULL = { rounds: 5, seconds: 1.5, warmupSeconds: 0.3, firstWarmupSeconds: 2 };

function usage(message: string): never {
  process.stderr.write(`bench: ${message}\n\n${USAGE}\n`);
  process.exit(2);
}

function positive(name: string, text: string | undefined, fallback: number, whole: boolean): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!(value > 0 && value <= 3600) || (whole && !Number.isInteger(value))) {
    usage(`--${name}: expected a ${whole ? 'whole ' : ''}number above 0, got "${text}"`);
  }
  return value;
}

function core(name: string, text: string | undefined, fallback: number): number {
  const value = text === undefined ? fallback : Number(text);
  if (!Number.isInteger(value) || value < 0 || value >= 1024)
    usage(`--${name}: expected a core's number, got "${text}"`);
  return value;
}

function commandLine() {
  try {
    return parseArgs({
      options: {
        quick: { type: 'boolean', default: false },
        full: { type: 'boolean', default: false },
        only: { type: 'string', multiple: true, default: [] },
        workload: { type: 'string', multiple: true, default: [] },
        rounds: { type: 'string' },
        seconds: { type: 'string' },
        'server-cpu': { type: 'string' },
        'client-cpu': { type: 'string' },
        out: { type: 'string' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values;
  } catch (error) {
    usage((error as Error).message);
  }
}

/** The backend that the load generator's channel will get: the same for all servers of a run, so it is chosen once. */
function clientBackend(): BackendName {
  const ignore = (): void => {};
  const sink: Sink = {
    onAccept: ignore,
    onAcceptError: ignore,
    onRead: ignore,
    onEnd: ignore,
    onDrain: ignore,
    onWritten: ignore,
    onConnect: ignore,
    onTimeout: ignore,
    onClose: ignore,
  };
  const channel = new Channel(sink, { maxHandles: 16 });
  const { backendReason } = channel;
  /* `auto` takes nothing else. */
  const backend = channel.backend === 'uring' ? 'uring' : 'epoll';
  channel.destroy();
  if (backend !== 'uring') process.stdout.write(pc.yellow(`load generator on ${backend}: ${backendReason}\n`));
  return backend;
}

const values = commandLine();
if (values.help) {
  process.stdout.write(`${USAGE}\n`);
  process.exit(0);
}
if (values.quick && values.full) usage('--quick and --full exclude each other');
const chosen =
  values.only.length === 0
    ? experiments.filter((one) => !one.byNameOnly)
    : experiments.filter((one) => values.only.includes(one.name));
for (const name of values.only) {
  if (name !== INSTRUCTIONS && !experiments.some((one) => one.name === name)) usage(`--only: no experiment "${name}"`);
}
/** The experiment as it is, or less of it. */
function part(experiment: Experiment): Experiment {
  if (values.workload.length === 0) return experiment;
  const workloads = experiment.workloads.filter(({ id }) => values.workload.some((start) => id.startsWith(start)));
  if (workloads.length === 0)
    usage(`--workload: ${experiment.name} has ${experiment.workloads.map(({ id }) => id).join(', ')}`);
  const targets = experiment.targets.filter(({ workload }) => workloads.some(({ id }) => id === workload));
  return { ...experiment, workloads, targets };
}
const parts = chosen.map(part);
const preset = values.full ? FULL : QUICK;
const rounds = positive('rounds', values.rounds, preset.rounds, true);
const seconds = positive('seconds', values.seconds, preset.seconds, false);
const folder = values.out ?? fileURLToPath(new URL('../results', import.meta.url));

let serverCpu: number | null = core('server-cpu', values['server-cpu'], 0);
let clientCpu: number | null = core('client-cpu', values['client-cpu'], 1);
if (availableParallelism() < 2 || findProgram('taskset') === null) {
  process.stdout.write(
    pc.yellow('fewer than two cores, or no taskset: nothing is pinned, server and client disturb each other\n'),
  );
  serverCpu = null;
  clientCpu = null;
}

// The exit hook of Children ends what runs; 128 + signal number is what a shell expects.
process.on('SIGINT', () => process.exit(130));
process.on('SIGTERM', () => process.exit(143));

const startedAt = new Date();
const backend = clientBackend();
const results: Results = {
  format: 1,
  mode: values.full ? 'full' : 'quick',
  startedAt: startedAt.toISOString(),
  finishedAt: '',
  rounds,
  windowSeconds: seconds,
  environment: recordEnvironment(serverCpu, clientCpu, backend),
  experiments: [],
};

for (const experiment of parts) {
  process.stdout.write(`\n${pc.bold(experiment.title)}\n`);
  const result = await runExperiment(experiment, {
    ...preset,
    rounds,
    seconds,
    serverCpu,
    clientCpu,
    clientBackend: backend,
    onServer: (server) => {
      const text = server.status === 'measured' ? pc.dim('started') : pc.yellow(`${server.status}: ${server.reason}`);
      process.stdout.write(`  ${server.label.padEnd(22)} ${text}\n`);
    },
    onWarmup: (server) => process.stdout.write(pc.dim(`  ${server.label.padEnd(22)} warming up\n`)),
    onSample: (sample, server, workload) => {
      const place = `round ${sample.round + 1}/${rounds}  ${`${workload.label.padStart(3)} ${experiment.axis}`.trimEnd()}`;
      const { memory } = sample;
      const figures =
        memory === undefined
          ? `${number(sample.throughput / 1000).padStart(6)} k/s  ${number(sample.cpuUs).padStart(6)} µs CPU`
          : `${number(memory.rssStartBytes / 1e6)} MB at start, ${memory.rssIdleBytes === undefined ? `${number((memory.rssOnceBytes ?? 0) / 1e6)} MB once, ${number(memory.rssItemBytes ?? 0)} B an item` : `${number(memory.rssIdleBytes / 1e6)} MB with them`}`;
      const errors = sample.errors === 0 ? '' : pc.red(`  ${sample.errors} errors: ${sample.errorTexts[0] ?? ''}`);
      process.stdout.write(`  ${server.label.padEnd(22)} ${place}  ${figures}${errors}\n`);
    },
  });
  results.experiments.push(result);
}
if (values.only.includes(INSTRUCTIONS)) {
  process.stdout.write(`\n${pc.bold('instructions per transaction, in a guest: some minutes')}\n`);
  results.instructions = measureInstructions();
}
results.finishedAt = new Date().toISOString();

mkdirSync(folder, { recursive: true });
const base = join(folder, results.startedAt.replace(/[:.]/g, '-'));
writeFileSync(`${base}.json`, `${JSON.stringify(results, null, 1)}\n`);
writeFileSync(`${base}.html`, await htmlReport(results));
process.stdout.write(`${terminalReport(results)}\n\nresults: ${base}.json\nreport:\n${base}.html\n`);
if (failures(results).length > 0) process.exitCode = 1;
