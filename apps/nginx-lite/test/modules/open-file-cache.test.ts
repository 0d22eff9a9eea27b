/** open_file_cache: when a change of a file is seen, as Debian's nginx sees it; no clock is waited for. */

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { get } from '../support/client.ts';
import { oracleAvailable, oracleVersion } from '../support/oracle.ts';
import { conf, IO_MODES, makePrefix, type Running, startDebian, startLite } from '../support/server.ts';

/** Longer than any test. */
const VALID = 'open_file_cache_valid 1h;';
const HTTP = `server { listen 127.0.0.1:%PORT%; root html; open_file_cache max=100;
  location /once/ { ${VALID} }
  location /thrice/ { ${VALID} open_file_cache_min_uses 3; }
  location /errors/ { ${VALID} open_file_cache_errors on; }
  location /seldom-errors/ { ${VALID} open_file_cache_errors on; open_file_cache_min_uses 2; }
  location /off/ { open_file_cache off; ${VALID} open_file_cache_min_uses 5; }
  location /none/ { ${VALID} open_file_cache_min_uses 0; }
}`;
const PLACES = ['once', 'thrice', 'errors', 'seldom-errors', 'off', 'none'];

/** What each of some requests to a file that changes before each is answered. */
async function transcript(server: Running): Promise<Record<string, string[]>> {
  const said: Record<string, string[]> = {};
  for (const place of PLACES) {
    const said1: string[] = [];
    const path = join(server.dir, 'html', place, 'a.txt');
    const ask = async (): Promise<void> => {
      const answer = await get(server.port, `/${place}/a.txt`);
      said1.push(`${answer.status} ${answer.status === 200 ? answer.body : ''}`);
    };
    await ask();
    // Another length, so that no two versions look alike; a new file, so that nobody writes into what is open.
    for (let i = 1; i <= 5; i++) {
      rmSync(path, { force: true });
      writeFileSync(path, `version ${'x'.repeat(i)}`);
      await ask();
    }
    rmSync(path);
    await ask();
    said[place] = said1;
  }
  return said;
}

describe.skipIf(!oracleAvailable)(`changes of files are seen as by ${oracleVersion}`, () => {
  test.each(IO_MODES)('%s', async (io) => {
    const files = Object.fromEntries(PLACES.map((place) => [`html/${place}/keep`, '']));
    const servers = await Promise.all([
      startDebian(conf(HTTP), { dir: makePrefix(files) }),
      startLite(conf(HTTP), { io, dir: makePrefix(files) }),
    ]);
    try {
      const [theirs, ours] = await Promise.all(servers.map(transcript));
      expect(ours).toEqual(theirs);
    } finally {
      await Promise.all(servers.map((each) => each.stop()));
      for (const { dir } of servers) rmSync(dir, { recursive: true });
    }
  });
});
