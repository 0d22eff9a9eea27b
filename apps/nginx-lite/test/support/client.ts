/** A raw client: bytes out, bytes in, and what they mean as HTTP. */

import { connect, type Socket } from 'node:net';

export function latin1(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

/** Sends everything, shuts its side, and gives what came until the server closed. */
export async function exchange(port: number | string, parts: string | (string | Uint8Array)[]): Promise<string> {
  const socket = open(port);
  const received = collect(socket);
  for (const part of typeof parts === 'string' ? [parts] : parts) {
    const bytes = typeof part === 'string' ? latin1(part) : part;
    await new Promise<void>((resolve) => socket.write(bytes, () => resolve()));
  }
  socket.end();
  return await received;
}

export function open(port: number | string): Socket {
  const socket = typeof port === 'string' ? connect(port) : connect(port, '127.0.0.1');
  socket.setNoDelay(true);
  return socket;
}

/** Everything until the end of the connection; a reset ends it too. */
export function collect(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('error', () => {});
    socket.on('close', () => resolve(Buffer.concat(chunks).toString('latin1')));
  });
}

/** Resolves with everything received as soon as `done` says so; rejects when the connection ends before. */
export function receiveUntil(socket: Socket, done: (text: string) => boolean): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const onData = (chunk: Buffer): void => {
      text += chunk.toString('latin1');
      if (!done(text)) return;
      socket.off('data', onData);
      socket.off('close', onClose);
      resolve(text);
    };
    const onClose = (): void => reject(new Error(`connection closed after: ${text}`));
    socket.on('data', onData);
    socket.on('close', onClose);
    socket.on('error', () => {});
  });
}

export interface Response {
  statusLine: string;
  status: number;
  headers: [name: string, value: string][];
  header(name: string): string | undefined;
  body: string;
}

/** Cuts a stream into responses; `heads` lists which requests were HEAD (their answers have no body). */
export function parseResponses(text: string, heads: boolean[] = []): Response[] {
  const responses: Response[] = [];
  let rest = text;
  while (rest !== '') {
    const end = rest.indexOf('\r\n\r\n');
    if (end < 0 || !rest.startsWith('HTTP/')) {
      responses.push(make(rest.startsWith('HTTP/') ? rest : '', [], rest));
      break;
    }
    const [statusLine = '', ...lines] = rest.slice(0, end).split('\r\n');
    const headers = lines.map((line): [string, string] => {
      const colon = line.indexOf(': ');
      return [line.slice(0, colon), line.slice(colon + 2)];
    });
    rest = rest.slice(end + 4);
    const status = Number(statusLine.slice(9, 12));
    const length = Number(headers.find(([name]) => name === 'Content-Length')?.[1] ?? 0);
    const index = responses.filter((each) => each.status !== 100).length;
    const bodyLength = heads[index] || status === 304 || status === 204 || status === 100 ? 0 : length;
    responses.push(make(statusLine, headers, rest.slice(0, bodyLength)));
    rest = rest.slice(bodyLength);
  }
  return responses;
}

function make(statusLine: string, headers: [string, string][], body: string): Response {
  return {
    statusLine,
    status: Number(statusLine.slice(9, 12)),
    headers,
    header: (name) => headers.find(([each]) => each.toLowerCase() === name.toLowerCase())?.[1],
    body,
  };
}

/** One request on a connection of its own. */
export async function request(port: number | string, text: string): Promise<Response> {
  const responses = parseResponses(await exchange(port, text), [text.startsWith('HEAD')]);
  const last = responses.at(-1);
  if (last === undefined) throw new Error('no response');
  return last;
}

/** `GET path` with the usual header. */
export async function get(port: number, path: string, headers: string[] = []): Promise<Response> {
  return await request(port, `GET ${path} HTTP/1.1\r\n${['Host: localhost', ...headers].join('\r\n')}\r\n\r\n`);
}
