/** The whole server with threads that are killed under load: it serves on, with all it can prove sound. */
import { afterEach, describe, expect, it } from 'vitest';
import { Client, IO_MODES, type Server, startOurs } from './servers.ts';

const running: Server[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((server) => server.stop('SIGKILL')));
});

const KILLS = 4;

describe.each(IO_MODES)('memcached-ts --io %s', (io) => {
  it.each([
    { threads: '2', lock: 'striped' },
    { threads: '2', lock: 'global' },
    { threads: '1', lock: 'striped' },
  ])(
    'replaces threads that are killed under load (-t $threads --lock $lock)',
    async ({ threads, lock }) => {
      process.env['NODE_OPTIONS'] = `--import=${new URL('./kill_preload.mjs', import.meta.url).pathname}`;
      const server = await startOurs(io, ['-t', threads, '--lock', lock, '-m', '32']).finally(() => {
        delete process.env['NODE_OPTIONS'];
      });
      running.push(server);
      const first = await Client.connect(server.port);
      for (let i = 0; i < 5000; i++) first.send(`set key${i} 0 0 100 noreply\r\n${String(i).padEnd(100, 'v')}\r\n`);
      await first.ask('mn\r\n');
      let stop = false;
      let served = 0;
      /** A client that comes again whenever its connection is cut, and never sees a wrong value. */
      const load = async (): Promise<void> => {
        while (!stop) {
          const client = await Client.connect(server.port).catch(() => undefined);
          for (let i = 0; !stop && client !== undefined && !client.closed; i = (i + 7) % 5000) {
            const value = String(i).padEnd(100, 'v');
            const text = await client.ask(
              `set key${i} 0 0 100\r\n${value}\r\nget key${i} key${(i + 1) % 5000}\r\n`,
              'END\r\n',
            );
            for (const match of text.matchAll(/VALUE key(\d+) 0 100\r\n(.*)\r\n/g)) {
              expect(match[2]).toBe(match[1]!.padEnd(100, 'v'));
            }
            if (text.endsWith('END\r\n')) served++;
          }
          client?.close();
        }
      };
      const clients = [load(), load(), load(), load()];
      const deaths = (): number => server.stderr().split(' died (').length - 1;
      for (let kill = 1; kill <= KILLS; kill++) {
        const before = served;
        while (served < before + 200) await new Promise((resolve) => setTimeout(resolve, 5));
        process.kill(server.pid, 'SIGUSR2');
        while (deaths() < kill) await new Promise((resolve) => setTimeout(resolve, 5));
      }
      const before = served;
      while (served < before + 200) await new Promise((resolve) => setTimeout(resolve, 5));
      stop = true;
      await Promise.all(clients);
      // All connections are gone but this one, and the count knows it.
      const last = await Client.connect(server.port);
      while (Number((await last.stats())['curr_connections']) > 2)
        await new Promise((resolve) => setTimeout(resolve, 20));
      const stats = await last.stats();
      expect(Number(stats['curr_items'])).toBeGreaterThan(0);
      expect(await server.stop('SIGTERM')).toBe(0);
    },
    120_000,
  );
});
