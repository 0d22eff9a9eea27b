/**
 * Every verb with hostile arguments, in a process of its own: what it closes, maps or attaches is its own. Descriptors are
 * drawn from its own sockets and from numbers that are none; waits are short. Prints how many calls answered and threw.
 */
import fc from 'fast-check';
import { ABI, native } from '../../src/index.ts';

const rings = [1, 2].map(() =>
  native.uringCreate(8, 16, ABI.SETUP_SUBMIT_ALL | ABI.SETUP_CLAMP | ABI.SETUP_COOP_TASKRUN),
);
const ringIds = rings.map((ring) => (typeof ring === 'number' ? 0 : ring.id));
const memoryFile = native.memoryFile(4096);
const regions = [native.memoryMap(4096), native.memoryMap(65_536)];
const shared = native.memoryAttach(new Uint8Array(new SharedArrayBuffer(4096)));
const sockets = [1, 2, 3].flatMap(() => native.socketpair() as [number, number]);
const epoll = native.epollCreate();

const fd = fc.constantFrom(-1, -100, 99_999, 2 ** 31 - 1, 1.5, Number.NaN, 'x', undefined, epoll, ...sockets);
const region = fc.constantFrom(-1, 4095, 4096, 99_999, Number.NaN, null, ...regions.map((r) => r.id), shared.id);
const ring = fc.constantFrom(-1, 255, 256, 99_999, {}, ...ringIds);
const size = fc.constantFrom(
  -1,
  0,
  1,
  3,
  4,
  64,
  4095,
  4096,
  4097,
  65_536,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32,
  2 ** 53,
  Infinity,
  0.5,
  '1',
);
const small = fc.constantFrom(-2, -1, 0, 1, 2, 3, 8, 64, 65, 1024, 2 ** 31, Number.NaN, undefined);
const wait = fc.constantFrom(0, 1, 'forever', undefined);
const host = fc.constantFrom('127.0.0.1', '::1', '/', `/${'x'.repeat(200)}`, '@x', '', 'a\0b', 7, '256.1.1.1');
const cpus = fc.constantFrom(
  [],
  [0],
  [0, 1, 2],
  [-1],
  [1024],
  ['a'],
  {},
  null,
  Array.from({ length: 600 }, () => 0),
);
const view = fc.constantFrom(
  new Uint8Array(8),
  new Uint8Array(new SharedArrayBuffer(8)),
  new Int32Array(new SharedArrayBuffer(8)),
  5,
  null,
);
const path = fc.constantFrom(
  '/',
  '/dev/null',
  '/proc/self/maps',
  process.argv[1],
  '/nowhere',
  'a\0b',
  '/\xff\u1234',
  'x/'.repeat(4000),
  '',
  5,
  null,
);
const record = fc.constantFrom(new Float64Array(8), new Float64Array(7), new Float32Array(16), [], null);
const drain = fc.constantFrom(() => 0, null, 5, {});

const verbs: Record<Exclude<keyof typeof native, 'abiTable' | 'setAffinity' | 'setRlimit'>, fc.Arbitrary<unknown>[]> = {
  memoryMap: [fc.constantFrom(-1, 0, 0.5, 4096, 2 ** 53, Infinity, 'x')],
  memoryFile: [fc.constantFrom(-1, 0, 0.5, 4096, 2 ** 53, Infinity, 'x')],
  memoryMapFile: [
    fc.constantFrom(-1, 0, 1, 2, 1e6, 2 ** 32, memoryFile, 'x'),
    fc.constantFrom(-1, 0, 4096, 8192, 2 ** 53, 'x'),
  ],
  memoryUnmap: [fc.constantFrom(-1, 4096, 99_999, 'x', shared.id)],
  memoryAttach: [view],
  memoryRelease: [fc.constantFrom(-1, 4096, regions[0]!.id, 'x')],
  memoryBindFile: [view, fc.constantFrom(-1, 1e6, 2 ** 32, memoryFile, 'x')],
  addressOf: [view],
  uringCreate: [small, small, small],
  uringClose: [fc.constantFrom(-1, 256, 99_999, 'x')],
  uringEnter: [ring, small, wait],
  uringFiles: [ring, small],
  uringFileRange: [ring, small, small],
  uringFileUpdate: [ring, small, fd],
  uringBufferRing: [ring, region, size, small, small, small],
  uringProbe: [ring],
  uringCancelAll: [ring, wait],
  deviceOpen: [small, small, small, small, small, small, region, size],
  deviceHost: [ring, fd],
  deviceName: [ring, small, small, small],
  epollCreate: [],
  epollCtl: [fd, small, fd, small, small, small],
  epollWait: [fd, region, size, small, wait],
  pread: [fd, region, size, size, size],
  recv: [fd, region, size, size],
  send: [fd, region, size, size, small],
  sendv: [fd, region, size, small],
  accept: [fd],
  socket: [small, small],
  socketpair: [],
  bind: [fd, host, small],
  listen: [fd, small],
  connect: [fd, host, small],
  shutdown: [fd, small],
  close: [fc.constantFrom(-1, 99_999, 'x', Number.NaN, sockets[5])],
  dup: [fd, small],
  setBlocking: [fc.constantFrom(-1, 99_999, 'x'), small],
  setsockopt: [fd, small, small, small],
  getsockopt: [fd, small, small],
  listenQueue: [fd],
  getsockname: [fd, small],
  sockaddr: [region, size, host, small],
  sockaddrParse: [region, size],
  reuseportSteer: [fd, cpus, cpus],
  getAffinity: [],
  getRlimit: [small],
  lockMemory: [region, size, size],
  adviseHugePages: [region, size, size],
  discardMemory: [region, size, size],
  trimProcess: [],
  fileStat: [path, record],
  fileLoad: [path, record, view],
  loopBackendFd: [],
  loopAttach: [small, ring, drain, region, size, size, small],
  loopDetach: [small, ring],
};

let answered = 0;
let threw = 0;
/* In rounds, each closing what it opened: the limits of ids and descriptors are not what is tried here. */
fc.assert(
  fc.property(
    fc.oneof(
      ...Object.entries(verbs).map(([name, args]) => ({
        arbitrary: fc.tuple(fc.constant(name), fc.tuple(...args), fc.nat(8)),
        /* Its arguments say nothing, and after each call the whole program comes from its file again. */
        weight: name === 'trimProcess' ? 1 : 50,
      })),
    ),
    ([name, args, count]) => {
      const verb = native[name as 'accept'] as (...a: unknown[]) => unknown;
      try {
        /* Mostly as many arguments as it wants, sometimes fewer. */
        const result = verb(...(count === 0 ? args.slice(0, -1) : args));
        answered++;
        if (name === 'memoryMap' || name === 'memoryMapFile') native.memoryUnmap((result as { id: number }).id);
        if (name === 'memoryAttach') native.memoryRelease((result as { id: number }).id);
        if ((name === 'uringCreate' || name === 'deviceOpen') && typeof result === 'object')
          native.uringClose((result as { id: number }).id);
        if (name === 'loopAttach') native.loopDetach(args[0] === 0 ? 0 : 1, args[1] as number);
        if (
          (name === 'socket' || name === 'epollCreate' || name === 'memoryFile' || name === 'accept') &&
          (result as number) >= 0
        )
          native.close(result as number);
        if (name === 'fileLoad' && (args[1] as Float64Array)[7]! >= 0) native.close((args[1] as Float64Array)[7]!);
        if (name === 'dup' && args[1] === 0 && (result as number) >= 0) native.close(result as number);
        if (name === 'socketpair') for (const one of result as number[]) native.close(one);
      } catch (error) {
        threw++;
        const { code } = error as { code?: string };
        if (!code?.startsWith('ERR_MEGAPIPE_')) throw error;
      }
    },
  ),
  { numRuns: Number(process.argv[2] ?? 20_000) },
);
console.log(`${answered} ${threw}`);
process.exit(0);
