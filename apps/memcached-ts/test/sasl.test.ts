/** The dialogue of SASL PLAIN, step by step: what Debian's memcached answered, with a sasldb of the same name and password. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packet } from './packets.ts';
import { Client, IO_MODES, play, type Server, startOurs } from './servers.ts';

const GOOD = '\0user\0secret';
const BAD = '\0user\0guess';
const start = (value: string, mechanism = 'PLAIN'): Buffer => packet(0x21, { key: mechanism, value });
const step = (value: string, mechanism = 'PLAIN'): Buffer => packet(0x22, { key: mechanism, value });
const GET = packet(0x00, { key: 'k' });

/** Statuses: 0 done, 1 not found, 4 invalid arguments, 20 authentication failure, 21 go on. */
const DIALOGUES: [what: string, packets: Buffer[], statuses: string][] = [
  ['credentials with the start', [start(GOOD), GET], '0 1'],
  ['credentials with a step', [start(''), step(GOOD), GET], '21 0 1'],
  ['a question between start and step', [start(''), packet(0x20), step(GOOD), GET], '21 0 0 1'],
  ['a wrong step, then the right one', [start(''), step(BAD), step(''), step(GOOD), GET], '21 20 20 0 1'],
  ['two starts', [start(''), start(''), step(GOOD), GET], '21 21 0 1'],
  ['a start with credentials in place of the step', [start(''), start(GOOD), GET], '21 0 1'],
  ['a step under another name', [start(''), step(GOOD, 'FOO'), GET], '21 0 1'],
  ['a mechanism in whatever case', [start('', 'plain'), step(GOOD, 'Plain'), GET], '21 0 1'],
  ['a mechanism as a C string', [start(GOOD, 'PLAIN\0x'), GET], '0 1'],
  ['a step without a start', [step(GOOD), GET], '20 20'],
  ['a step after a start that failed', [start(BAD), step(GOOD), GET], '20 20 20'],
  ['a step after a start that failed in between', [start(''), start(BAD), step(GOOD), GET], '21 20 20 20'],
  ['a step after an unknown mechanism', [start(''), start(GOOD, 'FOO'), step(GOOD), GET], '21 20 20 20'],
  ['unknown mechanisms', [start(GOOD, 'PLAINX'), start(GOOD, 'PLAI'), start(GOOD, 'PLAIN ')], '20 20 20'],
  ['a start while one is under way', [start(''), GET], '21 20'],
  ['a second success', [start(GOOD), start(GOOD), GET], '0 20 20'],
  ['a second success by a step', [start(''), step(GOOD), step(GOOD), GET], '21 0 20 20'],
  ['a second dialogue', [start(GOOD), start(''), step(GOOD), step(GOOD), GET], '0 21 20 20 20'],
  ['a second dialogue after a failure', [start(GOOD), start(BAD), start(''), step(GOOD), GET], '0 20 21 0 1'],
  ['after a failure nobody is in any more', [start(GOOD), start(BAD), GET], '0 20 20'],
  ['an identity that is the name', [start('user\0user\0secret'), GET], '0 1'],
  ['an identity of another', [start('other\0user\0secret'), GET], '20 20'],
  ['a mechanism of 32 bytes', [start(GOOD, 'P'.repeat(32))], '20'],
  ['a mechanism of 33 bytes', [start(GOOD, 'P'.repeat(33)), start(GOOD), GET], '4 0 1'],
  ['a mechanism of 33 bytes of who is in', [start(GOOD), start(GOOD, 'P'.repeat(33)), GET], '0 4 1'],
  ['a step with a mechanism of 33 bytes', [start(''), step(GOOD, 'P'.repeat(33)), step(GOOD), GET], '21 4 0 1'],
  ['no mechanism', [start(''), step(GOOD, ''), step(GOOD)], '21 4'],
  [
    'long credentials',
    [start(`\0${'u'.repeat(5000)}\0x`), start(''), step('x'.repeat(5000)), step(GOOD), GET],
    '20 21 20 0 1',
  ],
  ...['u', '\0', '\0\0', '\0user', '\0user\0', `${GOOD}\0`, '\0User\0secret'].map(
    (value): [string, Buffer[], string] => [`credentials ${JSON.stringify(value)}`, [start(value), GET], '20 20'],
  ),
];

function statuses(answer: Buffer): string {
  const all: string[] = [];
  for (let at = 0; at < answer.length; at += 24 + answer.readUInt32BE(at + 8)) {
    all.push(answer.readUInt16BE(at + 6).toString(16));
  }
  return all.join(' ');
}

describe.each(IO_MODES)('SASL with --io %s', (io) => {
  let server: Server;
  const folder = mkdtempSync(join(tmpdir(), 'memcached-ts-sasl-'));
  beforeAll(async () => {
    const file = join(folder, 'passwords');
    writeFileSync(file, 'user:secret\nother:x\n');
    server = await startOurs(io, ['-S'], { MEMCACHED_SASL_PWDB: file });
  });
  afterAll(async () => {
    await server?.stop();
    rmSync(folder, { recursive: true });
  });

  it.each(DIALOGUES)('%s', async (_, packets, want) => {
    expect(statuses(await play(server.port, packets))).toBe(want);
  });

  it('is led byte by byte, too', async () => {
    const [, packets, want] = DIALOGUES[3]!;
    const bytes = Array.from(Buffer.concat(packets), (byte) => Buffer.of(byte));
    expect(statuses(await play(server.port, bytes))).toBe(want);
  });

  it('counts what came to an end, well or not', async () => {
    const counts = async (): Promise<number[]> => {
      const client = await Client.connect(server.port);
      client.send(Buffer.concat([start(GOOD), packet(0x10), packet(0x07)]).toString('latin1'));
      const text = await client.until('never');
      return ['auth_cmds', 'auth_errors'].map((name) => Number(new RegExp(`${name}(\\d+)`).exec(text)![1]));
    };
    const before = await counts();
    await play(server.port, [start(''), step(BAD), step(GOOD), start(GOOD, 'P'.repeat(33)), start(GOOD)]);
    const after = await counts();
    // Three of those, and the start of `counts` itself.
    expect(after.map((count, i) => count - before[i]!)).toEqual([4, 2]);
  });
});
