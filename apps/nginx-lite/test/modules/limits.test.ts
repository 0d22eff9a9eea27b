/** limit_req, limit_conn, limit_rate, stub_status: with Debian's nginx where the order is certain, and over workers and reloads. */

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VALUE, Zone, zoneKey } from '../../src/shared/zone.ts';
import { get as ask, open, receiveUntil } from '../support/client.ts';
import { compareWithNginx, get, oracleAvailable, oracleVersion } from '../support/oracle.ts';
import { conf, IO_MODES, type Running, startDebian, startLite } from '../support/server.ts';

const FILES = {
  'html/a.txt': 'a\n',
  'html/big.bin': 'x'.repeat(100_000),
  'html/huge.bin': Buffer.alloc(20_000_000, 'y'),
};

compareWithNginx(FILES, [
  {
    // The key is the connection, so that each exchange begins anew.
    name: 'limit_req within a connection',
    http: `limit_req_zone $remote_port zone=one:1m rate=1r/m; limit_req_zone "$remote_port$arg_k" zone=two:1m rate=1r/m; limit_req_zone $arg_none zone=empty:1m rate=1r/m;
    server { listen 127.0.0.1:%PORT%; root html;
      location /plain/ { alias html/; limit_req zone=one; }
      location /burst/ { alias html/; limit_req zone=one burst=2 nodelay; limit_req_status 429; }
      location /both/ { alias html/; limit_req zone=one burst=3 nodelay; limit_req zone=two nodelay; }
      location /dry/ { alias html/; limit_req zone=one; limit_req_dry_run on; add_header X-S $limit_req_status; }
      location /empty/ { alias html/; limit_req zone=empty; add_header X-S "[$limit_req_status]"; }
      location /page/ { alias html/; limit_req zone=one; error_page 503 =200 /a.txt; add_header X-S $limit_req_status always; }
    }`,
    requests: ['/plain/a.txt', '/burst/a.txt', '/both/a.txt', '/dry/a.txt', '/empty/a.txt', '/page/a.txt'].flatMap(
      (path) => [get(path), get(path).repeat(5), get(`${path}?k=1`) + get(`${path}?k=2`) + get(`${path}?k=1`)],
    ),
  },
]);

describe.each(IO_MODES)('--io %s', (io) => {
  test('a zone is one for all workers, and outlives a reload', async () => {
    const config = (version: string): string =>
      conf(
        `limit_req_zone $host zone=z:1m rate=1r/m; server { listen 127.0.0.1:%PORT%; root html; location /l/ { alias html/; limit_req zone=z burst=4 nodelay; } location /v { return 200 ${version}; } }`,
        'worker_processes 3;',
      );
    const server = await startLite(config('one'), { io, files: FILES });
    const statuses = async (): Promise<number[]> => {
      const answers = await Promise.all(Array.from({ length: 20 }, () => ask(server.port, '/l/a.txt')));
      return answers.map((each) => each.status);
    };
    expect((await statuses()).filter((each) => each === 200)).toHaveLength(5);
    writeFileSync(
      join(server.dir, `nginx-${server.port}.conf`),
      config('two').replaceAll('%PORT%', String(server.port)),
    );
    server.child.kill('SIGHUP');
    while ((await ask(server.port, '/v')).body !== 'two') await sleep(20);
    expect((await statuses()).filter((each) => each === 200)).toHaveLength(0);
    expect(server.log('error.log')).toMatch(/limiting requests, excess: \d\.\d{3} by zone "z"/);
    await server.stop();
    rmSync(server.dir, { recursive: true, force: true });
  });

  test.skipIf(!oracleAvailable)(
    `limit_req with a delay: who passes, waits and is turned away, as with ${oracleVersion}`,
    async () => {
      // A request in half a minute, so that no machine is too slow for the counts.
      const http = `limit_req_zone $host zone=slow:1m rate=2r/m; limit_req_zone $host zone=dry:1m rate=2r/m; limit_req_zone $host zone=quick:1m rate=50r/s;
      server { listen 127.0.0.1:%PORT%; root html;
      location /slow/ { alias html/; limit_req zone=slow burst=4 delay=2; limit_req_log_level warn; add_header X-S $limit_req_status always; }
      location /dry/ { alias html/; limit_req zone=dry burst=1; limit_req_dry_run on; add_header X-S $limit_req_status; }
      location /quick/ { alias html/; limit_req zone=quick burst=9; } }`;
      const transcript = async (server: Running): Promise<unknown> => {
        const sockets = Array.from({ length: 7 }, () => open(server.port));
        const answers: string[] = [];
        for (const socket of sockets) {
          void receiveUntil(socket, (text) => text.includes('\r\n\r\n')).then(
            (text) => answers.push(text),
            () => {},
          );
          socket.write(get('/slow/a.txt'));
        }
        while (answers.length < 5) await sleep(20);
        const log = await server.logged('error.log', /(?:(?:delaying|limiting) request[\s\S]*){4}/);
        for (const socket of sockets) socket.destroy();
        const dry: (string | undefined)[] = [];
        for (let i = 0; i < 4; i++) dry.push((await ask(server.port, '/dry/a.txt')).header('X-S'));
        // A client that ends its side while its request waits is given up by nginx.
        const kept = open(server.port);
        const quick = receiveUntil(kept, (text) => text.split('HTTP/1.1 200').length === 6 && text.endsWith('a\n'));
        kept.write(get('/quick/a.txt').repeat(5));
        await quick;
        kept.destroy();
        return {
          answers: answers.map((each) => [each.slice(9, 12), /X-S: (\w+)/.exec(each)?.[1]]).sort(),
          lines: log
            .match(
              /\[\w+\] (?=\S+ \*\d+ (?:delay|limit)ing)|(?:delaying request|limiting requests), excess|by zone "\w+"/g,
            )
            ?.sort(),
          dry,
        };
      };
      const servers = await Promise.all([
        startDebian(conf(http), { files: FILES }),
        startLite(conf(http), { io, files: FILES }),
      ]);
      const [theirs, ours] = await Promise.all(servers.map(transcript));
      expect(ours).toEqual(theirs);
      expect(ours).toMatchObject({
        answers: [...Array(3).fill(['200', 'PASSED']), ...Array(2).fill(['503', 'REJECTED'])],
        dry: ['PASSED', 'DELAYED_DRY_RUN', 'REJECTED_DRY_RUN', 'REJECTED_DRY_RUN'],
      });
      for (const server of servers) {
        await server.stop();
        rmSync(server.dir, { recursive: true, force: true });
      }
    },
  );

  test('limit_conn counts answers under way, and forgets them when they end', async () => {
    const http = `limit_conn_zone $server_name zone=c:1m; server { listen 127.0.0.1:%PORT%; server_name s; root html; limit_conn c 2; }`;
    const server = await startLite(conf(http, 'worker_processes 2;'), { io, files: FILES });
    const slow = [open(server.port), open(server.port)];
    for (const socket of slow) {
      const begun = receiveUntil(socket, (text) => text.length > 0);
      socket.write('GET /huge.bin HTTP/1.1\r\nHost: s\r\n\r\n');
      await begun;
      socket.pause();
    }
    expect((await ask(server.port, '/a.txt')).status).toBe(503);
    for (const socket of slow) socket.destroy();
    while ((await ask(server.port, '/a.txt')).status !== 200) await sleep(20);
    expect(server.log('error.log')).toContain('limiting connections by zone "c"');
    await server.stop();
    rmSync(server.dir, { recursive: true, force: true });
  });

  test('limit_rate: an answer does not come faster', async () => {
    const http =
      'server { listen 127.0.0.1:%PORT%; root html; limit_rate 50k; location /after/ { alias html/; limit_rate_after 1m; } location /set/ { alias html/; set $limit_rate 40000; } }';
    const server = await startLite(conf(http), { io, files: FILES });
    for (const [path, least] of [
      ['/big.bin', 900],
      ['/set/big.bin', 1300],
      ['/after/big.bin', 0],
    ] as const) {
      const begin = performance.now();
      expect((await ask(server.port, path)).body.length).toBe(100_000);
      // 100,000 bytes, less what the first second allows.
      expect(performance.now() - begin).toBeGreaterThanOrEqual(least);
    }
    await server.stop();
    rmSync(server.dir, { recursive: true, force: true });
  });

  test('stub_status counts over all workers, also those that are gone', async () => {
    const server = await startLite(
      conf('server { listen 127.0.0.1:%PORT%; root html; location /s { stub_status; } }', 'worker_processes 2;'),
      { io, files: FILES },
    );
    for (let i = 0; i < 5; i++) await ask(server.port, '/a.txt');
    let asked = 6;
    let page = await ask(server.port, '/s');
    // The other worker may not have seen yet that the client before is gone.
    for (; !page.body.startsWith('Active connections: 1 '); asked++) {
      await sleep(50);
      page = await ask(server.port, '/s');
    }
    expect(page.header('Content-Type')).toBe('text/plain');
    expect(page.body).toBe(
      `Active connections: 1 \nserver accepts handled requests\n ${asked} ${asked} ${asked} \nReading: 0 Writing: 1 Waiting: 0 \n`,
    );
    server.child.kill('SIGHUP');
    await server.logged('error.log', /worker process \d+ exited with code 0/);
    asked++;
    expect((await ask(server.port, '/s')).body).toContain(`\n ${asked} ${asked} ${asked} \n`);
    await server.stop();
    rmSync(server.dir, { recursive: true, force: true });
  });
});

test('a zone is a map that forgets the oldest: compared with a Map over random operations', () => {
  const key = fc.integer({ min: 0, max: 400 }).map((n) => `key ${n} ${'x'.repeat(n % 120)}`);
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.constantFrom('add', 'find', 'remove'), key), { maxLength: 600 }), (steps) => {
      const zone = new Zone('z', new ArrayBuffer(32 * 1024));
      const model = new Map<string, number>();
      zone.lock();
      for (const [index, [what, text]] of steps.entries()) {
        const bytes = zoneKey(text);
        const entry = zone.find(bytes);
        expect(entry >= 0).toBe(model.has(text));
        if (entry >= 0) expect(zone.get(entry, VALUE)).toBe(model.get(text));
        if (what === 'add' && entry < 0) {
          let added = zone.add(bytes);
          if (added < 0) {
            // The oldest is the one that was found or added longest ago: the first of the model.
            const [first = ''] = model.keys();
            model.delete(first);
            zone.remove(zone.oldest());
            added = zone.add(bytes);
          }
          zone.set(added, VALUE, index);
          model.set(text, index);
        } else if (what === 'remove' && entry >= 0) {
          zone.remove(entry);
          model.delete(text);
        } else if (entry >= 0) {
          const value = model.get(text) as number;
          model.delete(text);
          model.set(text, value);
        }
      }
      zone.unlock();
    }),
  );
});
