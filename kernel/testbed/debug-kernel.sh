#!/bin/sh
# Builds the debug kernel: Debian's linux-source-6.1, a small configuration, and everything the kernel can check about
# itself (KASAN, lockdep, RCU, kmemleak, lists, objects). Debian packages no such kernel. It takes 10 to 15 minutes on one
# core and 400 MB; the result stays in the cache outside the repository and is used by every later run.
#
# usage: debug-kernel.sh           builds what is missing; prints `tree=FOLDER`
#        debug-kernel.sh --check   builds nothing; prints the same, or exits with 77 when it was never built
# Environment: JOBS (1). Needs gcc, make, flex, bison, bc, cpio, libelf-dev, libssl-dev: installed when root.
set -eu
cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/megapipe/testbed
configuration=$(dirname -- "$0")/debug-kernel.config

skip() {
  echo "testbed: skipped: $1" >&2
  exit 77
}

# The configuration is part of the name: another one is another kernel.
sum=$(sha256sum <"$configuration" | cut -c 1-12)
if [ "${1:-}" = --check ]; then
  found=$(find "$cache" -mindepth 1 -maxdepth 1 -type d -name "debug-kernel_*_$sum" 2>/dev/null | sort -V | tail -n 1)
  [ -n "$found" ] || skip "there is no debug kernel; kernel/testbed/debug-kernel.sh builds it in 10 to 15 minutes"
  echo "tree=$found"
  exit 0
fi

installable() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; }
candidate() { apt-cache policy linux-source-6.1 2>/dev/null | sed -n 's/^ *Candidate: *\([^(].*\)/\1/p'; }

version=$(candidate)
if [ -z "$version" ] && installable; then
  apt-get update -qq >&2 || true
  version=$(candidate)
fi
[ -n "$version" ] || skip "APT offers no linux-source-6.1 (Debian 12). As root: apt-get update"
tree=$cache/debug-kernel_${version}_$sum
if [ ! -f "$tree/arch/x86/boot/bzImage" ]; then
  tools="gcc make flex bison bc cpio xz-utils libelf-dev libssl-dev"
  missing=""
  for tool in $tools; do
    dpkg-query -W -f '${Status}' "$tool" 2>/dev/null | grep -q 'ok installed' || missing="$missing $tool"
  done
  if [ -n "$missing" ]; then
    installable || skip "building a kernel needs more. As root: apt-get install --no-install-recommends$missing"
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
      skip "these packages could not be installed:$missing"
  fi
  mkdir -p "$cache"
  part=$(mktemp -d "$cache/part.XXXXXX")
  trap 'rm -rf "$part"' EXIT
  echo "testbed: fetching linux-source-6.1 $version" >&2
  (cd "$part" && apt-get -qq -o APT::Sandbox::User=root download "linux-source-6.1=$version" >&2 && dpkg -x ./*.deb package)
  mkdir "$part/tree"
  tar -xJf "$part"/package/usr/src/linux-source-6.1.tar.xz -C "$part/tree" --strip-components=1
  cp "$configuration" "$part/tree/kernel/configs/megapipe.config"
  echo "testbed: building the debug kernel (10 to 15 minutes)" >&2
  log=$part/log
  # No debug information: nobody loads this kernel into a debugger, and it would be ten times the size.
  if ! (cd "$part/tree" && make -s tinyconfig megapipe.config && make -s -j"${JOBS:-1}" bzImage modules_prepare) >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    echo "testbed: the debug kernel could not be built" >&2
    exit 1
  fi
  # A built tree knows its own place only through relative paths, so it can be moved.
  mv -T "$part/tree" "$tree"
fi
echo "tree=$tree"
