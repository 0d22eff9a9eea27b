#!/bin/sh
# Runs the native and the core test suites with the addon built under AddressSanitizer and UndefinedBehaviorSanitizer.
# usage: sh scripts/sanitize.sh [VITEST ARGUMENT ...]   exit status: the suites'; 77 when the compiler has no sanitizers
set -eu
cd "$(dirname -- "$0")/.."
root=$(cd ../.. && pwd -P)
PATH=$root/node_modules/.bin:$PWD/node_modules/.bin:$PATH
nodedir=$(node -p 'path.dirname(path.dirname(fs.realpathSync(process.execPath)))')
asan=$(cc -print-file-name=libasan.so)
ubsan=$(cc -print-file-name=libubsan.so)
[ -e "$asan" ] && [ -e "$ubsan" ] || { echo "sanitize: this compiler comes without libasan or libubsan" >&2; exit 77; }
mkdir -p build/sanitize
addon=$PWD/build/sanitize/megapipe_native.node
cc -shared -fPIC -g -O1 -std=gnu11 -Wall -Wextra -Werror -D_GNU_SOURCE -DNAPI_VERSION=9 -fno-omit-frame-pointer \
  -fsanitize=address,undefined -fno-sanitize-recover=undefined -I"$nodedir/include/node" -o "$addon" csrc/*.c
# Node itself leaks at exit by design, and is not instrumented: no leak check, no interposition of its own symbols.
export MEGAPIPE_ADDON="$addon" MEGAPIPE_SANITIZE=1 LD_PRELOAD="$asan $ubsan"
export ASAN_OPTIONS=detect_leaks=0:handle_segv=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1
vitest run --testTimeout=300000 "$@"
cd ../megapipe-core
vitest run --testTimeout=300000 "$@"
