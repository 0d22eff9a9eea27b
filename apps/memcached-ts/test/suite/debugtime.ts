/**
 * Loaded into a server by `NODE_OPTIONS=--import=…`: the command `debugtime SECONDS`, which memcached's debug build has and its
 * tests of expiry use. It moves the cache's clock; the server itself needs no door for it.
 * How: it comes before the text protocol of each worker. Not its job: any other part of the debug build.
 */
import { isMainThread } from 'node:worker_threads';
import type { Conn } from '../../src/conn.ts';

/** A thread's module, as source or compiled; the server's others stand beside it. */
const worker = /^(.*)worker(\.[jt]s)$/.exec(process.argv[1] ?? '');

if (!isMainThread && worker !== null) {
  const [, folder, extension] = worker;
  const { ProtoText } = (await import(`${folder}proto_text${extension}`)) as typeof import('../../src/proto_text.ts');
  const { W_TIME } = (await import(
    `${folder}engine/layout${extension}`
  )) as typeof import('../../src/engine/layout.ts');
  const OK = Buffer.from('OK\r\n');
  const prototype = ProtoText.prototype as unknown as {
    i32: Int32Array;
    say(conn: Conn, text: Buffer): boolean;
    run(conn: Conn, bytes: Buffer, pos: number, end: number): number;
  };
  const { run } = prototype;
  prototype.run = function (conn, bytes, pos, end) {
    const command = /^debugtime (\d+)\r\n$/.exec(bytes.toString('latin1', pos, Math.min(end, pos + 40)));
    if (command === null) return run.call(this, conn, bytes, pos, end);
    Atomics.add(this.i32, W_TIME, Number(command[1]));
    this.say(conn, OK);
    return end;
  };
}
