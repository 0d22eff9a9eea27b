/** Debian's memcached and ours in both io modes side by side, for tests that play the same to all and compare what comes back. */
import { afterAll, beforeAll, expect } from 'vitest';
import { aroundDifference } from './pieces.ts';
import { DEBIANS, hasDebians, IO_MODES, type Server, start, startOurs } from './servers.ts';

if (!hasDebians) console.warn(`skipped: ${DEBIANS} is not installed, so there is nothing to compare with`);

/** How many random exchanges each oracle plays. */
export const ORACLE_RUNS = Number(process.env['ORACLE_RUNS'] ?? 300);

export interface Oracle {
  theirs: Server;
  /** In the order of IO_MODES. */
  ours: Server[];
}

/** Servers for the tests of the `describe` that calls this; their fields are there once those run. */
export function oracleServers(): Oracle {
  const oracle = { ours: [] as Server[] } as unknown as Oracle;
  // One worker each, and so much memory that nothing is evicted: which item would be is not part of the protocol.
  const args = ['-m', '1024', '-t', '1'];
  beforeAll(async () => {
    oracle.theirs = await start(DEBIANS, args);
    for (const io of IO_MODES) oracle.ours.push(await startOurs(io, args));
  });
  afterAll(async () => {
    await Promise.all([oracle.theirs, ...oracle.ours].map((server) => server?.stop()));
  });
  return oracle;
}

/** Plays to each; ours must answer as theirs does. `words`: how a difference is shown. */
export async function expectSame(
  { theirs, ours }: Oracle,
  playTo: (server: Server) => Promise<Buffer>,
  words: (got: Buffer, want: Buffer) => [got: unknown, want: unknown] = aroundDifference,
): Promise<void> {
  const want = await playTo(theirs);
  for (const [i, server] of ours.entries()) {
    const answer = await playTo(server);
    if (answer.equals(want)) continue;
    const [got, wanted] = words(answer, want);
    expect({ io: IO_MODES[i], answer: got }).toEqual({ io: IO_MODES[i], answer: wanted });
  }
}
