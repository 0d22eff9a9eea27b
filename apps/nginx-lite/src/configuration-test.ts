/**
 * `-t`: everything that a start would do short of serving.
 *
 * What it is for: reads the configuration, then makes folders, opens logs and the pid file, and binds what it listens on,
 * each for a moment, as nginx does. Invariants: what is said and its order are nginx's; a server that runs meanwhile
 * notices nothing. Not its job: where messages go (main.ts).
 */

import { closeSync, constants, openSync, rmSync } from 'node:fs';
import { resolve } from 'node:path';
import { type Loaded, type LoadOptions, loadConfiguration } from './conf/compile.ts';
import { ConfError } from './conf/errors.ts';
import type { Listen, Model } from './conf/model.ts';
import { pathOf } from './http/bytes.ts';
import { EADDRINUSE, errnoOf, strerror } from './log/errno.ts';
import { closeLogs, openLogs } from './log/files.ts';
import { makeTempPaths } from './temp-paths.ts';

const PID_MODE = 0o644;

export interface Verdict {
  /** What was read; null when the test failed. */
  loaded: Loaded | null;
  /** Why it failed. */
  error: ConfError | null;
}

/** `say` gets the lines that are no messages of a level. */
export async function testConfiguration(
  options: LoadOptions,
  quiet: boolean,
  say: (line: string) => void,
): Promise<Verdict> {
  const name = options.confFile;
  try {
    const loaded = loadConfiguration({
      ...options,
      onSyntaxOk: () => quiet || say(`the configuration file ${name} syntax is ok`),
    });
    await tryStart(loaded.model);
    return { loaded, error: null };
  } catch (error) {
    if (!(error instanceof ConfError)) throw error;
    return { loaded: null, error };
  }
}

async function tryStart(model: Model): Promise<void> {
  attempt(`open() "${model.pid}"`, () => {
    closeSync(openSync(pathOf(model.pid), constants.O_RDWR | constants.O_CREAT, PID_MODE));
  });
  makeTempPaths(model.tempPaths, model.user);
  closeLogs(openLogs(model.files));
  const listens = model.http?.listens.filter((listen) => listen.within < 0) ?? [];
  if (listens.length === 0) return;
  // Only sockets need the addon.
  const { closeDescriptor, listenTcp, listenUnix } = await import('@megapipe/core');
  const open = (listen: Listen): number =>
    listen.family === 'Unix'
      ? listenUnix({ path: resolve(listen.host), backlog: listen.backlog, mode: 0o666 })
      : listenTcp({ host: listen.host, port: listen.port, backlog: listen.backlog, ipv6Only: listen.ipv6Only });
  const opened: number[] = [];
  try {
    for (const listen of listens) {
      try {
        opened.push(open(listen));
        if (listen.family === 'Unix') rmSync(listen.host, { force: true });
      } catch (error) {
        // Somebody serves there: that is no fault of the configuration.
        if (errnoOf(error) === EADDRINUSE) continue;
        const call = (error as { syscall?: string }).syscall ?? 'bind';
        throw new ConfError(`${call}() to ${listen.text} failed (${strerror(errnoOf(error))})`);
      }
    }
  } finally {
    for (const fd of opened) closeDescriptor(fd);
  }
}

function attempt(what: string, call: () => void): void {
  try {
    call();
  } catch (error) {
    throw new ConfError(`${what} failed (${strerror(errnoOf(error))})`);
  }
}
