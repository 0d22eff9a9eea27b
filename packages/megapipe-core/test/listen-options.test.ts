/** Options of listening sockets, and datagram sockets that are written to as descriptors. */

import { createSocket } from 'node:dgram';
import { closeSync, writeSync } from 'node:fs';
import { NET, native } from '@megapipe/native';
import { expect, test } from 'vitest';
import { closeDescriptor, connectDatagram, listenTcp, tuneListener } from '../src/index.ts';

test('tuneListener sets what is named, and leaves the rest', () => {
  const fd = listenTcp({ host: '127.0.0.1', port: 0 });
  const option = (level: number, name: number): number => native.getsockopt(fd, level, name);
  const before = option(NET.SOL_SOCKET, NET.SO_SNDBUF);
  tuneListener(fd, { receiveBufferBytes: 20_000, keepAlive: true, keepAliveIdleSec: 100, keepAliveIntervalSec: 7 });
  tuneListener(fd, { keepAliveProbes: 3, deferAcceptSec: 1, fastOpenQueue: 9 });
  // The kernel doubles buffers, for its own bookkeeping.
  expect(option(NET.SOL_SOCKET, NET.SO_RCVBUF)).toBe(40_000);
  expect(option(NET.SOL_SOCKET, NET.SO_SNDBUF)).toBe(before);
  expect(option(NET.SOL_SOCKET, NET.SO_KEEPALIVE)).toBe(1);
  expect(option(NET.IPPROTO_TCP, NET.TCP_KEEPIDLE)).toBe(100);
  expect(option(NET.IPPROTO_TCP, NET.TCP_KEEPINTVL)).toBe(7);
  expect(option(NET.IPPROTO_TCP, NET.TCP_KEEPCNT)).toBe(3);
  expect(option(NET.IPPROTO_TCP, NET.TCP_DEFER_ACCEPT)).toBeGreaterThan(0);
  expect(option(NET.IPPROTO_TCP, NET.TCP_FASTOPEN)).toBe(9);
  tuneListener(fd, { keepAlive: false });
  expect(option(NET.SOL_SOCKET, NET.SO_KEEPALIVE)).toBe(0);
  closeDescriptor(fd);
});

test('tuneListener says which option was refused', () => {
  const fd = listenTcp({ host: '127.0.0.1', port: 0 });
  expect(() => tuneListener(fd, { keepAliveIdleSec: -1 })).toThrow(/EINVAL.*TCP_KEEPIDLE/);
  closeDescriptor(fd);
});

test('connectDatagram: each write is a datagram; nobody there is an error with its code', async () => {
  const receiver = createSocket('udp4');
  await new Promise<void>((resolve) => receiver.bind(0, '127.0.0.1', resolve));
  const received: string[] = [];
  const two = new Promise<void>((resolve) => {
    receiver.on('message', (message) => {
      if (received.push(message.toString()) === 2) resolve();
    });
  });
  const fd = connectDatagram('127.0.0.1', receiver.address().port);
  writeSync(fd, 'one');
  writeSync(fd, 'two');
  await two;
  expect(received).toEqual(['one', 'two']);
  receiver.close();
  closeSync(fd);
  expect(() => connectDatagram('/nowhere/at/all', 0)).toThrow(/ENOENT/);
});
