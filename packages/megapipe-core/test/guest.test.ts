/**
 * The specs of @megapipe/native and @megapipe/core once more, inside a QEMU guest with Debian 12's stock 6.1 kernel, the
 * oldest that is supported: its io_uring lacks NO_SQARRAY and all that came later. There the module of kernel/ can be loaded, too,
 * so backend `device` has its spec there. kernel/testbed does the work.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const testbed = (name: string): string => fileURLToPath(new URL(`../../../kernel/testbed/${name}`, import.meta.url));

/** Why the guest is not started, or '' when it is. */
function reasonToSkip(): string {
  if (process.env['MEGAPIPE_INSIDE_GUEST']) return 'this is the guest';
  if (process.env['MEGAPIPE_SANITIZE'] === '1') return 'the sanitizers run outside of it';
  if (process.env['MEGAPIPE_GUEST'] !== '1' && process.env['CI'] !== 'true')
    return 'it takes minutes: MEGAPIPE_GUEST=1 or CI=true runs it';
  const check = spawnSync('sh', [testbed('packages.sh'), '--check'], { encoding: 'utf8' });
  return check.status === 0 ? '' : check.stderr.trim() || `packages.sh: exit status ${check.status}`;
}

const reason = reasonToSkip();

const all = process.env['MEGAPIPE_GUEST'] === '1';

/** What runs there, and how many times vitest sums up. In CI the part that is about old kernels; the rest takes its time under emulation. */
const SUITES = [
  {
    what: "the native specs pass on Debian's 6.1 kernel",
    suite: ['uring', 'megapipe-native'],
    inCi: true,
    summaries: 1,
  },
  {
    what: "the spec of Channel passes on Debian's 6.1 kernel, on io_uring and on the module (backend device)",
    suite: ['device', '-b', 'uring,device', 'channel', '-t', '^(uring|device) '],
    inCi: true,
    summaries: 1,
  },
  {
    what: "the spec of Channel passes on the module with MegaPipe's parts switched off",
    suite: ['device', 'channel', '-t', '^device, all off '],
    inCi: false,
    summaries: 1,
  },
  {
    what: "attaching to the event loop, listen groups and failing io_uring requests pass on Debian's 6.1 kernel",
    suite: ['uring', 'megapipe-core', 'loop', 'completions'],
    inCi: false,
    summaries: 1,
  },
  {
    what: 'memcached-ts and nginx-lite serve on the module, and on io_uring',
    suite: ['servers'],
    inCi: false,
    summaries: 0,
  },
  {
    what: 'attaching to the event loop, listen groups and what shows a channel to the outside pass on the module',
    suite: ['device', 'loop', 'seeing'],
    inCi: false,
    summaries: 1,
  },
];

/** Why one of them does not run, or ''. */
const why = (inCi: boolean): string => reason || (inCi || all ? '' : 'it takes many minutes: MEGAPIPE_GUEST=1 runs it');

test.for(SUITES.map((one) => ({ ...one, skipped: why(one.inCi) && ` (skipped: ${why(one.inCi)})` })))(
  '$what, in a QEMU guest$skipped',
  { timeout: 1_600_000 },
  async ({ suite, summaries, skipped }, context) => {
    if (skipped !== '') context.skip(skipped);
    const run = spawn('sh', [testbed('run.sh'), ...suite], { stdio: ['ignore', 'pipe', 'pipe'] });
    context.signal.addEventListener('abort', () => run.kill());
    let output = '';
    for (const stream of [run.stdout, run.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    const [status] = (await once(run, 'close')) as [number | null];
    /* What --check promised (an installation, a download) may turn out impossible. */
    if (status === 77) context.skip(output.trim());
    expect(status, output).toBe(0);
    expect(output).toMatch(/Linux 6\.1\./);
    expect(output.match(/^ *Tests +\d+ passed/gm) ?? [], output).toHaveLength(summaries);
  },
);
