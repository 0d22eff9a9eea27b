/** Cutting an exchange into packets and stages, and telling where two answers part. */
/**
 * What stands behind a `quit` goes with its end: it would reach a server that has closed, whose reset makes the client's
 * next write fail, and with that it loses what it has not read yet.
 */
export function pieces(text: Buffer, cuts: readonly number[]): Buffer[] {
  const quit = text.indexOf('quit\r\n');
  const last = quit < 0 ? text.length : quit + 'quit\r'.length;
  const places = [...new Set(cuts.map((cut) => Math.floor(cut * text.length)))]
    .filter((place) => place <= last)
    .sort((a, b) => a - b);
  return [0, ...places]
    .map((from, i) => text.subarray(from, places[i] ?? text.length))
    .filter((piece) => piece.length > 0);
}

/**
 * Commands in stages for `playStages`: one that changes a number begins a new stage when its own has read anything.
 * While memcached still holds an item for a reply that it has not sent, it does not write a shorter number in the old
 * one's place, filled up with spaces, but makes a new item: what comes back would depend on the packets.
 */
export function stages(
  commands: readonly Buffer[],
  reads: (command: Buffer) => boolean,
  counts: (command: Buffer) => boolean,
): Buffer[] {
  const made: Buffer[][] = [[]];
  let hasRead = false;
  for (const command of commands) {
    if (hasRead && counts(command)) {
      made.push([]);
      hasRead = false;
    }
    made.at(-1)!.push(command);
    hasRead ||= reads(command);
  }
  return made.map((stage) => Buffer.concat(stage));
}

/** `stages` for text and meta commands. */
export function textStages(commands: readonly string[]): Buffer[] {
  return stages(
    commands.map((command) => Buffer.from(command, 'latin1')),
    (command) => /^ *(gets?|gats?|mg) /.test(command.toString('latin1', 0, 20)),
    (command) => /^ *(incr|decr|ma) /.test(command.toString('latin1', 0, 20)),
  );
}

/** What stands around the first byte that differs, of both. */
export function aroundDifference(got: Buffer, want: Buffer): [got: string, want: string] {
  const at = want.findIndex((byte, i) => byte !== got[i]);
  const from = Math.max(0, (at < 0 ? want.length : at) - 100);
  return [got.toString('latin1', from, from + 300), want.toString('latin1', from, from + 300)];
}
