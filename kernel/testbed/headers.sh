#!/bin/sh
# Fetches what a module needs to be built for one of Debian's kernels: its headers, only unpacked, into the cache
# outside the repository (packages.sh says why and where).
#
# usage: headers.sh VERSION        e.g. 6.1.0-56-cloud-amd64, as `uname -r` says it; prints `build=FOLDER`
# Exit status 77, with the reason on stderr, where it cannot be had.
set -eu
release=$1
cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/megapipe/testbed

skip() {
  echo "testbed: skipped: $1" >&2
  exit 77
}

for tool in gcc make; do
  command -v $tool >/dev/null 2>&1 || skip "building the module needs $tool. As root: apt-get install gcc make"
done
if [ -e "/lib/modules/$release/build/Makefile" ]; then
  echo "build=/lib/modules/$release/build"
  exit 0
fi
flavour=${release##*-}
common=linux-headers-${release%-cloud-"$flavour"}-common
headers=linux-headers-$release
version=$(apt-cache policy "$headers" 2>/dev/null | sed -n 's/^ *Candidate: *\([^(].*\)/\1/p')
if [ -z "$version" ]; then
  found=$(find "$cache" -mindepth 1 -maxdepth 1 -type d -name "${headers}_*" 2>/dev/null | sort -V | tail -n 1)
  [ -n "$found" ] || skip "APT offers no package $headers. As root: apt-get update"
  version=${found##*_}
fi
folder=$cache/${headers}_$version
if [ ! -d "$folder" ]; then
  echo "testbed: fetching $headers $version" >&2
  kbuild=$(apt-cache depends "$headers" | sed -n 's/^ *Depends: *\(linux-kbuild-.*\)/\1/p')
  mkdir -p "$cache"
  part=$(mktemp -d "$cache/part.XXXXXX")
  trap 'rm -rf "$part"' EXIT
  (
    cd "$part"
    apt-get -qq -o APT::Sandbox::User=root download "$headers=$version" "$common=$version" "$kbuild=$version" >&2
    for package in ./*.deb; do dpkg -x "$package" root; done
  ) || skip "the packages $headers, $common and $kbuild could not be fetched"
  # The one absolute path in them.
  sed -i "s|^include /usr/src/|include $folder/usr/src/|" "$part/root/usr/src/$headers/Makefile"
  chmod 755 "$part/root"
  mv -T "$part/root" "$folder" 2>/dev/null || [ -d "$folder" ]
fi
echo "build=$folder/usr/src/$headers"
