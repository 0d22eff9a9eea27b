/** map, geo, split_clients: what Debian's nginx answers. */

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { murmurHash2 } from '../../src/modules/split-clients/conf.ts';
import { compareWithNginx, get } from '../support/oracle.ts';

const FILES = { 'more.map': 'inc included;\n~^inc(?<rest>.*)$ "re $rest";\n', 'more.geo': '10.1.0.0/16 included;\n' };
const WORDS = ['', 'a', 'A', 'b', 'abc', 'default', 'hostnames', 'x1', 'x22', 'inc', 'included', '*.y', 'v', 'w'];
const HOSTS = [
  'example.com',
  'EXAMPLE.com',
  'www.example.com',
  'a.b.example.com',
  'example.com.',
  'mail.org',
  'mail.co.uk',
  'x.dot.net',
  'dot.net',
  'other',
];
const ADDRESSES = [
  '127.0.0.1',
  '10.0.0.1',
  '10.1.2.3',
  '10.1.2.4',
  '192.168.1.255',
  '192.168.2.0',
  '2001:db8::1',
  '2001:db9::1',
  '::1',
  'nonsense',
  '',
  '255.255.255.255',
  '::ffff:10.0.0.1',
];

compareWithNginx(FILES, [
  {
    name: 'map',
    http: `map $arg_k $m { default d; a first; b "second $arg_k"; abc $uri; \\default escaped; "" empty; ~^x(\\d)$ "digit $1"; ~*^X(?<two>\\d\\d)$ "two $two"; include %DIR%/more.map; }
    map $arg_k $nodef { a 1; }
    map $host $h { hostnames; default other; example.com exact; *.example.com star; .dot.net dot; mail.* tail; *.b.example.com long; ~^re re; }
    map "$arg_k-$arg_l" $combo { a-b both; default "no $m"; }
    map $arg_k $vol { volatile; default $arg_k; }
    server { listen 127.0.0.1:%PORT%; return 200 "$m|$nodef|$h|$combo|$vol\\n"; }`,
    requests: [
      ...WORDS.map((word) => get(`/u?k=${word}&l=b`)),
      ...HOSTS.map((host) => get('/').replace('example.com', host)),
    ],
  },
  {
    name: 'geo and split_clients',
    http: `geo $arg_a $net { default none; 127.0.0.1 local; 10.0.0.0/8 ten; 10.1.2.3 one; 192.168.1.0/24 lan; 2001:db8::/32 doc; ::1/128 six; include %DIR%/more.geo; delete 10.1.2.4; }
    geo $me { default far; 127.0.0.0/8 near; }
    geo $arg_a $range { ranges; default none; 10.0.0.0-10.0.0.255 low; 192.168.0.0-192.168.255.255 lan; }
    geo $viaproxy { proxy 127.0.0.0/8; proxy_recursive; default none; 10.0.0.0/8 ten; 192.168.1.0/24 lan; 127.0.0.1 self; }
    split_clients "$arg_a" $split { 0.5% tiny; 20% a; 30% b; * rest; }
    split_clients "x$arg_a" $half { 50% one; }
    split_clients "y$arg_a" $bare { 30%; 20% a b; 25%; *; }
    server { listen 127.0.0.1:%PORT%; return 200 "$net|$me|$range|$viaproxy|$split|$half|$bare\\n"; }`,
    requests: [
      ...ADDRESSES.flatMap((address) => [get(`/?a=${address}`), get('/', `X-Forwarded-For: ${address}`)]),
      get('/', 'X-Forwarded-For: 10.0.0.1, 192.168.1.1, 127.0.0.5'),
      get('/', 'X-Forwarded-For: 10.0.0.1', 'X-Forwarded-For: 127.0.0.2'),
      ...Array.from({ length: 60 }, (_, i) => get(`/?a=client${i * 7919}`)),
    ],
  },
]);

test('the hash of split_clients is 32 bits wide and depends on every byte', () => {
  expect(murmurHash2('')).toBe(0);
  fc.assert(
    fc.property(fc.string({ unit: 'binary-ascii', minLength: 1 }), (text) => {
      const hash = murmurHash2(text);
      expect(hash).toBeGreaterThanOrEqual(0);
      expect(hash).toBeLessThan(2 ** 32);
      const changed = `${String.fromCharCode(text.charCodeAt(0) ^ 1)}${text.slice(1)}`;
      expect(murmurHash2(changed)).not.toBe(hash);
    }),
  );
});
