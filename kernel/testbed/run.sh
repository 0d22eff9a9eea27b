#!/bin/sh
# Boots Debian 12's stock cloud kernel in QEMU with the pinned Node and the workspace's packages inside, runs a suite
# there, shows its output and the kernel's complaints, and exits with its result.
#
# usage: sh kernel/testbed/run.sh SUITE [ARG ...]     (the arguments go to the suite: see suites/SUITE.sh)
# Needs a workspace that is set up (`npm run setup`). Exit status: 0 passed, 77 skipped (the reason is printed), 70 the
# kernel crashed or complained, 124 the time was up, anything else failed.
# Environment, with defaults: MEGAPIPE_QEMU_ACCEL (kvm where there is one, else tcg,thread=single: see README.md),
# MEGAPIPE_GUEST_SECONDS (1500), MEGAPIPE_GUEST_MEMORY in MiB (2048), MEGAPIPE_GUEST_CPUS (2), MEGAPIPE_GUEST_KERNEL (stock; debug:
# debug-kernel.sh's), MEGAPIPE_GUEST_LOG (a file for the kernel's whole log; none).
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd -P)
root=$(CDPATH= cd -- "$here/../.." && pwd -P)
suite=${1:-}
if [ ! -f "$here/suites/$suite.sh" ]; then
  echo "usage: sh kernel/testbed/run.sh SUITE [ARG ...]; SUITE is one of: $(cd "$here/suites" && echo ./*.sh | sed 's|\./||g; s|\.sh||g; s| *vitest *| |')" >&2
  exit 64
fi
shift

work=$(mktemp -d)
pids=""
cleanup() {
  for pid in $pids; do kill "$pid" 2>/dev/null || true; done
  [ -z "${MEGAPIPE_GUEST_LOG:-}" ] || [ ! -f "$work/console" ] || tr -d '\r' <"$work/console" >"$MEGAPIPE_GUEST_LOG"
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

packages=$(sh "$here/packages.sh")
kernel=$(echo "$packages" | sed -n 's/^kernel=//p')
busybox=$(echo "$packages" | sed -n 's/^busybox=//p')
image=$(echo "$kernel"/boot/vmlinuz-*)
cpu=max
if [ "${MEGAPIPE_GUEST_KERNEL:-stock}" = debug ]; then
  tree=$(sh "$here/debug-kernel.sh" --check)
  tree=${tree#tree=}
  image=$tree/arch/x86/boot/bzImage
  # With five levels of pages, KASAN of 6.1 takes every address for a wild one while the kernel looks at its CPU anew: an interrupt in
  # that moment of its start is reported. On a host under load one comes.
  cpu=max,la57=off
fi
# More CPUs than there are, where it is the division of labour between them that is tested.
cpus=${MEGAPIPE_GUEST_CPUS:-2}
[ "$suite" != kselftest ] || cpus=${MEGAPIPE_GUEST_CPUS:-4}
# Suites that are about the module.
if grep -q /megapipe.ko "$here/suites/$suite.sh"; then
  build=${tree:-$(sh "$here/headers.sh" "${image##*/vmlinuz-}")}
  build=${build#build=}
  parts=""
  for part in selftests measure; do
    ! grep -q "^[^#]*/$part" "$here/suites/$suite.sh" || parts="$parts $part"
  done
  # shellcheck disable=SC2086
  sh "$here/module.sh" "$build" "$work/built" $parts
  export TESTBED_BUILT="$work/built"
fi
sh "$root/scripts/run.sh" node "$here/image.ts" "$busybox/bin/busybox" "$work/initramfs" "$suite" "$@"

# Plugins and counted time are TCG's. QEMU takes the next one when KVM turns out not to work.
accel=tcg,thread=single
[ ! -w /dev/kvm ] || [ -n "${MEGAPIPE_QEMU_PLUGIN:-}${MEGAPIPE_QEMU_ICOUNT:-}" ] || accel="kvm -accel $accel"
# On a machine that does nothing else the longest takes 4 minutes.
seconds=${MEGAPIPE_GUEST_SECONDS:-1500}
# A pipe of its own between QEMU and our stdout: QEMU makes its end non-blocking, which the caller's stdout must not be.
mkfifo "$work/output"
cat <"$work/output" &
reader=$!
# MEGAPIPE_QEMU_ICOUNT: the guest's time is a matter of its instructions, so a run is the same again and again.
# no_timer_check: on a host that has no time for it, the test of the timer would find it broken and panic. And one that stops the
# guest for half a minute makes it no stall of RCU. (init does the same for soft lockups.)
# shellcheck disable=SC2086
timeout -k 5 "$seconds" qemu-system-x86_64 -accel ${MEGAPIPE_QEMU_ACCEL:-$accel} -M q35 -cpu "$cpu" -smp "$cpus" \
  -m "${MEGAPIPE_GUEST_MEMORY:-2048}" -nodefaults -no-user-config -display none -no-reboot \
  -kernel "$image" -initrd "$work/initramfs" \
  -append 'console=ttyS0 loglevel=5 panic=-1 oops=panic no_timer_check rcupdate.rcu_cpu_stall_timeout=120' \
  ${MEGAPIPE_QEMU_ICOUNT:+-icount "$MEGAPIPE_QEMU_ICOUNT" -rtc base=2026-01-01,clock=vm -seed 1} \
  ${MEGAPIPE_QEMU_PLUGIN:+-plugin "$MEGAPIPE_QEMU_PLUGIN"} -serial "file:$work/console" -serial stdio </dev/null >"$work/output" &
machine=$!
pids="$machine $reader"
ended=0
wait "$machine" || ended=$?
wait "$reader" || true
pids=""

result=$(tr -d '\r' <"$work/console" | sed -n 's/^testbed-result \([0-9]*\)$/\1/p' | tail -n 1)
[ -z "$result" ] || exit "$result"
if [ "$ended" = 124 ]; then
  echo "testbed: no result after $seconds s (MEGAPIPE_GUEST_SECONDS). The kernel's console:" >&2
else
  echo "testbed: the guest ended without a result (QEMU's exit status $ended). The kernel's console:" >&2
  ended=70
fi
tail -n 100 "$work/console" >&2
exit "$ended"
