/**
 * What timeouts cost: `node src/deadlines.ts [HANDLES]`.
 *
 * A server moves the deadline of a connection with every request and lets almost none pass. Measured on the channel's timer
 * wheel: moving one deadline, and the wheel's turning with one for each of HANDLES (100,000) connections, in simulated time.
 * Prints nanoseconds, and the share of a core that the turning takes. Not its job: the channel around it.
 */
import { parseArgs } from 'node:util';
import { median } from 'simple-statistics';
import { Deadlines, TICK_MS } from '../../packages/megapipe-core/src/deadlines.ts';
import { Random } from './loadgen/random.ts';

const ROUNDS = 9;
const MOVES = 2_000_000;
const TIMEOUT_MS = 60_000;
/** Simulated time of one round of turning. */
const TURN_MS = 120_000;

function measure(handles: number): { moveNs: number; turnNsPerSecond: number; fired: number } {
  const moves: number[] = [];
  const turns: number[] = [];
  let fired = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const wheel = new Deadlines(handles);
    const random = new Random(round + 1);
    let now = 0;
    wheel.advance(now, () => {});
    for (let slot = 0; slot < handles; slot++) wheel.set(slot, now + 1 + random.below(TIMEOUT_MS));
    const start = performance.now();
    for (let i = 0; i < MOVES; i++) wheel.set(random.below(handles), now + TIMEOUT_MS);
    moves.push(((performance.now() - start) * 1e6) / MOVES);
    // Every connection is in use: its deadline is always a minute away, and none passes.
    let spent = 0;
    for (let turn = 0; turn < TURN_MS / TICK_MS; turn++) {
      now += TICK_MS;
      for (let slot = turn % 10; slot < handles; slot += 10) wheel.set(slot, now + TIMEOUT_MS);
      const before = performance.now();
      wheel.advance(now, () => fired++);
      spent += performance.now() - before;
    }
    turns.push((spent * 1e6) / (TURN_MS / 1000));
  }
  return { moveNs: median(moves), turnNsPerSecond: median(turns), fired };
}

const { positionals } = parseArgs({ allowPositionals: true });
const handles = Number(positionals[0] ?? 100_000);
if (!Number.isInteger(handles) || handles < 1 || handles > 500_000) {
  process.stderr.write(`deadlines: expected a number of handles from 1 to 500,000, got "${positionals[0]}"\n`);
  process.exit(2);
}
const { moveNs, turnNsPerSecond, fired } = measure(handles);
process.stdout.write(
  `${handles} deadlines: moving one takes ${moveNs.toFixed(1)} ns; the wheel takes ${(turnNsPerSecond / 1e6).toFixed(3)} ms a second ` +
    `(${(turnNsPerSecond / 1e7).toFixed(3)} % of a core); ${fired} passed\n`,
);
