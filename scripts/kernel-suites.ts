/**
 * The kernel module: its self-tests in a QEMU guest on Debian's kernel, and on the debug kernel where one was built, side by side
 * (a guest has one thread); the way of DKMS where that is installed; whether it builds against later headers.
 */
import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

export interface KernelSum {
  kind: string;
  passed: number;
  skipped: number;
  /** The lines of TAP that say what failed. */
  failures: string[];
}

const testbed = (script: string): string => join(import.meta.dirname, '../kernel/testbed', script);

/** Runs a script whose output is TAP, and counts it. Exit status 77: one skip, with the reason on stderr. */
async function tap(kind: string, script: string, args: string[] = [], environment = {}): Promise<KernelSum> {
  const env = { ...process.env, ...environment };
  const run = spawn('sh', [testbed(script), ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const [stdout, stderr, status] = await Promise.all([
    text(run.stdout),
    text(run.stderr),
    new Promise<number | null>((resolve) => run.once('close', resolve)),
  ]);
  const lines = stdout.split('\n');
  const passed = lines.filter((line) => /^ok\b/.test(line)).length;
  const failures = lines.filter((line) => /^not ok\b/.test(line));
  const skips = lines.filter((line) => /^1\.\.0 # SKIP/.test(line));
  if (status === 77) skips.push(stderr.trim());
  else if (status !== 0) {
    process.stderr.write(`${stdout}${stderr}`);
    if (failures.length === 0) failures.push(`exit status ${status}`);
  }
  for (const reason of skips) console.log(`kernel (${kind}): ${reason}`);
  return { kind, passed, skipped: skips.length, failures };
}

export async function kernelSuites(): Promise<KernelSum[]> {
  const quietly = { encoding: 'utf8' } as const;
  const debug = spawnSync('sh', [testbed('debug-kernel.sh'), '--check'], quietly);
  /* What both guests need is there before either looks for it. Where it cannot be had they say so themselves. */
  spawnSync('sh', [testbed('packages.sh')], quietly);
  const stock = async (): Promise<KernelSum[]> => [
    await tap('stock', 'run.sh', ['kselftest']),
    await tap('dkms', 'dkms.sh'),
    await tap('later headers', 'later.sh'),
  ];
  if (debug.status !== 0) {
    console.log(`kernel (debug): not run: ${debug.stderr.trim().replace('testbed: skipped: ', '')}`);
    return stock();
  }
  const environment = { MEGAPIPE_GUEST_KERNEL: 'debug' };
  return (await Promise.all([stock(), tap('debug', 'run.sh', ['kselftest'], environment)])).flat();
}
