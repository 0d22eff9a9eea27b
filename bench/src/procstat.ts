/**
 * CPU time of a process and everything below it, from /proc/PID/stat.
 *
 * What it is for: the CPU cost of a server, nginx's worker and node's threads included. Invariant: the time of a child
 * that ended and was waited for is in its parent's `cutime`/`cstime`, the time of a living one in its own line, so the
 * sum over the tree never loses or doubles any. Resolution is one tick (10 ms).
 * Not its job: deciding what a window is; the load generator reads at the edges of its own.
 */
import { readdirSync, readFileSync } from 'node:fs';

/** USER_HZ: part of the kernel's ABI, 100 on every architecture that Node runs on under Linux. */
export const TICKS_PER_SECOND = 100;

export interface ProcessStat {
  pid: number;
  parent: number;
  /** Name of the executable, at most 15 bytes; may hold blanks and parentheses. */
  name: string;
  /** utime + stime of all its threads. */
  ownTicks: number;
  /** cutime + cstime: children that ended and were waited for. */
  reapedTicks: number;
  /** When it started, in ticks since boot: with the pid, an identity. */
  startTicks: number;
}

/** Reads one line of /proc/PID/stat. The name ends at the last `)`: everything after it is numbers and one letter. */
export function parseStat(line: string): ProcessStat {
  const open = line.indexOf('(');
  const close = line.lastIndexOf(')');
  // state ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt utime stime cutime cstime priority nice threads
  // itrealvalue starttime …
  const rest = line
    .slice(close + 1)
    .trim()
    .split(/\s+/);
  const stat: ProcessStat = {
    pid: Number(line.slice(0, open)),
    parent: Number(rest[1]),
    name: line.slice(open + 1, close),
    ownTicks: Number(rest[11]) + Number(rest[12]),
    reapedTicks: Number(rest[13]) + Number(rest[14]),
    startTicks: Number(rest[19]),
  };
  if (open < 1 || close < open || !Object.values(stat).every((value) => typeof value === 'string' || value >= 0)) {
    throw new Error(`/proc stat: expected "PID (NAME) STATE PPID … utime stime cutime cstime", got "${line.trim()}"`);
  }
  return stat;
}

/** null when the process is gone. */
export function readStat(pid: number): ProcessStat | null {
  try {
    return parseStat(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ESRCH') return null;
    throw error;
  }
}

/** `root` and all its descendants that are alive now. */
export function processTree(root: number): number[] {
  const children = new Map<number, number[]>();
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const stat = readStat(Number(entry));
    if (stat === null) continue;
    const siblings = children.get(stat.parent);
    if (siblings === undefined) children.set(stat.parent, [stat.pid]);
    else siblings.push(stat.pid);
  }
  const tree = [root];
  for (let i = 0; i < tree.length; i++) tree.push(...(children.get(tree[i]!) ?? []));
  return tree;
}

/** CPU seconds used so far by these processes. Throws when the first, the server itself, is gone. */
export function cpuSeconds(tree: readonly number[]): number {
  let ticks = 0;
  for (const pid of tree) {
    const stat = readStat(pid);
    if (stat !== null) ticks += stat.ownTicks + stat.reapedTicks;
    else if (pid === tree[0]) throw new Error(`process ${pid} ended while its CPU time was measured`);
  }
  return ticks / TICKS_PER_SECOND;
}
