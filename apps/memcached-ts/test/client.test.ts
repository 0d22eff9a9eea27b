/** The npm package `memcached`, a text-protocol client that many programs use, against both io modes. */
import Memcached from 'memcached';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { IO_MODES, type Server, startOurs } from './servers.ts';

/** Generous: two slow cores shared with other tests. */
const patient = { retries: 0, timeout: 60_000, idle: 120_000 };

describe.each(IO_MODES)('npm memcached against --io %s', (io) => {
  let server: Server;
  let client: Memcached;

  beforeAll(async () => {
    server = await startOurs(io);
    client = new Memcached(`127.0.0.1:${server.port}`, patient);
  });
  afterAll(async () => {
    client.end();
    await server.stop();
  });

  /** A call as a promise; a NOT_STORED or EXISTS comes back as false. */
  function call<T>(start: (callback: (error: unknown, data: T) => void) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      start((error, data) => {
        if (error instanceof Error && !/not stored|exists/i.test(error.message)) reject(error);
        else resolve(data);
      });
    });
  }

  it('stores and fetches strings, numbers, objects and buffers', async () => {
    for (const value of ['text', 42, { a: [1, 2, 'ü'] }, Buffer.from([0, 13, 10, 255])]) {
      expect(await call<boolean>((done) => client.set('value', value, 0, done))).toBe(true);
      expect(await call<unknown>((done) => client.get('value', done))).toEqual(value);
    }
    expect(await call<unknown>((done) => client.get('nothing', done))).toBeUndefined();
  });

  it('carries large values whole', async () => {
    const value = Buffer.alloc(1_000_000, 'large ');
    expect(await call<boolean>((done) => client.set('large', value, 0, done))).toBe(true);
    expect(value.equals((await call<unknown>((done) => client.get('large', done))) as Buffer)).toBe(true);
  });

  it('knows add, replace, append, prepend and cas', async () => {
    await call<unknown>((done) => client.del('key', done));
    expect(await call<boolean>((done) => client.replace('key', 'x', 0, done))).toBe(false);
    expect(await call<boolean>((done) => client.add('key', 'b', 0, done))).toBe(true);
    expect(await call<boolean>((done) => client.add('key', 'c', 0, done))).toBe(false);
    expect(await call<boolean>((done) => client.append('key', 'c', done))).toBe(true);
    expect(await call<boolean>((done) => client.prepend('key', 'a', done))).toBe(true);
    const got = await call<{ key: string; cas: string }>((done) => client.gets('key', done as never));
    expect(got.key).toBe('abc');
    expect(await call<boolean>((done) => client.cas('key', 'new', got.cas, 0, done))).toBe(true);
    expect(await call<boolean>((done) => client.cas('key', 'newer', got.cas, 0, done))).toBe(false);
    expect(await call<unknown>((done) => client.get('key', done))).toBe('new');
  });

  it('counts, touches, deletes and flushes', async () => {
    await call<boolean>((done) => client.set('n', 10, 0, done));
    expect(await call<number | false>((done) => client.incr('n', 5, done))).toBe(15);
    expect(await call<number | false>((done) => client.decr('n', 20, done))).toBe(0);
    expect(await call<number | false>((done) => client.incr('nothing', 1, done))).toBe(false);
    expect(await call<boolean>((done) => client.touch('n', 100, done))).toBe(true);
    expect(await call<boolean>((done) => client.del('n', done))).toBe(true);
    await call<boolean>((done) => client.set('gone', 1, 0, done));
    await call<unknown>((done) => client.flush(done));
    expect(await call<unknown>((done) => client.get('gone', done))).toBeUndefined();
  });

  it('serves many requests at once', async () => {
    const many = new Memcached(`127.0.0.1:${server.port}`, { ...patient, poolSize: 40 });
    try {
      await Promise.all(
        Array.from({ length: 40 }, async (_, number) => {
          for (let i = 0; i < 20; i++) {
            const key = `many${number}-${i}`;
            const value = key.repeat(number * i);
            expect(await call<boolean>((done) => many.set(key, value, 0, done))).toBe(true);
            expect(await call<unknown>((done) => many.get(key, done))).toBe(value);
          }
        }),
      );
    } finally {
      many.end();
    }
  });

  it('goes on after the server was started again on its port', async () => {
    const first = await startOurs(io, ['-t', '1']);
    const one = new Memcached(`127.0.0.1:${first.port}`, { ...patient, failures: 1000, reconnect: 50 });
    try {
      expect(await call<boolean>((done) => one.set('a', '1', 0, done))).toBe(true);
      await first.stop();
      const second = await startOurs(io, ['-t', '1', '-p', String(first.port)]);
      try {
        // The first call may find the connection that ended; the client opens another one then.
        await expect
          .poll(() => call<boolean>((done) => one.set('a', '2', 0, done)).catch(() => false), { timeout: 100_000 })
          .toBe(true);
        expect(await call<unknown>((done) => one.get('a', done))).toBe('2');
      } finally {
        await second.stop();
      }
    } finally {
      one.end();
    }
  });

  it('fetches many keys, and reads stats and version', async () => {
    const keys = Array.from({ length: 50 }, (_, i) => `multi${i}`);
    // One by one: the client refuses more at once than its pool has connections.
    for (const key of keys) await call<boolean>((done) => client.set(key, key, 0, done));
    const got = await call<Record<string, unknown>>((done) => client.getMulti([...keys, 'nothing'], done));
    expect(got).toEqual(Object.fromEntries(keys.map((key) => [key, key])));
    const [stats] = await call<Record<string, unknown>[]>((done) => client.stats(done));
    expect(Number(stats!['curr_items'])).toBeGreaterThanOrEqual(50);
    const [version] = await call<{ version: string }[]>((done) => client.version(done));
    expect(version!.version).toMatch(/^1\.6\.\d+$/);
  });
});
