/**
 * Instructions per transaction of C echo servers on epoll, io_uring and the module, counted on the server's own virtual CPU by
 * plugin.c, in a QEMU guest with Debian's kernel. Times under emulation mean nothing; counts do: the same work takes the
 * same instructions to about one in a hundred (interrupts, and how full the batches are, differ from run to run).
 *
 * usage: node kernel/measure/main.ts [--json FILE] [--transactions N] [--connections N]
 * Exit status: the test bed's (77: it cannot run here, and says why).
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

const CPUS = 3;
const EACH = [1, 8, 128];
const { values } = parseArgs({
  options: {
    json: { type: 'string' },
    transactions: { type: 'string', default: '4000' },
    connections: { type: 'string', default: '64' },
  },
});

/** Instructions of the server's CPU for one transaction. */
export interface Count {
  server: string;
  /** Transactions a connection. */
  each: number;
  kernel: number;
  user: number;
}

const kernelFolder = resolve(import.meta.dirname, '..');
const work = mkdtempSync(join(tmpdir(), 'megapipe-measure-'));
try {
  const plugin = join(work, 'plugin.so');
  const built = spawnSync('gcc', ['-shared', '-fPIC', '-O2', '-o', plugin, join(import.meta.dirname, 'plugin.c')], {
    stdio: 'inherit',
  });
  if (built.status !== 0) throw new Error('plugin.c could not be compiled');
  const marks = join(work, 'marks');
  const run = spawnSync(
    'sh',
    [join(kernelFolder, 'testbed/run.sh'), 'measure', values.connections, values.transactions, ...EACH.map(String)],
    {
      encoding: 'utf8',
      env: { ...process.env, MEGAPIPE_QEMU_PLUGIN: `${plugin},out=${marks}`, MEGAPIPE_GUEST_CPUS: String(CPUS) },
    },
  );
  if (run.status !== 0) {
    process.stderr.write(`${run.stdout}${run.stderr}`);
    process.exitCode = run.status ?? 1;
  } else report(run.stdout, readFileSync(marks, 'utf8'));
} finally {
  rmSync(work, { recursive: true });
}

function report(output: string, marks: string): void {
  /* "mark", then kernel and user instructions of each CPU; two marks for each measurement. */
  const rows = marks
    .trim()
    .split('\n')
    .map((line) => line.split(' ').slice(1).map(Number));
  const counts: Count[] = [];
  for (const [, each, server, transactions] of output.matchAll(
    /^measure (\d+) (\S+)\r?\n(?:(?!measure).*\n)*measured (\d+) transactions/gm,
  )) {
    const [before, after] = rows.splice(0, 2) as [number[], number[]];
    const at = (CPUS - 1) * 2;
    const per = (i: number): number => (after[i]! - before[i]!) / Number(transactions);
    counts.push({ server: server!, each: Number(each), kernel: per(at), user: per(at + 1) });
  }
  const total = (server: string, each: number): number => {
    const found = counts.find((c) => c.server === server && c.each === each);
    return found ? found.kernel + found.user : Number.NaN;
  };
  const servers = [...new Set(counts.map((c) => c.server))];
  console.log(`Instructions per transaction (64 bytes) on the server's CPU, and epoll's as a multiple of them`);
  console.log(['transactions a connection', ...EACH.map(String)].join('\t'));
  for (const server of servers)
    console.log(
      [
        server,
        ...EACH.map((each) => {
          const n = total(server, each);
          return `${Math.round(n)} (${(total('epoll', each) / n).toFixed(2)})`;
        }),
      ].join('\t'),
    );
  const guest = /testbed: Linux (\S+)/.exec(output)?.[1] ?? 'unknown';
  const environment = { guest, host: release(), cpu: cpus()[0]?.model ?? 'unknown', date: new Date().toISOString() };
  if (values.json) writeFileSync(values.json, `${JSON.stringify({ environment, ...values, counts }, null, 2)}\n`);
}
