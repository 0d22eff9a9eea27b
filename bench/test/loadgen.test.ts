import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { keyOf } from '../src/loadgen/memcached.ts';
import type { LoadReport } from '../src/loadgen/report.ts';
import { pattern } from '../src/payload.ts';
import { Children } from '../src/process.ts';
import { traceOf } from '../src/traces.ts';
import { echo, serve, type TestServer } from './servers.ts';

const MAIN = fileURLToPath(new URL('../src/loadgen/main.ts', import.meta.url));
const children = new Children();
afterAll(() => children.stopAll());

async function generate(server: TestServer, protocol: string, ...args: string[]) {
  const command = [process.execPath, MAIN, '--target', `127.0.0.1:${server.port}`, '--protocol', protocol];
  const child = await children.start([...command, '--seconds', '0.2', '--warmup', '0.05', ...args], null);
  const exit = await child.ended;
  await server.close();
  const report = child.stdout() === '' ? null : (JSON.parse(child.stdout()) as LoadReport);
  return { code: exit.code, report, stderr: child.stderr(), connections: server.connections() };
}

const several = ({ transactions }: LoadReport): boolean => transactions > 5;

/** Windows are short. What needs time gets a longer one, of a new server, when the machine had none to spare in the first. */
async function generateUntil(
  enough: (report: LoadReport) => boolean,
  make: () => Promise<TestServer>,
  protocol: string,
  ...args: string[]
) {
  for (const seconds of ['0.2', '2']) {
    const run = await generate(await make(), protocol, '--seconds', seconds, ...args);
    if (run.report === null || enough(run.report)) return run;
  }
  return generate(await make(), protocol, '--seconds', '20', ...args);
}

/** A tiny memcached: whole commands only, as the generator sends them one at a time. */
function memcached(spoil: (reply: string) => string = (reply) => reply) {
  const values = new Map<string, string>();
  return serve((socket) => {
    let text = '';
    socket.setEncoding('latin1').on('data', (data: string) => {
      text += data;
      for (;;) {
        const line = text.indexOf('\r\n');
        if (line < 0) return;
        const [verb, key, , , length] = text.slice(0, line).split(' ');
        if (verb === 'get') {
          const value = values.get(key!);
          text = text.slice(line + 2);
          socket.write(
            spoil(value === undefined ? 'END\r\n' : `VALUE ${key} 0 ${value.length}\r\n${value}\r\nEND\r\n`),
          );
        } else {
          const end = line + 2 + Number(length) + 2;
          if (text.length < end) return;
          values.set(key!, text.slice(line + 2, end - 2));
          text = text.slice(end);
          socket.write('STORED\r\n');
        }
      }
    });
  });
}

function http(body: string, fields = '') {
  return serve((socket) => {
    let text = '';
    socket.setEncoding('latin1').on('data', (data: string) => {
      text += data;
      for (let end = text.indexOf('\r\n\r\n'); end >= 0; end = text.indexOf('\r\n\r\n')) {
        text = text.slice(end + 4);
        socket.write(`HTTP/1.1 200 OK\r\n${fields}Content-Length: ${body.length}\r\n\r\n${body}`);
      }
    });
  });
}

describe.each(['uring', 'epoll'])('load generator on %s', (backend) => {
  const on = ['--backend', backend, '--connections', '5'];

  it('keeps connections open when told', async () => {
    const { code, report, connections } = await generateUntil(several, echo, 'echo', ...on);
    expect(code).toBe(0);
    expect(report).toMatchObject({ errors: 0, connects: 0, serverCpuSeconds: null, backend });
    expect(report!.transactions).toBeGreaterThan(5);
    expect(report!.throughput).toBeCloseTo(report!.transactions / report!.seconds, 3);
    expect(report!.latencyUs.p50).toBeGreaterThan(0);
    expect(connections).toBe(5);
  });

  it('opens a new connection after as many transactions as told', async () => {
    const server = await echo();
    const { code, report } = await generate(server, 'echo', '--per-connection', '3', '--size', '1', ...on);
    expect(code).toBe(0);
    expect(report!.errors).toBe(0);
    // Each connection that served its three made room for one more; five are open at either edge of the window.
    expect(Math.abs(report!.connects - report!.transactions / 3)).toBeLessThanOrEqual(5);
  });

  it('sends and compares messages larger than a receive buffer', async () => {
    const { code, report } = await generateUntil(several, echo, 'echo', '--size', '50001', ...on);
    expect(code).toBe(0);
    expect(report!.transactions).toBeGreaterThan(5);
  });

  it('keeps to the schedule in open loop', async () => {
    const { code, report } = await generate(await echo(), 'echo', '--rate', '200', '--seconds', '0.5', ...on);
    expect(code).toBe(0);
    // What was due in the window was answered in it, is on its way (five at most), or waits (one of them is not counted); a closed
    // loop answers tens of thousands.
    expect(report!.transactions + report!.backlog).toBeGreaterThan(200 * report!.seconds - 1 - 5 - 1);
    expect(report!.transactions).toBeLessThan(1000);
  });

  it('counts latency from the time a request was due in open loop', async () => {
    // One connection, answers after 20 ms, 200 requests a second due: the queue grows, and the latency with it.
    const make = () => serve((socket) => socket.on('data', (data) => setTimeout(() => socket.write(data), 20)));
    const late = ({ latencyUs }: LoadReport): boolean => latencyUs.max > 60_000;
    const alone = ['--rate', '200', '--backend', backend, '--connections', '1'];
    const { report } = await generateUntil(late, make, 'echo', ...alone);
    expect(report!.latencyUs.max).toBeGreaterThan(60_000);
    expect(report!.backlog).toBeGreaterThan(10);
  });

  it('gets and sets memcached keys', async () => {
    const sets = ['--keys', '50', '--set-share', '0.5'];
    const mixed = await generateUntil(several, memcached, 'memcached', ...sets, ...on);
    expect(mixed.stderr).toBe('');
    expect(mixed.code).toBe(0);
    expect(mixed.report!.transactions).toBeGreaterThan(5);
  });

  it('gets a page over HTTP, on connections that stay and that do not', async () => {
    for (const length of ['inf', '2']) {
      const body = Buffer.from(pattern(1024)).toString();
      const { code, report } = await generateUntil(
        several,
        () => http(body),
        'http',
        '--per-connection',
        length,
        ...on,
      );
      expect(code).toBe(0);
      expect(report!.transactions).toBeGreaterThan(5);
    }
  });

  it('gets the files of a trace, on connections of the trace’s lengths', async () => {
    const { sizes } = traceOf('specweb');
    const bodies = Buffer.from(pattern(Math.max(...sizes))).toString();
    const seen = new Set<string>();
    const requests: number[] = [];
    const make = () =>
      serve((socket) => {
        let text = '';
        const connection = requests.push(0) - 1;
        socket.setEncoding('latin1').on('data', (data: string) => {
          text += data;
          for (let end = text.indexOf('\r\n\r\n'); end >= 0; end = text.indexOf('\r\n\r\n')) {
            const path = /^GET (\S+)/.exec(text)![1]!;
            const size = sizes[Number(/(\d+)\.html/.exec(path)![1])]!;
            text = text.slice(end + 4);
            seen.add(path);
            requests[connection]!++;
            socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\n\r\n${bodies.slice(0, size)}`);
          }
        });
      });
    const whole = (): boolean => seen.size > 5 && requests.includes(6);
    const { code, report } = await generateUntil(whole, make, 'http', '--trace', 'specweb', ...on);
    expect(report!.errorTexts).toEqual([]);
    expect(code).toBe(0);
    expect(seen.size).toBeGreaterThan(5);
    expect(Math.max(...requests)).toBe(6);
  });

  it('reports the server’s CPU time', async () => {
    const { report } = await generate(await echo(), 'echo', '--server-pid', String(process.pid), ...on);
    expect(report!.serverCpuSeconds).toBeGreaterThanOrEqual(0);
    expect(report!.serverCpuSeconds).toBeLessThan(20);
  });
});

describe('a run fails when the server', () => {
  const cases: [string, string, () => Promise<TestServer>, RegExp][] = [
    [
      'changes a byte now and then',
      'echo',
      () => {
        let count = 0;
        return serve((socket) =>
          socket.on('data', (data) => {
            if (++count % 10 === 0) data[40]! ^= 1;
            socket.write(data);
          }),
        );
      },
      /byte 40 of 64: expected/,
    ],
    [
      'says too much',
      'echo',
      () => serve((socket) => socket.on('data', (data) => socket.write(Buffer.concat([data, data])))),
      /bytes more than the 64 expected/,
    ],
    [
      'speaks unasked',
      'echo',
      () => serve((socket) => socket.write('hello')),
      /bytes (that no request asked for|more than)|byte 0 of 64/,
    ],
    ['says nothing', 'echo', () => serve((socket) => socket.resume()), /no complete response in 2000 ms/],
    [
      'swallows the last byte',
      'echo',
      () => serve((socket) => socket.on('data', (data) => socket.write(data.subarray(1)))),
      /byte 0 of 64|no complete response/,
    ],
    [
      'hangs up instead of an answer',
      'echo',
      () => serve((socket) => socket.on('data', () => socket.end())),
      /the server ended the connection before its response was complete/,
    ],
    [
      'misses a key',
      'memcached',
      () => memcached((reply) => reply.replace(keyOf(0), 'other')),
      /expected .*bench-key-00000000/,
    ],
    ['forgets a key', 'memcached', () => memcached(() => 'END\r\n'), /expected .*VALUE/],
    ['sends another page', 'http', () => http(Buffer.from(pattern(1024, 1)).toString()), /byte \d+ of the body/],
    ['sends a page of another length', 'http', () => http('short'), /Content-Length: expected 1024, got/],
    ['chunks', 'http', () => http('x', 'Transfer-Encoding: chunked\r\n'), /Transfer-Encoding/],
  ];

  it.each(cases)('%s (%s)', async (_name, protocol, make, text) => {
    const failed = ({ errors }: LoadReport): boolean => errors > 0;
    const { code, report } = await generateUntil(failed, make, protocol, '--connections', '2');
    expect(code).toBe(1);
    expect(report!.errors).toBeGreaterThan(0);
    expect(report!.errorTexts.join('\n')).toMatch(text);
  });

  it('refuses connections', async () => {
    const server = await echo();
    await server.close();
    const { code, report } = await generate({ ...server, close: async () => {} }, 'echo', '--connections', '2');
    expect(code).toBe(1);
    expect(report!.errorTexts[0]).toMatch(/connect: /);
  });

  it('does not store what is preloaded', async () => {
    const server = await serve((socket) => socket.on('data', () => socket.write('SERVER_ERROR out of memory\r\n')));
    const { code, report, stderr } = await generate(server, 'memcached');
    expect(code).toBe(1);
    expect(report).toBeNull();
    expect(stderr).toMatch(/preload: expected STORED for bench-key-00000000, got "SERVER_ERROR out of memory/);
  });
});

it('a command line that is not understood prints the usage', async () => {
  const child = await children.start([process.execPath, MAIN, '--target', 'nowhere'], null);
  expect((await child.ended).code).toBe(2);
  expect(child.stderr()).toMatch(/--target: expected HOST:PORT, got "nowhere"[\s\S]*usage: /);
});
