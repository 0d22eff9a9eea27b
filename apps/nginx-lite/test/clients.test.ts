/** Real clients: undici and autocannon. */

import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import autocannon from 'autocannon';
import { Agent, Client, request } from 'undici';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { conf, IO_MODES, type Running, startLite } from './support/server.ts';

describe.each(IO_MODES)('--io %s', (io) => {
  let server: Running;
  let base: string;
  beforeAll(async () => {
    server = await startLite(
      conf(
        'types { text/html html; } server { listen 127.0.0.1:%PORT%; root html; access_log logs/access.log; }',
        'worker_processes 2;',
        'worker_connections 1024;',
      ),
      { io, files: { 'html/index.html': `<p>${'x'.repeat(1017)}</p>`, 'html/big.bin': 'b'.repeat(700_000) } },
    );
    base = `http://127.0.0.1:${server.port}`;
  });
  afterAll(async () => {
    await server?.stop();
    rmSync(server.dir, { recursive: true, force: true });
  });

  test('undici: many requests at once, over kept connections', async () => {
    const agent = new Agent({ connections: 8 });
    const bodies = await Promise.all(
      Array.from({ length: 200 }, async (_, i) => {
        const response = await request(`${base}/${i % 3 === 0 ? 'big.bin' : ''}`, { dispatcher: agent });
        expect(response.statusCode).toBe(200);
        return (await response.body.text()).length;
      }),
    );
    expect(bodies).toEqual(Array.from({ length: 200 }, (_, i) => (i % 3 === 0 ? 700_000 : 1024)));
    await agent.close();
  });

  test('undici: pipelining, bodies, conditions, and an answer that is not wanted any more', async () => {
    const client = new Client(base, { pipelining: 10 });
    const statuses = await Promise.all(
      Array.from({ length: 50 }, async (_, i) => {
        const response = await client.request({ method: 'GET', path: i % 2 ? '/' : '/none' });
        await response.body.dump();
        return response.statusCode;
      }),
    );
    expect(statuses).toEqual(Array.from({ length: 50 }, (_, i) => (i % 2 ? 200 : 404)));
    const post = await client.request({ method: 'POST', path: '/', body: 'x'.repeat(100_000) });
    expect(post.statusCode).toBe(405);
    await post.body.dump();
    const first = await client.request({ method: 'GET', path: '/' });
    await first.body.dump();
    const second = await client.request({
      method: 'GET',
      path: '/',
      headers: { 'if-none-match': String(first.headers['etag']) },
    });
    expect(second.statusCode).toBe(304);
    await second.body.dump();
    const dropped = await client.request({ method: 'GET', path: '/big.bin' });
    dropped.body.destroy();
    dropped.body.on('error', () => {});
    await client.destroy();
    const response = await request(`${base}/`);
    expect((await response.body.text()).length).toBe(1024);
  });

  test('autocannon: ten thousand requests, not one of them wrong', async () => {
    const result = await autocannon({
      url: `${base}/?ac`,
      connections: 50,
      pipelining: 1,
      amount: 10_000,
      timeout: 60,
      expectBody: `<p>${'x'.repeat(1017)}</p>`,
    });
    expect([result.errors, result.timeouts, result.mismatches, result.non2xx, result['2xx']]).toEqual([
      0, 0, 0, 0, 10_000,
    ]);
    // Every request that was answered stands in the log, once.
    const lines = (): number => server.log('access.log').split('"GET /?ac HTTP/1.1" 200 1024').length - 1;
    while (lines() < 10_000) await sleep(20);
    expect(lines()).toBe(10_000);
  });
});
