/** Arbitraries that several tests share. */
import fc from 'fast-check';

/** A place within something, 0 ≤ x < 1, evenly spread. (fc.double spreads over bit patterns: nearly all are next to 0.) */
export const fraction = fc.noBias(fc.integer({ min: 0, max: 999_999 })).map((n) => n / 1e6);
