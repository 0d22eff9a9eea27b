/**
 * Configuration errors: our words are nginx's words, with file and line.
 *
 * Each text is given to `nginx -t` of Debian and to ours; the first error line must be the same. Where a row says what
 * ours prints instead, it says why. Without Debian's nginx the rows with `lite` still hold.
 */

import { execFileSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { loadConfiguration } from '../src/conf/compile.ts';
import { ConfError } from '../src/conf/errors.ts';
import { DEBIAN_NGINX, makePrefix, runLite, writeUnder } from './support/server.ts';

const available = existsSync(DEBIAN_NGINX);
if (!available) console.log(`skipped rows: ${DEBIAN_NGINX} is not installed, so there is no oracle to ask`);

const http = (text: string): string => `events {}\nhttp {\n${text}\n}\n`;
const server = (text: string): string => http(`server {\nlisten 127.0.0.1:18080;\n${text}\n}`);

const ROWS: { text: string; lite?: string; why?: string }[] = [
  // Grammar.
  { text: 'bogus;' },
  { text: 'events {}\nbogus on;\n' },
  { text: 'events {\n' },
  { text: 'events {} }' },
  { text: 'events' },
  { text: 'events {} http' },
  { text: 'worker_processes 1' },
  { text: 'worker_processes 1\nevents {}' },
  { text: ';' },
  { text: '{' },
  { text: '}' },
  { text: 'events {} ; ' },
  { text: 'worker_processes 1 }' },
  { text: 'worker_processes "1' },
  { text: "worker_processes '1" },
  { text: 'worker_processes "1"x;' },
  { text: 'worker_processes "1";;' },
  { text: 'worker_processes {' },
  { text: 'events on;' },
  { text: 'events x {}' },
  { text: 'daemon maybe;' },
  { text: 'daemon on; daemon on;' },
  {
    text: 'worker_processes 0;',
    lite: '"worker_processes" directive invalid value',
    why: 'nginx starts and serves nobody',
  },
  { text: 'worker_processes x;' },
  { text: 'worker_processes 1 2;' },
  { text: 'worker_processes;' },
  { text: `worker_processes ${'x'.repeat(5000)};${' '.repeat(5000)}` },
  { text: `worker_processes "${'x'.repeat(5000)}";${' '.repeat(5000)}` },
  { text: 'include missing.conf;' },
  { text: 'include a b;' },
  { text: 'include missing/*.conf; bogus;' },
  { text: '' },
  { text: '# nothing\n' },
  { text: 'events {} events {}' },
  { text: 'events { worker_connections x; }' },
  { text: 'events { worker_connections 1; worker_connections 2; }' },
  { text: 'events { use nothing; }' },
  { text: 'events { server {} }' },
  { text: 'error_log logs/e.log nolevel;' },
  { text: 'worker_cpu_affinity 012;' },
  { text: 'worker_shutdown_timeout 1x;' },
  // Contexts.
  { text: 'listen 80;' },
  { text: 'server {}' },
  { text: http('location / {}') },
  { text: http('listen 80;') },
  { text: server('http {}') },
  { text: server('server {}') },
  { text: server('location / { listen 80; }') },
  { text: server('location / { server_name x; }') },
  { text: server('worker_processes 1;') },
  { text: http('return 200;') },
  { text: server('alias /x;') },
  { text: server('log_format x y;') },
  { text: http('try_files a b;') },
  { text: http('internal;') },
  { text: server('types_hash_max_size x;') },
  // listen and server_name.
  { text: http('server { listen 99999; }') },
  { text: http('server { listen 0; }') },
  { text: http('server { listen 127.0.0.1:x; }') },
  { text: http('server { listen 127.0.0.1:; }') },
  { text: http('server { listen :80; }') },
  { text: http('server { listen [::1; }') },
  { text: http('server { listen [::x]:80; }') },
  { text: http('server { listen unix:; }') },
  { text: http('server { listen no.such.host.invalid:80; }') },
  { text: http('server { listen 8080 what; }') },
  { text: http('server { listen 8080 backlog=x; }') },
  { text: http('server { listen 8080 ipv6only=on; }') },
  { text: http('server { listen [::]:8080 ipv6only=maybe; }') },
  { text: http('server { listen 8080; listen 8080; }') },
  { text: http('server { listen 8080 default_server; } server { listen 8080 default_server; }') },
  { text: http('server { listen 8080 backlog=5; } server { listen 8080 backlog=6; }') },
  { text: server('server_name *;') },
  { text: server('server_name .;') },
  { text: server('server_name ~;') },
  { text: server('server_name a*b;') },
  { text: server('server_name *.a.*;') },
  { text: http('server { listen 8080; server_name a*b; } server { listen 8080; }') },
  { text: http('server { listen 8080; server_name *.a.*; } server { listen 8080; }') },
  { text: server('rewrite ^/(?<uri>.*)$ /x;') },
  { text: server('rewrite ^/(?<args>.*)$ /x;') },
  { text: server('if ($arg_a { }') },
  { text: server('secure_link a;\nsecure_link_secret b;') },
  { text: server('location / { secure_link_secret a; secure_link_md5 b; }') },
  { text: server('secure_link_secret a; location / { secure_link b; secure_link_md5 c; }') },
  // Locations.
  { text: server('location {}') },
  { text: server('location a b c {}') },
  { text: server('location ! /x {}') },
  { text: server('location / {} location / {}') },
  { text: server('location = /x {} location =/x {}') },
  { text: server('location / {} location ^~ / {}') },
  { text: server('location /a { location /b {} }') },
  { text: server('location = /a { location /a/b {} }') },
  { text: server('location @n { location /x {} }') },
  { text: server('location /a { location @n {} }') },
  { text: server('location ~ ( {}'), lite: 'pcre2_compile() failed: missing closing parenthesis in "("' },
  { text: server('location ~ "[a" {}') },
  // Values.
  { text: server('root;') },
  { text: server('root a; root b;') },
  { text: server('location / { root a; alias b; }') },
  { text: server('location / { alias a; root b; }') },
  { text: server('root $document_root/x;') },
  { text: server('location @x { alias y; }') },
  { text: server('client_max_body_size 1x;') },
  { text: server('client_max_body_size -1;') },
  { text: server('client_header_buffer_size 1.5k;') },
  { text: server('keepalive_timeout x;') },
  { text: server('keepalive_timeout 1s x;') },
  { text: server('keepalive_timeout 1m1h;') },
  { text: server('keepalive_requests x;') },
  { text: server('send_timeout 1ms2;') },
  { text: server('large_client_header_buffers 4;') },
  { text: server('large_client_header_buffers 0 8k;') },
  {
    text: server('large_client_header_buffers 4 100;'),
    lite: 'the "large_client_header_buffers" size must be equal to or greater than "connection_pool_size"',
    why: 'the line is that of the directive, not of the closing brace',
  },
  { text: server('sendfile yes;') },
  { text: server('sendfile on; sendfile on;') },
  { text: server('server_tokens maybe;') },
  { text: server('lingering_close never;') },
  { text: server('if_modified_since sometimes;') },
  { text: server('error_page 404;') },
  { text: server('error_page 200 /x;') },
  { text: server('error_page 600 /x;') },
  { text: server('error_page x /x;') },
  { text: server('error_page =200 /x;') },
  { text: server('error_page 404 =x /x;') },
  { text: server('error_page 499 /x;') },
  { text: server('return;') },
  { text: server('return x;') },
  { text: server('return 1000;') },
  { text: server('return x y;') },
  { text: server('try_files a;') },
  { text: server('try_files a =x;') },
  { text: server('try_files a b; try_files c d;') },
  { text: server('index "";') },
  { text: server('add_header a;') },
  { text: server('add_header a b c;') },
  { text: server('expires x;') },
  { text: server('expires modified;') },
  { text: server('expires a b;') },
  { text: server('expires @25h;') },
  { text: server('open_file_cache inactive=1s;') },
  { text: server('open_file_cache max=x;') },
  { text: server('open_file_cache what;') },
  { text: server('types { text/html html') },
  { text: server('types { a { } }') },
  { text: server('types { include; }') },
  { text: server('types { include nothing.types; }') },
  { text: http('log_format x;') },
  { text: http('log_format combined "x";') },
  { text: http('log_format a "x"; log_format a "y";') },
  { text: http('log_format a escape=xml "x";') },
  { text: server('access_log logs/a.log nothing;') },
  { text: server('access_log logs/a.log combined what;') },
  { text: server('access_log logs/a.log combined buffer=x;') },
  { text: server('access_log logs/a.log combined flush=1s;') },
  { text: server('access_log off what;') },
  { text: server('return 200 $nothing;') },
  { text: server(`return 200 ${'$'}{uri;`) },
  { text: server('return 200 "$";') },
  { text: server('return 200 "a$ b";') },
  { text: server(`return 200 "${'$'}{}";`) },
  // rewrite, map, geo, split_clients, access, gzip.
  ...[
    'rewrite a;',
    'rewrite a b c;',
    'rewrite ( b;',
    'rewrite a "";',
    'set x 1;',
    'set $ 1;',
    'set $host 1;',
    'if ($nothing) {}',
    'if (x) {}',
    'if ($uri ? a) {}',
    'if ($uri a) {}',
    'if (-f) {}',
    'if (-z a) {}',
    'if $uri {}',
    'if ($uri = a {}',
    'if ($uri ~ "(") {}',
    'break x;',
    'return;',
    'allow x;',
    'deny 1.2.3.4/33;',
    'limit_except X { deny all; }',
    'limit_except GET { root x; }',
    'satisfy some;',
    'satisfy all; satisfy all;',
    'gzip_comp_level 10;',
    'gzip_comp_level 0;',
    'gzip_comp_level x;',
    'gzip_http_version 2;',
    'gzip_proxied x;',
    'gzip_static maybe;',
    'gzip_min_length x;',
    'gzip maybe;',
    'limit_req;',
    'limit_req zone=none;',
    'limit_req zone=z burst=x;',
    'limit_req zone=z what;',
    'limit_req_status 200;',
    'limit_conn none 1;',
    'limit_conn z x;',
    'limit_rate x;',
    'autoindex_format text;',
    'real_ip_recursive x;',
    'valid_referers http://x;',
    'server_name a.b; valid_referers a.b; valid_referers server_names;',
    'location / { valid_referers server_names a.b; } server_name a.b;',
    'valid_referers none; valid_referers server_names; server_name ~x;',
    'valid_referers none; valid_referers server_names;',
    'add_trailer a b c;',
    'auth_basic;',
    'access_log syslog:;',
    'access_log syslog:server=127.0.0.1 nosuch;',
    'access_log syslog:server=127.0.0.1,server=127.0.0.1;',
    'access_log syslog:server=127.0.0.1:0;',
    'access_log syslog:server=unix:;',
    'access_log syslog:server=127.0.0.1,facility=local9;',
    'access_log syslog:server=127.0.0.1,severity=loud;',
    'access_log syslog:server=127.0.0.1,tag=a-b;',
    'access_log syslog:server=127.0.0.1,tag=aaaaaaaaaabbbbbbbbbbccccccccccddd;',
    'access_log syslog:server=127.0.0.1,tag=a,tag=b;',
    'access_log syslog:server=127.0.0.1,what=1;',
    'access_log syslog:facility=user;',
    'access_log syslog:server=127.0.0.1 combined buffer=1k;',
    'access_log syslog:server=127.0.0.1,nohostname combined if=$arg_x;',
    'error_log syslog:server=127.0.0.1 loud;',
    'error_log syslog:server=[::1]:514,tag=x info;',
    'access_log logs/a.log combined gzip=0;',
    'access_log logs/a.log combined gzip=x;',
    'access_log logs/a.log combined gzip;',
    'access_log logs/$host.log combined gzip;',
    'access_log logs/$host.log combined buffer=1k;',
    'access_log logs/$host.log nosuch;',
    'access_log logs/$nosuch.log;',
    'access_log logs/a.log combined buffer=1k; access_log logs/a.log combined buffer=2k;',
    'access_log logs/a.log combined flush=1s;',
    'open_log_file_cache;',
    'open_log_file_cache inactive=1s;',
    'open_log_file_cache max=0;',
    'open_log_file_cache max=1 what;',
    'open_log_file_cache max=1 min_uses=0;',
    'open_log_file_cache off; open_log_file_cache max=1;',
    'disable_symlinks;',
    'disable_symlinks what;',
    'disable_symlinks from=/x;',
    'disable_symlinks on from=$document_root;',
    'disable_symlinks off from=/x;',
    'disable_symlinks on off;',
    'disable_symlinks on; disable_symlinks off;',
    'disable_symlinks on from=$nosuch;',
    'add_before_body;',
    'add_before_body /a; add_before_body /b;',
    'addition_types;',
    'auth_delay x;',
    'mirror /x; mirror off;',
    'mirror off; mirror /x;',
    'mirror /x; mirror /y;',
    'mirror_request_body x;',
    'client_body_temp_path temp 1 2 3 4;',
    'client_body_temp_path temp 0;',
    'client_body_temp_path temp x;',
    'client_body_temp_path temp 9 2;',
    'client_body_temp_path temp 8 2 2;',
    'client_body_in_file_only what;',
    'client_body_in_single_buffer what;',
    'client_body_buffer_size x;',
    'client_body_timeout x;',
    'client_body_timeout 1; client_body_timeout 1;',
    'client_body_temp_path temp/a 1; location /in { client_body_temp_path temp/a 2; }',
  ].map((text) => ({ text: server(`location / { ${text} }`) })),
  ...[
    'charset_map a a { }',
    'charset_map a b { 80 81; } charset_map b a { 80 81; }',
    'charset_map a b { 80; }',
    'charset_map a b { 100 80; }',
    'charset_map a b { 80 100; }',
    'charset_map a b { x 80; }',
    'charset_map a utf-8 { 80 C3; 81 XX; }',
    'charset_map a utf-8 { 80 E282; }',
    'charset_map a utf-8 { 80 F09F9880; }',
    'charset_map a utf-8 { 80 4142; }',
    'charset_map a utf-8 { 80 E282AC; } server { charset a; source_charset utf-8; }',
    'server { charset a; source_charset b; }',
    'map $uri m { a b; }',
    'map $uri $m { a; }',
    'map $uri $m { a b; a c; }',
    'map $uri $host { a b; }',
    'map $uri $m { default a; default b; }',
    'map $nothing $m { a b; }',
    'map $uri $m { ~( b; }',
    'limit_req_zone $uri zone=z rate=1r/s;',
    'limit_req_zone $uri zone=z:1k rate=1r/s;',
    'limit_req_zone $uri zone=z:1m rate=x;',
    'limit_req_zone $uri rate=1r/s what;',
    'limit_conn_zone $uri;',
    'limit_conn_zone $uri zone=z:x;',
    'geo $g { x y; }',
    'geo g { 1.2.3.4 y; }',
    'geo $g { 1.2.3.4/40 a; }',
    'geo $g { ranges; 1.2.3.4 a; }',
    'geo $g { a; }',
    // A name, no pattern.
    'geo $g { include missing/*.conf; }',
    'split_clients $uri $s { 200% a; }',
    'split_clients $uri $s { x a; }',
    'split_clients $uri $s { 60% a; 60% b; }',
    'split_clients $uri s { 60% a; }',
    'split_clients $uri $s { 60%; }',
    'split_clients $uri $s { 60%; 60%; }',
  ].map((text) => ({ text: http(text) })),
  // Accepted by nginx with modules that are not here: the directive is named.
  ...[
    'fastcgi_pass x;',
    'proxy_pass http://x;',
    'ssl_certificate x;',
    'uwsgi_pass x;',
    'grpc_pass x;',
    'proxy_cache x;',
    'resolver x;',
  ].map((text) => ({
    text: server(`location / { ${text} }`),
    lite: `"${text.split(' ')[0]}" directive is not supported by this server: it has no `,
    why: 'the module comes later',
  })),
  {
    text: http('upstream u { server 127.0.0.1; }'),
    lite: '"upstream" directive is not supported by this server: it has no upstream',
    why: 'the module comes later',
  },
  {
    text: http('server { listen 8443 ssl; }'),
    lite: 'the "ssl" parameter of the "listen" directive is not supported',
    why: 'no TLS yet',
  },
];

const dir = makePrefix();
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** The first [emerg] or [error] line without program, and with a shortened path. */
function firstError(stderr: string): string {
  const line = stderr.split('\n').find((each) => /\[(?:emerg|error)\]/.test(each)) ?? '(no error)';
  return line
    .replace(/^.*?(?=\[(?:emerg|error)\])/, '')
    .replace(/^(\[[a-z]+\]) \d+#\d+:/, '$1')
    .replaceAll(dir, 'DIR');
}

function ours(file: string): string {
  try {
    loadConfiguration({ prefix: `${dir}/`, confFile: file, globals: '', errorLog: 'stderr' });
    return '(no error)';
  } catch (error) {
    if (!(error instanceof ConfError)) throw error;
    return `[${error.level}] ${error.message}`.replaceAll(dir, 'DIR');
  }
}

function debian(file: string): string {
  try {
    execFileSync(DEBIAN_NGINX, ['-t', '-p', `${dir}/`, '-c', file, '-e', 'stderr'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return '(no error)';
  } catch (error) {
    return firstError(String((error as { stderr: Buffer }).stderr));
  }
}

describe('nginx -t says the same', () => {
  const groups: (typeof ROWS)[] = [];
  for (let i = 0; i < ROWS.length; i += 16) groups.push(ROWS.slice(i, i + 16));
  test.each(groups.map((rows, i): [number, typeof ROWS] => [i, rows]))('rows of group %i', (group, rows) => {
    const results = rows.map(({ text, lite }, i) => {
      const file = join(dir, `c${group}-${i}.conf`);
      writeFileSync(file, text, 'latin1');
      const mine = ours(file);
      if (lite !== undefined) return { text, ours: mine.includes(lite) ? lite : mine, nginx: lite };
      if (!available) return null;
      return { text, ours: mine, nginx: debian(file) };
    });
    const differences = results.filter((each) => each !== null && each.ours !== each.nginx);
    expect(differences).toEqual([]);
  });
});

describe('-t and its friends', () => {
  const ok = join(dir, 'ok.conf');
  writeFileSync(ok, server('root html;'));

  test('success is two lines on stderr and exit code 0', async () => {
    const result = await runLite(['-t', '-p', dir, '-c', ok]);
    expect(result).toEqual({
      code: 0,
      stdout: '',
      stderr: `nginx: the configuration file ${ok} syntax is ok\nnginx: configuration file ${ok} test is successful\n`,
    });
  });

  test('failure names the file, the line and the verdict', async () => {
    writeUnder(dir, 'bad.conf', 'events {}\n\nnonsense 1;\n');
    const result = await runLite(['-qt', '-p', dir, '-c', 'bad.conf']);
    expect(result.code).toBe(1);
    expect(result.stderr).toBe(
      `nginx: [emerg] unknown directive "nonsense" in ${dir}/bad.conf:3\nnginx: configuration file ${dir}/bad.conf test failed\n`,
    );
  });

  test('-q silences success, letters combine, values stand attached or apart', async () => {
    expect(await runLite(['-qt', `-p${dir}`, `-c${ok}`])).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(await runLite(['-tq', '-p', dir, '-c', ok, '-e', 'stderr'])).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  test('-T dumps every file once, in the order of reading', async () => {
    writeUnder(dir, 'inc/b.conf', '# b\n');
    writeUnder(dir, 'inc/a.conf', '# a\n');
    writeUnder(dir, 'dump.conf', 'events {}\ninclude inc/*.conf;\ninclude inc/a.conf;\n');
    const result = await runLite(['-T', '-q', '-p', dir, '-c', 'dump.conf']);
    expect(result.code).toBe(0);
    expect(result.stdout).toBe(
      `# configuration file ${dir}/dump.conf:\nevents {}\ninclude inc/*.conf;\ninclude inc/a.conf;\n\n` +
        `# configuration file ${dir}/inc/a.conf:\n# a\n\n# configuration file ${dir}/inc/b.conf:\n# b\n\n`,
    );
  });

  test('-g is read before the file, and has no line numbers', async () => {
    expect((await runLite(['-t', '-q', '-p', dir, '-c', ok, '-g', 'worker_processes 2;'])).code).toBe(0);
    expect((await runLite(['-t', '-p', dir, '-c', ok, '-g', 'nonsense;'])).stderr).toContain(
      'nginx: [emerg] unknown directive "nonsense" in command line\n',
    );
    expect((await runLite(['-t', '-p', dir, '-c', ok, '-g', 'user x'])).stderr).toContain(
      'unexpected end of parameter, expecting ";" in command line',
    );
    expect((await runLite(['-t', '-p', dir, '-c', ok, '-g', 'events {}'])).stderr).toContain(
      'block directives are not supported in -g option in command line',
    );
    expect((await runLite(['-t', '-p', dir, '-c', join(dir, 'dup.conf'), '-g', 'daemon off;'])).code).toBe(1);
  });

  test('a missing configuration file is an [emerg] without a place', async () => {
    const result = await runLite(['-t', '-p', dir, '-c', 'none.conf']);
    expect(result.stderr).toBe(
      `nginx: [emerg] open() "${dir}/none.conf" failed (2: No such file or directory)\nnginx: configuration file ${dir}/none.conf test failed\n`,
    );
  });

  test('-v, -V and -h talk on stderr and end with 0', async () => {
    const version = await runLite(['-v']);
    expect(version.code).toBe(0);
    expect(version.stderr).toMatch(
      /^nginx version: nginx-lite\/\d+\.\d+\.\d+ \(compatible with nginx\/\d+\.\d+\.\d+\)\n$/,
    );
    const configure = await runLite(['-V']);
    expect(configure.stderr).toContain('configure arguments: --without-http_ssl_module');
    for (const flag of ['-h', '-?']) expect((await runLite([flag])).stderr).toContain('Usage: nginx-lite [-?hvVtTq]');
  });

  test.each([
    [['-x'], 'nginx: invalid option: "x"\n'],
    [['x'], 'nginx: invalid option: "x"\n'],
    [['-tx'], 'nginx: invalid option: "x"\n'],
    [['-c'], 'nginx: option "-c" requires file name\n'],
    [['-p'], 'nginx: option "-p" requires directory name\n'],
    [['-e'], 'nginx: option "-e" requires file name\n'],
    [['-g'], 'nginx: option "-g" requires parameter\n'],
    [['-s'], 'nginx: option "-s" requires parameter\n'],
    [['-s', 'dance'], 'nginx: invalid option: "-s dance"\n'],
    [['-sdance'], 'nginx: invalid option: "-s dance"\n'],
  ])('%j is refused', async (args, text) => {
    expect(await runLite(args)).toEqual({ code: 1, stdout: '', stderr: text });
  });

  test('-s to a process that is gone says which signal', async () => {
    writeUnder(dir, 'stale.conf', 'pid logs/stale.pid;\nevents {}\n');
    writeUnder(dir, 'logs/stale.pid', '4194303\n');
    expect(await runLite(['-s', 'stop', '-p', dir, '-c', 'stale.conf'])).toEqual({
      code: 1,
      stdout: '',
      stderr: 'nginx: [alert] kill(4194303, 15) failed (3: No such process)\n',
    });
  });

  test('a log that cannot be opened fails the test', async () => {
    writeUnder(dir, 'log.conf', 'error_log nowhere/e.log;\nevents {}\n');
    expect((await runLite(['-t', '-p', dir, '-c', 'log.conf'])).stderr).toContain(
      `nginx: [emerg] open() "${dir}/nowhere/e.log" failed (2: No such file or directory)`,
    );
  });
});
