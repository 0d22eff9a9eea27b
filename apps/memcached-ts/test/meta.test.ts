/** What the meta protocol answers where Debian's memcached cannot be asked: 1.6.45's flags, and base64 of any bytes. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { decodeBase64, writeBase64 } from '../src/base64.ts';
import { packet, readPackets } from './packets.ts';
import { ask, IO_MODES, play, type Server, startOurs } from './servers.ts';

describe('base64', () => {
  it('is what Node writes, and reads it back', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 250 }), (bytes) => {
        const text = Buffer.alloc(400);
        const end = writeBase64(text, 3, bytes, 0, bytes.length);
        expect(text.toString('latin1', 3, end)).toBe(Buffer.from(bytes).toString('base64'));
        const back = Buffer.alloc(260);
        expect(decodeBase64(text, 3, end, back)).toBe(bytes.length);
        expect(back.compare(bytes, 0, bytes.length, 0, bytes.length)).toBe(0);
      }),
    );
  });

  it('refuses what is no whole number of groups', () => {
    const decode = (text: string): number => decodeBase64(Buffer.from(text), 0, text.length, Buffer.alloc(100));
    for (const text of ['', 'A', 'AB', 'ABC', 'ABCDE', '!!!!', '====', 'A===']) expect(decode(text)).toBe(0);
    expect(decode('QQ==')).toBe(1);
  });
});

describe.each(IO_MODES)('the meta protocol on --io %s', (io) => {
  let server: Server;
  beforeAll(async () => {
    server = await startOurs(io);
  });
  afterAll(() => server.stop());

  /** The answer's lines to these lines, on a fresh cache. */
  async function lines(...commands: string[]): Promise<string[]> {
    const text = await ask(server.port, `flush_all\r\n${commands.join('\r\n')}\r\nquit\r\n`);
    return text.split('\r\n').slice(1, -1);
  }

  it('gives an item the CAS that E names', async () => {
    expect(
      await lines('ms a 1 E1000 c', '1', 'mg a c', 'ms a 1 C1000 E18446744073709551615 c', '2', 'mg a c v'),
    ).toEqual(['HD c1000', 'HD c1000', 'HD c18446744073709551615', 'VA 1 c18446744073709551615', '2']);
    const [got] = readPackets(await play(server.port, [packet(0x00, { key: 'a' }), packet(0x07)]));
    expect(got).toMatch(/ cas=18446744073709551615$/);
    expect(await lines('ms n 1', '5', 'ma n E77 c v', 'ma n C76', 'ma n C77 q', 'md n I E78', 'mg n c', 'mn')).toEqual([
      'HD',
      'VA 1 c77',
      '6',
      'EX',
      'HD',
      'HD c78 X W',
      'MN',
    ]);
    expect(await lines('mg new N30 E5 c', 'ma num N0 E6 c', 'ms x 1 Ex', '1')).toEqual([
      'HD c5 W',
      'HD c6',
      'CLIENT_ERROR bad token in command line format',
    ]);
  });

  it('marks what is stored under a CAS that is too old, which lives no longer than what it replaces', async () => {
    expect(await lines('ms a 1 E50', '1', 'ms a 1 I C49 T5000', '2', 'mg a v t', 'mg a v')).toEqual([
      ...['HD', 'HD', 'VA 1 t-1 X W', '2', 'VA 1 Z X', '2'],
    ]);
  });

  it('keeps nothing of one command for the next', async () => {
    expect(
      await lines('ms n 1', '5', 'ma n D18446744073709551615 v', 'ma n v', 'ma n MD D4294967296 v', 'ma n v'),
    ).toEqual(['HD', 'VA 1', '4', 'VA 1', '5', 'VA 1', '0', 'VA 1', '1']);
    expect(
      await lines('ms a 1 E50', '1', 'ms b 1 I C7 E60', '2', 'cas a 0 0 1 49', '3', 'ms c 1 c', '4', 'mg a v'),
    ).toEqual([...['HD', 'NF', 'EXISTS', expect.stringMatching(/^HD c(?!60$)\d+$/), 'VA 1', '1']]);
    const after = ['mg v N30 E70', 'ma u N0 E71', 'md v I E72'].map((command) => [
      command,
      'set t 0 0 1',
      '4',
      'gets t',
    ]);
    const gets = (await lines(...after.flat())).filter((line) => line.startsWith('VALUE t '));
    expect(gets).toHaveLength(3);
    for (const line of gets) expect(line).not.toMatch(/ 7[012]$/);
  });

  it('takes the value away with md x, and keeps the item', async () => {
    expect(await lines('ms a 3 F5 T100', 'abc', 'md a x', 'mg a v s f t')).toEqual(['HD', 'HD', 'VA 0 s0 f0 t-1', '']);
    expect(await lines('ms a 3 F5', 'abc', 'md a x I T90 q', 'mg a v', 'mg a v', 'md nope x')).toEqual([
      'HD',
      'VA 0 X W',
      '',
      'VA 0 Z X',
      '',
      'NF',
    ]);
  });

  it('appends with N to what is not there yet, and tells the size with s', async () => {
    expect(await lines('ms a 2 MA N0 s', 'ab', 'ms a 1 MP N0 s k', 'x', 'mg a v', 'ms b 3 s MR', 'abc')).toEqual([
      'HD s2',
      'HD s3 ka',
      'VA 3',
      'xab',
      'NS s3',
    ]);
  });

  it('refuses an append under a wrong CAS with NS', async () => {
    expect(await lines('ms a 1 E9', 'a', 'ms a 1 MA C8 c', 'b', 'ms a 1 MA C9', 'c', 'mg a v')).toEqual([
      'HD',
      'NS c0',
      'HD',
      'VA 2',
      'ac',
    ]);
  });

  it('swallows the payload after every error in the line of ms', async () => {
    const key = 'k'.repeat(251);
    const flags = ' L'.repeat(30);
    expect(await lines(`ms ${key} 2`, 'mn', `ms a 2${flags}`, 'mn', 'ms a 2 z q', 'mn', 'mn')).toEqual([
      'CLIENT_ERROR bad command line format',
      'CLIENT_ERROR options flags are too long',
      'CLIENT_ERROR invalid flag',
      'MN',
    ]);
  });

  it('names each wrong flag of md, and all of ma alike', async () => {
    expect(await lines('md a k k', 'md a z', 'md a Cx', 'ma a z', 'ma a Dx', 'ma a v v')).toEqual([
      'CLIENT_ERROR duplicate flag',
      'CLIENT_ERROR invalid flag',
      'CLIENT_ERROR bad token in command line format',
      'CLIENT_ERROR invalid or duplicate flag',
      'CLIENT_ERROR invalid or duplicate flag',
      'CLIENT_ERROR invalid or duplicate flag',
    ]);
  });

  it('changes nothing where the opaque is too long', async () => {
    const opaque = `O${'o'.repeat(32)}`;
    expect(await lines('ms n 1', '5', `ma n ${opaque}`, 'mg n v', `mg fresh N30 ${opaque}`, 'mg fresh')).toEqual([
      'HD',
      'CLIENT_ERROR opaque token too long',
      'VA 1',
      '5',
      'CLIENT_ERROR opaque token too long',
      'EN',
    ]);
  });

  it('keeps the T of a ma whose number grows, and tells the time left in me', async () => {
    const answer = await lines('ms n 1', '9', 'ma n T100 v', 'mg n t', 'me n');
    expect(answer.slice(0, 3)).toEqual(['HD', 'VA 2', '10']);
    expect(answer[3]).toMatch(/^HD t(100|99|98)$/);
    expect(answer[4]).toMatch(/^ME n exp=(100|99|98) la=\d cas=\d+ fetch=yes cls=1 size=62$/);
  });
});
