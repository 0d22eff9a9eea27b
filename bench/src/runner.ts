/**
 * Runs one experiment: every server pinned to one core, the load generator to another, rounds interleaved.
 *
 * All servers stay alive over the rounds and take turns (A B C A B C …), so that a slow minute of the machine meets them
 * all. Invariant: every started process is ended, on failure too (process.ts). Each sample says what the idle servers
 * used meanwhile: they should cost nothing, and if they do the result shows it.
 * Not its job: what is measured (experiments/), how CPU is counted (the load generator reads at its window's edges).
 */
import { rmSync } from 'node:fs';
import { chmod, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Experiment, loadArguments, Missing, type Server, type Workload } from './experiment.ts';
import type { LoadReport } from './loadgen/report.ts';
import { Children, describeExit, freePort, type RunningProcess, waitForLine, waitForPort } from './process.ts';
import { cpuSeconds, processTree } from './procstat.ts';
import type { ExperimentResult, Sample, ServerRecord } from './results.ts';

const LOAD_GENERATOR = fileURLToPath(new URL('loadgen/main.ts', import.meta.url));
const WORKSPACE = fileURLToPath(new URL('../../', import.meta.url));
const START_MS_MAX = 15_000;

export interface RunOptions {
  rounds: number;
  /** The measured window, and the load before each that is not counted. */
  seconds: number;
  warmupSeconds: number;
  /** Load on each server before its first sample: compilers have to get warm. */
  firstWarmupSeconds: number;
  /** Cores; null: not pinned. */
  serverCpu: number | null;
  clientCpu: number | null;
  clientBackend: 'auto' | 'uring' | 'epoll';
  onServer?: (record: ServerRecord) => void;
  onWarmup?: (server: Server) => void;
  onSample?: (sample: Sample, server: Server, workload: Workload) => void;
}

interface Live {
  server: Server;
  record: ServerRecord;
  process: RunningProcess;
  port: number;
  warm: boolean;
}

/** What every start of the load generator needs. */
interface Client {
  children: Children;
  /** Where node keeps its compiled modules: a third less time to start, a hundred times. */
  compileCache: string;
}

/** The same command without this machine's folders, for the record. */
function shown(command: readonly string[]): string {
  return command
    .map((word) => (word === process.execPath ? 'node' : word.replace(WORKSPACE, '').replace(/\/tmp\/[^/]+\//, '')))
    .join(' ');
}

function describeLoad(workload: Workload): string {
  return loadArguments(workload.load).join(' ');
}

export async function runExperiment(experiment: Experiment, options: RunOptions): Promise<ExperimentResult> {
  await using children = new Children();
  const result: ExperimentResult = {
    name: experiment.name,
    title: experiment.title,
    claim: experiment.claim,
    transaction: experiment.transaction,
    axis: experiment.axis,
    peer: experiment.peer,
    servers: [],
    workloads: experiment.workloads.map((workload) => ({
      id: workload.id,
      label: workload.label,
      description: describeLoad(workload),
    })),
    targets: [...experiment.targets],
    samples: [],
  };
  const folders: string[] = [];
  // Also when the run is interrupted; the processes are ended by an exit hook of their own, set before this one.
  const removeFolders = (): void => {
    for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
  };
  process.on('exit', removeFolders);
  const folder = async (): Promise<string> => {
    const path = await mkdtemp(join(tmpdir(), 'megapipe-bench-'));
    folders.push(path);
    // A worker that gave up root has to read its files.
    await chmod(path, 0o755);
    return path;
  };
  try {
    const client: Client = { children, compileCache: await folder() };
    const live: Live[] = [];
    for (const server of experiment.servers) {
      const record: ServerRecord = {
        id: server.id,
        label: server.label,
        role: server.role,
        command: '',
        status: 'measured',
        reason: '',
      };
      result.servers.push(record);
      try {
        live.push(await start(children, server, record, await folder(), options));
      } catch (error) {
        record.status = error instanceof Missing ? 'skipped' : 'failed';
        record.reason = (error as Error).message;
      }
      options.onServer?.(record);
    }
    for (const one of live) {
      options.onWarmup?.(one.server);
      await warmUp(client, one, experiment, options);
    }
    for (let round = 0; round < options.rounds; round++) {
      for (const workload of experiment.workloads) {
        for (const one of live) {
          if (one.record.status !== 'measured') continue;
          const sample = await measure(client, live, one, workload, round, options);
          if (sample === null) continue;
          result.samples.push(sample);
          options.onSample?.(sample, one.server, workload);
        }
      }
    }
  } finally {
    await children.stopAll();
    process.off('exit', removeFolders);
    removeFolders();
  }
  return result;
}

async function start(
  children: Children,
  server: Server,
  record: ServerRecord,
  folder: string,
  options: RunOptions,
): Promise<Live> {
  const launch = await server.launch({ folder, freePort });
  record.command = shown(launch.command);
  const process = await children.start(launch.command, options.serverCpu);
  const live: Live = { server, record, process, port: launch.port, warm: false };
  if (launch.port === 0) live.port = await waitForLine(process, START_MS_MAX);
  else await waitForPort(process, launch.port, START_MS_MAX);
  return live;
}

/** A server that died takes no further part; what it said last is the reason. */
function checkAlive(live: Live): boolean {
  if (live.process.exit() === null) return true;
  live.record.status = 'failed';
  live.record.reason = describeExit(live.process);
  return false;
}

async function warmUp(client: Client, live: Live, experiment: Experiment, options: RunOptions): Promise<void> {
  // The middle length takes every path: accept, several requests, close.
  const workload = experiment.workloads[Math.floor(experiment.workloads.length / 2)]!;
  const first = { ...options, seconds: options.firstWarmupSeconds, warmupSeconds: 0 };
  try {
    const report = await load(client, live, workload, first);
    live.warm = report.errors === 0;
  } catch (error) {
    if (checkAlive(live)) {
      live.record.status = 'failed';
      live.record.reason = (error as Error).message;
    }
  }
}

async function load(
  client: Client,
  live: Live,
  workload: Workload,
  options: Pick<RunOptions, 'seconds' | 'warmupSeconds' | 'clientCpu' | 'clientBackend'>,
): Promise<LoadReport> {
  const command = [
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    LOAD_GENERATOR,
    '--target',
    `127.0.0.1:${live.port}`,
    ...loadArguments(workload.load),
    '--seconds',
    String(options.seconds),
    '--warmup',
    String(options.warmupSeconds),
    '--backend',
    options.clientBackend,
    '--server-pid',
    String(live.process.pid),
  ];
  // What was stored in the warm-up is still there.
  if (workload.load.protocol === 'memcached' && live.warm) command.push('--no-preload');
  const child = await client.children.start(command, options.clientCpu, { NODE_COMPILE_CACHE: client.compileCache });
  const exit = await child.ended;
  const line = child.stdout().trim();
  if (line === '') {
    throw new Error(`load generator: ${exit.signal ?? `status ${exit.code}`}: ${child.stderr().trim()}`);
  }
  return JSON.parse(line) as LoadReport;
}

async function measure(
  client: Client,
  all: readonly Live[],
  live: Live,
  workload: Workload,
  round: number,
  options: RunOptions,
): Promise<Sample | null> {
  const others = all.filter((one) => one !== live && one.process.exit() === null);
  const treesOfOthers = others.map((one) => processTree(one.process.pid));
  const othersUsed = (): number =>
    others.reduce((sum, one, i) => sum + (one.process.exit() === null ? cpuSeconds(treesOfOthers[i]!) : 0), 0);
  const before = othersUsed();
  let report: LoadReport;
  try {
    report = await load(client, live, workload, options);
  } catch (error) {
    if (checkAlive(live)) {
      live.record.status = 'failed';
      live.record.reason = (error as Error).message;
    }
    return null;
  }
  const serverCpu = report.serverCpuSeconds ?? 0;
  const sample: Sample = {
    server: live.server.id,
    workload: workload.id,
    round,
    transactions: report.transactions,
    seconds: report.seconds,
    throughput: report.throughput,
    cpuUs: report.transactions > 0 ? (serverCpu / report.transactions) * 1e6 : 0,
    serverCores: report.seconds > 0 ? serverCpu / report.seconds : 0,
    clientCores: report.seconds > 0 ? report.clientCpuSeconds / report.seconds : 0,
    latencyUs: report.latencyUs,
    errors: report.errors,
    errorTexts: report.errorTexts,
    othersCpuSeconds: Math.max(0, othersUsed() - before),
  };
  if (!checkAlive(live) && sample.errors === 0) {
    sample.errors = 1;
    sample.errorTexts = [`the server ${live.record.reason}`];
  }
  return sample;
}
