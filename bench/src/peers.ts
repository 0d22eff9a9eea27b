/** Where the programs are that experiments start: Debian's, the C references, the project's own. */
import { accessSync, constants } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Launch, Missing } from './experiment.ts';

const fromBench = (path: string): string => fileURLToPath(new URL(`../${path}`, import.meta.url));

function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Path of an installed program, or null. Daemons live in sbin, which is not in everybody's PATH. */
export function findProgram(name: string): string | null {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin', '/usr/bin'];
  for (const folder of folders) {
    const path = join(folder, name);
    if (folder !== '' && executable(path)) return path;
  }
  return null;
}

/** Path of a Debian program; throws {@link Missing} with the line that installs it. */
export function debianProgram(name: string): string {
  const path = findProgram(name);
  if (path === null) throw new Missing(`${name} is not installed (as root: apt-get install ${name})`);
  return path;
}

export function referenceProgram(name: string): string {
  const path = fromBench(`build/reference/${name}`);
  if (!executable(path)) throw new Missing(`${name} is not built (sh scripts/build-reference.sh)`);
  return path;
}

/** The program that the npm package `bun` brings for this machine; throws {@link Missing} where it is not installed. */
export function bunProgram(): string {
  try {
    const bun = createRequire(import.meta.url).resolve('bun/package.json');
    const arch = process.arch === 'arm64' ? 'aarch64' : 'x64';
    const platform = createRequire(bun).resolve(`@oven/bun-linux-${arch}/package.json`);
    const path = join(dirname(platform), 'bin', 'bun');
    if (executable(path)) return path;
  } catch {
    // Optional: not there.
  }
  throw new Missing('the optional npm package bun is not installed (pnpm install)');
}

/** Path of a file of src/servers/. */
export function serverFile(file: string): string {
  return fromBench(`src/servers/${file}`);
}

/** Executable of one of the workspace's applications. */
export function application(name: string): string {
  return fromBench(`../apps/${name}/bin/${name}`);
}

/** A server of src/servers/, on 0.0.0.0 and a port of its choice. */
export function nodeServer(file: string, ...args: string[]): Launch {
  return {
    command: [
      process.execPath,
      '--disable-warning=ExperimentalWarning',
      serverFile(file),
      '-l',
      '0.0.0.0',
      '-p',
      '0',
      ...args,
    ],
    port: 0,
  };
}
