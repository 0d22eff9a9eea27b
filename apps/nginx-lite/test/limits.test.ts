/** worker_rlimit_nofile, worker_rlimit_core, worker_priority, working_directory: what the process that serves has. */

import { readFileSync, readlinkSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { get } from './support/client.ts';
import { oracleAvailable } from './support/oracle.ts';
import { conf, DEBIAN_NGINX, makePrefix, type Running, startDebian, startLite } from './support/server.ts';

const SERVER = 'server { listen 127.0.0.1:%PORT%; location /pid { return 200 $pid; } }';
const AS_ROOT = process.getuid?.() === 0;

const pidOf = async (server: Running): Promise<number> => Number((await get(server.port, '/pid')).body);

/** Soft and hard limit of a process. */
function limitsOf(pid: number, name: string): string[] {
  const line = readFileSync(`/proc/${pid}/limits`, 'latin1')
    .split('\n')
    .find((each) => each.startsWith(name));
  return (line ?? '').slice(26).trim().split(/\s+/).slice(0, 2);
}

test.skipIf(!AS_ROOT)('limits, priority and folder are those of the configuration, for each worker', async () => {
  const main =
    'worker_processes 2; worker_rlimit_nofile 3000; worker_rlimit_core 1m; worker_priority 3; working_directory %DIR%/html;';
  const server = await startLite(conf(SERVER, main));
  try {
    const pid = await pidOf(server);
    // Two workers share the process, and each has what it was promised.
    expect(limitsOf(pid, 'Max open files')).toEqual(['6000', '6000']);
    expect(limitsOf(pid, 'Max core file size')).toEqual(['1048576', '1048576']);
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    expect(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]).toBe('3');
    expect(readlinkSync(`/proc/${pid}/cwd`)).toBe(realpathSync(join(server.dir, 'html')));
  } finally {
    await server.stop();
  }
});

test.skipIf(!AS_ROOT)('a limit that may not be raised is told, and the server serves on', async () => {
  const main = 'worker_processes 1; worker_rlimit_nofile 1000000000000; worker_rlimit_core 1;';
  const server = await startLite(conf(SERVER, main));
  try {
    await server.logged(
      'error.log',
      /\[alert\] .*setrlimit\(RLIMIT_NOFILE, 1000000000000\) failed \(1: Operation not permitted\)/,
    );
    expect((await get(server.port, '/pid')).status).toBe(200);
  } finally {
    await server.stop();
  }
});

test.skipIf(!oracleAvailable)(`more connections than descriptors: the warning of ${DEBIAN_NGINX}`, async () => {
  const warnings: string[][] = [];
  const limit = Number(limitsOf(process.pid, 'Max open files')[0]);
  for (const start of [startDebian, startLite]) {
    for (const main of [
      'worker_processes 1;',
      'worker_processes 1; worker_rlimit_nofile 100;',
      `worker_processes 1; worker_rlimit_nofile ${limit};`,
    ]) {
      const dir = makePrefix();
      const server = await start(conf('', main, `worker_connections ${limit + 5};`), { dir });
      await server.stop();
      warnings.push([...server.log('error.log').matchAll(/\[warn\] \S+ (.*)/g)].map((each) => each[1] as string));
    }
  }
  expect(warnings.slice(3)).toEqual(warnings.slice(0, 3));
  expect(warnings[0]).toHaveLength(1);
});
