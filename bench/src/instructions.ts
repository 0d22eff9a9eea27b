/**
 * The kernel module's figure: instructions per transaction of C echo servers on epoll, io_uring and /dev/megapipe, counted in a
 * QEMU guest by kernel/measure. Not a time, so it is no experiment of the runner's: it has no rounds and no spread.
 *
 * Not its job: counting, and starting the guest.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** What kernel/measure/main.ts --json writes. */
export interface Instructions {
  environment: { guest: string; host: string; cpu: string; date: string };
  transactions: string;
  connections: string;
  /** On the server's CPU: its process, and the client's half of receiving, which loopback leaves to who sends. */
  counts: Count[];
  /** The server's own half: its process without that, and its own receiving. */
  own?: Count[];
  /** Transactions a second under emulation, of each round: to compare servers, nothing else. */
  throughput?: { server: string; cpus: number; rounds: number[] }[];
}

interface Count {
  server: string;
  /** Transactions a connection. */
  each: number;
  /** Instructions per transaction. */
  kernel: number;
  user: number;
}

export const INSTRUCTIONS_TITLE = 'Kernel module: instructions per transaction on the server (echo in C, 64 B)';
export const INSTRUCTIONS_CLAIM =
  'A channel of the module takes fewer instructions than epoll and io_uring; what each part of it gives.';

const LABELS: Record<string, string> = {
  epoll: 'epoll',
  uring: 'io_uring',
  device: 'module',
  'device-lwsocket': 'module without lwsockets',
  'device-batch': 'module without batches',
  'device-partition': 'module without partition',
};

const TARGETS = [
  { of: 'epoll', each: 1, atLeast: 1.25 },
  { of: 'epoll', each: 128, atLeast: 1.15 },
  { of: 'uring', each: 1, atLeast: 1 },
  { of: 'uring', each: 128, atLeast: 1 },
];

export function labelOf(server: string): string {
  return LABELS[server] ?? server;
}

/** Instructions of kernel and user space together, or NaN. */
export function instructionsOf(counts: readonly Count[], server: string, each: number): number {
  const found = counts.find((count) => count.server === server && count.each === each);
  return found ? found.kernel + found.user : Number.NaN;
}

export interface InstructionsVerdict {
  figure: string;
  limit: string;
  ratio: number;
  met: boolean;
}

export function instructionVerdicts(result: Instructions): InstructionsVerdict[] {
  return TARGETS.map(({ of, each, atLeast }) => {
    const ratio = instructionsOf(result.counts, of, each) / instructionsOf(result.counts, 'device', each);
    const figure = `instructions at ${each} transactions a connection: ${labelOf(of)} / module`;
    return { figure, limit: `≥ ${atLeast}`, ratio, met: ratio >= atLeast };
  });
}

export interface Rows {
  head: string[];
  rows: string[][];
}

/** Server, then for each number of transactions a connection the count, and epoll's multiple of it. */
function countRows(counts: readonly Count[], what: string): Rows {
  const eachs = [...new Set(counts.map((count) => count.each))];
  const servers = [...new Set(counts.map((count) => count.server))];
  const cell = (server: string, each: number): string => {
    const n = instructionsOf(counts, server, each);
    const epoll = instructionsOf(counts, 'epoll', each);
    return `${Math.round(n).toLocaleString('en-US')} (${(epoll / n).toFixed(2)})`;
  };
  return {
    head: [what, ...eachs.map((each) => `${each} a connection (epoll ÷ it)`)],
    rows: servers.map((server) => [labelOf(server), ...eachs.map((each) => cell(server, each))]),
  };
}

function throughputRows(throughput: NonNullable<Instructions['throughput']>): Rows {
  const scales = [...new Set(throughput.map((rate) => rate.cpus))];
  const servers = [...new Set(throughput.map((rate) => rate.server))];
  const of = (server: string, cpus: number): number =>
    Math.max(...(throughput.find((rate) => rate.server === server && rate.cpus === cpus)?.rounds ?? [Number.NaN]));
  return {
    head: [
      'throughput under emulation (best round), relative to epoll',
      ...scales.map((cpus) => `${cpus} virtual CPU${cpus === 1 ? '' : 's'}`),
    ],
    rows: servers.map((server) => [
      labelOf(server),
      ...scales.map((cpus) => (of(server, cpus) / of('epoll', cpus)).toFixed(2)),
    ]),
  };
}

/** The tables of the figure. */
export function instructionTables({ counts, own, throughput }: Instructions): Rows[] {
  const tables = [countRows(counts, "on the server's CPU")];
  if (own) tables.push(countRows(own, "the server's own half of the work"));
  if (throughput) tables.push(throughputRows(throughput));
  return tables;
}

export function environmentLine({ environment, connections, transactions, throughput }: Instructions): string {
  const compared = throughput
    ? ' Throughput: server and clients on all virtual CPUs, without that clock. It says how the servers compare in the same emulation, and nothing about how fast they are.'
    : '';
  return `Guest: Linux ${environment.guest} under QEMU's TCG, one virtual CPU whose time goes by its instructions, so the host and its load make no difference; ${connections} connections, ${transactions} transactions counted for each figure. Counts, not times.${compared}`;
}

/** Runs it: the result, or why there is none. Takes about ten minutes. */
export function measureInstructions(): Instructions | string {
  const folder = mkdtempSync(join(tmpdir(), 'megapipe-instructions-'));
  try {
    const json = join(folder, 'counts.json');
    const program = fileURLToPath(new URL('../../kernel/measure/main.ts', import.meta.url));
    const run = spawnSync(process.execPath, [program, '--parts', 'counts,throughput', '--json', json], {
      encoding: 'utf8',
    });
    if (run.status !== 0) return run.stderr.trim().split('\n').at(-1) || `exit status ${run.status}`;
    return JSON.parse(readFileSync(json, 'utf8')) as Instructions;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
