#!/bin/sh
# Builds the module, its self-tests and what is measured, for a kernel.
#
# usage: module.sh BUILD OUTPUT [only]   BUILD: a kernel's build folder; OUTPUT gets megapipe.ko, selftests/ and measure/, or only the
#                                        first
set -eu
build=$1
output=$2
kernel=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
mkdir -p "$output/source" "$output/selftests"
# Kbuild writes beside the sources, and those are to stay as they are.
cp -R "$kernel/module" "$kernel/include" "$output/source/"
# No BTF: pahole would be needed for it, and nobody looks at it here.
make -s -C "$build" M="$output/source/module" CONFIG_DEBUG_INFO_BTF_MODULES= modules >"$output/log" 2>&1 || {
  cat "$output/log" >&2
  exit 1
}
strip -g -o "$output/megapipe.ko" "$output/source/module/megapipe.ko"
[ $# -lt 3 ] || exit 0
for source in "$kernel"/selftests/*.c; do
  name=$(basename "$source" .c)
  gcc -std=gnu11 -D_GNU_SOURCE -O1 -Wall -Wextra -Werror -static -pthread -I "$kernel/include/uapi" -o "$output/selftests/$name" "$source"
done
mkdir -p "$output/measure"
measured() {
  gcc -std=gnu11 -O2 -static -I "$kernel/include/uapi" -o "$output/measure/$(basename "$1" .c)" "$@"
}
measured "$kernel/measure/client.c" -D_GNU_SOURCE
measured "$kernel/measure/echo_device.c" -D_GNU_SOURCE
measured "$kernel/../bench/reference/echo_epoll.c"
measured "$kernel/../bench/reference/echo_uring.c"
rm -rf "$output/source"
