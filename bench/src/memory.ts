/**
 * What a server takes: resident memory when it has just started, what is added by each item stored in a memcached (by the
 * kernel's count and by the server's own) and once by storing at all, or by connections that idle. Not its job: starting the server; deciding what is much.
 */
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Load } from './experiment.ts';
import { preload } from './loadgen/memcached.ts';
import { processTree } from './procstat.ts';
import type { MemoryUse, Sample } from './results.ts';

const HOST = '127.0.0.1';
/** A server that still allocates after its start has this long to come to rest. */
const REST_MS_MAX = 5_000;
const REST_STEP_MS = 250;
/** How often items are stored anew at most until that takes no more memory, and what counts as none. */
const PASSES_MAX = 4;
const PASS_GROWTH_BYTES_MAX = 1 << 20;

/** Resident bytes of a process and all below it. */
export function residentBytes(root: number): number {
  let sum = 0;
  for (const pid of processTree(root)) {
    const kilobytes = /^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
    if (kilobytes !== undefined) sum += Number(kilobytes) * 1024;
  }
  return sum;
}

/**
 * Bytes of a process and all below it in which a page that several processes map counts once, divided among them: pages of the program
 * itself, most of all. null where the kernel does not tell (processes of another user).
 */
export function proportionalBytes(root: number): number | null {
  let sum = 0;
  for (const pid of processTree(root)) {
    let text: string;
    try {
      text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
    } catch {
      return null;
    }
    sum += Number(/^Pss:\s*(\d+) kB$/m.exec(text)?.[1]) * 1024;
  }
  return sum;
}

/** Waits until resident memory stays within 1 % over a step. */
async function atRest(pid: number): Promise<number> {
  let last = residentBytes(pid);
  for (let waited = 0; waited < REST_MS_MAX; waited += REST_STEP_MS) {
    await sleep(REST_STEP_MS);
    const now = residentBytes(pid);
    if (Math.abs(now - last) <= last / 100) return now;
    last = now;
  }
  return last;
}

/** `stats`, by name. */
export function statsOf(host: string, port: number): Promise<Map<string, string>> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port }, () => socket.write('stats\r\n'));
    let text = '';
    socket.setTimeout(60_000, () => socket.destroy(new Error('stats: no answer in a minute')));
    socket.setEncoding('latin1').on('data', (data: string) => {
      text += data;
      if (!text.endsWith('END\r\n')) return;
      socket.end();
      resolve(new Map([...text.matchAll(/^STAT (\S+) (.*)\r$/gm)].map((line) => [line[1]!, line[2]!])));
    });
    socket.on('error', reject);
    socket.on('close', () => reject(new Error(`stats: closed after ${JSON.stringify(text.slice(0, 80))}`)));
  });
}

/** A sample without a load: only memory was measured. */
function unloaded(
  transactions: number,
  seconds: number,
  memory: MemoryUse,
  errorTexts: string[],
): Omit<Sample, 'server' | 'workload' | 'round'> {
  return {
    transactions,
    seconds,
    throughput: transactions / seconds,
    cpuUs: 0,
    serverCores: 0,
    clientCores: 0,
    latencyUs: { mean: 0, p50: 0, p90: 0, p99: 0, p999: 0, max: 0 },
    errors: errorTexts.length,
    errorTexts,
    othersCpuSeconds: 0,
    memory,
  };
}

/** Opens one connection and has one GET of the load answered on it. */
function servedOnce(port: number, load: Load): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: HOST, port }, () => {
      socket.write(`GET ${load.path} HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`);
    });
    let got = 0;
    let header = -1;
    socket.on('data', (data: Buffer) => {
      if (got === 0) header = data.indexOf('\r\n\r\n') + 4;
      got += data.length;
      if (got < header + load.size) return;
      socket.setTimeout(0);
      resolve(socket);
    });
    socket.setTimeout(60_000, () => socket.destroy(new Error('no answer in a minute')));
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('closed by the server')));
  });
}

/** How many connections are opened at a time: no more than wait in anybody's listen queue. */
const OPENING = 200;

/** How long connections idle before memory is looked at: what a server at rest gives back is not in use. */
const IDLE_MS = 5000;

/** Has each of the load's connections served once, and says what the server takes while they idle. */
export async function measureIdle(
  pid: number,
  port: number,
  load: Load,
): Promise<Omit<Sample, 'server' | 'workload' | 'round'>> {
  const rssStartBytes = await atRest(pid);
  const start = performance.now();
  const sockets: Socket[] = [];
  try {
    while (sockets.length < load.connections) {
      const count = Math.min(OPENING, load.connections - sockets.length);
      sockets.push(...(await Promise.all(Array.from({ length: count }, () => servedOnce(port, load)))));
    }
    const seconds = (performance.now() - start) / 1000;
    await sleep(IDLE_MS);
    const rssIdleBytes = await atRest(pid);
    const pssIdleBytes = proportionalBytes(pid) ?? undefined;
    const gone = sockets.filter((socket) => socket.destroyed || socket.readableEnded).length;
    const errorTexts = gone === 0 ? [] : [`${gone} of ${load.connections} connections did not stay`];
    return unloaded(load.connections, seconds, { rssStartBytes, rssIdleBytes, pssIdleBytes }, errorTexts);
  } finally {
    for (const socket of sockets) socket.destroy();
  }
}

/** Stores the load's keys in a server that has just started, and says what that took. */
export async function measureMemory(
  pid: number,
  port: number,
  load: Load,
): Promise<Omit<Sample, 'server' | 'workload' | 'round'>> {
  const keys = load.keys ?? 1;
  const half = Math.ceil(keys / 2);
  const rssStartBytes = await atRest(pid);
  const start = performance.now();
  await preload(HOST, port, { keys: half, valueBytes: load.size });
  // The first half also pays for what is allocated once: buffers, compiled code. Storing it again brings the rest of that.
  let rssHalfBytes = await atRest(pid);
  for (let pass = 0; pass < PASSES_MAX; pass++) {
    const before = rssHalfBytes;
    await preload(HOST, port, { keys: half, valueBytes: load.size });
    rssHalfBytes = await atRest(pid);
    if (rssHalfBytes - before <= PASS_GROWTH_BYTES_MAX) break;
  }
  await preload(HOST, port, { keys, valueBytes: load.size }, half);
  const rssBytes = await atRest(pid);
  const seconds = (performance.now() - start) / 1000;
  const stats = await statsOf(HOST, port);
  const items = Number(stats.get('curr_items'));
  const rssItemBytes = (rssBytes - rssHalfBytes) / (keys - half);
  const rssOnceBytes = rssHalfBytes - rssStartBytes - half * rssItemBytes;
  const statsItemBytes = Number(stats.get('bytes')) / items;
  const errorTexts = items === keys ? [] : [`curr_items: expected ${keys}, got ${stats.get('curr_items')}`];
  return unloaded(keys, seconds, { rssStartBytes, rssItemBytes, rssOnceBytes, statsItemBytes }, errorTexts);
}
