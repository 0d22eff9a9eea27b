/** The whole server with threads that are killed under load: it serves on, with all it can prove sound. */
import { describe, expect, it } from 'vitest';
import { Client, endsWithTest, IO_MODES, type Server, startOurs } from './servers.ts';

const KILLS = 4;

/** A server whose threads end, each in turn, on SIGUSR2. */
async function startMortal(io: string, args: string[]): Promise<Server> {
  const preload = new URL('./kill_preload.mjs', import.meta.url).pathname;
  return endsWithTest(await startOurs(io, args, { NODE_OPTIONS: `--import=${preload}` }));
}

/** Ends a thread, and waits until the server has repaired what it left. */
async function killOne(server: Server): Promise<void> {
  const deaths = (): number => server.stderr().split(' died (').length - 1;
  const before = deaths();
  process.kill(server.pid, 'SIGUSR2');
  while (deaths() === before) await new Promise((resolve) => setTimeout(resolve, 5));
}

describe.each(IO_MODES)('memcached-ts --io %s', (io) => {
  // How the dead are cleaned up after does not depend on the io mode; that connections come back does.
  it.each([
    { threads: '2', lock: 'striped' },
    io === 'megapipe' ? { threads: '1', lock: 'striped' } : { threads: '2', lock: 'global' },
  ])('replaces threads that are killed under load (-t $threads --lock $lock)', async ({ threads, lock }) => {
    const server = await startMortal(io, ['-t', threads, '--lock', lock, '-m', '32']);
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
    for (let kill = 1; kill <= KILLS; kill++) {
      const before = served;
      while (served < before + 200) await new Promise((resolve) => setTimeout(resolve, 5));
      await killOne(server);
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
  });

  it('replaces a thread that ends before it has begun to serve', async () => {
    const server = await startMortal(io, ['-t', '1']);
    // The worker, the background thread, and the worker that has just been started for the first: it takes a while to begin.
    for (let kill = 0; kill < 3; kill++) await killOne(server);
    const client = await Client.connect(server.port);
    expect(await client.ask('set a 0 0 1\r\n1\r\n')).toBe('STORED\r\n');
    client.close();
    expect(await server.stop('SIGTERM')).toBe(0);
  });

  it('nobody waits for the answer of a worker that died, and nothing of it stays behind', async () => {
    const server = await startMortal(io, ['-t', '2', '-c', '8', '-o', 'no_maxconns_fast']);
    // Eight that have a place, one of them watching, and four that wait for one.
    const placed = await Promise.all(Array.from({ length: 8 }, () => Client.connect(server.port)));
    for (const client of placed) expect(await client.ask('mn\r\n')).toBe('MN\r\n');
    expect(await placed[0]!.ask('watch connevents mutations\r\n')).toBe('OK\r\n');
    const waiting = await Promise.all(Array.from({ length: 4 }, () => Client.connect(server.port)));
    while ((await placed[1]!.stats())['accepting_conns'] !== '0')
      await new Promise((resolve) => setTimeout(resolve, 5));
    expect((await placed[1]!.stats())['log_watchers']).toBe('1');
    let answers = 0;
    /** Asks until its own worker dies: every answer is a whole one. */
    const askAll = async (client: Client): Promise<void> => {
      while (!client.closed) {
        const text = await client.ask('stats conns\r\n', 'END\r\n');
        if (!client.closed) expect(text).toMatch(/^(STAT .*\r\n)+END\r\n$/);
        answers++;
      }
    };
    const asking = placed.slice(1).map(askAll);
    // Both workers and the background thread, the first of them twice or more.
    for (let kill = 0; kill < 4; kill++) {
      const before = answers;
      while (answers < before + 20 && placed.slice(1).some((client) => !client.closed)) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await killOne(server);
    }
    await Promise.all(asking);
    for (const client of [...placed, ...waiting]) client.close();
    const last = await Client.connect(server.port);
    for (;;) {
      const stats = await last.stats();
      const { accepting_conns, log_watchers, curr_connections } = stats;
      if (accepting_conns === '1' && log_watchers === '0' && curr_connections === '1') {
        // What the dead kept for their twelve connections is gone.
        expect(Number(stats['connection_structures'])).toBeLessThan(8);
        break;
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(await last.ask('set a 0 0 1\r\n1\r\n')).toBe('STORED\r\n');
    // Watching works as before, on whichever worker, also for lines of workers that are new.
    const watcher = await Client.connect(server.port);
    expect(await watcher.ask('watch mutations\r\n')).toBe('OK\r\n');
    await last.ask('set b 0 0 1\r\n1\r\n');
    expect(await watcher.until('\n')).toContain('type=item_store key=b ');
    watcher.close();
    last.close();
    expect(await server.stop('SIGTERM')).toBe(0);
  });
});
