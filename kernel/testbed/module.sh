#!/bin/sh
# Builds the module for a kernel, and the programs that are to run on it.
#
# usage: module.sh BUILD OUTPUT [PART ...]   BUILD: a kernel's build folder; PART: selftests, measure; OUTPUT gets megapipe.ko and the
#                                            parts
set -eu
build=$1
output=$2
shift 2
kernel=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
mkdir -p "$output/source"
# Kbuild writes beside the sources, and those are to stay as they are.
cp -R "$kernel/module" "$kernel/include" "$output/source/"
# No BTF: pahole would be needed for it, and nobody looks at it here.
make -s -C "$build" M="$output/source/module" CONFIG_DEBUG_INFO_BTF_MODULES= modules >"$output/log" 2>&1 || {
  cat "$output/log" >&2
  exit 1
}
strip -g -o "$output/megapipe.ko" "$output/source/module/megapipe.ko"
rm -rf "$output/source"

selftests() {
  for source in "$kernel"/selftests/*.c; do
    name=$(basename "$source" .c)
    gcc -std=gnu11 -D_GNU_SOURCE -O1 -Wall -Wextra -Werror -static -pthread -I "$kernel/include/uapi" -o "$output/selftests/$name" "$source"
  done
}
measured() {
  gcc -std=gnu11 -O2 -static -I "$kernel/include/uapi" -o "$output/measure/$(basename "$1" .c)" "$@"
}
measure() {
  measured "$kernel/measure/client.c" -D_GNU_SOURCE
  measured "$kernel/measure/echo_device.c" -D_GNU_SOURCE
  measured "$kernel/../bench/reference/echo_epoll.c"
  measured "$kernel/../bench/reference/echo_uring.c"
}
for part in "$@"; do
  mkdir -p "$output/$part"
  $part
done
