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
import type { BackendName } from '@megapipe/core';
import { type Experiment, loadArguments, Missing, type Server, type Workload } from './experiment.ts';
import type { LoadReport } from './loadgen/report.ts';
import { measureIdle, measureMemory } from './memory.ts';
import { Children, describeExit, freePort, type RunningProcess, waitForLine, waitForPort } from './process.ts';
import { cpuSeconds, processTree } from './procstat.ts';
import type { ExperimentResult, Sample, ServerRecord } from './results.ts';
import { spreadOf } from './statistics.ts';

const LOAD_GENERATOR = fileURLToPath(new URL('loadgen/main.ts', import.meta.url));
const WORKSPACE = fileURLToPath(new URL('../../', import.meta.url));
const START_MS_MAX = 60_000;

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
  clientBackend: 'auto' | BackendName;
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
  cpu: Cores['client'];
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

/** What servers and the load generator are pinned to. */
interface Cores {
  server: number | string | null;
  client: number | string | null;
}

function coresOf(experiment: Experiment, options: RunOptions): Cores {
  const { serverCpu, clientCpu } = options;
  if (experiment.cores !== 'shared' || serverCpu === null || clientCpu === null) {
    return { server: serverCpu, client: clientCpu };
  }
  const both = `${serverCpu},${clientCpu}`;
  return { server: both, client: both };
}

export async function runExperiment(experiment: Experiment, options: RunOptions): Promise<ExperimentResult> {
  await using children = new Children();
  const cores = coresOf(experiment, options);
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
  if (experiment.metrics !== undefined) result.metrics = experiment.metrics;
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
    const client: Client = { children, compileCache: await folder(), cpu: cores.client };
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
        live.push(await start(children, server, record, await folder(), cores.server));
      } catch (error) {
        record.status = error instanceof Missing ? 'skipped' : 'failed';
        record.reason = (error as Error).message;
      }
      options.onServer?.(record);
    }
    if (experiment.kind === 'memory' || experiment.kind === 'idle') {
      await memoryRounds(children, live, experiment, options, cores, folder, result);
      return result;
    }
    for (const one of live) {
      options.onWarmup?.(one.server);
      await warmUp(client, one, experiment, options);
    }
    const workloads: Workload[] = [];
    for (const [i, workload] of experiment.workloads.entries()) {
      workloads.push(await scheduled(client, live, experiment, workload, options));
      result.workloads[i]!.description = describeLoad(workloads[i]!);
    }
    for (let round = 0; round < options.rounds; round++) {
      for (const workload of workloads) {
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

/**
 * Every sample is of a server that was started for it: what a server once touched stays resident. The one that `live` has is
 * the first round's first, the others are started as they are needed.
 */
async function memoryRounds(
  children: Children,
  live: readonly Live[],
  experiment: Experiment,
  options: RunOptions,
  cores: Cores,
  folder: () => Promise<string>,
  result: ExperimentResult,
): Promise<void> {
  await children.stopAll();
  for (let round = 0; round < options.rounds; round++) {
    for (const workload of experiment.workloads) {
      for (const { server, record } of live) {
        if (record.status !== 'measured') continue;
        try {
          const fresh = await start(children, server, record, await folder(), cores.server);
          const take = experiment.kind === 'idle' ? measureIdle : measureMemory;
          const sample = await take(fresh.process.pid, fresh.port, workload.load);
          await children.stop(fresh.process);
          const whole: Sample = { ...sample, server: server.id, workload: workload.id, round };
          result.samples.push(whole);
          options.onSample?.(whole, server, workload);
        } catch (error) {
          record.status = 'failed';
          record.reason = (error as Error).message;
        }
      }
    }
  }
}

/** The workload with its rate, where that is a share of what the peer (or who stands in for it) can serve. */
async function scheduled(
  client: Client,
  live: readonly Live[],
  experiment: Experiment,
  workload: Workload,
  options: RunOptions,
): Promise<Workload> {
  if (workload.rateOfPeer === undefined) return workload;
  const running = live.filter((one) => one.record.status === 'measured');
  const peer = running.find((one) => one.server.id === experiment.peer) ?? running[0];
  if (peer === undefined) return workload;
  const rates: number[] = [];
  for (let i = 0; i < 3; i++) rates.push((await load(client, peer, workload, options)).throughput);
  const capacity = spreadOf(rates)!.median;
  // A round number: it is the same for all, and shown.
  const rate = Math.max(1000, Math.round((capacity * workload.rateOfPeer) / 1000) * 1000);
  return { ...workload, load: { ...workload.load, rate } };
}

async function start(
  children: Children,
  server: Server,
  record: ServerRecord,
  folder: string,
  cpu: Cores['server'],
): Promise<Live> {
  const launch = await server.launch({ folder, freePort });
  record.command = shown(launch.command);
  const process = await children.start(launch.command, cpu);
  const live: Live = { server, record, process, port: launch.port, warm: false };
  if (launch.port === 0) live.port = await waitForLine(process, START_MS_MAX);
  else await waitForPort(process, launch.port, START_MS_MAX);
  return live;
}

/** A server that died takes no further part; what it said last is the reason. */
async function checkAlive(live: Live): Promise<boolean> {
  if (live.process.exit() === null) return true;
  live.record.status = 'failed';
  live.record.reason = await describeExit(live.process);
  return false;
}

async function warmUp(client: Client, live: Live, experiment: Experiment, options: RunOptions): Promise<void> {
  const { workloads } = experiment;
  // The middle length takes every path: accept, several requests, close.
  const chosen = experiment.warmUp === 'each' ? workloads : [workloads[Math.floor(workloads.length / 2)]!];
  const first = { ...options, seconds: options.firstWarmupSeconds, warmupSeconds: 0 };
  try {
    let errors = 0;
    for (const workload of chosen) errors += (await load(client, live, workload, first)).errors;
    live.warm = errors === 0;
  } catch (error) {
    if (await checkAlive(live)) {
      live.record.status = 'failed';
      live.record.reason = (error as Error).message;
    }
  }
}

async function load(
  client: Client,
  live: Live,
  workload: Workload,
  options: Pick<RunOptions, 'seconds' | 'warmupSeconds' | 'clientBackend'>,
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
  const child = await client.children.start(command, client.cpu, { NODE_COMPILE_CACHE: client.compileCache });
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
    if (await checkAlive(live)) {
      live.record.status = 'failed';
      live.record.reason = (error as Error).message;
    }
    return null;
  }
  const serverCpu = report.serverCpuSeconds ?? 0;
  const each = workload.transactionsPerRequest ?? 1;
  const sample: Sample = {
    server: live.server.id,
    workload: workload.id,
    round,
    transactions: report.transactions * each,
    seconds: report.seconds,
    throughput: report.throughput * each,
    cpuUs: report.transactions > 0 ? (serverCpu / (report.transactions * each)) * 1e6 : 0,
    serverCores: report.seconds > 0 ? serverCpu / report.seconds : 0,
    clientCores: report.seconds > 0 ? report.clientCpuSeconds / report.seconds : 0,
    latencyUs: report.latencyUs,
    errors: report.errors,
    errorTexts: report.errorTexts,
    othersCpuSeconds: Math.max(0, othersUsed() - before),
  };
  if (!(await checkAlive(live)) && sample.errors === 0) {
    sample.errors = 1;
    sample.errorTexts = [`the server ${live.record.reason}`];
  }
  return sample;
}
