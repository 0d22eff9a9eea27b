/**
 * Setting an io_uring up: the newest set of flags that the kernel takes, clear errors where it takes none, and which
 * features it has, each found out by asking for it.
 *
 * Not its job: anything after set-up; that is backend-uring.ts.
 */
import { readFileSync } from 'node:fs';
import { ABI, NET, native, type UringInfo } from '@megapipe/native';
import type { UringFeatures } from './api.ts';
import type { CompletionQueue } from './completion-queue.ts';
import { errnoMessage, errnoName, MegapipeError } from './errors.ts';
import { descriptorLimit } from './process.ts';
import type { SubmissionQueue } from './submission-queue.ts';

const EPERM = 1;
const EINVAL = 22;
const ENOSYS = 38;

const PROBE_GROUP = 1;
/** Descriptors at most when the process may open more than any table needs. */
const TABLE_MAX = 500_000;

/** Entries of a table at most: the descriptor limit bounds the ring's file table, too. */
export function tableLimit(): number {
  const limit = descriptorLimit();
  return limit === Number.POSITIVE_INFINITY ? TABLE_MAX : limit;
}

export function createRing(sqEntries: number, cqEntries: number): UringInfo {
  const base = ABI.SETUP_SUBMIT_ALL | ABI.SETUP_CLAMP;
  const best = base | ABI.SETUP_SINGLE_ISSUER | ABI.SETUP_DEFER_TASKRUN;
  /* Newest first: NO_SQARRAY is of 6.6, DEFER_TASKRUN of 6.1, the rest older. EINVAL means "this kernel does not know a flag". */
  let refused = EINVAL;
  for (const flags of [best | ABI.SETUP_NO_SQARRAY, best, base | ABI.SETUP_COOP_TASKRUN]) {
    const made = native.uringCreate(sqEntries, cqEntries, flags);
    if (typeof made !== 'number') return made;
    refused = -made;
    if (refused !== EINVAL) break;
  }
  if (refused === EPERM) {
    const sysctl = disabledBySysctl();
    throw new MegapipeError(
      'ERR_MEGAPIPE_URING_BLOCKED',
      `io_uring_setup: EPERM. ${sysctl > 0 ? `kernel.io_uring_disabled is ${sysctl}; 'sysctl kernel.io_uring_disabled=0' allows it.` : "A seccomp profile (a container's, usually) forbids it; run with one that allows io_uring_setup, _enter and _register."}`,
      refused,
      'io_uring_setup',
    );
  }
  const code = refused === ENOSYS || refused === EINVAL ? 'ERR_MEGAPIPE_URING_UNAVAILABLE' : errnoName(refused);
  throw new MegapipeError(
    code,
    `io_uring_setup: ${errnoName(refused)} (${errnoMessage(refused)}). ${code === 'ERR_MEGAPIPE_URING_UNAVAILABLE' ? 'This kernel has no io_uring as it is needed here (Linux 6.1 or later).' : ''}`,
    refused,
    'io_uring_setup',
  );
}

function disabledBySysctl(): number {
  try {
    return Number(readFileSync('/proc/sys/kernel/io_uring_disabled', 'utf8'));
  } catch {
    return 0;
  }
}

/** What the probes work on: a ring without requests, and a page-aligned piece of memory that nobody else uses meanwhile. */
export interface Trial {
  id: number;
  sq: SubmissionQueue;
  cq: CompletionQueue;
  region: number;
  scratch: number;
  /** Low word of user_data for completions that nobody is to see, should one come late. */
  ignored: number;
}

/**
 * Whether closing a direct descriptor closes its socket at once. Up to Linux 6.12 the file table lets closed files go
 * strictly in order, and any request parked on another one (an idle connection's receive) holds the row up: peers
 * would see no end, and sockets would pile up. Tried out with a parked poll and one end of a socket pair.
 */
function closesAtOnce(trial: Trial): boolean {
  const { id, cq, region, scratch } = trial;
  const parked = native.socketpair();
  const closed = native.socketpair();
  if (typeof parked === 'number' || typeof closed === 'number') {
    for (const pair of [parked, closed]) if (typeof pair !== 'number') for (const fd of pair) native.close(fd);
    return true;
  }
  native.uringFileUpdate(id, 0, parked[0]);
  native.uringFileUpdate(id, 1, closed[0]);
  native.close(parked[0]);
  native.close(closed[0]);
  const fixed = ABI.IOSQE_FIXED_FILE;
  putProbe(trial, ABI.OP_POLL_ADD, fixed, 0, NET.POLLIN, 0);
  putProbe(trial, ABI.OP_CLOSE, 0, 0, 0, 2);
  native.uringEnter(id, 0, 0);
  const gone = native.recv(closed[1], region, scratch, 1) === 0;
  putProbe(trial, ABI.OP_ASYNC_CANCEL, fixed, 0, ABI.CANCEL_FD | ABI.CANCEL_FD_FIXED | ABI.CANCEL_ALL, 0);
  native.uringEnter(id, 0, 0);
  native.uringFileUpdate(id, 0, -1);
  native.close(parked[1]);
  native.close(closed[1]);
  /* Poll, close and cancel complete: three entries that nobody is to see. The cancelled poll may take one more round. */
  for (let i = 0; i < 10 && cq.ready() < 3; i++) native.uringEnter(id, 1, 10);
  while (cq.ready() > 0) cq.take();
  cq.publish();
  return gone;
}

function putProbe(
  { sq, ignored }: Trial,
  opcode: number,
  sqeFlags: number,
  fd: number,
  opFlags: number,
  fileIndex: number,
): void {
  const i = sq.next();
  const q = sq.entries;
  q.fill(0, i, i + 16);
  q[i] = opcode | (sqeFlags << 8);
  q[i + 1] = fd;
  q[i + 7] = opFlags;
  q[i + 8] = ignored;
  q[i + 11] = fileIndex;
  sq.push();
}

export function probeFeatures(trial: Trial, info: UringInfo): UringFeatures {
  const { id, region, scratch } = trial;
  const last = native.uringProbe(id);
  /* The scratch chunk serves as the trial's ring: nothing is ever received into it. */
  const incremental = native.uringBufferRing(id, region, scratch, 8, PROBE_GROUP, ABI.PBUF_RING_INC);
  if (incremental === 0) native.uringBufferRing(id, region, scratch, 0, PROBE_GROUP, 0);
  return {
    used: {
      noSqArray: info.sqArray === 0,
      deferTaskrun: (info.flags & ABI.SETUP_DEFER_TASKRUN) !== 0,
      /* Multishot accept is of 5.19, multishot receive of 6.0, the kernel that also brought SEND_ZC's opcode. */
      multishotAccept: last >= ABI.OP_SOCKET,
      multishotRecv: last >= ABI.OP_SEND_ZC,
      bufferRing: true,
      lwsockets: closesAtOnce(trial),
    },
    unused: {
      sendZc: last >= ABI.OP_SEND_ZC,
      bundles: (info.features & ABI.FEAT_RECVSEND_BUNDLE) !== 0,
      incrementalBuffers: incremental === 0,
    },
  };
}

/** Throws what a refused registration means. */
export function mustRegister(what: string, result: number): void {
  if (result >= 0) return;
  const code = result === -EINVAL || result === -ENOSYS ? 'ERR_MEGAPIPE_URING_UNAVAILABLE' : errnoName(-result);
  throw new MegapipeError(
    code,
    `io_uring_register refused ${what}: ${errnoName(-result)} (${errnoMessage(-result)})`,
    -result,
    'io_uring_register',
  );
}
