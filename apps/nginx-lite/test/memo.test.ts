/**
 * The fast way must not remember what depends on more than the head and files.
 *
 * Some variable that differs between connections (those of the client, for whom an answer is kept) or requests (no answer is
 * kept) is sent through random chains of everything that turns words into other words; whatever comes out must differ, too,
 * however often the same head was answered before.
 */

import { rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { get } from './support/client.ts';
import { conf, IO_MODES, startLite } from './support/server.ts';

const SOURCES = ['$connection', '$remote_port', '$realip_remote_port', '$request_id'] as const;
const LINKS = ['map', 'volatile map', 'regex map', 'set', 'if', 'words'] as const;
const ENDS = [
  'return',
  'add_header',
  'rewrite',
  'redirect',
  'error_page',
  'index of try_files',
  'charset',
  'realm',
  'sub_filter',
] as const;
const CHAINS = 40;

interface Chain {
  source: (typeof SOURCES)[number];
  links: (typeof LINKS)[number][];
  end: (typeof ENDS)[number];
}

/** Directives of http and of a location; the last variable holds a text with the source in it. */
function written(chain: Chain, n: number): { http: string; location: string } {
  let http = '';
  let location = '';
  let value: string = chain.source;
  for (const [i, link] of chain.links.entries()) {
    const name = `$v${n}_${i}`;
    if (link === 'map') http += `map ${value} ${name} { default "m${value}"; }\n`;
    else if (link === 'volatile map') http += `map ${value} ${name} { volatile; default "v${value}"; }\n`;
    else if (link === 'regex map') http += `map ${value} ${name} { "~(?<c${n}_${i}>.+)" "r$c${n}_${i}"; }\n`;
    else if (link === 'set') location += `set ${name} "s${value}";\n`;
    else if (link === 'if') location += `set ${name} none; if (${value} ~ (.+)) { set ${name} "i$1"; }\n`;
    else location += `set ${name} "${value}-$uri-${value}";\n`;
    value = name;
  }
  const ends: Record<Chain['end'], string> = {
    return: `return 200 "${value}";`,
    add_header: `add_header X-V "${value}"; alias html/;`,
    rewrite: `rewrite ^ /show/?v=${value} last;`,
    redirect: `rewrite ^ http://h/${value}? redirect;`,
    error_page: `error_page 404 http://h/${value}; return 404;`,
    'index of try_files': `try_files /none /show/?v=${value};`,
    charset: `charset "${value}"; return 200 x;`,
    realm: `auth_basic "${value}"; auth_basic_user_file nowhere;`,
    sub_filter: `sub_filter one "${value}"; sub_filter_types *; alias html/;`,
  };
  return { http, location: `location /${n}/ { ${location}${ends[chain.end]} }\n` };
}

interface Told {
  status: number;
  place: unknown;
  forwarded: unknown;
  body: string;
}

function ask(port: number, agent: Agent, path: string): Promise<Told> {
  return new Promise((resolve, reject) => {
    const asked = request({ port, host: '127.0.0.1', path, agent }, (answer) => {
      let body = '';
      answer.setEncoding('latin1').on('data', (data: string) => {
        body += data;
      });
      answer.on('end', () => {
        const { 'x-place': place, 'x-for': forwarded } = answer.headers;
        resolve({ status: answer.statusCode as number, place, forwarded, body });
      });
    });
    asked.on('error', reject).end();
  });
}

describe.each(IO_MODES)('--io %s', (io) => {
  test('an answer that depends on the connection or the request is made for each', async () => {
    const chain = fc.record({
      source: fc.constantFrom(...SOURCES),
      links: fc.array(fc.constantFrom(...LINKS), { maxLength: 4 }),
      end: fc.constantFrom(...ENDS),
    });
    // An `if` that holds takes try_files away, as in nginx: nothing of the chain would be left in the answer.
    const random = fc
      .sample(chain, CHAINS)
      .filter((each) => each.end !== 'index of try_files' || !each.links.includes('if'));
    const chains = [...ENDS.flatMap((end) => SOURCES.map((source): Chain => ({ source, links: [], end }))), ...random];
    const texts = chains.map(written);
    const server = await startLite(
      conf(
        `map_hash_bucket_size 64; ${texts.map((each) => each.http).join('')} server { listen 127.0.0.1:%PORT%; root html; default_type text/plain;
        location /show/ { return 200 "$arg_v"; }
        ${texts.map((each) => each.location).join('')} }`,
      ),
      { io, files: { 'html/a.txt': 'one\n' } },
    );
    for (const [n, each] of chains.entries()) {
      const answers = new Set<string>();
      for (let i = 0; i < 3; i++) {
        const answer = await get(server.port, `/${n}/a.txt`);
        answers.add(JSON.stringify([answer.status, answer.headers.filter(([name]) => name !== 'Date'), answer.body]));
      }
      expect([each, answers.size]).toEqual([each, 3]);
    }
    await server.stop();
    rmSync(server.dir, { recursive: true, force: true });
  });

  test('the line of a request shows its own values, also of variables made from others', async () => {
    const server = await startLite(
      conf(`map $connection $mapped { default "m$connection"; } map $connection $one { 2 1; default 0; }
        log_format own '$connection $mapped'; access_log logs/own.log own; access_log logs/one.log own if=$one;
        server { listen 127.0.0.1:%PORT%; return 200 x; }`),
      { io },
    );
    for (let i = 0; i < 3; i++) expect((await get(server.port, '/')).body).toBe('x');
    await server.stop();
    expect(server.log('own.log')).toBe('1 m1\n2 m2\n3 m3\n');
    expect(server.log('one.log')).toBe('2 m2\n');
    rmSync(server.dir, { recursive: true, force: true });
  });

  test('a client is told its own address, however often others asked the same', async () => {
    const server = await startLite(
      conf(`geo $place { default none; 127.0.0.1 one; 127.0.0.2 two; }
        server { listen 127.0.0.1:%PORT%; root html;
          location /ip { default_type text/plain; return 200 $remote_addr; }
          location /file/ { add_header X-Place $place; add_header X-For $proxy_add_x_forwarded_for; alias html/; } }`),
      { io, files: { 'html/a.txt': 'one\n' } },
    );
    const agents = [1, 2, 3].map((n) => new Agent({ keepAlive: true, maxSockets: 1, localAddress: `127.0.0.${n}` }));
    for (let round = 0; round < 3; round++) {
      for (const [i, place] of ['one', 'two', 'none'].entries()) {
        const agent = agents[i] as Agent;
        const file = await ask(server.port, agent, '/file/a.txt');
        expect([file.place, file.forwarded]).toEqual([place, `127.0.0.${i + 1}`]);
        expect((await ask(server.port, agent, '/ip')).body).toBe(`127.0.0.${i + 1}`);
      }
    }
    for (const agent of agents) agent.destroy();
    await server.stop();
    rmSync(server.dir, { recursive: true, force: true });
  });

  test('who may not have an answer does not get the one that others got', async () => {
    const server = await startLite(
      conf(`server { listen 127.0.0.1:%PORT%; default_type text/plain; root html;
        location /a { allow 127.0.0.1; allow 127.0.0.3; deny all; }
        location /any/ { alias html/; satisfy any; allow 127.0.0.1; deny all; auth_basic who; auth_basic_user_file html/users; } }`),
      { io, files: { 'html/a.txt': 'one\n', 'html/users': 'u:{PLAIN}p\n' } },
    );
    const agents = [1, 2, 3].map((n) => new Agent({ keepAlive: true, maxSockets: 1, localAddress: `127.0.0.${n}` }));
    const status = async (client: number, path: string): Promise<number> =>
      (await ask(server.port, agents[client - 1] as Agent, path)).status;
    for (let round = 0; round < 3; round++) {
      const seen: number[] = [];
      for (const client of [1, 2, 3]) seen.push(await status(client, '/a.txt'), await status(client, '/any/a.txt'));
      expect(seen).toEqual([200, 200, 403, 401, 200, 401]);
    }
    for (const agent of agents) agent.destroy();
    await server.stop();
    rmSync(server.dir, { recursive: true, force: true });
  });
});
