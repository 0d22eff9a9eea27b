/** libmemcached's own check of servers, over both protocols, against both io modes. */
import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { IO_MODES, runToEnd, startOurs } from './servers.ts';

const MEMCCAPABLE = '/usr/bin/memccapable';
const present = existsSync(MEMCCAPABLE);
if (!present) console.warn(`skipped: ${MEMCCAPABLE} is not installed (Debian's libmemcached-tools)`);

describe.skipIf(!present)('memccapable', () => {
  // Most of its time it waits for things to expire.
  it.concurrent.each(IO_MODES)('passes text and binary against --io %s', async (io) => {
    const server = await startOurs(io);
    try {
      const { code, stdout } = await runToEnd(MEMCCAPABLE, ['-h', '127.0.0.1', '-p', String(server.port), '-t', '60']);
      expect(stdout).toContain('All tests passed');
      expect(code).toBe(0);
    } finally {
      await server.stop();
    }
  });
});
