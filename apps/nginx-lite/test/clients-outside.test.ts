/** Clients that people use, as they are installed: curl, wrk, headless Chromium. One that is not here is skipped, and says so. */

import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { conf, IO_MODES, type Running, startLite } from './support/server.ts';

const run = promisify(execFile);

/** Whether a program is here; if not, the reason is printed. */
function installed(program: string): boolean {
  const found = spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;
  if (!found) console.log(`skipped: ${program} is not installed (scripts/debian.sh installs it where it may)`);
  return found;
}

const curl = installed('curl');
const wrk = installed('wrk');
const chromium = installed('chromium');

const LARGE = Buffer.alloc(3_000_000, 'large ');

/** A page of an application: it loads a style, a script and an image, asks the server in several ways, and writes down what came. */
const PAGE = `<!doctype html><html><head><link rel="stylesheet" href="/style.css"><title>page</title></head>
<body><pre id="out">nothing</pre><img id="dot" src="/dot.svg"><script src="/app.js"></script></body></html>`;
const SCRIPT = `(async () => {
  const seen = {};
  const ask = async (name, url, options, read = 'text') => {
    const answer = await fetch(url, options);
    const body = await answer[read]();
    seen[name] = [answer.status, read === 'text' ? body.slice(0, 40) : body.byteLength];
    return answer;
  };
  await new Promise((done) => (document.readyState === 'complete' ? done() : addEventListener('load', done)));
  seen.style = getComputedStyle(document.body).marginTop;
  seen.image = document.getElementById('dot').naturalWidth;
  await ask('route', '/some/route/of/the/app');
  await ask('json', '/api/info');
  await ask('range', '/large.bin', { headers: { Range: 'bytes=10-29' } });
  await ask('large', '/large.bin', {}, 'arrayBuffer');
  await ask('packed', '/long.txt', {}, 'arrayBuffer');
  seen.body = (await ask('post', '/echo', { method: 'POST', body: 'a body from the page' })).headers.get('X-Body');
  await ask('missing', '/api/none');
  await ask('redirect', '/old');
  const first = await fetch('/style.css');
  seen.again = (await fetch('/style.css', { cache: 'no-store', headers: { 'If-None-Match': first.headers.get('etag') } })).status;
  seen.many = (await Promise.all(Array.from({ length: 40 }, (_, i) => fetch('/api/info?' + i).then((r) => r.status)))).filter((s) => s === 200).length;
  document.getElementById('out').textContent = JSON.stringify(seen);
})().catch((error) => { document.getElementById('out').textContent = 'failed: ' + error; });`;

describe.each(IO_MODES)('--io %s', (io) => {
  let server: Running;
  let base: string;
  let scratch: string;
  beforeAll(async () => {
    scratch = mkdtempSync(join(tmpdir(), 'nginx-lite-client-'));
    server = await startLite(
      conf(
        `types { text/html html; text/css css; application/javascript js; image/svg+xml svg; text/plain txt; }
        server { listen 127.0.0.1:%PORT%; root html; access_log off; gzip on; gzip_types text/plain application/javascript; etag on;
          location / { try_files $uri /index.html; }
          location /api/ { default_type application/json; location = /api/info { return 200 '{"ok":true}'; } return 404; }
          location = /echo { mirror /m; error_page 404 =200 /echo.txt; } location = /echo.txt { add_header X-Body $request_body; }
          location = /m { return 204; } location /old { return 302 /api/info; }
          location /up/ { mirror /m; alias html/; client_max_body_size 10m; add_header X-Bytes $content_length; }
          location /secret/ { auth_basic closed; auth_basic_user_file %DIR%/users; alias html/; } }`,
        'worker_processes 2;',
        'worker_connections 512;',
      ),
      {
        io,
        files: {
          'html/index.html': PAGE,
          'html/app.js': SCRIPT,
          'html/style.css': 'body { margin-top: 17px }',
          'html/dot.svg': '<svg xmlns="http://www.w3.org/2000/svg" width="23" height="5"></svg>',
          'html/large.bin': LARGE,
          'html/long.txt': 'a long text '.repeat(10_000),
          'html/echo.txt': 'echo',
          users: 'u:{PLAIN}p\n',
        },
      },
    );
    base = `http://127.0.0.1:${server.port}`;
  });
  afterAll(async () => {
    await server?.stop();
    rmSync(server.dir, { recursive: true, force: true });
    rmSync(scratch, { recursive: true, force: true });
  });

  test.skipIf(!curl)('curl: downloads, resumes, ranges, compression, conditions, uploads, passwords', async () => {
    const ask = async (...args: string[]): Promise<string> =>
      (await run('curl', ['-sS', '--max-time', '30', ...args], { maxBuffer: 1 << 26, encoding: 'latin1' })).stdout;
    const file = join(scratch, 'large.bin');
    await ask('-o', file, `${base}/large.bin`);
    expect(readFileSync(file).equals(LARGE)).toBe(true);
    writeFileSync(file, LARGE.subarray(0, 1_234_567));
    await ask('-C', '-', '-o', file, `${base}/large.bin`);
    expect(readFileSync(file).equals(LARGE)).toBe(true);
    expect(await ask('-r', '6-11', `${base}/large.bin`)).toBe('large ');
    expect(await ask('-r', '0-1,6-7', `${base}/large.bin`)).toContain('Content-Range: bytes 6-7/3000000');
    expect(await ask('--compressed', `${base}/long.txt`)).toBe('a long text '.repeat(10_000));
    expect(await ask('-I', `${base}/long.txt`)).toContain('Content-Length: 120000');
    const etag = /^ETag: (.*)\r$/m.exec(await ask('-I', `${base}/style.css`))?.[1] as string;
    expect(await ask('-w', '%{http_code}', '-H', `If-None-Match: ${etag}`, `${base}/style.css`)).toBe('304');
    // Both are larger than what curl sends unasked: it waits for 100 Continue.
    for (const how of [[], ['-H', 'Transfer-Encoding: chunked']]) {
      const text = await ask('-i', '-X', 'GET', '--data-binary', `@${file}`, ...how, `${base}/up/style.css`);
      expect(text).toContain('HTTP/1.1 100 Continue\r\n');
      expect(text).toContain('X-Bytes: 3000000\r\n');
      expect(text).toContain('margin-top');
    }
    expect(await ask('-o', '/dev/null', '-w', '%{http_code}', `${base}/secret/style.css`)).toBe('401');
    expect(await ask('-u', 'u:p', `${base}/secret/style.css`)).toContain('margin-top');
    expect(await ask('-L', `${base}/old`)).toBe('{"ok":true}');
    expect(await ask('--http1.0', `${base}/api/info`)).toBe('{"ok":true}');
    const many = Array.from({ length: 30 }, (_, i) => `${base}/style.css?${i}`);
    expect((await ask(...many)).split('margin-top').length).toBe(31);
    expect((await ask('--parallel', ...many)).split('margin-top').length).toBe(31);
  });

  test.skipIf(!wrk)('wrk: every answer of a second is right', async () => {
    const { stdout } = await run('wrk', ['-t', '1', '-c', '20', '-d', '1', '--timeout', '20', `${base}/style.css`]);
    expect(stdout).not.toMatch(/Non-2xx|Socket errors/);
    expect(Number(/(\d+) requests in/.exec(stdout)?.[1])).toBeGreaterThan(20);
  });

  test.skipIf(!chromium)(
    'Chromium: a page with its parts, requests of its script, pipes full of them',
    { timeout: 240_000 },
    async () => {
      const { stdout } = await run(
        'chromium',
        [
          ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run'],
          `--user-data-dir=${join(scratch, 'profile')}`,
          ...['--timeout=60000', '--virtual-time-budget=30000', '--dump-dom', `${base}/`],
        ],
        { maxBuffer: 1 << 24, timeout: 100_000 },
      );
      const out = /<pre id="out">(.*?)<\/pre>/s.exec(stdout)?.[1]?.replaceAll('&lt;', '<').replaceAll('&gt;', '>');
      expect(JSON.parse(out ?? 'null')).toEqual({
        style: '17px',
        image: 23,
        route: [200, PAGE.slice(0, 40)],
        json: [200, '{"ok":true}'],
        range: [206, LARGE.subarray(10, 30).toString()],
        large: [200, 3_000_000],
        packed: [200, 120_000],
        post: [200, 'echo'],
        body: 'a body from the page',
        missing: [404, expect.stringContaining('<html>')],
        redirect: [200, '{"ok":true}'],
        again: 304,
        many: 40,
      });
    },
  );
});
