/**
 * Makes the guest's root: an initramfs (a cpio archive of the "newc" kind, written here, so that neither root nor cpio is
 * needed) with busybox, the pinned Node, the workspace's packages as they are now, and their tests with all these need.
 * Programs and libraries of the host keep their paths, the workspace is at /megapipe.
 *
 * Invariant: every file is read from where it is used, nothing is installed or remembered between runs.
 * Not its job: building the addon (`npm run build` does) and the module (module.sh does), and what the suites run (suites/ says that).
 *
 * usage: node kernel/testbed/image.ts BUSYBOX OUTPUT SUITE [ARG ...]
 */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  writeSync,
} from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';

const WORKSPACE = '/megapipe';
const S_IFDIR = 0o040000;
const S_IFCHR = 0o020000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;

/** The archive. Parent folders come by themselves; what is added twice is kept once. */
class Image {
  readonly #fd: number;
  readonly #names = new Set<string>();
  #inode = 1;

  constructor(path: string) {
    this.#fd = openSync(path, 'w');
  }

  has(path: string): boolean {
    return this.#names.has(path);
  }

  folder(path: string): void {
    this.#entry(path, S_IFDIR | 0o755);
  }

  /** `from` is a path of the host. */
  file(path: string, from: string): void {
    if (!this.has(path)) this.bytes(path, readFileSync(from), lstatSync(from).mode & 0o111 ? 0o755 : 0o644);
  }

  bytes(path: string, content: Uint8Array, mode = 0o644): void {
    this.#entry(path, S_IFREG | mode, content);
  }

  link(path: string, target: string): void {
    this.#entry(path, S_IFLNK | 0o777, Buffer.from(target));
  }

  device(path: string, major: number, minor: number): void {
    this.#entry(path, S_IFCHR | 0o600, Buffer.alloc(0), major, minor);
  }

  end(): void {
    this.#write('TRAILER!!!', 0, Buffer.alloc(0), 0, 0);
    closeSync(this.#fd);
  }

  #entry(path: string, mode: number, content: Uint8Array = Buffer.alloc(0), major = 0, minor = 0): void {
    if (path === '/' || this.has(path)) return;
    this.folder(dirname(path));
    this.#names.add(path);
    this.#write(path.slice(1), mode, content, major, minor);
  }

  #write(name: string, mode: number, content: Uint8Array, major: number, minor: number): void {
    const label = Buffer.from(`${name}\0`);
    /* inode, mode, uid, gid, links, mtime, size, device (2), rdev (2), name's length, checksum. */
    const fields = [this.#inode++, mode, 0, 0, 1, 0, content.length, 0, 0, major, minor, label.length, 0];
    const header = Buffer.from(`070701${fields.map((n) => n.toString(16).padStart(8, '0')).join('')}`);
    for (const part of [Buffer.concat([header, label]), content]) {
      for (let at = 0; at < part.length; ) at += writeSync(this.#fd, part, at);
      writeSync(this.#fd, Buffer.alloc(-part.length & 3));
    }
  }
}

function run(command: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 24 });
  if (error || status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? stderr}`);
  return stdout;
}

const root = resolve(import.meta.dirname, '../..');
const [busybox, output, suite, ...args] = process.argv.slice(2);
if (!suite || !busybox || !output)
  throw new Error('usage: node kernel/testbed/image.ts BUSYBOX OUTPUT SUITE [ARG ...]');
const image = new Image(output);

/** The shared libraries that a program, a library or an addon of the host needs, at their paths. */
function libraries(from: string): void {
  for (const [, path] of run('ldd', from).matchAll(/(?:=> |^\s+)(\/\S+) \(0x/gm)) image.file(path!, path!);
}

function program(path: string, from: string): void {
  image.file(path, from);
  libraries(from);
}

const guestPath = (path: string): string => join(WORKSPACE, relative(root, path));

/* Of packages from the registry: what only people, compilers and debuggers read. */
const UNREAD = /\.(map|md|markdown|d\.[cm]?ts|flow)$/;
/* Dependencies of development that no test loads, and their files of many megabytes. */
const UNUSED = /^(?:@types|node-gyp|typescript|\.bin|\.vitest-cache|\.vite)$/;

const followed = new Set<string>();

/** A folder of the workspace as it is; symbolic links stay such, and what they lead to comes along. */
function tree(folder: string, wanted: (name: string, path: string) => boolean): void {
  if (followed.has(folder)) return;
  followed.add(folder);
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (!wanted(entry.name, path)) continue;
    if (entry.isSymbolicLink()) link(path);
    else if (entry.isDirectory()) tree(path, wanted);
    else if (entry.isFile()) {
      image.file(guestPath(path), path);
      if (entry.name.endsWith('.node')) libraries(path);
    }
  }
}

function link(path: string): void {
  if (!existsSync(path)) return;
  const target = realpathSync(path);
  image.link(guestPath(path), readlinkSync(path));
  if (!target.startsWith(root + sep)) throw new Error(`${path} leads out of the workspace, to ${target}`);
  const store = /^(.*\/node_modules\/\.pnpm\/[^/]+)\//.exec(target)?.[1];
  if (store) tree(store, (name) => !UNUSED.test(name) && !UNREAD.test(name));
  else member(target);
}

/** A package of the workspace: its sources, built addon, tests and dependencies. */
function member(folder: string): void {
  if (followed.has(folder)) return;
  followed.add(folder);
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    if (/\.(json|ts)$/.test(name)) image.file(guestPath(path), path);
    else if (name === 'src' || name === 'test') tree(path, () => true);
    else if (name === 'node_modules') tree(path, (entry) => !UNUSED.test(entry));
    else if (name === 'build') {
      const release = join(path, 'Release');
      for (const addon of readdirSync(release).filter((entry) => entry.endsWith('.node'))) {
        image.file(guestPath(join(release, addon)), join(release, addon));
        libraries(join(release, addon));
      }
    }
  }
}

/** When the newest file below a folder was written. */
function newest(folder: string): number {
  const times = readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => lstatSync(join(entry.parentPath, entry.name)).mtimeMs);
  return Math.max(0, ...times);
}

/** A server's command, with compiled code (which starts faster, and much so under emulation) unless that is out of date. */
function server(name: string): void {
  const app = join(root, 'apps', name);
  tree(join(app, 'bin'), () => true);
  if (existsSync(join(app, 'conf'))) tree(join(app, 'conf'), () => true);
  const packages = [join(root, 'packages/megapipe-core'), join(root, 'packages/megapipe-native'), app];
  const built = join(app, 'dist/main.js');
  if (!existsSync(built)) return;
  const { mtimeMs } = lstatSync(built);
  if (packages.some((folder) => newest(join(folder, 'src')) > mtimeMs)) return;
  for (const folder of packages) tree(join(folder, 'dist'), (entry) => !UNREAD.test(entry));
}

/** The host's Python with no more of its library than the tests' programs import. */
function python(): void {
  const list = [
    'import ctypes, os, struct, sys',
    'print(os.path.realpath(sys.executable))',
    'for m in list(sys.modules.values()):',
    '    if getattr(m, "__file__", None): print(m.__file__)',
  ].join('\n');
  const [executable, ...files] = run('python3', '-c', list).trim().split('\n');
  /* Python finds its library from where the executable really is. */
  program(executable!, executable!);
  image.link('/usr/bin/python3', executable!);
  for (const file of files) {
    image.file(file, file);
    if (file.endsWith('.so')) libraries(file);
  }
}

function base(): void {
  for (const path of ['/proc', '/sys', '/dev', '/tmp', '/root', '/etc', '/usr/bin']) image.folder(path);
  image.device('/dev/console', 5, 1);
  image.bytes('/etc/passwd', Buffer.from('root:x:0:0:root:/root:/bin/sh\n'));
  image.bytes('/etc/group', Buffer.from('root:x:0:\n'));
  image.bytes('/etc/hosts', Buffer.from('127.0.0.1 localhost\n::1 localhost\n'));
  image.file('/bin/busybox', busybox!);
  for (const applet of run(busybox!, '--list').trim().split('\n')) image.link(`/bin/${applet}`, 'busybox');
  image.bytes('/init', readFileSync(join(import.meta.dirname, 'init')), 0o755);
  const quoted = args.map((arg) => `'${arg.replaceAll("'", `'\\''`)}'`);
  image.bytes('/suite', Buffer.from(`set -- ${quoted.join(' ')}\n. /suites/${suite}.sh\n`));
  image.file(`/suites/${suite}.sh`, join(import.meta.dirname, 'suites', `${suite}.sh`));
}

/** Node, the packages `names`, and the runner of their tests. */
function node(...names: string[]): void {
  program('/usr/bin/node', realpathSync(process.execPath));
  image.file(guestPath(join(root, 'package.json')), join(root, 'package.json'));
  for (const name of names) member(join(root, name));
  link(join(root, 'node_modules/vitest'));
}

/** What module.sh built for the guest's kernel. */
function built(): string {
  const folder = process.env['TESTBED_BUILT'];
  if (!folder) throw new Error('TESTBED_BUILT is not set: run.sh does that');
  return folder;
}

function module(): void {
  image.file('/megapipe.ko', join(built(), 'megapipe.ko'));
}

const suites: Record<string, () => void> = {
  uring() {
    node('packages/megapipe-native', 'packages/megapipe-core');
    python();
    image.file('/suites/vitest.sh', join(import.meta.dirname, 'suites/vitest.sh'));
  },
  device() {
    suites['uring']!();
    module();
  },
  kselftest() {
    module();
    for (const name of readdirSync(join(built(), 'selftests')))
      image.file(`/selftests/${name}`, join(built(), 'selftests', name));
  },
  servers() {
    node('packages/megapipe-native', 'packages/megapipe-core', 'apps/memcached-ts', 'apps/nginx-lite');
    server('memcached-ts');
    server('nginx-lite');
    module();
  },
  measure() {
    module();
    for (const name of readdirSync(join(built(), 'measure')))
      image.file(`/measure/${name}`, join(built(), 'measure', name));
  },
  throughput() {
    suites['measure']!();
  },
  random() {
    module();
    image.file('/selftests/random', join(built(), 'selftests/random'));
  },
};

base();
const contents = suites[suite];
if (!contents) throw new Error(`image.ts does not say what the suite "${suite}" needs`);
contents();
image.end();
