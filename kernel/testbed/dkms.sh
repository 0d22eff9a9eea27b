#!/bin/sh
# Tries the way of DKMS (kernel/README.md) with Debian's dkms and the test bed's kernel: add, build, install, remove. In a mount
# namespace of its own, so that nothing of it is left on this machine; that the module works is for the suites to show.
#
# usage: sh kernel/testbed/dkms.sh      TAP. Exit status 77, with the reason on stderr, where it cannot run here.
# Needs root, and Debian's dkms, which it does not install.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd -P)

skip() {
  echo "testbed: skipped: $1" >&2
  exit 77
}

if [ "${1:-}" != inside ]; then
  [ "$(id -u)" = 0 ] || skip "DKMS needs root"
  command -v dkms >/dev/null 2>&1 || skip "DKMS is missing. As root: apt-get install --no-install-recommends dkms"
  unshare -m true 2>/dev/null || skip "no mount namespace can be made here (unshare -m)"
  packages=$(sh "$here/packages.sh")
  image=$(echo "$packages" | sed -n 's/^kernel=//p')
  release=$(basename "$image"/boot/vmlinuz-*)
  release=${release#vmlinuz-}
  build=$(sh "$here/headers.sh" "$release")
  mkdir -p /lib/modules /usr/src /var/lib/dkms
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  unshare -m sh "$here/dkms.sh" inside "$work" "$release" "${build#build=}" "$image"
  exit 0
fi
shift
work=$1 release=$2 build=$3 image=$4
mkdir -p "$work/src" "$work/dkms" "$work/modules/$release"
# What depmod wants to find, and no more.
cp "$image/lib/modules/$release"/modules.* "$work/modules/$release/"
ln -s "$build" "$work/modules/$release/build"
cp -R "$here/.." "$work/src/megapipe-1.0"
mount --bind "$work/src" /usr/src
mount --bind "$work/dkms" /var/lib/dkms
mount --bind "$work/modules" /lib/modules

failed=0
check() {
  if eval "$2" >"$work/said" 2>&1; then
    echo "ok - $1"
  else
    echo "not ok - $1"
    sed 's/^/# /' "$work/said"
    failed=1
  fi
}
check 'dkms add' 'dkms add megapipe/1.0'
check "dkms build for $release" "dkms build megapipe/1.0 -k $release"
check 'dkms install' "dkms install megapipe/1.0 -k $release"
check 'modprobe would find the module' "grep -q 'updates/dkms/megapipe.ko' /lib/modules/$release/modules.dep && grep -q 'devname:megapipe' /lib/modules/$release/modules.alias"
check 'dkms remove' 'dkms remove megapipe/1.0 --all'
check 'and nothing is left of it' "[ -z \"\$(find /lib/modules -name 'megapipe.ko*')\" ]"
exit $failed
