/** Clients of other languages, as Debian packages them, against both io modes. Each program checks what comes back itself. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { IO_MODES, runToEnd, startOurs } from './servers.ts';

const CLIENTS = [
  {
    debian: 'python3-pymemcache',
    command: '/usr/bin/python3',
    probe: ['-c', 'import pymemcache'],
    file: 'pymemcache_client.py',
  },
  {
    debian: 'python3-pylibmc',
    command: '/usr/bin/python3',
    probe: ['-c', 'import pylibmc'],
    file: 'pylibmc_client.py',
  },
  {
    debian: 'libcache-memcached-fast-perl',
    command: '/usr/bin/perl',
    probe: ['-MCache::Memcached::Fast', '-e1'],
    file: 'fast_client.pl',
  },
];

describe.each(CLIENTS)('$debian', ({ debian, command, probe, file }) => {
  const present = spawnSync(command, probe).status === 0;
  if (!present) console.warn(`skipped: Debian's ${debian} is not installed`);

  (present ? it.concurrent : it.skip).each(IO_MODES)('is content with --io %s', async (io) => {
    const server = await startOurs(io, ['-m', '256']);
    try {
      const program = fileURLToPath(new URL(`clients/${file}`, import.meta.url));
      const { code, stdout, stderr } = await runToEnd(command, [program, String(server.port)]);
      expect(stderr).toBe('');
      expect(stdout).toBe('ok\n');
      expect(code).toBe(0);
    } finally {
      await server.stop();
    }
  });
});
