/** Cutting an exchange into packets, and telling where two answers part. */
export function pieces(text: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [...new Set(cuts.map((cut) => Math.floor(cut * text.length)))].sort((a, b) => a - b);
  return [0, ...places]
    .map((from, i) => text.subarray(from, places[i] ?? text.length))
    .filter((piece) => piece.length > 0);
}

/** What stands around the first byte that differs, of both. */
export function aroundDifference(got: Buffer, want: Buffer): [got: string, want: string] {
  const at = want.findIndex((byte, i) => byte !== got[i]);
  const from = Math.max(0, (at < 0 ? want.length : at) - 100);
  return [got.toString('latin1', from, from + 300), want.toString('latin1', from, from + 300)];
}
