#!/bin/sh
# Finds or fetches what the test bed takes from Debian: QEMU, the stock cloud kernel, a static busybox for the guest.
# The last two are only unpacked, into a cache folder outside the repository that is named by their versions: nothing is
# installed, no boot hook runs, and no root is needed. QEMU is installed when root; otherwise the line to type is printed.
#
# usage: packages.sh           fetches what is missing; prints `kernel=FOLDER` and `busybox=FOLDER`
#        packages.sh --check   fetches nothing; tells whether the former can work
# Exit status 77, with the reason on stderr, where the test bed cannot run.
set -eu
check=""
[ "${1:-}" != --check ] || check=1
cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/megapipe/testbed
# The Debian release whose kernel the suites are about.
series='linux-image-6\.1\.0-[0-9]*-cloud-amd64'

skip() {
  echo "testbed: skipped: $1" >&2
  exit 77
}

[ "$(uname -m)" = x86_64 ] || skip "the guest is x86_64 and this machine is $(uname -m)"

installable() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; }

update() { apt-get update -qq >&2; }

if ! command -v qemu-system-x86_64 >/dev/null 2>&1; then
  installable || skip "QEMU is missing. As root: apt-get install --no-install-recommends qemu-system-x86"
  if [ -z "$check" ]; then
    echo "testbed: installing qemu-system-x86" >&2
    export DEBIAN_FRONTEND=noninteractive
    install="apt-get install -y -qq --no-install-recommends qemu-system-x86"
    $install >/dev/null 2>&1 || { update && $install >/dev/null; } >&2 || skip "qemu-system-x86 could not be installed"
  fi
fi

# The package's version that APT would install, or nothing.
candidate() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: *\([^(].*\)/\1/p'; }

# What the meta package stands for today, when that is the release in question.
current_kernel() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n "s/^ *Depends: *\($series\)\$/\1/p"; }

# The newest unpacked version of the packages whose names match, or nothing.
cached() {
  [ -d "$cache" ] || return 0
  find "$cache" -mindepth 1 -maxdepth 1 -type d -name '*_*' | sed -n "\|/$1_[^/]*\$|p" | sort -V | tail -n 1
}

# Unpacks the package $1 and says where; the folder gets its name only when it is whole.
fetch() {
  version=$(candidate "$1")
  [ -n "$version" ] || return 1
  folder=$cache/${1}_$version
  if [ ! -d "$folder" ]; then
    echo "testbed: fetching $1 $version" >&2
    mkdir -p "$cache"
    part=$(mktemp -d "$cache/part.XXXXXX")
    if (cd "$part" && apt-get -qq -o APT::Sandbox::User=root download "$1=$version" >&2 && dpkg -x ./*.deb root) &&
      chmod 755 "$part/root" && mv -T "$part/root" "$folder"; then
      rm -rf "$part"
    else
      rm -rf "$part"
      [ -d "$folder" ] || return 1
    fi
  fi
  echo "$folder"
}

if [ -n "$check" ]; then
  [ -n "$(cached "$series")" ] || [ -n "$(current_kernel)" ] || installable ||
    skip "APT offers no package $series (Debian 12). As root: apt-get update"
  exit 0
fi

kernel=$(current_kernel)
if [ -z "$kernel" ] && [ -z "$(cached "$series")" ] && installable; then
  update || true
  kernel=$(current_kernel)
fi
# Two attempts, since a list of packages may be older than what the mirror still has; then what an earlier run left.
obtain() {
  if [ -n "$1" ]; then
    fetch "$1" && return
    if installable && update; then fetch "$1" && return; fi
  fi
  cached "$2"
}
kernel=$(obtain "$kernel" "$series")
[ -n "$kernel" ] || skip "no Debian package $series can be had here. As root: apt-get update"
busybox=$(obtain busybox-static busybox-static)
[ -n "$busybox" ] || skip "no Debian package busybox-static can be had here. As root: apt-get update"
echo "kernel=$kernel"
echo "busybox=$busybox"
