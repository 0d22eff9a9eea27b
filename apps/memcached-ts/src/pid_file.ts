/** -P: the process number in a file, as memcached writes it: to a temporary name first, with a warning where another runs. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { complain } from './fail.ts';
import { reason } from './strerror.ts';

export function writePidFile(path: string): void {
  const other = Number.parseInt(readIfThere(path), 10);
  if (other > 0 && isRunning(other)) {
    complain(`WARNING: The pid file contained the following (running) pid: ${other}`);
  }
  const temporary = `${path}.tmp`;
  try {
    writeFileSync(temporary, `${process.pid}\n`);
  } catch (error) {
    complain(`Could not open the pid file ${temporary} for writing: ${reason(error)}`);
    return;
  }
  try {
    renameSync(temporary, path);
  } catch (error) {
    complain(`Could not rename the pid file from ${temporary} to ${path}: ${reason(error)}`);
  }
}

/** Only where it still names this process: another server may have taken it over. */
export function removePidFile(path: string): void {
  if (Number.parseInt(readIfThere(path), 10) !== process.pid) return;
  try {
    rmSync(path, { force: true });
  } catch (error) {
    complain(`Could not remove the pid file ${path}: ${reason(error)}`);
  }
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}
