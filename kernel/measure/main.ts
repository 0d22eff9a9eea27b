/**
 * Instructions per transaction of C echo servers on epoll, io_uring and the module, counted on the server's own virtual CPU by
 * plugin.c, in a QEMU guest with Debian's kernel. Times under emulation mean nothing; counts do: the same work takes the
 * same instructions to about one in a hundred (interrupts, and how full the batches are, differ from run to run).
 *
 * usage: node kernel/measure/main.ts [--parts counts,exact,steering,throughput] [--json FILE] [--transactions N] [--connections N]
 *                                    [--each 1,8,128] [--servers epoll,device] [--profile]
 *   counts       (the default) a virtual CPU for the server alone, saturated by two of clients. A packet is received on the CPU that
 *                sends it, as loopback does: the server's CPU does the client's half of receiving, and the other way round
 *   exact        everything on one virtual CPU whose time goes by its instructions (-icount), so that what the host does is not counted.
 *                It cannot be divided (the stack does much of its work in threads of the kernel): what is counted is the
 *                client, both halves of TCP and the server. Not with several servers in one run yet: on one CPU a
 *                listening socket that was shared outlives its server for a moment (the kernel closes it in a thread of
 *                its own), and the next one then finds the port taken
 *   steering     counts, with receive flow steering: each side receives on its own CPU, but for what comes before its first call
 *   throughput   server and clients on 1, 2, 4 virtual CPUs: how the servers compare, not how fast they are
 *   --profile    also where the instructions went, by function of the kernel
 * Exit status: the test bed's (77: it cannot run here, and says why).
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { gunzipSync } from 'node:zlib';

/** Virtual CPUs where instructions are counted: the last is the server's. */
const CPUS = 3;
/** ... and where throughput is compared. */
const SCALES = [1, 2, 4];
const THROUGHPUT_EACH = 8;
const THROUGHPUT_ROUNDS = 5;
const TITLES: Record<string, string> = {
  exact: 'of client and server together, on one CPU, exactly',
  counts: "on the server's CPU",
  steering: "on the server's CPU, with receive flow steering",
};
/** Functions that a profile shows of each server. */
const PROFILE_ROWS = 120;
const { values } = parseArgs({
  options: {
    parts: { type: 'string', default: 'counts' },
    json: { type: 'string' },
    transactions: { type: 'string', default: '4000' },
    connections: { type: 'string', default: '64' },
    each: { type: 'string', default: '1,8,128' },
    servers: { type: 'string' },
    profile: { type: 'boolean', default: false },
  },
});
const EACH = values.each.split(',').map(Number);
const parts = values.parts.split(',');
for (const part of parts)
  if (!['exact', 'counts', 'steering', 'throughput'].includes(part))
    throw new Error(`--parts: ${part} is none of them`);

/** Instructions of the server's CPU for one transaction. */
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
  const result: { exact?: Count[]; counts?: Count[]; steered?: Count[]; throughput?: Rate[] } = {};
  if (parts.includes('exact')) result.exact = count('exact');
  if (parts.includes('counts')) result.counts = count('counts');
  if (parts.includes('steering')) result.steered = count('steering');
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

function count(part: string): Count[] {
  const exact = part === 'exact';
  const plugin = join(work, 'plugin.so');
  const built = spawnSync('gcc', ['-shared', '-fPIC', '-O2', '-o', plugin, join(import.meta.dirname, 'plugin.c')], {
    stdio: 'inherit',
  });
  if (built.status !== 0) throw new Error('plugin.c could not be compiled');
  const marks = join(work, 'marks');
  const output = guest(
    {
      MEGAPIPE_QEMU_PLUGIN: `${plugin},out=${marks}${values.profile ? `,profile=${exact ? 0 : CPUS - 1}` : ''}`,
      MEGAPIPE_GUEST_CPUS: String(exact ? 1 : CPUS),
      ...(exact ? { MEGAPIPE_QEMU_ICOUNT: 'shift=0,sleep=off' } : {}),
    },
    'measure',
    ...(values.profile ? ['-k'] : []),
    ...(part === 'steering' ? ['-f'] : []),
    ...(values.servers ? ['-s', values.servers] : []),
    values.connections,
    values.transactions,
    ...EACH.map(String),
  );
  return report(output, readFileSync(marks, 'utf8'), part);
}

function compare(onCpus: number): Rate[] {
  const output = guest(
    { MEGAPIPE_GUEST_CPUS: String(onCpus) },
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

/** Where the instructions of one measurement went. */
function profile(
  blocks: string[],
  transactions: number,
  { at, names }: { at: bigint[]; names: string[] },
): [string, number][] {
  const sums = new Map<string, number>();
  for (const line of blocks) {
    const [, address, n] = line.split(' ');
    const where = BigInt(`0x${address}`);
    let low = 0;
    for (let high = at.length; high - low > 1; ) {
      const middle = (low + high) >>> 1;
      if (at[middle]! <= where) low = middle;
      else high = middle;
    }
    const name = where >> 63n ? (names[low] ?? '?') : '(user space)';
    sums.set(name, (sums.get(name) ?? 0) + Number(n) / transactions);
  }
  return [...sums].sort((a, b) => b[1] - a[1]).slice(0, PROFILE_ROWS);
}

function report(output: string, marks: string, part: string): Count[] {
  /* "mark", then kernel and user instructions of each CPU; two marks for each measurement. "at": what came before the mark. */
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
  const counts: Count[] = [];
  for (const [, each, server, transactions] of output.matchAll(
    /^measure (\d+) (\S+)\r?\n(?:(?!measure).*\n)*measured (\d+) transactions/gm,
  )) {
    const [before, after] = rows.splice(0, 2) as [number[], number[]];
    const ran = blocks.splice(0, 2)[1]!;
    if (kernelSymbols) {
      console.log(`${server}, ${each} transactions a connection: instructions per transaction`);
      for (const [name, n] of profile(ran, Number(transactions), kernelSymbols))
        console.log(`${n.toFixed(1).padStart(10)}  ${name}`);
    }
    /* The server's CPU is the last. */
    const at = part === 'exact' ? 0 : (CPUS - 1) * 2;
    const per = (i: number): number => (after[i]! - before[i]!) / Number(transactions);
    counts.push({ server: server!, each: Number(each), kernel: per(at), user: per(at + 1) });
  }
  const total = (server: string, each: number): number => {
    const found = counts.find((c) => c.server === server && c.each === each);
    return found ? found.kernel + found.user : Number.NaN;
  };
  const servers = [...new Set(counts.map((c) => c.server))];
  console.log(
    `Instructions per transaction (64 bytes) ${TITLES[part]}, and ${part === 'exact' ? "how they differ from epoll's" : "epoll's as a multiple of them"}`,
  );
  console.log(['transactions a connection', ...EACH.map(String)].join('\t'));
  for (const server of servers)
    console.log(
      [
        server,
        ...EACH.map((each) => {
          const n = total(server, each);
          const epoll = total('epoll', each);
          return `${Math.round(n)} (${part === 'exact' ? Math.round(n - epoll) : (epoll / n).toFixed(2)})`;
        }),
      ].join('\t'),
    );
  return counts;
}
