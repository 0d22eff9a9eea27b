/**
 * Logs that go to a syslog server: datagrams over UDP or to a Unix socket.
 *
 * What it is for: `<priority>Mmm dd hh:mm:ss host tag: message`, as nginx words it. Invariant: a server that is away costs messages,
 * never service: nothing waits, and the socket is made anew for the next message. Not its job: what a message says.
 */

import { closeSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { connectDatagram } from '@megapipe/core';
import type { SyslogTarget } from '../conf/model.ts';

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
/** nginx cuts a message together with its header there: 2,048 bytes, the longest priority and time, a host name, and a tag. */
const MESSAGE_MAX = 2048 + 21 + 64 + 1 + 32 + 2;
const HOST = hostname();

/** `Nov  5 07:08:09`, local time. */
function syslogTime(date: Date): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = String(date.getDate()).padStart(2);
  return `${MONTHS[date.getMonth()]} ${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** The sockets of one thread. */
export class Syslog {
  private readonly fds = new Map<string, number>();

  /** One message without its line break; `severity` counts from emerg = 0. */
  send(target: SyslogTarget, severity: number, message: string): void {
    const host = target.hostname ? ` ${HOST}` : '';
    const header = `<${target.facility * 8 + severity}>${syslogTime(new Date())}${host} ${target.tag}: `;
    const bytes = Buffer.from((header + message).slice(0, MESSAGE_MAX), 'latin1');
    // A socket that a restarted server left behind is found out by the first message that fails.
    if (!this.tryWrite(target, bytes)) this.tryWrite(target, bytes);
  }

  private tryWrite(target: SyslogTarget, bytes: Buffer): boolean {
    const key = `${target.host} ${target.port}`;
    try {
      let fd = this.fds.get(key);
      if (fd === undefined) {
        fd = connectDatagram(target.host, target.port);
        this.fds.set(key, fd);
      }
      writeSync(fd, bytes);
      return true;
    } catch {
      this.forget(key);
      return false;
    }
  }

  private forget(key: string): void {
    const fd = this.fds.get(key);
    this.fds.delete(key);
    if (fd !== undefined) closeSync(fd);
  }

  close(): void {
    for (const key of [...this.fds.keys()]) this.forget(key);
  }
}
