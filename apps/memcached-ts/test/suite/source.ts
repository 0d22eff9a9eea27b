/**
 * Where memcached's own test suite comes from: Debian's source package, asked of the archive that this machine's apt already uses.
 *
 * How: apt works in folders of its own below `build/`, with the machine's entries for Debian turned into `deb-src`. So it needs no
 * root and changes nothing of the machine's, and what it unpacks has the checksums of the signed index. Nothing of the package is
 * part of this repository. Not its job: running anything of it (tap.ts).
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** The release that the expectations (expected.ts) are about; any revision of Debian's will do. */
export const UPSTREAM = '1.6.18';
/** For each of apt's steps, seconds: the index of all source packages is 9 MB. */
const APT_SECONDS_MAX = 120;

/** The suite cannot be had here; the message says why. */
export class Unavailable extends Error {}

const build = join(import.meta.dirname, '../../build');

/** Runs a command; gives its stdout. Throws Unavailable, `what` being what does not work without it. */
function need(what: string, command: string, args: readonly string[], cwd = build): string {
  const run = spawnSync(command, args, {
    cwd,
    encoding: 'utf8',
    timeout: APT_SECONDS_MAX * 1000,
    env: { ...process.env, LC_ALL: 'C' },
    maxBuffer: 1 << 24,
  });
  if (run.status === 0) return run.stdout;
  const why =
    run.error?.message ??
    run.stderr
      .trim()
      .split('\n')
      .find((line) => /^(E:|Err|\S*error)/.test(line));
  throw new Unavailable(`${what}: ${command}: ${why ?? `exit status ${run.status}`}`);
}

/** apt's entries for Debian's main archive, each for sources instead of packages: deb822 stanzas, and lines. */
export function sourceEntries(files: readonly { name: string; text: string }[]): {
  stanzas: string[];
  lines: string[];
} {
  const stanzas: string[] = [];
  const lines: string[] = [];
  const uri = /\bhttps?:\/\/\S+\/debian\/?(\s|$)/m;
  for (const { name, text } of files) {
    if (name.endsWith('.sources')) {
      for (const stanza of text.split(/\n\s*\n/)) {
        if (!/^Types:.*\bdeb\b(?!-)/m.test(stanza) || !uri.test(stanza)) continue;
        if (/^Enabled:\s*(no|false)/im.test(stanza)) continue;
        stanzas.push(stanza.replace(/^Types:.*$/m, 'Types: deb-src').trim());
      }
    } else {
      for (const line of text.split('\n'))
        if (/^deb\s/.test(line) && uri.test(line)) lines.push(line.replace(/^deb/, 'deb-src'));
    }
  }
  return { stanzas, lines };
}

function machinesEntries(): { name: string; text: string }[] {
  const folder = '/etc/apt/sources.list.d';
  const names = existsSync(folder)
    ? readdirSync(folder)
        .sort()
        .map((name) => join(folder, name))
    : [];
  return ['/etc/apt/sources.list', ...names].flatMap((name) =>
    existsSync(name) ? [{ name, text: readFileSync(name, 'utf8') }] : [],
  );
}

/** Has apt unpack the source package into `to`, which must not exist, by way of `folder`. */
function fetch(to: string, folder: string): void {
  const { stanzas, lines } = sourceEntries(machinesEntries());
  if (stanzas.length + lines.length === 0) throw new Unavailable('the sources of apt name no archive of Debian’s');
  for (const name of ['parts', 'state/lists/partial', 'cache/archives/partial', 'unpacked']) {
    mkdirSync(join(folder, name), { recursive: true });
  }
  writeFileSync(join(folder, 'parts/debian.sources'), `${stanzas.join('\n\n')}\n`);
  writeFileSync(join(folder, 'parts/debian.list'), `${lines.join('\n')}\n`);
  const options = [
    ...['-o', 'Dir::Etc::SourceList=/dev/null', '-o', `Dir::Etc::SourceParts=${join(folder, 'parts')}`],
    ...['-o', `Dir::State::Lists=${join(folder, 'state/lists')}`, '-o', `Dir::Cache=${join(folder, 'cache')}`],
    // Nothing else is to read these folders; and they may be where the user of apt's downloads must not go.
    ...['-o', 'APT::Sandbox::User=root', '-o', 'Acquire::Languages=none'],
    ...['-o', 'APT::Update::Error-Mode=any', '-o', 'Acquire::Retries=1', '-o', 'Acquire::http::Timeout=20'],
  ];
  need('no index of source packages', 'apt-get', [...options, '-q', 'update']);
  const versions = need('no source package', 'apt-cache', [...options, 'showsrc', '--only-source', 'memcached']);
  const version = [...versions.matchAll(/^Version: (\S+)$/gm)]
    .map((match) => match[1]!)
    .find((text) => text.replace(/^\d+:/, '').replace(/-[^-]*$/, '') === UPSTREAM);
  if (version === undefined) throw new Unavailable(`this archive has no memcached ${UPSTREAM}`);
  const unpacked = join(folder, 'unpacked');
  need('no source package', 'apt-get', [...options, '-q', '--only-source', 'source', `memcached=${version}`], unpacked);
  const [name] = readdirSync(unpacked, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  const source = join(unpacked, name!.name);
  // The suite starts every server through it.
  need('no compiler', 'cc', ['-O2', '-o', 'timedrun', 'timedrun.c'], source);
  renameSync(source, to);
}

/** The folder of memcached's sources, its test suite in `t/`; fetched once. Throws Unavailable. */
export function suiteSource(): string {
  mkdirSync(build, { recursive: true });
  const folder = join(build, `memcached-${UPSTREAM}`);
  need('no Perl with Test::More', 'perl', ['-MTest::More', '-e', '1']);
  if (existsSync(folder)) return folder;
  const own = `${folder}.${process.pid}`;
  const scratch = `${own}.apt`;
  try {
    fetch(own, scratch);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  try {
    renameSync(own, folder);
  } catch {
    // Somebody else was faster.
    rmSync(own, { recursive: true });
  }
  return folder;
}
