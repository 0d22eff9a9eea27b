/** access_log and error_log: formats, escaping, conditions, buffers, levels. */

import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { exchange, get } from './support/client.ts';
import { conf, IO_MODES, type Running, startLite } from './support/server.ts';

describe.each(IO_MODES)('--io %s', (io) => {
  let server: Running;
  beforeAll(async () => {
    server = await startLite(
      conf(
        `log_format all '$request_method|$uri|$args|$status|$body_bytes_sent|$bytes_sent|$request_length|$http_x|$sent_http_content_type|$server_protocol|$request_completion|$arg_q';
         log_format json escape=json '{"agent":"$http_user_agent","time":"$time_iso8601","ms":$msec,"took":$request_time}';
         log_format raw escape=none '$http_x';
         log_format dyn '$connection $connection_requests $pipe $pid';
         server { listen 127.0.0.1:%PORT%; root html;
           access_log logs/combined.log;
           location /all { access_log logs/all.log all; alias html; }
           location /json { access_log logs/json.log json; return 200 x; }
           location /raw { access_log logs/raw.log raw; return 200 x; }
           location /dyn { access_log logs/dyn.log dyn; return 200 x; }
           location /off { access_log off; return 200 x; }
           location /never { access_log off; access_log logs/combined.log; return 200 x; }
           location /two { access_log logs/one.log combined; access_log logs/two.log raw; return 200 x; }
           location /if { access_log logs/if.log raw if=$arg_log; return 200 x; }
           location /buffered { access_log logs/buffered.log raw buffer=32k flush=50ms; return 200 x; }
           location /held { access_log logs/held.log raw buffer=32k; return 200 x; }
           location /quiet { log_not_found off; error_log logs/quiet.log crit; }
           location /warn { error_log logs/warn.log warn; error_log logs/info.log info; }
         }`,
        'worker_processes 1;',
      ),
      { io, files: { 'html/a.txt': 'hello, world\n' } },
    );
  });
  afterAll(async () => {
    await server?.stop();
    rmSync(server.dir, { recursive: true, force: true });
  });

  test('combined', async () => {
    await get(server.port, '/a.txt?x', ['Referer: http://r/', 'User-Agent: test', 'Authorization: Basic am9lOng=']);
    await get(server.port, '/a.txt?x', ['Referer: http://r/', 'User-Agent: test', 'Authorization: Basic am9lOng=']);
    await exchange(server.port, 'nonsense\r\n\r\n');
    const log = await server.logged('combined.log', 'nonsense');
    const lines = log.trim().split('\n');
    expect(lines.length).toBe(3);
    // The second was answered from memory; its line is the same but for the time.
    for (const line of lines.slice(0, 2)) {
      expect(line).toMatch(
        /^127\.0\.0\.1 - joe \[\d\d\/[A-Z][a-z]{2}\/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET \/a\.txt\?x HTTP\/1\.1" 200 13 "http:\/\/r\/" "test"$/,
      );
    }
    expect(lines[2]).toContain('"nonsense" 400 ');
  });

  test('variables, the same from memory', async () => {
    for (let i = 0; i < 3; i++) await get(server.port, '/all/a.txt?q=1&b', ['X: v']);
    await get(server.port, '/all/missing');
    const lines = (await server.logged('all.log', 'missing')).trim().split('\n');
    expect(new Set(lines.slice(0, 3)).size).toBe(1);
    expect(lines[0]).toMatch(/^GET\|\/all\/a\.txt\|q=1&b\|200\|13\|\d+\|\d+\|v\|[a-z/-]+\|HTTP\/1\.1\|OK\|1$/);
    expect(lines[3]).toMatch(/^GET\|\/all\/missing\|-?\|404\|/);
  });

  test('escape=json and escape=none', async () => {
    await get(server.port, '/json', ['User-Agent: a"\\\x01\t\x80']);
    const line = JSON.parse(
      Buffer.from((await server.logged('json.log', '\n')).trim(), 'latin1').toString('latin1'),
    ) as Record<string, unknown>;
    expect(line['agent']).toBe('a"\\\x01\t\x80');
    expect(String(line['time'])).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d$/);
    expect(typeof line['ms']).toBe('number');
    await get(server.port, '/raw', ['X: "\\']);
    expect(await server.logged('raw.log', '\n')).toBe('"\\\n');
  });

  test('values of the connection', async () => {
    await exchange(server.port, 'GET /dyn HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(3));
    const lines = (await server.logged('dyn.log', / 3 /))
      .trim()
      .split('\n')
      .map((line) => line.split(' '));
    expect(lines.map((each) => each[1])).toEqual(['1', '2', '3']);
    expect(lines.map((each) => each[2])).toEqual(['.', 'p', 'p']);
    expect(new Set(lines.map((each) => each[0])).size).toBe(1);
    // The process that serves is a child of the one that was started.
    expect(lines[0]?.[3]).toMatch(/^\d+$/);
    expect(lines[0]?.[3]).not.toBe(String(server.child.pid));
  });

  test('off, several logs, conditions', async () => {
    await get(server.port, '/off');
    await get(server.port, '/never');
    await get(server.port, '/two', ['X: both']);
    for (const log of ['', '0', '1', '1']) await get(server.port, `/if?log=${log}`, [`X: log${log}`]);
    expect(await server.logged('two.log', '\n')).toBe('both\n');
    expect(await server.logged('one.log', '\n')).toContain('"GET /two HTTP/1.1" 200 1');
    expect(await server.logged('if.log', 'log1\nlog1\n')).toBe('log1\nlog1\n');
    expect(server.log('combined.log')).not.toMatch(/\/off|\/never/);
  });

  test('a buffered log is written when it is full, after flush=, and at the end', async () => {
    await get(server.port, '/buffered', ['X: line']);
    expect(await server.logged('buffered.log', '\n')).toBe('line\n');
    const long = 'v'.repeat(900);
    await exchange(server.port, `GET /held HTTP/1.1\r\nHost: x\r\nX: ${long}\r\n\r\n`.repeat(60));
    const written = await server.logged('held.log', '\n');
    expect(written.split('\n').every((line) => line === long || line === '')).toBe(true);
    expect(written.length).toBeLessThanOrEqual(60 * (long.length + 1));
  });

  test('error_log levels and log_not_found', async () => {
    await get(server.port, '/quiet/x');
    await get(server.port, '/warn/x', ['Referer: from']);
    const warn = await server.logged('warn.log', '\n');
    expect(warn).toMatch(
      /^\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d \[error\] \d+#\d+: \*\d+ open\(\) "[^"]*\/html\/warn\/x" failed \(2: No such file or directory\), client: [^ ]+, server: , request: "GET \/warn\/x HTTP\/1\.1", host: "localhost", referrer: "from"\n$/,
    );
    expect(await server.logged('info.log', '\n')).toBe(warn);
    expect(server.log('quiet.log')).toBe('');
  });
});
