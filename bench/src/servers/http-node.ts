/** HTTP on node:http with one body of `--size` bytes, from memory: `node src/servers/http-node.ts -p 8000`. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pattern } from '../payload.ts';
import { announce, serverArguments } from './arguments.ts';

const { host, port, size } = serverArguments();
const body = Buffer.from(pattern(size));
const server = createServer((_request, response) => {
  response.writeHead(200, { 'Content-Type': 'text/html', 'Content-Length': body.length });
  response.end(body);
});
server.listen({ host, port, backlog: 4096 }, () => announce(host, (server.address() as AddressInfo).port));
