/**
 * Directives of the main and events contexts.
 *
 * What it is for: processes, logs, pid file, connections. Invariant: what cannot have an effect here (say why in the
 * row) is still checked as nginx checks it.
 */

import { availableParallelism } from 'node:os';
import { Builder } from '../../conf/builder.ts';
import { Args, Context, type Directive, HTTP_ALL } from '../../conf/directives.ts';
import type { LogLevelName } from '../../conf/errors.ts';
import { networksOf } from '../../conf/hosts.ts';
import type { ErrorLog } from '../../conf/model.ts';
import { type ConfContext, INCLUDE } from '../../conf/parser.ts';
import { accept, flag, main, msec, number, offset, oneOf, type Parse, word } from '../../conf/setters.ts';
import { isSyslog, parseSyslog } from '../../conf/syslog.ts';
import { parseNumber } from '../../conf/units.ts';
import { findGroup, findUser } from '../../conf/user.ts';
import { LEVELS } from '../../log/error-log.ts';

const { Main, Events } = Context;

/** Parts of nginx's debug messages, of which there are none here. */
const DEBUG_PARTS = ['core', 'alloc', 'mutex', 'event', 'http', 'mail', 'stream'].map((part) => `debug_${part}`);

const isLevelName = (text: string): text is LogLevelName => (LEVELS as readonly string[]).includes(text);

/** `error_log FILE|stderr [LEVEL]`, for every context that has it. */
export function parseErrorLog(cf: ConfContext, args: string[], logs: ErrorLog[]): string | undefined {
  const target = args[1] as string;
  // nginx keeps these in memory for a debugger, which finds nothing of the kind here.
  if (target.startsWith('memory:')) cf.fail('"error_log memory:" is not supported by this server');
  const syslog = isSyslog(target) ? parseSyslog(cf, target) : null;
  let level: LogLevelName = 'error';
  for (const [i, given] of args.slice(2).entries()) {
    const isLevel = isLevelName(given);
    if (isLevel && i > 0) cf.fail(`duplicate log level "${given}"`);
    if (!isLevel && (!DEBUG_PARTS.includes(given) || isLevelName(args[2] as string))) {
      cf.fail(`invalid log level "${given}"`);
    }
    level = isLevel ? given : 'debug';
  }
  if (syslog !== null) {
    logs.push({ file: -1, level, syslog });
    return undefined;
  }
  if (target === 'stderr' || target === '') {
    logs.push({ file: -1, level });
    return undefined;
  }
  logs.push({ file: cf.builder.file(cf.fullName(target)), level });
  return undefined;
}

/** `0101 1010`: one mask per worker, the last digit is CPU 0. */
function affinity(cf: ConfContext, args: string[]): number[][] {
  if (args[1] === 'auto') {
    cf.builder.main.affinityAuto = true;
    if (args.length > 3) cf.fail('invalid number of arguments in "worker_cpu_affinity" directive');
    const allowed = args[2] === undefined ? [...Array(availableParallelism()).keys()] : mask(cf, args[2]);
    return allowed.map((cpu) => [cpu]);
  }
  return args.slice(1).map((text) => mask(cf, text));
}

function mask(cf: ConfContext, text: string): number[] {
  const digits = text.replaceAll(' ', '');
  // nginx reads from the end.
  const wrong = /[^01](?=[01]*$)/.exec(digits);
  if (wrong !== null) cf.fail(`invalid character "${wrong[0]}" in "worker_cpu_affinity"`);
  return [...digits].flatMap((digit, i) => (digit === '1' ? [digits.length - 1 - i] : [])).reverse();
}

/** `user NAME [GROUP]`: who the workers are. Only root can become somebody else. */
function setUser(cf: ConfContext, args: string[]): string | undefined {
  const settings = cf.builder.main;
  if (settings.user !== undefined || cf.level.seen.has('user')) return 'is duplicate';
  cf.level.seen.add('user');
  if (process.getuid?.() !== 0) {
    cf.warn('the "user" directive makes sense only if the master process runs with super-user privileges, ignored');
    return undefined;
  }
  const name = args[1] as string;
  const group = args[2] ?? name;
  const user = findUser(name);
  if (user === null) cf.fail(`getpwnam("${name}") failed`);
  const gid = findGroup(group);
  if (gid === null) cf.fail(`getgrnam("${group}") failed`);
  settings.user = { name, uid: user.uid, gid };
  return undefined;
}

/** -20 … 19, as nice(1) counts. */
const priority: Parse<number> = (cf, args) => {
  const text = args[1] as string;
  const value = parseNumber(text.replace(/^[-+]/, ''));
  if (value === null) return cf.reject('invalid number');
  return text.startsWith('-') ? -value : value;
};

/** `thread_pool NAME threads=N [max_queue=N]`. */
function threadPool(cf: ConfContext, args: string[]): undefined {
  const [, name = '', ...words] = args;
  const { threadPools } = cf.builder;
  if (threadPools.has(name)) cf.fail(`duplicate thread pool "${name}"`);
  let threads = 0;
  for (const word of words) {
    const [key = '', value = ''] = word.split('=');
    if (key === 'threads' && word.includes('=')) {
      threads = parseNumber(value) || cf.fail(`invalid threads value "${word}"`);
    } else if (key === 'max_queue' && parseNumber(value) === null) cf.fail(`invalid max_queue value "${word}"`);
  }
  if (threads === 0) cf.fail('"thread_pool" must have "threads" parameter');
  threadPools.add(name);
}

export const CORE_DIRECTIVES: Directive[] = [
  INCLUDE,
  { name: 'daemon', contexts: Main, args: Args.Flag, set: main('daemon', flag) },
  { name: 'master_process', contexts: Main, args: Args.Flag, set: main('masterProcess', flag) },
  {
    name: 'worker_processes',
    contexts: Main,
    args: Args.Take1,
    set: main('workerProcesses', (cf, args) => {
      if (args[1] === 'auto') return availableParallelism();
      const count = parseNumber(args[1] as string);
      // nginx takes 0 and then serves nobody.
      return count === null || count === 0 ? cf.reject('invalid value') : count;
    }),
  },
  { name: 'worker_cpu_affinity', contexts: Main, args: Args.OneOrMore, set: main('workerAffinity', affinity) },
  { name: 'worker_rlimit_nofile', contexts: Main, args: Args.Take1, set: main('workerRlimitNofile', number) },
  { name: 'worker_rlimit_core', contexts: Main, args: Args.Take1, set: main('workerRlimitCore', offset) },
  { name: 'worker_priority', contexts: Main, args: Args.Take1, set: main('workerPriority', priority) },
  { name: 'user', contexts: Main, args: Args.Take12, set: setUser },
  {
    name: 'pid',
    contexts: Main,
    args: Args.Take1,
    set: main('pid', (cf, args) => (args[1] === '' ? '' : cf.fullName(args[1] as string))),
  },
  { name: 'lock_file', contexts: Main, args: Args.Take1, set: main('lockFile', word) },
  { name: 'debug_points', contexts: Main, args: Args.Take1, set: accept(oneOf(['stop', 'abort'])) },
  // Files are read by the kernel without threads, or by Node's.
  { name: 'thread_pool', contexts: Main, args: Args.Take23, set: threadPool },
  { name: 'pcre_jit', contexts: Main, args: Args.Flag, set: main('pcreJit', flag) },
  { name: 'timer_resolution', contexts: Main, args: Args.Take1, set: main('timerResolutionMs', msec) },
  {
    name: 'env',
    contexts: Main,
    args: Args.Take1,
    set(cf, args) {
      (cf.builder.main.env ??= []).push(args[1] as string);
      return undefined;
    },
  },
  { name: 'working_directory', contexts: Main, args: Args.Take1, set: main('workingDirectory', word) },
  { name: 'worker_shutdown_timeout', contexts: Main, args: Args.Take1, set: main('workerShutdownTimeoutMs', msec) },
  {
    name: 'error_log',
    contexts: Main,
    args: Args.OneOrMore,
    set: (cf, args) => parseErrorLog(cf, args, (cf.builder.main.errorLogs ??= [])),
  },
  {
    name: 'error_log',
    contexts: HTTP_ALL,
    args: Args.OneOrMore,
    set: (cf, args) => parseErrorLog(cf, args, (cf.level.loc.errorLogs ??= [])),
  },
  {
    name: 'events',
    contexts: Main,
    args: Args.None,
    block: true,
    set(cf) {
      if (cf.builder.main.events) return 'is duplicate';
      cf.builder.main.events = true;
      cf.block(Builder.level(Context.Events, cf.level));
      return undefined;
    },
  },
  {
    name: 'worker_connections',
    contexts: Events,
    args: Args.Take1,
    set: main('workerConnections', (cf, args) => {
      return parseNumber(args[1] as string) ?? cf.fail(`invalid number "${args[1]}"`);
    }),
  },
  {
    name: 'use',
    contexts: Events,
    args: Args.Take1,
    set: main('use', (cf, args) => {
      // The channel's backend is chosen on the command line (--io).
      if (args[1] !== 'epoll') cf.fail(`invalid event type "${args[1]}"`);
      return args[1] as string;
    }),
  },
  { name: 'multi_accept', contexts: Events, args: Args.Flag, set: main('multiAccept', flag) },
  { name: 'epoll_events', contexts: Events, args: Args.Take1, set: accept(number) },
  { name: 'worker_aio_requests', contexts: Events, args: Args.Take1, set: accept(number) },
  { name: 'accept_mutex', contexts: Events, args: Args.Flag, set: main('acceptMutex', flag) },
  { name: 'accept_mutex_delay', contexts: Events, args: Args.Take1, set: main('acceptMutexDelayMs', msec) },
  {
    name: 'debug_connection',
    contexts: Events,
    args: Args.Take1,
    // There are no debug messages that one connection could have more of.
    set(cf, args) {
      if (args[1] !== 'unix:') networksOf(cf, 'debug_connection', args[1] as string);
      return undefined;
    },
  },
];
