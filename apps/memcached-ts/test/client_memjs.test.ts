/** The npm package `memjs`, a client of the binary protocol with SASL PLAIN, against both io modes. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'memjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packet, readPackets } from './packets.ts';
import { IO_MODES, play, type Server, startOurs } from './servers.ts';

const quiet = { log: () => {} };
/** Generous: two slow cores shared with other tests. Seconds. */
const patient = { timeout: 60, logger: quiet };

describe.each(IO_MODES)('npm memjs against --io %s', (io) => {
  let server: Server;
  let client: Client;

  beforeAll(async () => {
    server = await startOurs(io);
    client = Client.create(`127.0.0.1:${server.port}`, patient);
  });
  afterAll(async () => {
    client.close();
    await server.stop();
  });

  const text = async (key: string): Promise<string | undefined> => (await client.get(key)).value?.toString('latin1');

  it('stores and fetches text and bytes', async () => {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    expect(await client.set('bytes', bytes, {})).toBe(true);
    expect((await client.get('bytes')).value).toEqual(bytes);
    expect(await client.set('empty', '', {})).toBe(true);
    expect(await text('empty')).toBe('');
    expect((await client.get('nothing')).value).toBeNull();
  });

  it('takes keys of any bytes, up to 250 of them', async () => {
    for (const key of ['with blank', 'line\r\nbreak', '\0\0', 'schlüssel ☃', 'k'.repeat(250)]) {
      expect(await client.set(key, `value of ${key}`, {})).toBe(true);
      expect((await client.get(key)).value?.toString()).toBe(`value of ${key}`);
      expect(await client.delete(key)).toBe(true);
      expect((await client.get(key)).value).toBeNull();
    }
  });

  it('carries values near 1 MiB whole, and refuses larger ones with its status', async () => {
    const value = Buffer.alloc(1_048_000);
    for (let i = 0; i < value.length; i++) value[i] = (i * 31) ^ (i >> 8);
    expect(await client.set('large', value, {})).toBe(true);
    expect((await client.get('large')).value!.equals(value)).toBe(true);
    await expect(client.set('large', Buffer.alloc(1_048_576 + 1), {})).rejects.toThrow(/too large/i);
    // The old value went with the refused one, and the connection is in step.
    expect((await client.get('large')).value).toBeNull();
  });

  // Its prepend sends an append, so that one is left to others.
  it('knows add, replace, append, delete and touch', async () => {
    await client.delete('key');
    expect(await client.replace('key', 'x', {})).toBe(false);
    expect(await client.add('key', 'b', {})).toBe(true);
    expect(await client.add('key', 'x', {})).toBe(false);
    expect(await client.append('key', 'c')).toBe(true);
    expect(await text('key')).toBe('bc');
    expect(await client.replace('key', 'new', { expires: 100 })).toBe(true);
    expect(await client.touch('key', 200)).toBe(true);
    expect(await client.touch('nothing', 200)).toBe(false);
    expect(await client.delete('key')).toBe(true);
    expect(await client.delete('key')).toBe(false);
  });

  it('counts up and down, from an initial value where there is none', async () => {
    await client.delete('n');
    expect(await client.increment('n', 5, { initial: 10 })).toEqual({ success: true, value: 10 });
    expect(await client.increment('n', 5, {})).toEqual({ success: true, value: 15 });
    expect(await client.decrement('n', 20, {})).toEqual({ success: true, value: 0 });
    await client.set('text', 'abc', {});
    await expect(client.increment('text', 1, {})).rejects.toThrow(/Non-numeric/i);
  });

  it('lets a value expire', async () => {
    expect(await client.set('short', 'x', { expires: 1 })).toBe(true);
    await expect.poll(() => text('short'), { timeout: 60_000 }).toBeUndefined();
  });

  it('serves many requests at once on many connections', async () => {
    const clients = Array.from({ length: 20 }, () => Client.create(`127.0.0.1:${server.port}`, patient));
    try {
      await Promise.all(
        clients.flatMap((one, c) =>
          Array.from({ length: 50 }, async (_, i) => {
            const key = `many ${c} ${i}`;
            expect(await one.set(key, key.repeat(i + 1), {})).toBe(true);
            expect((await one.get(key)).value!.toString()).toBe(key.repeat(i + 1));
          }),
        ),
      );
    } finally {
      for (const one of clients) one.close();
    }
  });

  it('reads stats, and flushes', async () => {
    const stats = await new Promise<Record<string, string> | null>((resolve) =>
      client.stats((_error, _server, all) => resolve(all)),
    );
    expect(Number(stats!['curr_items'])).toBeGreaterThan(0);
    expect(stats!['version']).toMatch(/^1\.6\.\d+$/);
    await client.set('gone', 'x', {});
    expect(Object.values(await client.flush())).toEqual([true]);
    expect((await client.get('gone')).value).toBeNull();
  });

  it('goes on after the server was started again on its port', async () => {
    const first = await startOurs(io, ['-t', '1']);
    const one = Client.create(`127.0.0.1:${first.port}`, { ...patient, retries: 100, retry_delay: 0.1 });
    try {
      expect(await one.set('a', '1', {})).toBe(true);
      await first.stop();
      const second = await startOurs(io, ['-t', '1', '-p', String(first.port)]);
      try {
        expect((await one.get('a')).value).toBeNull();
        expect(await one.set('a', '2', {})).toBe(true);
        expect((await one.get('a')).value!.toString()).toBe('2');
      } finally {
        await second.stop();
      }
    } finally {
      one.close();
    }
  });

  describe('with SASL PLAIN', () => {
    let secured: Server;
    const folder = mkdtempSync(join(tmpdir(), 'memcached-ts-sasl-'));

    beforeAll(async () => {
      const file = join(folder, 'passwords');
      writeFileSync(file, 'ada:lovelace\nalan:turing:complete\n');
      secured = await startOurs(io, ['-S', '-t', '1'], { MEMCACHED_SASL_PWDB: file });
    });
    afterAll(async () => {
      await secured.stop();
      rmSync(folder, { recursive: true });
    });

    const as = (username: string, password: string): Client =>
      Client.create(`127.0.0.1:${secured.port}`, { ...patient, username, password, retries: 1 });

    it('serves who says the right word', async () => {
      const ada = as('ada', 'lovelace');
      expect(await ada.set('secret', 'x', {})).toBe(true);
      expect((await ada.get('secret')).value!.toString()).toBe('x');
      ada.close();
    });

    it('tells a mechanism with too long a name from a wrong word, and goes on', async () => {
      const auth = (mechanism: string, value: string): Buffer => packet(0x21, { key: mechanism, value });
      const requests = [
        auth('M'.repeat(33), '\0ada\0lovelace'),
        auth('M'.repeat(32), '\0ada\0lovelace'),
        auth('PLAIN', '\0ada\0lovelace'),
        packet(0x00, { key: 'nothing' }),
        packet(0x07),
      ];
      const answer = readPackets(await play(secured.port, requests));
      expect(answer.map((response) => response.split(' ', 2).join(' '))).toEqual([
        '21 4',
        '21 20',
        '21 0',
        '0 1',
        '7 0',
      ]);
    });

    it('refuses a wrong word, an unknown name and no name', async () => {
      for (const [name, word] of [
        ['ada', 'byron'],
        ['grace', 'lovelace'],
      ] as const) {
        const wrong = as(name, word);
        await expect(wrong.get('secret')).rejects.toBeDefined();
        wrong.close();
      }
      const nobody = Client.create(`127.0.0.1:${secured.port}`, { ...patient, retries: 1 });
      await expect(nobody.get('secret')).rejects.toThrow(/Auth/i);
      nobody.close();
    });
  });
});
