/** browser, userid, random_index, slice: what Debian's nginx answers. */

import { expect, test } from 'vitest';
import { get as fetchPage } from '../support/client.ts';
import { compareWithNginx, get, head } from '../support/oracle.ts';
import { conf, startLite } from '../support/server.ts';

const AGENTS = [
  'Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)',
  'Mozilla/4.0 (compatible; MSIE 5.5; Windows NT 5.0)',
  'Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 6.0) Opera 9.50',
  'Mozilla/4.0 (compatible; MSIE ',
  'Mozilla/4.0 (compatible; MSIE 7',
  'Opera/9.80 (X11; Linux)',
  'Opera 7.50',
  'Opera',
  'Mozilla/5.0 (X11; Linux; rv:1.8.0.5) Gecko/20060729 Firefox/1.5.0.5',
  'Mozilla/5.0 (X11; Linux; rv:0.9) Gecko',
  'Mozilla/5.0 (Macintosh) AppleWebKit/418 (KHTML, like Gecko) Safari/417.9.3',
  'Mozilla/5.0 (compatible; Konqueror/3.4; Linux)',
  'Mozilla/4.72 [en] (X11)',
  'Mozilla/4.72 ',
  'Mozilla/5.72 [en] (X11)',
  'Lynx/2.8',
  'curl/8',
  '',
];
/** Identifiers: a good one, one that is marked, and what is none. */
const UID = 'AwMDAgAAAABrB65GAwMDAg';
const COOKIES = [
  `uid=${UID}==`,
  `uid=${UID}m=`,
  `uid=${UID}`,
  `UID=${UID}==`,
  `a=b; uid=${UID}==; c=d`,
  `a=b, uid=${UID}==`,
  `xuid=${UID}==`,
  `uid = ${UID}==`,
  'uid=short',
  `uid=${'!'.repeat(22)}`,
  `uid=${'A'.repeat(22)}==`,
  'uid',
  'uid=',
];

compareWithNginx(
  {
    'html/one/only.txt': 'only\n',
    'html/one/.hidden': 'hidden\n',
    'html/none/.hidden': 'hidden\n',
    'html/sub/d/f.txt': 'f\n',
    'html/s.txt': '0123456789'.repeat(5),
  },
  [
    {
      name: 'browser',
      http: `server { listen 127.0.0.1:%PORT%;
      location /none { return 200 "$modern_browser|$ancient_browser|$msie\\n"; }
      location /modern { modern_browser msie 5.5; modern_browser gecko 1.0.0; modern_browser SAFARI 417.9; modern_browser konqueror 3.4; modern_browser_value m; ancient_browser_value a;
        location /modern/opera { modern_browser opera 9.0; modern_browser msie 5; return 200 "$modern_browser|$ancient_browser\\n"; }
        location /modern/unlisted { modern_browser unlisted; modern_browser gecko 1; ancient_browser Lynx curl; return 200 "$modern_browser|$ancient_browser\\n"; }
        return 200 "$modern_browser|$ancient_browser|$msie\\n"; }
      location /ancient { ancient_browser Lynx netscape4; modern_browser unlisted;
        location /ancient/in { return 200 "$modern_browser|$ancient_browser\\n"; }
        return 200 "$modern_browser|$ancient_browser\\n"; }
      location /set { set $msie "mine"; return 200 "$msie\\n"; }
    }`,
      requests: ['/none', '/modern', '/modern/opera', '/modern/unlisted', '/ancient', '/ancient/in', '/set'].flatMap(
        (path) => [get(path), ...AGENTS.map((agent) => get(path, `User-Agent: ${agent}`))],
      ),
    },
    {
      name: 'keepalive_disable and empty_gif',
      http: `server { listen 127.0.0.1:%PORT%; location /none { keepalive_disable none; return 200 x; } location /both { keepalive_disable safari msie6; return 200 x; }
      location /gif { empty_gif; location /gif/in { } } 
      location /refresh { msie_refresh on; return 302 "/x y'<>%41#^{|}~?a=b"; } location /moved { msie_refresh on; return 301 http://x/; } location /html { msie_refresh on; }
      location /pad { return 404; } location /nopad { msie_padding off; return 404; } location / { return 200 x; } }`,
      requests: [
        ...['/', '/none', '/both'].flatMap((path) =>
          [
            ...AGENTS,
            'Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1; SV1)',
            'Mozilla/5.0 (Mac OS X) Safari/1',
            'Mozilla/5.0 (Mac OS X) Chrome/1 Safari/1',
          ].flatMap((agent) => [
            get(path, `User-Agent: ${agent}`),
            get(path, `User-Agent: ${agent}`).replace('GET', 'POST'),
          ]),
        ),
        ...['/refresh', '/moved', '/html', '/pad', '/nopad'].flatMap((path) =>
          AGENTS.slice(0, 6).flatMap((agent) => [
            get(path, `User-Agent: ${agent}`),
            head(path, `User-Agent: ${agent}`),
          ]),
        ),
        get('/gif'),
        head('/gif'),
        get('/gif/'),
        get('/gif/in'),
        get('/gif', 'If-Modified-Since: Mon, 28 Sep 1970 06:00:00 GMT'),
        get('/gif', 'Range: bytes=0-3'),
        get('/gif').replace('GET', 'POST'),
      ],
    },
    {
      name: 'userid',
      explained: [
        {
          why: 'identifiers have the time in them',
          apply: (text) => text.replaceAll(/(uid|id)=(?!AwMDAg)(?:[0-9A-F]{32}|[A-Za-z0-9+/]{22})/g, '$1=NEW'),
        },
        { why: 'the same', apply: (text) => text.replaceAll(/expires=[^;]*(?=;)/g, 'expires=#') },
      ],
      http: `map $arg_reset $uid_reset { default $arg_reset; }
    server { listen 127.0.0.1:%PORT%; add_header X-Got "$uid_got"; root html;
      location /off { return 200 "$uid_got"; }
      location /log { userid log; return 200 "$uid_got|$uid_set"; }
      location /on { userid on; return 200 "$uid_got|$uid_set"; }
      location /v1 { userid v1; userid_service 5; return 200 "$uid_got"; }
      location /mark { userid on; userid_mark m; return 200 ""; }
      location /all { userid on; userid_name id; userid_domain example.com; userid_path /p; userid_expires 1d; userid_p3p 'CP="x"'; userid_flags secure httponly samesite=lax; return 200 ""; }
      location /max { userid on; userid_expires max; userid_domain none; userid_p3p none; userid_flags off; userid_mark off; return 200 ""; }
      location /error { userid on; return 404; }
      location /flags/1 { userid on; userid_flags samesite=none samesite=strict secure; return 200 ""; }
      location /flags/2 { userid on; userid_flags off samesite=strict; return 200 ""; }
    }`,
      requests: [
        ...[
          '/off',
          '/log',
          '/on',
          '/v1',
          '/mark',
          '/all',
          '/max',
          '/on?reset=1',
          '/on?reset=0',
          '/on?reset=log',
          '/mark?reset=1',
        ].flatMap((path) => [get(path), ...COOKIES.map((cookie) => get(path, `Cookie: ${cookie}`))]),
        head('/on'),
        get('/error/'),
        get('/flags/1'),
        get('/flags/2'),
        get('/on', `Cookie: a=b`, `Cookie: uid=${UID}==`),
      ],
    },
    {
      name: 'random_index and slice',
      http: `server { listen 127.0.0.1:%PORT%; root html; random_index on;
      location /slice { slice 10; set $part $slice_range; add_header X-Range "$part"; add_header X-Late "$slice_range"; try_files /s.txt =404; }
      location /whole { set $part $slice_range; return 200 "$part"; }
    }`.replace(' random_index on;', ' location / { random_index on; }'),
      requests: [
        ...[
          '/one/',
          '/none/',
          '/sub/',
          '/missing/',
          '/one/only.txt',
          '/sub/d/?x=1',
          '/one/only.txt/',
          '/s.txt/',
        ].flatMap((path) => [get(path), head(path), get(path).replace('GET', 'POST'), get(path).replace('GET', 'PUT')]),
        ...[
          '',
          'bytes=0-3',
          'bytes=15-16',
          'bytes=-5',
          'bytes=10-',
          'bytes=1-2,20-22',
          'bytes= 25-26',
          'BYTES=35-',
          'bytes=999999999999999999999-',
          'bytes=99-',
          'x',
        ].flatMap((range) => [
          get('/slice', `Range: ${range}`),
          get('/whole', `Range: ${range}`),
          get('/slice', `Range: ${range}`, 'If-Range: "x"'),
        ]),
      ],
    },
  ],
);

test('random_index takes each of the files, and none that is hidden', async () => {
  const files = ['a', 'b', 'c'].map((name) => `html/d/${name}.txt`);
  const server = await startLite(
    conf('server { listen 127.0.0.1:%PORT%; root html; location / { random_index on; } }'),
    {
      files: {
        ...Object.fromEntries(files.map((name) => [name, name])),
        'html/d/.hidden': 'hidden',
        'html/d/sub/x': 'x',
      },
    },
  );
  try {
    const seen = new Set<string>();
    // Each of three is missed in 100 tries with a chance of 10^-17.
    for (let i = 0; i < 100 || seen.size < 3; i++) seen.add((await fetchPage(server.port, '/d/')).body);
    expect([...seen].sort()).toEqual(files);
  } finally {
    await server.stop();
  }
});

test('identifiers are never given twice, whichever worker gives them', async () => {
  const server = await startLite(
    conf('server { listen 127.0.0.1:%PORT%; userid on; return 200 ""; }', 'worker_processes 2;'),
  );
  try {
    const answers = await Promise.all(Array.from({ length: 60 }, () => fetchPage(server.port, '/')));
    const cookies = answers.map((each) => each.header('Set-Cookie'));
    expect(new Set(cookies).size).toBe(60);
    for (const each of cookies) expect(each).toMatch(/^uid=[A-Za-z0-9+/]{22}==; path=\/$/);
  } finally {
    await server.stop();
  }
});
