/** The machine a run was made on: figures without it mean nothing. Not its job: judging it. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { findProgram } from './peers.ts';
import type { Environment } from './results.ts';

const HERE = fileURLToPath(new URL('.', import.meta.url));

function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return null;
  }
}

/** What a program prints, its first line; null when it is not there or fails. */
function ask(file: string | null, ...args: string[]): string | null {
  if (file === null) return null;
  try {
    const text = execFileSync(file, args, { cwd: HERE, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return text.split('\n')[0]!.trim();
  } catch {
    return null;
  }
}

function commit(): string {
  const hash = ask('git', 'rev-parse', '--short=12', 'HEAD');
  if (hash === null) return 'unknown';
  return ask('git', 'status', '--porcelain', '--untracked-files=no', '..') === '' ? hash : `${hash} with local changes`;
}

function version(program: string, flag: string): string {
  const path = findProgram(program);
  if (path === null) return 'not installed';
  // nginx says its version on stderr.
  return ask('/bin/sh', '-c', 'exec "$0" "$1" 2>&1', path, flag) ?? 'unknown';
}

function distribution(): string {
  const name = /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(read('/etc/os-release') ?? '');
  return name?.[1] ?? 'unknown';
}

export function recordEnvironment(
  serverCpu: number | null,
  clientCpu: number | null,
  clientBackend: string,
): Environment {
  const list = cpus();
  return {
    kernel: release(),
    cpu: list[0]?.model.trim() ?? 'unknown',
    cpus: list.length,
    memoryGiB: Math.round((totalmem() / 2 ** 30) * 10) / 10,
    governor: read('/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor') ?? 'none shown (virtual machine?)',
    node: process.version,
    commit: commit(),
    distribution: distribution(),
    loadAverage: Math.round(loadavg()[0]! * 100) / 100,
    serverCpu,
    clientCpu,
    peers: {
      memcached: version('memcached', '-V'),
      nginx: version('nginx', '-v'),
      cc: version('cc', '--version'),
    },
    clientBackend,
  };
}
