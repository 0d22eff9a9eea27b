/** HTTP on Bun.serve with one static route, for Bun to run: `bun src/servers/http-bun.ts PORT SIZE`. */
import { pattern } from '../payload.ts';

declare const Bun: {
  serve(options: { hostname: string; port: number; routes: Readonly<Record<string, Response>> }): unknown;
};

const [port = 0, size = 0] = process.argv.slice(2).map(Number);
const headers = { 'Content-Type': 'text/html' };
Bun.serve({
  hostname: '0.0.0.0',
  port,
  routes: { [`/${size}.html`]: new Response(Buffer.from(pattern(size)), { headers }) },
});
