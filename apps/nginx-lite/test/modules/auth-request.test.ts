/** auth_request and auth_request_set: what Debian's nginx answers. */

import { compareWithNginx, get, head } from '../support/oracle.ts';

compareWithNginx({ 'html/a.txt': 'a\n', 'html/deep/b.txt': 'b\n', users: 'u:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n' }, [
  {
    name: 'auth_request',
    http: `limit_req_zone $remote_port zone=r:1m rate=1r/m;
    server { listen 127.0.0.1:%PORT%; root html;
      location /ok/ { auth_request /auth200; alias html/; }
      location /no/ { auth_request /auth403; alias html/; }
      location /un/ { auth_request /auth401; alias html/; }
      location /odd/ { auth_request /auth302; alias html/; }
      location /err/ { auth_request /missing; alias html/; }
      location /arg/ { auth_request /byarg; alias html/; }
      location /basic/ { auth_request /basicauth; alias html/; }
      location /set/ { auth_request /setter; auth_request_set $who "$from|$uri|$sent_http_x_user"; add_header X-Who $who; alias html/; }
      location /page/ { auth_request /auth403; error_page 403 /a.txt; alias html/; }
      location /any/ { satisfy any; deny all; auth_request /auth200; alias html/; }
      location /any2/ { satisfy any; deny all; auth_request /auth401; alias html/; }
      location /in/ { auth_request /auth403; location /in/off/ { auth_request off; alias html/; } alias html/; }
      location /file/ { auth_request /a.txt; alias html/; }
      location /chain/ { auth_request /chained; alias html/; }
      location = /auth200 { internal; return 200; } location = /auth403 { internal; return 403; } location = /auth401 { internal; return 401; } location = /auth302 { return 302 /x; }
      location = /byarg { if ($request_uri ~ open) { return 204; } return 403; }
      location = /basicauth { auth_basic sub; auth_basic_user_file %DIR%/users; return 200; }
      location = /setter { set $from sub; add_header X-User someone; return 200; }
      location = /chained { auth_request /auth200; alias html/a.txt; }
    }`,
    requests: [
      '/ok/a.txt',
      '/no/a.txt',
      '/un/a.txt',
      '/odd/a.txt',
      '/err/a.txt',
      '/arg/a.txt',
      '/arg/a.txt?open',
      '/basic/a.txt',
      '/set/a.txt',
      '/page/a.txt',
      '/any/a.txt',
      '/any2/a.txt',
      '/in/a.txt',
      '/in/off/a.txt',
      '/file/a.txt',
      '/chain/a.txt',
      '/ok/missing',
      '/auth200',
    ].flatMap((path) => [
      get(path),
      head(path),
      get(path, 'Authorization: Basic dTpwYXNzd29yZA=='),
      get(path) + get(path),
      `${get(path, 'Content-Length: 3').replace('GET', 'POST')}abc${get('/a.txt')}`,
    ]),
  },
]);
