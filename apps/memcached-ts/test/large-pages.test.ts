/** -L: large memory pages, and what memcached takes at the start for them. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { whyNoLargePages } from '../src/large_pages.ts';
import { Client, DEBIANS, endsWithTest, hasDebians, IO_MODES, OURS, runToEnd, start, startOurs } from './servers.ts';

const none = whyNoLargePages();
if (none !== undefined) console.warn(`skipped: -L: ${none}`);

describe.skipIf(none !== undefined)('-L', () => {
  it.each(IO_MODES)('puts large pages under the cache (--io %s)', async (io) => {
    const { pid } = endsWithTest(await startOurs(io, ['-L', '-m', '64']));
    const mappings = readFileSync(`/proc/${pid}/smaps`, 'latin1').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
    const cache = mappings.filter((mapping) => Number(/^Size:\s+(\d+) kB$/m.exec(mapping)![1]) >= 64 * 1024);
    // hg: somebody asked for them. Whether there are any free is the system's affair.
    expect(cache.filter((mapping) => /^VmFlags:.* hg( |$)/m.test(mapping))).not.toEqual([]);
  });

  it.skipIf(!hasDebians)('gives each slab class a page, as Debian’s memcached', async () => {
    const args = ['-L', '-m', '64', '-t', '1'];
    const servers = await Promise.all([start(DEBIANS, args), ...IO_MODES.map((io) => startOurs(io, args))]);
    const [want, ...got] = await Promise.all(
      servers.map(async (server) => {
        const client = await Client.connect(endsWithTest(server).port);
        await client.ask('set key 0 0 5\r\nvalue\r\n');
        return client.stats('slabs');
      }),
    );
    expect(want!['active_slabs']).toBe('39');
    expect(got).toEqual([want, want]);
  });

  it.skipIf(!hasDebians)('ends where memory has no page for each class, with Debian’s words', async () => {
    const args = ['-u', 'root', '-l', '127.0.0.1', '-p', '0', '-U', '0', '-vv', '-L', '-m', '20'];
    const [want, got] = await Promise.all([runToEnd(DEBIANS, args), runToEnd(OURS, args)]);
    expect(want.code).not.toBe(0);
    expect(got).toEqual(want);
  });
});
