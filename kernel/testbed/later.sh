#!/bin/sh
# Builds the module against the headers of the latest kernel that Debian 12 has beside its 6.1 (6.12, at this time): what changed
# since is in module/compat.h. It is only built: the suites run on 6.1.
#
# usage: sh kernel/testbed/later.sh      TAP. Exit status 77, with the reason on stderr, where it cannot run here.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd -P)
release=$(apt-cache search --names-only '^linux-headers-[0-9.]*[+]deb12-cloud-amd64$' 2>/dev/null | sed -n 's/^linux-headers-\([^ ]*\) .*/\1/p' | sort -V | tail -n 1)
if [ -z "$release" ]; then
  echo 'testbed: skipped: APT offers no later headers (linux-headers-*+deb12-cloud-amd64). As root: apt-get update' >&2
  exit 77
fi
build=$(sh "$here/headers.sh" "$release")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if sh "$here/module.sh" "${build#build=}" "$work/built" 2>"$work/said"; then
  echo "ok - the module builds against the headers of $release"
else
  echo "not ok - the module builds against the headers of $release"
  sed 's/^/# /' "$work/said"
  exit 1
fi
