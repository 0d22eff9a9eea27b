/** Ends the process with a message: written at once, whatever stderr is, and before anything else happens. */
import { writeSync } from 'node:fs';

export function complain(message: string): void {
  try {
    writeSync(2, `${message}\n`);
  } catch {
    // Nobody listens to what is said there; the exit code says it, too.
  }
}

export function fail(message: string, exitCode: number): never {
  complain(message);
  process.exit(exitCode);
}
