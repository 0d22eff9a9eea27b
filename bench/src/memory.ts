/**
 * What a memcached takes: resident memory when it has just started, and what each stored item adds, by the kernel's count and
 * by the server's own. Not its job: starting the server; deciding what is much.
 */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Load } from './experiment.ts';
import { preload } from './loadgen/memcached.ts';
import { processTree } from './procstat.ts';
import type { Sample } from './results.ts';

const HOST = '127.0.0.1';
/** A server that still allocates after its start has this long to come to rest. */
const REST_MS_MAX = 5_000;
const REST_STEP_MS = 250;

/** Resident bytes of a process and all below it. */
export function residentBytes(root: number): number {
  let sum = 0;
  for (const pid of processTree(root)) {
    const kilobytes = /^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
    if (kilobytes !== undefined) sum += Number(kilobytes) * 1024;
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
    socket.setTimeout(10_000, () => socket.destroy(new Error('stats: no answer in 10 s')));
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
  // The first half also pays for what is allocated once: buffers, compiled code.
  const rssHalfBytes = await atRest(pid);
  await preload(HOST, port, { keys, valueBytes: load.size }, half);
  const rssBytes = await atRest(pid);
  const seconds = (performance.now() - start) / 1000;
  const stats = await statsOf(HOST, port);
  const items = Number(stats.get('curr_items'));
  const errors = items === keys ? 0 : 1;
  return {
    transactions: keys,
    seconds,
    throughput: keys / seconds,
    cpuUs: 0,
    serverCores: 0,
    clientCores: 0,
    latencyUs: { mean: 0, p50: 0, p90: 0, p99: 0, p999: 0, max: 0 },
    errors,
    errorTexts: errors === 0 ? [] : [`curr_items: expected ${keys}, got ${stats.get('curr_items')}`],
    othersCpuSeconds: 0,
    memory: {
      rssStartBytes,
      rssItemBytes: (rssBytes - rssHalfBytes) / (keys - half),
      statsItemBytes: Number(stats.get('bytes')) / items,
    },
  };
}
