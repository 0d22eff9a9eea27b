/**
 * The PROXY protocol, versions 1 and 2: what a proxy says about its client before the first request.
 *
 * What it is for: `listen … proxy_protocol`. Invariants: at most HEADER_MAX bytes are looked at; nothing of the header is
 * guessed, a broken one ends the connection. Not its job: whether the proxy is to be believed (modules/realip).
 * Source: haproxy's proxy-protocol.txt.
 */

import { addressText } from '../net/address.ts';
import { latin1 } from './bytes.ts';

export interface Proxied {
  host: string;
  port: number;
  serverHost: string;
  serverPort: number;
}

/** What was found: bytes used (0: more are needed, -1: broken), and the addresses, if it has any. */
export interface ProxyHeader {
  used: number;
  proxied: Proxied | null;
}

const V1_MAX = 107;
/** Longest header of version 2 that is taken, with its extensions. */
const HEADER_MAX = 4096;
const SIGNATURE = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];

const MORE: ProxyHeader = { used: 0, proxied: null };
const BROKEN: ProxyHeader = { used: -1, proxied: null };

export function parseProxyHeader(buf: Uint8Array, pos: number, end: number): ProxyHeader {
  const length = end - pos;
  let same = 0;
  while (same < Math.min(length, SIGNATURE.length) && buf[pos + same] === SIGNATURE[same]) same++;
  if (same === SIGNATURE.length) return version2(buf, pos, end);
  if (same === length) return MORE;
  return version1(latin1(buf, pos, Math.min(end, pos + V1_MAX)));
}

function version1(text: string): ProxyHeader {
  if (!'PROXY '.startsWith(text.slice(0, 6))) return BROKEN;
  const stop = text.indexOf('\r\n');
  if (stop < 0) return text.length < V1_MAX && !text.includes('\n') ? MORE : BROKEN;
  const used = stop + 2;
  const line = text.slice(0, stop);
  if (/^PROXY UNKNOWN/.test(line)) return { used, proxied: null };
  // What stands for an address is not looked at more closely, as in nginx; who uses it parses it.
  const words = /^PROXY TCP[46] ([0-9a-fA-F.:]+) ([0-9a-fA-F.:]+) (\d{1,5}) (\d{1,5})$/.exec(line);
  if (words === null) return BROKEN;
  const [, host = '', serverHost = '', portText, serverPortText] = words;
  const [port, serverPort] = [Number(portText), Number(serverPortText)];
  if (port > 65_535 || serverPort > 65_535) return BROKEN;
  return { used, proxied: { host, port, serverHost, serverPort } };
}

function version2(buf: Uint8Array, pos: number, end: number): ProxyHeader {
  const head = pos + SIGNATURE.length;
  if (end - head < 4) return MORE;
  const versionAndCommand = buf[head] as number;
  const family = buf[head + 1] as number;
  const size = ((buf[head + 2] as number) << 8) | (buf[head + 3] as number);
  if (versionAndCommand >> 4 !== 2 || size > HEADER_MAX) return BROKEN;
  const command = versionAndCommand & 15;
  const body = head + 4;
  if (end - body < size) return MORE;
  const used = body + size - pos;
  // LOCAL: the proxy itself asks. What is not TCP says nothing about a client either.
  if (command !== 1 || (family & 15) !== 1) return { used, proxied: null };
  const bytes = family >> 4 === 1 ? 4 : family >> 4 === 2 ? 16 : 0;
  if (bytes === 0) return { used, proxied: null };
  if (size < 2 * bytes + 4) return BROKEN;
  const at = body + 2 * bytes;
  const number = (offset: number): number => ((buf[offset] as number) << 8) | (buf[offset + 1] as number);
  return {
    used,
    proxied: {
      host: addressText(buf.subarray(body, body + bytes)),
      serverHost: addressText(buf.subarray(body + bytes, at)),
      port: number(at),
      serverPort: number(at + 2),
    },
  };
}
