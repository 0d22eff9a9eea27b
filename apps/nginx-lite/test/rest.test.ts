/** A server that had much to do and has nothing now gives back the pages of its program. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { exchange, get, parseResponses } from './support/client.ts';
import { conf, IO_MODES, startLite } from './support/server.ts';

/** Pages of files, KiB: those of the program, of libraries. */
const programKb = (pid: number): number =>
  Number(/^RssFile:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))![1]);

describe.each(IO_MODES)('--io %s', (io) => {
  it('comes to rest after a rush, and serves on', async () => {
    const http = 'server { listen 127.0.0.1:%PORT%; location /pid { return 200 $pid; } location / { root html; } }';
    const server = await startLite(conf(http), { io, files: { 'html/a.txt': 'a' } });
    try {
      const pid = Number((await get(server.port, '/pid')).body);
      const ask = (count: number): string =>
        'GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(count - 1) +
        'GET /a.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';
      // A thousand are a rush; this is not one yet.
      expect(parseResponses(await exchange(server.port, ask(900)))).toHaveLength(900);
      const busy = programKb(pid);
      expect(parseResponses(await exchange(server.port, ask(200)))).toHaveLength(200);
      await expect.poll(() => programKb(pid), { timeout: 50_000, interval: 200 }).toBeLessThan(busy * 0.75);
      expect(await get(server.port, '/a.txt')).toMatchObject({ status: 200, body: 'a' });
    } finally {
      await server.stop();
    }
  });
});
