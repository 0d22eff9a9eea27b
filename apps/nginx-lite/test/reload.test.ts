/**
 * Reload without a lost request: the acceptance test of the process model.
 *
 * Clients that open a connection for each request, and clients that keep theirs, ask without a pause while the
 * configuration is reloaded again and again, with another number of workers each time and once with a broken file. Not one connection may be
 * refused or reset, not one request go unanswered, and every answer must be whole. `RELOADS=50` runs it at full length.
 */

import { rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { get } from './support/client.ts';
import { conf, IO_MODES, startLite } from './support/server.ts';

const RELOADS = Number(process.env['RELOADS'] ?? 3);
const FRESH_CLIENTS = 3;
const KEPT_CLIENTS = 4;
/** Kept connections are closed when they have been idle for a second after a reload: who is slower than that asks anew. */
const GRACE_MS = 800;
const BODY = 'x'.repeat(20_000);
const FILES = { 'html/small.txt': 'small\n', 'html/large.txt': BODY };

interface Tally {
  answers: number;
  troubles: string[];
}

/** One request on an open connection: whether it may be used again, or what went wrong. */
function ask(socket: Socket, path: string, body: string, close: boolean): Promise<boolean | string> {
  return new Promise((resolve) => {
    let text = '';
    const done = (result: boolean | string): void => {
      socket.off('data', onData).off('error', onError).off('close', onClose);
      resolve(result);
    };
    const onError = (error: Error): void => done(`${error.message} after ${text.length} bytes`);
    const onClose = (): void => done(`closed after ${text.length} bytes of an answer`);
    const onData = (chunk: Buffer): void => {
      text += chunk.toString('latin1');
      const end = text.indexOf('\r\n\r\n');
      if (end < 0 || text.length < end + 4 + body.length) return;
      if (!text.startsWith('HTTP/1.1 200 OK\r\n') || text.slice(end + 4) !== body)
        done(`wrong answer: ${text.slice(0, 300)}`);
      else done(/\r\nConnection: keep-alive\r\n/.test(text.slice(0, end + 2)));
    };
    socket.on('data', onData).on('error', onError).on('close', onClose);
    socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n${close ? 'Connection: close\r\n' : ''}\r\n`);
  });
}

function opened(port: number): Promise<Socket | string> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.setNoDelay(true);
    socket.once('error', (error) => resolve(error.message));
    socket.once('connect', () => resolve(socket));
  });
}

async function client(port: number, kept: boolean, tally: Tally, going: () => boolean, index: number): Promise<void> {
  let socket: Socket | null = null;
  let asked = 0;
  for (let round = 0; going(); round++) {
    if (socket === null) {
      const made = await opened(port);
      if (typeof made === 'string') {
        tally.troubles.push(made);
        continue;
      }
      socket = made;
      asked = performance.now();
      socket.on('error', () => {});
    }
    // Of the server's idleness we know that it began after we asked last.
    const late = performance.now() - asked > GRACE_MS;
    asked = performance.now();
    const large = (round + index) % 3 === 0;
    const result = await ask(
      socket,
      large ? '/large.txt' : '/small.txt',
      large ? BODY : 'small\n',
      !kept && index % 2 === 0,
    );
    if (typeof result !== 'string') tally.answers++;
    else if (!late || !/ after 0 bytes/.test(result)) tally.troubles.push(result);
    if (result !== true || !kept) {
      socket.destroy();
      socket = null;
    }
    // Some clients pause between requests: their connections are idle when the reload comes.
    if (kept && index % 2 === 1) await sleep((round * 7) % 60);
  }
  socket?.destroy();
}

describe.each(IO_MODES)('--io %s', (io) => {
  test(`${RELOADS} reloads: no reset, no refusal, every answer whole`, {
    timeout: 120_000 + RELOADS * 12_000,
  }, async () => {
    const config = (version: string, workers: number): string =>
      conf(
        `server { listen 127.0.0.1:%PORT%; root html; location /v { return 200 "${version}"; } }`,
        `worker_processes ${workers};`,
      );
    const server = await startLite(config('v0', 2), { io, files: FILES });
    const file = join(server.dir, `nginx-${server.port}.conf`);
    const write = (text: string): void => writeFileSync(file, text.replaceAll('%PORT%', String(server.port)));
    const tally: Tally = { answers: 0, troubles: [] };
    let going = true;
    const clients = [
      ...Array.from({ length: FRESH_CLIENTS }, (_, i) => client(server.port, false, tally, () => going, i)),
      ...Array.from({ length: KEPT_CLIENTS }, (_, i) => client(server.port, true, tally, () => going, i)),
    ];
    const broken = Math.floor(RELOADS / 2);
    for (let i = 1; i <= RELOADS; i++) {
      if (i === broken) {
        write(`broken${i};`);
        server.child.kill('SIGHUP');
        await server.logged('error.log', `unknown directive "broken${i}"`);
        expect((await get(server.port, '/v')).body).toBe(`v${i - 1}`);
      }
      write(config(`v${i}`, 1 + (i % 3)));
      server.child.kill('SIGHUP');
      while ((await get(server.port, '/v')).body !== `v${i}`) await sleep(10);
    }
    going = false;
    await Promise.all(clients);
    console.log(`${io}: ${RELOADS} reloads, ${tally.answers} answers, ${tally.troubles.length} troubles`);
    expect(tally.troubles).toEqual([]);
    expect(tally.answers).toBeGreaterThan(RELOADS);
    expect(await server.stop('SIGQUIT')).toBe(0);
    rmSync(server.dir, { recursive: true, force: true });
  });
});
