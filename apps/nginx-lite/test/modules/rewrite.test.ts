/** rewrite, if, set, break, return: what Debian's nginx answers. */

import { compareWithNginx, get, old } from '../support/oracle.ts';

const FILES = { 'html/index.html': 'index\n', 'html/a.txt': 'a\n', 'html/dir/b.txt': 'b\n', 'html/run.sh': 'run\n' };

compareWithNginx(FILES, [
  {
    name: 'rewrite',
    http: `server { listen 127.0.0.1:%PORT%; root html;
      rewrite ^/top/(.*)$ /show/$1;
      rewrite ^/gone$ /show/x?a=1 last;
      location /show/ { return 200 "uri=$uri args=$args 1=$1 req=$request_uri\\n"; }
      location /r1/ { rewrite ^/r1/(.*)$ /show/$1 last; return 200 "not reached"; }
      location /r2/ { rewrite ^/r2/(.*)$ /show/$1 break; return 200 "uri=$uri\\n"; }
      location /r3/ { rewrite ^/r3/(.*)$ /dir/$1 break; }
      location /r4/ { rewrite ^/r4/(.*)$ /show/$1?x=$1&y=2 last; }
      location /r5/ { rewrite ^/r5/(.*)$ /show/$1? last; }
      location /r6/ { rewrite ^/r6/(.*)$ /show/$1 redirect; }
      location /r7/ { rewrite ^/r7/(.*)$ /show/$1?a=$1 permanent; }
      location /r8/ { rewrite ^/r8/(.*)$ http://other.example/$1; }
      location /r9/ { rewrite ^/r9/(.*)$ https://other.example/$1? permanent; }
      location /r10/ { rewrite ^/r10/(.*)$ $scheme://$host/x/$1; }
      location /r11/ { rewrite ^/r11/(?<part>[a-z]+)/(.*)$ /show/$part-$2; rewrite ^/show/(.*)$ /show/twice/$1; }
      location /r12/ { rewrite (?i)^/R12/(.*)$ /show/$1; set $x 1; rewrite ^/nomatch$ /y; }
      location /loop/ { rewrite ^/loop/(.*)$ /loop/$1x last; }
      location /empty/ { rewrite ^/empty/(.*)$ $1 last; }
      location /c1/ { rewrite ^ /show/const last; }
      location /args/ { set $args "new=$args"; return 200 "$args|$query_string|$is_args|$arg_new\\n"; }
      location /break/ { set $v before; break; set $v after; rewrite ^ /show/; }
      location /code/ { rewrite ^/code/(\\d+)$ /show/$1 break; return 202; }
      location /q/ { rewrite ^/q/(.*)$ /show/?q=$1 last; }
      location /abs/ { rewrite ^/abs/(.*)$ http://h/$1?q=$1; }
    }`,
    requests: [
      ...[
        '/top/a',
        '/top/a?b=c',
        '/gone',
        '/gone?z',
        '/r1/x',
        '/r1/x?y=1',
        '/r2/x',
        '/r3/b.txt',
        '/r3/none',
        '/r4/v',
        '/r4/v?w=1',
      ],
      ...[
        '/r5/v?w=1',
        '/r6/v?w=1',
        '/r6/a%20b',
        '/r7/v',
        '/r7/v?w',
        '/r8/a?b=1',
        '/r9/a?b=1',
        '/r10/z',
        '/r11/ab/c',
        '/r11/1/c',
      ],
      ...[
        '/r12/z',
        '/R12/z',
        '/loop/',
        '/empty/',
        '/empty/x',
        '/c1/',
        '/c1/?k=v',
        '/args/?a=1',
        '/args/',
        '/break/x',
        '/code/1',
        '/code/x',
      ],
      ...[
        '/q/a%20b',
        '/q/a+b',
        '/q/a%26b%3fc',
        '/q/%e4',
        '/r6/%e4%25',
        '/r7/a%20b%26',
        '/abs/a%20b',
        '/abs/x%3fy',
        '/r8/%41%2f',
        '/r4/a%2bb',
      ],
    ].flatMap((path) => [get(path), old(path)]),
  },
  {
    name: 'if and set',
    http: `map $arg_m $mapped { default none; a A; }
    server { listen 127.0.0.1:%PORT%; root html; set $server_set S; default_type text/plain;
      if ($arg_top = go) { return 200 "top $server_set\\n"; }
      if ($http_x_block) { return 403; }
      location /v/ { if ($arg_a) { return 200 "true\\n"; } return 200 "false\\n"; }
      location /eq/ { if ($arg_a = "x y") { return 200 "eq\\n"; } if ($arg_a != z) { return 200 "not z\\n"; } return 200 "z\\n"; }
      location /m/ { if ($arg_a ~ ^([a-z])(\\d+)$) { return 200 "$1-$2\\n"; } if ($arg_a ~* ^([a-z])(\\d+)$) { return 200 "caseless $1-$2\\n"; } if ($arg_a !~ x) { return 200 "no x\\n"; } if ($arg_a !~* X) { return 200 "never\\n"; } return 200 "else $1\\n"; }
      location /n/ { if ($arg_a ~ (?<name>b+)) { set $found $name; } return 200 "[$found]\\n"; }
      location /f/ { if (-f $document_root/$arg_p) { return 200 "file\\n"; } if (-d $document_root/$arg_p) { return 200 "dir\\n"; } if (!-e $document_root/$arg_p) { return 200 "nothing\\n"; } return 200 "?\\n"; }
      location /x/ { if (-x $document_root/$arg_p) { return 200 "x\\n"; } if (!-f $document_root/$arg_p) { return 200 "no file\\n"; } return 200 "plain\\n"; }
      location /conf/ { alias html/; add_header X-Out out; if ($arg_h) { add_header X-In in; } if ($arg_r) { root html/dir; } }
      location /two/ { set $s ""; if ($arg_a = 1) { set $s "\${s}a"; } if ($arg_b = 1) { set $s "\${s}b"; } if ($s = ab) { return 200 "both\\n"; } return 200 "s=$s\\n"; }
      location /nest/ { if ($arg_a) { rewrite ^/nest/(.*)$ /show/$1 last; } if ($arg_b) { rewrite ^/nest/(.*)$ /show/$1-b break; return 200 "in $uri\\n"; } if ($arg_c) { break; } return 200 "out\\n"; }
      location /show/ { return 200 "show $uri $args\\n"; }
      location /var/ { set $a 1; set $b "$a-$a"; set $a 2; return 200 "$a $b $server_set $mapped\\n"; }
      location /un/ { return 200 "[$late]\\n"; set $late x; }
      location /met/ { if ($request_method = POST) { return 200 "post\\n"; } return 200 "other\\n"; }
      location /code/ { if ($arg_a) { return 404; } if ($arg_b) { return 301 /x; } if ($arg_c) { return 204; } }
    }`,
    requests: [
      ...[
        '/v/?top=go',
        '/v/',
        '/v/?a',
        '/v/?a=',
        '/v/?a=0',
        '/v/?a=00',
        '/v/?a=1',
        '/eq/?a=x%20y',
        '/eq/?a=z',
        '/eq/?a=1',
        '/eq/',
      ],
      ...[
        '/m/?a=b12',
        '/m/?a=B12',
        '/m/?a=q',
        '/m/?a=x',
        '/m/?a=X',
        '/n/?a=abbc',
        '/n/?a=c',
        '/f/?p=a.txt',
        '/f/?p=dir',
        '/f/?p=no',
        '/f/?p=dir/b.txt',
        '/f/?p=a.txt/x',
      ],
      ...[
        '/x/?p=a.txt',
        '/x/?p=dir',
        '/x/?p=no',
        '/conf/a.txt',
        '/conf/a.txt?h=1',
        '/conf/a.txt?r=1',
        '/conf/dir/b.txt?h=1',
        '/two/',
        '/two/?a=1',
        '/two/?a=1&b=1',
        '/two/?b=1',
      ],
      ...[
        '/nest/q',
        '/nest/q?a=1',
        '/nest/q?b=1',
        '/nest/q?c=1',
        '/var/',
        '/var/?m=a',
        '/var/?m=A',
        '/un/',
        '/code/?a=1',
        '/code/?b=1',
        '/code/?c=1',
        '/code/',
        '/met/',
      ],
    ]
      .flatMap((path) => [get(path), get(path, 'X-Block: 1')])
      .concat([get('/met/').replace('GET', 'POST'), get('/v/', 'X-Block: 0')]),
  },
]);
