/**
 * Instructions per transaction of C echo servers on epoll, io_uring and the module, in a QEMU guest with Debian's kernel. Its one
 * virtual CPU goes by instructions (-icount), so nothing depends on the host, and the same build gives the same counts to the last
 * digit; plugin.c divides them by who runs. Times under emulation mean nothing; counts do.
 *
 * usage: node kernel/measure/main.ts [--parts counts,throughput] [--json FILE] [--transactions N] [--connections N]
 *                                    [--each 1,8,128] [--servers epoll,device] [--profile]
 *   counts       (the default) what the server's CPU does, and the server's own half. Over loopback a packet is received by who
 *                sends it, in softirq: a server with a CPU for itself does its process and the client's half of receiving.
 *                Its own half is its process without that, and the receiving that the client does in its place
 *   throughput   server and clients on 1, 2, 4 virtual CPUs: how the servers compare, not how fast they are
 *   --transactions  counted for each server, a multiple of connections x each, so that as many connections begin and end
 *                as belong to them
 *   --profile    also where the instructions went, by function of the kernel
 * Exit status: the test bed's (77: it cannot run here, and says why).
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { gunzipSync } from 'node:zlib';

/** Virtual CPUs that throughput is compared on. */
const SCALES = [1, 2, 4];
const THROUGHPUT_EACH = 8;
const THROUGHPUT_ROUNDS = 5;
/** Parts of what runs, as plugin.c writes them down. */
const SERVER = 0;
const CLIENT = 1;
const OTHERS = 2;
const IN_SOFTIRQ = 3;
const PARTS = 6;
const PART_TITLES = ['server', 'client', 'others', 'server, in softirq', 'client, in softirq', 'others, in softirq'];
/** Functions that a profile shows of each server. */
const PROFILE_ROWS = 120;
const { values } = parseArgs({
  options: {
    parts: { type: 'string', default: 'counts' },
    json: { type: 'string' },
    transactions: { type: 'string', default: '2048' },
    connections: { type: 'string', default: '64' },
    each: { type: 'string', default: '1,8,128' },
    servers: { type: 'string' },
    profile: { type: 'boolean', default: false },
  },
});
const EACH = values.each.split(',').map(Number);
const parts = values.parts.split(',');
for (const part of parts)
  if (!['counts', 'throughput'].includes(part)) throw new Error(`--parts: ${part} is none of them`);

/** Instructions for one transaction. */
export interface Count {
  server: string;
  /** Transactions a connection. */
  each: number;
  kernel: number;
  user: number;
}

/** Transactions a second, of each round. */
export interface Rate {
  server: string;
  cpus: number;
  rounds: number[];
}

/** The test bed failed, or cannot run here. */
class GuestFailed extends Error {
  readonly status: number;

  constructor(message: string, status: number) {
    super(message);
    this.status = status;
  }
}

const kernelFolder = resolve(import.meta.dirname, '..');
const work = mkdtempSync(join(tmpdir(), 'megapipe-measure-'));
let guestKernel = 'unknown';
try {
  const result: { counts?: Count[]; own?: Count[]; others?: Count[]; throughput?: Rate[] } = {};
  if (parts.includes('counts')) Object.assign(result, count());
  if (parts.includes('throughput')) result.throughput = SCALES.flatMap(compare);
  const environment = {
    guest: guestKernel,
    host: release(),
    cpu: cpus()[0]?.model ?? '',
    date: new Date().toISOString(),
  };
  if (values.json) writeFileSync(values.json, `${JSON.stringify({ environment, ...values, ...result }, null, 2)}\n`);
} catch (error) {
  if (!(error instanceof GuestFailed)) throw error;
  process.stderr.write(error.message);
  process.exitCode = error.status;
} finally {
  rmSync(work, { recursive: true });
}

function guest(env: Record<string, string>, ...args: string[]): string {
  const run = spawnSync('sh', [join(kernelFolder, 'testbed/run.sh'), ...args], {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
    env: { ...process.env, ...env },
  });
  if (run.status !== 0) throw new GuestFailed(`${run.stdout}${run.stderr}`, run.status ?? 1);
  guestKernel = /testbed: Linux (\S+)/.exec(run.stdout)?.[1] ?? guestKernel;
  return run.stdout;
}

interface Counts {
  /** On the server's CPU. */
  counts: Count[];
  /** The server's own half. */
  own: Count[];
  /** Threads of the kernel, and whoever else was there. */
  others: Count[];
}

function count(): Counts {
  const plugin = join(work, 'plugin.so');
  const built = spawnSync('gcc', ['-shared', '-fPIC', '-O2', '-o', plugin, join(import.meta.dirname, 'plugin.c')], {
    stdio: 'inherit',
  });
  if (built.status !== 0) throw new Error('plugin.c could not be compiled');
  const marks = join(work, 'marks');
  const output = guest(
    {
      MEGAPIPE_QEMU_PLUGIN: `${plugin},out=${marks}${values.profile ? ',profile=1' : ''}`,
      MEGAPIPE_GUEST_CPUS: '1',
      MEGAPIPE_QEMU_ICOUNT: 'shift=0,sleep=off',
    },
    'measure',
    ...(values.profile ? ['-k'] : []),
    ...(values.servers ? ['-s', values.servers] : []),
    values.connections,
    values.transactions,
    ...EACH.map(String),
  );
  return report(output, readFileSync(marks, 'utf8'));
}

function compare(onCpus: number): Rate[] {
  const output = guest(
    { MEGAPIPE_GUEST_CPUS: String(onCpus), MEGAPIPE_QEMU_ACCEL: 'tcg,thread=single' },
    'throughput',
    values.connections,
    String(THROUGHPUT_EACH),
    String(THROUGHPUT_ROUNDS),
  );
  const rounds = new Map<string, number[]>();
  for (const [, server, rate] of output.matchAll(/^server (\S+)\r?\n(?:(?!server).*\n)*throughput (\d+) a second/gm))
    rounds.set(server!, [...(rounds.get(server!) ?? []), Number(rate)]);
  /* What else the host does can only slow a round down. */
  const best = (server: string): number => Math.max(...rounds.get(server)!);
  console.log(
    `Throughput under emulation on ${onCpus} virtual CPUs (${THROUGHPUT_EACH} transactions a connection), as multiples of epoll's, the best of ${THROUGHPUT_ROUNDS} rounds each`,
  );
  for (const [server, each] of rounds)
    console.log([server, (best(server) / best('epoll')).toFixed(2), `(${each.join(', ')})`].join('\t'));
  return [...rounds].map(([server, each]) => ({ server, cpus: onCpus, rounds: each }));
}

/** Kernel functions by address, from what the guest's suite printed last: names, and where each begins, in order. */
function symbols(output: string): { at: bigint[]; names: string[] } {
  const packed = /^symbols\r?\n([A-Za-z0-9+/=\s]+?)^testbed:/m.exec(output)?.[1] ?? '';
  const rows = gunzipSync(Buffer.from(packed, 'base64'))
    .toString()
    .trim()
    .split('\n')
    .map((line) => line.split(' '))
    .map(([at, name]) => ({ at: BigInt(`0x${at}`), name: name! }))
    .sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
  return { at: rows.map((row) => row.at), names: rows.map((row) => row.name) };
}

/** Where the instructions of one measurement went: functions and their instructions, of each part. */
function profile(
  blocks: string[],
  transactions: number,
  { at, names }: { at: bigint[]; names: string[] },
): [string, number][][] {
  const sums = Array.from({ length: PARTS }, () => new Map<string, number>());
  for (const line of blocks) {
    const [, address, part, n] = line.split(' ');
    const where = BigInt(`0x${address}`);
    let low = 0;
    for (let high = at.length; high - low > 1; ) {
      const middle = (low + high) >>> 1;
      if (at[middle]! <= where) low = middle;
      else high = middle;
    }
    const name = where >> 63n ? (names[low] ?? '?') : '(user space)';
    const of = sums[Number(part)]!;
    of.set(name, (of.get(name) ?? 0) + Number(n) / transactions);
  }
  return sums.map((of) => [...of].sort((a, b) => b[1] - a[1]).slice(0, PROFILE_ROWS));
}

function report(output: string, marks: string): Counts {
  /* "mark", then kernel and user instructions of each part; two marks for each measurement. "at": what came before the mark. */
  const rows: number[][] = [];
  const blocks: string[][] = [];
  for (const line of marks.trim().split('\n')) {
    if (line.startsWith('at ')) blocks.at(-1)!.push(line);
    else {
      rows.push(line.split(' ').slice(1).map(Number));
      blocks.push([]);
    }
  }
  const kernelSymbols = values.profile ? symbols(output) : null;
  const result: Counts = { counts: [], own: [], others: [] };
  for (const [, each, server, transactions] of output.matchAll(
    /^measure (\d+) (\S+)\r?\n(?:(?!measure ).*\n)*measured (\d+) transactions/gm,
  )) {
    const [before, after] = rows.splice(0, 2) as [number[], number[]];
    const ran = blocks.splice(0, 2)[1]!;
    if (kernelSymbols)
      profile(ran, Number(transactions), kernelSymbols).forEach((functions, part) => {
        console.log(`${each} transactions a connection, ${server}: ${PART_TITLES[part]}`);
        for (const [name, n] of functions) console.log(`${n.toFixed(1).padStart(10)}  ${name}`);
      });
    const per = (i: number): number => (after[i]! - before[i]!) / Number(transactions);
    const sum = (...of: number[]): Count => ({
      server: server!,
      each: Number(each),
      kernel: of.reduce((all, part) => all + per(2 * part), 0),
      user: of.reduce((all, part) => all + per(2 * part + 1), 0),
    });
    result.counts.push(sum(SERVER, SERVER + IN_SOFTIRQ));
    result.own.push(sum(SERVER, CLIENT + IN_SOFTIRQ));
    result.others.push(sum(OTHERS, OTHERS + IN_SOFTIRQ));
  }
  show("on the server's CPU", result.counts);
  show('of its own half', result.own);
  show('of others than server and client', result.others);
  return result;
}

function show(what: string, counts: Count[]): void {
  const total = (server: string, each: number): number => {
    const found = counts.find((c) => c.server === server && c.each === each);
    return found ? found.kernel + found.user : Number.NaN;
  };
  console.log(`Instructions per transaction (64 bytes) ${what}, and epoll's as a multiple of them`);
  console.log(['transactions a connection', ...EACH.map(String)].join('\t'));
  for (const server of new Set(counts.map((c) => c.server)))
    console.log(
      [
        server,
        ...EACH.map((each) => {
          const n = total(server, each);
          return `${n.toFixed(1)} (${(total('epoll', each) / n).toFixed(3)})`;
        }),
      ].join('\t'),
    );
}
